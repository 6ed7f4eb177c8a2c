"""The search of agents' tools: what it finds, and how the pictures of pages are looked at again by their names."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aifs_vision import AIFSVisualRAGStore, VisionTools
from aifs_vision.emulator import Emulator
from aifs_vision.testing import isolated
from tests.pictures import noise, saved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aifs_vision.emulator import ChatRequest

NAMES = ["list_images", "caption_image", "read_text", "ask_image", "extract_fields"]


def width(asked: ChatRequest) -> str | None:
    """A model that tells a picture's width."""
    return f"{asked.images[0].picture.width} px" if asked.images and asked.images[0].picture else None


@pytest.fixture(scope="module")
def server() -> Iterator[Emulator]:
    """A service with that model."""
    with isolated(), Emulator(ocr=False, reply=width) as made:
        yield made


@pytest.fixture
def store(server: Emulator, tmp_path: Path) -> Iterator[AIFSVisualRAGStore]:
    """A store with two files of one name."""
    made = AIFSVisualRAGStore("pages", base_url=server.base_url, api_key=server.api_key)
    for number, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "page.png").write_bytes(saved(noise(100 + number, 80, number + 1)))
    made.add([tmp_path / "a" / "page.png", tmp_path / "b" / "page.png"])
    yield made
    made.drop()


@pytest.fixture
def tools(server: Emulator, store: AIFSVisualRAGStore, tmp_path: Path) -> VisionTools:
    """Tools that search it, and an empty folder."""
    (tmp_path / "root").mkdir()
    return VisionTools(tmp_path / "root", store=store, base_url=server.base_url, api_key=server.api_key)


def found(tools: VisionTools) -> list[dict[str, Any]]:
    """The pictures that a search finds."""
    result = tools.run("search_images", {"query": "noise", "k": 4})
    assert result.ok, result.text
    pictures = [hit for hit in result.artifact["hits"] if hit["modality"] == "image"]
    assert re.findall(r"called '([^']+)'", result.text) == [hit["name"] for hit in pictures]
    return pictures


def test_a_store_is_searched(tmp_path: Path) -> None:
    """With a store there is a search, whose text names files, pages and pictures; its artifact has the pictures."""
    letter = Path(__file__).parent.parent / "examples" / "images" / "letter.png"
    with isolated(), Emulator() as server:
        store = AIFSVisualRAGStore("letters", base_url=server.base_url, api_key=server.api_key)
        tools = VisionTools(tmp_path, store=store, base_url=server.base_url, api_key=server.api_key)
        assert [form.name for form in tools.forms] == [*NAMES, "search_images"]
        missing = tools.run("search_images", {"query": "a letter"})
        assert not missing.ok
        assert "add()" in missing.text
        store.add(letter)
        result = tools.run("search_images", {"query": "a letter", "k": 4})
        assert tools.run("search_images", {"query": " "}).ok is False
    assert result.ok
    (picture,) = [hit for hit in result.artifact["hits"] if hit["modality"] == "image"]
    assert picture["image_url"].startswith("data:image/")
    assert picture["name"] in result.text
    assert "letter.png" in result.text
    assert "base64" not in result.text
    assert any(hit.get("text") for hit in result.artifact["hits"])


def test_pages_of_one_name_are_told_apart(tools: VisionTools, server: Emulator) -> None:
    """Files of several folders may be called alike: each picture has its own name, and is looked at by it."""
    pictures = found(tools)
    assert len({hit["name"] for hit in pictures}) == len(pictures) == 2
    seen = [tools.run("caption_image", {"image": hit["name"]}) for hit in pictures]
    assert {result.text for result in seen} == {"100 px", "101 px"}
    assert [result.artifact["source"] for result in seen] == [hit["name"] for hit in pictures]
    sent = [data for request in server.requests[-2:] for _, data in request.images]
    assert sent == [data for _, data in (_decoded(hit["image_url"]) for hit in pictures)]
    assert [hit["name"] for hit in found(tools)] == [hit["name"] for hit in pictures]  # also the next time


def _decoded(uri: str) -> tuple[str, bytes]:
    from base64 import b64decode

    label, _, data = uri.partition(",")
    return label, b64decode(data)


def test_a_page_that_was_found_has_no_other_pages(tools: VisionTools) -> None:
    """The number that its name holds may be given once more, as models do; it is that picture all the same."""
    (first, _) = found(tools)
    for page in (1, 3):
        result = tools.run("caption_image", {"image": first["name"], "page": page})
        assert result.ok, result.text
        assert result.artifact["page"] == 1


def test_a_page_that_is_not_known_any_more(
    tools: VisionTools, server: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a picture is not kept, as in another process, a model is told to search again; pictures do not travel."""
    (first, _) = found(tools)
    monkeypatch.setenv("AIFS_API_KEY", server.api_key)
    packed = pickle.dumps(tools)
    assert len(packed) < 5_000
    other = pickle.loads(packed)  # noqa: S301 - our own bytes
    result = other.run("caption_image", {"image": first["name"]})
    assert not result.ok
    assert "Search again" in result.text
    found(other)
    assert other.run("caption_image", {"image": first["name"]}).ok


def test_a_file_may_be_named_like_a_page(tools: VisionTools, tmp_path: Path) -> None:
    """A file below the folder is read whatever its name looks like."""
    (tmp_path / "root" / "x.png#page=1-abcdef").write_bytes(saved(noise(120, 80)))
    result = tools.run("caption_image", {"image": "x.png#page=1-abcdef"})
    assert (result.ok, result.text) == (True, "120 px")
    assert "Search again" in tools.run("caption_image", {"image": "y.png#page=1-abcdef"}).text
