"""Folders of pictures in ingestion pipelines and indexes: pay once, replace what was edited, drop what is gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core import SimpleDirectoryReader, StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.readers.base import ReaderConfig
from llama_index.core.schema import MetadataMode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores import SimpleVectorStore

from aifs_vision import ImageFormatError, Limits
from aifs_vision.emulator import Emulator
from llama_index_aifs import AIFSEmbedding, AIFSImageReader, ImageToText
from tests.media import pdf
from tests.pictures import corner_names, corners, saved, tiff

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aifs_vision.emulator import ChatRequest

ABOUT = {
    "red": "A lighthouse on a cliff above the sea.",
    "blue": "An invoice for three bicycles.",
    "lime": "The minutes of a meeting about budgets.",
    "yellow": "A recipe for onion soup.",
}


def shown(corner: str) -> bytes:
    """A picture with this colour in its upper left corner."""
    turns = {"red": 0, "lime": 90, "blue": 180, "yellow": 270}
    return saved(corners(64, 64).rotate(turns[corner]))


def told(asked: ChatRequest) -> str:
    """The text about a picture, by the colour of its upper left corner."""
    picture = asked.images[0].picture
    assert picture is not None
    return ABOUT.get(corner_names(picture)[0], "A white page.")


@pytest.fixture(scope="module")
def teller() -> Iterator[Emulator]:
    """A service that tells of pictures what `ABOUT` says."""
    with Emulator(ocr=False, reply=told) as server:
        yield server


@pytest.fixture(autouse=True)
def _listening(teller: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    teller.clear()
    monkeypatch.setenv("AIFS_BASE_URL", teller.base_url)
    monkeypatch.setenv("AIFS_API_KEY", teller.api_key)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder with three pictures, and a document of two pages."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for corner in ("red", "blue", "lime"):
        (folder / f"{corner}.png").write_bytes(shown(corner))
    (folder / "two.tif").write_bytes(tiff([corners(64, 64), corners(64, 64).rotate(270)]))
    return folder


def asked(server: Emulator) -> tuple[int, int]:
    """How many questions and embeddings there were."""
    paths = [request.path for request in server.requests]
    return sum("chat" in path for path in paths), sum("embeddings" in path for path in paths)


def pipeline(store: Any, docstore: Any, **options: Any) -> IngestionPipeline:
    """The pipeline of the README."""
    reading = ImageToText(**{"task": "caption", "limits": Limits(), **options})
    steps = [reading, SentenceSplitter(), AIFSEmbedding(limits=Limits())]
    return IngestionPipeline(transformations=steps, docstore=docstore, vector_store=store)


def listed(folder: Path) -> list[Any]:
    """What there is to read."""
    return AIFSImageReader(task=None).load_data(folder)


def best(index: VectorStoreIndex, question: str) -> Any:
    """The first of what is retrieved."""
    return index.as_retriever(similarity_top_k=1).retrieve(question)[0].node


def test_an_edited_folder(scans: Path, teller: Emulator) -> None:
    """Unchanged pictures cost nothing, an edited one a question; removed ones and old texts are found no more."""
    store, docstore = SimpleVectorStore(stores_text=True), SimpleDocumentStore()
    steps = pipeline(store, docstore)
    nodes = steps.run(documents=listed(scans))
    assert asked(teller)[0] == len(nodes) == 5
    teller.clear()
    assert steps.run(documents=listed(scans)) == []
    assert asked(teller) == (0, 0)
    (scans / "blue.png").write_bytes(shown("yellow"))
    (edited,) = steps.run(documents=listed(scans))
    assert (edited.get_content(MetadataMode.NONE), asked(teller)) == (ABOUT["yellow"], (1, 1))
    (old,) = [node for node in nodes if node.get_content(MetadataMode.NONE) == ABOUT["blue"]]
    assert old.ref_doc_id == edited.ref_doc_id
    assert old.id_ not in store.data.embedding_dict
    (scans / "red.png").unlink()
    (scans / "two.tif").unlink()
    steps.docstore_strategy = DocstoreStrategy.UPSERTS_AND_DELETE
    teller.clear()
    assert steps.run(documents=listed(scans)) == []
    assert asked(teller) == (0, 0)
    left = {node.ref_doc_id for node in nodes if node.id_ in store.data.embedding_dict} | {edited.ref_doc_id}
    assert left == {document.id_ for document in listed(scans)}
    assert len(store.data.embedding_dict) == 2


def test_one_page_more(scans: Path, teller: Emulator) -> None:
    """A document with another page is read anew, page by page, each under its old id."""
    store = SimpleVectorStore()
    steps = pipeline(store, SimpleDocumentStore())
    steps.run(documents=listed(scans / "two.tif"))
    teller.clear()
    pages = [corners(64, 64).rotate(turn) for turn in (0, 90, 180)]
    (scans / "two.tif").write_bytes(tiff(pages))
    nodes = steps.run(documents=listed(scans / "two.tif"))
    assert [node.metadata["page"] for node in nodes] == [1, 2, 3]
    assert (asked(teller)[0], len(store.data.embedding_dict)) == (3, 3)


def test_stores_on_disk(scans: Path, tmp_path: Path, teller: Emulator) -> None:
    """Stores that were written to disk know what they have: another process pays for nothing again."""
    store, docstore = SimpleVectorStore(), SimpleDocumentStore()
    first = pipeline(store, docstore)
    first.run(documents=listed(scans))
    first.persist(str(tmp_path / "kept"))
    store.persist(str(tmp_path / "vectors.json"))
    teller.clear()
    second = pipeline(SimpleVectorStore.from_persist_path(str(tmp_path / "vectors.json")), SimpleDocumentStore())
    second.load(str(tmp_path / "kept"))
    assert asyncio.run(second.arun(documents=listed(scans))) == []
    assert asked(teller) == (0, 0)


def test_a_run_that_breaks_off_is_not_paid_twice(scans: Path, tmp_path: Path, teller: Emulator) -> None:
    """After an error nothing is taken for done; with a cache of readings the second run pays for the rest alone."""
    docstore = SimpleDocumentStore()
    options: dict[str, Any] = {"cache": tmp_path / "readings.sqlite", "limits": Limits(in_flight=1)}
    (scans / "lime.png").write_text("not yet a picture")
    documents = listed(scans / "blue.png") + AIFSImageReader(task=None, on_error="keep").load_data(scans / "lime.png")
    with pytest.raises(ImageFormatError):
        pipeline(SimpleVectorStore(), docstore, **options).run(documents=documents)
    assert not docstore.docs
    assert asked(teller)[0] == 1
    (scans / "lime.png").write_bytes(shown("lime"))
    nodes = pipeline(SimpleVectorStore(), docstore, **options).run(documents=listed(scans))
    assert len(nodes) == 5
    assert asked(teller)[0] == 1 + 4


def test_the_right_picture_is_found(scans: Path) -> None:
    """An index over a folder of pictures finds the one that a question is about, and names it; also from disk."""
    nodes = pipeline(None, None).run(documents=listed(scans))
    index = VectorStoreIndex(nodes, embed_model=AIFSEmbedding(limits=Limits()))
    found = best(index, "What did the bicycles cost?")
    assert found.metadata["source"] == str(scans / "blue.png")
    index.storage_context.persist(str(scans / "index"))
    context = StorageContext.from_defaults(persist_dir=str(scans / "index"))
    again: Any = load_index_from_storage(context, embed_model=AIFSEmbedding(limits=Limits()))
    assert best(again, "onions").metadata == {**best(index, "onions").metadata}
    assert best(again, "onions").metadata["page"] == 2
    index.delete_ref_doc(found.ref_doc_id, delete_from_docstore=True)
    assert best(index, "What did the bicycles cost?").metadata["source"] != found.metadata["source"]


def test_an_index_is_refreshed(scans: Path) -> None:
    """In one step, too, an index takes over what has changed, and nothing else."""
    reader = AIFSImageReader(task="caption", limits=Limits())
    index = VectorStoreIndex.from_documents(reader.load_data(scans), embed_model=AIFSEmbedding(limits=Limits()))
    assert index.refresh_ref_docs(reader.load_data(scans)) == [False] * 5
    (scans / "blue.png").write_bytes(shown("yellow"))
    assert index.refresh_ref_docs(reader.load_data(scans)) == [True, False, False, False, False]
    assert best(index, "What did the bicycles cost?").get_content() != ABOUT["blue"]


def test_steps_of_an_index(scans: Path, teller: Emulator) -> None:
    """As transformation of an index it reads what the reader has listed, with a progress bar or without."""
    index = VectorStoreIndex.from_documents(
        listed(scans),
        transformations=[ImageToText(task="caption", limits=Limits())],
        embed_model=AIFSEmbedding(limits=Limits()),
    )
    assert asked(teller)[0] == 5
    assert best(index, "bicycles").metadata["source"] == str(scans / "blue.png")
    assert set(index.ref_doc_info) == {document.id_ for document in listed(scans)}


def test_a_reader_inside_of_the_pipeline(scans: Path) -> None:
    """The reader is one that a pipeline takes by itself, and its serialised form has no key in it."""
    reader = ReaderConfig(reader=AIFSImageReader(task=None), reader_args=[scans])
    steps = IngestionPipeline(readers=[reader], transformations=[ImageToText(task="caption", limits=Limits())])
    assert len(steps.run()) == 5
    whole = ReaderConfig(reader=AIFSImageReader(api_key="very secret"), reader_args=[str(scans)]).to_dict()
    assert "secret" not in str(whole)


def test_pages_of_a_pdf(tmp_path: Path, teller: Emulator) -> None:
    """A PDF goes through the pipeline page by page."""
    (tmp_path / "report.pdf").write_bytes(pdf("1 0 0 rg 0 60 80 40 re f", "0 0 1 rg 0 60 80 40 re f"))
    reader = SimpleDirectoryReader(
        str(tmp_path), file_extractor=AIFSImageReader(task=None).file_extractor(), raise_on_error=True
    )
    nodes = pipeline(None, None).run(documents=reader.load_data())
    assert [(node.metadata["page"], node.metadata["file_name"]) for node in nodes] == [
        (1, "report.pdf"),
        (2, "report.pdf"),
    ]
    assert asked(teller)[0] == 2
