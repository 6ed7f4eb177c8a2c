"""The tool calls of an answer as LlamaIndex has them: blocks, and objects of the SDK for its older code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ToolCallBlock
from openai.types.chat.chat_completion_chunk import ChoiceDeltaToolCall, ChoiceDeltaToolCallFunction

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import BaseModel

__all__ = ["blocks_of_calls", "dumped", "kept_calls"]


def dumped(pieces: Iterable[BaseModel]) -> list[dict[str, Any]]:
    """Calls, or pieces of them, as they came from the host, whatever it made of them."""
    return [piece.model_dump(warnings=False) for piece in pieces]


def blocks_of_calls(calls: Sequence[Mapping[str, Any]]) -> list[ToolCallBlock]:
    """A block for each of `ToolCalls.calls()`."""
    return [
        ToolCallBlock(
            tool_call_id=call["id"],
            tool_name=call["function"]["name"] or "",
            tool_kwargs={} if call["function"]["arguments"] == "{}" else call["function"]["arguments"],
        )
        for call in calls
    ]


def kept_calls(calls: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The calls where older code of LlamaIndex looks for them."""
    made = [
        ChoiceDeltaToolCall(
            index=number,
            id=call["id"],
            type="function",
            function=ChoiceDeltaToolCallFunction(
                name=call["function"]["name"], arguments=call["function"]["arguments"]
            ),
        )
        for number, call in enumerate(calls)
    ]
    return {"tool_calls": made} if made else {}
