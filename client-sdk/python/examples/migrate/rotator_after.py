"""Leased keys: the broker says which one, and what to do when one is refused."""

import os

import keybroker.genai

client = keybroker.genai.Client(os.environ["KEYBROKER_BROKER"])


def ask(question: str) -> str | None:
    """Asks with a leased key."""
    return client.models.generate_content(model="gemini-2.5-flash", contents=question).text


for river in ["Nile", "Amazon", "Yangtze"]:
    print(ask(f"Where does the {river} begin?"))
client.close()
