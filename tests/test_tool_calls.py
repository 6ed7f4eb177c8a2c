"""Tool calls of answers, as hosts send them: told apart, whole, each with an id."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aifs_vision import ToolCalls, arguments_are_whole


def piece(arguments: Any = "", name: str | None = "w", **more: Any) -> dict[str, Any]:
    """A piece of a call as hosts send it."""
    return {**more, "function": {"name": name, "arguments": arguments}}


BONN, ULM = '{"p": "Bonn"}', '{"p": "Ulm"}'
STREAMS = {
    "whole, one after the other": [[piece(BONN)], [piece(ULM)]],
    "whole, at once": [[piece(BONN), piece(ULM)]],
    "with empty ids": [[piece(BONN, id=""), piece(ULM, id="")]],
    "with one id": [[piece(BONN, id="x")], [piece(ULM, id="x")]],
    "with one id, at once": [[piece(BONN, id="x"), piece(ULM, id="x")]],
    "all are 0": [[piece(BONN, index=0), piece(ULM, index=0)]],
    "all are 0, with ids": [[piece(BONN, index=0, id="a")], [piece(ULM, index=0, id="b")]],
    "counted": [
        [piece("", index=1, id="a")],
        [piece(BONN, None, index=1)],
        [piece('{"p":', index=2, id="b")],
        [piece(' "Ulm"}', "", index=2, id="")],
    ],
    "interleaved": [
        [piece('{"p":', index=0, id="a"), piece('{"p":', index=1, id="b")],
        [piece(' "Ulm"}', None, index=1), piece(' "Bonn"}', None, index=0)],
    ],
    "all said again": [[piece('{"p":', index=0, id="a")], [piece(' "Bonn"}', index=0, id="a")], [piece(ULM, id="b")]],
    "names said again": [[piece('{"p":')], [piece(' "Bonn"}', None)], [piece('{"p":')], [piece(' "Ulm"}')]],
    "names said again at once": [
        [piece(""), piece('{"p": '), piece('"Bonn"}', None)],
        [piece(""), piece('{"p": '), piece('"Ulm"}')],
    ],
    "objects": [[piece({"p": "Bonn"}), piece({"p": "Ulm"})]],
    "half of two at once": [[piece('{"p":'), piece('{"p":', id="b")], [piece(' "Ulm"}', None, id="b")]],
}


def told(calls: list[dict[str, Any]]) -> list[tuple[Any, Any]]:
    """Names and arguments."""
    return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls]


def added(pieces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Calls as frameworks add them up: by number, texts letter by letter."""
    calls: dict[int, dict[str, Any]] = {}
    for one in pieces:
        call = calls.setdefault(one["index"], {"id": "", "function": {"name": "", "arguments": ""}})
        call["id"] += one["id"] or ""
        for key in ("name", "arguments"):
            call["function"][key] += one["function"].get(key) or ""
    return list(calls.values())


@pytest.mark.parametrize("name", [name for name in STREAMS if not name.startswith("half")])
def test_streamed_calls_are_told_apart(name: str) -> None:
    """Whatever hosts leave out or repeat, there are two calls, with the arguments and an id of each."""
    calls = ToolCalls()
    pieces = [one for delta in STREAMS[name] for one in calls.add(delta)]
    for found in (calls.calls(), added(pieces)):
        assert told(found) == [("w", {"p": "Bonn"}), ("w", {"p": "Ulm"})]
        assert len({call["id"] for call in found} - {None, ""}) == 2
    assert [call["id"] for call in calls.calls()] == [call["id"] for call in added(pieces)]


def test_an_id_that_comes_late() -> None:
    """Pieces that interleave under one number find to each other by ids, also by one that comes late."""
    calls = ToolCalls()
    pieces = [
        piece("", "left", index=0),
        piece('{"y": ', None, index=0, id="a"),
        piece('{"x": ', "right", index=0, id="b"),
        piece("2}", None, index=0, id="a"),
        piece("1}", None, index=0, id="b"),
    ]
    numbers = [one["index"] for delta in pieces for one in calls.add([delta])]
    assert numbers == [0, 0, 1, 0, 1]
    assert told(calls.calls()) == [("left", {"y": 2}), ("right", {"x": 1})]
    assert [call["id"] for call in calls.calls()] == ["a", "b"]


def test_a_call_that_is_cut_off_takes_nothing_from_another() -> None:
    """A call that never ends keeps its half, and the other one is whole."""
    calls = ToolCalls()
    for delta in STREAMS["half of two at once"]:
        calls.add(delta)
    half, whole = (call["function"]["arguments"] for call in calls.calls())
    assert (half, arguments_are_whole(half), json.loads(whole)) == ('{"p":', False, {"p": "Ulm"})


def test_calls_without_arguments() -> None:
    """Two calls of a tool that takes none are two, however that is written; their arguments are an empty object."""
    for nothing in ("", "null", " null\n", None, "{}"):
        calls = ToolCalls()
        calls.add([piece(nothing, "up", index=0, id="a"), piece(nothing, "up", index=1, id="b")])
        assert told(calls.calls()) == [("up", {}), ("up", {})]
        assert told(ToolCalls.of([piece(nothing, "up"), piece(nothing, "up")]).calls()) == [("up", {}), ("up", {})]
    for nothing in ("", "null", None):
        calls = ToolCalls()
        pieces = calls.add([piece(nothing, "up"), piece(nothing, "up")])
        assert told(calls.calls()) == [("up", {}), ("up", {})]
        assert [one["function"]["arguments"] for one in pieces] == ["", ""]  # frameworks add up what they are given


def test_null_within_arguments_is_kept() -> None:
    """Only where nothing came before is "null" no arguments; as a value, and in a piece of its own, it is one."""
    calls = ToolCalls()
    pieces = [one for text in ('{"p": ', "null", "}") for one in calls.add([piece(text, "w", index=0, id="a")])]
    for found in (calls.calls(), added(pieces)):
        assert told(found) == [("w", {"p": None})]


@pytest.mark.parametrize("arguments", [[{"p": "Bonn"}], [], 5, 0, True, False])
def test_arguments_that_are_json_and_no_object_are_kept_as_a_text(arguments: Any) -> None:
    """What a host sends as JSON, and not as its text, is its text here, be it an object or not; whole or streamed."""
    calls = ToolCalls()
    calls.add([piece(arguments)])
    assert told(calls.calls()) == told(ToolCalls.of([piece(arguments)]).calls()) == [("w", arguments)]


def test_whole_calls() -> None:
    """Each call of a whole answer is one; its id is kept unless another call has it, and so is what else it says."""
    given = [piece(BONN, id="x", extra_content={"signature": "s"}), piece({"p": "Ulm"}, id="x"), {"id": 7}]
    first, second, third = ToolCalls.of(given).calls()
    assert (first["id"], first["type"], first["extra_content"]) == ("x", "function", {"signature": "s"})
    assert second["id"] not in {"x", "", None}
    assert isinstance(third["id"], str)
    assert told([first, second]) == [("w", {"p": "Bonn"}), ("w", {"p": "Ulm"})]
    assert third["function"] == {"name": None, "arguments": "{}"}
    assert given[1]["function"]["arguments"] == {"p": "Ulm"}  # what was given stays as it is


@pytest.mark.parametrize(
    ("arguments", "whole"),
    [("{}", True), (' {"a": {"b": 1}} ', True), ({"a": 1}, True), ('{"a": {}', False), ("[1]", False), ("", False)],
)
def test_arguments_that_are_whole(arguments: Any, whole: bool) -> None:  # noqa: FBT001 - a value of the table
    """Whole arguments are a JSON object to its last brace."""
    assert arguments_are_whole(arguments) is whole
