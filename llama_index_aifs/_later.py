"""What a pickle brings along unopened: `Later`."""

from __future__ import annotations

import pickle
from typing import Generic, TypeVar, cast

__all__ = ["Later"]

_Value = TypeVar("_Value")


class Later(Generic[_Value]):
    """A value that is made of its pickle when it is asked for, and not when what holds it is unpickled.

    A `Vision` without a key is an error. A pool of processes waits for ever for a worker that fails while it unpickles
    its task, and hears of one that fails while it works.
    """

    def __init__(self, value: _Value) -> None:
        self._value: _Value | None = value
        self._pickled: bytes | None = None

    def get(self) -> _Value:
        """The value. Raises what opening its pickle does, such as SettingsError where there is no key."""
        pickled = self._pickled
        if pickled is not None:
            self._value = pickle.loads(pickled)  # noqa: S301 - it came inside of a pickle that is open already
            self._pickled = None
        return cast("_Value", self._value)

    def __getstate__(self) -> bytes:
        return self._pickled if self._pickled is not None else pickle.dumps(self._value)

    def __setstate__(self, pickled: bytes) -> None:
        self._value, self._pickled = None, pickled
