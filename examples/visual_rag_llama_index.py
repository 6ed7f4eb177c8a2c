"""From images to an answer that looks at them: caption, text and typed fields in Chroma, the pixels for the model.

One process fills a vector store on disk and ends; the next one finds what was read in it, by its words and by the value
of a field, and shows the model the pictures that it was read from. Then the same with the service's own vector stores.
With `AIFS_API_KEY` set the service answers; without, the emulator on this machine. It needs `pip install llama-index-
vector-stores-chroma`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import Any

import chromadb
from chromadb.config import Settings
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters
from llama_index.vector_stores.chroma import ChromaVectorStore
from pydantic import BaseModel

from aifs_vision import AIFSError, AIFSVisualRAGStore, Task
from aifs_vision.emulator import Emulator
from llama_index_aifs import AIFS, AIFSEmbedding, AIFSImageReader, AIFSVisualRAGRetriever, AttachImages

IMAGES = Path(__file__).parent / "images"
QUESTION = "Who buys tide clocks, and which colours has the graphic?"
MOST = 1_000  # EUR


class Bill(BaseModel):
    """What is looked up by its value, and not by words."""

    total: float | None = None


FIELDS = Task.extract(Bill)


def main() -> None:
    """Starts a process that fills the store, then asks it, and the service's own, a question."""
    with ExitStack() as stack:
        if os.environ.get("AIFS_API_KEY"):
            print("AIFS_API_KEY is set: the service answers, at its prices.", flush=True)
        else:
            server = stack.enter_context(Emulator())
            os.environ.update(AIFS_BASE_URL=server.base_url, AIFS_API_KEY=server.api_key)
            print("AIFS_API_KEY is not set: the emulator answers, on this machine, at no cost.", flush=True)
        folder = stack.enter_context(TemporaryDirectory(ignore_cleanup_errors=True))
        filled = subprocess.run([sys.executable, __file__, folder], check=False)  # noqa: S603 - this file
        if filled.returncode:
            raise SystemExit(filled.returncode)
        ask_chroma(folder)
        ask_visual_rag()


def store_in(folder: str) -> ChromaVectorStore:
    """The vector store on disk; Chroma is told to report to nobody."""
    client = chromadb.PersistentClient(folder, Settings(anonymized_telemetry=False))
    return ChromaVectorStore.from_collection(client.get_or_create_collection("images"))


def fill(folder: str) -> None:
    """Reads each image for its caption, its text and its fields: each of them leads to the picture."""
    storage = StorageContext.from_defaults(vector_store=store_in(folder))
    for task in ("caption", "ocr", FIELDS):  # up to three Documents of one image, side by side
        documents = [
            document
            for document in AIFSImageReader(task=task).load_data(IMAGES)
            if says(document.text, document.metadata)
        ]
        VectorStoreIndex.from_documents(documents, storage_context=storage, embed_model=AIFSEmbedding())
        print(f"Process {os.getpid()} stores {len(documents)} Documents of the task {documents[0].metadata['task']!r}.")


def says(text: str, metadata: dict[str, Any]) -> bool:
    """Whether there is anything to index: a text, or a field that is filled, which stands in the metadata as well."""
    return any(name in metadata for name in Bill.model_fields) if metadata["task"] == FIELDS.name else bool(text)


def ask_chroma(folder: str) -> None:
    """What was found as text is answered from the picture."""
    index = VectorStoreIndex.from_vector_store(store_in(folder), embed_model=AIFSEmbedding())
    above = MetadataFilters(filters=[MetadataFilter(key="total", operator=FilterOperator.GT, value=MOST)])
    for found in index.as_retriever(filters=above).retrieve("bill"):
        print(f"More than {MOST} EUR: {Path(found.metadata['source']).name}, {found.metadata['total']}")
    engine = RetrieverQueryEngine.from_args(
        index.as_retriever(similarity_top_k=2),
        llm=AIFS(),
        multimodal=True,
        node_postprocessors=[AttachImages(roots=[IMAGES])],
    )
    print(f"Process {os.getpid()} asks: {QUESTION}")
    answer = engine.query(QUESTION)
    for number, found in enumerate(answer.source_nodes, start=1):
        name, page, task = (found.metadata[key] for key in ("source", "page", "task"))
        print(f"  [{number}] {Path(name).name}, page {page}: {task}")
    print(f"Answer: {shorten(str(answer), 140)}")


def ask_visual_rag() -> None:
    """The service's own vector stores: it reads the files, and gives back passages and pictures of pages."""
    store = AIFSVisualRAGStore("aifs-vision example")
    store.add([IMAGES / "chart.png", IMAGES / "report.png"])
    try:
        retriever = AIFSVisualRAGRetriever(store, k=2, k_images=1)
        answer = RetrieverQueryEngine.from_args(retriever, llm=AIFS(), multimodal=True).query(QUESTION)
        for found in answer.source_nodes:
            print(f"  Visual RAG: {found.metadata['filename']}, {found.metadata['modality']}")
        print(f"Answer: {shorten(str(answer), 140)}")
    finally:
        store.drop()


if __name__ == "__main__":
    try:
        if sys.argv[1:]:
            fill(sys.argv[1])
        else:
            main()
    except AIFSError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error
