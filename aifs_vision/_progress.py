"""How a run is getting on, for whoever watches: a line that renews itself on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from aifs_vision._report import RunReport

__all__ = ["Progress", "progress"]

_TERMINAL_EVERY, _LINES_EVERY = 0.1, 10.0  # seconds between two renewals


class Progress(Protocol):
    """Shows reports of a run while it goes on."""

    def due(self) -> bool:
        """Whether it is time for another report; asked for every reading, so it is cheap."""

    def show(self, report: RunReport) -> None:
        """Shows how far the run is."""

    def close(self, report: RunReport) -> None:
        """Shows how far the run got."""


def progress() -> Progress:
    """A line that renews itself where rich is installed and stderr is a terminal, else plain lines."""
    if find_spec("rich") is not None and sys.stderr.isatty():
        return _Terminal()
    return _Lines()


def _line(report: RunReport) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in report.statuses.items())
    rate = f"{report.images / report.seconds:.1f} a second" if report.seconds else "-"
    cost = "" if report.cost_eur is None else f", {report.cost_eur:.4f} EUR"
    return f"aifs-vision: {report.images} images ({counts}), {rate}{cost}"


class _Clocked:
    def __init__(self, every: float) -> None:
        self._every, self._last = every, time.monotonic()

    def due(self) -> bool:
        now = time.monotonic()
        if now - self._last < self._every:
            return False
        self._last = now
        return True


class _Lines(_Clocked):
    """A line to stderr every ten seconds, and one at the end."""

    def __init__(self) -> None:
        super().__init__(_LINES_EVERY)

    def show(self, report: RunReport) -> None:
        sys.stderr.write(_line(report) + "\n")
        sys.stderr.flush()

    def close(self, report: RunReport) -> None:
        self.show(report)


class _Terminal(_Clocked):
    """One line of a terminal, renewed by rich."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__(_TERMINAL_EVERY)
        self._live = Live("aifs-vision: starting", console=Console(stderr=True), auto_refresh=False)
        self._live.start()

    def show(self, report: RunReport) -> None:
        self._live.update(_line(report), refresh=True)

    def close(self, report: RunReport) -> None:
        self.show(report)
        self._live.stop()
