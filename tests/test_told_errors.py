"""Errors that are told with status 200: in the body, or in an event of a stream; by the words of the service."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from aifs_vision import APIError, ContextLengthError, UnexpectedAnswerError, Vision, async_http_client, http_client
from aifs_vision.testing import virtual_time
from tests.pictures import corners, saved

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aifs_vision.emulator import Emulator

MODEL = "gpt-4.1"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
SSE = {"content-type": "text/event-stream"}
WORDS = "This model's maximum context length is 9 tokens"
FULL = {"message": "Too much", "type": "invalid_request_error", "code": "context_length_exceeded"}
RESPONSE = {"id": "resp_1", "object": "response", "output": [], "status": "failed"}

TOLD: list[tuple[Any, type[APIError], str]] = [
    ({"error": {"message": WORDS}}, ContextLengthError, "9 tokens"),
    ({"error": FULL}, ContextLengthError, "Too much"),
    ({"error": "the GPU is on fire"}, UnexpectedAnswerError, "on fire"),
    ({"detail": "the GPU is on fire"}, UnexpectedAnswerError, "on fire"),
    ({"detail": WORDS}, ContextLengthError, "9 tokens"),
    ({**RESPONSE, "error": {"code": "server_error", "message": "on fire"}}, UnexpectedAnswerError, "on fire"),
    ({**RESPONSE, "error": None}, UnexpectedAnswerError, "failed|error"),
    ({"object": "error", "message": "the GPU is on fire", "code": 500}, UnexpectedAnswerError, "on fire"),
    ({"object": "error", "message": WORDS, "type": "BadRequestError", "code": 400}, ContextLengthError, "9 tokens"),
]
EVENTS: list[tuple[Any, type[APIError], str]] = [
    *TOLD,
    ({"type": "error", "code": "server_error", "message": "on fire", "param": None}, UnexpectedAnswerError, "on fire"),
    (
        {"type": "response.failed", "response": {**RESPONSE, "error": {"code": "x", "message": WORDS}}},
        ContextLengthError,
        "9 tokens",
    ),
]


def asked(server: Emulator, body: dict[str, Any], got: list[bytes]) -> list[Callable[[], None]]:
    """Waits for the answer, and awaits it; `got` has what has come of it."""
    options: Any = {"base_url": server.base_url, "api_key": server.api_key}

    def waited() -> None:
        with http_client(**options) as http, http.stream("POST", "/chat/completions", json=body) as answer:
            for piece in answer.iter_raw():
                got.append(piece)  # noqa: PERF402 - one by one: what came before an error counts

    async def awaited() -> None:
        async with (
            async_http_client(**options) as http,
            http.stream("POST", "/chat/completions", json=body) as answer,
        ):
            async for piece in answer.aiter_raw():
                got.append(piece)  # noqa: PERF401 - as above

    return [waited, lambda: asyncio.run(awaited())]


@pytest.mark.parametrize(("body", "kind", "words"), TOLD)
def test_a_success_that_tells_an_error_is_one(server: Emulator, body: Any, kind: type[APIError], words: str) -> None:
    """A 200 whose body is an error, in any shape, is the error that a refusal with these words would be."""
    for way in asked(server, CHAT, []):
        server.fail(200, body=json.dumps(body))
        with pytest.raises(kind, match=words) as raised:
            way()
        assert type(raised.value) is kind


@pytest.mark.parametrize(("body", "kind", "words"), TOLD)
def test_readings_know_them_too(server: Emulator, body: Any, kind: type[APIError], words: str) -> None:
    """The engine keeps the service's words of a 200 that is none; where the context is full, it asks with less."""
    server.fail(200, body=json.dumps(body), times=8)
    vision = Vision(MODEL, base_url=server.base_url, api_key=server.api_key)
    with pytest.raises(kind, match=words):
        vision.read(saved(corners()), "caption")


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r", ""])
@pytest.mark.parametrize(("event", "kind", "words"), EVENTS)
def test_an_event_that_tells_an_error_raises_it(
    server: Emulator, event: Any, kind: type[APIError], words: str, end: str
) -> None:
    """What came before the event is given; then the error is raised, whatever ends its line; nothing comes after."""
    good = f'data: {{"choices": [{{"delta": {{"content": "error"}}}}], "error": null}}{end or chr(10)}'
    after = good if end else ""
    got: list[bytes] = []
    for way in asked(server, {**CHAT, "stream": True}, got):
        server.fail(200, body=good + f"data: {json.dumps(event)}{end}" + after, headers=SSE)
        with pytest.raises(kind, match=words) as raised:
            way()
        assert type(raised.value) is kind
        given = b"".join(got).decode()
        assert given == good or (not end and given.startswith(good))  # an event without an end is none to its reader
        got.clear()


@pytest.mark.parametrize("data", ['{"message": "on fire"}', '{"error": "on fire"}', "on fire", '"on fire"'])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_an_event_may_be_called_an_error(server: Emulator, data: str, end: str) -> None:
    """Of an event with that name any data is the error; data about errors, and the events before, are not."""
    before = f"event: errors{end}data: error{end * 2}:event: error{end}data: {{}}{end * 2}"
    got: list[bytes] = []
    for way in asked(server, {**CHAT, "stream": True}, got):
        server.fail(200, body=f"{before}event: error{end}data: {data}{end * 2}data: [DONE]{end}", headers=SSE)
        with pytest.raises(UnexpectedAnswerError, match="on fire"):
            way()
        assert b"".join(got).decode() == f"{before}event: error{end}"
        got.clear()


def in_pieces(size: int, body: bytes) -> Any:
    """A service that streams this body in pieces of so many bytes."""

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    async def answered(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=SSE, content=pieces())

    return answered


def streamed(body: bytes, size: int) -> bytes:
    """What readers are given of a body that comes in pieces of so many bytes."""
    with (
        virtual_time(in_pieces(size, body)),
        http_client(base_url="http://service.example/v2", api_key="k") as http,
        http.stream("POST", "/chat/completions", json={**CHAT, "stream": True}) as answer,
    ):
        return b"".join(answer.iter_raw())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 9_999])
def test_errors_are_told_in_pieces_too(size: int) -> None:
    """An error is one, and a mark of UTF-8 is left out, however the stream is cut."""
    good = b"data: 1\n\n"
    for end in (b"event: error\ndata: on fire\n\n", b'data: {"object": "error", "message": "on fire"}\n\n'):
        with pytest.raises(UnexpectedAnswerError, match="on fire"):
            streamed(good + end, size)
    with pytest.raises(UnexpectedAnswerError, match="on fire"):
        streamed(json.dumps({"error": {"message": "on fire"}}, indent=2).encode(), size)
    with pytest.raises(UnexpectedAnswerError, match="on fire in K"):
        streamed(good + b'data: {"error": "on fire in K\xf6ln"}\n\n', size)  # Latin-1, as some proxies write it
    assert streamed(b"\xef\xbb\xbf" + good, size) == good
    assert streamed(good + b"\xef\xbb\xbf", size) == good + b"\xef\xbb\xbf"


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("before", ["", "\n \n"])
def test_a_stream_may_be_refused_without_one(server: Emulator, indent: int | None, before: str) -> None:
    """A host that answers a stream's request with a JSON error and status 200 is quoted as well."""
    for way in asked(server, {**CHAT, "stream": True}, []):
        server.fail(200, body=before + json.dumps({"detail": "no streams today"}, indent=indent))
        with pytest.raises(UnexpectedAnswerError, match="no streams today"):
            way()


def test_keys_in_told_errors_are_not_shown(server: Emulator) -> None:
    """A key that the service repeats is hidden, whole and in streams."""
    for stream in (False, True):
        for way in asked(server, {**CHAT, "stream": stream}, []):
            server.fail(200, body=f'data: {{"error": "not {server.api_key}"}}\n' if stream else
                        json.dumps({"error": f"not {server.api_key}"}), headers=SSE)  # fmt: skip
            with pytest.raises(UnexpectedAnswerError) as raised:
                way()
            assert server.api_key not in str(raised.value)


def test_words_about_errors_are_no_errors(server: Emulator) -> None:
    """Texts, fields and details named like errors pass, in pieces of any size."""
    events = [
        {"choices": [{"delta": {"content": '{"error": "x"}'}}], "detail": "x", "error": None},
        {"type": "response.created", "response": {"error": None, "status": "in_progress"}, "detail": "y"},
        "error",
        {"choices": [], "usage": {"prompt_tokens": 1}},
    ]
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: {error\n\ndata: [DONE]\n\n"
    got: list[bytes] = []
    for way in asked(server, {**CHAT, "stream": True}, got):
        server.fail(200, body=body, headers=SSE)
        way()
    assert b"".join(got).decode() == 2 * body
