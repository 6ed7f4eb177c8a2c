"""What is the service's fault, what an item's, what chance: told apart also where answers take their time."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections import Counter
from typing import Any

import httpx
import pytest

from aifs_vision import Limits, QuotaExceededError, RateLimitError, ServiceError, Vision, http_client
from aifs_vision.testing import virtual_time
from tests.pictures import corners, saved
from tests.service import Service, answer

PNG = saved(corners())
POISON = [saved(corners(70 + number, 70)) for number in range(4)]


def client(limits: Limits | None = None, **options: Any) -> Vision:
    """A client of the service in memory."""
    return Vision(base_url="http://service.example/v2", api_key="k", limits=limits or Limits(), **options)


def test_a_service_that_hangs_is_asked_no_more_than_twice_for_an_image() -> None:
    """Requests that end by the clock are bounded, however many images there are, and whatever the timeout is."""
    asked = 0

    async def hanging(_: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        await asyncio.sleep(1e9)
        raise AssertionError

    for images in (6, 40):
        asked = 0
        with virtual_time(hanging) as clock:
            readings = list(client().read_many([PNG] * images, "caption", on_error="keep"))
            assert clock.now < 1_500
        assert {type(reading.error).__name__ for reading in readings} == {"APITimeoutError"}
        assert images <= asked <= 2 * images


class Poisoned(Service):
    """A service that some pictures break, and that takes its time for the others."""

    def __init__(self, slow: list[float], status: int = 500) -> None:
        super().__init__(limit=None)
        self.slow, self.status = slow, status
        self.asked: Counter[bytes] = Counter()
        self._chance = random.Random(1)  # noqa: S311 - no secret

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """A quick failure for the bad ones, an answer in a while for the good ones."""
        for picture in POISON:
            if base64.b64encode(picture)[-40:].decode() in request.content.decode():
                self.asked[picture] += 1
                await asyncio.sleep(0.05)
                return httpx.Response(self.status, json={"detail": "engine died"})
        await asyncio.sleep(self._chance.choice(self.slow))
        return httpx.Response(200, json=answer())


@pytest.mark.parametrize("status", [500, 503])
@pytest.mark.parametrize(("bad", "good", "in_flight"), [(3, 97, 32), (4, 40, 4), (3, 60, 32), (2, 0, 32)])
def test_items_that_fail_by_themselves_harm_no_other(status: int, bad: int, good: int, in_flight: int) -> None:
    """Good images are read, however quickly bad ones fail; these are asked four times, and hold nobody up."""
    service = Poisoned([2.0, 5.0, 10.0, 20.0], status)
    with virtual_time(service) as clock:
        sources = [*POISON[:bad], *[PNG] * good]
        vision = client(Limits(in_flight=in_flight))
        readings = list(vision.read_many(sources, "caption", on_error="keep"))
        assert clock.now < 10 * good / in_flight * 1.5 + 200
    assert [reading.status for reading in readings] == ["failed"] * bad + ["ok"] * good
    assert set(service.asked.values()) == {4}


def test_another_caller_is_not_harmed_either() -> None:
    """Items that fail by themselves say nothing of the service to another object that asks the same model."""
    service = Poisoned([1.0])
    with virtual_time(service):
        run = client().read_many(POISON, "caption", on_error="keep")
        assert next(run).status == "failed"
        assert all(reading.ok for reading in client().read_many([PNG] * 20, "caption", on_error="keep"))
        run.close()


@pytest.mark.parametrize("chance", [0.1, 0.2])
@pytest.mark.parametrize("latency", [0.5, 2.0, 20.0])
def test_faults_at_random_are_no_outage(chance: float, latency: float) -> None:
    """A service that fails now and then, at once, though its answers are slow, loses what fails four times alone."""
    dice = random.Random(7)  # noqa: S311 - no secret

    async def shaky(_: httpx.Request) -> httpx.Response:
        if dice.random() < chance:
            await asyncio.sleep(0.05)
            return httpx.Response(503, json={"detail": "busy"})
        await asyncio.sleep(latency)
        return httpx.Response(200, json=answer())

    with virtual_time(shaky) as clock:
        readings = list(client().read_many([PNG] * 600, "caption", on_error="keep"))
        assert clock.now < 600 / 32 * latency * 1.5 + 60
    assert sum(not reading.ok for reading in readings) <= 4  # 600 * 0.2 ** 4 is 1
    assert max(reading.attempts for reading in readings) <= 4


def test_refusals_and_outages_have_patience_of_their_own() -> None:
    """What begins as an outage and goes on as refusals is flow control; what begins as refusals may be an outage."""

    def service(*phases: tuple[float, int]) -> Any:
        async def answered(_: httpx.Request) -> httpx.Response:
            await asyncio.sleep(0.05)
            now = asyncio.get_running_loop().time()
            status = next((status for until, status in phases if now < until), 200)
            await asyncio.sleep(0.5 if status == 200 else 0.0)
            return httpx.Response(status, json=answer() if status == 200 else {"detail": "no"})

        return answered

    with virtual_time(service((3.0, 200), (30.0, 503), (100.0, 429))):
        readings = list(client().read_many([PNG] * 300, "caption", on_error="keep"))
        assert {reading.status for reading in readings} == {"ok"}
    with virtual_time(service((3.0, 200), (20.0, 429), (1e9, 503))) as clock:
        readings = list(client(Limits(in_flight=8)).read_many([PNG] * 200, "caption", on_error="keep"))
        assert clock.now < 20 + 60 + 200 / 8 * 15
        assert isinstance(readings[-1].error, ServiceError)
        assert max(reading.attempts for reading in readings) <= 4 + 10
    with virtual_time(service((3.0, 200), (20.0, 429), (1e9, 429))):
        readings = list(client(Limits(in_flight=8, patience=60)).read_many([PNG] * 60, "caption", on_error="keep"))
        assert isinstance(readings[-1].error, RateLimitError)


def test_a_virtual_clock_does_not_stand_still() -> None:
    """Large limits, and a clock that jumps, leave no wait too short for a clock."""
    with virtual_time(Service(latency=0.3)) as clock:
        vision = Vision("gpt-4o", base_url="http://service.example/v2", api_key="k")
        run = vision.read_many([PNG] * 300, "caption")
        assert next(run).ok
        clock.jump(600)
        assert sum(reading.ok for reading in run) == 299


def test_one_items_hint_is_its_own() -> None:
    """A picture that always meets a 503 with `Retry-After` makes nobody else wait."""
    good: list[float] = []

    async def answered(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.5)
        if base64.b64encode(POISON[0])[-40:].decode() in request.content.decode():
            return httpx.Response(503, headers={"retry-after": "30"}, json={"detail": "busy"})
        good.append(asyncio.get_running_loop().time())
        return httpx.Response(200, json=answer())

    with virtual_time(answered):
        readings = list(client().read_many([POISON[0], *[PNG] * 100], "caption", on_error="keep"))
    assert [reading.status for reading in readings] == ["failed"] + ["ok"] * 100
    assert good[-1] < 5


def test_a_used_up_quota_leaves_the_rest_pending() -> None:
    """Images that were about to be asked again when a quota ran out are pending, and blame no network."""
    body = {"error": {"message": "used up", "code": "insufficient_quota"}}
    asked = 0

    async def answered(_: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.05)
        return httpx.Response(503) if asked <= 5 else httpx.Response(429, json=body)

    with virtual_time(answered):
        readings = list(client(Limits(in_flight=8)).read_many([PNG] * 60, "caption", on_error="keep"))
    assert {type(reading.error) for reading in readings} == {QuotaExceededError}
    assert Counter(reading.status for reading in readings)["pending"] >= 50


def test_a_count_that_cannot_be_parks_nobody_for_hours() -> None:
    """A host that says it has counted nine million tokens is not believed by the pacing."""
    usage = {"prompt_tokens": 9_000_000, "completion_tokens": 9_000_000}
    service = Service(
        latency=0.1, reply=lambda number: httpx.Response(200, json=answer(usage=usage if number == 0 else None))
    )
    with virtual_time(service) as clock:
        limits = Limits(input_tokens_per_minute=60_000, output_tokens_per_minute=60_000)
        assert all(reading.ok for reading in client(limits).read_many([PNG] * 5, "caption"))
        assert clock.now < 300


def test_what_was_refused_is_not_booked_when_a_read_is_left() -> None:
    """A read that met refusals alone and is cancelled leaves the whole budget to the next one."""
    refusing = Service(latency=0.1, reply=lambda number: httpx.Response(429) if number < 6 else None)

    async def leave(vision: Vision) -> None:
        reading = asyncio.create_task(vision.aread(PNG, "caption"))
        while refusing.statuses[429] < 3:  # noqa: ASYNC110 - the service lives on another loop, in another time
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    with virtual_time(refusing):
        price = client(max_cost=1.0).estimate([PNG], "caption").cost_eur or 0.0
        vision = client(max_cost=12 * price)
        asyncio.run(leave(vision))
        assert vision.read(PNG, "caption").ok


def test_a_pace_is_kept_though_another_knows_of_none() -> None:
    """Reads one after the other keep to their limit, also while somebody without a limit asks the same model."""
    service = Service(latency=0.1)
    with virtual_time(service) as clock:
        strict, wide = client(Limits(requests_per_minute=60)), client()
        for _ in range(15):
            assert strict.read(PNG, "caption").ok
            assert wide.read(PNG, "caption").ok
        assert clock.now > 29 / 0.95 * 0.95


def test_the_sdks_clients_leave_a_model_that_is_down_for_its_queue() -> None:
    """With queue="auto" a model that stays unavailable is asked through the queue, as `Vision` does."""
    asked: Counter[str] = Counter()

    async def answered(request: httpx.Request) -> httpx.Response:
        place = "queue" if request.url.path.startswith("/queue") else "direct"
        asked[place] += 1
        return httpx.Response(200, json=answer()) if place == "queue" else httpx.Response(503)

    options: dict[str, Any] = {"base_url": "http://service.example/v2", "api_key": "k", "queue": "auto"}
    body = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "Hello"}]}
    with virtual_time(answered), http_client(**options) as http:
        for _ in range(5):
            assert http.post("/chat/completions", json=body).is_success
    assert asked["queue"] == 5
    assert asked["direct"] <= 12


def test_long_blanks_and_long_headers_are_read_in_no_time() -> None:
    """Neither a table of blanks, nor tags of thoughts, nor digits without end are looked at again and again."""
    headers = {f"x-ratelimit-{name}-requests": "9" * 60_000 for name in ("limit", "remaining", "reset")}
    texts = [" " * 400_000 + "end", "<think>" * 60_000, "a </think>" * 60_000]

    def reply(number: int) -> httpx.Response:
        choice = {"message": {"content": texts[number]}, "finish_reason": "length"}
        return httpx.Response(200, content=json.dumps({"choices": [choice]}), headers=headers)

    with virtual_time(Service(latency=0.01, reply=lambda number: reply(number % 3))):
        readings = list(client().read_many([PNG] * 3, "ocr", on_error="keep"))
    assert {reading.status for reading in readings} <= {"truncated", "looped"}
