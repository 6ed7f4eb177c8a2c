"""The texts of a page's bands -> the text of the page: no line lost, none twice."""

from __future__ import annotations

import math
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["joined"]

_LOOKED_AT = 8  # lines at the end of one band and at the start of the next, besides twice those that are expected
_ALIKE = 0.75  # of two lines that are the same line, read twice
_NEARLY = 0.6  # of a line that is the same: rows of a table are nearly the same, too
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
    count = _LOOKED_AT + round(2 * expected)
    tail = [at for at, line in enumerate(upper) if line.strip()][-count:]
    head = [at for at, line in enumerate(lower) if line.strip()][:count]
    best, worth = None, -math.inf
    for first in range(len(tail)):
        for begin in range(min(_STRAY, len(head))):
            alike = 0.0
            pairs = zip(tail[first:], head[begin:], strict=False)
            for length, (one, other) in enumerate(pairs, start=1):
                likeness = _likeness(upper[one], lower[other])
                if not likeness:
                    break
                alike += likeness
                stray, odd = len(tail) - first - length, length - expected
                value = alike - max(_SURPLUS * odd, -_SHORTAGE * odd) - (stray + begin) * _STRAYED
                if stray < _STRAY and value > worth:
                    best, worth = (one, other), value
    if best is None:
        return upper, lower
    return upper[: best[0] + 1], lower[best[1] + 1 :]


def _likeness(one: str, other: str) -> float:
    """1 for the same line, less for a line that may be the same, read in another way; 0 for another line."""
    first, second = (" ".join(line.split()).casefold() for line in (one, other))
    if first == second:
        return 1.0
    matcher = SequenceMatcher(None, first, second, autojunk=False)
    # The quick ones are never below the real one, and settle it for most lines.
    if any(ratio() < _ALIKE for ratio in (matcher.real_quick_ratio, matcher.quick_ratio, matcher.ratio)):
        return 0.0
    return _NEARLY * matcher.ratio()
