"""`AIFSVisualRAGRetriever` in LangChain: the service's Visual RAG as a retriever."""

from __future__ import annotations

import asyncio
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from langchain_core.documents import Document
from langchain_core.load import dumpd
from langchain_core.runnables import ConfigurableField
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import RetrieversIntegrationTests

from aifs_vision import AIFSVisualRAGStore, NotFoundError, ResidencyError, SettingsError
from aifs_vision.emulator import Emulator
from langchain_aifs import AIFSEmbeddings, AIFSVisualRAGRetriever, ChatAIFS, attach_images
from tests.media import pdf
from tests.office import docx, html, pptx
from tests.pictures import corner_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aifs_vision.emulator import ChatRequest

CLOCK = "Upkeep of the tide clock came to 4,316 pounds in its first year."
FLOAT = "Mussels grew on the chain of the float, which is made of cork."
FERRY = "The ferry to Merrowhaven leaves at noon, but never on Sundays."


def page(text: str) -> str:
    """The content of a page of a PDF with this text."""
    return f"BT /F1 8 Tf 10 60 Td ({text}) Tj ET"


@pytest.fixture
def store(environment: None, server: Emulator) -> Iterator[AIFSVisualRAGStore]:  # noqa: ARG001 - sets the address
    """A store with a PDF of three pages in it; what was asked to fill it is forgotten."""
    made = AIFSVisualRAGStore(f"store {uuid4().hex[:6]}")
    made.add(("harbour.pdf", pdf(page(CLOCK), page(FLOAT), page(FERRY), width=400)))
    server.clear()
    yield made
    made.drop()


class TestRetrieverStandard(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _store(self, store: AIFSVisualRAGStore) -> None:
        self.store = store

    @property
    def retriever_constructor(self) -> type[AIFSVisualRAGRetriever]:
        """What LangChain's own tests try."""
        return AIFSVisualRAGRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        """The store, by its name."""
        return {"store": self.store.name}

    @property
    def retriever_query_example(self) -> str:
        """A question with three passages."""
        return "What came of the float?"


def test_texts_and_pictures(store: AIFSVisualRAGStore) -> None:
    """Hits are Documents, texts before pictures, with filename, page, score, modality and store of the core's hits."""
    found = AIFSVisualRAGRetriever(store.name, k=2, k_images=1).invoke("the float of cork")
    hits = store.search("the float of cork", k=2, k_images=1)
    assert [document.id for document in found] == [hit.id for hit in hits]
    assert [document.metadata["modality"] for document in found] == ["text", "text", "image"]
    text, _, picture = found
    assert text.page_content == FLOAT
    assert text.metadata == {
        "filename": "harbour.pdf",
        "page": 2,
        "score": hits[0].score,
        "modality": "text",
        "store": store.name,
    }
    assert picture.metadata == {**hits[2].metadata(), "image_url": hits[2].image_url}
    assert picture.page_content == f"Picture of page {hits[2].page} of harbour.pdf"


def test_ids_are_the_same_whatever_is_asked(store: AIFSVisualRAGStore) -> None:
    """A passage or picture has the same id in the answer to another question, and from another retriever."""
    one = AIFSVisualRAGRetriever(store, k=3, k_images=3).invoke("the tide clock")
    other = AIFSVisualRAGRetriever(store.name, k=3, k_images=3).invoke("When does the ferry leave?")
    assert {document.id for document in one} == {document.id for document in other}
    assert len({document.id for document in one}) == 6
    assert len({document.page_content for document in one}) == 6  # by which LangChain's ensembles tell them apart


def test_sync_and_async_are_alike(store: AIFSVisualRAGStore) -> None:
    """`ainvoke` gives what `invoke` gives, in any number of loops, and side by side in one of them."""
    retriever = AIFSVisualRAGRetriever(store, k_images=1)
    expected = retriever.invoke("the ferry")

    async def several() -> list[list[Document]]:
        return list(await asyncio.gather(*(retriever.ainvoke("the ferry") for _ in range(5))))

    assert [asyncio.run(several()) for _ in range(2)] == [[expected] * 5] * 2
    assert retriever.batch(["the ferry"] * 2) == [expected] * 2


class NoThreads(ThreadPoolExecutor):
    """The threads of an event loop that has none: whoever wants one gets an error."""

    def submit(self, *_: Any, **__: Any) -> Any:
        """Refuses whatever is to be done in a thread."""
        raise AssertionError("a thread of the caller's loop is wanted")


def test_asynchronous_calls_take_no_thread(store: AIFSVisualRAGStore) -> None:
    """`ainvoke` is awaited and no synchronous call in a thread, so that any number of them can be under way."""
    retriever = AIFSVisualRAGRetriever(store, k_images=1)

    async def without_threads() -> list[list[Document]]:
        asyncio.get_running_loop().set_default_executor(NoThreads())
        return list(await asyncio.gather(*(retriever.ainvoke("the ferry") for _ in range(3))))

    assert asyncio.run(without_threads()) == [retriever.invoke("the ferry")] * 3


def test_pictures_of_pages_of_every_format(store: AIFSVisualRAGStore) -> None:
    """Pages of DOCX, PPTX and HTML are found as pictures, too, with file name and page, and can be shown to a model."""
    store.add(
        [("a.docx", docx("gulls", FLOAT)), ("b.pptx", pptx("gulls", FLOAT)), ("c.html", html(f"{FLOAT} Really."))]
    )
    found = AIFSVisualRAGRetriever(store, k=0, k_images=4).invoke("What is the float made of?")
    assert {(document.metadata["filename"], document.metadata["page"]) for document in found} == {
        ("harbour.pdf", 2),
        ("a.docx", 2),
        ("b.pptx", 2),
        ("c.html", 1),
    }
    message = attach_images(found, "What is the float made of?")
    assert [block["type"] for block in message.content_blocks].count("image") == 4


def test_only_what_is_set_is_asked_for(server: Emulator, store: AIFSVisualRAGStore) -> None:
    """A number of 0 is not sent; one given to `invoke` is for that question alone."""
    retriever = AIFSVisualRAGRetriever(store)
    retriever.invoke("clock")
    retriever.invoke("clock", k=0, k_images=2)
    retriever.invoke("clock")
    asyncio.run(retriever.ainvoke("clock", k=1, k_images=1))
    bodies = [request.body for request in server.requests if request.path.endswith("/search")]
    assert bodies == [
        {"query": "clock", "top_k_texts": 4},
        {"query": "clock", "top_k_images": 2},
        {"query": "clock", "top_k_texts": 4},
        {"query": "clock", "top_k_texts": 1, "top_k_images": 1},
    ]


def test_numbers_can_be_configured(store: AIFSVisualRAGStore) -> None:
    """`configurable_fields` sets another number for a call, and keeps the store."""
    retriever: Any = AIFSVisualRAGRetriever(store, tags=["a"], name="harbour").configurable_fields(
        k=ConfigurableField(id="k")
    )
    assert len(retriever.with_config(configurable={"k": 1}).invoke("clock")) == 1
    assert len(retriever.invoke("clock")) == 3


def test_wrong_arguments(store: AIFSVisualRAGStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown arguments are a TypeError, at construction and in `invoke`; wrong settings are errors of the project."""
    with pytest.raises(TypeError, match="did you mean 'base_url'"):
        AIFSVisualRAGRetriever("manuals", base_ur="x")
    with pytest.raises(TypeError, match="top_k"):
        AIFSVisualRAGRetriever("manuals", top_k=3)
    with pytest.raises(TypeError, match="not both"):
        AIFSVisualRAGRetriever(store, timeout=3)
    with pytest.raises(TypeError, match="top_k"):
        AIFSVisualRAGRetriever(store).invoke("clock", top_k=3)
    for numbers in ({"k": -1}, {"k": 0}, {"k_images": -1}):
        with pytest.raises(SettingsError, match="not possible"):
            AIFSVisualRAGRetriever(store, **numbers).invoke("clock")  # type: ignore[arg-type]
    with pytest.raises(ResidencyError):
        AIFSVisualRAGRetriever("x", residency="germany", text_embedding_model="text-embedding-ada-002")
    with pytest.raises(NotFoundError, match="no store 'nobody has made it'"):
        AIFSVisualRAGRetriever("nobody has made it").invoke("clock")
    monkeypatch.delenv("AIFS_API_KEY")
    with pytest.raises(SettingsError, match="AIFS_API_KEY"):
        AIFSVisualRAGRetriever("manuals")


def test_the_key_stays_where_it_is(server: Emulator, store: AIFSVisualRAGStore) -> None:
    """The key is not in repr, in LangChain's serialised form or in a pickle; an unpickled one takes it from outside."""
    retriever = AIFSVisualRAGRetriever(store.name, k=1, api_key=server.api_key, base_url=server.base_url)
    dumped = pickle.dumps(retriever)
    for shown in (repr(retriever), str(retriever), json.dumps(dumpd(retriever)), str(dumped)):
        assert server.api_key not in shown
        assert store.name in shown
    again = pickle.loads(dumped)  # noqa: S301 - our own
    assert again.invoke("the ferry") == retriever.invoke("the ferry")


def test_documents_can_be_stored(store: AIFSVisualRAGStore) -> None:
    """Documents go through JSON and a vector store as they are, pictures included."""
    found = AIFSVisualRAGRetriever(store, k=1, k_images=1).invoke("the ferry")
    assert [Document.model_validate_json(document.model_dump_json()) for document in found] == found
    vectors = InMemoryVectorStore(AIFSEmbeddings())
    vectors.add_documents(found)
    assert vectors.get_by_ids([str(document.id) for document in found]) == found


def test_an_answer_from_the_picture_of_a_page(store: AIFSVisualRAGStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chain from a question to an answer: the model is shown the page that was found, and told where it is from."""
    asked: list[ChatRequest] = []

    def reply(request: ChatRequest) -> str:
        asked.append(request)
        return "At noon [2]."

    store.add(("flags.pdf", pdf("1 0 0 rg 0 60 80 40 re f", width=200)))
    question = "a picture, red and white"
    found = AIFSVisualRAGRetriever(store, k=1, k_images=2).invoke(question)
    with Emulator(ocr=False, reply=reply) as looking:
        monkeypatch.setenv("AIFS_BASE_URL", looking.base_url)
        monkeypatch.setenv("AIFS_API_KEY", looking.api_key)
        answer = ChatAIFS().invoke([attach_images(found, question)])
    assert answer.text == "At noon [2]."
    (request,) = asked
    pictures = {
        document.metadata["filename"]: picture.picture
        for document, picture in zip(found[1:], request.images, strict=True)
    }
    flag = pictures["flags.pdf"]
    assert flag is not None
    assert corner_names(flag)[0] == "red"
    assert "[2] " in request.prompt
    assert "flags.pdf, page 1" in request.prompt
