"""The pictures of a conversation, by names that tools and middleware agree on: "picture 1", "picture 2" and so on."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage, ToolMessage

from aifs_vision import ImageFormatError
from langchain_aifs._blocks import Attached, is_picture, read_block
from langchain_aifs.messages import image_block

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Shown", "name_of_picture", "pictures_by_name", "shown_in"]

_REPLACED = re.compile(r"\[picture (\d+)\b")  # what stands in the place of a picture that was taken out of a message


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


def name_of_picture(number: int) -> str:
    """What the picture with this number is called."""
    return f"picture {number}"


def shown_in(messages: Sequence[BaseMessage]) -> Iterator[Shown]:
    """The pictures in the order in which they were shown; those that were taken out keep their numbers."""
    number = 0
    for index, message in enumerate(messages):
        for place, block in enumerate(message.content if isinstance(message.content, list) else ()):
            text = block if isinstance(block, str) else str(block.get("text", ""))
            if isinstance(block, dict) and is_picture(block):
                number += 1
                yield Shown(number=number, message=index, block=place, content=block)
            elif replaced := _REPLACED.match(text):
                number = max(number, int(replaced[1]))


def pictures_by_name(messages: Sequence[Any], wanted: object) -> dict[str, bytes | str]:
    """The names of all pictures that a conversation holds, and the data of the one that is wanted.

    They are those that were shown, by their numbers, and those of pages that a search has found. What nobody can
    read is left out.
    """
    own = [message for message in messages if isinstance(message, BaseMessage)]
    named: dict[str, bytes | str] = {}
    for shown in shown_in(own):
        with suppress(ImageFormatError):
            named[shown.name] = shown.source() if shown.name == wanted else b""
    for message in own:
        artifact = message.artifact if isinstance(message, ToolMessage) else None
        for hit in artifact.get("hits", ()) if isinstance(artifact, Mapping) else ():
            if isinstance(hit, Mapping) and isinstance(hit.get("image_url"), str) and hit.get("name"):
                named[str(hit["name"])] = hit["image_url"]
    return named
