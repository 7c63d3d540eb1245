"""How a Gemini request is leased for, sent, and reported; without any HTTP library."""
