"""How many tokens messages are: offline, for every model, pictures included."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage
from langchain_core.utils.function_calling import convert_to_openai_tool

from aifs_vision import image_tokens, text_tokens
from langchain_aifs._sendable import attached_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.messages import BaseMessage

    from langchain_aifs._blocks import Attached
    from langchain_aifs._sendable import Eyes

__all__ = ["message_tokens", "pieces", "words_tokens"]

_MESSAGE = 4  # tokens that chat templates wrap around a message
_USUAL = (1024, 1024)  # px assumed of a picture at a URL


def message_tokens(messages: Sequence[BaseMessage], tools: Sequence[Any], eyes: Eyes) -> int:
    """The input tokens of messages and tools: texts estimated, pictures by the rule of the model's family.

    Pictures are prepared as for sending, since their print decides how large that is; whoever sends them then finds
    them prepared. A picture at a URL is taken for one of 1024 x 1024 px, since nothing is fetched.

    Raises:
        ImageError: a picture that could not be sent either.
    """
    count = _MESSAGE * len(messages)
    for message in messages:
        if isinstance(message.content, str) and message.content:
            count += text_tokens(message.content)
        count += sum(text_tokens(f"{call['name']} {call['args']}") for call in _calls(message))
        count += text_tokens(message.name) if message.name else 0
    for found in attached_in(messages):
        if isinstance(found, dict):
            count += text_tokens(str(found.get("text") or json.dumps(found, default=str)))
        elif eyes.card.takes_images:
            count += sum(image_tokens(eyes.card, *size, detail=found.detail) for size in _sizes(found, eyes))
    return count + sum(text_tokens(json.dumps(convert_to_openai_tool(tool))) for tool in tools)


def words_tokens(text: str) -> int:
    """The tokens of a text; none of an empty one."""
    return text_tokens(text) if text else 0


def pieces(text: str) -> list[int]:
    """As many numbers as the text is estimated to have tokens; each is made of its share of the bytes.

    They are no model's ids: none of the service's models has its vocabulary here.
    """
    data, count = text.encode(), words_tokens(text)
    ends = [round(number * len(data) / count) for number in range(count + 1)] if count else []
    return [int.from_bytes(data[start:end], "big") for start, end in pairwise(ends)]


def _calls(message: BaseMessage) -> Sequence[Any]:
    return message.tool_calls if isinstance(message, AIMessage) else ()


def _sizes(found: Attached, eyes: Eyes) -> list[tuple[int, int]]:
    """(width, height) in px of what is sent."""
    if found.is_address:
        return [_USUAL]
    return [(image.width or _USUAL[0], image.height or _USUAL[1]) for image in eyes.see(found)]
