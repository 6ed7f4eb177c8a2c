"""What may be asked of an image."""

from __future__ import annotations

import pickle
from collections.abc import Callable  # noqa: TC003 - pydantic looks it up

import pytest
from pydantic import BaseModel

from aifs_vision import CAPTION, DESCRIBE, OCR, SettingsError, Task


class Invoice(BaseModel):
    """What is to be found on an invoice."""

    number: str
    total: float | None = None


def test_tasks_are_found_by_name() -> None:
    """The three tasks have names; another name is refused with those there are."""
    assert [Task.of(name) for name in ("caption", "ocr", "describe")] == [CAPTION, OCR, DESCRIBE]
    assert Task.of(OCR) is OCR
    with pytest.raises(SettingsError, match="'caption', 'ocr', 'describe'"):
        Task.of("captoin")
    with pytest.raises(TypeError, match="task=7"):
        Task.of(7)  # type: ignore[arg-type]


def test_tasks_are_values() -> None:
    """Tasks are equal by what they ask, hashable, frozen and picklable."""
    asked = Task.ask("Which colour?")
    assert asked == Task.ask("Which colour?")
    assert len({asked, Task.ask("Which colour?"), Task.ask("What size?")}) == 2
    assert pickle.loads(pickle.dumps(Task.extract(Invoice))) == Task.extract(Invoice)  # noqa: S301 - our own
    with pytest.raises(AttributeError):
        asked.prompt = "other"  # type: ignore[misc]


def test_questions_stand_side_by_side() -> None:
    """Two questions, two schemas or two languages have names of their own, so their readings do not collide."""
    names = [
        OCR.name,
        CAPTION.name,
        CAPTION.in_language("German").name,
        Task.ask("a?").name,
        Task.ask("b?").name,
        Task.extract(Invoice).name,
        Task.ask("a?", name="colour").name,
    ]
    assert len(set(names)) == len(names)
    assert names[-1] == "colour"


def test_the_language_goes_into_the_prompt() -> None:
    """A task in another language asks for it, and leaves the text of the picture in its own."""
    assert "German" in CAPTION.in_language("German").prompt
    assert CAPTION.prompt in CAPTION.in_language("German").prompt


def test_a_schema_that_cannot_be_told_is_refused_at_once() -> None:
    """A class without a JSON schema is refused when the task is made, not at the first image."""

    class Odd(BaseModel):
        call: Callable[[int], int]

    with pytest.raises(TypeError, match="no JSON schema"):
        Task.extract(Odd)


def test_nonsense_is_refused() -> None:
    """An empty question, no room for an answer, or a schema that is no pydantic class is refused at once."""
    with pytest.raises(SettingsError, match="prompt"):
        Task.ask("  ")
    with pytest.raises(SettingsError, match="max_tokens=0"):
        Task.ask("What?", max_tokens=0)
    with pytest.raises(TypeError, match="BaseModel"):
        Task.extract(dict)  # type: ignore[arg-type]


def test_a_question_may_hold_half_a_letter() -> None:
    """Half a surrogate pair, as texts that were cut have, is no error, and questions with others have other names."""
    assert Task.ask("what \ud83d").name != Task.ask("what \ud83c").name
