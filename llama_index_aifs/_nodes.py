"""Readings as Documents and nodes: texts, metadata, and what of it is shown."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from llama_index.core.schema import Document, MediaResource, MetadataMode, NodeRelationship, TextNode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llama_index.core.schema import BaseNode

    from aifs_vision import Reading

__all__ = ["PENDING", "RESULTS", "document", "pending_document", "text_node"]

PENDING = "pending"
"""The `status` of a Document that stands for a picture nobody has read yet."""

RESULTS = frozenset({"ok", "empty"})
"""The statuses of nodes that are read; a blank page is a fact."""

_SHOWN = frozenset({"source", "page"})  # of our metadata, what is embedded and shown to the LLM
_OF_A_MODEL = frozenset({"model", "task", "prompt_version"})
_OUTDATED = frozenset({"status", "error"})  # of the node a reading replaces


def document(reading: Reading, extra_info: Mapping[str, Any] | None = None) -> Document:
    """A reading as a Document, with further metadata."""
    known = _metadata(reading)
    return _document(reading, reading.text, {**(extra_info or {}), **known}, known)


def pending_document(
    image: Reading, extra_info: Mapping[str, Any] | None = None, data: bytes | None = None
) -> Document:
    """A picture that is still to be read, as a Document; `data` where no path leads to it."""
    known: dict[str, Any] = {key: value for key, value in image.metadata().items() if key not in _OF_A_MODEL}
    if image.error is None:
        known["status"] = PENDING
    made = _document(image, "", {**(extra_info or {}), **known}, known)
    if data is not None:
        made.image_resource = MediaResource(data=data, mimetype=image.mime_type)
    return made


def text_node(reading: Reading, node: BaseNode) -> TextNode:
    """A reading as a node in place of the one that stood for its picture.

    The node's own metadata and text are kept, and so is its source; where it has none, it is the source itself, so
    that stores find what was made of it when its picture has changed.
    """
    known = _metadata(reading)
    metadata = {**{key: value for key, value in node.metadata.items() if key not in _OUTDATED}, **known}
    text, id_ = reading.text, reading.id
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


def _document(reading: Reading, text: str, metadata: dict[str, Any], known: Mapping[str, Any]) -> Document:
    return Document(
        id_=reading.id,
        # Not text="", which LlamaIndex takes for no text: such Documents would all have one key in its caches.
        text_resource=MediaResource(text=text),
        metadata=metadata,
        excluded_embed_metadata_keys=_hidden((), known),
        excluded_llm_metadata_keys=_hidden((), known),
    )


def _metadata(reading: Reading) -> dict[str, Any]:
    """The reading's metadata, and beside it the data of `Task.extract`: scalars, as stores of vectors want them."""
    return {**_fields(reading.data), **reading.metadata()}


def _fields(data: Any) -> dict[str, Any]:
    """The fields of a pydantic object: scalars as they are, lists and objects as JSON; what is null is left out."""
    if data is None:
        return {}
    fields: dict[str, Any] = data.model_dump(mode="json")
    scalars = (str, int, float, bool)
    return {
        name: value if isinstance(value, scalars) else json.dumps(value, ensure_ascii=False)
        for name, value in fields.items()
        if value is not None
    }


def _hidden(before: Iterable[str], known: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([*before, *(key for key in known if key not in _SHOWN)]))
