"""The pace that refusals teach: additive increase, measured decrease, one cool-down and one probe for everybody."""

from __future__ import annotations

import math
import random

__all__ = ["Throttle"]

_SHARE = 0.95  # of the measured rate; the rest covers a window that slides
_CUT, _DECREASE = 0.5, 0.9  # of the old rate, however bad or good the measured one looks
_SLOWEST = 1 / 6  # requests a second: no plan of the price list allows less than ten a minute
_MEASURED = 2  # requests let in from which an epoch tells of a rate; else it was shut, and not slow
_INCREASE = 0.0025  # of the rate, for each request that is let in
_UNSURE = 0.5  # of the rate, shared by the requests let in so far: what few of them measured is soon made good
_CLEAN = 0.002  # of the rate, a second, a minute after the last refusal; after two minutes four times as much
_INCREASE_A_SECOND = 0.2  # of the rate, at most: what is on its way tells of the old rate
_FREE = 10.0  # times the rate of the last refusal: it is no bound any more
_TRUSTED = 2  # refusals in a row after which hints alone do not decide any more
_FIRST_PROBE, _LONGEST_PROBE = 1.0, 10.0  # seconds, doubling; a window of a minute is found open at most so late
_DOUBLINGS = 8  # at most: the longest is reached long before
_SILENT = 3.0  # seconds after which a probe without an answer was let in: refusals come quickly,
_SLOWER = 4.0  # or in so many times as long as the slowest of them so far


class Throttle:
    """What is known of a limit nobody has told: nothing, until requests are refused.

    After a refusal nobody sends until the cool-down is over, and then one request alone tries whether the service
    takes any again. What it has taken from the start of an epoch to the next opening, a second, is its rate, whether
    it counts in windows or refills: a burst that emptied a window of a minute is not a rate, but burst and wait
    together are. The rate grows with every request that is let in, and faster the longer nothing is refused, until
    the next refusal ends the epoch.

    All times are seconds of one clock that never goes back.
    """

    def __init__(self, now: float) -> None:
        self.rate: float | None = None  # requests a second; None is free
        self._closed = False
        self._since: float | None = None  # when it was closed; None where nobody knows for how long it has been
        self._next = now  # when the rate lets the next one go
        self._resume = now  # the end of the cool-down
        self._began = now  # of the epoch
        self._accepted, self._ever = 0, 0  # of the requests sent in the epoch, and of all
        self._row = 0  # refusals since it was closed
        self._last = -math.inf  # of them
        self._refusal_took = 0.0
        self._probe: float | None = None  # when the one that tries was sent
        self._grown, self._cut = now, 0.0

    def closed_for(self, now: float) -> float:
        """Seconds for which nothing was let in, though it was tried."""
        return 0.0 if self._since is None else now - self._since

    def wait(self, now: float) -> float:
        """Seconds until a request may go."""
        if self._probe is not None:
            answered = self._probe + max(_SILENT, _SLOWER * self._refusal_took)
            if now < answered:
                return answered - now
            self._open(self._probe, now)
            self._probe = None
        paced = self._next - now if self.rate is not None else 0.0
        return max(0.0, self._resume - now, paced)

    def take(self, now: float) -> None:
        """A request goes."""
        if self._closed:
            self._probe = now
        if self.rate is not None:
            self._next = max(now, self._next) + 1 / self.rate

    def cool_down(self, until: float) -> None:
        """Nobody sends before that."""
        self._resume = max(self._resume, until)

    def refused(self, sent: float, now: float, hint: float | None) -> None:
        """A request that was sent then was refused; the service asks to wait for `hint` seconds, or does not say."""
        self.gone(sent)
        self._refusal_took = max(self._refusal_took, now - sent)
        if hint is not None:
            self.cool_down(now + hint)
        if self._closed and sent <= self._last:
            return  # sent before the others were refused: it says nothing new
        if not self._closed:
            self._closed, self._row = True, 0
        if self._since is None:
            self._since = now
        self._row += 1
        self._last = now
        if hint is None or self._row > _TRUSTED:  # a hint that was kept to, and did not help, is not the truth
            pause = min(_LONGEST_PROBE, _FIRST_PROBE * 2 ** min(self._row - 1, _DOUBLINGS))
            self.cool_down(now + pause * random.uniform(0.8, 1.0))  # noqa: S311 - jitter, not cryptography

    def accepted(self, sent: float, now: float) -> None:
        """A request that was sent then was let in, whatever came of it."""
        self.gone(sent)
        self._ever += 1
        if sent >= self._began:
            self._accepted += 1
        if self._closed:
            if sent > self._last:
                self._open(sent, now)
        elif self.rate is not None:
            self._grow(now)

    def forget(self) -> None:
        """Nobody has tried for a while: for how long it has been closed is not known any more."""
        self._since = None

    def gone(self, sent: float) -> None:
        """A request that was sent then has ended, so it tries nothing any more."""
        if sent == self._probe:
            self._probe = None

    def _open(self, sent: float, now: float) -> None:
        """The service takes requests again: somewhere between the last refusal and the one that tried."""
        self._measure((self._last + sent) / 2 - self._began)
        self._began, self._accepted = sent, 1
        self._next = self._grown = now
        self._closed, self._since = False, None

    def _measure(self, span: float) -> None:
        if self._accepted >= _MEASURED:
            measured = _SHARE * max(1, self._accepted - 1) / max(span, 0.01)
            old = self.rate
            self.rate = measured if old is None else min(max(measured, _CUT * old), _DECREASE * old)
        elif self.rate is not None:
            self.rate *= _DECREASE
        if self.rate is not None:
            self.rate = self._cut = max(self.rate, _SLOWEST)

    def _grow(self, now: float) -> None:
        if self.rate is None:
            return
        took = now - self._grown
        clean = _CLEAN * ((now - self._last) / 60) ** 2 * took
        self.rate *= 1 + min(max(_INCREASE, _UNSURE / self._ever, clean), _INCREASE_A_SECOND * took)
        self._grown = now
        if self.rate > _FREE * self._cut:
            self.rate = None
