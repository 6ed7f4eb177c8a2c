"""How requests are sent: paced, retried by one authority, bounded in time, on pooled connections."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import threading
import warnings
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from aifs_vision import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    Limits,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTooLargeError,
    ResidencyError,
    ServiceError,
    SettingsError,
    UnexpectedAnswerError,
    Vision,
    async_http_client,
    http_client,
)
from aifs_vision.emulator import Emulator
from aifs_vision.testing import isolated, virtual_time
from tests.pictures import corners, saved
from tests.servers import accepting, refusing_proxy
from tests.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PNG = saved(corners())


# -- Retries -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [408, 409, 425, 500, 502, 503, 504, "reset", "reset_body", "html", "cut_json"])
def test_passing_faults_are_tried_again(vision: Vision, server: Emulator, fault: Any) -> None:
    """A fault that may pass is tried again, once for each time it happens, and then forgotten."""
    server.fail(fault, times=2, retry_after=0.001)
    with virtual_time():
        reading = vision.read(PNG)
    assert reading.ok
    assert reading.attempts == len(server.requests) == 3


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (422, BadRequestError),
    ],
)
def test_lasting_faults_are_not(vision: Vision, server: Emulator, fault: Any, kind: type[APIError]) -> None:
    """A refusal that another attempt would not change is an error of its class, after one request."""
    server.fail(fault, times=5)
    with pytest.raises(kind, match=f"scripted fault {fault}") as caught:
        vision.read(PNG)
    assert (caught.value.status, caught.value.attempts) == (fault, 1)
    assert caught.value.request_id
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (503, ServiceError),
        ("reset", APIConnectionError),
        ("reset_body", APIConnectionError),
        ("html", UnexpectedAnswerError),
        ("cut_json", UnexpectedAnswerError),
    ],
)
def test_attempts_are_bounded(vision: Vision, server: Emulator, fault: Any, kind: type[APIError]) -> None:
    """A fault that stays is an error after four requests, and the error says how many there were."""
    server.fail(fault, times=10)
    with virtual_time(), pytest.raises(kind) as caught:
        vision.read(PNG)
    assert caught.value.attempts == len(server.requests) == 4


def test_a_picture_too_large_is_sent_once_more_and_smaller(vision: Vision, server: Emulator) -> None:
    """413 is answered by a smaller picture, once; the error says how many requests there were."""
    server.fail(413, times=5)
    with pytest.raises(RequestTooLargeError, match="scripted fault 413") as caught:
        vision.read(PNG)
    assert caught.value.status == 413
    assert caught.value.attempts == len(server.requests) == 2


def test_an_answer_without_a_choice_is_an_error(vision: Vision, server: Emulator) -> None:
    """A success without a choice is asked for once more, and then an error, never an empty text."""
    server.fail("no_choices")
    assert vision.read(PNG).requests == 2
    server.fail("no_choices", times=2)
    with pytest.raises(UnexpectedAnswerError, match="without a choice"):
        vision.read(PNG)


def test_a_429_uses_up_no_attempt(vision: Vision, server: Emulator) -> None:
    """A 429 is flow control: however often it comes, the item goes on when it may."""
    server.fail(429, times=9, retry_after=0.01)
    with virtual_time():
        reading = vision.read(PNG)
    assert reading.ok
    assert reading.attempts == len(server.requests) == 10


HINTS: dict[str, tuple[dict[str, str], str | None]] = {
    "retry-after-ms": ({"retry-after-ms": "250", "retry-after": "30"}, None),
    "Retry-After": ({"retry-after": "0.25"}, None),
    "reset header": ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "250ms"}, None),
    "words": ({}, '{"detail": "Rate limit reached, please try again in 250ms."}'),
    "retryDelay": ({}, '{"error": {"message": "quota", "details": [{"retryDelay": "0.25s"}]}}'),
}


@pytest.mark.parametrize("hint", HINTS)
def test_the_services_hint_is_heeded(vision: Vision, server: Emulator, hint: str) -> None:
    """After a 429 nobody sends before the time that header or body ask for."""
    headers, body = HINTS[hint]
    server.fail(429, headers=headers, body=body)
    assert vision.read(PNG).ok
    first, second = server.requests
    assert second.started - first.started >= 0.25


def test_a_429_holds_everybody_back(server: Emulator) -> None:
    """The cool-down of a 429 is the line's, not the item's: no other request is sent in it."""
    vision = Vision(base_url=server.base_url, api_key=server.api_key, limits=Limits(in_flight=1))
    server.fail(429, retry_after=0.3)
    assert [reading.status for reading in vision.read_many([PNG] * 4)] == ["ok"] * 4
    arrivals = [request.started for request in server.requests]
    assert len(arrivals) == 5
    assert arrivals[1] - arrivals[0] >= 0.3


def test_an_absurd_hint_is_capped(server: Emulator) -> None:
    """A hint of hours parks nothing: beyond one's patience it is an error at once, with the service's words."""
    limits = Limits(patience=30)
    vision = Vision(base_url=server.base_url, api_key=server.api_key, limits=limits)
    server.fail(429, headers={"retry-after": "86400"}, times=2)
    with pytest.raises(RateLimitError):
        vision.read(PNG)
    assert len(server.requests) == 1


# -- Words -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"detail": "no such plan"}', "no such plan"),
        ('{"detail": [{"loc": ["body", "model"], "msg": "Field required"}]}', "body.model: Field required"),
        ('{"error": {"message": "quota used up", "code": "x"}}', "quota used up"),
        ('{"error": "just words"}', "just words"),
        ("plain words", "plain words"),
    ],
)
def test_errors_have_the_services_words(vision: Vision, server: Emulator, body: str, words: str) -> None:
    """Whichever shape the body has, the error has its words."""
    server.fail(400, body=body)
    with pytest.raises(BadRequestError, match=words.replace(".", r"\.")) as caught:
        vision.read(PNG)
    assert caught.value.detail == words


def test_a_gateways_page_is_not_quoted(vision: Vision, server: Emulator) -> None:
    """An HTML page in an error's body says nothing and is not shown."""
    server.fail(403, body="<html><body>Forbidden</body></html>")
    with pytest.raises(PermissionDeniedError) as caught:
        vision.read(PNG)
    assert "<" not in str(caught.value)


def test_both_error_shapes_of_the_service(server: Emulator) -> None:
    """A model on T-Cloud answers {"detail"}, one on Azure {"error"}; both are understood."""
    for model in ("Qwen3-VL-30B-A3B-Instruct-FP8", "gpt-4.1"):
        vision = Vision(model, base_url=server.base_url, api_key=server.api_key, limits=Limits())
        server.fail(400)
        with pytest.raises(BadRequestError, match="scripted fault 400"):
            vision.read(PNG)


# -- Time --------------------------------------------------------------------------------------------------


def test_a_silent_server_is_given_up(server: Emulator) -> None:
    """A server that never answers ends in an error after two timeouts, not after for ever."""
    vision = Vision(base_url=server.base_url, api_key=server.api_key, limits=Limits(), timeout=0.2)
    server.fail("stall", times=5)
    with pytest.raises(APITimeoutError, match=r"timeout=") as caught:
        vision.read(PNG)
    assert caught.value.attempts == 2


def test_a_dripping_server_is_given_up() -> None:
    """A server that sends a byte now and then does not get around the timeout: it bounds the whole answer."""
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n")
        for _ in range(100):
            if stop.wait(0.05):
                return
            connection.sendall(b" ")

    with accepting(drip) as (url, _):
        with pytest.raises(APITimeoutError):
            Vision(base_url=url, api_key="k", timeout=0.3).read(PNG)
        stop.set()


def test_an_unreachable_server_is_a_clear_error() -> None:
    """Where nothing listens, the error names the address and what to check."""
    with socket.socket() as nobody:  # has a port, and does not listen
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/v2"
        with virtual_time(), pytest.raises(APIConnectionError) as caught:
            Vision(base_url=url, api_key="k").read(PNG)
    assert url in str(caught.value)
    assert "HTTPS_PROXY" in str(caught.value)


# -- Pacing ------------------------------------------------------------------------------------------------


def test_a_known_limit_is_kept_without_a_single_429() -> None:
    """Under a strict limit that is known, the run is paced: all are read, and the server refuses none."""
    strict = Service(limit=20, window=2.0, latency=0.02)  # 10 a second
    with virtual_time(strict):
        vision = Vision(base_url="http://service.example/v2", api_key="k", limits=Limits(requests_per_minute=600))
        readings = list(vision.read_many([PNG] * 30))
    assert [reading.status for reading in readings] == ["ok"] * 30
    assert strict.statuses == {200: 30}
    assert strict.arrivals[-1] - strict.arrivals[0] >= 29 / (600 * 0.95 / 60) * 0.98


def test_token_budgets_pace_as_well(server: Emulator) -> None:
    """A budget of input tokens holds back requests that the budget of requests would let go."""
    vision = Vision(base_url=server.base_url, api_key=server.api_key, limits=Limits(input_tokens_per_minute=6_000))
    picture = saved(corners(1024, 1024))  # 1,026 tokens and the prompt: about six a minute
    with virtual_time() as clock:
        readings = list(vision.read_many([("a.png", picture)] * 4, "caption"))
        tokens = sum(reading.usage.input_tokens for reading in readings[:-1])
        assert clock.now >= tokens / (6_000 * 0.95 / 60) * 0.9


def test_an_item_larger_than_its_budget_still_goes(server: Emulator) -> None:
    """A picture that takes more tokens than a minute allows is sent, not held for ever."""
    limits = Limits(input_tokens_per_minute=60, output_tokens_per_minute=60)
    vision = Vision(base_url=server.base_url, api_key=server.api_key, limits=limits)
    with virtual_time() as clock:
        assert vision.read(saved(corners(1024, 1024))).ok
        assert clock.now < 60
        assert vision.read(saved(corners(1024, 1024))).ok  # and pays for it afterwards
        assert clock.now > 1000


def test_limits_without_numbers_do_not_pace(server: Emulator) -> None:
    """Gemini's shared quota has no figure: nothing is paced, and a 429 is waited out."""
    vision = Vision("gemini-2.5-flash", base_url=server.base_url, api_key=server.api_key)
    server.fail(429, retry_after=0.01)
    assert [reading.status for reading in vision.read_many([PNG] * 10)] == ["ok"] * 10


# -- Connections -------------------------------------------------------------------------------------------


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[str]]]:
    """An HTTP proxy that notes what it was asked for; its address, and its notes."""
    with refusing_proxy() as given:
        yield given


def test_proxies_of_the_environment_are_used(
    proxy: tuple[str, list[str]], server: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP_PROXY and its like lead requests through the proxy, NO_PROXY around it."""
    address, asked = proxy
    monkeypatch.setenv("HTTP_PROXY", address)
    vision = Vision(base_url="http://service.example/v2", api_key="k")
    with pytest.raises(BadRequestError, match="from the proxy"):
        vision.read(PNG)
    assert asked == ["POST http://service.example/v2/chat/completions HTTP/1.1"]
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert Vision(base_url=server.base_url, api_key=server.api_key).read(PNG).ok


def test_a_redirect_is_not_followed(vision: Vision, server: Emulator) -> None:
    """A redirect would carry picture and key elsewhere: it is an error."""
    server.fail(307, headers={"location": "http://elsewhere.example/"})
    with pytest.raises(APIError, match="HTTP 307"):
        vision.read(PNG)


def stream_body(model: str) -> dict[str, Any]:
    """A chat request for a stream."""
    return {"model": model, "messages": [{"role": "user", "content": "Tell me"}], "stream": True}


def test_a_stream_holds_its_slot_until_it_is_closed(server: Emulator) -> None:
    """A streamed answer counts as in flight until its body is closed, also when the caller leaves in its middle."""
    limits, model = Limits(in_flight=1), "gpt-4o"
    vision = Vision(model, base_url=server.base_url, api_key=server.api_key, limits=limits)
    waited = []
    with http_client(base_url=server.base_url, api_key=server.api_key, limits=limits) as client:
        with client.stream("POST", "/chat/completions", json=stream_body(model)) as answer:
            other = threading.Thread(target=lambda: waited.append(vision.read(PNG).status))
            other.start()
            other.join(0.3)
            assert not waited  # the only slot is taken
            assert next(answer.iter_lines()).startswith("data: ")
        other.join()
    assert waited == ["ok"]


def test_an_asynchronous_stream_comes_whole(server: Emulator) -> None:
    """A stream read on the caller's loop has all its events, on any number of loops."""
    client = async_http_client(base_url=server.base_url, api_key=server.api_key)

    async def events() -> list[str]:
        async with client.stream("POST", "/chat/completions", json=stream_body("gpt-4o")) as answer:
            return [line async for line in answer.aiter_lines() if line]

    for _ in range(3):
        assert asyncio.run(events())[-1] == "data: [DONE]"
    asyncio.run(client.aclose())


def test_a_stream_that_breaks_is_an_error(server: Emulator) -> None:
    """A stream whose connection breaks in its middle raises where it is read, and frees its slot."""
    server.fail("reset_body")
    limits = Limits(in_flight=1)
    with http_client(base_url=server.base_url, api_key=server.api_key, limits=limits) as client:
        stream = client.stream("POST", "/chat/completions", json=stream_body("gpt-4o"))
        with stream as answer, pytest.raises(httpx.TransportError):
            list(answer.iter_lines())
        assert client.post("/chat/completions", json={**stream_body("gpt-4o"), "stream": False}).is_success


def test_leaving_early_forgets_no_connection() -> None:
    """A caller who leaves while the connections of a server that is gone are closed leaves none of them open."""
    gc.collect()  # what others have left
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for moment in range(12):
            with isolated(), socket.create_server(("127.0.0.1", 0)) as listener:
                asyncio.run(leave_after(moment * 0.00005, listener))
        gc.collect()
    assert [str(warning.message) for warning in seen] == []


async def leave_after(seconds: float, listener: socket.socket) -> None:
    """Eight connections that the server has closed, and a request that is cancelled so much later."""
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v2"
    client = async_http_client(base_url=url, api_key="k", limits=Limits(in_flight=8))
    gone = threading.Event()

    def serve() -> None:
        connections = [listener.accept()[0] for _ in range(8)]
        for connection in connections:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        gone.wait()
        for connection in connections:
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    await asyncio.gather(*(client.get("/models") for _ in range(8)))
    gone.set()
    thread.join()
    late = asyncio.create_task(client.get("/models"))
    await asyncio.sleep(seconds)
    late.cancel()
    await asyncio.wait([late])


# -- Odd answers and ways ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, "[" * 200_000),
        (400, "[" * 200_000),
        (422, json.dumps({"detail": [{"loc": None, "msg": "field required"}, {"loc": 5}, "odd"]})),
        (200, json.dumps({"choices": [{"message": {"content": "half"}, "finish_reason": "error"}]})),
        (200, json.dumps({"choices": [{"message": {"content": "x"}, "finish_reason": "stop", "error": "down"}]})),
    ],
)
def test_odd_answers_are_errors_of_the_tree(vision: Vision, server: Emulator, status: int, body: str) -> None:
    """Whatever JSON a gateway makes up, it is one image's error, and never a result."""
    server.fail(status, body=body, times=9)
    with virtual_time():
        (reading,) = vision.read_many([PNG], "ocr", on_error="keep")
    assert isinstance(reading.error, APIError)
    assert reading.text == ""


def test_a_key_that_the_service_repeats_is_not_shown() -> None:
    """The service's own words are shown, but for the key in them."""
    key = "sk-very-secret-0815"
    with Emulator(ocr=False, api_key=key) as server:
        server.fail(400, body=json.dumps({"detail": f"Incorrect API key provided: {key}"}))
        (reading,) = Vision(base_url=server.base_url, api_key=key, limits=Limits()).read_many([PNG], on_error="keep")
    assert "Incorrect API key provided: ***" in str(reading.error)
    assert key not in f"{reading.metadata()} {reading!r}"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("HTTP_PROXY", "http://user:hunter2@127.0.0.1:bad", "HTTP_PROXY"),
        ("ALL_PROXY", "nonsense://127.0.0.1:9", "ALL_PROXY"),
    ],
)
def test_a_way_that_cannot_be_gone_is_a_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    """A proxy that is none is a SettingsError that names the variables, and no password."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        Vision(base_url="http://service.example/v2", api_key="k").read(PNG)
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_certificates_that_are_not_there_are_a_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file of certificates that is missing, or has none, is a SettingsError that names the variable."""
    (tmp_path / "no.pem").write_text("nothing")
    for path in (tmp_path / "missing.pem", tmp_path / "no.pem"):
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        with pytest.raises(SettingsError, match="SSL_CERT_FILE"):
            Vision(base_url="https://service.example/v2", api_key="k").read(PNG)


def test_a_residency_guards_bodies_that_cannot_be_read(server: Emulator) -> None:
    """With a residency, a body whose model cannot be told, such as an upload, is not sent; without one it is."""
    for residency in ("germany", None):
        client = http_client(base_url=server.base_url, api_key=server.api_key, residency=residency)
        upload = {"image": ("a.png", PNG, "image/png")}
        if residency:
            with pytest.raises(ResidencyError):
                client.post("/images/edits", data={"model": "gpt-image-1"}, files=upload)
            assert not server.requests
        else:
            assert client.post("/images/edits", data={"model": "gpt-image-1"}, files=upload).status_code == 404
