"""`ImageToText`: which pictures it finds in nodes, and what becomes of them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from llama_index.core import Document
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.schema import (
    ImageDocument,
    ImageNode,
    MediaResource,
    MetadataMode,
    Node,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from pydantic import BaseModel

from aifs_vision import (
    CAPTION,
    OCR,
    ImageFormatError,
    ImageNotFoundError,
    Limits,
    SettingsError,
    Task,
    Vision,
    find_images,
)
from aifs_vision.emulator import Emulator
from llama_index_aifs import AIFSImageReader, ImageToText
from tests.llama_index.scripts import listed, questions
from tests.pictures import corners, saved, tiff

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


PNG = saved(corners())
OTHER = saved(corners().rotate(180))
FIXED = "A fixed answer of the emulator, whose text recognition is switched off."


def read(nodes: Sequence[Any], **options: Any) -> list[Any]:
    """What becomes of nodes when they are captioned, or read in another way."""
    return list(ImageToText(**{"task": "caption", **options})(nodes))


@pytest.mark.usefixtures("environment")
def test_two_steps_give_what_one_gives(folder: Path) -> None:
    """Listed and then read, pictures have the same ids, texts and metadata as read at once."""
    nodes = read(AIFSImageReader(task=None).load_data(folder), task="ocr")
    documents = AIFSImageReader(task="ocr").load_data(folder)
    assert [(node.id_, node.text, node.metadata) for node in nodes] == [
        (document.id_, document.text, document.metadata) for document in documents
    ]
    for mode in (MetadataMode.EMBED, MetadataMode.LLM):
        assert [n.get_metadata_str(mode) for n in nodes] == [d.get_metadata_str(mode) for d in documents]


@pytest.mark.usefixtures("environment")
def test_two_tasks_stand_side_by_side(folder: Path) -> None:
    """Nodes of two tasks over the same Documents have different ids, and the same source."""
    documents = listed(folder / "a.png")
    (caption,), (text,) = (read(documents, task=task) for task in ("caption", "ocr"))
    assert caption.id_ != text.id_
    assert caption.ref_doc_id == text.ref_doc_id == documents[0].id_


@pytest.mark.parametrize(
    "node",
    [
        ImageNode(image=base64.b64encode(PNG).decode()),
        ImageNode(image="data:image/jpeg;base64," + base64.b64encode(PNG).decode()),
        ImageDocument(image=base64.b64encode(PNG).decode()),
        Node(image_resource=MediaResource(data=PNG)),
        Document(image_resource=MediaResource(data=PNG)),
    ],
    ids=["ImageNode", "data URI", "ImageDocument", "Node", "Document"],
)
def test_pictures_inside_of_nodes(node: Any, eyes: Emulator) -> None:
    """A node that has the bytes of a picture is read, whichever class it is of."""
    (made,) = read([node])
    assert (made.text, made.metadata["image_sha256"]) == ("red", hashlib.sha256(PNG).hexdigest())
    assert (made.ref_doc_id, questions(eyes)) == (node.id_, 1)
    assert read([node])[0].id_ == made.id_ != node.id_


def test_pictures_beside_nodes(tmp_path: Path, eyes: Emulator) -> None:
    """A node that names the path or the URL of a picture is read; whatever its suffix says."""
    path = tmp_path / "picture.data"
    path.write_bytes(PNG)
    url = "http://127.0.0.1:9/a.png"
    places = [
        ImageNode(image_path=str(path)),
        Node(image_resource=MediaResource(path=path)),
        ImageDocument(image_path=str(path)),
    ]
    nodes = read(places)
    assert [(node.text, node.metadata["source"]) for node in nodes] == [("red", str(path))] * 3
    assert questions(eyes) == 1
    assert len({node.id_ for node in nodes}) == 3
    remote = [ImageNode(image_url=url), Node(image_resource=MediaResource(url=url))]  # type: ignore[arg-type]
    failed = read(remote, on_error="keep")
    sent = [
        part["image_url"]["url"] for part in eyes.requests[-1].body["messages"][0]["content"] if "image_url" in part
    ]
    assert sent == [url]  # passed on, and not fetched here
    assert all(url in node.metadata["error"] for node in failed)


@pytest.mark.usefixtures("eyes")
def test_nodes_with_something_else_than_a_picture(tmp_path: Path) -> None:
    """What is no picture, whatever a node says of it, is that node's failure: by base64, bytes or an odd path."""
    odd = os.fsdecode(bytes(tmp_path) + b"/\xff.png")
    nodes = [ImageNode(image="no base64!"), ImageNode(image_path=odd), Node(image_resource=MediaResource(data=b"text"))]
    kept = read(nodes, on_error="keep")
    assert [node.metadata["status"] for node in kept] == ["failed"] * 3
    assert [node.ref_doc_id for node in kept] == [node.id_ for node in nodes]
    assert "\\xff.png" in kept[1].metadata["error"]


@pytest.mark.usefixtures("eyes")
def test_what_others_know_of_a_picture_is_kept() -> None:
    """Text, metadata, page and source document of a node that others have made stay; what is read comes after."""
    report = RelatedNodeInfo(node_id="report")
    figure = ImageNode(
        image=base64.b64encode(PNG).decode(),
        text="Figure 3: corners",
        metadata={"source": "report.pdf", "page": 7, "author": "Ada"},
        excluded_embed_metadata_keys=["author"],
        relationships={NodeRelationship.SOURCE: report},
    )
    twin = ImageNode(**{**figure.to_dict(), "id_": "another"})
    first, second = read([figure, twin])
    assert first.text == "Figure 3: corners\n\nred"
    assert (first.metadata["source"], first.metadata["page"], first.metadata["author"]) == ("report.pdf", 7, "Ada")
    assert (first.metadata["status"], first.ref_doc_id) == ("ok", "report")
    assert "author" in first.excluded_embed_metadata_keys
    assert first.id_ != second.id_


def test_bytes_travel_inside_of_the_documents(eyes: Emulator) -> None:
    """Bytes, with a name or without, are read though no path leads to them; each picture once."""
    documents = listed(PNG, ("named.png", OTHER), bytearray(PNG))
    nodes = read(documents)
    assert [node.text for node in nodes] == ["red", "blue", "red"]
    assert questions(eyes) == 2


@pytest.mark.usefixtures("eyes")
def test_two_files_of_one_name_are_not_mixed_up() -> None:
    """Different bytes under the same name have their own readings."""
    nodes = read(listed(("a.png", PNG), ("a.png", OTHER)))
    assert [node.text for node in nodes] == ["red", "blue"]


def test_pictures_on_other_file_systems(eyes: Emulator) -> None:
    """Paths are opened on the file system that is given, with a page for each of a file, which is opened once."""
    memory = fsspec.filesystem("memory")
    memory.pipe({"/scans/a.png": PNG, "/scans/b.tif": tiff([corners(), corners().rotate(180)])})
    try:
        documents = AIFSImageReader(task=None).load_data("/scans", fs=memory)
        nodes = read(documents, fs=memory)
        assert [(node.metadata["source"], node.text) for node in nodes] == [
            ("/scans/a.png", "red"),
            ("/scans/b.tif", "red"),
            ("/scans/b.tif", "blue"),
        ]
        assert questions(eyes) == 3
    finally:
        memory.rm("/scans", recursive=True)


@pytest.mark.usefixtures("eyes")
def test_a_picture_of_several_pages_becomes_several_nodes(tmp_path: Path) -> None:
    """A node that others have made of a TIFF is replaced by a node for each of its pages."""
    (tmp_path / "a.tif").write_bytes(tiff([corners(), corners().rotate(180)]))
    nodes = read([ImageNode(image_path=str(tmp_path / "a.tif"))])
    assert [(node.text, node.metadata["page"]) for node in nodes] == [("red", 1), ("blue", 2)]


def test_failures_by_on_error(folder: Path, eyes: Emulator) -> None:
    """A picture that cannot be read is raised, left out, or kept with its error; its neighbours are unharmed."""
    documents = AIFSImageReader(task=None).load_data(folder)
    (folder / "b.JPG").write_text("not a picture")
    (folder / "c.tif").unlink()
    with pytest.raises(ImageFormatError, match="a text file"):
        read(documents)
    skipping = ImageToText(task="caption", on_error="skip")
    assert [node.get_content() for node in skipping(documents)] == ["red"]
    assert [failure.status for failure in skipping.report.failures] == ["failed", "failed"]
    kept = read(documents, on_error="keep")
    assert [node.metadata["status"] for node in kept] == ["ok", "failed", "failed", "failed"]
    assert [node.metadata["page"] for node in kept] == [1, 1, 1, 2]
    assert len({node.id_ for node in kept}) == 4
    assert (kept[1].text, "a text file" in kept[1].metadata["error"]) == ("", True)
    (folder / "b.JPG").write_bytes(OTHER)
    (folder / "c.tif").write_bytes(tiff([corners(), corners()]))
    before = questions(eyes)
    mended = read(kept)
    assert [node.text for node in mended] == ["red", "blue", "red", "red"]
    assert all("error" not in node.metadata for node in mended)
    assert questions(eyes) == before + 3  # what has been read is not read again


def test_only_the_pages_that_are_asked_for_are_paid(tmp_path: Path, eyes: Emulator) -> None:
    """Of a file with many pages those are read that there are nodes for: a page that failed costs one question more."""
    path = tmp_path / "minutes.tif"
    path.write_bytes(tiff([corners().rotate(180 * (page % 2)) for page in range(6)]))
    documents = AIFSImageReader(task=None).load_data(path)
    nodes = read([documents[4], documents[1]])
    assert [(node.metadata["page"], node.get_content()) for node in nodes] == [(5, "red"), (2, "blue")]
    assert (questions(eyes), {node.metadata["total_pages"] for node in nodes}) == (2, {6})
    eyes.clear()
    eyes.fail(400)
    whole = read(documents, on_error="keep")
    assert sorted(node.metadata["status"] for node in whole) == ["failed", "ok", "ok", "ok", "ok", "ok"]
    assert questions(eyes) == 6
    assert [node.metadata["status"] for node in read(whole)] == ["ok"] * 6
    assert questions(eyes) == 7
    path.write_bytes(tiff([corners()]))
    with pytest.raises(ImageNotFoundError, match="no page 5"):
        read([documents[4]])


@pytest.mark.usefixtures("eyes")
def test_what_the_reader_kept_is_kept(folder: Path) -> None:
    """A picture that could not even be listed is a failure of the reading, too, and is not lost."""
    (folder / "b.JPG").write_text("not a picture")
    documents = listed(folder, folder / "missing.png", on_error="keep")
    assert [document.metadata["status"] for document in documents] == [
        "pending",
        "failed",
        "pending",
        "pending",
        "failed",
    ]
    nodes = read(documents, on_error="keep")
    assert [node.metadata["status"] for node in nodes] == ["ok", "failed", "ok", "ok", "failed"]
    with pytest.raises(ImageNotFoundError):
        read(documents[4:])


@pytest.mark.usefixtures("eyes")
def test_a_file_that_has_changed_since_it_was_listed(folder: Path) -> None:
    """The metadata say what was read, and not what was to be read."""
    documents = listed(folder / "a.png")
    (folder / "a.png").write_bytes(OTHER)
    (node,) = read(documents)
    assert (node.text, node.metadata["image_sha256"]) == ("blue", hashlib.sha256(OTHER).hexdigest())


@pytest.mark.usefixtures("environment")
def test_what_changes_the_key(folder: Path) -> None:
    """Model, task, version of the prompt, language, frames and on_error change the key; key and address do not."""
    documents = listed(folder)

    def key(**options: Any) -> str:
        return get_transformation_hash(documents, ImageToText(**{"task": OCR, **options}))

    others: list[dict[str, Any]] = [
        {"model": "gpt-4.1"},
        {"task": CAPTION},
        {"task": replace(OCR, version="2")},
        {"task": OCR.in_language("German")},
        {"task": replace(OCR, name="text")},
        {"on_error": "keep"},
        {"frames": "all"},
    ]
    assert len({key(), *(key(**other) for other in others)}) == len(others) + 1
    assert key(api_key="another", timeout=7, progress=True) == key() == key(vision=Vision(api_key="third"))


def test_a_run_with_failures_is_not_answered_from_the_cache(folder: Path, eyes: Emulator) -> None:
    """LlamaIndex's cache keeps what a run with failures has given, but is not asked for it again."""
    documents = listed(folder / "a.png", folder / "b.JPG")
    eyes.fail(400)
    pipeline = IngestionPipeline(transformations=[ImageToText(task="caption", on_error="skip", limits=Limits())])
    assert len(pipeline.run(documents=documents)) == 1
    assert len(pipeline.run(documents=documents)) == 2
    before = questions(eyes)
    assert len(pipeline.run(documents=documents)) == 2
    assert questions(eyes) == before


class Address(BaseModel):
    """A part of an invoice."""

    city: str


class Invoice(BaseModel):
    """What is asked of a picture."""

    total: float
    paid: bool
    status: str
    net: Decimal
    seller: Address
    lines: list[str]
    note: str | None = None


@pytest.mark.usefixtures("environment")
def test_extracted_data_stand_beside_the_text(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scalars of Task.extract are metadata under names of their own; lists are in the text alone, which is JSON."""
    invoice = Invoice(
        total=1.5, paid=True, status="sent", net=Decimal("1.25"), seller=Address(city="Bonn"), lines=["a"]
    )
    with Emulator(ocr=False, reply=lambda _: invoice.model_dump_json()) as server:
        monkeypatch.setenv("AIFS_BASE_URL", server.base_url)
        (node,) = read(listed(folder / "a.png"), task=Task.extract(Invoice))
        (document,) = AIFSImageReader(task=Task.extract(Invoice)).load_data(folder / "a.png")
    found = {"total": 1.5, "paid": True, "data_status": "sent", "net": 1.25, "seller_city": "Bonn"}
    assert {name: node.metadata.get(name) for name in found} == found
    assert not {"lines", "note"} & node.metadata.keys()
    assert (node.metadata["status"], Invoice.model_validate_json(node.text)) == ("ok", invoice)
    assert "total" not in node.get_metadata_str(MetadataMode.EMBED)
    assert (node.id_, node.text, node.metadata) == (document.id_, document.text, document.metadata)


@pytest.mark.usefixtures("environment")
def test_only_so_many_at_once(server: Emulator) -> None:
    """No more pictures are asked about at once than the limits allow, however many nodes there are."""
    with Emulator(ocr=False, latency=0.05) as slow:
        vision = Vision(base_url=slow.base_url, api_key=slow.api_key, limits=Limits(in_flight=3))
        nodes = asyncio.run(ImageToText(vision=vision).acall(listed(*(saved(corners(40 + n, 40)) for n in range(12)))))
        assert len(nodes) == 12
        spans = [(request.started, request.finished or request.started) for request in slow.requests]
    assert max(sum(start <= at < end for start, end in spans) for at, _ in spans) in {2, 3}
    assert not server.requests


def test_cancelled_work_ends() -> None:
    """Whoever cancels the asynchronous call gets no more requests than were on their way."""
    with Emulator(ocr=False) as slow:
        slow.fail("stall", times=2)
        options: dict[str, Any] = {"base_url": slow.base_url, "api_key": slow.api_key, "limits": Limits(in_flight=2)}
        transform = ImageToText(**options)
        documents = listed(*(saved(corners(40 + n, 40)) for n in range(20)))

        async def main() -> None:
            task = asyncio.ensure_future(transform.acall(documents))
            while len(slow.requests) < 2 and not task.done():  # noqa: ASYNC110 - they come in another thread
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert Vision(**options).read(PNG, "caption").ok  # it would have to wait for its turn behind the others
        assert len(slow.requests) == 2 + 1


@pytest.mark.usefixtures("environment")
def test_report_and_estimate(folder: Path, server: Emulator) -> None:
    """The estimate foretells what the report says afterwards; it sends nothing."""
    transform = ImageToText(task="caption")
    assert transform.report.images == 0
    documents = AIFSImageReader(task=None).load_data(folder)
    estimate = transform.estimate(documents)
    assert (estimate.images, estimate.requests, len(server.requests)) == (4, 4, 0)
    transform([*documents, TextNode(text="words")])
    assert (transform.report.images, transform.report.requests) == (4, 4)
    assert transform.report.usage.input_tokens == pytest.approx(estimate.input_tokens, rel=0.1)
    assert transform.vision.model in repr(transform)
    assert transform.task is CAPTION


def test_settings_are_checked_when_it_is_made(server: Emulator) -> None:
    """No key, an unknown task, option or choice is an error of the constructor, not of the first image."""
    with pytest.raises(SettingsError, match="AIFS_API_KEY"):
        ImageToText()
    options: dict[str, Any] = {"base_url": server.base_url, "api_key": server.api_key}
    for wrong in ({"task": "captoin"}, {"on_error": "ignore"}, {"frames": 0}):
        with pytest.raises(SettingsError, match=str(next(iter(wrong.values())))):
            ImageToText(**wrong, **options)
    with pytest.raises(TypeError, match="modle"):
        ImageToText(modle="x", **options)
    with pytest.raises(TypeError, match="not both"):
        ImageToText(vision=Vision(**options), model="gpt-4.1")


def test_pictures_of_the_repository(eyes: Emulator) -> None:
    """The examples are read in two steps, page by page, and asked about once each."""
    paths = find_images("examples/images")
    nodes = read(listed("examples/images"))
    assert len({node.metadata["source"] for node in nodes}) == len(paths)
    assert questions(eyes) == len(nodes) == len(paths) + 1
