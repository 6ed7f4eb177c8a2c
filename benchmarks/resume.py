"""Killed and started again: what is paid for twice? python benchmarks/resume.py.

A process reads 200 images into a cache file, 8 in flight, and prints a line for each reading it is given. It is killed
(SIGKILL) at a random moment, ten times; then it runs to its end. The server counts what it is asked, by the digests of
the pictures: no image may be asked for again once a line has said that it is finished. What was in flight when the
process died may be.
"""

from __future__ import annotations

import logging
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from aifs_vision.emulator import Emulator
from benchmarks.rivals import MODEL, command, environment, goal, noise_jpeg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aifs_vision.emulator import LoggedRequest

IMAGES, IN_FLIGHT, LATENCY, KILLS = 200, 8, 0.2, 10
SOONEST, LATEST = 0.05, 0.8  # seconds from the first request to the kill
SIDE, QUALITY = 100, 80
POLL = 0.005  # seconds
SETTLED = 2.0  # seconds after which no request of a dead process is still being answered


def read(folder: str, cache: str) -> None:
    """Reads a folder into a cache, and says which images are finished."""
    from aifs_vision import Limits, Vision

    vision = Vision(MODEL, limits=Limits(in_flight=IN_FLIGHT), cache=cache)
    for reading in vision.read_many(folder, "caption", on_error="keep", ordered=False):
        print(reading.status, Path(reading.source).name, flush=True)


@dataclass
class Count:
    """What was asked for, one life of the process after the other."""

    names: dict[bytes, str]
    finished: set[str] = field(default_factory=set)
    answered: dict[str, float] = field(default_factory=dict)  # how many seconds before the kill
    longest: float = 0.0
    asked: set[str] = field(default_factory=set)
    again: Counter[str] = field(default_factory=Counter)

    def add(self, requests: Sequence[LoggedRequest], finished: set[str], died: float) -> None:
        """Counts the requests of a life in which these images were finished before it ended."""
        asked, answered = set(), {}
        for request in requests:
            if not request.images:
                continue  # cut off by the kill on its way
            name = self.names[sha256(request.images[0][1]).digest()]
            asked.add(name)
            if request.finished is not None and request.finished < died:
                answered[name] = died - request.finished
            if name in self.finished:
                self.again["though finished"] += 1
            elif name in self.answered:
                self.again["answered in full, but not yet handed on"] += 1
                self.longest = max(self.longest, self.answered[name])
            elif name in self.asked:
                self.again["in flight at the kill"] += 1
        self.asked |= asked
        self.answered |= answered
        self.finished |= finished


def live(folder: Path, cache: Path, server: Emulator, seconds: float | None) -> tuple[set[str], float]:
    """One life of the process: the images it has finished, and when it was killed, or else ended."""
    finished, ended, before = set(), [], len(server.requests)
    process = subprocess.Popen(
        command(__file__, folder, cache), env=environment(server), stdout=subprocess.PIPE, text=True
    )

    def kill() -> None:
        ended.append(time.monotonic())
        process.kill()

    with process:
        assert process.stdout is not None
        while len(server.requests) == before and process.poll() is None:
            threading.Event().wait(POLL)
        timer = threading.Timer(seconds or 0, kill)
        if seconds is not None:
            timer.start()
        for line in process.stdout:
            status, _, name = line.partition(" ")
            if status == "ok" and name.endswith("\n"):
                finished.add(name.strip())
    timer.cancel()
    ended.append(time.monotonic())
    while any(request.status is None for request in server.requests) and time.monotonic() < ended[-1] + SETTLED:
        threading.Event().wait(POLL)
    return finished, ended[0]


def write_files(folder: Path) -> dict[bytes, str]:
    """Writes the images; their names by the digests of their bytes, which are sent as they are."""
    names = {}
    for number in range(IMAGES):
        name, data = f"{number:03}.jpg", noise_jpeg(number, SIDE, QUALITY)
        (folder / name).write_bytes(data)
        names[sha256(data).digest()] = name
    return names


def main() -> None:
    """Kills, counts and prints."""
    moments = random.Random(1)  # noqa: S311 - not cryptography
    lives = [*(moments.uniform(SOONEST, LATEST) for _ in range(KILLS)), None]
    logging.getLogger("aifs_vision.emulator").setLevel(logging.CRITICAL + 1)  # requests that are cut off, by the kill
    with tempfile.TemporaryDirectory() as place, Emulator(ocr=False, latency=LATENCY) as server:
        folder, cache = Path(place, "images"), Path(place, "readings.sqlite")
        folder.mkdir()
        count, requests = Count(write_files(folder)), 0
        for seconds in lives:
            finished, ended = live(folder, cache, server, seconds)
            asked = server.requests[requests:]
            requests += len(asked)
            count.add(asked, finished, ended)
            end = "ran to its end:    " if seconds is None else f"killed after {seconds:.2f} s:"
            print(f"{end} {len(asked):3} requests; finished so far: {len(count.finished):3} images", flush=True)
    print(f"{requests} requests for {IMAGES} images, {len(count.finished)} of them read in the end")
    for when, number in count.again.items():
        print(f"   asked for again, {when}: {number}")
    print(f"   the longest that an answer had been there which was not handed on: {1000 * count.longest:.0f} ms")
    met = not count.again["though finished"] and len(count.finished) == IMAGES
    goal("finished images asked for again", f"{count.again['though finished']}", "0", met=met)


if __name__ == "__main__":
    read(*sys.argv[1:]) if sys.argv[1:] else main()
