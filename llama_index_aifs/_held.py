"""The pictures in nodes: their bytes, or where they are."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from llama_index.core.schema import ImageNode, MediaResource, Node

from aifs_vision import bytes_of_base64

if TYPE_CHECKING:
    from llama_index.core.schema import BaseNode

__all__ = ["HeldPictures", "decoded", "held_picture", "picture_in"]


class HeldPictures:
    """The pictures that nodes hold, each decoded and hashed once: pages of one file share it."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[str | bytes, bytes, str]] = {}  # by identity; what it is of is kept alive

    def of(self, held: str | bytes) -> tuple[bytes, str]:
        """The bytes of a picture, and their SHA-256 in hex."""
        if id(held) not in self._known:
            data = decoded(held)
            self._known[id(held)] = held, data, hashlib.sha256(data).hexdigest()
        return self._known[id(held)][1:]


def picture_in(node: BaseNode) -> tuple[str | bytes | None, str | None]:
    """A node's picture as base64 or data URI, or else the path or URL of it."""
    held: str | bytes | None
    if isinstance(node, ImageNode):
        held, place = node.image, node.image_path or node.image_url
    else:
        resource: MediaResource | None = node.image_resource if isinstance(node, Node) else None
        if resource is None:
            return None, None
        held, place = resource.data, str(resource.path or resource.url or "") or None  # LlamaIndex keeps it as base64
    if held is None and place is not None and _is_data_uri(place):
        return place, None
    return held, place


def held_picture(data: bytes) -> MediaResource:
    """Bytes as LlamaIndex keeps them in a node: as base64; it takes what looks like base64 for it."""
    return MediaResource(data=base64.b64encode(data), mimetype="application/octet-stream")  # it would guess, at length


def decoded(held: str | bytes) -> bytes:
    """The bytes in base64, with a label or without; of what is none the text itself, so that its error says so."""
    text = held if isinstance(held, bytes) else held.encode("utf-8", "surrogatepass")
    coded = text
    if _is_data_uri(held):
        head, _, body = text.partition(b",")
        coded = unquote_to_bytes(body)
        if not head.lower().endswith(b";base64"):
            return coded
    try:
        return bytes_of_base64(coded)
    except ValueError:
        return text


def _is_data_uri(text: str | bytes) -> bool:
    return text[:5].lower() in {"data:", b"data:"}
