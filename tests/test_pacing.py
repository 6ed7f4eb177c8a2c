"""Pacing on a virtual clock: five minutes of every kind of limit, in a second; nothing lost, nothing asked in vain."""

from __future__ import annotations

import asyncio
import base64
import threading
from typing import Any

import httpx
import pytest

from aifs_vision import Limits, RateLimitError, SettingsError, Vision, async_http_client
from aifs_vision.testing import virtual_time
from tests.pictures import corners, saved
from tests.service import Dripping, Service, answer, json_bytes

PNG = saved(corners())
MINUTE = Limits(requests_per_minute=60)


def client(limits: Limits | None = None, **options: Any) -> Vision:
    """A client of the service in memory."""
    return Vision(base_url="http://service.example/v2", api_key="k", limits=limits or Limits(), **options)


def share(service: Service, limits: Limits, images: int = 300) -> float:
    """Reads so many pictures, all of which have to come out; how much of the allowance was used."""
    assert service.limit
    with virtual_time(service):
        statuses = [reading.status for reading in client(limits).read_many([PNG] * images, "caption", on_error="keep")]
    assert statuses == ["ok"] * images
    span = service.arrivals[-1] - service.arrivals[0] + service.latency
    return images / span / (service.limit / service.window)


WINDOWS: list[dict[str, Any]] = [
    {"kind": kind, "rejects_count": counts, "headers": headers, "hint": hint, "azure": headers}
    for kind in ("fixed", "sliding", "bucket")
    for counts in (False, True)
    for headers in (False, True)
    for hint in ("none", "header", "words")
]


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: "-".join(map(str, window.values())))
def test_a_known_limit_is_used_and_never_passed(window: dict[str, Any]) -> None:
    """Of a limit that is known 93 % or more is used, whatever counts it, and not one request is refused."""
    service = Service(limit=60, window=60.0, **window)
    assert share(service, MINUTE) >= 0.93
    assert service.statuses[429] == 0


@pytest.mark.parametrize("slice_", [1.0, 10.0])
def test_slices_of_a_minute_are_kept_to(slice_: float) -> None:
    """A host that counts a minute's limit in slices of a second or ten refuses none either."""
    service = Service(limit=round(10 * slice_), window=slice_, latency=0.3)
    assert share(service, Limits(requests_per_minute=600)) >= 0.93
    assert service.statuses[429] == 0


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: "-".join(map(str, window.values())))
def test_an_unknown_limit_is_learned(window: dict[str, Any]) -> None:
    """Of a limit that nobody has told 75 % or more is used, nothing is lost, and few requests are refused."""
    service = Service(limit=60, window=60.0, **window)
    assert share(service, Limits()) >= 0.75
    assert service.statuses[429] <= 50


@pytest.mark.parametrize("counts", [False, True])
def test_unknown_slices_are_learned(counts: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """The same where ten requests in ten seconds are let in, and refused ones count."""
    assert share(Service(limit=10, window=10.0, rejects_count=counts), Limits()) >= 0.75


def test_headers_alone_are_enough() -> None:
    """Where limits are unknown and headers tell them, they are kept to without a single refusal."""
    for kind in ("fixed", "bucket"):
        service = Service(limit=60, kind=kind, headers=True)
        assert share(service, Limits()) >= 0.93
        assert service.statuses[429] == 0


def test_headers_only_ever_lower_a_known_limit() -> None:
    """A host that allows less than the plan says is believed, one that claims to allow more is not."""
    stingy = Service(limit=30, headers=True)
    share(stingy, MINUTE, 60)
    assert stingy.statuses[429] <= 1
    generous = Service(limit=6000, headers=True)
    with virtual_time(generous):
        list(client(MINUTE).read_many([PNG] * 60, "caption"))
    assert generous.arrivals[-1] - generous.arrivals[0] >= 59 / 0.95 * 0.99


def test_headers_that_make_no_sense_are_no_news() -> None:
    """Limits of nothing, negative rests and resets in words change nothing."""
    odd = [
        {"x-ratelimit-limit-requests": "0", "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1h"},
        {"x-ratelimit-limit-requests": "10", "x-ratelimit-remaining-requests": "-3", "x-ratelimit-reset-requests": "x"},
        {"x-ratelimit-limit-tokens": "many", "x-ratelimit-remaining-tokens": "99", "x-ratelimit-reset-tokens": "soon"},
    ]
    service = Service(reply=lambda number: httpx.Response(200, json=answer(), headers=odd[number % 3]))
    with virtual_time(service) as clock:
        list(client().read_many([PNG] * 64, "caption"))
        assert clock.now < 5


def test_a_free_service_is_not_held_back() -> None:
    """Without limits all slots are used, and no time is lost."""
    service = Service(latency=0.3)
    with virtual_time(service) as clock:
        run = client(Limits(in_flight=32)).read_many([PNG] * 128, "caption")  # 4 times: none waits for the caller
        list(run)
        assert clock.now == pytest.approx(1.2, abs=0.01)
    assert service.most == 32
    assert run.report.waited == 0


def test_a_service_that_slows_down_and_recovers() -> None:
    """A model that answers 429 for a while, though the plan allows more, is found open again, by one request."""
    closed = (30.0, 60.0)
    service = Service(latency=0.1)
    refused = 0

    async def answered(request: httpx.Request) -> httpx.Response:
        nonlocal refused
        if closed[0] <= asyncio.get_running_loop().time() < closed[1]:
            refused += 1
            return httpx.Response(429, json={"detail": "busy"})
        return await service(request)

    with virtual_time(answered) as clock:
        limits = Limits(requests_per_minute=600)
        readings = list(client(limits).read_many([PNG] * 600, "caption", on_error="keep"))
        assert clock.now < 160  # 64 s of pacing, half a minute that was closed, and the way back up
    assert {reading.status for reading in readings} == {"ok"}
    assert refused < 15


def test_a_refusal_has_its_end(recwarn: pytest.WarningsRecorder) -> None:
    """A model that never lets anything in is an error after one's patience, not before, with the words it used."""
    service = Service(limit=1, window=1e9)
    with virtual_time(service) as clock:
        vision = client(Limits(patience=120))
        assert vision.read(PNG).ok
        with pytest.raises(RateLimitError, match="Rate limit reached"):
            vision.read(PNG)
        assert 120 <= clock.now < 150
    assert service.statuses[429] < 30
    assert not recwarn


def test_estimates_are_corrected_by_what_is_counted() -> None:
    """A model that reads and writes ten times what was expected is paced by what it counts, not by the estimate."""
    used = {"prompt_tokens": 2_000, "completion_tokens": 500}
    service = Service(latency=0.5, reply=lambda _: httpx.Response(200, json=answer(usage=used)))
    with virtual_time(service):
        list(client(Limits(input_tokens_per_minute=120_000)).read_many([PNG] * 90, "caption"))
    rate = 80 / (service.arrivals[-1] - service.arrivals[9])
    assert rate == pytest.approx(0.95, rel=0.05)  # a second: 2,000 of 2,000 tokens, less five percent


def test_output_tokens_are_a_budget_of_their_own() -> None:
    """The answers' tokens hold requests back, too, and estimates of them are learned for each task."""
    used = {"prompt_tokens": 10, "completion_tokens": 250}
    service = Service(latency=0.5, reply=lambda _: httpx.Response(200, json=answer(usage=used)))
    with virtual_time(service):
        list(client(Limits(output_tokens_per_minute=30_000)).read_many([PNG] * 150, "caption"))
    assert 140 / (service.arrivals[-1] - service.arrivals[9]) == pytest.approx(2 * 0.95, rel=0.05)


@pytest.mark.parametrize("usage", [{"prompt_tokens": -5, "completion_tokens": "x"}, [], {"prompt_tokens": None}, None])
def test_usage_that_makes_no_sense_is_not_believed(usage: Any) -> None:
    """A count that is none changes neither the pace nor the bill."""
    service = Service(reply=lambda _: httpx.Response(200, json=answer(usage=usage)))
    with virtual_time(service):
        readings = list(client(MINUTE).read_many([PNG] * 5, "caption"))
    assert [reading.usage.output_tokens for reading in readings] == [0] * 5


def test_first_come_first_served() -> None:
    """Who came first goes first, also when a large item waits before small ones."""
    order: list[str] = []

    async def answered(request: httpx.Request) -> httpx.Response:
        order.append(request.headers["x-who"])
        return httpx.Response(200, json=answer())

    async def ask() -> None:
        limits = Limits(input_tokens_per_minute=6_000)
        async with async_http_client(base_url="http://service.example/v2", api_key="k", limits=limits) as http:

            async def one(who: str, words: int) -> None:
                message = {"role": "user", "content": "word " * words}
                body = {"model": "m", "messages": [message]}
                await http.post("/chat/completions", json=body, headers={"x-who": who})

            tasks = []
            for number in range(20):
                tasks.append(asyncio.create_task(one(str(number), 3_000 if number == 5 else 10)))
                await asyncio.sleep(0.002)
            await asyncio.gather(*tasks)

    with virtual_time(answered):
        asyncio.run(ask())
    assert order == [str(number) for number in range(20)]


def test_all_who_ask_one_model_share_its_limit() -> None:
    """Several objects, threads and the SDKs' clients together keep to one limit; another key has its own."""
    service = Service(limit=60, headers=False)

    def read() -> None:
        list(client(MINUTE).read_many([PNG] * 30, "caption"))

    async def ask() -> None:
        async with async_http_client(base_url="http://service.example/v2", api_key="k", limits=MINUTE) as http:
            for _ in range(30):
                body = {"model": client().model, "messages": [{"role": "user", "content": "Hello"}]}
                assert (await http.post("/chat/completions", json=body)).is_success

    with virtual_time(service):
        threads = [threading.Thread(target=read) for _ in range(3)]
        threads.append(threading.Thread(target=lambda: asyncio.run(ask())))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert service.statuses[429] == 0
        assert service.arrivals[-1] - service.arrivals[0] >= 119 / 0.95 * 0.98
        before = len(service.arrivals)
        other = Vision(base_url="http://service.example/v2", api_key="another", limits=Limits())
        assert other.read(PNG).ok
        assert len(service.arrivals) == before + 1


def test_limits_can_be_shared_among_processes() -> None:
    """Limits.share(n) is what each of n processes may send; what is not limited stays so."""
    limits = Limits(requests_per_minute=60, output_tokens_per_minute=1_000, in_flight=10).share(4)
    assert limits == Limits(requests_per_minute=15, output_tokens_per_minute=250, in_flight=2)
    assert Limits(in_flight=2).share(8).in_flight == 1
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(SettingsError, match=r"Limits\.share"):
            Limits().share(wrong)  # type: ignore[arg-type]


def test_a_clock_that_jumps_is_no_burst_and_no_standstill() -> None:
    """After the sleep of a computer nothing is sent at once, and nothing waits for the time that was slept."""
    service = Service(limit=60, latency=0.1)
    with virtual_time(service) as clock:
        run = client(MINUTE).read_many([PNG] * 90, "caption")
        assert next(run).ok
        clock.jump(86_400)
        assert sum(reading.ok for reading in run) == 89
    gaps = [later - one for one, later in zip(service.arrivals, service.arrivals[1:], strict=False)]
    assert service.statuses[429] == 0
    assert sum(gap > 2 for gap in gaps) <= 2  # the jump itself


# -- Faults in virtual time ----------------------------------------------------------------------------------------


def test_pauses_grow_and_are_bounded() -> None:
    """An item that fails is tried again after a moment, and at most four times, within seconds."""
    service = Service(latency=0.0, reply=lambda _: httpx.Response(503, json={"detail": "busy"}))
    with virtual_time(service) as clock:
        (reading,) = client().read_many([PNG], on_error="keep")
        assert clock.now <= 0.5 + 1 + 2
    assert (reading.status, reading.attempts) == ("failed", 4)


@pytest.mark.parametrize(
    "fault",
    [
        lambda: httpx.Response(500, json={"detail": "oops"}),
        lambda: httpx.Response(502, html="<html>bad gateway</html>"),
        lambda: httpx.Response(503, json={"error": {"message": "busy", "code": "busy"}}),
        lambda: httpx.Response(504),
        lambda: httpx.ConnectError("refused"),
        lambda: httpx.RemoteProtocolError("closed without an answer"),
        lambda: httpx.Response(200, html="<html>Please sign in.</html>"),
        lambda: httpx.Response(200, content=json_bytes(answer())[:40]),
        lambda: httpx.Response(200, content=b"", headers={"content-type": "image/png"}),
        lambda: httpx.Response(200, stream=Dripping(json_bytes(answer()), 0.01, breaks=True)),
        lambda: httpx.Response(200, json={"choices": []}),
        lambda: httpx.Response(200, json=[]),
        lambda: httpx.Response(200, json={"choices": [{"message": None}]}),
    ],
)
def test_whatever_goes_wrong_once_costs_one_more_request(fault: Any) -> None:
    """Every fault that may pass is tried again, and the text is that of the answer and of nothing else."""
    service = Service(reply=lambda number: fault() if number % 2 == 0 else None, latency=0.01)
    with virtual_time(service):
        readings = [client().read(PNG, "caption") for _ in range(3)]
    assert [(reading.status, reading.text, reading.attempts) for reading in readings] == [("ok", "some text", 2)] * 3


def test_slow_bytes_are_waited_for_until_the_timeout_and_not_longer() -> None:
    """A body that comes a byte at a time is read to its end, if that comes in time; else it is a timeout."""
    for every, status in ((0.05, "ok"), (5.0, "failed")):
        slow = lambda _, every=every: httpx.Response(200, stream=Dripping(json_bytes(answer()), every))  # noqa: E731
        with virtual_time(Service(reply=slow)) as clock:
            (reading,) = client(timeout=30).read_many([PNG], "caption", on_error="keep")
            assert clock.now < 70
        assert reading.status == status


def test_an_item_that_breaks_the_server_lets_the_others_go_first() -> None:
    """After two breaks an item waits until the others are through; alone it gets its last two attempts."""
    poison, order = saved(corners(77, 77)), []

    async def answered(request: httpx.Request) -> httpx.Response:
        bad = base64.b64encode(poison)[-60:].decode() in request.content.decode()
        await asyncio.sleep(0.1 if bad else 1.0)
        order.append(bad)
        return httpx.Response(500, json={"detail": "engine died"}) if bad else httpx.Response(200, json=answer())

    with virtual_time(answered):
        # 16 are 4 times what is in flight: none of them waits for the caller.
        vision, sources = client(Limits(in_flight=4)), [PNG, poison] + [PNG] * 14
        readings = list(vision.read_many(sources, "caption", on_error="keep", ordered=False))
    assert [reading.status for reading in readings] == ["ok"] * 15 + ["failed"]
    asked = [at for at, bad in enumerate(order) if bad]
    assert len(asked) == 4
    assert asked[1] < 10
    assert asked[2] >= 15  # all the others were through


def test_a_used_up_quota_is_not_waited_for() -> None:
    """A 429 that no waiting helps against ends the run at once, and the rest is pending."""
    body = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
    service = Service(latency=0.1, reply=lambda _: httpx.Response(429, json=body))
    with virtual_time(service) as clock:
        readings = list(client(Limits(in_flight=2)).read_many([PNG] * 20, "caption", on_error="keep"))
        assert clock.now < 5
    assert {type(reading.error).__name__ for reading in readings} == {"QuotaExceededError"}
    assert {reading.status for reading in readings} == {"failed", "pending"}
    assert len(service.arrivals) <= 2


def test_waiting_for_limits_is_told() -> None:
    """The report says how long limits have held requests up; without limits it is nothing."""
    with virtual_time(Service()):
        run = client(MINUTE).read_many([PNG] * 10, "caption")
        list(run)
    assert run.report.waited > 8
    assert "limits held requests up" in str(run.report)
    with virtual_time(Service()):
        free = client().read_many([PNG] * 40, "caption")
        list(free)
    assert free.report.waited == 0
