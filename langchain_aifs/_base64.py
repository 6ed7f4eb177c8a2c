"""Base64 as people have it: wrapped, without its padding, or in the alphabet for URLs."""

from __future__ import annotations

import base64

from aifs_vision import bytes_of_base64

__all__ = ["UNKNOWN", "decoded", "label_of", "of_bytes"]

# What the base64 of common formats begins with: a label for traces, corrected from the bytes when it is sent.
_BEGINNINGS = {
    "/9j/": "image/jpeg",
    "iVBORw0KGgo": "image/png",
    "R0lGOD": "image/gif",
    "UklGR": "image/webp",
    "JVBERi0": "application/pdf",
}
UNKNOWN = "application/octet-stream"
_USUAL = str.maketrans("-_", "+/")
_NO_PATH = 256  # characters of which a text in base64's alphabet is more likely a file than a path


def decoded(text: str) -> bytes:
    """The bytes of a text in base64.

    Raises:
        ValueError: it is none; a short text that only could be base64, but not as it is written, may be a path.
    """
    known = label_of(text) != UNKNOWN
    # Words are apart by spaces, and lines of base64 are not: prose is left alone.
    joined = "".join(text.split() if known else text.splitlines())
    if known or len(joined) >= _NO_PATH:
        return bytes_of_base64(joined)
    return base64.b64decode(joined, validate=True)


def of_bytes(data: bytes) -> bytes:
    """The file in bytes that are to be looked at, which some give as its base64; other bytes as they are.

    Short ones that begin like no file are a text, though they may have only base64's signs, as "Anna" has.
    """
    if not data.isascii():
        return data
    text = data.decode("ascii")
    known = label_of(text) != UNKNOWN
    try:
        if known:
            return decoded(text)
        return base64.b64decode(text, validate=True) if len(text) >= _NO_PATH else data
    except ValueError:
        return data


def label_of(text: str) -> str:
    """The label of base64 data, by its beginning; a careful one where that says nothing."""
    start = text[:16].lstrip().translate(_USUAL)
    return next((label for begun, label in _BEGINNINGS.items() if start.startswith(begun)), UNKNOWN)
