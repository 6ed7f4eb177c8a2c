"""Image tokens, by the published examples of each family."""

from __future__ import annotations

import pytest

from aifs_vision import image_tokens

QWEN = "Qwen3-VL-30B-A3B-Instruct-FP8"


@pytest.mark.parametrize(
    ("model", "width", "height", "tokens"),
    [
        (QWEN, 1024, 768, 768 + 2),  # one for each 32 x 32 px, and start and end
        (QWEN, 4032, 3024, 11_844 + 2),
        (QWEN, 16, 16, 64 + 2),  # enlarged to 65,536 px by the host
        ("gpt-4o", 1024, 1024, 765),  # OpenAI's guide: 4 tiles
        ("gpt-4o", 2048, 4096, 1105),  # OpenAI's guide: 6 tiles
        ("gpt-4.1", 2049, 513, 1445),  # a published bill: 512.75 px high after shrinking, so two rows of tiles
        ("gpt-4.1", 2050, 513, 765),  # a published bill: 512.5 px high, so one row
        ("gpt-4.1-mini", 1024, 1024, 1659),  # OpenAI's guide: 1,024 patches x 1.62
        ("gpt-4.1-mini", 1800, 2400, 2353),  # OpenAI's guide: 1,452 patches x 1.62
        ("gpt-5-mini", 1280, 720, 1104),  # a published bill
        ("gpt-5-mini", 2048, 768, 1844),  # a published bill, at the cap
        ("gemini-2.5-flash", 384, 384, 258),
        ("gemini-2.5-flash", 960, 540, 6 * 258),  # Google's guide
        ("gemini-3-pro", 4000, 3000, 1120),
        ("claude-sonnet-4", 1024, 768, 37 * 28),
    ],
)
def test_published_examples(model: str, width: int, height: int, tokens: int) -> None:
    """The arithmetic of a family gives the tokens that its maker, or a bill, has published."""
    assert image_tokens(model, width, height) == tokens


@pytest.mark.parametrize(
    ("model", "width", "height", "tokens"),
    [
        ("Qwen/Qwen2.5-VL-72B-Instruct", 1024, 768, 37 * 27 + 2),  # 28 px a side
        ("Qwen2.5-VL-7B-Instruct", 4032, 3024, 15_552 + 2),
        ("gpt-4o-mini", 1024, 1024, 2833 + 4 * 5667),  # OpenAI's guide
        ("gpt-5", 2048, 2048, 70 + 4 * 140),
        ("o3", 1024, 1024, 75 + 4 * 150),
        ("o4-mini", 1024, 1024, 1762),  # 1,024 patches x 1.72
        ("gpt-4.1-nano", 1024, 1024, 2520),  # 1,024 patches x 2.46
        ("gpt-5.2", 2480, 3508, 3533),  # shrunk to 2,048 px: 46 x 64 patches x 1.2, rounded up
        ("gemini-2.5-pro", 385, 300, 4 * 258),
        ("claude-haiku-4.5", 2000, 1500, 45 * 34),  # shrunk to no more than 1,568 patches
        ("mistral-medium-3", 1024, 768, 38 * 28),
        ("pixtral-large", 1540, 1540, 56 * 55),
        ("google/gemma-3-27b-it", 3000, 2000, 256),
        ("gemma-4-31B", 300, 200, 1120),
    ],
)
def test_every_family_is_known_by_name(model: str, width: int, height: int, tokens: int) -> None:
    """Models that the service does not sell are reckoned by the family their name speaks of."""
    assert image_tokens(model, width, height) == tokens


@pytest.mark.parametrize(
    ("model", "detail", "tokens"),
    [
        ("gpt-4.1", "low", 85),
        ("gpt-4o-mini", "low", 2833),
        ("gpt-5", "low", 70),
        ("gpt-4.1", "high", 765),
        ("gpt-4.1", "auto", 765),
        ("gpt-4.1", None, 765),
        ("o4-mini", "low", 1762),  # of patches the guide knows no such price
        ("gemini-2.5-pro", "low", image_tokens("gemini-2.5-pro", 1024, 1024)),
    ],
)
def test_pictures_of_low_detail_are_cheap(model: str, detail: str | None, tokens: int) -> None:
    """`detail="low"` costs the base tokens alone, of OpenAI's models that see in tiles, and changes nothing else."""
    assert image_tokens(model, 1024, 1024, detail=detail) == tokens


def test_impossible_questions_are_refused() -> None:
    """A size below one pixel, or a model without eyes, is a ValueError that says so."""
    with pytest.raises(ValueError, match="at least 1 px"):
        image_tokens(QWEN, 0, 10)
    with pytest.raises(ValueError, match="takes no images"):
        image_tokens("Llama-3.3-70B-Instruct", 10, 10)
