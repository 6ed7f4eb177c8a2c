"""Readings as Documents and nodes: texts, metadata, and what of it is shown."""

from __future__ import annotations

import base64
import uuid
from dataclasses import fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from llama_index.core.schema import Document, MediaResource, MetadataMode, NodeRelationship, TextNode
from pydantic import BaseModel

from aifs_vision import Reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from llama_index.core.schema import BaseNode

__all__ = ["PENDING", "RESULTS", "document", "page_of", "pending_document", "text_node"]

PENDING = "pending"
"""The `status` of a Document that stands for a picture nobody has read yet."""

RESULTS = frozenset({"ok", "empty"})
"""The statuses of nodes that are read; a blank page is a fact."""

_SHOWN = frozenset({"source", "page"})  # of our metadata, what is embedded and shown to the LLM
_OF_A_MODEL = frozenset({"model", "task", "prompt_version"})
_OUTDATED = frozenset({"status", "error"})  # of the node a reading replaces
_TAKEN = frozenset(field.name for field in fields(Reading))  # names that are no field's of extracted data


def document(reading: Reading, extra_info: Mapping[str, Any] | None = None) -> Document:
    """A reading as a Document, with further metadata."""
    known = _metadata(reading)
    return _document(reading, _text(reading), {**(extra_info or {}), **known}, known)


def pending_document(
    image: Reading, extra_info: Mapping[str, Any] | None = None, data: bytes | None = None
) -> Document:
    """A picture that is still to be read, as a Document; `data` where no path leads to it."""
    known: dict[str, Any] = {key: value for key, value in image.metadata().items() if key not in _OF_A_MODEL}
    if image.error is None:
        known["status"] = PENDING
    made = _document(image, "", {**(extra_info or {}), **known}, known)
    if data is not None:
        # LlamaIndex keeps bytes as base64, and takes what looks like it for it.
        made.image_resource = MediaResource(data=base64.b64encode(data), mimetype=image.mime_type)
    return made


def text_node(reading: Reading, node: BaseNode) -> TextNode:
    """A reading as a node in place of the one that stood for its picture.

    The node's own metadata and text are kept, and so is its source; where it has none, it is the source itself, so
    that stores find what was made of it when its picture has changed.
    """
    known = _metadata(reading)
    metadata = {**{key: value for key, value in node.metadata.items() if key not in _OUTDATED}, **known}
    text, id_ = _text(reading), reading.id
    if "status" not in node.metadata:  # somebody else's: what it says of itself stands
        metadata |= {key: node.metadata[key] for key in _SHOWN & node.metadata.keys()}
        text = "\n\n".join(part for part in (node.get_content(MetadataMode.NONE), text) if part)
        id_ = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{node.id_}\n{reading.page}\n{reading.task}"))
    return TextNode(
        id_=id_,
        text=text,
        metadata=metadata,
        excluded_embed_metadata_keys=_hidden(node.excluded_embed_metadata_keys, known),
        excluded_llm_metadata_keys=_hidden(node.excluded_llm_metadata_keys, known),
        relationships={NodeRelationship.SOURCE: node.source_node or node.as_related_node_info()},
    )


def page_of(metadata: Mapping[str, Any]) -> int | None:
    """The page that metadata name, also where a store has made a float of it; None where they name none."""
    page = metadata.get("page")
    return int(page) if isinstance(page, (int, float)) and page == int(page) else None


def _document(reading: Reading, text: str, metadata: dict[str, Any], known: Mapping[str, Any]) -> Document:
    return Document(
        id_=reading.id,
        # Not text="", which LlamaIndex takes for no text: such Documents would all have one key in its caches.
        text_resource=MediaResource(text=text),
        metadata=metadata,
        excluded_embed_metadata_keys=_hidden((), known),
        excluded_llm_metadata_keys=_hidden((), known),
    )


def _text(reading: Reading) -> str:
    return reading.data.model_dump_json() if isinstance(reading.data, BaseModel) else reading.text


def _metadata(reading: Reading) -> dict[str, Any]:
    """The reading's metadata, and beside it the scalars of `Task.extract`'s data; no name is used twice."""
    metadata: dict[str, Any] = {**reading.metadata()}
    if isinstance(reading.data, BaseModel):
        for name, value in _scalars(reading.data, reading.data.model_dump(mode="json", by_alias=False)):
            metadata[f"data_{name}" if name in _TAKEN or name in metadata else name] = value
    return metadata


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


def _hidden(before: Iterable[str], known: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([*before, *(key for key in known if key not in _SHOWN)]))
