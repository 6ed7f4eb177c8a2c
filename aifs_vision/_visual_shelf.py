"""The files of a Visual RAG store: what is there, how each is shown, and how it is taken away."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from aifs_vision._api_errors import BadRequestError, NotFoundError, ServiceError
from aifs_vision._errors import SettingsError
from aifs_vision._visual_names import Mark
from aifs_vision._visual_service import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from aifs_vision._errors import AIFSError
    from aifs_vision._visual_service import VisualService

__all__ = [
    "FAILED",
    "Change",
    "Entry",
    "Shelf",
    "VisualFile",
    "best",
    "listed",
    "made",
    "meant",
    "not_there",
    "oldest",
    "removed",
    "successor",
    "surplus",
    "versions",
]

FAILED = frozenset({"failed", "cancelled"})
"""How an ingestion ends that does not complete."""

Change = Literal["added", "replaced", "unchanged", "superseded"]

_BY_RANK = ("completed", "in_progress", None)  # which of several files with one content is the one to use


@dataclass(frozen=True, kw_only=True)
class VisualFile:
    """A file in a Visual RAG store.

    Attributes:
        id: the service's; "" for one that could not be uploaded.
        filename: without its folder, as hits have it.
        status: "completed", "in_progress", "failed" or "cancelled", as the service says.
        error: why it failed; None where it did not.
        source: as it was given to `add()`; None in a list.
        change: what `add()` did: "added", "replaced" (an earlier version of the same source), "unchanged" (the
            store has the same content already) or "superseded" (another add has put another version of the same
            source there meanwhile, which stays: this is its file); None where it failed, and in a list.
    """

    id: str
    filename: str
    status: str
    error: AIFSError | None = None
    source: str | None = None
    change: Change | None = None


@dataclass(kw_only=True)
class Entry:
    """A file as the service lists it; `status` is None for one that is uploaded and in no store.

    Attributes:
        created: when it was uploaded, by the service's clock, in seconds; 0 where the service does not say.
        gone: whether somebody has deleted it while it was waited for.
    """

    id: str
    filename: str
    status: str | None
    said: dict[str, Any] | None = None
    created: float = 0.0
    gone: bool = False

    @cached_property  # it is asked for often, and a name never changes
    def mark(self) -> Mark | None:
        """What its name says of it."""
        return Mark.of(self.filename)

    @property
    def error(self) -> AIFSError | None:
        """Why its ingestion failed."""
        if self.gone:
            name = self.shown_name
            return not_there(f"{name!r} is not in the store: somebody has deleted it meanwhile; add it again")
        if self.status not in FAILED:
            return None
        said = self.said if isinstance(self.said, dict) else {}
        kind = ServiceError if said.get("code") in {"server_error", "rate_limit_exceeded"} else BadRequestError
        return kind(f"The service could not ingest {self.shown_name!r}", detail=str(said.get("message") or self.status))

    @property
    def shown_name(self) -> str:
        """Its name for people."""
        return self.mark.name if self.mark else self.filename

    @property
    def place(self) -> tuple[int, float, str]:
        """Its place in the one order of files with one content, in which every process sees them.

        The latest version comes first: others may just be superseded. Of equal ones the earliest upload does.
        """
        return -self.mark.version if self.mark else 0, self.created, self.id

    def shown(self, **more: Any) -> VisualFile:
        """As it is shown to the user."""
        return VisualFile(id=self.id, filename=self.shown_name, status=self.status or "", error=self.error, **more)


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """A store that is there: its name and the service's id."""

    service: VisualService
    name: str
    id: str

    @property
    def path(self) -> str:
        """Where its files are."""
        return f"/vector_stores/{quoted(self.id)}/files"

    def own_mark(self, entry: Entry) -> Mark | None:
        """The mark of a file that the store has uploaded; None for all others."""
        return entry.mark if entry.mark is not None and entry.mark.is_of(self.name) else None


async def listed(shelf: Shelf) -> tuple[list[Entry], list[Entry]]:
    """The files in a store, and all that are not in it, whosever they are."""
    members = {entry["id"]: entry for entry in await shelf.service.listed(shelf.path)}
    uploaded = {
        entry["id"]: Entry(
            id=entry["id"],
            filename=str(entry.get("filename") or entry["id"]),
            status=None,
            created=_seconds(entry.get("created_at")),
        )
        for entry in await shelf.service.listed("/files")
    }
    inside = []
    for id_, member in members.items():
        entry = uploaded.pop(id_, None) or Entry(id=id_, filename=id_, status=None)
        entry.status, entry.said = member.get("status"), member.get("last_error")
        inside.append(entry)
    return inside, list(uploaded.values())


def _seconds(told: object) -> float:
    return float(told) if isinstance(told, (int, float)) else 0.0


def best(entries: Iterable[Entry]) -> Entry | None:
    """Which of several files with one content is the one to use: the first of those that are furthest."""
    return min(entries, key=lambda entry: (_rank(entry), entry.place), default=None)


def _rank(entry: Entry) -> int:
    return _BY_RANK.index(entry.status) if entry.status in _BY_RANK else len(_BY_RANK)


def surplus(entries: Sequence[Entry]) -> list[Entry]:
    """Which of several files with one content are too many.

    Several processes may ask this at the same time, each with a list that is old already, and all delete what they
    are told to: the first file that is completed is never among it, nor is one before it, which may become that.
    """
    first = min((entry.place for entry in entries if entry.status == "completed"), default=None)
    used = best(entries)
    return [
        entry
        for entry in entries
        if (first is not None and entry.place > first) or (entry.status in FAILED and entry is not used)
    ]


def successor(entries: Iterable[Entry], entry: Entry) -> Entry | None:
    """The highest of the other versions of a file's source, of those that have not failed; None without any."""
    mark = entry.mark
    others = [
        (each.mark.order, each)
        for each in entries
        if mark and each.mark and (each.mark.owner, each.mark.source) == (mark.owner, mark.source)
        if each.mark.digest != mark.digest and each.status not in FAILED
    ]
    return max(others, key=lambda other: other[0], default=(None, None))[1]


def versions(
    shelf: Shelf, used: Sequence[tuple[Mark, Entry]], before: Sequence[Entry], inside: Sequence[Entry]
) -> tuple[dict[str, Entry], list[Entry]]:
    """Which version of each source stays in a store after an add, and which files go.

    Several processes may ask this at the same time, each with a list that is old already, and all delete what they
    are told to: of a source's own files the highest one that is completed never goes, nor does one above it.

    Args:
        shelf: the store.
        used: what was added, and the file that has its content; that may be another source's file.
        before: the files in the store when the add began.
        inside: the files in the store now.

    Returns:
        The file that stays, by source, without those whose ingestion failed, and the files to be removed.
    """
    staying = {mark.source: entry for mark, entry in used if not entry.error}
    for entry in [*(entry for _, entry in used), *inside]:
        mark = shelf.own_mark(entry)
        if mark and entry.status == "completed" and _above(mark, staying.get(mark.source)):
            staying[mark.source] = entry
    contents = [entry for mark, entry in used if mark.source not in staying] + [*staying.values()]
    wanted = {entry.mark.digest for entry in contents if entry.mark}
    going = {}
    for entry, earlier in [*((entry, True) for entry in before), *((entry, False) for entry in inside)]:
        mark = shelf.own_mark(entry)
        if mark is None or mark.source not in staying or mark.digest in wanted:
            continue
        other = staying[mark.source].mark
        another = other is None or other.source != mark.source
        if (earlier and (another or entry.status in FAILED)) or (other and not another and mark.order < other.order):
            going[entry.id] = entry
    return staying, list(going.values())


def _above(mark: Mark, entry: Entry | None) -> bool:
    """Whether a version is above a file of the same source."""
    other = entry.mark if entry is not None else None
    return other is not None and other.source == mark.source and mark.order > other.order


def meant(entries: Iterable[Entry], asked: str) -> list[Entry]:
    """The files that are meant by an id, by a source, or, where there is none of these, by a file name.

    Raises:
        SettingsError: files of several sources have that name.
    """
    known = list(entries)
    exact = [entry for entry in known if asked == entry.id or (entry.mark is not None and asked == entry.filename)]
    if found := exact or [entry for entry in known if entry.mark is not None and entry.mark.comes_from(asked)]:
        return found
    named = [entry for entry in known if asked == entry.shown_name]
    if len({entry.mark.source if entry.mark else entry.id for entry in named}) > 1:
        ids = ", ".join(sorted(entry.id for entry in named))
        rule = f"several files have this name; give the source as it was given to add(), or one of the ids {ids}"
        raise SettingsError.bad_value("files", asked, rule)
    return named


async def removed(shelf: Shelf, *entries: Entry) -> None:
    """Takes files out of their store, and deletes those that the store has uploaded; others' files are left."""
    await asyncio.gather(*(_removed(shelf, entry) for entry in entries))


async def _removed(shelf: Shelf, entry: Entry) -> None:
    if entry.status is not None:
        await shelf.service.delete(f"{shelf.path}/{quoted(entry.id)}")
    if shelf.own_mark(entry):
        await shelf.service.delete(f"/files/{quoted(entry.id)}")


# -- Stores by their names ---------------------------------------------------------------------------------


async def oldest(service: VisualService, name: str) -> str | None:
    """The id of the store of a name, of several the oldest one's; None where there is none.

    The service tells their times in whole seconds, and lists the newest first.
    """
    stores = [store for store in await service.listed("/vector_stores") if store.get("name") == name]
    first = min(reversed(stores), key=lambda store: store.get("created_at") or 0, default=None)
    return None if first is None else str(first["id"])


async def made(service: VisualService, name: str, models: Mapping[str, str]) -> str:
    """The id of the store of a name, made with these models."""
    answer = await service.post("/vector_stores", {"name": name, "chunking_strategy": dict(models)})
    mine = str(answer.get("id"))
    # Another process, or an attempt of ours whose answer was lost, may have been first; then ours is one too many.
    identifier = await oldest(service, name) or mine
    if identifier != mine:
        await service.delete(f"/vector_stores/{quoted(mine)}")
    return identifier


def not_there(words: str) -> NotFoundError:
    """An error about something that this project knows by a name, and the service does not have."""
    error = NotFoundError(words)
    error.args = (f"{words}.",)
    return error
