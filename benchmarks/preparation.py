"""What preparing an image costs, beside libvips and beside saving it as PNG: python benchmarks/preparation.py.

CPU milliseconds of one core for each picture, the least of several turns, all sides in one process, by turns. libvips
shrinks to the same size and writes the same JPEG (quality 92, 4:4:4); it neither looks for transparency, colour
profiles, greys or small print nor strips metadata by itself. Our side is what a run does for OCR, sniffing, hashing
and base64 included; with the extra `fast`, and without it. The goals: at most 1.5 times libvips, and 8 times faster
than decoding the picture and saving it as PNG.
"""

from __future__ import annotations

import io
import os
import sys
import time
from typing import TYPE_CHECKING

os.environ["VIPS_CONCURRENCY"] = "1"

import pyvips
from PIL import Image, ImageChops

from aifs_vision import OCR, Limits, Vision, _resizing, image_tokens
from aifs_vision._plan import Manner
from aifs_vision.emulator import Emulator
from tests.pages import english_page, german_letter
from tests.pictures import saved
from tests.scenes import lake

if TYPE_CHECKING:
    from collections.abc import Callable

TURNS = 7
MODEL = "Qwen3-VL-30B-A3B-Instruct-FP8"


def files() -> dict[str, bytes]:
    """A photo of 12 megapixels, and A4 pages as PNG and as scans."""
    grain = Image.effect_noise((4032, 3024), 14).convert("L")
    photo = lake(width=1344, height=1008).resize((4032, 3024), Image.Resampling.BICUBIC)
    photo = ImageChops.add(photo, Image.merge("RGB", [grain] * 3), 1, -128)
    letter, page = german_letter(pixels=2339).image, english_page(size=10.5, pixels=2339).image
    return {
        "12 MP photo, JPEG": saved(photo, "JPEG", quality=90),
        "A4 at 200 dpi, colour, PNG": saved(letter, "PNG"),
        "A4 at 200 dpi, grey, PNG": saved(page.convert("L").convert("RGB"), "PNG"),
        "A4 at 300 dpi, scan, JPEG": saved(scanned(english_page(size=10.5, pixels=3508).image), "JPEG", quality=90),
    }


def scanned(page: Image.Image) -> Image.Image:
    """The page with the grain of paper and lens."""
    grain = Image.effect_noise(page.size, 9).convert("L")
    return ImageChops.add(page, Image.merge("RGB", [grain] * 3), 1, -136)


def least(*sides: Callable[[], object]) -> list[float]:
    """The least CPU milliseconds of each side, by turns."""
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(TURNS):
        for side, taken in zip(sides, times, strict=True):
            start = time.process_time()
            side()
            taken.append(1000 * (time.process_time() - start))
    return [min(taken) for taken in times]


def main() -> None:
    """Measures and prints."""
    pyvips.cache_set_max(0)
    vips = _resizing._vips  # the extra is switched off and on
    print(
        f"{'CPU ms (and times libvips)':28} {'ours':>14} {'with fast':>14} {'libvips':>8} {'PNG':>12}   bytes   tokens"
    )
    with Emulator(ocr=False) as server:
        vision = Vision(MODEL, base_url=server.base_url, api_key=server.api_key, limits=Limits())
        reader = vision._reader(OCR)  # what a run calls in its threads
        for name, data in files().items():
            server.clear()
            reading = vision.read(data, OCR)
            sent = server.requests[0].images[0][1]
            width, height = Image.open(io.BytesIO(sent)).size

            def ours(data: bytes = data) -> None:
                for frame in reader.open(data):
                    reader.plans(frame, reader.ways[0], OCR, Manner(room=OCR.max_tokens))

            def without(data: bytes = data) -> None:
                sys.modules["pyvips"] = None  # type: ignore[assignment]
                vips.cache_clear()
                ours(data)
                sys.modules["pyvips"] = pyvips
                vips.cache_clear()

            def by_libvips(data: bytes = data, width: int = width, height: int = height) -> None:
                image = pyvips.Image.thumbnail_buffer(data, width, height=height, size="down")
                image.jpegsave_buffer(Q=92, subsample_mode="off", keep="none")

            def as_png(data: bytes = data) -> None:
                with Image.open(io.BytesIO(data)) as image:
                    saved(image, "PNG")

            a, b, c, d = least(without, ours, by_libvips, as_png)
            tokens = image_tokens(MODEL, reading.width or 1, reading.height or 1) / image_tokens(MODEL, width, height)
            print(
                f"{name:28} {a:6.0f} ({a / c:4.2f}) {b:6.0f} ({b / c:4.2f}) {c:8.0f} {d:6.0f} ({d / a:3.1f} x) "
                f"  1/{len(data) / len(sent):3.1f}   1/{tokens:3.1f}"
            )


if __name__ == "__main__":
    main()
