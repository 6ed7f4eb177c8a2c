"""What a run did, in figures: `RunReport`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from aifs_vision._errors import one_line
from aifs_vision._readings import RESULTS, STATUSES, ModelUse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aifs_vision._readings import Reading, Usage

__all__ = ["Failure", "RunReport", "Tally"]

_FAILURES_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An image that has no result: where it is, what became of it, and why."""

    source: str
    page: int
    status: str
    reason: str

    def __str__(self) -> str:
        """Where and why, on one line; most reasons name the place themselves."""
        place = "" if self.source in self.reason else f"{self.source} (page {self.page}): "
        return one_line(f"{place}{self.reason}")


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """What a run has done so far; a value that can be pickled, so that a report once taken does not change.

    Attributes:
        statuses: how many readings ended with each status.
        cached: how many of them were paid before: from the cache, or with an equal image that was on its way.
        models: what each model was asked, by its name.
        seconds: from the start of the run to its last reading.
        waited: seconds that limits have held up requests, summed over them: many wait at once.
        failures: every image without a result, in the order of the run.
    """

    statuses: Mapping[str, int] = field(default_factory=dict)
    cached: int = 0
    models: Mapping[str, ModelUse] = field(default_factory=dict)
    seconds: float = 0.0
    waited: float = 0.0
    failures: tuple[Failure, ...] = ()

    @property
    def images(self) -> int:
        """Readings delivered or skipped: one for each page or frame."""
        return sum(self.statuses.values())

    @property
    def results(self) -> int:
        """How many of them are results: status "ok" or "empty"."""
        return sum(count for status, count in self.statuses.items() if status in RESULTS)

    @property
    def images_per_second(self) -> float:
        """Readings a second; 0.0 before there is one."""
        return self.images / self.seconds if self.seconds > 0 else 0.0

    @property
    def requests(self) -> int:
        """Questions put to all models."""
        return self._total.requests

    @property
    def attempts(self) -> int:
        """HTTP requests sent to all models."""
        return self._total.attempts

    @property
    def usage(self) -> Usage:
        """Tokens of all models."""
        return self._total.usage

    @property
    def cost_eur(self) -> float | None:
        """EUR for all models; None where the price of one that was asked is not known."""
        return self._total.cost_eur

    @property
    def _total(self) -> ModelUse:
        return sum(self.models.values(), ModelUse())

    def __add__(self, other: RunReport) -> RunReport:
        """Two runs together; their seconds are added, also where they ran side by side."""
        models = {**self.models}
        for name, use in other.models.items():
            models[name] = models.get(name, ModelUse()) + use
        return RunReport(
            statuses=dict(Counter(self.statuses) + Counter(other.statuses)),
            cached=self.cached + other.cached,
            models=models,
            seconds=self.seconds + other.seconds,
            waited=self.waited + other.waited,
            failures=self.failures + other.failures,
        )

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain values, for logs and JSON."""
        return {
            "images": self.images,
            "statuses": dict(self.statuses),
            "cached": self.cached,
            **_plain(self._total),
            "models": {name: _plain(use) for name, use in self.models.items()},
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
            "waited": self.waited,
            "failures": [vars(failure).copy() for failure in self.failures],
        }

    def __str__(self) -> str:
        lines = [f"{name:<10}{value}" for name, value in self._rows()]
        lines += [f"{failure.status:<10}{failure}" for failure in self.failures[:_FAILURES_SHOWN]]
        if (more := len(self.failures) - _FAILURES_SHOWN) > 0:
            lines.append(f"{'':<10}and {more} more, in report.failures")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The same as a table, for notebooks."""
        shown = [(failure.status, str(failure)) for failure in self.failures[:_FAILURES_SHOWN]]
        rows = (f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in [*self._rows(), *shown])
        return f"<table>{''.join(rows)}</table>"

    def _rows(self) -> list[tuple[str, str]]:
        counted = ", ".join(f"{self.statuses[status]} {status}" for status in STATUSES if status in self.statuses)
        rows = [("images", f"{self.images} ({counted or 'none'}), {self.cached} of them paid before")]
        rows += [
            (("model", "")[at > 0], f"{name}: {_words(use)}") for at, (name, use) in enumerate(self.models.items())
        ]
        if len(self.models) != 1:
            rows.append(("together", _words(self._total)))
        pace = f"{self.seconds:.1f} s, {self.images_per_second:.1f} images a second"
        held = f"; limits held requests up for {self.waited:.0f} s, added up" if self.waited >= 1 else ""
        return [*rows, ("time", pace + held)]


def _plain(use: ModelUse) -> dict[str, Any]:
    return {
        "requests": use.requests,
        "attempts": use.attempts,
        "input_tokens": use.usage.input_tokens,
        "output_tokens": use.usage.output_tokens,
        "cost_eur": use.cost_eur,
    }


def _words(use: ModelUse) -> str:
    cost = "price unknown" if use.cost_eur is None else f"{use.cost_eur:.4f} EUR"
    tokens = f"{use.usage.input_tokens:,} tokens in, {use.usage.output_tokens:,} out"
    return f"{use.requests} requests ({use.attempts} sent), {tokens}, {cost}"


class Tally:
    """The figures of a run while it goes on."""

    def __init__(self) -> None:
        self._statuses: Counter[str] = Counter()
        self._failures: list[Failure] = []
        self._models: dict[str, ModelUse] = {}
        self._cached, self._waited = 0, 0.0

    def add(self, reading: Reading) -> None:
        """Counts one more reading, delivered or skipped."""
        self._statuses[reading.status] += 1
        self._cached += reading.cached
        self._waited += reading.waited
        for model, use in reading.models.items():
            self._models[model] = self._models.get(model, ModelUse()) + use
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
            cached=self._cached,
            models=dict(self._models),
            seconds=seconds,
            waited=self._waited,
            failures=tuple(self._failures),
        )
