"""One `add()` to a Visual RAG store: upload what is new, wait until it is ingested, remove what it replaces."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from aifs_vision._api_errors import (
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    PermissionDeniedError,
)
from aifs_vision._errors import AIFSError
from aifs_vision._loop import home
from aifs_vision._sources import name_of
from aifs_vision._visual_files import document, uploadable
from aifs_vision._visual_names import Mark
from aifs_vision._visual_shelf import FAILED, Entry, VisualFile, best, listed, removed, successor, surplus, versions

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
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


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """What became of a source: the content it has, by its mark, or the error it met.

    `put` is the id of the file that was put into the store for it; "" where the store had the content.
    """

    source: str
    mark: Mark | None = None
    error: AIFSError | None = None
    put: str = ""


@dataclass(eq=False, kw_only=True)
class _Together:
    """What the calls of this process that add to one store at the same time know of each other.

    Attributes:
        turns: who uploads a content, by its digest.
        numbers: the order in which files are put into the store, and calls look at what is there.
        put: the number and the file last put into the store, by the digest of its content.
        versions: the version that was last uploaded of each source.
    """

    turns: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    numbers: Iterator[int] = field(default_factory=count)
    put: dict[str, tuple[int, Entry]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)

    @classmethod
    def at(cls, shelf: Shelf) -> _Together:
        """The one of a store, for as long as a call has it."""
        known: WeakValueDictionary[tuple[str, str], _Together] = home().keep(_Together, WeakValueDictionary)
        return known.setdefault((shelf.service.settings.base_url, shelf.id), cls())


class Adding:
    """Adds sources to a store; for one call of `run`, on the loop.

    Others may add to it at the same time. Those in this process upload a content once; those in other processes share
    nothing with it but what the service lists, so that several may upload the same. Therefore each looks again when
    its own files are ingested, and removes what is too many by rules that are the same for all: the last one leaves
    each content once (`surplus`), and of each source that it was given the highest version that is ingested
    (`Mark.order`). Whose file another one has removed goes on with the one that was left.

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
        self._together = _Together.at(shelf)
        self._began = next(self._together.numbers)
        self._entries: dict[str, Entry] = {}  # the file to use of each content, by its digest
        self._placed: list[str] = []  # the digest of each source whose content is in the store by now
        self._before: list[Entry] = []  # what the store had when this call began
        self._earlier: defaultdict[str, list[Entry]] = defaultdict(list)  # the same, by the source
        self._versions: dict[str, int] = {}  # the highest number of a version of each source, likewise
        self._fatal: AIFSError | None = None
        self._progress = _Progress(shelf.name, wanted=progress)

    async def run(self, sources: Sequence[Source], on_error: Literal["raise", "skip", "keep"]) -> list[VisualFile]:
        """The files in the order of their sources."""
        inside, outside = await listed(self._shelf)
        groups = self._own([*inside, *outside])
        self._entries = {digest: entry for digest, group in groups.items() if (entry := best(group))}
        self._before = inside
        for entry in inside:
            if entry.mark is not None:
                self._earlier[entry.mark.source].append(entry)
        for mark in (entry.mark for group in groups.values() for entry in group):
            if mark is not None:
                self._versions[mark.source] = max(self._versions.get(mark.source, 0), mark.version)
        tasks = [asyncio.ensure_future(self._place(source)) for source in sources]
        self._progress.total = len(tasks)
        try:
            placed = [self._unless_raised(await task, on_error) for task in tasks]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        waited = await self._ingested(placed)
        if waited or any(each.put for each in placed) or any(map(surplus, groups.values())):
            inside = await self._settled()
        replaced_sources = await self._replaced(inside, placed)
        files = [self._file(each, replaced_sources) for each in placed]
        for file in files:
            if file.error is not None and on_error == "raise":
                raise file.error
            if file.error is not None and on_error == "skip":
                logger.warning("%s was not added: %s", file.source, file.error.brief)
        return [file for file in files if file.error is None or on_error == "keep"]

    def _own(self, entries: Iterable[Entry]) -> dict[str, list[Entry]]:
        """The files that the store has uploaded, by the digest of their content."""
        groups: defaultdict[str, list[Entry]] = defaultdict(list)
        for entry in entries:
            if mark := self._shelf.own_mark(entry):
                groups[mark.digest].append(entry)
        return groups

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
                async with self._together.turns[mark.digest]:  # equal content is uploaded once
                    return _Placed(source=given.source, mark=mark, put=await self._store(given, mark))
            except AIFSError as error:
                self._fatal = error if isinstance(error, _FATAL) else self._fatal
                self._progress.failed += 1
                return _Placed(source=name, error=error)

    async def _store(self, given: Document, mark: Mark) -> str:
        """The id of the file that is put into the store; "" where the store has the content."""
        number, entry = self._together.put.get(mark.digest, (-1, None))
        # What was put there since this call has looked is newer than what it has seen.
        entry = replace(entry) if entry is not None and number > self._began else self._entries.get(mark.digest)
        if entry is not None and self._outranked(entry, mark):
            entry = None
        failed = entry if entry is not None and entry.status in FAILED else None
        if entry is None or failed is not None:
            entry = await self._uploaded(given, mark)
        if new := entry.status is None:
            entry, new = await self._put(entry, given, mark)
            self._together.put[mark.digest] = next(self._together.numbers), replace(entry)
        if failed is not None:  # only now, so that whoever waits for it finds the other one
            await removed(self._shelf, failed)
        self._entries[mark.digest] = entry
        self._placed.append(mark.digest)
        self._progress.show(self._entries[digest] for digest in self._placed)
        return entry.id if new else ""

    def _outranked(self, entry: Entry, mark: Mark) -> bool:
        """Whether a file is one of several versions of the source, and not the one to stay: an edit was taken back."""
        newer = successor(self._earlier[mark.source], entry)
        return bool(newer and newer.mark and entry.mark and entry.mark.order < newer.mark.order)

    async def _uploaded(self, given: Document, mark: Mark) -> Entry:
        known = (self._versions.get(mark.source, -1), self._together.versions.get(mark.source, -1))
        mark = replace(mark, version=max(known) + 1)
        self._together.versions[mark.source] = mark.version
        data, kind = await asyncio.to_thread(uploadable, given, self._limits)
        filename = mark.filename(kind.suffix)
        identifier, attempts = await self._service.upload(filename, data, kind.mime_type)
        mine = Entry(id=identifier, filename=filename, status=None)
        if attempts == 1:
            return mine
        # An attempt that got no answer may have left a file all the same. The first is used, so that the others
        # are removed as surplus in the end.
        inside, outside = await listed(self._shelf)
        group = self._own([*inside, *outside])[mark.digest]
        return min((each for each in group if each.status not in FAILED), key=lambda each: each.place, default=mine)

    async def _put(self, entry: Entry, given: Document, mark: Mark) -> tuple[Entry, bool]:
        """Puts an uploaded file into the store; the file to use, and whether it is new there."""
        try:
            return await self._attached(entry), True
        except (BadRequestError, NotFoundError):
            # Another process may just have removed it as surplus, since the store has the content by now.
            inside, outside = await listed(self._shelf)
            if any(each.id == entry.id for each in [*inside, *outside]):
                raise
        twin = best(self._own(inside)[mark.digest])
        if twin is not None and twin.status not in FAILED:
            return twin, False
        return await self._attached(await self._uploaded(given, mark)), True

    async def _attached(self, entry: Entry) -> Entry:
        asked = {"file_id": entry.id, "chunking_strategy": self._chunking}
        answer = await self._service.post(self._shelf.path, asked)
        return replace(entry, status=str(answer.get("status") or "in_progress"), said=answer.get("last_error"))

    # -- Ingestion -------------------------------------------------------------------------------------------

    async def _ingested(self, placed: Sequence[_Placed]) -> bool:
        """Waits until the service is done with every file; long waits are looked at less often than short ones.

        Returns:
            Whether there was anything to wait for.
        """
        clock = asyncio.get_running_loop().time
        waiting = self._in_progress(placed)
        waited, pause, since = bool(waiting), _FIRST_PAUSE, clock()
        while waiting:
            left = since + self._timeout - clock()
            if left <= 0:
                names = ", ".join(sorted(repr(entry.shown_name) for entry in waiting.values())[:3])
                more = f"{len(waiting)} files, {names} among them," if len(waiting) > 1 else names
                raise APITimeoutError(f"The service has not ingested {more} within {self._timeout:g} s")
            await asyncio.sleep(min(pause, left))
            await self._looked_at(waiting, {each.mark.source for each in placed if each.mark})
            before, waiting = len(waiting), self._in_progress(placed)
            pause = min(_LONGEST_PAUSE, pause * _LONGER)
            since = clock() if len(waiting) < before else since
            self._progress.show(self._entry(each) for each in placed)
        return waited

    def _in_progress(self, placed: Sequence[_Placed]) -> dict[str, Entry]:
        used = {each.mark.digest: self._entries[each.mark.digest] for each in placed if each.mark}
        return {digest: entry for digest, entry in used.items() if entry.status == "in_progress"}

    async def _looked_at(self, waiting: Mapping[str, Entry], sources: Container[str]) -> None:
        """Notes how far files are; one that is gone has been removed as surplus, as an old version, or for good."""
        found = {entry["id"]: entry for entry in await self._service.listed(self._shelf.path)}
        gone = {digest: entry for digest, entry in waiting.items() if entry.id not in found}
        inside, _ = await listed(self._shelf) if gone else ([], [])
        groups = self._own(inside)
        for digest, entry in waiting.items():
            said = found.get(entry.id, {"status": "cancelled"})
            entry.status, entry.said = str(said.get("status")), said.get("last_error")
            if digest in gone:
                entry.gone = True
                other = successor(inside, entry) if entry.mark and entry.mark.source in sources else None
                self._entries[digest] = best(groups[digest]) or other or entry

    async def _settled(self) -> list[Entry]:
        """Removes what the store has too often by now, and notes what is left of each content.

        Returns:
            The files that are left in the store.
        """
        inside, outside = await listed(self._shelf)
        groups = self._own([*inside, *outside])
        spare = [entry for group in groups.values() for entry in surplus(group)]
        await removed(self._shelf, *spare)
        gone = {entry.id for entry in spare}
        for digest, group in groups.items():
            left = [entry for entry in group if entry.id not in gone and entry.status not in FAILED]
            used, twin = self._entries.get(digest), best(left)
            known = used is not None and any(entry.id == used.id for entry in left)
            if twin is not None and twin.status == "completed" and not known:
                self._entries[digest] = twin
        return [entry for entry in inside if entry.id not in gone]

    async def _replaced(self, inside: Sequence[Entry], placed: Sequence[_Placed]) -> set[str]:
        """Leaves one version of each source that was added; the sources of which another one was removed."""
        used = [(each.mark, self._entries[each.mark.digest]) for each in placed if each.mark]
        staying, going = versions(self._shelf, used, self._before, inside)
        await removed(self._shelf, *going)
        kept = {entry.mark.digest for entry in staying.values() if entry.mark}
        for mark, entry in used:
            if mark.source in staying and not entry.error and entry.mark and entry.mark.digest not in kept:
                self._entries[mark.digest] = staying[mark.source]
        return {entry.mark.source for entry in going if entry.mark}

    def _entry(self, placed: _Placed) -> Entry | None:
        return self._entries[placed.mark.digest] if placed.mark else None

    def _file(self, placed: _Placed, replaced_sources: set[str]) -> VisualFile:
        entry = self._entry(placed)
        if entry is None or placed.mark is None:
            return VisualFile(id="", filename="", status="failed", error=placed.error, source=placed.source)
        file = replace(entry.shown(), source=placed.source)
        if file.error is not None:
            return file
        if entry.mark is None or entry.mark.digest != placed.mark.digest:
            return replace(file, change="superseded")
        if entry.id != placed.put:
            return replace(file, change="unchanged")
        return replace(file, change="replaced" if placed.mark.source in replaced_sources else "added")


class _Progress:
    """Lines on stderr, one a second at most; whatever becomes of stderr, the work does not hear of it."""

    def __init__(self, store: str, *, wanted: bool) -> None:
        self.total = self.failed = 0
        self._store, self._wanted = store, wanted
        self._shown, self._at = -1, float("-inf")

    def show(self, entries: Iterable[Entry | None]) -> None:
        """How many files are done, of how many."""
        if not self._wanted:
            return
        done = self.failed + sum(entry is not None and entry.status != "in_progress" for entry in entries)
        now = asyncio.get_running_loop().time()
        if done == self._shown or (now - self._at < _SHOWN_EVERY and done < self.total):
            return
        self._shown, self._at = done, now
        with suppress(AttributeError, ValueError, OSError):  # None, closed, or a terminal whose window is gone
            sys.stderr.write(f"aifs-vision: {done}/{self.total} files are ready in {self._store!r}\n")
            sys.stderr.flush()
