"""Tools and models, the same in every framework: what models are told of the tools, and the calls they make of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pydantic import BaseModel, Field

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "ANY_TOOL",
    "LONGEST_NAME",
    "LONGEST_QUESTION",
    "MOST_FIELDS",
    "MOST_HITS",
    "SEARCH",
    "ToolCalls",
    "ToolForm",
    "arguments_are_whole",
]

LONGEST_QUESTION = 2_000
"""Characters of a question, or of a query."""
MOST_FIELDS, LONGEST_NAME = 24, 60
"""Fields that are extracted at once, and characters of a field's name."""
MOST_HITS = 10
"""Hits of one search."""

_PATH = "Which image: a path below the folder, as list_images shows it (such as 'scans/bill.png')"
_FOUND = "the name that search_images gives to the picture of a page"
_IMAGE = f"{_PATH}, or the name of a picture of this conversation, such as 'picture 1' or {_FOUND}."
_PAGE = "Which page of a document, or which frame of a video, counted from 1."


@dataclass(frozen=True, kw_only=True)
class ToolForm:
    """One tool, as a model is told of it.

    Attributes:
        name: what it is called by.
        description: what it does, when to use it, and what comes back.
        arguments: its arguments, as a pydantic model.
    """

    name: str
    description: str
    arguments: type[BaseModel]

    def schema(self, *, searched: bool) -> dict[str, Any]:
        """The arguments as JSON schema, for clients whose conversation the tools do not see.

        Args:
            searched: whether there is a search whose results have names.
        """
        schema = self.arguments.model_json_schema()
        if "image" in schema["properties"]:
            schema["properties"]["image"]["description"] = f"{_PATH}, or {_FOUND}." if searched else f"{_PATH}."
        return schema


class ListImages(BaseModel):
    """The arguments of list_images."""

    folder: str = Field("", description="A folder below the root; empty for all of it.")
    after: str = Field("", description="The last path of a list that was cut, to see what comes after it; else empty.")


class CaptionImage(BaseModel):
    """The arguments of caption_image."""

    image: str = Field(description=_IMAGE)
    page: int = Field(1, description=_PAGE, ge=1)


class ReadText(BaseModel):
    """The arguments of read_text."""

    image: str = Field(description=_IMAGE)
    page: int = Field(1, description=_PAGE, ge=1)


class AskImage(BaseModel):
    """The arguments of ask_image."""

    image: str = Field(description=_IMAGE)
    question: str = Field(
        description="What to find out, as one whole question.", min_length=1, max_length=LONGEST_QUESTION
    )
    page: int = Field(1, description=_PAGE, ge=1)


class ExtractFields(BaseModel):
    """The arguments of extract_fields."""

    image: str = Field(description=_IMAGE)
    fields: list[str] = Field(
        description=f"Names of the fields to fill, such as ['invoice number', 'total']; at most {MOST_FIELDS}.",
        min_length=1,
        max_length=MOST_FIELDS,
    )
    page: int = Field(1, description=_PAGE, ge=1)


class SearchImages(BaseModel):
    """The arguments of search_images."""

    query: str = Field(description="What to look for, in words.", min_length=1, max_length=LONGEST_QUESTION)
    k: int = Field(4, description="How many results, at most.", ge=1, le=MOST_HITS)


ANY_TOOL = (
    ToolForm(
        name="list_images",
        description="Lists the images, documents and videos that can be read, with their sizes. Begin here.",
        arguments=ListImages,
    ),
    ToolForm(
        name="caption_image",
        description="Says in a few sentences what an image shows.",
        arguments=CaptionImage,
    ),
    ToolForm(
        name="read_text",
        description="Transcribes all text in an image or on a page, literally and in reading order.",
        arguments=ReadText,
    ),
    ToolForm(
        name="ask_image",
        description="Answers a question about an image by looking at it.",
        arguments=AskImage,
    ),
    ToolForm(
        name="extract_fields",
        description="Fills named fields from an image, and returns them as JSON; null where the image does not say.",
        arguments=ExtractFields,
    ),
)
"""The tools that need nothing but a folder and a model."""
SEARCH = ToolForm(
    name="search_images",
    description=(
        "Searches the document store by meaning and looks: gives passages of text, and pictures of pages, whose names "
        "the other tools take as images."
    ),
    arguments=SearchImages,
)
"""The tool that needs a store."""


# -- Calls -------------------------------------------------------------------------------------------------

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
    and id in every piece; some send several calls in one delta, the same id twice, or arguments as an object.

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
            frameworks add up what comes under one number.
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
        call.theirs, call.arguments = _given_id(piece) or call.theirs, call.arguments + arguments
        new_name = name if call.name is None else None
        call.name = call.name or name
        return {**piece, "index": call.number, "id": own, "function": {**function, "name": new_name}}

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
        again = arguments.lstrip().startswith("{") if call.arguments else not arguments
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
    """Name and arguments; some hosts send the arguments as an object, and not as its text."""
    function: dict[str, Any] = dict(call.get("function") or {})
    if isinstance(function.get("arguments"), dict):
        function["arguments"] = json.dumps(function["arguments"], ensure_ascii=False)
    return function
