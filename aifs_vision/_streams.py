"""The body of a streamed answer: it holds a slot until it is closed, and comes to its reader in another thread.

One task reads it on the loop, a little ahead of its reader, and hands over at once all that has come. So a chunk costs
the two threads one signal and no task of its own, and chunks that come together cost one signal all.
"""

from __future__ import annotations

import asyncio
import json
import re
import weakref
from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, cast

import anyio
import httpx

from aifs_vision._limits import Cost
from aifs_vision._loop import HEARTBEAT, call, home, result, sheltered, submit
from aifs_vision._readings import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from concurrent.futures import Future

    from aifs_vision._governor import Permit
    from aifs_vision._line import Line

    Deliver = Callable[[list[bytes] | None], object]

__all__ = ["AsyncBody", "Released", "SyncBody"]

_UNREAD = 2.0  # seconds until a body whose next chunk nobody asks for gives its slot back
_TAIL = 16_384  # bytes of the end of a stream in which its usage stands
_AHEAD = 262_144  # bytes that are read before anybody wants them
_EVENT = b"data:"
_USED = re.compile(r'"usage"\s*:\s*(?=\{)')  # a text that has this has a backslash before each quotation mark
_JSON = json.JSONDecoder()


class Released(httpx.AsyncByteStream):
    """A body that gives its slot back when it is closed, not when its headers have arrived.

    A body that nobody reads on gives it back too: a stream that was dropped may wait for the garbage collector
    for as long as it likes, and must not hold up everybody else. What the answer has used is settled at its end: as
    its last event counts it, else a token an event.
    """

    def __init__(self, stream: httpx.AsyncByteStream, line: Line, permit: Permit) -> None:
        self._stream, self._line, self._permit = stream, line, permit
        self._closed = False
        self._events, self._split = 0, b""  # what a chunk ends in may be the beginning of an event's name
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._loop = asyncio.get_running_loop()
        self._unread_since: float | None = self._loop.time()
        self._lease = self._loop.call_at(self._unread_since + _UNREAD, self._look)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._unread_since = None
        async for chunk in self._stream:
            since = self._split + chunk
            self._events += since.count(_EVENT)
            self._split = since[1 - len(_EVENT) :]
            self._keep(chunk)
            self._unread_since = self._loop.time()
            yield chunk
            self._unread_since = None

    async def aclose(self) -> None:
        self._lease.cancel()
        try:
            if not self._closed:
                self._closed = True
                await sheltered(self._stream.aclose())
                self._settle()
        finally:
            self._line.leave(self._permit)

    def _settle(self) -> None:
        used = self._usage()
        if used == Usage():
            read = round(self._permit.reserved.input_tokens)
            used = Usage(input_tokens=read, output_tokens=self._events)
        if self._events:
            cost = Cost(input_tokens=used.input_tokens, output_tokens=used.output_tokens)
            self._line.governor.settle(self._permit, cost)

    def _usage(self) -> Usage:
        """What the last event that counts says; it may be longer than what is kept, and the usage deep inside."""
        tail = b"".join(self._tail).decode("utf-8", "replace")
        for found in reversed(list(_USED.finditer(tail))):
            try:
                used = Usage.of({"usage": _JSON.raw_decode(tail, found.end())[0]})
            except (ValueError, RecursionError):
                continue
            if used != Usage():
                return used
        return Usage()

    def _keep(self, chunk: bytes) -> None:
        self._tail.append(chunk)
        self._tail_size += len(chunk)
        while self._tail_size - len(self._tail[0]) >= _TAIL:
            self._tail_size -= len(self._tail.popleft())

    def _look(self) -> None:
        """Gives the slot back where nobody has read on; one timer for all chunks, which may be many."""
        now = self._loop.time()
        since = now if self._unread_since is None else self._unread_since
        if now >= since + _UNREAD:
            self._line.leave(self._permit)
        else:
            self._lease = self._loop.call_at(since + _UNREAD, self._look)


# -- From the loop to the reader -----------------------------------------------------------------------------------


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
        """Whether the body has come wholly, or never will, and is closed; or is not this process's to close."""
        return (self._reading is not None and self._reading.done()) or not self._place.lives

    def start(self, deliver: Deliver) -> None:
        """Starts to read."""
        self.check()
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
        if self._handover.over:
            self._abandoned.detach()
        elif home().is_here():
            self._abandoned()
        elif self._abandoned.detach():
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
        """Closes it; does not wait for another loop, since its own may end before, where a reader was dropped."""
        if self._handover.over:
            self._abandoned.detach()
        elif not home().is_here():
            self._abandoned()
        elif self._abandoned.detach():
            await self._handover.aclose()

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
