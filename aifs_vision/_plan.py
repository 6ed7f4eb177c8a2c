"""What is sent for an image: the request body, and what it is expected to use."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from aifs_vision._layout import BANDS
from aifs_vision._limits import Cost
from aifs_vision._tokens import image_tokens, text_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aifs_vision._catalogue import ModelCard
    from aifs_vision._images import PreparedImage
    from aifs_vision._tasks import Task

__all__ = ["Form", "Manner", "Plan", "plan"]

_URL_MARK = "\0image"  # stands for the picture while the JSON is made; no JSON text holds a bare NUL
_THINKING = 2_048  # tokens of room that a reasoning model gets besides, as its thoughts count as answer
_MESSAGE = 8  # tokens that chat templates wrap around a question
_LETTERS_PER_TOKEN = 3.2  # of a transcription: words, figures and punctuation, English and German
_LARGEST = ((16_384, 16_384), (16_384, 5_461), (5_461, 16_384))  # px: pictures that take most tokens
_LETTERS_PER_TOKEN_OF_JSON = 2.5  # quotes, braces and figures are tokens of their own
_VALUE, _ITEMS, _DEEPEST = 10, 3, 5  # letters of a value of data, entries of a list, and levels that are looked into
_LEAST = 4  # tokens of an answer that says that there is nothing
_OTHERWISE = 0.4  # of its room an answer is expected to fill, where nothing is known of it
_EXPECTED = {"caption": 65, "describe": 65}  # tokens of two to four sentences

Form = Literal["schema", "object", "prompt"]
"""How data is asked for: by its JSON schema, in JSON mode, or in words alone."""

_SCHEMA = "\nThe JSON object has to fit this JSON schema: {}"
_REPAIR = "That does not fit: {}. Answer again with the corrected JSON object alone, whole, from the same image."


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a question is put.

    Attributes:
        room: the most tokens the answer may have.
        temperature: nearly always the same words, yet not the loops of pure greed (olmOCR starts at 0.1, too).
        form: how data is asked for.
        wrong: an answer whose data did not fit, and why: it is shown to the model.
    """

    room: int
    temperature: float = 0.1
    form: Form = "schema"
    wrong: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One request, ready to be sent.

    Attributes:
        body: the JSON, the picture's base64 spliced into it without a second copy of either.
        cost: the tokens it is expected to use.
        most: the tokens it can use at most.
        manner: how the question is put.
    """

    body: bytes = field(repr=False)
    cost: Cost
    most: Cost
    manner: Manner


def plan(
    image: PreparedImage, model: str, card: ModelCard, task: Task, manner: Manner, *, letters: float | None = None
) -> Plan:
    """The request for a prepared picture, on which there are about so many characters, where somebody has counted."""
    room = manner.room + (_THINKING if card.reasoning else 0)
    room = min(room, card.max_output_tokens or room)
    text = _body(image, model, card, task, replace(manner, room=room))
    words = text_tokens(_prompt(task, manner.form)) + _MESSAGE + sum(map(text_tokens, manner.wrong or ()))
    read = words + image_tokens(card, image.width or task.long_side, image.height or task.long_side)
    # The service fetches a URL itself, and nobody knows how large its picture is.
    most = words + max(image_tokens(card, *size) for size in _LARGEST) if image.url else read
    written = min(room, _expected(letters, task, manner.room))
    return Plan(
        body=text,
        cost=Cost(input_tokens=read, output_tokens=written, kind=task.name),
        most=Cost(input_tokens=most, output_tokens=room),
        manner=manner,
    )


def _body(image: PreparedImage, model: str, card: ModelCard, task: Task, manner: Manner) -> bytes:
    picture = {"url": image.url or _URL_MARK}
    if task.detail is not None and task.detail != BANDS:
        picture["detail"] = task.detail
    # The picture first: models read the instruction in the light of it.
    content = [{"type": "image_url", "image_url": picture}, {"type": "text", "text": _prompt(task, manner.form)}]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if manner.wrong:
        said, why = manner.wrong
        messages += [{"role": "assistant", "content": said}, {"role": "user", "content": _REPAIR.format(why)}]
    body: dict[str, Any] = {"messages": messages, "model": model, card.max_tokens_field: manner.room}
    if card.takes_temperature:
        body["temperature"] = manner.temperature
    if task.schema is not None and manner.form != "prompt":
        body["response_format"] = task.response_format() if manner.form == "schema" else {"type": "json_object"}
    text = json.dumps(body).encode()
    if image.url is not None:
        return text
    before, after = text.split(json.dumps(_URL_MARK)[1:-1].encode(), 1)
    return b"%sdata:%s;base64,%s%s" % (before, image.mime_type.encode(), b64encode(image.data), after)


def _prompt(task: Task, form: Form) -> str:
    if task.schema is None or form == "schema":
        return task.prompt
    return task.prompt + _SCHEMA.format(json.dumps(task.schema.model_json_schema()))


def _expected(letters: float | None, task: Task, room: int) -> float:
    """Tokens that the answer will probably have; corrected by what the service counts."""
    said = next((tokens for name, tokens in _EXPECTED.items() if task.name.startswith(name)), None)
    if task.schema is not None:
        form = task.schema.model_json_schema()
        return min(room * _OTHERWISE, _filled(form, form.get("$defs", {})) / _LETTERS_PER_TOKEN_OF_JSON)
    if not (said or task.transcribes):
        return room * _OTHERWISE
    if task.name.startswith("caption"):
        return said or 0.0
    return (said or _LEAST) + (room * _OTHERWISE if letters is None else letters / _LETTERS_PER_TOKEN)


def _filled(schema: Mapping[str, Any], named: Mapping[str, Any], depth: int = 0) -> float:
    """Letters of JSON that fits a schema, as a document of the usual kind fills it."""
    if "$ref" in schema:
        schema = named.get(str(schema["$ref"]).rpartition("/")[2], {})
    choices = [choice for choice in schema.get("anyOf", ()) if choice.get("type") != "null"]
    if choices:
        return _filled(choices[0], named, depth)
    if depth > _DEEPEST:
        return _VALUE
    if schema.get("type") == "array":
        return _ITEMS * _filled(schema.get("items", {}), named, depth + 1)
    fields: Mapping[str, Any] = schema.get("properties", {})
    return sum(len(name) + 6 + _filled(field, named, depth + 1) for name, field in fields.items()) or _VALUE
