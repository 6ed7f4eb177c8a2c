"""What is known of the models."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
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


def test_cards_say_what_a_model_takes_and_can_do() -> None:
    """Formats, bytes and abilities stand in the card; what the service does not say is None."""
    claude, tiles, qwen = map(model_card, ("claude-sonnet-4.5", "gpt-4.1", "Qwen3-VL-30B-A3B-Instruct-FP8"))
    assert claude.max_image_bytes == 5 * 1024 * 1024 * 3 // 4
    assert "image/webp" in tiles.image_formats
    assert (tiles.tools, tiles.schema, tiles.reasoning) == (True, True, False)
    assert (qwen.tools, qwen.schema, qwen.reasoning) == (None, None, False)
    assert model_card("gpt-5").reasoning
    assert tiles.aliases == ("gpt-4.1",)
    blind = model_card("Llama-3.3-70B-Instruct")
    assert (blind.image_formats, blind.max_image_bytes) == ((), 0)


@pytest.mark.parametrize("name", sorted(name for name, entry in DATA["models"].items() if entry["kind"] == "chat"))
def test_every_chat_model_says_what_it_can_do(name: str) -> None:
    """Each chat model of the price list has abilities, true, false or unknown; vision models have formats and bytes."""
    card = model_card(name)
    assert {card.tools, card.schema, card.reasoning} <= {True, False, None}
    assert set(DATA["models"][name]["supports"]) == {"tools", "schema", "reasoning"}
    if card.takes_images:
        assert {"image/jpeg", "image/png"} <= set(card.image_formats)
        assert card.max_image_bytes >= 1_000_000


def test_unknown_models_are_taken_for_their_family() -> None:
    """A model that is not listed gets the image rule its name speaks of; any other that of the default model."""
    families = {name: model_card(name).image_rule for name in ("Qwen/Qwen2.5-VL-3B", "gemma-3-4b", "gpt-4.5", "nobody")}
    assert [rule.family for rule in families.values() if rule] == ["qwen2.5-vl", "gemma-3", "gpt-4o", "qwen3-vl"]


@pytest.mark.parametrize("name", ["gpt-5.4", "GPT-5-2025-08-07", "azure/gpt-5.3-codex", "o3-pro", "o1-pro", "o4-large"])
def test_newer_models_of_a_family_are_asked_as_it_is(name: str) -> None:
    """What OpenAI's reasoning models take, and that they think, holds for those that are not listed yet, too."""
    card = model_card(name)
    assert not card.known
    assert (card.max_tokens_field, card.takes_temperature, card.reasoning) == ("max_completion_tokens", False, True)


@pytest.mark.parametrize("name", ["gpt-4.5", "gpt-5-chat-latest", "nobody", "olmo-3", "gpt-oss-20b", "", "qwen3-o1"])
def test_other_models_are_asked_as_most(name: str) -> None:
    """Names that only look a little like those of such a family are not taken for it."""
    card = model_card(name)
    assert (card.max_tokens_field, card.takes_temperature, card.reasoning) == ("max_tokens", True, None)


def test_a_prompt_may_be_bounded_by_itself() -> None:
    """A prompt of the gpt-5 family is shorter than the window by the whole answer; of others the window bounds it."""
    for name in ("gpt-5", "gpt-5.2", "gpt-5-mini", "gpt-5-nano", "gpt-5-codex"):
        card = model_card(name)
        assert (card.context_window, card.max_output_tokens, card.max_input_tokens) == (400_000, 128_000, 272_000)
    assert model_card("gpt-4.1").max_input_tokens is None
    assert model_card("gpt-5.9").max_input_tokens is None
    assert "272,000" in DATA["input_limits_source"]


@pytest.mark.parametrize("name", sorted(DATA["models"]))
def test_bounds_of_prompts_lie_within_the_window(name: str) -> None:
    """A bound that is kept by hand is less than the window, also when a new price list has brought another one."""
    card = model_card(name)
    assert card.max_input_tokens is None or card.max_input_tokens < (card.context_window or 0)


def test_a_new_price_list_is_merged(tmp_path: Path) -> None:
    """The script takes what a price list says, keeps what was added by hand, and drops models that have gone."""
    listed = {
        "as_of": "2027-01-01",
        "source": "the next price list",
        "models": {
            "gpt-4.1-2025-04-14": entry("azure-sweden-central", 1.5, "1M"),
            "gpt-5": entry("azure-sweden-central", 1.5, "400K"),
            "brand-new": entry("otc-germany", 0.1, "64K"),
        },
    }
    package = tmp_path / "aifs_vision"
    shutil.copytree(
        Path(aifs_vision.__file__).parent, package, ignore=shutil.ignore_patterns("emulator", "__pycache__")
    )
    (tmp_path / "list.json").write_text(json.dumps(listed), encoding="utf-8")
    command = [sys.executable, "-m", "aifs_vision._catalogue", "list.json"]
    subprocess.run(command, cwd=tmp_path, check=True, env={"PYTHONPATH": str(tmp_path)})
    merged = json.loads((package / "catalogue.json").read_text(encoding="utf-8"))
    assert sorted(merged["models"]) == ["brand-new", "gpt-4.1-2025-04-14", "gpt-5"]
    assert merged["models"]["gpt-5"]["max_input_tokens"] == 272_000
    known = merged["models"]["gpt-4.1-2025-04-14"]
    assert (known["input_eur"], known["image_rule"], known["supports"]["tools"]) == (1.5, "gpt-4o", True)
    new = merged["models"]["brand-new"]
    assert (new["kind"], new["context_window"], "image_rule" in new) == ("chat", 64_000, False)
    assert merged["as_of"] == "2027-01-01"


def entry(region: str, price: float, window: str) -> dict[str, object]:
    """One model of a price list."""
    plans = {"Essential": {"rpm": 10, "input_tpm": 20, "output_tpm": 30}}
    return {
        "display_name": "X",
        "region": region,
        "context_window": window,
        "input_eur": price,
        "output_eur": price,
        "plans": plans,
    }
