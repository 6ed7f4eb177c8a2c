"""What a run would take, before anything is sent: `Estimate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aifs_vision._images import prepare
from aifs_vision._ink import letters_on
from aifs_vision._limits import Cost, Limits
from aifs_vision._line import line_of
from aifs_vision._plan import plan
from aifs_vision._reader import FrameReader
from aifs_vision._readings import ModelUse, Reading, Usage

if TYPE_CHECKING:
    from aifs_vision._frames import Frame
    from aifs_vision._images import PreparedImage
    from aifs_vision._interview import Spent, Way
    from aifs_vision._plan import Manner, Plan
    from aifs_vision._report import RunReport
    from aifs_vision._tasks import Task

__all__ = ["Estimate", "Estimator", "estimate_of"]

_USUAL_SECONDS = 3.0  # one answer takes about so long; it counts only where no limit does


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run would take, reckoned without sending anything.

    Attributes:
        images: pages and frames that would be read.
        cached: of these, how many cost nothing, as the cache has them or an equal one comes before.
        unreadable: of these, how many have no picture that could be read.
        requests: questions to the model.
        input_tokens, output_tokens: of them; the output by the amount of print that is seen on the pictures, and by
            what this process has learned of the model's answers.
        cost_eur: EUR; None where the catalogue has no price for the model.
        minutes: at the pace that the limits allow.
    """

    images: int
    cached: int
    unreadable: int
    requests: int
    input_tokens: int
    output_tokens: int
    cost_eur: float | None
    minutes: float

    def __str__(self) -> str:
        cost = "price unknown" if self.cost_eur is None else f"{self.cost_eur:.4f} EUR"
        return (
            f"{self.images} images ({self.cached} paid before, {self.unreadable} unreadable), "
            f"{self.requests} requests, {self.input_tokens:,} tokens in, {self.output_tokens:,} out, {cost}, "
            f"{self.minutes:.1f} minutes"
        )


@dataclass(frozen=True, kw_only=True)
class Estimator(FrameReader):
    """Reads nothing: prepares each picture, and says what asking about it would take, as a reading without a text."""

    _seen: set[str] = field(default_factory=set)

    async def read(self, frame: Frame, spent: Spent) -> Reading:
        """The reading that there would be, as far as its figures go."""
        way = self.ways[0]
        if self.recall is not None and frame.sha256 is not None:
            key = self._key(frame, way)
            seen = key in self._seen
            self._seen.add(key)
            if seen or await self.recall.has(key):
                return self._reading(frame, way, status="ok", cached=True)
        return await super().read(frame, spent)

    def plans(self, frame: Frame, way: Way, task: Task, manner: Manner) -> list[tuple[PreparedImage, Plan]]:
        """What would be sent for a frame, with answers as long as the print on it."""
        images = prepare(frame, way.card, task, self.image_limits)
        plans = []
        for image in images:
            letters = letters_on(image.data) if image.data else None
            plans.append((image, plan(image, way.model, way.card, task, manner, letters=letters)))
        return plans

    async def _read(self, frame: Frame, way: Way, spent: Spent) -> Reading:
        line = line_of(way.settings, way.model)
        for _, request in await self._prepared(frame, way, self.task):
            expected = line.governor.expected(request.cost)
            used = Usage(input_tokens=round(expected.input_tokens), output_tokens=round(expected.output_tokens))
            cost = way.card.cost_eur(used.input_tokens, used.output_tokens)
            spent.add(way, ModelUse(requests=1, usage=used, cost_eur=cost))
        return self._reading(frame, way, status="ok", spent=spent)


def estimate_of(report: RunReport, limits: Limits) -> Estimate:
    """The figures of an estimator's run."""
    usage, requests = report.usage, report.requests
    return Estimate(
        images=report.images,
        cached=report.cached,
        unreadable=len(report.failures),
        requests=requests,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_eur=report.cost_eur,
        minutes=_minutes(limits, requests, Cost(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)),
    )


def _minutes(limits: Limits, requests: int, cost: Cost) -> float:
    """The longest that one of the limits takes, each used to 95 %."""
    paces = (
        (requests, limits.requests_per_minute),
        (cost.input_tokens, limits.input_tokens_per_minute),
        (cost.output_tokens, limits.output_tokens_per_minute),
    )
    paced = [amount / (0.95 * limit) for amount, limit in paces if limit is not None]
    return max([*paced, requests * _USUAL_SECONDS / 60 / limits.in_flight])
