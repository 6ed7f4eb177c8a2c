"""Lines of print in a picture: how tall their letters are, and where a page can be cut between them.

Both are read from how dark the rows of pixels are, which Pillow sums up; nothing is recognised.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["blank_rows", "x_height"]

_STRIPS = 16  # side by side: wide enough for a few words, narrow enough for columns and a page not quite straight
_GROUND, _INKS = 0.9, (0.02, 0.15)  # of the rows are darker than paper; as dark as print, or as a table round the paper
_CONTRAST = 24  # levels between the two; less is a blank strip, or the grain of a photograph
_LINE = 0.4  # of the way from paper to ink: above it lie the rows between the tops and the feet of small letters
_FAR_MORE = 2  # times the lines: then what was darkest was no print
_LEAST, _MOST, _MOST_OF_ALL = 3, 24, 1 / 32  # px, and of the height: lower is dust, taller a picture or a headline
_RUNS = re.compile(b"1{%d,}" % _LEAST)
_ENOUGH, _COVERED = 12, 0.01  # lines, and the share of all rows in them, to be sure that it is print
_AGREED = 1.25  # times the one, at most, is the other of two heights that agree
_ALIKE = 0.5  # of them have about the same height

_COLUMNS = 48  # parts of a row in which ink is looked for
_SPECK = 6  # levels darker than paper, on average over a part, that are ink and not paper


def x_height(picture: Image.Image) -> float | None:
    """The height in px of letters without tails, such as x, in most of the print; None where there is none.

    The rows of a line of print are darkest between the tops and the feet of its small letters. Lines tilted by
    more than about two degrees run into each other and are not found.
    """
    grey = picture.convert("L")
    found = _x_height(grey)
    if found is not None:
        return found
    # A picture on the page may outweigh its print: then two quarters of the page that agree are enough.
    tops = [grey.height * quarter // 4 for quarter in range(5)]
    parts = [_x_height(grey.crop((0, top, grey.width, bottom))) for top, bottom in pairwise(tops)]
    seen = sorted(part for part in parts if part is not None)
    agreeing = (fine + coarse for fine, coarse in pairwise(seen) if coarse <= _AGREED * fine)
    double = next(agreeing, None)
    return None if double is None else double / 2


def _x_height(picture: Image.Image) -> float | None:
    """The same for a part of a page, in grey."""
    from PIL import Image

    most = max(_MOST, round(picture.height * _MOST_OF_ALL))
    strips = picture.resize((_STRIPS, picture.height), Image.Resampling.BOX).tobytes()
    lines: list[int] = []
    for strip in range(_STRIPS):
        rows = strips[strip::_STRIPS]
        ranked = sorted(rows)
        usual, lighter = (_dark_runs(rows, ranked, ink, most) for ink in _INKS)
        lines += usual if len(lighter) < _FAR_MORE * len(usual) else lighter
    lines.sort()
    if len(lines) < _ENOUGH or sum(lines) < _COVERED * picture.height * _STRIPS:
        return None
    middle = _weighted_median(lines)
    alike = [height for height in lines if 0.6 * middle <= height <= 1.6 * middle]
    return sum(alike) / len(alike) if sum(alike) >= _ALIKE * sum(lines) else None


def _dark_runs(rows: bytes, ranked: list[int], ink_share: float, most: int) -> list[int]:
    """How many rows on end are dark, for each such run of a likely height; `rows` has their means, 0 to 255."""
    paper, ink = ranked[int(_GROUND * len(ranked))], ranked[int(ink_share * len(ranked))]
    if paper < 128:  # noqa: PLR2004 - half of white: light letters on a dark ground
        paper, ink = ranked[int((1 - _GROUND) * len(ranked))], ranked[int((1 - ink_share) * len(ranked)) - 1]
    if abs(paper - ink) < _CONTRAST:
        return []
    lower = math.ceil(paper - (paper - ink) * _LINE)  # levels below the border
    dark, light = (b"1", b"0") if ink < paper else (b"0", b"1")
    runs = map(len, _RUNS.findall(rows.translate(dark * lower + light * (256 - lower))))
    return [run for run in runs if run <= most]


def _weighted_median(heights: list[int]) -> int:
    """The height that half of all dark rows do not exceed: many specks weigh less than a few lines."""
    half, seen = sum(heights) / 2, 0
    for height in heights:
        seen += height
        if seen >= half:
            return height
    return heights[-1]


def blank_rows(picture: Image.Image, top: int, bottom: int) -> tuple[int, int] | None:
    """The tallest run of rows without any ink between two rows of a picture, as (first, last + 1); None without one."""
    from PIL import Image

    grey = picture.convert("L").crop((0, top, picture.width, bottom))
    ranked = sorted(grey.resize((_COLUMNS, grey.height), Image.Resampling.BOX).tobytes())
    paper = ranked[int(_GROUND * len(ranked))]
    parts = grey.resize((_COLUMNS, grey.height), Image.Resampling.BOX)
    inked = parts.point(bytes(abs(level - paper) > _SPECK for level in range(256))).tobytes()
    best, start = (0, 0), None
    for row in range(grey.height + 1):
        blank = row < grey.height and not any(inked[row * _COLUMNS : (row + 1) * _COLUMNS])
        if blank and start is None:
            start = row
        elif not blank and start is not None:
            best = max(best, (row - start, start))
            start = None
    length, first = best
    return (top + first, top + first + length) if length else None
