"""Tool calls as hosts send them -> calls that LangChain tells apart: each with a number and an id of its own.

Hosts differ: some count their calls, some give each an id, some do neither, give all the number 0, or repeat name
and id in every piece. LangChain adds pieces up by their number, and names and ids letter by letter.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

__all__ = ["ToolCalls", "told_apart"]


def told_apart(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The calls of a whole answer, each with an id of its own and its arguments as text."""
    known: set[str] = set()
    made = []
    for call in calls:
        function = _function_of(call)
        own = _id_for(call, known)
        known.add(own)
        made.append({**call, "id": own, "function": {**function, "arguments": function.get("arguments") or "{}"}})
    return made


@dataclass
class _Call:
    """A call as far as it has come; `theirs` is the host's id for it, `place` the host's number."""

    number: int
    own: str
    theirs: str | None
    place: Any
    name: str | None
    arguments: str = ""


class ToolCalls:
    """The calls of one streamed answer."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []

    def pieces(self, delta: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The pieces of calls in one delta, numbered anew; id and name come in a call's first piece alone."""
        touched: list[_Call] = []
        return [self._piece(piece, touched) for piece in delta]

    def _piece(self, piece: dict[str, Any], touched: list[_Call]) -> dict[str, Any]:
        function = _function_of(piece)
        name, arguments = function.get("name") or None, function.get("arguments") or ""
        call, own = self._begun(piece, name, arguments, touched), None
        if call is None:
            own = _id_for(piece, {call.own for call in self._calls})
            call = _Call(len(self._calls), own, piece.get("id") or None, piece.get("index"), None)
            self._calls.append(call)
        touched.append(call)
        call.theirs, call.arguments = piece.get("id") or call.theirs, call.arguments + arguments
        new_name = name if call.name is None else None
        call.name = call.name or name
        return {**piece, "index": call.number, "id": own, "function": {**function, "name": new_name}}

    def _begun(self, piece: dict[str, Any], name: str | None, arguments: str, touched: list[_Call]) -> _Call | None:
        """The call that this is a piece of, by its id, else by its place; None if it is the first piece of one."""
        given, place = piece.get("id") or None, piece.get("index")
        named = [call for call in self._calls if given and call.theirs == given]
        placed = [call for call in self._calls if place is None or call.place == place]
        found = named or placed
        if not found:
            return None
        call = found[-1]
        if not named and given and call.theirs:
            return None
        if name and (call in touched or (call.name and name != call.name)):
            return None
        if name and _is_whole(call.arguments) and (arguments or not named):
            return None
        return call


def _id_for(call: dict[str, Any], known: set[str]) -> str:
    """The host's id; one of our own where it is missing or another call's, or the tool's answer would find no call."""
    given = call.get("id")
    return given if given and isinstance(given, str) and given not in known else f"call_aifs_{uuid4().hex}"


def _function_of(call: dict[str, Any]) -> dict[str, Any]:
    """Name and arguments; some hosts send the arguments as an object, and not as its text."""
    function: dict[str, Any] = call.get("function") or {}
    if isinstance(function.get("arguments"), dict):
        return {**function, "arguments": json.dumps(function["arguments"], ensure_ascii=False)}
    return function


def _is_whole(arguments: str) -> bool:
    if not arguments.rstrip().endswith("}"):
        return False
    try:
        return isinstance(json.loads(arguments), dict)
    except ValueError:
        return False
