"""What the retrievers of both frameworks, and the tools of agents, make of a Visual RAG store and its hits alike."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from difflib import get_close_matches
from inspect import signature
from typing import TYPE_CHECKING, Any

from aifs_vision._given_paths import shown_path
from aifs_vision._visual_rag import AIFSVisualRAGStore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aifs_vision._visual_hits import VisualHit

__all__ = ["FoundPages", "hit_content", "is_page_name", "page_name", "visual_store"]

_KEPT = 64 * 2**20  # characters of pictures
_DIGITS = 6  # hex, of the digest in a name: enough for the pages of one file name in one conversation
_NAME = re.compile(rf"#(?:page=\d+|picture)-[0-9a-f]{{{_DIGITS}}}\Z")


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


def page_name(hit: VisualHit) -> str:
    """What agents call the picture of a page, such as "bill.pdf#page=2-3fa81c".

    It is the same in every search, and another one for another picture: files of several folders may have one name.
    """
    place = "picture" if hit.page is None else f"page={hit.page}"
    digest = hashlib.sha256((hit.image_url or "").encode()).hexdigest()
    return f"{shown_path(hit.filename)}#{place}-{digest[:_DIGITS]}"


def is_page_name(name: str) -> bool:
    """Whether a name has the form of those that searches give to pictures of pages."""
    return _NAME.search(name) is not None


class FoundPages:
    """The pictures of pages that searches have found last, by their names; 64 MB of them.

    It lives where all calls run, on the background loop, and so needs no lock. A copy in another process is empty.
    """

    def __init__(self) -> None:
        self._urls: OrderedDict[str, str] = OrderedDict()
        self._size = 0

    def __reduce__(self) -> tuple[type[FoundPages], tuple[()]]:
        return FoundPages, ()

    def remember(self, hits: Iterable[VisualHit]) -> None:
        """Keeps the pictures of these hits, and drops those that were found longest ago."""
        for hit in hits:
            if hit.image_url is not None:
                name = page_name(hit)
                self._size += len(hit.image_url) - len(self._urls.pop(name, ""))
                self._urls[name] = hit.image_url
        while self._size > _KEPT:
            self._size -= len(self._urls.popitem(last=False)[1])

    def get(self, name: str) -> str | None:
        """The picture of this name as a data URI or address; None where it is not kept."""
        return self._urls.get(name)
