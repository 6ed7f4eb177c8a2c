"""The body of a streamed answer on its way from the loop to whoever reads it there or in another thread.

One task reads the body on the loop, a little ahead of its reader, and hands over at once all that has come. So a
chunk costs the two threads one signal and no task of its own, and chunks that come together cost one signal all.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, cast

import anyio
import httpx

from aifs_vision._loop import HEARTBEAT, call, call_async, home, result, submit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from concurrent.futures import Future

    Deliver = Callable[[list[bytes] | None], object]

__all__ = ["AsyncBody", "SyncBody"]

_AHEAD = 262_144  # bytes that are read before anybody wants them


class _Handover:
    """Reads a body on the loop and delivers it in batches of chunks, None at the end; knows no reader.

    What is delivered and not taken is bounded; where nobody takes anything, the body waits, and gives its slot back.
    A body that has come to its end, or broken, is closed whether it was taken or not.
    """

    def __init__(self, answer: httpx.Response) -> None:
        self._answer, self._place = answer, home()
        self._deliver: Deliver = id
        self._batch: list[bytes] = []
        self._given = self._taken = 0  # bytes; one thread adds to each of them
        self._full = self._left = False
        self._room, self._ended = asyncio.Event(), asyncio.Event()
        self._scope: anyio.CancelScope | None = None
        self._reading: Future[None] | None = None

    @property
    def over(self) -> bool:
        """Whether the body has come wholly, or never will, and is closed."""
        return self._reading is not None and self._reading.done()

    def start(self, deliver: Deliver) -> None:
        """Starts to read."""
        self._deliver = deliver
        self._reading = submit(self._read())
        self._reading.add_done_callback(lambda _: deliver(None))

    def took(self, batch: list[bytes]) -> bytes:
        """What a batch holds, which is then the reader's."""
        data = b"".join(batch)
        self._taken += len(data)
        if self._full:
            self._place.loop.call_soon_threadsafe(self._room.set)
        return data

    def finish(self) -> None:
        """Raises what has ended the body too early, once all is taken that came before."""
        assert self._reading is not None  # noqa: S101 - nothing is delivered before it is started
        result(self._reading)
        if self._left:
            raise httpx.ReadError("the stream was closed while it was read")

    def check(self) -> None:
        """Raises httpx.ReadError where nothing will ever come, since the body belongs to the parent of this process."""
        if not self._place.lives:
            raise httpx.ReadError("the stream was opened by another process")

    async def aclose(self) -> None:
        """Ends the reading, if it has begun, and closes the body; called on the loop."""
        self._left = True
        if self._scope is not None:
            self._scope.cancel()
        if self._reading is None:
            await self._answer.aclose()
        else:
            await self._ended.wait()

    def abandon(self) -> None:
        """The same from anywhere, without waiting for it."""
        self._place.start_soon(self.aclose())

    async def _read(self) -> None:
        try:
            with anyio.CancelScope() as self._scope:  # whoever leaves comes by this, see `sheltered`
                if not self._left:
                    await self._read_on()
        finally:
            self._flush()
            try:
                await self._answer.aclose()
            finally:
                self._ended.set()

    async def _read_on(self) -> None:
        loop = asyncio.get_running_loop()
        async for chunk in cast(httpx.AsyncByteStream, self._answer.stream):
            if not self._batch:
                loop.call_soon(self._flush)  # once nothing more is to be had without waiting
            self._batch.append(chunk)
            self._given += len(chunk)
            while self._given - self._taken > _AHEAD:
                await self._until_taken()

    async def _until_taken(self) -> None:
        self._room.clear()
        self._full = True  # before the second look: whoever takes looks at it after he has taken
        if self._given - self._taken > _AHEAD:
            await self._room.wait()
        self._full = False

    def _flush(self) -> None:
        if self._batch:
            batch, self._batch = self._batch, []
            self._deliver(batch)


class SyncBody(httpx.SyncByteStream):
    """A body for a reader that waits; one that is dropped unread is closed on the loop, whoever collects it."""

    def __init__(self, answer: httpx.Response) -> None:
        self._arrived: SimpleQueue[list[bytes] | None] = SimpleQueue()
        self._handover = _Handover(answer)
        self._abandoned = _when_dropped(self, self._handover)

    def __iter__(self) -> Iterator[bytes]:
        self._handover.start(self._arrived.put)
        while (batch := self._next()) is not None:
            yield self._handover.took(batch)
        self._handover.finish()

    def close(self) -> None:
        """Closes it; does not wait where the garbage collector met it on the loop itself."""
        if home().is_here():
            self._abandoned()
        elif self._abandoned.detach() and not self._handover.over:
            call(self._handover.aclose())

    def _next(self) -> list[bytes] | None:
        while True:
            with suppress(Empty):
                return self._arrived.get(timeout=HEARTBEAT)
            self._handover.check()


class AsyncBody(httpx.AsyncByteStream):
    """A body for a reader on any loop; as `SyncBody`."""

    def __init__(self, answer: httpx.Response) -> None:
        self._answer = answer
        self._arrived: deque[list[bytes] | None] = deque()
        self._news = asyncio.Event()
        self._handover = _Handover(answer)
        self._abandoned = _when_dropped(self, self._handover)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if home().is_here():
            async for chunk in cast(httpx.AsyncByteStream, self._answer.stream):
                yield chunk
            return
        self._handover.start(_teller(self._arrived, self._news))
        while (batch := await self._next()) is not None:
            yield self._handover.took(batch)
        self._handover.finish()

    async def aclose(self) -> None:
        """Closes it."""
        if self._abandoned.detach() and not self._handover.over:
            await call_async(self._handover.aclose())

    async def _next(self) -> list[bytes] | None:
        while not self._arrived:
            self._news.clear()
            await self._news.wait()
        return self._arrived.popleft()


def _teller(arrived: deque[list[bytes] | None], news: asyncio.Event) -> Deliver:
    """Puts batches where a reader on this loop finds them; holds no reader, so that one may be dropped."""
    loop = asyncio.get_running_loop()

    def deliver(batch: list[bytes] | None) -> None:
        arrived.append(batch)
        with suppress(RuntimeError):  # that loop has ended, and whoever read there
            loop.call_soon_threadsafe(news.set)

    return deliver


def _when_dropped(body: SyncBody | AsyncBody, handover: _Handover) -> weakref.finalize[..., Any]:
    dropped = weakref.finalize(body, handover.abandon)
    dropped.atexit = False
    return dropped
