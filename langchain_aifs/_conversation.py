"""The pictures of a conversation, by names that tools and middleware agree on: "picture 1", "picture 2" and so on."""

from __future__ import annotations

import hashlib
from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from langchain_core.messages import BaseMessage, ToolMessage
from langchain_core.tools import InjectedToolArg

from aifs_vision import ImageError, ImageFormatError
from langchain_aifs._blocks import Attached, is_picture, read_block
from langchain_aifs._results import blocks_of
from langchain_aifs.messages import image_block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = [
    "Shown",
    "messages_of",
    "name_of_picture",
    "pictures_by_name",
    "shown_in",
    "takes_runtime",
    "without_pictures",
]

_Tool = TypeVar("_Tool", bound="Callable[..., Any]")

_TAKEN_OUT = "aifs_taken_out"  # of a message, beside what is sent: [block, number] of each picture that was in it


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A picture, document or video in a message: its number, and where it stands."""

    number: int
    message: int
    block: int
    content: dict[str, Any]

    @property
    def name(self) -> str:
        """What it is called."""
        return name_of_picture(self.number)

    def source(self) -> bytes | str:
        """Its bytes, a data URI, or an address.

        Raises:
            ImageFormatError: a path, or what nobody can read.
        """
        found = read_block(self.content, self.name)
        if not isinstance(found, Attached):
            raise ImageFormatError(self.name, "a block without a picture")
        if isinstance(found.source, (bytes, str)):
            return found.source
        return b64decode(image_block(found.source)["base64"])

    @cached_property
    def key(self) -> str:
        """What names it by its contents, in any conversation; its name here where nobody can read it."""
        try:
            source = self.source()
        except ImageError:
            return self.name
        return source if isinstance(source, str) else hashlib.sha256(source).hexdigest()


def name_of_picture(number: int) -> str:
    """What the picture with this number is called."""
    return f"picture {number}"


def shown_in(messages: Sequence[BaseMessage]) -> Iterator[Shown]:
    """The pictures in the order in which they were shown; those that were taken out keep their numbers."""
    number = 0
    for index, message in enumerate(messages):
        gone = dict(_taken_out(message))
        for place, block in enumerate(blocks_of(message)):
            if isinstance(block, dict) and is_picture(block):
                number += 1
                yield Shown(number=number, message=index, block=place, content=block)
            number = max(number, gone.get(place, 0))
        number = max(number, *gone.values(), 0)  # where somebody has put the blocks into another order


def without_pictures(message: BaseMessage, texts: Mapping[int, tuple[int, str]]) -> BaseMessage:
    """A copy of a message with texts in the place of pictures, whose numbers it keeps.

    Args:
        message: one with content blocks.
        texts: by the place of the block: the picture's number, and what stands there instead.
    """
    content: list[Any] = list(blocks_of(message))
    for place, (_, text) in texts.items():
        content[place] = {"type": "text", "text": text}
    gone = [*_taken_out(message), *((place, number) for place, (number, _) in texts.items())]
    kept = {**message.additional_kwargs, _TAKEN_OUT: [list(pair) for pair in gone]}
    return message.model_copy(update={"content": content, "additional_kwargs": kept})


def _taken_out(message: BaseMessage) -> list[tuple[int, int]]:
    """Place and number of each picture that was taken out; no text that anybody writes can look like that."""
    held = message.additional_kwargs.get(_TAKEN_OUT, ())
    pairs = [pair for pair in held if isinstance(pair, (list, tuple))] if isinstance(held, (list, tuple)) else []
    return [(pair[0], pair[1]) for pair in pairs if [type(part) for part in pair] == [int, int]]


def takes_runtime(function: _Tool) -> _Tool:
    """A tool's function whose `runtime` LangGraph fills with the run's state; models neither see nor fill it."""
    # langchain-core 1.3 takes annotations as they are, and not as texts.
    function.__annotations__["runtime"] = Annotated[Any, InjectedToolArg]
    return function


def messages_of(runtime: Any) -> list[BaseMessage]:
    """The messages of the run that a tool is called in; none outside of one."""
    state = getattr(runtime, "state", None)
    messages = state.get("messages") if isinstance(state, Mapping) else getattr(state, "messages", state)
    held = messages if isinstance(messages, (list, tuple)) else ()
    return [message for message in held if isinstance(message, BaseMessage)]


def pictures_by_name(messages: Sequence[BaseMessage], wanted: object) -> dict[str, bytes | str]:
    """The names of all pictures that a conversation holds, and the data of the one that is wanted.

    They are those that were shown, by their numbers, and those of pages that a search has found. What nobody can
    read is left out.
    """
    named: dict[str, bytes | str] = {}
    for shown in shown_in(messages):
        with suppress(ImageFormatError):
            named[shown.name] = shown.source() if shown.name == wanted else b""
    for message in messages:
        artifact = message.artifact if isinstance(message, ToolMessage) else None
        for hit in artifact.get("hits", ()) if isinstance(artifact, Mapping) else ():
            if isinstance(hit, Mapping) and isinstance(hit.get("image_url"), str) and hit.get("name"):
                named[str(hit["name"])] = hit["image_url"]
    return named
