"""Time that passes by itself, for tests of whatever waits: pacing, back-off, cool-downs, timeouts.

    from aifs_vision.testing import virtual_time

    with virtual_time() as clock:                 # pauses are leapt over, answers take the time they take
        vision.read("scan.jpg")                   # a 503 and its back-off cost no second of the test

    async def answer(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.5)                  # a service of one's own, in the same virtual time
        return httpx.Response(200, json=...)

    with virtual_time(answer) as clock:           # nothing real is asked; five minutes take a second
        ...
        assert clock.now > 300

Everything of this process that reads images is moved to a clock of its own, for as long as the block lasts. It goes on
while somebody waits for a result, or a stream is open: what a test does between two readings takes no time, if it is
done in half a second.

What the process has learned of limits and of models that are down stays outside, so that no test slows down another;
`isolated()` gives the same without the clock, and the pytest fixture `aifs_emulator` has it built in.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import httpx

from aifs_vision._loop import Home, moved

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping

__all__ = ["Clock", "isolated", "virtual_time"]

_WORK = 0.5  # seconds of real work that take no virtual time; what takes longer passes as it is
_ABSENCE = 0.5  # seconds of real time that nobody may wait for anything, as between two steps of a caller's loop


class Clock:
    """The virtual clock of a block."""

    def __init__(self, loop: _Loop) -> None:
        self._loop = loop

    @property
    def now(self) -> float:
        """Seconds since the block began."""
        return self._loop.time()

    def jump(self, seconds: float) -> None:
        """The clock goes on by so much at once, as after the sleep of a computer."""
        self._loop.call_soon_threadsafe(self._loop.pass_time, seconds)


@contextmanager
def isolated() -> Iterator[None]:
    """A block that knows nothing of what was before it: no limit learned, no cool-down, no open connection."""
    with moved(Home()):
        yield


@contextmanager
def virtual_time(
    answer: Callable[[httpx.Request], Coroutine[None, None, httpx.Response]] | None = None,
) -> Iterator[Clock]:
    """A block in which waiting takes no time.

    Args:
        answer: answers every request instead of a server; its own `asyncio.sleep` is virtual, too.
    """
    loop = _Loop()

    def around(connections: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        return _Watched(connections, loop) if answer is None else httpx.MockTransport(answer)

    with moved(_Home(loop, around)):
        yield Clock(loop)


class _Home(Home):
    """A home whose loop knows what is waited for."""

    loop: _Loop

    def start(self, work: Coroutine[Any, Any, Any], future: Future[Any]) -> None:
        self.loop.expect(future)  # in the same step: a clock that knows of a call not yet begun would leap over it
        super().start(work, future)


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that leaps to its next timer whenever nothing else is to be done, and somebody waits for it."""

    def __init__(self) -> None:
        self._passed = 0.0
        self._calls = WeakSet[Future[Any]]()  # what callers in other threads wait for
        self._nobody_since: float | None = None  # real time
        self.working = self.exchanging = 0  # worker threads, and exchanges with real servers
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self._passed

    def pass_time(self, seconds: float) -> None:
        """Time goes on by so much."""
        self._passed += seconds

    def expect(self, call: Future[Any]) -> None:
        """Says, on the loop, that somebody waits for this."""
        self._calls.add(call)
        self._nobody_since = None

    def absence(self) -> float:
        """Seconds of real time to wait for somebody who waits for a result; none where there is one."""
        if not all(call.done() for call in self._calls):
            return 0.0
        now = time.monotonic()
        self._nobody_since = self._nobody_since or now
        return max(0.0, self._nobody_since + _ABSENCE - now)

    def run_in_executor(  # type: ignore[override]  # typeshed ties the arguments to the function
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        future = super().run_in_executor(executor, func, *args)
        self.working += 1
        future.add_done_callback(self._worked)
        return future

    def _worked(self, _: asyncio.Future[Any]) -> None:
        self.working -= 1


class _Selector(selectors.BaseSelector):
    """Waits for sockets in real time while there is real work, and else not at all."""

    def __init__(self, loop: _Loop) -> None:
        self._loop, self._real = loop, selectors.DefaultSelector()
        self._waited = 0.0  # seconds of real time without an event

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or self._loop.working or self._loop.exchanging:
            begun = time.monotonic()
            events = self._real.select(timeout)
            took = time.monotonic() - begun
            self._waited += took
            if self._loop.exchanging or (self._loop.working and self._waited > _WORK):
                self._loop.pass_time(took)
            if events:
                self._waited = 0.0
            return events
        events = self._real.select(self._loop.absence() if timeout > 0 else 0)
        if not events:
            self._loop.pass_time(max(0.0, timeout))
        return events

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class _Watched(httpx.AsyncBaseTransport):
    """Connections to a real server, whose answers are waited for in real time."""

    def __init__(self, connections: httpx.AsyncBaseTransport, loop: _Loop) -> None:
        self._connections, self._loop = connections, loop

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._loop.exchanging += 1
        try:
            response = await self._connections.handle_async_request(request)
            if "content-length" in response.headers:
                await response.aread()  # the body is on its way; a stream is read in its own time
            return response
        finally:
            self._loop.exchanging -= 1

    async def aclose(self) -> None:
        await self._connections.aclose()
