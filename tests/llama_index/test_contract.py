"""The reader, the transform and their nodes keep the contract."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from PIL import ImageOps

from aifs_vision import Limits
from aifs_vision.emulator import Emulator
from llama_index_aifs import AIFSEmbedding, AIFSImageReader, ImageToText
from tests.llama_index.contract import ReaderContract, ReferenceContract, TransformContract
from tests.pictures import corner_names, corners, saved, tiff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from llama_index.core.schema import BaseNode, Document

    from aifs_vision.emulator import ChatRequest


def seen(asked: ChatRequest) -> str:
    """What is on a picture: the colours of its corners, and its size."""
    picture = asked.images[0].picture
    assert picture is not None
    return f"Corners: {', '.join(corner_names(picture))}; {picture.width} x {picture.height}."


@pytest.fixture(scope="module")
def eyes() -> Iterator[Emulator]:
    """A service that answers with what is on the picture, a little later."""
    with Emulator(ocr=False, reply=seen, latency=0.03) as server:
        yield server


@pytest.fixture(autouse=True)
def _looking(eyes: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    eyes.clear()
    monkeypatch.setenv("AIFS_BASE_URL", eyes.base_url)
    monkeypatch.setenv("AIFS_API_KEY", eyes.api_key)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two pictures and a TIFF of two pages, no two of them the same."""
    folder = tmp_path / "scans"
    folder.mkdir()
    (folder / "a.png").write_bytes(saved(corners()))
    (folder / "b.JPG").write_bytes(saved(corners(64, 48), "JPEG"))
    (folder / "c.tif").write_bytes(tiff([corners(80, 60), corners(80, 60).rotate(180)]))
    return sorted(folder.iterdir())


@pytest.fixture
def embedding() -> AIFSEmbedding:
    """The project's own."""
    return AIFSEmbedding(limits=Limits())


class TestReader(ReaderContract):
    @pytest.fixture
    def reader(self) -> AIFSImageReader:
        """One that captions."""
        return AIFSImageReader(task="caption", limits=Limits())


class TestReaderOfNothingButHeaders(ReaderContract):
    @pytest.fixture
    def reader(self, monkeypatch: pytest.MonkeyPatch) -> AIFSImageReader:
        """One that asks nobody, and has no key."""
        monkeypatch.delenv("AIFS_API_KEY")
        return AIFSImageReader(task=None)


class TestTransform(TransformContract):
    @pytest.fixture
    def make(self) -> Callable[..., ImageToText]:
        """Captions."""
        return partial(ImageToText, task="caption", limits=Limits())

    @pytest.fixture
    def load(self, files: list[Path]) -> Callable[[], list[Document]]:
        """What there is to caption."""
        return lambda: AIFSImageReader(task=None).load_data(files)

    @pytest.fixture
    def edit(self, files: list[Path]) -> Callable[[], str]:
        """Mirrors the first picture."""

        def mirrored() -> str:
            files[0].write_bytes(saved(ImageOps.mirror(corners())))
            return "Corners: lime, red, yellow, blue; 60 x 40."

        return mirrored

    @pytest.fixture
    def asked(self, eyes: Emulator) -> Callable[[], int]:
        """Questions, embeddings aside."""
        return lambda: sum(request.path.endswith("/chat/completions") for request in eyes.requests)


class TestNodesOfTheTransform(ReferenceContract):
    @pytest.fixture
    def nodes(self, files: list[Path]) -> list[BaseNode]:
        """Captions."""
        return ImageToText(task="caption", limits=Limits())(AIFSImageReader(task=None).load_data(files))

    @pytest.fixture
    def kept(self) -> tuple[str, ...]:
        """Where the picture is, what it was, and its label."""
        return ("source", "page", "image_sha256", "mime_type")


class TestDocumentsOfTheReader(ReferenceContract):
    @pytest.fixture
    def nodes(self, files: list[Path]) -> list[Any]:
        """Captions, as Documents."""
        return AIFSImageReader(task="caption", limits=Limits()).load_data(files)

    @pytest.fixture
    def kept(self) -> tuple[str, ...]:
        """Where the picture is, what it was, and its label."""
        return ("source", "page", "image_sha256", "mime_type")
