"""`AIFSVisualRAGRetriever`: passages and page pictures out of the service's Visual RAG, as nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import ImageNode, NodeWithScore, TextNode

from aifs_vision import hit_content, visual_store

if TYPE_CHECKING:
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.schema import QueryBundle

    from aifs_vision import AIFSVisualRAGStore, VisualHit

__all__ = ["AIFSVisualRAGRetriever"]

_HIDDEN = ["modality", "score", "store"]  # neither embedded nor shown to the LLM, which cites filename and page


class AIFSVisualRAGRetriever(BaseRetriever):
    """What a store of the service's Visual RAG finds: passages of text and pictures of pages.

        retriever = AIFSVisualRAGRetriever("manuals", k=4, k_images=2)     # the key is in AIFS_API_KEY
        engine = RetrieverQueryEngine.from_args(retriever, llm=AIFS(), multimodal=True)
        print(engine.query("How is the float changed?"))

    A node has the id of its `aifs_vision.VisualHit`, the same whenever the same thing is found again, and in its
    metadata `filename`, `page`, `score`, `modality` ("text" or "image") and `store`: texts first, then pictures, each
    kind with the best first. Of these the LLM is shown `filename` and `page`, to cite them. A passage is a TextNode,
    a picture an ImageNode whose text names it. The files come into the store by `AIFSVisualRAGStore.add`.

    Args:
        store: the name of the store, or an `AIFSVisualRAGStore`.
        k: passages of text, at most.
        k_images: pictures of pages, at most.
        callback_manager, verbose: as for every retriever of LlamaIndex.
        store_options: of a store that is given by its name, as for `AIFSVisualRAGStore`: api_key, base_url,
            residency, limits, timeout, ...

    Raises:
        SettingsError: no key, or a setting that cannot be right.
        ResidencyError: a region of one of the models is unknown or not allowed.
        TypeError: an unknown argument, or options beside an `AIFSVisualRAGStore`.
    """

    def __init__(
        self,
        store: str | AIFSVisualRAGStore,
        *,
        k: int = 4,
        k_images: int = 0,
        callback_manager: CallbackManager | None = None,
        verbose: bool = False,
        **store_options: Any,
    ) -> None:
        self.store = visual_store(store, **store_options)
        self.k, self.k_images = k, k_images
        super().__init__(callback_manager=callback_manager, verbose=verbose)

    def __repr__(self) -> str:
        return f"AIFSVisualRAGRetriever({self.store!r}, k={self.k!r}, k_images={self.k_images!r})"

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        hits = self.store.search(query_bundle.query_str, k=self.k, k_images=self.k_images)
        return [_found(hit) for hit in hits]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        hits = await self.store.asearch(query_bundle.query_str, k=self.k, k_images=self.k_images)
        return [_found(hit) for hit in hits]


def _found(hit: VisualHit) -> NodeWithScore:
    fields: dict[str, Any] = {
        "id_": hit.id,
        "text": hit_content(hit),
        "metadata": {**hit.metadata()},
        "excluded_embed_metadata_keys": list(_HIDDEN),
        "excluded_llm_metadata_keys": list(_HIDDEN),
    }
    return NodeWithScore(
        node=TextNode(**fields) if hit.image_url is None else _picture(hit.image_url, fields), score=hit.score
    )


def _picture(url: str, fields: dict[str, Any]) -> ImageNode:
    """A node with the picture; LlamaIndex keeps bytes as base64, and their type beside them."""
    if not url.startswith("data:"):
        return ImageNode(image_url=url, **fields)
    label, _, data = url.removeprefix("data:").partition(",")
    return ImageNode(image=data, image_mimetype=label.partition(";")[0], **fields)
