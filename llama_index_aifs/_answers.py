"""What the service answered -> LlamaIndex's responses, or an error: nothing missing is taken for an empty text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.llms.openai.utils import (
    from_openai_message,
    from_openai_token_logprobs,
    get_openai_reasoning_content,
)
from openai.types.chat import ChatCompletion

from aifs_vision import ToolCalls, UnexpectedAnswerError, arguments_are_whole
from llama_index_aifs._calls import blocks_of_calls, dumped, kept_calls

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionChunk

__all__ = ["Gathered", "in_one_piece", "response_of"]

_CUT = frozenset({"length", "content_filter"})


def response_of(answer: ChatCompletion, model: str) -> ChatResponse:
    """The response of a whole answer; `additional_kwargs` has its usage and `finish_reason`.

    Raises:
        UnexpectedAnswerError: no choice, neither a text nor a tool call, or a tool call without whole arguments.
    """
    choice = answer.choices[0] if isinstance(answer, ChatCompletion) and answer.choices else None
    if choice is None or choice.message is None:
        said = (getattr(answer, "model_extra", None) or {}).get("error") or ""
        raise UnexpectedAnswerError(f"No choice in the answer of {model!r}", detail=str(said))
    said = choice.message
    text = _text_of(said.content)
    calls = ToolCalls.of(dumped(said.tool_calls or [])).calls()
    # Its own conversion knows neither parts of a text nor calls without ids.
    plain = said.model_copy(update={"content": text, "tool_calls": None})
    message = from_openai_message(plain, modalities=["text", "audio"])
    message.blocks += blocks_of_calls(calls)
    message.additional_kwargs |= kept_calls(calls)
    if text is None and said.refusal:
        text = said.refusal
        message.blocks.append(TextBlock(text=text))
        message.additional_kwargs["refusal"] = text
    elif text == "":
        message.blocks.append(TextBlock(text=""))
    _check(message, text, choice.finish_reason, model)
    tokens = choice.logprobs.content if choice.logprobs else None
    return ChatResponse(
        message=message,
        raw=answer,
        logprobs=from_openai_token_logprobs(tokens) if tokens else None,
        additional_kwargs=_told(answer, choice.finish_reason),
    )


def in_one_piece(response: ChatResponse) -> ChatResponse:
    """A whole answer as the only response of a stream."""
    return response.model_copy(update={"delta": response.message.content or ""})


class Gathered:
    """A stream, as far as it has come."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._text: str | None = None
        self._thoughts = ""
        self._calls = ToolCalls()
        self._finish: str | None = None
        self._told: dict[str, Any] = {}

    def add(self, chunk: ChatCompletionChunk) -> ChatResponse:
        """The response so far, with what this chunk has brought as its `delta`."""
        choice = chunk.choices[0] if chunk.choices else None
        delta = choice.delta if choice else None
        text, thought = None, ""
        if choice is not None:
            self._finish = choice.finish_reason or self._finish
        if delta is not None:
            text = _text_of(delta.content)
            text = delta.refusal if text is None else text
            thought = get_openai_reasoning_content(delta) or ""
            self._calls.add(dumped(delta.tool_calls or []))
        if text is not None:
            self._text = (self._text or "") + text
        self._thoughts += thought
        self._told |= _told(chunk, self._finish)
        more = {"thinking_delta": thought} if thought else {}
        return ChatResponse(
            message=self._message(), delta=text or "", raw=chunk, additional_kwargs={**self._told, **more}
        )

    def check(self) -> None:
        """To be called at the end of the stream.

        Raises:
            UnexpectedAnswerError: it ended before the answer did, or brought neither a text nor a tool call.
        """
        if self._finish is None:
            raise UnexpectedAnswerError(f"The stream of {self._model!r} ended before its answer did")
        _check(self._message(), self._text, self._finish, self._model)

    def _message(self) -> ChatMessage:
        blocks: list[Any] = [ThinkingBlock(content=self._thoughts)] if self._thoughts else []
        blocks.append(TextBlock(text=self._text or ""))
        calls = self._calls.calls()
        blocks += blocks_of_calls(calls)
        return ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks, additional_kwargs=kept_calls(calls))


def _text_of(content: Any) -> str | None:
    """The text of an answer; some hosts send it in parts."""
    if not isinstance(content, list):
        return None if content is None else str(content)
    parts = [part for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
    return "".join(part["text"] for part in parts) if parts else None


def _told(answer: Any, finish: str | None) -> dict[str, Any]:
    """What `additional_kwargs` says of an answer: its tokens, as far as they are known, and why it ended."""
    usage = getattr(answer, "usage", None)
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    told = {name: getattr(usage, name, None) for name in names} if usage else {}
    return {**told, "finish_reason": finish} if finish else told


def _check(message: ChatMessage, text: str | None, finish: str | None, model: str) -> None:
    calls = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    for call in calls:
        _check_call(call, finish, model)
    if calls or message.additional_kwargs.get("reference_audio_id"):
        return
    if text is None or (not text and finish in _CUT):
        remedy = ". Give it more room with max_tokens=..." if finish == "length" else ""
        raise UnexpectedAnswerError(f"No text in the answer of {model!r} (finish_reason {finish!r}){remedy}")


def _check_call(call: ToolCallBlock, finish: str | None, model: str) -> None:
    if not arguments_are_whole(call.tool_kwargs):  # LlamaIndex would guess the rest, and run the tool with it
        if finish in _CUT:
            remedy = "Give it more room with max_tokens=..."
            raise UnexpectedAnswerError(f"A tool call of {model!r} is cut off (finish_reason {finish!r}). {remedy}")
        what = f"The arguments of a call of {call.tool_name!r} by {model!r} are no JSON object"
        raise UnexpectedAnswerError(what, detail=str(call.tool_kwargs))
    if not call.tool_name:
        raise UnexpectedAnswerError(f"A tool call of {model!r} does not name its tool", detail=str(call.tool_kwargs))
