"""How an uploaded file is named, so that it is found again: by whose it is, where it came from, and what is in it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

__all__ = ["Mark"]

_MARKED = re.compile(r"(.+)\.aifs-([0-9a-f]{8})-([0-9a-f]{8})-([0-9a-f]{16})(?:-([0-9]{1,9}))?\.[a-z]+", re.DOTALL)
_UNNAMEABLE = re.compile(r'[\x00-\x1f\x7f"%\\/:*?<>|]')  # what a form, or some system's files, cannot have in a name
_LONGEST = 120  # characters of a name before its mark


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What stands in the name of an uploaded file: `report.pdf.aifs-OWNER-SOURCE-DIGEST-VERSION.pdf`, without `-0`.

    Attributes:
        name: of the file, without its folder, for people.
        owner: digest of the store's name, which alone has this file.
        source: digest of the source as it was given; another content with the same one is an edited file.
        digest: of the content, as it was given.
        version: one more than that of any file of the same source that was there before.
    """

    name: str
    owner: str
    source: str
    digest: str
    version: int = 0

    @classmethod
    def made(cls, *, store: str, source: str, data: bytes) -> Mark:
        """The mark of a file of a store."""
        base = _UNNAMEABLE.sub("_", re.split(r"[\\/]", source.rstrip("\\/"))[-1])[-_LONGEST:] or "file"
        return cls(
            name=base,
            owner=_digest(store.encode(), 8),
            source=_digest(source.encode(), 8),
            digest=_digest(data, 16),
        )

    @classmethod
    def of(cls, filename: str) -> Mark | None:
        """The mark in the name of a file; None for files that others have uploaded."""
        found = _MARKED.fullmatch(filename)
        if found is None:
            return None
        return cls(name=found[1], owner=found[2], source=found[3], digest=found[4], version=int(found[5] or 0))

    @property
    def order(self) -> tuple[int, str]:
        """Its place among the versions of its source, the same for every process: the highest is the one to stay.

        Of those whose uploaders knew nothing of each other any will do, but it must be the same one for all. The time
        of the upload is no part of it, since files with one content, of which the earliest stays, differ in it.
        """
        return self.version, self.digest

    def is_of(self, store: str) -> bool:
        """Whether a store has uploaded it."""
        return self.owner == _digest(store.encode(), 8)

    def comes_from(self, source: str) -> bool:
        """Whether it was made of this source."""
        return self.source == _digest(source.encode(), 8)

    def filename(self, suffix: str) -> str:
        """The name to upload it under."""
        version = f"-{self.version}" if self.version else ""
        return f"{self.name}.aifs-{self.owner}-{self.source}-{self.digest}{version}{suffix}"


def _digest(data: bytes, length: int) -> str:
    return hashlib.sha256(data).hexdigest()[:length]
