"""Requests to `/responses`, checked as strictly as those of chats, and told in a chat's terms.

So whatever answers chats, a `reply=` too, answers these: items of the input become messages, with calls of tools and
their results where a chat has them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from aifs_vision.emulator._checks import ChatRequest, Refused, check_image, known_model, schema_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aifs_vision._catalogue import ModelCard
    from aifs_vision.emulator._checks import SentImage

__all__ = ["check_responses"]

_FIELDS = frozenset(
    re.findall(
        r"\w+",
        """
    background context_management conversation include input instructions max_output_tokens max_tool_calls metadata
    model parallel_tool_calls previous_response_id prompt prompt_cache_key reasoning safety_identifier service_tier
    store stream stream_options temperature text tool_choice tools top_logprobs top_p truncation user
    """,
    )
)
_LEAST_ROOM = 16  # tokens
_SPOKEN = {
    "user": ("input_text", "input_image"),
    "system": ("input_text",),
    "developer": ("input_text",),
    "assistant": ("output_text", "refusal"),
    "tool": ("input_text", "input_image"),
}


def check_responses(body: Any, earlier: Sequence[dict[str, Any]]) -> ChatRequest:
    """The request, all but its pictures checked; `earlier` are the messages that it goes on from.

    Raises:
        Refused: it is not one the service would take.
    """
    if not isinstance(body, dict):
        raise Refused(400, "body: Input should be a valid dictionary")
    card = known_model(body.get("model"), "chat")
    if strange := sorted(set(body) - _FIELDS):
        raise Refused(400, f"Unknown parameter: '{strange[0]}'.")
    _check_numbers(body, card)
    instructions = body.get("instructions")
    if not isinstance(instructions, (str, type(None))):
        raise Refused(400, "Invalid type for 'instructions': expected a string.")
    first = [{"role": "system", "content": instructions}] if instructions else []
    messages = [*first, *earlier, *_messages_of(body.get("input"))]
    _check_calls(messages)
    asked = {
        "model": body["model"],
        "messages": messages,
        "tools": [*_tools_of(body.get("tools") or [])],
        "tool_choice": _choice_of(body.get("tool_choice")),
        "response_format": _format_of(body.get("text")),
        "max_completion_tokens": body.get("max_output_tokens"),
        "temperature": body.get("temperature"),
        "stream": body.get("stream"),
    }
    texts = tuple(_text_of(message) for message in messages)
    return ChatRequest(
        model=body["model"],
        card=card,
        body={name: value for name, value in asked.items() if value not in (None, [])},
        prompt=next((_text_of(m) for m in reversed(messages) if m["role"] == "user"), ""),
        texts=texts,
        images=tuple(_images_of(messages, card)),
        schema=schema_of(asked["response_format"]),
    )


def _check_numbers(body: dict[str, Any], card: ModelCard) -> None:
    room = body.get("max_output_tokens")
    if room is not None and (not isinstance(room, int) or room < _LEAST_ROOM):
        what = f"integer below minimum value. Expected a value >= {_LEAST_ROOM}, but got {room} instead."
        raise Refused(400, f"Invalid 'max_output_tokens': {what}")
    if not card.takes_temperature and body.get("temperature") not in [None, 1]:
        raise Refused(400, "Unsupported parameter: 'temperature' is not supported with this model.")


# -- Input -> messages -----------------------------------------------------------------------------------------------


def _messages_of(given: Any) -> list[dict[str, Any]]:
    if isinstance(given, str) and given:
        return [{"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise Refused(400, "Missing required parameter: 'input'.")
    messages: list[dict[str, Any]] = []
    for index, item in enumerate(given):
        message = _message_of(item, f"input[{index}]")
        if message is None:
            continue
        if "tool_calls" in message and messages and messages[-1]["role"] == "assistant":
            last = messages[-1]  # a turn's words and calls are items of their own here, and one message there
            last["tool_calls"] = [*last.get("tool_calls", ()), *message["tool_calls"]]
        else:
            messages.append(message)
    return messages


def _message_of(item: Any, place: str) -> dict[str, Any] | None:
    """The message that an item is; None for thoughts, which the model has had already."""
    kind = item.get("type", "message") if isinstance(item, dict) else None
    if kind == "message":
        role = item.get("role")
        if not isinstance(role, str) or role not in _SPOKEN or role == "tool":
            raise Refused(400, f"Invalid value: {role!r} for '{place}.role'.")
        return {"role": role, "content": _content_of(item.get("content"), role, f"{place}.content")}
    if kind == "function_call":
        _check_texts(item, ("call_id", "name", "arguments"), place)
        function = {"name": item["name"], "arguments": item["arguments"]}
        call = {"id": item["call_id"], "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if kind == "function_call_output":
        _check_texts(item, ("call_id",), place)
        content = _content_of(item.get("output"), "tool", f"{place}.output")
        return {"role": "tool", "tool_call_id": item["call_id"], "content": content}
    if kind == "reasoning" and isinstance(item.get("summary"), list):
        return None
    raise Refused(400, f"Invalid value: {kind!r} for '{place}.type'.")


def _check_texts(item: dict[str, Any], names: Sequence[str], place: str) -> None:
    for name in names:
        if not isinstance(item.get(name), str):
            raise Refused(400, f"Missing required parameter: '{place}.{name}'.")


def _content_of(given: Any, role: str, place: str) -> str | list[dict[str, Any]]:
    if isinstance(given, str):
        return given
    if not isinstance(given, list):
        raise Refused(400, f"Invalid type for '{place}': expected a string or an array.")
    return [_part_of(part, role, f"{place}[{index}]") for index, part in enumerate(given)]


def _part_of(part: Any, role: str, place: str) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in _SPOKEN[role]:
        raise Refused(400, f"Invalid value: {kind!r} for '{place}.type'. Supported: {', '.join(_SPOKEN[role])}.")
    if kind == "input_image":
        if not isinstance(part.get("image_url"), str):
            raise Refused(400, f"Invalid type for '{place}.image_url': expected a string.")
        picture = {"url": part["image_url"], **({"detail": part["detail"]} if part.get("detail") else {})}
        check_image(picture, place)
        return {"type": "image_url", "image_url": picture}
    name = "refusal" if kind == "refusal" else "text"
    _check_texts(part, (name,), place)
    return {"type": "text", "text": part[name]}


def _check_calls(messages: Sequence[dict[str, Any]]) -> None:
    """Every result is that of a call, and every call has its result."""
    calls = {call["id"] for message in messages for call in message.get("tool_calls", ())}
    results = {message["tool_call_id"] for message in messages if message["role"] == "tool"}
    for lonely in sorted(results - calls):
        raise Refused(400, f"No tool call found for function call output with call_id {lonely}.")
    for lonely in sorted(calls - results):
        raise Refused(400, f"No tool output found for function call {lonely}.")


def _text_of(message: dict[str, Any]) -> str:
    content = message["content"]
    parts = content if isinstance(content, list) else []
    return content if isinstance(content, str) else "\n".join(part["text"] for part in parts if "text" in part)


def _images_of(messages: Sequence[dict[str, Any]], card: ModelCard) -> Iterator[SentImage]:
    for message in messages:
        for part in message["content"] if isinstance(message["content"], list) else ():
            if part["type"] == "image_url":
                if not card.takes_images:
                    raise Refused(400, f"{card.name} is not a multimodal model")
                yield check_image(part["image_url"], "input")


# -- Tools and form --------------------------------------------------------------------------------------------------


def _tools_of(tools: Any) -> Iterator[dict[str, Any]]:
    for index, tool in enumerate(tools if isinstance(tools, list) else [None]):
        if not isinstance(tool, dict) or tool.get("type") != "function":
            raise Refused(400, f"tools[{index}]: the emulator has functions alone")
        _check_texts(tool, ("name",), f"tools[{index}]")
        yield {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}


def _choice_of(choice: Any) -> Any:
    if isinstance(choice, dict):
        _check_texts(choice, ("name",), "tool_choice")
        return {"type": "function", "function": {"name": choice["name"]}}
    if choice not in (None, "auto", "none", "required"):
        raise Refused(400, f"Invalid value: {choice!r} for 'tool_choice'.")
    return choice


def _format_of(text: Any) -> dict[str, Any] | None:
    form = text.get("format") if isinstance(text, dict) else text
    if form is None:
        return None
    if not isinstance(form, dict):
        raise Refused(400, "Invalid type for 'text.format': expected an object.")
    if form.get("type") != "json_schema":
        return form
    return {"type": "json_schema", "json_schema": {name: value for name, value in form.items() if name != "type"}}
