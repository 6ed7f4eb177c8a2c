"""`AIFSEmbedding`: the service's embedding models for LlamaIndex."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr

from aifs_vision import Limits, TextEmbedder, model_card

__all__ = ["AIFSEmbedding"]


class AIFSEmbedding(BaseEmbedding):
    """Embeddings of AI Foundation Services, on the project's transport.

        Settings.embed_model = AIFSEmbedding()                     # the key is in AIFS_API_KEY
        AIFSEmbedding("jina-embeddings-v2-base-de")

    Args:
        model_name: the embedding model's name.
        api_key, base_url, residency, plan, limits: as for `aifs_vision.Vision`.
        timeout: seconds one request may take.
        embed_batch_size, ...: as for LlamaIndex's `BaseEmbedding`; what is not known is a TypeError. Its
            `rate_limiter` is not needed: all requests of a process go through one governor for each model.

    Raises:
        SettingsError: no key, or a setting that cannot be right.
        ResidencyError: the model's region is unknown or not allowed.
    """

    base_url: str | None = None
    residency: str | None = None
    plan: str = "essential"
    limits: Limits | None = None
    timeout: float = 120.0
    _embedder: TextEmbedder = PrivateAttr()

    def __init__(
        self,
        model_name: str = "text-embedding-bge-m3",
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        residency: str | None = None,
        plan: str = "essential",
        limits: Limits | Mapping[str, Any] | None = None,
        timeout: float = 120.0,
        embed_batch_size: int = 64,
        **kwargs: Any,
    ) -> None:
        if unknown := sorted(set(kwargs) - set(type(self).model_fields)):
            raise TypeError(f"AIFSEmbedding() got unexpected keyword arguments: {', '.join(unknown)}")
        kept: dict[str, Any] = {
            "base_url": base_url,
            "residency": residency,
            "plan": plan,
            "limits": Limits(**limits) if isinstance(limits, Mapping) else limits,
            "timeout": timeout,
        }
        embedder = TextEmbedder(model_name, batch_size=embed_batch_size, api_key=api_key, **kept)
        kept |= {"base_url": embedder.base_url, "residency": embedder.residency}
        super().__init__(model_name=model_name, embed_batch_size=embed_batch_size, **kept, **kwargs)
        self._embedder = embedder

    @classmethod
    def class_name(cls) -> str:
        """The name in serialised form."""
        return "AIFSEmbedding"

    @property
    def dimensions(self) -> int | None:
        """The width of the vectors, which stores such as PGVector want to know; None for a model nobody knows."""
        return model_card(self.model_name).dimensions

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the key and what holds locks: whoever unpickles it takes the key from its environment."""
        left = {"callback_manager", "rate_limiter"}
        return {name: getattr(self, name) for name in type(self).model_fields if name not in left}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._embedder.embed([text])[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._embedder.aembed([text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._embedder.embed(texts)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await self._embedder.aembed(texts)

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await self._aget_text_embedding(query)
