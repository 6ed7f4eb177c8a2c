"""Results of tools: pictures come out as blocks, and never as base64 in a text."""

from __future__ import annotations

import asyncio
import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.types import AudioBlock, ChatMessage, CitableBlock, ImageBlock, TextBlock
from llama_index.core.schema import Document, ImageNode, MediaResource, Node, NodeWithScore, TextNode
from llama_index.core.tools import BaseTool, FunctionTool, RetrieverTool, ToolMetadata, ToolOutput
from llama_index.core.workflow import Context
from pydantic import BaseModel

from llama_index_aifs import image_tool
from tests.media import clip, pdf
from tests.pictures import corner_names, corners, opened, saved

if TYPE_CHECKING:
    from collections.abc import Callable

PNG = saved(corners())
PAPER = pdf("")
CODED = base64.b64encode(PNG).decode()
URI = f"data:image/jpeg;base64,{CODED}"
SOUND = AudioBlock(audio=b"RIFF....WAVE", format="wav")
CORNERS = ["red", "lime", "blue", "yellow"]


def picture() -> ImageBlock:
    """A picture as a block."""
    return ImageBlock(image=PNG)


def lamp() -> Node:
    """A node with a picture and a text."""
    return Node(text_resource=MediaResource(text="a lamp"), image_resource=MediaResource(data=PNG))


def given(text: str, *blocks: Any) -> ToolOutput:
    """What another tool has given back."""
    return ToolOutput(tool_name="x", raw_input={}, raw_output=None, blocks=[TextBlock(text=text), *blocks])


def part(**url: str) -> dict[str, Any]:
    """A content part, as chat APIs have them."""
    return {"type": "image_url", "image_url": url}


class Shot(BaseModel):
    """What was seen where."""

    where: str
    what: ImageBlock


class Place(BaseModel):
    """An object without a picture."""

    name: str


@dataclass
class Seen:
    """What was seen."""

    what: ImageBlock


def shapes(output: ToolOutput) -> list[str]:
    """The texts of a result, and the kinds of its other blocks, whose pictures are whole."""
    for block in output.blocks:
        if isinstance(block, ImageBlock):
            assert corner_names(opened(block.resolve_image().read())) == CORNERS
    return [block.text if isinstance(block, TextBlock) else type(block).__name__ for block in output.blocks]


RESULTS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "block": (picture, ["[1 picture]", "ImageBlock"]),
    "list of blocks": (lambda: [TextBlock(text="left"), picture()], ["left", "ImageBlock"]),
    "list of pictures": (lambda: [picture(), picture()], ["[2 pictures]", "ImageBlock", "ImageBlock"]),
    "tuple": (lambda: ("left", picture()), ["left", "ImageBlock"]),
    "mixed list": (lambda: ["left", picture(), 7], ["left", "ImageBlock", "7"]),
    "nested": (lambda: [("a", picture()), [picture()]], ["a", "ImageBlock", "ImageBlock"]),
    "dict": (lambda: {"where": "left", "what": picture()}, ["where:", "left", "what:", "ImageBlock"]),
    "PIL image": (lambda: ("left", corners()), ["left", "ImageBlock"]),
    "bytes": (lambda: PNG, ["[1 picture]", "ImageBlock"]),
    "PDF": (lambda: (PAPER, "a bill"), ["DocumentBlock", "a bill"]),
    "video": (lambda: ["a film", clip([corners(64, 48)])], ["a film", "VideoBlock"]),
    "node": (lambda: ImageNode(text="a lamp", image=CODED, metadata={"page": 3}), ["page: 3\n\na lamp", "ImageBlock"]),
    "found nodes": (lambda: [NodeWithScore(node=lamp(), score=1.0)], ["a lamp", "ImageBlock"]),
    "Document": (lambda: Document(text="a", image_resource=MediaResource(data=PNG)), ["a", "ImageBlock"]),
    "node of texts and one with a picture": (lambda: [TextNode(text="a"), lamp()], ["a", "a lamp", "ImageBlock"]),
    "output of a tool": (lambda: given("here", picture()), ["here", "ImageBlock"]),
    "message": (lambda: ChatMessage(blocks=[TextBlock(text="here"), picture()]), ["here", "ImageBlock"]),
    "object": (lambda: Shot(where="left", what=picture()), ["where:", "left", "what:", "ImageBlock"]),
    "list of objects": (
        lambda: [Shot(where="up", what=picture()), Place(name="x")],
        ["where:", "up", "what:", "ImageBlock", "name='x'"],
    ),
    "dataclass": (lambda: Seen(picture()), ["what:", "ImageBlock"]),
    "sound": (lambda: ("a bell", SOUND), ["a bell", "AudioBlock"]),
    "sound alone": (lambda: (SOUND, picture()), ["[1 picture, 1 recording]", "AudioBlock", "ImageBlock"]),
    "quotation": (lambda: ["p. 1", CitableBlock(title="t", source="s", content=[picture()])], ["p. 1", "CitableBlock"]),
    "file object": (lambda: ["a file", io.BytesIO(PNG)], ["a file", "ImageBlock"]),
    "data URI": (lambda: URI, ["[1 picture]", "ImageBlock"]),
    "data URI in a dict": (lambda: {"image": URI}, ["image:", "ImageBlock"]),
    "parts of OpenAI": (lambda: [{"type": "text", "text": "a"}, part(url=URI)], ["a", "ImageBlock"]),
    "parts of others": (
        lambda: [{"type": "input_image", "image_url": URI}, {"type": "image", "base64": CODED}],
        ["[2 pictures]", "ImageBlock", "ImageBlock"],
    ),
    "other data beside": (
        lambda: [picture(), b"\x00\x01", "data:application/zip;base64,UEs="],
        [
            "ImageBlock",
            "[data: 2 bytes of unknown type, which cannot be shown]",
            "[data: 2 bytes of application/zip, which cannot be shown]",
        ],
    ),
    "text nodes": (lambda: [TextNode(text="a"), TextNode(text="b")], ["a", "b"]),
    "text": (lambda: "left", ["left"]),
    "list of texts": (lambda: ["a", 1], ["['a', 1]"]),
    "other bytes": (lambda: b"\x00\x01", ["b'\\x00\\x01'"]),
    "nothing": (lambda: None, ["None"]),
}


@pytest.mark.parametrize("kind", RESULTS)
def test_pictures_of_results_are_blocks(kind: str) -> None:
    """Whatever a function wraps its pictures in, they are blocks, sync and async; what has none is LlamaIndex's."""
    give, expected = RESULTS[kind]

    def look() -> Any:
        """Looks."""
        return give()

    async def alook() -> Any:
        """Looks, asynchronously."""
        return give()

    for tool in (image_tool(look), image_tool(alook), image_tool(FunctionTool.from_defaults(look))):
        for output in (tool.call(), asyncio.run(tool.acall())):
            assert shapes(output) == expected
            assert CODED[:40] not in output.content


def test_the_tool_is_otherwise_the_same() -> None:
    """Name, description, parameters, fixed values and callbacks of a tool are kept; options are heeded."""

    def look(where: str, far: bool = False) -> Any:  # noqa: FBT001, FBT002 - a tool's signature
        """Looks somewhere."""
        return where, far, picture()

    plain = FunctionTool.from_defaults(look, partial_params={"far": True}, callback=lambda result: f"at {result[0]}")
    tool = image_tool(plain)
    assert tool.metadata == plain.metadata
    assert shapes(tool(where="left")) == ["at left"]
    assert image_tool(look, name="watch", description="Watches.").metadata.get_name() == "watch"
    with pytest.raises(TypeError, match="name"):
        image_tool(plain, name="watch")


def test_a_tool_may_want_the_context() -> None:
    """A function that takes the workflow's context is asked with it, as before."""

    async def look(ctx: Context, where: str) -> Any:  # noqa: ARG001 - what is tried
        """Looks somewhere."""
        return where, picture()

    look.__annotations__["ctx"] = Context  # LlamaIndex does not look behind annotations that are texts
    tool = image_tool(look)
    assert (tool.requires_context, tool.ctx_param_name) == (True, "ctx")
    assert "ctx" not in tool.metadata.get_parameters_dict()["properties"]


class Lamps(BaseRetriever):
    """Finds lamps."""

    def _retrieve(self, query_bundle: Any) -> list[NodeWithScore]:
        del query_bundle
        return [NodeWithScore(node=lamp(), score=1.0)]


class Camera(BaseTool):
    """A tool that is no function, and is synchronous."""

    def __init__(self, output: ToolOutput) -> None:
        self._output = output

    @property
    def metadata(self) -> ToolMetadata:
        """What it is."""
        return ToolMetadata("Looks.", name="camera")

    def __call__(self, input: Any) -> ToolOutput:  # noqa: A002, ARG002 - LlamaIndex's signature
        """What is seen."""
        return self._output


def test_any_tool_keeps_its_pictures() -> None:
    """Of a retriever's tool, or any other, text and description stay as they are, and the pictures come after it."""
    found = RetrieverTool.from_defaults(Lamps(), name="lamps", description="Finds lamps.")
    raw = ToolOutput(tool_name="camera", content="a room", raw_input={}, raw_output=("x", picture()), is_error=True)
    cases: list[tuple[BaseTool, str]] = [
        (found, "a lamp"),
        (Camera(raw), "a room"),
        (Camera(given("done", picture())), "done"),
    ]
    for plain, text in cases:
        tool = image_tool(plain)
        assert tool.metadata == plain.metadata
        for output in (tool.call("lamp"), asyncio.run(tool.acall("lamp"))):
            assert [shape.strip() for shape in shapes(output)] == [text, "ImageBlock"]
            assert output.is_error == (text == "a room")
    assert shapes(image_tool(Camera(given("nothing"))).call("x")) == ["nothing"]


def test_what_is_no_tool_is_a_type_error() -> None:
    """Something that can be neither called nor used as a tool is a TypeError that says so."""
    wrong: Any = "camera"
    with pytest.raises(TypeError, match="a function or a tool, not str"):
        image_tool(wrong)


def test_errors_of_inner_tools_are_errors() -> None:
    """Where a function gives back the output of another tool that has failed, it has failed, too."""

    def look() -> ToolOutput:
        """Looks."""
        return given("dark", picture()).model_copy(update={"is_error": True})

    assert image_tool(look).call().is_error


def test_an_address_is_no_path() -> None:
    """In content parts http(s) addresses are passed on; anything else that is no data is a text, and never opened."""

    def look() -> Any:
        """Looks."""
        return [part(url="https://example.com/a.png"), part(url="/etc/passwd"), part(url="file:///etc/passwd")]

    first, *others = image_tool(look).call().blocks
    assert isinstance(first, ImageBlock)
    assert str(first.url) == "https://example.com/a.png"
    assert [block.model_dump().get("text") for block in others] == ["/etc/passwd", "file:///etc/passwd"]
