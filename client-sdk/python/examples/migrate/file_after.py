"""Leased keys; a question waits for one for as long as five minutes."""

import os

import keybroker.genai

client = keybroker.genai.Client(os.environ["KEYBROKER_BROKER"], deadline=300)


def ask(question: str) -> str | None:
    """Asks with a leased key."""
    return client.models.generate_content(model="gemini-2.5-flash", contents=question).text


for river in ["Nile", "Amazon", "Yangtze"]:
    print(ask(f"Where does the {river} begin?"))
client.close()
