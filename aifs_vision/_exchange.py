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
    ContextLengthError,
    UnexpectedAnswerError,
    error_of_status,
    is_too_long,
)
from aifs_vision._hints import retry_hint
from aifs_vision._transport import Call, line_of, send

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aifs_vision._limits import Cost, Limits
    from aifs_vision._settings import Settings

__all__ = ["Heeded", "Told", "bare", "connection_error", "exchange", "headers_of", "refusal", "told_error"]

_OK = 200
_ANSWERS = frozenset({"choices", "data", "id", "object", "output", "type"})  # one of them is in whatever is an answer
_TELLING = re.compile(rb'"(?:detail|error|response\.failed)"')
_LONGEST_LINE = 65_536  # bytes; an error is shorter
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
    if (failure := told_error(answer, f"HTTP 200 with an error from {asked}", settings)) is not None:
        raise _counted(failure, request)
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


def told_error(answer: Any, what: str, settings: Settings) -> APIError | None:
    """The error that the JSON of a success tells, be it of a whole answer or of an event; None where it tells none."""
    if not isinstance(answer, dict):
        return None
    event = answer.get("type")
    told = answer.get("response") if event == "response.failed" else answer
    told = told if isinstance(told, dict) else answer
    error = told.get("error") or (told if event == "error" or told.get("status") == "failed" else None)
    if error is None and _ANSWERS.isdisjoint(told):
        error = told.get("detail")
    if not error:
        return None
    code = _code_in(error)
    words = _hidden(_said_by({"error": error}), settings)
    made = (ContextLengthError if is_too_long(f"{code} {words}") else UnexpectedAnswerError)(what, detail=words)
    made.code = code
    return made


class Heeded(httpx.AsyncByteStream):
    """The body of a streamed answer up to the event that tells an error, which it raises in the place of that."""

    def __init__(self, stream: httpx.AsyncByteStream, asked: str, settings: Settings) -> None:
        self._stream, self._asked, self._settings = stream, asked, settings

    async def __aiter__(self) -> AsyncIterator[bytes]:
        rest = b""  # of a line whose end has not come
        async for chunk in self._stream:
            held = rest + chunk
            end = max(held.rfind(b"\n"), held.rfind(b"\r")) + 1
            if _TELLING.search(held, 0, end):
                at = -len(rest)
                for line in held[:end].splitlines(keepends=True):
                    if (error := self._told(line)) is not None:
                        yield chunk[: max(0, at)]
                        raise error
                    at += len(line)
            rest = held[end:][-_LONGEST_LINE:]
            yield chunk
        if (error := self._told(rest)) is not None:
            raise error

    async def aclose(self) -> None:
        """Closes it."""
        await self._stream.aclose()

    def _told(self, line: bytes) -> APIError | None:
        """The error in a line; some hosts tell it as if no stream had been asked for."""
        data = line.removeprefix(b"data:").strip()
        if not data.startswith(b"{"):
            return None
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            return None
        return told_error(event, f"A stream that ends in an error from {self._asked}", self._settings)


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
    """The `code` and `type` of a refusal's error, which say what its words may leave out."""
    try:
        return _code_in(json.loads(body)["error"])
    except (ValueError, RecursionError, LookupError, TypeError):
        return ""


def _code_in(error: Any) -> str:
    return f"{error.get('code')} {error.get('type')}" if isinstance(error, dict) else ""


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
