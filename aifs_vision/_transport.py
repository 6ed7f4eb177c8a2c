"""Every request goes through here: paced, retried by this one authority, on pooled connections.

All of it runs on the background loop. A response whose body is not streamed is read to its end inside the
attempt, so that a connection that breaks in mid-body is one more failed attempt and not a torn text.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import httpx

from aifs_vision._api_errors import is_used_up
from aifs_vision._connections import connections
from aifs_vision._hints import retry_hint
from aifs_vision._limits import Cost
from aifs_vision._line import Line, line_of
from aifs_vision._loop import sheltered
from aifs_vision._readings import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aifs_vision._governor import Permit
    from aifs_vision._line import Turn

__all__ = ["Call", "Line", "line_of", "send"]

logger = logging.getLogger("aifs_vision")

ATTEMPTS = 4  # requests for one item that meets failures; a 429 is flow control and does not count
TIMEOUTS = 2  # of these, how many may end by the clock: each of them costs a whole timeout
BREAKS = 2  # of these, how many may break the server before the item is set aside while the others go on
CONNECT_TIMEOUT = 10.0  # seconds
_UNREAD = 2.0  # seconds until a body whose next chunk nobody asks for gives its slot back

_RETRIED = frozenset({408, 409, 425, 500, 502, 503, 504, 507, 520, 521, 522, 523, 524, 529})
_BROKEN = frozenset({500, 502, 520})  # what a server answers that an item has killed; 503 and the like say "busy"
_RESET = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
_TOO_MANY = 429
_OK = 200
_LONGEST_PAUSE, _FIRST_PAUSE = 8.0, 0.5  # seconds; full jitter below 0.5, 1, 2, 4, 8


@dataclass(frozen=True, kw_only=True)
class Call:
    """What a request is for: the line it goes through, what it is expected to use, and how it is answered.

    Attributes:
        patience: seconds that 429s may put it off, from the first of them; None for those of the line's limits.
        wanted: asked before each attempt, whether there is still a reason for it.
    """

    line: Line
    cost: Cost
    timeout: float
    stream: bool = False
    patience: float | None = None
    wanted: Callable[[], bool] = lambda: True


class _Unwanted(httpx.RequestError):
    """Nothing was sent any more."""


_NOT_SENT = (
    _Unwanted,
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.LocalProtocolError,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


class _Trial:
    """What the attempts of one item came to so far; decides whether there is another one, and after what pause."""

    def __init__(self, call: Call) -> None:
        self._clock = asyncio.get_running_loop().time
        self._patience = call.line.governor.limits.patience if call.patience is None else call.patience
        self._deadline: float | None = None
        self.failures = self._timeouts = self._breaks = 0

    @property
    def breaks_servers(self) -> bool:
        """Whether the item has broken the server so often that the others go first."""
        return self._breaks >= BREAKS

    def pause_after(self, outcome: httpx.Response | httpx.RequestError, hint: float | None) -> float | None:
        """Seconds until the next attempt; None where this outcome is the last."""
        if isinstance(outcome, httpx.Response):
            if outcome.status_code == _TOO_MANY:
                return self._after_refusal(outcome, hint)
            if outcome.status_code not in _RETRIED:
                return None
            self._breaks += outcome.status_code in _BROKEN
        else:
            if isinstance(outcome, (_Unwanted, httpx.LocalProtocolError, httpx.UnsupportedProtocol)):
                return None
            self._timeouts += isinstance(outcome, httpx.TimeoutException)
            self._breaks += isinstance(outcome, _RESET)
        self.failures += 1
        if self.failures >= ATTEMPTS or self._timeouts >= TIMEOUTS:
            return None
        most = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (self.failures - 1))
        return hint if hint is not None else random.uniform(0, most)  # noqa: S311 - jitter, not cryptography

    def _after_refusal(self, outcome: httpx.Response, hint: float | None) -> float | None:
        """Flow control: it uses up no attempt, and the line makes everybody wait, not this item alone."""
        now = self._clock()
        if self._deadline is None:
            self._deadline = now + self._patience
        late = now + (hint or 0.0) >= self._deadline
        return None if late or is_used_up(outcome.text) else 0.0


async def send(request: httpx.Request, call: Call) -> httpx.Response:
    """Sends a request through its line until it is answered for good.

    The response may have any status that is not retried, or the last one that was. Unless `call.stream`, its
    body is read, and a status of 200 carries JSON. `request.extensions` tells in "attempts" how many requests were
    sent, in "unanswered" how many of them the service may have worked on though no whole answer came, and in
    "waited" how many seconds limits have held them up.

    Raises:
        httpx.TransportError: no connection, or it broke, on every attempt.
        httpx.DecodingError: on every attempt a 200 whose body was not JSON.
    """
    trial = _Trial(call)
    told = request.extensions
    told["attempts"], told["unanswered"], told["waited"] = 0, 0, 0.0
    async with call.line.turn() as turn:
        while True:
            async with call.line.aside() if trial.breaks_servers else nullcontext():
                outcome, hint = await _attempt(request, call, turn)
            told["waited"] = turn.waited
            told["unanswered"] += isinstance(outcome, httpx.RequestError) and not isinstance(outcome, _NOT_SENT)
            pause = trial.pause_after(outcome, hint)
            if pause is None:
                if isinstance(outcome, httpx.RequestError):
                    raise outcome
                return outcome
            if trial.failures:
                logger.info("attempt %d failed (%s); trying again", told["attempts"], _name(outcome))
            await asyncio.sleep(pause)


def _name(outcome: httpx.Response | httpx.RequestError) -> str:
    return str(outcome.status_code) if isinstance(outcome, httpx.Response) else type(outcome).__name__


async def _attempt(
    request: httpx.Request, call: Call, turn: Turn
) -> tuple[httpx.Response | httpx.RequestError, float | None]:
    """One request, and how long the service asks to wait; what went wrong below HTTP is for `send` to decide upon."""
    line, response, hint = call.line, None, None
    permit = await line.enter(turn, call.cost)
    try:
        if not call.wanted():
            return _Unwanted("others have found meanwhile that there is no answer to be had", request=request), None
        request.extensions["attempts"] += 1
        # A stream is bounded by its silences: a long answer is not a late one.
        bound = math.inf if call.stream else call.timeout
        response = await sheltered(_exchange(request, call), bound, unwanted=httpx.Response.aclose)
        hint = _heard(response, line, permit)  # before the slot is free: whoever comes next is to know
        if not call.stream:
            _settle(response, line, permit)
    except asyncio.TimeoutError:
        return httpx.ReadTimeout(f"no whole answer within {call.timeout:g} s", request=request), None
    except httpx.RequestError as error:
        return error, None
    finally:
        if response is None or response.is_closed:
            line.leave(permit)
    if not response.is_closed:
        response.stream = _Released(cast(httpx.AsyncByteStream, response.stream), line, permit)
    return response, hint


def _heard(response: httpx.Response, line: Line, permit: Permit) -> float | None:
    """Tells the line what an answer says of its limits; gives the time to wait that it asks for."""
    body = response.content if response.is_closed else b""
    hint = retry_hint(response.headers, body, wall_clock=time.time())
    if response.status_code == _TOO_MANY:
        line.governor.refused(permit, hint)
    else:
        line.governor.accepted(permit)
    line.told(permit, response.headers)
    return hint


async def _exchange(request: httpx.Request, call: Call) -> httpx.Response:
    request.extensions["timeout"] = {
        "connect": min(CONNECT_TIMEOUT, call.timeout),
        "read": call.timeout,
        "write": call.timeout,
        "pool": None,
    }
    response = await connections(request.url).handle_async_request(request)
    response.request = request
    if call.stream and response.status_code == _OK:
        return response
    try:
        await response.aread()
    finally:
        await response.aclose()
    return response


def _settle(response: httpx.Response, line: Line, permit: Permit) -> None:
    """Checks that a success carries JSON, and corrects the budgets by the usage it reports."""
    if response.status_code != _OK:
        return
    try:
        answer = json.loads(response.content)
    except (ValueError, RecursionError) as error:
        kind = response.headers.get("content-type", "no content type")
        message = f"HTTP 200 with {kind} that is not JSON ({error})"
        raise httpx.DecodingError(message, request=response.request) from error
    response.extensions["json"] = answer
    used = Usage.of(answer)
    if used != Usage():
        line.governor.settle(permit, Cost(input_tokens=used.input_tokens, output_tokens=used.output_tokens))


class _Released(httpx.AsyncByteStream):
    """A body that gives its slot back when it is closed, not when its headers have arrived.

    A body that nobody reads on gives it back too: a stream that was dropped may wait for the garbage collector
    for as long as it likes, and must not hold up everybody else.
    """

    def __init__(self, stream: httpx.AsyncByteStream, line: Line, permit: Permit) -> None:
        self._stream, self._line, self._permit = stream, line, permit
        self._closed = False
        self._lease = self._leased()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._lease.cancel()
        async for chunk in self._stream:
            self._lease = self._leased()
            yield chunk
            self._lease.cancel()

    async def aclose(self) -> None:
        self._lease.cancel()
        try:
            if not self._closed:
                self._closed = True
                await sheltered(self._stream.aclose())
        finally:
            self._line.leave(self._permit)

    def _leased(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(_UNREAD, self._line.leave, self._permit)
