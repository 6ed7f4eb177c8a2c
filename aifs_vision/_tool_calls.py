"""The tool calls in a model's answer, told apart whatever its host sends: dicts in, dicts out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["ToolCalls", "arguments_are_whole"]

_NONE_GIVEN = frozenset({"", "null"})  # how hosts write the arguments of a tool that takes none


@dataclass
class _Call:
    """A call as far as it has come; `theirs` is the host's id for it, `place` the host's number, `first` its piece."""

    number: int
    own: str
    theirs: str | None
    place: Any
    first: dict[str, Any]
    name: str | None = None
    arguments: str = ""


class ToolCalls:
    """The tool calls of one answer, told apart: each with a number and an id of its own, whatever its host sends.

    Hosts differ: some count their calls, some give each an id, some do neither, give all the number 0, or repeat name
    and id in every piece; some send several calls in one delta, the same id twice, arguments as JSON and not as its
    text, or "null" where there are none.

    A call, and a piece of one, is a dict as chat completions have it: `{"id", "index", "function": {"name",
    "arguments"}}`, any of which may be missing; what else is in it is kept.
    """

    def __init__(self) -> None:
        self._calls: list[_Call] = []

    @classmethod
    def of(cls, calls: Iterable[Mapping[str, Any]]) -> ToolCalls:
        """Those of a whole answer, each of which is one call."""
        made = cls()
        for call in calls:
            begun, function = made._begin(call), _function_of(call)
            begun.name, begun.arguments = function.get("name") or None, function.get("arguments") or ""
        return made

    def add(self, delta: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Takes in the pieces of one delta of a stream.

        Returns:
            The same pieces with the number of their call as "index"; id and name are in its first piece alone, as
            frameworks add up what comes under one number. Their arguments are a text, "" where none are given.
        """
        touched: list[_Call] = []
        return [self._piece(piece, touched) for piece in delta]

    def calls(self) -> list[dict[str, Any]]:
        """The calls as they are now; their arguments are a text, which is "{}" where none are given.

        The id that a host gives to a call after its first piece is the call's from then on.
        """
        told: list[dict[str, Any]] = []
        for call in self._calls:
            kept = {key: value for key, value in call.first.items() if key != "index"}
            arguments = "{}" if call.arguments.strip() in _NONE_GIVEN else call.arguments
            function = {**_function_of(call.first), "name": call.name, "arguments": arguments}
            late = call.theirs is not None and all(call.theirs != other["id"] for other in told)
            id_ = call.theirs if late else call.own
            told.append({**kept, "id": id_, "type": call.first.get("type") or "function", "function": function})
        return told

    def _piece(self, piece: Mapping[str, Any], touched: list[_Call]) -> dict[str, Any]:
        function = _function_of(piece)
        name, arguments = function.get("name") or None, function.get("arguments") or ""
        call, own = self._begun(piece, name, arguments, touched), None
        if call is None:
            call = self._begin(piece)
            own = call.own
        touched.append(call)
        if not call.arguments and arguments.strip() in _NONE_GIVEN:
            arguments = ""
        call.theirs, call.arguments = _given_id(piece) or call.theirs, call.arguments + arguments
        new_name = name if call.name is None else None
        call.name = call.name or name
        return {
            **piece,
            "index": call.number,
            "id": own,
            "function": {**function, "name": new_name, "arguments": arguments},
        }

    def _begin(self, piece: Mapping[str, Any]) -> _Call:
        own = _id_for(piece, {call.own for call in self._calls})
        call = _Call(len(self._calls), own, _given_id(piece), piece.get("index"), dict(piece))
        self._calls.append(call)
        return call

    def _begun(self, piece: Mapping[str, Any], name: str | None, arguments: str, touched: list[_Call]) -> _Call | None:
        """The call that this is a piece of, by its id, else by its place; None if it is the first piece of one."""
        given, place = _given_id(piece), piece.get("index")
        named = [call for call in self._calls if given and call.theirs == given]
        placed = [call for call in self._calls if place is None or call.place == place]
        found = named or placed
        if not found:
            return None
        call = found[-1]
        if not named and given and call.theirs:
            return None
        if not name:
            return call
        if call.name and name != call.name:
            return None
        if arguments_are_whole(call.arguments) and (arguments or not named):
            return None
        # Named twice in one delta: two calls, unless the second piece can only go on where the first one ends.
        again = arguments.lstrip().startswith("{") if call.arguments else arguments.strip() in _NONE_GIVEN
        return None if call in touched and again else call


def arguments_are_whole(arguments: Mapping[str, Any] | str) -> bool:
    """Whether the arguments of a call are a JSON object from its first brace to its last."""
    if not isinstance(arguments, str):
        return True
    if not arguments.rstrip().endswith("}"):
        return False
    try:
        return isinstance(json.loads(arguments), dict)
    except ValueError:
        return False


def _id_for(call: Mapping[str, Any], known: set[str]) -> str:
    """The host's id; one of our own where it is missing or another call's, or the tool's answer would find no call."""
    given = _given_id(call)
    return given if given and given not in known else f"call_aifs_{uuid4().hex}"


def _given_id(call: Mapping[str, Any]) -> str | None:
    given = call.get("id")
    return given if given and isinstance(given, str) else None


def _function_of(call: Mapping[str, Any]) -> dict[str, Any]:
    """Name and arguments; some hosts send the arguments as JSON, and not as its text."""
    function: dict[str, Any] = dict(call.get("function") or {})
    if not isinstance(function.get("arguments"), (str, type(None))):
        function["arguments"] = json.dumps(function["arguments"], ensure_ascii=False)
    return function
