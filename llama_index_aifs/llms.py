"""`AIFS`: the service's chat models for LlamaIndex, images included, on the project's transport."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llama_index.core.bridge.pydantic import Field
from llama_index.llms.openai_like import OpenAILike

from aifs_vision import Limits, async_http_client, http_client, model_card
from llama_index_aifs._own_errors import own_errors

if TYPE_CHECKING:
    from llama_index.core.base.llms.types import ChatResponse, ChatResponseAsyncGen, ChatResponseGen

__all__ = ["AIFS"]

_UNKNOWN_WINDOW = 32_000  # tokens assumed of a model the catalogue does not know
# The SDK wants a key; the one it is given never leaves this process, see `aifs_vision.http_client`.
_HELD_BY_TRANSPORT = "held by the transport"
_OWN = frozenset({"api_key", "base_url", "residency", "plan", "limits", "queue", "timeout"})


class AIFS(OpenAILike):
    """A chat model of AI Foundation Services.

        llm = AIFS(model="Qwen3-VL-30B-A3B-Instruct-FP8")           # the key is in AIFS_API_KEY
        llm.chat([ChatMessage(blocks=[
            TextBlock(text="What does this sign say?"), ImageBlock(image=data, image_mimetype="image/jpeg"),
        ])])

    It is LlamaIndex's `OpenAILike` in all but this: key and address are the service's alone (`AIFS_API_KEY`,
    `AIFS_BASE_URL`), nothing ever falls back to OpenAI, and nothing of `OPENAI_*` changes where a request goes or
    what headers it has; requests are paced and retried by the same authority as those of `aifs_vision.Vision`, so
    `max_retries` is taken for the sake of code that gives it, and changes nothing; streams carry their usage; no
    connection, a key that is refused and the like are errors of `aifs_vision`.

    Args:
        model: the model's name.
        api_key, base_url (or api_base), residency, plan, limits, queue: as for `aifs_vision.Vision`.
        timeout: seconds one request may take.
        temperature, max_tokens, ...: as for `OpenAILike`; what is not known is a TypeError.

    Raises:
        SettingsError: no key, or a setting that cannot be right.
        ResidencyError: the model's region is unknown or not allowed.
    """

    api_key: str | None = Field(default=None, exclude=True)
    residency: str | None = None
    plan: str = "essential"
    limits: Limits | None = None
    queue: bool = False

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
        queue: bool = False,
        timeout: float = 120.0,
        **kwargs: Any,
    ) -> None:
        if unknown := sorted(set(kwargs) - set(type(self).model_fields)):
            raise TypeError(f"AIFS() got unexpected keyword arguments: {', '.join(unknown)}")
        if base_url is not None and api_base is not None:
            raise TypeError("AIFS() takes base_url=... or its other name api_base=..., not both")
        kept: dict[str, Any] = {
            "model": model,
            "residency": residency,
            "plan": plan,
            "limits": Limits(**limits) if isinstance(limits, Mapping) else limits,
            "queue": queue,
            "timeout": timeout,
        }
        reached: dict[str, Any] = {"api_key": api_key, "base_url": base_url or api_base}
        client = http_client(**kept, **reached)
        card = model_card(model)
        defaults: dict[str, Any] = {
            "context_window": card.context_window or _UNKNOWN_WINDOW,
            "is_chat_model": True,
            "is_function_calling_model": True,
            "additional_kwargs": {"stream_options": {"include_usage": True}},
        }
        fixed = {
            **kept,
            "api_key": _HELD_BY_TRANSPORT,
            "api_base": str(client.base_url),
            "max_retries": 0,
            "http_client": client,
            "async_http_client": async_http_client(**kept, **reached),
        }
        super().__init__(**{**defaults, **kwargs, **fixed})

    @classmethod
    def class_name(cls) -> str:
        """The name in serialised form; "multi" in it tells LlamaIndex that the model takes images."""
        return "aifs_multi_modal_llm"

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the key and the connections: whoever unpickles it takes the key from its environment."""
        return {name: getattr(self, name) for name in type(self).model_fields if name not in _NOT_PICKLED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _chat(self, *args: Any, **kwargs: Any) -> ChatResponse:
        with own_errors():
            answer: ChatResponse = super()._chat(*args, **kwargs)
            return answer

    async def _achat(self, *args: Any, **kwargs: Any) -> ChatResponse:
        with own_errors():
            answer: ChatResponse = await super()._achat(*args, **kwargs)
            return answer

    def _stream_chat(self, *args: Any, **kwargs: Any) -> ChatResponseGen:
        with own_errors():
            yield from super()._stream_chat(*args, **kwargs)

    async def _astream_chat(self, *args: Any, **kwargs: Any) -> ChatResponseAsyncGen:
        with own_errors():
            answers = await super()._astream_chat(*args, **kwargs)

        async def told() -> ChatResponseAsyncGen:
            with own_errors():
                async for answer in answers:
                    yield answer

        return told()


_NOT_PICKLED = frozenset({"api_key", "api_version", "callback_manager"})
