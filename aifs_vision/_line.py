"""The queue before one model: first come, first served, as fast as its governor lets them go."""

from __future__ import annotations

import asyncio
import heapq
import math
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING

from aifs_vision._governor import Governor
from aifs_vision._hints import standings
from aifs_vision._loop import home

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable, Mapping

    from aifs_vision._governor import Permit
    from aifs_vision._limits import Cost, Limits
    from aifs_vision._settings import Settings

__all__ = ["Line", "Turn", "line_of"]

_QUIET = 1.0  # seconds without anybody else under way
_ASIDE = 60.0  # seconds at most that an item which broke the server twice lets the others go first


class Turn:
    """One item in the line, for all its attempts: whoever has to ask again keeps the place of the first time.

    Attributes:
        number: the place.
        waited: seconds that limits have held it up.
    """

    def __init__(self, number: int) -> None:
        self.number, self.waited = number, 0.0


class Line:
    """The way to one model at one address with one key; everybody in the process who asks it queues here.

    It lives on the background loop, like everything it keeps.
    """

    def __init__(self, limits: Limits) -> None:
        self._loop = asyncio.get_running_loop()
        self.governor = Governor(limits, self._loop.time)
        self._numbers = count()
        self._waiting: list[tuple[int, int, Cost, asyncio.Future[Permit]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._active = self._turns = 0
        self._idle = asyncio.Event()
        self._alone = asyncio.Lock()

    def adopt(self, limits: Limits) -> None:
        """The limits somebody has set since; who is under way stays under way."""
        if limits != self.governor.limits:
            self.governor.adopt(limits)
            self._let_go()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn]:
        """A place in the line, for as long as an item takes."""
        self._leave(-1)
        self._turns += 1
        try:
            yield Turn(self._turns)
        finally:
            self._leave(1)

    async def enter(self, turn: Turn, cost: Cost) -> Permit:
        """Waits until the request may go; what it holds is to be given back by `leave`."""
        if not self._waiting and not self.governor.wait(cost):
            return self.governor.take(cost)
        permit: asyncio.Future[Permit] = self._loop.create_future()
        heapq.heappush(self._waiting, (turn.number, next(self._numbers), cost, permit))
        begun, held_back = self._loop.time(), self.governor.in_flight < self.governor.limits.in_flight
        self._let_go()
        try:
            return await permit
        except asyncio.CancelledError:
            if permit.done() and not permit.cancelled():
                self.governor.release(permit.result())
            self._let_go()
            raise
        finally:
            turn.waited += held_back * (self._loop.time() - begun)

    def leave(self, permit: Permit) -> None:
        """Gives back what a request held, once its answer is closed; a second time does nothing."""
        self.governor.release(permit)
        self._let_go()

    def told(self, permit: Permit, headers: Mapping[str, str]) -> None:
        """What the headers of an answer say of the limits."""
        self.governor.heard(permit, standings(headers))
        self._let_go()

    @asynccontextmanager
    async def aside(self) -> AsyncIterator[None]:
        """Out of the way of the others, until none of them is under way or a minute has gone; then one by one."""
        self._leave(1)
        try:
            async with self._alone:
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._quiet(), _ASIDE)
                yield
        finally:
            self._leave(-1)

    async def _quiet(self) -> None:
        """Returns when nobody has been under way for a while, as there is a moment between one item and the next."""
        seen = -1
        while seen != self._turns or not self._idle.is_set():
            await self._idle.wait()
            seen = self._turns
            await asyncio.sleep(_QUIET)

    def _leave(self, items: int) -> None:
        self._active -= items
        if self._active:
            self._idle.clear()
        else:
            self._idle.set()

    def _let_go(self) -> None:
        """Lets those go whose turn it is, and comes back when the next one may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            _, _, cost, permit = self._waiting[0]
            if not permit.done():  # else nobody waits for it any more
                if (wait := self.governor.wait(cost)) > 0:
                    if wait < math.inf:
                        self._timer = self._loop.call_later(wait, self._let_go)
                    return
                permit.set_result(self.governor.take(cost))
            heapq.heappop(self._waiting)


def line_of(settings: Settings, model: str, limits: Limits) -> Line:
    """The line for a model; limits that differ from the last ones replace them."""
    key: Hashable = ("line", settings.base_url, settings.api_key.fingerprint, model)
    line = home().keep(key, lambda: Line(limits))
    line.adopt(limits)
    return line
