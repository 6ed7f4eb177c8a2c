"""What a request costs in tokens, counted the way the models' hosts publish it.

Written apart from the client's own arithmetic, so that each is a witness of the other; they share the
catalogue's constants alone.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aifs_vision._catalogue import ImageRule

__all__ = ["cut_to_tokens", "tokens_of_image", "tokens_of_text"]

_PIECES = re.compile(r"\w{1,4}|[^\w\s]|\n", re.UNICODE)  # about what byte-pair encoders make of a text
_MESSAGE_OVERHEAD = 4  # tokens that chat templates wrap around a message


def tokens_of_text(*texts: str) -> int:
    """Tokens of texts that are a message each; there is no model's own tokenizer in the emulator."""
    return sum(len(_PIECES.findall(text)) + _MESSAGE_OVERHEAD for text in texts)


def cut_to_tokens(text: str, most: int) -> tuple[str, int, bool]:
    """The text cut to at most so many tokens, how many it has, and whether any of it is missing."""
    pieces = list(_PIECES.finditer(text))
    if len(pieces) <= most:
        return text, len(pieces), False
    return (text[: pieces[most - 1].end()] if most else ""), most, True


def tokens_of_image(rule: ImageRule, width: int, height: int, detail: str | None = None) -> int:
    """Tokens of a picture of `width` x `height` px under the rule of a family; of a low `detail` no tile counts."""
    if detail == "low" and rule.kind == "tiles":
        return int(rule.numbers["base"])
    return int(_KINDS[rule.kind](rule.numbers, width, height))


def _fixed(number: Mapping[str, float], _width: int, _height: int) -> float:
    return number["tokens"]


def _tiles(number: Mapping[str, float], width: int, height: int) -> float:
    width, height = _fitted(width, height, number["fit"] / max(width, height))
    width, height = _fitted(width, height, number["short_side"] / min(width, height))
    return number["base"] + number["per_tile"] * _cover(width, number["tile"]) * _cover(height, number["tile"])


def _crops(number: Mapping[str, float], width: int, height: int) -> float:
    if width <= number["small_side"] and height <= number["small_side"]:
        return number["per_crop"]
    unit = int(min(width, height) / number["crop_divisor"]) or 1
    return _cover(width, unit) * _cover(height, unit) * number["per_crop"]


def _rows(number: Mapping[str, float], width: int, height: int) -> float:
    width, height = _fitted(width, height, number["max_side"] / max(width, height))
    return _cover(height, number["patch"]) * (_cover(width, number["patch"]) + 1)


def _grid(number: Mapping[str, float], width: int, height: int) -> float:
    """Cells of `smart_resize`: sides rounded to the factor, the area kept within its bounds."""
    factor, area = number["factor"], height * width
    cells = max(1, round(height / factor)) * max(1, round(width / factor))
    if cells * factor**2 > number["max_pixels"]:
        beta = math.sqrt(area / number["max_pixels"])
        cells = max(1, int(height / beta / factor)) * max(1, int(width / beta / factor))
    elif cells * factor**2 < number["min_pixels"]:
        beta = math.sqrt(number["min_pixels"] / area)
        cells = _cover(height * beta, factor) * _cover(width * beta, factor)
    return cells + number["extra"]


def _patches(number: Mapping[str, float], width: int, height: int) -> float:
    """Patches that cover the picture, after it was shrunk to the longest side and to the budget."""
    patch, most = number["patch"], number["max_patches"]
    width, height = _fitted(width, height, number["max_side"] / max(width, height))
    needed = _cover(width, patch) * _cover(height, patch)
    if needed > most:
        ratio = math.sqrt(most * patch * patch / (width * height))
        across, down = width * ratio / patch, height * ratio / patch
        if across >= 1 and down >= 1:
            ratio *= min(int(across) / across, int(down) / down)
        needed = min(int(most), _cover(int(width * ratio), patch) * _cover(int(height * ratio), patch))
    return math.ceil(needed * number["multiplier"])


def _fitted(width: int, height: int, scale: float) -> tuple[int, int]:
    scale = min(1.0, scale)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _cover(length: float, unit: float) -> int:
    return math.ceil(length / unit)


_KINDS = {
    "crops": _crops,
    "fixed": _fixed,
    "grid": _grid,
    "patches": _patches,
    "rows": _rows,
    "tiles": _tiles,
}
