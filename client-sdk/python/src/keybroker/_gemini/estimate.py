"""How many input tokens a request may cost, before anyone has counted them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["estimate_input_tokens"]

# What bytes that are no text (an image, a file by reference) are taken for.
MEDIA = 2_240
# Longer media is taken for one token to this many base64 characters.
MEDIA_BYTES = 40

_HALVES = bytes(byte for byte in range(256) if (chr(byte).isalpha() and byte < 128) or byte == 0x20 or byte > 127)
_INLINE = ("inlineData", "inline_data")
_FILES = ("fileData", "file_data")


def estimate_input_tokens(body: Any) -> int:
    """An upper estimate of the input tokens of a request body (its JSON, parsed), made locally.

    A digit, a mark or a line break counts as one token; a letter, a space or a byte beyond ASCII as half of
    one. That is high for prose in every language and for code, and holds for numbers. Media counts by its size,
    with a flat allowance at least; a file given by reference counts that allowance only, as its size is not
    known here. It need not be exact: the broker corrects the charge by the usage that is reported.
    """
    return (_halves(body) + 1) // 2


def _halves(value: Any) -> int:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return sum(_field(name, field) for name, field in value.items())
    if isinstance(value, list | tuple):
        return sum(map(_halves, value))
    if value is None or isinstance(value, bool):
        return 2
    return _text(str(value))


def _field(name: str, field: Any) -> int:
    if name in _INLINE and isinstance(field, Mapping):
        data = field.get("data")
        return 2 * max(MEDIA, len(data) // MEDIA_BYTES if isinstance(data, str) else 0)
    if name in _FILES and isinstance(field, Mapping):
        return 2 * MEDIA
    # Names count too: schemas consist of them, and in a conversation they stand for what separates its turns.
    return _text(str(name)) + _halves(field)


def _text(text: str) -> int:
    data = text.encode(errors="replace")
    return len(data) + len(data.translate(None, _HALVES))
