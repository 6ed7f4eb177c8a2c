"""What a run does, on the background loop."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from aifs_vision._api_errors import AuthenticationError, BudgetError, PermissionDeniedError, QuotaExceededError
from aifs_vision._errors import AIFSError, CacheError, SettingsError, one_line
from aifs_vision._interview import Spent
from aifs_vision._loop import home
from aifs_vision._progress import Progress, progress
from aifs_vision._readings import ReadingIds
from aifs_vision._report import RunReport, Tally
from aifs_vision._tracing import ObserverError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from aifs_vision._folders import Unreadable
    from aifs_vision._frames import Frame, Frames
    from aifs_vision._readings import Reading
    from aifs_vision._sources import Source

    Outcome = Reading | BaseException | None

__all__ = ["OnError", "Work"]

logger = logging.getLogger("aifs_vision")

OnError = Literal["raise", "skip", "keep"]
_ON_ERROR = ("raise", "skip", "keep")

_OPENED_AHEAD = 4  # sources read while earlier ones are still being asked about
_READY_AHEAD = 2  # prepared images alive beyond those in flight
_FINISHED_AHEAD = 4  # times what is in flight: readings that wait for their turn or for the caller
_END: Any = object()

_FINISHING = (BudgetError, QuotaExceededError, CacheError)
"""What ends a run, but lets those finish that are on their way: they are paid."""

_RECALLING = (BudgetError, QuotaExceededError)
"""What ends the asking, but not the looking into a cache."""

_ENDING = (AuthenticationError, PermissionDeniedError, *_FINISHING)
"""What is true of every image, and no reason to ask for another one."""


@dataclass(frozen=True)
class _Broken:
    """What the caller's own code raised; it reaches the caller in its place, and never the event loop."""

    error: BaseException


class Sources(Protocol):
    """The sources of a run, one after the other."""

    total: int | None

    def __iter__(self) -> Iterator[Source | Unreadable]:
        """Itself."""

    def __next__(self) -> Source | Unreadable:
        """The next one."""


class Reader(Protocol):
    """What a run needs of whoever reads: `Vision`, with a task bound to it."""

    @property
    def in_flight(self) -> int:
        """How many frames may be asked about at once."""

    def open(self, source: Source | Unreadable, wanted: Frames) -> list[Frame]:
        """The frames of a source; called in a worker thread. Raises AIFSError where there are none."""

    def read(self, frame: Frame, spent: Spent) -> Awaitable[Reading]:
        """The reading of a frame; failures are readings, too. `spent` grows by what it takes."""

    def failed(self, place: Source | Unreadable | Frame, error: AIFSError) -> Reading:
        """The reading that says why there is none."""

    def pending(self, frame: Frame, error: AIFSError, spent: Spent) -> Reading:
        """The reading of a frame that was not read, as the run has ended before."""


class Work:
    """What a run does, on the background loop.

    One task asks the caller's iterable, in a thread of its own, and opens what it gives, a few sources ahead; a second
    starts a task for each frame, as long as there is room; the caller takes the finished readings. Two semaphores
    bound it: prepared images alive, and readings not yet taken.
    """

    def __init__(
        self,
        reader: Reader,
        sources: Sources,
        on_error: OnError,
        wanted: Frames,
        *,
        ordered: bool,
        watched: bool,
    ) -> None:
        if on_error not in _ON_ERROR:
            raise SettingsError.bad_choice("on_error", on_error, _ON_ERROR)
        self._reader, self._sources = reader, sources
        self._on_error, self._wanted, self._ordered = on_error, wanted, ordered
        self._watched = watched
        self._progress: Progress | None = None
        self._tally = Tally()
        self._started = self._last = 0.0
        self._opener: asyncio.Task[None] | None = None
        self._producer: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Future[Any]] = set()
        self._asking: set[asyncio.Task[Any] | None] = set()
        self._ready: asyncio.Queue[asyncio.Future[Any]] = asyncio.Queue()
        self._fatal: AIFSError | None = None
        self._ended_by: AIFSError | None = None  # what is raised when everything that was paid is delivered
        self._closed = False
        self._source_of: dict[asyncio.Future[Any], int] = {}
        self._left: dict[int, int] = {}  # frames of a source that have no reading yet
        self._done = 0  # sources all of whose frames have one
        self.ids = ReadingIds()
        self._touched = False  # asked for a reading, though perhaps not yet begun

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
            self._finish(item)
            error = item.exception()
            if item is self._producer or error is not None:  # the end, or a mistake in this package
                await self.close()
                return error or self._ended_by
            found = item.result()
            if isinstance(found, _Broken):
                await self.close()
                return found.error
            if (outcome := await self._received(found)) is not None:
                return outcome
        return None

    async def close(self) -> None:
        """Cancels what is under way and waits until it has gone."""
        self._closed = True
        if self._progress is not None:
            self._progress.total = self._sources.total
            self._progress.close(self.report(), self._done)
            self._progress = None
        under_way = [task for task in (self._opener, self._producer, *self._tasks) if task is not None]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        self._ready.put_nowait(_done(None))  # whoever waits for the next reading need not wait any longer

    def abandon(self) -> None:
        """Ends the work from any thread, without waiting for it, also where it has only just been asked for."""
        if self._touched:
            home().start_soon(self.close())

    def touch(self) -> None:
        """Says, from any thread, that the first reading is about to be asked for."""
        self._touched = True

    def report(self) -> RunReport:
        """The figures so far."""
        return self._tally.report(self._last - self._started)

    def _start(self) -> None:
        self._started = self._last = asyncio.get_running_loop().time()
        self._progress = progress(self._sources.total) if self._watched else None
        self._prepared = asyncio.Semaphore(self._reader.in_flight + _READY_AHEAD)
        self._unread = asyncio.Semaphore(self._reader.in_flight * _FINISHED_AHEAD)
        self._opened: asyncio.Queue[asyncio.Future[Any] | None] = asyncio.Queue(_OPENED_AHEAD)
        self._opener = asyncio.create_task(self._open_all())
        self._producer = asyncio.create_task(self._produce())
        self._producer.add_done_callback(self._ready.put_nowait)

    async def _received(self, reading: Reading) -> Reading | AIFSError | None:
        """The reading or its error, as the caller wants to have it; None if it is skipped."""
        self._tally.add(reading)
        self._last = asyncio.get_running_loop().time()
        if self._progress is not None and self._progress.due():
            self._progress.total = self._sources.total  # a folder may just have been listed
            self._progress.show(self.report(), self._done)
        if reading.error is None or self._on_error == "keep":
            return reading
        if isinstance(reading.error, _FINISHING):
            self._ended_by = self._ended_by or reading.error
            return None
        if self._on_error == "raise" or isinstance(reading.error, _ENDING):
            await self.close()
            return reading.error
        self.ids.of(reading)  # so that no other picture of the name gets its id
        logger.warning("skipped: %s", one_line(reading.error.brief))
        return None

    async def _open_all(self) -> None:
        """Asks for the sources, one after the other, and has them opened, a few ahead of their turn."""
        # A thread of their own: the caller's iterable may take its time, and may itself wait for other readings.
        with closing(_Asker(self._sources)) as asker:
            while not self._stops and (source := await asker.next()) is not _END:
                broken = isinstance(source, _Broken)
                await self._opened.put(_done(source) if broken else self._open(source))
                if broken:  # raised when what came before it has been read
                    break
        await self._opened.put(None)

    async def _produce(self) -> None:
        """Starts the readings of all sources; the last of them has ended when this ends."""
        try:
            number = 0
            while (opening := await self._opened.get()) is not None:
                if not self._stops:
                    await self._read_all(await opening, number)
                    number += 1
        finally:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def _stops(self) -> bool:
        """Whether nobody wants to hear of the images that are still to come."""
        return self._fatal is not None and self._on_error != "keep"

    def _open(self, source: Source | Unreadable) -> asyncio.Future[Any]:
        """The frames of a source, or the reading that says why there are none."""

        def opened() -> list[Frame] | Reading | _Broken:
            try:
                return self._reader.open(source, self._wanted)
            except AIFSError as error:
                return self._reader.failed(source, error)
            except BaseException as error:  # noqa: BLE001 - of the caller's file object: raised in its place
                return _Broken(error)

        return asyncio.get_running_loop().run_in_executor(None, opened)

    async def _read_all(self, opened: list[Frame] | Reading | _Broken, number: int) -> None:
        """Starts a task for each frame, as room comes up; a source that cannot be opened is read already."""
        if not isinstance(opened, list):
            if isinstance(opened, _Broken):  # what came before it is delivered, in whatever order
                await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._unread.acquire()
            read = _done(opened)
            self._source_of[read], self._left[number] = number, 1
            self._ready.put_nowait(read)
            return
        self._left[number] = len(opened)
        for frame in opened:
            await self._unread.acquire()
            await self._prepared.acquire()
            task = asyncio.create_task(self._read(frame))
            self._tasks.add(task)
            self._source_of[task] = number
            task.add_done_callback(self._finished)
            if self._ordered:
                self._ready.put_nowait(task)

    async def _read(self, frame: Frame) -> Reading | _Broken:
        spent = Spent(lambda: self._fatal)
        self._asking.add(asyncio.current_task())
        try:
            if self._fatal is None or isinstance(self._fatal, _RECALLING):
                return self._noted(await self._reader.read(frame, spent))
        except ObserverError as raised:
            return _Broken(raised.error)
        except asyncio.CancelledError:
            if self._fatal is None or self._closed:
                raise
        finally:
            self._asking.discard(asyncio.current_task())
        return self._reader.pending(frame, self._fatal, spent)

    def _noted(self, reading: Reading) -> Reading:
        """The reading; an error that is true of every image ends all others."""
        if self._fatal is None and isinstance(reading.error, _ENDING):
            self._fatal = reading.error
            others = () if isinstance(self._fatal, _FINISHING) else self._asking - {asyncio.current_task()}
            for task in others:  # those still to start will see it themselves
                if task is not None:
                    task.cancel()
        return reading

    def _finish(self, item: asyncio.Future[Any]) -> None:
        """Counts the sources that are done with."""
        number = self._source_of.pop(item, None)
        if number is not None:
            self._left[number] -= 1
            if not self._left[number]:
                del self._left[number]
                self._done += 1

    def _finished(self, task: asyncio.Future[Reading | _Broken]) -> None:
        self._tasks.discard(task)
        self._prepared.release()
        if not self._ordered:
            self._ready.put_nowait(task)


class _Asker:
    """A thread that asks an iterator for one thing after the other."""

    def __init__(self, sources: Iterator[Any]) -> None:
        self._sources = sources
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="aifs-vision-sources")

    async def next(self) -> Any:
        """The next thing, `_END`, or what the iterator raised, as `_Broken`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ask)

    def _ask(self) -> Any:
        try:
            return next(self._sources, _END)
        except BaseException as error:  # noqa: BLE001 - SystemExit, too, is for the caller and not for the loop
            return _Broken(error)

    def close(self) -> None:
        """Lets go of the thread; it ends when the iterator has given what it was asked for last."""
        self._thread.shutdown(wait=False)


def _done(value: Any) -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future
