"""What others are told of questions and requests, while they are under way.

OpenTelemetry gets a span for each question to the model, where opentelemetry-api is installed. Names follow the
semantic conventions for generative AI. A span holds names and counts only: no prompt, picture, answer, path or header,
and of an error its class alone, as its message may quote any of them. An observer of one's own (`on_request`) is told
of each HTTP request, as `SentRequest`.
"""

from __future__ import annotations

import asyncio
import inspect
import uuid
from asyncio import CancelledError
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from aifs_vision._api_errors import APIError
from aifs_vision._errors import SettingsError
from aifs_vision._readings import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from opentelemetry.trace import Span, Tracer

    Facts = dict[str, float | str | Sequence[str]]

__all__ = ["Asked", "ObserverError", "OnRequest", "SentRequest", "Watched", "asking", "observer"]

_ASKED = {
    "max_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "output_type": "gen_ai.output.type",
}
_PORTS = {"http": 80, "https": 443}
_MOST = 2**63  # exporters send counts as 64 bits; a larger one would take its whole batch with it
_LONGEST = 200  # characters of a name


class Asked:
    """A question under way; it knows nothing and notes nothing where there is no OpenTelemetry."""

    def __init__(self, span: Span | None = None) -> None:
        self._span = span

    def answered(self, answer: Any, attempts: int) -> None:
        """Notes the names and counts of an answer, whatever JSON it is, and how many requests it took."""
        if self._span is not None:
            self._span.set_attributes(_facts_of(answer))
            _note_attempts(self._span, attempts)


@contextmanager
def asking(model: str, base_url: str, **asked: float | str | None) -> Iterator[Asked]:
    """A span "chat {model}" around one question to the model, all its attempts included.

    Args:
        model: who is asked.
        base_url: where; its host and port are noted.
        **asked: how: `max_tokens`, `temperature` and `output_type` ("text" or "json"), as far as they are given.
    """
    tracer = _tracer()
    if tracer is None:
        yield Asked()
        return
    from opentelemetry.trace import SpanKind, StatusCode

    with tracer.start_as_current_span(
        f"chat {model}",
        kind=SpanKind.CLIENT,
        attributes=_question(model, base_url, asked),
        record_exception=False,  # message and traceback may quote what was asked or said
        set_status_on_exception=False,
    ) as span:
        try:
            yield Asked(span)
        except (CancelledError, GeneratorExit):  # somebody lost interest: no fault of the service
            span.set_attributes({"aifs_vision.cancelled": True})
            raise
        except BaseException as error:
            kind = type(error).__name__
            span.set_attribute("error.type", kind)
            span.set_status(StatusCode.ERROR, kind)
            if isinstance(error, APIError):
                _note_attempts(span, error.attempts)
            raise


@cache
def _tracer() -> Tracer | None:
    """The tracer of this package; it finds the application's provider, also one that is set later."""
    try:
        from opentelemetry.trace import get_tracer
    except ImportError:
        return None
    try:
        number = version("aifs-vision")
    except PackageNotFoundError:  # run from its sources
        number = None
    return get_tracer("aifs_vision", number)


def _question(model: str, base_url: str, asked: Mapping[str, float | str | None]) -> Facts:
    """What is known before the answer; samplers decide by it."""
    address = urlsplit(base_url)
    known: dict[str, float | str | None] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "aifs",
        "gen_ai.request.model": model,
        "server.address": address.hostname,
        "server.port": address.port or _PORTS.get(address.scheme),
        **{attribute: asked.get(name) for name, attribute in _ASKED.items()},
    }
    return {name: fact for name, fact in known.items() if fact is not None}


def _facts_of(answer: Any) -> Facts:
    """The names and counts of a chat completion; what is none of these is left out."""
    whole = _mapping(answer)
    choices, usage = whole.get("choices"), _mapping(whole.get("usage"))
    reasons = [_name(_mapping(choice).get("finish_reason")) for choice in choices] if isinstance(choices, list) else []
    found: dict[str, int | str | list[str] | None] = {
        "gen_ai.response.id": _name(whole.get("id")),
        "gen_ai.response.model": _name(whole.get("model")),
        "gen_ai.response.finish_reasons": [reason for reason in reasons if reason is not None] or None,
        "gen_ai.usage.input_tokens": _count(usage.get("prompt_tokens")),
        "gen_ai.usage.output_tokens": _count(usage.get("completion_tokens")),
    }
    return {name: fact for name, fact in found.items() if fact is not None}


def _note_attempts(span: Span, attempts: int) -> None:
    if attempts > 1:  # the convention wants it only where a request was sent again
        span.set_attribute("http.request.resend_count", attempts - 1)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _name(value: Any) -> str | None:
    """A short text of one line; half a surrogate, which JSON may hold, cannot be exported."""
    return value if isinstance(value, str) and len(value) <= _LONGEST and value.isprintable() else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST else None


# -- For observers -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SentRequest:
    """One HTTP request about a page or frame; told of when it is sent, and once more when it has ended.

    Neither picture, prompt, answer nor key is in it, and of an error its class alone.

    Attributes:
        id: this request's own, the same both times.
        source, page: as in `Reading`.
        model, task: who is asked what.
        attempt: 1 for the first request of a question, and one more each time it is sent again because it failed.
        status: of HTTP; None while it is under way, and where no whole answer came.
        error: the class of what came in place of an answer, such as "ReadTimeout"; "CancelledError" where nobody
            waited for it any more. None where a status came.
        seconds: from its sending to its end; None while it is under way.
        usage: tokens, as its answer says.
    """

    id: str = ""
    source: str
    page: int
    model: str
    task: str
    attempt: int = 1
    status: int | None = None
    error: str | None = None
    seconds: float | None = None
    usage: Usage = field(default_factory=Usage)

    @property
    def ended(self) -> bool:
        """Whether it has ended; else it is just being sent."""
        return self.seconds is not None


OnRequest = Callable[[SentRequest], None]
"""Whoever is told of requests; called on the background loop, so it must neither wait nor ask anything itself."""


class ObserverError(Exception):
    """What an observer has raised, for whoever runs it: no error of the service, and nothing to try again for."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"on_request raised {type(error).__name__}")
        self.error = error


def observer(on_request: OnRequest | None) -> OnRequest | None:
    """The same, checked.

    Raises:
        SettingsError: it cannot be called, or only to be awaited.
    """
    asynchronous = any(map(inspect.iscoroutinefunction, (on_request, getattr(on_request, "__call__", None))))  # noqa: B004 - an object's own
    if on_request is not None and (asynchronous or not callable(on_request)):
        rule = "it is a plain function that takes a SentRequest, or None"
        raise SettingsError.bad_value("on_request", on_request, rule)
    return on_request


class Watched:
    """The requests of one question, one after the other, as an observer is told of them; called on the loop."""

    def __init__(self, on_request: OnRequest, question: SentRequest) -> None:
        self._on_request, self._question = on_request, question
        self._latest: SentRequest | None = None
        self._begun = 0.0

    def sent(self, attempt: int) -> None:
        """Tells that it is being sent, and for the how-manieth time; not sent where the observer does not let it."""
        self._begun, self._latest = asyncio.get_running_loop().time(), None
        request = replace(self._question, id=uuid.uuid4().hex, attempt=attempt)
        self._tell(request)
        self._latest = request

    def ended(self, outcome: httpx.Response | httpx.RequestError | None) -> None:
        """Tells what it has met."""
        if self._latest is None:
            return
        seconds = asyncio.get_running_loop().time() - self._begun
        met: dict[str, Any] = {"error": CancelledError.__name__ if outcome is None else type(outcome).__name__}
        if isinstance(outcome, httpx.Response):
            met = {"status": outcome.status_code, "usage": Usage.of(outcome.extensions.get("json"))}
        self._tell(replace(self._latest, seconds=seconds, **met))

    def _tell(self, request: SentRequest) -> None:
        try:
            told: object = self._on_request(request)
        except (StopIteration, StopAsyncIteration) as error:  # which would say to the run's caller that this is all
            raise ObserverError(RuntimeError(f"on_request raised {type(error).__name__}")) from error
        except BaseException as error:
            raise ObserverError(error) from error
        if inspect.iscoroutine(told):
            told.close()
            raise ObserverError(TypeError("on_request gives a coroutine, which nobody awaits: give a plain function"))
