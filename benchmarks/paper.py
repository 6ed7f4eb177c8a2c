"""Facts as the picture files that people have: printed, then scanned, photographed, faded or turned; and their names.

Imported by retrieval.py. Paper comes as exports of programs, scans, phone photos and worn prints; charts and slides
more often as screenshots. Phones store a picture as the sensor saw it, and write into EXIF how it is to be turned:
so do half of the photos here. Some sheets were laid into the scanner sideways or on their heads, and say so nowhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tests.pictures import saved
from tests.scenes import on_a_table
from tests.sheets import GREY, INK, Sheet, Style

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from benchmarks.documents import Facts

__all__ = ["CONDITIONS", "Picture", "pictures"]

CONDITIONS = ("export", "palette", "transparent", "scan", "photo", "phone", "turned", "faded")
# Of ten pictures; a photo of a phone has its turn in EXIF.
_OF_PAPER = "export export scan scan scan photo phone phone turned faded".split()
_OF_SCREENS = "export export export palette transparent scan photo phone turned faded".split()
_TELLING = 4  # every so many names tell something
_EXIF_ORIENTATION = 0x0112
_TURNED_RIGHT = 6  # its value: show it turned clockwise by a quarter
_COLOURS = ("#1f5f8b", "#b5893b", "#3c7a4e", "#8a3b52", "#5a4a8a", "#b0562b", "#2c7f86")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A file with a picture of facts: its name, its bytes, and what was done to it (of `CONDITIONS`)."""

    facts: Facts
    name: str
    data: bytes
    condition: str


def pictures(made: Iterable[Facts], seed: int) -> Iterator[Picture]:
    """A file for each of the facts; the names differ."""
    for place, facts in enumerate(made):
        random = np.random.default_rng((seed, place, 1))
        of_paper = facts.kind in {"receipt", "table", "label"}
        weights = _OF_PAPER if of_paper else _OF_SCREENS
        turn = (
            3 * (facts.number + facts.number // len(weights)) + place % 10
        )  # a subject comes back in another condition
        condition = weights[turn % len(weights)]
        printed = _PRINTERS[facts.kind](facts, random)
        data, ending = _spoilt(printed, condition, random)
        yield Picture(facts=facts, name=_name(facts, condition, ending, place, random), data=data, condition=condition)


def _name(facts: Facts, condition: str, ending: str, place: int, random: np.random.Generator) -> str:
    """A name as people and their devices give it; every fourth says what the picture is of, none what is asked."""
    stamp = f"20{random.integers(24, 26)}-{random.integers(1, 13):02}-{random.integers(1, 29):02}"
    german = facts.language == "German"
    if random.integers(_TELLING) == 0:
        short = re.sub(r"[^\w &'-]", "", facts.short)
        return f"{short if random.integers(2) else short.lower().replace(' ', '-')} {place}.{ending}"
    if condition in {"photo", "phone"}:
        names = f"IMG_{2000 + place}", f"{stamp.replace('-', '')}_{100000 + place}"
    elif condition in {"scan", "turned", "faded"}:
        names = f"Scan {stamp} ({place})", f"{'beleg' if german else 'receipt'}-{place:03}"
    else:
        names = f"{'Bildschirmfoto' if german else 'Screenshot'} {stamp} {place:03}", f"image{place:03}"
    return f"{names[random.integers(2)]}.{ending}"


# -- Printing ----------------------------------------------------------------------------------------------------


def _family(random: np.random.Generator) -> Literal["sans", "serif"]:
    return "serif" if random.integers(3) == 0 else "sans"


def _receipt(facts: Facts, random: np.random.Generator) -> Image.Image:
    """A till roll: the shop in the middle, items to the left, amounts to the right, a rule above the sum."""
    size = float(random.uniform(8.5, 10.5))
    height = 150.0 + 1.6 * size * len(facts.rows)
    sheet = Sheet(width=227, height=height, pixels=int(random.integers(1000, 1500)), ground="#fcfbf7")
    body = Style(family=_family(random), size=size)
    sheet.row(30, Style(family=body.family, weight="Bold", size=16), (113.5, "m", facts.heading))
    for y, note in zip((50.0, 66.0), facts.notes, strict=True):
        sheet.row(y, Style(family=body.family, size=8.5), (113.5, "m", note))
    y = 94.0
    for number, (label, amount) in enumerate(facts.rows):
        total = number == len(facts.rows) - 4
        if total:
            sheet.box(16, y - size - 2, 211, y - size - 1.2, INK)
            y += 4
        style = Style(family=body.family, weight="Bold", size=size * 1.25) if total else body
        sheet.row(y, style, (16, "l", label), (211, "r", amount))
        y += 1.6 * size
    sheet.row(y + 14, Style(family=body.family, size=8.5), (113.5, "m", facts.foot[0]))
    return sheet.image


def _table(facts: Facts, random: np.random.Generator) -> Image.Image:
    """A page, or the part of one, with a table: ruled or with a shaded head, numbers to the right."""
    family, size = _family(random), float(random.uniform(9.5, 13))
    pitch, left, width = 2.1 * size, 48.0, 499.0
    whole = bool(random.integers(2))
    height = 842.0 if whole else 170 + pitch * len(facts.rows)
    sheet = Sheet(height=height, pixels=int(random.integers(1500, 2340) if whole else random.integers(1100, 1700)))
    sheet.row(66, Style(family=family, weight="Bold", size=19), (left, "l", facts.heading))
    sheet.row(86, Style(family=family, fill=GREY), (left, "l", facts.notes[0]))
    columns = len(facts.rows[0])
    edges = [left + 5] + [left + width * (0.34 + 0.66 * number / (columns - 1)) - 5 for number in range(1, columns)]
    y, ruled = 124.0, bool(random.integers(2))
    for number, row in enumerate(facts.rows):
        if number == 0 or (ruled and number):
            shade = "#dfe8ee" if number == 0 else "#b9c7d2"
            sheet.box(
                left, y - 0.69 * pitch, left + width, y + (0.31 * pitch if number == 0 else 0.3 - 0.69 * pitch), shade
            )
        cells = [(x, "l" if place == 0 else "r", text) for place, (x, text) in enumerate(zip(edges, row, strict=True))]
        sheet.row(y, Style(family=family, weight="Regular" if number else "Bold", size=size), *cells)
        y += pitch
    sheet.row(y + 14, Style(family=family, size=9, fill=GREY), (left, "l", facts.foot[0]))
    return sheet.image


def _chart(facts: Facts, random: np.random.Generator) -> Image.Image:
    """Bars, columns or a line, the numbers beside them."""
    family, shape = _family(random), ("bars", "columns", "line")[random.integers(3)]
    sheet = Sheet(width=800, height=500, pixels=int(random.integers(1000, 1700)))
    sheet.row(54, Style(family=family, weight="Bold", size=25), (44, "l", facts.heading))
    sheet.row(82, Style(family=family, size=15, fill=GREY), (44, "l", facts.notes[0]))
    values = [float(re.sub(r"\D", "", value)) for _, value in facts.rows]
    colour = _COLOURS[random.integers(len(_COLOURS))]
    style, bold = Style(family=family, size=15), Style(family=family, size=15, weight="Bold")
    points = []
    for number, ((label, text), value) in enumerate(zip(facts.rows, values, strict=True)):
        share = value / max(values)
        if shape == "bars":
            y = 118 + 340 * (number + 0.5) / len(values)
            sheet.box(210, y - 14, 212 + 470 * share, y + 14, colour)
            sheet.row(y + 5, style, (198, "r", label), (222 + 470 * share, "l", text))
            continue
        x, top = 60 + 700 * (number + 0.5) / len(values), 420 - 280 * share
        points.append((x, top))
        if shape == "columns":
            sheet.box(x - 28, top, x + 28, 421, colour)
        small = Style(family=family, size=min(15.0, 0.95 * 700 / len(values) / max(4, 0.55 * len(label))))
        sheet.row(top - 8, bold, (x, "m", text))
        sheet.row(442, small, (x, "m", label))
    if shape == "line":
        scale = sheet.image.width / 800
        corners = [(x * scale, y * scale) for x, y in points]
        ImageDraw.Draw(sheet.image).line(corners, colour, max(2, round(3 * scale)))
    sheet.row(484, Style(family=family, size=12, fill=GREY), (44, "l", facts.foot[0]))
    return sheet.image


def _slide(facts: Facts, random: np.random.Generator) -> Image.Image:
    """A slide: a bar with the title, points below it in one column or two boxes, a footer; dark or light."""
    dark, boxes = random.integers(3) == 0, bool(random.integers(2))
    ground, ink, soft = ("#1d2733", "#eef2f5", "#9fb0bf") if dark else ("#ffffff", INK, GREY)
    sheet = Sheet(width=960, height=540, pixels=int(random.integers(1100, 1920)), ground=ground)
    family = _family(random)
    sheet.box(0, 0, 14, 540, _COLOURS[random.integers(len(_COLOURS))])
    sheet.row(78, Style(family=family, weight="Bold", size=36, fill=ink), (60, "l", facts.heading))
    style = Style(family=family, size=22 if boxes else 25, fill=ink)
    half = (len(facts.rows) + 1) // 2
    y = 160.0
    for number, (point,) in enumerate(facts.rows):
        if boxes and number in {0, half}:
            y = 160.0
        x = 510.0 if boxes and number >= half else 60.0
        y = sheet.paragraph(x, y, 390 if boxes else 820, style, f"• {point}") + 22
    sheet.row(512, Style(family=family, size=13, fill=soft), (60, "l", facts.foot[0]))
    return sheet.image


def _label(facts: Facts, random: np.random.Generator) -> Image.Image:
    """A label or type plate: large heading, fields below each other or beside each other, a frame."""
    family, columns = _family(random), 1 + int(random.integers(2))
    lines = -(-len(facts.rows) // columns)
    height = 122.0 + 18 * len(facts.notes) + 30 * lines
    ground = ("#ffffff", "#f4ead2", "#dcdfe2", "#e9f1e4")[random.integers(4)]
    sheet = Sheet(width=420, height=height, pixels=int(random.integers(800, 1300)), ground=ground)
    ImageDraw.Draw(sheet.image).rectangle((6, 6, sheet.image.width - 7, sheet.image.height - 7), outline=INK, width=3)
    sheet.row(46, Style(family=family, weight="Bold", size=27), (24, "l", facts.heading))
    y = 70.0
    for note in facts.notes:
        sheet.row(y, Style(family=family, size=12), (24, "l", note))
        y += 18
    for number, (label, value) in enumerate(facts.rows):
        x, base = 24.0 + 192 * (number % columns), y + 10 + 30 * (number // columns)
        if columns == 1:
            sheet.row(base + 8, Style(family=family, size=14), (x, "l", label), (190, "l", value))
        else:
            sheet.row(base, Style(family=family, size=9, fill=GREY), (x, "l", label))
            sheet.row(base + 14, Style(family=family, size=14), (x, "l", value))
    sheet.row(height - 18, Style(family=family, size=10), (24, "l", facts.foot[0]))
    return sheet.image


_PRINTERS: dict[str, Callable[[Facts, np.random.Generator], Image.Image]] = {
    "receipt": _receipt,
    "table": _table,
    "chart": _chart,
    "slide": _slide,
    "label": _label,
}


# -- What happens to it ------------------------------------------------------------------------------------------


def _spoilt(printed: Image.Image, condition: str, random: np.random.Generator) -> tuple[bytes, str]:
    """The file, and the ending of its name."""
    if condition == "palette":
        return saved(printed.quantize(48), "PNG", optimize=True), "png"
    if condition == "transparent":
        return saved(_without_ground(printed), "PNG"), "png"
    if condition in {"photo", "phone"}:
        return _photo(printed, random, by_phone=condition == "phone"), "jpg"
    if condition == "export":
        return saved(printed, "PNG"), "png"
    scanned = _scan(printed, random, worn=condition == "faded")
    if condition == "turned":
        scanned = scanned.rotate(90 * int(random.integers(1, 4)), expand=True)
    return saved(scanned, "JPEG", quality=int(random.integers(70, 92))), "jpg"


def _without_ground(printed: Image.Image) -> Image.Image:
    """As programs export a chart "without background": the more transparent, the nearer to the colour of its ground."""
    levels = np.asarray(printed, np.float32)
    distance = np.abs(levels - levels[0, -1]).max(axis=2)
    alpha = np.clip(distance * 4, 0, 255).astype(np.uint8)
    return Image.fromarray(np.dstack([np.asarray(printed), alpha]))


def _scan(printed: Image.Image, random: np.random.Generator, *, worn: bool) -> Image.Image:
    """Not quite straight, a soft lens, noise; what is worn has little contrast and spots left."""
    tilted = printed.rotate(
        float(random.uniform(-1.6, 1.6)), Image.Resampling.BICUBIC, fillcolor=printed.getpixel((2, 2))
    )
    levels = np.asarray(tilted.filter(ImageFilter.GaussianBlur(float(random.uniform(0.4, 1.0)))), np.float32)
    strength = float(random.uniform(0.14, 0.3)) if worn else float(random.uniform(0.75, 0.95))
    levels = (levels - 255) * strength + (215 if worn else 248)
    levels += _grain(tilted.size, 7 if worn else 10, random)
    picture = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    return picture.convert("L") if random.integers(2) else picture


def _photo(printed: Image.Image, random: np.random.Generator, *, by_phone: bool) -> bytes:
    """On a table, aslant, in the light of a lamp at one side, with the blur, noise and JPEG of a camera."""
    soft = printed.filter(ImageFilter.GaussianBlur(float(random.uniform(0.4, 1.1)) * max(printed.size) / 1500))
    lying = on_a_table(soft, float(random.uniform(-6, 6)))
    width, height = lying.size
    left, top, right, bottom = (float(random.uniform(0, 0.08)) for _ in range(4))
    corners = (
        *(-left * width, -top * height, -right * width, height * (1 + bottom)),
        *(width * (1 + right), height * (1 + top), width * (1 + left), -bottom * height),
    )
    scale = float(random.integers(2400, 4033)) / max(width, height)
    size = (round(width * scale), round(height * scale))
    seen = lying.transform(size, Image.Transform.QUAD, corners, Image.Resampling.BICUBIC, fillcolor=(70, 60, 52))
    light = np.linspace(1.05, float(random.uniform(0.45, 0.8)), size[0], dtype=np.float32)[None, :, None]
    levels = np.asarray(seen, np.float32) * light + _grain(size, 9, random)
    picture = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    exif = Image.Exif()
    if by_phone:
        picture = picture.transpose(Image.Transpose.ROTATE_90)
        exif[_EXIF_ORIENTATION] = _TURNED_RIGHT
    return saved(picture, "JPEG", quality=int(random.integers(78, 92)), exif=exif)


def _grain(size: tuple[int, int], strength: float, random: np.random.Generator) -> NDArray[np.float32]:
    """Noise of a sensor, a tile of it repeated: that is fast, and no reader can tell."""
    tile = random.normal(0, strength, (512, 512)).astype(np.float32)
    width, height = size
    return np.tile(tile, (height // 512 + 1, width // 512 + 1))[:height, :width, None]
