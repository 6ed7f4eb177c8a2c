"""How a run is getting on, for whoever watches: a bar on a terminal, else a line now and then; all of it on stderr."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from aifs_vision._report import RunReport

__all__ = ["Progress", "progress"]

_TERMINAL_EVERY, _LINES_EVERY = 0.1, 10.0  # seconds between two renewals
_WIDE = 120  # columns: room for the whole line and a bar
# What a stream answers with that is None (pythonw) or a stand-in, closed, or a terminal whose window is gone.
_UNSEEN = (AttributeError, ValueError, OSError)


class Progress(Protocol):
    """Shows reports of a run while it goes on; whatever becomes of stderr, the run does not hear of it.

    Attributes:
        total: how many sources there are to come, as far as is known; it may be set anew when folders are listed.
    """

    total: int | None

    def due(self) -> bool:
        """Whether it is time for another report; asked for every reading, so it is cheap."""

    def show(self, report: RunReport, done: int) -> None:
        """Shows how far the run is, and that it has finished with `done` sources."""

    def close(self, report: RunReport, done: int) -> None:
        """Shows how far the run got."""


def progress(total: int | None) -> Progress:
    """A bar by rich or tqdm where stderr is a terminal, else plain lines; `total` is how many sources there are."""
    # A terminal that rich renews already, for us or for another, gives lines a place above its display.
    taken = hasattr(sys.stderr, "rich_proxied_file")
    if _is_terminal(sys.stderr) and not taken and os.environ.get("TERM") != "dumb":
        for bar in (_Rich, _Tqdm):
            with suppress(ImportError, OSError):
                return bar(total)
    return _Lines(total)


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except _UNSEEN:
        return False


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Lines:
    """A line every ten seconds, and one at the end."""

    def __init__(self, total: int | None, every: float = _LINES_EVERY) -> None:
        self.total, self._every, self._last = total, every, time.monotonic()
        self._tokens, self._over = True, False

    def due(self) -> bool:
        now = time.monotonic()
        if now - self._last < self._every:
            return False
        self._last = now
        return True

    def show(self, report: RunReport, done: int) -> None:
        with self._shielded():
            self._draw(self._figures(report, done), done)

    def close(self, report: RunReport, done: int) -> None:
        self._over = True
        self.show(report, done)
        self._end()

    def _draw(self, figures: str, _: int) -> None:
        sys.stderr.write(f"aifs-vision: {figures}\n")  # a line at once, so that those of several runs do not mix
        sys.stderr.flush()

    def _end(self) -> None:
        """Lets go of the terminal; lines hold none."""

    @contextmanager
    def _shielded(self) -> Iterator[None]:
        try:
            yield
        except _UNSEEN:
            self._last = float("inf")  # nobody sees it: it is never due again

    def _figures(self, report: RunReport, done: int) -> str:
        """Counts, rate and tokens; cost and time left where they are known."""
        images, total = f"{report.images} images", self.total
        if total is not None and done <= total:
            images = f"{done}/{total}" if done == report.images else f"{done}/{total}, {images}"
        statuses = ", ".join(f"{count} {status}" for status, count in report.statuses.items())
        figures = [f"{images} ({statuses})" if statuses else images]
        if report.seconds:
            figures.append(f"{report.images_per_second:.1f} a second")
        if self._tokens:
            figures.append(f"{report.usage.input_tokens:,} + {report.usage.output_tokens:,} tokens")
        if report.cost_eur is not None:
            figures.append(f"{report.cost_eur:.4f} EUR")
        if total is not None and 0 < done < total and not self._over:
            figures.append(f"{_clock(report.seconds / done * (total - done))} left")
        return ", ".join(figures)


class _Rich(_Lines):
    """A bar by rich, or a spinner where nobody knows how many sources are to come; the figures wrap beside it."""

    def __init__(self, total: int | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
        from rich.table import Column

        super().__init__(total, _TERMINAL_EVERY)
        self._process = os.getpid()
        self._bar = Progress(
            TextColumn("aifs-vision"),
            SpinnerColumn() if total is None else BarColumn(bar_width=20),
            TextColumn("{task.description}", markup=False, table_column=Column()),
            console=Console(stderr=True),
            auto_refresh=False,
            # What the program prints goes above the bar; what it prints into a file or a pipe is not ours to move.
            redirect_stdout=_is_terminal(sys.stdout),
        )
        self._task = self._bar.add_task("starting", total=total)
        atexit.register(self._end)  # an interrupted program may never close its run, and rich hides the cursor
        with self._shielded():
            self._bar.start()
            self._bar.refresh()

    def _draw(self, figures: str, done: int) -> None:
        self._bar.update(self._task, total=self.total, completed=done, description=figures, refresh=True)

    def _end(self) -> None:
        atexit.unregister(self._end)
        if self._process != os.getpid():  # a forked child; the bar is its parent's
            return
        with self._shielded():
            if hasattr(sys.stdout, "rich_proxied_file"):
                sys.stdout.flush()  # a line that was begun above the bar
        with self._shielded():
            self._bar.stop()


class _Tqdm(_Lines):
    """A bar by tqdm, which finds each of several bars a line of its own."""

    def __init__(self, total: int | None) -> None:
        from tqdm import tqdm

        super().__init__(total, _TERMINAL_EVERY)
        columns, lines = shutil.get_terminal_size()  # tqdm itself takes a size of 0 at its word, and shows nothing
        self._tokens = columns >= _WIDE  # rather than have the end cut off
        form = "{desc} |{bar:20}|" if self._tokens and total is not None else "{desc}"
        self._bar = tqdm(
            total=total, desc="aifs-vision", bar_format=form, ncols=columns - 1, nrows=lines, file=sys.stderr
        )

    def _draw(self, figures: str, done: int) -> None:
        self._bar.n, self._bar.total = done, self.total
        self._bar.set_description_str(f"aifs-vision: {figures}")

    def _end(self) -> None:
        with self._shielded():
            self._bar.close()


def _forget() -> None:
    """In a forked child: the bar is the parent's, and its locks may be held for ever."""
    sys.stdout = getattr(sys.stdout, "rich_proxied_file", sys.stdout)
    sys.stderr = getattr(sys.stderr, "rich_proxied_file", sys.stderr)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
