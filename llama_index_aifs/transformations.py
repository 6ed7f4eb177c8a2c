"""`ImageToText`: the step of an ingestion pipeline that reads images."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import TransformComponent

from aifs_vision import Task, Vision, survey_images
from llama_index_aifs._instrumentation import Trace
from llama_index_aifs._later import Later
from llama_index_aifs._references import Batch
from llama_index_aifs._remote import checked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fsspec import AbstractFileSystem
    from llama_index.core.schema import BaseNode

    from aifs_vision import Estimate, Frames, OnError, OnRequest, Reading, Run, RunReport

__all__ = ["ImageToText"]

_FORM = "1"  # counts up whenever the same reading would become another node


class ImageToText(TransformComponent):
    """Reads the pictures that nodes stand for, and puts nodes with their text in their place.

        pipeline = IngestionPipeline(
            transformations=[ImageToText(task="ocr"), SentenceSplitter(), AIFSEmbedding()],
            docstore=SimpleDocumentStore(), vector_store=SimpleVectorStore(),
        )
        pipeline.run(documents=AIFSImageReader(task=None).load_data("scans/"))   # pays for each image
        pipeline.run(documents=AIFSImageReader(task=None).load_data("scans/"))   # pays for what was edited

    It takes the Documents of `AIFSImageReader(task=None)`, and whatever else has a picture: `ImageNode`,
    `ImageDocument` and `Node` by bytes, base64, data URI, path or URL. Files are opened wherever such a node says, so
    nodes are to come from readers, and not from strangers. Text passes through unchanged, whatever its metadata say,
    and so do nodes that have been read. Each file is read once, however many nodes stand for it; a node of a picture
    with several pages becomes one for each. The new nodes have the ids and the metadata of `aifs_vision.Reading`, with
    the scalars of what `Task.extract` found beside them, and the Document as their source, so that stores can replace
    them.

    A node that `on_error="keep"` has kept without a text keeps its picture, too, and is read again when it is given
    to this step once more; its metadata have `aifs_pending`, which this package alone writes. Pictures that are in
    nodes are not in the JSON and the stores that nodes go through: there they are lost, and reading them is an error.

    What LlamaIndex's cache takes to be the same depends on model and task, and not on key or address. With "raise"
    it never keeps a run with failures. What "skip" and "keep" give is taken from it by this object alone, and no more
    once a run had a failure: neither other processes nor caches on disk have it (a `cache="readings.sqlite"` of the
    Vision has, for every picture). But whatever they skip or keep, a document store takes for done: use "raise" with
    it and a `cache`, and a second run pays for nothing twice; or delete the Documents of `report.failures` from the
    store. LlamaIndex's cache takes image nodes of others, which have no text and no digest, to be all the same: give
    such a pipeline `disable_cache=True`.

    `DocstoreStrategy.UPSERTS`, which replaces what was edited, is for pipelines with a vector store: without one
    LlamaIndex takes DUPLICATES_ONLY, which takes even a run that has failed for done. Files that are gone, and pages
    that a file has lost, stay in the store with UPSERTS; UPSERTS_AND_DELETE deletes what is not listed any more. List
    with `on_error="raise"` for it: what "skip" leaves out, a file half written perhaps, counts as deleted.

    It reads many images at once by itself. Each process of a pipeline with `num_workers` keeps to the limits for
    itself alone, so give it `limits=Limits(...).share(num_workers)`.

    Args:
        task: "caption", "ocr", "describe" (caption and all text), or a Task.
        vision: the Vision to read with; else one is made of `vision_options`.
        on_error: "raise", "skip" (the node is left out), or "keep" (a node with `error` in its metadata).
        frames: which frames of animations and videos, as for `Vision.read_many`; the same as of the reader.
        fs: the fsspec file system that paths are opened on; None for the local one.
        progress: show on stderr how far the reading is.
        vision_options: as for `Vision`: model, api_key, base_url, residency, plan, limits, cache, queue, ...

    Raises:
        SettingsError: no key, or a setting that cannot be right.
        TypeError: an unknown option, or options beside a `vision`.
    """

    _vision: Later[Vision] = PrivateAttr()
    _model: str = PrivateAttr()
    _task: Task = PrivateAttr()
    _options: dict[str, Any] = PrivateAttr()
    _fs: AbstractFileSystem | None = PrivateAttr()
    _latest: Run = PrivateAttr()
    _answers: str | None = PrivateAttr()

    def __init__(
        self,
        *,
        task: str | Task = "describe",
        vision: Vision | None = None,
        on_error: OnError = "raise",
        frames: Frames = "auto",
        fs: AbstractFileSystem | None = None,
        progress: bool = False,
        **vision_options: Any,
    ) -> None:
        super().__init__()
        chosen = Vision.of(vision, **vision_options)
        self._set(
            vision=Later(chosen),
            model=chosen.model,
            task=Task.of(task),
            fs=checked(fs),
            options={"on_error": on_error, "frames": frames, "progress": progress},
        )
        self._latest = self._run(Batch((), None))  # reads nothing: wrong arguments show now

    def _set(
        self,
        *,
        vision: Later[Vision],
        model: str,
        task: Task,
        fs: AbstractFileSystem | None,
        options: dict[str, Any],
    ) -> None:
        self._vision, self._model = vision, model
        self._task, self._fs, self._options = task, fs, options
        self._answers = None if options["on_error"] == "raise" else uuid.uuid4().hex
        self._latest = survey_images(())

    @classmethod
    def class_name(cls) -> str:
        """The name in serialised form."""
        return "ImageToText"

    @property
    def vision(self) -> Vision:
        """The Vision that reads."""
        return self._vision.get()

    @property
    def task(self) -> Task:
        """What is asked of each image."""
        return self._task

    @property
    def report(self) -> RunReport:
        """The figures of the run that began last, so far; complete once it has ended."""
        return self._latest.report

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:  # noqa: ARG002 - there is nothing to choose from
        """What its nodes depend on: the key that LlamaIndex's cache makes of it is the same in every process."""
        known = {
            "class_name": self.class_name(),
            "form": _FORM,
            "model": self._model,
            "task": self._task.name,
            "fingerprint": self._task.fingerprint,
            "on_error": self._options["on_error"],
            "frames": self._options["frames"],
        }
        return known if self._answers is None else known | {"answers": self._answers}

    def estimate(self, nodes: Sequence[BaseNode]) -> Estimate:
        """What reading the pictures of these nodes would take; nothing is sent."""
        return self.vision.estimate(Batch(nodes, self._fs).sources(), self._task, frames=self._options["frames"])

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[BaseNode]:  # noqa: ARG002 - of other steps
        """The nodes, those that stand for pictures replaced by what is to be read on them."""
        batch = Batch(nodes, self._fs)
        with self._watched(batch) as (run, read), run:
            for reading in run:
                batch.add(read(reading))
        return batch.result(self._skipped(run))

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[BaseNode]:  # noqa: ARG002 - of other steps
        """The asynchronous twin of the call; the event loop is free while images are read."""
        batch = await asyncio.to_thread(Batch, nodes, self._fs)
        with self._watched(batch) as (run, read):
            async with run:
                async for reading in run:
                    batch.add(read(reading))
        return await asyncio.to_thread(batch.result, self._skipped(run))

    def _run(self, batch: Batch, on_request: OnRequest | None = None) -> Run:
        return self.vision.read_many(batch.sources(), self._task, on_request=on_request, **self._options)

    @contextmanager
    def _watched(self, batch: Batch) -> Iterator[tuple[Run, Callable[[Reading], Reading]]]:
        """A run, to be closed inside of the block, so that its requests have ended when it has."""
        trace = Trace(self, self._model, self._task.name)
        run = self._latest = self._run(batch, trace.request)
        with trace.around(run) as read:
            yield run, read
        if self._answers is not None and run.report.failures:
            self._answers = uuid.uuid4().hex

    def _skipped(self, run: Run) -> list[str]:
        """The sources whose nodes may be missing."""
        return [failure.source for failure in run.report.failures] if self._options["on_error"] == "skip" else []

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield from (("model", self._model), ("task", self._task.name), *self._options.items())

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the key: whoever unpickles it takes the key from its own environment."""
        return {
            "vision": self._vision,
            "model": self._model,
            "task": self._task,
            "fs": self._fs,
            "options": self._options,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__init__()  # the Vision is made when it is needed: there may be no key here
        self._set(**state)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> ImageToText:
        return type(self)(task=self._task, vision=self.vision, fs=self._fs, **self._options)
