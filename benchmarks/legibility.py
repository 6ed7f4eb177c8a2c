"""What preparation costs in legibility: python benchmarks/legibility.py [--all] [--pages].

Pages of known text, English and German, 6 to 14 points, printed at 300 dots an inch and then scanned well, askew,
noisily, or photographed, are read by an OCR engine that knows nothing of this project: once as they are, and once as
they are sent to each family of models (read in bands where they are sent in bands, and joined as a user gets them).
The table has the character error of both, in per cent, for the pages that could be read to begin with (error of the
original at most 5 %), and what is sent for a page: input tokens, requests, bytes, and the client's CPU.

The engine is Tesseract where it is installed, else RapidOCR. `--all` takes every font with every size, `--pages`
prints each page.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageFilter

from aifs_vision import OCR, Limits, Vision, image_tokens
from aifs_vision._plan import Manner
from aifs_vision.emulator import Emulator
from tests.pictures import saved
from tests.sheets import Sheet, Style

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aifs_vision.emulator import ChatRequest

MODELS = {
    "Qwen3-VL": "Qwen3-VL-30B-A3B-Instruct-FP8",
    "GPT-4.1 (tiles)": "gpt-4.1",
    "GPT-4.1 mini (patches)": "gpt-4.1-mini",
    "GPT-5.2 (patches)": "gpt-5.2",
    "Gemini 2.5": "gemini-2.5-flash",
    "Claude": "claude-sonnet-4.5",
    "Mistral Medium": "mistral-medium-3",
}
SIZES = (6, 8, 10, 12, 14)
READABLE = 5.0  # per cent of characters wrong on the original
A4_AT_300 = 3508  # px
FOOT = 740  # points from the top of a page, where its text ends

ENGLISH = """The tide clock at Brindle Point has now run for twelve months without a stop. It shows the height of the
water on a dial of brass 2.40 metres across, lit from within after dusk. We compared the dial with the gauge of the
harbour office at every high water, 705 times in all; the mean error was 3.8 centimetres, and 97 % of the readings lay
within ten. The float was replaced once, in June, after mussels had grown on its chain. Upkeep came to 4,316.50 pounds,
of which 1,875 went into boat hire alone. Visitors asked, more often than anything else, who winds it: nobody does."""
GERMAN = """Vielen Dank für Ihre Anfrage vom 2. März. Gern bieten wir Ihnen die gewünschten Teile an: sechs Zahnräder
aus Bronze zu 84,50 Euro, zwei Gehäuse mit Öldichtung zu 312,00 Euro und vier Ketten, geprüft, zu 46,80 Euro. Alle
Stücke fräsen wir in unserer Werkstatt; die Maße prüfen wir bei 20 Grad. Die Lieferzeit beträgt fünf Wochen ab Eingang
des Auftrags. Größe und Ausführung des Zifferblatts besprechen wir gern persönlich. Bei Zahlung innerhalb von 14 Tagen
gewähren wir zwei Prozent Skonto. Wir öffnen täglich, außer donnerstags, um halb neun, und grüßen herzlich."""


@dataclass(frozen=True)
class Page:
    """One page: what it is, the file, its size and its text."""

    name: str
    condition: str
    size: float
    data: bytes
    width: int
    height: int
    text: str


def printed(size: float, family: str, text: str) -> tuple[Image.Image, str]:
    """A page filled with paragraphs in one size."""
    sheet, y = Sheet(pixels=A4_AT_300), 80.0
    while y < FOOT:
        y = sheet.paragraph(64, y, 467, Style(family=family, size=size), text) + size
    return sheet.printed()


def clean(page: Image.Image) -> bytes:
    """As a PDF is drawn."""
    return saved(page, "PNG")


def askew(page: Image.Image) -> bytes:
    """Scanned not quite straight, in colour."""
    return saved(page.rotate(0.8, Image.Resampling.BICUBIC, fillcolor="white"), "JPEG", quality=90)


def noisy(page: Image.Image) -> bytes:
    """A cheap scanner: greyish paper, a soft lens, noise."""
    levels = np.asarray(page.filter(ImageFilter.GaussianBlur(1.2)), np.float32) * 0.82 + 26
    levels += np.random.default_rng(1).normal(0, 11, levels.shape[:2]).astype(np.float32)[..., None]
    return saved(Image.fromarray(levels.clip(0, 255).astype(np.uint8)), "JPEG", quality=85)


def photographed(page: Image.Image) -> bytes:
    """By a phone held a little aslant, in the light of a lamp at one side: 12 megapixels."""
    width, height = page.size
    corners = (-60, -40, -25, height + 60, width + 90, height + 30, width + 40, -70)
    seen = page.transform((3024, 4032), Image.Transform.QUAD, corners, Image.Resampling.BICUBIC, fillcolor=(70, 60, 52))
    light = np.linspace(1.0, 0.72, seen.width, dtype=np.float32)[None, :, None]
    levels = np.asarray(seen.filter(ImageFilter.GaussianBlur(1.0)), np.float32) * light
    levels += np.random.default_rng(2).normal(0, 5, levels.shape).astype(np.float32)
    return saved(Image.fromarray(levels.clip(0, 255).astype(np.uint8)), "JPEG", quality=88)


CONDITIONS = {"clean": clean, "askew": askew, "noisy": noisy, "photo": photographed}


def pages(*, every: bool) -> Iterator[Page]:
    """All conditions and sizes; fonts and languages by turns, or each with each."""
    fonts = [(family, text) for family in ("sans", "serif") for text in (ENGLISH, GERMAN)]
    number = 0
    for size in SIZES:
        for condition, spoil in CONDITIONS.items():
            for family, text in fonts if every else [fonts[number % len(fonts)]]:
                image, truth = printed(size, family, text)
                data = spoil(image)
                with Image.open(io.BytesIO(data)) as picture:
                    width, height = picture.size
                yield Page(f"{size} pt {family} {condition}", condition, size, data, width, height, truth)
            number += 1


def error_of(read: str, truth: str) -> float:
    """Levenshtein distance by characters, in per cent of the true text; white space counts as one blank."""
    found, wanted = (np.array([*map(ord, " ".join(text.split()))]) for text in (read, truth))
    steps = np.arange(len(wanted) + 1)
    row = steps
    for number, letter in enumerate(found, start=1):
        best = np.minimum(row[:-1] + (wanted != letter), row[1:] + 1)
        row = np.minimum.accumulate(np.concatenate([[number], best]) - steps) + steps
    return 100 * float(row[-1]) / max(1, len(wanted))


def engine() -> tuple[str, Callable[[bytes], str]]:
    """The name of the OCR engine, and what reads with it."""
    tesseract = shutil.which("tesseract")
    if tesseract:
        command = [tesseract, "-", "-", "-l", "eng+deu", "--psm", "6"]

        def by_tesseract(data: bytes) -> str:
            environment = os.environ | {"OMP_THREAD_LIMIT": "1"}  # its threads wait for each other
            return subprocess.run(command, input=data, capture_output=True, check=True, env=environment).stdout.decode()

        return "Tesseract", lru_cache(maxsize=None)(by_tesseract)
    from rapidocr import RapidOCR

    rapid: Any = RapidOCR(params={"Global.use_cls": False})

    def by_rapidocr(data: bytes) -> str:
        return "\n".join(rapid(data).txts or ())

    return "RapidOCR", lru_cache(maxsize=None)(by_rapidocr)


def main() -> None:
    """Reads every page as it is and as it is sent, and prints the table."""
    name, read = engine()
    todo = list(pages(every="--all" in sys.argv))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        texts = list(pool.map(read, [page.data for page in todo]))
    originals = {page.name: error_of(text, page.text) for page, text in zip(todo, texts, strict=True)}
    legible = [page for page in todo if originals[page.name] <= READABLE]
    print(f"{len(todo)} pages, {len(legible)} of them readable as they are (by {name})")
    head = "error as is  as sent  most lost on             tokens as is  as sent  requests  KB as is  as sent  CPU ms"
    print(f"{'':23} {head}")

    def answer(asked: ChatRequest) -> str:
        return read(asked.images[0].data)

    with Emulator(reply=answer) as server:
        for label, model in MODELS.items():
            vision = Vision(model, base_url=server.base_url, api_key=server.api_key, limits=Limits(in_flight=2))
            server.clear()
            readings = list(vision.read_many([(page.name, page.data) for page in legible], OCR))
            sent = [request.images[0][1] for request in server.requests]
            lost = {}
            for page, reading in zip(legible, readings, strict=True):
                lost[page.name] = error_of(reading.text, page.text) - originals[page.name]
                if "--pages" in sys.argv:
                    print(f"   {page.name:24} {originals[page.name]:5.1f} {lost[page.name]:+5.1f} {reading.attempts}")
            tokens = [image_tokens(model, *Image.open(io.BytesIO(data)).size) for data in sent]
            tokens_before = mean(image_tokens(model, page.width, page.height) for page in legible)
            worst, count = max(lost, key=lambda page: lost[page]), len(legible)
            before = mean(originals[page.name] for page in legible)
            print(
                f"{label:23} {before:10.2f} {before + mean(lost.values()):9.2f} {lost[worst]:+6.2f} {worst:21} "
                f"{tokens_before:8.0f} {sum(tokens) / count:8.0f} {len(sent) / count:8.1f} "
                f"{mean(len(page.data) for page in legible) / 1024:9.0f} {sum(map(len, sent)) / 1024 / count:8.0f} "
                f"{cpu_of(vision, legible):8.0f}"
            )


def cpu_of(vision: Vision, pages: list[Page]) -> float:
    """CPU milliseconds that a page takes to be opened and prepared."""
    reader = vision._reader(OCR)
    start = time.process_time()
    for page in pages:
        for frame in reader.open(page.data):
            reader.plans(frame, reader.ways[0], OCR, Manner(room=OCR.max_tokens))
    return 1000 * (time.process_time() - start) / len(pages)


if __name__ == "__main__":
    main()
