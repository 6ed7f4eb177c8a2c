"""Readings as Documents and nodes: texts, metadata, and what of it is shown."""

from __future__ import annotations

import base64
import uuid
from typing import TYPE_CHECKING, Any

from llama_index.core.schema import Document, MediaResource, MetadataMode, NodeRelationship, TextNode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llama_index.core.schema import BaseNode

    from aifs_vision import Reading

__all__ = ["PENDING", "RESULTS", "document", "page_of", "pending_document", "text_node"]

PENDING = "pending"
"""The `status` of a Document that stands for a picture nobody has read yet."""

RESULTS = frozenset({"ok", "empty"})
"""The statuses of nodes that are read; a blank page is a fact."""

_SHOWN = frozenset({"source", "page"})  # of our metadata, what is embedded and shown to the LLM
_OF_A_MODEL = frozenset({"model", "task", "prompt_version"})


def document(reading: Reading, extra_info: Mapping[str, Any] | None = None) -> Document:
    """A reading as a Document, with further metadata.

    No name is used twice: what `extra_info` has under a name of the reading's is found as "extra_<name>", and a field
    of the data that has a name which is taken as "data_<name>".
    """
    return _document(reading, reading.content, reading.metadata(), extra_info or {})


def pending_document(
    image: Reading, extra_info: Mapping[str, Any] | None = None, data: bytes | None = None
) -> Document:
    """A picture that is still to be read, as a Document; `data` where no path leads to it."""
    known = {key: value for key, value in image.metadata().items() if key not in _OF_A_MODEL}
    if image.error is None:
        known["status"] = PENDING
    # What reading will add has its names already, so that nothing is in its way.
    given = {f"extra_{name}" if name in _OF_A_MODEL else name: value for name, value in (extra_info or {}).items()}
    made = _document(image, "", known, given)
    if data is not None:
        # LlamaIndex keeps bytes as base64, and takes what looks like it for it.
        made.image_resource = MediaResource(data=base64.b64encode(data), mimetype=image.mime_type)
    return made


def text_node(reading: Reading, node: BaseNode) -> TextNode:
    """A reading as a node in place of the one that stood for its picture.

    The node's own metadata and text are kept, and so is its source; where it has none, it is the source itself, so
    that stores find what was made of it when its picture has changed.
    """
    known = reading.metadata()
    text, id_ = reading.content, reading.id
    if "status" in node.metadata:  # one of ours, whose picture may be another one by now
        given = {key: value for key, value in node.metadata.items() if key not in {*known, "error"}}
    else:  # somebody else's: what it says of itself stands
        given = dict(node.metadata)
        known |= {key: given[key] for key in _SHOWN & given.keys()}
        text = "\n\n".join(part for part in (node.get_content(MetadataMode.NONE), text) if part)
        id_ = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{node.id_}\n{reading.page}\n{reading.task}"))
    metadata, own = _metadata(known, given, reading)
    return TextNode(
        id_=id_,
        text=text,
        metadata=metadata,
        excluded_embed_metadata_keys=_hidden(node.excluded_embed_metadata_keys, own),
        excluded_llm_metadata_keys=_hidden(node.excluded_llm_metadata_keys, own),
        relationships={NodeRelationship.SOURCE: node.source_node or node.as_related_node_info()},
    )


def page_of(metadata: Mapping[str, Any]) -> int | None:
    """The page that metadata name, also where a store has made a float of it; None where they name none."""
    page = metadata.get("page")
    return int(page) if isinstance(page, (int, float)) and page == int(page) else None


def _document(reading: Reading, text: str, known: Mapping[str, Any], given: Mapping[str, Any]) -> Document:
    metadata, own = _metadata(known, given, reading)
    return Document(
        id_=reading.id,
        # Not text="", which LlamaIndex takes for no text: such Documents would all have one key in its caches.
        text_resource=MediaResource(text=text),
        metadata=metadata,
        excluded_embed_metadata_keys=_hidden((), own),
        excluded_llm_metadata_keys=_hidden((), own),
    )


def _metadata(
    known: Mapping[str, Any], given: Mapping[str, Any], reading: Reading
) -> tuple[dict[str, Any], dict[str, Any]]:
    """All metadata: what was given, what is known of the picture, the scalars of the data; and the last two alone."""
    others = {f"extra_{name}" if known.get(name, value) != value else name: value for name, value in given.items()}
    taken = {*others, *known}
    data = {f"data_{name}" if name in taken else name: value for name, value in reading.fields().items()}
    own = {**known, **data}
    return {**others, **own}, own


def _hidden(before: Iterable[str], known: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([*before, *(key for key in known if key not in _SHOWN)]))
