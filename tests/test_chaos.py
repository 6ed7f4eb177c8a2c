"""A thousand images and everything going wrong, over real HTTP."""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

from PIL import Image

from aifs_vision import Limits, Vision
from aifs_vision.emulator import Emulator
from aifs_vision.testing import virtual_time
from tests.pictures import saved

if TYPE_CHECKING:
    from pathlib import Path

    from aifs_vision.emulator import ChatRequest

IMAGES, FAULTS = 1_000, 0.2
KINDS: list[Any] = [
    *(429, 500, 502, 503, 504, 408, 409, 425, 520),
    *("reset", "reset_body", "html", "cut_json", "no_choices", "length", "slow", "stall"),
]
SPOILT = {5: "refused", 6: "filtered", 7: "looped", 8: "empty"}  # the last digit of a number, in its hundreds
LOOP = "round and round it goes\n" * 60


def number_of(width: int, height: int) -> int:
    """The number of a picture by its size: every one has another."""
    return (width - 20) * 40 + (height - 20)


def picture(number: int) -> bytes:
    """The picture of that number."""
    return saved(Image.new("L", (20 + number // 40, 20 + number % 40), 200))


def reply(asked: ChatRequest) -> str | dict[str, Any]:
    """What the model says of a picture: its number, or something that is no result."""
    found = asked.images[0].picture
    assert found is not None
    number = number_of(found.width, found.height)
    kind = SPOILT.get(number % 100, "ok")
    said: dict[str, Any] = {
        "refused": {"content": None, "refusal": "no"},
        "filtered": {"content": "", "finish_reason": "content_filter"},
        "looped": {"content": LOOP, "finish_reason": "length"},
        "empty": "[no text]",
        "ok": f"number {number}",
    }
    return said[kind]  # type: ignore[no-any-return]


def test_a_thousand_images_through_every_fault(tmp_path: Path) -> None:
    """Every image ends with one status, every good one has its own text, and none is asked about more than allowed.

    AIFS_CHAOS_SEED chooses other faults; the seed of a run that fails is in its name.
    """
    seed = int(os.environ.get("AIFS_CHAOS_SEED", "1"))
    chance = random.Random(seed)  # noqa: S311 - no secret
    limits = Limits(in_flight=32)
    with Emulator(ocr=False, reply=reply) as server, virtual_time():
        for _ in range(IMAGES * 3):
            kind: Any = chance.choice(KINDS) if chance.random() < FAULTS else "none"
            server.fail(kind, seconds=0.05, retry_after=chance.choice([None, 0.02]) if kind == 429 else None)
        vision = Vision(
            base_url=server.base_url, api_key=server.api_key, limits=limits, timeout=0.5, cache=tmp_path / "readings.db"
        )
        sources: list[Any] = [(f"{number}.png", picture(number)) for number in range(IMAGES)]
        run = vision.read_many(sources, "ocr", on_error="keep", ordered=False)
        readings = sorted(run, key=lambda reading: int(reading.source.split(".")[0]))
        log = list(server.requests)

    assert [reading.source for reading in readings] == [f"{number}.png" for number in range(IMAGES)], seed
    for number, reading in enumerate(readings):
        spoilt = SPOILT.get(number % 100)
        cut = {"truncated"} if reading.requests > 1 and not spoilt else set()  # two faults in a row
        assert reading.status in {spoilt or "ok", "failed", *cut}, seed
        assert (reading.error is None) == reading.ok, seed
        if reading.status in {"ok", "truncated"}:
            assert reading.text == f"number {number}", seed
        elif reading.status != "looped":
            assert reading.text == "", seed
    lost = sum(reading.status == "failed" for reading in readings)
    assert lost <= 15, (seed, lost)  # four faults in a row, 0.2 ** 4 of them, and few more where one costs two
    assert sum(reading.status == "truncated" for reading in readings) <= 5, seed  # 0.2 / 17, twice
    assert run.report.statuses == Counter(reading.status for reading in readings), seed

    assert run.report.attempts == len(log), seed
    asked: Counter[int] = Counter()
    for request in log:
        if request.status != 429 and request.images:
            data = request.images[0][1]
            asked[number_of(*(int.from_bytes(data[at : at + 4], "big") for at in (16, 20)))] += 1
    for number, reading in enumerate(readings):
        assert asked[number] <= 4 * reading.requests, (seed, number)
        assert reading.requests <= 5, (seed, number)  # more room, once more, three temperatures

    again = Vision(base_url="http://127.0.0.1:9/v2", api_key="k", cache=tmp_path / "readings.db", max_cost=0)
    good = [reading for reading in readings if reading.ok]
    kept = again.read_many((picture(int(reading.source.split(".")[0])) for reading in good), "ocr")
    assert [reading.text for reading in kept] == [reading.text for reading in good], seed
