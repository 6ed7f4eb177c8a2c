"""One `add()` to a Visual RAG store: upload what is new, wait until it is ingested, remove what it replaces."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aifs_vision._api_errors import APITimeoutError, AuthenticationError, PermissionDeniedError
from aifs_vision._errors import AIFSError
from aifs_vision._sources import name_of
from aifs_vision._visual_files import document, uploadable
from aifs_vision._visual_names import Mark
from aifs_vision._visual_shelf import FAILED, Entry, VisualFile, listed, removed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Literal

    from aifs_vision._guards import ImageLimits
    from aifs_vision._sources import Source
    from aifs_vision._visual_files import Document
    from aifs_vision._visual_shelf import Shelf

__all__ = ["Adding"]

logger = logging.getLogger("aifs_vision")

_AT_ONCE = 4  # files read, prepared and uploaded side by side
_FIRST_PAUSE, _LONGEST_PAUSE, _LONGER = 0.1, 10.0, 1.5  # seconds between two looks at the ingestion, and their growth
_SHOWN_EVERY = 1.0  # seconds between two lines of progress
_FATAL = (AuthenticationError, PermissionDeniedError)  # all that follows would fail alike
_BY_RANK = ("completed", "in_progress", None)  # which of several files with one content is the one to keep


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """What became of a source: the content it has, by its mark, or the error it met."""

    source: str
    mark: Mark | None = None
    error: AIFSError | None = None
    new: bool = False


class Adding:
    """Adds sources to a store; for one call of `run`, on the loop.

    Args:
        shelf: the store.
        chunking: how the service is to cut texts into passages.
        timeout: seconds to wait for the ingestion, counted anew whenever a file is done.
        image_limits: how large files may be.
        progress: whether lines on stderr tell how it is getting on.
    """

    def __init__(
        self, shelf: Shelf, *, chunking: Mapping[str, int], timeout: float, image_limits: ImageLimits, progress: bool
    ) -> None:
        self._shelf, self._service = shelf, shelf.service
        self._chunking, self._timeout, self._limits = dict(chunking), timeout, image_limits
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._entries: dict[str, Entry] = {}
        self._fatal: AIFSError | None = None
        self._progress = _Progress(shelf.name, wanted=progress)

    async def run(self, sources: Sequence[Source], on_error: Literal["raise", "skip", "keep"]) -> list[VisualFile]:
        """The files in the order of their sources."""
        inside, outside = await listed(self._shelf)
        doubles = self._know([*inside, *outside])
        tasks = [asyncio.ensure_future(self._place(source)) for source in sources]
        self._progress.total = len(tasks)
        try:
            placed = [self._unless_raised(await task, on_error) for task in tasks]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._ingested(placed)
        superseded = await self._superseded(inside, placed)
        await removed(self._shelf, *doubles)
        files = [self._file(each, superseded) for each in placed]
        for file in files:
            if file.error is not None and on_error == "raise":
                raise file.error
            if file.error is not None and on_error == "skip":
                logger.warning("%s was not added: %s", file.source, file.error.brief)
        return [file for file in files if file.error is None or on_error == "keep"]

    def _know(self, entries: Iterable[Entry]) -> list[Entry]:
        """Notes the files of the store by their content; gives those that the service has a second time."""
        doubles = []
        for entry in sorted(entries, key=_rank):
            mark = entry.mark
            if mark is None or not mark.is_of(self._shelf.name):
                continue
            if mark.digest not in self._entries:
                self._entries[mark.digest] = entry
            else:
                doubles.append(entry)
        return doubles

    @staticmethod
    def _unless_raised(placed: _Placed, on_error: str) -> _Placed:
        if placed.error is not None and (on_error == "raise" or isinstance(placed.error, _FATAL)):
            raise placed.error
        return placed

    # -- Uploading -------------------------------------------------------------------------------------------

    async def _place(self, source: Source) -> _Placed:
        """Reads a source, and sees to it that its content is in the store."""
        name = name_of(source)
        async with self._slots:
            if self._fatal is not None:
                return _Placed(source=name, error=self._fatal)
            try:
                given = await asyncio.to_thread(document, source, self._limits)
                mark = Mark.made(store=self._shelf.name, source=given.source, data=given.data)
                async with self._turns[mark.digest]:  # equal content is uploaded once
                    return _Placed(source=given.source, mark=mark, new=await self._store(given, mark))
            except AIFSError as error:
                self._fatal = error if isinstance(error, _FATAL) else self._fatal
                self._progress.failed += 1
                return _Placed(source=name, error=error)

    async def _store(self, given: Document, mark: Mark) -> bool:
        """Whether the content was new to the store."""
        entry = self._entries.get(mark.digest)
        if entry is not None and entry.status in FAILED:
            await removed(self._shelf, entry)
            entry = None
        if entry is None:
            entry = await self._uploaded(given, mark)
        if new := entry.status is None:
            asked = {"file_id": entry.id, "chunking_strategy": self._chunking}
            answer = await self._service.post(self._shelf.path, asked)
            entry.status, entry.said = str(answer.get("status") or "in_progress"), answer.get("last_error")
        self._entries[mark.digest] = entry
        self._progress.show(self._entries.values())
        return new

    async def _uploaded(self, given: Document, mark: Mark) -> Entry:
        data, kind = await asyncio.to_thread(uploadable, given, self._limits)
        filename = mark.filename(kind.suffix)
        identifier, attempts = await self._service.upload(filename, data, kind.mime_type)
        if attempts > 1:  # an attempt that got no answer may have left a file all the same
            for entry in await self._service.listed("/files"):
                if entry.get("filename") == filename and entry["id"] != identifier:
                    await self._service.delete(f"/files/{entry['id']}")
        return Entry(id=identifier, filename=filename, status=None)

    # -- Ingestion -------------------------------------------------------------------------------------------

    async def _ingested(self, placed: Sequence[_Placed]) -> None:
        """Waits until the service is done with every file; long waits are looked at less often than short ones."""
        clock = asyncio.get_running_loop().time
        waiting = {entry.id: entry for each in placed if (entry := self._entry(each)) and entry.status == "in_progress"}
        pause, since = _FIRST_PAUSE, clock()
        while waiting:
            left = since + self._timeout - clock()
            if left <= 0:
                names = ", ".join(sorted(repr(entry.shown().filename) for entry in waiting.values())[:3])
                more = f"{len(waiting)} files, {names} among them," if len(waiting) > 1 else names
                raise APITimeoutError(f"The service has not ingested {more} within {self._timeout:g} s")
            await asyncio.sleep(min(pause, left))
            found = {entry["id"]: entry for entry in await self._service.listed(self._shelf.path)}
            before = len(waiting)
            for identifier, entry in list(waiting.items()):
                said = found.get(identifier, {"status": "cancelled", "last_error": {"message": "it is gone"}})
                entry.status, entry.said = str(said.get("status")), said.get("last_error")
                if entry.status != "in_progress":
                    del waiting[identifier]
            pause = min(_LONGEST_PAUSE, pause * _LONGER)
            since = clock() if len(waiting) < before else since
            self._progress.show(self._entry(each) for each in placed)

    async def _superseded(self, inside: Sequence[Entry], placed: Sequence[_Placed]) -> set[str]:
        """The sources of which the store had another version, which is removed now that the new one is there."""
        wanted = {each.mark.digest for each in placed if each.mark}
        ready = {each.mark.source for each in placed if each.mark and not self._entries[each.mark.digest].error}
        old = {
            entry.id: (entry, mark.source)
            for entry in inside
            if (mark := entry.mark) and mark.is_of(self._shelf.name)
            if mark.source in ready and mark.digest not in wanted
        }
        await removed(self._shelf, *(entry for entry, _ in old.values()))
        return {source for _, source in old.values()}

    def _entry(self, placed: _Placed) -> Entry | None:
        return self._entries[placed.mark.digest] if placed.mark else None

    def _file(self, placed: _Placed, superseded: set[str]) -> VisualFile:
        entry = self._entry(placed)
        if entry is None or placed.mark is None:
            return VisualFile(id="", filename="", status="failed", error=placed.error, source=placed.source)
        file = replace(entry.shown(), source=placed.source)
        if file.error is not None:
            return file
        if not placed.new:
            return replace(file, change="unchanged")
        return replace(file, change="replaced" if placed.mark.source in superseded else "added")


def _rank(entry: Entry) -> int:
    return _BY_RANK.index(entry.status) if entry.status in _BY_RANK else len(_BY_RANK)


class _Progress:
    """Lines on stderr, one a second at most; whatever becomes of stderr, the work does not hear of it."""

    def __init__(self, store: str, *, wanted: bool) -> None:
        self.total = self.failed = 0
        self._store, self._wanted = store, wanted
        self._shown, self._at = -1, float("-inf")

    def show(self, entries: Iterable[Entry | None]) -> None:
        """How many files are done, of how many."""
        done = self.failed + sum(entry is not None and entry.status != "in_progress" for entry in entries)
        now = asyncio.get_running_loop().time()
        if not self._wanted or done == self._shown or (now - self._at < _SHOWN_EVERY and done < self.total):
            return
        self._shown, self._at = done, now
        with suppress(AttributeError, ValueError, OSError):  # None, closed, or a terminal whose window is gone
            sys.stderr.write(f"aifs-vision: {done}/{self.total} files are ready in {self._store!r}\n")
            sys.stderr.flush()
