"""What one file is found by: passages of its text and pictures of its pages, with their vectors.

There is no ColQwen2 here, which the service looks at pages with: a picture of a page is found by the embedding of the
text on it and of its measured description.
"""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from aifs_vision.emulator._describe import describe
from aifs_vision.emulator._documents import leaves
from aifs_vision.emulator._ocr import Page, on_white

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from aifs_vision.emulator._embeddings import Embedder
    from aifs_vision.emulator._ocr import TextReader

__all__ = ["Chunking", "Entry", "Indexer", "chunks"]

_WIDTH = 384  # of all vectors here: that of the emulator's encoder
_WORD = re.compile(r"\S+")
_LETTERS = 4  # of a word are a token, about


@dataclass(frozen=True, kw_only=True)
class Chunking:
    """How long passages are, and how much of one the next one repeats; tokens."""

    size: int
    overlap: int


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A passage or the picture of a page, as it is found and given back."""

    kind: Literal["text", "base64"]
    page: int
    content: str = field(repr=False)
    vector: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Indexer:
    """Makes entries of files; calls block.

    Attributes:
        embedder: makes the vectors.
        reader: reads the pages that have no text of their own; None leaves them without.
        unwanted: whether there is no reason any more to go on.
    """

    embedder: Embedder
    reader: TextReader | None
    unwanted: Callable[[], bool]

    def entries(self, data: bytes, kind: str, chunking: Chunking) -> list[Entry]:
        """Everything a file is found by.

        Raises:
            UnreadableError: the file is damaged.
        """
        made: list[Entry] = []
        for leaf in leaves(data, kind):
            if self.unwanted():
                break
            text, seen = leaf.text, ""
            if leaf.png is not None:
                picture = on_white(Image.open(io.BytesIO(leaf.png)))
                page = self._read(picture, leaf.seen)
                text = text or page.text
                seen = f"{page.text}\n{describe(picture, page)}".strip()
            passages = list(chunks(text, chunking))
            vectors = self.vectors([*passages, seen] if seen else passages)
            made += [
                Entry(kind="text", page=leaf.number, content=passage, vector=vector)
                for passage, vector in zip(passages, vectors, strict=False)
            ]
            if leaf.png is not None:
                uri = f"data:image/png;base64,{base64.b64encode(leaf.png).decode()}"
                made.append(Entry(kind="base64", page=leaf.number, content=uri, vector=vectors[-1]))
        return made

    def vectors(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """A vector of the length 1 for each text."""
        if not texts:
            return []
        return [np.asarray(vector, np.float32) for vector in self.embedder.embed(texts, _WIDTH)]

    def _read(self, picture: Image.Image, known: str) -> Page:
        if self.reader is not None and not known:
            return self.reader.read(picture)
        return Page(text=known, lines=(), turned=0, width=picture.width, height=picture.height)


def chunks(text: str, chunking: Chunking) -> Iterator[str]:
    """The passages of a text, cut between words; each repeats the end of the one before."""
    words = list(_WORD.finditer(text))
    tokens = [-(-len(word[0]) // _LETTERS) for word in words]
    start = 0
    while start < len(words):
        end, size = start, 0
        while end < len(words) and (size + tokens[end] <= chunking.size or end == start):
            size += tokens[end]
            end += 1
        yield text[words[start].start() : words[end - 1].end()]
        if end == len(words):
            return
        shared, back = 0, end
        while back - 1 > start and shared + tokens[back - 1] <= chunking.overlap:
            back -= 1
            shared += tokens[back]
        start = back
