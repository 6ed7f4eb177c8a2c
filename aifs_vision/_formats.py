"""Which format a file has, told by its first bytes and never by a name."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = [
    "FORMATS",
    "HEAD",
    "IMAGE_SUFFIXES",
    "PICTURES",
    "READABLE_SUFFIXES",
    "Format",
    "mime_type_of",
    "name_of_bytes",
    "sniff",
]

HEAD = 64
"""Bytes that are enough to tell a format."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format this project reads.

    Attributes:
        name: for people, for example "JPEG".
        mime_type: the label that goes with the bytes.
        suffixes: usual endings of file names, lower-case, with the dot.
        magic: what its files begin with.
        decoder: module and class of Pillow's way to read it, called directly, so that no other decoder sees the
            bytes; ("", "") where it is read in another way.
        pages: True where several pictures in one file are pages, False where they are an animation.
        extra: the extra of this project that brings the decoder; "" where none is needed.
    """

    name: str
    mime_type: str
    suffixes: tuple[str, ...]
    magic: re.Pattern[bytes] = field(repr=False)
    decoder: tuple[str, str] = ("", "")
    pages: bool = False
    extra: str = ""


def sniff(data: bytes) -> Format | None:
    """The format of a file by its first `HEAD` bytes, or None."""
    head = bytes(data[:HEAD])
    return next((kind for kind in FORMATS if kind.magic.match(head)), None)


def mime_type_of(data: bytes) -> str | None:
    """The MIME type of a picture, document or video that is read here, by its first bytes; None for others."""
    kind = sniff(data)
    return None if kind is None else kind.mime_type


def name_of_bytes(data: bytes) -> tuple[str, str]:
    """What bytes that are no picture of a known format seem to be, and what to do about it, in words for an error."""
    if not data:
        return "an empty file (0 bytes)", ""
    for magic, offset, name, remedy in _STRANGERS:
        if data[offset : offset + len(magic)] == magic:
            return name, remedy
    head = data[:512]
    if b"<svg" in head:
        return "an SVG drawing", "draw it into a PNG first, with a browser or rsvg-convert"
    if head.lstrip()[:1] == b"<":
        return "an HTML or XML page", ""
    if not _CONTROL.search(head):
        return "a text file", ""
    return f"a file that begins with {head[:8].hex(' ')}", ""


# -- The formats -------------------------------------------------------------------------------------------

JPEG = Format(
    name="JPEG",
    mime_type="image/jpeg",
    suffixes=(".jpg", ".jpeg", ".jpe", ".jfif"),
    magic=re.compile(rb"\xff\xd8\xff"),
    decoder=("PIL.JpegImagePlugin", "JpegImageFile"),
)
PNG = Format(
    name="PNG",
    mime_type="image/png",
    suffixes=(".png", ".apng"),
    magic=re.compile(rb"\x89PNG\r\n\x1a\n"),
    decoder=("PIL.PngImagePlugin", "PngImageFile"),
)
GIF = Format(
    name="GIF",
    mime_type="image/gif",
    suffixes=(".gif",),
    magic=re.compile(rb"GIF8[79]a"),
    decoder=("PIL.GifImagePlugin", "GifImageFile"),
)
WEBP = Format(
    name="WebP",
    mime_type="image/webp",
    suffixes=(".webp",),
    magic=re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
    decoder=("PIL.WebPImagePlugin", "WebPImageFile"),
)
BMP = Format(
    name="BMP",
    mime_type="image/bmp",
    suffixes=(".bmp", ".dib"),
    # "BM" alone would take many a text for a bitmap; the size of its second header settles it.
    magic=re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL),
    decoder=("PIL.BmpImagePlugin", "BmpImageFile"),
)
TIFF = Format(
    name="TIFF",
    mime_type="image/tiff",
    suffixes=(".tif", ".tiff"),
    magic=re.compile(rb"II[*+]\0|MM\0[*+]"),
    decoder=("PIL.TiffImagePlugin", "TiffImageFile"),
    pages=True,
)
JPEG_2000 = Format(
    name="JPEG 2000",
    mime_type="image/jp2",
    suffixes=(".jp2", ".j2k", ".jpf", ".jpx", ".j2c"),
    magic=re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
    decoder=("PIL.Jpeg2KImagePlugin", "Jpeg2KImageFile"),
)
PPM = Format(
    name="PPM",
    mime_type="image/x-portable-anymap",
    suffixes=(".ppm", ".pgm", ".pbm", ".pnm"),
    # A width must follow, after blanks and comments: "P5" alone begins many a text.
    magic=re.compile(rb"P[1-6]\s(?:\s|#[^\n]*(?:\n|\Z))*(?:\d+\s|\Z)"),
    decoder=("PIL.PpmImagePlugin", "PpmImageFile"),
)
ICO = Format(
    name="ICO",
    mime_type="image/x-icon",
    suffixes=(".ico",),
    magic=re.compile(rb"\x00\x00\x01\x00[\x01-\xff]\x00.{3}\x00[\x00\x01]\x00", re.DOTALL),
    decoder=("PIL.IcoImagePlugin", "IcoImageFile"),
)
AVIF = Format(
    name="AVIF",
    mime_type="image/avif",
    suffixes=(".avif", ".avifs"),
    # "mif1" is any still picture in this container; the compatible brands tell which.
    magic=re.compile(rb".{4}ftyp(?:avi[fs]|m(?:if|sf)1.{4}(?:.{4})*?avi[fs])", re.DOTALL),
    decoder=("PIL.AvifImagePlugin", "AvifImageFile"),
)
HEIF = Format(
    name="HEIC",
    mime_type="image/heic",
    suffixes=(".heic", ".heif", ".hif"),
    magic=re.compile(rb".{4}ftyp(?:hei[cxms]|hev[cxms]|m(?:if|sf)1)", re.DOTALL),
    decoder=("pillow_heif.as_plugin", "HeifImageFile"),
    extra="heic",
)
PDF = Format(
    name="PDF",
    mime_type="application/pdf",
    suffixes=(".pdf",),
    magic=re.compile(rb"(?:\xef\xbb\xbf)?\s*%PDF-"),
    pages=True,
    extra="pdf",
)
MP4 = Format(
    name="MP4 or MOV video",
    mime_type="video/mp4",
    suffixes=(".mp4", ".m4v", ".mov", ".3gp"),
    magic=re.compile(rb"\0\0.{2}ftyp(?!M4[AB] )|\0.{3}(?:moov|mdat|wide|free|skip)", re.DOTALL),
    extra="video",
)
MATROSKA = Format(
    name="WebM or Matroska video",
    mime_type="video/webm",
    suffixes=(".webm", ".mkv"),
    magic=re.compile(rb"\x1aE\xdf\xa3"),
    extra="video",
)
AVI = Format(
    name="AVI video",
    mime_type="video/x-msvideo",
    suffixes=(".avi",),
    magic=re.compile(rb"RIFF.{4}AVI ", re.DOTALL),
    extra="video",
)
VIDEOS = (MP4, MATROSKA, AVI)
PICTURES = (JPEG, PNG, GIF, WEBP, BMP, TIFF, JPEG_2000, PPM, ICO, AVIF, HEIF)
FORMATS = (*PICTURES, PDF, *VIDEOS)

IMAGE_SUFFIXES = frozenset(suffix for kind in PICTURES for suffix in kind.suffixes)
"""Endings of the files that a folder stands for."""
READABLE_SUFFIXES = frozenset(suffix for kind in FORMATS for suffix in kind.suffixes)
"""Endings of everything that can be read, documents and videos too."""

_CONTROL = re.compile(rb"[\0-\x08\x0b\x0e-\x1f]")  # bytes no text has
_AS_PNG, _AS_PDF = "save it as PNG or JPEG first", "save it as PDF first"
_AS_MP4, _UNPACKED = "turn it into an MP4 first", "unpack it first"
_STRANGERS = (
    (b"8BPS", 0, "a Photoshop file", _AS_PNG),
    (b"\xff\x0a", 0, "a JPEG XL picture", _AS_PNG),
    (b"\0\0\0\x0cJXL ", 0, "a JPEG XL picture", _AS_PNG),
    (b"PK\3\4", 0, "a ZIP archive or Office document", f"{_UNPACKED}, or {_AS_PDF}"),
    (b"\xd0\xcf\x11\xe0", 0, "an old Office document", _AS_PDF),
    (b"%!PS", 0, "a PostScript file", _AS_PDF),
    (b"\xc5\xd0\xd3\xc6", 0, "a PostScript file", _AS_PDF),
    (b"\xd7\xcd\xc6\x9a", 0, "a Windows metafile", _AS_PNG),
    (b" EMF", 40, "a Windows metafile", _AS_PNG),
    (b"v/1\1", 0, "an OpenEXR picture", _AS_PNG),
    (b"#?RADIANCE", 0, "a Radiance HDR picture", _AS_PNG),
    (b"DDS ", 0, "a DirectDraw texture", _AS_PNG),
    (b"\0\0\2\0", 0, "a mouse cursor or a Targa picture", _AS_PNG),
    (b"icns", 0, "a Mac icon", _AS_PNG),
    (b"\1\xda", 0, "an SGI picture", _AS_PNG),
    (b"DICM", 128, "a DICOM file", _AS_PNG),
    (b"\0\0\1\xba", 0, "an MPEG programme stream", _AS_MP4),
    (b"FLV\1", 0, "a Flash video", _AS_MP4),
    (b"OggS", 0, "an Ogg file", _AS_MP4),
    (b"ID3", 0, "a sound file", ""),
    (b"ftypM4", 4, "a sound file", ""),  # M4V is a video, and read
    (b"\x1f\x8b", 0, "a gzip archive", _UNPACKED),
    (b"7z\xbc\xaf", 0, "a 7-Zip archive", _UNPACKED),
)
