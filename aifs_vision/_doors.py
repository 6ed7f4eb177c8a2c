"""Whether a way to an answer is open, as its last answers have it."""

from __future__ import annotations

import asyncio
from typing import Protocol

from aifs_vision._loop import home

__all__ = ["Door", "door_of", "is_open"]


class Named(Protocol):
    """What tells one way from others."""

    @property
    def name(self) -> tuple[str, ...]:
        """Its name."""


class Door:
    """What is known of a way.

    Attributes:
        failures: in a row, and the `last` of them.
        times: how often it was shut since it last was not.
        shut_until: when it may be tried again.
    """

    def __init__(self) -> None:
        self.failures, self.times, self.shut_until = 0, 0, 0.0
        self.last: BaseException | None = None


def door_of(way: Named) -> Door:
    """The door of a way, shared by all who go it; called on the loop."""
    return home().keep(("door", *way.name), Door)


def is_open(way: Named) -> bool:
    """Whether it is worth trying; called on the loop."""
    return door_of(way).shut_until <= asyncio.get_running_loop().time()
