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
_TELLING = re.compile(rb'"(?:detail|error|response\.failed)"|event:\s*error')
_LONGEST_LINE = 65_536  # bytes; an error is shorter
_MARK = b"\xef\xbb\xbf"  # that a text is UTF-8; streams may begin with it
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
    told = answer.get("response") if answer.get("type") == "response.failed" else answer
    told = told if isinstance(told, dict) else answer
    is_error = "error" in (answer.get("type"), answer.get("object")) or told.get("status") == "failed"
    error = told.get("error") or (told if is_error else None)
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
    """The body of a streamed answer up to the event that tells an error, which it raises in the place of that.

    Some hosts tell it as if no stream had been asked for, in JSON of one line or many. A mark of UTF-8 at the beginning
    is left out, since readers take it for a part of the first event.
    """

    def __init__(self, stream: httpx.AsyncByteStream, asked: str, settings: Settings) -> None:
        self._stream, self._asked, self._settings = stream, asked, settings
        self._head: bytes | None = b""  # what may be a part of the mark; None once that is known
        self._whole: bytes | None = b""  # what has come, as long as it may be JSON alone
        self._rest = b""  # of a line whose end has not come
        self._named = False  # whether the next data is that of an event called error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            good, error = self._heard(chunk if self._head is None else self._unmarked(self._head + chunk))
            if good:
                yield good
            if error is not None:
                raise error
        if (error := self._told(self._rest) or self._error_in(self._whole or b"")) is not None:
            raise error

    async def aclose(self) -> None:
        """Closes it."""
        await self._stream.aclose()

    def _unmarked(self, head: bytes) -> bytes:
        """What of the beginning is to be passed on; nothing as long as it may be the mark."""
        self._head = head if head != _MARK and _MARK.startswith(head) else None
        return head.removeprefix(_MARK) if self._head is None else b""

    def _heard(self, chunk: bytes) -> tuple[bytes, APIError | None]:
        """What of a chunk comes before an error, which is all where there is none; and that error."""
        if self._whole is not None:
            whole = self._whole + chunk
            self._whole = whole if whole.lstrip()[:1] in b"{" and len(whole) <= _LONGEST_LINE else None
        held = self._rest + chunk
        end = max(held.rfind(b"\n"), held.rfind(b"\r")) + 1
        if self._named or _TELLING.search(held, 0, end):
            at = -len(self._rest)
            for line in held[:end].splitlines(keepends=True):
                if (error := self._told(line)) is not None:
                    return chunk[: max(0, at)], error
                at += len(line)
        self._rest = held[end:][-_LONGEST_LINE:]
        return chunk, None

    def _told(self, line: bytes) -> APIError | None:
        """The error in a line, be it one of an event or JSON alone."""
        name, colon, data = line.partition(b":")
        if name == b"event" and colon:
            self._named = data.strip() == b"error"
            return None
        if name != b"data" or not colon:
            return self._error_in(line)
        named, self._named = self._named, False
        return self._error_in(data, named=named)

    def _error_in(self, data: bytes, *, named: bool = False) -> APIError | None:
        """The error that JSON tells; or data of any kind, of an event that is called one."""
        if not named and not data.lstrip().startswith(b"{"):
            return None
        try:
            event = json.loads(data.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            event = data.decode("utf-8", "replace").strip()
        what = f"A stream that ends in an error from {self._asked}"
        error = told_error(event, what, self._settings)
        return told_error({"error": event}, what, self._settings) if error is None and named else error


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
