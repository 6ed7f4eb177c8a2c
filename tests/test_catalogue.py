"""What is known of the models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import aifs_vision
from aifs_vision import model_card

DATA = json.loads((Path(aifs_vision.__file__).parent / "catalogue.json").read_text(encoding="utf-8"))


def test_the_data_says_when_and_where_it_is_from() -> None:
    """The catalogue carries its date, its source and its units, and every image rule where it was published."""
    assert DATA["as_of"] >= "2026-04-24"
    assert "price list" in DATA["source"]
    assert "EUR per million tokens" in DATA["unit"]
    assert all(rule["source"] for rule in DATA["image_rules"].values())


@pytest.mark.parametrize("name", sorted(DATA["models"]))
def test_every_model_has_a_card(name: str) -> None:
    """Every model of the price list has a card with region, prices and a window, by its full name in any case."""
    card = model_card(name)
    assert card.known
    assert model_card(name.upper()) == card
    assert card.region in DATA["regions"]
    assert card.residency in {"germany", "eu"}
    assert card.input_eur is not None
    assert card.context_window
    assert (card.dimensions is not None) == (card.kind == "embedding")


def test_short_names_are_found() -> None:
    """The short names of the guides mean the dated versions of the price list."""
    assert model_card("gpt-4.1").name == "gpt-4.1-2025-04-14"
    assert model_card("gpt-4o").name == "gpt-4o-2024-11-20"
    assert model_card("gpt-4.1-mini").name == "gpt-4.1-mini-2025-04-14"


def test_what_the_price_list_says_stands_in_the_card() -> None:
    """Prices, limits and windows are those of the price list."""
    card = model_card("Qwen3-VL-30B-A3B-Instruct-FP8")
    assert (card.input_eur, card.output_eur, card.context_window) == (0.20, 0.65, 128_000)
    assert card.allowances["essential"].requests_per_minute == 300
    assert card.allowances["agentic"].output_tokens_per_minute == 1_000_000
    assert card.cost_eur(1_000_000, 2_000_000) == pytest.approx(0.20 + 2 * 0.65)
    assert model_card("gemini-2.5-flash").allowances["essential"].requests_per_minute is None


def test_unknown_models_work_with_careful_defaults() -> None:
    """A model the catalogue does not have may be asked with images; its region, price and limits are unknown."""
    card = model_card("new-model")
    assert (card.known, card.takes_images, card.region, card.input_eur) == (False, True, None, None)
    assert card.cost_eur(1, 1) is None
    assert not card.allowed_in("eu")
    assert card.allowed_in(None)
