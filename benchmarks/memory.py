"""How much memory a long run needs, beside a short one: python benchmarks/memory.py.

A process of its own reads 200 distinct images and then 5,000, JPEG of some 150 KB each that a generator makes on the
fly, 16 in flight; the peak of its resident memory is taken after both. Beside it a loop by hand (httpx, a semaphore,
`asyncio.gather` over all), as it is often written, which holds what it is given: 200 images, then 1,000.
"""

from __future__ import annotations

import json
import re
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aifs_vision.emulator import Emulator
from benchmarks.rivals import MODEL, aside, by_httpx, goal, noise_jpeg, read_all

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORT, LONG, LONG_BY_HAND, IN_FLIGHT = 200, 5_000, 1_000, 16
SIDE, QUALITY = 320, 88  # px and quality at which noise makes some 150 KB
MOST = 30.0  # MB


def pictures(first: int, count: int) -> Iterator[bytes]:
    """So many files, each made when it is asked for."""
    return (noise_jpeg(number, SIDE, QUALITY) for number in range(first, first + count))


def peak() -> float:
    """MB that this process has had at most.

    Linux hands `ru_maxrss` on from the process that started this one, so there it is not what to ask for.
    """
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    if found:
        return int(found[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def ours() -> list[float]:
    """Reads few and then many images with aifs_vision."""
    from aifs_vision import Limits, Vision

    vision = Vision(MODEL, limits=Limits(in_flight=IN_FLIGHT))
    peaks = []
    for first, count in ((0, SHORT), (SHORT, LONG)):
        named = ((f"{number}.jpg", data) for number, data in enumerate(pictures(first, count), first))
        assert sum(reading.ok for reading in vision.read_many(named, "caption")) == count
        peaks.append(peak())
    return peaks


def by_hand() -> list[float]:
    """The same, not quite as many, with the loop by hand."""
    peaks = []
    for first, count in ((0, SHORT), (SHORT, LONG_BY_HAND)):
        assert read_all(by_httpx, pictures(first, count), IN_FLIGHT)["read"] == count
        peaks.append(peak())
    return peaks


def side(name: str) -> None:
    """Runs one side in this process, and prints its peaks."""
    print(json.dumps(by_hand() if name == "by hand" else ours()))


def main() -> None:
    """Measures both sides and prints them."""
    grown = {}
    with Emulator(ocr=False) as server:
        for name, most in (("aifs_vision", LONG), ("by hand", LONG_BY_HAND)):
            few, many = aside(__file__, name, server=server)
            server.clear()
            grown[name] = many - few
            print(f"{name:12} {few:6.0f} MB after {SHORT} images, {many:6.0f} MB after {most:,} more")
    figure = f"{grown['aifs_vision']:+.0f} MB from {SHORT} to {LONG:,} images"
    goal("aifs_vision", figure, f"at most {MOST:.0f} MB", met=grown["aifs_vision"] <= MOST)


if __name__ == "__main__":
    side(*sys.argv[1:]) if sys.argv[1:] else main()
