"""A reading -> a LangChain Document: its text or JSON, and metadata that every vector store takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aifs_vision import Reading, ReadingIds

__all__ = ["document_of"]


def document_of(reading: Reading, given: Mapping[str, Any] | None = None, *, ids: ReadingIds | None = None) -> Document:
    """The Document of a reading; its content is the reading's text, or the validated data as JSON.

    Its id is the reading's, or the one that `ids`, those of one run, give it.

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
    for name, value in reading.fields().items():
        while name in metadata:
            name = f"data_{name}"  # noqa: PLW2901 - until it is free
        metadata[name] = value
    id_ = reading.id if ids is None else ids.of(reading)
    return Document(id=id_, page_content=reading.content, metadata=metadata)
