"""What a service says about its limits, in headers and in words: when to come back, and what is left."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LONGEST_HINT", "Standing", "retry_hint", "standings"]

LONGEST_HINT = 60.0  # seconds; a service that asks for more parks the model, it does not get more
_KINDS = ("requests", "tokens")


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One budget as the service's headers tell it.

    Attributes:
        kind: "requests" or "tokens".
        limit, remaining: of the budget.
        reset: seconds, to the end of a window or until the budget is full again; hosts differ.
    """

    kind: str
    limit: float
    remaining: float
    reset: float


def standings(headers: Mapping[str, str], *, wall_clock: float) -> list[Standing]:
    """The budgets that `x-ratelimit-{limit,remaining,reset}-{requests,tokens}` tell of, where all three make sense.

    `wall_clock` is the time in seconds since the epoch, for resets that are moments.
    """
    told = []
    for kind in _KINDS:
        limit, remaining = (_number(headers.get(f"x-ratelimit-{name}-{kind}")) for name in ("limit", "remaining"))
        reset = _seconds(headers.get(f"x-ratelimit-reset-{kind}", ""), wall_clock)
        if limit and remaining is not None and reset is not None and remaining <= limit:
            told.append(Standing(kind=kind, limit=limit, remaining=remaining, reset=reset))
    return told


_UNITS = r"(?:milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|h)\b"
_DURATION = re.compile(rf"(\d+(?:\.\d+)?)\s*({_UNITS})")
_IN_BODY = re.compile(
    rf"(?:(?:try again|retry) (?:in|after)|retryDelay\"?\s*:\s*\"?)\s*((?:\d+(?:\.\d+)?\s*{_UNITS}\s*)+)", re.IGNORECASE
)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LOOKED_AT, _LONGEST_VALUE = 65_536, 64  # bytes of a body, and characters of a header, in which a time may stand
_MOMENT, _MILLISECONDS = 1e9, 1e12  # seconds and milliseconds since the epoch, and no durations, from here on
_LONGEST_RESET = 86_400.0  # seconds; what is said to take longer than a day is a mistake


def retry_hint(headers: Mapping[str, str], body: bytes, *, wall_clock: float) -> float | None:
    """How many seconds the service asks to wait, capped; None where it does not say.

    In this order: `retry-after-ms`, `Retry-After` (seconds or a date), the later of the `x-ratelimit-reset-*`
    headers whose budget is used up, "try again in 372ms" or `retryDelay` in the body. `wall_clock` is the
    time in seconds since the epoch, for dates.
    """
    hint = _header_hint(headers, wall_clock)
    if hint is None and (found := _IN_BODY.search(body[:_LOOKED_AT].decode("utf-8", "replace"))):
        hint = _duration(found[1])
    return None if hint is None else min(max(0.0, hint), LONGEST_HINT)


def _header_hint(headers: Mapping[str, str], wall_clock: float) -> float | None:
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    if (after := headers.get("retry-after")) is not None:
        if (seconds := _seconds(after, wall_clock)) is not None:
            return seconds
        try:
            return parsedate_to_datetime(after).timestamp() - wall_clock
        except (ValueError, OverflowError):
            return None
    resets = [
        duration
        for kind in _KINDS
        if headers.get(f"x-ratelimit-remaining-{kind}") == "0"
        and (duration := _seconds(headers.get(f"x-ratelimit-reset-{kind}", ""), wall_clock)) is not None
    ]
    return max(resets, default=None)


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    return value if value is not None and 0 <= value < float("inf") else None


def _seconds(text: str, wall_clock: float) -> float | None:
    """The seconds of a duration, or until a moment that is given as a Unix time; None for neither."""
    if len(text) > _LONGEST_VALUE:
        return None
    value = _number(text)
    if value is None:
        value = _duration(text)
    elif value >= _MOMENT:
        value = max(0.0, value / (1000 if value >= _MILLISECONDS else 1) - wall_clock)
    return value if value is not None and value <= _LONGEST_RESET else None


def _duration(text: str) -> float | None:
    """Seconds of "3s", "1m2.5s", "372ms" or "26 seconds"."""
    parts = _DURATION.findall(text.lower())
    return (
        sum(float(amount) * _SECONDS["ms" if unit.startswith(("ms", "milli")) else unit[0]] for amount, unit in parts)
        if parts
        else None
    )
