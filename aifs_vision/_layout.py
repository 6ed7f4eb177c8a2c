"""How large a picture is sent, and in how many bands: from task, model, and the height of its print; arithmetic only.

A page is enlarged never, shrunk to what a caption or a text needs, and cut into bands only where a model would
shrink it until its print could not be read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from aifs_vision._guards import MIN_SIDE
from aifs_vision._tokens import image_tokens, visible_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from aifs_vision._catalogue import ModelCard
    from aifs_vision._tasks import Task

__all__ = ["BANDS", "Layout", "layout", "usual_size"]

BANDS = "bands"
"""`Task.detail` that cuts a page into bands wherever that shows more of it."""

_LEGIBLE = 8.0  # px of x-height that print has as sent, where the picture has them; benchmarks/legibility.py
_ENOUGH = 0.85  # of that is still read
_TALL = 3.0  # times its width: a till roll, whose width must be kept even where no print was found
_READABLE_WIDTH = 700  # px that such a roll is sent with
_MOST_BANDS = 16
_BETTER = 1.15  # times the size that bands must bring to be worth more requests
_LESS = 5  # px of the shorter side that are worth a row of crops less
_OVERLAP = 1.08  # of a band's share, since cuts are moved to a gap between two lines


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The size in px of the whole picture, as it is shrunk, and how many bands it is cut into; 1 is not at all."""

    width: int
    height: int
    bands: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.width, self.height


def layout(width: int, height: int, card: ModelCard, task: Task, x_height: float | None = None) -> Layout:
    """The layout of a picture of `width` x `height` px.

    Args:
        width, height: px, upright.
        card: the model; a picture is sent no larger than it sees.
        task: how long the longer side may be, also for small print, and whether bands may be cut.
        x_height: of the print, in px of this picture; None where there is none, or it was not looked for.
    """
    least = min(1.0, MIN_SIDE / min(width, height))  # of a thin strip nothing would be left
    usual = max(least, min(1.0, task.long_side / max(width, height)))
    if x_height:
        needed = min(1.0, _LEGIBLE / x_height)
    else:
        needed = min(1.0, _READABLE_WIDTH / width) if height > _TALL * width else 0.0
    dense = _page_scale(width, height, task.dense_side or task.long_side)
    alone = _shown(card, width, height, max(usual, min(needed, dense)) if task.dense_side else usual)
    if task.detail == BANDS and not x_height:
        needed = 1.0
    if not task.cuts or (alone >= _ENOUGH * needed and task.detail != BANDS):
        return _sized(card, width, height, alone)
    bands, reached = _fewest_bands(card, width, height, max(needed, usual), task.dense_side or task.long_side)
    if reached < alone * _BETTER:
        return _sized(card, width, height, alone)
    return Layout(width=max(1, round(width * reached)), height=max(1, round(height * reached)), bands=bands)


def usual_size(width: int, height: int, task: Task) -> tuple[int, int]:
    """The size in px at which print is looked at, to see how small it is: that of the task, whatever the model."""
    scale = min(1.0, task.long_side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _page_scale(width: int, height: int, side: int) -> float:
    """The scale at which a picture has as many pixels as a page (1 : 1.414, ISO 216) with this longer side."""
    return min(1.0, max(side / max(width, height), math.sqrt(side**2 / math.sqrt(2) / (width * height))))


def _fewest_bands(card: ModelCard, width: int, height: int, scale: float, side: int) -> tuple[int, float]:
    """The number of bands that shows the picture at `scale`, or as near to it as bands can; and the scale reached."""
    best, reached = 1, 0.0
    for bands in range(2, _MOST_BANDS + 1):
        tall = math.ceil(height / bands * _OVERLAP)
        shown = _shown(card, width, tall, min(scale, side / max(width, tall)))
        if shown > reached * 1.02:
            best, reached = bands, shown
        if reached >= scale * 0.98:
            break
    return best, reached


def _shown(card: ModelCard, width: int, height: int, scale: float) -> float:
    """The scale at which the model sees a picture that is sent at `scale`."""
    sent = max(1, round(width * scale)), max(1, round(height * scale))
    seen = visible_size(card, *sent)
    return scale * min(1.0, max(seen[0] / sent[0], seen[1] / sent[1]))


def _sized(card: ModelCard, width: int, height: int, scale: float) -> Layout:
    """The whole picture at `scale`, or some px smaller where it would cost more tokens than as it is.

    Gemini counts whole crops whose side it rounds, so that a smaller picture may have a row of them more.
    """

    def at(scale: float, whole: Callable[[float], int] = int) -> tuple[int, int]:
        return visible_size(card, max(1, whole(width * scale)), max(1, whole(height * scale)))

    size = usual = at(scale, round)
    if scale != 1:
        most = image_tokens(card, width, height)
        smaller = (at(scale - less / min(width, height)) for less in range(1, _LESS + 1))
        size = next((it for it in chain([usual], smaller) if image_tokens(card, *it) <= most), usual)
    return Layout(width=size[0], height=size[1])
