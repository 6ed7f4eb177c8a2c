"""Headers and query parameters of the user's own may be credentials: no trace, pickle or key of a cache has those.

What is only shown has no value of any. What a model is made of again keeps those whose names are not of credentials.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["PER_CALL", "identified", "masked", "without_credentials"]

_CREDENTIALS = re.compile(
    "assertion|auth|bearer|cookie|credential|jwt|key|pass|pwd|secret|session|signature|token", re.IGNORECASE
)
_SHORT = frozenset("cert certificate code csrf hmac mfa nonce otp pin psk saml sas sid sig ticket xsrf".split())
"""Words that are parts of others, as "design" has one."""
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
PER_CALL = frozenset({"extra_headers", "extra_query"})
"""Options of a call that are sent beside its body."""
_BESIDE = PER_CALL | {"default_headers", "default_query"}
_MASK = "**********"
_DIGITS = 16


def without_credentials(given: Mapping[str, Any]) -> dict[str, Any]:
    """The headers or parameters whose names are not those of credentials."""
    return {name: value for name, value in given.items() if not _is_credential(name)}


def _is_credential(name: str) -> bool:
    words = {word.lower() for word in _WORD.findall(name)}
    return _CREDENTIALS.search(name) is not None or not _SHORT.isdisjoint(words | {word.rstrip("s") for word in words})


def masked(params: Mapping[str, Any]) -> dict[str, Any]:
    """Settings and options as traces may have them: the values of headers and parameters are hidden."""
    return {name: _masked(name, value) for name, value in params.items()}


def _masked(name: str, value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    if name in _BESIDE:
        return dict.fromkeys(value, _MASK)
    return masked(value) if name == "model_kwargs" else value


def identified(params: Mapping[str, Any]) -> dict[str, Any]:
    """The same with digests of those values, which tell calls apart, as a tenant's answer is nobody else's.

    Also of those that a model sends with every call.
    """
    return {
        name: _digest(value) if name in _BESIDE and isinstance(value, Mapping) else value
        for name, value in params.items()
    }


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:_DIGITS]
