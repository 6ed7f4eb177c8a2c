"""The texts of a page's bands -> the text of the page: no line lost, none twice."""

from __future__ import annotations

import math
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["joined"]

_LOOKED_AT = 14  # lines at the end of one band and at the start of the next
_ALIKE = 0.75  # of two lines that are the same line, read twice
_STRAY = 6  # lines cut through by the edge of a band, on a page askew, which may stand there as anything
_STRAYED = 0.6  # of a shared line: what each such line counts against the place
_SURPLUS, _SHORTAGE = 2.0, 0.2  # the same for each shared line more, or less, than expected: tables repeat themselves


def joined(texts: Sequence[str], shared: Sequence[float]) -> str:
    """The texts of bands from top to bottom as one.

    Args:
        texts: of each band.
        shared: for each band, what part of it (0 to 1) the band above has, too; 0 where they meet between two lines.

    Lines that both of two bands have are found by their words, since a model does not read a line twice in the
    same way; what stands before and after them at the edges is what was left of lines that were cut through.
    Where no line is found twice, nothing is left out.
    """
    lines: list[str] = []
    above = 0
    for text, part in zip(texts, shared, strict=True):
        following = text.splitlines()
        count = sum(bool(line.strip()) for line in following)
        if part and lines:  # the denser of two bands says better how many lines their common part has
            lines, following = _without_doubles(lines, following, part * max(count, above))
        lines += following
        above = count
    return "\n".join(lines).strip()


def _without_doubles(upper: list[str], lower: list[str], expected: float) -> tuple[list[str], list[str]]:
    """Both, where the lines they share are left in `upper` only, and cut lines in neither."""
    tail = [at for at, line in enumerate(upper) if line.strip()][-_LOOKED_AT:]
    head = [at for at, line in enumerate(lower) if line.strip()][:_LOOKED_AT]
    best, worth = None, -math.inf
    for first in range(len(tail)):
        for begin in range(min(_STRAY, len(head))):
            run = _run(upper, lower, tail[first:], head[begin:])
            for length in range(run, 0, -1):
                stray = len(tail) - first - length
                odd = length - expected
                value = length - max(_SURPLUS * odd, -_SHORTAGE * odd) - (stray + begin) * _STRAYED
                if stray < _STRAY and value > worth:
                    best, worth = (tail[first + length - 1], head[begin + length - 1]), value
    if best is None:
        return upper, lower
    return upper[: best[0] + 1], lower[best[1] + 1 :]


def _run(upper: list[str], lower: list[str], tail: list[int], head: list[int]) -> int:
    """How many lines from here on are the same in both."""
    length = 0
    for one, other in zip(tail, head, strict=False):
        if not _same(upper[one], lower[other]):
            break
        length += 1
    return length


def _same(one: str, other: str) -> bool:
    first, second = (" ".join(line.split()).casefold() for line in (one, other))
    return first == second or SequenceMatcher(None, first, second, autojunk=False).ratio() >= _ALIKE
