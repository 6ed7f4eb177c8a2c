"""The MCP server: the same tools, tried by the SDK's own client over stdin and stdout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from mcp import Client, StdioServerParameters

from aifs_vision import AIFSVisualRAGStore, VisionTools
from aifs_vision.emulator import Emulator
from aifs_vision.mcp_server import server_of
from tests.pictures import corners, noise, saved

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
NAMES = ["list_images", "caption_image", "read_text", "ask_image", "extract_fields"]
COMMANDS = [["-m", "aifs_vision.mcp_server"], ["-m", "aifs_vision._cli", "mcp"]]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with two pictures, beside one that is none of its business."""
    (tmp_path / "secret.png").write_bytes(saved(corners()))
    folder = tmp_path / "scans"
    folder.mkdir()
    (folder / "a.png").write_bytes(saved(corners()))
    (folder / "b.png").write_bytes(saved(noise(50, 40)))
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    return folder


@pytest.fixture(scope="module")
def seeing() -> Iterator[Emulator]:
    """A service that says how large a picture is."""
    with Emulator(ocr=False, reply=lambda asked: f"{asked.images[0].picture.size}") as server:  # type: ignore[union-attr]
        yield server


def started(server: Emulator, *arguments: str, command: list[str] = COMMANDS[0]) -> StdioServerParameters:
    """The server's own process, which knows the key by the environment alone."""
    env = {"AIFS_BASE_URL": server.base_url, "AIFS_API_KEY": server.api_key}
    return StdioServerParameters(command=sys.executable, args=[*command, *arguments], env=env, cwd=ROOT)


def text(result: Any) -> str:
    """The text of a result, which is all of its content."""
    (content,) = result.content
    assert content.type == "text"
    return str(content.text)


@pytest.mark.parametrize("command", COMMANDS, ids=["module", "aifs"])
async def test_a_client_uses_the_tools_over_stdio(pictures: Path, seeing: Emulator, command: list[str]) -> None:
    """Tools are listed and called, several at once; results are text and JSON, failures are results as well."""
    seeing.clear()
    async with Client(started(seeing, "--root", str(pictures), command=command)) as client:
        tools = (await client.list_tools()).tools
        listed = await client.call_tool("list_images", {})
        results: dict[str, Any] = {}

        async def caption(path: str) -> None:
            results[path] = await client.call_tool("caption_image", {"image": path})

        async with anyio.create_task_group() as group:
            for path in ("a.png", "b.png", "../secret.png", "link.png", "http://127.0.0.1/a.png"):
                group.start_soon(caption, path)
        wrong = [await client.call_tool(name, {"image": "a.png"}) for name in ("ask_image", "delete_image")]
    assert [tool.name for tool in tools] == NAMES
    assert text(listed).splitlines()[1].startswith("b.png (")
    assert (text(results["a.png"]), text(results["b.png"])) == ("(60, 40)", "(50, 40)")
    assert results["a.png"].structured_content["status"] == "ok"
    assert results["a.png"].structured_content["cost_eur"] > 0
    for path in ("../secret.png", "link.png", "http://127.0.0.1/a.png"):
        assert results[path].is_error
        assert "refused" in text(results[path])
    assert all(result.is_error for result in wrong)
    assert len(seeing.requests) == 2


async def test_nothing_of_this_machine_is_told(pictures: Path, seeing: Emulator) -> None:
    """Neither what the server says of itself nor any result has the folder's place or the key in it."""
    tools = VisionTools(pictures, base_url=seeing.base_url, api_key=seeing.api_key)
    async with Client(server_of(tools)) as client:
        shown = f"{client.instructions} {await client.list_tools()}"
        for path in ("a.png", "../secret.png", "no.png", "link.png", "pipe.png"):
            shown += str(await client.call_tool("caption_image", {"image": path}))
    assert str(pictures.parent) not in shown
    assert seeing.api_key not in shown
    assert "'scans'" in shown


async def test_pictures_of_a_search_stay_here(pictures: Path, seeing: Emulator) -> None:
    """With a store there is a search; its results name pictures of pages and hold none."""
    settings: Any = {"base_url": seeing.base_url, "api_key": seeing.api_key}
    store = AIFSVisualRAGStore("letters", **settings)
    await store.aadd(ROOT / "examples" / "images" / "letter.png")
    async with Client(server_of(VisionTools(pictures, store=store, **settings))) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == [*NAMES, "search_images"]
        result = await client.call_tool("search_images", {"query": "letter"})
    assert "letter.png" in text(result)
    assert "base64" not in str(result)
    assert {hit["modality"] for hit in (result.structured_content or {})["hits"]} >= {"image"}


async def test_pages_that_were_found_are_looked_at_over_stdio(pictures: Path, seeing: Emulator) -> None:
    """A client asks about the picture of a page by the name that the search gave it."""
    settings: Any = {"base_url": seeing.base_url, "api_key": seeing.api_key}
    store = AIFSVisualRAGStore("a bill", **settings)
    await store.aadd([("bill.png", saved(noise(90, 70)))])
    async with Client(started(seeing, "--root", str(pictures), "--store", "a bill")) as client:
        found = await client.call_tool("search_images", {"query": "bill", "k": 2})
        (name,) = [hit["name"] for hit in (found.structured_content or {})["hits"] if "name" in hit]
        read = await client.call_tool("read_text", {"image": name})
        gone = await client.call_tool("read_text", {"image": f"{name[:-1]}x"})
    assert f"called '{name}'" in text(found)
    assert (text(read), read.is_error) == ("(90, 70)", False)
    assert gone.is_error


async def test_clients_are_told_of_what_they_have(pictures: Path, seeing: Emulator) -> None:
    """The server sees no conversation, and speaks of no pictures of one; of found pages where there is a search."""
    settings: Any = {"base_url": seeing.base_url, "api_key": seeing.api_key}
    for store in (None, AIFSVisualRAGStore("letters", **settings)):
        async with Client(server_of(VisionTools(pictures, store=store, **settings))) as client:
            told = (await client.list_tools()).tools
        assert "conversation" not in str(told)
        images = [tool.input_schema["properties"]["image"] for tool in told if tool.name in NAMES[1:]]
        assert len(images) == 4
        assert all(("search_images" in image["description"]) is (store is not None) for image in images)


async def test_a_store_is_named_on_the_command_line(pictures: Path, seeing: Emulator) -> None:
    """`--store` adds the search to what is served, and the other settings reach the model."""
    given = ("--root", str(pictures), "--store", "no such store", "--model", "gpt-4.1", "--max-cost", "1e-12")
    async with Client(started(seeing, *given)) as client:
        found = await client.call_tool("search_images", {"query": "letter"})
        read = await client.call_tool("caption_image", {"image": "a.png"})
    assert found.is_error
    assert read.is_error
    assert "max_cost" in text(read)


@pytest.mark.parametrize("command", COMMANDS, ids=["module", "aifs"])
def test_wrong_settings_end_it_with_a_word(tmp_path: Path, command: list[str]) -> None:
    """A folder that is not there, or a key that is missing, is one line on stderr and the exit status 2."""
    for root, words in ((tmp_path / "nothing", "root="), (tmp_path, "AIFS_API_KEY")):
        done = subprocess.run(
            [sys.executable, *command, "--root", str(root)],
            capture_output=True, text=True, check=False, cwd=ROOT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 2
        assert not done.stdout
        assert len(done.stderr.splitlines()) == 1
        assert words in done.stderr


def test_without_the_sdk_it_says_what_to_install(pictures: Path) -> None:
    """Where `mcp` is not installed, the command names the extra."""
    code = "import sys; sys.modules['mcp'] = None; from aifs_vision.mcp_server import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "--root", str(pictures)],
        capture_output=True, text=True, check=False, cwd=ROOT, stdin=subprocess.DEVNULL, env={"AIFS_API_KEY": "k"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'aifs-vision[mcp]'" in done.stderr
