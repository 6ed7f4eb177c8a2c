"""The files of a Visual RAG store: what is there, how each is shown, and how it is taken away."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from aifs_vision._api_errors import BadRequestError, NotFoundError, ServiceError
from aifs_vision._visual_names import Mark
from aifs_vision._visual_service import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aifs_vision._errors import AIFSError
    from aifs_vision._visual_service import VisualService

__all__ = ["FAILED", "Change", "Entry", "Shelf", "VisualFile", "listed", "made", "not_there", "oldest", "removed"]

FAILED = frozenset({"failed", "cancelled"})
"""How an ingestion ends that does not complete."""

Change = Literal["added", "replaced", "unchanged"]


@dataclass(frozen=True, kw_only=True)
class VisualFile:
    """A file in a Visual RAG store.

    Attributes:
        id: the service's; "" for one that could not be uploaded.
        filename: without its folder, as hits have it.
        status: "completed", "in_progress", "failed" or "cancelled", as the service says.
        error: why it failed; None where it did not.
        source: as it was given to `add()`; None in a list.
        change: what `add()` did: "added", "replaced" (an earlier version of the same source) or "unchanged" (the
            store has the same content already); None where it failed, and in a list.
    """

    id: str
    filename: str
    status: str
    error: AIFSError | None = None
    source: str | None = None
    change: Change | None = None


@dataclass(kw_only=True)
class Entry:
    """A file as the service lists it; `status` is None for one that is uploaded and in no store."""

    id: str
    filename: str
    status: str | None
    said: dict[str, Any] | None = None

    @property
    def mark(self) -> Mark | None:
        """What its name says of it."""
        return Mark.of(self.filename)

    @property
    def error(self) -> AIFSError | None:
        """Why its ingestion failed."""
        if self.status not in FAILED:
            return None
        said = self.said if isinstance(self.said, dict) else {}
        kind = ServiceError if said.get("code") in {"server_error", "rate_limit_exceeded"} else BadRequestError
        shown = self.mark.name if self.mark else self.filename
        return kind(f"The service could not ingest {shown!r}", detail=str(said.get("message") or self.status))

    def answers_to(self, name: str) -> bool:
        """Whether it is meant by a name: its id, its file name, or the source that it was made of."""
        mark = self.mark
        return name in {self.id, self.filename} or (mark is not None and (name == mark.name or mark.comes_from(name)))

    def shown(self, **more: Any) -> VisualFile:
        """As it is shown to the user."""
        name = self.mark.name if self.mark else self.filename
        return VisualFile(id=self.id, filename=name, status=self.status or "", error=self.error, **more)


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


async def listed(shelf: Shelf) -> tuple[list[Entry], list[Entry]]:
    """The files in a store, and all that are not in it, whosever they are."""
    members = {entry["id"]: entry for entry in await shelf.service.listed(shelf.path)}
    uploaded = {
        entry["id"]: str(entry.get("filename") or entry["id"]) for entry in await shelf.service.listed("/files")
    }
    inside = [
        Entry(id=id_, filename=uploaded.get(id_, id_), status=entry.get("status"), said=entry.get("last_error"))
        for id_, entry in members.items()
    ]
    outside = [Entry(id=id_, filename=name, status=None) for id_, name in uploaded.items() if id_ not in members]
    return inside, outside


async def removed(shelf: Shelf, *entries: Entry) -> None:
    """Takes files out of their store, and deletes those that the store has uploaded; others' files are left."""
    await asyncio.gather(*(_removed(shelf, entry) for entry in entries))


async def _removed(shelf: Shelf, entry: Entry) -> None:
    if entry.status is not None:
        await shelf.service.delete(f"{shelf.path}/{quoted(entry.id)}")
    if entry.mark is not None and entry.mark.is_of(shelf.name):
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
