"""A call that names another model than the one of the settings is made as that one takes it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from aifs_vision import ResidencyError, SettingsError
from llama_index_aifs import AIFS
from tests.llama_index.scripts import scripted

if TYPE_CHECKING:
    from aifs_vision.emulator import Emulator

pytestmark = pytest.mark.usefixtures("environment")
HELLO = [ChatMessage(content="Hello")]


class Words(BaseModel):
    """Words of an answer."""

    text: str


def look() -> str:
    """Looks somewhere."""
    return "seen"


def sent(server: Emulator, at: int = -1) -> dict[str, Any]:
    """A request, but for what it says."""
    kept = ("messages", "stream", "stream_options", "tools", "tool_choice", "response_format")
    return {key: value for key, value in server.requests[at].body.items() if key not in kept}


def test_a_reasoning_model_is_not_sent_what_it_refuses(server: Emulator) -> None:
    """The temperature of the settings, by default or given, is for their model; one of the call is for this one."""
    for llm in (AIFS(), AIFS(temperature=0.7, logprobs=True, top_logprobs=2)):
        llm.chat(HELLO, model="o3", max_tokens=50)
        list(llm.stream_chat(HELLO, model="o3", max_tokens=50))
        asyncio.run(llm.achat(HELLO, model="o3", max_tokens=50))
        llm.chat_with_tools([FunctionTool.from_defaults(look)], "Look.", model="o3", max_tokens=50)
        for at in range(-4, 0):
            assert sent(server, at) == {"model": "o3", "max_completion_tokens": 50}
    with pytest.raises(Exception, match="temperature"):
        AIFS().chat(HELLO, model="o3", temperature=0.5)


def test_another_model_of_a_reasoning_one_is_asked_as_usual(server: Emulator) -> None:
    """Away from a reasoning model, the usual temperature is sent, its effort is not; the room has its usual name."""
    llm = AIFS("o3", max_tokens=50, reasoning_effort="low")
    llm.chat(HELLO, model="gpt-4.1")
    assert sent(server) == {"model": "gpt-4.1", "max_tokens": 50, "temperature": 0.1}
    llm.chat(HELLO, model="o1")
    assert sent(server) == {"model": "o1", "max_completion_tokens": 50, "reasoning_effort": "low"}
    llm.chat_with_tools([FunctionTool.from_defaults(look)], "Look.", model="gpt-4.1")
    assert sent(server)["parallel_tool_calls"] is False
    AIFS(temperature=None).chat(HELLO, model="gpt-4.1")
    assert "temperature" not in sent(server)


def test_a_model_of_the_settings_is_one_wherever_it_is_named(server: Emulator) -> None:
    """A model in `additional_kwargs` is that of all calls: window, tools and temperature are its own."""
    llm = AIFS(additional_kwargs={"model": "o3"})
    llm.chat(HELLO)
    assert sent(server) == {"model": "o3"}
    assert llm.metadata.context_window == AIFS("o3").metadata.context_window != AIFS().metadata.context_window
    assert AIFS(context_window=9_000, additional_kwargs={"model": "o3"}).metadata.context_window == 9_000


def test_tools_are_for_models_that_call_them(server: Emulator) -> None:
    """Tools for a model that calls none are an error before anything is sent."""
    with pytest.raises(SettingsError, match=r"'o1-mini'.*calls no tools"):
        AIFS().chat_with_tools([FunctionTool.from_defaults(look)], "Look.", model="o1-mini")
    assert not server.requests
    AIFS("o1-mini").chat_with_tools([FunctionTool.from_defaults(look)], "Look.", model="gpt-4.1")
    assert server.requests[-1].body["tools"]


def test_residency_is_that_of_the_model_asked(server: Emulator) -> None:
    """A model elsewhere is refused, though that of the settings is allowed."""
    with pytest.raises(ResidencyError):
        AIFS(residency="germany").chat(HELLO, model="gpt-4.1")
    assert not server.requests


def test_data_are_asked_for_as_the_model_knows_it(server: Emulator) -> None:
    """What one model's host has turned out to refuse says nothing of another model."""
    prompt = PromptTemplate("Say {what}.")
    with scripted('{"text": "a"}') as (llm, place):
        place.fail(400, body='{"detail": "response_format json_schema is not supported"}')
        for model in ("gpt-4.1", "gpt-4.1", None):
            options = {} if model is None else {"model": model}
            assert llm.structured_predict(Words, prompt, options, what="a") == Words(text="a")
    asked = [(one.body["model"], one.body["response_format"]["type"]) for one in place.requests]
    assert asked == [
        ("gpt-4.1", "json_schema"),
        ("gpt-4.1", "json_object"),
        ("gpt-4.1", "json_object"),
        (llm.model, "json_schema"),
    ]
    assert not server.requests


@pytest.mark.parametrize("how", ["assigned", "copied"])
def test_another_model_of_the_settings(server: Emulator, how: str) -> None:
    """Where the model is assigned, or a copy has another one, what was not chosen follows it; what was stays."""

    def with_model(llm: AIFS, model: str) -> AIFS:
        if how == "copied":
            return llm.model_copy(update={"model": model})
        llm.model = model
        return llm

    llm = with_model(AIFS(max_tokens=50), "o3")
    assert llm.metadata == AIFS("o3", max_tokens=50).metadata
    llm.chat(HELLO)
    assert sent(server) == {"model": "o3", "max_completion_tokens": 50}
    llm = with_model(llm, "gpt-4.1")
    assert llm.metadata == AIFS("gpt-4.1", max_tokens=50).metadata
    llm.chat(HELLO)
    assert sent(server) == {"model": "gpt-4.1", "max_tokens": 50, "temperature": 0.1}
    llm = with_model(AIFS(context_window=9_000, temperature=0.7), "gpt-4.1")
    assert (llm.metadata.context_window, llm.temperature) == (9_000, 0.7)
    assert not with_model(AIFS(), "o1-mini").metadata.is_function_calling_model
    with pytest.raises(ResidencyError):
        with_model(AIFS(residency="germany"), "gpt-4.1").chat(HELLO)
