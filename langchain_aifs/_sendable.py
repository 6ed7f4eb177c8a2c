"""Messages as the chat endpoint takes them: pictures prepared, and all of them in messages of the user.

The service looks at pictures of the user alone. Those that tools have returned, and those in system and assistant
messages, are moved to where the user speaks next, and both places say so.
"""

from __future__ import annotations

import base64
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from aifs_vision import ImageError, ImageLimits, ModelCard, PreparedImage, model_card, prepare_images
from langchain_aifs._base64 import label_of
from langchain_aifs._blocks import Attached, is_attached, read_block
from langchain_aifs._results import blocks_of, may_be_blocks
from langchain_aifs.messages import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from aifs_vision import Frames, ImageSize

    _Show = Callable[[Attached], list[dict[str, Any]]]

__all__ = ["Eyes", "arranged", "has_files", "is_heavy", "portable_messages", "sendable"]

logger = logging.getLogger("langchain_aifs")

_PICTURE_IN_WORDS = "<PIL."  # how Python writes one down
# Blocks that LangChain leaves out on the way, which is right for a model's own messages alone.
_OF_MODELS = frozenset({"code_interpreter_call", "function_call", "reasoning_content", "thinking", "tool_use"})


@dataclass(frozen=True, kw_only=True)
class Eyes:
    """How pictures are prepared: for which model, how large, and which frames of a video."""

    card: ModelCard
    size: ImageSize
    frames: Frames
    limits: ImageLimits | None

    def see(self, found: Attached) -> list[PreparedImage]:
        """The picture, or the pages or frames, as they are sent.

        Raises:
            ImageError: it cannot be read, or is too large; says in which message it stands.
            SettingsError: the model takes no images.
        """
        try:
            return self._prepared(found.source)
        except ImageError:
            if not isinstance(found.source, bytes):
                raise
        return self._prepared((found.place, found.source))  # fails once more, under the name of its place

    def parts(self, found: Attached) -> list[dict[str, Any]]:
        """The picture, or the pages or frames, as parts of a request; raises what `see` does."""
        detail = {} if found.detail is None else {"detail": found.detail}
        return [{"type": "image_url", "image_url": {"url": image.image_url, **detail}} for image in self.see(found)]

    def _prepared(self, source: Any) -> list[PreparedImage]:
        return prepare_images(source, self.card, size=self.size, frames=self.frames, image_limits=self.limits)


def has_files(messages: Sequence[BaseMessage]) -> bool:
    """Whether anything in the messages has to be read, which takes time."""
    return any(may_be_blocks(message) or any(map(is_attached, _blocks(message))) for message in messages)


def is_heavy(messages: Sequence[BaseMessage]) -> bool:
    """Whether anything in the messages, such as a PIL image, takes time to become what traces and caches can hold."""
    return any(_holds_no_json(block) for message in messages for block in _blocks(message))


def sendable(messages: Sequence[BaseMessage], eyes: Eyes) -> list[BaseMessage]:
    """The messages with every picture prepared and in a message of the user; those given are left as they are.

    Raises:
        ImageError: a picture cannot be had or read.
        SettingsError: there is a picture, and the model takes none.
        ValueError: a block of a model in a message of another.
    """
    for index, message in enumerate(messages):
        _warn_of_words(message, index)
    return arranged(messages, eyes.parts, sees=eyes.card.takes_images)


def arranged(messages: Sequence[BaseMessage], show: _Show, *, sees: bool) -> list[BaseMessage]:
    """The messages as `sendable` has them, with whatever parts `show` makes of what is to be looked at.

    For a model that does not see, texts of tools stay the texts that they are.

    Raises:
        ImageFormatError: a block whose picture cannot be had.
        ValueError: a block of a model in a message of another.
    """
    held = [blocks_of(message) if sees or isinstance(message.content, list) else () for message in messages]
    if not any(held):
        return list(messages)
    moved = _Moved()
    sent: list[BaseMessage] = []
    for index, (message, blocks) in enumerate(zip(messages, held, strict=True)):
        parts = list(_parts(message, blocks, index, show))
        if moved.parts and _ends_a_turn(message):
            if _is_of_user(message):
                parts = [*moved.taken(), *(parts or _texts(message.content))]
            else:
                sent.append(HumanMessage(moved.taken()))
        if not _is_of_user(message):
            parts = [moved.put(part, message) if isinstance(part, _Seen) else part for part in parts]
        content = [piece for part in parts for piece in (part.parts if isinstance(part, _Seen) else [part])]
        sent.append(message.model_copy(update={"content": content}) if content else message)
    if moved.parts:
        sent.append(HumanMessage(moved.taken()))
    return sent


def portable_messages(messages: Sequence[BaseMessage], eyes: Eyes) -> list[BaseMessage] | None:
    """The messages with blocks that traces and caches can hold; None where all of them are such already.

    LangChain writes messages into traces, and makes keys of caches from them, before a model sees them: what is no
    JSON is shown by its address in memory there, and base64 without a label is an error.
    """
    changed: dict[int, BaseMessage] = {}
    for index, message in enumerate(messages):
        blocks = [_portable(block, _place(index, number), eyes) for number, block in enumerate(_blocks(message))]
        if any(new is not old for new, old in zip(blocks, _blocks(message), strict=True)):
            changed[index] = message.model_copy(update={"content": blocks})
    return [changed.get(index, message) for index, message in enumerate(messages)] if changed else None


def _portable(block: Any, place: str, eyes: Eyes) -> Any:
    if not isinstance(block, dict):
        return block
    if _holds_no_json(block) or block.get("source_type") == "text":
        found = read_block(block, place)
        return found if isinstance(found, dict) else _as_block(found, eyes)
    data = block.get("base64") or (block.get("data") if block.get("source_type") == "base64" else None)
    if isinstance(data, str) and "mime_type" not in block:
        return {**block, "mime_type": label_of(data)}
    return block


def _holds_no_json(value: Any) -> bool:
    """Whether there is something in a block that JSON has no form for, such as bytes or a PIL image."""
    if isinstance(value, dict):
        return any(map(_holds_no_json, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_holds_no_json, value))
    return not (value is None or isinstance(value, (str, int, float, bool)))


def _as_block(found: Attached, eyes: Eyes) -> dict[str, Any]:
    """A block of LangChain's present form, all JSON, for a picture that was given in another one."""
    more: dict[str, Any] = {} if found.detail is None else {"extras": {"detail": found.detail}}
    if isinstance(found.source, str):
        return {"type": "image", "url": found.source, **more}
    if isinstance(found.source, bytes):
        text = base64.b64encode(found.source).decode()
        label = label_of(text)
    else:
        text, label = _encoded(found, eyes)
    return {"type": "image", "base64": text, "mime_type": label, **more}


def _encoded(found: Attached, eyes: Eyes) -> tuple[str, str]:
    """Base64 and label of a PIL image, as it would be sent.

    Which model a call asks is not known yet; one without eyes is told so when the call is made.
    """
    image = (eyes if eyes.card.takes_images else replace(eyes, card=model_card(DEFAULT_MODEL))).see(found)[0]
    return image.image_url.partition(",")[2], image.mime_type


def _warn_of_words(message: BaseMessage, index: int) -> None:
    """Tells of pictures that LangChain has made words of, where a tool returned them bare: they are gone by now."""
    if isinstance(message, ToolMessage) and isinstance(message.content, str) and _PICTURE_IN_WORDS in message.content:
        told = "messages[%d]: a picture of the tool %r has become the text %r; return [image_block(...)] from the tool"
        logger.warning(told, index, message.name, message.content[:80])


# -- The parts of a message ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Seen:
    """A picture, or the pages or frames of one block, as parts of a request."""

    parts: list[dict[str, Any]]


def _blocks(message: BaseMessage) -> Sequence[Any]:
    return message.content if isinstance(message.content, list) else ()


def _place(message: int, block: int) -> str:
    return f"messages[{message}].content[{block}]"


def _parts(message: BaseMessage, blocks: Sequence[Any], index: int, show: _Show) -> Iterator[dict[str, Any] | _Seen]:
    for number, block in enumerate(blocks):
        found = read_block(block, _place(index, number))
        if isinstance(found, dict) and found.get("type") in _OF_MODELS and not isinstance(message, AIMessage):
            what = f"a {found['type']!r} block is what a model says, and cannot be sent in a message of another"
            raise ValueError(f"{_place(index, number)}: {what}. Put it into an AIMessage, or leave it out.")
        yield _Seen(show(found)) if isinstance(found, Attached) else found


def _texts(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if content else []


def _is_of_user(message: BaseMessage) -> bool:
    return isinstance(message, HumanMessage) or (isinstance(message, ChatMessage) and message.role == "user")


def _ends_a_turn(message: BaseMessage) -> bool:
    """Whether user or assistant speak here; results of tools belong together, and what the system says in between."""
    if isinstance(message, ChatMessage):
        return message.role in {"user", "assistant"}
    return isinstance(message, (HumanMessage, AIMessage))


# -- Pictures that move --------------------------------------------------------------------------------------------


@dataclass
class _Moved:
    """Pictures on their way to the next message of the user, each announced by where it comes from."""

    parts: list[dict[str, Any]] = field(default_factory=list)
    _count: int = 0

    def put(self, seen: _Seen, message: BaseMessage) -> dict[str, Any]:
        """Takes the pictures of a block; gives the text that stands in their place."""
        first, self._count = self._count + 1, self._count + len(seen.parts)
        name = f"Image {first}" if first == self._count else f"Images {first} to {self._count}"
        self.parts += [{"type": "text", "text": f"{name}, from {_origin(message)}:"}, *seen.parts]
        return {"type": "text", "text": f"[{name}: in the next message of the user]"}

    def taken(self) -> list[Any]:
        """What has been put here, which is then gone; the numbers go on."""
        parts, self.parts = self.parts, []
        return parts


def _origin(message: BaseMessage) -> str:
    if isinstance(message, ToolMessage):
        tool = f" of the tool {message.name!r}" if message.name else ""
        return f"the result{tool} (call {message.tool_call_id!r})"
    if isinstance(message, FunctionMessage):
        return f"the result of the function {message.name!r}"
    if isinstance(message, SystemMessage):
        return "the system message"
    if isinstance(message, AIMessage):
        return "an earlier answer of the assistant"
    return f"a message of the role {message.type if not isinstance(message, ChatMessage) else message.role!r}"
