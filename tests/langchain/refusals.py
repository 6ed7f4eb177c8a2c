"""Refusals of the service, and the errors of this project and of LangChain that they become."""

from __future__ import annotations

from typing import Any

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

__all__ = ["REFUSALS", "assert_langchain_knows"]


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


REFUSALS: list[tuple[int, str | None, type[AIFSError], str, bool]] = [
    (400, None, BadRequestError, "ModelInvalidRequestError", False),
    (401, None, AuthenticationError, "ModelAuthenticationError", False),
    (403, None, PermissionDeniedError, "ModelPermissionDeniedError", False),
    (404, None, NotFoundError, "ModelNotFoundError", False),
    (413, None, RequestTooLargeError, "ModelInvalidRequestError", False),
    (422, None, BadRequestError, "ModelInvalidRequestError", False),
    (429, None, RateLimitError, "ModelRateLimitError", True),
    (429, '{"detail": "You exceeded your current quota"}', QuotaExceededError, "ModelRateLimitError", False),
    (503, None, ServiceError, "ModelAPIError", True),
    (400, '{"detail": "maximum context length is 9 tokens"}', ContextLengthError, "ContextOverflowError", False),
    (
        400,
        '{"error": {"message": "x", "code": "context_length_exceeded"}}',
        ContextLengthError,
        "ContextOverflowError",
        False,
    ),
]
