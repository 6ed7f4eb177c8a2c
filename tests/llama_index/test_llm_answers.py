"""What comes back: usage and reasons everywhere, every tool call, and errors instead of empty texts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ImageBlock, ThinkingBlock

from aifs_vision import AIFSError, APIConnectionError, UnexpectedAnswerError
from aifs_vision.testing import virtual_time
from llama_index_aifs import AIFS
from tests.llama_index.scripts import call, events, scripted, served
from tests.pictures import corners, saved

if TYPE_CHECKING:
    from collections.abc import Callable

    from aifs_vision.emulator import Emulator

HELLO = [ChatMessage("Hello")]
TOKENS = {"prompt_tokens", "completion_tokens", "total_tokens"}


def plain(llm: AIFS) -> ChatResponse:
    """A whole answer."""
    return llm.chat(HELLO)


def streamed(llm: AIFS) -> ChatResponse:
    """The last response of a stream."""
    return list(llm.stream_chat(HELLO))[-1]


def aplain(llm: AIFS) -> ChatResponse:
    """A whole answer, asynchronously."""
    return asyncio.run(llm.achat(HELLO))


def astreamed(llm: AIFS) -> ChatResponse:
    """The last response of an asynchronous stream."""

    async def last() -> ChatResponse:
        return [part async for part in await llm.astream_chat(HELLO)][-1]

    return asyncio.run(last())


WAYS = [plain, streamed, aplain, astreamed]


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    """A chunk of a stream with one choice."""
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def piece(index: int | None, arguments: Any, **more: Any) -> dict[str, Any]:
    """A piece of a tool call."""
    counted = {} if index is None else {"index": index}
    name = {"name": more.pop("name")} if "name" in more else {}
    return {**counted, **more, "function": {"arguments": arguments, **name}}


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("way", WAYS)
def test_usage_and_reason_are_told(way: Callable[[AIFS], ChatResponse]) -> None:
    """Plain, streamed, sync and async, an answer tells its tokens and why it ended; a completion does, too."""
    told = way(AIFS()).additional_kwargs
    assert {*told} == {*TOKENS, "finish_reason"}
    assert told["finish_reason"] == "stop"
    assert told["total_tokens"] == told["prompt_tokens"] + told["completion_tokens"] > 0
    assert way(AIFS(max_tokens=1)).additional_kwargs["finish_reason"] == "length"


@pytest.mark.usefixtures("environment")
def test_completions_tell_it_too(server: Emulator) -> None:
    """A completion tells its tokens and why it ended, with and without pictures, whole and streamed."""
    llm, pictures = AIFS(), [ImageBlock(image=saved(corners()))]
    cases: list[dict[str, Any]] = [{}, {"image_documents": pictures}]
    for more in cases:
        for answer in (llm.complete("Hello", **more), list(llm.stream_complete("Hello", **more))[-1]):
            assert {*answer.additional_kwargs} >= {*TOKENS, "finish_reason"}
            assert answer.text
    assert [len(request.images) for request in server.requests] == [0, 0, 1, 1]


@pytest.mark.parametrize("way", WAYS)
def test_all_calls_of_a_delta_arrive(way: Callable[[AIFS], ChatResponse]) -> None:
    """Several tool calls that come in one delta are several tool calls."""
    calls = [call("left", 1, far=True), call("right", 2), call("up", 3)]
    with scripted({"tool_calls": calls}) as (llm, _):
        response = way(llm)
        found = llm.get_tool_calls_from_response(response)
    assert [(tool.tool_name, tool.tool_id, tool.tool_kwargs) for tool in found] == [
        ("left", "call_1", {"far": True}),
        ("right", "call_2", {}),
        ("up", "call_3", {}),
    ]
    assert response.additional_kwargs["finish_reason"] == "tool_calls"


INTERLEAVED = [
    chunk(tool_calls=[piece(0, "", id="a", name="left"), piece(1, "", id="b", name="right")]),
    chunk(tool_calls=[piece(1, '{"x": '), piece(0, '{"y"')]),
    chunk(tool_calls=[piece(0, ": 2}"), piece(1, "1}")]),
]
UNCOUNTED = [
    chunk(tool_calls=[piece(None, '{"y": 2}', id="a", name="left"), piece(None, '{"x": 1}', id="b", name="right")])
]
ALL_ZERO = [
    chunk(tool_calls=[piece(0, '{"y": ', id="a", name="left")]),
    chunk(tool_calls=[piece(0, "2}", id="a", name="left")]),
    chunk(tool_calls=[piece(0, '{"x": 1}', id="b", name="right")]),
]


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("way", [streamed, astreamed])
@pytest.mark.parametrize("shape", [INTERLEAVED, UNCOUNTED, ALL_ZERO])
def test_calls_are_put_together(way: Callable[[AIFS], ChatResponse], shape: list[dict[str, Any]]) -> None:
    """Pieces of calls find to each other by index, and by id where a host does not count."""
    with virtual_time(served(events(*shape, chunk("tool_calls")))):
        llm = AIFS()
        found = llm.get_tool_calls_from_response(way(llm))
    assert [(tool.tool_id, tool.tool_name, tool.tool_kwargs) for tool in found] == [
        ("a", "left", {"y": 2}),
        ("b", "right", {"x": 1}),
    ]


NAMELESS = [
    chunk(tool_calls=[piece(0, '{"y": 2}', id="", name="left")]),
    chunk(tool_calls=[piece(0, '{"x": 1}', id="", name="right")]),
]
NO_IDS = [chunk(tool_calls=[piece(0, '{"y": 2}', name="left"), piece(0, '{"x"', name="right"), piece(0, ": 1}")])]
IN_PIECES = [
    chunk(tool_calls=[piece(0, "", name="left"), piece(0, '{"y": ', name="left"), piece(0, "2}")]),
    chunk(tool_calls=[piece(0, "", name="right"), piece(0, '{"x": 1}', name="right")]),
]
THE_SAME_ID = [
    chunk(tool_calls=[piece(0, '{"y": 2}', id="a", name="left"), piece(1, '{"x": 1}', id="a", name="right")]),
]
AS_OBJECTS = [chunk(tool_calls=[piece(0, {"y": 2}, name="left"), piece(1, {"x": 1}, name="right")])]


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("way", [streamed, astreamed])
@pytest.mark.parametrize("shape", [NAMELESS, NO_IDS, IN_PIECES, THE_SAME_ID, AS_OBJECTS])
def test_calls_without_ids_are_told_apart(
    way: Callable[[AIFS], ChatResponse], shape: list[dict[str, Any]], server: Emulator
) -> None:
    """Calls that all have the number 0 and no id, as Gemini's may, are several; each has an id that fits its answer."""
    with virtual_time(served(events(*shape, chunk("tool_calls")))):
        llm = AIFS()
        response = way(llm)
        found = llm.get_tool_calls_from_response(response)
    assert [(tool.tool_name, tool.tool_kwargs) for tool in found] == [("left", {"y": 2}), ("right", {"x": 1})]
    assert_ids_fit(server, response, [tool.tool_id for tool in found])


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("way", [plain, aplain])
def test_whole_calls_without_ids_get_some(way: Callable[[AIFS], ChatResponse], server: Emulator) -> None:
    """Calls of a whole answer that have no id, or the id of another one, get one of their own."""
    calls: list[dict[str, Any]] = [
        {"function": {"name": "f", "arguments": given}} for given in ("{}", '{"x": 1}', "", None, {"y": 2})
    ]
    calls += [{**call("f"), "id": "a"}, {**call("f"), "id": "a"}]
    choice = {"message": {"role": "assistant", "content": None, "tool_calls": calls}, "finish_reason": "tool_calls"}
    with virtual_time(served({"choices": [choice]})):
        llm = AIFS()
        response = way(llm)
        found = llm.get_tool_calls_from_response(response)
    assert [tool.tool_kwargs for tool in found] == [{}, {"x": 1}, {}, {}, {"y": 2}, {}, {}]
    assert found[5].tool_id == "a"
    assert_ids_fit(server, response, [tool.tool_id for tool in found])


def assert_ids_fit(server: Emulator, response: ChatResponse, ids: list[str]) -> None:
    """The calls have these ids, each one its own, when they are shown to the model again."""
    assert all(ids)
    assert len({*ids}) == len(ids)
    assert [kept.id for kept in response.message.additional_kwargs["tool_calls"]] == ids
    answers = [ChatMessage(role="tool", content="x", additional_kwargs={"tool_call_id": id_}) for id_ in ids]
    AIFS().chat([*HELLO, response.message, *answers])
    sent = server.requests[-1].body["messages"]
    assert [one["id"] for one in sent[1]["tool_calls"]] == [one["tool_call_id"] for one in sent[2:]] == ids


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("way", [streamed, astreamed])
def test_a_call_keeps_its_id_while_it_grows(way: Callable[[AIFS], ChatResponse]) -> None:
    """Pieces that interleave under one number, each with the id of its call, find to each other by it."""
    pieces = [
        piece(0, "", name="left"),
        piece(0, '{"y": ', id="a"),
        piece(0, '{"x": ', id="b", name="right"),
        piece(0, "2}", id="a"),
        piece(0, "1}", id="b"),
    ]
    with virtual_time(served(events(*(chunk(tool_calls=[one]) for one in pieces), chunk("tool_calls")))):
        llm = AIFS()
        found = llm.get_tool_calls_from_response(way(llm))
    assert [(tool.tool_id, tool.tool_name, tool.tool_kwargs) for tool in found] == [
        ("a", "left", {"y": 2}),
        ("b", "right", {"x": 1}),
    ]


@pytest.mark.usefixtures("environment")
def test_what_was_yielded_stays_as_it_was() -> None:
    """A response of a stream shows its calls as they were then, whatever comes after it."""
    shape = [chunk(tool_calls=[piece(0, '{"y": ', id="a", name="left")]), chunk(tool_calls=[piece(0, "2}")])]
    with virtual_time(served(events(*shape, chunk("tool_calls")))):
        parts = list(AIFS().stream_chat(HELLO))
    kept = [part.message.additional_kwargs["tool_calls"][0].function.arguments for part in parts]
    assert kept == [part.message.blocks[-1].model_dump()["tool_kwargs"] for part in parts]
    assert kept == ['{"y": ', '{"y": 2}', '{"y": 2}']


DAMAGED: dict[str, tuple[dict[str, Any], str]] = {
    "half an object": (piece(0, '{"amount": 1', id="a", name="pay"), "'pay'.*no JSON object.*amount"),
    "a list": (piece(0, "[1]", id="a", name="pay"), "no JSON object"),
    "a text": (piece(0, '"A"', id="a", name="pay"), "no JSON object"),
    "a number": (piece(0, "5", id="a", name="pay"), "no JSON object"),
    "a list, not as its text": (piece(0, [1], id="a", name="pay"), "no JSON object"),
    "a number, not as its text": (piece(0, 5, id="a", name="pay"), "no JSON object"),
    "two objects": (piece(0, '{"a": 1}{"b": 2}', id="a", name="pay"), "no JSON object"),
    "no name": (piece(0, "{}", id="a"), "does not name its tool"),
    "no function": ({"index": 0, "id": "a", "type": "custom"}, "does not name its tool"),
}


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("finish", ["tool_calls", "stop"])
@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_calls_are_errors(way: Callable[[AIFS], ChatResponse], kind: str, finish: str) -> None:
    """A call without a name or whole arguments is an error, whatever reason it ended for: nobody guesses the rest."""
    damaged, words = DAMAGED[kind]
    message = {"role": "assistant", "content": "I pay.", "tool_calls": [damaged]}
    whole = {"choices": [{"message": message, "finish_reason": finish}]}
    stream = events(chunk(content="I pay.", tool_calls=[damaged]), chunk(finish))
    with (
        virtual_time(served(whole if way in {plain, aplain} else stream)),
        pytest.raises(UnexpectedAnswerError, match=words),
    ):
        way(AIFS())


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("way", WAYS)
def test_texts_in_parts_are_texts(way: Callable[[AIFS], ChatResponse]) -> None:
    """Where a host sends the text of an answer as a list of parts, it is the text of those that have one."""
    first, second = [{"type": "text", "text": "It is "}], [{"type": "reference"}, {"type": "text", "text": "12 EUR."}]
    message = {"role": "assistant", "content": first + second}
    whole = {"choices": [{"message": message, "finish_reason": "stop"}]}
    stream = events(chunk(content=first), chunk("stop", content=second))
    with virtual_time(served(whole if way in {plain, aplain} else stream)):
        assert way(AIFS()).message.content == "It is 12 EUR."


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("way", [streamed, astreamed])
def test_thoughts_stay_apart(way: Callable[[AIFS], ChatResponse]) -> None:
    """What a model thinks is a block of its own, and no part of its text."""
    body = events(chunk(reasoning_content="Hm, "), chunk(reasoning_content="yes."), chunk("stop", content="42"))
    with virtual_time(served(body)):
        response = way(AIFS())
    assert response.message.content == "42"
    assert [block.content for block in response.message.blocks if isinstance(block, ThinkingBlock)] == ["Hm, yes."]


BROKEN: dict[str, tuple[bytes | dict[str, Any], str]] = {
    "no choices": ({"choices": [], "usage": {"prompt_tokens": 1}}, "No choice"),
    "an error with status 200": ({"error": {"message": "overloaded"}}, "overloaded"),
    "no text": ({"choices": [{"message": {"role": "assistant", "content": None}, "finish_reason": "stop"}]}, "No text"),
    "all room spent on thoughts": (
        {"choices": [{"message": {"role": "assistant", "content": ""}, "finish_reason": "length"}]},
        "max_tokens",
    ),
    "filtered": (
        {"choices": [{"message": {"role": "assistant", "content": ""}, "finish_reason": "content_filter"}]},
        "content_filter",
    ),
    "a call that is cut off": (
        {
            "choices": [
                {
                    "message": {
                        "role": "assistant",
                        "tool_calls": [{**call("pay"), "function": {"name": "pay", "arguments": '{"a": 1'}}],
                    },
                    "finish_reason": "length",
                }
            ]
        },
        "cut off",
    ),
    "HTML": (b"<html>Sign in</html>", "not JSON"),
}


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("way", [plain, aplain])
@pytest.mark.parametrize("kind", BROKEN)
def test_no_answer_is_an_error(way: Callable[[AIFS], ChatResponse], kind: str) -> None:
    """An answer without choice, text or whole tool calls, or in HTML, is an error, and never an empty text."""
    body, words = BROKEN[kind]
    with virtual_time(served(body, "text/html")), pytest.raises(UnexpectedAnswerError, match=words):
        way(AIFS())


STREAMS: dict[str, tuple[bytes, type[AIFSError], str]] = {
    "HTML": (b"<html>Sign in</html>", UnexpectedAnswerError, "ended before"),
    "nothing": (events(), UnexpectedAnswerError, "ended before"),
    "an early end": (events(chunk(content="The tot"), done=False), UnexpectedAnswerError, "ended before"),
    "no text": (events(chunk(role="assistant"), chunk("stop")), UnexpectedAnswerError, "No text"),
    "an error in it": (
        events(chunk(content="The"), done=False) + b'data: {"error": {"message": "overloaded"}}\n\n',
        UnexpectedAnswerError,
        "overloaded",
    ),
    "half a chunk": (events(chunk(content="The"), done=False) + b'data: {"choi\n\n', UnexpectedAnswerError, "not JSON"),
    "a call that is cut off": (
        events(chunk(tool_calls=[piece(0, '{"amount": 1', id="a", name="pay")]), chunk("length")),
        UnexpectedAnswerError,
        "cut off",
    ),
}


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("way", [streamed, astreamed])
@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_that_is_no_answer_is_an_error(way: Callable[[AIFS], ChatResponse], kind: str) -> None:
    """A stream without text, of HTML, with an error, or that ends before its answer, ends in an error of the tree."""
    body, error, words = STREAMS[kind]
    with virtual_time(served(body)), pytest.raises(error, match=words):
        way(AIFS())


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("way", [streamed, astreamed])
def test_a_stream_that_breaks_is_an_error(server: Emulator, way: Callable[[AIFS], ChatResponse]) -> None:
    """A connection that breaks in mid-stream is a connection error of the tree."""
    server.fail("reset_body")
    with pytest.raises(APIConnectionError, match="stream of 'Qwen"):
        way(AIFS())


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("way", WAYS)
def test_an_empty_text_that_was_said_is_an_answer(way: Callable[[AIFS], ChatResponse]) -> None:
    """A model may say nothing, where it says so, and a refusal is what it said."""
    with scripted("") as (llm, _):
        response = way(llm)
    assert (response.message.content, response.additional_kwargs["finish_reason"]) == ("", "stop")
    refusal = {"role": "assistant", "content": None, "refusal": "I will not."}
    whole = {"choices": [{"message": refusal, "finish_reason": "stop"}]}
    stream = events(chunk(refusal="I will "), chunk("stop", refusal="not."))
    with virtual_time(served(whole if way in {plain, aplain} else stream)):
        assert way(AIFS()).message.content == "I will not."
