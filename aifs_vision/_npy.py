"""`.npy` bytes -> picture, as LangChain's PDF loaders hand them over; read without NumPy and pickle."""

from __future__ import annotations

import ast
import struct
from math import prod
from typing import TYPE_CHECKING, Any

from aifs_vision._errors import ImageBrokenError, ImageFormatError

if TYPE_CHECKING:
    from PIL import Image

    from aifs_vision._guards import ImageLimits

__all__ = ["NPY_MAGIC", "picture_of_npy"]

NPY_MAGIC = b"\x93NUMPY"

_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_BYTES = {"|u1": 1, "|b1": 1, "<u2": 2}
_HEADER_MOST = 10_000  # bytes; NumPy's own bound for a header that is evaluated


def picture_of_npy(source: str, data: bytes, limits: ImageLimits) -> Image.Image:
    """The picture of an array of shape (height, width[, 1 to 4]), of 8 bits or bool; grey also of 16 bits.

    Raises:
        ImageFormatError: an array that is no picture.
        ImageTooSmallError, ImageTooLargeError: by its shape, before its bytes are looked at.
        ImageBrokenError: a damaged header, or fewer bytes than the shape needs.
    """
    from PIL import Image

    shape, kind, body = _parts(source, data)
    channels = shape[2] if len(shape) == 3 else 1  # noqa: PLR2004 - (height, width, channels)
    grey = channels == 1
    if len(shape) not in {2, 3} or channels not in _MODES or kind not in _BYTES or (kind == "<u2" and not grey):
        remedy = "arrays of shape (height, width[, 1 to 4]) of uint8 or bool are pictures"
        raise ImageFormatError(source, f"an array of shape {shape} and type {kind!r}", remedy=remedy)
    height, width = shape[:2]
    limits.check_size(source, width, height)
    if len(body) < prod(shape) * _BYTES[kind]:
        raise ImageBrokenError(source, "NumPy array", f"{len(body)} bytes for shape {shape}")
    if kind == "<u2":
        return Image.frombytes("I;16", (width, height), body[: prod(shape) * 2])
    pixels = body[: prod(shape)]
    if kind == "|b1":
        pixels = pixels.translate(bytes([0]) + bytes([255]) * 255)
    return Image.frombytes(_MODES[channels], (width, height), pixels)


def _parts(source: str, data: bytes) -> tuple[tuple[int, ...], str, bytes]:
    """Shape, type and body; the header is a Python literal, by numpy.lib.format versions 1 to 3."""
    try:
        wide = data[6] > 1
        (length,) = struct.unpack_from("<I" if wide else "<H", data, 8)
        start = 12 if wide else 10
        text = data[start : start + min(length, _HEADER_MOST)].decode("latin-1")
        header: dict[str, Any] = ast.literal_eval(text.strip())
        shape = tuple(int(side) for side in header["shape"])
        kind, columns_first = str(header["descr"]), bool(header["fortran_order"])
    except (
        ValueError,
        SyntaxError,
        TypeError,
        LookupError,
        ArithmeticError,
        MemoryError,
        RecursionError,
        struct.error,
    ) as error:
        raise ImageBrokenError(source, "NumPy array", str(error)) from error
    if columns_first or any(side < 1 for side in shape):
        raise ImageBrokenError(source, "NumPy array", f"shape {shape}, column-major: {columns_first}")
    return shape, kind, data[start + length :]
