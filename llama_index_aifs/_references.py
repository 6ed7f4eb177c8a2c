"""From nodes to the pictures they stand for, and back: what is to be read, each picture once."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from llama_index.core.schema import ImageNode, Node

from aifs_vision import SourcePages
from llama_index_aifs._nodes import RESULTS, page_of, text_node
from llama_index_aifs._remote import RemoteFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fsspec import AbstractFileSystem
    from llama_index.core.schema import BaseNode, MediaResource

    from aifs_vision import Reading, Source

__all__ = ["Batch"]


@dataclass(frozen=True, kw_only=True)
class _Reference:
    """Where the picture of a node is.

    Attributes:
        name: what readings will call its source.
        source: what to read.
        digest: SHA-256 of its bytes, in hex, where that is known.
        page: the page or frame that the node stands for; None for all there are.
    """

    name: str
    source: Source = field(repr=False)
    digest: str | None = None
    page: int | None = None

    @property
    def key(self) -> tuple[str, str | None]:
        """The same for all nodes of one file."""
        return self.name, self.digest


class Batch:
    """Nodes, the pictures among them, and the readings that come in for these.

    Hashes the pictures that are in the nodes themselves, so it is made in a worker thread.
    """

    def __init__(self, nodes: Sequence[BaseNode], fs: AbstractFileSystem | None) -> None:
        self._nodes = [(node, _reference(node, fs)) for node in nodes]
        self._readings: dict[tuple[str, int], list[Reading]] = {}

    def sources(self) -> Iterator[Source]:
        """What is to be read: each file once, however many nodes stand for it, and of it the pages they stand for."""
        files: dict[tuple[str, str | None], list[_Reference]] = {}
        for _, reference in self._nodes:
            if reference is not None:
                files.setdefault(reference.key, []).append(reference)
        for references in files.values():
            pages = [reference.page for reference in references]
            some = tuple(page for page in pages if page is not None)
            source = references[0].source
            yield source if None in pages else SourcePages(source=source, pages=some)

    def add(self, reading: Reading) -> None:
        """A reading that has come in."""
        self._readings.setdefault((reading.source, reading.page), []).append(reading)

    def result(self) -> list[BaseNode]:
        """The nodes, those of pictures replaced by their readings, those that were skipped left out."""
        made: list[BaseNode] = []
        for node, reference in self._nodes:
            if reference is None:
                made.append(node)
            else:
                made += [text_node(reading, node) for reading in self._readings_of(reference)]
        return made

    def _readings_of(self, reference: _Reference) -> list[Reading]:
        if reference.page is None:
            pages = [readings for (name, _), readings in self._readings.items() if name == reference.name]
            return [_matching(readings, reference.digest) for readings in pages]
        found = self._readings.get((reference.name, reference.page))
        if found is not None:
            return [_matching(found, reference.digest)]
        # A file that could not be opened has one failure, which is that of all its pages.
        first = self._readings.get((reference.name, 1), ())
        return [replace(reading, page=reference.page) for reading in first if not reading.ok][:1]


def _matching(readings: Sequence[Reading], digest: str | None) -> Reading:
    """Of several files of one name the one that is meant."""
    return next((reading for reading in readings if reading.image_sha256 == digest), readings[-1])


def _reference(node: BaseNode, fs: AbstractFileSystem | None) -> _Reference | None:
    """Where a node's picture is; None for a node that is text, or that has been read already."""
    metadata = node.metadata
    status, name = metadata.get("status"), metadata.get("source")
    if status in RESULTS and "task" in metadata:
        return None
    data, place = _picture_in(node)
    if status is None or not isinstance(name, str):  # a node that others have made
        if data is not None:
            digest = hashlib.sha256(data).hexdigest()
            return _Reference(name=f"sha256:{digest[:16]}", source=data, digest=digest)
        return None if place is None else _Reference(name=_printable(place), source=_source_at(place, fs))
    known: dict[str, Any] = {"name": name, "digest": metadata.get("image_sha256"), "page": page_of(metadata)}
    return _Reference(source=_source_at(name, fs) if data is None else (name, data), **known)


def _source_at(place: str, fs: AbstractFileSystem | None) -> Source:
    if fs is None or place.startswith(("http://", "https://")):
        return place
    return place, RemoteFile(fs, place)


def _picture_in(node: BaseNode) -> tuple[bytes | None, str | None]:
    """The bytes of a node's picture, or the path or URL of it."""
    if isinstance(node, ImageNode):
        return None if node.image is None else _decoded(node.image), node.image_path or node.image_url
    resource: MediaResource | None = node.image_resource if isinstance(node, Node) else None
    if resource is None:
        return None, None
    place = resource.path or resource.url
    data = None if resource.data is None else _decoded(resource.data.decode())  # LlamaIndex keeps it as base64
    return data, None if place is None else str(place)


def _decoded(text: str) -> bytes:
    """The bytes in base64, with a label or without; of what is none the text itself, so that its error says so."""
    try:
        return base64.b64decode(text.partition("base64,")[2] if text.startswith("data:") else text, validate=True)
    except ValueError:
        return text.encode()


def _printable(path: str) -> str:
    """A path as readings call it: bytes that are no text are written out."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
