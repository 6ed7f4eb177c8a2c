"""Headers and query parameters of the user's own may be credentials: no trace, pickle or key of a cache has those."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["PER_CALL", "identified", "masked", "without_credentials"]

_CREDENTIALS = re.compile("auth|cookie|credential|key|pass|secret|session|signature|token", re.IGNORECASE)
PER_CALL = frozenset({"extra_headers", "extra_query"})
"""Options of a call that are sent beside its body."""
_BESIDE = PER_CALL | {"default_headers", "default_query"}
_MASK = "**********"
_DIGITS = 16


def without_credentials(given: Mapping[str, Any]) -> dict[str, Any]:
    """The headers or parameters whose names are not those of credentials."""
    return {name: value for name, value in given.items() if not _CREDENTIALS.search(name)}


def masked(params: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a call as traces may have them: the values of its own headers and parameters are hidden."""
    return {
        name: dict.fromkeys(value, _MASK) if name in PER_CALL and isinstance(value, Mapping) else value
        for name, value in params.items()
    }


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
