"""`AIFSImageReader`: images as LlamaIndex Documents."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.readers.base import BasePydanticReader

from aifs_vision import READABLE_SUFFIXES, Task, Vision, survey_images
from llama_index_aifs._given import Given
from llama_index_aifs._instrumentation import Trace
from llama_index_aifs._later import Later
from llama_index_aifs._nodes import document, pending_document
from llama_index_aifs._remote import checked, opened_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from fsspec import AbstractFileSystem
    from llama_index.core.readers.base import BaseReader
    from llama_index.core.schema import Document

    from aifs_vision import (
        Estimate,
        Frames,
        ImageLimits,
        OnError,
        OnRequest,
        Reading,
        ReadingIds,
        Run,
        RunReport,
        Source,
    )

__all__ = ["AIFSImageReader"]

# Loadings at once in an event loop: SimpleDirectoryReader starts one for each file, and each has a thread and pictures.
_SIDE_BY_SIDE = 64


class AIFSImageReader(BasePydanticReader):
    """Images as Documents: one for each page or frame; alone, or inside `SimpleDirectoryReader`.

        AIFSImageReader(task="ocr").load_data("scans/")
        SimpleDirectoryReader("folder", file_extractor=AIFSImageReader().file_extractor()).load_data()

    A Document's id and metadata are those of `aifs_vision.Reading`. Of different pictures that are given under one
    name, as uploads often are, the ids of all but the first are made of their digests, too, so that none replaces
    another; where they come in changing order, or in several loadings, give each a name of its own.

    Of the metadata only `source` and `page` are embedded and shown to the LLM. With `Task.extract(...)` the text is
    the validated data as JSON, and its scalars stand in the metadata, too, under the names of `Reading.fields`: those
    of a model in it as "<field>_<field>", and a field whose name is an attribute of `Reading` as "data_<name>"; lists
    and dicts, which many vector stores refuse, are in the text alone.

    `SimpleDirectoryReader.load_data` asks for one file after the other; its `aload_data`, a folder given to this
    reader, and `task=None` with an `ImageToText` read many at once.

    With `task=None` nothing is read, and neither a key nor a request is needed: the Documents say which pages there
    are, with their digests, and `ImageToText` reads those in an `IngestionPipeline` that turn out to be new. Their
    ids are made of source and page, and they are equal for as long as the files are. Bytes travel inside of them,
    paths do not; file objects and PIL images, which could not be found again, are a TypeError. (What
    `SimpleDirectoryReader` adds of a file's dates changes with them; `file_metadata=lambda path: {}` leaves it out.)

    `source` is what was given: the signature of a presigned URL, too, goes into stores and, with `source`, to the
    LLM, and a URL that is signed anew is another source. Give the bytes under a name of your own where that matters.

    Args:
        task: "caption", "ocr", "describe" (caption and all text), a Task, or None.
        vision: the Vision to read with; else one is made of `vision_options`.
        on_error: "raise", "skip", or "keep" (a Document with empty text and `error` in its metadata).
        frames: which frames of animations and videos, as for `Vision.read_many`.
        glob: which files of a folder; hidden ones are left out, and PDF files and videos unless it names them.
        progress: show on stderr how far the reading is.
        vision_options: as for `Vision`: model, api_key, base_url, residency, plan, limits, cache, queue, ...; with
            `task=None` only `image_limits`.

    Raises:
        SettingsError: no key, or a setting that cannot be right.
        TypeError: an unknown option, or options beside a `vision`.
    """

    _vision: Later[Vision] | None = PrivateAttr()
    _model: str | None = PrivateAttr()
    _task: Task | None = PrivateAttr()
    _options: dict[str, Any] = PrivateAttr()
    _image_limits: ImageLimits | None = PrivateAttr()
    _latest: Run = PrivateAttr()
    _turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = PrivateAttr()

    def __init__(
        self,
        *,
        task: str | Task | None = "describe",
        vision: Vision | None = None,
        on_error: OnError = "raise",
        frames: Frames = "auto",
        glob: str = "**/*",
        progress: bool = False,
        **vision_options: Any,
    ) -> None:
        super().__init__(is_remote=task is not None)
        image_limits = vision_options.pop("image_limits", None) if task is None else None
        if task is None and (vision is not None or vision_options):
            given = ", ".join(sorted(vision_options)) or "vision"
            raise TypeError(f"task=None asks no model, so {given} is of no use; give it to ImageToText(...)")
        chosen = None if task is None else Vision.of(vision, **vision_options)
        self._set(
            vision=None if chosen is None else Later(chosen),
            model=None if chosen is None else chosen.model,
            task=None if task is None else Task.of(task),
            image_limits=image_limits,
            options={"on_error": on_error, "frames": frames, "glob": glob, "progress": progress},
        )
        self._latest = self._run((), None)  # reads nothing: wrong arguments show now

    def _set(
        self,
        *,
        vision: Later[Vision] | None,
        model: str | None,
        task: Task | None,
        image_limits: ImageLimits | None,
        options: dict[str, Any],
    ) -> None:
        self._vision, self._model, self._task = vision, model, task
        self._image_limits, self._options = image_limits, options
        self._turns = WeakKeyDictionary()
        self._latest = survey_images(())

    @classmethod
    def class_name(cls) -> str:
        """The name in serialised form."""
        return "AIFSImageReader"

    @property
    def vision(self) -> Vision | None:
        """The Vision that reads; None with `task=None`."""
        return None if self._vision is None else self._vision.get()

    @property
    def task(self) -> Task | None:
        """What is asked of each image."""
        return self._task

    @property
    def report(self) -> RunReport:
        """The figures of the loading that began last, so far; complete once it has ended."""
        return self._latest.report

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:  # noqa: ARG002 - there is nothing to choose from
        """What its Documents depend on, for logs and serialised pipelines; no key."""
        return {
            "class_name": self.class_name(),
            "model": self._model,
            "task": self._task and self._task.name,
            "fingerprint": self._task and self._task.fingerprint,
            **self._options,
        }

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
        given = Given(file)
        with self._watched(given.sources(self._task), fs) as (run, read), run:
            for reading in run:
                yield self._document(read(reading), extra_info, given, run.ids)

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
        """The asynchronous twin of `load_data`; so many of them run at once, however many are called."""
        loop = asyncio.get_running_loop()
        for other in list(self._turns):
            if other.is_closed():  # which the semaphore that it is the key of would keep alive
                self._turns.pop(other, None)
        turn = self._turns.setdefault(loop, asyncio.Semaphore(_SIDE_BY_SIDE))
        async with turn:
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
        given = Given(file)
        with self._watched(given.sources(self._task), fs) as (run, read):
            async with run:
                async for reading in run:
                    yield self._document(read(reading), extra_info, given, run.ids)

    def estimate(self, file: Source | Iterable[Source], fs: AbstractFileSystem | None = None) -> Estimate:
        """What loading the same would take: images, tokens, EUR, minutes; nothing is sent.

        Raises:
            TypeError: of a reader with `task=None`, which takes nothing.
        """
        vision, *asked = self._asked(file, fs)
        return vision.estimate(*asked, frames=self._options["frames"], glob=self._options["glob"])

    async def aestimate(self, file: Source | Iterable[Source], fs: AbstractFileSystem | None = None) -> Estimate:
        """The asynchronous twin of `estimate`."""
        vision, *asked = self._asked(file, fs)
        return await vision.aestimate(*asked, frames=self._options["frames"], glob=self._options["glob"])

    def _asked(self, file: Source | Iterable[Source], fs: AbstractFileSystem | None) -> tuple[Vision, Any, Task]:
        vision = self.vision
        if vision is None or self._task is None:
            raise TypeError("a reader with task=None sends nothing; ask ImageToText(...).estimate(documents)")
        return vision, self._sources(Given(file).sources(self._task), fs), self._task

    def file_extractor(self) -> dict[str, BaseReader]:
        """This reader for every suffix it reads, as `SimpleDirectoryReader` wants it."""
        return dict.fromkeys(sorted(READABLE_SUFFIXES), self)

    def _run(
        self,
        file: Source | Iterable[Source],
        fs: AbstractFileSystem | None,
        on_request: OnRequest | None = None,
    ) -> Run:
        sources = self._sources(file, fs)
        vision = self.vision
        if vision is None or self._task is None:
            return survey_images(sources, image_limits=self._image_limits, **self._options)
        return vision.read_many(sources, self._task, on_request=on_request, **self._options)

    def _sources(self, file: Source | Iterable[Source], fs: AbstractFileSystem | None) -> Source | Iterable[Source]:
        return file if checked(fs) is None else opened_on(fs, file, self._options["glob"])

    @contextmanager
    def _watched(
        self, file: Source | Iterable[Source], fs: AbstractFileSystem | None
    ) -> Iterator[tuple[Run, Callable[[Reading], Reading]]]:
        """A run, to be closed inside of the block, so that its requests have ended when it has."""
        trace = Trace(self, self._model or "", "" if self._task is None else self._task.name)
        run = self._latest = self._run(file, fs, trace.request)
        with trace.around(run) as read:
            yield run, read

    def _document(self, reading: Reading, extra_info: dict[str, Any] | None, given: Given, ids: ReadingIds) -> Document:
        id_ = ids.of(reading)
        if self._task is not None:
            return document(reading, extra_info, id_)
        picture, twin = given.picture_of(reading)
        return pending_document(reading, extra_info, picture, twin=twin or id_ == reading.twin_id)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield "model", self._model
        yield "task", self._task and self._task.name
        yield from self._options.items()

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the key: whoever unpickles it takes the key from its own environment."""
        return {
            "vision": self._vision,
            "model": self._model,
            "task": self._task,
            "image_limits": self._image_limits,
            "options": self._options,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__init__(is_remote=state["task"] is not None)  # the Vision is made when it is needed
        self._set(**state)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> AIFSImageReader:
        limits: dict[str, Any] = {} if self._image_limits is None else {"image_limits": self._image_limits}
        return type(self)(task=self._task, vision=self.vision, **limits, **self._options)
