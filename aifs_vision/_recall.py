"""Nothing is asked twice: readings from the cache, and equal images that are on their way."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from aifs_vision._answers import Verdict
from aifs_vision._cache import ReadingCache
from aifs_vision._errors import CacheError, SettingsError
from aifs_vision._loop import home
from aifs_vision._readings import RESULTS
from aifs_vision._typed import DataMismatch, data_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pydantic import BaseModel

    from aifs_vision._cache import Cache
    from aifs_vision._tasks import Task

__all__ = ["Recall", "cache_of"]

logger = logging.getLogger("aifs_vision")


@dataclass(frozen=True)
class _Asked:
    """A question that is on its way, and the run that asks it."""

    run: Recall
    verdict: asyncio.Future[Verdict]


class Recall:
    """A cache, with the questions of this process that are on their way to it; one for each run."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._name = os.path.realpath(cache.path) if isinstance(cache, ReadingCache) else id(cache)
        self._looked_up: dict[str, str] = {}
        self._warned = False

    async def verdict(self, key: str, task: Task, ask: Callable[[], Awaitable[Verdict]]) -> tuple[Verdict, bool]:
        """The verdict of the cache, of whoever asks the same just now, or of `ask()`; and whether it was paid before.

        A failure is shared with those of the same run who asked at the same time, and not kept; another run may have
        more patience, money or another key.

        Raises:
            CacheError: the cache could not be read.
            AIFSError: whatever `ask()` raises.
        """
        under_way: dict[str, _Asked] = home().keep(("asked", self._name), dict)
        while (other := under_way.get(key)) is not None:
            await asyncio.wait([other.verdict])
            # Else who asked has given up, or failed for reasons of its own, and somebody else has to ask.
            if other.verdict.cancelled() or (other.run is not self and other.verdict.exception() is not None):
                continue
            verdict = _of_ones_own(other.verdict.result(), task)
            if verdict is not None and (other.run is self or verdict.status in RESULTS):
                return verdict, verdict.status in RESULTS
            if under_way.get(key) is other:
                del under_way[key]
        own = under_way[key] = _Asked(run=self, verdict=asyncio.get_running_loop().create_future())
        try:
            found = await self._found(key, task.schema)
            verdict = found or await ask()
            if found is None and verdict.status in RESULTS:
                await self._keep(key, verdict)
            own.verdict.set_result(verdict)
        except BaseException as error:
            if isinstance(error, Exception):
                own.verdict.set_exception(error)
                own.verdict.exception()  # seen, also where nobody else asked
            raise
        finally:
            own.verdict.cancel()  # where it has neither
            if under_way.get(key) is own:
                del under_way[key]
        return verdict, found is not None

    def look_up(self, key: str) -> None:
        """Looks a reading up that will be asked for soon; blocks, in the thread that has just opened its picture.

        What is not there yet will be looked for again: an equal picture may be read until then.
        """
        if isinstance(self._cache, ReadingCache):
            with suppress(CacheError):  # it will be met again, where it has its place
                if (found := self._cache.get(key)) is not None:
                    self._looked_up[key] = found

    async def has(self, key: str) -> bool:
        """Whether the cache has it."""
        return await self._value(key) is not None

    async def _value(self, key: str) -> str | None:
        if (found := self._looked_up.pop(key, None)) is not None:
            return found
        value: str | None = await self._off_loop("read", self._cache.get, key)
        return value

    async def _found(self, key: str, schema: type[BaseModel] | None) -> Verdict | None:
        value = await self._value(key)
        if value is None:
            return None
        try:
            kept: dict[str, Any] = json.loads(value)
            status, text = kept["status"], kept["text"]
            if status not in RESULTS or not isinstance(text, str):
                return None
            data = data_of(text, schema) if schema is not None and status == "ok" else None
        except (ValueError, TypeError, LookupError, RecursionError, DataMismatch):
            return None  # somebody else's, or damaged: it is asked again, and replaced
        return Verdict(status=status, text=text, data=data)

    async def _keep(self, key: str, verdict: Verdict) -> None:
        value = json.dumps({"status": verdict.status, "text": verdict.text})
        try:
            await self._off_loop("written", self._cache.put, key, value)
        except CacheError as error:  # it has been paid: it is delivered, though it cannot be kept
            if not self._warned:
                logger.warning("what is read is delivered, but not kept: %s", error)
            self._warned = True

    async def _off_loop(self, done: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls the cache in a worker thread: a disk or a server may take its time."""

        def called() -> tuple[Any, BaseException | None]:
            try:
                return function(*arguments), None
            except BaseException as error:  # noqa: BLE001 - of somebody else's cache; the loop is to live on
                return None, error

        value, error = await asyncio.get_running_loop().run_in_executor(None, called)
        if error is None:
            return value
        if isinstance(error, CacheError):
            raise error
        # Whatever it is, it is no reason to pay again unseen.
        raise CacheError.failed(repr(self._cache), f"not {done}: {type(error).__name__}: {error}") from error


def _of_ones_own(verdict: Verdict, task: Task) -> Verdict | None:
    """Somebody else's verdict on the same question; None where one's own class does not take the data."""
    if verdict.data is None or task.schema is None:
        return verdict
    try:
        return replace(verdict, data=data_of(verdict.text, task.schema))
    except DataMismatch:
        return None


def cache_of(cache: Cache | str | os.PathLike[str] | None) -> Cache | None:
    """What a setting `cache=` means: a path is a file of readings, a cache is itself, None is none.

    Raises:
        SettingsError: it is nothing of that.
        CacheError: the file is foreign, damaged or out of reach.
    """
    if cache is None:
        return None
    if isinstance(cache, (str, os.PathLike)):
        return ReadingCache(cache)
    methods = [getattr(cache, name, None) for name in ("get", "put")]
    plain = all(callable(method) and not inspect.iscoroutinefunction(method) for method in methods)
    if isinstance(cache, type) or not plain:
        rule = "it is a path, a ReadingCache or an object with plain methods get() and put(), or None"
        raise SettingsError.bad_value("cache", cache, rule)
    return cache
