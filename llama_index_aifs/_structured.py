"""Answers that are data: asked for as the model's host understands it, read with tolerance for all but missing ends."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, TextBlock
from llama_index.core.bridge.pydantic import PrivateAttr, SerializeAsAny
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.program.streaming_utils import process_streaming_content_incremental
from llama_index.core.types import PydanticProgramMode
from llama_index.llms.openai_like import OpenAILike

from aifs_vision import BadRequestError, DataMismatch, data_of, model_card
from llama_index_aifs._own_errors import StructuredAnswerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from llama_index.core.base.llms.types import ChatResponseAsyncGen, ChatResponseGen
    from llama_index.core.prompts import PromptTemplate
    from pydantic import BaseModel

__all__ = ["AIFSStructuredLLM", "TypedAnswers"]

_SIMPLER = {"schema": "object", "object": "prompt"}
"""Forms to ask in: by JSON schema, in JSON mode, in words alone; a host that knows one of them knows those after it."""
_OF_FORM = ("response_format", "json_schema", "json_object", "structured output", "guided")
_NO_NAME = re.compile(r"[^a-zA-Z0-9_-]")  # what hosts refuse in the name of a schema
_LONGEST_NAME = 64
_TOLD = "Answer with one JSON object and nothing else. It has to fit this JSON schema: {}"


class _Question:
    """A question whose answer is data."""

    def __init__(self, messages: Sequence[ChatMessage], schema: type[BaseModel], llm: TypedAnswers) -> None:
        self._messages, self._schema, self._llm = list(messages), schema, llm
        self._form = llm.data_form
        self._seen: Any = None
        self._last = ChatResponse(message=ChatMessage())

    def messages(self) -> list[ChatMessage]:
        """The messages, with the schema in words where the request does not carry it."""
        if self._form == "schema":
            return self._messages
        told = TextBlock(text=_TOLD.format(json.dumps(self._schema.model_json_schema())))
        *before, last = self._messages or [ChatMessage(blocks=[])]
        if last.role != MessageRole.USER:
            return [*self._messages, ChatMessage(role=MessageRole.USER, blocks=[told])]
        return [*before, last.model_copy(update={"blocks": [*last.blocks, told]})]

    def keywords(self, given: Mapping[str, Any] | None) -> dict[str, Any]:
        """The keyword arguments of the call."""
        kept = {key: value for key, value in (given or {}).items() if key != "tool_choice"}
        if self._form == "schema":
            name = _NO_NAME.sub("_", self._schema.__name__)[:_LONGEST_NAME]
            schema = {"name": name, "schema": self._schema.model_json_schema()}
            kept["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif self._form == "object":
            kept["response_format"] = {"type": "json_object"}
        return kept

    def simplify(self, error: BadRequestError) -> None:
        """Goes over to a simpler form if that is what the host complains of, for all questions to come.

        Raises:
            BadRequestError: it complains of something else.
        """
        form = _SIMPLER.get(self._form)
        if form is None or not any(word in error.detail.lower() for word in _OF_FORM):
            raise error
        self._form = self._llm.data_form = form

    def data(self, response: ChatResponse) -> BaseModel:
        """The validated object of an answer.

        Raises:
            StructuredAnswerError: it is cut off, no JSON, or does not fit.
        """
        text, used = response.message.content or "", response.additional_kwargs
        told: dict[str, Any] = {"model": self._llm.model, "schema": self._schema.__name__, "text": text, "used": used}
        if used.get("finish_reason") == "length":
            reason = "it is cut off (finish_reason 'length'). Give it more room with max_tokens=..."
            raise StructuredAnswerError(reason=reason, **told)
        try:
            return data_of(text, self._schema)
        except DataMismatch as fault:
            raise StructuredAnswerError(reason=str(fault), **told) from fault

    def preview(self, response: ChatResponse) -> Iterator[tuple[Any, ChatResponse]]:
        """What can be seen of the object so far, where that is anything new."""
        self._last = response
        _, brace, rest = (response.message.content or "").partition("{")  # fences and chatter before it
        text = ChatMessage(role=MessageRole.ASSISTANT, content=brace + rest.rstrip("`\n "))
        seen = process_streaming_content_incremental(ChatResponse(message=text), self._schema, self._seen)
        if brace and seen != self._seen:
            self._seen = seen
            yield seen, response

    def outcome(self) -> tuple[BaseModel, ChatResponse]:
        """The object of a stream that has come to its end; errors as of `data`."""
        return self.data(self._last), self._last


class TypedAnswers(OpenAILike):
    """The part of `AIFS` that asks for data; other program modes than the default are LlamaIndex's own."""

    _form: str | None = PrivateAttr(default=None)

    @property
    def data_form(self) -> str:
        """How data are asked for: what the catalogue says of the model, or what its host has turned out to know."""
        return self._form or ("object" if model_card(self.model).schema is False else "schema")

    @data_form.setter
    def data_form(self, form: str) -> None:
        self._form = form

    def as_structured_llm(self, output_cls: type[BaseModel], **kwargs: Any) -> StructuredLLM:
        """An LLM that answers with JSON of this class; its responses keep usage and `finish_reason`."""
        kind = AIFSStructuredLLM if self._asks_itself() else StructuredLLM
        return kind(llm=self, output_cls=output_cls, **kwargs)

    def structured_predict(
        self,
        output_cls: type[BaseModel],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        """The object that the model fills for a prompt.

        Raises:
            StructuredAnswerError: its answer is cut off, no JSON, or does not fit.
            AIFSError: there is none.
        """
        if not self._asks_itself():
            return FunctionCallingLLM.structured_predict(self, output_cls, prompt, llm_kwargs, **prompt_args)
        messages = self._extend_messages(prompt.format_messages(**prompt_args))
        return self.typed_chat(messages, output_cls, llm_kwargs)[0]

    async def astructured_predict(
        self,
        output_cls: type[BaseModel],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        """The asynchronous twin of `structured_predict`."""
        if not self._asks_itself():
            return await FunctionCallingLLM.astructured_predict(self, output_cls, prompt, llm_kwargs, **prompt_args)
        messages = self._extend_messages(prompt.format_messages(**prompt_args))
        return (await self.atyped_chat(messages, output_cls, llm_kwargs))[0]

    def _structured_stream_call(
        self,
        output_cls: type[BaseModel],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        if not self._asks_itself():
            return FunctionCallingLLM._structured_stream_call(self, output_cls, prompt, llm_kwargs, **prompt_args)  # noqa: SLF001 - its own base
        messages = self._extend_messages(prompt.format_messages(**prompt_args))
        return (data for data, _ in self.typed_stream(messages, output_cls, llm_kwargs))

    async def _structured_astream_call(
        self,
        output_cls: type[BaseModel],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        if not self._asks_itself():
            return await FunctionCallingLLM._structured_astream_call(  # noqa: SLF001 - its own base
                self, output_cls, prompt, llm_kwargs, **prompt_args
            )
        messages = self._extend_messages(prompt.format_messages(**prompt_args))
        return (data async for data, _ in self.atyped_stream(messages, output_cls, llm_kwargs))

    def typed_chat(
        self, messages: Sequence[ChatMessage], schema: type[BaseModel], options: Mapping[str, Any] | None = None
    ) -> tuple[BaseModel, ChatResponse]:
        """The object that answers messages, and the response it came in."""
        question = _Question(messages, schema, self)
        while True:
            try:
                response = self.chat(question.messages(), **question.keywords(options))
            except BadRequestError as error:
                question.simplify(error)
            else:
                return question.data(response), response

    async def atyped_chat(
        self, messages: Sequence[ChatMessage], schema: type[BaseModel], options: Mapping[str, Any] | None = None
    ) -> tuple[BaseModel, ChatResponse]:
        """The asynchronous twin of `typed_chat`."""
        question = _Question(messages, schema, self)
        while True:
            try:
                response = await self.achat(question.messages(), **question.keywords(options))
            except BadRequestError as error:
                question.simplify(error)
            else:
                return question.data(response), response

    def typed_stream(
        self, messages: Sequence[ChatMessage], schema: type[BaseModel], options: Mapping[str, Any] | None = None
    ) -> Iterator[tuple[Any, ChatResponse]]:
        """Previews of the object while it is written, and at last the object itself, each with its response."""
        question = _Question(messages, schema, self)
        while True:
            try:
                for response in self.stream_chat(question.messages(), **question.keywords(options)):
                    yield from question.preview(response)
            except BadRequestError as error:
                question.simplify(error)
            else:
                break
        yield question.outcome()

    async def atyped_stream(
        self, messages: Sequence[ChatMessage], schema: type[BaseModel], options: Mapping[str, Any] | None = None
    ) -> AsyncIterator[tuple[Any, ChatResponse]]:
        """The asynchronous twin of `typed_stream`."""
        question = _Question(messages, schema, self)
        while True:
            try:
                async for response in await self.astream_chat(question.messages(), **question.keywords(options)):
                    for seen in question.preview(response):
                        yield seen
            except BadRequestError as error:
                question.simplify(error)
            else:
                break
        yield question.outcome()

    def _asks_itself(self) -> bool:
        return self.pydantic_program_mode == PydanticProgramMode.DEFAULT


class AIFSStructuredLLM(StructuredLLM):
    """What `AIFS.as_structured_llm` gives: JSON of one class, with the usage and `finish_reason` of its answer.

    Its requests are told of in events by the LLM inside, once.
    """

    llm: SerializeAsAny[TypedAnswers]

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """A response whose content is the JSON and whose `raw` is the object.

        Raises:
            StructuredAnswerError: the answer is cut off, no JSON, or does not fit.
        """
        return _typed(*self.llm.typed_chat(messages, self.output_cls, kwargs))

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The asynchronous twin of `chat`."""
        return _typed(*await self.llm.atyped_chat(messages, self.output_cls, kwargs))

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """The same while it is written; only the last response is whole, and of the class."""
        for data, response in self.llm.typed_stream(messages, self.output_cls, kwargs):
            yield _typed(data, response)

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """The asynchronous twin of `stream_chat`."""
        answers = self.llm.atyped_stream(messages, self.output_cls, kwargs)

        async def told() -> ChatResponseAsyncGen:
            async for data, response in answers:
                yield _typed(data, response)

        return told()


def _typed(data: BaseModel, response: ChatResponse) -> ChatResponse:
    message = ChatMessage(role=MessageRole.ASSISTANT, content=data.model_dump_json())
    return ChatResponse(message=message, raw=data, additional_kwargs=response.additional_kwargs)
