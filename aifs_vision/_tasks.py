"""What to ask of an image: `Task`, with versioned prompts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from aifs_vision._errors import SettingsError

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["CAPTION", "DESCRIBE", "NO_TEXT", "OCR", "Task"]

NO_TEXT = "[no text]"
"""What a model is told to answer for a picture without text; it becomes the status "empty"."""

# px: recognition gains nothing above the first, captions nothing above the second; small print needs the third.
_PAGE_SIDE, _PICTURE_SIDE, _DENSE_SIDE = 1536, 1024, 2048
_DETAILS = ("low", "high", "auto", "bands")


@dataclass(frozen=True, kw_only=True)
class Task:
    """One thing to ask of an image; a value, safe to share, compare, hash and pickle.

        Task.ask("Which colour is the car?")
        Task.extract(Invoice)                       # a pydantic model
        CAPTION.in_language("German")

    Attributes:
        name: part of a reading's id and metadata, so that readings of two tasks stand side by side.
        version: counts up whenever the prompt changes.
        prompt: what the model is told, after the picture.
        max_tokens: room for the answer; it is given more once where that was not enough.
        long_side: px to which the picture's longer side is shrunk (never enlarged).
        dense_side: px that a page with small print may have instead, or a tall one as many pixels as such a page;
            None where print does not matter.
        detail: the `detail` sent with the picture ("low", "high", "auto"); "bands" cuts a page into overlapping
            bands that are read one by one, wherever that shows more of it; None does so by itself where the print
            would be too small otherwise, if the task is `transcribes`. The columns of a page are cut, too, and
            their parts then come in the order of the bands.
        transcribes: whether the answer is the text of the picture from its top to its foot, so that the answers
            for its bands, one after the other, are the answer for the whole.
        schema: the pydantic model to fill, or None for plain text.
    """

    name: str
    version: str
    prompt: str
    max_tokens: int
    long_side: int
    dense_side: int | None = None
    detail: str | None = None
    transcribes: bool = False
    schema: type[BaseModel] | None = None

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise SettingsError.bad_choice("prompt", self.prompt, ("a question or an instruction",))
        for number in ("max_tokens", "long_side", "dense_side"):
            value = getattr(self, number)
            if value is not None and value < 1:
                raise SettingsError.bad_value(f"Task.{number}", value, "it is at least 1")
        if self.detail is not None and self.detail not in _DETAILS:
            raise SettingsError.bad_choice("Task.detail", self.detail, _DETAILS)
        if self.detail == "bands" and self.schema is not None:
            message = "the data found in each band would have to be made one; take a larger long_side"
            raise SettingsError.bad_value("Task.detail", "bands", message)

    @classmethod
    def of(cls, task: str | Task) -> Task:
        """A task by its name ("caption", "ocr", "describe"), or the task itself.

        Raises:
            SettingsError: no task has this name.
            TypeError: neither a name nor a Task.
        """
        if isinstance(task, Task):
            return task
        if not isinstance(task, str):
            raise TypeError(f"task={task!r} must be the name of a task or a Task")
        if task not in _BY_NAME:
            raise SettingsError.bad_choice("task", task, tuple(_BY_NAME))
        return _BY_NAME[task]

    @classmethod
    def ask(cls, question: str, *, name: str | None = None, max_tokens: int = 600) -> Task:
        """A question of one's own; `name` defaults to one made of the question."""
        digest = hashlib.sha256(question.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        return cls(
            name=name or f"ask-{digest}",
            version="1",
            prompt=question,
            max_tokens=max_tokens,
            long_side=_PAGE_SIDE,
            dense_side=_DENSE_SIDE,
        )

    @classmethod
    def extract(cls, schema: type[BaseModel], *, max_tokens: int = 2_000) -> Task:
        """Typed data: `Reading.data` is a validated `schema`, its text the JSON.

        Raises:
            TypeError: `schema` is not a class derived from `pydantic.BaseModel`, or one without a JSON schema.
        """
        from pydantic import BaseModel, PydanticUserError

        if not (isinstance(schema, type) and issubclass(schema, BaseModel)):
            message = f"Task.extract() takes a class derived from pydantic.BaseModel, not {schema!r}"
            raise TypeError(message)
        try:
            schema.model_json_schema()
        except PydanticUserError as error:
            raise TypeError(f"{schema.__name__} has no JSON schema to be filled: {error}") from error
        return cls(
            name=f"extract-{schema.__name__}",
            version="1",
            prompt=_EXTRACT_PROMPT,
            max_tokens=max_tokens,
            long_side=_PAGE_SIDE,
            dense_side=_DENSE_SIDE,
            schema=schema,
        )

    def in_language(self, language: str) -> Task:
        """The same task, answered in this language; text that stands in the picture keeps its own."""
        return replace(
            self,
            name=f"{self.name}-{language.lower()}",
            prompt=f"{self.prompt}\nWrite in {language}; text in the image keeps its own language.",
        )

    def sized(self, long_side: int) -> Task:
        """The same task with pictures of at most this many px on their longer side, also for small print."""
        return replace(self, long_side=long_side, dense_side=self.dense_side and long_side)

    @property
    def cuts(self) -> bool:
        """Whether a page may be read in bands."""
        return self.detail == "bands" or (self.detail is None and self.transcribes)

    def response_format(self) -> dict[str, Any] | None:
        """The request's `response_format`: the JSON schema of what to fill, or None for plain text."""
        if self.schema is None:
            return None
        schema = {"name": self.schema.__name__, "schema": self.schema.model_json_schema()}
        return {"type": "json_schema", "json_schema": schema}

    @property
    def fingerprint(self) -> str:
        """Changes with anything that can change the answer."""
        asked = [
            self.version,
            self.prompt,
            self.max_tokens,
            self.long_side,
            self.dense_side,
            self.detail,
            self.transcribes,
            self.response_format(),
        ]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


_TRANSCRIBE = """\
Transcribe all text that stands in the image, completely and literally, in natural reading order: \
one column after the other, headings where they stand. Put each row of a table or receipt on one line, \
its cells separated by " | ". Correct nothing, translate nothing, leave nothing out and invent nothing."""

_EXTRACT_PROMPT = """\
Fill the given JSON schema from this image. Take every value from the image itself; \
where the image does not say, use null (or an empty list). Answer with the JSON object alone."""

CAPTION = Task(
    name="caption",
    version="1",
    prompt="""\
Write a caption for this image, for a search index: two to four plain sentences that say what it shows, \
with the names, places, numbers and words that matter in it. Say only what can be seen.""",
    max_tokens=300,
    long_side=_PICTURE_SIDE,
)

OCR = Task(
    name="ocr",
    version="1",
    prompt=f"""\
{_TRANSCRIBE} Answer with the text alone: no comment, no code fence. \
If there is no text in the image, answer exactly {NO_TEXT}""",
    max_tokens=2_048,
    long_side=_PAGE_SIDE,
    dense_side=_DENSE_SIDE,
    transcribes=True,
)

DESCRIBE = Task(
    name="describe",
    version="1",
    prompt=f"""\
Describe this image for a search index, in two to four plain sentences that say what it shows. \
Then, after an empty line: {_TRANSCRIBE} No comment, no code fence. \
If there is no text in the image, end after the description.""",
    max_tokens=2_400,
    long_side=_PAGE_SIDE,
    dense_side=_DENSE_SIDE,
)

_BY_NAME = {task.name: task for task in (CAPTION, OCR, DESCRIBE)}
