"""`AIFSEmbedding`: the service's embedding models for LlamaIndex."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr, SecretStr

from aifs_vision import Limits, TextEmbedder, model_card

__all__ = ["AIFSEmbedding"]

# The fields that the embedder is made of, under the names it has for them.
_OF_EMBEDDER = {
    "model_name": "model",
    "embed_batch_size": "batch_size",
    "base_url": "base_url",
    "residency": "residency",
    "plan": "plan",
    "limits": "limits",
    "timeout": "timeout",
}


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

    Fields may be assigned, as LlamaIndex's users do; what cannot be right is an error of the next request then. What
    LlamaIndex's cache takes to be the same depends on the model alone.

    Raises:
        SettingsError: no key, a model that makes no vectors, or a setting that cannot be right.
        ResidencyError: the model's region is unknown or not allowed.
    """

    base_url: str | None = None
    residency: str | None = None
    plan: str = "essential"
    limits: Limits | None = None
    timeout: float = 120.0
    _key: SecretStr | None = PrivateAttr(default=None)
    _made: tuple[dict[str, Any], TextEmbedder] | None = PrivateAttr(default=None)

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
        super().__init__(model_name=model_name, embed_batch_size=embed_batch_size, **kept, **kwargs)
        self._key = None if api_key is None else SecretStr(api_key)
        embedder = self._embedder()  # wrong settings show now
        self.base_url, self.residency = embedder.base_url, embedder.residency
        self._made = self._settings(), embedder

    def _embedder(self) -> TextEmbedder:
        """What asks the service, made anew where fields have been assigned since, and in pickles where it is needed."""
        settings = self._settings()
        if self._made is None or self._made[0] != settings:
            key = None if self._key is None else self._key.get_secret_value()
            self._made = settings, TextEmbedder(api_key=key, **settings)
        return self._made[1]

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, field) for field, name in _OF_EMBEDDER.items()}

    @classmethod
    def class_name(cls) -> str:
        """The name in serialised form."""
        return "AIFSEmbedding"

    @property
    def dimensions(self) -> int | None:
        """The width of the vectors, which stores such as PGVector want to know; None for a model nobody knows."""
        return model_card(self.model_name).dimensions

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:  # noqa: ARG002 - there is nothing to choose from
        """The settings, without the key, for `from_dict`; as text, of which caches make their keys, the model alone."""
        known = self.model_dump(include={*_OF_EMBEDDER, "num_workers"})
        return _Settings({**known, "class_name": self.class_name()})

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the key and what holds locks: whoever unpickles it takes the key from its environment."""
        left = {"callback_manager", "rate_limiter"}
        return {name: getattr(self, name) for name in type(self).model_fields if name not in left}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__init__(**state)  # without a key that is no error yet: a pool waits for ever for who fails here

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> AIFSEmbedding:
        key = None if self._key is None else self._key.get_secret_value()
        return type(self)(api_key=key, **{name: getattr(self, name) for name in type(self).model_fields})

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._embedder().embed([text])[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._embedder().aembed([text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._embedder().embed(texts)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await self._embedder().aembed(texts)

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await self._aget_text_embedding(query)


class _Settings(dict[str, Any]):
    """Settings whose text, of which LlamaIndex's cache makes its keys, has only what the vectors depend on.

    What is rebuilt of them goes where the first one went, and another time-out pays for no vector again.
    """

    def __str__(self) -> str:
        return str({name: self[name] for name in ("class_name", "model_name")})
