"""Images as LangChain Documents: `AIFSImageLoader` for files, `AIFSImageBlobParser` for blobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.document_loaders import BaseBlobParser, BaseLoader
from langchain_core.documents import Document

from aifs_vision import Task, Vision

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

    from langchain_core.document_loaders import Blob

    from aifs_vision import OnError, Reading, Run, Source

__all__ = ["AIFSImageBlobParser", "AIFSImageLoader"]


class AIFSImageLoader(BaseLoader):
    """Images below a folder, or a list of them, as Documents: one for each page or frame.

        AIFSImageLoader("scans/", task="ocr").load()
        AIFSImageLoader(["a.jpg", "b.tif"], task="caption", on_error="skip").lazy_load()

    `lazy_load` and `alazy_load` yield the first Document while the rest is still being read; a Document's id and
    metadata are those of `aifs_vision.Reading`.

    Args:
        path_or_paths: a folder, a file, an http(s) URL, or an iterable of anything `Vision.read` takes.
        task: "caption", "ocr", "describe" (caption and all text), or a Task.
        vision: the Vision to read with; else one is made of `vision_options`.
        glob: which files below a folder; hidden ones are left out.
        on_error: "raise", "skip", or "keep" (a Document with empty text and `error` in its metadata).
        progress: show on stderr how far the loading is.
        vision_options: as for `Vision`: model, api_key, base_url, residency, plan, limits, queue, timeout.

    Raises:
        SettingsError: no key, or a setting that cannot be right.
        TypeError: an unknown option, or options beside a `vision`.
    """

    def __init__(
        self,
        path_or_paths: Source | Iterable[Source],
        *,
        task: str | Task = "describe",
        vision: Vision | None = None,
        glob: str = "**/*",
        on_error: OnError = "raise",
        progress: bool = False,
        **vision_options: Any,
    ) -> None:
        self.vision = Vision.of(vision, **vision_options)
        self.task, self.glob, self.on_error, self.progress = Task.of(task), glob, on_error, progress
        self.path_or_paths = path_or_paths
        self._run()  # reads nothing before it is iterated: wrong arguments show now

    def lazy_load(self) -> Iterator[Document]:
        """The Documents, one after the other, while the rest is still being read."""
        with self._run() as run:
            yield from map(_document, run)

    async def alazy_load(self) -> AsyncIterator[Document]:
        """The asynchronous twin of `lazy_load`."""
        async with self._run() as run:
            async for reading in run:
                yield _document(reading)

    def _run(self) -> Run:
        return self.vision.read_many(
            self.path_or_paths, self.task, on_error=self.on_error, glob=self.glob, progress=self.progress
        )


class AIFSImageBlobParser(BaseBlobParser):
    """A blob that is an image as Documents: one for each page or frame.

        GenericLoader(blob_loader, AIFSImageBlobParser(task="ocr"))
        PyMuPDFLoader("report.pdf", images_parser=AIFSImageBlobParser(task="caption", on_error="keep"))

    The PDF loaders of LangChain hand it PNG, JPEG or `application/x-npy` blobs and take its first Document; give
    it `on_error="keep"` there, as one picture that cannot be read would else end the whole file.

    Args:
        task, vision, on_error, vision_options: as for `AIFSImageLoader`.
    """

    def __init__(
        self,
        *,
        task: str | Task = "describe",
        vision: Vision | None = None,
        on_error: OnError = "raise",
        **vision_options: Any,
    ) -> None:
        self.vision = Vision.of(vision, **vision_options)
        self.task, self.on_error = Task.of(task), on_error
        self.vision.read_many((), self.task, on_error=on_error)  # reads nothing: wrong arguments show now

    def lazy_parse(self, blob: Blob) -> Iterator[Document]:
        """The Documents of a blob; the blob's own metadata is kept beside the reading's."""
        with self.vision.read_many([_source_of(blob)], self.task, on_error=self.on_error) as run:
            for reading in run:
                yield _document(reading, blob.metadata)


def _document(reading: Reading, more: Mapping[str, Any] | None = None) -> Document:
    metadata = {**(more or {}), **reading.metadata()}
    return Document(id=reading.id, page_content=reading.text, metadata=metadata)


def _source_of(blob: Blob) -> Source:
    """The blob's bytes under its source's name; a blob that is a path is read by the engine itself."""
    if blob.data is None:
        return blob.path if blob.path is not None else b""
    data = blob.data.encode() if isinstance(blob.data, str) else blob.data
    return (blob.source, data) if blob.source else data
