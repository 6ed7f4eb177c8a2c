"""How a run says how far it is: lines into files and pipes, a bar on terminals, and never an error."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from aifs_vision import Limits, Vision
from aifs_vision.emulator import Emulator
from tests.pictures import saved

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PICTURE = saved(Image.new("L", (20, 20), 200))
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


@pytest.fixture
def slow() -> Iterator[Emulator]:
    """A server that takes a while for each picture, so that a terminal is renewed in between."""
    with Emulator(ocr=False, reply=lambda _: "x", latency=0.03) as server:
        yield server


def client(server: Emulator) -> Vision:
    """A client that asks for one picture after the other."""
    return Vision(base_url=server.base_url, api_key=server.api_key, limits=Limits(in_flight=1))


def test_a_run_into_a_file_ends_with_a_line(slow: Emulator, capfd: pytest.CaptureFixture[str]) -> None:
    """Where stderr is no terminal, a short run is one line with all its figures; stdout stays clean."""
    list(client(slow).read_many([PICTURE, PICTURE, "missing.png"], on_error="keep", progress=True))
    shown = capfd.readouterr()
    (line,) = shown.err.splitlines()
    assert line.startswith("aifs-vision: 3/3 (2 ok, 1 failed), ")
    assert " a second, " in line
    assert " tokens, 0.0" in line
    assert line.endswith(" EUR")
    assert not shown.out


def test_what_is_left_is_told_where_the_end_is_known(slow: Emulator, capfd: pytest.CaptureFixture[str]) -> None:
    """A run whose iterator does not say how much is to come counts images; left early, it still says how far it got."""
    with client(slow).read_many((PICTURE for _ in range(30)), progress=True) as run:
        next(run)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("aifs-vision: 1 images (1 ok), ")
    assert "left" not in line


class Gone:
    """A stderr whose terminal has been closed, or never was one."""

    def __init__(self, error: Exception, *, terminal: bool) -> None:
        self.error, self.terminal = error, terminal

    def isatty(self) -> bool:
        """Whether it says that it is a terminal."""
        return self.terminal

    def write(self, _: str) -> int:
        """Fails."""
        raise self.error

    def flush(self) -> None:
        """Fails."""
        raise self.error


def test_a_closed_stderr_does_not_end_a_run(slow: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All readings come although nobody can be shown how far it is."""
    with (tmp_path / "stderr").open("w") as file:
        monkeypatch.setattr(sys, "stderr", file)
    assert len(list(client(slow).read_many([PICTURE] * 3, progress=True))) == 3


# -- On a terminal ---------------------------------------------------------------------------------------------

_RUN = """
import sys
for name in sys.argv[3].split(): sys.modules[name] = None
import aifs_vision
vision = aifs_vision.Vision(base_url=sys.argv[1], api_key=sys.argv[2], limits=aifs_vision.Limits(in_flight=1))
with open(sys.argv[4], "rb") as file: picture = file.read()
many = {"known": [picture] * 10, "unknown": (picture for _ in range(10))}
def go(much="known"): return vision.read_many(many[much], progress=True)
"""
ONE = "for reading in go(): print('text:', reading.text)"


def on_terminal(
    server: Emulator, folder: Path, work: str, *, hidden: str = "", stdout: int | None = None, term: str = "xterm"
) -> str:
    """What a terminal is sent by a program."""
    picture = folder / "picture.png"
    picture.write_bytes(PICTURE)
    ours, its = os.openpty()
    command = [sys.executable, "-c", _RUN + work, server.base_url, server.api_key, hidden, str(picture)]
    environment = {**os.environ, "TERM": term, "COLUMNS": "160"}
    program = subprocess.Popen(command, stdin=its, stdout=stdout or its, stderr=its, env=environment)
    os.close(its)
    sent = b""
    try:
        while data := os.read(ours, 65536):
            sent += data
    except OSError:  # how Linux says that nobody holds the other end any more
        pass
    finally:
        os.close(ours)
    program.wait(60)
    return sent.decode()


def last(shown: str) -> str:
    """The last line that stays on the screen."""
    return shown.replace(SHOW_CURSOR, "").rstrip().splitlines()[-1]


def test_rich_draws_a_bar(slow: Emulator, tmp_path: Path) -> None:
    """With rich a bar is renewed, its figures beside it; what the program prints stays, and so does the cursor."""
    shown = on_terminal(slow, tmp_path, ONE)
    assert "10/10 (10 ok), " in last(shown)
    assert "━" in last(shown)
    assert " left" in shown
    assert shown.count("text: x\r\n") == 10
    assert shown.rindex(SHOW_CURSOR) > shown.rindex(HIDE_CURSOR)


def test_rich_counts_what_has_no_known_end(slow: Emulator, tmp_path: Path) -> None:
    """Where nobody knows how many are to come, there is no bar and no time left, but a count."""
    shown = on_terminal(slow, tmp_path, "for reading in go('unknown'): pass")
    assert "10 images (10 ok), " in last(shown)
    assert "━" not in shown
    assert "left" not in shown


def test_rich_leaves_a_file_alone(slow: Emulator, tmp_path: Path) -> None:
    """What the program prints into a file goes there, although a bar is drawn on the terminal."""
    with (tmp_path / "stdout").open("w") as file:
        shown = on_terminal(slow, tmp_path, ONE, stdout=file.fileno())
    assert "10/10 (10 ok), " in last(shown)
    assert (tmp_path / "stdout").read_text().splitlines() == ["text: x"] * 10
    assert "text" not in shown


def test_an_interrupted_program_gives_the_cursor_back(slow: Emulator, tmp_path: Path) -> None:
    """A program that ends in the middle of a run, without closing it, leaves the terminal as it was."""
    shown = on_terminal(slow, tmp_path, "run = go(); next(run); raise KeyboardInterrupt")
    assert "KeyboardInterrupt" in shown
    assert shown.rindex(SHOW_CURSOR) > shown.rindex(HIDE_CURSOR)


def test_a_forked_child_does_not_touch_the_bar(slow: Emulator, tmp_path: Path) -> None:
    """A child writes to the terminal itself, and its end is not the end of the bar."""
    fork = """
import os, warnings
warnings.simplefilter("ignore")
run = go()
next(run)
if os.fork() == 0:
    assert sys.stdout is sys.__stdout__ and sys.stderr is sys.__stderr__
    print("of the child")
    sys.exit()
os.wait()
assert sys.stdout is not sys.__stdout__
list(run)
"""
    shown = on_terminal(slow, tmp_path, fork)
    assert shown.count("of the child") == 1
    assert "10/10 (10 ok), " in last(shown)
    assert shown.count(SHOW_CURSOR) == 1
    assert "Error" not in shown


TWO = """
first, second = go(), go()
next(first), next(second)
list(second), list(first)
"""


def test_two_runs_share_a_terminal_under_rich(slow: Emulator, tmp_path: Path) -> None:
    """One run has the bar; the lines of the other go above it, whole."""
    shown = on_terminal(slow, tmp_path, TWO)
    assert "aifs-vision: 10/10 (10 ok), " in shown
    assert "━" in last(shown)
    assert "10/10 (10 ok), " in last(shown)
    assert shown.count(HIDE_CURSOR) == shown.count(SHOW_CURSOR) == 1
    assert "Error" not in shown


def test_a_display_of_the_program_keeps_its_terminal(slow: Emulator, tmp_path: Path) -> None:
    """Where the program shows something by rich itself, a run puts its lines above it."""
    own = "from rich.status import Status\nfrom rich.console import Console\n"
    shown = on_terminal(slow, tmp_path, f"{own}with Status('mine', console=Console(stderr=True)): list(go())")
    assert "aifs-vision: 10/10 (10 ok), " in shown
    assert shown.count(HIDE_CURSOR) == shown.count(SHOW_CURSOR) == 1
    assert "Error" not in shown


def test_tqdm_draws_a_bar_where_there_is_no_rich(slow: Emulator, tmp_path: Path) -> None:
    """Without rich, tqdm renews the same line with a bar, and leaves it complete."""
    shown = on_terminal(slow, tmp_path, ONE, hidden="rich")
    end = last(shown).rsplit("\r")[-1]
    assert end.startswith("aifs-vision: 10/10 (10 ok), ")
    assert end.endswith(f"|{'█' * 20}|")
    assert " left |" in shown
    assert shown.endswith("\n")
    assert HIDE_CURSOR not in shown


def test_two_runs_share_a_terminal_under_tqdm(slow: Emulator, tmp_path: Path) -> None:
    """Each run has a bar of its own, and both are left complete."""
    shown = on_terminal(slow, tmp_path, TWO, hidden="rich")
    assert shown.count("aifs-vision: 10/10 (10 ok), ") >= 2
    assert "\x1b[A" in shown  # back from the second line
    assert "Error" not in shown


@pytest.mark.parametrize(("hidden", "term"), [("rich tqdm", "xterm"), ("", "dumb")])
def test_a_terminal_without_a_bar_gets_lines(slow: Emulator, tmp_path: Path, hidden: str, term: str) -> None:
    """Without rich and tqdm, and on a terminal that cannot renew a line, there are plain lines."""
    shown = on_terminal(slow, tmp_path, "list(go())", hidden=hidden, term=term)
    (line,) = shown.splitlines()
    assert line.startswith("aifs-vision: 10/10 (10 ok), ")
