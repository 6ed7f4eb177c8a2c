"""Results of MCP tools: their pictures come out as blocks, whatever version of `mcp` they are of."""

from __future__ import annotations

import base64
import sys
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import DocumentBlock, ImageBlock, TextBlock, VideoBlock
from mcp import ClientSession, StdioServerParameters, stdio_client
from mcp import types as mcp

from llama_index_aifs import blocks_of_mcp, image_tool
from tests.llama_index.scripts import call, scripted
from tests.media import clip, pdf
from tests.pictures import corner_names, corners, opened, saved

if TYPE_CHECKING:
    import pathlib
    from collections.abc import AsyncIterator

PNG, PAPER = saved(corners()), pdf("")


def content(kind: type[Any], **fields: Any) -> Any:
    """A part of an MCP result."""
    return kind.model_validate(fields)


def test_mcp_results_become_blocks() -> None:
    """Texts, pictures and resources of a result come in their order; pictures are told by their bytes."""
    coded, sound = base64.b64encode(PNG).decode(), base64.b64encode(b"RIFF....WAVE").decode()
    blob = {"uri": "file:///bill.pdf", "blob": base64.b64encode(PAPER).decode(), "mimeType": "application/pdf"}
    note = {"uri": "file:///note.txt", "text": "12 EUR"}
    film = {"uri": "file:///film", "blob": base64.b64encode(clip([corners(64, 48)])).decode()}
    result = mcp.CallToolResult(
        content=[
            content(mcp.TextContent, type="text", text="here"),
            content(mcp.ImageContent, type="image", data=coded, mimeType="image/jpeg"),
            content(mcp.EmbeddedResource, type="resource", resource=note),
            content(mcp.EmbeddedResource, type="resource", resource=blob),
            content(mcp.EmbeddedResource, type="resource", resource=film),
            content(mcp.ResourceLink, type="resource_link", name="more", uri="https://example.com/more"),
            content(mcp.AudioContent, type="audio", data=sound, mimeType="audio/wav"),
        ]
    )
    blocks = blocks_of_mcp(result)
    assert [type(block) for block in blocks] == [
        *(TextBlock, ImageBlock, TextBlock, DocumentBlock, VideoBlock, TextBlock, TextBlock)
    ]
    assert blocks[1].image_mimetype == "image/png"
    assert blocks[1].resolve_image().read() == PNG
    assert [block.text for block in blocks if isinstance(block, TextBlock)] == [
        "here",
        "file:///note.txt:\n12 EUR",
        "[more: https://example.com/more]",
        "[audio: 12 bytes of audio/wav, which cannot be shown]",
    ]
    assert blocks_of_mcp(result.content)[0].text == "here"


def test_mcp_results_of_other_versions_become_blocks() -> None:
    """Fields in either spelling are understood; data alone become a text; what is no base64 is an error."""
    for name in ("structuredContent", "structured_content"):
        (block,) = blocks_of_mcp(SimpleNamespace(content=[], **{name: {"größe": 1}}))
        assert block.text == '{"größe": 1}'
    old = SimpleNamespace(type="image", data=base64.b64encode(b"sound").decode(), mimeType="image/webp")
    (block,) = blocks_of_mcp([old])
    assert block.text == "[image: 5 bytes of image/webp, which cannot be shown]"
    with pytest.raises(ValueError, match=r"base64|character|padding"):
        blocks_of_mcp([SimpleNamespace(type="image", data="no base64!")])


def test_resources_that_are_read_become_blocks() -> None:
    """What a server reads out is a picture or a text as well, also as the result of a tool."""
    picture = {"uri": "file:///a.png", "blob": base64.b64encode(PNG).decode(), "mimeType": "image/png"}
    result = mcp.ReadResourceResult.model_validate({"contents": [picture, {"uri": "file:///a.txt", "text": "a"}]})

    def read() -> mcp.ReadResourceResult:
        """Reads."""
        return result

    both: list[list[Any]] = [blocks_of_mcp(result), list(image_tool(read)().blocks)]
    for blocks in both:
        assert [type(block) for block in blocks] == [ImageBlock, TextBlock]
        assert blocks[1].text == "file:///a.txt:\na"


def test_mcp_tools_show_their_pictures() -> None:
    """A tool that gives back an MCP result, as `McpToolSpec` makes them, has its content as blocks and its error."""

    def shoot(*, works: bool) -> mcp.CallToolResult:
        """Takes a screenshot."""
        text = content(mcp.TextContent, type="text", text="done" if works else "no screen")
        image = content(mcp.ImageContent, type="image", data=base64.b64encode(PNG).decode(), mimeType="image/png")
        parts = {"content": [text, image] if works else [text], "isError": not works}
        return mcp.CallToolResult.model_validate(parts)

    tool = image_tool(shoot)
    good, bad = tool(works=True), tool(works=False)
    assert [type(block) for block in good.blocks] == [TextBlock, ImageBlock]
    assert (good.content, good.is_error) == ("done", False)
    assert (bad.content, bad.is_error) == ("no screen", True)


SERVER = """
import base64, sys
try:
    from mcp.server.mcpserver import Image, MCPServer
except ImportError:  # mcp 1.x
    from mcp.server.fastmcp import FastMCP as MCPServer, Image

PNG = open(sys.argv[1], "rb").read()
server = MCPServer("camera")

@server.tool(structured_output=False)
def shoot(works: bool = True):
    if not works:
        raise ValueError("no light")
    return ["here", Image(data=PNG, format="jpeg")]

@server.resource("file:///shelf.png", mime_type="image/png")
def shelf() -> bytes:
    return PNG

server.run()
"""


@asynccontextmanager
async def camera(folder: pathlib.Path) -> AsyncIterator[ClientSession]:
    """A session with a real MCP server, in a process of its own."""
    (folder / "server.py").write_text(SERVER)
    (folder / "a.png").write_bytes(PNG)
    started = StdioServerParameters(command=sys.executable, args=[str(folder / "server.py"), str(folder / "a.png")])
    async with stdio_client(started) as (reading, writing), ClientSession(reading, writing) as session:
        await session.initialize()
        yield session


async def test_a_real_server_is_understood(tmp_path: pathlib.Path) -> None:
    """What the SDK's own server sends over a pipe, tool result, resource and error, becomes blocks."""
    async with camera(tmp_path) as session:
        shot = await session.call_tool("shoot", {})
        shelf = await session.read_resource("file:///shelf.png")
        dark = await session.call_tool("shoot", {"works": False})
    text, picture = blocks_of_mcp(shot)
    (kept,) = blocks_of_mcp(shelf)
    assert (text.text, picture.image_mimetype) == ("here", "image/png")  # the server said JPEG
    assert picture.resolve_image().read() == kept.resolve_image().read() == PNG
    (said,) = blocks_of_mcp(dark)
    assert "shoot" in said.text  # which of its words come through depends on the version


# As in `test_agents`.
@pytest.mark.filterwarnings(
    "ignore::pydantic.warnings.PydanticDeprecationWarning", "ignore:is_running called:DeprecationWarning"
)
async def test_an_agent_sees_what_a_server_shows(tmp_path: pathlib.Path) -> None:
    """A tool that asks an MCP server, as `McpToolSpec` makes them, shows its picture to the model of the agent."""
    async with camera(tmp_path) as session:

        async def shoot() -> Any:
            """Takes a picture."""
            return await session.call_tool("shoot", {})

        with scripted({"tool_calls": [call("shoot")]}, "Colours.") as (llm, server):
            answer = await FunctionAgent(tools=[image_tool(shoot)], llm=llm).run("What is there?")
    assert str(answer) == "Colours."
    ((label, data),) = server.requests[1].images
    assert (label, corner_names(opened(data))) == ("image/png", ["red", "lime", "blue", "yellow"])
    assert server.requests[1].body["messages"][2]["content"].startswith("here\n[Tool image 1")
