"""Both frameworks give the same: ids, texts, metadata, errors and reports for the same images."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from aifs_vision import AIFSError, Limits, RunReport, Task
from aifs_vision.emulator import Emulator
from langchain_aifs import AIFSEmbeddings, AIFSImageLoader
from llama_index_aifs import AIFSEmbedding, AIFSImageReader, ImageToText
from tests.media import samples
from tests.pictures import corners, saved, tiff

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aifs_vision.emulator import ChatRequest


class Seller(BaseModel):
    """A part of an invoice."""

    city: str


class Invoice(BaseModel):
    """What is asked of a picture."""

    total: Decimal
    paid: bool
    source: str
    seller: Seller
    lines: list[str]
    note: str | None = None


INVOICE = Invoice(total=Decimal("1.50"), paid=True, source="post", seller=Seller(city="Köln"), lines=["a", "b"])
TASKS: list[Any] = ["ocr", "caption", "describe", Task.ask("Which colour?"), Task.extract(Invoice)]


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder with pictures, a file of two pages, one that is no picture, and one that is too small."""
    (tmp_path / "a.png").write_bytes(saved(corners()))
    (tmp_path / "b.tif").write_bytes(tiff([corners(), corners(90, 40)]))
    (tmp_path / "c.jpg").write_text("not a picture")
    (tmp_path / "d.gif").write_bytes(saved(corners(12, 6), "GIF"))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "e.JPEG").write_bytes(saved(corners(80, 80), "JPEG"))
    return tmp_path


def of_chain(documents: Sequence[Any]) -> list[Any]:
    """Id, text and metadata of LangChain's Documents."""
    return [(document.id, document.page_content, document.metadata) for document in documents]


def of_index(documents: Sequence[Any]) -> list[Any]:
    """Id, text and metadata of LlamaIndex's Documents and nodes, but for the mark of those still to be read."""
    known = [{k: v for k, v in document.metadata.items() if k != "aifs_pending"} for document in documents]
    return [(document.id_, document.get_content(), found) for document, found in zip(documents, known, strict=True)]


def figures(report: RunReport) -> RunReport:
    """A report without what the clock says."""
    return replace(report, seconds=0.0, waited=0.0)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task if isinstance(task, str) else task.name)
@pytest.mark.parametrize("on_error", ["keep", "skip"])
def test_the_same_folder_gives_the_same(mixed: Path, task: Any, on_error: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the same folder ids, texts, metadata and reports are equal, failures included; in one step and in two."""
    with Emulator(ocr=False, reply=lambda _: INVOICE.model_dump_json()) as server:
        monkeypatch.setenv("AIFS_BASE_URL", server.base_url)
        options: dict[str, Any] = {"task": task, "on_error": on_error, "limits": Limits()}
        loader = AIFSImageLoader(mixed, **options)
        chain = of_chain(loader.load())
        reader, steps = AIFSImageReader(**options), ImageToText(**options)
        assert of_index(reader.load_data(mixed)) == chain
        assert of_chain(asyncio.run(loader.aload())) == of_index(asyncio.run(reader.aload_data(mixed))) == chain
        assert of_index(steps(AIFSImageReader(task=None, on_error="keep").load_data(mixed))) == chain
    assert figures(loader.report) == figures(reader.report) == figures(steps.report)
    kept = ["ok", "ok", "ok", "failed", "failed", "ok"]
    assert [metadata["status"] for _, _, metadata in chain] == [s for s in kept if on_error == "keep" or s == "ok"]
    assert [failure.source[-5:] for failure in reader.report.failures] == ["c.jpg", "d.gif"]


@pytest.mark.usefixtures("environment")
def test_the_same_formats(tmp_path: Path) -> None:
    """Documents and videos give the same pages and frames, with the same times."""
    for name in ("PDF", "MP4", "GIF, animated"):
        (tmp_path / name.split(",")[0]).write_bytes(samples()[name])
    options: dict[str, Any] = {"frames": 2, "limits": Limits()}
    sources = sorted(tmp_path.iterdir())
    chain = of_chain(AIFSImageLoader(sources, **options).load())
    assert of_index(AIFSImageReader(**options).load_data(sources)) == chain
    assert of_index(ImageToText(**options)(AIFSImageReader(task=None, frames=2).load_data(sources))) == chain
    assert [metadata["page"] for _, _, metadata in chain][:2] == [1, 2]
    assert sum("time" in metadata for _, _, metadata in chain) == 2


@pytest.mark.usefixtures("environment")
def test_uploads_of_one_name_have_the_same_ids() -> None:
    """Different pictures under one name are two Documents in both frameworks, with the same ids."""
    uploads: list[Any] = [("a.png", saved(corners())), ("a.png", saved(corners(90, 50))), ("a.png", saved(corners()))]
    loader = AIFSImageLoader(uploads, task="ocr")
    chain = of_chain(loader.load())
    assert of_index(AIFSImageReader(task="ocr").load_data(uploads)) == chain
    assert of_chain(asyncio.run(loader.aload())) == chain
    first, second, copy = (id_ for id_, _, _ in chain)
    assert first == copy != second


@pytest.mark.usefixtures("environment")
def test_the_same_mistakes_give_the_same_errors(tmp_path: Path) -> None:
    """What cannot be read is the same error, word for word, in both frameworks, with a model or without."""
    (tmp_path / "a.png").write_bytes(saved(corners())[:30])
    sources: list[Any] = [tmp_path, tmp_path / "a.png", "missing.png", b"", "ftp://host/a.png"]
    for source in sources:
        errors = []
        for load in (
            lambda source: AIFSImageLoader(source).load(),
            lambda source: AIFSImageReader().load_data(source),
            lambda source: AIFSImageReader(task=None).load_data(source),
        ):
            with pytest.raises(AIFSError) as found:
                load(source)
            errors.append((type(found.value), str(found.value)))
        assert len(set(errors)) == 1


@pytest.mark.usefixtures("environment")
def test_the_same_estimate(mixed: Path) -> None:
    """An estimate of the same folder is the same, also of the Documents that are still to be read."""
    chain = AIFSImageLoader(mixed, task="ocr").estimate()
    assert AIFSImageReader(task="ocr").estimate(mixed) == chain
    assert ImageToText(task="ocr").estimate(AIFSImageReader(task=None, on_error="keep").load_data(mixed)) == chain


@pytest.mark.usefixtures("environment")
def test_the_same_vectors() -> None:
    """The same text has the same vector, and the same width is told."""
    chain, index = AIFSEmbeddings(), AIFSEmbedding()
    assert chain.embed_documents(["a", "b"]) == index.get_text_embedding_batch(["a", "b"])
    assert chain.embed_query("a") == index.get_query_embedding("a")
    assert chain.dimensions == index.dimensions


@pytest.mark.usefixtures("environment")
def test_ids_of_one_name_are_the_same_whatever_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the first picture of a name is skipped, the others keep the ids that they have beside it; in both."""
    uploads = [("a.png", saved(corners())), ("a.png", saved(corners(90, 40))), ("b.png", b"x"), ("b.png", b"y")]
    uploads.append(("b.png", saved(corners())))
    uploads.append(("c.png", saved(corners(90, 40))))
    with Emulator(ocr=False, reply=refusing) as server:
        monkeypatch.setenv("AIFS_BASE_URL", server.base_url)
        whole = [document.id for document in AIFSImageLoader(uploads, task="ocr", on_error="keep").load()]
        loader = AIFSImageLoader(uploads, task="ocr", on_error="skip")
        reader = AIFSImageReader(task="ocr", on_error="skip")
        found: list[list[Any]] = [
            [document.id for document in loader.load()],
            [document.id for document in asyncio.run(loader.aload())],
            [document.id_ for document in reader.load_data(uploads)],
            [document.id_ for document in asyncio.run(reader.aload_data(uploads))],
        ]
    assert found == [[whole[1], whole[5]]] * 4


def refusing(asked: ChatRequest) -> str:
    """What is said of pictures: of those of one size nothing."""
    picture = asked.images[0].picture
    return "Text." if picture is not None and picture.size == (90, 40) else "I'm sorry, but I can't assist with that."
