"""`AttachImages`: from retrieved texts back to their pictures."""

from __future__ import annotations

import base64
import hashlib
import logging
from typing import TYPE_CHECKING, Any

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MediaResource, MetadataMode, Node, NodeWithScore

from aifs_vision import (
    ImageError,
    ImageLimits,
    SettingsError,
    SourcePages,
    image_tokens,
    model_card,
    prepare_images,
    survey_images,
)
from llama_index_aifs._nodes import page_of
from llama_index_aifs._roots import Roots

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from fsspec import AbstractFileSystem
    from llama_index.core.schema import BaseNode, QueryBundle

    from aifs_vision import Frames, ImageSize, ModelCard, PreparedImage

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
    decided. A picture that is outside, missing, changed since it was read, unreadable, or more than the budget allows
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

    _card: ModelCard = PrivateAttr()
    _roots: Roots = PrivateAttr()
    _budget: dict[str, int | None] = PrivateAttr()
    _how: dict[str, Any] = PrivateAttr()

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
        self._budget = {"max_images": max_images, "max_pixels": max_pixels, "max_tokens": max_tokens}
        for name, most in self._budget.items():
            if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
                raise SettingsError.bad_number(name, most, "it is a whole number of at least 1")
        self._card = model_card(model)
        self._how = {"size": size, "frames": frames, "image_limits": image_limits}
        survey_images((), frames=frames, image_limits=image_limits)  # opens nothing: wrong arguments show now
        prepare_images("https://127.0.0.1/", self._card, **self._how)  # nor does this: URLs are passed on
        self._roots = Roots(roots, fs, image_limits or ImageLimits())

    @classmethod
    def class_name(cls) -> str:
        """The name in serialised form."""
        return "AttachImages"

    def _postprocess_nodes(
        self,
        nodes: list[NodeWithScore],
        query_bundle: QueryBundle | None = None,  # noqa: ARG002 - whatever the question is
    ) -> list[NodeWithScore]:
        spent = _Spent(self._budget, self._card)
        seen: set[tuple[str, int]] = set()
        return [NodeWithScore(node=self._attached(found.node, seen, spent), score=found.score) for found in nodes]

    def _attached(self, node: BaseNode, seen: set[tuple[str, int]], spent: _Spent) -> BaseNode:
        """The node with its picture; as it is where there is none, or where another node has it."""
        source, digest, page = node.metadata.get("source"), node.metadata.get("image_sha256"), page_of(node.metadata)
        if not isinstance(source, str) or page is None or "status" not in node.metadata:
            return node
        if not isinstance(digest, str):
            return _without(node, f"{source}: its bytes have never been here, so nobody knows whether it has changed")
        if (digest, page) in seen:
            return node
        seen.add((digest, page))
        try:
            image = self._image(source, page, digest)
        except ImageError as error:
            return _without(node, str(error))
        if (bound := spent.bound_for(image)) is not None:
            return _without(node, f"{source}: the pictures before it leave too little of {bound}")
        return _with(node, image)

    def _image(self, source: str, page: int, digest: str) -> PreparedImage:
        """The page as it was read.

        Raises:
            ImageError: it is not there any more, or may not be opened.
        """
        data = self._roots.read(source)
        if hashlib.sha256(data).hexdigest() != digest:
            raise ImageError(source, "has changed since it was read; read it again, and index what is read")
        (image,) = prepare_images(SourcePages(source=data, pages=(page,)), self._card, **self._how)
        return image


class _Spent:
    """What the pictures of a query have taken of its budget."""

    def __init__(self, budget: Mapping[str, int | None], card: ModelCard) -> None:
        self._budget, self._card = budget, card
        self._so_far = dict.fromkeys(budget, 0)

    def bound_for(self, image: PreparedImage) -> str | None:
        """The bound that one more picture would exceed; None where it may be shown, which counts it."""
        width, height = image.width or 0, image.height or 0
        tokens = image_tokens(self._card, width, height)
        then = {"max_images": 1, "max_pixels": width * height, "max_tokens": tokens}
        then = {name: cost + self._so_far[name] for name, cost in then.items()}
        for name, most in self._budget.items():
            if most is not None and then[name] > most:
                return f"{name}={most}"
        self._so_far = then
        return None


def _with(node: BaseNode, image: PreparedImage) -> Node:
    fields: dict[str, Any] = {
        "id_": node.id_,
        "text_resource": MediaResource(text=node.get_content(MetadataMode.NONE)),
        # LlamaIndex keeps bytes as base64, and takes what looks like it for it.
        "image_resource": MediaResource(data=base64.b64encode(image.data), mimetype=image.mime_type),
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
