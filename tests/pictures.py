"""Small pictures in every format, made in the test that needs them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from collections.abc import Sequence

ORIENTATION = 0x0112


def corners(width: int = 60, height: int = 40) -> Image.Image:
    """A picture whose corners tell how it is turned: red, green, blue and yellow from the upper left on."""
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    across, down = width // 3, height // 3
    draw.rectangle((0, 0, across, down), "red")
    draw.rectangle((width - across, 0, width, down), "lime")
    draw.rectangle((width - across, height - down, width, height), "blue")
    draw.rectangle((0, height - down, across, height), "yellow")
    return picture


def corner_names(picture: Image.Image) -> list[str]:
    """The names of the corners' colours, clockwise from the upper left."""
    rgb = picture.convert("RGB")
    right, bottom = rgb.width - 3, rgb.height - 3
    names = {(1, 0, 0): "red", (0, 1, 0): "lime", (0, 0, 1): "blue", (1, 1, 0): "yellow", (1, 1, 1): "white"}
    points = [(2, 2), (right, 2), (right, bottom), (2, bottom)]
    seen = []
    for point in points:
        pixel: Any = rgb.getpixel(point)
        red, green, blue = (int(value > 127) for value in pixel)
        seen.append(names.get((red, green, blue), str(pixel)))
    return seen


def noise(width: int, height: int, seed: int = 1) -> Image.Image:
    """A picture that no codec makes small; another seed gives another one."""
    state, rows = seed or 1, bytearray()
    for _ in range(width * height * 3):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        rows.append(state >> 16 & 0xFF)
    return Image.frombytes("RGB", (width, height), bytes(rows))


def saved(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The picture as a file's bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    """A file's bytes as a picture, decoded."""
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def tiff(pages: Sequence[Image.Image], **options: Any) -> bytes:
    """A TIFF of several pages."""
    return saved(pages[0], "TIFF", save_all=True, append_images=pages[1:], **options)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
