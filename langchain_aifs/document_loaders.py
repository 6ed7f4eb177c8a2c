"""Images as LangChain Documents: `AIFSImageLoader` for files, `AIFSImageBlobParser` for blobs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langchain_core.document_loaders import BaseBlobParser, BaseLoader

from aifs_vision import RunReport, SettingsError, Task, Vision, is_source
from langchain_aifs._arrays import CHANNELS, in_rgb
from langchain_aifs._documents import document_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from langchain_core.document_loaders import Blob
    from langchain_core.documents import Document

    from aifs_vision import Estimate, Frames, OnError, Reading, Run, Source
    from langchain_aifs._arrays import Channels

__all__ = ["AIFSImageBlobParser", "AIFSImageLoader"]


class AIFSImageLoader(BaseLoader):
    """Images below a folder, or a list of them, as Documents: one for each page or frame.

        AIFSImageLoader("scans/", task="ocr").load()
        AIFSImageLoader(["a.jpg", "b.tif"], task="caption", on_error="skip").lazy_load()
        AIFSImageLoader("invoices/", task=Task.extract(Invoice), cache="readings.db")

    `lazy_load` and `alazy_load` yield the first Document while the rest is still being read; closing them, or the
    end of the task that iterates, ends the requests. A Document's id and metadata are those of
    `aifs_vision.Reading`: the same on every run over the same image, so that LangChain's `index()` finds nothing to
    do where nothing has changed; a `cache` saves the requests, too. With `cleanup="full"` keep to the default of
    `on_error`: what is skipped looks like a picture that is gone.

    With `Task.extract(...)` the content is the validated data as JSON, and its scalars stand in the metadata, ready
    to be filtered by: those of a model in it as "<field>_<field>", dates and the like as in the JSON, a Decimal as a
    number. Lists and dicts, which many vector stores refuse, are in the content alone. A field whose name is an
    attribute of `Reading`, such as "source" or "status", is found as "data_<name>".

    Args:
        path_or_paths: a folder, a file, an http(s) URL, or an iterable of anything `Vision.read` takes.
        task: "caption", "ocr", "describe" (caption and all text), or a Task.
        vision: the Vision to read with; else one is made of `vision_options`.
        glob: which files below a folder; hidden ones are left out, and PDF files and videos unless it names them.
        frames: which frames of animations and videos, as for `Vision.read_many`.
        on_error: "raise", "skip", or "keep" (a Document with `error` in its metadata, and an empty text).
        progress: show on stderr how far the loading is.
        vision_options: as for `Vision`: model, api_key, base_url, residency, plan, limits, cache, max_cost, ...

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
        frames: Frames = "auto",
        on_error: OnError = "raise",
        progress: bool = False,
        **vision_options: Any,
    ) -> None:
        self.vision = Vision.of(vision, **vision_options)
        self.task, self.glob, self.frames = Task.of(task), glob, frames
        self.on_error, self.progress = on_error, progress
        self.path_or_paths = path_or_paths
        self._asked_once = False
        self._latest = self._run()  # reads nothing before it is iterated: wrong arguments show now

    @property
    def report(self) -> RunReport:
        """The figures of the loading that began last, so far; complete once it has ended."""
        return self._latest.report

    def lazy_load(self) -> Iterator[Document]:
        """The Documents, one after the other, while the rest is still being read.

        While it is iterated it raises what `Vision.read_many` raises, and RuntimeError where the sources are an
        iterator that has been read before.
        """
        with self._begin() as run:
            for reading in run:
                yield document_of(reading, ids=run.ids)

    async def alazy_load(self) -> AsyncIterator[Document]:
        """The asynchronous twin of `lazy_load`."""
        async with self._begin() as run:
            async for reading in run:
                yield document_of(reading, ids=run.ids)

    def estimate(self) -> Estimate:
        """What loading would take: images, tokens, EUR, minutes; nothing is sent.

        Raises:
            ImageNotFoundError: a path that does not exist, or a folder without images.
            RuntimeError: the sources are an iterator, of which nothing would be left to load.
        """
        self._ask_twice()
        return self.vision.estimate(self.path_or_paths, self.task, frames=self.frames, glob=self.glob)

    async def aestimate(self) -> Estimate:
        """The asynchronous twin of `estimate`."""
        self._ask_twice()
        return await self.vision.aestimate(self.path_or_paths, self.task, frames=self.frames, glob=self.glob)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the key and the report: whoever unpickles it takes the key from its own environment."""
        return {name: value for name, value in vars(self).items() if name != "_latest"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._latest = self._run()

    def _begin(self) -> Run:
        """A run that is about to be iterated."""
        if self._asked_once:
            self._ask_twice()
        self._asked_once = True
        self._latest = run = self._run()
        return run

    def _ask_twice(self) -> None:
        """Refuses to ask an iterator again: it would be empty, and the images would look gone."""
        if isinstance(self.path_or_paths, Iterator) and not is_source(self.path_or_paths):
            raise RuntimeError(
                f"the images come from {self.path_or_paths!r}, which can be read only once; "
                "give a list or a folder to load, or to estimate and load, them"
            )

    def _run(self) -> Run:
        return self.vision.read_many(
            self.path_or_paths,
            self.task,
            on_error=self.on_error,
            frames=self.frames,
            glob=self.glob,
            progress=self.progress,
        )


class AIFSImageBlobParser(BaseBlobParser):
    """A blob that is an image as Documents: one for each page or frame.

        GenericLoader(blob_loader, AIFSImageBlobParser(task="ocr"))
        PyMuPDFLoader("report.pdf", images_parser=AIFSImageBlobParser(task="caption", on_error="keep"))

    What a blob is, is told by its first bytes, and not by its MIME type, which LangChain makes of its name. The PDF
    loaders of LangChain hand over pictures as PNG or arrays (`application/x-npy`) and take the first Document; give
    the parser `on_error="keep"` there, as one picture that cannot be read would else end the whole file. An array
    does not say what its channels are: those of PyPDFium2Loader need `channels="BGR"`, and those of PyMuPDFLoader
    `channels="CMYK"` where the PDF was made for print.

    The Documents are those of `AIFSImageLoader`, with the blob's own metadata beside the reading's; where both have
    the same name, the blob's is found as "blob_<name>". A "source" in it names the image.

    Args:
        channels: of arrays in a blob: "RGB" (or RGBA), "BGR" (or BGRA), or "CMYK" (where there are four; else RGB).
        task, vision, frames, on_error, vision_options: as for `AIFSImageLoader`.

    Raises:
        SettingsError: no key, or a setting that cannot be right.
        TypeError: an unknown option, or options beside a `vision`.
    """

    def __init__(
        self,
        *,
        task: str | Task = "describe",
        vision: Vision | None = None,
        frames: Frames = "auto",
        on_error: OnError = "raise",
        channels: Channels = "RGB",
        **vision_options: Any,
    ) -> None:
        if channels not in CHANNELS:
            raise SettingsError.bad_choice("channels", channels, CHANNELS)
        self.vision = Vision.of(vision, **vision_options)
        self.task, self.frames, self.on_error, self.channels = Task.of(task), frames, on_error, channels
        self._report, self._lock = RunReport(), threading.Lock()
        self._run(())  # reads nothing: wrong arguments show now

    @property
    def report(self) -> RunReport:
        """The figures of all blobs that have been parsed, added up."""
        return self._report

    def lazy_parse(self, blob: Blob) -> Iterator[Document]:
        """The Documents of a blob, one after the other.

        While it is iterated it raises what `Vision.read_many` raises.
        """
        run = self._run([self._source_of(blob)])
        try:
            with run:
                for reading in run:
                    yield document_of(_named(reading, blob), blob.metadata)
        finally:
            with self._lock:  # several threads may parse blobs with it
                self._report += run.report

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the key and the report: whoever unpickles it takes the key from its own environment."""
        return {name: value for name, value in vars(self).items() if name not in {"_report", "_lock"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._report, self._lock = RunReport(), threading.Lock()

    def _run(self, sources: Iterable[Source]) -> Run:
        return self.vision.read_many(sources, self.task, on_error=self.on_error, frames=self.frames)

    def _source_of(self, blob: Blob) -> Source:
        """The blob's bytes under its source's name; a blob that is a path is read by the engine itself."""
        if blob.data is None and blob.path is not None:
            return blob.path
        data = b"" if blob.data is None else blob.as_bytes()
        data = in_rgb(data, self.channels)
        return data if blob.source is None else (str(blob.source), data)


def _named(reading: Reading, blob: Blob) -> Reading:
    """The reading under the source that the blob names, which need not be the path it was read from."""
    if blob.source is None or blob.source == reading.source:
        return reading
    return replace(reading, source=str(blob.source))
