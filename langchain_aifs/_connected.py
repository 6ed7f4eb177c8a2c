"""The settings of `ChatAIFS`, and the clients on the project's transport that are made of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence  # noqa: TC003 - pydantic reads the annotations
from copy import deepcopy
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from langchain_openai.chat_models.base import BaseChatOpenAI
from pydantic import Field, PrivateAttr, SecretStr, model_validator

from aifs_vision import Limits, SettingsError, async_http_client, http_client, model_card
from langchain_aifs._completions import AsyncCompletions, Completions
from langchain_aifs._fields import refuse_unknown
from langchain_aifs._profiles import CataloguedProfile
from langchain_aifs._responses import check_whole, check_whole_async, know_blocks
from langchain_aifs._secrecy import PER_CALL, masked, without_credentials
from langchain_aifs.messages import DEFAULT_MODEL

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ConnectedChat"]

logger = logging.getLogger("langchain_aifs")

# The SDK wants a key; the one it is given never leaves this process, see `aifs_vision.http_client`.
_HELD_BY_TRANSPORT = SecretStr("held by the transport")
_CLIENTS = ("client", "async_client", "root_client", "root_async_client", "http_client", "http_async_client")
_NOT_TAKEN = frozenset({*_CLIENTS, "http_socket_options", "openai_organization", "openai_proxy", "organization"})
_DECISIVE = frozenset(
    """
    default_headers default_query limits model_name openai_api_base openai_api_key plan queue request_timeout residency
    use_responses_api
    """.split()
)


class ConnectedChat(BaseChatOpenAI):
    """LangChain's OpenAI chat model, whose requests go through the project's transport to the service alone."""

    model_name: str = Field(default=DEFAULT_MODEL, alias="model")
    openai_api_key: SecretStr | None = Field(default=None, alias="api_key")
    openai_api_base: str | None = Field(default=None, alias="base_url")
    openai_organization: str | None = Field(default=None, exclude=True)
    openai_proxy: str | None = Field(default=None, exclude=True)
    default_headers: Mapping[str, str] | None = Field(default=None, repr=False)
    default_query: Mapping[str, object] | None = Field(default=None, repr=False)
    request_timeout: float = Field(default=120.0, alias="timeout")
    max_retries: int | None = Field(default=0)
    max_tokens: int | None = Field(default=None, alias="max_completion_tokens")
    http_socket_options: Sequence[tuple[int, int, int]] | None = Field(default=(), exclude=True)  # the transport's own
    stream_usage: bool = True
    stream_chunk_timeout: float | None = Field(default=None, exclude=True)  # the transport bounds silences
    output_version: str | None = None
    residency: str | None = None
    plan: str = "essential"
    limits: Limits | None = None
    queue: bool | Literal["auto"] = False
    _address: str = PrivateAttr(default="")  # without user and password, for errors and keys of caches
    _connected: bool = PrivateAttr(default=False)

    @classmethod
    def _taken(cls, given: dict[str, Any]) -> dict[str, Any]:
        """The keyword arguments that the class is made of; TypeError for unknown ones."""
        if isinstance(given.get("client"), Completions):  # LangChain makes it anew, for another setting
            given = {name: value for name, value in given.items() if name not in _NOT_TAKEN}
            if isinstance(given.get("profile"), CataloguedProfile):
                del given["profile"]
        refuse_unknown(cls, given, _NOT_TAKEN)
        return given

    @model_validator(mode="after")
    def validate_environment(self) -> Self:
        """Builds the clients on the project's transport, which holds the key and guards the headers."""
        card = model_card(self.model_name)
        if card.known and card.kind != "chat":
            raise SettingsError.wrong_kind(self.model_name, card.kind, "chat", DEFAULT_MODEL)
        given, self._connected = set(self.model_fields_set), False
        key, address, self.max_retries = self.openai_api_key, self.openai_api_base, 0
        settings: dict[str, Any] = {
            "model": self.model_name,
            "api_key": None if key is None else key.get_secret_value(),
            "base_url": address,
            "residency": self.residency,
            "plan": self.plan,
            "limits": self.limits,
            "queue": self.queue,
            "timeout": self.request_timeout,
            "headers": self.default_headers,
        }
        self.http_client = http_client(**settings)
        self.http_async_client = async_http_client(**settings)
        query = dict(self.default_query or {})
        self.client = Completions(self.http_client, query)
        self.async_client = AsyncCompletions(self.http_async_client, query)
        self._address = str(self.http_client.base_url.copy_with(userinfo=b""))
        self.root_client = self.root_async_client = None
        if self.queue is True:
            self.disable_streaming = True
        if self.use_responses_api:
            self._build_sdk_clients()
        self.openai_api_base, self.openai_api_key, self.openai_organization = address, key, None
        # What follows from other fields is nobody's wish, and must not outlive them in copies.
        self.__pydantic_fields_set__, self._connected = given, True
        return self

    def _build_sdk_clients(self) -> None:
        """The SDK's clients, which know /responses; their key is none, and their address the transport's."""
        chat = self.client, self.async_client
        self.client = self.async_client = None
        self.openai_api_base, self.openai_api_key = str(cast(Any, self.http_client).base_url), _HELD_BY_TRANSPORT
        cast(Any, BaseChatOpenAI.validate_environment)(self)
        self.client, self.async_client = chat
        cast(Any, self.http_client).event_hooks = {"response": [check_whole]}
        cast(Any, self.http_async_client).event_hooks = {"response": [check_whole_async]}
        know_blocks()

    # -- Copies and assignments --------------------------------------------------------------------------------------

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy; one with other values is made, checked and connected anew.

        Raises:
            SettingsError, ResidencyError, TypeError: as for the class.
        """
        if not update:
            return super().model_copy(deep=deep)
        given = deepcopy(self._given()) if deep else self._given()
        names = {info.alias: name for name, info in type(self).model_fields.items() if info.alias}
        return type(self)(**{**given, **{names.get(name, name): value for name, value in update.items()}})

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Made anew of copies of what was given; locks and connections have no copy."""
        return type(self)(**deepcopy(self._given(), memo))

    def __setattr__(self, name: str, value: Any) -> None:
        """Assigns; what decides where requests go, and whether they may, is checked first, and connected anew."""
        if name in _DECISIVE and self._connected:
            made = self.model_copy(update={name: value})
            self.__dict__.update(made.__dict__)
            self.__pydantic_fields_set__, self._address = made.model_fields_set, made._address  # noqa: SLF001 - its own class
        else:
            super().__setattr__(name, value)
        self.__dict__.pop("_serialized", None)  # what LangChain has written down of it before

    def _given(self) -> dict[str, Any]:
        """The fields that somebody has set, which is all that another one is made of."""
        kept = (self.model_fields_set & set(type(self).model_fields)) - _NOT_TAKEN - {"max_retries"}
        kept -= {"profile"} if isinstance(self.profile, CataloguedProfile) else set()
        return {name: getattr(self, name) for name in kept}

    # -- What is written down ----------------------------------------------------------------------------------------

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Whether LangChain's `dumps` writes what it takes to make it again; so it does, without any secret."""
        return True

    @property
    def lc_secrets(self) -> dict[str, str]:
        """Fields that LangChain keeps out of what it serialises."""
        return {"openai_api_key": "AIFS_API_KEY"}

    def to_json(self) -> Any:
        """What LangChain's `dumps` and traces have: what was given, but for secrets."""
        made: dict[str, Any] = dict(super().to_json())
        written = {"model_name": self.model_name, **self._printable()}
        fields = type(self).model_fields
        made["kwargs"] = {
            "openai_api_key": made["kwargs"].get("openai_api_key"),
            **{name: _plain(value) for name, value in written.items() if not fields[name].exclude},
        }
        return made

    def __repr_args__(self) -> Any:
        return [(name, masked(value) if name == "model_kwargs" else value) for name, value in super().__repr_args__()]

    def __reduce__(self) -> tuple[Any, ...]:
        """Made anew where it is unpickled, with the key that is there."""
        printable = self._printable()
        for name in ("default_headers", "default_query"):
            if left := sorted((getattr(self, name) or {}).keys() - (printable.get(name) or {}).keys()):
                told = "%s=... %s: as credentials they stay out of the pickle; give them again where it is unpickled"
                logger.warning(told, name, ", ".join(left))
        return _made_anew, (type(self), printable)

    def _printable(self) -> dict[str, Any]:
        """What was given and is no secret."""
        given = {name: value for name, value in self._given().items() if name != "openai_api_key"}
        for name in ("default_headers", "default_query"):
            if given.get(name):
                given[name] = without_credentials(given[name])
        for name in PER_CALL & given.get("model_kwargs", {}).keys():
            given["model_kwargs"] = {**given["model_kwargs"], name: without_credentials(given["model_kwargs"][name])}
        return given


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _made_anew(kind: type[ConnectedChat], given: dict[str, Any]) -> ConnectedChat:
    return kind(**given)
