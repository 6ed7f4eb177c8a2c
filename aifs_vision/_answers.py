"""What came back -> a status, a text, data: an unexpected answer never becomes an empty or invented text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from aifs_vision._api_errors import UnexpectedAnswerError
from aifs_vision._loops import is_looping
from aifs_vision._refusals import is_refusal, says_no_text
from aifs_vision._tasks import NO_TEXT
from aifs_vision._typed import DataMismatch, data_of, without_thoughts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aifs_vision._readings import Status
    from aifs_vision._tasks import Task

__all__ = ["Remedy", "Verdict", "judge", "says_much"]

# What hosts call an answer that is complete, one that had no more room, and one that was stopped: OpenAI and vLLM
# first; Anthropic, Mistral and Gemini behind some gateways.
_FINISHED = frozenset({"stop", "end_turn", "stop_sequence", "eos"})
_CUT_OFF = frozenset({"length", "max_tokens", "model_length"})
_STOPPED = frozenset({"content_filter", "safety", "recitation", "prohibited_content", "blocklist"})
_MOST_OF_NOTHING = {True: 80, False: 600}  # characters said of a blank page: where its text is wanted, and else


Remedy = Literal["", "again", "room", "temperature", "repair"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One answer, judged.

    Attributes:
        status: as in `Reading`; "failed" where a schema was asked for and the text does not fit it.
        text: what the model said.
        data: the validated object where a schema was asked for.
        reason: why the status is not a result; "" where it is.
        remedy: what is worth trying once more: just "again", with more "room" for the answer, at another
            "temperature", as a "repair" of the data; "" where nothing is.
        silent: whether the model said nothing at all, not even that there is nothing.
        doubted: characters of what makes it a refusal, or an empty page, by its words alone: they may stand on the
            picture; 0 where there is no doubt.
    """

    status: Status
    text: str
    data: Any = None
    reason: str = ""
    remedy: Remedy = ""
    silent: bool = False
    doubted: int = 0


def judge(answer: Any, task: Task, *, blank: bool = False, printed: bool = False, before: str = "") -> Verdict:
    """The verdict on the JSON of a chat completion.

    Args:
        answer: the JSON.
        task: what was asked.
        blank: whether there is next to nothing on the picture.
        printed: whether about as much is printed there as the model said, so that whatever it said may stand there.
        before: what was answered when this was asked before, and seemed to run in circles.

    Raises:
        UnexpectedAnswerError: it is no chat completion, or one that says nothing at all.
    """
    choice, message = _choice_of(answer)
    text = _text_of(message)
    status, reason, remedy = _stopped(choice, message, text or "", before)
    if status == "ok":
        if text is None:
            raise UnexpectedAnswerError(f"The model answered without a text; its message has {_names(message)}")
        if task.schema is not None:
            return _typed(text, task, blank=blank)
        return _said(text, task, blank=blank, printed=printed)
    return Verdict(status=status, text=text or "", reason=reason, remedy=remedy)


def says_much(verdict: Verdict, task: Task) -> bool:
    """Whether a result says more than anybody could of a blank page."""
    if verdict.data is not None:
        return _letters_in(verdict.data.model_dump()) > _MOST_OF_NOTHING[True]
    return verdict.status == "ok" and len(verdict.text) > _MOST_OF_NOTHING[task.transcribes]


def _letters_in(data: Any) -> int:
    """Characters of all texts and numbers in data, at whatever depth."""
    if isinstance(data, dict):
        return sum(map(_letters_in, data.values()))
    if isinstance(data, (list, tuple, set)):
        return sum(map(_letters_in, data))
    return 0 if data is None or isinstance(data, bool) else len(str(data))


def _stopped(
    choice: Mapping[str, Any], message: Mapping[str, Any], said: str, before: str
) -> tuple[Status, str, Remedy]:
    """Whether the answer came to its end, by what the service says of that."""
    finish = choice.get("finish_reason")
    how = finish.lower() if isinstance(finish, str) else ""
    if message.get("refusal"):
        return "refused", str(message["refusal"]), ""
    if how in _STOPPED:
        return "filtered", "the service's content filter stopped the answer", ""
    # Who says the same again, at another temperature and to the end, reads what stands there.
    if is_looping(said, ended=how in _FINISHED) and not (how in _FINISHED and said == before):
        return "looped", "the answer repeats itself at its end", "temperature"
    if how in _CUT_OFF:
        return "truncated", "the answer did not fit into its max_tokens", "room"
    if how not in _FINISHED or choice.get("error"):
        raise UnexpectedAnswerError(f"The model did not finish: finish_reason is {str(finish)[:40]!r}")
    return "ok", "", ""


def _said(text: str, task: Task, *, blank: bool, printed: bool) -> Verdict:
    """What a finished text is worth."""
    bare = text.strip("\"'`*. \n").lower()
    in_words = task.transcribes and not printed and says_no_text(text)
    if not bare or bare == NO_TEXT or in_words:
        # A blank page is a fact only where the task says what to answer to one.
        if NO_TEXT in task.prompt:
            return Verdict(
                status="empty", text="", remedy="" if text else "again", silent=not text, doubted=len(text) * in_words
            )
        if not bare:
            raise UnexpectedAnswerError("The model answered with nothing")
    if not (task.transcribes and printed) and is_refusal(text):
        return Verdict(status="refused", text=text, reason=text, doubted=len(text) * task.transcribes)
    if blank and len(text) > _MOST_OF_NOTHING[task.transcribes]:
        return Verdict(status="invented", text=text, reason=f"{len(text)} characters were said of a page that is blank")
    return Verdict(status="ok", text=text)


def _typed(text: str, task: Task, *, blank: bool) -> Verdict:
    schema = task.schema
    assert schema is not None  # noqa: S101 - asked by the only caller
    try:
        verdict = Verdict(status="ok", text=text, data=data_of(text, schema))
    except DataMismatch as error:
        if "{" not in text and is_refusal(text):
            return Verdict(status="refused", text=text, reason=text)
        reason = f"the answer does not fit {schema.__name__} ({error})"
        return Verdict(status="failed", text=text, reason=reason, remedy="repair")
    if blank and says_much(verdict, task):
        return Verdict(status="invented", text=text, reason="more data than there can be on a page that is blank")
    return verdict


def _choice_of(answer: Any) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    try:
        choice = answer["choices"][0]
        message = choice["message"]
    except (TypeError, LookupError) as error:
        raise UnexpectedAnswerError(f"HTTP 200 without a choice; it has {_names(answer)}") from error
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise UnexpectedAnswerError(f"HTTP 200 with a choice that is no message; it has {_names(choice)}")
    return choice, message


def _text_of(message: Mapping[str, Any]) -> str | None:
    """The content, which some hosts give as a list of parts; None where there is none."""
    content = message.get("content")
    if isinstance(content, list):
        texts = [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
        content = "".join(texts) if texts else None
    if not isinstance(content, str):
        return None
    whole = content.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # half a surrogate is no letter
    return without_thoughts(whole).strip()


def _names(found: Any) -> str:
    """What an answer is made of, as its values may hold anything that was asked or said."""
    return ", ".join(sorted(map(str, found)))[:200] or "nothing" if isinstance(found, dict) else type(found).__name__
