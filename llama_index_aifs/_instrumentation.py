"""What LlamaIndex's instrumentation sees of a run: a span, its beginning and end, and an event for each image."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from inspect import signature
from typing import TYPE_CHECKING, Any

from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.span import active_span_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aifs_vision import Reading, Run

__all__ = ["ImageReadEvent", "ReadingEndEvent", "ReadingStartEvent", "traced"]

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


@contextmanager
def traced(owner: object, run: Run, model: str, task: str) -> Iterator[Callable[[Reading], Reading]]:
    """A block that is a span; it is given a function to pass each reading through.

    The span is entered by hand, and is not the active one inside of the block: generators share the context of
    whoever iterates them, and what they set there would be seen outside.
    """
    span = f"{type(owner).__name__}.read-{uuid.uuid4()}"
    ids: dict[str, Any] = {"id_": span, "bound_args": signature(lambda: None).bind(), "instance": owner}
    dispatcher.span_enter(**ids, parent_id=active_span_id.get())
    dispatcher.event(ReadingStartEvent(span_id=span, model=model, task=task))

    def read(reading: Reading) -> Reading:
        dispatcher.event(_event(reading, span))
        return reading

    try:
        yield read
    except BaseException as error:
        if not isinstance(error, GeneratorExit):  # that is the caller, who has seen enough
            dispatcher.span_drop(**ids, err=error)
            raise
        _ended(run, span, ids)
        raise
    else:
        _ended(run, span, ids)


def _ended(run: Run, span: str, ids: dict[str, Any]) -> None:
    report = run.report.as_dict()
    report["failures"] = [{key: failure[key] for key in ("source", "page", "status")} for failure in report["failures"]]
    dispatcher.event(ReadingEndEvent(span_id=span, report=report))
    dispatcher.span_exit(**ids)


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
