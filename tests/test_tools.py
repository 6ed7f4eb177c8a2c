"""Tools of agents: what they do with images below a folder, and what they say where they cannot."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from aifs_vision import Limits, SettingsError, ToolResult, Vision, VisionTools
from aifs_vision.emulator import Emulator
from aifs_vision.testing import isolated
from tests.pictures import noise, saved
from tests.scans import PNG, scans

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aifs_vision.emulator import ChatRequest

NAMES = ["list_images", "caption_image", "read_text", "ask_image", "extract_fields"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with pictures, among everything that must not be read."""
    return scans(tmp_path)


@pytest.fixture
def tools(root: Path, vision: Vision) -> VisionTools:
    """The tools of that folder."""
    return VisionTools(root, vision=vision, max_bytes=1_000_000)


def ask(tools: VisionTools, path: object) -> ToolResult:
    """Asks for the caption of a path."""
    return tools.run("caption_image", {"image": path})


# -- What the tools do ----------------------------------------------------------------------------------------------


def test_a_listing_shows_what_there_is(tools: VisionTools) -> None:
    """Names and sizes of what can be read: no texts, no links, no hidden files, no pipes; and the conversation's."""
    listed = tools.run("list_images", {}, pictures={"picture 1": PNG})
    lines = listed.text.splitlines()
    foreign = [] if os.geteuid() == 0 else ["foreign.png"]
    names = ["a b/Größe 50%.png", "a.png", "big.png", *foreign, "minutes.tif", "sub/b.png"]
    assert [line.rpartition(" (")[0] for line in lines] == ["picture 1", *names]
    assert f"a.png ({len(PNG)} bytes)" in lines
    assert [file["path"] for file in listed.artifact["files"]] == names
    assert tools.run("list_images", {"folder": "sub"}).text.startswith("sub/b.png")


def test_folders_that_cannot_be_listed_are_left_out(tools: VisionTools, monkeypatch: pytest.MonkeyPatch) -> None:
    """One folder that refuses leaves the others as they are; where it is the one that was asked for, it says so."""
    scan, calls = os.scandir, []

    def refusing(place: Any) -> Any:
        calls.append(place)
        if len(calls) > 1:
            raise PermissionError(13, "Permission denied")
        return scan(place)

    monkeypatch.setattr(os, "scandir", refusing)
    assert "a.png" in tools.run("list_images", {}).text
    assert len(calls) == 3
    assert "Permission denied" in tools.run("list_images", {"folder": "sub"}).text


def test_a_listing_is_short(tmp_path: Path, vision: Vision) -> None:
    """Of many files a hundred are named, and the number of the others; an empty folder says so."""
    assert "No images" in VisionTools(tmp_path, vision=vision).run("list_images", {}).text
    for number in range(250):
        (tmp_path / f"{number:03}.png").touch()
    listed = VisionTools(tmp_path, vision=vision).run("list_images", {})
    assert len(listed.text.splitlines()) == 101
    assert "150 more" in listed.text
    assert (len(listed.artifact["files"]), listed.artifact["more"]) == (100, 150)


@pytest.mark.parametrize(("most", "length"), [(200, 10), (4_000, 10), (4_000, 200), (300, 180)])
def test_every_file_of_a_folder_can_be_listed(tmp_path: Path, vision: Vision, most: int, length: int) -> None:
    """A list is cut between its lines, names the rest, and goes on where it was cut, however long the names are."""
    names = [f"{number:03}{'x' * length}.png" for number in range(120)]
    for name in names:
        (tmp_path / name).touch()
    tools, seen, after = VisionTools(tmp_path, vision=vision, max_chars=most), list[str](), ""
    while len(seen) < len(names):
        listed = tools.run("list_images", {"after": after})
        assert len(listed.text) <= most
        *lines, last = listed.text.splitlines()
        seen += [line.rpartition(" (")[0] for line in (lines if listed.artifact["more"] else [*lines, last])]
        after = seen[-1]
        assert listed.artifact["more"] == len(names) - len(seen)
        assert not listed.artifact["more"] or f"{len(names) - len(seen)} more" in last
        assert not listed.artifact["more"] or "the last path above as after" in last
    assert seen == names
    assert "No more images" in tools.run("list_images", {"after": after}).text


@pytest.mark.parametrize("folder", ["sub", "sub/", "./sub"])
@pytest.mark.parametrize("after", ["sub/b.png", "b.png"])
def test_a_list_of_a_folder_goes_on_after_either_form_of_a_path(
    tmp_path: Path, vision: Vision, folder: str, after: str
) -> None:
    """The last path may be given as it was listed, or as models shorten it, from the folder on."""
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / "sub" / name).touch()
    listed = VisionTools(tmp_path, vision=vision).run("list_images", {"folder": folder, "after": after})
    assert [file["path"] for file in listed.artifact["files"]] == ["sub/c.png"]


def test_pictures_of_the_conversation_are_listed_first(tmp_path: Path, vision: Vision) -> None:
    """Many files with long names do not push the conversation's pictures out, nor these the files."""
    for number in range(90):
        (tmp_path / f"a-rather-long-name-of-a-scanned-picture-{number:03}.png").touch()
    tools = VisionTools(tmp_path, vision=vision)
    assert tools.run("list_images", {}, pictures={"picture 1": PNG}).text.startswith("picture 1 (in this conv")
    many = tools.run("list_images", {}, pictures={f"picture {number}": PNG for number in range(1, 201)}).text
    assert many.startswith("... ")
    assert "picture 200 (in this conversation)" in many
    assert "picture-000.png" in many
    assert len(many) <= 4_000


def reply(asked: ChatRequest) -> str | None:
    """A model that reads nothing, but answers in the form that it is asked for."""
    if asked.schema:
        kinds = ["12.50", 12.5, 12, True, ["a", "b"]]
        return json.dumps(dict(zip(asked.schema["properties"], kinds, strict=False)))
    return " ".join(map(str, range(300))) if "everything" in asked.prompt else f"about {len(asked.images)} image"


@pytest.fixture
def scripted(root: Path) -> Iterator[tuple[VisionTools, Emulator]]:
    """The tools, and a model that answers."""
    with isolated(), Emulator(ocr=False, reply=reply) as server:
        yield VisionTools(root, base_url=server.base_url, api_key=server.api_key, limits=Limits()), server


@pytest.mark.parametrize(
    ("name", "more", "task"),
    [
        ("caption_image", {}, "caption"),
        ("read_text", {}, "ocr"),
        ("ask_image", {"question": "How much?"}, "ask-"),
        (
            "extract_fields",
            {"fields": ["Total amount", "json", "_x", "paid", "items", "missing", "paid "]},
            "extract-Fields",
        ),
    ],
)
def test_each_tool_reads(scripted: tuple[VisionTools, Emulator], name: str, more: Any, task: str) -> None:
    """The text is the answer; the artifact is plain JSON with status, text, data and cost; sync and async are one."""
    tools, server = scripted
    result = tools.run(name, {"image": "a.png", **more})
    assert result.ok
    assert asyncio.run(tools.arun(name, {"image": "a.png", **more})) == result
    told = json.loads(json.dumps(result.artifact))
    assert told["task"].startswith(task)
    assert (told["status"], told["source"], told["page"]) == ("ok", "a.png", 1)
    assert told["cost_eur"] > 0
    assert told["usage"]["input_tokens"] > 0
    assert all(len(request.images) == 1 for request in server.requests)
    if name == "extract_fields":
        assert json.loads(result.text) == told["data"]
        assert [*told["data"].values()] == ["12.50", 12.5, 12, True, ["a", "b"], None]
        assert [*told["data"]] == ["Total amount", "json", "_x", "paid", "items", "missing"]
    else:
        assert result.text == str(result) == told["text"] == "about 1 image"
        assert told["data"] is None


def test_pages_are_named(scripted: tuple[VisionTools, Emulator]) -> None:
    """A result of a document says which page it is of how many; the others can be asked for, and only they."""
    tools, server = scripted
    assert tools.run("read_text", {"image": "minutes.tif"}).text.startswith("[page 1 of 2]\n")
    assert tools.run("read_text", {"image": "minutes.tif", "page": 2}).artifact["page"] == 2
    third = tools.run("read_text", {"image": "minutes.tif", "page": 3})
    assert not third.ok
    assert "2 pages" in third.text
    assert "Give a page from 1 to 2." in third.text
    assert "frames=" not in third.text
    assert len(server.requests) == 2


def test_results_are_cut(root: Path, scripted: tuple[VisionTools, Emulator]) -> None:
    """A long result is cut and says so; the artifact has the whole."""
    _, server = scripted
    tools = VisionTools(root, base_url=server.base_url, api_key=server.api_key, max_chars=300)
    result = tools.run("ask_image", {"image": "a.png", "question": "Tell everything"})
    assert len(result.text) == 300
    assert "cut" in result.text
    assert len(result.artifact["text"]) > 1_000


def test_pictures_of_the_conversation_are_read_by_name(scripted: tuple[VisionTools, Emulator]) -> None:
    """Bytes and data URIs that the conversation holds are read under their names, and their addresses are not."""
    tools, server = scripted
    coded = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    pictures: dict[str, bytes | str] = {
        "picture 1": PNG,
        "picture 2": coded,
        "picture 3": "https://example.com/a.png",
        "picture 4": "a.png",
    }
    for name in ("picture 1", "picture 2"):
        assert tools.run("caption_image", {"image": name}, pictures=pictures).artifact["source"] == name
    for name in ("picture 3", "picture 4"):
        result = tools.run("caption_image", {"image": name}, pictures=pictures)
        assert not result.ok
        assert "address" in result.text
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("caption_image", {}),
        ("caption_image", {"image": 7}),
        ("caption_image", {"image": "a.png", "page": 0}),
        ("caption_image", {"image": "a.png", "page": "last"}),
        ("ask_image", {"image": "a.png"}),
        ("ask_image", {"image": "a.png", "question": " "}),
        ("ask_image", {"image": "a.png", "question": "x" * 3_000}),
        ("extract_fields", {"image": "a.png", "fields": []}),
        ("extract_fields", {"image": "a.png", "fields": ["x"] * 30}),
        ("extract_fields", {"image": "a.png", "fields": ["x" * 100]}),
        ("extract_fields", {"image": "a.png", "fields": ["a\nb"]}),
        ("search_images", {"query": "pump"}),
        ("delete_image", {"image": "a.png"}),
        ("caption_image", "no object"),
    ],
)
def test_wrong_arguments_are_told(tools: VisionTools, server: Any, name: str, arguments: Any) -> None:
    """Arguments that do not fit, and tools that are not there, come back as a text that says so."""
    result = tools.run(name, arguments)
    assert not result.ok
    assert name in result.text
    assert "x" * 200 not in result.text
    assert not server.requests


@pytest.mark.parametrize(
    ("fault", "words"),
    [(401, "Do not try again"), (403, "Do not try again"), (404, "Do not try again"), (400, "go on without")],
)
def test_failures_of_the_service_are_told(tools: VisionTools, server: Any, fault: int, words: str) -> None:
    """What the service refuses is a text as well, which says whether trying again is any use; the key is not in it."""
    server.fail(fault, times=9)
    result = ask(tools, "a.png")
    assert not result.ok
    assert words in result.text
    assert server.api_key not in f"{result} {result.artifact} {tools!r}"


def _always(answer: dict[str, Any], _: ChatRequest) -> dict[str, Any]:
    """A model that says the same to everything."""
    return dict(answer)


def test_answers_that_are_no_results_are_told(root: Path) -> None:
    """A refusal and an answer that is cut off are failures, with the facts and the cost of the reading."""
    for answer, status in (
        ({"content": "x", "finish_reason": "content_filter"}, "filtered"),
        ({"content": "Some words", "finish_reason": "length"}, "truncated"),
    ):
        with isolated(), Emulator(ocr=False, reply=partial(_always, answer)) as server:
            tools = VisionTools(root, base_url=server.base_url, api_key=server.api_key)
            result = tools.run("ask_image", {"image": "a.png", "question": "What?"})
        assert not result.ok
        assert result.artifact["status"] == status
        assert result.artifact["cost_eur"] > 0
        assert ("Some words" in result.text) is (status == "truncated")


def test_an_empty_page_is_a_result(root: Path) -> None:
    """A picture without text says that, instead of nothing."""
    with isolated(), Emulator(ocr=False, reply=lambda _: "[no text]") as server:
        tools = VisionTools(root, base_url=server.base_url, api_key=server.api_key)
        result = tools.run("read_text", {"image": "a.png"})
    assert (result.ok, result.artifact["status"]) == (True, "empty")
    assert "no text" in result.text


def test_a_budget_that_is_used_up_is_told(root: Path, server: Any) -> None:
    """Beyond `max_cost` nothing is sent, and the model is told not to try again."""
    tools = VisionTools(root, base_url=server.base_url, api_key=server.api_key, max_cost=1e-9)
    assert "Do not try again" in ask(tools, "a.png").text
    assert not server.requests


def test_calls_at_once_are_apart(root: Path, vision: Vision) -> None:
    """Many calls at once each have their own result."""
    for number in range(12):
        (root / f"n{number}.png").write_bytes(saved(noise(40 + number, 30)))
    tools = VisionTools(root, vision=vision)

    async def all_of_them() -> list[ToolResult]:
        return await asyncio.gather(*(tools.arun("caption_image", {"image": f"n{number}.png"}) for number in range(12)))

    assert [result.artifact["source"] for result in asyncio.run(all_of_them())] == [f"n{n}.png" for n in range(12)]


def test_wrong_settings_are_refused(root: Path, vision: Vision) -> None:
    """Unknown options, a Vision beside options, and what is no number or store, are errors at once."""
    wrong: list[dict[str, Any]] = [{"modell": "x"}, {"vision": vision, "model": "x"}, {"vision": "x"}, {"store": "x"}]
    for options in wrong:
        with pytest.raises(TypeError):
            VisionTools(root, **options)
    for options in ({"max_bytes": 0}, {"max_chars": 10}, {"max_chars": True}, {"max_bytes": "x"}):
        with pytest.raises(SettingsError):
            VisionTools(root, vision=vision, **options)


def test_without_a_store_there_is_no_search(tools: VisionTools) -> None:
    """The tools are those that can be used."""
    assert [form.name for form in tools.forms] == NAMES
