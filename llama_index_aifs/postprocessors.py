"""`AttachImages`: from retrieved texts back to their pictures."""

from __future__ import annotations

import base64
import logging
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ImageBlock
from llama_index.core.bridge.pydantic import AnyUrl, PrivateAttr, ValidationError
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import ImageNode, MediaResource, MetadataMode, Node, NodeWithScore

from aifs_vision import Originals
from llama_index_aifs._held import decoded, held_picture, picture_in
from llama_index_aifs._pictures import Picture

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from fsspec import AbstractFileSystem
    from llama_index.core.schema import BaseNode, QueryBundle

    from aifs_vision import Frames, ImageLimits, ImageSize, Original, PreparedImage

__all__ = ["AttachImages"]

logger = logging.getLogger("llama_index_aifs")

_SKIPPED = "image_skipped"  # the metadata of a node whose picture is not shown, and why
_MEDIA = ("image_resource", "video_resource", "audio_resource")
_NOT_LED_TO = "its metadata lead to no picture"
_NO_ADDRESS = "the address of its picture is none"
_NO_PICTURE = "a recording is none; a video's frames are pictures once AIFSImageReader or ImageToText has read it"
_KEPT = (
    "metadata", "excluded_embed_metadata_keys", "excluded_llm_metadata_keys", "relationships", "embedding",
    "metadata_template", "metadata_separator", "text_template",
)  # fmt: skip


class AttachImages(BaseNodePostprocessor):
    """Puts the pictures back to the texts that were read from them, for a model to look at once more.

        engine = RetrieverQueryEngine.from_args(
            index.as_retriever(), llm=AIFS(), multimodal=True, node_postprocessors=[AttachImages(roots=["scans/"])]
        )

    A node with the metadata of a reading (`source`, `page`, `image_sha256`), as `AIFSImageReader` and `ImageToText`
    make it, becomes a `Node` with the same id, text and metadata, and the picture: upright, shrunk to what the model
    sees, in a format it takes; of a PDF, TIFF or video the page or frame that was read. The best-ranked nodes get
    theirs first, and a picture is shown once, with the first of its texts. The bytes live as long as the query:
    LlamaIndex does not store them. Pictures that nodes have with them, such as the pages that `AIFSVisualRAGRetriever`
    finds, are prepared and counted as well; where such a node names a file, it is opened below `roots` alone, and of
    several pages the first is shown. An address is passed on to the service, and not fetched here. Videos and
    recordings in nodes are left out.

    Only files below `roots` are opened, whatever the metadata say; symbolic links are followed before that is
    decided, on the local file system. Another one is asked by its own rules; one that wraps the local one is refused,
    as it would follow links by itself. A picture that is outside, missing, changed since it was read, unreadable, or
    more than the budget allows stays out: its node is passed on as text, with the reason as "image_skipped" in its
    metadata and in the log. Pictures that were given as bytes or URL have no file, and stay out, too.

    Args:
        roots: the folders below which files may be opened.
        model: the model that is to see the pictures.
        max_images: pictures a query, those that nodes have with them included.
        max_pixels, max_tokens: of all pictures of a query, as they are sent; None for no such bound. Of a picture at an
            address nobody here knows the pixels: it counts as one of `max_images`.
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
        originals = self._originals.of(_known(found.node) for found in nodes)
        return [
            NodeWithScore(node=_attached(found.node, original), score=found.score)
            for found, original in zip(nodes, originals, strict=True)
        ]


class _Addressed(Node):
    """A node whose picture is at an address, which is passed on without being looked at here."""

    def get_content_blocks(self, metadata_mode: MetadataMode = MetadataMode.NONE) -> list[Any]:
        """Its blocks; what the address of an ImageBlock leads to LlamaIndex fetches, for prompts and for a count."""
        blocks = super().get_content_blocks(metadata_mode)
        return [Picture(url=block.url) if isinstance(block, ImageBlock) else block for block in blocks]


def _known(node: BaseNode) -> Mapping[str, Any] | str:
    """What leads to a node's picture: the metadata of its reading, the picture that it has with it, or its path."""
    held, place = picture_in(node)
    if (held is None and place is None) or _is_of_reading(node.metadata):
        return node.metadata  # of a reading it is known which page it was read from, and whether that has changed
    if held is None and not str(place).startswith(("http://", "https://")):
        return str(place)
    url = place if held is None else f"data:;base64,{base64.b64encode(decoded(held)).decode()}"
    name = node.metadata.get("filename") or node.metadata.get("source") or node.node_id
    return {"modality": "image", "image_url": url, "filename": name}


def _is_of_reading(metadata: Mapping[str, Any]) -> bool:
    named = (("status", str), ("source", str), ("image_sha256", str), ("page", (int, float)))
    return all(isinstance(metadata.get(name), kind) for name, kind in named)


def _attached(node: BaseNode, original: Original | None) -> BaseNode:
    """The node with its picture; without one where another node has it, or none may be shown."""
    bare, left = _bare(node)
    skipped = left if original is None else original.skipped
    if original is not None and original.image is not None:
        try:
            return _with(node, original.image)
        except ValidationError:
            skipped = f"{node.node_id}: {_NO_ADDRESS}"
    return bare if skipped is None else _without(bare, skipped)


def _with(node: BaseNode, image: PreparedImage | None) -> Node:
    fields: dict[str, Any] = {name: getattr(node, name) for name in _KEPT if hasattr(node, name)}
    kind = Node
    if image is not None and image.url is not None:
        kind, fields["image_resource"] = _Addressed, MediaResource(url=AnyUrl(image.url))
    elif image is not None:
        fields["image_resource"] = held_picture(image.data)
        fields["image_resource"].mimetype = image.mime_type
    return kind(id_=node.id_, text_resource=MediaResource(text=node.get_content(MetadataMode.NONE)), **fields)


def _bare(node: BaseNode) -> tuple[BaseNode, str | None]:
    """The node without what it has with it besides its text, and the reason where that is no picture of its own."""
    if isinstance(node, ImageNode):
        return _with(node, None), f"{node.node_id}: {_NOT_LED_TO}"
    if not isinstance(node, Node) or not any(getattr(node, name) for name in _MEDIA):
        return node, None
    reason = _NOT_LED_TO if node.image_resource else _NO_PICTURE
    return node.model_copy(update=dict.fromkeys(_MEDIA)), f"{node.node_id}: {reason}"


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
