"""Reading order: lines found on a page -> rows of text, one column after the other, a table row by row.

Works on boxes and on the length of the texts alone:

1. Lines that run up or down the page are set apart; they come last.
2. A *gutter* is an x that few lines cross. The lines that do cross it (headings, full-width text) divide the
   page into segments; in each, the lines left and right of the gutter are either two columns, which are read
   one after the other, or a table, whose cells stand side by side.
3. The gutter with most lines in columns wins, and its columns are looked through in the same way. What has
   no columns is read row by row.

What tells columns from a table: prose fills its column line after line. A row of a table has short cells on one
height. A receipt's labels and amounts are a table of two columns.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aifs_vision.emulator._ocr import Line

    Row = list[Line]

__all__ = ["CELL_GAP", "rows_of", "text_of"]

CELL_GAP = "  "
"""Stands between the cells of a row, as a single blank stands between words."""

# All lengths are multiples of a line's height.
_WORD_GAP = 0.6  # a wider one parts two cells
_OVERLAP = 0.3  # boxes are generous: so much may stick out into a gutter, or into the next cell of a row
_SAME_ROW = 0.4  # the middles of neighbours in a row are closer than this
_INDENT = 2.0  # lines that start so close to each other belong to one column
_PITCH = 2.2  # lines of prose follow each other at most this far apart
_BLOCK = 8.0  # a column is at least so wide, unless both sides are prose; amounts are narrower
_VERTICAL = 2.0  # a line so much higher than wide runs up or down the page

_PROSE_LETTERS = 16  # prose has longer lines than this, the cell of a table has rarely
_FULL = 0.8  # of the column's width: a full line of prose
_MOSTLY_FULL = 0.55  # of the lines of a column are full; a paragraph of three lines has two
_ALIGNED, _SOMEWHAT_ALIGNED = 0.6, 0.4  # of the lines have one on their height beyond the gutter: a table
_FEW = 3  # lines; fewer make no column


def rows_of(lines: Sequence[Line]) -> list[list[Line]]:
    """The lines in reading order; those that stand side by side in one row together, from left to right."""
    level = [line for line in lines if not _runs_vertically(line)]
    vertical = sorted((line for line in lines if _runs_vertically(line)), key=lambda line: line.left)
    return [*_arranged(level), *([line] for line in vertical)]


def text_of(rows: Sequence[Row]) -> str:
    r"""The text of rows, each on a line of its own ("\n"); two blanks stand between the cells of a row."""
    return "\n".join(_joined(row) for row in rows)


def _runs_vertically(line: Line) -> bool:
    return len(line.text) > 1 and line.height > _VERTICAL * line.width


def _joined(row: Row) -> str:
    text = row[0].text
    for left, right in pairwise(row):
        cells = right.left - left.right > _WORD_GAP * min(left.height, right.height)
        text += (CELL_GAP if cells else " ") + right.text
    return text


# -- Columns -------------------------------------------------------------------------------------------------


def _arranged(lines: Sequence[Line]) -> list[Row]:
    best, most = None, 0
    for gutter in _gutters(lines):
        inside = sum(len(left) + len(right) for left, right in _segments(lines, gutter) if left)
        if inside > most:
            best, most = gutter, inside
    if best is None:
        return _rows(lines)
    rows = []
    for left, right in _segments(lines, best):
        rows += _arranged(left) + _arranged(right)
    return rows


def _gutters(lines: Sequence[Line]) -> Iterator[float]:
    """The places where a line ends before others start; of places closer than a line's height one."""
    if not lines:
        return
    step = median(line.height for line in lines)
    starts = sorted(line.left for line in lines)
    tried = set()
    for end in sorted(line.right for line in lines):
        start = next((start for start in starts if start > end - _OVERLAP * step), None)
        if start is not None and (place := round((start + end) / step)) not in tried:
            tried.add(place)
            yield (start + end) / 2


def _segments(lines: Sequence[Line], gutter: float) -> Iterator[tuple[list[Line], list[Line]]]:
    """The page from top to bottom: two columns (left, right), or ([], lines) that are in no column."""
    rest: list[Line] = []
    for left, crossing, right in _between_crossings(lines, gutter):
        if _are_columns(left, right):
            if rest:
                yield [], rest
                rest = []
            yield left, right
        else:
            rest += left + right
        rest += crossing
    if rest:
        yield [], rest


def _between_crossings(lines: Sequence[Line], gutter: float) -> Iterator[tuple[list[Line], list[Line], list[Line]]]:
    """What stands left and right of the gutter above each line that crosses it, with that line."""
    left: list[Line] = []
    right: list[Line] = []
    for line in sorted(lines, key=lambda line: line.middle):
        slack = _OVERLAP * line.height
        if line.right <= gutter + slack:
            left.append(line)
        elif line.left >= gutter - slack:
            right.append(line)
        else:
            yield left, [line], right
            left, right = [], []
    yield left, [], right


def _are_columns(left: Sequence[Line], right: Sequence[Line]) -> bool:
    shorter, longer = sorted((left, right), key=len)
    if len(shorter) < _FEW or not _side_by_side(shorter, longer):
        return False
    prose = [_is_prose(side) for side in (left, right)]
    if all(prose):
        return True
    if not all(_is_wide(side) for side in (left, right)):
        return False
    return _share_aligned(shorter, longer) < (_ALIGNED if any(prose) else _SOMEWHAT_ALIGNED)


def _side_by_side(shorter: Sequence[Line], longer: Sequence[Line]) -> bool:
    top, bottom = min(line.top for line in longer), max(line.bottom for line in longer)
    return sum(top < line.middle < bottom for line in shorter) >= _FEW


def _is_wide(lines: Sequence[Line]) -> bool:
    width = max(line.right for line in lines) - min(line.left for line in lines)
    return width > _BLOCK * median(line.height for line in lines)


def _share_aligned(shorter: Sequence[Line], longer: Sequence[Line]) -> float:
    on_one_height = sum(any(_on_one_height(line, other, _SAME_ROW / 2) for other in longer) for line in shorter)
    return on_one_height / len(shorter)


def _is_prose(lines: Sequence[Line]) -> bool:
    """Whether most lines belong to running text: long, and filling a column one below the other."""
    prose = 0
    for column in _by_start(lines):
        edge, start = max(line.right for line in column), min(line.left for line in column)
        full = sum(line.right > start + _FULL * (edge - start) for line in column)
        tight = sum(
            below.middle - above.middle < _PITCH * min(above.height, below.height) for above, below in pairwise(column)
        )
        letters = median(len(line.text) for line in column)
        if letters >= _PROSE_LETTERS and full >= _MOSTLY_FULL * len(column) and 2 * tight >= len(column):
            prose += len(column)
    return 2 * prose > len(lines)


def _by_start(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Lines that start at about the same x, from top to bottom."""
    column: list[Line] = []
    for line in sorted(lines, key=lambda line: line.left):
        if column and line.left - column[0].left > _INDENT * line.height:
            yield sorted(column, key=lambda line: line.middle)
            column = []
        column.append(line)
    yield sorted(column, key=lambda line: line.middle)


# -- Rows ----------------------------------------------------------------------------------------------------


def _rows(lines: Sequence[Line]) -> list[Row]:
    """Each line with its neighbours to the right; a row may rise or fall a little from cell to cell."""
    rows: list[Row] = []
    for line in sorted(lines, key=lambda line: line.left):
        near = [row for row in rows if _continues(row[-1], line)]
        if near:
            min(near, key=lambda row: abs(row[-1].middle - line.middle)).append(line)
        else:
            rows.append([line])
    return sorted(rows, key=lambda row: sum(line.middle for line in row) / len(row))


def _continues(left: Line, right: Line) -> bool:
    beside = right.left > left.right - _OVERLAP * min(left.height, right.height)
    return beside and _on_one_height(left, right, _SAME_ROW)


def _on_one_height(one: Line, other: Line, tolerance: float) -> bool:
    return abs(one.middle - other.middle) < tolerance * min(one.height, other.height)
