"""Results of tools that LangChain has made a JSON text of, read as the blocks they were.

It does so with every list in which a block is none of the few kinds that it knows, such as a video, and with a block
that is in no list. The pictures in them would be read as text: slowly, at a great price, and by nobody.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from langchain_core.messages import ToolMessage

from aifs_vision import ImageFormatError
from langchain_aifs._blocks import KINDS, LOOKED_AT, Attached, read_block

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.messages import BaseMessage

__all__ = ["blocks_of", "may_be_blocks"]

_OPENED = ('[{"', '["', '{"')
_NAMED = re.compile(f'"(?:{"|".join(sorted(LOOKED_AT))})"')  # looks at 1 MB of base64 in 0.3 ms


def blocks_of(message: BaseMessage) -> Sequence[Any]:
    """The content blocks of a message, also where they have become a text; none where the content is any other text.

    A tool's text is read as blocks where it is a JSON list of them, or a block, and there is data or an address of a
    picture, document or video in it. What is no block stays a text beside them. Where there is such, addresses alone
    do not count: lists of what a search has found look like that.
    """
    if isinstance(message.content, list):
        return message.content
    if not may_be_blocks(message):
        return ()
    try:
        held = json.loads(message.content)
    except (ValueError, RecursionError):
        return ()
    listed = held if isinstance(held, list) else [held]
    alone = all(map(_is_block, listed))
    if not any(_shows(block, addresses=alone) for block in listed):
        return ()
    return [block if _is_block(block) else {"type": "json", "json": block} for block in listed]


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


def _shows(block: Any, *, addresses: bool) -> bool:
    if not _is_block(block):
        return False
    try:
        found = read_block(block, "")
    except ImageFormatError:  # no data, or what only its name makes a file
        return False
    return isinstance(found, Attached) and (addresses or not found.is_address)
