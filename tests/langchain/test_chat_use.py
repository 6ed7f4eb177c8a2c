"""The chat model where LangChain's users have it: chains, batches, caches, agents; with a picture in the message."""

from __future__ import annotations

import asyncio
import base64
import json
import pickle
import time
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import SummarizationMiddleware
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.load import dumpd
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage, trim_messages
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField
from langchain_core.tools import tool
from pydantic import BaseModel

from aifs_vision import RateLimitError, ServiceError, image_tokens, model_card, prepare_images
from aifs_vision.emulator import Emulator
from aifs_vision.testing import isolated, virtual_time
from langchain_aifs import ChatAIFS, image_block
from tests.langchain.scripted import answer_from_tools_and_schema, called
from tests.media import pdf
from tests.pictures import corners, saved

if TYPE_CHECKING:
    from aifs_vision.emulator import ChatRequest

pytestmark = pytest.mark.usefixtures("environment")

QWEN = "Qwen3-VL-30B-A3B-Instruct-FP8"
PNG = saved(corners())


def question(*blocks: Any) -> list[Any]:
    """A message with a picture, or other blocks."""
    return [HumanMessage([{"type": "text", "text": "What is it?"}, *(blocks or [image_block(PNG)])])]


def assert_seen(server: Emulator, times: int) -> None:
    """So many requests came, each with the picture."""
    assert len(server.requests) == times
    assert all(len(request.images) == 1 for request in server.requests)


# -- Runnables -----------------------------------------------------------------------------------------------------


def test_chains(server: Emulator) -> None:
    """`prompt | llm | parser` with a picture put into the template, invoked and streamed."""
    prompt = ChatPromptTemplate.from_messages(
        [("system", "Be brief."), ("human", [{"type": "text", "text": "{ask}"}, {"type": "image", "url": "{picture}"}])]
    )
    chain = prompt | ChatAIFS() | StrOutputParser()
    block = image_block(PNG)
    given = {"ask": "What is it?", "picture": f"data:image/png;base64,{block['base64']}"}
    assert "".join(chain.stream(given)) == chain.invoke(given) != ""
    assert_seen(server, 2)


def test_batches(server: Emulator) -> None:
    """`batch` and `abatch` answer every message, in order, and give errors where they are asked to."""
    chat = ChatAIFS()
    assert [answer.text for answer in chat.batch([question()] * 3)] == [chat.invoke(question()).text] * 3
    assert len(asyncio.run(chat.abatch([question()] * 3, {"max_concurrency": 2}))) == 3
    assert_seen(server, 7)
    good, bad = chat.batch([question(), question({"type": "image", "url": "a.png"})], return_exceptions=True)
    assert isinstance(good, AIMessage)
    assert "image_block" in str(bad)


def test_fallbacks(server: Emulator) -> None:
    """`with_fallbacks` asks the next model when the first cannot answer, by this project's errors too."""
    server.fail(503, times=4)
    chat = ChatAIFS().with_fallbacks([ChatAIFS(model="gpt-4.1")], exceptions_to_handle=(ServiceError,))
    with virtual_time():
        assert chat.invoke(question()).text
    assert server.requests[-1].model == "gpt-4.1"
    assert server.requests[-1].images


def test_retries_of_langchain(server: Emulator) -> None:
    """`with_retry` asks again for this project's errors."""
    server.fail(503, times=4)
    chat = ChatAIFS().with_retry(retry_if_exception_type=(ServiceError,), wait_exponential_jitter=False)
    with virtual_time():
        assert chat.invoke(question()).text
    assert len(server.requests) == 5
    assert all("image_url" in str(request.body) for request in server.requests)  # of refused ones no picture is kept


def test_configurable_fields(server: Emulator) -> None:
    """Model and temperature can be chosen for each call; profile, room and residency go with the model."""
    chat: Any = ChatAIFS(max_tokens=9, queue=True).configurable_fields(
        model_name=ConfigurableField(id="model"), temperature=ConfigurableField(id="temperature")
    )
    chat.invoke(question())
    chat.with_config(configurable={"model": "gpt-5"}).invoke(question())
    chat.with_config(configurable={"temperature": 0.5}).invoke(question())
    first, second, third = server.requests
    assert (first.model, first.body["max_tokens"]) == (QWEN, 9)
    assert (second.model, second.body["max_completion_tokens"]) == ("gpt-5", 9)
    assert (third.model, third.body["temperature"]) == (QWEN, 0.5)
    assert {request.path for request in server.requests} == {"/queue/chat/completions"}
    made = chat.prepare({"configurable": {"model": "gpt-5"}})[0]
    assert made.profile["name"] == model_card("gpt-5").display_name
    assert_seen(server, 3)


@tool
def look(place: str) -> list[dict[str, Any]]:
    """Looks at a place."""
    return [{"type": "text", "text": place}, image_block(PNG)]


def test_bound_tools() -> None:
    """`bind_tools` sends the tools beside a picture, and the call comes back."""
    with Emulator(ocr=False, reply=answer_from_tools_and_schema) as server, isolated():
        chat = ChatAIFS(model="gpt-4.1", base_url=server.base_url, api_key=server.api_key)
        (call,) = chat.bind_tools([look], tool_choice="any").invoke(question()).tool_calls
        assert (call["name"], set(call["args"])) == ("look", {"place"})
        assert server.requests[0].body["tool_choice"] == "required"
        assert_seen(server, 1)


class Watch(BaseCallbackHandler):
    """What LangChain tells of a run."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.ended: list[Any] = []
        self.failed: list[BaseException] = []

    def on_llm_new_token(self, token: Any, **_: Any) -> None:
        """A piece of a stream."""
        self.tokens.append(token)

    def on_llm_end(self, response: Any, **_: Any) -> None:
        """The end of an answer."""
        self.ended.append(response)

    def on_llm_error(self, error: BaseException, **_: Any) -> None:
        """An error."""
        self.failed.append(error)


def test_callbacks(server: Emulator) -> None:
    """Handlers hear tokens, ends and errors; the errors are the ones that are raised."""
    watch = Watch()
    answer = "".join(chunk.text for chunk in ChatAIFS().stream(question(), {"callbacks": [watch]}))
    assert "".join(watch.tokens) == answer
    assert len(watch.ended) == 1
    server.fail(429, body='{"detail": "insufficient_quota"}')
    with pytest.raises(Exception, match="quota") as raised:
        ChatAIFS().invoke(question(), {"callbacks": [watch]})
    assert watch.failed == [raised.value]
    assert not isinstance(raised.value, RateLimitError)
    assert ["image_url" in str(request.body) for request in server.requests] == [True, True]


def test_events(server: Emulator) -> None:
    """`astream_events` tells of the chunks, with their usage in the end."""

    async def heard() -> list[Any]:
        return [event async for event in ChatAIFS().astream_events(question(), version="v2")]

    events = asyncio.run(heard())
    assert "".join(event["data"]["chunk"].text for event in events if event["event"] == "on_chat_model_stream")
    assert events[-1]["data"]["output"].usage_metadata["total_tokens"] > 0
    assert_seen(server, 1)


# -- Caches --------------------------------------------------------------------------------------------------------


def test_a_cache_of_langchains_hits_and_counts_once(server: Emulator) -> None:
    """An equal question with an equal picture asks, costs and counts nothing; the first answer keeps its own."""
    chat, counter = ChatAIFS(cache=InMemoryCache()), UsageMetadataCallbackHandler()
    first = chat.invoke(question(), {"callbacks": [counter]})
    counted, cost = counter.usage_metadata[QWEN]["total_tokens"], first.response_metadata["cost_eur"]
    for _ in range(2):
        again = chat.invoke(question(image_block(bytearray(PNG))), {"callbacks": [counter]})
        assert again.text == first.text
        assert again.response_metadata["cost_eur"] == 0
        assert again.usage_metadata["total_tokens"] == 0  # type: ignore[index]
    assert asyncio.run(chat.ainvoke(question())).response_metadata["cost_eur"] == 0
    assert counter.usage_metadata[QWEN]["total_tokens"] == counted > 0
    assert first.response_metadata["cost_eur"] == cost != 0
    assert_seen(server, 1)


def test_caches_tell_pictures_and_ways_apart(server: Emulator) -> None:
    """Other pictures, sizes, models or addresses are other questions, also where pictures come as bytes or PIL."""
    cache = InMemoryCache()
    other = corners(80, 40)
    for picture in (corners(), other):
        ChatAIFS(cache=cache).invoke(question({"type": "image", "image": picture}))
        ChatAIFS(cache=cache).invoke(question({"type": "image", "base64": saved(picture)}))
        ChatAIFS(cache=cache).invoke(question({"type": "image", "image": picture.copy()}))
    ChatAIFS(cache=cache, image_size=32).invoke(question())
    before = len(server.requests)
    ChatAIFS(cache=cache, image_size=32).invoke(question())
    ChatAIFS(cache=cache, image_size=32, base_url=server.base_url.replace("127.0.0.1", "localhost")).invoke(question())
    ChatAIFS(cache=cache, image_size=32, model="gpt-4.1").invoke(question())
    assert len(server.requests) == before + 2
    assert before in {3, 5}  # of PIL images and bytes each picture is asked about once, or once for each form


# -- Profile and tokens --------------------------------------------------------------------------------------------


def test_profiles_are_the_catalogues() -> None:
    """The profile says what the catalogue knows, and nothing it does not."""
    known = ChatAIFS(model="gpt-4.1").profile or {}
    assert known["max_input_tokens"] == 1_000_000
    assert known["max_output_tokens"] == 32_768
    assert (ChatAIFS(model="gpt-5").profile or {})["max_input_tokens"] == 272_000  # and not the window
    assert known["structured_output"] is known["tool_calling"] is known["image_inputs"] is True
    assert known["image_tool_message"] is known["pdf_inputs"] is True
    assert known["audio_inputs"] is False
    qwen = ChatAIFS().profile or {}
    assert qwen["image_inputs"] is True
    assert not {"tool_calling", "structured_output", "max_output_tokens"} & set(qwen)
    assert (ChatAIFS(model="Llama-3.3-70B-Instruct").profile or {})["image_inputs"] is False
    assert ChatAIFS(model="a-model-of-tomorrow").profile is None
    assert ChatAIFS(profile={"max_input_tokens": 9}).profile == {"max_input_tokens": 9}


NAMES = json.loads(files("aifs_vision").joinpath("catalogue.json").read_text(encoding="utf-8"))["models"]
SEEING = sorted(name for name in NAMES if model_card(name).kind == "chat" and model_card(name).takes_images)


@pytest.mark.parametrize("model", SEEING)
def test_tokens_are_counted_offline_for_every_model(server: Emulator, model: str) -> None:
    """The count of a message with a picture is near what the service counts, and asks nobody."""
    chat = ChatAIFS(model=model)
    picture = corners(1600, 900)
    message = question({"type": "image", "base64": saved(picture, "JPEG")})
    counted = chat.get_num_tokens_from_messages(message)
    assert not server.requests
    used = chat.invoke(message).usage_metadata
    assert used is not None
    assert counted == pytest.approx(used["input_tokens"], rel=0.05, abs=12)


def test_counts_follow_the_size_that_is_sent() -> None:
    """Counting knows `image_size`, pages of documents, URLs, tools and calls; text-only models count no pictures."""
    large = question({"type": "image", "base64": saved(corners(3000, 2000), "JPEG")})
    auto, small, original = (
        ChatAIFS(image_size=size).get_num_tokens_from_messages(large) for size in ("auto", 320, "original")
    )
    assert small < auto < original
    assert original == pytest.approx(image_tokens(QWEN, 3000, 2000), abs=20)
    chat = ChatAIFS()
    pages = [
        chat.get_num_tokens_from_messages(question({"type": "file", "base64": pdf(*["0 0 9 9 re f"] * n)}))
        for n in (1, 3)
    ]
    assert pages[1] > 2 * pages[0] - 20
    assert chat.get_num_tokens_from_messages(question({"type": "image", "url": "https://a.example/a.png"})) > 500
    assert chat.get_num_tokens_from_messages(question(), [look]) > chat.get_num_tokens_from_messages(question()) + 10
    calls = [AIMessage("", tool_calls=[{"name": "look", "args": {"place": "a" * 300}, "id": "1", "type": "tool_call"}])]
    assert chat.get_num_tokens_from_messages(calls) > 80
    assert ChatAIFS(model="Llama-3.3-70B-Instruct").get_num_tokens_from_messages(large) < 20


def test_tokens_of_texts() -> None:
    """A text's tokens are an estimate, and as many numbers; a tokenizer that is given is asked instead."""
    chat = ChatAIFS()
    for text in ("", "Hello", "Öl und Dichtung " * 50):
        assert len(chat.get_token_ids(text)) == chat.get_num_tokens(text)
    assert chat.get_num_tokens("Hello world, this is a text.") in range(5, 12)
    own = ChatAIFS(custom_get_token_ids=lambda text: list(range(len(text))))
    assert own.get_num_tokens("four") == len(own.get_token_ids("four")) == 4


def test_messages_are_trimmed_to_fit() -> None:
    """`trim_messages(token_counter=chat)` keeps what fits, pictures counted."""
    chat = ChatAIFS()
    talk = [*question(), AIMessage("A square."), *question(), AIMessage("Another."), HumanMessage("And?")]
    most = chat.get_num_tokens_from_messages(talk[2:])
    kept = trim_messages(talk, max_tokens=most, token_counter=chat, strategy="last", start_on="human")
    assert kept == talk[2:]


# -- Agents --------------------------------------------------------------------------------------------------------


class Seen(BaseModel):
    """What was seen."""

    colour: str


def reply_of_an_agent(asked: ChatRequest) -> str | dict[str, Any] | None:
    """Looks first, then answers; with data where a schema is asked for."""
    names = [entry["function"]["name"] for entry in asked.body.get("tools") or ()]
    if "look" in names and not asked.images:
        return {"tool_calls": [called("look", {"place": "here"})]}
    if asked.schema:
        return '{"colour": "red"}'
    if "Seen" in names:
        return {"tool_calls": [called("Seen", {"colour": "red"})]}
    return "red"


@pytest.mark.parametrize(("model", "native"), [("gpt-4.1", True), ("claude-sonnet-4", False), (QWEN, False)])
def test_agents_see_what_tools_show_and_choose_by_the_profile(model: str, native: bool) -> None:  # noqa: FBT001
    """A picture that a tool returns is seen; data is asked for by schema where the profile has that, else by a call."""
    with Emulator(ocr=False, reply=reply_of_an_agent) as server, isolated():
        chat = ChatAIFS(model=model, base_url=server.base_url, api_key=server.api_key)
        agent: Any = create_agent(chat, [look], response_format=Seen)
        said = agent.invoke({"messages": [HumanMessage("Which colour?")]})
        assert said["structured_response"] == Seen(colour="red")
        assert any(isinstance(message, ToolMessage) for message in said["messages"])
        assert any(request.images for request in server.requests)
        assert ("response_format" in server.requests[-1].body) is native


def test_summaries_begin_by_the_profile() -> None:
    """SummarizationMiddleware with a fraction knows the window of the model, and counts with the model."""
    with Emulator(ocr=False, reply=lambda _: "short") as server, isolated():
        chat = ChatAIFS(base_url=server.base_url, api_key=server.api_key)
        counter: Any = chat.get_num_tokens_from_messages
        middleware = SummarizationMiddleware(
            chat, trigger=("fraction", 0.02), keep=("messages", 1), token_counter=counter
        )
        agent: Any = create_agent(chat, [], middleware=[middleware])
        short = agent.invoke({"messages": [HumanMessage("a"), AIMessage("b"), HumanMessage("c")]})
        assert len(server.requests) == 1
        assert len(short["messages"]) == 4
        long = agent.invoke(
            {
                "messages": [
                    *question(image_block(corners(1400, 1400))),
                    *short["messages"],
                    *question(image_block(corners(1400, 1400))),
                ]
            }
        )
        assert len(server.requests) == 3
        assert len(long["messages"]) < 6


# -- Copies --------------------------------------------------------------------------------------------------------


def test_a_pickle_has_no_key_and_works(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unpickled chat model has its settings, and the key of where it is; none of it is in the pickle."""
    monkeypatch.setenv("AIFS_API_KEY", "not-this")
    chat = ChatAIFS(api_key=server.api_key, model="gpt-4.1", temperature=0.5, image_size=64, queue=True)
    data = pickle.dumps(chat)
    assert server.api_key.encode() not in data
    assert b"not-this" not in data
    monkeypatch.setenv("AIFS_API_KEY", server.api_key)
    copy = pickle.loads(data)  # noqa: S301 - our own bytes
    copy.invoke(question())
    (request,) = server.requests
    assert (request.model, request.body["temperature"], request.path) == ("gpt-4.1", 0.5, "/queue/chat/completions")
    assert copy.profile == chat.profile


def test_traces_have_no_key(server: Emulator) -> None:
    """What LangChain writes down of a run holds neither key nor headers."""
    chat = ChatAIFS(api_key=server.api_key, default_headers={"X-Secret": "of-mine"})
    told: list[Any] = []

    class Tracer(BaseCallbackHandler):
        def on_chat_model_start(self, serialized: Any, messages: Any, **more: Any) -> None:
            told.extend([serialized, messages, more])

    chat.invoke(question(), {"callbacks": [Tracer()]})
    for shown in (
        str(told),
        str(dumpd(chat)),
        repr(chat),
        str(chat),
    ):
        assert server.api_key not in shown
        assert "of-mine" not in shown


def test_it_is_made_in_milliseconds() -> None:
    """A chat model is made again and again, as frameworks do, without building anything anew that is heavy."""
    ChatAIFS()
    before = time.process_time()
    for _ in range(100):
        ChatAIFS()
    assert time.process_time() - before < 100 * 0.02  # CPU seconds; an SSL context alone takes more


@pytest.mark.usefixtures("server")
def test_pictures_are_prepared_beside_the_loop() -> None:
    """An event loop that awaits an answer does not decode the picture itself: it spends less CPU than that takes."""
    first, second = (saved(corners(4032 + number, 3024), "JPEG") for number in range(2))
    before = time.thread_time()
    prepare_images(first, QWEN)
    decoding = time.thread_time() - before
    chat, message = ChatAIFS(), question({"type": "image", "base64": base64.b64encode(second).decode()})
    before = time.thread_time()
    asyncio.run(chat.ainvoke(message))
    assert time.thread_time() - before < decoding / 2


def test_clients_of_others_are_not_taken() -> None:
    """What would lead requests past the project's transport is a TypeError."""
    for name in ("http_client", "http_async_client", "client", "root_client", "openai_proxy", "organization"):
        with pytest.raises(TypeError, match=name):
            ChatAIFS(**{name: "x"})


def test_system_messages_stay(server: Emulator) -> None:
    """A system message of text goes first, as it is."""
    ChatAIFS().invoke([SystemMessage("Be brief."), *question()])
    assert server.requests[0].body["messages"][0] == {"role": "system", "content": "Be brief."}
