"""`AttachImages`: from retrieved texts back to their pictures."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MediaResource, MetadataMode, Node, NodeWithScore

from aifs_vision import Originals
from llama_index_aifs._held import held_picture

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from fsspec import AbstractFileSystem
    from llama_index.core.schema import BaseNode, QueryBundle

    from aifs_vision import Frames, ImageLimits, ImageSize, Original, PreparedImage

__all__ = ["AttachImages"]

logger = logging.getLogger("llama_index_aifs")

_SKIPPED = "image_skipped"  # the metadata of a node whose picture is not shown, and why


class AttachImages(BaseNodePostprocessor):
    """Puts the pictures back to the texts that were read from them, for a model to look at once more.

        engine = RetrieverQueryEngine.from_args(
            index.as_retriever(), llm=AIFS(), multimodal=True, node_postprocessors=[AttachImages(roots=["scans/"])]
        )

    A node with the metadata of a reading (`source`, `page`, `image_sha256`), as `AIFSImageReader` and `ImageToText`
    make it, becomes a `Node` with the same id, text and metadata, and the picture: upright, shrunk to what the model
    sees, in a format it takes; of a PDF, TIFF or video the page or frame that was read. The best-ranked nodes get
    theirs first, and a picture is shown once, with the first of its texts. The bytes live as long as the query:
    LlamaIndex does not store them.

    Only files below `roots` are opened, whatever the metadata say; symbolic links are followed before that is
    decided, on the local file system; another one, and one that wraps the local one, follows them by itself. A
    picture that is outside, missing, changed since it was read, unreadable, or more than the budget allows
    stays out: its node is passed on as text, with the reason as "image_skipped" in its metadata and in the log.
    Pictures that were given as bytes or URL have no file, and stay out, too.

    Args:
        roots: the folders below which files may be opened.
        model: the model that is to see the pictures.
        max_images: pictures a query.
        max_pixels, max_tokens: of all pictures of a query, as they are sent; None for no such bound.
        size: "auto", "original", or px of the longer side.
        frames: the setting that videos and animations were read with.
        fs: the fsspec file system that the files are on; None for the local one.
        image_limits: how large files may be that are opened.

    Raises:
        SettingsError: no roots, a root that is no folder, a model that takes no images, or a bound below 1.
    """

    _originals: Originals = PrivateAttr()

    def __init__(
        self,
        roots: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
        *,
        model: str = "Qwen3-VL-30B-A3B-Instruct-FP8",
        max_images: int = 8,
        max_pixels: int | None = None,
        max_tokens: int | None = None,
        size: ImageSize = "auto",
        frames: Frames = "auto",
        fs: AbstractFileSystem | None = None,
        image_limits: ImageLimits | None = None,
    ) -> None:
        super().__init__()
        self._originals = Originals(
            roots,
            model=model,
            max_images=max_images,
            max_pixels=max_pixels,
            max_tokens=max_tokens,
            size=size,
            frames=frames,
            fs=fs,
            image_limits=image_limits,
        )

    @classmethod
    def class_name(cls) -> str:
        """The name in serialised form."""
        return "AttachImages"

    def _postprocess_nodes(
        self,
        nodes: list[NodeWithScore],
        query_bundle: QueryBundle | None = None,  # noqa: ARG002 - whatever the question is
    ) -> list[NodeWithScore]:
        originals = self._originals.of(found.node.metadata for found in nodes)
        return [
            NodeWithScore(node=_attached(found.node, original), score=found.score)
            for found, original in zip(nodes, originals, strict=True)
        ]


def _attached(node: BaseNode, original: Original | None) -> BaseNode:
    """The node with its picture; as it is where there is none, or where another node has it."""
    if original is None:
        return node
    if original.image is not None:
        return _with(node, original.image)
    return node if original.skipped is None else _without(node, original.skipped)


def _with(node: BaseNode, image: PreparedImage) -> Node:
    picture = held_picture(image.data)
    picture.mimetype = image.mime_type
    fields: dict[str, Any] = {
        "id_": node.id_,
        "text_resource": MediaResource(text=node.get_content(MetadataMode.NONE)),
        "image_resource": picture,
    }
    kept = ("metadata", "excluded_embed_metadata_keys", "excluded_llm_metadata_keys", "relationships")
    return Node(**fields, **{name: getattr(node, name) for name in kept})


def _without(node: BaseNode, reason: str) -> BaseNode:
    """A copy of the node that says why it has no picture: the node itself may be the store's own."""
    logger.warning("no picture is shown: %s", reason)
    return node.model_copy(
        update={
            "metadata": {**node.metadata, _SKIPPED: reason},
            "excluded_embed_metadata_keys": [*node.excluded_embed_metadata_keys, _SKIPPED],
            "excluded_llm_metadata_keys": [*node.excluded_llm_metadata_keys, _SKIPPED],
        }
    )
