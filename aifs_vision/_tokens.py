"""How many tokens a picture costs, and how much of it the model sees: pure arithmetic, one function a family.

The constants and where each was published stand in the catalogue (`ModelCard.image_rule`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from aifs_vision._catalogue import ModelCard, model_card

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["image_tokens", "text_tokens", "visible_size"]

_BYTES_PER_TOKEN = 3.5  # UTF-8 bytes; about 4 in English, 3 in German and in OCR text full of figures


def image_tokens(model: str | ModelCard, width: int, height: int, *, detail: str | None = None) -> int:
    """The input tokens that the model's host counts for a picture of `width` x `height` px, as it is sent.

    Args:
        model: the model's name or card.
        width, height: px.
        detail: as the message has it. Of "low", OpenAI's models that see in tiles count the base tokens alone (OpenAI
            guide "Images and vision", calculating costs); nothing else makes a difference.

    Raises:
        ValueError: a side below 1 px, or a model that takes no images.
    """
    numbers, family = _rule(model, width, height)
    if detail == "low" and family is _FAMILIES["tiles"]:
        return int(numbers["base"])
    return family[0](numbers, width, height)


def visible_size(model: str | ModelCard, width: int, height: int) -> tuple[int, int]:
    """The (width, height) in px that the model works on when it is sent `width` x `height`; never enlarged.

    Raises:
        ValueError: a side below 1 px, or a model that takes no images.
    """
    numbers, family = _rule(model, width, height)
    return family[1](numbers, width, height)


def text_tokens(text: str) -> int:
    """An estimate of the tokens of a text, for pacing and cost before the service has counted: never 0."""
    return max(1, math.ceil(len(text.encode("utf-8", "surrogatepass")) / _BYTES_PER_TOKEN))


def _rule(model: str | ModelCard, width: int, height: int) -> tuple[Mapping[str, float], _Family]:
    card = model_card(model) if isinstance(model, str) else model
    if card.image_rule is None:
        message = f"the model {card.name!r} takes no images"
        raise ValueError(message)
    if width < 1 or height < 1:
        message = f"width={width!r} and height={height!r} must be at least 1 px"
        raise ValueError(message)
    return card.image_rule.numbers, _FAMILIES[card.image_rule.kind]


def _shrink(width: float, height: float, scale: float) -> tuple[int, int]:
    scale = min(1.0, scale)
    return max(1, round(width * scale)), max(1, round(height * scale))


# -- Qwen: a grid whose sides are whole multiples of one factor -------------------------------------------


def _grid_size(numbers: Mapping[str, float], width: int, height: int) -> tuple[int, int]:
    """The size the processor resizes to: `smart_resize` of qwen-vl-utils."""
    factor = numbers["factor"]
    across, down = round(width / factor), round(height / factor)  # a thin one has no row of its own: it is enlarged
    if across * down * factor**2 > numbers["max_pixels"]:
        scale = math.sqrt(width * height / numbers["max_pixels"])
        across = max(1, math.floor(width / scale / factor))
        down = max(1, math.floor(height / scale / factor))
    elif across * down * factor**2 < numbers["min_pixels"]:
        scale = math.sqrt(numbers["min_pixels"] / (width * height))
        across, down = math.ceil(width * scale / factor), math.ceil(height * scale / factor)
    return int(across * factor), int(down * factor)


def _grid_tokens(numbers: Mapping[str, float], width: int, height: int) -> int:
    across, down = _grid_size(numbers, width, height)
    return int(across * down / numbers["factor"] ** 2 + numbers["extra"])


def _grid_visible(numbers: Mapping[str, float], width: int, height: int) -> tuple[int, int]:
    """All of it up to the most pixels; that both sides are then rounded to the grid is no loss worth a new file."""
    return _shrink(width, height, math.sqrt(numbers["max_pixels"] / (width * height)))


# -- OpenAI: tiles of a picture shrunk to fit two bounds ---------------------------------------------------


def _tiles_visible(numbers: Mapping[str, float], width: int, height: int) -> tuple[int, int]:
    width, height = _shrink(width, height, numbers["fit"] / max(width, height))
    return _shrink(width, height, numbers["short_side"] / min(width, height))


def _tiles_tokens(numbers: Mapping[str, float], width: int, height: int) -> int:
    width, height = _tiles_visible(numbers, width, height)
    tiles = math.ceil(width / numbers["tile"]) * math.ceil(height / numbers["tile"])
    return int(numbers["base"] + numbers["per_tile"] * tiles)


# -- OpenAI's small models and Claude: patches up to a budget ----------------------------------------------


def _patches(numbers: Mapping[str, float], width: int, height: int) -> tuple[int, int, int]:
    """Patches, and the size they cover: shrunk to the side limit, then to a whole number of patches."""
    patch, most = numbers["patch"], numbers["max_patches"]
    width, height = _shrink(width, height, numbers["max_side"] / max(width, height))
    count = math.ceil(width / patch) * math.ceil(height / patch)
    if count > most:
        scale = math.sqrt(patch**2 * most / (width * height))
        across, down = width * scale / patch, height * scale / patch
        scale *= min(math.floor(across) / across, math.floor(down) / down) if min(across, down) >= 1 else 1
        width, height = max(1, math.floor(width * scale)), max(1, math.floor(height * scale))
        count = int(min(most, math.ceil(width / patch) * math.ceil(height / patch)))
    return count, width, height


def _patches_tokens(numbers: Mapping[str, float], width: int, height: int) -> int:
    return math.ceil(_patches(numbers, width, height)[0] * numbers["multiplier"])


def _patches_visible(numbers: Mapping[str, float], width: int, height: int) -> tuple[int, int]:
    return _patches(numbers, width, height)[1:]


# -- Gemini 2.5: square crops whose side depends on the picture ----------------------------------------------


def _crops_tokens(numbers: Mapping[str, float], width: int, height: int) -> int:
    if max(width, height) <= numbers["small_side"]:
        return int(numbers["per_crop"])
    unit = max(1, math.floor(min(width, height) / numbers["crop_divisor"]))
    return int(math.ceil(width / unit) * math.ceil(height / unit) * numbers["per_crop"])


# -- Mistral: rows of patches, each row closed by a break ----------------------------------------------------


def _rows_visible(numbers: Mapping[str, float], width: int, height: int) -> tuple[int, int]:
    return _shrink(width, height, numbers["max_side"] / max(width, height))


def _rows_tokens(numbers: Mapping[str, float], width: int, height: int) -> int:
    width, height = _rows_visible(numbers, width, height)
    return (math.ceil(width / numbers["patch"]) + 1) * math.ceil(height / numbers["patch"])


# -- One price for every picture -----------------------------------------------------------------------------


def _fixed_tokens(numbers: Mapping[str, float], _width: int, _height: int) -> int:
    return int(numbers["tokens"])


def _whole(_numbers: Mapping[str, float], width: int, height: int) -> tuple[int, int]:
    return width, height


if TYPE_CHECKING:
    _Family = tuple[
        Callable[[Mapping[str, float], int, int], int],
        Callable[[Mapping[str, float], int, int], tuple[int, int]],
    ]

_FAMILIES: dict[str, _Family] = {
    "grid": (_grid_tokens, _grid_visible),
    "tiles": (_tiles_tokens, _tiles_visible),
    "patches": (_patches_tokens, _patches_visible),
    "crops": (_crops_tokens, _whole),
    "rows": (_rows_tokens, _rows_visible),
    "fixed": (_fixed_tokens, _whole),
}
