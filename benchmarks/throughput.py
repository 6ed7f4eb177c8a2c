"""How many images a second, and what is sent for them, beside the ideal and others: python benchmarks/throughput.py.

Answers take 0.3 s. First 300 small images, 32 in flight: the ideal is nothing but waiting, 10 rounds of 0.3 s, and the
hand-written loop sends the same bytes with httpx, without preparing, judging or naming anything. Then 60 files of
everyday sizes, 16 in flight: photos of 12 megapixels, A4 pages scanned at 300 dpi, screenshots. There the hand-written
loop sends the files as they are, and LangChain's `LLMImageBlobParser` (where langchain-community is installed) reads
one after the other, so it is given every tenth and its time taken tenfold.

The sides run in turns in processes of their own, against one server in a third. The emulator decodes what it is sent
on the same cores, most where pictures are sent as they are, and takes 32 requests at once only one after the other; so
both sides also ask a server that does nothing but take the bytes and wait. Over loopback, where bytes cost next to
nothing, it is the best place for who sends files as they are: what it says has no goal, and comes with the speed of
network below which preparing pays.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import ceil
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFont

from aifs_vision.emulator import Emulator
from benchmarks.rivals import (
    MODEL,
    Stopwatch,
    aside,
    by_httpx,
    by_langchain,
    goal,
    read_all,
    small_png,
)
from tests.pages import english_page, german_letter
from tests.scenes import lake

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

IMAGES, LATENCY, IN_FLIGHT, ROUNDS = 300, 0.3, 32, 3
FILES, FILES_IN_FLIGHT, SAMPLED = 60, 16, 10
SIDES = ("aifs_vision", "by hand")
PHOTO, SCREEN, A4_AT_300 = (4032, 3024), (1920, 1080), 3508  # px


# -- The files ---------------------------------------------------------------------------------------------------


def write_files(folder: Path) -> None:
    """A third photos, a third scans, a third screenshots, each another one and the same in every run."""
    base = lake(width=PHOTO[0] // 3, height=PHOTO[1] // 3).resize(PHOTO, Image.Resampling.BICUBIC)
    grain = np.random.default_rng(1).standard_normal((A4_AT_300, PHOTO[0]), np.float32)
    printed = english_page(size=10.5, pixels=A4_AT_300), german_letter(pixels=A4_AT_300)
    pages = [page.image.convert("L") for page in printed]

    def write(number: int) -> None:
        kind, which = number % 3, number // 3
        if kind == 0:
            photo = ImageChops.offset(base, which * 199, 0)
            grainy(photo, grain, 12, which).save(folder / f"photo{which:02}.jpg", quality=90)
        elif kind == 1:
            page = ImageChops.offset(pages[which % 2], 0, which)
            grainy(page, grain, 8, which).save(folder / f"scan{which:02}.jpg", quality=90, dpi=(300, 300))
        else:
            screenshot(which).save(folder / f"screen{which:02}.png")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(write, range(FILES)))


def grainy(picture: Image.Image, grain: NDArray[np.float32], strength: float, number: int) -> Image.Image:
    """The picture with a grain that no other one has."""
    own = np.roll(grain, (97 * number, 131 * number), (0, 1))[: picture.height, : picture.width]
    levels = np.asarray(picture, np.float32) + strength * (own[..., None] if picture.mode == "RGB" else own)
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def screenshot(number: int) -> Image.Image:
    """Windows with text on a desktop whose colour fades."""
    fade = np.linspace(70, 160, SCREEN[0], dtype=np.uint8)[None, :].repeat(SCREEN[1], 0)
    screen = Image.merge("RGB", [Image.fromarray(fade), Image.fromarray(fade // 2 + 30), Image.fromarray(255 - fade)])
    draw, font = ImageDraw.Draw(screen), ImageFont.load_default(15)
    for window in range(3):
        left, top = 60 + 560 * window + number * 3, 50 + 60 * window + number * 2
        draw.rectangle((left, top, left + 620, top + 760), "white", "grey")
        draw.rectangle((left, top, left + 620, top + 32), "#2c3e50")
        draw.text((left + 12, top + 7), f"Report {number}.{window} - Editor", "white", font)
        for line in range(34):
            text = (
                f"{line + 1:3}  order {1000 * number + 37 * line}: {7 * line + window} pieces at {line * 1.25:.2f} EUR"
            )
            draw.text((left + 14, top + 44 + 21 * line), text, "#202020", font)
    return screen


# -- A server that does not look at what it is sent --------------------------------------------------------------


@contextmanager
def waiting_server() -> Iterator[Waiting]:
    """It takes the bytes, waits, and answers the same to everybody."""
    server = Waiting()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class Waiting(ThreadingHTTPServer):
    """A thread for each connection; threads that wait cost nothing."""

    daemon_threads, request_queue_size, api_key = True, 128, "any"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def base_url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}/v2"


class _Handler(BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True
    answer = json.dumps(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": MODEL,
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "A fixed answer."}}
            ],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }
    ).encode()

    def do_POST(self) -> None:
        """One request."""
        left = int(self.headers["content-length"])
        while left and (chunk := self.rfile.read(min(left, 2**16))):
            left -= len(chunk)
        threading.Event().wait(LATENCY)
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        """Says nothing."""


# -- The sides ---------------------------------------------------------------------------------------------------


def ours(sources: list[Any], in_flight: int) -> dict[str, Any]:
    """Reads everything with aifs_vision."""
    from aifs_vision import Limits, Vision

    vision = Vision(MODEL, limits=Limits(in_flight=in_flight))
    vision.read(small_png(0))
    watch = Stopwatch()
    readings = list(vision.read_many(sources))
    done = watch.stopped()
    tokens = [reading.usage.input_tokens for reading in readings]
    return {**done, "read": sum(reading.ok for reading in readings), "input_tokens": tokens}


def side(name: str, folder: str | None = None) -> None:
    """Runs one side in this process, and prints what it did: over the files of a folder, or the small images."""
    paths, small = sorted(Path(folder).iterdir()) if folder else [], map(small_png, range(IMAGES))
    if name == "langchain":
        done = by_langchain(paths[::SAMPLED])
    elif name == "by hand":
        pictures, in_flight = (paths, FILES_IN_FLIGHT) if folder else (small, IN_FLIGHT)
        done = read_all(by_httpx, list(pictures), in_flight, warm_up=small_png(0))
    elif folder:
        done = ours([*paths], FILES_IN_FLIGHT)
    else:
        done = ours([(f"{number}.png", data) for number, data in enumerate(small)], IN_FLIGHT)
    print(json.dumps(done))


class Turns:
    """Both sides in turns, at the emulator and at a server that waits: the medians of what they took."""

    def __init__(self, emulator: Emulator, waiting: Waiting, *arguments: str) -> None:
        self.places: dict[str, Emulator | Waiting] = {"the emulator": emulator, "a server that waits": waiting}
        self._taken: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self.sent: dict[str, float] = {}  # MB
        for _ in range(ROUNDS):
            for place, server in self.places.items():
                for name in SIDES:
                    emulator.clear()
                    done = aside(__file__, name, *arguments, server=server)
                    self._taken.setdefault((place, name), []).append(done)
                    if server is emulator:
                        asked = emulator.requests[1:]  # without the first one, which warms up
                        self.sent[name] = sum(int(request.headers["content-length"]) for request in asked) / 1e6

    def median(self, place: str, name: str, figure: str) -> float:
        """Of "seconds", "cpu" (seconds) or "read"."""
        figures: list[float] = [done[figure] for done in self._taken[place, name]]
        return median(figures)

    def tokens(self, name: str, which: list[int]) -> float:
        """Input tokens of these pictures, as the emulator has counted them, for one."""
        (done, *_) = self._taken["the emulator", name]
        tokens: list[int] = done["input_tokens"]
        return mean(tokens[number] for number in which)

    def table(self, count: int) -> None:
        """Prints both sides at both places."""
        for place, name in self._taken:
            assert self.median(place, name, "read") == count
            seconds, cpu = (self.median(place, name, figure) for figure in ("seconds", "cpu"))
            print(f"{place:20} {name:12} {seconds:6.2f} s; {1000 * cpu / count:5.1f} ms CPU an image")


def small_images(emulator: Emulator, waiting: Waiting) -> None:
    """Nothing but waiting."""
    turns = Turns(emulator, waiting)
    print(f"{IMAGES} small images, {IN_FLIGHT} in flight")
    turns.table(IMAGES)
    ideal = ceil(IMAGES / IN_FLIGHT) * LATENCY
    for place in turns.places:
        mine, theirs = (ideal / turns.median(place, name, "seconds") for name in SIDES)
        figure = f"{mine:.1%} (by hand: {theirs:.1%})"
        goal(f"of the ideal, {place}", figure, "at least 93 %", met=mine >= 0.93)  # noqa: PLR2004 - the goal


def files(folder: str, emulator: Emulator, waiting: Waiting) -> None:
    """Everyday files."""
    paths = sorted(Path(folder).iterdir())
    turns = Turns(emulator, waiting, folder)
    langchain = aside(__file__, "langchain", folder, server=emulator)
    megabytes = sum(path.stat().st_size for path in paths) / 1e6
    print(f"\n{FILES} files of {megabytes:.0f} MB, {FILES_IN_FLIGHT} in flight")
    turns.table(FILES)
    sent, theirs = (turns.sent[name] for name in SIDES)
    for place in turns.places:
        mine, by_hand = (turns.median(place, name, "seconds") for name in SIDES)
        ratio = mine / by_hand
        figure = f"{ratio:.2f} times as long"
        if place == "the emulator":
            goal(f"aifs_vision / by hand, {place}", figure, "at most 1", met=ratio <= 1)
        else:
            print(f"aifs_vision / by hand, {place}: {figure}")
        if ratio > 1:
            rate = 8 * (theirs - sent) / (mine - by_hand)
            print(f"   that is without a network between: the bytes saved make up for it below {rate:.0f} Mbit/s")
    if langchain:
        seconds = langchain["seconds"] * FILES / langchain["read"]
        ratio = seconds / turns.median("the emulator", "aifs_vision", "seconds")
        sample = f"{langchain['read']} took {langchain['seconds']:.1f} s"
        figure = f"{seconds:.0f} s ({sample}), {ratio:.1f} times as long"
        goal("LangChain's parser, the emulator", figure, "at least 30", met=ratio >= 30)  # noqa: PLR2004 - the goal
    else:
        print("LangChain's parser: langchain-community is not installed")
    figure = f"{sent:.1f} of {theirs:.1f} MB = 1/{theirs / sent:.1f}"
    goal("bytes sent", figure, "at most 1/4", met=theirs / sent >= 4)  # noqa: PLR2004 - the goal
    photos = [number for number, path in enumerate(paths) if path.name.startswith("photo")]
    mine, by_hand = (turns.tokens(name, photos) for name in SIDES)
    figure = f"{mine:.0f} of {by_hand:.0f} = 1/{by_hand / mine:.1f}"
    goal("input tokens of a photo", figure, "at most 1/5", met=by_hand / mine >= 5)  # noqa: PLR2004 - the goal


def main() -> None:
    """Measures all sides and prints them."""
    with Emulator(ocr=False, latency=LATENCY) as emulator, waiting_server() as waiting:
        small_images(emulator, waiting)
        with tempfile.TemporaryDirectory() as folder:
            write_files(Path(folder))
            files(folder, emulator, waiting)


if __name__ == "__main__":
    side(*sys.argv[1:]) if sys.argv[1:] else main()
