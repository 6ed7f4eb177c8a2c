"""What is sent beside the messages, for models of every name, and what objects and events tell of it."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.llm import LLMChatEndEvent, LLMChatStartEvent
from llama_index.core.prompts import PromptTemplate
from llama_index.core.rate_limiter import BaseRateLimiter, TokenBucketRateLimiter
from llama_index.core.tools import FunctionTool
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.span_handlers import SimpleSpanHandler
from pydantic import BaseModel

from aifs_vision import BadRequestError, ImageFormatError, SettingsError
from llama_index_aifs import AIFS
from tests.llama_index.scripts import scripted
from tests.pictures import noise, opened, saved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llama_index.core.instrumentation.events import BaseEvent

    from aifs_vision.emulator import Emulator

pytestmark = pytest.mark.usefixtures("environment")

HELLO = [ChatMessage("Hello")]
REASONING = ["o1", "o3", "o4-mini", "gpt-5", "gpt-5.2", "gpt-5-mini"]


def look(where: str) -> str:
    """Looks somewhere."""
    return where


def sent(server: Emulator) -> dict[str, Any]:
    """The last request, but for what it says."""
    body: dict[str, Any] = server.requests[-1].body
    return {key: value for key, value in body.items() if key != "messages"}


@pytest.mark.parametrize("model", REASONING)
def test_names_of_reasoning_models_surprise_nobody(server: Emulator, model: str) -> None:
    """They get the room in the field they take, no temperature, and system messages as system messages."""
    llm = AIFS(model, max_tokens=700)
    llm.chat([ChatMessage(role="system", content="Be brief."), *HELLO])
    assert sent(server) == {"model": model, "max_completion_tokens": 700, "stream": False}
    assert [message["role"] for message in server.requests[-1].body["messages"]] == ["system", "user"]
    list(llm.stream_chat(HELLO))
    asyncio.run(llm.achat_with_tools([FunctionTool.from_defaults(look)], "Look."))
    assert "parallel_tool_calls" not in sent(server)


@pytest.mark.parametrize("model", ["gpt-5.4-pro", "gpt-5.2-pro", "gpt-6-sol", "o9"])
def test_names_that_only_openai_knows_are_names(server: Emulator, model: str) -> None:
    """A name that OpenAI's tables would refuse, or change, is sent as it is; the service says that it is not there."""
    with pytest.raises(Exception, match="does not exist"):
        AIFS(model, temperature=0.3).chat(HELLO)
    assert sent(server) == {"model": model, "temperature": 0.3, "stream": False}


def test_models_newer_than_the_catalogue_are_asked_as_their_family(server: Emulator) -> None:
    """A name of OpenAI's reasoning models that is not listed yet gets room and temperature as these do."""
    with pytest.raises(Exception, match="does not exist"):  # in the emulator
        AIFS("gpt-5.4", max_tokens=9).chat(HELLO)
    assert sent(server) == {"model": "gpt-5.4", "max_completion_tokens": 9, "stream": False}


def test_a_temperature_that_was_asked_for_is_sent(server: Emulator) -> None:
    """What is set is sent, 0 included, also to models that refuse it, which say so; None is not sent."""
    AIFS(temperature=0.0).chat(HELLO)
    assert sent(server)["temperature"] == 0.0
    AIFS(temperature=None).chat(HELLO)
    assert "temperature" not in sent(server)
    with pytest.raises(BadRequestError, match="temperature"):
        AIFS("gpt-5", temperature=0.5).chat(HELLO)


def test_the_call_has_the_last_word(server: Emulator) -> None:
    """Settings, then `additional_kwargs`, then what a call says; both names of the room are one thing."""
    llm = AIFS(max_tokens=100, additional_kwargs={"seed": 1, "top_p": 0.5}, reasoning_effort="low")
    llm.chat(HELLO, max_completion_tokens=9, top_p=0.9)
    assert sent(server) == {
        "model": llm.model,
        "temperature": 0.1,
        "max_tokens": 9,
        "seed": 1,
        "top_p": 0.9,
        "reasoning_effort": "low",
        "stream": False,
    }
    list(llm.stream_chat(HELLO, stream_options={"include_usage": False}))
    assert sent(server)["stream_options"] == {"include_usage": False}
    with pytest.raises(TypeError, match="tmperature"):
        llm.chat(HELLO, tmperature=1)


def test_tools_are_told_as_the_catalogue_has_it(server: Emulator) -> None:
    """Function calling is on unless the catalogue says no; no tools send nothing; the history stays as it was."""
    assert not AIFS("o1-mini").metadata.is_function_calling_model
    assert AIFS("gemma-4-31B").metadata.is_function_calling_model
    assert AIFS("gemma-4-31B").metadata.is_chat_model
    llm, history = AIFS(), list(HELLO)
    llm.chat_with_tools([], user_msg="Look.", chat_history=history)
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & {*sent(server)}
    llm.chat_with_tools([FunctionTool.from_defaults(look)], "Look.", history, tool_required=True)
    assert (sent(server)["tool_choice"], sent(server)["parallel_tool_calls"]) == ("required", False)
    llm.chat_with_tools([FunctionTool.from_defaults(look)], "Look.", history, allow_parallel_tool_calls=True)
    assert (sent(server)["tool_choice"], sent(server).get("parallel_tool_calls")) == ("auto", None)
    assert history == HELLO


def test_objects_keep_secrets_to_themselves(server: Emulator) -> None:
    """Neither key nor headers are in repr, to_dict, pickles or payloads, and a pickle harms nothing."""
    headers = {"X-Secret": "swordfish"}
    llm = AIFS(api_key=server.api_key, default_headers=headers, rate_limiter=TokenBucketRateLimiter())
    shown = [repr(llm), str(llm), json.dumps(llm.to_dict()), json.dumps(llm.to_payload()), str(pickle.dumps(llm))]
    assert not [text for text in shown if "swordfish" in text or server.api_key in text]
    assert llm.rate_limiter is not None
    llm.chat(HELLO)
    assert server.requests[0].headers["x-secret"] == "swordfish"


def test_the_queue_is_a_way(server: Emulator) -> None:
    """`queue=True` sends to the queue, "auto" not before it is needed; both survive a pickle."""
    ways: list[tuple[Any, str]] = [(True, "/queue"), ("auto", "/v2")]
    for queue, path in ways:
        llm = pickle.loads(pickle.dumps(AIFS(queue=queue)))  # noqa: S301 - our own bytes
        assert llm.queue == queue
        assert llm.chat(HELLO).message.content
        assert server.requests[-1].path == f"{path}/chat/completions"


def test_the_queue_streams_in_one_piece(server: Emulator) -> None:
    """What streams, as agents do, works through the queue as well: the answer comes as one response."""
    llm = AIFS(queue=True)

    async def ask() -> list[Any]:
        return [part async for part in await llm.astream_chat(HELLO)]

    for parts in (list(llm.stream_chat(HELLO)), asyncio.run(ask())):
        (part,) = parts
        assert part.delta == part.message.content != ""
        assert part.additional_kwargs["finish_reason"] == "stop"
    assert {request.path for request in server.requests} == {"/queue/chat/completions"}


def test_copies_work(server: Emulator) -> None:
    """A deep or shallow copy of an LLM that has been used answers, and has settings of its own."""
    llm = AIFS(additional_kwargs={"seed": 1})
    llm.chat(HELLO)
    for twin in (copy.deepcopy(llm), copy.copy(llm), llm.model_copy()):
        assert twin.chat(HELLO).message.content
    twin = copy.deepcopy(llm)
    twin.additional_kwargs["seed"] = 2
    llm.chat(HELLO)
    assert sent(server)["seed"] == 1


def test_one_llm_serves_many_event_loops(server: Emulator) -> None:
    """Any number of loops, one after the other, get whole answers, streams and pictures, one request each."""
    llm = AIFS()
    messages = [ChatMessage(blocks=[TextBlock(text="What?"), ImageBlock(image=saved(noise(40, 30)))])]

    async def ask() -> tuple[Any, Any]:
        parts = [part async for part in await llm.astream_chat(messages)]
        return (await llm.achat(messages)).message.content, parts[-1].message.content

    answers = {answer for _ in range(5) for answer in asyncio.run(ask())}
    assert len(answers) == 1
    assert len(server.requests) == 10


class Listener(BaseEventHandler):
    """Keeps what happens."""

    heard: list[Any] = []  # noqa: RUF012 - a pydantic field

    def handle(self, event: BaseEvent, **_: Any) -> None:
        """Keeps an event."""
        self.heard.append(event)


@pytest.fixture
def listener() -> Iterator[Listener]:
    """What hears all events of LlamaIndex."""
    dispatcher, handler = get_dispatcher(), Listener()
    dispatcher.add_event_handler(handler)
    yield handler
    dispatcher.event_handlers.remove(handler)


def test_events_tell_all_but_secrets_and_pictures(server: Emulator, listener: Listener) -> None:
    """A call is one span, one start and one end, with texts, usage and digests of pictures; no key, no image data."""
    llm, spans = AIFS(api_key=server.api_key), SimpleSpanHandler()
    get_dispatcher().add_span_handler(spans)
    data = saved(noise(300, 200), "JPEG")
    messages = [ChatMessage(blocks=[TextBlock(text="What?"), ImageBlock(image=data)])]
    llm.chat(messages)
    asyncio.run(llm.achat(messages))
    list(llm.stream_chat(messages))
    get_dispatcher().span_handlers.remove(spans)
    assert [span.id_.partition("-")[0] for span in spans.completed_spans] == [
        "AIFS.chat",
        "AIFS.achat",
        "AIFS.stream_chat",
    ]
    starts = [event for event in listener.heard if isinstance(event, LLMChatStartEvent)]
    ends = [event for event in listener.heard if isinstance(event, LLMChatEndEvent)]
    assert (len(starts), len(ends)) == (3, 3)
    assert all(len(json.dumps(event.model_dump(mode="json"), default=str)) < 5_000 for event in listener.heard)
    assert not [event for event in listener.heard if server.api_key in str(event)]
    for event in starts:
        text, picture = list[Any](event.messages[0].blocks)
        assert (text.text, picture.image, picture.image_mimetype) == ("What?", None, "image/jpeg")
        assert (picture.width, picture.height, len(picture.sha256)) == (300, 200, 64)
    assert all(event.response and event.response.additional_kwargs["total_tokens"] for event in ends)


def test_a_trace_says_what_it_shows(server: Emulator, listener: Listener) -> None:
    """A picture of a replayed trace is an error that tells its size and digest, as its bytes are not there."""
    llm = AIFS()
    llm.chat([ChatMessage(blocks=[ImageBlock(image=saved(noise(60, 40)))])])
    (start,) = (event for event in listener.heard if isinstance(event, LLMChatStartEvent))
    told: Any = start.messages[0].blocks[0]
    stored = start.messages[0].model_dump_json()
    for replayed in (ChatMessage.model_validate_json(stored), ChatMessage(blocks=[type(told)(**told.model_dump())])):
        with pytest.raises(ImageFormatError, match=rf"60x40.*{told.sha256}.*trace.*60x40 px.*give the picture itself"):
            llm.chat([replayed])
    assert llm.chat(start.messages).message.content  # in this process they are still there
    assert len(server.requests) == 2


def test_structured_predictions_are_told_of(listener: Listener) -> None:
    """`structured_predict` and its twin are a start and an end for LlamaIndex's tracers, around those of the chat."""

    class Words(BaseModel):
        """Some words."""

        text: str = ""

    with scripted('{"text": "a"}') as (llm, _):
        for predict in (
            llm.structured_predict,
            lambda *given, **more: asyncio.run(llm.astructured_predict(*given, **more)),
        ):
            predicted = predict(Words, PromptTemplate("{x}"), x="y")
            names = [type(event).__name__ for event in listener.heard]
            assert names == [
                *("LLMStructuredPredictStartEvent", "LLMChatStartEvent", "LLMChatEndEvent"),
                "LLMStructuredPredictEndEvent",
            ]
            assert listener.heard[-1].output == predicted == Words(text="a")
            assert listener.heard[0].template_args == {"x": "y"}
            listener.heard.clear()


def test_the_model_of_a_call_has_its_own_rules(server: Emulator) -> None:
    """Where a call names another model, room, tools and pictures are as that one takes them."""
    llm, picture = AIFS(temperature=None, max_tokens=50), ImageBlock(image=saved(noise(1800, 1200), "JPEG"))
    messages = [ChatMessage(blocks=[picture])]
    llm.chat(messages, model="o3")
    assert sent(server) == {"model": "o3", "max_completion_tokens": 50, "stream": False}
    list(AIFS(temperature=None, max_tokens=50, additional_kwargs={"model": "o3"}).stream_chat(messages))
    assert sent(server)["max_completion_tokens"] == 50
    AIFS("o3").chat(messages)
    llm.chat(messages)
    sizes = [opened(request.images[0][1]).size for request in server.requests]
    assert sizes[0] == sizes[1] == sizes[2] != sizes[3]
    with pytest.raises(SettingsError, match="does not take images"):
        llm.chat(messages, model="Llama-3.3-70B-Instruct")
    with pytest.raises(SettingsError, match="does not take images"):
        asyncio.run(llm.achat(messages, model="Llama-3.3-70B-Instruct"))
    llm.chat_with_tools([FunctionTool.from_defaults(look)], "Look.", model="o3")
    assert "parallel_tool_calls" not in sent(server)


def test_prompt_functions_do_not_hinder_pickles(server: Emulator) -> None:
    """A `messages_to_prompt` that no pickle takes is left out, as chat models do not ask it; it changes no prompt."""
    llm = AIFS(messages_to_prompt=lambda _: "never", completion_to_prompt=str.upper)
    twin = pickle.loads(pickle.dumps(llm))  # noqa: S301 - our own bytes
    for model in (llm, twin):
        model.complete("Hello", image_documents=[ImageBlock(image=saved(noise(20, 20)))])
        model.chat(HELLO)
    texts = [request.body["messages"][0]["content"] for request in server.requests]
    assert texts[0][1]["text"] == texts[2][1]["text"] == "HELLO"
    assert texts[1] == texts[3] == "Hello"


class Counting(BaseRateLimiter):
    """Counts who asks it."""

    count: int = 0

    def acquire(self, num_tokens: int = 0) -> None:
        """Counts a call."""
        del num_tokens
        self.count += 1

    async def async_acquire(self, num_tokens: int = 0) -> None:
        """Counts a call."""
        self.acquire(num_tokens)


def test_a_rate_limiter_is_asked_once_a_call(server: Emulator) -> None:
    """LlamaIndex's own limiter, where somebody sets one, is asked once for each call, retried or not."""
    limiter = Counting()
    llm = AIFS(rate_limiter=limiter)

    async def both() -> None:
        await llm.achat(HELLO)
        async for _ in await llm.astream_chat(HELLO):
            pass

    server.fail(503, retry_after=0.001)
    llm.chat(HELLO)
    list(llm.stream_chat(HELLO))
    asyncio.run(both())
    llm.complete("Hello")
    llm.complete("Hello", image_documents=[ImageBlock(image=saved(noise(20, 20)))])
    assert limiter.count == 6
    assert len(server.requests) == 7


@pytest.mark.usefixtures("environment")
def test_a_header_that_the_environment_has_too_is_sent(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """What OPENAI_CUSTOM_HEADERS brings is not sent; a header of the user's own is, though it may be the same one."""
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Team: vision\nX-Poison: yes")
    AIFS("gpt-4.1", default_headers={"X-Team": "vision"}).complete("Hello")
    headers = server.requests[-1].headers
    assert headers["x-team"] == "vision"
    assert "x-poison" not in headers
