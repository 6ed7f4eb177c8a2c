"""Scripted replies of the emulator that watch how they are asked."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aifs_vision.emulator import ChatRequest

__all__ = ["Crowd"]


class Crowd:
    """A reply that takes a while and counts how many are asked at once."""

    def __init__(self, seconds: float = 0.02) -> None:
        self.most = 0
        self._now, self._seconds, self._lock = 0, seconds, threading.Lock()

    def __call__(self, _: ChatRequest) -> str:
        """The reply."""
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(self._seconds)  # the while that it takes, so that others are asked meanwhile
        with self._lock:
            self._now -= 1
        return "x"
