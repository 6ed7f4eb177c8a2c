"""A picture -> the bytes that are sent: JPEG or PNG, whichever is smaller for it, within the bytes a host takes."""

from __future__ import annotations

import io
import os
import sys
from typing import IO, TYPE_CHECKING

from aifs_vision._formats import JPEG, PNG, Format
from aifs_vision._resizing import resized

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["encoded"]

_QUALITY = 92  # with full colour, 4:4:4: coloured print keeps its edges
_LOWER_QUALITIES = (85, 75)
_FEW_COLOURS = 32  # up to here a page is drawn rather than photographed, and PNG keeps it smaller and exact
_SMALLER = 0.7  # of its sides, when lower quality was not enough


def encoded(picture: Image.Image, most_bytes: int) -> tuple[bytes, Format, tuple[int, int]]:
    """Bytes, their format and their size in px: smaller than the picture only where `most_bytes` leaves no choice.

    There is no metadata in them; the object itself is written to, by this and by encoders.
    """
    picture.info = {}  # encoders take comments and profiles from there
    data, kind = _smallest(picture)
    if len(data) <= most_bytes:
        return data, kind, picture.size
    for quality in _LOWER_QUALITIES:
        data = _saved(picture, "JPEG", quality=quality, subsampling=0)
        if len(data) <= most_bytes:
            return data, JPEG, picture.size
    width, height = (max(1, round(side * _SMALLER)) for side in picture.size)
    return encoded(resized(picture, (width, height)), most_bytes)


def _smallest(picture: Image.Image) -> tuple[bytes, Format]:
    jpeg = _saved(picture, "JPEG", quality=_QUALITY, subsampling=0)
    if picture.getcolors(_FEW_COLOURS) is not None:
        png = _saved(picture, "PNG")
        if len(png) <= len(jpeg):
            return png, PNG
    return jpeg, JPEG


def _saved(picture: Image.Image, encoding: str, **options: int) -> bytes:
    with _memory() as file:
        picture.save(file, encoding, **options)
        file.seek(0)
        return file.read()


def _memory() -> IO[bytes]:
    """A file in memory: a real one where there is such, as Pillow lets other threads run only while it writes one."""
    if sys.platform == "linux":
        try:
            return os.fdopen(os.memfd_create("aifs-vision"), "w+b")
        except OSError:  # forbidden in a sandbox, or no descriptor is left
            pass
    return io.BytesIO()
