"""`Run`: many readings, as they come; bounded, ordered, for `for` and `async for` alike."""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aifs_vision._loop import call, call_async, result, result_async, submit
from aifs_vision._work import Work

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from types import TracebackType

    from typing_extensions import Self

    from aifs_vision._readings import Reading, ReadingIds
    from aifs_vision._report import RunReport
    from aifs_vision._work import Outcome

__all__ = ["Run"]


class Run:
    """The readings of many images, in their order, while the rest is still being read.

    Iterate it with `for` or `async for`. It starts at its first reading; leaving it early, by `close()`, a
    `with` block or letting go of it, cancels what is in flight. `report` says what was done so far.

    A run is iterated once, by one caller at a time.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._next: Future[Outcome] | None = None
        self._turn = threading.Lock()
        self._process = os.getpid()
        # The work does not know its run, so a run nobody holds any more is seen to and ended.
        self._forgotten = weakref.finalize(self, Work.abandon, work)
        self._forgotten.atexit = False

    @property
    def ids(self) -> ReadingIds:
        """The ids of its readings for an index, of pictures that share a name, too; to be asked in their order.

        Failures that are skipped count, so that what fails changes no id.
        """
        return self._work.ids

    @property
    def report(self) -> RunReport:
        """The figures so far; complete once the run has ended."""
        return self._work.report()

    def __iter__(self) -> Iterator[Reading]:
        return self

    def __next__(self) -> Reading:
        with self._alone():
            outcome = self._taken(result(self._asked()))
        if outcome is None:
            raise StopIteration
        return outcome

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Reading:
        with self._alone():
            outcome = self._taken(await result_async(self._asked()))
        if outcome is None:
            raise StopAsyncIteration
        return outcome

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Refuses a second caller while one waits, and a forked child, which has nobody to wait for."""
        if self._process != os.getpid():
            raise RuntimeError("this Run was made before the process was forked; make another with read_many()")
        if not self._turn.acquire(blocking=False):
            raise RuntimeError("a Run is iterated by one caller at a time; another one waits for its next reading")
        try:
            yield
        finally:
            self._turn.release()

    def _asked(self) -> Future[Outcome]:
        """What is next; if its last caller has stopped waiting for it, it is still the next."""
        if self._next is None:
            self._work.touch()
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
