"""One question to the service, in the project's own terms: JSON out, or an error of the tree."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx

from aifs_vision._errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    UnexpectedAnswerError,
    error_of_status,
)
from aifs_vision._transport import Call, line_of, send

if TYPE_CHECKING:
    from aifs_vision._limits import Cost, Limits
    from aifs_vision._settings import Settings

__all__ = ["connection_error", "exchange", "headers_of", "refusal"]

_OK = 200
_WORDS_SHOWN = 500  # characters


async def exchange(
    method: str,
    url: str,
    settings: Settings,
    *,
    model: str,
    limits: Limits,
    cost: Cost,
    body: bytes | None = None,
) -> tuple[Any, int]:
    """The JSON of the answer, and how many requests it took; called on the loop.

    Raises:
        APIError: no answer, a refusal, or a success that is not JSON; `attempts` says how many requests it took.
    """
    asked = f"{model!r} at {settings.base_url}" if model else url
    request = httpx.Request(method, url, headers=headers_of(settings), content=body)
    line = line_of(settings, model, limits)
    try:
        response = await send(request, Call(line=line, cost=cost, timeout=settings.timeout))
    except httpx.RequestError as error:
        raise _counted(connection_error(error, asked), request) from error.with_traceback(None)
    if response.status_code != _OK:
        raise _counted(refusal(response, asked, settings), request)
    return json.loads(response.content), request.extensions["attempts"]


def headers_of(settings: Settings, accept: str = "application/json") -> list[tuple[str, str]]:
    """The headers of a request; to be passed on at once, so that no traceback's variables show the key."""
    return [
        ("authorization", f"Bearer {settings.api_key.reveal()}"),
        ("content-type", "application/json"),
        ("accept", accept),
        ("user-agent", "aifs-vision"),
    ]


def _counted(error: APIError, request: httpx.Request) -> APIError:
    error.attempts = request.extensions["attempts"]
    return error


def connection_error(error: httpx.RequestError, asked: str) -> APIError:
    """The error of the tree for a request that got no answer."""
    words = str(error) or type(error).__name__
    if isinstance(error, httpx.DecodingError):
        return UnexpectedAnswerError(f"Unexpected answer from {asked}", detail=words)
    if isinstance(error, httpx.TimeoutException):
        return APITimeoutError(f"No answer in time from {asked}", detail=words)
    return APIConnectionError(f"No connection to {asked}", detail=words)


def refusal(response: httpx.Response, asked: str, settings: Settings) -> APIError:
    """The error of the tree for an answer that is a refusal; a key that the service repeats is not shown."""
    return error_of_status(
        response.status_code,
        detail=_words_of(response.text).replace(settings.api_key.reveal(), str(settings.api_key)),
        request_id=response.headers.get("x-request-id"),
        asked=asked,
    )


# -- The service's own words -------------------------------------------------------------------------------


def _words_of(body: str) -> str:
    """The service's words in either body shape; a gateway's HTML page says nothing worth showing."""
    try:
        said = _said_by(json.loads(body))
    except (ValueError, RecursionError):
        said = "" if body.lstrip().startswith("<") else body
    return said.strip()[:_WORDS_SHOWN]


def _said_by(body: Any) -> str:
    """The message of `{"detail": ...}`, of its list of validation errors, or of `{"error": {...}}`."""
    if not isinstance(body, dict):
        return ""
    said = body.get("detail") or body.get("error") or body.get("message") or ""
    if isinstance(said, dict):
        said = said.get("message") or json.dumps(said)
    if isinstance(said, list):
        return "; ".join(_validation_error(entry) for entry in said)
    return str(said)


def _validation_error(entry: Any) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    where = entry.get("loc")
    place = ".".join(map(str, where)) if isinstance(where, list) else ""
    return f"{place}: {entry.get('msg', '')}" if place else str(entry.get("msg", entry))
