"""Keys from a file, in turn; a pause when one is at its limit, and no more of one that fails."""

import time
from pathlib import Path

from google import genai
from google.genai import errors

keys = Path("keys.txt").read_text().split()


def ask(question: str) -> str | None:
    """Asks until a key is not refused."""
    while keys:
        keys.append(keys.pop(0))
        try:
            client = genai.Client(api_key=keys[-1])
            return client.models.generate_content(model="gemini-2.5-flash", contents=question).text
        except errors.ClientError as error:
            if error.code == 429:
                time.sleep(60)
            else:
                keys.pop()  # A bad key: never again.
    raise RuntimeError("no key is left")


for river in ["Nile", "Amazon", "Yangtze"]:
    print(ask(f"Where does the {river} begin?"))
