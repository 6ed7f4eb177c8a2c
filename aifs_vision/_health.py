"""Is the service up? Failures of many items in a row close its door, and one request after the other tries it."""

from __future__ import annotations

import random

__all__ = ["Health"]

_FAILURES, _ITEMS = 6, 2  # failures in a row, of so many items at least,
_PART = 0.5  # and of such a part of those in flight: then they are the service's, and not the items'
_FIRST_PROBE, _LONGEST_PROBE = 1.0, 10.0  # seconds, doubling
_DOUBLINGS = 8  # at most: the longest is reached long before
_LATE = 5.0  # seconds after which another one tries, where the one before has no answer yet


class Health:
    """Whether a model answers at all: open, until nearly everything that is asked fails.

    Then nobody sends but one request at a time, after pauses that grow, until anything is answered, whenever it was
    sent. What a single item does to the service closes nothing: others are answered meanwhile.

    All times are seconds of one clock that never goes back.
    """

    def __init__(self) -> None:
        self._failing: list[int] = []  # items that failed since anything was answered
        self._since: float | None = None  # when it was closed; None while it is open
        self._resume = 0.0  # when the next one may try
        self._tries = 0

    @property
    def closed(self) -> bool:
        """Whether only one at a time may go."""
        return self._since is not None

    def closed_for(self, now: float) -> float:
        """Seconds for which nothing was answered, though it was tried."""
        return 0.0 if self._since is None else now - self._since

    def wait(self, now: float) -> float:
        """Seconds until a request may go."""
        return 0.0 if self._since is None else max(0.0, self._resume - now)

    def take(self, now: float) -> None:
        """A request goes; while it is closed, the next one waits for its answer."""
        if self._since is not None:
            self._resume = now + max(_LATE, self._pause())

    def answered(self) -> None:
        """Anything but a failure came back, a refusal, too: somebody is there."""
        self._failing.clear()
        self._since, self._tries = None, 0

    def failed(self, item: int, now: float, hint: float | None, in_flight: int) -> None:
        """A request of this item failed, while so many others are in flight."""
        if self._since is None:
            self._failing.append(item)
            items = len(set(self._failing))
            if len(self._failing) < _FAILURES or items < max(_ITEMS, _PART * in_flight):
                return
            self._since = now
        self._tries += 1
        self._resume = now + max(self._pause(), hint or 0.0)

    def forget(self) -> None:
        """Nobody has tried for a while: how it was says nothing of how it is."""
        self.answered()

    def _pause(self) -> float:
        longest = min(_LONGEST_PROBE, _FIRST_PROBE * 2.0 ** min(max(0, self._tries - 1), _DOUBLINGS))
        return longest * random.uniform(0.8, 1.0)  # noqa: S311 - jitter, not cryptography
