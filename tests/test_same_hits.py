"""Both frameworks give the same hits for the same store, and pictures to an index that another process has made."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core import StorageContext, load_index_from_storage
from llama_index.core.query_engine import RetrieverQueryEngine

import langchain_aifs
import llama_index_aifs
from aifs_vision import AIFSVisualRAGStore, Limits
from aifs_vision.emulator import Emulator
from langchain_aifs import AIFSEmbeddings, ChatAIFS, attach_images
from llama_index_aifs import AIFS, AIFSEmbedding, AttachImages
from tests.media import pdf
from tests.pictures import corner_names, corners, saved, tiff

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aifs_vision.emulator import ChatRequest

PAGES = [
    "The tide clock is serviced in March.",
    "The float is made of cork.",
    "The ferry leaves at noon.",
]
QUESTIONS = ["What is the float made of?", "When does the ferry leave?", "März", "a picture"]


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("numbers", [{"k": 3}, {"k": 2, "k_images": 2}, {"k": 0, "k_images": 3}])
def test_the_same_store_gives_the_same_hits(numbers: dict[str, int], server: Emulator) -> None:
    """For the same store and question ids, texts, scores, metadata, pictures and their order are equal."""
    assert server.base_url
    store = AIFSVisualRAGStore(f"store {uuid4().hex[:6]}")
    store.add([(f"{n}.pdf", pdf(f"BT /F1 8 Tf 10 60 Td ({text}) Tj ET", width=400)) for n, text in enumerate(PAGES)])
    chain = langchain_aifs.AIFSVisualRAGRetriever(store.name, **numbers)  # type: ignore[arg-type]
    index = llama_index_aifs.AIFSVisualRAGRetriever(store.name, **numbers)  # type: ignore[arg-type]
    for question in QUESTIONS:
        documents, nodes = chain.invoke(question), index.retrieve(question)
        assert len(documents) == sum(numbers.values())
        assert [
            (document.id, document.page_content, document.metadata["score"], document.metadata)
            for document in documents
        ] == [(node.node_id, node.text, node.score, with_picture(node.node)) for node in nodes]
    store.drop()


def with_picture(node: Any) -> dict[str, Any]:
    """The metadata of a node, with its picture where LangChain's Documents have theirs."""
    if getattr(node, "image", None) is None:
        return dict(node.metadata)
    return {**node.metadata, "image_url": f"data:{node.image_mimetype};base64,{node.image}"}


# -- An index made in one process answers with pictures in another ---------------------------------------------------


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """A service that reads a text which names no colour, and, when it is asked and shown a picture, its colour."""

    def reply(asked: ChatRequest) -> str:
        if "transcribe" in asked.prompt.lower():
            return "Plan of the harbour."
        colours = [corner_names(image.picture)[0] for image in asked.images if image.picture is not None]
        return f"Its corner is {colours[0]}." if colours else "I see no picture."

    with Emulator(ocr=False, reply=reply) as server:
        monkeypatch.setenv("AIFS_BASE_URL", server.base_url)
        monkeypatch.setenv("AIFS_API_KEY", server.api_key)
        yield server


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder with a TIFF whose second page has another colour in its corner."""
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "plan.tif").write_bytes(tiff([corners(), corners(90, 60).rotate(180)]))
    return tmp_path / "scans"


@pytest.fixture
def _closed_loop() -> Iterator[None]:
    """LlamaIndex's synchronous engines make an event loop where a thread has none, and leave it open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


def elsewhere(script: str, *arguments: object) -> None:
    """Runs a script in another process, with the environment of this one."""
    code = inspect.cleandoc(script)
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


QUESTION = "Which colour is the corner?"
CHAIN = """
    import sys
    from langchain_core.vectorstores import InMemoryVectorStore
    from langchain_aifs import AIFSEmbeddings, AIFSImageLoader

    store = InMemoryVectorStore(AIFSEmbeddings())
    store.add_documents(AIFSImageLoader(sys.argv[1], task="ocr").load()[1:])
    store.dump(sys.argv[2])
"""
INDEX = """
    import sys
    from llama_index.core import VectorStoreIndex
    from llama_index_aifs import AIFSEmbedding, AIFSImageReader

    documents = AIFSImageReader(task="ocr").load_data(sys.argv[1])[1:]
    VectorStoreIndex.from_documents(documents, embed_model=AIFSEmbedding()).storage_context.persist(sys.argv[2])
"""


def test_an_index_of_langchain_answers_with_pictures_in_another_process(looking: Emulator, scans: Path) -> None:
    """The page that was read there is found again here, and the answer is only in its pixels."""
    elsewhere(CHAIN, scans, scans.parent / "store.json")
    looking.clear()
    store = InMemoryVectorStore.load(str(scans.parent / "store.json"), AIFSEmbeddings(limits=Limits()))
    found = store.similarity_search(QUESTION, k=1)
    assert (found[0].page_content, found[0].metadata["page"]) == ("Plan of the harbour.", 2)
    answer = ChatAIFS(limits=Limits()).invoke([attach_images(found, QUESTION, roots=[scans])])
    assert answer.text == "Its corner is blue."
    (scans / "plan.tif").write_bytes(saved(corners()))
    answer = ChatAIFS(limits=Limits()).invoke([attach_images(found, QUESTION, roots=[scans])])
    assert answer.text == "I see no picture."


@pytest.mark.usefixtures("_closed_loop")
def test_an_index_of_llama_index_answers_with_pictures_in_another_process(looking: Emulator, scans: Path) -> None:
    """The page that was read there is found again here, and the answer is only in its pixels."""
    elsewhere(INDEX, scans, scans.parent / "index")
    looking.clear()
    index: Any = load_index_from_storage(
        StorageContext.from_defaults(persist_dir=str(scans.parent / "index")),
        embed_model=AIFSEmbedding(limits=Limits()),
    )
    engine: Any = RetrieverQueryEngine.from_args(
        index.as_retriever(similarity_top_k=1),
        llm=AIFS(limits=Limits()),
        multimodal=True,
        node_postprocessors=[AttachImages(roots=[scans])],
    )
    assert str(engine.query(QUESTION)) == "Its corner is blue."
    (scans / "plan.tif").write_bytes(saved(corners()))
    assert str(engine.query(QUESTION)) == "I see no picture."
