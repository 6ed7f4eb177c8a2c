"""`ChatAIFS(use_responses_api=True)`: what is sent to `/responses`, what comes back, and what is no answer."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel

from aifs_vision import AIFSError, ContextLengthError, UnexpectedAnswerError, image_tokens, model_card
from aifs_vision.emulator import Emulator
from aifs_vision.testing import virtual_time
from langchain_aifs import ChatAIFS, RefusedOutputError, StructuredOutputError, image_block
from tests.langchain.scripted import answer_from_tools_and_schema, called
from tests.langchain.test_chat_answers import SSE, four_ways, summed
from tests.pictures import corners

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aifs_vision.emulator import ChatRequest

pytestmark = pytest.mark.usefixtures("environment")

MODEL = "gpt-4.1"
PICTURE = corners()


def chat(server: Emulator | None = None, **options: Any) -> ChatAIFS:
    """The model; at this server, else at that of the environment."""
    there = {} if server is None else {"base_url": server.base_url, "api_key": server.api_key}
    return ChatAIFS(**{"model": MODEL, "use_responses_api": True, **there, **options})


def events(*told: dict[str, Any]) -> str:
    """A stream with these events."""
    return "".join(
        f"event: {event['type']}\ndata: {json.dumps({'sequence_number': number, **event})}\n\n"
        for number, event in enumerate(told)
    )


def response(*output: dict[str, Any], status: str = "completed", **more: Any) -> dict[str, Any]:
    """A response as a host sends it."""
    usage: dict[str, Any] = {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}
    usage |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    head: dict[str, Any] = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": MODEL,
        "parallel_tool_calls": True,
    }
    return {
        **head,
        "tools": [],
        "tool_choice": "auto",
        "status": status,
        "output": list(output),
        "usage": usage,
        **more,
    }


def words(text: str) -> dict[str, Any]:
    """An item with a text."""
    said = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [said]}


THOUGHTS = {"type": "reasoning", "id": "rs_1", "summary": []}


def ways_to(server: Emulator, whole: dict[str, Any], *deltas: dict[str, Any]) -> Iterator[Any]:
    """Calls that get this response, whole twice, then in events twice."""
    last = {"type": f"response.{whole['status']}", "response": whole}
    for number, way in enumerate(four_ways(chat())):
        body = json.dumps(whole) if number < 2 else events(*deltas, last)
        server.fail(200, body=body, headers={} if number < 2 else SSE)
        yield way


# -- What comes back -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("server")
def test_answers_have_what_those_of_chats_have() -> None:
    """Text, usage, cost, reason and provider are there, whole and streamed; the provider is the service."""
    for way in four_ways(chat()):
        message = way()
        used, told = message.usage_metadata, message.response_metadata
        assert "emulator" in message.text
        assert used["total_tokens"] == used["input_tokens"] + used["output_tokens"] > used["output_tokens"] > 0
        cost = model_card(MODEL).cost_eur(used["input_tokens"], used["output_tokens"])
        assert told["cost_eur"] == pytest.approx(cost)
        assert (told["finish_reason"], told["model_name"]) == ("stop", MODEL)
        assert told["model_provider"] == "aifs"  # as traces have it, or middleware would not believe its usage
        assert [block["type"] for block in message.content_blocks] == ["text"]


def test_thoughts_calls_and_refusals_are_kept() -> None:
    """They are where those of chats are, and LangChain knows their blocks, whole and streamed."""
    call = called("look", {"at": "the left"})
    message = {"content": "Well.", "reasoning_content": "Hm, let me see now.", "tool_calls": [call]}
    with Emulator(ocr=False, reply=lambda _: message) as server:
        for way in four_ways(chat(server)):
            answer = way()
            assert answer.additional_kwargs["reasoning_content"] == "Hm, let me see now."
            assert [(made["name"], made["args"], made["id"]) for made in answer.tool_calls] == [
                ("look", {"at": "the left"}, call["id"])
            ]
            assert answer.response_metadata["finish_reason"] == "tool_calls"
            assert {block["type"] for block in answer.content_blocks} == {"reasoning", "text", "tool_call"}
    with Emulator(ocr=False, reply=lambda _: {"refusal": "I would rather not."}) as server:
        for way in four_ways(chat(server)):
            assert way().additional_kwargs["refusal"] == "I would rather not."
        with pytest.raises(RefusedOutputError, match="rather not"):
            chat(server).with_structured_output(method="json_mode").invoke("Hello")


@pytest.mark.usefixtures("server")
def test_chats_keep_their_blocks() -> None:
    """Who has asked /responses once still gets the thoughts of chats as blocks."""
    chat()
    message = AIMessage(
        "Yes", additional_kwargs={"reasoning_content": "Hm"}, response_metadata={"model_provider": "aifs"}
    )
    assert [block["type"] for block in message.content_blocks] == ["reasoning", "text"]


def test_an_answer_that_is_cut_off_says_so(server: Emulator) -> None:
    """What there is of it comes, with the reason that a chat would have."""
    for way in four_ways(chat()):
        server.fail("length")
        message = way()
        assert message.text
        assert message.response_metadata["finish_reason"] == "length"
        assert message.response_metadata["status"] == "incomplete"


@pytest.mark.parametrize("details", [{}, {"reason": None}, None])
def test_a_reason_that_is_not_told_is_none(server: Emulator, details: dict[str, Any] | None) -> None:
    """An incomplete answer that does not say why has no reason called "None", and its status says what it is."""
    delta = {"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0}
    whole = response(words("Well"), status="incomplete", incomplete_details=details)
    for way in ways_to(server, whole, {**delta, "delta": "Well", "logprobs": []}):
        told = way().response_metadata
        assert (told["finish_reason"], told["status"]) == ("stop", "incomplete")
    for way in ways_to(server, response(THOUGHTS, status="incomplete", incomplete_details=details)):
        with pytest.raises(UnexpectedAnswerError, match=r"without a text or a call from [^ ]*$"):
            way()


# -- What is no answer ---------------------------------------------------------------------------------------------

FULL = {"code": "context_length_exceeded", "message": "Your input exceeds the context window"}
NONE: dict[str, tuple[dict[str, Any], type[AIFSError], str]] = {
    "failed": (response(status="failed", error={"code": "server_error", "message": "on fire"}),
               UnexpectedAnswerError, "on fire"),
    "too long": (response(status="failed", error=FULL), ContextLengthError, "context window"),
    "failed without a word": (response(status="failed"), UnexpectedAnswerError, "error"),
    "only thoughts": (response(THOUGHTS, status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
                      UnexpectedAnswerError, "max_output_tokens.*more room"),
    "incomplete": (response(words(""), status="incomplete", incomplete_details={"reason": "content_filter"}),
                   UnexpectedAnswerError, "content_filter"),
    "nothing": (response(), UnexpectedAnswerError, "without a text or a call"),
}  # fmt: skip


@pytest.mark.parametrize("case", NONE)
def test_what_is_no_answer_is_an_error(server: Emulator, case: str) -> None:
    """A response that failed, or ended before anything was said, is never an empty text; whole and streamed."""
    whole, kind, said = NONE[case]
    for way in ways_to(server, whole):
        with pytest.raises(kind, match=said):
            way()


def test_an_empty_text_is_an_answer_where_it_is_whole(server: Emulator) -> None:
    """A model that has completed an empty text has read an empty page."""
    done = {"type": "response.output_text.done", "item_id": "msg_1", "output_index": 0, "content_index": 0, "text": ""}
    for way in ways_to(server, response(words("")), done):
        assert way().text == ""


@pytest.mark.parametrize("body", [
    "<html>", "[]", "{}", '{"output": null}', '{"output": ["x"]}', json.dumps(response(words("x"), usage=5)),
    json.dumps(response({"type": "message", "content": "x"})), json.dumps(response({"type": "function_call"})),
])  # fmt: skip
def test_what_is_no_response_is_an_error(server: Emulator, body: str) -> None:
    """An answer of another shape is an error of the tree that shows it, and not one of Python."""
    for way in four_ways(chat())[:2]:
        server.fail(200, body=body, times=4)
        with virtual_time(), pytest.raises(AIFSError):
            way()
        server.clear()


@pytest.mark.parametrize("body", ["nope", '"nope"'])
def test_a_success_other_than_200_is_checked_as_well(server: Emulator, body: str) -> None:
    """A 201 that is no JSON object is an error that shows what came, for chats and /responses."""
    for model in (chat(), ChatAIFS(model=MODEL)):
        for way in four_ways(model)[:2]:
            server.fail(201, body=body)
            with pytest.raises(UnexpectedAnswerError, match=r"No JSON.*nope"):
                way()


@pytest.mark.parametrize(
    "body", ["data: {nonsense\n\n", "", events({"type": "response.created", "response": response(status="queued")})]
)
def test_a_stream_without_an_end_is_an_error(server: Emulator, body: str) -> None:
    """A stream that ends before its response does, or is none, is an error."""
    for way in four_ways(chat())[2:]:
        server.fail(200, body=body, headers=SSE)
        with pytest.raises(UnexpectedAnswerError):
            way()
        server.fail("cut_stream")
        with pytest.raises(UnexpectedAnswerError, match="without an end"):
            way()


def test_an_error_in_a_stream_is_of_both_trees(server: Emulator) -> None:
    """A context overflow told in an event is LangChain's as well, for chats and /responses."""
    from langchain_core.exceptions import ContextOverflowError

    for model in (chat(), ChatAIFS(model=MODEL)):
        for way in four_ways(model)[2:]:
            server.fail(200, body=f"data: {json.dumps({'error': FULL})}\n\n", headers=SSE)
            with pytest.raises(ContextLengthError) as raised:
                way()
            assert isinstance(raised.value, ContextOverflowError)


# -- What is sent --------------------------------------------------------------------------------------------------


def test_parameters_go_where_this_endpoint_has_them(server: Emulator) -> None:
    """Room has its own name here; a temperature goes to models that take one."""
    for model in (MODEL, "o3", "gpt-5"):
        model_ = chat(model=model, temperature=0.2, max_tokens=50)
        assert model_.invoke("Hello").text
        assert summed(list(model_.stream("Hello", max_completion_tokens=60))).text
    assert [request.body.get("temperature") for request in server.requests] == [0.2, 0.2, None, None, None, None]
    assert [request.body["max_output_tokens"] for request in server.requests] == [50, 60] * 3
    assert chat(queue=True).invoke("Hello").text
    assert "".join(chunk.text for chunk in chat(queue=True).stream("Hello"))
    assert [request.path for request in server.requests[-2:]] == ["/queue/responses"] * 2


def test_the_queue_stands_in_for_it(server: Emulator) -> None:
    """With queue="auto", what cannot be had at once is asked of the queue, as with chats."""
    server.fail(404, path="/v2/responses")
    assert chat(queue="auto").invoke("Hello").text
    assert [request.path for request in server.requests] == ["/v2/responses", "/queue/responses"]


def test_a_name_like_codex_needs_no_responses(server: Emulator) -> None:
    """gpt-5-codex works by chat, and by /responses where that is asked for."""
    assert ChatAIFS(model="gpt-5-codex").invoke("Hello").text
    assert chat(model="gpt-5-codex").invoke("Hello").text
    assert [request.path for request in server.requests] == ["/v2/chat/completions", "/v2/responses"]


def test_pictures_arrive_from_every_place(server: Emulator) -> None:
    """Pictures of users, system, assistant and tools are sent prepared, in messages of the user, with their detail."""
    block = image_block(PICTURE)
    url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{block['base64']}", "detail": "low"}}
    messages = [
        SystemMessage([{"type": "text", "text": "As here:"}, block]),
        HumanMessage([{"type": "text", "text": "Look"}, url]),
        AIMessage([{"type": "text", "text": "Like this?"}, block], tool_calls=[{"name": "f", "args": {}, "id": "c"}]),
        ToolMessage([{"type": "text", "text": "found"}, block], tool_call_id="c"),
        HumanMessage("What now?"),
    ]
    answers = [chat().invoke(messages), asyncio.run(chat().ainvoke(messages)), summed(list(chat().stream(messages)))]
    for request, answer in zip(server.requests, answers, strict=True):
        shown = [
            (item["role"], part.get("detail"))
            for item in request.body["input"] if isinstance(item.get("content"), list)
            for part in item["content"] if part["type"] == "input_image"
        ]  # fmt: skip
        assert sorted(shown, key=str) == sorted([("user", "low"), *[("user", None)] * 3], key=str)
        assert len(request.images) == 4
        assert answer.usage_metadata is not None
        assert answer.usage_metadata["input_tokens"] > 3 * image_tokens(MODEL, 60, 40) + image_tokens(
            MODEL, 60, 40, detail="low"
        )


@tool
def look(place: str) -> list[dict[str, Any]]:
    """Shows a place."""
    return [{"type": "text", "text": place}, dict(image_block(PICTURE))]


def test_a_conversation_with_tools_goes_on() -> None:
    """Calls, results with pictures and answers, also streamed ones, go back as the service wants them."""

    def reply(asked: ChatRequest) -> dict[str, Any] | None:
        place = re.search(r"'(\w+)'", asked.prompt) if "result of the tool" not in asked.prompt else None
        return {"tool_calls": [called("look", {"place": place[1]})]} if place else None

    with Emulator(ocr=False, reply=reply) as server:
        model: Any = chat(server).bind_tools([look])
        for ask in (model.invoke, lambda messages: summed(list(model.stream(messages)))):
            messages: list[Any] = [HumanMessage("Show me 'Ulm'")]
            messages.append(ask(messages))
            messages += [look.invoke(call) for call in messages[-1].tool_calls]
            messages.append(ask(messages))
            assert messages[-1].text
            messages += [HumanMessage("And 'Bonn'?")]
            assert ask(messages).tool_calls[0]["args"] == {"place": "Bonn"}
            assert len(server.requests[-1].images) == 1


class Joke(BaseModel):
    """A joke."""

    setup: str
    stars: int


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
def test_data_comes_by_every_method(method: Any) -> None:
    """Structured output works as with chats: data, raw message with cost, and an error for what does not fit."""
    with Emulator(ocr=False, reply=answer_from_tools_and_schema) as server:
        data = chat(server).with_structured_output(Joke, method=method, include_raw=True)
        if method != "json_mode":
            found = data.invoke("Tell 'a good one'")
            assert found["parsed"] == Joke(setup="a good one", stars=3)
            assert found["raw"].response_metadata["cost_eur"] > 0
        server.fail(200, body=json.dumps(response(words('{"setup": 5}'))))
        odd = data.invoke("Tell 'a good one'")
        assert isinstance(odd["parsing_error"], StructuredOutputError)
        assert odd["raw"].text == '{"setup": 5}'
        server.fail(200, body=json.dumps(response(words('{"setup": 5}'))))
        assert chat(server).bind(response_format=Joke).invoke("Tell 'a good one'").text == '{"setup": 5}'


# -- The SDK by itself ---------------------------------------------------------------------------------------------


def test_the_sdk_knows_the_emulators_responses(server: Emulator) -> None:
    """OpenAI's SDK reads the emulator's responses and streams without a word of complaint."""
    with openai.OpenAI(base_url=server.base_url, api_key=server.api_key, max_retries=0) as client:
        whole = client.responses.create(model=MODEL, input="Hello", instructions="Be brief.")
        assert "emulator" in whole.output_text
        assert whole.usage is not None
        assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens > 0
        with client.responses.stream(model=MODEL, input="Hello") as stream:
            kinds = [event.type for event in stream]
            assert stream.get_final_response().output_text == whole.output_text
        assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
        again = client.responses.create(model=MODEL, input="Hello", previous_response_id=whole.id)
        assert again.previous_response_id == whole.id
        with pytest.raises(openai.BadRequestError):
            client.responses.create(model=MODEL, input=[])


def test_a_proxy_is_no_reason_to_warn() -> None:
    """LangChain's warning that it goes past a proxy is not given: the transport is the project's, which does not."""
    made = "from langchain_aifs import ChatAIFS; ChatAIFS(api_key='k', use_responses_api=True)"
    environment = {**os.environ, "HTTPS_PROXY": "http://127.0.0.1:3128"}  # a new process, since it is given once
    done = subprocess.run([sys.executable, "-c", made], env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
