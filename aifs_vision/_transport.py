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
from typing import TYPE_CHECKING, Any, cast

import httpx

from aifs_vision._api_errors import is_used_up
from aifs_vision._connections import connections
from aifs_vision._hints import retry_hint
from aifs_vision._limits import Cost
from aifs_vision._line import Line, Shut, line_of
from aifs_vision._loop import sheltered
from aifs_vision._readings import Usage
from aifs_vision._streams import Released

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aifs_vision._governor import Permit
    from aifs_vision._limits import Limits
    from aifs_vision._line import Turn

__all__ = ["OUTAGE", "Call", "Line", "Unwanted", "line_of", "send"]

logger = logging.getLogger("aifs_vision")

ATTEMPTS = 4  # requests for one item that meets failures of its own
TIMEOUTS = 2  # of these, how many may end by the clock: each of them costs a whole timeout
BREAKS = 2  # of these, how many may break the server before the item is set aside while the others go on
REFUSALS = 8  # 429s to one item, though others are let in, after which its patience counts from the first of them
OUTAGE = 60.0  # seconds for which everything may fail before that is the answer to all
CONNECT_TIMEOUT = 10.0  # seconds

_RETRIED = frozenset({408, 409, 425, 500, 502, 503, 504, 507, 520, 521, 522, 523, 524, 529})
_BROKEN = frozenset({500, 502, 520})  # what a server answers that an item has killed; 503 and the like say "busy"
_RESET = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
_TOO_MANY, _SERVER_ERRORS = 429, 500
_OK = 200
_LONGEST_PAUSE, _FIRST_PAUSE = 8.0, 0.5  # seconds; full jitter below 0.5, 1, 2, 4, 8


async def _granted() -> None:
    """Nothing is asked before an item is sent once more."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """What a request is for: the line it goes through, what it is expected to use, and how it is answered.

    Attributes:
        limits: what is to be kept to.
        patience: seconds that 429s may put it off; None for those of the limits.
        outage: seconds for which everything may fail before it gives up.
        wanted: asked before each attempt, whether there is still a reason for it.
        sent: told of each attempt; the request's `extensions` tell of those before.
        ended: told what each of them has met; None where nobody waits for it any more.
        again: awaited before each attempt after one that the service may have worked on, and bill; may raise.
    """

    line: Line
    limits: Limits
    cost: Cost
    timeout: float
    stream: bool = False
    patience: float | None = None
    outage: float = OUTAGE
    wanted: Callable[[], bool] = lambda: True
    sent: Callable[[httpx.Request], None] = lambda _: None
    ended: Callable[[httpx.Response | httpx.RequestError | None], None] = lambda _: None
    again: Callable[[], Awaitable[None]] = _granted


class Unwanted(httpx.RequestError):
    """Nothing was sent any more."""


_NOT_SENT = (
    Unwanted,
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.LocalProtocolError,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
_PERMANENT = (Unwanted, httpx.LocalProtocolError, httpx.UnsupportedProtocol)


@dataclass(frozen=True, kw_only=True)
class _Met:
    """What one attempt met.

    Attributes:
        hint: seconds that the service asks to wait, or None.
        last: whether nobody is let in any more, so that nothing was sent.
    """

    outcome: httpx.Response | httpx.RequestError
    hint: float | None = None
    last: bool = False


class _Trial:
    """What the attempts of one item came to so far; decides whether there is another one, and after what pause."""

    def __init__(self, line: Line, turn: Turn) -> None:
        self._line, self._turn = line, turn
        self._clock = asyncio.get_running_loop().time
        self._refused_at, self._refusals = 0.0, 0
        self.failures = self._timeouts = self._breaks = self._successes = 0

    @property
    def breaks_servers(self) -> bool:
        """Whether the item has broken the server so often that the others go first."""
        return self._breaks >= BREAKS

    def pause_after(self, met: _Met) -> float | None:
        """Seconds until the next attempt; None where this outcome is the last."""
        outcome = met.outcome
        if met.last or isinstance(outcome, _PERMANENT):
            return None
        if isinstance(outcome, httpx.Response):
            if outcome.status_code == _TOO_MANY:
                return self._after_refusal(outcome, met.hint)
            if outcome.status_code not in _RETRIED:
                return None
        self._count(outcome)
        if self.failures >= ATTEMPTS or self._timeouts >= TIMEOUTS or not self._turn.endures(self._line):
            return None
        most = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (self.failures - 1))
        return met.hint if met.hint is not None else random.uniform(0, most)  # noqa: S311 - jitter, not cryptography

    def _count(self, outcome: httpx.Response | httpx.RequestError) -> None:
        self.failures += 1
        self._timeouts += isinstance(outcome, httpx.TimeoutException)
        broken = outcome.status_code in _BROKEN if isinstance(outcome, httpx.Response) else isinstance(outcome, _RESET)
        # A server that breaks for everybody is not broken by this item.
        if broken and (not self._breaks or self._line.successes > self._successes):
            self._breaks += 1
        if broken:
            self._successes = self._line.successes

    def _after_refusal(self, outcome: httpx.Response, hint: float | None) -> float | None:
        """Flow control: it uses up no attempt, and the line makes everybody wait, not this item alone."""
        if is_used_up(_text_of(outcome), waiting_helps=hint is not None):
            return None
        if not self._turn.endures(self._line, hint or 0.0):
            return None
        now = self._clock()
        self._refusals += 1
        if self._refusals == 1:
            self._refused_at = now
        alone = self._refusals >= REFUSALS and now - self._refused_at >= self._turn.patience
        return None if alone else 0.0


async def send(request: httpx.Request, call: Call) -> httpx.Response:
    """Sends a request through its line until it is answered for good.

    The response may have any status that is not retried, or the last one that was. Unless `call.stream`, its
    body is read, and a status of 200 carries JSON. `request.extensions` tells in "attempts" how many requests were
    sent, in "unanswered" how many of them the service may have worked on though no whole answer came, in "open"
    whether one is on its way, and in "waited" how many seconds limits have held them up.

    Raises:
        httpx.TransportError: no connection, or it broke, on every attempt.
        httpx.DecodingError: on every attempt a 200 whose body was not JSON.
    """
    told = request.extensions
    told["attempts"], told["unanswered"], told["open"], told["waited"] = 0, 0, 0, 0.0
    patience = call.limits.patience if call.patience is None else call.patience
    async with call.line.turn(call.limits, patience=patience, outage=min(call.outage, patience)) as turn:
        trial, asked_for = _Trial(call.line, turn), 0
        while True:
            if told["unanswered"] > asked_for:
                asked_for = told["unanswered"]
                await call.again()
            async with call.line.aside(turn) if trial.breaks_servers else nullcontext():
                met = await _told(request, call, turn)
            outcome = met.outcome
            told["waited"] = turn.waited
            unanswered = isinstance(outcome, httpx.RequestError) and not isinstance(outcome, _NOT_SENT)
            told["unanswered"] += unanswered and not met.last
            pause = trial.pause_after(met)
            if pause is None:
                if isinstance(outcome, httpx.RequestError):
                    raise outcome
                return outcome
            if trial.failures:
                logger.info("attempt %d failed (%s); trying again", told["attempts"], _name(outcome))
            await asyncio.sleep(pause)


def _name(outcome: httpx.Response | httpx.RequestError) -> str:
    return str(outcome.status_code) if isinstance(outcome, httpx.Response) else type(outcome).__name__


async def _told(request: httpx.Request, call: Call, turn: Turn) -> _Met:
    """One attempt, of whose end the call is told where something was sent."""
    before, met = request.extensions["attempts"], None
    try:
        met = await _attempt(request, call, turn)
    finally:
        if request.extensions["attempts"] > before:
            call.ended(None if met is None else met.outcome)
    return met


async def _attempt(request: httpx.Request, call: Call, turn: Turn) -> _Met:
    """One request; what went wrong below HTTP is for `send` to decide upon."""
    line, response = call.line, None
    try:
        permit = await line.enter(turn, call.cost)
    except Shut as shut:
        return _Met(outcome=_as_met_by(request, shut.outcome), last=True)
    try:
        if not call.wanted():
            unwanted = Unwanted("others have found meanwhile that there is no answer to be had", request=request)
            return _Met(outcome=unwanted)
        request.extensions["attempts"] += 1
        call.sent(request)
        # A stream is bounded by its silences: a long answer is not a late one.
        bound = math.inf if call.stream else call.timeout
        request.extensions["open"] = 1
        response = await sheltered(_exchange(request, call), bound, unwanted=httpx.Response.aclose)
        request.extensions["open"] = 0
        usage = None if call.stream else _usage_of(response)
        met = _heard(response, line, permit, turn)  # before the slot is free: whoever comes next is to know
        if usage:
            line.governor.settle(permit, Cost(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens))
    except asyncio.TimeoutError:
        late = httpx.ReadTimeout(f"no whole answer within {call.timeout:g} s", request=request)
        return _broke(request, late, line, permit, turn)
    except httpx.RequestError as error:
        return _broke(request, error, line, permit, turn)
    finally:
        if response is None or response.is_closed:
            line.leave(permit)
    if not response.is_closed:
        response.stream = Released(cast(httpx.AsyncByteStream, response.stream), line, permit)
    return met


def _broke(request: httpx.Request, error: httpx.RequestError, line: Line, permit: Permit, turn: Turn) -> _Met:
    """A connection that broke, or what came by it."""
    unread = isinstance(error, (*_NOT_SENT, httpx.DecodingError))
    line.failed(permit, turn, None, error, unread=unread)
    request.extensions["open"] = 0
    return _Met(outcome=error)


def _heard(response: httpx.Response, line: Line, permit: Permit, turn: Turn) -> _Met:
    """Tells the line what an answer says of the service and its limits."""
    now, hint = time.time(), None
    if response.status_code != _OK:
        hint = retry_hint(response.headers, response.content if response.is_closed else b"", wall_clock=now)
    if response.status_code == _TOO_MANY:
        line.refused(permit, hint, response)
    elif response.status_code in _RETRIED and response.status_code >= _SERVER_ERRORS:
        line.failed(permit, turn, hint, response, unread=True)
    else:
        line.accepted(permit)
    line.told(permit, response.headers, now)
    return _Met(outcome=response, hint=hint)


def _as_met_by(request: httpx.Request, outcome: httpx.Response | httpx.RequestError) -> Any:
    """What another request met, for one that was not sent because of it."""
    if isinstance(outcome, httpx.RequestError):
        return type(outcome)(str(outcome), request=request)
    headers = [pair for pair in outcome.headers.items() if pair[0] not in {"content-encoding", "content-length"}]
    return httpx.Response(outcome.status_code, headers=headers, content=outcome.content, request=request)


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


def _usage_of(response: httpx.Response) -> Usage | None:
    """The usage that a success reports; it has to carry JSON."""
    if response.status_code != _OK:
        return None
    try:
        answer = json.loads(response.content)
    except (ValueError, RecursionError) as error:
        kind = response.headers.get("content-type", "no content type")
        message = f"HTTP 200 with {kind} that is not JSON ({error})"
        raise httpx.DecodingError(message, request=response.request) from error
    response.extensions["json"] = answer
    used = Usage.of(answer)
    return None if used == Usage() else used


def _text_of(response: httpx.Response) -> str:
    """The body as text; what its headers call the encoding may be anything."""
    return response.content.decode("utf-8", "replace")
