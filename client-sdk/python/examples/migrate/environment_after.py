"""Leased keys."""

import os

import keybroker.genai

client = keybroker.genai.Client(os.environ["KEYBROKER_BROKER"])
answer = client.models.generate_content(model="gemini-2.5-flash", contents="Name three rivers.")
print(answer.text)
client.close()
