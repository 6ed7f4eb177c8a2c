"""May this request go now? Token buckets and a shared cool-down; arithmetic only, on an injected clock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from aifs_vision._errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aifs_vision._catalogue import ModelCard

__all__ = ["Cost", "Limits", "Pacer", "retry_hint"]

_SHARE = 0.95  # of a known limit; the rest covers clocks that differ and windows that slide
_BURST = 0.05  # seconds' worth a bucket holds: a full bucket at the start would double the first window
_LONGEST_HINT = 60.0  # seconds; a service that asks for more parks the model, it does not get more


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What may be sent to a model, by everybody in this process who asks it; None is no limit known.

        Limits()                                                   # no pacing, 32 at once
        Limits(requests_per_minute=60, in_flight=8)

    Attributes:
        requests_per_minute, input_tokens_per_minute, output_tokens_per_minute: paced to 95 % of each.
        in_flight: requests under way at once.
        patience: seconds a request may be put off by 429s before that is an error.
    """

    requests_per_minute: float | None = None
    input_tokens_per_minute: float | None = None
    output_tokens_per_minute: float | None = None
    in_flight: int = 32
    patience: float = 600.0

    def __post_init__(self) -> None:
        if not isinstance(self.patience, (int, float)) or not self.patience >= 0:
            raise SettingsError.bad_number("Limits.patience", self.patience, "it is a number of seconds")
        for name in ("requests_per_minute", "input_tokens_per_minute", "output_tokens_per_minute"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, (int, float)) and value > 0):
                raise SettingsError.bad_number(f"Limits.{name}", value, "it is a number above 0, or None")
        if not isinstance(self.in_flight, int) or self.in_flight < 1:
            raise SettingsError.bad_number("Limits.in_flight", self.in_flight, "it is a whole number above 0")

    @classmethod
    def chosen(cls, limits: Limits | None, card: ModelCard, plan: str) -> Limits:
        """The limits given, else those of the plan.

        Raises:
            SettingsError: what was given is something else.
        """
        if limits is None:
            return cls.of_plan(card, plan)
        if not isinstance(limits, Limits):
            raise SettingsError.bad_number("limits", limits, "it is a Limits(...), or None for those of the plan")
        return limits

    @classmethod
    def of_plan(cls, card: ModelCard, plan: str) -> Limits:
        """What the price list says of a model in a plan; no limits where it says nothing."""
        allowance = card.allowances.get(plan)
        if allowance is None:
            return cls()
        return cls(
            requests_per_minute=allowance.requests_per_minute,
            input_tokens_per_minute=allowance.input_tokens_per_minute,
            output_tokens_per_minute=allowance.output_tokens_per_minute,
        )


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one request takes from the budgets: itself, and its tokens as estimated or counted."""

    input_tokens: float = 0
    output_tokens: float = 0


class _Bucket:
    """A token bucket that may run into debt, so that an item larger than the bucket still goes."""

    def __init__(self, per_minute: float, now: float) -> None:
        self.rate = per_minute * _SHARE / 60
        self.capacity = max(1.0, self.rate * _BURST)
        self.level, self.at = self.capacity, now

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` may be taken."""
        self.level = min(self.capacity, self.level + (now - self.at) * self.rate)
        self.at = now
        return max(0.0, (min(amount, self.capacity) - self.level) / self.rate)


class Pacer:
    """The budgets of one model at one address with one key; not thread-safe, it lives on the loop.

    wait = pacer.wait(cost)      # 0.0: taken, send now; else ask again after so many seconds
    pacer.correct(cost, used)    # once the service has counted
    pacer.cool_down(seconds)     # after a 429: nobody sends before that
    """

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._resume = 0.0
        self.adopt(limits)

    def adopt(self, limits: Limits) -> None:
        """Other limits from now on; the buckets start nearly empty again."""
        self.limits, now = limits, self._clock()
        self._requests = _Bucket(limits.requests_per_minute, now) if limits.requests_per_minute else None
        self._input = _Bucket(limits.input_tokens_per_minute, now) if limits.input_tokens_per_minute else None
        self._output = _Bucket(limits.output_tokens_per_minute, now) if limits.output_tokens_per_minute else None

    def wait(self, cost: Cost) -> float:
        """Seconds until the cost fits all budgets; 0.0 means that it was taken from all of them at once."""
        now = self._clock()
        wanted = self._wanted(cost)
        wait = max([self._resume - now, *(bucket.wait(amount, now) for bucket, amount in wanted)])
        if wait > 0:
            return wait
        for bucket, amount in wanted:
            bucket.level -= amount
        return 0.0

    def correct(self, cost: Cost, used: Cost) -> None:
        """Settles the difference between an estimate and what the service has counted."""
        estimated = dict(self._wanted(cost))
        for bucket, amount in self._wanted(used):
            bucket.level -= amount - estimated[bucket]

    def cool_down(self, seconds: float) -> None:
        """Nobody sends for so long; a longer cool-down that is under way stays."""
        self._resume = max(self._resume, self._clock() + seconds)

    def _wanted(self, cost: Cost) -> list[tuple[_Bucket, float]]:
        amounts = (
            (self._requests, 1.0),
            (self._input, cost.input_tokens),
            (self._output, cost.output_tokens),
        )
        return [(bucket, amount) for bucket, amount in amounts if bucket is not None]


# -- Hints -------------------------------------------------------------------------------------------------

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)")
_IN_BODY = re.compile(rb"(?:try again in|retryDelay\"?\s*:\s*\"?)\s*((?:\d+(?:\.\d+)?\s*(?:ms|s|m|h)\s*)+)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def retry_hint(headers: Mapping[str, str], body: bytes, *, wall_clock: float) -> float | None:
    """How many seconds the service asks to wait, capped; None where it does not say.

    In this order: `retry-after-ms`, `Retry-After` (seconds or a date), the later of the `x-ratelimit-reset-*`
    headers whose budget is used up, "try again in 372ms" or `retryDelay` in the body. `wall_clock` is the
    time in seconds since the epoch, for dates.
    """
    hint = _header_hint(headers, wall_clock)
    if hint is None and (found := _IN_BODY.search(body)):
        hint = _duration(found[1].decode())
    return None if hint is None else min(max(0.0, hint), _LONGEST_HINT)


def _header_hint(headers: Mapping[str, str], wall_clock: float) -> float | None:
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    if (after := headers.get("retry-after")) is not None:
        if (seconds := _number(after)) is not None:
            return seconds
        try:
            return parsedate_to_datetime(after).timestamp() - wall_clock
        except ValueError:
            return None
    resets = [
        duration
        for kind in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{kind}") == "0"
        and (duration := _duration(headers.get(f"x-ratelimit-reset-{kind}", ""))) is not None
    ]
    return max(resets, default=None)


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    return value if value is not None and 0 <= value < float("inf") else None


def _duration(text: str) -> float | None:
    """Seconds of "3s", "1m2.5s", "372ms" or "7"."""
    if (plain := _number(text)) is not None:
        return plain
    parts = _DURATION.findall(text)
    return sum(float(amount) * _SECONDS[unit] for amount, unit in parts) if parts else None
