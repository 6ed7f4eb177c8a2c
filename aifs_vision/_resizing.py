"""Lanczos, by Pillow, or by libvips where the extra `fast` is installed: the same picture in a third of the time."""

from __future__ import annotations

import logging
import os
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["resized", "shrunk_png"]

_process = os.getpid()  # the threads of libvips do not survive a fork: a child goes on with Pillow
_PLAIN_MODES = {0: "L", 2: "RGB"}  # by the colour type of a PNG (PNG specification, 11.2.2)


def resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """An L, RGB or CMYK picture at another size; the picture itself where it has that size."""
    from PIL import Image

    if picture.size == size:
        return picture
    # Grey pictures, a third of the bytes, are no slower in Pillow.
    vips = _vips() if picture.mode == "RGB" and os.getpid() == _process else None
    if vips is None:
        return picture.resize(size, Image.Resampling.LANCZOS)
    given = vips.Image.new_from_memory(picture.tobytes(), *picture.size, len("RGB"), "uchar")
    return _lanczos(given, size, "RGB") or picture.resize(size, Image.Resampling.LANCZOS)


def shrunk_png(data: bytes, size: tuple[int, int]) -> Image.Image | None:
    """A plain PNG, decoded and shrunk in one go; None where Pillow is to do it, and to say what is wrong with it.

    Plain is grey or RGB of 8 bits, not interlaced and opaque: there both decoders do the same.
    """
    vips = _vips() if os.getpid() == _process else None
    if vips is None or data[24] != 8 or data[28] or data.find(b"tRNS", 0, data.find(b"IDAT")) >= 0:  # noqa: PLR2004
        return None
    width, height = struct.unpack_from(">II", data, 16)
    mode = _PLAIN_MODES.get(data[25])
    if mode is None or size[0] >= width or size[1] >= height:
        return None
    try:
        given = vips.Image.pngload_buffer(data, access="sequential", fail_on="truncated")
        return _lanczos(given, size, mode) if given.bands == len(mode) else None
    except vips.Error:
        return None


def _lanczos(given: Any, size: tuple[int, int], mode: str) -> Image.Image | None:
    """What libvips makes of it; None where its rounding gives another size."""
    from PIL import Image

    made = given.resize(size[0] / given.width, vscale=size[1] / given.height, kernel="lanczos3")
    if (made.width, made.height) != size:
        return None
    return Image.frombytes(mode, size, made.write_to_memory())


@lru_cache(maxsize=1)
def _vips() -> Any | None:
    try:
        import pyvips
    except (ImportError, OSError):  # OSError: the library itself is not there
        return None
    # While it writes out a picture for one record at DEBUG it logs another: with two handlers, two threads that do so
    # wait for each other for ever.
    log = logging.getLogger("pyvips")
    log.setLevel(max(logging.INFO, log.level))
    return pyvips
