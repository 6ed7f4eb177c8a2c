"""A picture's bytes without their metadata, the picture itself untouched; and which way up it is.

The decoder gets to see these bytes only: what is damaged in EXIF, XMP or a comment cannot trouble it.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from aifs_vision._formats import JPEG, PNG, WEBP, Format

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["stripped"]


def stripped(data: bytes, kind: Format, *, animated: bool = False) -> tuple[bytes, int]:
    """The bytes without EXIF, XMP, ICC, comments and whatever follows the end; and the orientation.

    With `animated`, the frames of an animated PNG are kept; else it becomes a still picture.

    The orientation is EXIF's, 1 to 8; 1 where there is none or its data is damaged. Bytes of another format, or
    of a structure that is not what it should be, come back as they are; the decoder will say what is wrong.
    """
    strip = _STRIPPERS.get(kind.name)
    if strip is None:
        return data, 1
    try:
        bare, orientation = strip(data)
        if kind is PNG and animated:
            bare = _strip_png(data, _PNG_CHUNKS | _PNG_FRAMES)[0]
    except (IndexError, ValueError, struct.error):
        return data, 1
    return bare, orientation


_JPEG_END, _JPEG_SCAN, _JFIF, _EXIF, _ADOBE, _COMMENT, _FILL = 0xD9, 0xDA, 0xE0, 0xE1, 0xEE, 0xFE, 0xFF
_JPEG_METADATA = frozenset({*range(_EXIF, _JFIF + 16), _COMMENT}) - {_ADOBE}  # Adobe's says how colours are coded
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # a marker that is neither stuffing nor a restart


def _strip_jpeg(data: bytes) -> tuple[bytes, int]:
    kept, at, orientation = [data[:2]], 2, 1
    while (marker := _marker(data, at)) != _JPEG_END:
        if marker == _FILL:
            at += 1
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _JPEG_SCAN:
            following = _AFTER_SCAN.search(data, end)
            if following is None:
                raise ValueError("the scan has no end")
            end = following.start()
            kept.append(data[at:end])
        elif marker == _JFIF:
            if data[at + 4 : at + 9] == b"JFIF\0":  # the thumbnail that may follow is left out
                kept.append(b"\xff\xe0\x00\x10" + data[at + 4 : at + 16] + b"\0\0")
        elif marker == _EXIF and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = _orientation(data[at + 10 : end])
        elif marker not in _JPEG_METADATA:
            kept.append(data[at:end])
        at = end
    return b"".join([*kept, data[at : at + 2]]), orientation


def _marker(data: bytes, at: int) -> int:
    if data[at] != _FILL:
        raise ValueError(f"no marker at byte {at}")
    return data[at + 1]


_PNG_CHUNKS = frozenset(
    {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"pHYs"}
)


_PNG_FRAMES = frozenset({b"acTL", b"fcTL", b"fdAT"})


def _strip_png(data: bytes, keep: frozenset[bytes] = _PNG_CHUNKS) -> tuple[bytes, int]:
    kept, at, orientation = [data[:8]], 8, 1
    while True:
        (length,) = struct.unpack_from(">I", data, at)
        name, end = data[at + 4 : at + 8], at + 12 + length
        if end > len(data):
            raise ValueError(f"chunk {name!r} is cut off")
        if name in keep:
            kept.append(data[at:end])
        elif name == b"eXIf":
            orientation = _orientation(data[at + 8 : end - 4])
        if name == b"IEND":
            return b"".join(kept), orientation
        at = end


_WEBP_CHUNKS = frozenset({b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"})
_WEBP_METADATA_FLAGS = 0b00101100  # of VP8X: ICC profile, EXIF, XMP


def _strip_webp(data: bytes) -> tuple[bytes, int]:
    (size,) = struct.unpack_from("<I", data, 4)
    kept, at, orientation = [], 12, 1
    while at < min(len(data), size + 8):
        name, (length,) = data[at : at + 4], struct.unpack_from("<I", data, at + 4)
        end = at + 8 + length + length % 2
        body = data[at + 8 : at + 8 + length]
        if len(body) < length:
            raise ValueError(f"chunk {name!r} is cut off")
        if name == b"VP8X":
            kept.append(data[at : at + 8] + bytes([body[0] & ~_WEBP_METADATA_FLAGS]) + data[at + 9 : end])
        elif name in _WEBP_CHUNKS:
            kept.append(data[at:end])
        elif name == b"EXIF":
            orientation = _orientation(body.removeprefix(b"Exif\0\0"))
        at = end
    chunks = b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks, orientation


_ORIENTATION_TAG, _SHORT, _LARGEST_ORIENTATION = 0x0112, 3, 8


def _orientation(exif: bytes) -> int:
    """Tag 274 of the first directory (EXIF 2.3, section 4.6.2); 1 where it is not to be found."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, entry)
            if (tag, kind) == (_ORIENTATION_TAG, _SHORT):
                return value if 1 <= value <= _LARGEST_ORIENTATION else 1
    except struct.error:
        return 1
    return 1


_STRIPPERS: dict[str, Callable[[bytes], tuple[bytes, int]]] = {
    JPEG.name: _strip_jpeg,
    PNG.name: _strip_png,
    WEBP.name: _strip_webp,
}
