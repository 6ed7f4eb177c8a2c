"""The reports of many runs, added up."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from aifs_vision import ModelUse, RunReport

if TYPE_CHECKING:
    from aifs_vision import Failure

__all__ = ["Totals"]


class Totals:
    """The figures of many runs, which may end in several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sum = RunReport()
        self._failures: list[Failure] = []

    def add(self, report: RunReport) -> None:
        """Counts one more run."""
        with self._lock:
            so_far = self._sum
            names = [*so_far.models, *(name for name in report.models if name not in so_far.models)]
            self._sum = RunReport(
                statuses=Counter(so_far.statuses) + Counter(report.statuses),
                cached=so_far.cached + report.cached,
                models={
                    name: so_far.models.get(name, ModelUse()) + report.models.get(name, ModelUse()) for name in names
                },
                seconds=so_far.seconds + report.seconds,
                waited=so_far.waited + report.waited,
            )
            self._failures += report.failures

    def report(self) -> RunReport:
        """The figures so far."""
        with self._lock:
            return replace(self._sum, failures=tuple(self._failures))
