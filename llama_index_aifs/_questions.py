"""One question whose answer is data: the forms to ask it in, and what its answer is, also while it is written."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, TextBlock
from llama_index.core.program.streaming_utils import process_streaming_content_incremental
from pydantic import create_model

from aifs_vision import DataMismatch, data_of
from llama_index_aifs._own_errors import StructuredAnswerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pydantic import BaseModel

    from aifs_vision import BadRequestError

__all__ = ["Question"]

_SIMPLER = {"schema": "object", "object": "prompt"}
"""Forms to ask in: by JSON schema, in JSON mode, in words alone; a host that knows one of them knows those after it."""
_OF_FORM = ("response_format", "json_schema", "json_object", "structured output", "guided")
_OF_SCHEMA = (
    "invalid schema",
    "invalid json schema",
    "provided json schema",
    "schema must",
    "schema contains",
    "grammar",
)
_NO_NAME = re.compile(r"[^a-zA-Z0-9_-]")  # what hosts refuse in the name of a schema
_LONGEST_NAME = 64
_TOLD = "Answer with one JSON value and nothing else. It has to fit this JSON schema: {}"
_ENDED = {
    "length": "it is cut off (finish_reason 'length'). Give it more room with max_tokens=...",
    "content_filter": "a filter has cut it (finish_reason 'content_filter')",
}
_GROWTH = 32  # a preview is made when this part of the text is new: parsing it all at each piece would take n^2


class Question:
    """A question whose answer is data.

    Hosts take schemas of objects alone, so what is none (a list, a union) is asked for as `{"value": ...}`.

    Attributes:
        model: who is asked.
        form: how it is asked: "schema", "object" or "prompt".
        shape: the schema that is asked for, as a text.
    """

    def __init__(self, messages: Sequence[ChatMessage], schema: type[BaseModel], *, model: str, form: str) -> None:
        self._messages, self._schema, self.model, self.form = list(messages), schema, model, form
        asked = schema.model_json_schema()
        self._wrapped: Any = None
        if asked.get("type") != "object":
            self._wrapped = create_model(schema.__name__, value=(schema, ...))
            asked = self._wrapped.model_json_schema()
        self._asked = asked
        self.shape = json.dumps(asked)
        self._seen: Any = None
        self._looked_at = 0
        self._last = ChatResponse(message=ChatMessage())

    def messages(self) -> list[ChatMessage]:
        """The messages, with the schema in words where the request does not carry it."""
        if self.form == "schema":
            return self._messages
        told = TextBlock(text=_TOLD.format(self.shape))
        *before, last = self._messages or [ChatMessage(blocks=[])]
        if last.role != MessageRole.USER:
            return [*self._messages, ChatMessage(role=MessageRole.USER, blocks=[told])]
        return [*before, last.model_copy(update={"blocks": [*last.blocks, told]})]

    def keywords(self, given: Mapping[str, Any] | None) -> dict[str, Any]:
        """The keyword arguments of the call."""
        kept = {key: value for key, value in (given or {}).items() if key != "tool_choice"}
        if self.form == "schema":
            name = _NO_NAME.sub("_", self._schema.__name__)[:_LONGEST_NAME]
            kept["response_format"] = {"type": "json_schema", "json_schema": {"name": name, "schema": self._asked}}
        elif self.form == "object":
            kept["response_format"] = {"type": "json_object"}
        return kept

    def simplify(self, error: BadRequestError) -> bool:
        """Goes over to a simpler form if that is what the host complains of; whether it is so for all schemas.

        Raises:
            BadRequestError: it complains of something else.
        """
        form, said = _SIMPLER.get(self.form), error.detail.lower()
        if form is None or not any(word in said for word in (*_OF_FORM, *_OF_SCHEMA)):
            raise error
        self.form = form
        return not any(word in said for word in _OF_SCHEMA)

    def data(self, response: ChatResponse) -> BaseModel:
        """The validated object of an answer.

        Raises:
            StructuredAnswerError: it is cut off, filtered, no JSON, or does not fit.
        """
        text, used = response.message.content or "", response.additional_kwargs
        told: dict[str, Any] = {"model": self.model, "schema": self._schema.__name__, "text": text, "used": used}
        if reason := _ENDED.get(used.get("finish_reason", "")):
            raise StructuredAnswerError(reason=reason, **told)
        try:
            return self._data_of(text)
        except DataMismatch as fault:
            raise StructuredAnswerError(reason=str(fault), **told) from fault

    def _data_of(self, text: str) -> BaseModel:
        if self._wrapped is None:
            return data_of(text, self._schema)
        try:
            value: BaseModel = data_of(text, self._wrapped).value
        except DataMismatch:
            if '"value"' in text:
                raise
            return data_of(text, self._schema)  # some answer with the list itself, whatever the schema says
        return value

    def preview(self, response: ChatResponse) -> Iterator[tuple[Any, ChatResponse]]:
        """What can be seen of the object so far, where that is anything new."""
        self._last = response
        written = response.message.content or ""
        if len(written) - self._looked_at <= self._looked_at // _GROWTH:
            return
        self._looked_at = len(written)
        _, brace, rest = written.partition("{")  # fences and chatter before it
        if not brace:
            return
        text = ChatMessage(role=MessageRole.ASSISTANT, content=brace + rest.rstrip("`\n "))
        schema = self._wrapped or self._schema
        seen = process_streaming_content_incremental(ChatResponse(message=text), schema, self._seen)
        if seen == self._seen:
            return
        self._seen = seen
        if self._wrapped is None:
            yield seen, response
        elif isinstance(seen, self._wrapped):
            yield seen.value, response

    def outcome(self) -> tuple[BaseModel, ChatResponse]:
        """The object of a stream that has come to its end; errors as of `data`."""
        return self.data(self._last), self._last
