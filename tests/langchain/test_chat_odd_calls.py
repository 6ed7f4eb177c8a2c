"""Tool calls whose arguments are JSON but no object: invalid calls, whole or streamed, and never a bare error."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from aifs_vision import UnexpectedAnswerError
from langchain_aifs import ChatAIFS, StructuredOutputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.messages import AIMessage

    from aifs_vision.emulator import Emulator

pytestmark = pytest.mark.usefixtures("environment")

NO_OBJECTS = ['[{"name": "A"}]', "[]", '"A"', '""', "5", "0", "true", "false", [{"name": "A"}], 5, []]
NOTHING = ["null", " null\n", "", None, "{}"]
QWEN = "Qwen3-VL-30B-A3B-Instruct-FP8"


class Person(BaseModel):
    """Somebody."""

    name: str


class Wish(BaseModel):
    """What need not be said."""

    name: str = "none"


def answers(arguments: Any, name: str = "Person") -> tuple[str, str]:
    """A whole answer that calls a tool, and one that does so in a stream."""
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    called = [{"index": 0, "id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}]
    head: dict[str, Any] = {"id": "1", "model": QWEN, "created": 1}
    message = {"role": "assistant", "content": None, "tool_calls": called}
    whole = {**head, "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}], "usage": usage}
    choice = {"index": 0, "delta": message, "finish_reason": "tool_calls"}
    told = [{**head, "choices": [choice]}, {**head, "choices": [], "usage": usage}]
    return json.dumps(whole), "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in told) + "data: [DONE]\n\n"


def ways(server: Emulator, arguments: Any, name: str = "Person") -> list[Callable[[Any], Any]]:
    """What is asked for, whole and streamed, sync and async; a stream is added up."""
    whole, told = answers(arguments, name)

    def of_stream(asked: Any) -> Any:
        server.fail(200, body=told, headers={"content-type": "text/event-stream"})
        chunks = list(asked.stream("Hello"))
        return sum(chunks[1:], chunks[0])

    async def of_async_stream(asked: Any) -> Any:
        server.fail(200, body=told, headers={"content-type": "text/event-stream"})
        chunks = [chunk async for chunk in asked.astream("Hello")]
        return sum(chunks[1:], chunks[0])

    def of_whole(asked: Any) -> Any:
        server.fail(200, body=whole)
        return asked.invoke("Hello")

    def of_async_whole(asked: Any) -> Any:
        server.fail(200, body=whole)
        return asyncio.run(asked.ainvoke("Hello"))

    return [of_whole, of_async_whole, of_stream, lambda asked: asyncio.run(of_async_stream(asked))]


def text_of(arguments: Any) -> str:
    """The arguments as a text, which some hosts do not make of them."""
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


@pytest.mark.parametrize("arguments", NO_OBJECTS)
def test_arguments_that_are_no_object_are_an_invalid_call(server: Emulator, arguments: Any) -> None:
    """The call is an invalid one, with its arguments as they came; the answer keeps its usage and its price."""
    for way in ways(server, arguments):
        message: AIMessage = way(ChatAIFS(model=QWEN).bind_tools([Person]))
        (call,) = message.invalid_tool_calls
        assert (call["name"], call["id"], call["args"]) == ("Person", "c1", text_of(arguments))
        assert message.tool_calls == []
        assert message.usage_metadata is not None
        assert message.usage_metadata["total_tokens"] == 10
        assert message.response_metadata["cost_eur"] is not None


@pytest.mark.parametrize("arguments", NO_OBJECTS)
def test_arguments_that_are_no_object_are_no_data(server: Emulator, arguments: Any) -> None:
    """As data such arguments are the error that keeps the answer, also where every field has a default."""
    for schema in (Person, Wish):
        chat = ChatAIFS(model=QWEN).with_structured_output(schema, method="function_calling")
        for way in ways(server, arguments, schema.__name__):
            with pytest.raises(StructuredOutputError) as raised:
                way(chat)
            assert raised.value.raw.invalid_tool_calls[0]["args"] == text_of(arguments)
            assert raised.value.raw.usage_metadata is not None


@pytest.mark.parametrize("arguments", NO_OBJECTS)
def test_the_error_is_beside_the_raw_answer(server: Emulator, arguments: Any) -> None:
    """With include_raw=True the error stands beside the answer."""
    chat = ChatAIFS(model=QWEN).with_structured_output(Person, method="function_calling", include_raw=True)
    for way in ways(server, arguments)[:2]:
        given = way(chat)
        assert given["parsed"] is None
        assert isinstance(given["parsing_error"], StructuredOutputError)
        assert given["raw"].invalid_tool_calls[0]["args"] == text_of(arguments)


@pytest.mark.parametrize("arguments", NOTHING)
def test_null_is_no_arguments(server: Emulator, arguments: Any) -> None:
    """A call without arguments, however that is written, has an empty object, whole or streamed."""
    for way in ways(server, arguments):
        message: AIMessage = way(ChatAIFS(model=QWEN).bind_tools([Wish]))
        assert [(call["name"], call["args"]) for call in message.tool_calls] == [("Person", {})]
        assert message.invalid_tool_calls == []


@pytest.mark.parametrize("arguments", NOTHING)
def test_no_arguments_are_data_where_none_are_needed(server: Emulator, arguments: Any) -> None:
    """Where every field has a default, a call without arguments is the data, whole or streamed."""
    chat = ChatAIFS(model=QWEN).with_structured_output(Wish, method="function_calling")
    whole, told = answers(arguments, "Wish")
    server.fail(200, body=whole)
    assert chat.invoke("Hello") == Wish()
    server.fail(200, body=told, headers={"content-type": "text/event-stream"})
    assert list(chat.stream("Hello"))[-1] == Wish()


def test_an_invalid_call_takes_no_other_with_it(server: Emulator) -> None:
    """Of two calls of an answer the one with an object is a call."""
    calls = [{"function": {"name": "Person", "arguments": arguments}} for arguments in ("[1]", '{"name": "A"}')]
    server.fail(200, body=json.dumps({"choices": [{"message": {"tool_calls": calls}}]}))
    message = ChatAIFS(model=QWEN).invoke("Hello")
    assert [call["args"] for call in message.tool_calls] == [{"name": "A"}]
    assert [call["args"] for call in message.invalid_tool_calls] == ["[1]"]
    assert message.tool_calls[0]["id"] != message.invalid_tool_calls[0]["id"]


# -- /responses ----------------------------------------------------------------------------------------------------


def response(arguments: str) -> dict[str, Any]:
    """A whole response that calls a function."""
    call = {"type": "function_call", "id": "f", "call_id": "c1", "name": "Person", "arguments": arguments}
    head = {"id": "r", "object": "response", "created_at": 1, "model": "gpt-4.1", "status": "completed"}
    return {**head, "output": [call], "parallel_tool_calls": True, "tools": [], "tool_choice": "auto"}


@pytest.mark.parametrize("arguments", ['[{"name": "A"}]', "[]", '"A"', "5", "true", "null"])
def test_responses_with_such_calls_are_errors_of_the_tree(server: Emulator, arguments: str) -> None:
    """LangChain cannot make a message of them; the error is the project's, and shows the arguments."""
    chat = ChatAIFS(model="gpt-4.1", use_responses_api=True).bind_tools([Person])

    async def astreamed() -> list[Any]:
        return [chunk async for chunk in chat.astream("Hello")]

    whole = json.dumps(response(arguments))
    end = {"type": "response.completed", "sequence_number": 1, "response": response(arguments)}
    told = f"event: response.completed\ndata: {json.dumps(end)}\n\n"
    asked: list[tuple[str, str, Callable[[], Any]]] = [
        (whole, "application/json", lambda: chat.invoke("Hello")),
        (whole, "application/json", lambda: asyncio.run(chat.ainvoke("Hello"))),
        (told, "text/event-stream", lambda: list(chat.stream("Hello"))),
        (told, "text/event-stream", lambda: asyncio.run(astreamed())),
    ]
    for body, kind, way in asked:
        server.fail(200, body=body, headers={"content-type": kind})
        with pytest.raises(UnexpectedAnswerError, match="no JSON object"):
            way()
