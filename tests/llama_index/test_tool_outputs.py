"""Results of tools: pictures come out as blocks, and never as base64 in a text."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.base.llms.types import ImageBlock, TextBlock
from llama_index.core.tools import FunctionTool, ToolOutput
from llama_index.core.workflow import Context

from llama_index_aifs import image_tool
from tests.media import clip, pdf
from tests.pictures import corner_names, corners, opened, saved

if TYPE_CHECKING:
    from collections.abc import Callable

PNG = saved(corners())
PAPER = pdf("")
CORNERS = ["red", "lime", "blue", "yellow"]


def picture() -> ImageBlock:
    """A picture as a block."""
    return ImageBlock(image=PNG)


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
        assert shapes(tool.call()) == expected
        assert shapes(asyncio.run(tool.acall())) == expected


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
