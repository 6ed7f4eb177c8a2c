"""Results of tools that LangChain has made a JSON text of, read as the blocks they were.

It does so with every list in which a block is none of the few kinds that it knows, such as a video, and with a block
that is in no list. The pictures in them would be read as text: slowly, at a great price, and by nobody.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from langchain_core.messages import ToolMessage

from aifs_vision import ImageFormatError, bytes_of_base64, mime_type_of
from langchain_aifs._blocks import KINDS, LOOKED_AT, Attached, is_picture, read_block

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.messages import BaseMessage

__all__ = ["blocks_of", "may_be_blocks"]

_OPENED = ('[{"', '["', '{"')
_HEAD = 128  # characters of base64 that tell a format
_OF_THE_FORM = frozenset(
    """
    type id index format mime_type mimeType media_type source_type detail extras cache_control prompt_cache_breakpoint
    """.split()
)
_SHORTEST = 64  # characters of base64 that can be a picture; shorter texts are not looked into
_NAMED = re.compile(f'"(?:{"|".join(sorted(LOOKED_AT))})"')  # looks at 1 MB of base64 in 0.3 ms


def blocks_of(message: BaseMessage) -> Sequence[Any]:
    """The content blocks of a message, also where they have become a text; none where the content is any other text.

    A tool's text is read as blocks where it is a JSON list of them, or a block, and there are the data of a picture,
    document or video in it. All else in it stays a text beside them: addresses, which a search may have found, data
    of the tool's own, and what a block says of its picture.
    """
    if isinstance(message.content, list):
        return message.content
    if not may_be_blocks(message):
        return ()
    try:
        held = json.loads(message.content)
        parts = [part for block in (held if isinstance(held, list) else [held]) for part in _parts(block)]
    except (ValueError, RecursionError):  # no JSON, or so deep that nobody can have meant blocks
        return ()
    return parts if any(map(is_picture, parts)) else ()


def may_be_blocks(message: BaseMessage) -> bool:
    """Whether a message is a text of a tool that begins like JSON and names a kind of pictures; cheap, and careful."""
    text = message.content
    if not isinstance(message, ToolMessage) or not isinstance(text, str) or not text.startswith(_OPENED):
        return False
    return _NAMED.search(text) is not None


def _is_block(block: Any) -> bool:
    """Whether somebody meant a block: by its type, or as Bedrock and Google have it, whose one key says the type."""
    if not isinstance(block, dict):
        return isinstance(block, str)
    if "type" in block:
        return isinstance(block["type"], str) and block["type"] in KINDS
    return len(block) == 1 and any(key in KINDS and (key == "text" or isinstance(block[key], dict)) for key in block)


def _read(block: Any) -> Attached | dict[str, Any] | None:
    """What a block holds: a file that can be looked at, or a text; None for everything else."""
    if not _is_block(block):
        return None
    try:
        found = read_block(block, "")
    except ImageFormatError:  # no data, or what only its name makes a file
        return None
    if not isinstance(found, Attached):
        return found if found.get("type") == "text" else None
    return found if _is_file(found.source) else None


def _is_file(source: Any) -> bool:
    """Whether this is a file that is read here, and no address, nor a word that could be base64 as well."""
    try:
        head = source if isinstance(source, bytes) else bytes_of_base64(str(source).partition(",")[2][:_HEAD])
    except ValueError:
        return False
    return mime_type_of(head) is not None


def _parts(block: Any) -> list[dict[str, Any]]:
    """A block with its picture or text, other pictures in it, and as a text in JSON what else it says.

    What is no block, or holds nothing that can be read, is a text in JSON as a whole.
    """
    if isinstance(block, dict) and block.keys() == {"type", "value"} and block["type"] == "non_standard":
        block = block["value"]
    if isinstance(block, str):
        return [{"type": "text", "text": block}]
    if not _is_block(block):
        return [_as_text(block)]
    form = {key: value for key, value in block.items() if key in _OF_THE_FORM}
    more = {key: value for key, value in block.items() if key not in _OF_THE_FORM}
    found: Attached | dict[str, Any] | None = None
    whole: Any = block
    if block.get("type") == "json":  # data of the tool's own, in which there may be pictures
        whole = more["json"] if more.keys() == {"json"} else more
    else:
        found = _read(block)
    taken = _Taken({found.source} if isinstance(found, Attached) else set())
    if isinstance(found, dict):
        more = {key: value for key, value in more.items() if _read({**form, key: value}) != found}
    told = {key: left for key, value in more.items() if (left := taken.left_of(value)) is not None}
    if not (found or taken.blocks):
        return [_as_text(whole)]
    first = [] if found is None else [block if isinstance(found, Attached) else {"type": "text", "text": found["text"]}]
    return [*first, *taken.blocks, *([_as_text(told)] if told else [])]


class _Taken:
    """The pictures that are taken out of what a block says, each once."""

    def __init__(self, known: set[Any]) -> None:
        self.blocks: list[dict[str, Any]] = []
        self._known, self._count = known, 0

    def left_of(self, value: Any) -> Any:
        """What is left of a value of JSON without its pictures; None where nothing is."""
        if isinstance(value, str):
            return None if self._takes(value) else value
        if not isinstance(value, (dict, list)):
            return value
        before = self._count
        if isinstance(value, list):
            left: Any = [rest for inner in value if (rest := self.left_of(inner)) is not None]
        else:
            left = {key: rest for key, inner in value.items() if (rest := self.left_of(inner)) is not None}
        if self._count == before:
            return value
        if isinstance(left, dict):
            left = {key: rest for key, rest in left.items() if key not in _OF_THE_FORM}
        return left or None

    def _takes(self, text: str) -> bool:
        block = {"type": "image", "data": text}
        if len(text) <= _SHORTEST or not isinstance(found := _read(block), Attached):
            return False
        self._count += 1
        if found.source not in self._known:
            self._known.add(found.source)
            self.blocks.append(block)
        return True


def _as_text(value: Any) -> dict[str, Any]:
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()  # half surrogates
    return {"type": "text", "text": text}
