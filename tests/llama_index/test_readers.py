"""Images as LlamaIndex Documents."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import weakref
from base64 import b64decode, b64encode
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core import SimpleDirectoryReader
from llama_index.core.schema import ImageDocument, MetadataMode

from aifs_vision import (
    CAPTION,
    READABLE_SUFFIXES,
    ImageFormatError,
    ImageLimits,
    ImageNotFoundError,
    Limits,
    SettingsError,
    SourcePages,
    Vision,
)
from aifs_vision.emulator import Emulator
from llama_index_aifs import AIFSImageReader, ImageToText
from tests.media import samples
from tests.pictures import corners, saved, tiff

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@pytest.mark.usefixtures("environment")
def test_further_metadata_do_not_get_lost(folder: Path) -> None:
    """What `extra_info` has under a name of ours is kept under another one, in one step and in two."""
    extra = {"source": "attic", "model": "Nikon", "page": 1, "box": 7}
    (document,) = AIFSImageReader(task="ocr").load_data(folder / "a.png", extra_info=extra)
    listed = AIFSImageReader(task=None).load_data(folder / "a.png", extra_info=extra)
    assert listed[0].metadata["extra_model"] == "Nikon"
    for metadata in (document.metadata, ImageToText(task="ocr")(listed)[0].metadata):
        kept = {name: value for name, value in metadata.items() if name.startswith("extra_") or name in {"page", "box"}}
        assert kept == {"extra_source": "attic", "extra_model": "Nikon", "page": 1, "box": 7}
        assert metadata["source"] == str(folder / "a.png")


@pytest.mark.usefixtures("environment")
def test_no_name_is_used_twice(folder: Path) -> None:
    """However the names of `extra_info` clash, each value is kept, under the same name in one step and in two."""
    extra = {"source": "attic", "extra_source": "cellar", "error": "none", "time": "noon", "extra_error": 7}
    (document,) = AIFSImageReader(task="ocr").load_data(folder / "a.png", extra_info=extra)
    (node,) = ImageToText(task="ocr")(AIFSImageReader(task=None).load_data(folder / "a.png", extra_info=extra))
    assert node.metadata == document.metadata
    given = {name: value for name, value in node.metadata.items() if name.startswith("extra_")}
    assert given == {
        "extra_extra_source": "attic",
        "extra_source": "cellar",
        "extra_extra_error": "none",
        "extra_time": "noon",
        "extra_error": 7,
    }


# -- Every format, every way to a folder --------------------------------------------------------------------


@pytest.mark.usefixtures("environment")
def test_every_suffix_is_read(tmp_path: Path, server: Emulator) -> None:
    """In SimpleDirectoryReader every suffix of the project is read, in upper case, too: documents, videos, the lot."""
    made = samples()
    of_suffix = {".jpg": "JPEG", ".apng": "PNG, animated", ".webp": "WebP", ".tif": "TIFF, two pages", ".pdf": "PDF"}
    of_suffix |= {".bmp": "BMP", ".jp2": "JPEG 2000", ".avif": "AVIF", ".heic": "HEIC", ".mp4": "MP4", ".webm": "WebM"}
    for suffix in READABLE_SUFFIXES:  # what a file is, is told by its bytes
        name = f"file{suffix.upper()}" if len(suffix) % 2 else f"file{suffix}"
        (tmp_path / name).write_bytes(made[of_suffix.get(suffix, "PNG")])
    reader = AIFSImageReader(task="caption", frames="first", limits=Limits())
    directory = SimpleDirectoryReader(str(tmp_path), file_extractor=reader.file_extractor(), raise_on_error=True)
    documents = directory.load_data()
    assert {PurePath(document.metadata["source"]).suffix.lower() for document in documents} == READABLE_SUFFIXES
    assert {document.metadata["status"] for document in documents} == {"ok"}
    assert len(server.requests) == len(documents) == len(READABLE_SUFFIXES) + 2


@pytest.mark.usefixtures("environment")
def test_worker_processes_read_the_same(folder: Path) -> None:
    """In processes of their own, with the key from their environment, the Documents are the same."""
    reader = AIFSImageReader(task="ocr", limits=Limits())
    directory = SimpleDirectoryReader(str(folder), file_extractor=reader.file_extractor(), raise_on_error=True)
    assert directory.load_data(num_workers=2) == directory.load_data()


def test_a_directory_is_not_loaded_all_at_once(tmp_path: Path) -> None:
    """SimpleDirectoryReader asks for all files at once: at most 64 are under way, in one event loop after the other."""
    for number in range(150):
        (tmp_path / f"{number}.png").write_bytes(PNG)
    with Emulator(ocr=False, latency=0.3) as slow:
        limits = Limits(in_flight=1000)
        reader = AIFSImageReader(base_url=slow.base_url, api_key=slow.api_key, limits=limits)
        directory = SimpleDirectoryReader(str(tmp_path), file_extractor=reader.file_extractor(), raise_on_error=True)
        assert len(asyncio.run(directory.aload_data())) == 150
        spans = [(request.started, request.finished or request.started) for request in slow.requests]
        assert 32 < max(sum(start <= at < end for start, end in spans) for at, _ in spans) <= 64
        assert len(asyncio.run(directory.aload_data())) == 150


@pytest.mark.usefixtures("environment")
def test_frames_of_animations(tmp_path: Path) -> None:
    """`frames` chooses the frames of animations, as it does for a reading."""
    (tmp_path / "a.gif").write_bytes(samples()["GIF, animated"])
    assert len(AIFSImageReader().load_data(tmp_path)) == 1
    documents = AIFSImageReader(frames="all").load_data(tmp_path)
    assert [document.metadata["page"] for document in documents] == [1, 2]


# -- Without reading ----------------------------------------------------------------------------------------


def test_listing_needs_no_key(folder: Path, server: Emulator) -> None:
    """With task=None the Documents say which pages there are; without a key, without a request, without a text."""
    documents = AIFSImageReader(task=None).load_data(folder)
    assert [(document.text, document.metadata["status"]) for document in documents] == [("", "pending")] * 4
    assert [document.metadata["page"] for document in documents] == [1, 1, 1, 2]
    assert not {"model", "task", "prompt_version"} & documents[0].metadata.keys()
    assert len({document.id_ for document in documents}) == 4
    assert not server.requests


def test_an_edited_picture_keeps_its_id(folder: Path) -> None:
    """An edited picture has the same id and another hash, as LlamaIndex's document stores want it."""
    before = AIFSImageReader(task=None).load_data(folder / "a.png")[0]
    (folder / "a.png").write_bytes(saved(corners(50, 50)))
    after = AIFSImageReader(task=None).load_data(folder / "a.png")[0]
    assert before.id_ == after.id_
    assert before.hash != after.hash


def test_listing_by_on_error(folder: Path) -> None:
    """A file that is no picture is raised, skipped, or kept with its error; limits of one's own are kept to."""
    (folder / "b.JPG").write_text("not a picture")
    with pytest.raises(ImageFormatError, match="a text file"):
        AIFSImageReader(task=None).load_data(folder)
    reader = AIFSImageReader(task=None, on_error="skip", image_limits=ImageLimits(max_pages=1))
    assert len(reader.load_data(folder)) == 1
    assert [failure.source[-5:] for failure in reader.report.failures] == ["b.JPG", "c.tif"]
    kept = AIFSImageReader(task=None, on_error="keep").load_data(folder)
    assert (kept[1].metadata["status"], "a text file" in kept[1].metadata["error"]) == ("failed", True)


def test_what_could_not_be_found_again(tmp_path: Path) -> None:
    """Bytes are kept in the Document; file objects, PIL images and data URIs are refused with what to give instead."""
    (document,) = AIFSImageReader(task=None).load_data(PNG)
    assert document.image_resource is not None
    assert b64decode(document.image_resource.data or b"") == PNG
    (tmp_path / "a.png").write_bytes(PNG)
    with (tmp_path / "a.png").open("rb") as file:
        for source in (file, corners(), "data:image/png;base64," + b64encode(PNG).decode()):
            for given in (source, [source]):
                with pytest.raises(TypeError, match="give a path, a URL or bytes"):
                    AIFSImageReader(task=None).load_data(given)


def test_some_pages(tmp_path: Path) -> None:
    """Of a source some of whose pages are meant there are Documents for these, whether it is a path or bytes."""
    scan = tiff([corners()] * 4)
    (tmp_path / "a.tif").write_bytes(scan)
    for source in (tmp_path / "a.tif", ("a.tif", scan)):
        documents = AIFSImageReader(task=None).load_data(SourcePages(source=source, pages=(2, 4)))
        assert [document.metadata["page"] for document in documents] == [2, 4]
        assert [document.image_resource is None for document in documents] == [isinstance(source, Path)] * 2


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("task", [None, "caption"])
def test_a_node_is_no_source(task: Any) -> None:
    """A node that is given to the reader is refused with whom to give it to."""
    reader = AIFSImageReader(task=task)
    node: Any = ImageDocument(image=b64encode(PNG).decode())
    for given in (node, [node]):
        with pytest.raises(TypeError, match="ImageToText" if given is node else "ImageDocument"):
            reader.load_data(given)
    if task is None:
        with pytest.raises(TypeError, match="tuple"):
            reader.load_data([("name", "scans/a.png")])  # type: ignore[list-item]
    else:
        with pytest.raises(TypeError, match="ImageToText"):
            reader.estimate(node)


def test_bytes_are_let_go_of() -> None:
    """A lazy listing of many bytes holds those of a few at a time."""
    alive: list[weakref.ref[Any]] = []
    most = 0
    for document in AIFSImageReader(task=None).lazy_load_data(PNG + bytes([number]) for number in range(200)):
        assert document.image_resource is not None
        alive.append(weakref.ref(document.image_resource))
        most = max(most, sum(each() is not None for each in alive))
    assert len(alive) == 200
    assert most < 10


@pytest.mark.usefixtures("environment")
def test_closed_loops_are_let_go_of() -> None:
    """A reader that has been used in many event loops keeps none of them alive, though some had to wait in them."""
    reader, loops = AIFSImageReader(task=None), []

    async def many() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await asyncio.gather(*(reader.aload_data(PNG) for _ in range(70)))

    for _ in range(3):
        asyncio.run(many())
    gc.collect()
    assert sum(loop() is not None for loop in loops) <= 1


def test_options_that_are_of_no_use(server: Emulator) -> None:
    """With task=None there is nobody to ask: a model, a key or a Vision is a TypeError, an estimate, too."""
    for options in ({"model": "gpt-4.1"}, {"api_key": "x"}, {"vision": Vision(base_url=server.base_url, api_key="x")}):
        with pytest.raises(TypeError, match=next(iter(options))):
            AIFSImageReader(task=None, **options)
    with pytest.raises(TypeError, match="ImageToText"):
        AIFSImageReader(task=None).estimate("examples/images")
    with pytest.raises(SettingsError, match="frames"):
        AIFSImageReader(task=None, frames=0)


@pytest.mark.usefixtures("environment")
def test_report_and_estimate(folder: Path, server: Emulator) -> None:
    """The estimate foretells the run and sends nothing; the report counts while it goes on."""
    reader = AIFSImageReader(task="caption")
    assert (reader.report.images, reader.task, reader.vision and reader.vision.model) == (0, CAPTION, Vision().model)
    estimate = reader.estimate(folder)
    assert estimate == asyncio.run(reader.aestimate(folder))
    assert (estimate.images, len(server.requests)) == (4, 0)
    documents = reader.lazy_load_data(folder)
    next(iter(documents))
    assert 1 <= reader.report.images <= 4
    assert len(list(documents)) == 3
    assert (reader.report.images, reader.report.requests) == (4, 4)
    assert "task='caption'" in repr(reader)


@pytest.mark.usefixtures("environment")
def test_nothing_secret_in_what_is_written() -> None:
    """Neither dict, JSON, repr nor pickle of a reader has the key."""
    reader = AIFSImageReader(api_key="very-secret")
    written = [
        str(reader.to_dict()),
        reader.to_json(),
        repr(reader),
        str(pickle.dumps(reader)),
        str(reader.model_dump()),
    ]
    assert not [text for text in written if "very-secret" in text]


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("kind", [AIFSImageReader, ImageToText])
def test_copies_keep_the_settings(kind: Any) -> None:
    """A pickle or a deep copy asks the same model the same thing; only the key is taken from where it is opened."""
    first = kind(model="gpt-4.1", task=CAPTION.in_language("German"), on_error="keep", frames=3, api_key="another")
    for second in (pickle.loads(pickle.dumps(first)), copy.deepcopy(first)):  # noqa: S301 - our own
        known, copied = ({k: v for k, v in each.to_dict().items() if k != "answers"} for each in (first, second))
        assert copied == known
        assert (second.vision.model, second.task) == ("gpt-4.1", first.task)
