"""A reading -> a LangChain Document: its text or JSON, and metadata that every vector store takes."""

from __future__ import annotations

from dataclasses import fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document
from pydantic import BaseModel

from aifs_vision import Reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["document_of"]

# More than the keys of `Reading.metadata()`, which are not all there for every picture: a field is to have the same
# name in all Documents. It has "text", too, where some vector stores keep the content.
_TAKEN = frozenset(field.name for field in fields(Reading))


def document_of(reading: Reading, given: Mapping[str, Any] | None = None) -> Document:
    """The Document of a reading; its content is the reading's text, or the validated data as JSON.

    Its metadata is that of the reading, then what was `given` with the source, then the scalars of the data. No
    name is used twice: where the reading has another value under a name, the given one is found as "blob_<name>";
    a field of the data whose name is an attribute of `Reading`, or given, as "data_<name>".
    """
    metadata: dict[str, Any] = {**reading.metadata()}
    for name, value in (given or {}).items():
        if name not in metadata:
            metadata[name] = value
        elif metadata[name] != value:
            metadata[f"blob_{name}"] = value
    if not isinstance(reading.data, BaseModel):
        return Document(id=reading.id, page_content=reading.text, metadata=metadata)
    dumped = reading.data.model_dump(mode="json", by_alias=False)
    for name, value in _scalars(reading.data, dumped):
        metadata[f"data_{name}" if name in _TAKEN or name in metadata else name] = value
    return Document(id=reading.id, page_content=reading.data.model_dump_json(), metadata=metadata)


def _scalars(data: BaseModel, dumped: Mapping[str, Any]) -> Iterator[tuple[str, str | int | float | bool]]:
    """The scalars of data by their names, those of models in it as "<field>_<field>"; lists and dicts are left out.

    As the data serialises itself; but a Decimal is a number here, so that a store can compare it.
    """
    for name, shown in dumped.items():
        value = None if name in (data.model_extra or ()) else getattr(data, name, None)
        if isinstance(value, BaseModel) and isinstance(shown, dict):
            yield from ((f"{name}_{inner}", scalar) for inner, scalar in _scalars(value, shown))
        elif isinstance(value, Decimal) and shown == str(value):
            yield name, float(value)
        elif value is not None and isinstance(shown, (str, int, float, bool)):
            yield name, shown
