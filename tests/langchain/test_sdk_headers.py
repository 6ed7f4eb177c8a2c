"""OpenAI's SDK on the project's transport: what its users give is sent, what its environment says is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest

from aifs_vision import http_client
from langchain_aifs import ChatAIFS

if TYPE_CHECKING:
    from aifs_vision.emulator import Emulator

pytestmark = pytest.mark.usefixtures("environment")

FROM_THERE = "X-Team: theirs\nX-Poison: yes\nX-Two: a:b \r\nAuthorization: Bearer poison\nnonsense\nX-Empty:"


def sent(server: Emulator, headers: dict[str, str], /, **given: Any) -> dict[str, str]:
    """The headers of a question by the SDK, which is given these, as the server has them; `given` to its client."""
    options: dict[str, Any] = {"http_client": http_client(**given), "default_headers": headers}
    client = openai.OpenAI(api_key="none", base_url=server.base_url, max_retries=0, **options)
    client.chat.completions.create(model="gpt-4.1", messages=[{"role": "user", "content": "Hello"}])
    return server.requests[-1].headers


@pytest.mark.parametrize("name", ["X-Team", "x-team"])
def test_headers_of_the_user_are_sent_and_those_of_the_environment_are_not(
    server: Emulator, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """OPENAI_CUSTOM_HEADERS adds nothing, and takes away nothing that somebody has given under a name in it."""
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", FROM_THERE)
    headers = sent(server, {name: "mine", "X-Other": "too"})
    assert (headers["x-team"], headers["x-other"]) == ("mine", "too")
    assert not {"x-poison", "x-two", "x-empty"} & headers.keys()
    assert headers["authorization"] == f"Bearer {server.api_key}"
    assert "x-team" not in sent(server, {})


def test_the_chat_model_does_so_too(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """`default_headers` of a chat model are sent, for chats and for /responses, whatever the environment says."""
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", FROM_THERE)
    for options in ({}, {"use_responses_api": True}):
        ChatAIFS(model="gpt-4.1", default_headers={"X-Team": "mine"}, **options).invoke("Hello")
        headers = server.requests[-1].headers
        assert headers["x-team"] == "mine"
        assert not {"x-poison", "x-two", "x-empty"} & headers.keys()


@pytest.mark.parametrize("name", ["X-Team", "x-team"])
def test_headers_that_the_environment_has_too_are_sent(
    server: Emulator, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A header of the user's own is sent, though OPENAI_CUSTOM_HEADERS has one of its name and value."""
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", FROM_THERE)
    own = {name: "theirs"}
    for given in ({}, own, {"X-Team": "mine"}):
        assert sent(server, given, headers=own)["x-team"] == given.get("X-Team", "theirs")
    for options in ({}, {"use_responses_api": True}):
        ChatAIFS(model="gpt-4.1", default_headers=own, **options).invoke("Hello")
        headers = server.requests[-1].headers
        assert headers["x-team"] == "theirs"
        assert not {"x-poison", "x-two", "x-empty"} & headers.keys()
    ChatAIFS(model="gpt-4.1", default_headers={"X-Team": "mine"}).invoke("Hello", extra_headers=own)
    assert server.requests[-1].headers["x-team"] == "theirs"
    assert sent(server, {}, headers={"Authorization": "x"})["authorization"] == f"Bearer {server.api_key}"
