"""Keys in the code, in turn; the next one when one is refused."""

import itertools

from google import genai
from google.genai import errors

KEYS = ["fake-key-0000", "fake-key-0001", "fake-key-0002"]
clients = itertools.cycle([genai.Client(api_key=key) for key in KEYS])


def ask(question: str) -> str | None:
    """Asks with each key until one is not refused."""
    for _ in KEYS:
        try:
            return next(clients).models.generate_content(model="gemini-2.5-flash", contents=question).text
        except errors.ClientError as error:
            if error.code != 429:
                raise
    raise RuntimeError("every key was refused")


for river in ["Nile", "Amazon", "Yangtze"]:
    print(ask(f"Where does the {river} begin?"))
