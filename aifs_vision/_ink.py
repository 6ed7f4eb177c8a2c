"""How much is printed in a picture: about how many letters, and whether there is anything at all.

Nothing is recognised. A picture is made black and white against its surroundings, and the strokes that the rows of
pixels cross are counted: a row through the middle of a line of Latin print crosses about as many for each letter in
any type, size and language. All of it is done by Pillow's own loops; a page takes about 10 ms.
"""

from __future__ import annotations

import re
from io import BytesIO
from operator import mul
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from PIL import Image

__all__ = ["is_blank", "letters", "letters_on", "looks_blank"]

_SIDE = 1536  # px of the longer side at which pictures are looked at: of a page, 6 points are 5 px of x-height
_TILE = 16  # px; paper and ink are the lightest and the darkest of 3 x 3 such tiles
_PRINTED, _FAINT = 24, 12  # levels between them: for print, and for anything (pencil of 25 loses half in thin strokes)
_INKED = 0.4  # of the way from ink to paper: darker is ink, so that letters in small print stay apart
_NEAR, _FLAT = 0.25, 0.5  # half of a printed tile is within a quarter of paper (or of ink); of photos, and grain, less
_BUSY, _PICTURED, _ROUND = 48, 0.25, 4  # levels and not flat: no print in so much of the tiles up to 4 tiles away

_STRIP = 48  # px: of a row, what is counted together; narrow, for columns and pages askew
_WINDOW = 10  # rows above and below: a line of print crosses more strokes there than
_GAP = 0.3  # of their most, which is the gap between lines
_STROKES_PER_LETTER = 1.21  # measured: 176 pages, receipts, slides and charts in 13 fonts, 7 to 28 points
_LEAST, _MOST = 3, 48  # rows of a line of print
_LETTER, _MARK = 12, 5  # strokes x rows: less is dust; of a lone digit that counts as a mark on a page
_RULE = 0.25  # of the picture's height: what is longer is a fold, or a streak of the scanner

_CELLS = 24  # to a side of the thumbnail, of which
_EDGE = 2  # cells are the edge, where shadows fall
_STEP, _RANGE = 24, 96  # levels between neighbours, and between any two: more is no light on paper, but a picture
_BUSY_PART = 0.01  # of the tiles of a blank page at most are busy
_GRAIN = 64  # levels between the darkest and the lightest grain of a noisy scan, at half size


class _Print(NamedTuple):
    """A picture in grey, with how light the ink and paper of each tile are, and which tiles have flat paper."""

    grey: Image.Image
    ink: Image.Image
    paper: Image.Image
    contrast: Image.Image
    flat: Image.Image


def letters_on(data: bytes) -> float:
    """About how many characters are printed in an encoded picture, as `letters` counts them."""
    return letters(_opened(data))


def looks_blank(data: bytes) -> bool:
    """Whether there is next to nothing in an encoded picture, as `is_blank` judges; first at half size."""
    return is_blank(_opened(data, 2)) and is_blank(_opened(data))


def _opened(data: bytes, shrunk: int = 1) -> Image.Image:
    from PIL import Image

    with Image.open(BytesIO(data)) as picture:
        if shrunk > 1:
            picture.draft("L", (picture.width // shrunk, picture.height // shrunk))
        grey: Image.Image = picture.convert("L")
        return grey


def letters(grey: Image.Image) -> float:
    """About how many characters, blanks included, are printed in a picture in grey (mode L); about 0 for a photo.

    Within about 10 % for a page whose small letters have 6 px or more as looked at (at most 1536 px a side), with
    up to a fifth too few where they have less. Letters more than 48 px tall are not counted.
    """
    from PIL import ImageChops, ImageFilter

    seen = _seen(grey)
    busy = ImageChops.darker(ImageChops.invert(seen.flat), seen.contrast.point(_from(_BUSY)))
    pictured = busy.filter(ImageFilter.BoxBlur(_ROUND)).point(_from(_PICTURED * 255))
    printed = ImageChops.darker(seen.flat, seen.contrast.point(_from(_PRINTED)))
    lines = _lines(seen, ImageChops.subtract(printed, pictured), _MOST)
    return sum(crossed for crossed, area in lines if area >= _LETTER) / _STROKES_PER_LETTER


def is_blank(grey: Image.Image) -> bool:
    """Whether there is next to nothing in a picture in grey (mode L): paper with its grain, shadow, folds and dust.

    In doubt it is not: one digit is something, as are a mark in pencil, 25 of 255 levels darker than the paper, a
    photo, and the black border of a scan.
    """
    from PIL import Image, ImageChops

    cells = grey.resize((_CELLS, _CELLS), Image.Resampling.BOX)
    inner = cells.crop((_EDGE, _EDGE, _CELLS - _EDGE, _CELLS - _EDGE))
    darkest, lightest = _extremes(inner)
    steps = max(
        _extremes(ImageChops.difference(inner, ImageChops.offset(inner, *by)).crop((1, 1, *inner.size)))[1]
        for by in ((1, 0), (0, 1))
    )
    if lightest - darkest > _RANGE or steps > _STEP:
        return False
    seen = _seen(grey)
    busy = ImageChops.darker(ImageChops.invert(seen.flat), seen.contrast.point(_from(_GRAIN)))
    if busy.histogram()[255] > _BUSY_PART * busy.width * busy.height:
        return False
    marked = ImageChops.darker(seen.flat, seen.contrast.point(_from(_FAINT)))
    return all(area < _MARK for _, area in _lines(seen, marked, max(_MOST, round(_RULE * seen.grey.height))))


def _seen(grey: Image.Image) -> _Print:
    """The picture, no larger than it is looked at, and its tiles."""
    from PIL import Image, ImageChops, ImageFilter

    scale = min(1.0, _SIDE / max(grey.size))
    width, height = (max(1, round(side * scale)) for side in grey.size)
    if scale < 1:
        grey = grey.resize((width, height), Image.Resampling.BOX, reducing_gap=1.0)
    half = -(-width // _TILE) * _TILE // 2, -(-height // _TILE) * _TILE // 2
    small = grey.resize(half, Image.Resampling.BOX)
    ink = _pooled(small, ImageChops.darker).filter(ImageFilter.MinFilter(3))
    paper = _pooled(small, ImageChops.lighter).filter(ImageFilter.MaxFilter(3))
    near_ink = _darker(small, Image.blend(ink, paper, _NEAR).resize(half, Image.Resampling.NEAREST))
    near_paper = _darker(Image.blend(ink, paper, 1 - _NEAR).resize(half, Image.Resampling.NEAREST), small)
    shares = (near.reduce(_TILE // 2).filter(ImageFilter.BoxBlur(1)) for near in (near_ink, near_paper))
    flat = ImageChops.lighter(*shares).point(_from(_FLAT * 255))
    return _Print(grey, ink, paper, ImageChops.difference(ink, paper), flat)


def _pooled(picture: Image.Image, most: Callable[[Image.Image, Image.Image], Image.Image]) -> Image.Image:
    """The darkest, or the lightest, level of each tile of a picture at half size."""
    from PIL import Image, ImageChops

    for _ in range(3):  # halved thrice: 8 px of the picture at half size are a tile
        for by in ((1, 0), (0, 1)):
            picture = most(picture, ImageChops.offset(picture, *by))
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.NEAREST)
    return picture


def _lines(seen: _Print, tiles: Image.Image, most: int) -> Iterator[tuple[float, float]]:
    """The pieces of lines of print in the strips of these tiles: strokes that a row crosses, and all its rows do."""
    from PIL import Image, ImageChops

    width, height = seen.grey.size
    border = ImageChops.darker(Image.blend(seen.ink, seen.paper, _INKED), tiles)
    borders = border.resize((border.width * _TILE, border.height * _TILE), Image.Resampling.NEAREST)
    inked = _darker(seen.grey, borders.crop((0, 0, width, height)))
    sides = ImageChops.difference(inked, ImageChops.offset(inked, 1, 0))
    strips = max(1, round(width / _STRIP))
    # Between strips, and above and below, there is nothing.
    rows = sides.resize((strips, height), Image.Resampling.BOX).crop((0, -_WINDOW, strips, height + _WINDOW))
    around = rows
    for by in (1, 2, 4, 8, 2 * _WINDOW - 15):
        around = ImageChops.lighter(around, ImageChops.offset(around, 0, by))
    gaps = ImageChops.offset(around, 0, -_WINDOW).point([round(level * _GAP) for level in range(256)])
    stroke = 2 * 255 * strips / width  # a stroke has two sides
    kept = ImageChops.darker(rows, _darker(gaps, rows)).point([level * (level >= 0.5 * stroke) for level in range(256)])
    for run in re.findall(rb"[^\0]+", kept.transpose(Image.Transpose.TRANSPOSE).tobytes()):
        if _LEAST <= len(run) <= most:
            total = sum(run)
            yield sum(map(mul, run, run)) / total / stroke, total / stroke


def _darker(picture: Image.Image, than: Image.Image) -> Image.Image:
    """White where one picture is darker than the other."""
    from PIL import ImageChops

    # This is `subtract`, in half its time.
    return ImageChops.difference(ImageChops.lighter(picture, than), picture).point([0] + [255] * 255)


def _from(least: float) -> list[int]:
    """The table that makes levels white from this one on, and others black."""
    return [255 * (level >= least) for level in range(256)]


def _extremes(picture: Image.Image) -> tuple[int, int]:
    """The darkest and the lightest level."""
    levels = sorted(picture.tobytes())
    return levels[0], levels[-1]
