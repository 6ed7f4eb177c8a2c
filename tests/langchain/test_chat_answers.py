"""What comes back: usage, cost, thoughts, calls of tools; and the errors that are of both trees."""

from __future__ import annotations

import asyncio
import json
import pickle
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage

from aifs_vision import (
    AIFSError,
    APIConnectionError,
    APITimeoutError,
    BadRequestError,
    ImageFormatError,
    Limits,
    ResidencyError,
    UnexpectedAnswerError,
    model_card,
)
from aifs_vision.emulator import Emulator
from aifs_vision.testing import virtual_time
from langchain_aifs import ChatAIFS, RefusedOutputError
from tests.langchain.refusals import REFUSALS, Refusal, assert_langchain_knows, assert_refused
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.usefixtures("environment")

QWEN = "Qwen3-VL-30B-A3B-Instruct-FP8"
SSE = {"content-type": "text/event-stream"}


def four_ways(chat: ChatAIFS) -> list[Callable[[], Any]]:
    """invoke, ainvoke, stream and astream of one question."""

    async def astreamed() -> AIMessageChunk:
        return summed([chunk async for chunk in chat.astream("Hello")])

    return [
        lambda: chat.invoke("Hello"),
        lambda: asyncio.run(chat.ainvoke("Hello")),
        lambda: summed(list(chat.stream("Hello"))),
        lambda: asyncio.run(astreamed()),
    ]


def summed(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    """The message that the chunks add up to."""
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return whole


def events(*deltas: dict[str, Any], finish: str | None = "stop", usage: dict[str, int] | None = None) -> str:
    """A stream as a host sends it."""
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": QWEN}
    chunks = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    if finish is not None:
        chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if usage is not None:
        chunks.append({**head, "choices": [], "usage": usage})
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + ("data: [DONE]\n\n" if finish else "")


@pytest.fixture
def said(server: Emulator) -> Callable[..., None]:
    """Has the server answer the next request with a body of one's own."""

    def say(body: Any, **headers: str) -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        server.fail(200, body=text, headers=headers)

    return say


# -- Usage and cost ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("server")
def test_cost_in_eur_stands_beside_the_usage() -> None:
    """Every answer, streamed or not, has its usage, and what it cost by the price list."""
    chat = ChatAIFS(model="gpt-4.1")
    for way in four_ways(chat):
        message = way()
        used = message.usage_metadata
        cost = model_card("gpt-4.1").cost_eur(used["input_tokens"], used["output_tokens"])
        assert cost
        assert message.response_metadata["cost_eur"] == pytest.approx(cost)
        assert message.response_metadata["model_provider"] == "aifs"


@pytest.mark.usefixtures("server")
def test_costs_of_several_prompts_add_up() -> None:
    """`generate` says what all of its prompts cost together; a model without a price has no cost."""
    result = ChatAIFS(model="gpt-4.1").generate([[HumanMessage("Hello")], [HumanMessage("Hello")]])
    each = [row[0].message.response_metadata["cost_eur"] for row in result.generations]  # type: ignore[union-attr]
    assert result.llm_output is not None
    assert result.llm_output["cost_eur"] == pytest.approx(sum(each))


def test_without_usage_there_is_no_cost(said: Callable[..., None]) -> None:
    """An answer that does not say what it used has a cost of None, and is no error."""
    said({"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]})
    assert ChatAIFS().invoke("Hello").response_metadata["cost_eur"] is None


def test_usage_of_streams_may_be_switched_off(server: Emulator) -> None:
    """Streams ask for their usage, unless one says otherwise."""
    list(ChatAIFS().stream("Hello"))
    list(ChatAIFS(stream_usage=False).stream("Hello"))
    assert [request.body.get("stream_options") for request in server.requests] == [{"include_usage": True}, None]


# -- Thoughts and calls --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thoughts_are_kept(said: Callable[..., None], name: str) -> None:
    """What a reasoning model thinks is kept beside its answer, under one name, whole and streamed."""
    message = {"role": "assistant", "content": "Yes", name: "Hm, well."}
    said({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
    answer = ChatAIFS().invoke("Hello")
    said(events({"role": "assistant", name: "Hm, "}, {name: "well."}, {"content": "Yes"}), **SSE)
    stream = summed(list(ChatAIFS().stream("Hello")))
    for said_by_it in (answer, stream):
        assert said_by_it.additional_kwargs["reasoning_content"] == "Hm, well."
        assert said_by_it.text == "Yes"


def test_refusals_are_kept(said: Callable[..., None]) -> None:
    """What a model says instead of what was wanted is kept, whole and streamed, and structured output tells it."""
    message = {"role": "assistant", "content": None, "refusal": "I would rather not."}
    body = events({"role": "assistant", "refusal": "I would "}, {"refusal": "rather not."})
    said({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
    assert ChatAIFS().invoke("Hello").additional_kwargs["refusal"] == "I would rather not."
    said(body, **SSE)
    assert summed(list(ChatAIFS().stream("Hello"))).additional_kwargs["refusal"] == "I would rather not."
    said(body, **SSE)
    with pytest.raises(RefusedOutputError, match="I would rather not"):
        list(ChatAIFS().with_structured_output(method="json_mode").stream("Hello"))


CALLS = [
    {"id": f"call_{place}", "type": "function", "function": {"name": "weather", "arguments": f'{{"place": "{place}"}}'}}
    for place in ("Bonn", "Ulm")
]
BONN_AND_ULM = [("weather", {"place": "Bonn"}, "call_Bonn"), ("weather", {"place": "Ulm"}, "call_Ulm")]


@pytest.mark.parametrize(
    "deltas",
    [
        [{"tool_calls": [{"index": at, **call} for at, call in enumerate(CALLS)]}],
        [{"tool_calls": CALLS}],
        [{"tool_calls": [CALLS[0]]}, {"tool_calls": [CALLS[1]]}],
        [
            {"tool_calls": [{"index": 0, "id": "call_Bonn", "function": {"name": "weather", "arguments": ""}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": '{"place":'}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": ' "Bonn"}'}}]},
            {"tool_calls": [{"index": 1, **CALLS[1]}]},
        ],
        [
            {"tool_calls": [{"id": "call_Bonn", "function": {"name": "weather", "arguments": '{"place": '}}]},
            {"tool_calls": [{"function": {"arguments": '"Bonn"}'}}]},
            {"tool_calls": [CALLS[1]]},
        ],
    ],
)
def test_all_calls_of_a_stream_arrive(said: Callable[..., None], deltas: list[dict[str, Any]]) -> None:
    """Calls of tools arrive whole, in one delta or many, also from hosts that do not number them."""
    body = events({"role": "assistant", "content": ""}, *deltas, finish="tool_calls")
    said(body, **SSE)
    whole = summed(list(ChatAIFS().stream("Hello")))
    assert [(call["name"], call["args"], call["id"]) for call in whole.tool_calls] == BONN_AND_ULM


def test_all_calls_of_an_answer_arrive() -> None:
    """The same without streaming, and through the emulator's own stream."""
    with Emulator(ocr=False, reply=lambda _: {"tool_calls": CALLS}) as server:
        chat = ChatAIFS(model="gpt-4.1", base_url=server.base_url, api_key=server.api_key)
        for way in four_ways(chat):
            calls = way().tool_calls
            assert [(call["name"], call["args"], call["id"]) for call in calls] == BONN_AND_ULM


# -- What is sent --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "name"), [(QWEN, "max_tokens"), ("gpt-5", "max_completion_tokens")])
def test_room_goes_into_the_field_of_the_model(server: Emulator, model: str, name: str) -> None:
    """One of the two fields is sent, the model's; what a call says is more than what the constructor said."""
    chat = ChatAIFS(model=model, max_tokens=50)
    chat.invoke("Hello")
    chat.invoke("Hello", max_tokens=60)
    chat.invoke("Hello", max_completion_tokens=70)
    ChatAIFS(model=model, max_completion_tokens=80).invoke("Hello")
    other = ({"max_tokens", "max_completion_tokens"} - {name}).pop()
    assert [request.body[name] for request in server.requests] == [50, 60, 70, 80]
    assert not any(other in request.body for request in server.requests)


def test_a_temperature_goes_to_models_that_take_one(server: Emulator) -> None:
    """Models that refuse a temperature get none, others do."""
    for model in (QWEN, "o3", "gpt-5"):
        ChatAIFS(model=model, temperature=0.2).invoke("Hello")
    assert [request.body.get("temperature") for request in server.requests] == [0.2, None, None]


@pytest.mark.parametrize("model", ["gpt-5.4", "gpt-5-2025-08-07", "o3-pro"])
def test_models_newer_than_the_catalogue_are_asked_as_their_family(server: Emulator, model: str) -> None:
    """A name of OpenAI's reasoning models that is not listed yet gets its room and temperature as these do."""
    with pytest.raises(Exception, match="does not exist"):  # in the emulator
        ChatAIFS(model=model, max_tokens=9, temperature=0.2).invoke("Hello")
    body = server.requests[-1].body
    assert (body["max_completion_tokens"], body.keys() & {"max_tokens", "temperature"}) == (9, set())


def test_options_of_a_call_are_sent(server: Emulator) -> None:
    """Headers, further fields and parameters of one call, or of all, arrive; the key stays the service's."""
    chat = ChatAIFS(default_headers={"X-Team": "a", "Authorization": "Bearer no"}, default_query={"team": "b"})
    chat.invoke("Hello", extra_headers={"X-Call": "c"}, extra_body={"seed": 7}, stop=["end"])
    (request,) = server.requests
    assert (request.headers["x-team"], request.headers["x-call"]) == ("a", "c")
    assert (request.body["seed"], request.body["stop"]) == (7, ["end"])
    assert request.headers["authorization"] == f"Bearer {server.api_key}"


def test_responses_are_asked_only_when_that_is_said(server: Emulator) -> None:
    """/responses is asked with use_responses_api=True alone, streams too; nothing else leads there."""
    for options in ({"model": "gpt-5-codex"}, {"output_version": "responses/v1"}, {"truncation": "auto"}):
        server.fail(400, times=1) if "truncation" in options else None
        try:
            ChatAIFS(**options).invoke("Hello")
        except BadRequestError:
            assert "truncation" in options
    assert {request.path for request in server.requests} == {"/v2/chat/completions"}
    server.clear()
    chat = ChatAIFS(use_responses_api=True)
    for way in four_ways(chat):
        assert way()
    assert [request.path for request in server.requests] == ["/v2/responses"] * 4
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {server.api_key}"}


def test_the_queue_does_not_stream(server: Emulator) -> None:
    """With queue=True `stream` gives the answer in one piece, from the queue; "auto" streams, from where one can."""
    chunks = list(ChatAIFS(queue=True).stream("Hello"))
    assert "".join(chunk.text for chunk in chunks)
    (request,) = server.requests
    assert request.path == "/queue/chat/completions"
    assert not request.body["stream"]
    for chat in (ChatAIFS(queue=True, streaming=True), ChatAIFS(queue=True).bind(stream=True)):
        assert chat.invoke("Hello").text
        assert asyncio.run(chat.ainvoke("Hello")).text
        assert not any(request.body["stream"] for request in server.requests)
    assert list(ChatAIFS(queue="auto").stream("Hello"))
    assert server.requests[-1].path == "/v2/chat/completions"
    assert server.requests[-1].body["stream"]


# -- Errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("refusal", REFUSALS)
def test_refusals_are_errors_of_both_trees(server: Emulator, refusal: Refusal) -> None:
    """A refusal is this project's error and LangChain's, which says rightly whether to ask again; it can be pickled."""
    assert_refused(server, four_ways(ChatAIFS(limits=Limits(patience=0.0))), refusal)


def broken(server: Emulator) -> Iterator[tuple[str, type[AIFSError], str]]:
    """Each way in which an answer can be none."""
    for fault in ("html", "cut_json", "no_choices"):
        server.fail(fault, times=4)
        yield fault, UnexpectedAnswerError, "ModelAPIError"
        server.clear()
    server.fail("reset", times=4)
    yield "reset", APIConnectionError, "ModelConnectionError"
    server.clear()
    for body in ('{"error": {"message": "worn out"}}', "[]", '{"object": "x"}', '{"choices": [{"index": 0}]}'):
        server.fail(200, times=4, body=body)
        yield body, UnexpectedAnswerError, "ModelAPIError"
        server.clear()


def test_answers_that_are_none_are_errors_of_both_trees(server: Emulator) -> None:
    """HTML or half a JSON with status 200, no choice, an error in a success: never an IndexError or an empty text."""
    chat = ChatAIFS()
    for way in four_ways(chat)[:2]:
        for _, kind, name in broken(server):
            with virtual_time(), pytest.raises(kind) as raised:
                way()
            assert_langchain_knows(raised.value, name, again=True)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (events({"content": "Half an ans"}, finish=None), "without an end"),
        ("<html>Please sign in.</html>", "without an end"),
        ("data: {nonsense\n\n", "not JSON"),
        (events({"content": "Half"}, finish=None) + 'data: {"error": {"message": "worn out"}}\n\n', "worn out"),
    ],
)
def test_a_stream_that_ends_too_early_is_an_error(said: Callable[..., None], body: str, words: str) -> None:
    """A stream without its end, or with something else in it, never looks like an answer."""
    for way in four_ways(ChatAIFS())[2:]:
        said(body, **SSE)
        with pytest.raises(UnexpectedAnswerError, match=words) as raised:
            way()
        assert_langchain_knows(raised.value, "ModelAPIError", again=True)


def test_a_connection_that_breaks_in_a_stream_is_an_error(server: Emulator) -> None:
    """A connection that breaks in mid-answer gives the project's error, not one of httpx."""
    for way in four_ways(ChatAIFS())[2:]:
        server.fail("reset_body")
        with pytest.raises(APIConnectionError):
            way()


def test_no_answer_in_time_is_both_errors(server: Emulator) -> None:
    """A timeout is APITimeoutError and ModelTimeoutError."""
    server.fail("stall", times=9)
    with virtual_time(), pytest.raises(APITimeoutError) as raised:
        ChatAIFS(timeout=0.2).invoke("Hello")
    assert_langchain_knows(raised.value, "ModelTimeoutError", again=True)


def test_what_cannot_get_better_is_not_tried_again(server: Emulator) -> None:
    """A wrong picture and a forbidden model are errors that LangChain's middleware does not retry."""
    wrong = HumanMessage([{"type": "image", "url": "a.png"}])
    calls: list[tuple[Callable[[], Any], type[AIFSError]]] = [
        (lambda: ChatAIFS().invoke([wrong]), ImageFormatError),
        (lambda: ChatAIFS(residency="germany").invoke("Hello", model="gpt-4.1"), ResidencyError),
    ]
    for call, kind in calls:
        with pytest.raises(kind) as raised:
            call()
        assert_langchain_knows(raised.value, "ModelInvalidRequestError", again=False)
    assert not server.requests


def test_errors_show_no_secret(server: Emulator) -> None:
    """The key is in no error, traceback with variables, or pickle, whatever the service repeats."""
    server.fail(400, body=json.dumps({"detail": f"wrong: Bearer {server.api_key}"}))
    with pytest.raises(BadRequestError) as raised:
        ChatAIFS().invoke("Hello")
    shown = traceback.TracebackException.from_exception(raised.value, capture_locals=True)
    assert server.api_key not in "".join(shown.format())
    assert server.api_key.encode() not in pickle.dumps(raised.value)


def test_an_answer_of_no_words_is_one(said: Callable[..., None]) -> None:
    """An empty text with a finish_reason is an answer; only what is missing is an error."""
    said({"choices": [{"index": 0, "message": {"role": "assistant", "content": None}, "finish_reason": "stop"}]})
    answer = ChatAIFS().invoke("Hello")
    assert (answer.text, answer.response_metadata["finish_reason"]) == ("", "stop")


def test_details_of_the_usage_are_kept(server: Emulator) -> None:
    """What the host says of tokens from its cache and of thoughts stands in the usage, whole and streamed."""
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    message = {"role": "assistant", "content": "A"}
    whole = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
    server.fail(200, body=json.dumps(whole))
    piece = {"choices": [{"index": 0, "delta": message, "finish_reason": "stop"}]}
    told = [json.dumps(piece), json.dumps({"choices": [], "usage": usage}), "[DONE]"]
    events = "".join(f"data: {event}\n\n" for event in told)
    server.fail(200, body=events, headers={"content-type": "text/event-stream"})
    chat = ChatAIFS()
    first, *others = [chat.invoke("Hello"), *chat.stream("Hello")]
    for counted in (first.usage_metadata, sum(others[1:], others[0]).usage_metadata):
        assert counted is not None
        assert counted["input_token_details"]["cache_read"] == 4
        assert counted["output_token_details"]["reasoning"] == 3


def test_a_cancelled_call_ends_its_request() -> None:
    """Cancelling `ainvoke` ends the request, and its place is free for the next."""
    with Emulator(ocr=False) as server:
        server.fail("stall")
        chat = ChatAIFS(base_url=server.base_url, api_key=server.api_key, limits=Limits(in_flight=1))

        async def impatient() -> str:
            asked = asyncio.create_task(chat.ainvoke("Hello"))
            while not (server.requests or asked.done()):  # noqa: ASYNC110 - they come in another thread
                await asyncio.sleep(0.01)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            return (await chat.ainvoke("Hello")).text

        assert asyncio.run(impatient())
        until(lambda: server.requests[0].finished is not None)
        assert len(server.requests) == 2
