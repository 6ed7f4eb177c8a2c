"""The project's errors in place of those that the SDK made of them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import openai

from aifs_vision import error_behind

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["own_errors"]


@contextmanager
def own_errors() -> Iterator[None]:
    """Raises the error that says what is wrong and what to do."""
    try:
        yield
    except openai.APIError as error:
        own = error_behind(error)
        if own is None:
            raise
        raise own from own.__cause__
