"""`AIFSVisualRAGRetriever` in LlamaIndex: the service's Visual RAG as a retriever."""

from __future__ import annotations

import asyncio
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from llama_index.core.base.llms.types import ImageBlock
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import ImageNode, MetadataMode, NodeWithScore, QueryBundle, TextNode

from aifs_vision import AIFSVisualRAGStore, Limits, NotFoundError, ResidencyError, SettingsError
from aifs_vision.emulator import Emulator
from llama_index_aifs import AIFS, AIFSVisualRAGRetriever, AttachImages
from tests.media import pdf
from tests.office import docx, html, pptx
from tests.pictures import corner_names, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


def told(found: list[NodeWithScore]) -> list[Any]:
    """All that is to be equal."""
    return [(node.node.to_dict(), node.score) for node in found]


def test_texts_and_pictures(store: AIFSVisualRAGStore) -> None:
    """Hits are nodes, texts before pictures, with filename, page, score, modality and store of the core's hits."""
    found = AIFSVisualRAGRetriever(store.name, k=2, k_images=1).retrieve("the float of cork")
    hits = store.search("the float of cork", k=2, k_images=1)
    assert [(node.node_id, node.score, node.metadata) for node in found] == [
        (hit.id, hit.score, hit.metadata()) for hit in hits
    ]
    assert [type(node.node) for node in found] == [TextNode, TextNode, ImageNode]
    assert found[0].text == FLOAT
    assert found[2].text == f"Picture of page {hits[2].page} of harbour.pdf"
    picture = found[2].node
    assert isinstance(picture, ImageNode)
    assert picture.image_mimetype == "image/png"
    assert f"data:image/png;base64,{picture.image}" == hits[2].image_url
    assert opened(picture.resolve_image().getvalue()).width > 100  # type: ignore[union-attr]


def test_what_the_model_is_shown(store: AIFSVisualRAGStore) -> None:
    """File name and page are shown, to be cited; scores and names of stores are neither shown nor embedded."""
    for found in AIFSVisualRAGRetriever(store, k=1, k_images=1).retrieve("the float"):
        for mode in (MetadataMode.LLM, MetadataMode.EMBED):
            assert found.node.get_metadata_str(mode).startswith("filename: harbour.pdf\npage: ")
            assert len(found.node.get_metadata_str(mode).splitlines()) == 2


def test_ids_are_the_same_whatever_is_asked(store: AIFSVisualRAGStore) -> None:
    """A passage or picture has the same id in the answer to another question, and from another retriever."""
    one = AIFSVisualRAGRetriever(store, k=3, k_images=3).retrieve("the tide clock")
    other = AIFSVisualRAGRetriever(store.name, k=3, k_images=3).retrieve("When does the ferry leave?")
    assert {node.node_id for node in one} == {node.node_id for node in other}
    assert len({node.node_id for node in one}) == 6


def test_sync_and_async_are_alike(store: AIFSVisualRAGStore) -> None:
    """`aretrieve` gives what `retrieve` gives, in any number of loops, and side by side in one of them."""
    retriever = AIFSVisualRAGRetriever(store, k_images=1)
    expected = told(retriever.retrieve(QueryBundle("the ferry")))

    async def several() -> list[Any]:
        return [told(found) for found in await asyncio.gather(*(retriever.aretrieve("the ferry") for _ in range(5)))]

    assert [asyncio.run(several()) for _ in range(2)] == [[expected] * 5] * 2


class NoThreads(ThreadPoolExecutor):
    """The threads of an event loop that has none: whoever wants one gets an error."""

    def submit(self, *_: Any, **__: Any) -> Any:
        """Refuses whatever is to be done in a thread."""
        raise AssertionError("a thread of the caller's loop is wanted")


def test_asynchronous_calls_take_no_thread(store: AIFSVisualRAGStore) -> None:
    """`aretrieve` is awaited and no synchronous call in a thread, so that any number of them can be under way."""
    retriever = AIFSVisualRAGRetriever(store, k_images=1)

    async def without_threads() -> list[Any]:
        asyncio.get_running_loop().set_default_executor(NoThreads())
        return [told(found) for found in await asyncio.gather(*(retriever.aretrieve("the ferry") for _ in range(3)))]

    assert asyncio.run(without_threads()) == [told(retriever.retrieve("the ferry"))] * 3


def test_pictures_of_pages_of_every_format(store: AIFSVisualRAGStore) -> None:
    """Pages of DOCX, PPTX and HTML are found as pictures, too, with file name and page, and can be shown to a model."""
    store.add(
        [("a.docx", docx("gulls", FLOAT)), ("b.pptx", pptx("gulls", FLOAT)), ("c.html", html(f"{FLOAT} Really."))]
    )
    found = AIFSVisualRAGRetriever(store, k=0, k_images=4).retrieve("What is the float made of?")
    assert {(node.metadata["filename"], node.metadata["page"]) for node in found} == {
        ("harbour.pdf", 2),
        ("a.docx", 2),
        ("b.pptx", 2),
        ("c.html", 1),
    }
    for node in found:
        assert isinstance(node.node, ImageNode)
        assert opened(node.node.resolve_image().getvalue()).width > 400  # type: ignore[union-attr]


def test_a_search_does_not_block_the_loop(store: AIFSVisualRAGStore, server: Emulator) -> None:
    """Others go on while the service thinks."""
    server.fail("slow", seconds=0.3, path="/search")

    async def counted() -> int:
        search = asyncio.ensure_future(AIFSVisualRAGRetriever(store).aretrieve("the ferry"))
        turns = 0
        while not search.done():
            await asyncio.sleep(0.01)
            turns += 1
        assert await search
        return turns

    assert asyncio.run(counted()) > 1


def test_only_what_is_set_is_asked_for(server: Emulator, store: AIFSVisualRAGStore) -> None:
    """A number of 0 is not sent."""
    AIFSVisualRAGRetriever(store).retrieve("clock")
    asyncio.run(AIFSVisualRAGRetriever(store, k=0, k_images=2).aretrieve("clock"))
    bodies = [request.body for request in server.requests if request.path.endswith("/search")]
    assert bodies == [{"query": "clock", "top_k_texts": 4}, {"query": "clock", "top_k_images": 2}]


def test_wrong_arguments(store: AIFSVisualRAGStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown arguments are a TypeError; wrong settings are errors of the project."""
    with pytest.raises(TypeError, match="did you mean 'base_url'"):
        AIFSVisualRAGRetriever("manuals", base_ur="x")
    with pytest.raises(TypeError, match="similarity_top_k"):
        AIFSVisualRAGRetriever("manuals", similarity_top_k=3)
    with pytest.raises(TypeError, match="not both"):
        AIFSVisualRAGRetriever(store, timeout=3)
    for numbers in ({"k": -1}, {"k": 0}, {"k": "4"}, {"k_images": -1}):
        with pytest.raises(SettingsError, match="not possible"):
            AIFSVisualRAGRetriever(store, **numbers).retrieve("clock")
    with pytest.raises(ResidencyError):
        AIFSVisualRAGRetriever("x", residency="germany", text_embedding_model="text-embedding-ada-002")
    with pytest.raises(NotFoundError, match="no store 'nobody has made it'"):
        AIFSVisualRAGRetriever("nobody has made it").retrieve("clock")
    monkeypatch.delenv("AIFS_API_KEY")
    with pytest.raises(SettingsError, match="AIFS_API_KEY"):
        AIFSVisualRAGRetriever("manuals")


def test_the_key_stays_where_it_is(server: Emulator, store: AIFSVisualRAGStore) -> None:
    """The key is not in repr or in a pickle; an unpickled retriever takes it from where it is."""
    retriever = AIFSVisualRAGRetriever(store.name, k=1, api_key=server.api_key, base_url=server.base_url)
    dumped = pickle.dumps(retriever)
    for shown in (repr(retriever), str(retriever), str(dumped)):
        assert server.api_key not in shown
        assert store.name in shown
    again = pickle.loads(dumped)  # noqa: S301 - our own
    assert told(again.retrieve("the ferry")) == told(retriever.retrieve("the ferry"))


def test_nodes_can_be_stored(store: AIFSVisualRAGStore) -> None:
    """Nodes go through JSON as they are, pictures included."""
    text, picture = (node.node for node in AIFSVisualRAGRetriever(store, k=1, k_images=1).retrieve("the ferry"))
    assert TextNode.from_json(text.to_json()).to_dict() == text.to_dict()
    assert ImageNode.from_json(picture.to_json()).to_dict() == picture.to_dict()


def test_a_picture_at_an_address(store: AIFSVisualRAGStore, server: Emulator) -> None:
    """An address that the service gives in place of a picture is passed on, and not fetched to make the node."""
    content = [{"type": "base64", "text": "https://127.0.0.1:9/page.png"}]
    entry = {"filename": "a.pdf", "page_number": 2, "score": 0.5, "content": content}
    store.search("clock")
    server.fail(200, body=json.dumps({"data": [entry]}), path="/search")
    (found,) = AIFSVisualRAGRetriever(store, k=0, k_images=1).retrieve("clock")
    assert isinstance(found.node, ImageNode)
    assert (found.node.image_url, found.node.image) == ("https://127.0.0.1:9/page.png", None)


# -- Answers ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """A service whose model tells what it is shown, and a store in it with a red and a blue page."""

    def reply(asked: ChatRequest) -> str:
        colours = [corner_names(image.picture)[0] for image in asked.images if image.picture is not None]
        return f"{len(colours)} pictures: {', '.join(colours)}"

    with Emulator(ocr=False, reply=reply) as server:
        monkeypatch.setenv("AIFS_BASE_URL", server.base_url)
        monkeypatch.setenv("AIFS_API_KEY", server.api_key)
        red, blue = (pdf(f"{colour} rg 0 60 80 40 re f") for colour in ("1 0 0", "0 0 1"))
        AIFSVisualRAGStore("flags").add([("red.pdf", red), ("blue.pdf", blue)])
        server.clear()
        yield server


@pytest.fixture
def _closed_loop() -> Iterator[None]:
    """LlamaIndex's synchronous engines make an event loop where a thread has none, and leave it open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.mark.usefixtures("_closed_loop")
@pytest.mark.parametrize("calls", ["sync", "async"])
def test_an_answer_from_the_picture_of_a_page(calls: str, looking: Emulator) -> None:
    """A query engine shows the page that was found, tells where it is from, and cites it."""
    engine = RetrieverQueryEngine.from_args(
        AIFSVisualRAGRetriever("flags", k=0, k_images=1), llm=AIFS(limits=Limits()), multimodal=True
    )
    question = "a picture, mainly blue"
    answer: Any = engine.query(question) if calls == "sync" else asyncio.run(engine.aquery(question))
    assert str(answer) == "1 pictures: blue"
    assert [(node.metadata["filename"], node.metadata["page"]) for node in answer.source_nodes] == [("blue.pdf", 1)]
    sent = next(request for request in looking.requests if request.images)
    assert "filename: blue.pdf" in str(sent.body)
    assert len(sent.images) == 1


def test_beside_pictures_of_ones_own(looking: Emulator, tmp_path: Path) -> None:
    """`AttachImages` keeps the pictures of hits, their texts and metadata, so that one engine can have both."""
    assert looking.base_url
    found = AIFSVisualRAGRetriever("flags", k=0, k_images=2).retrieve("a picture")
    after = AttachImages(tmp_path).postprocess_nodes(found)
    for one, other in zip(found, after, strict=True):
        assert (other.node_id, other.score, other.metadata) == (one.node_id, one.score, one.metadata)
        for mode in (MetadataMode.NONE, MetadataMode.LLM):
            assert other.node.get_content(mode) == one.node.get_content(mode)
    blocks = [block for node in after for block in node.node.get_content_blocks(MetadataMode.NONE)]
    images: Any = [block.resolve_image() for block in blocks if isinstance(block, ImageBlock)]
    assert {corner_names(opened(image.read()))[0] for image in images} == {"red", "blue"}
