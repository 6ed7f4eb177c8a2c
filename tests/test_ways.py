"""Other ways to an answer: the queue after a minute of refusals, another model where one stays unavailable."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import httpx
import pytest

from aifs_vision import Limits, RateLimitError, ResidencyError, ServiceError, SettingsError, Vision, http_client
from aifs_vision.testing import virtual_time
from tests.pictures import corners, saved
from tests.service import answer

PNG = saved(corners())


class Hosts:
    """A service whose models and addresses are up or down."""

    def __init__(self, down: dict[str, int]) -> None:
        self.down = dict(down)
        self.asked: Counter[str] = Counter()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """The answer of the model at the address."""
        model = json.loads(request.content)["model"]
        place = "queue" if request.url.path.startswith("/queue") else model
        self.asked[place] += 1
        await asyncio.sleep(0.2)
        if (status := self.down.get(place)) is not None:
            return httpx.Response(status, json={"detail": f"{place} is down"})
        return httpx.Response(200, json=answer(f"by {place}"))


def client(**options: Any) -> Vision:
    """A client of these hosts."""
    settings = {"model": "gpt-4.1", "limits": Limits(in_flight=4, patience=300)}
    return Vision(base_url="http://service.example/v2", api_key="k", **{**settings, **options})


def test_another_model_stands_in() -> None:
    """Where a model stays unavailable its images are read by another, which the readings and the report name."""
    hosts = Hosts({"gpt-4.1": 503})
    with virtual_time(hosts):
        run = client(fallback_model="gpt-4o").read_many([PNG] * 40, "caption")
        readings = list(run)
    assert {(reading.status, reading.model, reading.text) for reading in readings} == {("ok", "gpt-4o", "by gpt-4o")}
    assert readings[0].metadata()["model"] == "gpt-4o"
    assert hosts.asked["gpt-4.1"] < 40 * 4 / 2  # those that were under way; the others were not tried on it
    assert hosts.asked["gpt-4o"] == 40


def test_a_model_that_is_back_is_asked_again() -> None:
    """After a while the model is tried again, and stays the one that reads once it answers."""
    hosts = Hosts({"gpt-4.1": 500})
    vision = client(fallback_model="gpt-4o", limits=Limits(in_flight=1))
    with virtual_time(hosts) as clock:
        assert [vision.read(PNG, "caption").model for _ in range(4)] == ["gpt-4o"] * 4
        hosts.down.clear()
        clock.jump(700)
        assert [vision.read(PNG, "caption").model for _ in range(4)] == ["gpt-4.1"] * 4


def test_a_refusal_is_no_reason_for_another_model() -> None:
    """What is wrong with the request or the key is an error of the model that was asked for."""
    for status in (400, 401, 403, 422):
        hosts = Hosts({"gpt-4.1": status})
        with virtual_time(hosts):
            (reading,) = client(fallback_model="gpt-4o").read_many([PNG], on_error="keep")
        assert reading.status == "failed"
        assert not hosts.asked["gpt-4o"]


def test_where_all_are_down_the_last_error_is_told() -> None:
    """Nobody left to ask: the error is that of the last one, and every attempt is counted."""
    hosts = Hosts({"gpt-4.1": 503, "gpt-4o": 503})
    with virtual_time(hosts):
        (reading,) = client(fallback_model="gpt-4o").read_many([PNG], on_error="keep")
    assert isinstance(reading.error, ServiceError)
    assert "gpt-4o is down" in str(reading.error)
    assert reading.attempts == 8


def test_the_queue_takes_over_after_a_minute_of_refusals() -> None:
    """queue="auto" asks the model itself, and moves over to the queue when it has answered 429 for a minute."""
    hosts = Hosts({"gpt-4.1": 429})
    with virtual_time(hosts) as clock:
        readings = list(client(queue="auto").read_many([PNG] * 30, "caption"))
        assert 60 <= clock.now < 120
    assert {reading.text for reading in readings} == {"by queue"}
    assert hosts.asked["queue"] == 30
    assert hosts.asked["gpt-4.1"] < 30
    hosts.down.clear()
    with virtual_time(hosts):
        assert client(queue="auto").read(PNG, "caption").text == "by gpt-4.1"


def test_without_the_queue_a_minute_of_refusals_is_waited_out() -> None:
    """queue=False, the default, never asks the queue: the patience of the limits decides."""
    hosts = Hosts({"gpt-4.1": 429})
    with virtual_time(hosts) as clock:
        with pytest.raises(RateLimitError):
            client().read(PNG, "caption")
        assert 300 <= clock.now < 330
    assert not hosts.asked["queue"]


def test_who_stands_in_keeps_to_the_same_rules() -> None:
    """The other model takes images, and runs where the residency allows; else it is refused at once."""
    with pytest.raises(ResidencyError):
        client(model="Qwen3-VL-30B-A3B-Instruct-FP8", fallback_model="gpt-4o", residency="germany")
    with pytest.raises(SettingsError, match="does not take images"):
        client(fallback_model="text-embedding-bge-m3")
    with pytest.raises(SettingsError, match="queue="):
        client(queue="sometimes")


def test_the_sdks_clients_move_over_to_the_queue_too() -> None:
    """With queue="auto" a chat request goes through the queue after a minute of 429s; streams and texts do not."""
    hosts = Hosts({"gpt-4.1": 429})
    options: dict[str, Any] = {"base_url": "http://service.example/v2", "api_key": "k", "queue": "auto"}
    body = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "Hello"}]}
    with virtual_time(hosts) as clock, http_client(**options, limits=Limits(patience=200)) as http:
        assert http.post("/chat/completions", json=body).json()["choices"][0]["message"]["content"] == "by queue"
        assert 50 < clock.now < 80
        assert http.post("/chat/completions", json=body).is_success
        assert clock.now < 85  # it is known now
        assert http.post("/chat/completions", json={**body, "stream": True}).status_code == 429
    assert hosts.asked["queue"] == 2
    with pytest.raises(SettingsError, match="queue"):
        http_client(**{**options, "queue": "later"})
