"""`AIFSEmbeddings`: the service's embedding models, sent text and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from langchain_openai import OpenAIEmbeddings
from pydantic import Field, SecretStr, model_validator

from aifs_vision import Limits, async_http_client, http_client
from langchain_aifs._fields import refuse_unknown
from langchain_aifs._own_errors import own_errors

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AIFSEmbeddings"]

_HELD_BY_TRANSPORT = SecretStr("held by the transport")


class AIFSEmbeddings(OpenAIEmbeddings):
    """Embeddings of AI Foundation Services, on the project's transport.

        AIFSEmbeddings().embed_query("Rechnung")              # the key is in AIFS_API_KEY
        AIFSEmbeddings(model="jina-embeddings-v2-base-de")

    Sends texts as they are (the service takes no token ids) and asks for floats. `max_retries` changes nothing:
    requests are retried by the same authority as those of `aifs_vision.Vision`.

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
        given, self.max_retries = self.openai_api_key, 0
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
        self.model_kwargs = {**self.model_kwargs, "encoding_format": "float"}
        try:
            return cast(Any, OpenAIEmbeddings.validate_environment)(self)  # type: ignore[no-any-return]
        finally:
            self.openai_api_key = given

    def embed_documents(self, *args: Any, **kwargs: Any) -> list[list[float]]:
        """One vector for each text, in order; as LangChain's `OpenAIEmbeddings`, with this project's errors."""
        with own_errors():
            return super().embed_documents(*args, **kwargs)

    async def aembed_documents(self, *args: Any, **kwargs: Any) -> list[list[float]]:
        """The asynchronous twin of `embed_documents`."""
        with own_errors():
            return await super().aembed_documents(*args, **kwargs)
