"""The text of a page as a picture: how the emulator shows pages of Office files and web pages, which it cannot lay out.

The text alone is written down, line by line, in Pillow's own font, so that the picture is the same everywhere. It has
the letters of ASCII; the dots of umlauts are drawn above them, and what else is not there is written with what is.
"""

from __future__ import annotations

import io
import unicodedata
from functools import cache, lru_cache
from itertools import islice
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["drawn"]

_UPRIGHT, _SLIDE = (877, 1240), (1240, 698)  # px: A4 at 106 dots an inch, and a slide of 16:9
_MARGIN, _LARGEST, _SMALLEST, _LEADING = 70, 28, 12, 1.35  # px; sizes of letters, and lines in sizes
_INK, _PAPER = (24, 24, 24), (255, 255, 255)
_DOTS = "\N{COMBINING DIAERESIS}"
_OTHERWISE = str.maketrans(
    {"ß": "ss", "ẞ": "SS", "€": "EUR", "Æ": "AE", "æ": "ae", "Ø": "O", "ø": "o", "Ł": "L", "ł": "l", "№": "No."}
    | dict.fromkeys("‐‑‒–—−•·", "-")  # noqa: RUF001 - they are to be replaced
    | dict.fromkeys("„“”«»", '"')
    | dict.fromkeys("‚‘’‹›", "'")  # noqa: RUF001 - as above
)
_NOTE = "drawn by aifs-emulator from the text of the page alone, without its layout"


def drawn(text: str, *, slide: bool = False) -> tuple[bytes, str]:
    """A page with this text as a PNG, whose comment says what it is; and how much of the text is on it.

    The letters are made smaller until all of it has its place; where it has none even so, the last line says that it
    goes on.
    """
    shown = text
    width, height = _SLIDE if slide else _UPRIGHT
    plain = unicodedata.normalize("NFKD", text.translate(_OTHERWISE)).expandtabs(4)
    for size in range(_LARGEST, _SMALLEST - 1, -4):
        room = int((height - 2 * _MARGIN) / (size * _LEADING))
        rows = (row for line in plain.splitlines() for row in _rows(line, size, width - 2 * _MARGIN))
        lines = list(islice(rows, room + 1))
        if len(lines) <= room:
            break
    else:
        shown = unicodedata.normalize("NFC", "\n".join(lines[: room - 1]))
        lines[room - 1 :] = ["[The text goes on.]"]
    image = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        _write(draw, line, size, _MARGIN + number * size * _LEADING)
    return _png(image), shown


def _png(image: Image.Image) -> bytes:
    note = PngInfo()
    note.add_text("Comment", _NOTE)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=note)
    return buffer.getvalue()


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _rows(line: str, size: int, width: float) -> Iterator[str]:
    """A line in rows that are no wider, broken between words, and within one that is too long for a row."""
    row, used = "", 0.0
    for word in line.split():
        if row and used + _width(f" {word}", size) > width:
            yield row
            row, used = "", 0.0
        for letter in f" {word}" if row else word:
            if used + _width(letter, size) > width:
                yield row
                row, used = "", 0.0
            row += letter
            used += _width(letter, size)
    if row:
        yield row


def _width(text: str, size: int) -> float:
    return sum(_advance(letter, size) for letter in _letters(text))


@lru_cache(4096)
def _advance(letter: str, size: int) -> float:
    return _font(size).getlength(letter)


def _letters(row: str) -> str:
    """The letters that the font has, without marks above them; those it has not are question marks."""
    return "".join(letter if letter.isascii() else "?" for letter in row if not unicodedata.combining(letter))


def _write(draw: ImageDraw.ImageDraw, row: str, size: int, top: float) -> None:
    draw.text((_MARGIN, top), _letters(row), _INK, _font(size))
    for place, mark in enumerate(row):
        if mark == _DOTS and place:
            before = _letters(row[:place])
            right = _MARGIN + _font(size).getlength(before)
            left = _MARGIN + _font(size).getlength(before[:-1])
            _, above, _, _ = draw.textbbox((left, top), before[-1:] or " ", _font(size))
            for share in (0.32, 0.68):
                x, y, radius = left + (right - left) * share, above - size * 0.1, size * 0.055
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), _INK)
