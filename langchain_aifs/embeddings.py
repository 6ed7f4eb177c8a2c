"""`AIFSEmbeddings`: the service's embedding models, sent text and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from langchain_openai import OpenAIEmbeddings
from pydantic import Field, SecretStr, model_validator

from aifs_vision import Limits, async_http_client, http_client
from langchain_aifs._fields import refuse_unknown

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AIFSEmbeddings"]

_HELD_BY_TRANSPORT = SecretStr("held by the transport")


class AIFSEmbeddings(OpenAIEmbeddings):
    """Embeddings of AI Foundation Services, on the project's transport.

        AIFSEmbeddings().embed_query("Rechnung")              # the key is in AIFS_API_KEY
        AIFSEmbeddings(model="jina-embeddings-v2-base-de")

    Sends texts as they are (the service takes no token ids), asks for floats, and puts the answers in order.

    Args:
        model: the embedding model's name.
        api_key, base_url, residency, plan, limits: as for `aifs_vision.Vision`.
        timeout: seconds one request may take.
        chunk_size: texts a request.

    Raises:
        SettingsError: no key, or a setting that cannot be right.
        ResidencyError: the model's region is unknown or not allowed.
    """

    model: str = "text-embedding-bge-m3"
    deployment: str | None = None
    openai_api_key: SecretStr | None = Field(default=None, alias="api_key")
    openai_api_base: str | None = Field(default=None, alias="base_url")
    openai_api_type: str | None = None
    openai_api_version: str | None = Field(default=None, alias="api_version")
    openai_organization: str | None = Field(default=None, alias="organization")
    openai_proxy: str | None = None
    request_timeout: float = Field(default=120.0, alias="timeout")
    max_retries: int = 0
    chunk_size: int = 64
    check_embedding_ctx_length: bool = False
    residency: str | None = None
    plan: str = "essential"
    limits: Limits | None = None

    def __init__(self, **kwargs: Any) -> None:
        refuse_unknown(type(self), kwargs)
        super().__init__(**kwargs)

    @model_validator(mode="after")
    def validate_environment(self) -> Self:
        """Builds the SDK's clients on the project's transport, which holds the key and guards the headers."""
        given = self.openai_api_key
        settings: dict[str, Any] = {
            "model": self.model,
            "api_key": None if given is None else given.get_secret_value(),
            "base_url": self.openai_api_base,
            "residency": self.residency,
            "plan": self.plan,
            "limits": self.limits,
            "timeout": self.request_timeout,
        }
        self.client = self.async_client = None
        self.http_client, self.http_async_client = http_client(**settings), async_http_client(**settings)
        self.openai_api_base, self.openai_api_key = str(self.http_client.base_url), _HELD_BY_TRANSPORT
        self.model_kwargs = {"encoding_format": "float", **self.model_kwargs}
        try:
            return cast(Any, OpenAIEmbeddings.validate_environment)(self)  # type: ignore[no-any-return]
        finally:
            self.openai_api_key = given
