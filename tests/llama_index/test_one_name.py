"""Different pictures under one name: each has an id of its own, in one step and in two."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.storage.docstore import SimpleDocumentStore

from aifs_vision.emulator import Emulator
from llama_index_aifs import AIFSImageReader, ImageToText
from tests.pictures import corners, saved, tiff

if TYPE_CHECKING:
    from pathlib import Path

    from aifs_vision.emulator import ChatRequest

pytestmark = pytest.mark.usefixtures("environment")
PNG, OTHER = saved(corners()), saved(corners(90, 50))
BROKEN = b"not a picture"


def ids(*sources: Any, **options: Any) -> list[str]:
    """The ids of the Documents, read in one step."""
    return [document.id_ for document in AIFSImageReader(task="ocr", **options).load_data(sources)]


def test_two_uploads_of_one_name() -> None:
    """The first one has the id that it has alone, the second one another, the same on every run; a copy has its own."""
    uploads = [("image.png", PNG), ("image.png", OTHER), ("image.png", PNG)]
    first, second, copy = ids(*uploads)
    assert [first, second, copy] == ids(*uploads)
    assert first == copy != second
    assert (first,) == (*ids(("image.png", PNG)),) == (*ids(("image.png", OTHER)),)
    reader = AIFSImageReader(task="ocr")
    assert [document.id_ for document in asyncio.run(reader.aload_data(uploads))] == [first, second, copy]
    assert [document.id_ for document in reader.load_data(iter(uploads))] == [first, second, copy]


def test_nothing_is_overwritten() -> None:
    """A document store has all of them, pages and failures included."""
    pages, others = tiff([corners(), corners()]), tiff([corners(70, 50), corners(70, 50)])
    uploads = [
        ("a.tif", pages),
        ("a.tif", others),
        ("b.png", PNG),
        ("b.png", BROKEN),
        ("c.png", BROKEN),
        ("c.png", PNG),
    ]
    documents = AIFSImageReader(task="ocr", on_error="keep").load_data(uploads)
    store = SimpleDocumentStore()
    store.add_documents(documents)
    assert len(store.docs) == len(documents) == 8


def test_one_step_and_two_give_the_same_ids() -> None:
    """Whichever way a picture is read, and whatever becomes of it, its id is the same."""
    uploads = [("b.png", PNG), ("b.png", OTHER), ("b.png", BROKEN), ("c.png", BROKEN), ("c.png", PNG)]
    listed = AIFSImageReader(task=None, on_error="keep").load_data(uploads)
    steps = ImageToText(task="ocr", on_error="keep")(listed)
    assert [node.id_ for node in steps] == ids(*uploads, on_error="keep")


@pytest.mark.parametrize("order", [0, 1, 2])
def test_a_path_and_bytes_of_its_name(order: int, tmp_path: Path) -> None:
    """Whichever comes first has the usual id, and the other one its own, the same in one step as in two."""
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    sources: list[Any] = [(str(path), OTHER), path, (str(path), saved(corners(50, 90)))]
    sources = sources[order:] + sources[:order]
    one = ids(*sources)
    listed = AIFSImageReader(task=None).load_data(sources)
    assert len(set(one)) == len({document.id_ for document in listed}) == 3
    assert [node.id_ for node in ImageToText(task="ocr")(listed)] == one
    kept = [type(document).from_dict(document.to_dict()) for document in listed if document.image_resource is None]
    assert [node.id_ for node in ImageToText(task="ocr")(kept)] == [one[sources.index(path)]]


def refusing(asked: ChatRequest) -> str:
    """What is said of pictures: of those of one size nothing."""
    picture = asked.images[0].picture
    return "Text." if picture is not None and picture.size == (90, 50) else "I'm sorry, but I can't assist with that."


def test_what_fails_changes_no_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """With "skip", in one step and in two, each picture has the id that it has where all of them are read."""
    uploads = [("a.png", PNG), ("a.png", OTHER), ("b.png", BROKEN), ("b.png", OTHER), ("c.png", OTHER)]
    with Emulator(ocr=False, reply=refusing) as server:
        monkeypatch.setenv("AIFS_BASE_URL", server.base_url)
        _, other, _, twin, last = ids(*uploads, on_error="keep")
        assert ids(*uploads, on_error="skip") == [other, twin, last]
        listed = AIFSImageReader(task=None, on_error="skip").load_data(uploads)
        nodes = ImageToText(task="ocr", on_error="skip")(listed)
    assert [node.id_ for node in nodes] == [other, twin, last]


def test_file_objects_of_one_name(tmp_path: Path) -> None:
    """Files that are open and have one name are told apart as well, and so is a path from bytes that have its name."""

    def opened(data: bytes) -> io.BytesIO:
        file = io.BytesIO(data)
        file.name = "upload.png"
        return file

    assert len(set(ids(opened(PNG), opened(OTHER)))) == 2
    (tmp_path / "a.png").write_bytes(PNG)
    for sources in ([tmp_path / "a.png", (str(tmp_path / "a.png"), OTHER)], [tmp_path / "a.png", tmp_path / "a.png"]):
        assert len(set(ids(*sources))) == (2 if isinstance(sources[1], tuple) else 1)
    listed = AIFSImageReader(task=None).load_data([tmp_path / "a.png", (str(tmp_path / "a.png"), OTHER)])
    assert len({document.id_ for document in listed}) == 2
