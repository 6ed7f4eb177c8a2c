"""What a reader that reads nothing yet was given, and the bytes among it, to which no path leads."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llama_index.core.schema import BaseNode

from aifs_vision import SourcePages, is_source, name_of
from llama_index_aifs._held import held_picture

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llama_index.core.schema import MediaResource

    from aifs_vision import Reading, Source, Task

__all__ = ["Given"]


@dataclass(kw_only=True, eq=False)
class _Expected:
    """A source whose pages are still to come.

    Attributes:
        name: what readings will call it; of a path, what their names may begin with.
        digest: of bytes.
        picture: these as LlamaIndex keeps them, the same for all pages.
        twin: whether other bytes had the name before.
        begun: whether a page has come.
    """

    name: str
    digest: str | None = None
    picture: MediaResource | None = None
    twin: bool = False
    begun: bool = False

    def has(self, reading: Reading) -> bool:
        """Whether this is what a reading is of; what is no picture has no digest, and one reading."""
        if self.digest is None:
            return reading.source == self.name or reading.source.startswith(self.name.rstrip(os.sep) + os.sep)
        digest = reading.image_sha256
        return reading.source == self.name and (digest == self.digest or (digest is None and not self.begun))


class Given:
    """What a caller gave, and the bytes in it for as long as pages of them come. A node is a TypeError."""

    def __init__(self, file: Source | Iterable[Source]) -> None:
        if isinstance(file, BaseNode):  # it could be iterated, as pairs of names and values
            raise TypeError(f"{type(file).__name__} is a node, and no source: give it to ImageToText(...)")
        self._file = file
        self._lock = threading.Lock()
        self._expected: deque[_Expected] = deque()
        self._first: dict[str, str] = {}  # of each name the digest of the bytes that had it first

    def sources(self, task: Task | None) -> Source | Iterable[Source]:
        """The same; where nothing is read yet, with the bytes kept."""
        if task is not None:
            return self._file
        if not is_source(self._file):
            return map(self._kept, self._file)  # type: ignore[arg-type]
        if isinstance(self._file, (str, os.PathLike)):
            return self._kept(self._file)  # type: ignore[no-any-return]  # a lone path has rules of its own
        return map(self._kept, (self._file,))  # hashed where the others are, and not on an event loop

    def picture_of(self, reading: Reading) -> tuple[MediaResource | None, bool]:
        """The bytes that a reading is of, where they were given as such, and whether others had their name before.

        Readings come in the order of the sources, though some have none: this lets go of the bytes before them.
        """
        with self._lock:
            possible = [expected for expected in self._expected if expected.has(reading)]
            if not possible:
                return None, False
            while self._expected[0] is not possible[0]:
                self._expected.popleft()
        # A folder may have a file of the name that bytes were given.
        expected = next((each for each in possible if each.picture is not None), possible[0])
        expected.begun = True
        if expected.picture is not None:
            expected.picture.mimetype = reading.mime_type
        return expected.picture, expected.twin

    def _kept(self, source: Any) -> Any:
        inner = source
        while isinstance(inner, SourcePages):
            inner = inner.source
        name, data = inner if isinstance(inner, tuple) else (None, inner)
        if isinstance(data, (bytes, bytearray, memoryview)):
            self._expect(self._of_bytes(name, bytes(data)))
        elif name is None and isinstance(data, (str, os.PathLike)) and os.fspath(data)[:5].lower() != "data:":
            self._expect(_Expected(name=name_of(data)))
        else:
            what = "a data URI" if isinstance(data, str) and name is None else type(inner).__name__
            raise TypeError(f"task=None cannot refer to {what} later on; give a path, a URL or bytes")
        return source

    def _of_bytes(self, name: str | None, data: bytes) -> _Expected:
        digest, picture = hashlib.sha256(data).hexdigest(), held_picture(data)
        if name is None:
            return _Expected(name=name_of(data), digest=digest, picture=picture)
        twin = self._first.setdefault(name, digest) != digest
        return _Expected(name=name_of((name, data)), digest=digest, picture=picture, twin=twin)

    def _expect(self, expected: _Expected) -> None:
        with self._lock:  # the sources are asked for in another thread
            self._expected.append(expected)
