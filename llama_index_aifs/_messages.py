"""LlamaIndex's messages -> the service's, without losing a picture on the way.

Hosts take pictures in user turns alone, and LlamaIndex's own conversion drops all others without a word. Here they
move into the user turn that follows: behind the last answer of a group of tools, as nothing may come between those.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import (
    CachePoint,
    ChatMessage,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.llms.openai.utils import to_openai_message_dict

from llama_index_aifs._pictures import Picture, flattened, is_media, kind_of, readable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from llama_index_aifs._pictures import Sight

__all__ = ["conversation", "has_pictures", "seen", "wire"]

_OF_TOOLS = frozenset({MessageRole.TOOL, MessageRole.FUNCTION})
_STANDING = _OF_TOOLS | {MessageRole.SYSTEM, MessageRole.DEVELOPER}  # pictures wait until these have passed
_NAMES = {MessageRole.CHATBOT: "assistant", MessageRole.MODEL: "assistant"}  # other names that LlamaIndex knows


def conversation(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """The messages, if that is what they are.

    Raises:
        TypeError: one message instead of several, or texts and dicts instead of messages.
    """
    if isinstance(messages, (ChatMessage, str, dict)):
        raise TypeError(f"chat() takes a list of ChatMessages, not one {type(messages).__name__}: put it into a list")
    given = list(messages)
    for message in given:
        if not isinstance(message, ChatMessage):
            raise TypeError(
                f"chat() takes ChatMessages, not {type(message).__name__}: ChatMessage(role=..., content=...)"
            )
    return given


def has_pictures(messages: Sequence[ChatMessage]) -> bool:
    """Whether there is something in the messages that takes time to prepare."""
    return any(
        is_media(block) and not (isinstance(block, Picture) and block.is_whole)
        for message in messages
        for block in flattened(message.blocks)
    )


def seen(messages: Sequence[ChatMessage], sight: Sight) -> list[ChatMessage]:
    """New messages with pictures as the model sees them, all in user turns; what was given stays as it is.

    A picture from elsewhere is named at both places, so that the model knows which one came from where. Blocks while
    it decodes.

    Raises:
        ImageError: a picture cannot be read, or is too large.
        SettingsError: the model takes no images.
    """
    if not has_pictures(messages):
        return list(messages)
    moving, tools = _Moving(sight), dict[str | None, str | None]()
    sent: list[ChatMessage] = []
    for message in messages:
        tools.update(_tools_of(message))
        blocks = [readable(block) for block in flattened(message.blocks)]
        if message.role == MessageRole.USER:
            own = [shown for block in blocks for shown in (sight.blocks(block) if is_media(block) else [block])]
            sent.append(message.model_copy(update={"blocks": moving.arrived() + own}))
            continue
        if message.role not in _STANDING:
            sent += moving.turn()
        kept = [moving.note(block, message, tools) if is_media(block) else block for block in blocks]
        sent.append(message.model_copy(update={"blocks": kept}))
    return sent + moving.turn()


class _Moving:
    """The pictures that are on their way into the next user turn, numbered through the conversation.

    Their names say whose they are, as "image 1" may be what the user calls one of their own.
    """

    def __init__(self, sight: Sight) -> None:
        self._sight = sight
        self._blocks: list[Any] = []
        self._count = 0

    def note(self, block: Any, message: ChatMessage, tools: Mapping[str | None, str | None]) -> TextBlock:
        """Takes a block along; gives the text that stands in its place."""
        self._count += 1
        owner = "tool" if message.role in _OF_TOOLS else _NAMES.get(message.role, message.role.value)
        name = f"{owner.capitalize()} {kind_of(block).lower()} {self._count}"
        self._blocks += [TextBlock(text=f"{name}, from {_origin(message, tools)}:"), *self._sight.blocks(block)]
        return TextBlock(text=f"[{name}: see the next user message]")

    def arrived(self) -> list[Any]:
        """What has been taken along so far, to be put down here."""
        blocks, self._blocks = self._blocks, []
        return blocks

    def turn(self) -> list[ChatMessage]:
        """A user turn of its own for it; none for nothing."""
        return [ChatMessage(role=MessageRole.USER, blocks=self.arrived())] if self._blocks else []


def _tools_of(message: ChatMessage) -> dict[str | None, str | None]:
    """The names of the tools that a message calls, by the ids of the calls, which some hosts count anew in each."""
    return {call.get("id"): (call.get("function") or {}).get("name") for call in _calls(message)}


def _origin(message: ChatMessage, tools: Mapping[str | None, str | None]) -> str:
    if message.role not in _OF_TOOLS:
        return f"the {_NAMES.get(message.role, message.role.value)} message"
    more = message.additional_kwargs
    name = more.get("name") or tools.get(more.get("tool_call_id"))
    return f"the tool {name!r}" if name else "a tool"


# -- The service's form ------------------------------------------------------------------------------------


def wire(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """The `messages` of a request, of messages whose pictures are in user turns."""
    return [_wire(message) for message in messages]


def _wire(message: ChatMessage) -> dict[str, Any]:
    more = message.additional_kwargs
    parts, calls = list(_parts(message)), _calls(message)
    texts = [part["text"] for part in parts if part["type"] == "text"]
    content: Any = parts if len(texts) < len(parts) else "\n".join(texts)
    told: dict[str, Any] = {"role": _NAMES.get(message.role, message.role.value), "content": content}
    if calls or "function_call" in more:
        told["content"] = content or None
    if calls:
        told["tool_calls"] = calls
    return told | {key: more[key] for key in ("function_call", "tool_call_id", "name") if key in more}


def _parts(message: ChatMessage) -> Iterator[dict[str, Any]]:
    for block in flattened(message.blocks):
        if isinstance(block, TextBlock):
            if block.text:  # some hosts refuse parts without text
                yield {"type": "text", "text": block.text}
        elif isinstance(block, Picture):
            yield block.part()
        elif not isinstance(block, (CachePoint, ThinkingBlock, ToolCallBlock)):  # a recording, or another document
            alone = ChatMessage(role=MessageRole.USER, blocks=[block])
            converted: Any = to_openai_message_dict(alone)
            yield from converted["content"]


def _calls(message: ChatMessage) -> list[dict[str, Any]]:
    """The tool calls of an assistant's message, from its blocks or from where older versions kept them."""
    calls = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    if not calls:
        older = message.additional_kwargs.get("tool_calls") or []
        return [call if isinstance(call, dict) else call.model_dump(exclude_none=True) for call in older]
    return [
        {
            "id": call.tool_call_id,
            "type": "function",
            "function": {"name": call.tool_name, "arguments": _json_of(call.tool_kwargs)},
        }
        for call in calls
    ]


def _json_of(arguments: dict[str, Any] | str) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)
