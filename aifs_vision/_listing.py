"""The live list of models, merged with the catalogue."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aifs_vision._api_errors import UnexpectedAnswerError
from aifs_vision._catalogue import model_card, region_residency
from aifs_vision._exchange import exchange
from aifs_vision._limits import Cost, Limits

if TYPE_CHECKING:
    from aifs_vision._catalogue import ModelCard
    from aifs_vision._settings import Settings

__all__ = ["list_models"]


async def list_models(settings: Settings) -> list[ModelCard]:
    """The models of the key, in the service's order.

    Raises:
        APIError: the service did not answer, or refused, or answered something else than a list.
    """
    url = f"{settings.api_url}/models"
    listed, _ = await exchange("GET", url, settings, model="", limits=Limits(), cost=Cost())
    entries = listed.get("data") if isinstance(listed, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and entry.get("id") for entry in entries):
        raise UnexpectedAnswerError(f"No list of models from {url}", detail=json.dumps(listed)[:200])
    return [_merged(entry) for entry in entries]


def _merged(entry: dict[str, Any]) -> ModelCard:
    """The catalogue's card, where the service says no better."""
    card, said = model_card(str(entry["id"])), entry.get("meta_data")
    if not isinstance(said, dict):
        return card
    told = said.get("deployment_region")
    region = told if isinstance(told, str) and told else card.region
    inputs = said.get("input_modalities")
    takes_images = "image" in inputs if isinstance(inputs, list) else card.takes_images
    return replace(
        card,
        name=str(entry["id"]),
        display_name=said.get("display_name") or card.display_name,
        region=region,
        residency=region_residency(region),  # of a region nobody knows, none is kept
        context_window=said.get("max_sequence_length") or card.context_window,
        max_output_tokens=said.get("max_output_length") or card.max_output_tokens,
        dimensions=said.get("hidden_size") if card.kind == "embedding" else None,
        takes_images=takes_images,
        image_rule=(card.image_rule or model_card("").image_rule) if takes_images else None,
    )
