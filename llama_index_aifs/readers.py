"""`AIFSImageReader`: images as LlamaIndex Documents."""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from llama_index.core.readers.base import BaseReader
from llama_index.core.schema import Document

from aifs_vision import IMAGE_SUFFIXES, ImageNotFoundError, Task, Vision, is_source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from fsspec import AbstractFileSystem

    from aifs_vision import OnError, Reading, Run, Source

__all__ = ["AIFSImageReader"]

_SHOWN = frozenset({"source", "page"})  # of our metadata, what is embedded and shown to the LLM


class AIFSImageReader(BaseReader):
    """Images as Documents: one for each page or frame; alone, or inside `SimpleDirectoryReader`.

        AIFSImageReader(task="ocr").load_data("scans/")
        SimpleDirectoryReader("folder", file_extractor=AIFSImageReader().file_extractor()).load_data()

    A Document's id and metadata are those of `aifs_vision.Reading`; of the metadata only `source` and `page` are
    embedded and shown to the LLM.

    Args:
        task: "caption", "ocr", "describe" (caption and all text), or a Task.
        vision: the Vision to read with; else one is made of `vision_options`.
        on_error: "raise", "skip", or "keep" (a Document with empty text and `error` in its metadata).
        progress: show on stderr how far the reading is.
        vision_options: as for `Vision`: model, api_key, base_url, residency, plan, limits, queue, timeout.

    Raises:
        SettingsError: no key, or a setting that cannot be right.
        TypeError: an unknown option, or options beside a `vision`.
    """

    def __init__(
        self,
        *,
        task: str | Task = "describe",
        vision: Vision | None = None,
        on_error: OnError = "raise",
        progress: bool = False,
        **vision_options: Any,
    ) -> None:
        self.vision = Vision.of(vision, **vision_options)
        self.task, self.on_error, self.progress = Task.of(task), on_error, progress
        self._run((), None)  # reads nothing: wrong arguments show now

    def lazy_load_data(
        self,
        file: Source | Iterable[Source],
        extra_info: dict[str, Any] | None = None,
        fs: AbstractFileSystem | None = None,
    ) -> Iterator[Document]:
        """The Documents, one after the other, while the rest is still being read.

        Args:
            file: a folder, a file, an http(s) URL, or an iterable of anything `Vision.read` takes.
            extra_info: further metadata for every Document.
            fs: an fsspec file system that paths are opened on; None for the local one.
        """
        with self._run(file, fs) as run:
            yield from (_document(reading, extra_info) for reading in run)

    def load_data(
        self,
        file: Source | Iterable[Source],
        extra_info: dict[str, Any] | None = None,
        fs: AbstractFileSystem | None = None,
    ) -> list[Document]:
        """All Documents at once; the arguments are those of `lazy_load_data`."""
        return list(self.lazy_load_data(file, extra_info, fs))

    async def aload_data(
        self,
        file: Source | Iterable[Source],
        extra_info: dict[str, Any] | None = None,
        fs: AbstractFileSystem | None = None,
    ) -> list[Document]:
        """The asynchronous twin of `load_data`."""
        return [document async for document in self.alazy_load_data(file, extra_info, fs)]

    async def alazy_load_data(  # type: ignore[override]
        self,
        file: Source | Iterable[Source],
        extra_info: dict[str, Any] | None = None,
        fs: AbstractFileSystem | None = None,
    ) -> AsyncIterator[Document]:
        """The asynchronous twin of `lazy_load_data`: an asynchronous generator, for `async for`.

        (LlamaIndex's own readers differ: some give a coroutine of a list here, which would not be lazy.)
        """
        async with self._run(file, fs) as run:
            async for reading in run:
                yield _document(reading, extra_info)

    def file_extractor(self) -> dict[str, BaseReader]:
        """This reader for every suffix it reads, as `SimpleDirectoryReader` wants it."""
        return dict.fromkeys(sorted(IMAGE_SUFFIXES), self)

    def _run(self, file: Source | Iterable[Source], fs: AbstractFileSystem | None) -> Run:
        sources = file if fs is None else _opened_on(fs, file)
        return self.vision.read_many(sources, self.task, on_error=self.on_error, progress=self.progress)


def _document(reading: Reading, extra_info: dict[str, Any] | None) -> Document:
    metadata = reading.metadata()
    hidden = [key for key in metadata if key not in _SHOWN]
    return Document(
        id_=reading.id,
        text=reading.text,
        metadata={**(extra_info or {}), **metadata},
        excluded_embed_metadata_keys=hidden,
        excluded_llm_metadata_keys=hidden,
    )


class _RemoteFile:
    """A file of an fsspec file system, opened when it is its turn; its trouble is its own image's error."""

    def __init__(self, fs: AbstractFileSystem, path: str) -> None:
        self._fs, self._path = fs, path

    def read(self) -> bytes:
        with self._fs.open(self._path, "rb") as file:
            data: bytes = file.read()
        return data


def _opened_on(fs: AbstractFileSystem, file: Any) -> Iterator[Any]:
    """Paths as files of `fs` under the name they were given, folders as their images; the rest as it is."""
    for source in (file,) if is_source(file) else file:
        path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
        if path is None:
            yield source
        elif not fs.isdir(path):
            yield path, _RemoteFile(fs, path)
        else:
            below = [each for each in sorted(fs.find(path)) if PurePath(each).suffix.lower() in IMAGE_SUFFIXES]
            if not below:
                raise ImageNotFoundError(path, "no images there.")
            yield from ((each, _RemoteFile(fs, each)) for each in below)
