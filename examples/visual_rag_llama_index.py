"""From images to an answer that looks at them: caption and text of each image in Chroma, its pixels for the model.

One process fills a vector store on disk and ends; the next one finds what was read in it, and shows the model the
pictures that it was read from. Then the same with the service's own vector stores. With `AIFS_API_KEY` set the service
answers; without, the emulator on this machine. It needs `pip install llama-index-vector-stores-chroma`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten

import chromadb
from chromadb.config import Settings
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.vector_stores.chroma import ChromaVectorStore

from aifs_vision import AIFSError, AIFSVisualRAGStore
from aifs_vision.emulator import Emulator
from llama_index_aifs import AIFS, AIFSEmbedding, AIFSImageReader, AIFSVisualRAGRetriever, AttachImages

IMAGES = Path(__file__).parent / "images"
QUESTION = "Who buys tide clocks, and which colours has the graphic?"


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
    """Reads each image twice, for its caption and for its text: both lead to the picture."""
    storage = StorageContext.from_defaults(vector_store=store_in(folder))
    for task in ("caption", "ocr"):
        documents = [document for document in AIFSImageReader(task=task).load_data(IMAGES) if document.text]
        VectorStoreIndex.from_documents(documents, storage_context=storage, embed_model=AIFSEmbedding())
        print(f"Process {os.getpid()} stores {len(documents)} Documents of the task {task!r}.")


def ask_chroma(folder: str) -> None:
    """What was found as text is answered from the picture."""
    index = VectorStoreIndex.from_vector_store(store_in(folder), embed_model=AIFSEmbedding())
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
