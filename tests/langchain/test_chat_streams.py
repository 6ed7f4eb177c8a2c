"""Streams and answers as hosts really send them: odd ends of lines, repeated usage, calls without numbers."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import TYPE_CHECKING, Any

import pytest

from aifs_vision import UnexpectedAnswerError
from langchain_aifs import ChatAIFS, StructuredOutputError
from tests.langchain.test_chat_answers import SSE, events, four_ways

if TYPE_CHECKING:
    from aifs_vision.emulator import Emulator

pytestmark = pytest.mark.usefixtures("environment")

HEAD = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4.1"}
DONE = "data: [DONE]\n\n"


def streamed(server: Emulator, body: str) -> list[Any]:
    """The message that this body is by `stream`, and the one by `astream`."""
    messages = []
    for way in four_ways(ChatAIFS(model="gpt-4.1"))[2:]:
        server.fail(200, body=body, headers=SSE)
        messages.append(way())
    return messages


def chunk(content: str, finish: str | None = None, **more: Any) -> str:
    """One event with words."""
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return f"data: {json.dumps({**HEAD, 'choices': [choice], **more}, ensure_ascii=False)}\n\n"


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\u0085"])
def test_signs_that_end_lines_elsewhere_do_not_end_events(server: Emulator, sign: str) -> None:
    """What JSON may hold as it is, U+2028 above all, stays in the text, and does not break the stream."""
    for message in streamed(server, chunk(f"a{sign}b") + chunk("", "stop") + DONE):
        assert message.text == f"a{sign}b"


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_lines_may_end_as_the_format_allows(server: Emulator, end: str) -> None:
    """Server-sent events end their lines with CR, LF or both; the last line may have none."""
    body = (chunk("größer 日") + chunk("", "stop")).replace("\n", end) + "data: [DONE]"
    for message in streamed(server, body):
        assert message.text == "größer 日"


def test_a_mark_of_the_encoding_is_no_part_of_the_first_event(server: Emulator) -> None:
    """A stream that begins with the mark of UTF-8 keeps its first words."""
    for message in streamed(server, "\ufeff" + chunk("Hi") + chunk("", "stop") + DONE):
        assert message.text == "Hi"


def test_usage_in_every_chunk_counts_once(server: Emulator) -> None:
    """Hosts that say the usage so far with every chunk: the last one counts, with its cost, at the end."""
    used = [{"prompt_tokens": 10, "completion_tokens": n, "total_tokens": 10 + n} for n in (1, 2, 3)]
    body = "".join(chunk("x", "stop" if n == 2 else None, usage=usage) for n, usage in enumerate(used)) + DONE
    last = f"data: {json.dumps({**HEAD, 'choices': [], 'usage': used[2]})}\n\n"
    once = chunk("x") + chunk("x") + chunk("x", "stop") + last
    for message, expected in zip(streamed(server, body), streamed(server, once + DONE), strict=True):
        assert message.text == "xxx"
        assert (message.usage_metadata["input_tokens"], message.usage_metadata["output_tokens"]) == (10, 3)
        assert message.response_metadata["cost_eur"] == expected.response_metadata["cost_eur"] > 0


# -- Calls of tools ------------------------------------------------------------------------------------------------


def piece(arguments: Any, name: str | None = "w", **more: Any) -> dict[str, Any]:
    """A piece of a call, as a host sends it."""
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **more}


BONN, ULM = '{"p": "Bonn"}', '{"p": "Ulm"}'
BOTH = [("w", {"p": "Bonn"}), ("w", {"p": "Ulm"})]


@pytest.mark.parametrize(
    "deltas",
    [
        [[piece(BONN)], [piece(ULM)]],
        [[piece(BONN), piece(ULM)]],
        [[piece(BONN, id=""), piece(ULM, id="")]],
        [[piece(BONN, id="x")], [piece(ULM, id="x")]],
        [[piece(BONN, id="x"), piece(ULM, id="x")]],
        [[piece(BONN, index=0, id="a")], [piece(ULM, index=0, id="b")]],
        [[piece(BONN, index=0), piece(ULM, index=0)]],
        [[piece("", index=1, id="a")], [piece(BONN, None, index=1)], [piece('{"p":', index=1, id="b")],
         [piece(' "Ulm"}', "", index=1, id="")]],
        [[piece('{"p":', index=0, id="a"), piece('{"p":', index=1, id="b")],
         [piece(' "Bonn"}', None, index=0), piece(' "Ulm"}', None, index=1)]],
        [[piece('{"p":', index=0, id="a")], [piece(' "Bonn"}', index=0, id="a")], [piece(ULM, index=1, id="b")]],
        [[piece('{"p":')], [piece(' "Bonn"}', None)], [piece('{"p":')], [piece(' "Ulm"}')]],
        [[piece({"p": "Bonn"}), piece({"p": "Ulm"})]],
    ],
)  # fmt: skip
def test_parallel_calls_are_told_apart(server: Emulator, deltas: list[list[dict[str, Any]]]) -> None:
    """Calls stay apart, whole and with ids of their own, whatever hosts leave out or repeat."""
    body = events({"role": "assistant"}, *({"tool_calls": delta} for delta in deltas), finish="tool_calls")
    for message in streamed(server, body):
        assert [(call["name"], call["args"]) for call in message.tool_calls] == BOTH
        assert len({call["id"] for call in message.tool_calls} - {None, ""}) == 2
        assert not message.invalid_tool_calls


def test_ids_of_the_host_are_kept(server: Emulator) -> None:
    """An id that is the call's alone is the one that the tool's answer will name."""
    body = events({"tool_calls": [piece(BONN, id="a")]}, {"tool_calls": [piece(ULM, id="b")]}, finish="tool_calls")
    for message in streamed(server, body):
        assert [call["id"] for call in message.tool_calls] == ["a", "b"]


def test_whole_answers_have_ids_too(server: Emulator) -> None:
    """Calls without ids, with equal ones, or with arguments as an object can be answered as well."""
    calls = [piece(BONN), piece({"p": "Ulm"}, id="x"), piece("", id="x")]
    choice = {"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": calls}}
    server.fail(200, body=json.dumps({"choices": [{**choice, "finish_reason": "tool_calls"}]}))
    message = ChatAIFS().invoke("Hello")
    assert [(call["name"], call["args"]) for call in message.tool_calls] == [*BOTH, ("w", {})]
    assert len({call["id"] for call in message.tool_calls} - {None, ""}) == 3


# -- Ends, and what is none ----------------------------------------------------------------------------------------


def test_an_end_that_is_said_twice_is_one(server: Emulator) -> None:
    """Two chunks that say "length" are one "length", and so the answer is known to be cut off."""
    body = chunk('{"a": 1}', "length") + chunk("", "length") + DONE
    for message in streamed(server, body):
        assert message.response_metadata["finish_reason"] == "length"
    server.fail(200, body=body, headers=SSE)
    with pytest.raises(StructuredOutputError, match="cut off"):
        list(ChatAIFS().with_structured_output(method="json_mode").stream("Hello"))


def test_nothing_is_read_after_the_end(server: Emulator) -> None:
    """What comes after [DONE] is nobody's answer."""
    for message in streamed(server, chunk("Hello", "stop") + DONE + chunk(" you") + "data: {nonsense\n\n"):
        assert message.text == "Hello"


ODD = ["null", "[]", '"x"', "1", '{"choices": [null]}', '{"choices": {"a": 1}}', '{"choices": "x"}']
ODD_PARTS = [
    '"x"',
    "[1]",
    '{"content": 1}',
    '{"tool_calls": [null]}',
    '{"tool_calls": {"a": 1}}',
    '{"tool_calls": [{"function": "f"}]}',
]


@pytest.mark.parametrize("odd", [*ODD, *(f'{{"choices": [{{"delta": {part}}}]}}' for part in ODD_PARTS), ""])
def test_odd_events_are_errors_of_ours(server: Emulator, odd: str) -> None:
    """Events that are JSON, and no chunks, and streams of no events: never an AttributeError."""
    with pytest.raises(UnexpectedAnswerError):
        streamed(server, f"data: {odd}\n\n{DONE}" if odd else DONE)


@pytest.mark.parametrize("odd", [*ODD, *(f'{{"choices": [{{"message": {part}}}]}}' for part in ODD_PARTS), "{}"])
def test_odd_answers_are_errors_of_ours(server: Emulator, odd: str) -> None:
    """Answers that are JSON, and no completions, likewise."""
    for way in four_ways(ChatAIFS())[:2]:
        server.fail(200, body=odd)
        with pytest.raises(UnexpectedAnswerError):
            way()


def test_an_answer_without_a_role_is_the_assistants(server: Emulator) -> None:
    """Some hosts leave the role out, since nobody else could have spoken."""
    server.fail(200, body=json.dumps({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}))
    message = ChatAIFS().invoke("Hello")
    assert (message.type, message.text) == ("ai", "Hi")


def test_streams_that_are_left_leave_no_task(server: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    """A stream that is left as its loop ends, without `aclose`, leaves asyncio no task to complain of."""
    chat = ChatAIFS(model="gpt-4.1")

    async def left() -> None:
        async for _ in chat.astream("Hello"):
            break

    server.fail("drip", seconds=0.02, times=10)
    for _ in range(10):
        asyncio.run(left())
        gc.collect()
    assert len(server.requests) == 10
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []
