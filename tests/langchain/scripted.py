"""A model that calls the tools it is given and fills the schemas it is asked for, for the emulator's `reply=`."""

from __future__ import annotations

import json
import re
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aifs_vision.emulator import ChatRequest

__all__ = ["answer_from_tools_and_schema", "called", "filled"]

_NAMED = re.compile(r"'([^']+)'")
_calls = count(1)


def answer_from_tools_and_schema(asked: ChatRequest) -> str | dict[str, Any] | None:
    """The answer to whoever has spoken last: data, a call for a user, words after a tool's result."""
    if asked.schema is not None:
        return json.dumps(filled(asked.schema or _JOKE, asked.prompt), ensure_ascii=False)
    tools = {tool["function"]["name"]: tool["function"] for tool in asked.body.get("tools") or ()}
    choice = asked.body.get("tool_choice")
    if not tools or choice == "none" or asked.body["messages"][-1]["role"] != "user":
        return None
    name = choice["function"]["name"] if isinstance(choice, dict) else next(iter(tools))
    return {"tool_calls": [called(name, filled(tools[name].get("parameters") or {}, asked.prompt))]}


def called(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A call of a function, as it stands in an answer."""
    text = json.dumps(arguments, ensure_ascii=False)
    return {"id": f"call_{next(_calls)}", "type": "function", "function": {"name": name, "arguments": text}}


_JOKE = {"type": "object", "properties": {"setup": {"type": "string"}, "punchline": {"type": "string"}}}


def filled(schema: Mapping[str, Any], prompt: str, named: Mapping[str, Any] | None = None) -> Any:
    """A value that fits a schema: what the prompt has in quotes for texts, 3 for numbers."""
    named = named if named is not None else schema.get("$defs", {})
    if "$ref" in schema:
        return filled(named[schema["$ref"].rpartition("/")[2]], prompt, named)
    if "enum" in schema:
        return schema["enum"][0]
    for choices in ("anyOf", "oneOf", "allOf"):
        if choices in schema:
            return filled(schema[choices][0], prompt, named)
    kind = schema.get("type", "object")
    if kind == "object":
        return {name: filled(field, prompt, named) for name, field in schema.get("properties", {}).items()}
    if kind == "array":
        return [filled(schema.get("items", {"type": "string"}), prompt, named)]
    found = _NAMED.search(prompt)
    return {"integer": 3, "number": 3, "boolean": True}.get(kind, found[1] if found else "some words")
