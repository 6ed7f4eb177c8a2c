"""What the catalogue knows of a model, as LangChain's `ModelProfile`, by which agents and middleware choose."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import ModelProfile

if TYPE_CHECKING:
    from aifs_vision import ModelCard

__all__ = ["CataloguedProfile", "profile_of"]


class CataloguedProfile(dict[str, Any]):
    """A profile that was made here and not given, so that it goes when the model is changed."""


def profile_of(card: ModelCard) -> CataloguedProfile | None:
    """The profile of a model; None for one that the catalogue does not have.

    What the service does not say is left out: LangChain then does what works everywhere.
    """
    if not card.known:
        return None
    sees = card.takes_images
    documents, videos = sees and find_spec("pypdfium2") is not None, sees and find_spec("av") is not None
    said: dict[str, Any] = {
        "name": card.display_name,
        "max_input_tokens": card.max_input_tokens or card.context_window,
        "max_output_tokens": card.max_output_tokens,
        "text_inputs": True,
        "image_inputs": sees,
        "image_url_inputs": sees,
        "pdf_inputs": documents,  # as pictures of their pages
        "video_inputs": videos,  # as pictures of their frames
        "audio_inputs": False,
        "image_tool_message": sees,  # moved into a message of the user
        "pdf_tool_message": documents,
        "text_outputs": True,
        "image_outputs": False,
        "audio_outputs": False,
        "video_outputs": False,
        "reasoning_output": card.reasoning,
        "tool_calling": card.tools,
        "tool_choice": card.tools,
        "tool_call_streaming": card.tools,
        "structured_output": card.schema,
        "temperature": card.takes_temperature,
    }
    declared = ModelProfile.__annotations__  # older versions know fewer, and warn of others
    return CataloguedProfile({name: value for name, value in said.items() if value is not None and name in declared})
