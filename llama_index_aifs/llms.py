"""`AIFS`: the service's chat models for LlamaIndex, images included, on the project's transport."""

from __future__ import annotations

from typing import Any

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.llms.openai_like import OpenAILike

from aifs_vision import Limits, async_http_client, http_client, model_card

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
    `max_retries` stays 0; streams carry their usage.

    Args:
        model: the model's name.
        api_key, base_url (or api_base), residency, plan, limits, queue: as for `aifs_vision.Vision`.
        timeout: seconds one request may take.
        temperature, max_tokens, ...: as for `OpenAILike`; what is not known is a TypeError.

    Raises:
        SettingsError: no key, or a setting that cannot be right.
        ResidencyError: the model's region is unknown or not allowed.
    """

    _options: dict[str, Any] = PrivateAttr()

    def __init__(
        self,
        model: str = "Qwen3-VL-30B-A3B-Instruct-FP8",
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        api_base: str | None = None,
        residency: str | None = None,
        plan: str = "essential",
        limits: Limits | None = None,
        queue: bool = False,
        timeout: float = 120.0,
        **kwargs: Any,
    ) -> None:
        if unknown := sorted(set(kwargs) - set(type(self).model_fields)):
            raise TypeError(f"AIFS() got unexpected keyword arguments: {', '.join(unknown)}")
        if base_url is not None and api_base is not None:
            raise TypeError("AIFS() takes base_url=... or its other name api_base=..., not both")
        options: dict[str, Any] = {
            "model": model,
            "api_key": api_key,
            "base_url": base_url or api_base,
            "residency": residency,
            "plan": plan,
            "limits": limits,
            "queue": queue,
            "timeout": timeout,
        }
        client = http_client(**options)
        card = model_card(model)
        defaults: dict[str, Any] = {
            "context_window": card.context_window or _UNKNOWN_WINDOW,
            "is_chat_model": True,
            "is_function_calling_model": True,
            "max_retries": 0,
            "additional_kwargs": {"stream_options": {"include_usage": True}},
        }
        fixed = {
            "model": model,
            "api_key": _HELD_BY_TRANSPORT,
            "api_base": str(client.base_url),
            "timeout": timeout,
            "http_client": client,
            "async_http_client": async_http_client(**options),
        }
        super().__init__(**{**defaults, **kwargs, **fixed})
        self._options = options

    @classmethod
    def class_name(cls) -> str:
        """The name in serialised form; "multi" in it tells LlamaIndex that the model takes images."""
        return "aifs_multi_modal_llm"

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the key and the connections: whoever unpickles it takes the key from its environment."""
        fields = {name: getattr(self, name) for name in type(self).model_fields if name not in _NOT_PICKLED}
        return {**{k: v for k, v in self._options.items() if k != "api_key"}, **fields}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


_NOT_PICKLED = frozenset({"api_key", "api_base", "callback_manager", "api_version", "model", "timeout"})
