"""What LlamaIndex's instrumentation sees of a run: spans of it and of each of its requests, and their events."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from inspect import signature
from typing import TYPE_CHECKING, Any

from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.dispatcher import active_instrument_tags
from llama_index_instrumentation.span import active_span_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aifs_vision import Reading, Run, SentRequest

__all__ = [
    "ImageReadEvent",
    "ImageRequestEndEvent",
    "ImageRequestStartEvent",
    "ReadingEndEvent",
    "ReadingStartEvent",
    "Trace",
]

dispatcher = get_dispatcher(__name__)


class ReadingStartEvent(BaseEvent):
    """Images are about to be read.

    Attributes:
        model, task: who is asked what; "" where the images are only listed.
    """

    model: str
    task: str

    @classmethod
    def class_name(cls) -> str:
        """The name in serialised form."""
        return "ReadingStartEvent"


class ImageReadEvent(BaseEvent):
    """One page or frame has been read, or could not be; neither text nor picture is in it.

    Attributes:
        source, page, status, model, task, cached, requests, attempts, waited, cost_eur: as in `aifs_vision.Reading`.
        input_tokens, output_tokens: of `Reading.usage`.
        error: what went wrong, without the service's own words; None for a result.
    """

    source: str
    page: int
    status: str
    model: str
    task: str
    cached: bool
    requests: int
    attempts: int
    input_tokens: int
    output_tokens: int
    cost_eur: float | None
    waited: float
    error: str | None

    @classmethod
    def class_name(cls) -> str:
        """The name in serialised form."""
        return "ImageReadEvent"


class ReadingEndEvent(BaseEvent):
    """A run has ended.

    Attributes:
        report: `RunReport.as_dict()`; of the failures without the reasons, which may have the service's own words.
    """

    report: dict[str, Any]

    @classmethod
    def class_name(cls) -> str:
        """The name in serialised form."""
        return "ReadingEndEvent"


class ImageRequestStartEvent(BaseEvent):
    """An HTTP request about an image is being sent; its span is inside of that of the run.

    Attributes:
        source, page, model, task, attempt: as in `aifs_vision.SentRequest`.
    """

    source: str
    page: int
    model: str
    task: str
    attempt: int

    @classmethod
    def class_name(cls) -> str:
        """The name in serialised form."""
        return "ImageRequestStartEvent"


class ImageRequestEndEvent(BaseEvent):
    """An HTTP request about an image has been answered, or has failed; the service's own words are not in it.

    Attributes:
        source, page, model, task, attempt, status, error, seconds: as in `aifs_vision.SentRequest`.
        input_tokens, output_tokens: of its `usage`.
    """

    source: str
    page: int
    model: str
    task: str
    attempt: int
    status: int | None
    error: str | None
    seconds: float
    input_tokens: int
    output_tokens: int

    @classmethod
    def class_name(cls) -> str:
        """The name in serialised form."""
        return "ImageRequestEndEvent"


class Trace:
    """The span of a run, and those of its requests inside of it.

    They are entered by hand, and none is the active one inside of the block: generators share the context of whoever
    iterates them, and what they set there would be seen outside. Requests are sent on the background loop, which
    knows nothing of the caller's context: the span's parent and the caller's tags are taken here.
    """

    def __init__(self, owner: object, model: str, task: str) -> None:
        self._owner, self._model, self._task = owner, model, task
        self._span = f"{type(owner).__name__}.read-{uuid.uuid4()}"
        self._parent, self._tags = active_span_id.get(), dict(active_instrument_tags.get())

    @contextmanager
    def around(self, run: Run) -> Iterator[Callable[[Reading], Reading]]:
        """A block that is the run's span; it is given a function to pass each reading through."""
        self._enter(self._span, self._parent)
        self._tell(ReadingStartEvent(span_id=self._span, model=self._model, task=self._task))
        try:
            yield self._read
        except GeneratorExit:  # that is the caller, who has seen enough
            self._ended(run)
            raise
        except BaseException as error:
            self._leave(self._span, error)
            raise
        else:
            self._ended(run)

    def request(self, request: SentRequest) -> None:
        """A request that is sent, and then that has ended; to be the run's `on_request`."""
        span = f"{type(self._owner).__name__}.request-{request.id}"
        known: dict[str, Any] = {
            name: getattr(request, name) for name in ("source", "page", "model", "task", "attempt")
        }
        if not request.ended:
            self._enter(span, self._span)
            self._tell(ImageRequestStartEvent(span_id=span, **known))
            return
        met = {name: getattr(request, name) for name in ("status", "error", "seconds")}
        used: dict[str, Any] = {
            "input_tokens": request.usage.input_tokens,
            "output_tokens": request.usage.output_tokens,
        }
        self._tell(ImageRequestEndEvent(span_id=span, **known, **met, **used))
        if request.status == _OK or request.error == _GIVEN_UP:
            self._leave(span)
        else:
            self._leave(span, ConnectionError(request.error or f"HTTP {request.status}"))

    def _read(self, reading: Reading) -> Reading:
        self._tell(_event(reading, self._span))
        return reading

    def _ended(self, run: Run) -> None:
        report = run.report.as_dict()
        kept = ("source", "page", "status")
        report["failures"] = [{key: failure[key] for key in kept} for failure in report["failures"]]
        self._tell(ReadingEndEvent(span_id=self._span, report=report))
        self._leave(self._span)

    def _tell(self, event: BaseEvent) -> None:
        event.tags.update(self._tags)
        dispatcher.event(event)

    def _enter(self, span: str, parent: str | None) -> None:
        dispatcher.span_enter(**self._known(span), parent_id=parent, tags=self._tags)

    def _leave(self, span: str, error: BaseException | None = None) -> None:
        if error is None:
            dispatcher.span_exit(**self._known(span))
        else:
            dispatcher.span_drop(**self._known(span), err=error)

    def _known(self, span: str) -> dict[str, Any]:
        return {"id_": span, "bound_args": _NOTHING, "instance": self._owner}


_NOTHING = signature(lambda: None).bind()
_OK, _GIVEN_UP = 200, "CancelledError"  # a run that is left has not failed


def _event(reading: Reading, span: str) -> ImageReadEvent:
    return ImageReadEvent(
        span_id=span,
        source=reading.source,
        page=reading.page,
        status=reading.status,
        model=reading.model,
        task=reading.task,
        cached=reading.cached,
        requests=reading.requests,
        attempts=reading.attempts,
        input_tokens=reading.usage.input_tokens,
        output_tokens=reading.usage.output_tokens,
        cost_eur=reading.cost_eur,
        waited=reading.waited,
        error=None if reading.error is None else reading.error.brief,
    )
