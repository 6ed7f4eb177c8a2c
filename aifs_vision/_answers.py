"""What came back -> a status, a text, data: an unexpected answer never becomes an empty or invented text."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aifs_vision._errors import UnexpectedAnswerError
from aifs_vision._readings import Usage
from aifs_vision._tasks import NO_TEXT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aifs_vision._readings import Status
    from aifs_vision._tasks import Task

__all__ = ["Verdict", "judge"]

# What hosts call an answer that is complete: OpenAI and vLLM; Anthropic and Mistral behind some gateways.
_FINISHED = frozenset({"stop", "end_turn", "stop_sequence", "eos"})
_FENCED = re.compile(r"\A\s*```[\w-]*\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One answer, judged.

    Attributes:
        status: as in `Reading`; "failed" where a schema was asked for and the text does not fit it.
        text: what the model said.
        data: the validated object where a schema was asked for.
        reason: why the status is not a result; "" where it is.
        usage: the tokens the service counted.
    """

    status: Status
    text: str
    data: Any = None
    reason: str = ""
    usage: Usage


def judge(answer: Any, task: Task) -> Verdict:
    """The verdict on the JSON of a chat completion.

    Raises:
        UnexpectedAnswerError: it is no chat completion, or one that says nothing at all.
    """
    choice, message = _choice_of(answer)
    text, usage = _text_of(message), _usage_of(answer)
    finish = choice.get("finish_reason")
    said = text or ""
    if message.get("refusal"):
        return Verdict(status="refused", text=said, reason=str(message["refusal"]), usage=usage)
    if finish == "content_filter":
        reason = "the service's content filter stopped the answer"
        return Verdict(status="filtered", text=said, reason=reason, usage=usage)
    if finish == "length":
        reason = "the answer did not fit into its max_tokens"
        return Verdict(status="truncated", text=said, reason=reason, usage=usage)
    if finish not in _FINISHED or choice.get("error"):
        raise UnexpectedAnswerError(f"The model did not finish: finish_reason is {finish!r}", detail=said[:200])
    if text is None:
        raise UnexpectedAnswerError("The model answered without a text", detail=json.dumps(message)[:200])
    if task.schema is not None:
        return _typed(text, task.schema, usage)
    if _says_nothing(text):
        # A blank page is a fact only where the task says what to answer to one.
        if NO_TEXT in task.prompt:
            return Verdict(status="empty", text="", usage=usage)
        raise UnexpectedAnswerError("The model answered with nothing")
    return Verdict(status="ok", text=text, usage=usage)


def _choice_of(answer: Any) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    try:
        choice = answer["choices"][0]
        message = choice["message"]
    except (TypeError, LookupError) as error:
        raise UnexpectedAnswerError("HTTP 200 without a choice", detail=json.dumps(answer)[:200]) from error
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise UnexpectedAnswerError("HTTP 200 with a choice that is no message", detail=json.dumps(choice)[:200])
    return choice, message


def _text_of(message: Mapping[str, Any]) -> str | None:
    """The content, which some hosts give as a list of parts; None where there is none."""
    content = message.get("content")
    if isinstance(content, list):
        texts = [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
        content = "".join(texts) if texts else None
    return content.strip() if isinstance(content, str) else None


def _usage_of(answer: Mapping[str, Any]) -> Usage:
    usage = answer.get("usage")
    counts = [usage.get("prompt_tokens"), usage.get("completion_tokens")] if isinstance(usage, dict) else [0, 0]
    read, written = (count if isinstance(count, int) and count > 0 else 0 for count in counts)
    return Usage(input_tokens=read, output_tokens=written)


def _says_nothing(text: str) -> bool:
    return not text or text.strip("\"'`. ").lower() == NO_TEXT


def _typed(text: str, schema: type[Any], usage: Usage) -> Verdict:
    from pydantic import ValidationError

    fenced = _FENCED.match(text)
    try:
        data = schema.model_validate_json(fenced[1] if fenced else text)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'the whole'}: {fault['msg']}" for fault in error.errors()[:3]
        )
        reason = f"the answer does not fit {schema.__name__} ({faults})"
        return Verdict(status="failed", text=text, reason=reason, usage=usage)
    return Verdict(status="ok", text=text, data=data, usage=usage)
