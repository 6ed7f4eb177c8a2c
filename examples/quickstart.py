"""A folder of images becomes an index that answers questions, in LangChain and in LlamaIndex.

With `AIFS_API_KEY` set it reads the images through AI Foundation Services; without, through the emulator, which runs on
this machine and needs no network. `make demo` runs it.
"""

from __future__ import annotations

import os
import textwrap
from contextlib import ExitStack
from pathlib import Path

from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core import VectorStoreIndex

from aifs_vision import AIFSError
from aifs_vision.emulator import Emulator
from langchain_aifs import AIFSEmbeddings, AIFSImageLoader
from llama_index_aifs import AIFSEmbedding, AIFSImageReader

IMAGES = Path(__file__).parent / "images"


def main() -> None:
    """Reads the example images once with each framework and asks each index a question."""
    with ExitStack() as stack:
        if os.environ.get("AIFS_API_KEY"):
            where = os.environ.get("AIFS_BASE_URL", "AI Foundation Services, at its prices")
            print(f"AIFS_API_KEY is set: the images are read by {where}.")
        else:
            server = stack.enter_context(Emulator())
            os.environ.update(AIFS_BASE_URL=server.base_url, AIFS_API_KEY=server.api_key)
            print("AIFS_API_KEY is not set: the images are read by the emulator, on this machine, at no cost.")
        try:
            with_langchain()
            with_llama_index()
        except AIFSError as error:
            raise SystemExit(f"{type(error).__name__}: {error}") from error


def with_langchain() -> None:
    """Loader -> Documents -> LangChain's in-memory vector store -> a hit."""
    print("\nLangChain: AIFSImageLoader")
    documents = []
    for document in AIFSImageLoader(IMAGES, task="ocr").lazy_load():
        show(document.metadata, document.page_content)
        documents.append(document)
    store = InMemoryVectorStore(AIFSEmbeddings())
    store.add_documents([document for document in documents if document.page_content])
    question = "What was paid at the Dry Anchor canteen?"
    hit = store.similarity_search(question, k=1)[0]
    show_hit(question, hit.metadata, hit.page_content, answer="TOTAL")


def with_llama_index() -> None:
    """Reader -> Documents -> LlamaIndex's vector store index -> a hit."""
    print("\nLlamaIndex: AIFSImageReader")
    documents = []
    for document in AIFSImageReader(task="ocr").lazy_load_data(IMAGES):
        show(document.metadata, document.text)
        documents.append(document)
    with_text = [document for document in documents if document.text]
    index = VectorStoreIndex.from_documents(with_text, embed_model=AIFSEmbedding())
    question = "Was kostet das Gehäuse mit Öldichtung?"
    hit = index.as_retriever(similarity_top_k=1).retrieve(question)[0]
    show_hit(question, hit.metadata, hit.text, answer="Gehäuse mit")


def show(metadata: dict[str, object], text: str) -> None:
    """One line for an image: its name, page, status and the beginning of its text."""
    page = f"{metadata['page']}/{metadata['total_pages']}"
    print(
        f"  {name_of(metadata):<12} {page:>4}  {metadata['status']:<6} {textwrap.shorten(text, 70, placeholder=' ...')}"
    )


def show_hit(question: str, metadata: dict[str, object], text: str, *, answer: str) -> None:
    """The question, where its answer stands, and the line that has it."""
    print(f"  Question: {question}")
    print(f"  Found in: {name_of(metadata)}, page {metadata['page']}  ({metadata['source']})")
    for line in text.splitlines():
        if answer in line:
            print(f"  Its text: {line}")


def name_of(metadata: dict[str, object]) -> str:
    """The name of the file an image came from."""
    return Path(str(metadata["source"])).name


if __name__ == "__main__":
    main()
