"""Which format a picture has, told by its first bytes and never by a name; and opening it safely."""

from __future__ import annotations

import io
import re
import struct
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from aifs_vision._errors import ImageBrokenError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.ImageFile import ImageFile

__all__ = [
    "FORMATS",
    "IMAGE_SUFFIXES",
    "Format",
    "decoding",
    "name_of_bytes",
    "open_picture",
    "sniff",
]


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format this project reads.

    Attributes:
        name: for people, for example "JPEG".
        mime_type: the label that goes with the bytes.
        suffixes: usual endings of file names, lower-case, with the dot.
        magic: what its files begin with.
        decoder: Pillow's module and class; called directly, so that no other decoder sees the bytes.
        pages: True where several pictures in one file are pages, False where they are an animation.
    """

    name: str
    mime_type: str
    suffixes: tuple[str, ...]
    magic: re.Pattern[bytes] = field(repr=False)
    decoder: tuple[str, str]
    pages: bool = False


def sniff(data: bytes) -> Format | None:
    """The format of a file by its first 32 bytes, or None."""
    head = bytes(data[:32])
    return next((kind for kind in FORMATS if kind.magic.match(head)), None)


def name_of_bytes(data: bytes) -> str:
    """What bytes that are no picture of a known format seem to be, in words for an error."""
    if not data:
        return "an empty file (0 bytes)"
    for magic, offset, name in _STRANGERS:
        if data[offset : offset + len(magic)] == magic:
            return name
    head = data[:512]
    if b"<svg" in head:
        return "an SVG drawing"
    if head.lstrip()[:1] == b"<":
        return "an HTML or XML page"
    if not _CONTROL.search(head):
        return "a text file"
    return f"a file that begins with {head[:8].hex(' ')}"


@contextmanager
def decoding(source: str, kind: Format, page: int | None = None) -> Iterator[None]:
    """Turns whatever a decoder raises over hostile bytes into one error of the tree."""
    try:
        yield
    except _DECODER_ERRORS as error:
        reason = str(error) or type(error).__name__
        raise ImageBrokenError(source, kind.name, reason, page=page) from error


def open_picture(data: bytes, kind: Format, *, page: int = 1) -> ImageFile:
    """Reads the header of a page; call it and all that follows inside `decoding()`.

    Pillow's decoder classes are called directly: `Image.open` would warn about large pictures, and only the
    caller knows its limit.
    """
    module, name = kind.decoder
    picture: ImageFile = getattr(import_module(f"PIL.{module}"), name)(io.BytesIO(data), "")
    if page > 1:
        picture.seek(page - 1)
    return picture


# -- The formats -------------------------------------------------------------------------------------------

JPEG = Format(
    name="JPEG",
    mime_type="image/jpeg",
    suffixes=(".jpg", ".jpeg", ".jpe", ".jfif"),
    magic=re.compile(rb"\xff\xd8\xff"),
    decoder=("JpegImagePlugin", "JpegImageFile"),
)
PNG = Format(
    name="PNG",
    mime_type="image/png",
    suffixes=(".png",),
    magic=re.compile(rb"\x89PNG\r\n\x1a\n"),
    decoder=("PngImagePlugin", "PngImageFile"),
)
GIF = Format(
    name="GIF",
    mime_type="image/gif",
    suffixes=(".gif",),
    magic=re.compile(rb"GIF8[79]a"),
    decoder=("GifImagePlugin", "GifImageFile"),
)
WEBP = Format(
    name="WebP",
    mime_type="image/webp",
    suffixes=(".webp",),
    magic=re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
    decoder=("WebPImagePlugin", "WebPImageFile"),
)
BMP = Format(
    name="BMP",
    mime_type="image/bmp",
    suffixes=(".bmp", ".dib"),
    # "BM" alone would take many a text for a bitmap; the size of its second header settles it.
    magic=re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL),
    decoder=("BmpImagePlugin", "BmpImageFile"),
)
TIFF = Format(
    name="TIFF",
    mime_type="image/tiff",
    suffixes=(".tif", ".tiff"),
    magic=re.compile(rb"II[*+]\0|MM\0[*+]"),
    decoder=("TiffImagePlugin", "TiffImageFile"),
    pages=True,
)
FORMATS = (JPEG, PNG, GIF, WEBP, BMP, TIFF)
IMAGE_SUFFIXES = frozenset(suffix for kind in FORMATS for suffix in kind.suffixes)

_CONTROL = re.compile(rb"[\0-\x08\x0b\x0e-\x1f]")  # bytes no text has
_STRANGERS = (
    (b"%PDF", 0, "a PDF file"),
    (b"ftypheic", 4, "a HEIC picture"),
    (b"ftypheix", 4, "a HEIC picture"),
    (b"ftypmif1", 4, "a HEIF picture"),
    (b"ftypavif", 4, "an AVIF picture"),
    (b"ftyp", 4, "a video or an MPEG-4 file"),
    (b"\0\0\0\x0cjP  ", 0, "a JPEG 2000 picture"),
    (b"8BPS", 0, "a Photoshop file"),
    (b"\0\0\1\0", 0, "an icon file"),
    (b"PK\3\4", 0, "a ZIP archive or Office document"),
    (b"\xd0\xcf\x11\xe0", 0, "an old Office document"),
)

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
    struct.error,
    zlib.error,
)
