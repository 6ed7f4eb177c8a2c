"""Does a text run in circles? Models that lose their thread repeat lines or phrases until their room is used up."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["is_looping"]

_LINE_PERIODS = 12  # lines that may be a group that comes again
_PHRASE_PERIOD = 500  # characters of a phrase that comes again inside a line
_MARKS = re.compile(r"[\W_\d]*\Z")  # rulers, leaders, empty cells, columns of figures: documents have plenty


@dataclass(frozen=True, kw_only=True)
class _Bounds:
    """How often something has to come again, one after the other, to be a loop.

    Attributes:
        lines, phrases: one line of words, or a phrase inside a line.
        groups: several lines.
        rows: a row of a table.
        marks: a line of figures, dots or dashes.
        characters: what repeats has to have at least, all together.
    """

    lines: int
    phrases: int
    groups: int
    rows: int
    marks: int
    characters: int


# A ledger may well have the same seven rows a dozen times, and be cut off there.
_CUT_OFF = _Bounds(lines=8, phrases=8, groups=20, rows=40, marks=200, characters=160)
# Forms, labels, refrains and lists of zeros come to their end; a model that runs in circles hardly ever does.
_ENDED = _Bounds(lines=40, phrases=40, groups=40, rows=100, marks=400, characters=1_000)


def is_looping(text: str, *, ended: bool) -> bool:
    """Whether the end of a text repeats itself as no page does; one that has come to its end may repeat much more."""
    bounds = _ENDED if ended else _CUT_OFF
    return _lines_repeat([line.strip() for line in text.splitlines() if line.strip()], bounds) or _phrase_repeats(
        text.rstrip(), bounds
    )


def _lines_repeat(lines: list[str], bounds: _Bounds) -> bool:
    # The last line may be cut off, and so may be the last group: what repeats may end anywhere in it.
    if bounds is _CUT_OFF:
        lines = lines[:-1]
    for period in range(1, _LINE_PERIODS + 1):
        group = lines[-period:]
        if len(group) < period or (period > 1 and len(set(group)) == 1):
            continue
        times = 1
        while lines[-period * (times + 1) : -period * times] == group:
            times += 1
        wanted = max(bounds.groups if period > 1 else 0, *(_times(line, bounds) for line in group))
        if times >= wanted and times * sum(map(len, group)) >= bounds.characters:
            return True
    return False


def _times(line: str, bounds: _Bounds) -> int:
    """How often a line has to come again."""
    if _MARKS.match(line):
        return bounds.marks
    return bounds.rows if " | " in line or line.startswith(("|", "<t")) else bounds.lines


def _phrase_repeats(text: str, bounds: _Bounds) -> bool:
    """Whether the end of a line is one phrase over and over: it is compared with itself, moved by that length."""
    for period in range(1, _PHRASE_PERIOD + 1):
        length = max(bounds.characters, bounds.phrases * period)
        if len(text) < length + period:
            return False
        if text[-length:] == text[-length - period : -period]:
            phrase = text[-period:]
            return "\n" not in phrase and not _MARKS.match(phrase)
    return False
