"""Copies of chat models, and assignments to them: what they say is what they do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from aifs_vision import APITimeoutError, AuthenticationError, Limits, ResidencyError, SettingsError, model_card
from aifs_vision.emulator import Emulator
from langchain_aifs import ChatAIFS

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("environment")

QWEN = "Qwen3-VL-30B-A3B-Instruct-FP8"


def copied(chat: ChatAIFS, name: str, value: Any) -> ChatAIFS:
    """A copy with another value."""
    return chat.model_copy(update={name: value})


def assigned(chat: ChatAIFS, name: str, value: Any) -> ChatAIFS:
    """The same model, to which the value is assigned."""
    setattr(chat, name, value)
    return chat


both_ways = pytest.mark.parametrize("changed", [copied, assigned])


@both_ways
def test_residency_holds_for_copies_and_assignments(server: Emulator, changed: Callable[..., ChatAIFS]) -> None:
    """A model abroad cannot be told that it stays in the country: nothing is sent, and it stays what it was."""
    chat = ChatAIFS(model="gpt-4.1")
    with pytest.raises(ResidencyError):
        changed(chat, "residency", "germany")
    assert chat.residency is None
    at_home = ChatAIFS(residency="germany")
    with pytest.raises(ResidencyError):
        changed(at_home, "model_name", "gpt-4.1")
    assert at_home.model_name == QWEN
    with pytest.raises(ResidencyError):
        changed(ChatAIFS(), "residency", "germany").bind(model="gpt-4.1").invoke("Hello")
    assert not server.requests


@both_ways
def test_key_address_queue_and_time_are_those_it_has(server: Emulator, changed: Callable[..., ChatAIFS]) -> None:
    """Requests go with the new key, to the new address, through the queue or not, and wait as long as is said."""
    with pytest.raises(AuthenticationError):
        changed(ChatAIFS(), "openai_api_key", SecretStr("another")).invoke("Hello")
    with Emulator(ocr=False) as other:
        changed(ChatAIFS(api_key=other.api_key), "openai_api_base", other.base_url).invoke("Hello")
        assert len(other.requests) == 1
    queued = changed(ChatAIFS(), "queue", value=True)
    assert list(queued.stream("Hello"))
    assert server.requests[-1].path == "/queue/chat/completions"
    assert list(changed(queued, "queue", value=False).stream("Hello"))
    assert server.requests[-1].path == "/v2/chat/completions"
    assert server.requests[-1].body["stream"] is True
    server.fail("slow", seconds=1.0, times=9)
    with pytest.raises(APITimeoutError):
        changed(ChatAIFS(), "request_timeout", 0.05).invoke("Hello")


@both_ways
def test_the_profile_follows_the_model(server: Emulator, changed: Callable[..., ChatAIFS]) -> None:
    """Another model has its own profile and is asked; a profile of one's own stays."""
    chat = changed(ChatAIFS(), "model_name", "gpt-4.1")
    assert chat.profile is not None
    assert chat.profile["name"] == model_card("gpt-4.1").display_name
    chat.invoke("Hello")
    assert server.requests[-1].model == "gpt-4.1"
    assert changed(ChatAIFS(profile={"max_input_tokens": 7}), "model_name", "gpt-4.1").profile == {
        "max_input_tokens": 7
    }


@both_ways
def test_other_values_and_wrong_ones(changed: Callable[..., ChatAIFS]) -> None:
    """What else was set stays; values are checked as those given to the class."""
    chat = changed(ChatAIFS(temperature=0.3, max_tokens=9, image_size=700), "limits", Limits(in_flight=2))
    assert (chat.temperature, chat.max_tokens, chat.image_size) == (0.3, 9, 700)
    with pytest.raises(ValueError, match="queue"):
        changed(chat, "queue", "sometimes")
    with pytest.raises(SettingsError, match="golden"):
        changed(chat, "plan", "golden")


def test_copies_are_their_own(server: Emulator) -> None:
    """A copy leaves the model alone that it was made of; names may be those of the arguments; unknown ones are none."""
    chat = ChatAIFS()
    assert chat.model_copy(update={"model": "gpt-4.1", "temperature": 0.1}, deep=True).invoke("Hello").text
    assert server.requests[-1].body["temperature"] == 0.1
    assert (chat.model_name, chat.temperature) == (QWEN, None)
    assert chat.model_copy(deep=True).invoke("Hello").text
    with pytest.raises(TypeError, match="residenzy"):
        chat.model_copy(update={"residenzy": "germany"})
