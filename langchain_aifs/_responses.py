"""What `/responses` answers: messages that have what those of chats have, and no answer where there is none.

LangChain asks through OpenAI's SDK here, whose objects it takes apart; what they are made of is checked before that.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from langchain_core.messages import block_translators
from langchain_core.messages.block_translators import openai as openai_blocks
from pydantic import ValidationError

from langchain_aifs._replies import price
from langchain_aifs._shapes import are_objects, asked, object_of, unexpected

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx
    from langchain_core.messages import AIMessage, AIMessageChunk
    from langchain_core.outputs import ChatGenerationChunk, ChatResult

    from aifs_vision import UnexpectedAnswerError

__all__ = ["Told", "check_whole", "check_whole_async", "completed", "know_blocks", "no_json"]

_FINISHED = {"max_output_tokens": "length", "content_filter": "content_filter"}
_NO_ARGUMENTS = "A function call whose arguments are no JSON object"
_NO_ROOM = "Give it more room: max_tokens."


# -- Before the SDK ------------------------------------------------------------------------------------------------


def check_whole(response: httpx.Response) -> None:
    """Raises UnexpectedAnswerError for a success that is no response, or in which nothing is said; a hook of httpx."""
    if not response.is_success or not response.is_closed:  # streams are looked at as they come
        return
    answer = object_of(response)
    items = answer.get("output")
    if not are_objects(items) or not isinstance(answer.get("usage"), (dict, type(None))):
        raise unexpected(f"An answer of another shape than that of /responses from {asked(response)}", response.text)
    said = False
    for item in cast("list[dict[str, Any]]", items):
        kind, parts = item.get("type"), item.get("content")
        whole = are_objects(parts) if kind == "message" else _is_whole_call(item) or kind != "function_call"
        if not whole:
            raise unexpected(f"An item of another shape than those of /responses from {asked(response)}", str(item))
        if kind == "function_call" and not _may_be_arguments(item["arguments"]):
            raise unexpected(f"{_NO_ARGUMENTS} from {asked(response)}", str(item))
        # An empty text is an answer where it is all that was to be said, as of an empty page.
        filled = answer.get("status") == "completed" or any(
            part.get("text") or part.get("refusal") for part in parts or ()
        )
        said |= bool(parts) and filled if kind == "message" else kind != "reasoning"
    if not said:
        raise _nothing_said(answer.get("incomplete_details"), asked(response))


async def check_whole_async(response: httpx.Response) -> None:
    """The same for asynchronous clients, whose hooks are awaited."""
    check_whole(response)


def _is_whole_call(item: dict[str, Any]) -> bool:
    return all(isinstance(item.get(name), str) for name in ("name", "arguments", "call_id"))


def _may_be_arguments(text: str) -> bool:
    """Whether it is an object, or no JSON, which is an invalid call in LangChain; at other JSON it fails."""
    try:
        return isinstance(json.loads(text, strict=False), dict)
    except ValueError:
        return True


def _reason_in(details: Any) -> str | None:
    """Why a response is incomplete; None where it does not say."""
    reason = details.get("reason") if isinstance(details, dict) else None
    return str(reason) if reason else None


def _nothing_said(details: Any, place: str) -> UnexpectedAnswerError:
    reason = _reason_in(details)
    shown = f" (incomplete: {reason})" if reason else ""
    more = _NO_ROOM if reason == "max_output_tokens" else ""
    return unexpected(f"An answer without a text or a call from {place}{shown}", more)


# -- After LangChain -----------------------------------------------------------------------------------------------


def completed(result: ChatResult, model: str) -> ChatResult:
    """The result, whose messages then have what those of chats have."""
    for generation in result.generations:
        message = cast("AIMessage", generation.message)
        _keep_asides(message)
        _settle(message, model, called=bool(message.tool_calls or message.invalid_tool_calls))
    return result


class Told:
    """A stream, as far as it has come."""

    def __init__(self, model: str, place: str) -> None:
        self._model, self._place = model, place
        self._said = self._called = self._empty = False
        self._end: dict[str, Any] | None = None

    def add(self, chunk: ChatGenerationChunk) -> ChatGenerationChunk:
        """The chunk, which then has what those of chats have."""
        message = cast("AIMessageChunk", chunk.message)
        _keep_asides(message)
        self._called |= bool(message.tool_call_chunks)
        kinds = {block.get("type") for block in message.content if isinstance(block, dict)}
        self._said |= self._called or bool(message.text) or not kinds <= {"text", "reasoning"}
        self._empty |= "text" in kinds
        _settle(message, self._model, called=self._called)
        if "status" in message.response_metadata:
            self._end = message.response_metadata
        return chunk

    def check(self) -> None:
        """Raises UnexpectedAnswerError at the end of a stream that ended before its answer did, or said nothing."""
        if self._end is None:
            raise unexpected(f"A stream without an end from {self._place}", "")
        if not self._said and not (self._empty and self._end["status"] == "completed"):
            raise _nothing_said(self._end.get("incomplete_details"), self._place)


@contextmanager
def no_json(place: str) -> Iterator[None]:
    """Raises UnexpectedAnswerError where the SDK meets an event that is not JSON, or LangChain such arguments."""
    try:
        yield
    except json.JSONDecodeError as error:
        raise unexpected(f"A stream with an event that is not JSON from {place}", error.doc) from error
    except ValidationError as error:
        told = [entry for entry in error.errors() if entry["loc"][:1] == ("tool_calls",)]
        if not told:
            raise
        raise unexpected(f"{_NO_ARGUMENTS} from {place}", repr(told[0]["input"])) from error


def _keep_asides(message: AIMessage) -> None:
    """Puts thoughts and refusals where those of chats are, too."""
    for block in message.content if isinstance(message.content, list) else ():
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "refusal":
            message.additional_kwargs["refusal"] = block["refusal"]  # type: ignore[index]
        elif kind == "reasoning":
            parts = block.get("summary") or ()  # type: ignore[union-attr]
            thoughts = "".join(part.get("text") or ("\n\n" if part.get("index") else "") for part in parts)
            if thoughts:
                message.additional_kwargs["reasoning_content"] = thoughts


def _settle(message: AIMessage, model: str, *, called: bool) -> None:
    told, used = message.response_metadata, message.usage_metadata
    told["model_provider"] = "aifs"
    if "status" not in told:
        return
    reason = _reason_in(told.get("incomplete_details"))
    told["finish_reason"] = _FINISHED.get(reason, reason) if reason else "tool_calls" if called else "stop"
    told["cost_eur"] = (
        None if used is None else price(told.get("model"), model, used["input_tokens"], used["output_tokens"])
    )


# -- Their blocks --------------------------------------------------------------------------------------------------


def know_blocks() -> None:
    """Tells LangChain what the blocks of these messages are; without it `content_blocks` would not know calls."""
    block_translators.register_translator("aifs", _of_message, _of_chunk)


def _of_message(message: AIMessage) -> list[Any]:
    if isinstance(message.content, str):
        return _as_nobodys(message)
    return cast("list[Any]", openai_blocks.translate_content(message))


def _of_chunk(chunk: AIMessageChunk) -> list[Any]:
    if isinstance(chunk.content, str):
        return _as_nobodys(chunk)
    return cast("list[Any]", openai_blocks.translate_content_chunk(chunk))


def _as_nobodys(message: AIMessage) -> list[Any]:
    """What LangChain makes of a message whose provider it does not know; the best for those of chats."""
    told = {name: value for name, value in message.response_metadata.items() if name != "model_provider"}
    return message.model_copy(update={"response_metadata": told}).content_blocks
