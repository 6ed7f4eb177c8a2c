"""The one event loop that all requests run on, in a thread of its own.

It owns the connections and the pacing, so any number of `asyncio.run`, notebook cells, threads and web
handlers share them. A forked child starts its own.
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
import math
import os
import sys
import threading
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterator

__all__ = ["HEARTBEAT", "Home", "call", "call_async", "home", "moved", "result", "result_async", "sheltered", "submit"]

T = TypeVar("T")

_SHUTDOWN = 5.0  # seconds the loop gets at interpreter exit to close its connections
HEARTBEAT = 0.5  # seconds; Ctrl-C does not end a longer wait on Windows, nor where another thread gets the signal
_SHELTERED = "aifs-vision sheltered"  # tasks that those who wait for them end
_CPU_THREADS = 8  # more decode no faster: they share the memory bus


class Home:
    """What belongs to one background loop: its thread, its pools, and whatever is kept there by key."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop | None = None, around: Callable[[Any], Any] = lambda it: it
    ) -> None:
        self.loop = loop or _own_loop()
        self.loop.set_exception_handler(_tell)
        self.around = around  # what is put around the connections; for tests that turn the clock
        self.loop.set_default_executor(ThreadPoolExecutor(16, thread_name_prefix="aifs-vision-io"))
        self.cpu = ThreadPoolExecutor(_cpus(), thread_name_prefix="aifs-vision-cpu")
        self.closing = False
        self._process = os.getpid()
        self._kept: dict[Hashable, Any] = {}
        self._closers: list[Callable[[], Awaitable[None]]] = []
        self._thread = threading.Thread(target=self._run, name="aifs-vision", daemon=True)
        self._thread.start()

    def keep(self, key: Hashable, make: Callable[[], T], close: Callable[[T], Awaitable[None]] | None = None) -> T:
        """The one object of this key, made at its first use; only called on the loop, so it needs no lock."""
        if key not in self._kept:
            made = make()
            self._kept[key] = made
            if close is not None:
                self._closers.append(lambda: close(made))
        kept: T = self._kept[key]
        return kept

    @property
    def lives(self) -> bool:
        """Whether it runs: neither ended, nor that of the parent of a forked process."""
        return self._process == os.getpid() and not self.closing

    def start(self, work: Coroutine[Any, Any, T], future: Future[T]) -> None:
        """Starts `work`, on the loop, for somebody in another thread who waits for its result in the future."""
        if future.cancelled():
            work.close()
            return
        task = self.loop.create_task(_settled(work, future))

        def ended(future: Future[T]) -> None:
            if future.cancelled() and not task.done():
                self.loop.call_soon_threadsafe(task.cancel)

        future.add_done_callback(ended)

    def start_soon(self, work: Coroutine[Any, Any, Any]) -> None:
        """Starts `work` and does not wait; from anywhere, so from finalisers too, at any moment.

        Nothing happens where the loop has ended, or belongs to the parent of a forked process.
        """
        if self.lives:
            asyncio.run_coroutine_threadsafe(work, self.loop)
        else:
            work.close()

    def is_here(self) -> bool:
        """Whether the caller is the loop's own thread, which must not wait for itself."""
        return threading.current_thread() is self._thread

    def close(self) -> None:
        """Ends what still runs, closes the connections and stops the thread."""
        self.closing = True
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._end(), self.loop)
            self._thread.join(_SHUTDOWN)

    async def _end(self) -> None:
        cancelled: set[asyncio.Task[Any]] = set()
        while tasks := asyncio.all_tasks() - {cast("asyncio.Task[Any]", asyncio.current_task())}:
            left = {task for task in tasks - cancelled if task.get_name() != _SHELTERED}
            # One that has not started may hold a coroutine that would never be awaited: it gets its first step.
            for task in filter(_has_started, left):
                task.cancel()
                cancelled.add(task)
            await asyncio.wait(tasks, timeout=0 if left - cancelled else None, return_when=FIRST_COMPLETED)
        for close in self._closers:
            await close()
        await asyncio.sleep(0)  # sockets are closed a step after their transports
        self.cpu.shutdown(wait=False)
        self.loop.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()


def _tell(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Says what went wrong unseen, but not that pools take no more work, as they do while the program ends."""
    error = context.get("exception")
    if not (isinstance(error, RuntimeError) and str(error).startswith("cannot schedule new futures")):
        loop.default_exception_handler(context)


def _has_started(task: asyncio.Task[Any]) -> bool:
    work = task.get_coro()
    return not inspect.iscoroutine(work) or inspect.getcoroutinestate(work) != inspect.CORO_CREATED


def home() -> Home:
    """The home of this process, started at its first use."""
    global _home  # noqa: PLW0603 - one loop a process is the point of this module
    with _lock:
        if _home is None:
            _home = Home()
        return _home


@contextmanager
def moved(place: Home) -> Iterator[None]:
    """Everything of this process runs at another home, until this ends."""
    global _home  # noqa: PLW0603 - as above
    with _lock:
        before, _home = _home, place
    try:
        yield
    finally:
        with _lock:
            _home = before
        place.close()


def submit(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Starts `work` on the loop.

    Raises:
        RuntimeError: called on the loop itself, where waiting for the result would be for ever.
    """
    future: Future[T] = Future()
    _hand_over(work, future)
    return future


def _hand_over(work: Coroutine[Any, Any, T], future: Future[T]) -> None:
    place = home()
    if place.is_here():
        work.close()
        raise RuntimeError("a synchronous call of aifs_vision from inside its own event loop; use the async twin")
    place.loop.call_soon_threadsafe(place.start, work, future)


async def _settled(work: Coroutine[Any, Any, T], future: Future[T]) -> None:
    """Runs the work, and tells at once what came of it: what asyncio has for that takes the loop another turn."""
    try:
        made = await work
    except asyncio.CancelledError:
        future.cancel()
        future.set_running_or_notify_cancel()
        raise
    except BaseException as error:  # noqa: BLE001 - it is for whoever waits
        if future.set_running_or_notify_cancel():
            future.set_exception(error)
    else:
        if future.set_running_or_notify_cancel():
            future.set_result(made)
    finally:
        del future  # the traceback of its error has this frame


def result(future: Future[T]) -> T:
    """Waits for a result; an interrupt of the wait leaves the work running."""
    try:
        while True:
            try:
                return future.result(HEARTBEAT)
            except FutureTimeoutError:
                if future.done():  # else it has only not come yet
                    return future.result()
    except CancelledError:
        if home().closing:  # the interpreter ends, and with it this thread
            raise SystemExit from None
        raise


def call(work: Coroutine[Any, Any, T]) -> T:
    """Runs `work` on the loop and waits for it; an interrupt of the wait cancels the work."""
    future: Future[T] = Future()
    try:
        _hand_over(work, future)
        return result(future)
    finally:
        future.cancel()
        if inspect.getcoroutinestate(work) == inspect.CORO_CREATED:  # an interrupt before it was handed over
            work.close()


async def result_async(future: Future[T]) -> T:
    """Awaits a result on the caller's loop; cancelling the caller leaves the work running."""
    here = asyncio.wrap_future(future)
    # Whoever stops waiting does not want to hear of an error that nobody retrieved.
    here.add_done_callback(lambda done: done.cancelled() or done.exception())
    await asyncio.wait([here])
    return here.result()


async def call_async(work: Coroutine[Any, Any, T]) -> T:
    """Runs `work` on the loop and awaits it on the caller's; cancelling the caller cancels the work."""
    if home().is_here():
        return await work
    return await asyncio.wrap_future(submit(work))


async def sheltered(
    work: Coroutine[Any, Any, T], seconds: float = math.inf, *, unwanted: Callable[[T], Awaitable[None]] | None = None
) -> T:
    """Awaits work with the pooled connections, on the loop itself, so that whoever leaves it loses no connection.

    The pool closes connections one after the other, in a scope that holds off cancellations by anyio, but not those
    by asyncio: one of these, and the connections that are left are forgotten open. So the work has a task of its
    own, and whatever ends it early comes by way of anyio.

    Args:
        work: is given so many `seconds`.
        unwanted: gets rid of a result that comes although nobody waits for it any more.

    Raises:
        asyncio.TimeoutError: it took longer.
    """
    loop = asyncio.get_running_loop()
    scope, over = anyio.CancelScope(deadline=loop.time() + seconds), asyncio.Event()

    async def within() -> T:
        try:
            with scope:
                return await work
            raise asyncio.TimeoutError
        finally:
            over.set()

    task = loop.create_task(within(), name=_SHELTERED)
    left: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await over.wait()
        except asyncio.CancelledError as error:  # also a second time, as at the end of a program
            left = error
            scope.cancel()
    if left is None:
        return task.result()
    if not task.cancelled() and task.exception() is None and unwanted is not None:
        await unwanted(task.result())
    raise left


def _own_loop() -> asyncio.AbstractEventLoop:
    """A loop of Python's own, whatever the program has for its others: some make connections to one address alone."""
    if sys.platform == "win32":
        return asyncio.ProactorEventLoop()
    return asyncio.SelectorEventLoop()


def _cpus() -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_CPU_THREADS, available)


def _forget() -> None:
    """In a forked child: the parent's thread does not exist here, and its sockets are not ours to close."""
    global _home, _lock
    if _home is not None:
        _abandoned.append(_home)
    _home, _lock = None, threading.Lock()


def _close() -> None:
    if _home is not None:
        _home.close()


_lock = threading.Lock()
_home: Home | None = None
_abandoned: list[Home] = []  # kept alive, so that nothing of theirs is finalised in the child

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
atexit.register(_close)
