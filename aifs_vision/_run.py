"""`Run`: many readings, as they come; bounded, ordered, for `for` and `async for` alike."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Literal, Protocol

from aifs_vision._errors import AIFSError, AuthenticationError, PermissionDeniedError
from aifs_vision._loop import call, call_async, result, result_async, submit
from aifs_vision._progress import Progress, progress
from aifs_vision._report import RunReport, Tally

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator
    from concurrent.futures import Future
    from types import TracebackType

    from typing_extensions import Self

    from aifs_vision._frames import Frame, Frames
    from aifs_vision._readings import Reading
    from aifs_vision._sources import Source

    Outcome = Reading | BaseException | None

__all__ = ["OnError", "Run", "Work"]

logger = logging.getLogger("aifs_vision")

OnError = Literal["raise", "skip", "keep"]

_OPENED_AHEAD = 4  # sources read while earlier ones are still being asked about
_READY_AHEAD = 2  # prepared images alive beyond those in flight
_FINISHED_AHEAD = 4  # times what is in flight: readings that wait for their turn or for the caller
_END: Any = object()


class Reader(Protocol):
    """What a run needs of whoever reads: `Vision`, with a task bound to it."""

    @property
    def in_flight(self) -> int:
        """How many frames may be asked about at once."""

    def open(self, source: Source, wanted: Frames) -> list[Frame]:
        """The frames of a source; called in a worker thread. Raises AIFSError where there are none."""

    def read(self, frame: Frame) -> Awaitable[Reading]:
        """The reading of a frame; failures are readings, too."""

    def failed(self, source: Source | Frame, error: AIFSError, *, pending: bool = False) -> Reading:
        """The reading that says why there is none."""


class Run:
    """The readings of many images, in their order, while the rest is still being read.

    Iterate it with `for` or `async for`. It starts at its first reading; leaving it early, by `close()`, a
    `with` block or letting go of it, cancels what is in flight. `report` says what was done so far.

    A run is iterated once, by one caller at a time.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._next: Future[Outcome] | None = None
        # The work does not know its run, so a run nobody holds any more is seen to and ended.
        self._forgotten = weakref.finalize(self, Work.abandon, work)
        self._forgotten.atexit = False

    @property
    def report(self) -> RunReport:
        """The figures so far; complete once the run has ended."""
        return self._work.report()

    def __iter__(self) -> Iterator[Reading]:
        return self

    def __next__(self) -> Reading:
        outcome = self._taken(result(self._asked()))
        if outcome is None:
            raise StopIteration
        return outcome

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Reading:
        outcome = self._taken(await result_async(self._asked()))
        if outcome is None:
            raise StopAsyncIteration
        return outcome

    def _asked(self) -> Future[Outcome]:
        """What is next; if its last caller has stopped waiting for it, it is still the next."""
        if self._next is None:
            self._next = submit(self._work.next())
        return self._next

    def _taken(self, outcome: Outcome) -> Reading | None:
        self._next = None
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def close(self) -> None:
        """Ends the run: nothing more is sent, what is in flight is cancelled. A second time does nothing."""
        call(self._work.close())

    async def aclose(self) -> None:
        """The asynchronous twin of `close()`."""
        await call_async(self._work.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class Work:
    """What a run does, on the background loop.

    A producer opens the sources a few ahead and starts one task a frame, as long as there is room; the caller
    takes the finished readings. Two semaphores bound it: prepared images alive, and readings not yet taken.
    """

    def __init__(
        self,
        reader: Reader,
        sources: Iterator[Source],
        on_error: OnError,
        wanted: Frames,
        *,
        ordered: bool,
        watched: bool,
    ) -> None:
        self._reader, self._sources = reader, sources
        self._on_error, self._wanted, self._ordered = on_error, wanted, ordered
        self._watched = watched
        self._progress: Progress | None = None
        self._tally = Tally()
        self._started = self._last = 0.0
        self._producer: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Future[Any]] = set()
        self._ready: asyncio.Queue[asyncio.Future[Any]] = asyncio.Queue()
        self._fatal: AIFSError | None = None
        self._closed = False

    async def next(self) -> Outcome:
        """The next reading by `on_error`, the error to raise instead, or None at the end."""
        if self._producer is None and not self._closed:
            self._start()
        while not self._closed:
            item = await self._ready.get()
            await asyncio.wait([item])
            if self._closed:
                break
            self._unread.release()
            error = item.exception()
            if item is self._producer or error is not None:  # the end, or the caller's own iterable failed
                await self.close()
                return error
            if (outcome := await self._received(item.result())) is not None:
                return outcome
        return None

    async def close(self) -> None:
        """Cancels what is under way and waits until it has gone."""
        self._closed = True
        if self._progress is not None:
            self._progress.close(self.report())
            self._progress = None
        under_way = [task for task in (self._producer, *self._tasks) if task is not None]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    def abandon(self) -> None:
        """Ends the work from any thread, without waiting for it."""
        if self._producer is not None and not self._closed:
            loop = self._producer.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(lambda: loop.create_task(self.close()))

    def report(self) -> RunReport:
        """The figures so far."""
        return self._tally.report(self._last - self._started)

    def _start(self) -> None:
        self._started = self._last = asyncio.get_running_loop().time()
        self._progress = progress() if self._watched else None
        self._prepared = asyncio.Semaphore(self._reader.in_flight + _READY_AHEAD)
        self._unread = asyncio.Semaphore(self._reader.in_flight * _FINISHED_AHEAD)
        self._producer = asyncio.create_task(self._produce())
        self._producer.add_done_callback(self._ready.put_nowait)

    async def _received(self, reading: Reading) -> Reading | AIFSError | None:
        """The reading or its error, as the caller wants to have it; None if it is skipped."""
        self._tally.add(reading)
        self._last = asyncio.get_running_loop().time()
        if self._progress is not None and self._progress.due():
            self._progress.show(self.report())
        if reading.error is None or self._on_error == "keep":
            return reading
        if self._on_error == "raise" or self._fatal is not None:
            await self.close()
            return reading.error
        logger.warning("skipped: %s", reading.error)
        return None

    async def _produce(self) -> None:
        """Starts the readings of all sources; the last of them has ended when this ends."""
        opening: deque[asyncio.Future[Any]] = deque()
        more = True
        try:
            while more or opening:
                while more and len(opening) < _OPENED_AHEAD:
                    pulled = self._pull()
                    await asyncio.wait([pulled])
                    if pulled.exception() is not None:  # raised when what came before it has been read
                        more = False
                        opening.append(pulled)
                    elif more := pulled.result() is not _END:
                        opening.append(self._open(pulled.result()))
                if opening:
                    await self._read_all(await opening.popleft())
        finally:
            for future in opening:
                future.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _pull(self) -> asyncio.Future[Any]:
        """The next source, from the caller's iterable, which may take its time; so a thread asks it."""
        return asyncio.get_running_loop().run_in_executor(None, next, self._sources, _END)

    def _open(self, source: Source) -> asyncio.Future[Any]:
        """The frames of a source, or the reading that says why there are none."""

        def opened() -> list[Frame] | Reading:
            try:
                return self._reader.open(source, self._wanted)
            except AIFSError as error:
                return self._reader.failed(source, error)

        return asyncio.get_running_loop().run_in_executor(None, opened)

    async def _read_all(self, opened: list[Frame] | Reading) -> None:
        """Starts a task for each frame, as room comes up; a source that cannot be opened is read already."""
        if not isinstance(opened, list):
            await self._unread.acquire()
            done: asyncio.Future[Reading] = asyncio.get_running_loop().create_future()
            done.set_result(opened)
            self._ready.put_nowait(done)
            return
        for frame in opened:
            await self._unread.acquire()
            await self._prepared.acquire()
            task = asyncio.create_task(self._read(frame))
            self._tasks.add(task)
            task.add_done_callback(self._finished)
            if self._ordered:
                self._ready.put_nowait(task)

    async def _read(self, frame: Frame) -> Reading:
        try:
            if self._fatal is None:
                return self._noted(await self._reader.read(frame))
        except asyncio.CancelledError:
            if self._fatal is None or self._closed:
                raise
        return self._reader.failed(frame, self._fatal, pending=True)

    def _noted(self, reading: Reading) -> Reading:
        """The reading; one whose key was refused ends all others, since it is true of every image."""
        if self._fatal is None and isinstance(reading.error, (AuthenticationError, PermissionDeniedError)):
            self._fatal = reading.error
            for task in self._tasks - {asyncio.current_task()}:
                task.cancel()
        return reading

    def _finished(self, task: asyncio.Future[Reading]) -> None:
        self._tasks.discard(task)
        self._prepared.release()
        if not self._ordered:
            self._ready.put_nowait(task)
