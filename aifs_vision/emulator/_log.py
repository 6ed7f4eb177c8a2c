"""What was asked of the emulator: a record for each request, for tests to look at."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

__all__ = ["LoggedRequest", "RequestLog"]

_IMAGE_BYTES_KEPT = 64 * 2**20  # pictures of older requests are let go, so that a load test holds memory flat


@dataclass(kw_only=True)
class LoggedRequest:
    """One request, as it came in, and how it went.

    Attributes:
        method, path: of the HTTP request.
        headers: its headers, names in lower case.
        body: its JSON; data URIs in it are shortened to their label, their bytes are in `images`.
        images: the decoded bytes of its pictures with their labels; older requests lose theirs after 64 MiB.
        started, finished: `time.monotonic()` at its arrival and at the end of its answer.
        status: the HTTP status it was answered with; None if it was not answered.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: Any = None
    images: list[tuple[str, bytes]] = field(default_factory=list, repr=False)
    started: float = field(default_factory=time.monotonic)
    finished: float | None = None
    status: int | None = None

    @property
    def model(self) -> str | None:
        """The model it asked for."""
        return self.body.get("model") if isinstance(self.body, dict) else None


class RequestLog:
    """All requests since the start or the last `clear()`; safe among threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: list[LoggedRequest] = []
        self._with_images: list[LoggedRequest] = []
        self._bytes = 0

    def add(self, request: LoggedRequest) -> None:
        """A request that has just come in."""
        with self._lock:
            self._all.append(request)

    def keep_images(self, request: LoggedRequest, images: list[tuple[str, bytes]]) -> None:
        """Its pictures, once they are decoded; the oldest ones make room."""
        with self._lock:
            request.images = images
            self._with_images.append(request)
            self._bytes += _size(request)
            while self._bytes > _IMAGE_BYTES_KEPT and len(self._with_images) > 1:
                oldest = self._with_images.pop(0)
                self._bytes -= _size(oldest)
                oldest.images = []

    def all(self) -> list[LoggedRequest]:
        """The requests in the order of their arrival."""
        with self._lock:
            return list(self._all)

    def clear(self) -> None:
        """Forgets all of them."""
        with self._lock:
            self._all.clear()
            self._with_images.clear()
            self._bytes = 0


def _size(request: LoggedRequest) -> int:
    return sum(len(data) for _, data in request.images)
