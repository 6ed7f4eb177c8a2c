"""Refusals of the service, and the errors of this project and of LangChain that they become."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from langchain_core import exceptions

from aifs_vision import (
    AIFSError,
    AuthenticationError,
    BadRequestError,
    ContextLengthError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExceededError,
    RateLimitError,
    RequestTooLargeError,
    ServiceError,
)
from aifs_vision.testing import virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aifs_vision.emulator import Emulator

__all__ = ["REFUSALS", "Refusal", "assert_langchain_knows", "assert_refused"]


class Refusal(NamedTuple):
    """What the service says, the error that it is here, its name in LangChain, and whether that asks again."""

    status: int
    body: str | None
    kind: type[AIFSError]
    name: str
    again: bool


def assert_refused(server: Emulator, ways: Iterable[Callable[[], object]], refusal: Refusal) -> None:
    """Each way of asking ends in the error of both trees, which can be pickled."""
    for way in ways:
        server.fail(refusal.status, times=4, body=refusal.body)
        with virtual_time(), pytest.raises(refusal.kind) as raised:
            way()
        server.clear()
        error: Any = raised.value
        assert_langchain_knows(error, refusal.name, again=refusal.again)
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
        assert (type(copy), str(copy), copy.status) == (type(error), str(error), refusal.status)


def assert_langchain_knows(error: BaseException, name: str, *, again: bool) -> None:
    """The error is one of LangChain's as well, and its middleware asks again or not, in versions that have them."""
    counterpart = getattr(exceptions, name, None)
    assert counterpart is not None or not hasattr(exceptions, "ModelError")
    if counterpart is not None:
        assert isinstance(error, counterpart)
    if hasattr(exceptions, "ModelError"):
        from langchain.agents.middleware import ModelRetryMiddleware

        wanted: Any = ModelRetryMiddleware().retry_on
        assert wanted(error) is again


REFUSALS = [
    Refusal(400, None, BadRequestError, "ModelInvalidRequestError", again=False),
    Refusal(401, None, AuthenticationError, "ModelAuthenticationError", again=False),
    Refusal(403, None, PermissionDeniedError, "ModelPermissionDeniedError", again=False),
    Refusal(404, None, NotFoundError, "ModelNotFoundError", again=False),
    Refusal(413, None, RequestTooLargeError, "ModelInvalidRequestError", again=False),
    Refusal(422, None, BadRequestError, "ModelInvalidRequestError", again=False),
    Refusal(429, None, RateLimitError, "ModelRateLimitError", again=True),
    Refusal(
        429, '{"detail": "You exceeded your current quota"}', QuotaExceededError, "ModelRateLimitError", again=False
    ),
    Refusal(503, None, ServiceError, "ModelAPIError", again=True),
    Refusal(
        400, '{"detail": "maximum context length is 9 tokens"}', ContextLengthError, "ContextOverflowError", again=False
    ),
    Refusal(
        400,
        '{"error": {"message": "x", "code": "context_length_exceeded"}}',
        ContextLengthError,
        "ContextOverflowError",
        again=False,
    ),
]
