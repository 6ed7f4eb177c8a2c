"""The settings of `AIFS`, and the clients on the project's transport that are made of them."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Literal

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.llms.function_calling import FunctionCallingLLM
from pydantic import SecretStr

from aifs_vision import (
    Frames,
    ImageSize,
    Limits,
    SettingsError,
    async_http_client,
    check_image_options,
    http_client,
    model_card,
)
from llama_index_aifs._completions import Completions
from llama_index_aifs._defaults import defaults, following
from llama_index_aifs._structured import TypedAnswers

if TYPE_CHECKING:
    from typing_extensions import Self

    from aifs_vision import ModelCard

__all__ = ["Connected"]

# The SDK wants a key; the one it is given never leaves this process, see `aifs_vision.http_client`.
_HELD_BY_TRANSPORT = "held by the transport"
_DECISIVE = frozenset(
    {"api_base", "api_key", "default_headers", "limits", "max_retries", "plan", "queue", "residency", "timeout"}
)
_CONNECTIONS = ("_client", "_aclient", "_http_client", "_async_http_client", "_key", "_address")
# No chat model asks `messages_to_prompt`, which may be a function that cannot be pickled.
_NOT_PICKLED = frozenset(
    {"api_key", "api_version", "callback_manager", "default_headers", "messages_to_prompt", "rate_limiter"}
)
_CONTAINERS = ("additional_kwargs", "audio_config", "modalities")


class Connected(Completions, TypedAnswers):
    """The part of `AIFS` that knows where its requests go, and whether they may, also where that is assigned."""

    api_key: str | None = Field(default=None, exclude=True, repr=False)
    default_headers: dict[str, str] | None = Field(default=None, exclude=True, repr=False)
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)  # type: ignore[assignment]
    residency: str | None = None
    plan: str = "essential"
    limits: Limits | None = None
    queue: bool | Literal["auto"] = False
    image_size: ImageSize = "auto"
    frames: Frames = "auto"
    _key: SecretStr | None = PrivateAttr(default=None)  # as given; else it is the environment's
    _address: str = PrivateAttr(default="")  # before a queue has moved it; "" until the clients are made

    def _connect(
        self,
        fields: dict[str, Any],
        *,
        model: str,
        api_key: str | None,
        base_url: str | None,
        limits: Limits | Mapping[str, Any] | None,
        **kept: Any,
    ) -> None:
        """Checks all settings, and makes the clients."""
        asked = (fields.get("additional_kwargs") or {}).get("model") or model
        for name in (model, asked):
            if not isinstance(name, str):
                raise TypeError(f"AIFS() takes the name of a model, not {name!r}")
        if not model:
            raise SettingsError.bad_value("model", model, "it is the name of a model, such as 'gpt-4.1'")
        card = model_card(asked)
        if card.known and card.kind != "chat":
            raise SettingsError.wrong_kind(asked, card.kind, "chat", "gpt-4.1")
        check_image_options(size=fields.get("image_size", "auto"), frames=fields.get("frames", "auto"))
        kept |= {"model": model, "limits": Limits(**limits) if isinstance(limits, Mapping) else limits}
        reached: dict[str, Any] = {"api_key": api_key, "base_url": base_url, "headers": fields.get("default_headers")}
        client, aclient = http_client(**kept, **reached), async_http_client(**kept, **reached)
        fixed = {"api_key": _HELD_BY_TRANSPORT, "api_base": str(client.base_url), "max_retries": 0}
        # OpenAI's constructor is passed over: it heeds OPENAI_* variables, and has opinions on names of models.
        FunctionCallingLLM.__init__(self, **{**defaults(card), **fields, **kept, **fixed})
        self._client = self._aclient = None
        self._http_client, self._async_http_client = client, aclient
        self._key = None if api_key is None else SecretStr(api_key)
        direct = http_client(**{**kept, "queue": False}, **reached) if kept["queue"] is True else client
        self._address = str(direct.base_url)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but key, headers and connections: whoever unpickles it takes the key from its environment.

        A `completion_to_prompt` has to be a function that pickle takes, one of a module: without it, the copy would
        send other prompts.
        """
        return {name: getattr(self, name) for name in type(self).model_fields if name not in _NOT_PICKLED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    # -- Copies and assignments ------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        """Assigns; a field is checked as the constructor checks it, and what hangs on it follows."""
        if name not in type(self).model_fields or not (self.__pydantic_private__ or {}).get("_address"):
            super().__setattr__(name, value)
            return
        changed = self._changed({name: value})
        made = self._made(changed)
        self.__dict__.update({field: made.__dict__[field] for field in changed.keys() | {"api_base"}})
        self.__pydantic_fields_set__.add(name)
        for connection in _CONNECTIONS if name in _DECISIVE else ():
            setattr(self, connection, getattr(made, connection))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy on the same connections, or with other values, which are checked as those of the constructor are.

        Window and temperature follow another model; connections are other ones where the values decide on them.

        Raises:
            SettingsError, ResidencyError, TypeError, ValidationError: as for the class.
        """
        given = deepcopy({name: getattr(self, name) for name in _CONTAINERS}) if deep else {}
        given |= update or {}
        if "base_url" in given:
            given["api_base"] = given.pop("base_url")
        made = self._made(self._changed(given)) if given else super().model_copy()
        made.__pydantic_fields_set__ = self.__pydantic_fields_set__ | (update or {}).keys()
        return made

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """A copy with settings of its own, on the same connections."""
        return self.model_copy(deep=True)

    def _changed(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The given values, and those that follow another model that is among them."""
        own, then = self.__dict__, {**self.__dict__, **given}
        return {**following(_card_of(then), _card_of(own), own), **given}

    def _made(self, changed: Mapping[str, Any]) -> Self:
        """Another one, with some values changed; it shares what it knows of hosts, and connections where it may."""
        fields = {name: getattr(self, name) for name in type(self).model_fields} | dict(changed)
        decided = _DECISIVE & changed.keys()
        if "api_base" not in changed:
            fields["api_base"] = self._address
        if decided and fields["api_key"] == _HELD_BY_TRANSPORT:
            fields["api_key"] = None if self._key is None else self._key.get_secret_value()
        made = type(self)(**fields)
        if not decided:
            made.__pydantic_private__ = dict(self.__pydantic_private__ or {})
        return made


def _card_of(fields: Mapping[str, Any]) -> ModelCard:
    """The model of these settings; what is no name is found to be none later on."""
    return model_card(str((fields["additional_kwargs"] or {}).get("model") or fields["model"]))
