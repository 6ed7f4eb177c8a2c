"""A measured description of a picture: size, colours, what kind it probably is, its largest text.

No model sees the picture, and the description says so. It depends on the pixels alone and is the same every time,
so that tests can tell from it which picture was sent.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from aifs_vision.emulator._ocr import on_white

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aifs_vision.emulator._ocr import Line, Page

__all__ = ["describe"]

_COLOURS = {
    "black": 0x101010,
    "dark grey": 0x4A4A4C,
    "grey": 0x868688,
    "light grey": 0xC6C6C8,
    "white": 0xFCFCFC,
    "dark red": 0x7A1420,
    "red": 0xD8242C,
    "pink": 0xF0A0B8,
    "orange": 0xF0842A,
    "brown": 0x6E4A30,
    "ochre": 0xB4883C,
    "beige": 0xDCCBB0,
    "yellow": 0xF4DC3C,
    "olive": 0x7C7C3A,
    "dark green": 0x1E4A2C,
    "green": 0x3C9A4A,
    "light green": 0xA4D89C,
    "turquoise": 0x30B0A8,
    "light blue": 0x98C4EA,
    "blue": 0x2A68B8,
    "dark blue": 0x1C2C64,
    "purple": 0x6A3A94,
    "magenta": 0xC83C9C,
}
_THUMBNAIL = 160  # px of the longer side
_NAMED = 3  # colours
_MAIN_SHARE = 0.06  # of the pixels: a main colour
_FLAT_SHARE = 0.3  # of the pixels are exactly as their neighbours: drawn; photos have grain
_BLANK_SHARE, _SAME = 0.995, 4  # of the pixels are as their neighbours, but for some levels of 255: nothing there
_PAGE_WORDS = 20  # a page of text has as many words, and its lines cover ...
_PAGE_SHARE = 0.13  # ... so much of it, ...
_PLAIN_SHARE, _COLOURFUL, _FEW_COLOURFUL = 0.03, 25.0, 0.05  # ... or so much, with few pixels of such a chroma
_LARGEST = 0.9  # of the size of the largest line: just as large
_ADVANCE = 0.5  # of the size of a letter is its width, on average
_QUOTED = 80  # letters


def describe(image: Image.Image, page: Page) -> str:
    """One or two sentences about a picture and the text that was read in it."""
    width, height = image.size
    thumbnail = _thumbnail(image)
    facts = [
        f"{width} x {height} px",
        _orientation(width, height),
        f"mainly {', '.join(_main_colours(thumbnail))}",
        f"probably {_kind(thumbnail, page)}",
    ]
    if page.turned:
        facts.append(f"upright once turned {page.turned} degrees clockwise")
    return f"Measured (no vision model): {', '.join(facts)}. {_about_text(page)}"


def _thumbnail(image: Image.Image) -> NDArray[np.uint8]:
    """Some of the pixels, unblended: a mean of ink and paper would be a colour that nothing has."""
    scale = min(1.0, _THUMBNAIL / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return np.asarray(on_white(image).resize(size, Image.Resampling.NEAREST))


def _orientation(width: int, height: int) -> str:
    if width == height:
        return "square"
    return "landscape" if width > height else "portrait"


def _main_colours(pixels: NDArray[np.uint8]) -> list[str]:
    """The most frequent named colours, at least one."""
    names, known = _palette()
    distances = ((_lab(pixels.reshape(-1, 1, 3)) - known) ** 2).sum(axis=2)
    counts = np.bincount(distances.argmin(axis=1), minlength=len(names))
    order = np.argsort(-counts, kind="stable")[:_NAMED]
    return [names[index] for index in order if index == order[0] or counts[index] > _MAIN_SHARE * counts.sum()]


@cache
def _palette() -> tuple[list[str], NDArray[np.float64]]:
    values = np.array([[code >> 16, code >> 8 & 255, code & 255] for code in _COLOURS.values()], np.uint8)
    return list(_COLOURS), _lab(values)


def _lab(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """CIELAB (D65) of sRGB, by IEC 61966-2-1 and CIE 15."""
    values, knee = pixels / 255.0, 0.04045
    linear = np.where(values <= knee, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    xyz = linear @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    ratio = xyz / np.array([0.9505, 1.0, 1.089])
    root = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _kind(pixels: NDArray[np.uint8], page: Page) -> str:
    covered = sum(line.width * line.height for line in page.lines) / (page.width * page.height)
    if len(page.text.split()) >= _PAGE_WORDS and covered > _PLAIN_SHARE:
        colourful = np.mean(np.hypot(*np.moveaxis(_lab(pixels)[..., 1:], -1, 0)) > _COLOURFUL)
        if covered > _PAGE_SHARE or colourful < _FEW_COLOURFUL:
            return "a page of text"
    levels = pixels.astype(np.int16)
    steps = np.concatenate([np.abs(np.diff(levels, axis=axis)).max(axis=2).ravel() for axis in (0, 1)])
    if not page.lines and np.mean(steps <= _SAME) >= _BLANK_SHARE:
        return "a blank page"
    return "a graphic" if np.mean(steps == 0) > _FLAT_SHARE else "a photo"


def _about_text(page: Page) -> str:
    if not page.lines:
        return "No text found."
    sizes = [_size(line) for line in page.lines]
    largest = next(line.text for line, size in zip(page.lines, sizes, strict=True) if size >= _LARGEST * max(sizes))
    if len(largest) > _QUOTED:
        largest = largest[:_QUOTED].rstrip() + "..."
    words, lines = len(page.text.split()), len(page.text.splitlines())
    return f'Largest text: "{largest}"; {_count(words, "word")} in {_count(lines, "line")}.'


def _size(line: Line) -> float:
    """How large a line is printed: its height, which is coarse, bounded by the room that its letters take."""
    height, length = sorted((line.width, line.height))
    return min(height, length / (_ADVANCE * len(line.text)))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
