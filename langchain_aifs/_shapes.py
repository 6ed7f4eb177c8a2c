"""What an answer of the chat endpoint has to look like; anything else is an error that shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aifs_vision import ToolCalls, UnexpectedAnswerError

if TYPE_CHECKING:
    import httpx

__all__ = ["INVALID_CALLS", "are_objects", "asked", "choices_of", "object_of", "unexpected", "whole_answer", "words"]

INVALID_CALLS = "aifs_invalid_calls"  # those that LangChain would take for tool calls, and fail at, or invent arguments
_SHOWN = 200  # characters of what is no answer


def object_of(response: httpx.Response) -> dict[str, Any]:
    """The JSON object that an answer is; of successes other than 200, the transport has not seen that it is JSON.

    Raises:
        UnexpectedAnswerError: it is something else.
    """
    try:
        answer = response.json()
    except ValueError as error:
        raise unexpected(f"No JSON from {asked(response)}", response.text) from error
    if not isinstance(answer, dict):
        raise unexpected(f"No JSON object from {asked(response)}", response.text)
    return answer


def whole_answer(response: httpx.Response) -> dict[str, Any]:
    """The JSON object that an answer is, each of its tool calls with an id; those without an object are set apart.

    Raises:
        UnexpectedAnswerError: a success that is something else; one that tells an error, the transport has raised.
    """
    response.raise_for_status()
    answer = object_of(response)
    messages = [message for _, message in choices_of(answer, "message", response)]
    if not messages or not all(messages):
        raise unexpected(f"An answer without a choice from {asked(response)}", response.text)
    for message in messages:
        message["role"] = message.get("role") or "assistant"  # some hosts take it for granted
        calls = ToolCalls.of(message.get("tool_calls") or ()).calls()
        # LangChain looks only whether the arguments are JSON: a list or a text it takes, too, and fails later.
        message["tool_calls"] = [call for call in calls if _may_be_object(call)]
        message[INVALID_CALLS] = [call for call in calls if not _may_be_object(call)]
    return answer


def choices_of(
    answer: dict[str, Any], part: str, response: httpx.Response
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The choices of an answer or chunk, each with its `part` ("message" or "delta"), which may be empty.

    Raises:
        UnexpectedAnswerError: choices, parts, tool calls, words or usage are of another type than they have to be.
    """
    found: list[tuple[dict[str, Any], dict[str, Any]]] = []
    choices, usage = answer.get("choices") or [], answer.get("usage")
    if not are_objects(choices) or not isinstance(usage, (dict, type(None))):
        raise _misshapen(answer, response)
    for choice in choices:
        said = choice.get(part) or {}
        calls = (said.get("tool_calls") if isinstance(said, dict) else None) or []
        if not isinstance(said, dict) or not are_objects(calls):
            raise _misshapen(answer, response)
        if not isinstance(said.get("content"), (str, list, type(None))):
            raise _misshapen(answer, response)
        if not all(isinstance(call.get("function") or {}, dict) for call in calls):
            raise _misshapen(answer, response)
        found.append((choice, said))
    return found


def _may_be_object(call: dict[str, Any]) -> bool:
    return str(call["function"]["arguments"]).lstrip().startswith("{")


def are_objects(value: Any) -> bool:
    """Whether it is a list of JSON objects."""
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)


def _misshapen(answer: Any, response: httpx.Response) -> UnexpectedAnswerError:
    return unexpected(f"An answer of another shape than the chat endpoint's from {asked(response)}", str(answer))


def unexpected(what: str, shown: str) -> UnexpectedAnswerError:
    """The error, with the beginning of what is no answer."""
    return UnexpectedAnswerError(what, detail=shown[:_SHOWN])


def asked(response: httpx.Response) -> str:
    """The address that was asked, without user, password and query."""
    return str(response.request.url.copy_with(query=None, userinfo=b""))


def words(error: Any) -> str:
    """What an error in an answer says."""
    said = error.get("message") if isinstance(error, dict) else error
    return str(said or error)
