"""Readings as Documents and nodes: texts, metadata, and what of it is shown."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from llama_index.core.schema import Document, MediaResource, MetadataMode, NodeRelationship, TextNode

from llama_index_aifs._pending import HELD, MARK, OTHERS, PLACED, TWIN, TWIN_PLACED, Pending

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llama_index.core.schema import BaseNode

    from aifs_vision import Reading

__all__ = ["document", "node_of", "pending_document"]

_SHOWN = frozenset({"source", "page"})  # of our metadata, what is embedded and shown to the LLM
_OF_A_MODEL = frozenset({"model", "task", "prompt_version"})
_OF_A_PICTURE = frozenset({"source", "page", "total_pages", "width", "height", "time", "mime_type", "image_sha256"})
_OF_A_FAILURE = frozenset({"status", "error", MARK})
_OWN = _OF_A_MODEL | _OF_A_PICTURE | _OF_A_FAILURE  # the names that readings use, though not every one of them


def document(reading: Reading, extra_info: Mapping[str, Any] | None, id_: str) -> Document:
    """A reading as a Document, with further metadata.

    No name is used twice: what `extra_info` has under a name of the reading's is found as "extra_<name>", and a field
    of the data that has a name which is taken as "data_<name>".
    """
    return _document(reading, id_, reading.content, reading.metadata(), extra_info or {})


def pending_document(
    image: Reading, extra_info: Mapping[str, Any] | None, picture: MediaResource | None, *, twin: bool
) -> Document:
    """A picture that is still to be read, as a Document.

    Args:
        image: what is known of it.
        extra_info: further metadata.
        picture: its bytes, where no path leads to it.
        twin: whether another picture has its name already.
    """
    known: dict[str, Any] = {key: value for key, value in image.metadata().items() if key not in _OF_A_MODEL}
    if image.error is None:
        known["status"] = "pending"
    known[MARK] = (TWIN_PLACED if twin else PLACED) if picture is None else TWIN if twin else HELD
    made = _document(image, image.twin_id if twin else image.id, "", known, extra_info or {})
    made.image_resource = picture
    return made


def node_of(reading: Reading, node: BaseNode, pending: Pending) -> BaseNode:
    """A reading as a node in place of the one that stood for its picture.

    The node's own metadata and text are kept, and so is its source; where it has none, it is the source itself, so
    that stores find what was made of it when its picture has changed. A failure without a text is still pending: it
    keeps the picture, too.
    """
    failed = not reading.ok and not reading.content
    if pending.kind == OTHERS:
        return _of_others(reading, node, pending, failed=failed)
    known: dict[str, Any] = {**reading.metadata(), **({MARK: pending.mark} if failed else {})}
    given = {key: value for key, value in node.metadata.items() if key not in _OWN}
    fields = {"id_": reading.twin_id if pending.is_twin else reading.id, **_kept(node, known, given, reading)}
    if failed:
        picture = getattr(node, "image_resource", None)
        return Document(text_resource=MediaResource(text=""), image_resource=picture, **fields)
    return TextNode(text=reading.content, **fields)


def _of_others(reading: Reading, node: BaseNode, pending: Pending, *, failed: bool) -> BaseNode:
    """The same for a node that others have made; what it says of itself stands."""
    given = dict(node.metadata)
    if MARK in given:  # it has failed before
        given = {key: value for key, value in given.items() if key not in _OF_A_FAILURE}
    id_ = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{pending.node_id}\n{reading.page}\n{reading.task}"))
    if failed:
        known: dict[str, Any] = {"status": reading.status, "error": str(reading.error)}
        known[MARK] = Pending(kind=OTHERS, page=reading.page, node_id=pending.node_id).mark
        return node.model_copy(update={"id_": id_, **_kept(node, known, given)})
    known = dict(reading.metadata())
    known |= {key: given[key] for key in _SHOWN & given.keys()}
    text = "\n\n".join(part for part in (node.get_content(MetadataMode.NONE), reading.content) if part)
    return TextNode(id_=id_, text=text, **_kept(node, known, given, reading))


def _kept(
    node: BaseNode, known: Mapping[str, Any], given: Mapping[str, Any], reading: Reading | None = None
) -> dict[str, Any]:
    """The fields of a node that takes another one's place; without a reading that of a failure."""
    metadata, own = _metadata(known, given, reading)
    return {
        "metadata": metadata,
        "excluded_embed_metadata_keys": _hidden(node.excluded_embed_metadata_keys, own),
        "excluded_llm_metadata_keys": _hidden(node.excluded_llm_metadata_keys, own),
        "relationships": {NodeRelationship.SOURCE: node.source_node or node.as_related_node_info()},
    }


def _document(reading: Reading, id_: str, text: str, known: Mapping[str, Any], given: Mapping[str, Any]) -> Document:
    metadata, own = _metadata(known, given, reading)
    return Document(
        id_=id_,
        # Not text="", which LlamaIndex takes for no text: such Documents would all have one key in its caches.
        text_resource=MediaResource(text=text),
        metadata=metadata,
        excluded_embed_metadata_keys=_hidden((), own),
        excluded_llm_metadata_keys=_hidden((), own),
    )


def _metadata(
    known: Mapping[str, Any], given: Mapping[str, Any], reading: Reading | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """All metadata: what was given, what is known of the picture, the scalars of the data; and the last two alone.

    A name that readings use is theirs also where this one does not, so that what is given has the same name on every
    run, whatever becomes of the picture, and in one step as in two.
    """
    names = _OF_A_FAILURE if reading is None else _OWN
    in_the_way = [name for name, value in given.items() if name in names and known.get(name, _Nothing) != value]
    others = {name: value for name, value in given.items() if name not in in_the_way}
    taken = {*_OWN, *others}
    for name in in_the_way:
        others[_free(f"extra_{name}", "extra_", taken)] = given[name]
    data = {} if reading is None else {_free(n, "data_", taken): value for n, value in reading.fields().items()}
    own = {**known, **data}
    return {**others, **own}, own


def _free(name: str, prefix: str, taken: set[str]) -> str:
    """The name, prefixed until it is nobody else's; then it is taken."""
    while name in taken:
        name = f"{prefix}{name}"
    taken.add(name)
    return name


class _Nothing:
    """What no metadata are equal to."""


def _hidden(before: Iterable[str], known: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([*before, *(key for key in known if key not in _SHOWN)]))
