"""`AIFS`: the service's chat models for LlamaIndex, images included, on the project's transport."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from llama_index.core.llms.callbacks import llm_chat_callback

from aifs_vision import Limits, ModelCard, model_card
from llama_index_aifs._answers import Gathered, in_one_piece, response_of
from llama_index_aifs._connected import Connected
from llama_index_aifs._defaults import check_tools, taken_by
from llama_index_aifs._messages import conversation, has_pictures, seen, wire
from llama_index_aifs._own_errors import own_errors
from llama_index_aifs._pictures import Sight

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ChatResponseAsyncGen, ChatResponseGen
    from llama_index.core.tools.types import BaseTool

__all__ = ["AIFS"]

_ROOM = ("max_tokens", "max_completion_tokens")  # names of one thing; a model knows one of them


class AIFS(Connected):
    """A chat model of AI Foundation Services, which sees.

        llm = AIFS(model="Qwen3-VL-30B-A3B-Instruct-FP8")           # the key is in AIFS_API_KEY
        llm.chat([ChatMessage(blocks=[TextBlock(text="What does this sign say?"), ImageBlock(path="sign.heic")])])
        llm.complete("What does this sign say?", image_documents=[ImageBlock(path="sign.heic")])

    It is LlamaIndex's `OpenAILike` in all but this:

    - Key and address are the service's alone (`AIFS_API_KEY`, `AIFS_BASE_URL`), nothing ever falls back to OpenAI, and
      nothing of `OPENAI_*` changes where a request goes or what headers it has. A model's name changes nothing of a
      request that you do not see here.
    - Requests are paced and retried by the same authority as those of `aifs_vision.Vision`, so `max_retries` is taken
      for the sake of code that gives it, and changes nothing. It may be used from any number of event loops.
    - Pictures are told by their first bytes, and sent upright, without metadata, and no larger than the model sees.
      Videos are sent as frames, PDF documents as pages, plain text and CSV as text. None is lost: those in tool, system
      and assistant messages move into the user turn that follows, and are named at both places. Events of chats hold
      none of their bytes.
    - Every tool call of a streamed delta arrives, with an id; one whose arguments are damaged is an error. Usage and
      `finish_reason` are in `additional_kwargs`, of streams and of structured answers, too.
    - Structured answers may be fenced or wrapped in words; one that is cut off is an error, which keeps its text.
    - `queue=True` sends to the queue, which does not stream: streams come in one piece.
    - No choice, no text, HTML with status 200, or a stream that ends too early are errors of `aifs_vision`, as are no
      connection, a key that is refused and the like.

    A call may name another model, as in `llm.chat(messages, model="o3")`: pictures, room, temperature and the other
    settings follow what that one takes. `metadata`, by which LlamaIndex splits texts and chooses agents, tells of the
    model of the settings. Settings may be assigned, and are checked as those that are given here: what was not chosen
    follows another model (`llm.model = "o3"`), and a residency, key, address or queue holds from then on.

    A block with `path=` is read from this machine and sent, as LlamaIndex does, too: never make one from a text that
    comes from strangers. Addresses are passed on to the service and not fetched here.

    Args:
        model: the model's name.
        api_key, base_url (or api_base), residency, plan, limits, queue: as for `aifs_vision.Vision`.
        timeout: seconds one request may take.
        image_size: how large pictures are sent: "auto", "original", or px of the longer side. Never enlarged.
        frames: which frames of videos and animations are sent, as for `aifs_vision.Vision.read_many`.
        temperature: None sends none; the default is 0.1, and None for the reasoning models, which refuse it.
        max_tokens, context_window, ...: as for `OpenAILike`; what is not known is a TypeError.

    Raises:
        SettingsError: no key, or a setting that cannot be right.
        ResidencyError: the model's region is unknown or not allowed.
    """

    def __init__(
        self,
        model: str = "Qwen3-VL-30B-A3B-Instruct-FP8",
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        api_base: str | None = None,
        residency: str | None = None,
        plan: str = "essential",
        limits: Limits | Mapping[str, Any] | None = None,
        queue: bool | Literal["auto"] = False,
        timeout: float = 120.0,
        **kwargs: Any,
    ) -> None:
        if unknown := sorted(set(kwargs) - set(type(self).model_fields)):
            raise TypeError(f"AIFS() got unexpected keyword arguments: {', '.join(unknown)}")
        if base_url is not None and api_base is not None:
            raise TypeError("AIFS() takes base_url=... or its other name api_base=..., not both")
        self._connect(
            kwargs,
            model=model,
            api_key=api_key,
            base_url=base_url or api_base,
            residency=residency,
            plan=plan,
            limits=limits,
            queue=queue,
            timeout=timeout,
        )

    @classmethod
    def class_name(cls) -> str:
        """The name in serialised form; "multi" in it tells LlamaIndex that the model takes images."""
        return "aifs_multi_modal_llm"

    # -- Chat ----------------------------------------------------------------------------------------------

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The model's answer; usage and `finish_reason` are in its `additional_kwargs`.

        Raises:
            ImageError: a picture cannot be read, or is too large.
            SettingsError: the messages have pictures, and the model takes none.
            APIError: no answer, or one without text and tool calls.
        """
        answer: ChatResponse = self._told_chat(self._seen(messages, kwargs), **kwargs)
        return answer

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The asynchronous twin of `chat`; pictures are prepared off the event loop."""
        answer: ChatResponse = await self._told_achat(await self._aseen(messages, kwargs), **kwargs)
        return answer

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """The answer while it is written; the last response has all text, tool calls and usage."""
        answer: ChatResponseGen = self._told_stream_chat(self._seen(messages, kwargs), **kwargs)
        return answer

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """The asynchronous twin of `stream_chat`."""
        answer: ChatResponseAsyncGen = await self._told_astream_chat(await self._aseen(messages, kwargs), **kwargs)
        return answer

    # What LlamaIndex's events tell of: it hears of messages whose pictures are prepared already, and keep their bytes
    # to themselves.
    @llm_chat_callback()
    def _told_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return self._chat(messages, **kwargs)

    @llm_chat_callback()
    async def _told_achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return await self._achat(messages, **kwargs)

    @llm_chat_callback()
    def _told_stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        return self._stream_chat(messages, **kwargs)

    @llm_chat_callback()
    async def _told_astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        return await self._astream_chat(messages, **kwargs)

    def _chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        asked = self._asked(messages, kwargs)
        with own_errors(asked["model"]):
            answer = self._get_client().chat.completions.create(**asked)
        return response_of(answer, asked["model"])

    async def _achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        asked = self._asked(messages, kwargs)
        with own_errors(asked["model"]):
            answer = await self._get_aclient().chat.completions.create(**asked)
        return response_of(answer, asked["model"])

    def _stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        if self.queue is True:
            yield in_one_piece(self._chat(messages, **kwargs))
            return
        asked = self._asked(messages, kwargs, stream=True)
        gathered = Gathered(asked["model"])
        with own_errors(asked["model"]), self._get_client().chat.completions.create(**asked) as chunks:
            for chunk in chunks:
                yield gathered.add(chunk)
        gathered.check()

    async def _astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        asked = self._asked(messages, kwargs, stream=True)
        gathered = Gathered(asked["model"])

        async def told() -> ChatResponseAsyncGen:
            if self.queue is True:
                yield in_one_piece(await self._achat(messages, **kwargs))
                return
            with own_errors(asked["model"]):
                async with await self._get_aclient().chat.completions.create(**asked) as chunks:
                    async for chunk in chunks:
                        yield gathered.add(chunk)
            gathered.check()

        return told()

    def _seen(self, messages: Sequence[ChatMessage], options: Mapping[str, Any]) -> list[ChatMessage]:
        """The messages with their pictures prepared, and all of them where the model looks."""
        sight = Sight(card=self._card(options), size=self.image_size, frames=self.frames)
        return seen(conversation(messages), sight)

    async def _aseen(self, messages: Sequence[ChatMessage], options: Mapping[str, Any]) -> list[ChatMessage]:
        given = conversation(messages)
        return await asyncio.to_thread(self._seen, given, options) if has_pictures(given) else given

    def _card(self, options: Mapping[str, Any]) -> ModelCard:
        """The model that a call goes to, which need not be the one of the settings."""
        return model_card(self._model_of(options))

    def _asked(
        self, messages: Sequence[ChatMessage], options: Mapping[str, Any], *, stream: bool = False
    ) -> dict[str, Any]:
        """What the SDK is called with: settings, `additional_kwargs`, and what the call says; None is not sent."""
        settings = {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "reasoning_effort": self.reasoning_effort,
            "modalities": self.modalities,
            "audio": self.audio_config,
        }
        if self.logprobs:
            settings |= {"logprobs": True, "top_logprobs": self.top_logprobs}
        card = self._card(options)
        asked = taken_by(card, self._card({}), settings)
        asked["stream_options"] = {"include_usage": True}
        given = {**self.additional_kwargs, **options}
        if any(given.get(name) is not None for name in _ROOM):
            del asked["max_tokens"]
        asked |= {**given, "model": self._model_of(options), "stream": stream, "messages": wire(messages)}
        room = [asked.pop(name) for name in _ROOM if name in asked]
        asked[card.max_tokens_field] = next((tokens for tokens in room if tokens is not None), None)
        if not stream:
            del asked["stream_options"]
        return {name: value for name, value in asked.items() if value is not None}

    def _prepare_chat_with_tools(  # noqa: PLR0917 - LlamaIndex's signature
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,  # noqa: ARG002, FBT001, FBT002 - LlamaIndex's signature
        allow_parallel_tool_calls: bool = False,  # noqa: FBT001, FBT002 - the same
        tool_required: bool = False,  # noqa: FBT001, FBT002 - the same
        tool_choice: str | dict[Any, Any] | None = None,
        strict: bool | None = None,  # noqa: FBT001 - the same
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The arguments of a call with tools; the history given stays as it is."""
        asked: dict[str, Any] = super()._prepare_chat_with_tools(
            tools,
            user_msg,
            list(chat_history or []),
            tool_required=tool_required,
            tool_choice=tool_choice,
            strict=strict,
            **kwargs,
        )
        card = self._card(kwargs)
        if tools:
            check_tools(self._model_of(kwargs), card, self._card({}))
        # Several calls at a time are what hosts do anyway; the reasoning models refuse to be told either way.
        asked.pop("parallel_tool_calls", None)
        if tools and not allow_parallel_tool_calls and card.takes_temperature:
            asked["parallel_tool_calls"] = False
        return asked

    def _use_chat_completions(self, kwargs: dict[str, Any]) -> bool:  # noqa: ARG002 - LlamaIndex's signature
        return True
