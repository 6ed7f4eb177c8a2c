"""Unknown keyword arguments are errors, also on pydantic classes that would collect them."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pydantic import BaseModel

__all__ = ["refuse_unknown"]


def refuse_unknown(kind: type[BaseModel], given: Mapping[str, Any], barred: Collection[str] = ()) -> None:
    """Raises TypeError for keyword arguments that are no fields of `kind`, with the field that may be meant.

    `barred` are fields that only look like arguments, as what they would change is decided elsewhere.
    """
    known = {name for field, info in kind.model_fields.items() for name in (field, info.alias) if name}
    for name in given:
        if name not in known.difference(barred):
            close = get_close_matches(name, known.difference(barred), 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise TypeError(f"{kind.__name__}() got an unexpected keyword argument {name!r}.{hint}")
