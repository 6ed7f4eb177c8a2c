"""Images as LlamaIndex Documents."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from llama_index.core import SimpleDirectoryReader
from llama_index.core.schema import MetadataMode

from aifs_vision import ImageFormatError, ImageNotFoundError, Limits, SettingsError, Vision
from llama_index_aifs import AIFSImageReader
from tests.pictures import corners, saved

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aifs_vision.emulator import Emulator

PNG = saved(corners())


@pytest.mark.usefixtures("environment")
def test_a_folder_becomes_documents(folder: Path) -> None:
    """Each page of each image below a folder is a Document with the reading's id, text and metadata."""
    documents = AIFSImageReader(task="ocr").load_data(folder)
    readings = list(Vision().read_many(folder, "ocr"))
    assert [document.id_ for document in documents] == [reading.id for reading in readings]
    assert [document.text for document in documents] == [reading.text for reading in readings]
    assert [document.metadata for document in documents] == [reading.metadata() for reading in readings]


@pytest.mark.usefixtures("environment")
def test_only_source_and_page_are_embedded_and_shown(folder: Path) -> None:
    """Of the reading's metadata, source and page go into what is embedded and shown to the LLM; nothing else."""
    document = AIFSImageReader().load_data(folder, extra_info={"project": "tower"})[0]
    for mode in (MetadataMode.EMBED, MetadataMode.LLM):
        assert document.get_metadata_str(mode) == f"project: tower\nsource: {folder / 'a.png'}\npage: 1"
    assert document.metadata["image_sha256"]


@pytest.mark.usefixtures("environment")
def test_loading_asynchronously_gives_the_same(folder: Path) -> None:
    """`aload_data` and `alazy_load_data` give what `load_data` gives."""
    reader = AIFSImageReader(task="caption")

    async def lazily() -> list[Any]:
        return [document async for document in reader.alazy_load_data(folder)]

    whole = reader.load_data(folder)
    assert asyncio.run(reader.aload_data(folder)) == asyncio.run(lazily()) == whole
    assert list(reader.lazy_load_data(folder)) == whole


@pytest.mark.usefixtures("environment")
def test_the_first_document_comes_while_the_rest_is_read() -> None:
    """Lazy loading is lazy: the first Document comes when few of many images have been taken."""
    taken = 0

    def sources() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield PNG

    documents = AIFSImageReader(limits=Limits(in_flight=2)).lazy_load_data(sources())
    assert next(documents).text
    documents.close()  # type: ignore[attr-defined]
    assert taken < 50


@pytest.mark.usefixtures("environment")
def test_simple_directory_reader_uses_it(folder: Path) -> None:
    """As file_extractor of SimpleDirectoryReader it reads every suffix in any case, with the reader's metadata."""
    (folder / "notes.txt").write_text("plain words")
    extractor = AIFSImageReader(task="ocr").file_extractor()
    reader = SimpleDirectoryReader(str(folder), file_extractor=extractor, raise_on_error=True)
    documents = reader.load_data()
    pictures = [document for document in documents if "image_sha256" in document.metadata]
    assert [document.metadata["page"] for document in pictures] == [1, 1, 1, 2]
    assert [document.metadata["file_name"] for document in pictures] == ["a.png", "b.JPG", "c.tif", "c.tif"]
    assert [document.id_ for document in pictures] == [
        document.id_ for document in AIFSImageReader(task="ocr").load_data(folder)
    ]
    assert [document.text for document in asyncio.run(reader.aload_data())] == [d.text for d in documents]


@pytest.mark.usefixtures("environment")
def test_remote_file_systems(folder: Path, server: Emulator) -> None:
    """Paths are opened on the fsspec file system that is given; a missing one is that image's error only."""
    memory = fsspec.filesystem("memory")
    memory.pipe({"/scans/a.png": PNG, "/scans/b.JPG": (folder / "b.JPG").read_bytes()})
    try:
        reader = AIFSImageReader(task="ocr", on_error="keep")
        documents = reader.load_data(["/scans/a.png", "/scans/missing.png", "/scans/b.JPG"], fs=memory)
        assert [document.metadata["status"] for document in documents] == ["ok", "failed", "ok"]
        assert documents[0].metadata["source"] == "/scans/a.png"
        assert "missing.png" in documents[1].metadata["error"]
        server.clear()
        through = SimpleDirectoryReader(
            "/scans", fs=memory, file_extractor=AIFSImageReader().file_extractor(), raise_on_error=True
        )
        assert len(through.load_data()) == 2
        assert len(server.requests) == 2
    finally:
        memory.rm("/scans", recursive=True)


@pytest.mark.usefixtures("environment")
def test_on_error_decides(folder: Path) -> None:
    """A picture that cannot be read raises, is skipped, or is kept as an empty Document with its error."""
    (folder / "b.JPG").write_text("not a picture")
    with pytest.raises(ImageFormatError, match="a text file"):
        AIFSImageReader().load_data(folder)
    assert len(AIFSImageReader(on_error="skip").load_data(folder)) == 3
    kept = AIFSImageReader(on_error="keep").load_data(folder)
    assert (kept[1].text, kept[1].metadata["status"]) == ("", "failed")
    with pytest.raises(ImageNotFoundError):
        AIFSImageReader(on_error="skip").load_data(folder / "missing")


def test_settings_are_checked_when_the_reader_is_made(server: Emulator) -> None:
    """No key, an unknown task or option is an error of the constructor, not of the first image."""
    with pytest.raises(SettingsError, match="AIFS_API_KEY"):
        AIFSImageReader()
    options: dict[str, Any] = {"base_url": server.base_url, "api_key": server.api_key}
    with pytest.raises(SettingsError, match="captoin"):
        AIFSImageReader(task="captoin", **options)
    with pytest.raises(TypeError, match="modle"):
        AIFSImageReader(modle="x", **options)
    with pytest.raises(TypeError, match="not both"):
        AIFSImageReader(vision=Vision(**options), model="gpt-4.1")
