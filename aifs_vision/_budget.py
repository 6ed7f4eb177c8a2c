"""What may still be spent: `max_cost`, kept before a request is sent and not after."""

from __future__ import annotations

import asyncio
import math
import numbers
import threading
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aifs_vision._api_errors import BudgetError
from aifs_vision._errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Budget", "Reserved"]

_NOTHING = 1e-12  # EUR: what adding up fractions leaves over


class Reserved:
    """What one request may cost; `cost` is set to what it did cost."""

    def __init__(self, most: float) -> None:
        self.cost = self.most = most


@dataclass(eq=False)
class _Waiting:
    """A request that may cost more than there is just now."""

    most: float
    told: asyncio.Future[None]
    refused: BudgetError | None = None


class Budget:
    """EUR that may be spent, by all requests of one `Vision` together.

    A request is let through when the most it can cost still fits: its tokens by the service's published rules, or by
    what it has counted so far where that is more, and the whole room for its answer. Where it does not fit, it waits
    for those under way, which mostly cost less than that, and others wait behind it; where none is, it is refused.
    """

    def __init__(self, max_cost: float) -> None:
        number = isinstance(max_cost, numbers.Real) and not isinstance(max_cost, bool)
        with suppress(OverflowError):
            if number and 0 <= float(max_cost) < math.inf:
                self.max_cost = float(max_cost)
                self.spent = self._reserved = 0.0
                self._waiting: deque[_Waiting] = deque()
                self._lock = threading.Lock()  # two homes may share a Vision: a block of virtual time, and the other
                return
        raise SettingsError.bad_value("max_cost", max_cost, "it is a number of EUR, or None")

    async def reserve(self, most: float) -> Reserved:
        """Waits until a request of at most so many EUR may be sent.

        Raises:
            BudgetError: it may not.
        """
        waiting = _Waiting(most, asyncio.get_running_loop().create_future())
        with self._lock:
            if not self._waiting and self._fits(most):
                self._reserved += most
                return Reserved(most)
            self._waiting.append(waiting)
            self._go_on()
        try:
            await waiting.told
        except asyncio.CancelledError:
            with self._lock:
                if waiting in self._waiting:
                    self._waiting.remove(waiting)
                elif waiting.refused is None:  # it was let through just now
                    self._reserved -= most
                self._go_on()
            raise
        if waiting.refused is not None:
            raise waiting.refused
        return Reserved(most)

    def add(self, reserved: Reserved, most: float) -> None:
        """Reserves more for a request that is sent once more; nobody waits for that who holds something already.

        Raises:
            BudgetError: it does not fit.
        """
        with self._lock:
            if not self._fits(most):
                raise BudgetError(self.max_cost, self.spent, most)
            self._reserved += most
            reserved.most += most

    @contextmanager
    def settling(self, reserved: Reserved) -> Iterator[Reserved]:
        """Books `reserved.cost` at the end of the block, instead of what was reserved."""
        try:
            yield reserved
        finally:
            with self._lock:
                self._reserved -= reserved.most
                self.spent += reserved.cost
                self._go_on()

    def _fits(self, most: float) -> bool:
        return self.spent + self._reserved + most <= self.max_cost

    def _go_on(self) -> None:
        """Lets those through who fit, one after the other; the lock is held."""
        if self._reserved < _NOTHING:
            self._reserved = 0.0
        while self._waiting:
            first = self._waiting[0]
            fits = self._fits(first.most)
            if not fits and self._reserved:
                return
            self._waiting.popleft()
            if fits:
                self._reserved += first.most
            else:
                first.refused = BudgetError(self.max_cost, self.spent, first.most)
            try:
                first.told.get_loop().call_soon_threadsafe(_wake, first.told)
            except RuntimeError:  # its loop is closed, and whoever waited is gone with it
                self._reserved -= first.most if fits else 0.0


def _wake(told: asyncio.Future[None]) -> None:
    if not told.done():
        told.set_result(None)
