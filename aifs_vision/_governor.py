"""May this request go now? Three budgets, those in flight, what headers tell; arithmetic on an injected clock."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aifs_vision._health import Health
from aifs_vision._limits import Cost
from aifs_vision._throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aifs_vision._hints import Standing
    from aifs_vision._limits import Limits

__all__ = ["Governor", "Permit"]

_SHARE = 0.95  # of a known limit; the rest covers clocks that differ and windows that slide
_BURST = 0.05  # seconds' worth a bucket holds: a full bucket at the start would double the first window
_LEARNED = 0.2  # of each answer in what is learned of estimates
_NO_TIME = 1e-6  # seconds: what adding up fractions leaves over, and no clock can wait for
_MOST_OFF = 20.0  # times what was reserved, or
_MOST_TOKENS = 100_000  # tokens, whichever is more: a count beyond that is a mistake, and parks nobody for hours
_OFF = (0.05, 20.0)  # times: an estimate that is further off says more of the answer than of the estimate


@dataclass(kw_only=True, eq=False)
class Permit:
    """A request that may go, with what was taken for it.

    Attributes:
        number: of all requests that went, in their order.
        sent: when it went.
        cost: as it was estimated.
        reserved: as it was taken from the budgets.
        spoken: input tokens reserved so far, this one's included.
        held: whether it counts as in flight.
    """

    number: int
    sent: float
    cost: Cost
    reserved: Cost
    spoken: float
    held: bool = True


class _Bucket:
    """A token bucket that may run into debt, so that an item larger than the bucket still goes.

    It has a pace known from the plan, one taught by headers, or both; the lower one counts.
    """

    def __init__(self, one: float, now: float) -> None:
        self._one = one  # what it holds besides its burst: a request that comes late does not lose its turn
        self.known: float | None = None  # a second, already the share of it that is used
        self.taught: float | None = None
        self.level, self._at = one, now

    @property
    def rate(self) -> float | None:
        """What comes back a second; None is no limit."""
        return min((rate for rate in (self.known, self.taught) if rate is not None), default=None)

    def know(self, rate: float | None) -> None:
        """The pace of another plan; a debt stays what it is, unless there is no limit any more."""
        self.known = rate
        if self.rate is None:
            self.level = self._one

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` may be taken."""
        rate = self.rate
        if rate is None:
            self._at = now
            return 0.0
        full = self._one + rate * _BURST
        # A clock that jumps fills it, and never overfills it; one that went back adds nothing.
        self.level = min(full, self.level + max(0.0, now - self._at) * rate)
        self._at = now
        wait = (min(amount, full) - self.level) / rate
        return wait if wait > _NO_TIME else 0.0

    def spend(self, amount: float) -> None:
        """Takes so much; where there is no limit, there is nothing to take from."""
        if self.rate is not None:
            self.level -= amount


class _Window:
    """Learns from the headers of one budget how fast it comes back.

    Some hosts tell the time until the budget is full again, which grows with what is used; others the time to the end
    of a fixed window, which does not. Two answers of one window, of which the later has used half as much again, tell
    which; until then nothing is concluded.
    """

    def __init__(self) -> None:
        self._first: tuple[float, float, float] | None = None  # used, reset, end
        self._length = 0.0
        self.fixed: bool | None = None

    def rate(self, told: Standing, now: float) -> float | None:
        """What comes back a second; None while that cannot be told."""
        used, end = told.limit - told.remaining, now + told.reset
        first = self._first
        if first is None or used < first[0] or (self.fixed and now > first[2]):
            self._first = (used, told.reset, end)
        elif used >= 1.5 * first[0] and told.reset > 0 and first[0] > 0:
            grows = abs(told.reset / used - first[1] / first[0]) * used / told.reset
            stays = abs(end - first[2]) / told.reset
            self.fixed = stays < grows
        if self.fixed is None:
            return None
        if not self.fixed:
            return used / told.reset if used > 0 and told.reset > 0 else None
        self._length = max(self._length, told.reset)
        return told.limit / self._length if self._length else None


class Governor:
    """The budgets of one model at one address with one key; not thread-safe, it lives on the loop.

    wait = governor.wait(cost)           # 0.0: it may go; else ask again after so many seconds, or when another ends
    permit = governor.take(cost)
    governor.settle(permit, used)        # once the service has counted
    governor.release(permit)             # once the answer is closed
    """

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self._clock, now = clock, clock()
        self._requests, self._input, self._output = _Bucket(1.0, now), _Bucket(0.0, now), _Bucket(0.0, now)
        self._throttle, self._health = Throttle(now), Health()
        self._windows = {"requests": _Window(), "tokens": _Window()}
        self._learned: dict[str, tuple[float, float]] = {}
        self._taken, self._spoken, self._heard = 0, 0.0, 0
        self.in_flight = 0
        self.adopt(limits)

    def adopt(self, limits: Limits) -> None:
        """Other limits from now on; what has been taken stays taken."""
        self.limits = limits
        for bucket, limit in (
            (self._requests, limits.requests_per_minute),
            (self._input, limits.input_tokens_per_minute),
            (self._output, limits.output_tokens_per_minute),
        ):
            bucket.know(None if limit is None else limit * _SHARE / 60)

    def wait(self, cost: Cost) -> float:
        """Seconds until the cost fits all budgets at once; infinite while only a request that ends makes room."""
        if self.in_flight >= self.limits.in_flight:
            return math.inf
        now, expected = self._clock(), self.expected(cost)
        return max(
            self._health.wait(now),
            self._throttle.wait(now),
            self._requests.wait(1.0, now),
            self._input.wait(expected.input_tokens, now),
            self._output.wait(expected.output_tokens, now),
        )

    def take(self, cost: Cost) -> Permit:
        """Takes the cost from all budgets at once, whether it fits or not: who has not waited runs into debt."""
        now, reserved = self._clock(), self.expected(cost)
        self._throttle.take(now)
        self._health.take(now)
        self._requests.spend(1.0)
        self._input.spend(reserved.input_tokens)
        self._output.spend(reserved.output_tokens)
        self._taken += 1
        self._spoken += reserved.input_tokens
        self.in_flight += 1
        return Permit(number=self._taken, sent=now, cost=cost, reserved=reserved, spoken=self._spoken)

    def release(self, permit: Permit) -> None:
        """Its answer is closed, or it came to nothing; a second time does nothing."""
        if permit.held:
            permit.held = False
            self.in_flight -= 1
            self._throttle.gone(permit.sent)

    def expected(self, cost: Cost) -> Cost:
        """An estimate, corrected by what answers to others of its kind have taught."""
        read, written = self._learned.get(cost.kind, (1.0, 1.0))
        return Cost(input_tokens=cost.input_tokens * read, output_tokens=cost.output_tokens * written, kind=cost.kind)

    # -- What the service says -------------------------------------------------------------------------------

    def settle(self, permit: Permit, used: Cost) -> None:
        """Settles the difference between what was reserved and what the service has counted, and learns from it."""
        read, written = permit.reserved.input_tokens, permit.reserved.output_tokens
        self._input.spend(min(used.input_tokens, max(_MOST_TOKENS, _MOST_OFF * read)) - read)
        self._output.spend(min(used.output_tokens, max(_MOST_TOKENS, _MOST_OFF * written)) - written)
        read, written = self._learned.get(permit.cost.kind, (1.0, 1.0))
        self._learned[permit.cost.kind] = (
            _learned(read, used.input_tokens, permit.cost.input_tokens),
            _learned(written, used.output_tokens, permit.cost.output_tokens),
        )

    def accepted(self, permit: Permit) -> None:
        """The service has let it in, and answered."""
        self._throttle.accepted(permit.sent, self._clock())
        self._health.answered()

    def refused(self, permit: Permit, hint: float | None) -> None:
        """A 429: nobody sends for so many seconds, or until one alone has found the service open again."""
        self._refund(permit)
        self._throttle.refused(permit.sent, self._clock(), hint)
        self._health.answered()

    def failed(self, permit: Permit, item: int, hint: float | None, *, unread: bool) -> None:
        """A failure of the service or of the connection, before it was read or after.

        Where nearly everything fails, it is a pause for everybody, like a refusal.
        """
        if unread:
            self._refund(permit)
        self._throttle.gone(permit.sent)
        self._health.failed(item, self._clock(), hint, self.in_flight)

    @property
    def shut(self) -> bool:
        """Whether one alone is to try if anything is answered."""
        return self._health.closed

    def shut_for(self) -> tuple[float, float]:
        """Seconds for which everything has been refused, and for which everything has failed."""
        now = self._clock()
        return self._throttle.closed_for(now), self._health.closed_for(now)

    def forget(self) -> None:
        """Nobody has asked for a while."""
        self._throttle.forget()
        self._health.forget()

    def _refund(self, permit: Permit) -> None:
        """It has read nothing, and written nothing."""
        self._input.spend(-permit.reserved.input_tokens)
        self._output.spend(-permit.reserved.output_tokens)

    def heard(self, permit: Permit, told: Iterable[Standing]) -> None:
        """What headers tell: it only ever lowers what may be sent; that of older requests is no news."""
        if permit.number < self._heard:
            return
        self._heard, now = permit.number, self._clock()
        for standing in told:
            requests = standing.kind == "requests"
            bucket = self._requests if requests else self._input
            window = self._windows[standing.kind]
            rate = window.rate(standing, now)
            if rate is not None:
                bucket.taught = rate * _SHARE
            # What went after that request is not in its answer yet.
            since = self._taken - permit.number if requests else self._spoken - permit.spoken
            bucket.wait(0.0, now)
            bucket.level = min(bucket.level, standing.remaining - since)
            if standing.remaining == 0 and window.fixed is not False:
                self._throttle.cool_down(now + min(standing.reset, 60.0))


def _learned(factor: float, used: float, estimated: float) -> float:
    if estimated <= 0 or used <= 0:
        return factor
    least, most = _OFF
    return factor + _LEARNED * (min(most, max(least, used / estimated)) - factor)
