"""What settings are for a model, and which of them another one takes that a single call names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aifs_vision import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aifs_vision import ModelCard

__all__ = ["check_tools", "defaults", "following", "taken_by"]

_UNKNOWN_WINDOW = 32_000  # tokens assumed of a model the catalogue does not know
_TEMPERATURE = 0.1  # LlamaIndex's own


def defaults(card: ModelCard) -> dict[str, Any]:
    """What the catalogue says of a model, under the names that LlamaIndex has for it, and the usual temperature."""
    return {
        # LlamaIndex packs its prompts as full as that; less room for them counts.
        "context_window": card.max_input_tokens or card.context_window or _UNKNOWN_WINDOW,
        "is_chat_model": True,
        "is_function_calling_model": card.tools is not False,
        "temperature": _TEMPERATURE if card.takes_temperature else None,
    }


def following(card: ModelCard, before: ModelCard, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What changes where another model takes the place of one: the settings that were as that one has them."""
    old = defaults(before)
    return {name: new for name, new in defaults(card).items() if settings[name] == old[name] != new}


def taken_by(card: ModelCard, own: ModelCard, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that were made for one model, as far as another one takes them.

    Args:
        card: the model that is asked.
        own: the one that the settings are for.
        settings: as they are sent; None is not.
    """
    if card.name == own.name:
        return dict(settings)
    taken = dict(settings)
    if card.reasoning is False:
        taken["reasoning_effort"] = None
    if not card.takes_temperature:
        taken |= {"temperature": None, "logprobs": None, "top_logprobs": None}
    elif not own.takes_temperature and taken["temperature"] is None:  # which was not the user's choice
        taken["temperature"] = _TEMPERATURE
    return taken


def check_tools(name: str, card: ModelCard, own: ModelCard) -> None:
    """Raises SettingsError where a call with tools names a model that calls none."""
    if card.name != own.name and card.tools is False:
        raise SettingsError.bad_value("model", name, "it calls no tools; name one that does, such as 'gpt-4.1'")
