"""The project's errors in place of those that the SDK made of them, and one for answers that are no data."""

from __future__ import annotations

from contextlib import contextmanager
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any, Literal

import httpx
import openai

from aifs_vision import (
    AnswerError,
    APIConnectionError,
    APITimeoutError,
    Reading,
    UnexpectedAnswerError,
    Usage,
    error_behind,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["StructuredAnswerError", "own_errors"]


_STATUSES: dict[str | None, Literal["truncated", "filtered", "failed"]] = {
    "length": "truncated",
    "content_filter": "filtered",
}


@contextmanager
def own_errors(model: str) -> Iterator[None]:
    """Raises the error that says what is wrong and what to do, also of a stream that breaks in the middle."""
    try:
        yield
    except openai.APIError as error:
        own = error_behind(error)
        if own is not None:
            raise own from own.__cause__
        if type(error) is not openai.APIError:
            raise
        # The service has put an error into its stream.
        raise UnexpectedAnswerError(f"An error in the answer of {model!r}", detail=error.message) from error
    except httpx.TimeoutException as error:
        raise APITimeoutError(f"The stream of {model!r} has stopped", detail=str(error)) from error
    except httpx.RequestError as error:
        raise APIConnectionError(f"The stream of {model!r} broke", detail=str(error)) from error
    except JSONDecodeError as error:
        raise UnexpectedAnswerError(f"The stream of {model!r} is not JSON", detail=str(error)) from error


class StructuredAnswerError(AnswerError, ValueError):
    """The model answered, but not with the data that were asked for; `reading` keeps its text, status and usage.

    A ValueError too, as pydantic's ValidationError is one, which LlamaIndex lets through in its place.
    """

    def __init__(self, model: str, schema: str, text: str, reason: str, *, used: Mapping[str, Any]) -> None:
        usage = Usage(
            input_tokens=used.get("prompt_tokens") or 0,
            output_tokens=used.get("completion_tokens") or 0,
        )
        reading = Reading(
            text=text,
            status=_STATUSES.get(used.get("finish_reason"), "failed"),
            source="messages",
            model=model,
            task=f"extract-{schema}",
            prompt_version="",
            usage=usage,
        )
        super().__init__(reading, reason)
        self._brief = f"The answer of {model!r} is no {schema}"
        self.args = (f"{self._brief}: {reason}",)
