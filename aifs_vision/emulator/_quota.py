"""Limits a minute, counted strictly: what the service would answer 429 to, the emulator does."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

__all__ = ["Quota", "Standing"]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a model stands after a request: whether it was let in, what is left, and when the window ends."""

    allowed: bool
    limit_requests: int | None
    remaining_requests: int | None
    limit_tokens: int | None
    remaining_tokens: int | None
    reset: float


@dataclass(kw_only=True)
class Quota:
    """Requests and input tokens a window, each model by itself; None is no limit.

    Attributes:
        requests: requests a window.
        tokens: input tokens a window.
        window: seconds; 60 as the service has it, less in tests.
    """

    requests: int | None = None
    tokens: int | None = None
    window: float = 60.0
    _counts: dict[str, tuple[float, int, int]] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def take(self, model: str, tokens: int) -> Standing:
        """Counts one request of so many input tokens, if there is room for it."""
        now = time.monotonic()
        with self._lock:
            start, requests, used = self._counts.get(model, (now, 0, 0))
            if now - start >= self.window:
                start, requests, used = now, 0, 0
            allowed = (self.requests is None or requests < self.requests) and (
                self.tokens is None or used + tokens <= self.tokens or used == 0
            )
            if allowed:
                requests, used = requests + 1, used + tokens
            self._counts[model] = (start, requests, used)
        return Standing(
            allowed=allowed,
            limit_requests=self.requests,
            remaining_requests=None if self.requests is None else self.requests - requests,
            limit_tokens=self.tokens,
            remaining_tokens=None if self.tokens is None else max(0, self.tokens - used),
            reset=start + self.window - now,
        )
