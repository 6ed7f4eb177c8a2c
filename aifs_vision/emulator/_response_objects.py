"""What `/responses` answers: the response, made of a chat completion, and the events of its stream."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

from aifs_vision.emulator._wire import pieces

__all__ = ["events_of", "response_of"]

_numbers = itertools.count(1)
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def response_of(whole: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """The response that says what a chat completion says; `body` is the request, which it repeats in part."""
    output: list[dict[str, Any]] = []
    reason = None
    for choice in whole["choices"]:
        output += _items_of(choice["message"])
        reason = _INCOMPLETE.get(choice["finish_reason"])
    used = whole["usage"]
    return {
        "id": f"resp_emulator_{next(_numbers)}",
        "object": "response",
        "created_at": whole["created"],
        "model": whole["model"],
        "status": "incomplete" if reason else "completed",
        "background": False,
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "metadata": body.get("metadata") or {},
        "output": output,
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None, **(body.get("reasoning") or {})},
        "service_tier": "default",
        "store": body.get("store", True),
        "system_fingerprint": whole["system_fingerprint"],
        "temperature": body.get("temperature", 1.0),
        "text": {"format": {"type": "text"}, **(body.get("text") or {})},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": body.get("tools") or [],
        "top_p": body.get("top_p", 1.0),
        "truncation": body.get("truncation") or "disabled",
        "usage": {
            "input_tokens": used["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": used["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": used["total_tokens"],
        },
        "user": body.get("user"),
    }


def events_of(response: dict[str, Any]) -> Iterator[bytes]:
    """The same response as server-sent events, a few words each."""
    for number, (kind, told) in enumerate(_events(response)):
        event = {"type": kind, "sequence_number": number, **told}
        yield b"event: %s\ndata: %s\n\n" % (kind.encode(), json.dumps(event, ensure_ascii=False).encode())


def _items_of(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Thoughts, words and calls, each an item of the output."""
    if thoughts := message.get("reasoning_content"):
        yield {
            "type": "reasoning",
            "id": f"rs_emulator_{next(_numbers)}",
            "summary": [{"type": "summary_text", "text": thoughts}],
        }
    content: list[dict[str, Any]] = []
    if message["content"] is not None:
        content.append({"type": "output_text", "text": message["content"], "annotations": [], "logprobs": []})
    if refusal := message.get("refusal"):
        content.append({"type": "refusal", "refusal": refusal})
    if content:
        yield {
            "type": "message",
            "id": f"msg_emulator_{next(_numbers)}",
            "role": "assistant",
            "status": "completed",
            "content": content,
        }
    for call in message.get("tool_calls") or ():
        yield {
            "type": "function_call",
            "id": f"fc_emulator_{next(_numbers)}",
            "call_id": call["id"],
            "status": "completed",
            **call["function"],
        }


def _events(response: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    begun = {**response, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    yield "response.created", {"response": begun}
    yield "response.in_progress", {"response": begun}
    for index, item in enumerate(response["output"]):
        at = {"output_index": index}
        yield "response.output_item.added", {**at, "item": _empty(item)}
        of_item = {**at, "item_id": item["id"]}
        if item["type"] == "function_call":
            for piece in pieces(item["arguments"]) or [item["arguments"]]:
                yield "response.function_call_arguments.delta", {**of_item, "delta": piece}
            told = {"name": item["name"], "arguments": item["arguments"]}
            yield "response.function_call_arguments.done", {**of_item, **told}
        for number, part in enumerate(item.get("content") or item.get("summary") or ()):
            yield from _events_of_part(part, number, of_item)
        yield "response.output_item.done", {**at, "item": item}
    yield f"response.{response['status']}", {"response": response}


_PARTS = {
    # The names of a part's events, of its place, and of its text.
    "output_text": ("response.content_part", "response.output_text", "content_index", "text"),
    "refusal": ("response.content_part", "response.refusal", "content_index", "refusal"),
    "summary_text": ("response.reasoning_summary_part", "response.reasoning_summary_text", "summary_index", "text"),
}


def _events_of_part(part: dict[str, Any], number: int, of_item: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    frame, words, place, name = _PARTS[part["type"]]
    at = {**of_item, place: number}
    logprobs: dict[str, Any] = {"logprobs": []} if "logprobs" in part else {}
    yield f"{frame}.added", {**at, "part": {**part, name: ""}}
    for piece in pieces(part[name]) or [part[name]]:
        yield f"{words}.delta", {**at, "delta": piece, **logprobs}
    yield f"{words}.done", {**at, name: part[name], **logprobs}
    yield f"{frame}.done", {**at, "part": part}


def _empty(item: dict[str, Any]) -> dict[str, Any]:
    """An item as it is when nothing of it has come."""
    nothing = {"content": [], "summary": [], "arguments": "", "status": "in_progress"}
    return {name: nothing.get(name, value) for name, value in item.items()}
