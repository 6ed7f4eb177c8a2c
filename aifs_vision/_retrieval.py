"""What the retrievers of both frameworks make of a Visual RAG store and its hits alike."""

from __future__ import annotations

from difflib import get_close_matches
from inspect import signature
from typing import TYPE_CHECKING, Any

from aifs_vision._visual_rag import AIFSVisualRAGStore

if TYPE_CHECKING:
    from aifs_vision._visual_hits import VisualHit

__all__ = ["hit_content", "visual_store"]


def visual_store(store: str | AIFSVisualRAGStore, **options: Any) -> AIFSVisualRAGStore:
    """The given store, or the one of that name made with the options of `AIFSVisualRAGStore`.

    Raises:
        SettingsError, ResidencyError: as `AIFSVisualRAGStore` does.
        TypeError: an option that is none of a store's, or options beside a store.
    """
    known = [name for name in signature(AIFSVisualRAGStore).parameters if name != "name"]
    for name in options.keys() - set(known):
        close = get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
        raise TypeError(f"unknown option {name!r}: {hint}")
    if not isinstance(store, AIFSVisualRAGStore):
        return AIFSVisualRAGStore(store, **options)
    if options:
        raise TypeError(f"give either a store or its name and options ({', '.join(sorted(options))}), not both")
    return store


def hit_content(hit: VisualHit) -> str:
    """The text that stands for a hit: the passage; of a picture, what it is, as texts without one would be equal."""
    if hit.modality == "text":
        return hit.text
    return f"Picture of {hit.filename}" if hit.page is None else f"Picture of page {hit.page} of {hit.filename}"
