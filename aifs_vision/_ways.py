"""Which way a question goes: to the model, to its queue, to another model; what is shut is passed by."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from aifs_vision._api_errors import (
    APIConnectionError,
    APIError,
    NotFoundError,
    RateLimitError,
    ServiceError,
    UnexpectedAnswerError,
)
from aifs_vision._doors import door_of, is_open
from aifs_vision._settings import queue_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aifs_vision._interview import Way

logger = logging.getLogger("aifs_vision")

__all__ = ["UNAVAILABLE", "open_ways", "succeeded", "unavailable", "with_queue"]

UNAVAILABLE = (RateLimitError, ServiceError, APIConnectionError, NotFoundError, UnexpectedAnswerError)
"""What says that a model cannot be had just now, or answers nothing that can be used."""

_SUSTAINED = 60.0  # seconds of 429s after which the queue is the better way
_FAILURES = 2  # images in a row that a model was not to be had for, before others are not tried on it
_SHUT = 60.0  # seconds until it is tried again; each time twice as long, up to
_LONGEST_SHUT = 600.0


def with_queue(way: Way) -> list[Way]:
    """The way itself, with less patience, and the one through the queue."""
    return [replace(way, patience=_SUSTAINED), replace(way, settings=queue_of(way.settings))]


def open_ways(ways: Sequence[Way]) -> list[Way]:
    """Those that are open, in their order; the last one always is. Called on the loop."""
    return [replace(way, stood_in_for=True) for way in ways[:-1] if is_open(way)] + [ways[-1]]


def succeeded(way: Way) -> None:
    """The model has answered."""
    door = door_of(way)
    door.failures = door.times = 0


def unavailable(way: Way, error: APIError) -> None:
    """An image could not be read this way; what a model said no to for a minute, it will say no to again."""
    if not is_open(way):
        return  # others have found that out already
    door = door_of(way)
    if door.last is error:
        return  # it is the same failure, of several equal images
    door.last = error
    door.failures += 1
    logger.warning("%s is not to be had: %s", way.model, error.brief)
    if door.failures >= _FAILURES or isinstance(error, (RateLimitError, NotFoundError)):
        pause = min(_LONGEST_SHUT, _SHUT * 2**door.times)
        door.shut_until = asyncio.get_running_loop().time() + pause
        door.failures, door.times = _FAILURES - 1, door.times + 1
