"""Errors that are this project's and LangChain's at once, whichever of the two somebody waits for.

Each class here has the name of one of `aifs_vision` and derives from it and from the class of `langchain_core` that
says the same, where the installed version has that: so `except aifs_vision.RateLimitError` catches it, and the
middleware that retries, falls back or summarises by LangChain's classes does the right thing.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import openai
from langchain_core import exceptions

from aifs_vision import (
    AIFSError,
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ContextLengthError,
    ImageError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExceededError,
    RateLimitError,
    RequestTooLargeError,
    ServiceError,
    SettingsError,
    UnexpectedAnswerError,
    error_behind,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["as_langchain_has_it", "own_errors"]

_COUNTERPARTS: dict[type[AIFSError], str] = {
    APIConnectionError: "ModelConnectionError",
    APITimeoutError: "ModelTimeoutError",
    AuthenticationError: "ModelAuthenticationError",
    BadRequestError: "ModelInvalidRequestError",
    ContextLengthError: "ContextOverflowError",
    ImageError: "ModelInvalidRequestError",
    NotFoundError: "ModelNotFoundError",
    PermissionDeniedError: "ModelPermissionDeniedError",
    QuotaExceededError: "ModelRateLimitError",
    RateLimitError: "ModelRateLimitError",
    RequestTooLargeError: "ModelInvalidRequestError",
    ServiceError: "ModelAPIError",
    SettingsError: "ModelInvalidRequestError",
    UnexpectedAnswerError: "ModelAPIError",
}


def _tree(kind: type[AIFSError]) -> Iterator[type[AIFSError]]:
    """This class and all that the engine derives from it."""
    yield kind
    for derived in kind.__subclasses__():
        if derived.__module__.startswith("aifs_vision."):
            yield from _tree(derived)


def _twins() -> Iterator[tuple[type[AIFSError], type[AIFSError]]]:
    """Each class that has a counterpart in this langchain-core, with the class that is both."""
    for kind in _tree(AIFSError):
        name = next((_COUNTERPARTS[parent] for parent in kind.__mro__ if parent in _COUNTERPARTS), "")
        counterpart = getattr(exceptions, name, None)
        if counterpart is None:  # older than the class
            continue
        more: dict[str, Any] = {"__module__": __name__, "__doc__": kind.__doc__}
        if kind is QuotaExceededError:
            more["is_retryable"] = False  # its counterpart's 429 passes; this one does not
        twin: type[AIFSError] = type(kind.__name__, (kind, counterpart), more)
        yield kind, twin


_TWINS = dict(_twins())
# By their names, so that pickled errors find their class.
globals().update({twin.__name__: twin for twin in _TWINS.values()})


def as_langchain_has_it(error: AIFSError) -> AIFSError:
    """The same error, of the class that is LangChain's as well; the error itself where LangChain has none."""
    twin = _TWINS.get(type(error))
    if twin is None:
        return error
    restore, (_, *state) = error.__reduce__()
    same: AIFSError = restore(twin, *state)
    return same


@contextmanager
def own_errors() -> Iterator[None]:
    """Raises the error that says what is wrong and what to do, and that LangChain knows as well."""
    try:
        yield
    except AIFSError as error:
        if type(error) not in _TWINS:
            raise
        raise as_langchain_has_it(error) from error.__cause__
    except httpx.RequestError as error:  # a stream that breaks is in nobody's hands any more
        late = isinstance(error, httpx.TimeoutException)
        what = "No more of the answer came in time" if late else "The connection broke in the middle of the answer"
        own = (APITimeoutError if late else APIConnectionError)(what, detail=str(error))
        raise as_langchain_has_it(own) from error
    except (httpx.HTTPStatusError, openai.APIError) as error:
        found = error_behind(error)
        if found is None:
            raise
        raise as_langchain_has_it(found) from found.__cause__
