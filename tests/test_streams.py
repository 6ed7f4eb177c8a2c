"""Streamed answers on their way from the loop to their reader: whole, in few pieces, bounded, and closed in the end."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import threading
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from aifs_vision import Limits, async_http_client, http_client
from aifs_vision.testing import virtual_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from aifs_vision.testing import Clock

ASKED = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Tell me"}], "stream": True}
MUCH = b"x" * 65_536


class Told(httpx.AsyncByteStream):
    """The body of an answer, chunk by chunk; an error among them is raised."""

    def __init__(self, *chunks: bytes | Exception, pause: float | None = None) -> None:
        self.asked_for = self.closed = 0
        self._chunks, self._pause, self.length = chunks, pause, len(chunks)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            self.asked_for += 1
            if self._pause is not None:
                await asyncio.sleep(self._pause)
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    async def aclose(self) -> None:
        """Counts how often it is closed."""
        self.closed += 1


def telling(body: httpx.AsyncByteStream) -> Callable[[httpx.Request], Any]:
    """A service that streams this body, and answers at once to whoever wants no stream."""

    async def answered(request: httpx.Request) -> httpx.Response:
        if json.loads(request.content).get("stream"):
            return httpx.Response(200, stream=body)
        return httpx.Response(200, json={"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]})

    return answered


@contextmanager
def opened(body: httpx.AsyncByteStream, **options: Any) -> Iterator[tuple[httpx.Response, httpx.Client, Clock]]:
    """An answer with this body, the client that has it, and the clock by which it comes."""
    with (
        virtual_time(telling(body)) as clock,
        http_client(base_url="http://service.example/v2", api_key="k", **options) as http,
        http.stream("POST", "/chat/completions", json=ASKED) as answer,
    ):
        yield answer, http, clock


def is_answered(http: httpx.Client) -> bool:
    """Whether another question comes through."""
    return http.post("/chat/completions", json={**ASKED, "stream": False}).is_success


async def pieces_awaited() -> list[bytes]:
    """What a reader on a loop of its own is given."""
    async with (
        async_http_client(base_url="http://service.example/v2", api_key="k") as http,
        http.stream("POST", "/chat/completions", json=ASKED) as answer,
    ):
        return [piece async for piece in answer.aiter_raw()]


@pytest.mark.parametrize("pause", [None, 0.1])
def test_what_has_come_is_handed_over_at_once(pause: float | None) -> None:
    """Chunks that come together are one piece, and those that come one by one are given one by one; none is lost."""
    chunks = [b"data: %d\n\n" % number for number in range(100)]
    expected = [b"".join(chunks)] if pause is None else chunks
    with opened(Told(*chunks, pause=pause)) as (answer, _, _):
        assert list(answer.iter_raw()) == expected
    with virtual_time(telling(Told(*chunks, pause=pause))):
        assert asyncio.run(pieces_awaited()) == expected


def test_a_slow_reader_is_waited_for() -> None:
    """Of a body that nobody takes on, no more than a little is read ahead; all of it comes once it is wanted."""
    body = Told(*[MUCH] * 200)
    with opened(body) as (answer, _, _):
        read = answer.iter_raw()
        size = len(next(read))
        assert body.asked_for * len(MUCH) <= size + 8 * len(MUCH)
        assert size + sum(map(len, read)) == 200 * len(MUCH)
    assert body.closed


@pytest.mark.parametrize("broken", [httpx.ReadError("gone"), httpx.ReadTimeout("silent")])
def test_a_body_that_breaks_gives_what_came_before(broken: Exception) -> None:
    """What has come before a connection breaks is given, then the error is raised; the body is closed."""
    body = Told(b"a", b"b", broken)
    with opened(body) as (answer, _, _):
        read = answer.iter_raw()
        assert next(read) == b"ab"
        with pytest.raises(type(broken)):
            next(read)
    assert body.closed


@pytest.mark.parametrize("body", [Told(*[MUCH] * 200), Told(*[b"a"] * 100_000, pause=60.0)], ids=["ready", "awaited"])
def test_leaving_a_stream_ends_its_reading(body: Told) -> None:
    """A reader who leaves in the middle has the body closed, whether more of it is on its way or waits to be taken."""
    with opened(body) as (answer, http, _):
        assert next(answer.iter_raw())
        answer.close()
        assert body.closed
        asked_for = body.asked_for
        assert is_answered(http)
        assert body.asked_for == asked_for < body.length


def test_a_dropped_stream_is_closed() -> None:
    """A stream that is dropped in its middle, without being closed, is closed by whoever collects it."""
    body = Told(*[MUCH] * 200)
    with (
        virtual_time(telling(body)),
        http_client(base_url="http://service.example/v2", api_key="k", limits=Limits(in_flight=1)) as http,
    ):
        answer: Any = http.send(http.build_request("POST", "/chat/completions", json=ASKED), stream=True)
        assert next(answer.iter_raw())
        del answer
        gc.collect()
        assert is_answered(http)
        assert body.closed


def test_a_reader_on_another_loop_does_not_wait_for_the_close() -> None:
    """Its loop may be about to end, with the reader dropped: the body is closed all the same, and no task is left."""
    may_close, has_closed = threading.Event(), threading.Event()

    class Slow(Told):
        async def aclose(self) -> None:
            await asyncio.to_thread(may_close.wait)
            has_closed.set()

    async def left() -> None:
        http = async_http_client(base_url="http://service.example/v2", api_key="k")
        answer = await http.send(http.build_request("POST", "/chat/completions", json=ASKED), stream=True)
        async for _ in answer.aiter_raw():
            break
        await asyncio.wait_for(answer.aclose(), 10)

    with virtual_time(telling(Slow(*[MUCH] * 200))):
        try:
            asyncio.run(left())
        finally:
            may_close.set()
        assert has_closed.wait(10)


def test_a_body_that_has_come_holds_no_slot() -> None:
    """Once all of it is here, a stream is in nobody's way, however slowly its reader takes it."""
    with opened(Told(b"a", b"b"), limits=Limits(in_flight=1)) as (answer, http, clock):
        assert next(answer.iter_raw())
        begun = clock.now
        assert is_answered(http)
        assert clock.now - begun < 1


@pytest.mark.parametrize("begun", [False, True])
def test_a_body_that_nobody_reads_gives_its_slot_back(begun: bool) -> None:  # noqa: FBT001
    """A stream that is not read, or no longer, holds up others for two seconds and not for ever."""
    with opened(Told(*[MUCH] * 200), limits=Limits(in_flight=1)) as (answer, http, clock):
        assert not begun or next(answer.iter_raw())
        assert is_answered(http)
        assert 1.9 < clock.now < 10


def test_a_stream_closed_by_another_is_no_end() -> None:
    """Whoever reads a stream that somebody else closes is told so, and takes what came for no whole answer."""
    with opened(Told(*[MUCH] * 200)) as (answer, _, _):
        body: Any = answer.stream
        read = iter(body)
        assert next(read)
        answer.close()
        with pytest.raises(httpx.ReadError, match="closed"):
            list(read)


CHAT, RESPONSES = {"prompt_tokens": 9_000, "completion_tokens": 0}, {"input_tokens": 9_000, "output_tokens": 0}


@pytest.mark.parametrize(
    ("usage", "before"),
    [(CHAT, b""), (CHAT, b'"text": "' + MUCH + b'", '), (RESPONSES, b'"type": "response.completed", "response": {')],
    ids=["chat", "long", "responses"],
)
def test_what_a_stream_has_used_is_counted_at_its_end(usage: dict[str, int], before: bytes) -> None:
    """A stream's usage, in an event of any length and in pieces, is what those that come after it wait for."""
    told = Told(b"da", b"ta: {}\n\ndata: {" + before, b'"usage": ', json.dumps(usage).encode(), b"}\n\n")
    with opened(told, limits=Limits(input_tokens_per_minute=10_000)) as (answer, http, clock):
        assert list(answer.iter_raw())
        begun = clock.now
        assert is_answered(http)
        assert 40 < clock.now - begun < 70


if hasattr(os, "fork"):

    class Silent(Told):
        """A body of which no more comes."""

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"a"
            await asyncio.Event().wait()

    def in_a_child(work: Callable[[], object]) -> int:
        """The exit code of a forked child that does this; it ends after ten seconds at the latest."""
        child = os.fork()
        if not child:
            signal.alarm(10)
            try:
                work()
                os._exit(0)
            except BaseException:  # noqa: BLE001 - the child ends here, whatever happens
                traceback.print_exc(file=sys.stderr)
            os._exit(1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def test_a_child_does_not_wait_for_its_parents_stream() -> None:
        """A forked child that reads on in a stream of its parent is told that this cannot be."""
        with opened(Silent()) as (answer, _, _):
            body: Any = answer.stream
            read = iter(body)
            assert next(read) == b"a"

            def reads_on() -> None:
                for again in (read, iter(body)):
                    with pytest.raises(httpx.ReadError, match="another process"):
                        next(again)

            assert in_a_child(reads_on) == 0

    @pytest.mark.parametrize("begun", [False, True])
    def test_a_child_that_closes_its_parents_stream_does_not_wait(begun: bool) -> None:  # noqa: FBT001
        """A forked child may close a stream of its parent, which is then still the parent's."""
        body = Told(b"a", b"b", pause=60.0)
        with opened(body) as (answer, _, _):
            read = answer.iter_raw()
            assert not begun or next(read) == b"a"
            assert in_a_child(answer.close) == 0
            assert b"".join(read) == (b"b" if begun else b"ab")
