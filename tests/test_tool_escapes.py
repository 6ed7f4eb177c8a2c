"""Paths that agents are talked into: nothing but regular files below the root is ever opened."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from aifs_vision import SettingsError, ToolResult, Vision, VisionTools
from tests.scans import PNG, scans

if TYPE_CHECKING:
    from pathlib import Path


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


@pytest.mark.usefixtures("_opening")
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("sub/../a.png", "leads out of its folder"),
        ("%2e%2e/a.png", "leads out of its folder"),
        ("%25252e%25252e/a.png", "leads out of its folder"),
        ("\uff0e\uff0e/a.png", "leads out of its folder"),
        ("sub\u2215..\u2215a.png", "leads out of its folder"),
        ("\u200b.hidden.png", "hidden files"),
        ("%2fetc/passwd", "absolute"),
        ("~/a.png", "home folder"),
        ("%7e/a.png", "home folder"),
        ("sub\\b.png", "backslashes"),
        ("%5c%5chost/a.png", "backslashes"),
        ("data:,x", "an address, data or a drive"),
        ("C:/a.png", "an address, data or a drive"),
        ("a.png%00", "characters that cannot be seen"),
        ("\u202ea.png", "characters that cannot be seen"),
        ("%c0%ae/a.png", "encoded characters"),
        (".hidden.png", "hidden files"),
        ("nul.png", "the name of a device"),
        ("a.png.", "a name ends with a dot"),
        ("link.png", "links are not followed"),
        ("way/secret.png", "links are not followed"),
        ("pipe.png", "no regular file"),
        ("big.png", "at most 1,000,000 are read"),
        ("sub", "is a folder"),
        ("a.png/b.png", "no such file"),
        ("notes.txt", "a text file"),
        ("x" * 5_000, "longer than 1,024"),
        (".", "names no file"),
    ],
    ids=ascii,
)
def test_a_refusal_says_why(tools: VisionTools, path: str, reason: str) -> None:
    """A model learns what is wrong with its path."""
    assert reason in ask(tools, path).text


def test_escapes_are_many() -> None:
    """More than forty of them, all different."""
    assert len({*ESCAPES}) == len(ESCAPES) > 40 * 3


@pytest.mark.usefixtures("_opening")
@pytest.mark.parametrize(
    "path", ["a.png", "./a.png", "sub/b.png", "sub//b.png", "a b/Größe 50%.png", *sorted(HARMLESS)]
)
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


@pytest.mark.usefixtures("_opening")
def test_a_folder_above_the_root_that_becomes_a_link_leads_nowhere(root: Path, vision: Vision, server: Any) -> None:
    """The root is reached without links as well, whatever has become of the folders above it."""
    (root.parent / "way" / "root").mkdir(parents=True)
    (root.parent / "way" / "root" / "a.png").write_bytes(PNG)
    tools = VisionTools(root.parent / "way" / "root", vision=vision)
    assert ask(tools, "a.png").ok
    (root.parent / "way").rename(root.parent / "moved")
    (root.parent / "outside" / "root").mkdir()
    (root.parent / "outside" / "root" / "a.png").write_bytes(PNG)
    (root.parent / "way").symlink_to(root.parent / "outside")
    server.clear()
    assert not ask(tools, "a.png").ok
    assert not server.requests


def test_a_folder_that_is_put_in_the_place_of_the_root_is_read(root: Path, tools: VisionTools) -> None:
    """Whoever fills the folder may replace it by a new one."""
    root.rename(root.parent / "old")
    root.mkdir()
    (root / "new.png").write_bytes(PNG)
    assert tools.run("list_images", {}).text.startswith("new.png")
    assert ask(tools, "new.png").ok


def test_no_race_leads_out(root: Path, tools: VisionTools, server: Any) -> None:
    """A folder that turns into a link and back while it is read never gives what is behind the link."""
    real, link, done = root / "real", root / "link", threading.Event()
    (root / "sub").rename(real)
    link.symlink_to(root.parent / "outside")

    def swap() -> None:
        while not done.is_set():
            for path in (link, real):
                path.rename(root / "sub")
                (root / "sub").rename(path)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        results = [ask(tools, "sub/secret.png") for _ in range(300)]
    finally:
        done.set()
        swapping.join()
    assert not any(result.ok for result in results)
    assert not server.requests


@pytest.mark.parametrize("bad", ["nothing", "a.png", "", "\0", None, 7])
def test_the_root_is_a_folder(root: Path, vision: Vision, bad: Any) -> None:
    """Tools without a folder that is there are not made."""
    given = root / bad if isinstance(bad, str) and bad else bad
    with pytest.raises(SettingsError, match="root"):
        VisionTools(given, vision=vision)
