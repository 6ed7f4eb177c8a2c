"""Tools of agents: what they do with images below a folder, and that nothing else is ever opened."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aifs_vision import AIFSVisualRAGStore, Limits, SettingsError, ToolResult, Vision, VisionTools
from aifs_vision.emulator import Emulator
from aifs_vision.testing import isolated
from tests.pictures import corners, noise, saved, tiff

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aifs_vision.emulator import ChatRequest

PNG = saved(corners())
NAMES = ["list_images", "caption_image", "read_text", "ask_image", "extract_fields"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with pictures, among folders that are none of its business."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root / "sub", root / "a b", outside, tmp_path / "root-too"):
        folder.mkdir(parents=True)
    for path in (root / "a.png", root / "sub" / "b.png", root / "a b" / "Größe 50%.png"):
        path.write_bytes(PNG)
    for path in (outside / "secret.png", tmp_path / "root-too" / "secret.png", root / ".hidden.png"):
        path.write_bytes(PNG)
    (root / "minutes.tif").write_bytes(tiff([corners(), corners(90, 60)]))
    (root / "notes.txt").write_text("The word is swordfish.", encoding="utf-8")
    (root / "link.png").symlink_to(outside / "secret.png")
    (root / "inner.png").symlink_to(root / "a.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    (root / "way").symlink_to(outside)
    (root / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(root / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(root)  # the path of a socket has to be short
        listening.bind("socket.png")
        os.chdir(here)
    (root / "big.png").write_bytes(PNG + b"\0" * 2_000_000)
    (root / "foreign.png").write_bytes(PNG)
    if os.geteuid() == 0:
        os.chown(root / "foreign.png", 12_345, 12_345)
    return root


@pytest.fixture
def tools(root: Path, vision: Vision) -> VisionTools:
    """The tools of that folder."""
    return VisionTools(root, vision=vision, max_bytes=1_000_000)


def ask(tools: VisionTools, path: object) -> ToolResult:
    """Asks for the caption of a path."""
    return tools.run("caption_image", {"image": path})


# -- What does not get out ------------------------------------------------------------------------------------------

ESCAPES = [
    *("../outside/secret.png", "sub/../../outside/secret.png", "sub/../a.png", "..", "../", "./../outside/secret.png"),
    *(
        "sub/..",
        "sub/./../../outside/secret.png",
        "....//outside/secret.png",
        ".../outside/secret.png",
        "..;/secret.png",
    ),
    *(
        "{outside}/secret.png",
        "/etc/passwd",
        "//etc/passwd",
        "///{outside}/secret.png",
        "/dev/stdin",
        "/proc/self/fd/0",
    ),
    *("/proc/self/environ", "/proc/self/cwd/{outside}/secret.png", "{root}/a.png", "{root}-too/secret.png"),
    *("../root-too/secret.png", "~/secret.png", "~root/secret.png", "~", "$HOME/secret.png", "${{HOME}}/secret.png"),
    *(
        "link.png",
        "inner.png",
        "loop.png",
        "way/secret.png",
        "way/../a.png",
        "zero.png",
        "way",
        "pipe.png",
        "socket.png",
    ),
    *("http://127.0.0.1/secret.png", "https://example.com/a.png", "HTTP://example.com/a.png", "//example.com/a.png"),
    *("file:///etc/passwd", "file:{outside}/secret.png", "ftp://example.com/a.png", "s3://bucket/a.png", "gopher:a"),
    *("data:image/png;base64,iVBORw0KGgo=", "DATA:image/png,x", "javascript:alert(1)", " data:,x", "http:/example.com"),
    *("a.png\0", "\0", "a.png\0.txt", "../outside/secret.png\0.png", "a\n.png", "a\x1b.png", "sub\x7f/b.png"),
    *("%2e%2e/outside/secret.png", "..%2foutside%2fsecret.png", "%2e%2e%2foutside/secret.png", "%252e%252e/secret.png"),
    *("%25252e%25252e/secret.png", "..%5coutside%5csecret.png", "%2fetc%2fpasswd", "a.png%00", "%7e/secret.png"),
    *("..%c0%afoutside/secret.png", "%c0%ae%c0%ae/secret.png", "%u002e%u002e/secret.png", "file%3a///etc/passwd"),
    *(
        "\uff0e\uff0e/outside/secret.png",
        "\u2024\u2024/outside/secret.png",
        "\u2025/outside/secret.png",
        "..\uff0foutside",
    ),
    *("..\u2215outside\u2215secret.png", "..\u2044outside", "\uff5e/secret.png", ".\u200b./outside/secret.png"),
    *("\u2060../outside/secret.png", "\u202egnp.a", "a\u2028.png", "\ud800.png", "..\uff3coutside", "\uff0fetc/passwd"),
    *(
        "C:\\secret.png",
        "C:/secret.png",
        "c:secret.png",
        "..\\outside\\secret.png",
        "sub\\b.png",
        "\\\\host\\share\\a.png",
    ),
    *(
        "\\\\?\\C:\\secret.png",
        "\\\\.\\pipe\\a",
        "//./pipe/a",
        "a.png::$DATA",
        "a.png:stream",
        "con",
        "NUL.png",
        "sub/aux",
    ),
    *("a.png.", "a.png ", " a.png", "a.png/", "a.png/.", "a.png/b.png", "sub", ".", "", "/", " ", ".hidden.png"),
    *("sub/.git/config", ".ssh/id_rsa", "x" * 5_000, "sub/" * 400 + "b.png", "nothing.png", "A.PNG.nothing"),
    *("big.png", "notes.txt", "picture 1", "\U0001f5bc.png"),
    *(["foreign.png"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),  # only root gives files away
]
# Paths that name what they name, if a little oddly; nothing else comes of them.
HARMLESS = {"a.png/", "a.png/."}


@pytest.fixture(params=["descriptors", "paths"])
def _opening(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files opened from folder to folder, and by their paths, as on a system whose folders have no descriptors."""
    if request.param == "paths":
        monkeypatch.setattr(os, "supports_dir_fd", set())


@pytest.mark.usefixtures("_opening")
@pytest.mark.parametrize("escape", [path for path in ESCAPES if path not in HARMLESS], ids=ascii)
def test_nothing_but_pictures_below_the_root_is_opened(
    root: Path, tools: VisionTools, server: Any, escape: str
) -> None:
    """Each of these is refused with a text that says what to do; nothing is sent, and nothing raised."""
    path = escape.format(root=root, outside=root.parent / "outside") if "{" in escape else escape
    result = ask(tools, path)
    assert not result.ok
    assert len(result.text) < 700
    assert result.text.isprintable()
    assert "swordfish" not in result.text
    assert not server.requests
    assert result.artifact["error"]


def test_escapes_are_many() -> None:
    """More than forty of them, all different."""
    assert len({*ESCAPES}) == len(ESCAPES) > 40 * 3


@pytest.mark.usefixtures("_opening")
@pytest.mark.parametrize("path", ["a.png", "./a.png", "sub/b.png", "sub//b.png", "a b/Größe 50%.png", *HARMLESS])
def test_what_is_below_the_root_is_read(tools: VisionTools, server: Any, path: str) -> None:
    """Plain paths are read, with blanks, umlauts and per cents as they are."""
    result = ask(tools, path)
    assert result.ok, result.text
    assert result.artifact["source"] == "/".join(part for part in path.split("/") if part not in {"", "."})
    assert len(server.requests) == 1


@pytest.mark.parametrize("escape", ["../outside", "way", "/etc", "~", "%2e%2e/outside", "a.png", "nothing", "pipe.png"])
def test_no_other_folder_is_listed(tools: VisionTools, escape: str) -> None:
    """A listing is refused as reading is."""
    result = tools.run("list_images", {"folder": escape})
    assert not result.ok
    assert "secret" not in result.text


def test_a_link_that_is_swapped_in_is_not_followed(root: Path, tools: VisionTools, server: Any) -> None:
    """A folder that has become a link since it was listed leads nowhere."""
    assert "sub/b.png" in tools.run("list_images", {}).text
    (root / "sub" / "b.png").unlink()
    (root / "sub").rmdir()
    (root / "sub").symlink_to(root.parent / "outside")
    assert "links are not followed" in ask(tools, "sub/secret.png").text
    assert "secret" not in tools.run("list_images", {}).text
    assert not server.requests


@pytest.mark.parametrize("bad", ["nothing", "a.png", "", "\0", None, 7])
def test_the_root_is_a_folder(root: Path, vision: Vision, bad: Any) -> None:
    """Tools without a folder that is there are not made."""
    given = root / bad if isinstance(bad, str) and bad else bad
    with pytest.raises(SettingsError, match="root"):
        VisionTools(given, vision=vision)


# -- What the tools do ----------------------------------------------------------------------------------------------


def test_a_listing_shows_what_there_is(tools: VisionTools) -> None:
    """Names and sizes of what can be read: no texts, no links, no hidden files, no pipes; and the conversation's."""
    listed = tools.run("list_images", {}, pictures={"picture 1": PNG})
    lines = listed.text.splitlines()
    foreign = [] if os.geteuid() == 0 else ["foreign.png"]
    names = ["a b/Größe 50%.png", "a.png", "big.png", *foreign, "minutes.tif", "sub/b.png"]
    assert [line.rpartition(" (")[0] for line in lines] == [*names, "picture 1"]
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
    assert len(listed.artifact["files"]) == 100


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


# -- Search ----------------------------------------------------------------------------------------------------------


def test_a_store_is_searched(root: Path) -> None:
    """With a store there is a search, whose text names files, pages and pictures; its artifact has the pictures."""
    letter = Path(__file__).parent.parent / "examples" / "images" / "letter.png"
    with isolated(), Emulator() as server:
        store = AIFSVisualRAGStore("letters", base_url=server.base_url, api_key=server.api_key)
        tools = VisionTools(root, store=store, base_url=server.base_url, api_key=server.api_key)
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


def test_without_a_store_there_is_no_search(tools: VisionTools) -> None:
    """The tools are those that can be used."""
    assert [form.name for form in tools.forms] == NAMES
