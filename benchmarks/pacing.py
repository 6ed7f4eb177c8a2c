"""How well a strict limit is used, and what is lost at it: python benchmarks/pacing.py.

300 small images and a server that counts strictly in windows: ten times faster than the service, so 60 requests in
each window of 6 s stand for 60 a minute, and the allowance is 10 a second. Our side knows the limit, or learns it
from refusals, with `x-ratelimit-*` headers and without (the words of a refusal say "try again in 372ms" either way).
The rivals: a loop by hand without retries, the openai SDK with its own two, and tenacity's six attempts; their waits
are ten times shorter, too, ours are as they are. No refusal has a `Retry-After`, which the SDK would follow: the
service's may have one or not. All have 32 requests in flight; each side has a process and an emulator of its own.

The share is images read a second, of the allowance. A server that counts in windows lets the first window's worth
through at once, so 300 images in one burst a window would be 125 %, and a side that gives up most of its images has a
short run: its share, in parentheses, says nothing.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from aifs_vision.emulator import Emulator
from benchmarks.rivals import MODEL, Stopwatch, aside, by_httpx, by_openai, by_tenacity, goal, read_all, small_png

if TYPE_CHECKING:
    from benchmarks.rivals import Rival

IMAGES, IN_FLIGHT, LATENCY = 300, 32, 0.1
A_WINDOW, WINDOW = 60, 6.0
FASTER = 10
ALLOWANCE = A_WINDOW / WINDOW  # requests a second

RIVALS: dict[str, Rival] = {
    "by hand, no retries": by_httpx,
    "openai SDK, 2 retries": partial(by_openai, faster=FASTER),
    "tenacity, 6 attempts": partial(by_tenacity, faster=FASTER),
}
# The name of each side, and whether its emulator sends headers.
SIDES = {
    "limit known": True,
    "limit known, no headers": False,
    "limit unknown": True,
    "limit unknown, no headers": False,
    **dict.fromkeys(RIVALS, True),
}


def ours(*, known: bool) -> dict[str, Any]:
    """Reads the images with aifs_vision."""
    from aifs_vision import Limits, Vision

    a_minute = 60 * ALLOWANCE if known else None
    vision = Vision(MODEL, limits=Limits(requests_per_minute=a_minute, in_flight=IN_FLIGHT))
    pictures = [(f"{number}.png", small_png(number)) for number in range(IMAGES)]
    watch = Stopwatch()
    read = sum(reading.ok for reading in vision.read_many(pictures, on_error="keep", ordered=False))
    return {**watch.stopped(), "read": read}


def side(name: str) -> None:
    """Runs one side in this process, and prints what it did."""
    if name in RIVALS:
        done = read_all(RIVALS[name], map(small_png, range(IMAGES)), IN_FLIGHT)
    else:
        done = ours(known="unknown" not in name)
    print(json.dumps(done))


def main() -> None:
    """Measures all sides and prints them."""
    print(f"{'':28} {'read':>5} {'lost':>5} {'requests':>8} {'429':>5} {'seconds':>8} {'share':>7}")
    shares, refused, lost = {}, {}, {}
    for name, headers in SIDES.items():
        limits: dict[str, Any] = {"requests_per_minute": A_WINDOW, "window": WINDOW, "rate_limit_headers": headers}
        with Emulator(ocr=False, latency=LATENCY, **limits) as server:
            done = aside(__file__, name, server=server)
            requests = server.requests
        seconds, lost[name] = done["seconds"], IMAGES - done["read"]
        refusals = sum(request.status == 429 for request in requests)  # noqa: PLR2004 - the status
        refused[name], shares[name] = refusals / len(requests), done["read"] / seconds / ALLOWANCE
        share = f"{shares[name]:.0%}" if not lost[name] else f"({shares[name]:.0%})"
        row = f"{done['read']:5} {lost[name]:5} {len(requests):8} {refusals:5} {seconds:8.1f} {share:>7}"
        print(f"{name:28} {row}", flush=True)
    for name in ("limit known", "limit known, no headers"):
        met = shares[name] >= 0.93 and not lost[name] and refused[name] <= 0.01  # noqa: PLR2004 - the goals
        figure = f"{shares[name]:.1%} of the allowance, {lost[name]} lost, {refused[name]:.1%} answered 429"
        goal(name, figure, "at least 93 %, 0 lost, at most 1 % 429", met=met)
    for name in ("limit unknown", "limit unknown, no headers"):
        met = shares[name] >= 0.75 and not lost[name]  # noqa: PLR2004 - the goals
        figure = f"{shares[name]:.1%} of the allowance, {lost[name]} lost"
        goal(name, figure, "at least 75 %, 0 lost", met=met)


if __name__ == "__main__":
    side(sys.argv[1]) if sys.argv[1:] else main()
