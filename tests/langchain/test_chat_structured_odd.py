"""Structured output where hosts and schemas are not as usual: how answers are cut off, wrappings, other models."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from langchain_aifs import ChatAIFS, RefusedOutputError, StructuredOutputError

if TYPE_CHECKING:
    from aifs_vision.emulator import Emulator

pytestmark = pytest.mark.usefixtures("environment")

QWEN = "Qwen3-VL-30B-A3B-Instruct-FP8"


class Receipt(BaseModel):
    """What a receipt says."""

    shop: str = ""
    total: float = 0


WHOLE = '{"shop": "a", "total": 1}'
SCHEMA = Receipt.model_json_schema()


def answer(content: str, finish: str) -> str:
    """A whole answer of a host."""
    message = {"role": "assistant", "content": content}
    return json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": finish}]})


@pytest.mark.parametrize("finish", ["length", "max_tokens", "MAX_TOKENS", "model_length"])
@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
def test_every_word_for_no_room_is_heard(server: Emulator, finish: str, method: Any) -> None:
    """An answer without room for more is cut off by whatever name, also where it looks whole."""
    server.fail(200, body=answer(WHOLE, finish))
    with pytest.raises(StructuredOutputError, match=f"cut off.*{finish}") as raised:
        ChatAIFS().with_structured_output(Receipt, method=method).invoke("Hello")
    assert raised.value.raw.text == WHOLE


@pytest.mark.parametrize(
    ("details", "kind"),
    [
        ({"reason": "max_output_tokens"}, StructuredOutputError),
        (None, StructuredOutputError),
        ({"reason": "content_filter"}, RefusedOutputError),
    ],
)
def test_incomplete_responses_are_no_data(server: Emulator, details: Any, kind: type[Exception]) -> None:
    """What `/responses` calls incomplete is cut off, or filtered, and never data."""
    said = {"type": "output_text", "text": WHOLE, "annotations": []}
    output = [{"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [said]}]
    body = {"id": "r", "object": "response", "created_at": 1, "status": "incomplete", "incomplete_details": details}
    body |= {"model": "gpt-4.1", "output": output, "parallel_tool_calls": True, "tools": [], "tool_choice": "auto"}
    server.fail(200, body=json.dumps(body), headers={"content-type": "application/json"})
    chat = ChatAIFS(model="gpt-4.1", use_responses_api=True)
    with pytest.raises(kind) as raised:
        chat.with_structured_output(Receipt, method="json_mode").invoke("Hello")
    assert type(raised.value) is kind


UNTITLED = {key: value for key, value in SCHEMA.items() if key != "title"}


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode", None])
@pytest.mark.parametrize(
    ("schema", "name"),
    [
        ({"name": "Slip", "schema": SCHEMA, "strict": True}, "Slip"),
        ({"type": "json_schema", "json_schema": {"name": "Slip", "schema": SCHEMA}}, "Slip"),
        (UNTITLED, "Answer"),
        ({**SCHEMA, "title": "A slip, 2026"}, "A_slip_2026"),
    ],
)
def test_schemas_may_come_in_any_wrapping(server: Emulator, method: Any, schema: dict[str, Any], name: str) -> None:
    """A JSON schema, with or without title, wrapped as in requests or not, does for every method."""
    chat = ChatAIFS(model="gpt-4.1")
    function = {"name": name, "arguments": WHOLE}
    message = {"role": "assistant", "content": WHOLE, "tool_calls": [{"id": "a", "function": function}]}
    server.fail(200, body=json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}))
    assert chat.with_structured_output(schema, method=method).invoke("Hello") == json.loads(WHOLE)
    body = server.requests[-1].body
    if method == "function_calling":
        assert body["tools"][0]["function"]["name"] == name
        assert body["tools"][0]["function"]["parameters"]["properties"].keys() == SCHEMA["properties"].keys()
        assert body["tools"][0]["function"].get("strict") == schema.get("strict")
    elif method != "json_mode":
        assert body["response_format"]["json_schema"]["name"] == name
        assert body["response_format"]["json_schema"]["schema"]["properties"].keys() == SCHEMA["properties"].keys()


def test_the_method_is_that_of_the_model_that_is_asked(server: Emulator) -> None:
    """A model that is named for the data decides how it is asked for."""
    sent = []
    more: Any
    for chat, more in (
        (ChatAIFS(model="claude-sonnet-4"), {}),
        (ChatAIFS(model="gpt-4.1"), {"model": "claude-sonnet-4"}),
    ):
        chat.with_structured_output(Receipt, include_raw=True, **more).invoke("Hello")
        body = server.requests[-1].body
        sent.append((body["model"], body.keys() & {"tools", "response_format"}))
    assert sent[0] == sent[1]
    ChatAIFS(model="gpt-4.1").with_structured_output(Receipt, include_raw=True).invoke("Hello")
    assert sent[0][1] != server.requests[-1].body.keys() & {"tools", "response_format"}
