"""One key in the environment."""

from google import genai

client = genai.Client()  # The key is in GEMINI_API_KEY.
answer = client.models.generate_content(model="gemini-2.5-flash", contents="Name three rivers.")
print(answer.text)
