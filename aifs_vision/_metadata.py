"""A picture's bytes without their metadata, the picture itself untouched; which way up it is, and its colours.

The decoder gets to see these bytes only: what is damaged in EXIF, XMP or a comment cannot trouble it.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from aifs_vision._formats import JPEG, PNG, WEBP, Format

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Bare", "stripped"]

_PROFILE_MOST = 8 * 1024**2  # bytes; profiles of printing presses have two or three MiB


@dataclass(frozen=True, kw_only=True)
class Bare:
    """A file without its metadata.

    Attributes:
        data: the bytes without EXIF, XMP, ICC profile, comments and whatever follows the end.
        orientation: EXIF's, 1 to 8; 1 where there is none or its data is damaged.
        profile: the ICC profile, or None; not yet looked at.
        clean: False where the metadata could not be told from the picture; `data` is as it was then.
    """

    data: bytes = field(repr=False)
    orientation: int = 1
    profile: bytes | None = field(default=None, repr=False)
    clean: bool = True


def stripped(data: bytes, kind: Format, *, animated: bool = False) -> Bare:
    """The bytes without metadata; with `animated`, the frames of an animated PNG are kept, too.

    Bytes of a format that is never sent as it is, or of a structure that is not what it should be, come back as
    they are; the decoder will say what is wrong.
    """
    strip = _STRIPPERS.get(kind.name)
    if strip is None:
        return Bare(data=data, clean=False)
    try:
        bare = strip(data)
        if kind is PNG and animated:
            bare = replace(bare, data=_strip_png(data, _PNG_CHUNKS | _PNG_FRAMES).data)
    except (IndexError, ValueError, struct.error):
        return Bare(data=data, clean=False)
    return bare


_JPEG_END, _JPEG_SCAN, _COMMENT, _FILL = 0xD9, 0xDA, 0xFE, 0xFF
_JFIF, _EXIF, _PROFILE, _ADOBE = 0xE0, 0xE1, 0xE2, 0xEE
_JPEG_METADATA = frozenset({*range(_EXIF, _JFIF + 16), _COMMENT}) - {_ADOBE}  # Adobe's says how colours are coded
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # a marker that is neither stuffing nor a restart


def _strip_jpeg(data: bytes) -> Bare:
    kept, at, orientation = [data[:2]], 2, 1
    parts: dict[int, bytes] = {}
    while (marker := _marker(data, at)) != _JPEG_END:
        if marker == _FILL:
            at += 1
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _JPEG_SCAN:
            following = _AFTER_SCAN.search(data, end)
            if following is None:  # cut off, or only the mark of the end is missing: the decoder knows
                kept.append(data[at:])
                return Bare(data=b"".join(kept), orientation=orientation, profile=_joined(parts))
            end = following.start()
            kept.append(data[at:end])
        elif marker == _JFIF:
            if data[at + 4 : at + 9] == b"JFIF\0":  # the thumbnail that may follow is left out
                kept.append(b"\xff\xe0\x00\x10" + data[at + 4 : at + 16] + b"\0\0")
        elif marker == _EXIF and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = _orientation(data[at + 10 : end])
        elif marker == _PROFILE and data[at + 4 : at + 16] == b"ICC_PROFILE\0":
            parts[data[at + 16]] = data[at + 18 : end]
        elif marker not in _JPEG_METADATA:
            kept.append(data[at:end])
        at = end
    return Bare(data=b"".join([*kept, data[at : at + 2]]), orientation=orientation, profile=_joined(parts))


def _joined(parts: dict[int, bytes]) -> bytes | None:
    """An ICC profile, which JPEG keeps in numbered parts of 64 KB."""
    return b"".join(parts[number] for number in sorted(parts)) or None


def _marker(data: bytes, at: int) -> int:
    if data[at] != _FILL:
        raise ValueError(f"no marker at byte {at}")
    return data[at + 1]


_PNG_CHUNKS = frozenset(
    {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"pHYs"}
)


_PNG_FRAMES = frozenset({b"acTL", b"fcTL", b"fdAT"})


def _strip_png(data: bytes, keep: frozenset[bytes] = _PNG_CHUNKS) -> Bare:
    kept, at, orientation, profile = [data[:8]], 8, 1, None
    while True:
        (length,) = struct.unpack_from(">I", data, at)
        name, end = data[at + 4 : at + 8], at + 12 + length
        if end > len(data):
            raise ValueError(f"chunk {name!r} is cut off")
        if name in keep:
            kept.append(data[at:end])
        elif name == b"eXIf":
            orientation = _orientation(data[at + 8 : end - 4])
        elif name == b"iCCP":
            profile = _inflated(data[at + 8 : end - 4])
        if name == b"IEND":
            return Bare(data=b"".join(kept), orientation=orientation, profile=profile)
        at = end


def _inflated(chunk: bytes) -> bytes | None:
    """The profile of an iCCP chunk: a name, a zero, the method (0), then zlib; None where it is damaged."""
    _, _, body = chunk.partition(b"\0")
    try:
        return zlib.decompressobj().decompress(body[1:], _PROFILE_MOST)
    except zlib.error:
        return None


_WEBP_CHUNKS = frozenset({b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"})
_WEBP_METADATA_FLAGS = 0b00101100  # of VP8X: ICC profile, EXIF, XMP


def _strip_webp(data: bytes) -> Bare:
    (size,) = struct.unpack_from("<I", data, 4)
    kept, at, orientation, profile = [], 12, 1, None
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
        elif name == b"ICCP":
            profile = body
        at = end
    chunks = b"".join(kept)
    bare = b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks
    return Bare(data=bare, orientation=orientation, profile=profile)


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


_STRIPPERS: dict[str, Callable[[bytes], Bare]] = {
    JPEG.name: _strip_jpeg,
    PNG.name: _strip_png,
    WEBP.name: _strip_webp,
}
