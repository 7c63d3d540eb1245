"""What a request asks of Gemini, as far as a lease depends on it: read from its URL and body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

_MODEL = re.compile(r"/(?:models|tunedModels)/([^/:]+)(?::(\w+))?$")
_METHOD = re.compile(r":(\w+)$")


@dataclass(frozen=True)
class Target:
    """What is asked for.

    Attributes:
        model: The model of the path, or of the body where the path has none; empty if neither has.
        method: What stands after the colon of the path; empty if nothing does.
        permits: How many requests Google counts it as.
    """

    model: str
    method: str
    permits: int

    @property
    def generates(self) -> bool:
        """Whether it asks a model for content."""
        return self.method in ("generateContent", "streamGenerateContent")

    @property
    def is_repeatable(self) -> bool:
        """Whether the same request may be answered by the same answer."""
        return self.method in ("generateContent", "countTokens", "embedContent", "batchEmbedContents")


def read(url: str, body: Any) -> Target:
    """Reads a URL and a body's JSON."""
    path = unquote(urlsplit(url).path)
    found = _MODEL.search(path)
    method = _METHOD.search(path)
    model = found.group(1) if found else ""
    if not model and isinstance(body, Mapping):
        named = body.get("model")
        model = named.removeprefix("models/") if isinstance(named, str) else ""
    permits = 1
    if method and method.group(1) == "batchEmbedContents" and isinstance(body, Mapping):
        requests = body.get("requests")
        permits = max(1, len(requests)) if isinstance(requests, list) else 1
    return Target(model, method.group(1) if method else "", permits)
