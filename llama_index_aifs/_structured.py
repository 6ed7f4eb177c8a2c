"""Answers that are data: asked for as the model's host understands it, read with tolerance for all but missing ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole
from llama_index.core.bridge.pydantic import PrivateAttr, SerializeAsAny
from llama_index.core.instrumentation.events.llm import LLMStructuredPredictEndEvent, LLMStructuredPredictStartEvent
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.types import PydanticProgramMode
from llama_index.llms.openai_like import OpenAILike
from llama_index_instrumentation import get_dispatcher

from aifs_vision import BadRequestError, model_card
from llama_index_aifs._questions import Question

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from llama_index.core.base.llms.types import ChatResponseAsyncGen, ChatResponseGen
    from llama_index.core.prompts import PromptTemplate
    from pydantic import BaseModel

__all__ = ["AIFSStructuredLLM", "TypedAnswers"]

_events = get_dispatcher(__name__)


class TypedAnswers(OpenAILike):
    """The part of `AIFS` that asks for data; other program modes than the default are LlamaIndex's own."""

    _forms: dict[str, str] = PrivateAttr(default_factory=dict)  # what the hosts of models have turned out to know
    _refused: dict[tuple[str, str], str] = PrivateAttr(default_factory=dict)

    @property
    def data_form(self) -> str:
        """How data are asked for: what the catalogue says of the model, or what its host has turned out to know."""
        return self._form_of(self._model_of({}))

    def _model_of(self, options: Mapping[str, Any]) -> str:
        """The name of the model that a call with these options asks."""
        model = {**self.additional_kwargs, **options}.get("model") or self.model
        if not isinstance(model, str):
            raise TypeError(f"model={model!r} is not the name of a model")
        return model

    def _form_of(self, model: str) -> str:
        return self._forms.get(model) or ("object" if model_card(model).schema is False else "schema")

    def _question(
        self, messages: Sequence[ChatMessage], schema: type[BaseModel], options: Mapping[str, Any] | None
    ) -> Question:
        model = self._model_of(options or {})
        question = Question(messages, schema, model=model, form=self._form_of(model))
        question.form = self._refused.get((model, question.shape), question.form)
        return question

    def _simplify(self, question: Question, error: BadRequestError) -> None:
        """Asks in a simpler form, and remembers it: for this schema, or for all where the host knows none."""
        if question.simplify(error):
            self._forms[question.model] = question.form
        else:
            self._refused[question.model, question.shape] = question.form

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
        _events.event(LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=prompt_args))
        messages = self._extend_messages(prompt.format_messages(**prompt_args))
        data = self.typed_chat(messages, output_cls, llm_kwargs)[0]
        _events.event(LLMStructuredPredictEndEvent(output=data))
        return data

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
        _events.event(LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=prompt_args))
        messages = self._extend_messages(prompt.format_messages(**prompt_args))
        data, _ = await self.atyped_chat(messages, output_cls, llm_kwargs)
        _events.event(LLMStructuredPredictEndEvent(output=data))
        return data

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
        question = self._question(messages, schema, options)
        while True:
            try:
                response = self.chat(question.messages(), **question.keywords(options))
            except BadRequestError as error:
                self._simplify(question, error)
            else:
                return question.data(response), response

    async def atyped_chat(
        self, messages: Sequence[ChatMessage], schema: type[BaseModel], options: Mapping[str, Any] | None = None
    ) -> tuple[BaseModel, ChatResponse]:
        """The asynchronous twin of `typed_chat`."""
        question = self._question(messages, schema, options)
        while True:
            try:
                response = await self.achat(question.messages(), **question.keywords(options))
            except BadRequestError as error:
                self._simplify(question, error)
            else:
                return question.data(response), response

    def typed_stream(
        self, messages: Sequence[ChatMessage], schema: type[BaseModel], options: Mapping[str, Any] | None = None
    ) -> Iterator[tuple[Any, ChatResponse]]:
        """Previews of the object while it is written, and at last the object itself, each with its response."""
        question = self._question(messages, schema, options)
        while True:
            try:
                for response in self.stream_chat(question.messages(), **question.keywords(options)):
                    yield from question.preview(response)
            except BadRequestError as error:
                self._simplify(question, error)
            else:
                break
        yield question.outcome()

    async def atyped_stream(
        self, messages: Sequence[ChatMessage], schema: type[BaseModel], options: Mapping[str, Any] | None = None
    ) -> AsyncIterator[tuple[Any, ChatResponse]]:
        """The asynchronous twin of `typed_stream`."""
        question = self._question(messages, schema, options)
        while True:
            try:
                async for response in await self.astream_chat(question.messages(), **question.keywords(options)):
                    for seen in question.preview(response):
                        yield seen
            except BadRequestError as error:
                self._simplify(question, error)
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
