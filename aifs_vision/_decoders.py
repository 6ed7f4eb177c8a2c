"""Pillow, kept on a short lead: one decoder for the format at hand, whole files only, errors of the tree."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from aifs_vision._errors import ImageBrokenError, ImageFormatError
from aifs_vision._formats import ICO, PNG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.ImageFile import ImageFile

    from aifs_vision._formats import Format

__all__ = ["decoding", "has_page", "load", "open_picture"]


@contextmanager
def decoding(source: str, kind: Format | None, page: int | None = None) -> Iterator[None]:
    """Turns whatever a decoder raises over hostile bytes into one error of the tree; None is a PIL image."""
    try:
        yield
    except ImportError as error:
        if kind is None or not kind.extra:
            raise
        raise ImageFormatError.needs(source, kind.name, kind.extra) from error
    except _bomb_errors() as error:
        raise ImageBrokenError(source, kind.name if kind else "PIL image", str(error), page=page) from error
    except _DECODER_ERRORS as error:
        reason = str(error) or type(error).__name__
        raise ImageBrokenError(source, kind.name if kind else "PIL image", reason, page=page) from error


def _bomb_errors() -> tuple[type[Exception], ...]:
    """What Pillow raises of itself where a frame inside a file is larger than the file said."""
    from PIL import Image

    return Image.DecompressionBombError, Image.DecompressionBombWarning


def open_picture(data: bytes, kind: Format, *, page: int | None = None) -> ImageFile:
    """Reads the header of a page, or of the picture that comes first; call it and what follows inside `decoding()`.

    Pillow's decoder classes are called directly: `Image.open` would warn about large pictures, and only the
    caller knows its limit.
    """
    if kind is ICO:
        data, kind = _largest_icon(data)
    module, name = kind.decoder
    picture: ImageFile = getattr(import_module(module), name)(_Whole(data), "")
    if page is not None:
        picture.seek(page - 1)
    return picture


def load(picture: ImageFile) -> None:
    """Decodes a picture; what is cut off is an error, also where the process has told Pillow to fill it with grey."""
    # OpenJPEG asks for more at the end of every file, and tells a whole one from the rest by itself.
    if isinstance(picture.fp, _Whole) and picture.format != "JPEG2000":
        picture.fp.decoding = True
    picture.load()


def has_page(picture: ImageFile, page: int) -> bool:
    """Whether there is such a page, counted from 1; the picture stands on it then."""
    try:
        picture.seek(page - 1)
    except EOFError:
        return False
    return True


class _Whole(io.BytesIO):
    """The bytes of a file; while they are decoded, it is an error to want more of them than there are.

    Pillow itself raises it too, unless `ImageFile.LOAD_TRUNCATED_IMAGES` was set, by whomever: then it makes up
    the rest of the picture.
    """

    decoding = False

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if self.decoding and not data and size != 0:
            raise OSError("the file ends too early")
        return data


# -- Icons ---------------------------------------------------------------------------------------------------

_ICON_SIDE = 256  # px; larger ones cannot be said in the directory of an .ico file
_DIB_HEADER, _DIRECTORY, _ENTRY = 40, 6, 16


def _largest_icon(data: bytes) -> tuple[bytes, Format]:
    """The best picture of an .ico file as a file of its own: a PNG, or an .ico with this one entry.

    What the entry says of its size is not believed: a small icon can hold a bomb.
    """
    (count,) = struct.unpack_from("<H", data, 4)
    entries = [data[at : at + _ENTRY] for at in range(_DIRECTORY, _DIRECTORY + count * _ENTRY, _ENTRY)]
    best = max((entry for entry in entries if len(entry) == _ENTRY), key=_worth)
    size, offset = struct.unpack_from("<II", best, 8)
    body = data[offset : offset + size]
    if PNG.magic.match(body):
        return body, PNG
    header, width, height = struct.unpack_from("<Iii", body, 0)
    if header != _DIB_HEADER or not (0 < width <= _ICON_SIDE and 0 < height <= 2 * _ICON_SIDE):
        raise ValueError(f"an icon of {width} x {height // 2} px")
    return struct.pack("<HHH", 0, 1, 1) + best[:12] + struct.pack("<I", _DIRECTORY + _ENTRY) + body, ICO


def _worth(entry: bytes) -> tuple[int, int]:
    """Pixels, then bits a pixel; a side of 0 means 256."""
    (bits,) = struct.unpack_from("<H", entry, 6)
    return (entry[0] or _ICON_SIDE) * (entry[1] or _ICON_SIDE), bits


# What Pillow and the libraries below it have been seen to raise over damaged files.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    EOFError,
    ArithmeticError,
    AssertionError,
    MemoryError,
    RuntimeError,
    SystemError,
    struct.error,
    zlib.error,
)
