"""Prompts with pictures beside them, as `complete(prompt, image_documents=[...])` has always been written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.generic_utils import (
    astream_chat_response_to_completion_response,
    chat_response_to_completion_response,
    stream_chat_response_to_completion_response,
)
from llama_index.core.base.llms.types import ChatMessage, TextBlock
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.llms.openai_like import OpenAILike

from llama_index_aifs._pictures import block_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llama_index.core.base.llms.types import (
        CompletionResponse,
        CompletionResponseAsyncGen,
        CompletionResponseGen,
        ImageBlock,
    )
    from llama_index.core.schema import BaseNode, NodeWithScore

    Seen = Sequence[ImageBlock | BaseNode | NodeWithScore]

__all__ = ["Completions"]


class Completions(OpenAILike):
    """The part of `AIFS` that completes prompts, with pictures if there are any."""

    def complete(
        self,
        prompt: str,
        formatted: bool = False,  # noqa: FBT001, FBT002 - LlamaIndex's signature
        image_documents: Seen | None = None,
        **kwargs: Any,
    ) -> CompletionResponse:
        """The answer to a prompt and to pictures with it: ImageBlocks, ImageDocuments, ImageNodes, nodes with one."""
        if image_documents is None:
            return super().complete(prompt, formatted, **kwargs)
        return chat_response_to_completion_response(
            self.chat(self._shown(prompt, image_documents, formatted=formatted), **kwargs)
        )

    def stream_complete(
        self,
        prompt: str,
        formatted: bool = False,  # noqa: FBT001, FBT002 - LlamaIndex's signature
        image_documents: Seen | None = None,
        **kwargs: Any,
    ) -> CompletionResponseGen:
        """The same while it is written."""
        if image_documents is None:
            return super().stream_complete(prompt, formatted, **kwargs)
        return stream_chat_response_to_completion_response(
            self.stream_chat(self._shown(prompt, image_documents, formatted=formatted), **kwargs)
        )

    async def acomplete(
        self,
        prompt: str,
        formatted: bool = False,  # noqa: FBT001, FBT002 - LlamaIndex's signature
        image_documents: Seen | None = None,
        **kwargs: Any,
    ) -> CompletionResponse:
        """The asynchronous twin of `complete`."""
        if image_documents is None:
            return await super().acomplete(prompt, formatted, **kwargs)
        return chat_response_to_completion_response(
            await self.achat(self._shown(prompt, image_documents, formatted=formatted), **kwargs)
        )

    async def astream_complete(
        self,
        prompt: str,
        formatted: bool = False,  # noqa: FBT001, FBT002 - LlamaIndex's signature
        image_documents: Seen | None = None,
        **kwargs: Any,
    ) -> CompletionResponseAsyncGen:
        """The asynchronous twin of `stream_complete`."""
        if image_documents is None:
            return await super().astream_complete(prompt, formatted, **kwargs)
        return astream_chat_response_to_completion_response(
            await self.astream_chat(self._shown(prompt, image_documents, formatted=formatted), **kwargs)
        )

    def _shown(self, prompt: str, images: Seen, *, formatted: bool) -> list[ChatMessage]:
        if isinstance(images, (str, bytes, BaseModel)):
            raise TypeError(
                f"image_documents is a list of pictures, not one {type(images).__name__}: put it into a list"
            )
        convert = self.completion_to_prompt
        text = prompt if formatted or convert is None else convert(prompt)
        return [ChatMessage(blocks=[*map(block_of, images), TextBlock(text=text)])]
