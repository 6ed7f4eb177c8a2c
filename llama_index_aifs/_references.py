"""From nodes to the pictures they stand for, and back: what is to be read, each picture once."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from llama_index.core.schema import MetadataMode

from aifs_vision import ImageAccessError, ImageNotFoundError, SourcePages, name_of, path_named
from llama_index_aifs._held import HeldPictures, picture_in
from llama_index_aifs._nodes import node_of
from llama_index_aifs._pending import OTHERS, Pending
from llama_index_aifs._remote import Lost, source_on

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fsspec import AbstractFileSystem
    from llama_index.core.schema import BaseNode

    from aifs_vision import Reading, Source

__all__ = ["Batch"]

_LONGEST_NAME = 4096  # characters; a longer text is no path
_GONE = (
    "its bytes were in its node, and are not any more: JSON and stores leave them out. Load it again, or give a path."
)
_FOLDER = "is a folder, and no picture. Give its files to AIFSImageReader(task=None)."


@dataclass(frozen=True, kw_only=True)
class _Reference:
    """Where the picture of a node is.

    Attributes:
        name: what readings will call its source.
        source: what to read.
        held: whether the bytes are in the node.
        digest: SHA-256 of its bytes, in hex; of files as they were listed, None where they were not.
        pending: what the node says, or would say, of it.
    """

    name: str
    source: Source = field(repr=False)
    held: bool = False
    digest: str | None = None
    pending: Pending

    @property
    def file(self) -> tuple[str, str | None]:
        """The same for all nodes of one file."""
        return self.name, self.digest if self.held else None


class Batch:
    """Nodes, the pictures among them, and the readings that come in for these.

    Decodes and hashes the pictures that are in the nodes themselves, so it is made in a worker thread.
    """

    def __init__(self, nodes: Sequence[BaseNode], fs: AbstractFileSystem | None) -> None:
        pictures = HeldPictures()
        self._nodes = [(node, _reference(node, fs, pictures)) for node in nodes]
        self._held = {reference.file for _, reference in self._nodes if reference is not None and reference.held}
        self._readings: dict[str, dict[int, list[Reading]]] = {}

    def sources(self) -> Iterator[Source]:
        """What is to be read: each file once, however many nodes stand for it, and of it the pages they stand for."""
        files: dict[tuple[str, str | None], list[_Reference]] = {}
        for _, reference in self._nodes:
            if reference is not None:
                files.setdefault(reference.file, []).append(reference)
        for references in files.values():
            pages = [reference.pending.page for reference in references]
            some = tuple(page for page in pages if page is not None)
            source = references[0].source
            yield source if None in pages else SourcePages(source=source, pages=some)

    def add(self, reading: Reading) -> None:
        """A reading that has come in."""
        self._readings.setdefault(reading.source, {}).setdefault(reading.page, []).append(reading)

    def result(self, skipped: Iterable[str] = ()) -> list[BaseNode]:
        """The nodes, those of pictures replaced by their readings.

        Args:
            skipped: the sources of failures, whose nodes are left out.

        Raises:
            RuntimeError: a picture has neither been read nor failed, which would be a mistake in this package.
        """
        known = set(skipped)
        made: list[BaseNode] = []
        for node, reference in self._nodes:
            if reference is None:
                made.append(node)
                continue
            readings = self._readings_of(reference)
            if not readings and reference.name not in known:
                raise RuntimeError(
                    f"{reference.name}: there is neither a reading nor a failure of it; please report this"
                )
            made += [node_of(reading, node, reference.pending) for reading in readings]
        return made

    def _readings_of(self, reference: _Reference) -> list[Reading]:
        pages, page = self._readings.get(reference.name, {}), reference.pending.page
        if page is None:
            return [reading for readings in pages.values() for reading in self._meant(readings, reference)]
        if page in pages:
            return self._meant(pages[page], reference)
        # A file that could not be opened has one failure, which is that of all its pages.
        return [replace(reading, page=page) for reading in self._meant(pages.get(1, ()), reference) if not reading.ok]

    def _meant(self, readings: Sequence[Reading], reference: _Reference) -> list[Reading]:
        """Of the readings of several files of one name the one that is meant, if it is among them.

        A file may have changed since it was listed, and what is no picture has no digest.
        """
        same = [reading for reading in readings if reading.image_sha256 == reference.digest]
        others = [
            reading
            for reading in readings
            if reading.image_sha256 is None
            or (not reference.held and (reference.name, reading.image_sha256) not in self._held)
        ]
        return (same or others[::-1])[:1]


def _reference(node: BaseNode, fs: AbstractFileSystem | None, pictures: HeldPictures) -> _Reference | None:
    """Where a node's picture is; None for a node that is text, or that has been read already."""
    pending, name = Pending.of(node.metadata), node.metadata.get("source")
    if pending is None or pending.kind == OTHERS or not isinstance(name, str):
        return _reference_of_others(node, pending, fs, pictures)
    held, _ = picture_in(node)
    if held is not None:
        data, digest = pictures.of(held)
        return _Reference(name=name, source=(name, data), held=True, digest=digest, pending=pending)
    if node.get_content(MetadataMode.NONE):  # a part of what was read of it
        return None
    if not pending.is_placed:
        return _lost(name, pending)
    return _Reference(name=name, source=_source_at(name, fs), digest=node.metadata.get("image_sha256"), pending=pending)


def _reference_of_others(
    node: BaseNode, known: Pending | None, fs: AbstractFileSystem | None, pictures: HeldPictures
) -> _Reference | None:
    """The same of a node that others have made."""
    failed = known is not None and known.kind == OTHERS
    pending = known if known is not None and failed else Pending(kind=OTHERS, node_id=node.id_)
    held, place = picture_in(node)
    if held is not None:
        data, digest = pictures.of(held)
        return _Reference(name=f"sha256:{digest[:16]}", source=data, held=True, digest=digest, pending=pending)
    if place is not None:
        return _Reference(name=name_of(place), source=_source_at(place, fs), pending=pending)
    return _lost(node.id_, pending) if failed and not node.get_content(MetadataMode.NONE) else None


def _lost(name: str, pending: Pending) -> _Reference:
    """A picture that was in its node, and that the node has lost."""
    return _Reference(name=name, source=(name, Lost(ImageAccessError(name, _GONE))), pending=pending)


def _source_at(place: str, fs: AbstractFileSystem | None) -> Source:
    """A path or URL as a source of one picture: a folder is none, and would be taken for all there are in it."""
    if fs is not None or place.startswith(("http://", "https://")):
        return source_on(fs, place)
    name = name_of(place)
    if len(place) > _LONGEST_NAME:
        return name, Lost(ImageNotFoundError(name))
    path = path_named(place)
    if os.path.isdir(path):  # noqa: PTH112 - a text need not become a Path
        return name, Lost(ImageNotFoundError(name, _FOLDER))
    return path
