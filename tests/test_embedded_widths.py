"""Vectors that are not those that were asked for: too few, too many, of another width."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from aifs_vision import TextEmbedder, UnexpectedAnswerError

if TYPE_CHECKING:
    from aifs_vision.emulator import Emulator

BGE, JINA = "text-embedding-bge-m3", "jina-embeddings-v2-base-de"


def told(*widths: int, indexes: list[Any] | None = None) -> str:
    """An answer with vectors of these widths."""
    places = list(range(len(widths))) if indexes is None else indexes
    data = [{"index": place, "embedding": [0.5] * width} for place, width in zip(places, widths, strict=True)]
    return json.dumps({"data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}})


WRONG = {
    "none": (BGE, told(), "with 0 embeddings for 2 texts"),
    "too few": (BGE, told(1024), "with 1 embeddings for 2 texts"),
    "too many": (BGE, told(1024, 1024, 1024), "with 3 embeddings for 2 texts"),
    "two of one text": (BGE, told(1024, 1024, 1024, indexes=[0, 0, 1]), "with 3 embeddings for 2 texts"),
    "one text twice": (BGE, told(1024, 1024, indexes=[0, 0]), r"without 2 embeddings: KeyError\(1\)"),
    "no such text": (BGE, told(1024, 1024, indexes=[1, 2]), r"without 2 embeddings: KeyError\(0\)"),
    "narrower than known": (BGE, told(7, 7), f"vectors of 7 numbers; those of '{BGE}' have 1024"),
    "wider than known": (JINA, told(1024, 1024), f"vectors of 1024 numbers; those of '{JINA}' have 768"),
    "of two widths": (BGE, told(1024, 7), "vectors of 7 and 1024 numbers"),
    "of two widths, of a new model": ("new-embedder", told(3, 2), "vectors of 2 and 3 numbers; 'new-embedder'"),
    "empty": ("new-embedder", told(0, 0), "vectors of 0 numbers"),
}


@pytest.mark.parametrize(("model", "body", "words"), WRONG.values(), ids=WRONG)
def test_other_vectors_than_were_asked_for_are_an_error(server: Emulator, model: str, body: str, words: str) -> None:
    """Another number of vectors than texts, or another width than the model's, is an error that tells the numbers."""
    embedder = TextEmbedder(model, base_url=server.base_url, api_key=server.api_key)
    for way in (embedder.embed, lambda texts: asyncio.run(embedder.aembed(texts))):
        server.fail(200, body=body)
        with pytest.raises(UnexpectedAnswerError, match=words):
            way(["eins", "zwei"])


def test_batches_have_one_width(server: Emulator) -> None:
    """Vectors of several requests have one width, too."""
    embedder = TextEmbedder("new-embedder", base_url=server.base_url, api_key=server.api_key, batch_size=1)
    for width in (2, 3):
        server.fail(200, body=told(width))
    with pytest.raises(UnexpectedAnswerError, match="2 and 3"):
        embedder.embed(["eins", "zwei"])


def test_a_model_that_nobody_knows_may_have_any_width(server: Emulator) -> None:
    """Of a model that the catalogue does not have, vectors of any one width are taken."""
    embedder = TextEmbedder("new-embedder", base_url=server.base_url, api_key=server.api_key)
    server.fail(200, body=told(3, 3))
    assert embedder.embed(["eins", "zwei"]) == [[0.5] * 3] * 2
