"""A service that is ill, or limits that several set: nobody is lost to a passing fault, nobody waits for ever."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx
import pytest

from aifs_vision import BudgetError, Limits, QuotaExceededError, RateLimitError, Vision, async_http_client, http_client
from aifs_vision.emulator import Emulator
from aifs_vision.testing import isolated, virtual_time
from tests.pictures import corners, saved
from tests.service import Dripping, Service, answer
from tests.waiting import until

PNG = saved(corners())
BODY = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "Hello"}]}


def client(limits: Limits | None = None, **options: Any) -> Vision:
    """A client of the service in memory."""
    return Vision(base_url="http://service.example/v2", api_key="k", limits=limits or Limits(), **options)


class Ill(Service):
    """A service that is broken for a while."""

    def __init__(self, begins: float, ends: float, kind: Any, **more: Any) -> None:
        super().__init__(latency=0.5, **more)
        self.begins, self.ends, self.kind, self.broken = begins, ends, kind, 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """A failure during the outage, else the answer."""
        if self.begins <= asyncio.get_running_loop().time() < self.ends:
            self.broken += 1
            await asyncio.sleep(0.05)
            if isinstance(self.kind, int):
                return httpx.Response(self.kind, json={"detail": "down"})
            assert isinstance(self.kind, Exception)
            raise self.kind
        return await super().__call__(request)


@pytest.mark.parametrize("kind", [500, 502, 503, httpx.ConnectError("refused"), httpx.RemoteProtocolError("reset")])
@pytest.mark.parametrize("seconds", [1.0, 30.0])
def test_an_outage_loses_nothing_and_costs_little_more_than_it_took(kind: Any, seconds: float) -> None:
    """All that was under way when a service broke for everybody is read when it is back, without a flood meanwhile."""
    service = Ill(3.0, 3.0 + seconds, kind)
    with virtual_time(service) as clock:
        statuses = {reading.status for reading in client().read_many([PNG] * 600, "caption", on_error="keep")}
        took = clock.now
    assert statuses == {"ok"}
    assert took < 600 / 32 * 0.5 + seconds + 15
    assert service.broken < 110


def test_a_service_that_stays_down_is_an_error_after_a_minute() -> None:
    """A dead service fails a run of many images in minutes, and not in hours; each has its reading."""
    service = Ill(0.0, 1e9, 503)
    with virtual_time(service) as clock:
        readings = list(client().read_many([PNG] * 200, "caption", on_error="keep"))
        assert clock.now < 60 + 15 * (200 / 32 + 2)
    assert {reading.status for reading in readings} == {"failed"}
    assert {type(reading.error).__name__ for reading in readings} == {"ServiceError"}


def test_a_model_that_always_refuses_holds_a_run_no_longer_than_ones_patience() -> None:
    """Patience counts for the line and not for each image in turn; a day of refusals is no overflow either."""
    service = Service(limit=1, window=1e9)
    with virtual_time(service) as clock:
        vision = client(Limits(patience=60))
        assert vision.read(PNG).ok
        readings = list(vision.read_many([PNG] * 44, "caption", on_error="keep"))
        assert clock.now < 120
        assert {type(reading.error) for reading in readings} == {RateLimitError}
        patient = client(Limits(patience=90_000))
        with pytest.raises(RateLimitError):
            patient.read(PNG)
        assert clock.now > 90_000


def test_a_slow_line_that_moves_loses_nobody() -> None:
    """Many in flight at a handful of requests a minute wait longer than one's patience, and are all read."""
    with virtual_time(Service(limit=5, window=60.0)):
        readings = list(client(Limits(in_flight=128)).read_many([PNG] * 200, "caption", on_error="keep"))
    assert {reading.status for reading in readings} == {"ok"}


@pytest.mark.parametrize("kind", ["fixed", "sliding", "bucket"])
def test_slow_answers_do_not_keep_a_limit_from_being_used(kind: Any) -> None:
    """Where an answer takes half a minute, a probe that was not refused at once was let in."""
    service = Service(limit=60, window=60.0, kind=kind, latency=30.0)
    with virtual_time(service) as clock:
        statuses = {reading.status for reading in client().read_many([PNG] * 300, "caption", on_error="keep")}
        used = 300 / (clock.now - 30) / 1.0
    assert statuses == {"ok"}
    assert used >= 0.75


def test_a_limit_that_is_lifted_is_found_lifted() -> None:
    """A rate that refusals have taught is forgotten within minutes once nothing is refused any more."""
    slow, lifted = Service(limit=10, window=60.0, kind="sliding", latency=0.5), Service(latency=0.5)

    async def answered(request: httpx.Request) -> httpx.Response:
        return await (slow if asyncio.get_running_loop().time() < 120 else lifted)(request)

    with virtual_time(answered) as clock:
        assert all(reading.ok for reading in client().read_many([PNG] * 1_000, "caption"))
        assert clock.now < 120 + 400


def test_the_strictest_limits_in_use_are_kept() -> None:
    """Another object with wider limits widens nobody's, and an estimate changes none."""
    service = Service(latency=0.1)
    with virtual_time(service) as clock:
        strict, wide = client(Limits(requests_per_minute=60)), client()
        run = strict.read_many([PNG] * 20, "caption")
        assert next(run).ok
        assert wide.estimate([PNG] * 5).images == 5
        assert wide.read(PNG).ok
        assert all(reading.ok for reading in run)
        assert clock.now > 19 / 0.95
        clock.jump(61)  # limits are of a minute
        began = clock.now
        assert all(reading.ok for reading in wide.read_many([PNG] * 20, "caption"))
        assert clock.now - began < 64  # the strict one is through
    service = Service(latency=0.5)
    with virtual_time(service):
        runs = [client(Limits(in_flight=most)).read_many([PNG] * 30, "caption") for most in (2, 64)]
        for run in runs:
            next(run)
        for run in runs:
            assert all(reading.ok for reading in run)
    assert service.most <= 64


def test_embeddings_keep_to_limits_too() -> None:
    """Texts to be embedded go through the line of their model, and are paced by their tokens."""

    async def embedded(request: httpx.Request) -> httpx.Response:
        count = len(json.loads(request.content)["input"])
        data = [{"index": index, "embedding": [0.0]} for index in range(count)]
        return httpx.Response(200, json={"data": data})

    limits = Limits(requests_per_minute=60)
    with (
        virtual_time(embedded) as clock,
        http_client(base_url="http://service.example/v2", api_key="k", limits=limits) as http,
    ):
        for _ in range(10):
            assert http.post("/embeddings", json={"model": "text-embedding-bge-m3", "input": ["text"]}).is_success
        assert clock.now >= 9 / 0.95 * 0.99


@pytest.mark.parametrize(
    "told", ["{seconds:.0f}", "{milliseconds:.0f}", "9" * 400 + "s", "90h", "-5"], ids=["s", "ms", "huge", "90h", "-5"]
)
def test_resets_of_any_kind_stop_nobody(told: str) -> None:
    """A reset told as a moment, or as a time that cannot be, does not hold a run up for years."""
    soon = time.time() + 20
    reset = told.format(seconds=soon, milliseconds=1000 * soon)
    left = iter(range(590, -1, -1))

    def reply(_: int) -> httpx.Response:
        headers = {"limit": "600", "remaining": str(next(left)), "reset": reset}
        return httpx.Response(200, json=answer(), headers={f"x-ratelimit-{k}-requests": v for k, v in headers.items()})

    with virtual_time(Service(latency=0.1, reply=reply)) as clock:
        assert all(reading.ok for reading in client().read_many([PNG] * 40, "caption"))
        assert clock.now < 60


def test_token_headers_are_kept_to() -> None:
    """What `x-ratelimit-*-tokens` tell holds requests back before they are refused."""
    budget = 20_000.0

    async def answered(_: httpx.Request) -> httpx.Response:
        nonlocal budget
        await asyncio.sleep(0.2)
        now = asyncio.get_running_loop().time()
        window = int(now // 60)
        if window != answered_in[0]:
            answered_in[0], budget = window, 20_000.0
        if budget < 1_000:
            return httpx.Response(429, json={"detail": "tokens"})
        budget -= 1_000
        headers = {"limit": "20000", "remaining": f"{budget:.0f}", "reset": f"{60 - now % 60:.1f}s"}
        headers = {f"x-ratelimit-{name}-tokens": value for name, value in headers.items()}
        usage = {"prompt_tokens": 1_000, "completion_tokens": 5}
        return httpx.Response(200, json=answer(usage=usage), headers=headers)

    answered_in = [0]
    with virtual_time(answered):
        readings = list(client(Limits(in_flight=4)).read_many([PNG] * 100, "caption", on_error="keep"))
    assert {reading.status for reading in readings} == {"ok"}
    assert sum(reading.attempts for reading in readings) <= 104


ORDINARY = [
    {
        "error": {
            "message": "Rate limit reached. Please try again in 2s. Visit account/billing to add a payment method."
        }
    },
    {"error": {"message": "You exceeded your current quota.", "details": [{"retryDelay": "2s"}], "code": 429}},
    {"detail": "Too many requests. Please retry after 3 seconds."},
    {"detail": "Try again in 500 milliseconds."},
]


@pytest.mark.parametrize("body", ORDINARY)
def test_an_ordinary_refusal_is_no_used_up_quota(body: Any) -> None:
    """Words about billing beside a time to come back are flow control, whose hint is heeded."""
    service = Service(latency=0.1, reply=lambda number: httpx.Response(429, json=body) if number == 3 else None)
    with virtual_time(service) as clock:
        readings = list(client(Limits(in_flight=2)).read_many([PNG] * 20, "caption", on_error="keep"))
        assert clock.now < 10
    assert {reading.status for reading in readings} == {"ok"}


def test_a_quota_by_its_code_ends_the_run() -> None:
    """`insufficient_quota` is no flow control, whatever else the answer says."""
    body = {"error": {"message": "Quota exceeded. Retry after 5 seconds.", "code": "insufficient_quota"}}
    with virtual_time(Service(reply=lambda _: httpx.Response(429, json=body))), pytest.raises(QuotaExceededError):
        client().read(PNG)


def test_streams_are_settled_by_what_they_bring() -> None:
    """The tokens of a streamed answer count: as its last event says, else an event each."""
    events = [{"choices": [{"index": 0, "delta": {"content": "x"}}]}] * 5
    usage = {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5_000}}
    stream = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in [*events, usage])
    service = Service(
        latency=0.1,
        reply=lambda _: httpx.Response(
            200, stream=Dripping(stream, 0.0), headers={"content-type": "text/event-stream"}
        ),
    )
    limits = Limits(output_tokens_per_minute=60_000)

    async def ask() -> None:
        async with async_http_client(base_url="http://service.example/v2", api_key="k", limits=limits) as http:
            for _ in range(12):
                async with http.stream("POST", "/chat/completions", json={**BODY, "stream": True}) as response:
                    assert await response.aread() == stream

    with virtual_time(service):
        asyncio.run(ask())
    rate = 10 / (service.arrivals[-1] - service.arrivals[1])  # a second
    assert rate * 5_000 * 60 <= 60_000


def test_max_cost_holds_for_what_is_sent_once_more() -> None:
    """An answer that broke may be billed: nothing is sent again for which there is no money left."""
    broken = lambda _: httpx.ReadError("broke")  # noqa: E731
    service = Service(latency=0.1, reply=broken)
    with virtual_time(service):
        most = client(max_cost=1.0).estimate([PNG], "caption")
        assert most.cost_eur
        vision = client(max_cost=0.0003)
        (reading,) = vision.read_many([PNG], "caption", on_error="keep")
        assert isinstance(reading.error, BudgetError)
        assert reading.status == "pending"
        assert reading.error.spent <= 0.0003
    assert len(service.arrivals) == reading.attempts < 4


def test_what_was_sent_for_a_cancelled_read_is_booked() -> None:
    """Leaving a read that is on its way does not make its money free for another one."""

    async def leave(server: Emulator, vision: Vision) -> None:
        for number in range(1, 9):
            reading = asyncio.create_task(vision.aread(PNG, "caption"))
            await asyncio.to_thread(until, lambda: len(server.requests) >= number or reading.done())  # noqa: B023 - awaited here
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    with Emulator(ocr=False, latency=2.0) as server, isolated():
        vision = Vision(base_url=server.base_url, api_key=server.api_key, max_cost=0.0006, limits=Limits())
        asyncio.run(leave(server, vision))
        assert 0 < len(server.requests) < 8
