"""`ChatAIFS`: the service's chat models, pictures included, on the project's transport."""

from __future__ import annotations

import asyncio
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from langchain_core.load import dumpd

from aifs_vision import model_card
from langchain_aifs._counting import message_tokens, pieces, words_tokens
from langchain_aifs._own_errors import own_errors
from langchain_aifs._profiles import profile_of
from langchain_aifs._replies import cost_eur, keep_asides, paid_before
from langchain_aifs._responses import Told, completed, no_json
from langchain_aifs._secrecy import identified, masked
from langchain_aifs._seeing import SeeingChat
from langchain_aifs._sendable import has_files, sendable
from langchain_aifs.structured_output import Method, response_format_of, structured, usual_method, usual_strictness

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from langchain_core.language_models import LanguageModelInput, ModelProfile
    from langchain_core.language_models.base import LangSmithParams
    from langchain_core.messages import BaseMessage
    from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, Generation
    from langchain_core.runnables import Runnable

__all__ = ["ChatAIFS"]

_ROOMS = ("max_tokens", "max_completion_tokens")
_TELL_APART = ("default_headers", "default_query", "output_version", "use_responses_api")  # answers, in caches


class ChatAIFS(SeeingChat):
    """A chat model of AI Foundation Services.

        chat = ChatAIFS(model="Qwen3-VL-30B-A3B-Instruct-FP8")      # the key is in AIFS_API_KEY
        chat.invoke([HumanMessage([{"type": "text", "text": "What does this sign say?"}, image_block("sign.jpg")])])
        chat.with_structured_output(Invoice).invoke(...)

    It is LangChain's OpenAI chat model in all but this. Key and address are the service's alone (`AIFS_API_KEY`,
    `AIFS_BASE_URL`): nothing of `OPENAI_*`, `LANGSMITH_GATEWAY` or `LC_*` changes where a request goes or what headers
    it has. Requests are paced and retried by the same authority as those of `aifs_vision.Vision`, so `max_retries`
    changes nothing. Errors are those of `aifs_vision` and LangChain's own at once. `/responses` is asked only with
    `use_responses_api=True`.

    Pictures may come in any form that LangChain, OpenAI, Anthropic or Google have for them, also in system,
    assistant and tool messages, from where they move to the next message of the user. They are prepared as the engine
    prepares its own: upright, without metadata, in a format that the model takes, and no larger than it makes use of.
    Of documents the pages are sent, of videos frames. URLs are passed on; paths in messages are never opened.

    Answers have their usage, in streams too, `response_metadata["cost_eur"]` (EUR; None where the catalogue has no
    price), and the model's thoughts in `additional_kwargs["reasoning_content"]`. `profile` and token counts are those
    of the catalogue and need no network. A temperature is not sent to models that take none.

    Args:
        model: the model's name.
        api_key, base_url, residency, plan, limits, queue: as for `aifs_vision.Vision`; `queue=True` does not stream.
        timeout: seconds one request may take.
        image_size: how large pictures are sent: "auto", "original" (as large as the model sees), or px of the longer
            side; never enlarged.
        frames: which frames of animations and videos are sent, as for `Vision.read_many`.
        image_limits: how large files in messages may be.
        default_headers, default_query: are sent along, but for an Authorization, which is the key's place. Traces have
            their names alone; those named like credentials stay out of pickles and of what LangChain's `dumps` writes.
        temperature, max_tokens, ...: as for LangChain's `ChatOpenAI`; what is not known is a TypeError.

    Raises:
        SettingsError: no key, or a setting that cannot be right.
        ResidencyError: the model's region is unknown or not allowed.

    Copies with other values, and assignments of key, address, residency and the like, are checked and connected anew.
    """

    def __init__(self, **kwargs: Any) -> None:  # here, so that type checkers take texts for keys, and both names
        super().__init__(**self._taken(kwargs))

    # -- Asking ----------------------------------------------------------------------------------------------------

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        with own_errors():
            sent = sendable(messages, self._eyes(kwargs))
            return self._answered(super()._generate(sent, stop, run_manager, **self._asked_for(kwargs)))

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        with own_errors():
            sent = await self._sendable(messages, kwargs)
            return self._answered(await super()._agenerate(sent, stop, run_manager, **self._asked_for(kwargs)))

    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        with own_errors():
            sent = sendable(messages, self._eyes(kwargs))
            if not self.use_responses_api:
                yield from super()._stream(sent, stop, run_manager, **kwargs)
                return
            told = Told(self.model_name, self._address)
            with no_json(self._address):
                for chunk in self._stream_responses(sent, stop, run_manager, **self._asked_for(kwargs)):
                    yield told.add(chunk)
            told.check()

    async def _astream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        with own_errors():
            sent = await self._sendable(messages, kwargs)
            if not self.use_responses_api:
                async for chunk in super()._astream(sent, stop, run_manager, **kwargs):
                    yield chunk
                return
            told = Told(self.model_name, self._address)
            with no_json(self._address):
                async for chunk in self._astream_responses(sent, stop, run_manager, **self._asked_for(kwargs)):
                    yield told.add(chunk)
            told.check()

    def _answered(self, result: ChatResult) -> ChatResult:
        return completed(result, self.model_name) if self.use_responses_api else result

    def _asked_for(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The options of a call; with a schema for a class, or the SDK would parse, and lose what does not fit."""
        form = kwargs.get("response_format") if self.use_responses_api else None
        return kwargs if form is None else {**kwargs, "response_format": response_format_of(form)}

    async def _sendable(self, messages: list[BaseMessage], kwargs: Mapping[str, Any]) -> list[BaseMessage]:
        """The messages with their pictures prepared; off the loop, where there are any."""
        eyes = self._eyes(kwargs)
        return await asyncio.to_thread(sendable, messages, eyes) if has_files(messages) else sendable(messages, eyes)

    def _get_request_payload(
        self, input_: LanguageModelInput, *, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        payload = super()._get_request_payload(input_, stop=stop, **kwargs)
        if self.queue is True:  # whoever asks for a stream
            payload["stream"] = False
            payload.pop("stream_options", None)
        card = model_card(payload["model"])
        if not card.takes_temperature and payload.get("temperature") != 1:
            payload.pop("temperature", None)
        if self.use_responses_api:
            return payload
        given = [source[name] for source in (kwargs, payload) for name in _ROOMS if source.get(name) is not None]
        for name in _ROOMS:
            payload.pop(name, None)
        if given:
            payload[card.max_tokens_field] = given[0]
        if (form := payload.pop("response_format", None)) is not None:
            # Beside the body, or LangChain would have the SDK parse the answer, and lose what does not fit.
            payload["extra_body"] = {**(payload.get("extra_body") or {}), "response_format": response_format_of(form)}
        return payload

    def _use_responses_api(self, payload: dict[str, Any]) -> bool:  # noqa: ARG002 - LangChain's signature
        """Only when asked for; names such as "gpt-5-codex" do not decide where a request goes."""
        return bool(self.use_responses_api)

    # -- Answers ---------------------------------------------------------------------------------------------------

    def _create_chat_result(self, response: Any, generation_info: dict[str, Any] | None = None) -> ChatResult:
        result = super()._create_chat_result(response, generation_info)
        for generation, choice in zip(result.generations, response["choices"], strict=True):
            keep_asides(generation.message, choice["message"])
        told = cast("dict[str, Any]", result.llm_output)
        told.update(model_provider="aifs", cost_eur=cost_eur(response, self.model_name))
        return result

    def _convert_chunk_to_generation_chunk(
        self, chunk: dict[str, Any], *more: Any, **kwargs: Any
    ) -> ChatGenerationChunk | None:
        made = super()._convert_chunk_to_generation_chunk(chunk, *more, **kwargs)
        if made is None:
            return None
        choices = chunk.get("choices") or ()
        if choices:
            made.message.response_metadata["model_provider"] = "aifs"
            keep_asides(made.message, choices[0].get("delta") or {})
        if chunk.get("usage"):
            made.message.response_metadata["cost_eur"] = cost_eur(chunk, self.model_name)
        return made

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None]) -> dict[str, Any]:
        combined = super()._combine_llm_outputs(llm_outputs)
        costs = [output["cost_eur"] for output in llm_outputs if output and output.get("cost_eur") is not None]
        return {**combined, "cost_eur": sum(costs) if costs else None}

    def _convert_cached_generations(self, cache_val: list[Generation]) -> list[ChatGeneration]:
        """What LangChain's cache has was paid before: neither tokens nor EUR are counted once more."""
        return [paid_before(generation) for generation in super()._convert_cached_generations(cache_val)]

    # -- What LangChain wants to know ------------------------------------------------------------------------------

    def with_structured_output(
        self,
        schema: dict[str, Any] | type | None = None,
        *,
        method: Method | None = None,
        include_raw: bool = False,
        strict: bool | None = None,
        tools: list[Any] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """A runnable that gives data instead of a message; its `stream` gives it once, when it is whole.

        Args:
            schema: a pydantic class, whose validated objects come; a TypedDict or JSON schema, for dicts that fit it.
            method: "json_schema", "function_calling" or "json_mode"; None for the one the model is known for.
            include_raw: gives {"raw": message, "parsed": data or None, "parsing_error": error or None}.
            strict: whether the host is to keep strictly to the schema; True makes all fields needed, and hosts refuse
                schemas that they cannot keep. None is True for pydantic classes on Azure where nothing but
                `additionalProperties: false` is to be added for it, and says nothing elsewhere. Answers are
                checked in any case.
            tools: other tools that the model may call before; then there is no data yet, and None comes.
            kwargs: as for `invoke`.

        Raises:
            StructuredOutputError: when it is run: an answer that is cut off, does not fit, or calls no function. It
                is also LangChain's `OutputParserException`, and has the message with its text and usage as `raw`.
            ValueError: a method without what it needs, or a JSON schema that is none.
        """
        card = model_card(kwargs.get("model") or self.model_name)
        chosen = method or usual_method(card)
        if chosen not in {"json_schema", "function_calling", "json_mode"}:
            raise ValueError(f"method={method!r} is not known; use 'json_schema', 'function_calling' or 'json_mode'")
        if strict is None and not tools:
            strict = usual_strictness(card, schema, chosen)
        return structured(
            self,
            schema,
            chosen,
            include_raw=include_raw,
            strict=strict,
            in_words=method is None and chosen == "json_mode" and schema is not None,
            tools=tools,
            options=kwargs,
        )

    def get_num_tokens(self, text: str) -> int:
        """An estimate of a text's tokens; offline, for every model."""
        return len(self.custom_get_token_ids(text)) if self.custom_get_token_ids else words_tokens(text)

    def get_token_ids(self, text: str) -> list[int]:
        """As many numbers as `get_num_tokens` says; they are no ids, since no vocabulary is at hand."""
        return self.custom_get_token_ids(text) if self.custom_get_token_ids else pieces(text)

    def get_num_tokens_from_messages(
        self,
        messages: Sequence[BaseMessage],
        tools: Sequence[Any] | None = None,
        *,
        allow_fetching_images: bool = False,  # noqa: ARG002 - LangChain's signature; nothing is ever fetched
    ) -> int:
        """An estimate of the input tokens, pictures included as they would be sent; offline, for every model.

        Pictures are prepared for it, and then need not be for the call; in asynchronous code, count in a thread.

        Raises:
            ImageError: a picture that could not be sent either.
            ValueError: what else could not be sent, as a block of a model's in a message of the user's.
        """
        with own_errors():
            return message_tokens(messages, tools or (), self._eyes({}))

    def _resolve_model_profile(self) -> ModelProfile | None:
        return cast("ModelProfile | None", profile_of(model_card(self.model_name)))

    @cached_property
    def _serialized(self) -> dict[str, Any]:
        """What traces are told of the model: as `dumps` writes it, without any value of its headers."""
        told = cast("dict[str, Any]", dumpd(self))
        return {**told, "kwargs": masked(told["kwargs"])}

    @property
    def _llm_type(self) -> str:
        return "aifs-chat"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """What distinguishes answers: besides the parameters the address, and how pictures are prepared."""
        pictures = {"image_size": self.image_size, "frames": self.frames}
        return masked({**super()._identifying_params, "base_url": self._address, **pictures})

    def _get_invocation_params(self, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        return masked(super()._get_invocation_params(stop=stop, **kwargs))

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        own = {name: value for name in _TELL_APART if (value := getattr(self, name))}
        params = {**own, **super()._get_invocation_params(stop=stop, **kwargs), **kwargs}
        return str(sorted(identified(params).items()))

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = "aifs"
        return params
