"""The queue before one model: first come, first served, as fast as its governor lets them go."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

from aifs_vision._governor import Governor
from aifs_vision._hints import standings
from aifs_vision._limits import Limits
from aifs_vision._loop import home

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable, Mapping

    from aifs_vision._governor import Permit
    from aifs_vision._limits import Cost
    from aifs_vision._settings import Settings

__all__ = ["Line", "Shut", "Turn", "line_of"]

_QUIET = 1.0  # seconds without anybody else under way
_MINUTE = 60.0  # seconds for which limits are kept to after the last one has left who had brought them
_FORGOTTEN = 5.0  # seconds without anybody, after which it starts anew how long the door has been shut
_ASIDE = 60.0  # seconds at most that an item which broke the server twice lets the others go first


class Shut(Exception):  # noqa: N818 - caught where it is thrown, by whoever asked to be let in
    """Nobody is let in for longer than one is willing to wait; `outcome` is what the last one met who tried."""

    def __init__(self, outcome: Any) -> None:
        super().__init__("nobody is let in")
        self.outcome = outcome


@dataclass(eq=False)
class Turn:
    """One item in the line, for all its attempts: whoever has to ask again keeps the place of the first time.

    Attributes:
        number: the place.
        patience: seconds for which nobody may be let in, since all are refused, before this item gives up.
        outage: the same, where all fail.
        waited: seconds that limits have held it up.
        stepped_aside: whether it has let the others go first.
        tries: how often it has tried, for everybody, whether an outage is over.
    """

    number: int
    patience: float
    outage: float
    waited: float = 0.0
    stepped_aside: bool = False
    tries: int = 0

    def endures(self, line: Line, more: float = 0.0) -> bool:
        """Whether it is willing to wait on, for so many seconds more of refusals."""
        refused, failed = line.governor.shut_for()
        return (not refused or refused + more < self.patience) and (not failed or failed < self.outage)


@dataclass(order=True)
class _Waiting:
    place: tuple[int, int]
    cost: Cost = field(compare=False)
    turn: Turn = field(compare=False)
    permit: asyncio.Future[Permit] = field(compare=False)


class Line:
    """The way to one model at one address with one key; everybody in the process who asks it queues here.

    Whoever is under way brings limits; the strictest of them are kept to. It lives on the background loop, like
    everything it keeps.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.governor = Governor(Limits(), self._loop.time)
        self.successes = 0
        self._limits: Counter[Limits] = Counter()
        self._left: dict[Limits, float] = {}  # when the last one left who had brought them
        self._inside, self._emptied = 0, 0.0
        self._numbers = count()
        self._waiting: list[_Waiting] = []
        self._timer: asyncio.TimerHandle | None = None
        self._active = self._turns = 0
        self._idle = asyncio.Event()
        self._alone = asyncio.Lock()

    @asynccontextmanager
    async def turn(self, limits: Limits, *, patience: float, outage: float) -> AsyncIterator[Turn]:
        """A place in the line, for as long as an item takes."""
        if not self._inside and self._loop.time() - self._emptied > _FORGOTTEN:
            self.governor.forget()
        self._inside += 1
        self._limits[limits] += 1
        self._adopt()
        self._leave(-1)
        self._turns += 1
        try:
            yield Turn(self._turns, patience, outage)
        finally:
            self._leave(1)
            self._limits[limits] -= 1
            self._inside -= 1
            self._left[limits] = self._emptied = self._loop.time()

    async def enter(self, turn: Turn, cost: Cost) -> Permit:
        """Waits until the request may go; what it holds is to be given back by `leave`.

        Raises:
            Shut: nobody is let in for longer than the item endures.
        """
        if not self._waiting and not self.governor.wait(cost):
            return self._let_in(turn, cost)
        permit: asyncio.Future[Permit] = self._loop.create_future()
        heapq.heappush(self._waiting, _Waiting((turn.number, next(self._numbers)), cost, turn, permit))
        begun, held_back = self._loop.time(), self.governor.in_flight < self.governor.limits.in_flight
        self._let_go()
        try:
            return await permit
        except asyncio.CancelledError:
            if permit.done() and not permit.cancelled() and permit.exception() is None:
                self.governor.release(permit.result())
            self._let_go()
            raise
        finally:
            turn.waited += held_back * (self._loop.time() - begun)

    def leave(self, permit: Permit) -> None:
        """Gives back what a request held, once its answer is closed; a second time does nothing."""
        self.governor.release(permit)
        self._let_go()

    # -- What becomes of requests ----------------------------------------------------------------------------

    def accepted(self, permit: Permit) -> None:
        """The service has answered it."""
        self.successes += 1
        self.governor.accepted(permit)

    def refused(self, permit: Permit, hint: float | None, outcome: object) -> None:
        """A 429, and how long the service asks to wait."""
        self.governor.refused(permit, hint)
        self._give_up(outcome)

    def failed(self, permit: Permit, turn: Turn, hint: float | None, outcome: object, *, unread: bool) -> None:
        """A failure, of the service or of the connection."""
        self.governor.failed(permit, turn.number, hint, unread=unread)
        self._give_up(outcome)

    def told(self, permit: Permit, headers: Mapping[str, str], wall_clock: float) -> None:
        """What the headers of an answer say of the limits."""
        if any(name.startswith("x-ratelimit") for name in headers):
            self.governor.heard(permit, standings(headers, wall_clock=wall_clock))
            self._let_go()

    @asynccontextmanager
    async def aside(self, turn: Turn) -> AsyncIterator[None]:
        """Out of the way of the others, until none of them is under way or a minute has gone; then one by one."""
        self._leave(1)
        try:
            if not turn.stepped_aside:
                turn.stepped_aside = True
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._quiet(), _ASIDE)
            async with self._alone:
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

    def _let_in(self, turn: Turn, cost: Cost) -> Permit:
        turn.tries += self.governor.shut
        return self.governor.take(cost)

    def _leave(self, items: int) -> None:
        self._active -= items
        if self._active:
            self._idle.clear()
        else:
            self._idle.set()

    def _adopt(self) -> None:
        """The limits in use, and those that were until a minute ago, as limits are of a minute."""
        now = self._loop.time()
        for limits in [limits for limits, users in self._limits.items() if not users]:
            if now - self._left[limits] > _MINUTE:
                del self._limits[limits], self._left[limits]
        limits = Limits.strictest(self._limits)
        if limits != self.governor.limits:
            self.governor.adopt(limits)
            self._let_go()

    def _give_up(self, outcome: object) -> None:
        """Sends those away who have waited long enough at a door that does not open."""
        for waiting in self._waiting:
            if not waiting.permit.done() and not waiting.turn.endures(self):
                waiting.permit.set_exception(Shut(outcome))

    def _let_go(self) -> None:
        """Lets those go whose turn it is, and comes back when the next one may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            first = self._waiting[0]
            if self.governor.shut:  # whoever has tried least: an item that fails by itself must not try for all
                first = min(self._waiting, key=lambda waiting: (waiting.turn.tries, waiting.place))
            if not first.permit.done():  # else nobody waits for it any more
                if (wait := self.governor.wait(first.cost)) > 0:
                    if wait < math.inf:
                        self._timer = self._loop.call_later(wait, self._let_go)
                    return
                first.permit.set_result(self._let_in(first.turn, first.cost))
            if first is self._waiting[0]:
                heapq.heappop(self._waiting)
            else:
                self._waiting.remove(first)
                heapq.heapify(self._waiting)


def line_of(settings: Settings, model: str) -> Line:
    """The line for a model."""
    key: Hashable = ("line", settings.base_url, settings.api_key.fingerprint, model)
    return home().keep(key, Line)
