"""The body of a streamed answer: it holds a slot until it is closed, and counts what it has brought."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import TYPE_CHECKING

import httpx

from aifs_vision._limits import Cost
from aifs_vision._loop import sheltered
from aifs_vision._readings import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aifs_vision._governor import Permit
    from aifs_vision._line import Line

__all__ = ["Released"]

_UNREAD = 2.0  # seconds until a body whose next chunk nobody asks for gives its slot back
_TAIL = 16_384  # bytes of the end of a stream in which its usage stands
_EVENT = b"data:"


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
        """What the last event that counts says; it may come in the middle of others."""
        for line in reversed(b"".join(self._tail).splitlines()):
            if line.startswith(_EVENT) and b'"usage"' in line:
                try:
                    used = Usage.of(json.loads(line[len(_EVENT) :]))
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
