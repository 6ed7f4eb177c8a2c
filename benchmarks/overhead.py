"""What asking costs, where there is nothing to prepare: python benchmarks/overhead.py.

CPU milliseconds of the whole process for each of 200 JPEG files of 300 KB that are sent as they are, 8 in flight: our
side sniffs them, decodes each once to be sure that it is whole, hashes, paces and judges; the openai SDK and a loop
by hand with httpx are given the same bytes and make data URIs of them with base64. What the decoding is of that stands
beside it. The sides run in turns in processes
of their own, against one emulator in a third. "The engine alone" is given
pictures that are prepared already, as the SDK is, and makes the same request of them. The goal: at most half of the
openai SDK's.
"""

from __future__ import annotations

import asyncio
import io
import json
import sys
from hashlib import sha256
from statistics import median
from typing import TYPE_CHECKING, Any

from PIL import Image

from aifs_vision.emulator import Emulator
from benchmarks.rivals import MODEL, Stopwatch, aside, by_httpx, by_openai, goal, noise_jpeg, read_all

if TYPE_CHECKING:
    from benchmarks.rivals import Rival

IMAGES, IN_FLIGHT, ROUNDS = 200, 8, 3
SIDE, QUALITY = 392, 92  # px and quality at which noise makes 300 KB

RIVALS: dict[str, Rival] = {"openai SDK": by_openai, "by hand, httpx": by_httpx}


def pictures(first: int, count: int) -> list[bytes]:
    """So many files."""
    return [noise_jpeg(number, SIDE, QUALITY) for number in range(first, first + count)]


def ours() -> dict[str, Any]:
    """Reads the files with aifs_vision."""
    from aifs_vision import Limits, Vision

    vision = Vision(MODEL, limits=Limits(in_flight=IN_FLIGHT))
    warm_up, sources = (
        pictures(IMAGES, 1)[0],
        [(f"{number}.jpg", data) for number, data in enumerate(pictures(0, IMAGES))],
    )
    vision.read(warm_up, "caption")
    watch = Stopwatch()
    read = sum(reading.ok for reading in vision.read_many(sources, "caption"))
    return {**watch.stopped(), "read": read}


def engine() -> dict[str, Any]:
    """Asks about the same files as pictures that are prepared already: the request, its way and its verdict."""
    from aifs_vision import CAPTION, Limits, Vision
    from aifs_vision._images import PreparedImage
    from aifs_vision._interview import Interview, Spent
    from aifs_vision._loop import call
    from aifs_vision._plan import Manner, plan

    (way,) = Vision(MODEL, limits=Limits(in_flight=IN_FLIGHT))._ways

    async def asked(data: bytes) -> bool:
        size = {"width": SIDE, "height": SIDE, "sha256": None}
        image = PreparedImage(data=data, mime_type="image/jpeg", source="", page=1, total_pages=1, **size)  # type: ignore[arg-type]
        request = plan(image, way.model, way.card, CAPTION, Manner(room=CAPTION.max_tokens))
        return (await Interview(way, CAPTION, image, Spent(), None).verdict(request)).status == "ok"

    async def all_asked(given: list[bytes]) -> int:
        slots = asyncio.Semaphore(IN_FLIGHT)

        async def one(data: bytes) -> bool:
            async with slots:
                return await asked(data)

        return sum(await asyncio.gather(*map(one, given)))

    call(asked(pictures(IMAGES, 1)[0]))
    given = pictures(0, IMAGES)
    watch = Stopwatch()
    read = call(all_asked(given))
    return {**watch.stopped(), "read": read}


def side(name: str) -> None:
    """Runs one side in this process, and prints what it did."""
    if name == "the engine alone":
        print(json.dumps(engine()))
    elif name in RIVALS:
        warm_up = pictures(IMAGES, 1)[0]
        print(json.dumps(read_all(RIVALS[name], pictures(0, IMAGES), IN_FLIGHT, warm_up)))
    else:
        print(json.dumps(ours()))


def main() -> None:
    """Measures all sides and prints them."""
    taken: dict[str, list[float]] = {name: [] for name in ("aifs_vision", "the engine alone", *RIVALS)}
    given = pictures(0, IMAGES)
    unchanged = 0
    with Emulator(ocr=False) as server:
        for _ in range(ROUNDS):
            for name, each in taken.items():
                server.clear()
                done = aside(__file__, name, server=server)
                assert done["read"] == IMAGES
                each.append(1000 * done["cpu"] / IMAGES)
                if name == "aifs_vision":
                    sent = {sha256(data).digest() for request in server.requests for _, data in request.images}
                    unchanged = sum(sha256(data).digest() in sent for data in given)
    size = sum(map(len, given)) / len(given) / 1000
    print(f"{IMAGES} files of {size:.0f} KB; aifs_vision sent {unchanged} of them as they are")
    costs = {name: median(each) for name, each in taken.items()}
    watch = Stopwatch()
    for data in given:
        Image.open(io.BytesIO(data)).load()
    costs["(decoding alone)"] = 1000 * watch.stopped()["cpu"] / IMAGES
    for name, cost in costs.items():
        print(f"{name:16} {cost:6.1f} ms CPU a request")
    assert unchanged == IMAGES
    whole, ratio = (costs[name] / costs["openai SDK"] for name in ("aifs_vision", "the engine alone"))
    print(f"from file to reading, the decoding included: {whole:.2f} times the SDK's")
    goal("the engine / openai SDK, same request", f"{ratio:.2f}", "at most 0.5", met=ratio <= 0.5)  # noqa: PLR2004


if __name__ == "__main__":
    side(*sys.argv[1:]) if sys.argv[1:] else main()
