"""One question to the service, in the project's own terms: JSON out, or an error of the tree."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from aifs_vision._api_errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    UnexpectedAnswerError,
    error_of_status,
)
from aifs_vision._hints import retry_hint
from aifs_vision._transport import Call, line_of, send

if TYPE_CHECKING:
    from aifs_vision._limits import Cost, Limits
    from aifs_vision._settings import Settings

__all__ = ["Told", "bare", "connection_error", "exchange", "headers_of", "refusal"]

_OK = 200
_WORDS_READ, _WORDS_SHOWN = 65_536, 500  # characters
# Base64 of some length, also in lines of the usual 64 or 76 characters, and whatever calls itself that.
_DATA = re.compile(
    r"(?:data:[\w/+.-]*;base64,\s*)?(?:[A-Za-z0-9+/]{60,}\s+)*[A-Za-z0-9+/]{60,}(?:\s+[A-Za-z0-9+/]+(?===?))?={0,2}"
    r"|data:[\w/+.-]*;base64,[A-Za-z0-9+/=]*"
)


@dataclass(frozen=True, kw_only=True)
class Told:
    """What an answer took.

    Attributes:
        attempts: requests that were sent for it.
        unanswered: of these, how many the service may have worked on though no whole answer came.
        waited: seconds that limits have held them up.
    """

    attempts: int
    unanswered: int
    waited: float


async def exchange(
    method: str,
    url: str,
    settings: Settings,
    *,
    model: str,
    limits: Limits,
    cost: Cost,
    body: bytes | None = None,
    **more: Any,
) -> tuple[Any, Told]:
    """The JSON of the answer, and what it took; called on the loop. `more` is for the `Call`.

    Raises:
        APIError: no answer, a refusal, or a success that is not JSON; `attempts` and `waited` say what it took.
    """
    asked = f"{model!r} at {settings.base_url}" if model else url
    request = httpx.Request(method, url, headers=headers_of(settings), content=body)
    line = line_of(settings, model)
    try:
        response = await send(request, Call(line=line, limits=limits, cost=cost, timeout=settings.timeout, **more))
    except httpx.RequestError as error:
        raise _counted(connection_error(error, asked, settings), request) from bare(error, request)
    if response.status_code != _OK:
        raise _counted(refusal(response, asked, settings), request)
    told, answer = request.extensions, response.extensions["json"]
    if isinstance(answer, dict) and answer.get("error"):
        words = _hidden(_said_by(answer), settings)
        raise _counted(UnexpectedAnswerError(f"HTTP 200 with an error from {asked}", detail=words), request)
    return answer, Told(attempts=told["attempts"], unanswered=told["unanswered"], waited=told["waited"])


def headers_of(settings: Settings, accept: str = "application/json") -> list[tuple[str, str]]:
    """The headers of a request; to be passed on at once, so that no traceback's variables show the key."""
    return [
        ("authorization", f"Bearer {settings.api_key.reveal()}"),
        ("content-type", "application/json"),
        ("accept", accept),
        ("user-agent", "aifs-vision"),
    ]


def _counted(error: APIError, request: httpx.Request) -> APIError:
    told = request.extensions
    error.attempts, error.unanswered, error.waited = told["attempts"], told["unanswered"], told["waited"]
    return error


def bare(error: httpx.RequestError, request: httpx.Request) -> httpx.RequestError:
    """The error without what was sent, which has the key and the picture in it, and without its traceback."""
    error.request = httpx.Request(request.method, request.url)
    return error.with_traceback(None)


def connection_error(error: httpx.RequestError, asked: str, settings: Settings) -> APIError:
    """The error of the tree for a request that got no answer."""
    words = _hidden(str(error) or type(error).__name__, settings)
    if isinstance(error, httpx.DecodingError):
        return UnexpectedAnswerError(f"Unexpected answer from {asked}", detail=words)
    if isinstance(error, httpx.TimeoutException):
        return APITimeoutError(f"No answer in time from {asked}", detail=words)
    return APIConnectionError(f"No connection to {asked}", detail=words)


def refusal(response: httpx.Response, asked: str, settings: Settings) -> APIError:
    """The error of the tree for an answer that is a refusal."""
    body = response.content.decode("utf-8", "replace")  # what its headers call the encoding may be anything
    number = response.headers.get("x-request-id")
    hint = retry_hint(response.headers, response.content, wall_clock=time.time())
    return error_of_status(
        response.status_code,
        code=_code_of(body),
        detail=_hidden(_words_of(body), settings),
        request_id=None if number is None else _hidden(number, settings),
        asked=asked,
        waiting_helps=hint is not None,
    )


# -- The service's own words -------------------------------------------------------------------------------


def _words_of(body: str) -> str:
    """The service's words in either body shape; a gateway's HTML page says nothing worth showing."""
    try:
        said = _said_by(json.loads(body))
    except (ValueError, RecursionError):
        said = "" if body.lstrip().startswith("<") else body
    return said.strip()


def _hidden(words: str, settings: Settings) -> str:
    """The service's words, but for the key and the pictures that it may repeat in them."""
    shown = words[:_WORDS_READ].replace(settings.api_key.reveal(), str(settings.api_key))
    return _DATA.sub("<data>", shown)[:_WORDS_SHOWN]


def _code_of(body: str) -> str:
    """The `code` and `type` of an error, which say what its words may leave out."""
    try:
        error = json.loads(body)["error"]
        return f"{error.get('code')} {error.get('type')}"
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return ""


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
