"""`ChatAIFS`: the service's chat models, images included, on the project's transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from langchain_openai.chat_models.base import BaseChatOpenAI
from pydantic import Field, SecretStr, model_validator

from aifs_vision import Limits, async_http_client, http_client
from langchain_aifs._fields import refuse_unknown
from langchain_aifs._own_errors import own_errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from langchain_core.language_models.base import LangSmithParams
    from langchain_core.outputs import ChatGenerationChunk, ChatResult
    from typing_extensions import Self

__all__ = ["ChatAIFS"]


# The SDK wants a key; the one it is given never leaves this process, see `aifs_vision.http_client`.
_HELD_BY_TRANSPORT = SecretStr("held by the transport")


class ChatAIFS(BaseChatOpenAI):
    """A chat model of AI Foundation Services.

        chat = ChatAIFS(model="Qwen3-VL-30B-A3B-Instruct-FP8")      # the key is in AIFS_API_KEY
        chat.invoke([HumanMessage([
            {"type": "text", "text": "What does this sign say?"},
            {"type": "image", "base64": data, "mime_type": "image/jpeg"},
        ])])

    It is LangChain's OpenAI chat model in all but this: key and address are the service's alone
    (`AIFS_API_KEY`, `AIFS_BASE_URL`), and nothing of `OPENAI_*`, `LANGSMITH_GATEWAY` or `LC_*` changes where a
    request goes or what headers it has; requests are paced and retried by the same authority as those of
    `aifs_vision.Vision`, so `max_retries` is taken for the sake of code that gives it, and changes nothing; streams
    carry their usage; no connection, a key that is refused and the like are errors of `aifs_vision`.

    Args:
        model: the model's name.
        api_key, base_url, residency, plan, limits, queue: as for `aifs_vision.Vision`.
        timeout: seconds one request may take.
        temperature, max_tokens, ...: as for LangChain's `ChatOpenAI`; what is not known is a TypeError.

    Raises:
        SettingsError: no key, or a setting that cannot be right.
        ResidencyError: the model's region is unknown or not allowed.
    """

    model_name: str = Field(default="Qwen3-VL-30B-A3B-Instruct-FP8", alias="model")
    openai_api_key: SecretStr | None = Field(default=None, alias="api_key")
    openai_api_base: str | None = Field(default=None, alias="base_url")
    openai_organization: str | None = Field(default=None, exclude=True)
    openai_proxy: str | None = Field(default=None, exclude=True)
    request_timeout: float = Field(default=120.0, alias="timeout")
    max_retries: int | None = Field(default=0)
    stream_usage: bool = True
    output_version: str | None = None
    residency: str | None = None
    plan: str = "essential"
    limits: Limits | None = None
    queue: bool = False

    def __init__(self, **kwargs: Any) -> None:
        refuse_unknown(type(self), kwargs)
        super().__init__(**kwargs)

    @model_validator(mode="after")
    def validate_environment(self) -> Self:
        """Builds the SDK's clients on the project's transport, which holds the key and guards the headers."""
        given, self.max_retries = self.openai_api_key, 0
        settings: dict[str, Any] = {
            "model": self.model_name,
            "api_key": None if given is None else given.get_secret_value(),
            "base_url": self.openai_api_base,
            "residency": self.residency,
            "plan": self.plan,
            "limits": self.limits,
            "queue": self.queue,
            "timeout": self.request_timeout,
        }
        self.client = self.async_client = self.root_client = self.root_async_client = None
        self.http_client = http_client(**settings)
        self.http_async_client = async_http_client(**settings)
        self.openai_api_base = str(self.http_client.base_url)
        self.openai_api_key = _HELD_BY_TRANSPORT
        try:
            return cast(Any, BaseChatOpenAI.validate_environment)(self)  # type: ignore[no-any-return]
        finally:
            self.openai_api_key, self.openai_organization = given, None

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        with own_errors():
            return super()._generate(*args, **kwargs)

    async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
        with own_errors():
            return await super()._agenerate(*args, **kwargs)

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        with own_errors():
            yield from super()._stream(*args, **kwargs)

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        with own_errors():
            async for chunk in super()._astream(*args, **kwargs):
                yield chunk

    @property
    def lc_secrets(self) -> dict[str, str]:
        """Fields that LangChain keeps out of what it serialises."""
        return {"openai_api_key": "AIFS_API_KEY"}

    @property
    def _llm_type(self) -> str:
        return "aifs-chat"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = "aifs"
        return params

    def _use_responses_api(self, payload: dict[str, Any]) -> bool:  # noqa: ARG002 - LangChain's signature
        """Only when asked for; names such as "gpt-5-codex" do not decide where a request goes."""
        return bool(self.use_responses_api)
