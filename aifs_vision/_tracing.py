"""A span of OpenTelemetry for each question to the model, where opentelemetry-api is installed; else nothing.

Names follow the semantic conventions for generative AI. A span holds names and counts only: no prompt, picture, answer,
path or header, and of an error its class alone, as its message may quote any of them.
"""

from __future__ import annotations

from asyncio import CancelledError
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aifs_vision._api_errors import APIError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from opentelemetry.trace import Span, Tracer

    Facts = dict[str, float | str | Sequence[str]]

__all__ = ["Asked", "asking"]

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
