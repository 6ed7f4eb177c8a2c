"""The parts of a form with files in it (RFC 7578), without a further package."""

from __future__ import annotations

import re
from typing import NamedTuple

from aifs_vision.emulator._checks import Refused

__all__ = ["Part", "parts_of"]

_BOUNDARY = re.compile(r"multipart/form-data\s*;.*?\bboundary=(?:\"([^\"]+)\"|([^\s;]+))", re.IGNORECASE)
_NAME = re.compile(r"[;\s]name=\"([^\"]*)\"", re.IGNORECASE)
_FILENAME = re.compile(r"[;\s]filename=\"((?:[^\"\\]|\\.)*)\"", re.IGNORECASE)
_ESCAPES = {"%22": '"', "%0D": "\r", "%0A": "\n"}


class Part(NamedTuple):
    """The value of a field; `filename` is None where it is no file."""

    data: bytes
    filename: str | None


def parts_of(content_type: str, body: bytes) -> dict[str, Part]:
    """The fields of a form by their name.

    Raises:
        Refused: it is no form, or its end is missing.
    """
    found = _BOUNDARY.match(content_type)
    if found is None:
        raise Refused(400, "content-type: Input should be multipart/form-data with a boundary")
    line = b"\r\n--" + (found[1] or found[2]).encode()
    _, *pieces = (b"\r\n" + body).split(line)
    if not pieces or not pieces[-1].startswith(b"--"):
        raise Refused(400, "body: the form has no end")
    parts = {}
    for piece in pieces[:-1]:
        head, _, data = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        said = head.decode("utf-8", "replace")
        name, filename = _NAME.search(said), _FILENAME.search(said)
        if name is None or name[1] in parts:
            raise Refused(400, "body: each part of the form needs a name of its own")
        parts[name[1]] = Part(data, _plain(filename[1]) if filename else None)
    return parts


def _plain(name: str) -> str:
    """A file's name without the escapes that browsers put into it."""
    for escape, character in _ESCAPES.items():
        name = name.replace(escape, character)
    return name.replace('\\"', '"')
