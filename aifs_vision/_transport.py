"""Every request goes through here: paced, retried by this one authority, on pooled connections.

All of it runs on the background loop. A response whose body is not streamed is read to its end inside the
attempt, so that a connection that breaks in mid-body is one more failed attempt and not a torn text.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import time
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import httpx

from aifs_vision._errors import SettingsError
from aifs_vision._limits import Cost, Limits, Pacer, retry_hint
from aifs_vision._loop import home

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable

    from aifs_vision._settings import Settings

__all__ = ["Call", "Line", "line_of", "send"]

logger = logging.getLogger("aifs_vision")

ATTEMPTS = 4  # requests for one item that meets failures; a 429 is flow control and does not count
TIMEOUTS = 2  # of these, how many may end by the clock: each of them costs a whole timeout
CONNECT_TIMEOUT = 10.0  # seconds
_UNREAD = 2.0  # seconds until a body whose next chunk nobody asks for gives its slot back

_RETRIED = frozenset({408, 409, 425, 500, 502, 503, 504, 507, 520, 521, 522, 523, 524, 529})
_FINAL = (httpx.LocalProtocolError, httpx.UnsupportedProtocol)  # the request itself is wrong
_TOO_MANY = 429
_OK = 200
_LONGEST_PAUSE, _FIRST_PAUSE = 8.0, 0.5  # seconds; full jitter below 0.5, 1, 2, 4, 8


@dataclass(frozen=True, kw_only=True)
class Call:
    """What a request is for: the line it goes through, what it is expected to use, and how it is answered."""

    line: Line
    cost: Cost
    timeout: float
    stream: bool = False


class Line:
    """The way to one model at one address with one key; everybody in the process who asks it queues here."""

    def __init__(self, limits: Limits) -> None:
        self.pacer = Pacer(limits, asyncio.get_running_loop().time)
        self._turn = asyncio.Lock()
        self._slots = asyncio.Semaphore(limits.in_flight)

    def adopt(self, limits: Limits) -> None:
        """The limits somebody has set since; who is under way stays under way."""
        if limits != self.pacer.limits:
            if limits.in_flight != self.pacer.limits.in_flight:
                self._slots = asyncio.Semaphore(limits.in_flight)
            self.pacer.adopt(limits)

    async def enter(self, cost: Cost) -> asyncio.Semaphore:
        """Waits, first come, first served, until the request may go; the slot it holds is to be released."""
        slots = self._slots
        await slots.acquire()
        try:
            async with self._turn:
                while (wait := self.pacer.wait(cost)) > 0:  # noqa: ASYNC110 - time alone fills them
                    await asyncio.sleep(wait)
        except BaseException:
            slots.release()
            raise
        return slots


def line_of(settings: Settings, model: str, limits: Limits) -> Line:
    """The line for a model; limits that differ from the last ones replace them."""
    key: Hashable = ("line", settings.base_url, settings.api_key.fingerprint, model)
    line = home().keep(key, lambda: Line(limits))
    line.adopt(limits)
    return line


async def send(request: httpx.Request, call: Call) -> httpx.Response:
    """Sends a request through its line until it is answered for good.

    The response may have any status that is not retried, or the last one that was. Unless `call.stream`, its
    body is read, and a status of 200 carries JSON. `request.extensions["attempts"]` counts the requests sent.

    Raises:
        httpx.TransportError: no connection, or it broke, on every attempt.
        httpx.DecodingError: on every attempt a 200 whose body was not JSON.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + call.line.pacer.limits.patience
    failures = timeouts = 0
    request.extensions["attempts"] = 0
    while True:
        request.extensions["attempts"] += 1
        outcome = await _attempt(request, call)
        if isinstance(outcome, httpx.Response):
            status, error = outcome.status_code, None
            hint = retry_hint(outcome.headers, _body(outcome), wall_clock=time.time())
        else:
            status, error, hint = None, outcome, None
        if status == _TOO_MANY:
            # Everybody on the line waits, not this item alone: the limit is everybody's.
            call.line.pacer.cool_down(hint if hint is not None else _pause(failures))
            if clock() + (hint or 0.0) < deadline:
                continue
            return _answered(outcome)
        if (error is None and status not in _RETRIED) or isinstance(error, _FINAL):
            return _answered(outcome)
        failures += 1
        timeouts += isinstance(error, httpx.TimeoutException)
        if failures >= ATTEMPTS or timeouts >= TIMEOUTS:
            return _answered(outcome)
        logger.info("attempt %d failed (%s); trying again", failures, status or type(error).__name__)
        await asyncio.sleep(hint if hint is not None else _pause(failures))


def _answered(outcome: httpx.Response | httpx.RequestError) -> httpx.Response:
    if isinstance(outcome, httpx.RequestError):
        raise outcome
    return outcome


def _pause(failures: int) -> float:
    most = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** max(0, failures - 1))
    return random.uniform(0, most)  # noqa: S311 - jitter, not cryptography


def _body(response: httpx.Response) -> bytes:
    return response.content if response.is_closed else b""


async def _attempt(request: httpx.Request, call: Call) -> httpx.Response | httpx.RequestError:
    """One request; what went wrong below HTTP is returned, for `send` to decide upon."""
    slot = await call.line.enter(call.cost)
    response = None
    try:
        if call.stream:  # bounded by its silences: a long answer is not a late one
            response = await _exchange(request, call)
        else:
            response = await asyncio.wait_for(_exchange(request, call), call.timeout)
    except asyncio.TimeoutError:
        return httpx.ReadTimeout(f"no whole answer within {call.timeout:g} s", request=request)
    except httpx.RequestError as error:
        return error
    finally:
        if response is None or response.is_closed:
            slot.release()
    if not response.is_closed:
        response.stream = _Released(cast(httpx.AsyncByteStream, response.stream), slot)
    return response


async def _exchange(request: httpx.Request, call: Call) -> httpx.Response:
    request.extensions["timeout"] = {
        "connect": min(CONNECT_TIMEOUT, call.timeout),
        "read": call.timeout,
        "write": call.timeout,
        "pool": None,
    }
    response = await _connections(request.url).handle_async_request(request)
    response.request = request
    if call.stream and response.status_code == _OK:
        return response
    try:
        await response.aread()
    finally:
        await response.aclose()
    if response.status_code == _OK:
        _settle(response, call)
    return response


def _settle(response: httpx.Response, call: Call) -> None:
    """Checks that a success carries JSON, and corrects the budgets by the usage it reports."""
    try:
        answer = json.loads(response.content)
    except (ValueError, RecursionError) as error:
        kind = response.headers.get("content-type", "no content type")
        message = f"HTTP 200 with {kind} that is not JSON ({error})"
        raise httpx.DecodingError(message, request=response.request) from error
    usage = answer.get("usage") if isinstance(answer, dict) else None
    if isinstance(usage, dict):
        counted = [usage.get("prompt_tokens"), usage.get("completion_tokens", 0)]
        if all(isinstance(count, int) for count in counted):
            used = Cost(input_tokens=counted[0] or 0, output_tokens=counted[1] or 0)
            call.line.pacer.correct(call.cost, used)


class _Released(httpx.AsyncByteStream):
    """A body that gives its slot back when it is closed, not when its headers have arrived.

    A body that nobody reads on gives it back too: a stream that was dropped may wait for the garbage collector
    for as long as it likes, and must not hold up everybody else.
    """

    def __init__(self, stream: httpx.AsyncByteStream, slot: asyncio.Semaphore) -> None:
        self._stream, self._slot = stream, slot
        self._held, self._closed = True, False
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
                await self._stream.aclose()
        finally:
            self._give_back()

    def _leased(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(_UNREAD, self._give_back)

    def _give_back(self) -> None:
        if self._held:
            self._held = False
            self._slot.release()


_ROUTE_SETTINGS = [
    *(name for proxy in ("https_proxy", "http_proxy", "all_proxy", "no_proxy") for name in (proxy, proxy.upper())),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
]


def _connections(url: httpx.URL) -> httpx.AsyncBaseTransport:
    """The pooled connections to a host, through the proxy and with the certificates the environment names."""
    route = ("connections", url.scheme, url.host, *map(os.environ.get, _ROUTE_SETTINGS))
    return home().keep(route, lambda: _connect(url.scheme, url.host), httpx.AsyncHTTPTransport.aclose)


def _connect(scheme: str, host: str) -> httpx.AsyncHTTPTransport:
    proxies = urllib.request.getproxies()
    proxy = None if urllib.request.proxy_bypass(host) else proxies.get(scheme) or proxies.get("all")
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"
    try:
        return httpx.AsyncHTTPTransport(
            verify=scheme == "https",  # the context reads SSL_CERT_FILE and SSL_CERT_DIR itself
            # No bound of its own: the lines' slots are the bound, and a second queue would hide from the pacing.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=30.0),
            proxy=proxy,
        )
    except (httpx.InvalidURL, ValueError, ImportError, OSError) as error:
        raise SettingsError.bad_route(proxy, str(error)) from error
