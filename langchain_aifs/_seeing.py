"""Messages that traces and caches can hold, before LangChain writes them down, and beside any event loop.

A PIL image or bytes in a message take time to become JSON: a quarter of a second for a photo of 12 MP.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.prompt_values import ChatPromptValue
from pydantic import model_validator

from aifs_vision import ImageLimits, check_image_options, model_card
from langchain_aifs._connected import ConnectedChat
from langchain_aifs._own_errors import own_errors
from langchain_aifs._sendable import Eyes, is_heavy, portable_messages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

    from langchain_core.language_models import LanguageModelInput
    from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
    from langchain_core.outputs import LLMResult
    from langchain_core.prompt_values import PromptValue
    from langchain_core.runnables import RunnableConfig
    from typing_extensions import Self

__all__ = ["SeeingChat"]


class SeeingChat(ConnectedChat):
    """A chat model whose messages may hold pictures of every form, wherever LangChain takes messages in."""

    image_size: Literal["auto", "original"] | int = "auto"
    frames: Literal["auto", "first", "all", "scenes"] | int = "auto"
    image_limits: ImageLimits | None = None

    @model_validator(mode="after")
    def _check_pictures(self) -> Self:
        """What the first picture would find out shows now."""
        check_image_options(size=self.image_size, frames=self.frames, image_limits=self.image_limits)
        return self

    def _eyes(self, kwargs: Mapping[str, Any]) -> Eyes:
        card = model_card(kwargs.get("model") or self.model_name)
        return Eyes(card=card, size=self.image_size, frames=self.frames, limits=self.image_limits)

    # -- Where callers may wait --------------------------------------------------------------------------------------

    def _convert_input(self, model_input: LanguageModelInput) -> PromptValue:
        value = super()._convert_input(model_input)
        messages = value.to_messages()
        portable = self._portable(messages)
        return value if portable is messages else ChatPromptValue(messages=portable)

    def generate(self, messages: list[list[BaseMessage]], *args: Any, **kwargs: Any) -> LLMResult:
        """Answers each conversation; see LangChain's `BaseChatModel.generate`."""
        return super().generate([self._portable(talk) for talk in messages], *args, **kwargs)

    def _portable(self, messages: list[BaseMessage]) -> list[BaseMessage]:
        with own_errors():
            return portable_messages(messages, self._eyes({})) or messages

    # -- Where a loop must not wait ----------------------------------------------------------------------------------

    async def ainvoke(
        self,
        input: LanguageModelInput,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """The asynchronous twin of `invoke`; pictures are prepared in a thread."""
        return await super().ainvoke(await self._prepared(input), config, **kwargs)

    async def astream(
        self,
        input: LanguageModelInput,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """The asynchronous twin of `stream`; pictures are prepared in a thread."""
        chunks = super().astream(await self._prepared(input), config, **kwargs)
        async with aclosing(cast("AsyncGenerator[AIMessageChunk, None]", chunks)):
            async for chunk in chunks:
                yield chunk

    def astream_events(
        self,
        input: LanguageModelInput,  # noqa: A002 - LangChain's name
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """The events of a stream; see LangChain's `Runnable.astream_events`. Pictures are prepared in a thread."""
        ask = super().astream_events
        if kwargs.get("version") != "v3" or not hasattr(BaseChatModel, "stream_events"):
            return ask(input, *args, **kwargs)  # by `astream`; older versions have no other

        async def asked() -> Any:
            return await ask(await self._prepared(input), *args, **kwargs)

        return asked()

    async def agenerate(self, messages: list[list[BaseMessage]], *args: Any, **kwargs: Any) -> LLMResult:
        """The asynchronous twin of `generate`; pictures are prepared in a thread."""
        return await super().agenerate([await self._aportable(talk) for talk in messages], *args, **kwargs)

    async def _prepared(self, given: LanguageModelInput) -> LanguageModelInput:
        messages = super()._convert_input(given).to_messages()
        portable = await self._aportable(messages)
        return given if portable is messages else ChatPromptValue(messages=portable)

    async def _aportable(self, messages: list[BaseMessage]) -> list[BaseMessage]:
        return await asyncio.to_thread(self._portable, messages) if is_heavy(messages) else self._portable(messages)
