"""`AIFSEmbeddings`: the service's embedding models, sent text and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from langchain_openai import OpenAIEmbeddings
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, model_validator

from aifs_vision import Limits, SettingsError, TextEmbedder, model_card
from langchain_aifs._fields import refuse_unknown
from langchain_aifs._own_errors import own_errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Self

__all__ = ["AIFSEmbeddings"]

# Of LangChain's fields, those that say how the openai SDK, or the splitting into tokens, is to go about it.
_NOT_TAKEN = frozenset(
    """
    allowed_special api_version async_client client default_headers default_query deployment disallowed_special
    embedding_ctx_length headers http_async_client http_client model_kwargs openai_api_type openai_api_version
    openai_organization openai_proxy organization tiktoken_model_name
    """.split()
)


class AIFSEmbeddings(OpenAIEmbeddings):
    """Embeddings of AI Foundation Services, on the project's transport.

        AIFSEmbeddings().embed_query("Rechnung")              # the key is in AIFS_API_KEY
        AIFSEmbeddings(model="jina-embeddings-v2-base-de").dimensions

    It can stand wherever LangChain's `OpenAIEmbeddings` can, but nothing goes through the openai SDK: texts are sent
    as they are (the service takes no token ids, and a text that is too long is an error and not averaged), floats
    are asked for, vectors come in the order of the texts, and requests are paced and retried by the same authority
    as those of `aifs_vision.Vision`. So `max_retries`, `retry_min_seconds`, `retry_max_seconds`, `skip_empty`,
    `show_progress_bar`, `tiktoken_enabled` and `check_embedding_ctx_length=False` are taken for the sake of code
    that gives them, and change nothing; what would change something is a TypeError. It cannot be changed once made.

    Args:
        model: the embedding model's name.
        api_key, base_url, residency, plan, limits: as for `aifs_vision.Vision`.
        timeout: seconds one request may take.
        chunk_size: texts a request.
        dimensions: the width of the vectors, as vector stores want to know it; by the catalogue, and to be given
            only for models that it does not have. It is not sent: the service's models have one width.

    Raises:
        SettingsError: no key, a setting that cannot be right, or another width than the model's.
        ResidencyError: the model's region is unknown or not allowed.
        TypeError: an unknown argument, or one that only the openai SDK would heed.
    """

    model_config = ConfigDict(frozen=True)  # the embedder is made of the fields, once

    model: str = "text-embedding-bge-m3"
    openai_api_key: SecretStr | None = Field(default=None, alias="api_key")
    openai_api_base: str | None = Field(default=None, alias="base_url")
    openai_api_type: str | None = None
    openai_api_version: str | None = Field(default=None, alias="api_version")
    openai_organization: str | None = Field(default=None, alias="organization")
    openai_proxy: str | None = None
    deployment: str | None = None
    request_timeout: float = Field(default=120.0, alias="timeout")
    max_retries: int = 0
    chunk_size: int = 64
    check_embedding_ctx_length: Literal[False] = False
    residency: str | None = None
    plan: str = "essential"
    limits: Limits | None = None
    _embedder: TextEmbedder = PrivateAttr()

    def __init__(self, **kwargs: Any) -> None:
        refuse_unknown(type(self), kwargs)
        refused = sorted(_NOT_TAKEN & kwargs.keys())
        if kwargs.get("check_embedding_ctx_length"):
            refused.append("check_embedding_ctx_length=True")
        if refused:
            raise TypeError(
                f"{type(self).__name__}() takes no {', '.join(refused)}: "
                "it sends texts through aifs_vision, and not through the openai SDK"
            )
        super().__init__(**kwargs)

    @model_validator(mode="after")
    def validate_environment(self) -> Self:
        """Settles address, residency and width, and makes the embedder; in LangChain's class it makes SDK clients."""
        self._embedder = embedder = self._made(self.chunk_size)
        width = model_card(self.model).dimensions
        if self.dimensions is not None and width not in {None, self.dimensions}:
            raise SettingsError.bad_value("dimensions", self.dimensions, f"the vectors of {self.model} have {width}")
        settled = {
            "openai_api_base": embedder.base_url,
            "residency": embedder.residency,
            "dimensions": self.dimensions or width,
        }
        for name, value in settled.items():
            object.__setattr__(self, name, value)
        return self

    def embed_documents(  # type: ignore[override]  # what LangChain would send along is a TypeError here
        self, texts: Sequence[str], chunk_size: int | None = None
    ) -> list[list[float]]:
        """One vector for each text, in order.

        Args:
            texts: any number of them; none are no request.
            chunk_size: texts a request, for this call.

        Raises:
            APIError: the service did not answer, or refused, or gave other vectors than were asked for; it is
                LangChain's `ModelError` of its kind as well, in versions that have those.
            TypeError: something else than a list of texts.
        """
        with own_errors():
            return self._embedder_for(chunk_size).embed(_checked(texts))

    async def aembed_documents(  # type: ignore[override]  # as above
        self, texts: Sequence[str], chunk_size: int | None = None
    ) -> list[list[float]]:
        """The asynchronous twin of `embed_documents`."""
        with own_errors():
            return await self._embedder_for(chunk_size).aembed(_checked(texts))

    def embed_query(self, text: str) -> list[float]:  # type: ignore[override]  # as above
        """The vector of one text; the service's models make no difference between questions and passages.

        Raises:
            APIError, TypeError: as for `embed_documents`.
        """
        return self.embed_documents([text])[0]

    async def aembed_query(self, text: str) -> list[float]:  # type: ignore[override]  # as above
        """The asynchronous twin of `embed_query`."""
        return (await self.aembed_documents([text]))[0]

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy; one with other values is made and checked anew."""
        if not update:
            return super().model_copy(deep=deep)
        given = {name: getattr(self, name) for name in self.model_fields_set - _NOT_TAKEN}
        return type(self)(**{**given, **update})

    def __getstate__(self) -> dict[Any, Any]:
        """Everything but the key: whoever unpickles it takes the key from its own environment."""
        state = super().__getstate__()
        return {**state, "__dict__": {**state["__dict__"], "openai_api_key": None}}

    def _embedder_for(self, chunk_size: int | None) -> TextEmbedder:
        return self._embedder if chunk_size in {None, self.chunk_size} else self._made(int(chunk_size or 0))

    def _made(self, batch_size: int) -> TextEmbedder:
        given = self.openai_api_key
        return TextEmbedder(
            self.model,
            batch_size=batch_size,
            api_key=None if given is None else given.get_secret_value(),
            base_url=self.openai_api_base,
            residency=self.residency,
            plan=self.plan,
            limits=self.limits,
            timeout=self.request_timeout,
        )


def _checked(texts: Sequence[str]) -> list[str]:
    """The texts; a single one would be taken for its letters."""
    if isinstance(texts, str):
        raise TypeError(f"embed_documents() takes a list of texts, not one: {texts[:40]!r}; embed_query() takes one")
    checked = list(texts)
    for text in checked:
        if not isinstance(text, str):
            raise TypeError(f"a text to embed is {type(text).__name__}, not str; token ids are not taken")
    return checked
