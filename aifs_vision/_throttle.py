"""The pace that refusals teach: additive increase, measured decrease, one cool-down and one probe for everybody."""

from __future__ import annotations

import math
import random

__all__ = ["Throttle"]

_SHARE = 0.95  # of the measured rate; the rest covers a window that slides
_CUT, _DECREASE = 0.5, 0.9  # of the old rate, however bad or good the measured one looks
_SLOWEST = 1 / 6  # requests a second: no plan of the price list allows less than ten a minute
_INCREASE = 0.0025  # of the rate, for each request that is let in
_UNSURE = 0.5  # of the rate, shared by the requests let in so far: what few of them measured is soon made good
_INCREASE_A_SECOND = 0.2  # of the rate, at most: what is on its way tells of the old rate
_FREE = 10.0  # times the rate of the last refusal: it is no bound any more
_TRUSTED = 2  # refusals in a row after which hints alone do not decide any more
_FIRST_PROBE, _LONGEST_PROBE = 1.0, 10.0  # seconds, doubling; a window of a minute is found open at most so late


class Throttle:
    """What is known of a limit nobody has told: nothing, until requests are refused.

    After a refusal nobody sends until the cool-down is over, and then one request alone tries whether the service
    takes any again. What it has taken from the start of an epoch to the next opening, a second, is its rate, whether
    it counts in windows or refills: a burst that emptied a window of a minute is not a rate, but burst and wait
    together are. The rate grows with every request that is let in, until the next refusal ends the epoch.

    All times are seconds of one clock that never goes back.
    """

    def __init__(self, now: float) -> None:
        self.rate: float | None = None  # requests a second; None is free
        self._next = now  # when the rate lets the next one go
        self._resume = now  # the end of the cool-down
        self._began = now  # of the epoch
        self._accepted, self._ever = 0, 0  # of the requests sent in the epoch, and of all
        self._refusals = 0  # in a row
        self._last_refusal = -math.inf
        self._probe: float | None = None  # when the one that tries was sent
        self._grown, self._cut = now, 0.0

    @property
    def resume(self) -> float:
        """When the cool-down is over."""
        return self._resume

    def wait(self, now: float) -> float:
        """Seconds until a request may go; infinite while another one tries."""
        if self._probe is not None:
            return math.inf
        paced = self._next - now if self.rate is not None else 0.0
        return max(0.0, self._resume - now, paced)

    def take(self, now: float) -> None:
        """A request goes."""
        if self._refusals:
            self._probe = now
        if self.rate is not None:
            self._next = max(now, self._next) + 1 / self.rate

    def cool_down(self, until: float) -> None:
        """Nobody sends before that."""
        self._resume = max(self._resume, until)

    def refused(self, sent: float, now: float, hint: float | None) -> None:
        """A request that was sent then was refused; the service asks to wait for `hint` seconds, or does not say."""
        if sent == self._probe:
            self._probe = None
        if hint is not None:
            self.cool_down(now + hint)
        if self._refusals and sent <= self._last_refusal:
            return  # sent before the others were refused: it says nothing new
        self._refusals += 1
        self._last_refusal = now
        if hint is None or self._refusals > _TRUSTED:  # a hint that was kept to, and did not help, is not the truth
            pause = min(_LONGEST_PROBE, _FIRST_PROBE * 2 ** (self._refusals - 1))
            self.cool_down(now + pause * random.uniform(0.8, 1.0))  # noqa: S311 - jitter, not cryptography

    def accepted(self, sent: float, now: float) -> None:
        """A request that was sent then was let in."""
        if sent == self._probe:
            self._probe = None
        self._ever += 1
        if sent >= self._began:
            self._accepted += 1
        if self._refusals:
            if sent > self._last_refusal:
                self._open(sent, now)
        elif self.rate is not None:
            self._grow(now)

    def gone(self, sent: float) -> None:
        """A request that was sent then ended without either, so it tries nothing any more."""
        if sent == self._probe:
            self._probe = None

    def _open(self, sent: float, now: float) -> None:
        """The service takes requests again: somewhere between the last refusal and the one that tried."""
        span = (self._last_refusal + sent) / 2 - self._began
        measured = _SHARE * max(1, self._accepted - 1) / max(span, 0.01)
        self.rate = measured if self.rate is None else min(max(measured, _CUT * self.rate), _DECREASE * self.rate)
        self.rate = self._cut = max(self.rate, _SLOWEST)
        self._next = self._grown = now
        self._began, self._accepted, self._refusals = sent, 1, 0

    def _grow(self, now: float) -> None:
        if self.rate is None:
            return
        step = max(_INCREASE, _UNSURE / self._ever)
        self.rate *= 1 + min(step, _INCREASE_A_SECOND * (now - self._grown))
        self._grown = now
        if self.rate > _FREE * self._cut:
            self.rate = None
