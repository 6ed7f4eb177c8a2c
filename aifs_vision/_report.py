"""What a run did, in figures: `RunReport`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aifs_vision._readings import RESULTS, STATUSES, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aifs_vision._readings import Reading

__all__ = ["Failure", "RunReport", "Tally"]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An image that has no result: where it is, what became of it, and why."""

    source: str
    page: int
    status: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """What a run has done so far; a value, so that a report once taken does not change.

    Attributes:
        statuses: how many readings ended with each status.
        requests: requests sent, further attempts included.
        usage: tokens, as counted by the service.
        cost_eur: EUR for them; None where the catalogue has no price for the model.
        seconds: from the start of the run to its last reading.
        failures: every image without a result, in the order of the run.
    """

    statuses: Mapping[str, int] = field(default_factory=dict)
    requests: int = 0
    usage: Usage = field(default_factory=Usage)
    cost_eur: float | None = 0.0
    seconds: float = 0.0
    failures: tuple[Failure, ...] = ()

    @property
    def images(self) -> int:
        """Readings delivered or skipped: one for each page or frame."""
        return sum(self.statuses.values())

    @property
    def results(self) -> int:
        """How many of them are results: status "ok" or "empty"."""
        return sum(count for status, count in self.statuses.items() if status in RESULTS)

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain values, for logs and JSON."""
        return {
            "images": self.images,
            "statuses": dict(self.statuses),
            "requests": self.requests,
            "input_tokens": self.usage.input_tokens,
            "output_tokens": self.usage.output_tokens,
            "cost_eur": self.cost_eur,
            "seconds": self.seconds,
            "failures": [vars(failure).copy() for failure in self.failures],
        }

    def __str__(self) -> str:
        counted = ", ".join(f"{self.statuses[status]} {status}" for status in STATUSES if status in self.statuses)
        cost = "unknown" if self.cost_eur is None else f"{self.cost_eur:.4f} EUR"
        lines = [
            f"images    {self.images} ({counted or 'none'})",
            f"requests  {self.requests}",
            f"tokens    {self.usage.input_tokens:,} in, {self.usage.output_tokens:,} out",
            f"cost      {cost}",
            f"time      {self.seconds:.1f} s",
        ]
        return "\n".join([*lines, *(f"{failure.status}  {failure.reason}" for failure in self.failures)])


class Tally:
    """The figures of a run while it goes on."""

    def __init__(self) -> None:
        self._statuses: Counter[str] = Counter()
        self._failures: list[Failure] = []
        self._requests, self._usage = 0, Usage()
        self._cost: float | None = 0.0

    def add(self, reading: Reading) -> None:
        """Counts one more reading, delivered or skipped."""
        self._statuses[reading.status] += 1
        self._requests += reading.attempts
        self._usage += reading.usage
        known = self._cost is not None and reading.cost_eur is not None
        self._cost = (self._cost or 0.0) + (reading.cost_eur or 0.0) if known else None
        if not reading.ok:
            self._failures.append(
                Failure(
                    source=reading.source,
                    page=reading.page,
                    status=reading.status,
                    reason=str(reading.error),
                )
            )

    def report(self, seconds: float) -> RunReport:
        """The figures so far, `seconds` after the start."""
        return RunReport(
            statuses=dict(self._statuses),
            requests=self._requests,
            usage=self._usage,
            cost_eur=self._cost,
            seconds=seconds,
            failures=tuple(self._failures),
        )
