"""Key, address, residency and timeout: argument, else `AIFS_*` environment, else default."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from aifs_vision._errors import SettingsError

SERVICE_HOST = "llm-server.llmhub.t-systems.net"
DEFAULT_BASE_URL = f"https://{SERVICE_HOST}/v2"
RESIDENCIES = ("germany", "eu")
PLANS = ("essential", "professional", "agentic")

_MASK = "**********"
_UNPRINTED = re.compile(r"[\s\x00-\x1f\x7f]")  # in an address: a slip of the keyboard, or worse


class Secret:
    """A text that never shows itself: not in repr, str, logs or pickles, only by `reveal()`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    @property
    def fingerprint(self) -> str:
        """Tells two secrets apart without giving either away."""
        return hashlib.sha256(self._text.encode()).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"Secret({_MASK!r})"

    def __str__(self) -> str:
        return _MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> str:
        message = "a Secret is not pickled; the other process reads AIFS_API_KEY itself"
        raise TypeError(message)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where requests go and with what key.

    Attributes:
        api_key: the key, never shown.
        base_url: the address requests go to, without a slash at its end.
        residency: "germany", "eu" or None (no guard).
        timeout: seconds one request may take, from sending to the last byte of its answer.
    """

    api_key: Secret = field(repr=False)
    base_url: str
    residency: str | None
    timeout: float

    @property
    def api_url(self) -> str:
        """The address of everything that is not queued."""
        return _swapped_end(self.base_url, "/queue", "/v2")


def queue_of(settings: Settings) -> Settings:
    """The same service, asked through its queue."""
    return replace(settings, base_url=_swapped_end(settings.base_url, "/v2", "/queue"))


def resolve(
    *,
    api_key: str | None = None,
    base_url: str | None = None,
    residency: str | None = None,
    queue: bool | Literal["auto"] = False,
    timeout: float = 120.0,
) -> Settings:
    """The settings of a client; `queue=True` moves the address from `/v2` to `/queue`, "auto" does not yet.

    Raises:
        SettingsError: no key, or a key, address, residency, queue or timeout that cannot be right.
    """
    if queue not in {True, False, "auto"}:
        raise SettingsError.bad_choice("queue", queue, ("True", "False", "auto"))
    residency = residency or os.environ.get("AIFS_RESIDENCY") or None
    if residency is not None and residency not in RESIDENCIES:
        raise SettingsError.bad_choice("residency", residency, RESIDENCIES)
    if not isinstance(timeout, (int, float)) or isinstance(timeout, bool) or not 0 < timeout < float("inf"):
        raise SettingsError.bad_value("timeout", timeout, "it is a number of seconds above 0")
    address = _address(base_url)
    if queue is True:
        address = _swapped_end(address, "/v2", "/queue")
    return Settings(api_key=_key(api_key), base_url=address, residency=residency, timeout=float(timeout))


def choose_plan(plan: str) -> str:
    """The plan's name in lower case, checked.

    Raises:
        SettingsError: it is not a plan of the service.
    """
    name = plan.lower() if isinstance(plan, str) else plan
    if name not in PLANS:
        raise SettingsError.bad_choice("plan", plan, PLANS)
    return name


def _key(argument: str | None) -> Secret:
    if argument is not None:
        return _checked_key(argument, "api_key=...")
    if own := os.environ.get("AIFS_API_KEY"):
        return _checked_key(own, "AIFS_API_KEY")
    # The service's own guide tells users to keep its key there; an OpenAI key must never come along.
    if _is_service(os.environ.get("OPENAI_BASE_URL")) and (borrowed := os.environ.get("OPENAI_API_KEY")):
        return _checked_key(borrowed, "OPENAI_API_KEY")
    raise SettingsError.missing_key()


def _checked_key(text: str, where: str) -> Secret:
    if not isinstance(text, str):
        raise SettingsError.bad_key(where, f"is {type(text).__name__}, not text")
    if not text.strip():
        raise SettingsError.bad_key(where, "is empty")
    if "\n" in text or "\r" in text:
        raise SettingsError.bad_key(where, "contains a line break")
    if text != text.strip() or not text.isascii() or not text.isprintable():
        raise SettingsError.bad_key(where, "contains blanks or characters no HTTP header can carry")
    return Secret(text)


def _is_service(url: str | None) -> bool:
    try:
        return url is not None and urlsplit(url).hostname == SERVICE_HOST
    except ValueError:
        return False


def _address(argument: str | None) -> str:
    if argument is not None:
        return _checked_url(argument, "base_url=...")
    if own := os.environ.get("AIFS_BASE_URL"):
        return _checked_url(own, "AIFS_BASE_URL")
    return DEFAULT_BASE_URL


def _checked_url(url: str, where: str) -> str:
    try:
        parts = urlsplit(url.strip())
        host = (parts.hostname or "").encode("idna")  # a UnicodeError is a ValueError
        whole = parts.scheme in {"http", "https"} and bool(host) and not _UNPRINTED.search(url.strip())
        _ = parts.port  # out of range: a ValueError, only when asked for
    except (ValueError, AttributeError):
        whole = False
    if not whole or parts.query or parts.fragment or parts.username is not None:
        raise SettingsError.bad_base_url(url, where)
    # A bare host means the default API of that host.
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") or "/v2", "", ""))


def _swapped_end(url: str, end: str, other: str) -> str:
    return url[: -len(end)] + other if url.endswith(end) else url
