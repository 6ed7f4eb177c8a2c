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
from langchain_aifs._blocks import KINDS, LOOKED_AT, Attached, read_block

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_core.messages import BaseMessage

__all__ = ["blocks_of", "may_be_blocks"]

_OPENED = ('[{"', '["', '{"')
_HEAD = 128  # characters of base64 that tell a format
_OF_THE_FORM = frozenset(
    "type id index format mime_type mimeType media_type source_type detail extras cache_control".split()
)
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
        read = [(block, _read(block)) for block in (held if isinstance(held, list) else [held])]
        if not any(isinstance(found, Attached) for _, found in read):
            return ()
        return [part for block, found in read for part in _parts(block, found)]
    except (ValueError, RecursionError):  # no JSON, or so deep that nobody can have meant blocks
        return ()


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


def _parts(block: Any, found: Attached | dict[str, Any] | None) -> Iterator[Any]:
    """A block and, as a text in JSON, what it says besides its contents; or all of what is none."""
    if found is None:
        yield _as_text(block)
        return
    yield block if isinstance(found, Attached) else {"type": "text", "text": found["text"]}
    more = {key: value for key, value in block.items() if key not in _OF_THE_FORM} if isinstance(block, dict) else {}
    if len(more) < 2:  # noqa: PLR2004 - the contents have to be under one of the keys
        return
    told: dict[str, Any] = {}
    for key, value in more.items():
        alone = {name: of_form for name, of_form in block.items() if name in _OF_THE_FORM} | {key: value}
        other = _read(alone)
        if isinstance(other, Attached) and _contents(other) != _contents(found):
            yield alone
        elif value is not None and (other is None or _contents(other) != _contents(found)):
            told[key] = value
    if told:
        yield _as_text(told)


def _contents(found: Attached | dict[str, Any]) -> Any:
    return found.source if isinstance(found, Attached) else found["text"]


def _as_text(value: Any) -> dict[str, str]:
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()  # half surrogates
    return {"type": "text", "text": text}
