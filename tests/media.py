"""Files in the less usual formats, made in the test that needs them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

from PIL import Image

from tests.pictures import corners, saved, tiff

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["FORMATS", "clip", "heic", "icon", "interlaced", "pdf", "tiled"]


def interlaced(picture: Image.Image) -> bytes:
    """A PNG in the seven passes of Adam7, which Pillow reads and does not write."""
    rows = bytearray()
    starts = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    for left, top, across, down in starts:
        for y in range(top, picture.height, down):
            pixels = [bytes(_pixel(picture, x, y)) for x in range(left, picture.width, across)]
            rows += b"\0" + b"".join(pixels) if pixels else b""
    head = struct.pack(">IIBBBBB", picture.width, picture.height, 8, 2, 0, 0, 1)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(rows))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, body) for name, body in chunks)


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _pixel(picture: Image.Image, x: int, y: int) -> Any:
    return picture.getpixel((x, y))


def tiled(picture: Image.Image, side: int = 16) -> bytes:
    """An uncompressed RGB TIFF in square tiles, which Pillow reads and does not write."""
    corners = [(x, y) for y in range(0, picture.height, side) for x in range(0, picture.width, side)]
    tiles = [picture.crop((left, top, left + side, top + side)).tobytes() for left, top in corners]
    count, start = len(tiles), 8 + 2 + 12 * 10 + 4 + 6
    places = start + 8 * count
    entries = [
        (256, 4, 1, picture.width),
        (257, 4, 1, picture.height),
        (258, 3, 3, 8 + 2 + 12 * 10 + 4),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (277, 3, 1, 3),
        (322, 4, 1, side),
        (323, 4, 1, side),
        (324, 4, count, start),
        (325, 4, count, start + 4 * count),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    offsets = [places + sum(map(len, tiles[:number])) for number in range(count)]
    sizes = [len(tile) for tile in tiles]
    return b"".join(
        [
            b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", 0) + struct.pack("<HHH", 8, 8, 8),
            struct.pack(f"<{2 * count}I", *offsets, *sizes),
            *tiles,
        ]
    )


def icon(picture: Image.Image, *, bitmap: bool = False) -> bytes:
    """An .ico file with three sizes; as bitmaps, or as PNG."""
    return saved(picture, "ICO", sizes=[(16, 16), (32, 32), picture.size], bitmap_format="bmp" if bitmap else "png")


def heic(picture: Image.Image, **options: Any) -> bytes:
    """A photo as phones keep it."""
    from pillow_heif import from_pillow

    buffer = io.BytesIO()
    from_pillow(picture).save(buffer, quality=95, **options)
    return buffer.getvalue()


def clip(
    scenes: Sequence[Image.Image], *, frames: int = 50, rate: int = 25, kind: str = "mp4", codec: str = "mpeg4"
) -> bytes:
    """A video that shows each picture for an equal part of its time."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width, stream.height = scenes[0].size
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 4_000_000
        for number in range(frames):
            picture = scenes[number * len(scenes) // frames]
            frame: Any = av.VideoFrame.from_image(picture)  # type: ignore[no-untyped-call]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def pdf(*pages: str, width: float = 200, height: float = 100, extra: str = "") -> bytes:
    """A PDF of so many pages; each is the operators of a content stream. `extra` goes into each page's dictionary."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    kids = []
    for content in pages:
        kids.append(f"{len(objects) + 1} 0 R")
        fonts = "/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>"
        box = f"/MediaBox [0 0 {width} {height}]"
        objects.append(f"<< /Type /Page /Parent 2 0 R {box} {fonts} /Contents {len(objects) + 2} 0 R {extra} >>")
        objects.append(f"<< /Length {len(content)} >>\nstream\n{content}\nendstream")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(pages)} >>"
    data, places = b"%PDF-1.7\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(data))
        data += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    size = len(objects) + 1
    end = f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<< /Size {size} /Root 1 0 R >>\n"
    return data + f"{end}startxref\n{len(data)}\n%%EOF\n".encode()


def _deep(picture: Image.Image) -> Image.Image:
    return picture.convert("L").convert("I").point(lambda value: value * 257).convert("I;16")


def _animated(kind: str) -> Callable[[Image.Image], bytes]:
    def made(picture: Image.Image) -> bytes:
        other = Image.new("RGB", picture.size, "blue")
        return saved(
            picture, kind, save_all=True, append_images=[other], **({"lossless": True} if kind == "WEBP" else {})
        )

    return made


def _shades(picture: Image.Image) -> Image.Image:
    return picture.convert("L")


FORMATS: dict[str, tuple[Callable[[Image.Image], bytes], Callable[[Image.Image], Image.Image], float]] = {
    "JPEG": (lambda p: saved(p, "JPEG", quality=95, subsampling=0), lambda p: p, 4),
    "JPEG, progressive": (lambda p: saved(p, "JPEG", quality=95, subsampling=0, progressive=True), lambda p: p, 4),
    "JPEG, CMYK": (lambda p: saved(p.convert("CMYK"), "JPEG", quality=95), lambda p: p, 12),
    "JPEG, grey": (lambda p: saved(p.convert("L"), "JPEG", quality=95), _shades, 4),
    "PNG": (saved, lambda p: p, 0),
    "PNG, 16-bit": (lambda p: saved(_deep(p)), _shades, 1),
    "PNG, palette": (lambda p: saved(p.quantize(8)), lambda p: p, 1),
    "PNG, interlaced": (interlaced, lambda p: p, 0),
    "PNG, animated": (_animated("PNG"), lambda p: p, 0),
    "WebP": (lambda p: saved(p, "WEBP", lossless=True), lambda p: p, 0),
    "WebP, animated": (_animated("WEBP"), lambda p: p, 3),
    "GIF": (lambda p: saved(p, "GIF"), lambda p: p, 1),
    "GIF, animated": (_animated("GIF"), lambda p: p, 1),
    "BMP": (lambda p: saved(p, "BMP"), lambda p: p, 0),
    "TIFF": (lambda p: saved(p, "TIFF"), lambda p: p, 0),
    "TIFF, bilevel": (lambda p: saved(p.convert("1"), "TIFF"), lambda p: p.convert("1"), 1),
    "TIFF, G4": (lambda p: saved(p.convert("1"), "TIFF", compression="group4"), lambda p: p.convert("1"), 1),
    "TIFF, 16-bit": (lambda p: saved(_deep(p), "TIFF"), _shades, 1),
    "TIFF, CMYK": (lambda p: saved(p.convert("CMYK"), "TIFF"), lambda p: p, 1),
    "TIFF, LZW": (lambda p: saved(p, "TIFF", compression="tiff_lzw"), lambda p: p, 0),
    "TIFF, JPEG": (lambda p: saved(p, "TIFF", compression="jpeg", quality=95), lambda p: p, 8),
    "TIFF, tiled": (tiled, lambda p: p, 0),
    "JPEG 2000": (lambda p: saved(p, "JPEG2000"), lambda p: p, 1),
    "PPM": (lambda p: saved(p, "PPM"), lambda p: p, 0),
    "PGM": (lambda p: saved(p.convert("L"), "PPM"), _shades, 1),
    "PBM": (lambda p: saved(p.convert("1"), "PPM"), lambda p: p.convert("1"), 1),
    "ICO": (icon, lambda p: p, 0),
    "ICO, bitmap": (lambda p: icon(p, bitmap=True), lambda p: p, 0),
    "AVIF": (lambda p: saved(p, "AVIF", quality=95), lambda p: p, 8),
    "HEIC": (heic, lambda p: p, 8),
}
"""By name: what makes the file of a picture, what the picture then is, and how many levels of 255 a codec may err."""


def samples() -> dict[str, bytes]:
    """A small file in every format that is read, documents and videos too."""
    picture = corners(64, 48)
    files = {name: make(picture) for name, (make, _, _) in FORMATS.items()}
    files["TIFF, two pages"] = tiff([picture, picture.resize((30, 70))])
    files["PDF"] = pdf("1 0 0 rg 10 10 80 80 re f BT /F1 24 Tf 100 40 Td (Tide) Tj ET", "0 0 1 rg 10 10 80 80 re f")
    files["MP4"] = clip([picture], frames=6)
    files["WebM"] = clip([picture], frames=6, kind="webm", codec="libvpx")
    files["AVI"] = clip([picture], frames=6, kind="avi")
    return files
