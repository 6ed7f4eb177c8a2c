"""How many tokens messages are: offline, for every model, pictures included."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from langchain_core.messages import AIMessage, RemoveMessage
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_openai.chat_models._compat import _convert_from_v1_to_chat_completions
from langchain_openai.chat_models.base import _convert_message_to_dict

from aifs_vision import image_tokens, text_tokens
from langchain_aifs._sendable import arranged

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_core.messages import BaseMessage

    from langchain_aifs._blocks import Attached
    from langchain_aifs._sendable import Eyes

__all__ = ["message_tokens", "pieces", "words_tokens"]

_MESSAGE = 4  # tokens that chat templates wrap around a message
_USUAL = (1024, 1024)  # px assumed of a picture at a URL
_SEEN = f"seen {uuid4()}"  # the type of a part that stands for a picture, and says its tokens; nobody else's


def message_tokens(messages: Sequence[BaseMessage], tools: Sequence[Any], eyes: Eyes) -> int:
    """The input tokens of messages and tools: texts estimated, pictures by the rule of the model's family.

    Counted is what is sent: the messages after pictures have moved, as the chat endpoint gets them. Pictures are
    prepared for it, since their print decides how large they are sent; whoever sends them then finds them prepared.
    They are not written as base64. A picture at a URL is taken for one of 1024 x 1024 px, since nothing is fetched.

    Raises:
        ImageError: a picture that could not be sent either.
        ValueError: a block of a model in a message of another, which could not be sent either.
    """
    kept = [message for message in messages if not isinstance(message, RemoveMessage)]
    sent = arranged(
        kept,
        lambda found: [{"type": _SEEN, "tokens": count} for count in _seen(found, eyes)],
        sees=eyes.card.takes_images,
    )
    count = sum(_MESSAGE + sum(map(words_tokens, _texts(message))) for message in map(_body, sent))
    count += sum(tokens for message in sent for tokens in _pictures(message))
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


# -- Messages as they are sent -------------------------------------------------------------------------------------


def _body(message: BaseMessage) -> dict[str, Any]:
    """A message as LangChain writes it for the chat endpoint: without what models have thought, each call once."""
    body = _convert_message_to_dict(
        _convert_from_v1_to_chat_completions(message) if isinstance(message, AIMessage) else message
    )
    return cast("dict[str, Any]", body)


def _texts(body: dict[str, Any]) -> Iterator[str]:
    content, calls = body.get("content") or "", body.get("tool_calls") or ()
    yield body.get("name") or ""
    for part in [content] if isinstance(content, str) else content:
        if isinstance(part, str):
            yield part
        elif part.get("type") != _SEEN:
            yield part["text"] if isinstance(part.get("text"), str) else json.dumps(part, default=str)
    for function in (*(call.get("function") for call in calls), body.get("function_call")):
        yield " ".join(str(function.get(key) or "") for key in ("name", "arguments")) if function else ""


def _pictures(message: BaseMessage) -> Iterator[int]:
    for part in message.content if isinstance(message.content, list) else ():
        if isinstance(part, dict) and part.get("type") == _SEEN:
            yield part["tokens"]


def _seen(found: Attached, eyes: Eyes) -> list[int]:
    """The tokens of each picture, page or frame that is sent; none for a model that could not see it."""
    if not eyes.card.takes_images:
        return [0]
    seen = () if found.is_address else eyes.see(found)
    sizes = [(image.width or _USUAL[0], image.height or _USUAL[1]) for image in seen] or [_USUAL]
    return [image_tokens(eyes.card, *size, detail=found.detail) for size in sizes]
