"""What the Visual RAG keeps, files, stores and files in stores, and how each is shown, alone and in lists."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from aifs_vision.emulator._checks import Refused
from aifs_vision.emulator._store_checks import check_page

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aifs_vision.emulator._shelf import Chunking, Entry

__all__ = ["PURPOSE", "Member", "Store", "StoredFile", "page"]

PURPOSE = "visual-rag"


@dataclass(kw_only=True)
class StoredFile:
    """An uploaded file."""

    name: str
    kind: str
    data: bytes = field(repr=False)
    number: int
    id: str = field(default_factory=lambda: f"file-{uuid4().hex[:24]}")
    created: int = field(default_factory=lambda: int(time.time()))

    def shown(self) -> dict[str, Any]:
        """Its JSON."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.data),
            "created_at": self.created,
            "filename": self.name,
            "purpose": PURPOSE,
            "status": "processed",
        }


@dataclass(kw_only=True)
class Member:
    """A file in a store: how far its ingestion is, and what it is found by."""

    file: StoredFile
    store: str
    number: int
    status: str = "in_progress"
    error: dict[str, str] | None = None
    entries: list[Entry] = field(default_factory=list, repr=False)
    created: int = field(default_factory=lambda: int(time.time()))
    chunking: Chunking

    def shown(self) -> dict[str, Any]:
        """Its JSON."""
        return {
            "id": self.file.id,
            "object": "vector_store.file",
            "created_at": self.created,
            "usage_bytes": sum(len(entry.content) for entry in self.entries),
            "vector_store_id": self.store,
            "status": self.status,
            "last_error": self.error,
            "chunking_strategy": {"chunk_size": self.chunking.size, "chunk_overlap": self.chunking.overlap},
        }


@dataclass(kw_only=True)
class Store:
    """A vector store."""

    name: str
    number: int
    members: dict[str, Member] = field(default_factory=dict, repr=False)
    id: str = field(default_factory=lambda: f"vs_{uuid4().hex[:24]}")
    created: int = field(default_factory=lambda: int(time.time()))

    def shown(self) -> dict[str, Any]:
        """Its JSON."""
        statuses = [member.status for member in self.members.values()]
        counts = {status: statuses.count(status) for status in ("in_progress", "completed", "failed", "cancelled")}
        return {
            "id": self.id,
            "object": "vector_store",
            "created_at": self.created,
            "name": self.name,
            "status": "in_progress" if counts["in_progress"] else "completed",
            "usage_bytes": sum(member.shown()["usage_bytes"] for member in self.members.values()),
            "file_counts": {**counts, "total": len(statuses)},
        }


def page(
    asked: Mapping[str, str], things: Iterable[StoredFile | Member | Store], *, more: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A part of a list, the newest first, as OpenAI's API gives it."""
    limit, after = check_page(asked, more)
    entries = [thing.shown() for thing in sorted(things, key=lambda thing: -thing.number)]
    start = 0
    if after is not None:
        ids = [entry["id"] for entry in entries]
        if after not in ids:
            raise Refused(400, f"query.after: there is no {after!r}")
        start = ids.index(after) + 1
    part = entries[start : start + limit]
    return {
        "object": "list",
        "data": part,
        "first_id": part[0]["id"] if part else None,
        "last_id": part[-1]["id"] if part else None,
        "has_more": start + limit < len(entries),
    }
