"""Waiting for what other threads and processes bring about, and tell nobody of."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["until"]


def until(reached: Callable[[], object]) -> None:
    """Waits until something is so; fails after a minute in which nothing but looking was done."""
    for _ in range(6_000):
        if reached():
            return
        time.sleep(0.01)  # there is no event to wait for: a server's log, or another process, is looked at again
    raise AssertionError("it never came to that")
