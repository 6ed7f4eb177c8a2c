"""Tool calls of an answer, put together of whatever pieces hosts send, each with an id and whole arguments."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from llama_index.core.base.llms.types import ToolCallBlock
from openai.types.chat.chat_completion_chunk import ChoiceDeltaToolCall, ChoiceDeltaToolCallFunction

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ToolCalls", "arguments_are_whole"]

_NONE_GIVEN = frozenset({"", "null"})  # how hosts write the arguments of a tool that takes none


class ToolCalls:
    """The calls of one answer, as far as they have come.

    Hosts differ: some count their calls, some give each an id, some do neither, or give all calls the number 0.
    """

    def __init__(self, pieces: Iterable[Any] = ()) -> None:
        self._calls: list[ChoiceDeltaToolCall] = []
        for piece in pieces:
            self._begin(piece)

    def add(self, piece: Any) -> None:
        """A new call, or more of one that has begun: found by its id, else by its place."""
        call = self._begun(piece)
        if call is None:
            self._begin(piece)
            return
        more = _function_of(piece)
        call.id = piece.id or call.id
        call.function = ChoiceDeltaToolCallFunction(
            name=_name_of(call) or more.name, arguments=_arguments_of(call) + (more.arguments or "")
        )

    def blocks(self) -> list[ToolCallBlock]:
        """A block for each call, as they are now."""
        return [
            ToolCallBlock(tool_call_id=call.id, tool_name=_name_of(call) or "", tool_kwargs=_given(_arguments_of(call)))
            for call in self._calls
        ]

    def kept(self) -> dict[str, Any]:
        """The calls where older code of LlamaIndex looks for them; copies, which nothing changes any more."""
        return {"tool_calls": [call.model_copy(deep=True) for call in self._calls]} if self._calls else {}

    def _begun(self, piece: Any) -> ChoiceDeltaToolCall | None:
        """The call that this is a piece of; None if it is the first piece of one."""
        name = _function_of(piece).name
        named = [call for call in self._calls if piece.id and call.id == piece.id]
        if named:
            return None if name and name != _name_of(named[-1]) else named[-1]
        place = getattr(piece, "index", None)
        placed = [call for call in self._calls if place is None or call.index == place]
        if not placed:
            return None
        call = placed[-1]
        if piece.id and not _is_ours(call):
            return None
        if name and (arguments_are_whole(_arguments_of(call)) or name != (_name_of(call) or name)):
            return None
        return call

    def _begin(self, piece: Any) -> None:
        function = _function_of(piece)
        known = {call.id for call in self._calls}
        # One that is missing, or that another call has, would leave the tool's answer without its call.
        own = piece.id if piece.id and piece.id not in known else f"{_OURS}{uuid4().hex}"
        place = getattr(piece, "index", None)
        call = ChoiceDeltaToolCall.model_construct(index=place, id=own, type="function", function=function)
        self._calls.append(call)


_OURS = "call_aifs_"


def arguments_are_whole(arguments: dict[str, Any] | str) -> bool:
    """Whether the arguments of a call are a JSON object from its first brace to its last."""
    if isinstance(arguments, dict):
        return True
    try:
        return isinstance(json.loads(arguments), dict)
    except ValueError:
        return False


def _is_ours(call: ChoiceDeltaToolCall) -> bool:
    return (call.id or "").startswith(_OURS)


def _given(arguments: str) -> dict[str, Any] | str:
    return {} if arguments.strip() in _NONE_GIVEN else arguments


def _function_of(piece: Any) -> ChoiceDeltaToolCallFunction:
    """Name and arguments of a piece; some hosts send the arguments as an object, and not as its text."""
    function = getattr(piece, "function", None)
    arguments = getattr(function, "arguments", None)
    if isinstance(arguments, dict):
        arguments = json.dumps(arguments)
    return ChoiceDeltaToolCallFunction(name=getattr(function, "name", None), arguments=arguments)


def _name_of(call: ChoiceDeltaToolCall) -> str | None:
    return call.function.name if call.function else None


def _arguments_of(call: ChoiceDeltaToolCall) -> str:
    return (call.function.arguments if call.function else None) or ""
