"""LangChain's `index()` over a folder of images: what has not changed costs nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

import pytest
from langchain_core.indexing import InMemoryRecordManager, aindex, index
from langchain_core.vectorstores import InMemoryVectorStore

from aifs_vision import ImageFormatError, Task
from aifs_vision.emulator import Emulator
from langchain_aifs import AIFSEmbeddings, AIFSImageLoader
from tests.langchain.sights import seeing
from tests.pictures import corners, noise, saved, tiff

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Cleanup = Literal["full", "incremental", "scoped_full"]
CORNERS = "red, lime, blue, yellow"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulator that says what it sees, in the environment."""
    with seeing(monkeypatch) as server:
        yield server


class Photos:
    """A folder of images, and an index of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        for name, picture in (("a.png", corners()), ("b.png", corners(90, 30))):
            (path / name).write_bytes(saved(picture))
        (path / "c.tif").write_bytes(tiff([corners(50, 50), corners(70, 50)]))
        # What a user needs, and no more; a record manager that lasts is one line in its place.
        self.loader = AIFSImageLoader(path, cache=path.parent / "readings.db")
        self.store = InMemoryVectorStore(AIFSEmbeddings())
        self.records = InMemoryRecordManager("photos")

    def indexed(self, cleanup: Cleanup = "full", *, asynchronously: bool = False) -> dict[str, int]:
        """What indexing the folder has added, deleted and skipped."""
        how: Any = {"cleanup": cleanup, "source_id_key": "source", "key_encoder": "sha256"}
        if asynchronously:
            done = asyncio.run(aindex(self.loader, self.records, self.store, **how))
        else:
            done = index(self.loader, self.records, self.store, **how)
        counts: dict[str, Any] = {**done}
        return {name.removeprefix("num_"): count for name, count in counts.items() if count}

    def texts(self) -> list[str]:
        """What is in the store."""
        return sorted(entry["text"] for entry in self.store.store.values())


def requests(server: Emulator) -> dict[str, int]:
    """How many of each kind there were since this was asked last."""
    paths = [request.path.rpartition("/")[2] for request in server.requests]
    server.clear()
    return {path: paths.count(path) for path in sorted(set(paths))}


@pytest.fixture
def photos(tmp_path: Path, service: Emulator) -> Photos:
    """Such a folder; four pages, in three files."""
    assert service.base_url
    return Photos(tmp_path / "photos")


@pytest.mark.parametrize("cleanup", ["full", "incremental", "scoped_full"])
def test_an_unchanged_folder_costs_nothing(photos: Photos, service: Emulator, cleanup: Cleanup) -> None:
    """The second time nothing is read and nothing embedded, by index and aindex, in another process or this one."""
    assert photos.indexed(cleanup) == {"added": 4}
    assert requests(service) == {"completions": 4, "embeddings": 1}
    assert photos.indexed(cleanup) == {"skipped": 4}
    assert photos.indexed(cleanup, asynchronously=True) == {"skipped": 4}
    photos.loader = AIFSImageLoader(photos.path, cache=photos.path.parent / "readings.db")
    assert photos.indexed(cleanup) == {"skipped": 4}
    assert requests(service) == {}


@pytest.mark.parametrize("asynchronously", [False, True])
@pytest.mark.parametrize("cleanup", ["full", "incremental"])
def test_an_edited_image_replaces_its_old_text(
    photos: Photos, service: Emulator, cleanup: Cleanup, *, asynchronously: bool
) -> None:
    """Of an image that was edited the old text goes and the new one comes; it alone is read and embedded."""
    photos.indexed(cleanup)
    requests(service)
    (photos.path / "b.png").write_bytes(saved(corners(120, 60)))
    assert photos.indexed(cleanup, asynchronously=asynchronously) == {"added": 1, "deleted": 1, "skipped": 3}
    assert requests(service) == {"completions": 1, "embeddings": 1}
    assert photos.texts() == [
        f"120 x 60: {CORNERS}",
        f"50 x 50: {CORNERS}",
        f"60 x 40: {CORNERS}",
        f"70 x 50: {CORNERS}",
    ]
    (found,) = photos.store.similarity_search("120 x 60", k=1, filter=lambda d: d.metadata["source"].endswith("b.png"))
    assert found.page_content == f"120 x 60: {CORNERS}"


def test_a_page_that_is_gone_disappears(photos: Photos) -> None:
    """Of a document that has lost a page, the text of that page goes."""
    photos.indexed("incremental")
    (photos.path / "c.tif").write_bytes(saved(corners(50, 50), "TIFF"))
    photos.indexed("incremental")
    assert photos.texts() == [f"50 x 50: {CORNERS}", f"60 x 40: {CORNERS}", f"90 x 30: {CORNERS}"]


def test_a_removed_image_disappears(photos: Photos, service: Emulator) -> None:
    """With `cleanup="full"` the text of an image that was removed goes, and nothing is asked for it."""
    photos.indexed()
    requests(service)
    (photos.path / "c.tif").unlink()
    assert photos.indexed() == {"deleted": 2, "skipped": 2}
    assert photos.texts() == [f"60 x 40: {CORNERS}", f"90 x 30: {CORNERS}"]
    assert requests(service) == {}


def test_an_image_that_fails_does_not_disappear(photos: Photos) -> None:
    """Where errors raise, an image that cannot be read for once leaves the index as it is, also with full cleanup."""
    photos.indexed()
    (photos.path / "a.png").write_bytes(b"half a picture")
    with pytest.raises(ImageFormatError):
        photos.indexed()
    assert len(photos.texts()) == 4


def test_an_image_that_is_renamed_is_not_read_again(photos: Photos, service: Emulator) -> None:
    """A renamed image has another source, so its text is embedded anew; but it is not read anew."""
    photos.indexed()
    requests(service)
    (photos.path / "a.png").rename(photos.path / "z.png")
    assert photos.indexed() == {"added": 1, "deleted": 1, "skipped": 3}
    assert requests(service) == {"embeddings": 1}


def test_a_caption_and_a_text_stand_side_by_side(photos: Photos) -> None:
    """Two tasks over the same images are two texts each in an index, and neither removes the other's."""
    (photos.path / "c.tif").unlink()
    loaders = [AIFSImageLoader(photos.path, task=task) for task in ("caption", Task.ask("How large?"))]
    done = index(
        [document for loader in loaders for document in loader.lazy_load()],
        photos.records,
        photos.store,
        cleanup="full",
        source_id_key="source",
        key_encoder="sha256",
    )
    assert done["num_added"] == 4
    assert len(photos.texts()) == 4


def test_a_model_that_words_it_otherwise_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that would word it otherwise next time is not asked: the cache keeps the index as it is."""
    said = iter(range(100))
    with Emulator(ocr=False, reply=lambda _: f"words, number {next(said)}") as server:
        monkeypatch.setenv("AIFS_BASE_URL", server.base_url)
        monkeypatch.setenv("AIFS_API_KEY", server.api_key)
        photos = Photos(tmp_path / "photos")
        photos.indexed()
        before = photos.texts()
        (photos.path / "d.png").write_bytes(saved(noise(40, 40)))
        assert photos.indexed() == {"added": 1, "skipped": 4}
        assert set(photos.texts()) > set(before)
