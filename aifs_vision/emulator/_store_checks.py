"""Would the service's Visual RAG take this request?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aifs_vision._catalogue import model_card
from aifs_vision.emulator._checks import Refused
from aifs_vision.emulator._shelf import Chunking

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["check_attaching", "check_page", "check_search", "check_store", "check_text"]

_VISION_MODEL = "tsi-embedding-colqwen2-2b-v1"
_LARGEST_CHUNK = 8000  # tokens that the text model sees
_MOST_HITS, _MOST_LISTED, _LISTED = 100, 100, 20


def check_text(body: Any) -> None:
    r"""Looks whether all texts of a body are such: JSON can have half of a character, as "\ud83d", and UTF-8 cannot.

    Raises:
        Refused: one of them is none.
    """
    try:
        json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise Refused(400, f"body: Input should be valid Unicode: {error.reason}") from None


def check_store(body: Any) -> str:
    """The name of a store to be made.

    Raises:
        Refused: not its name and its two models, and nothing else.
    """
    _check_fields(body, "body", {"name", "chunking_strategy"})
    name = body.get("name")
    if not isinstance(name, str) or not name:
        raise Refused(400, "body.name: Field required")
    models = body.get("chunking_strategy")
    _check_fields(models, "body.chunking_strategy", {"text_embedding_model", "vision_embedding_model"})
    for field in ("text_embedding_model", "vision_embedding_model"):
        model = models.get(field)
        if not isinstance(model, str) or not model:
            raise Refused(400, f"body.chunking_strategy.{field}: Field required")
        card = model_card(model)
        fits = model == _VISION_MODEL if field.startswith("vision") else card.known and card.kind == "embedding"
        if not fits:
            raise Refused(404, f"The {field.replace('_', ' ')} `{model}` does not exist.")
    return name


def check_attaching(body: Any) -> tuple[str, Chunking]:
    """The file to be put into a store, and how its text is cut.

    Raises:
        Refused: no file, or passages that cannot be cut.
    """
    _check_fields(body, "body", {"file_id", "chunking_strategy"})
    file = body.get("file_id")
    if not isinstance(file, str) or not file:
        raise Refused(400, "body.file_id: Field required")
    given = body.get("chunking_strategy", {})
    _check_fields(given, "body.chunking_strategy", {"chunk_size", "chunk_overlap"})
    size = _number(given, "chunk_size", 1024, 1, _LARGEST_CHUNK)
    return file, Chunking(size=size, overlap=_number(given, "chunk_overlap", min(100, size - 1), 0, size - 1))


def check_search(body: Any) -> tuple[str, int, int]:
    """The question, how many passages and how many pictures.

    Raises:
        Refused: no question, or nothing asked for.
    """
    _check_fields(body, "body", {"query", "top_k_texts", "top_k_images"})
    query = body.get("query")
    if not isinstance(query, str) or not query.strip():
        raise Refused(400, "body.query: Field required")
    texts, images = (_number(body, field, 0, 0, _MOST_HITS) for field in ("top_k_texts", "top_k_images"))
    if not texts + images:
        raise Refused(400, "body: one of top_k_texts and top_k_images should be at least 1")
    return query, texts, images


def check_page(asked: Mapping[str, str], more: tuple[str, ...]) -> tuple[int, str | None]:
    """How many of a list, and after which of them.

    Raises:
        Refused: a parameter that there is not, or no such number.
    """
    if strange := sorted(set(asked) - {"limit", "after", *more}):
        raise Refused(400, f"Unrecognized query parameter supplied: {', '.join(strange)}")
    limit = asked.get("limit", str(_LISTED))
    if not limit.isdecimal() or not 1 <= int(limit) <= _MOST_LISTED:
        raise Refused(400, f"query.limit: Input should be a number from 1 to {_MOST_LISTED}")
    return int(limit), asked.get("after")


def _check_fields(given: Any, where: str, known: set[str]) -> None:
    if not isinstance(given, dict):
        raise Refused(400, f"{where}: Input should be a valid dictionary")
    if strange := sorted(set(given) - known):
        raise Refused(400, f"{where}: Extra inputs are not permitted: {', '.join(strange)}")


def _number(given: dict[str, Any], field: str, usual: int, least: int, most: int) -> int:
    value = given.get(field, usual)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise Refused(400, f"body.{field}: Input should be a whole number from {least} to {most}")
    return value
