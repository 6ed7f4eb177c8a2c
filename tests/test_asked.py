"""What an SDK's request is expected to use: the same for a chat and for /responses, with pictures by their sizes."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest
from PIL import Image

from aifs_vision import Limits, http_client, image_tokens, text_tokens
from aifs_vision.testing import virtual_time
from tests.pictures import saved

MODEL = "gpt-4o"
WORDS = "What is written on the sign beside the road to the lake? " * 20


def uri(width: int, height: int) -> str:
    """A picture of this size."""
    return "data:image/png;base64," + base64.b64encode(saved(Image.new("L", (width, height), 128))).decode()


LARGE, SMALL = uri(1500, 700), uri(60, 40)


def reserved(path: str, body: dict[str, Any]) -> float:
    """The input tokens that are set aside for a request: by how long the one after it has to wait."""

    async def answered(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"choices": [{"message": {"content": "x"}}], "output": [], "data": []})

    limits = Limits(input_tokens_per_minute=600)
    with (
        virtual_time(answered) as clock,
        http_client(base_url="http://service.example/v2", api_key="k", limits=limits) as http,
    ):
        assert http.post(path, json={"model": MODEL, **body}).is_success
        begun = clock.now
        assert http.post(path, json={"model": MODEL, **body}).is_success
        return (clock.now - begun) * 10 * 0.95  # of the limit's 10 a second


def chat(*parts: dict[str, Any]) -> dict[str, Any]:
    """A chat with these parts."""
    return {"messages": [{"role": "user", "content": list(parts)}]}


def said(text: str) -> dict[str, Any]:
    """A text, as a part of an input."""
    return {"type": "input_text", "text": text}


def shown(url: str) -> dict[str, Any]:
    """A picture, as a part of an input."""
    return {"type": "input_image", "image_url": url}


CHAT = chat({"type": "text", "text": WORDS}, {"type": "image_url", "image_url": {"url": LARGE}})
CALL = {"type": "function_call", "call_id": "c", "name": "look", "arguments": WORDS}
SAME: dict[str, dict[str, Any]] = {
    "parts": {"input": [{"role": "user", "content": [said(WORDS), shown(LARGE)]}]},
    "instructions": {"instructions": WORDS, "input": [{"role": "user", "content": [shown(LARGE)]}]},
    "a text and parts": {
        "input": [{"role": "system", "content": WORDS}, {"type": "message", "role": "user", "content": [shown(LARGE)]}]
    },
    "a tool's result": {"input": [{"type": "function_call_output", "output": [said(WORDS), shown(LARGE)]}]},
    "a call": {"input": [CALL, {"type": "function_call_output", "output": [shown(LARGE)]}]},
}


@pytest.mark.parametrize("form", SAME)
def test_texts_and_pictures_count_in_every_form(form: str) -> None:
    """A request to /responses is expected to use what a chat with the same texts and pictures uses."""
    expected = text_tokens(WORDS) + image_tokens(MODEL, 1500, 700)
    assert reserved("/chat/completions", CHAT) == pytest.approx(expected, rel=0.05)
    assert reserved("/responses", SAME[form]) == pytest.approx(expected, rel=0.05)


def test_pictures_of_low_detail_count_as_such() -> None:
    """What a picture of low detail is expected to use is little, in chats and in /responses."""
    expected = text_tokens(WORDS) + image_tokens(MODEL, 1500, 700, detail="low")
    low = {"type": "image_url", "image_url": {"url": LARGE, "detail": "low"}}
    assert reserved("/chat/completions", chat({"type": "text", "text": WORDS}, low)) == pytest.approx(
        expected, rel=0.05
    )
    body = {"input": [{"role": "user", "content": [said(WORDS), {**shown(LARGE), "detail": "low"}]}]}
    assert reserved("/responses", body) == pytest.approx(expected, rel=0.05)


def test_pictures_count_by_their_sizes() -> None:
    """A small picture in an input counts as one, and not as a usual one; what is no picture at all does no harm."""
    for url, size in ((SMALL, (60, 40)), (LARGE, (1500, 700))):
        body = {"input": [{"role": "user", "content": [said(WORDS), shown(url)]}]}
        expected = text_tokens(WORDS) + image_tokens(MODEL, *size)
        assert reserved("/responses", body) == pytest.approx(expected, rel=0.05)
    odd = {"input": [None, {"role": "user", "content": [said(WORDS), {"type": "input_image"}]}, 5]}
    assert reserved("/responses", odd) > text_tokens(WORDS)


@pytest.mark.parametrize(
    ("path", "body", "written"),
    [
        ("/responses", {"input": "Hello"}, 500),
        ("/responses", {"input": "Hello", "max_output_tokens": 100}, 100),
        ("/chat/completions", chat({"type": "text", "text": "Hello"}), 500),
        ("/embeddings", {"input": "Hello"}, 0),
    ],
)
def test_room_for_the_answer_is_set_aside(path: str, body: dict[str, Any], written: int) -> None:
    """An answer's room is set aside, bounded by what is usual; embeddings write nothing."""

    async def answered(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"choices": [{"message": {"content": "x"}}], "output": [], "data": []})

    limits = Limits(output_tokens_per_minute=600)
    with (
        virtual_time(answered) as clock,
        http_client(base_url="http://service.example/v2", api_key="k", limits=limits) as http,
    ):
        for _ in range(2):
            begun = clock.now
            assert http.post(path, json={"model": MODEL, **body}).is_success
        assert (clock.now - begun) * 9.5 == pytest.approx(written, rel=0.1, abs=1)
