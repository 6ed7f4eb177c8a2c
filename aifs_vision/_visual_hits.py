"""What a search in a Visual RAG store gives back: passages of text and pictures of pages."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from aifs_vision._api_errors import UnexpectedAnswerError
from aifs_vision._visual_names import Mark

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["VisualHit", "hits_of"]

_MODALITIES: dict[str, Literal["text", "image"]] = {"text": "text", "base64": "image"}
_SHOWN = 200  # characters of an answer that is not what was promised


@dataclass(frozen=True, kw_only=True)
class VisualHit:
    """A passage of text, or the picture of a page, that a search has found.

    Attributes:
        id: `store:filename:page:modality:digest`, the same whenever the same thing is found again, by whichever
            question and process.
        modality: "text" or "image". Scores of the two are not comparable.
        text: the passage; "" for a picture.
        image_url: the picture as a data URI, which stands in an `image_url` part of a message as it is; None for
            a passage.
        filename: the name of the file, as it was uploaded, without its folder.
        page: counted from 1; None where the service does not say.
        score: the higher, the nearer.
        store: the name of the store.
    """

    id: str
    modality: Literal["text", "image"]
    text: str = field(repr=False)
    image_url: str | None = field(default=None, repr=False)
    filename: str
    page: int | None
    score: float
    store: str

    def metadata(self) -> dict[str, str | int | float]:
        """Scalars for the metadata of documents and nodes, the same in every framework; an unknown page is left out."""
        told: dict[str, str | int | float] = {
            "filename": self.filename,
            "modality": self.modality,
            "score": self.score,
            "store": self.store,
        }
        return told if self.page is None else {**told, "page": self.page}


def hits_of(answer: Any, store: str, k: int, k_images: int) -> list[VisualHit]:
    """The hits of a search, texts before pictures, each kind with the best first; no more than were asked for.

    A hit that comes twice is given once: an equal passage of the same page, or a file that the store has twice for
    the moment in which several processes add it.

    Raises:
        UnexpectedAnswerError: the answer is not what was promised.
    """
    try:
        found = [hit for entry in answer["data"] for hit in _hits(entry, store)]
    except (TypeError, LookupError, ValueError, AttributeError) as error:
        shown = json.dumps(answer)[:_SHOWN]
        raise UnexpectedAnswerError(f"No hits from the search in {store!r} ({error!r})", detail=shown) from error
    once = {hit.id: hit for hit in sorted(found, key=lambda hit: hit.score)}  # of equal hits the best
    ranked = sorted(once.values(), key=_best_first)
    texts, images = ([hit for hit in ranked if hit.modality == kind] for kind in ("text", "image"))
    return [*texts[:k], *images[:k_images]]


def _best_first(hit: VisualHit) -> float:
    return -hit.score


def _hits(entry: dict[str, Any], store: str) -> Iterator[VisualHit]:
    uploaded = str(entry["filename"])
    mark = Mark.of(uploaded)
    filename = mark.name if mark else uploaded
    source = mark.source if mark else uploaded
    page = entry.get("page_number")
    for part in entry["content"]:
        modality, content = _MODALITIES[part["type"]], part["text"]
        if modality == "image" and not content.startswith(("data:image/", "https://", "http://")):
            raise ValueError("a picture that is no data URI")
        digest = hashlib.sha256(f"{source}\0{content}".encode()).hexdigest()[:8]
        yield VisualHit(
            id=f"{store}:{filename}:{page}:{modality}:{digest}",
            modality=modality,
            text=content if modality == "text" else "",
            image_url=content if modality == "image" else None,
            filename=filename,
            page=None if page is None else int(page),
            score=float(entry["score"]),
            store=store,
        )
