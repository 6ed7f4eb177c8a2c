"""Images as LangChain Documents."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.document_loaders import Blob

from aifs_vision import ImageFormatError, ImageNotFoundError, Limits, SettingsError, Task, Vision
from aifs_vision.emulator import Emulator
from langchain_aifs import AIFSImageBlobParser, AIFSImageLoader
from tests.pictures import corners, saved

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aifs_vision.emulator import ChatRequest

PNG = saved(corners())


@pytest.mark.usefixtures("environment")
def test_a_folder_becomes_documents(folder: Path) -> None:
    """Each page of each image below a folder is a Document with the reading's id, text and metadata."""
    documents = AIFSImageLoader(folder, task="ocr").load()
    readings = list(Vision().read_many(folder, "ocr"))
    assert [document.id for document in documents] == [reading.id for reading in readings]
    assert [document.page_content for document in documents] == [reading.text for reading in readings]
    assert [document.metadata for document in documents] == [reading.metadata() for reading in readings]
    assert [document.metadata["page"] for document in documents] == [1, 1, 1, 2]


@pytest.mark.usefixtures("environment")
def test_loading_asynchronously_gives_the_same(folder: Path) -> None:
    """`aload` and `alazy_load` give what `load` gives."""
    loader = AIFSImageLoader(folder, task="caption")

    async def lazily() -> list[Any]:
        return [document async for document in loader.alazy_load()]

    assert asyncio.run(loader.aload()) == asyncio.run(lazily()) == loader.load()


def slow(pictures: int, in_flight: int) -> tuple[AIFSImageLoader, list[int]]:
    """A loader over many pictures, and a list that tells how many of them were asked for."""
    taken: list[int] = []

    def sources() -> Iterator[bytes]:
        for n in range(pictures):
            taken.append(n)
            yield PNG

    return AIFSImageLoader(sources(), limits=Limits(in_flight=in_flight)), taken


@pytest.mark.usefixtures("environment")
def test_the_first_document_comes_while_the_rest_is_read(server: Emulator) -> None:
    """Lazy loading is lazy: the first Document comes when few of many images have been taken."""
    loader, taken = slow(1000, 2)
    documents = loader.lazy_load()
    assert next(documents).page_content
    assert len(taken) < 50
    documents.close()  # type: ignore[attr-defined]
    loader, taken = slow(1000, 2)

    async def first() -> None:
        stream = loader.alazy_load()
        async for document in stream:
            assert document.page_content
            break
        await stream.aclose()  # type: ignore[attr-defined]

    asyncio.run(first())
    assert len(taken) < 50
    assert len(server.requests) < 100


@pytest.mark.usefixtures("environment")
def test_on_error_decides(folder: Path) -> None:
    """A picture that cannot be read raises, is skipped, or is kept as an empty Document with its error."""
    (folder / "b.JPG").write_text("not a picture")
    with pytest.raises(ImageFormatError, match="a text file"):
        AIFSImageLoader(folder).load()
    assert len(AIFSImageLoader(folder, on_error="skip").load()) == 3
    kept = AIFSImageLoader(folder, on_error="keep").load()
    assert [document.metadata["status"] for document in kept] == ["ok", "failed", "ok", "ok"]
    assert (kept[1].page_content, "a text file" in kept[1].metadata["error"]) == ("", True)


@pytest.mark.usefixtures("environment")
def test_what_is_missing_is_an_error(tmp_path: Path) -> None:
    """A missing path or an empty folder is an error, also when errors are skipped; not an empty list."""
    for path in (tmp_path, tmp_path / "missing.png", "missing folder"):
        with pytest.raises(ImageNotFoundError):
            AIFSImageLoader(path, on_error="skip").load()


@pytest.mark.usefixtures("environment")
def test_globs_and_lists(folder: Path) -> None:
    """A glob chooses among the files of a folder; a list may hold anything that is an image source."""
    assert len(AIFSImageLoader(folder, glob="*.png").load()) == 1
    assert len(AIFSImageLoader([folder / "a.png", PNG, corners(), ("named.png", PNG)]).load()) == 4


def test_settings_are_checked_when_the_loader_is_made(server: Emulator) -> None:
    """No key, an unknown task or option is an error of the constructor, not of the first image."""
    with pytest.raises(SettingsError, match="AIFS_API_KEY"):
        AIFSImageLoader("a.png")
    options: dict[str, Any] = {"base_url": server.base_url, "api_key": server.api_key}
    with pytest.raises(SettingsError, match="captoin"):
        AIFSImageLoader("a.png", task="captoin", **options)
    for kind in (AIFSImageLoader, AIFSImageBlobParser):
        arguments = ["a.png"] if kind is AIFSImageLoader else []
        with pytest.raises(TypeError, match="modle"):
            kind(*arguments, modle="x", **options)
        with pytest.raises(TypeError, match="not both"):
            kind(*arguments, vision=Vision(**options), model="gpt-4.1")


def test_a_task_of_ones_own(tmp_path: Path) -> None:
    """A question is asked of every image, and its readings have an id of their own."""

    def reply(asked: ChatRequest) -> str:
        return "blue" if asked.prompt == "Which colour?" else "?"

    (tmp_path / "a.png").write_bytes(PNG)
    with Emulator(ocr=False, reply=reply) as server:
        options: dict[str, Any] = {"base_url": server.base_url, "api_key": server.api_key}
        (asked,) = AIFSImageLoader(tmp_path, task=Task.ask("Which colour?"), **options).load()
        (plain,) = AIFSImageLoader(tmp_path, **options).load()
    assert asked.page_content == "blue"
    assert asked.id != plain.id


# -- Blobs -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("environment")
def test_blobs_by_path_bytes_and_array(folder: Path) -> None:
    """A blob is read by its path, or by its bytes under its source's name; arrays of PDF loaders, too."""
    import numpy as np

    parser = AIFSImageBlobParser(task="ocr")
    (by_path,) = parser.parse(Blob.from_path(folder / "a.png", metadata={"chapter": 3}))
    assert by_path.metadata["source"] == str(folder / "a.png")
    assert by_path.metadata["chapter"] == 3
    (by_bytes,) = parser.parse(Blob.from_data(PNG, metadata={"source": "upload"}))
    assert by_bytes.metadata["source"] == "upload"
    (nameless,) = parser.parse(Blob.from_data(PNG))
    assert nameless.metadata["source"].startswith("sha256:")
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(corners()))
    array = Blob.from_data(buffer.getvalue(), mime_type="application/x-npy")
    assert next(parser.lazy_parse(array)).page_content
    assert [document.metadata["page"] for document in parser.parse(Blob.from_path(folder / "c.tif"))] == [1, 2]


@pytest.mark.usefixtures("environment")
def test_a_blob_that_is_no_picture(folder: Path) -> None:
    """A blob that cannot be read raises, or is kept, so that one picture does not end a whole PDF."""
    blob = Blob.from_data(b"not a picture", mime_type="image/png")
    with pytest.raises(ImageFormatError):
        AIFSImageBlobParser().parse(blob)
    (kept,) = AIFSImageBlobParser(on_error="keep").parse(blob)
    assert (kept.page_content, kept.metadata["status"]) == ("", "failed")
    assert folder.exists()
