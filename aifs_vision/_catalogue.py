"""What each model takes, sees, costs and is limited to: `ModelCard`, read from `catalogue.json`.

The file is data with its date and source. Prices, regions, context windows and limits come from the service's
price list; what the list does not say (which models see, by which rule a picture becomes tokens, how long a prompt
may be where that is less than the window, widths of embeddings) is kept in the same file by hand. A new price list is
merged with

    python -m aifs_vision._catalogue PRICE-LIST.json
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Allowance", "ImageRule", "ModelCard", "catalogue", "model_card"]

_FILE = Path(__file__).with_name("catalogue.json")
_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")
_UNITS = {"K": 1_000, "M": 1_000_000}


@dataclass(frozen=True, kw_only=True)
class ImageRule:
    """How a model family turns pixels into tokens; `aifs_vision.image_tokens()` does the arithmetic.

    Attributes:
        family: the rule's name in the catalogue, for example "qwen3-vl".
        kind: "grid", "tiles", "patches", "crops", "fixed" or "pixels"; says which numbers count.
        numbers: the rule's constants; pixels, tokens or factors, as the kind has it.
        formats: MIME types that the model's host takes.
        max_bytes: of one image, before base64, that it takes at most.
        source, limits_source: where the rule was published, and where formats and bytes were.
    """

    family: str
    kind: str
    numbers: Mapping[str, float] = field(hash=False)
    formats: tuple[str, ...]
    max_bytes: int
    source: str
    limits_source: str


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """What one plan allows for one model, a minute; None is a quota the service shares out as it can."""

    requests_per_minute: int | None
    input_tokens_per_minute: int | None
    output_tokens_per_minute: int | None


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """One model of the service.

    Attributes:
        name: the full name, as in the price list.
        display_name: the name for people.
        kind: "chat", "embedding", "speech" or "image" (makes images).
        region: where it runs, for example "otc-germany"; None when that is not known.
        residency: "germany", "eu" or None: the strictest residency the region keeps.
        context_window: tokens of prompt and answer together; None when not known.
        max_input_tokens: tokens of one prompt at most; None where the window alone bounds it.
        max_output_tokens: tokens of one answer at most; None when not known.
        input_eur, output_eur: EUR for a million tokens; None when not known.
        allowances: what each plan ("essential", ...) allows a minute.
        takes_images: whether pictures may be sent; True for unknown models, so that they work.
        image_rule: how pictures become tokens; the default model's for unknown models.
        dimensions: the width of an embedding; None for other kinds.
        max_tokens_field: the request field that bounds the answer.
        tools, schema, reasoning: whether it calls functions, keeps to a JSON schema in `response_format`, and
            thinks before it answers (which uses up tokens of the answer); None where the service does not say.
        aliases: other names it is found by, besides any upper or lower case.
        known: False when the catalogue does not have the model.
    """

    name: str
    display_name: str
    kind: str
    region: str | None
    residency: str | None
    context_window: int | None
    max_input_tokens: int | None
    max_output_tokens: int | None
    input_eur: float | None
    output_eur: float | None
    allowances: Mapping[str, Allowance] = field(hash=False)
    takes_images: bool
    image_rule: ImageRule | None
    dimensions: int | None
    max_tokens_field: str
    tools: bool | None
    schema: bool | None
    reasoning: bool | None
    aliases: tuple[str, ...]
    known: bool

    @property
    def image_formats(self) -> tuple[str, ...]:
        """MIME types of images that the model's host takes; none where it takes no images."""
        return self.image_rule.formats if self.image_rule else ()

    @property
    def max_image_bytes(self) -> int:
        """Bytes of one image, before base64, that the host takes at most."""
        return self.image_rule.max_bytes if self.image_rule else 0

    @property
    def takes_temperature(self) -> bool:
        """Whether it takes temperatures other than 1, and the like; OpenAI's reasoning models refuse them."""
        return self.max_tokens_field == "max_tokens"

    def allowed_in(self, residency: str | None) -> bool:
        """Whether data sent to this model stays where `residency` wants it; an unknown region never does."""
        return residency is None or self.residency in {"germany", residency}

    def cost_eur(self, input_tokens: int, output_tokens: int) -> float | None:
        """What so many tokens cost, in EUR; None when the price is not known."""
        if self.input_eur is None or self.output_eur is None:
            return None
        return (input_tokens * self.input_eur + output_tokens * self.output_eur) / 1_000_000


def model_card(name: str) -> ModelCard:
    """The card of a model, by its full name or the short one of the guides ("gpt-4.1").

    A model the catalogue does not have gets a card of careful defaults (`known=False`): no region, no price,
    no limits, and the image rule and the field for the answer's room of the family its name speaks of, or else
    the default model's rule and the usual field.
    """
    cards = catalogue()
    return cards.get(name) or cards.get(_full_names().get(name.lower(), "")) or _unknown(name)


def region_residency(region: str | None) -> str | None:
    """The strictest residency a region keeps: "germany", "eu" or None."""
    residency: str | None = _load()["regions"].get(region)
    return residency


@lru_cache(maxsize=1)
def catalogue() -> Mapping[str, ModelCard]:
    """Every model of the catalogue, by its full name."""
    data = _load()
    return MappingProxyType({name: _card(name, entry, _rules()) for name, entry in data["models"].items()})


@lru_cache(maxsize=1)
def _rules() -> Mapping[str, ImageRule]:
    rules: dict[str, dict[str, Any]] = _load()["image_rules"]
    return {
        family: ImageRule(family=family, **rule | {"formats": tuple(rule["formats"])}) for family, rule in rules.items()
    }


@lru_cache(maxsize=1)
def _full_names() -> Mapping[str, str]:
    """Lower-case names, full and undated, to the full one; an undated name means its newest version."""
    names = {_DATED.sub("", name).lower(): name for name in sorted(catalogue())}
    return names | {name.lower(): name for name in catalogue()}


@lru_cache(maxsize=1)
def _load() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf-8"))
    return data


def _card(name: str, entry: dict[str, Any], rules: Mapping[str, ImageRule]) -> ModelCard:
    rule, supports = entry.get("image_rule"), entry.get("supports", {})
    undated = _DATED.sub("", name)
    return ModelCard(
        name=name,
        display_name=entry["display_name"],
        kind=entry["kind"],
        region=entry["region"],
        residency=region_residency(entry["region"]),
        context_window=entry["context_window"],
        max_input_tokens=entry.get("max_input_tokens"),
        max_output_tokens=entry.get("max_output_tokens"),
        input_eur=entry["input_eur"],
        output_eur=entry["output_eur"],
        allowances={plan: Allowance(**amounts) for plan, amounts in entry["allowances"].items()},
        takes_images=rule is not None,
        image_rule=rules[rule] if rule else None,
        dimensions=entry.get("dimensions"),
        max_tokens_field=entry.get("max_tokens_field", "max_tokens"),
        tools=supports.get("tools"),
        schema=supports.get("schema"),
        reasoning=supports.get("reasoning"),
        aliases=(undated,) if undated != name else (),
        known=True,
    )


@lru_cache(maxsize=64)
def _unknown(name: str) -> ModelCard:
    default = catalogue()[_load()["default_model"]]
    rule = _by_name(name, "rules_by_name")
    fields = _by_name(name, "fields_by_name") or {}
    return ModelCard(
        name=name,
        display_name=name,
        kind="chat",
        region=None,
        residency=None,
        context_window=None,
        max_input_tokens=None,
        max_output_tokens=None,
        input_eur=None,
        output_eur=None,
        allowances={},
        takes_images=True,
        image_rule=_rules()[rule] if rule else default.image_rule,
        dimensions=None,
        max_tokens_field=fields.get("max_tokens_field", "max_tokens"),
        tools=None,
        schema=None,
        reasoning=fields.get("reasoning"),
        aliases=(),
        known=False,
    )


def _by_name(name: str, table: str) -> Any:
    """What a table of the catalogue has for the first family that a model's name begins with; None for others."""
    own_name = name.lower().rpartition("/")[2]
    return next((found for start, found in _load()[table] if own_name.startswith(start)), None)


# -- A new price list --------------------------------------------------------------------------------------


def merge(data: dict[str, Any], prices: dict[str, Any]) -> dict[str, Any]:
    """The catalogue with the prices, limits, regions and windows of a price list.

    What the list does not say stays as it is; a model new to the catalogue comes in as a chat model that
    takes no images, until somebody says otherwise; a model gone from the list goes.
    """
    models = {}
    for name, listed in prices["models"].items():
        plans = listed.get("plans") or {}
        models[name] = {
            "kind": "chat",
            **data["models"].get(name, {}),
            "display_name": listed["display_name"],
            "region": listed["region"],
            "context_window": _tokens_of(listed["context_window"]),
            "input_eur": listed["input_eur"],
            "output_eur": listed["output_eur"],
            "allowances": {
                plan.lower(): {
                    "requests_per_minute": limit["rpm"],
                    "input_tokens_per_minute": limit["input_tpm"],
                    "output_tokens_per_minute": limit["output_tpm"],
                }
                for plan, limit in plans.items()
            },
        }
    return {**data, "as_of": prices["as_of"], "source": prices["source"], "models": models}


def _tokens_of(window: str) -> int:
    """A window such as "128K" in tokens; K is taken as 1,000, the careful reading."""
    return int(window[:-1]) * _UNITS[window[-1]] if window[-1] in _UNITS else int(window)


def main(arguments: list[str]) -> None:
    """Merges the price list named by the only argument into `catalogue.json`."""
    (path,) = arguments
    merged = merge(_load(), json.loads(Path(path).read_text(encoding="utf-8")))
    _FILE.write_text(json.dumps(merged, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
