"""`AIFSVisualRAGRetriever`: passages and page pictures out of the service's Visual RAG, as Documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from aifs_vision import AIFSVisualRAGStore, hit_content, visual_store

if TYPE_CHECKING:
    from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun

    from aifs_vision import VisualHit

__all__ = ["AIFSVisualRAGRetriever"]


class AIFSVisualRAGRetriever(BaseRetriever):
    """What a store of the service's Visual RAG finds: passages of text and pictures of pages.

        retriever = AIFSVisualRAGRetriever("manuals", k=4, k_images=2)     # the key is in AIFS_API_KEY
        documents = retriever.invoke("How is the float changed?")
        answer = ChatAIFS().invoke([attach_images(documents, "How is the float changed?")])

    A Document has the id of its `aifs_vision.VisualHit`, the same whenever the same thing is found again, and in its
    metadata `filename`, `page`, `score`, `modality` ("text" or "image") and `store`: texts first, then pictures, each
    kind with the best first. A picture's content names it, so that chains that know only of texts can cite it, and
    the picture stands as a data URI under `image_url` in its metadata: `attach_images` shows it to a model. The files
    come into the store by `AIFSVisualRAGStore.add`.

    Args:
        store: the name of the store, or an `AIFSVisualRAGStore`.
        k: passages of text, at most; `invoke(question, k=...)` is for one question.
        k_images: pictures of pages, at most; `invoke(question, k_images=...)` likewise.
        name, tags, metadata: as for every retriever of LangChain.
        store_options: of a store that is given by its name, as for `AIFSVisualRAGStore`: api_key, base_url,
            residency, limits, timeout, ...

    Raises:
        SettingsError: no key, or a setting that cannot be right.
        ResidencyError: a region of one of the models is unknown or not allowed.
        TypeError: an unknown argument, or options beside an `AIFSVisualRAGStore`.
    """

    store: AIFSVisualRAGStore
    k: int = 4
    k_images: int = 0

    def __init__(
        self,
        store: str | AIFSVisualRAGStore,
        *,
        k: int = 4,
        k_images: int = 0,
        name: str | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **store_options: Any,
    ) -> None:
        fields: dict[str, Any] = {"store": visual_store(store, **store_options), "k": k, "k_images": k_images}
        super().__init__(name=name, tags=tags, metadata=metadata, **fields)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002 - LangChain wants the parameter
        k: int | None = None,
        k_images: int | None = None,
    ) -> list[Document]:
        return [_document(hit) for hit in self.store.search(query, **self._numbers(k, k_images))]

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,  # noqa: ARG002 - as above
        k: int | None = None,
        k_images: int | None = None,
    ) -> list[Document]:
        return [_document(hit) for hit in await self.store.asearch(query, **self._numbers(k, k_images))]

    def _numbers(self, k: int | None, k_images: int | None) -> dict[str, int]:
        """How many hits of each kind are asked for, by this question or else by all."""
        return {"k": self.k if k is None else k, "k_images": self.k_images if k_images is None else k_images}


def _document(hit: VisualHit) -> Document:
    metadata: dict[str, Any] = {**hit.metadata()}
    if hit.image_url is not None:
        metadata["image_url"] = hit.image_url
    return Document(id=hit.id, page_content=hit_content(hit), metadata=metadata)
