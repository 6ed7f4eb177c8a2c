"""What tools give back -> content blocks: pictures stay pictures, whatever they are wrapped in."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import filetype  # type: ignore[import-untyped]
from llama_index.core.base.llms.types import (
    AudioBlock,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    VideoBlock,
)
from llama_index.core.tools import FunctionTool

if TYPE_CHECKING:
    from llama_index.core.tools import ToolOutput

    Block = Any  # pydantic knows the union; mypy need not

__all__ = ["blocks_of_mcp", "image_tool"]

_BLOCKS = (TextBlock, ImageBlock, AudioBlock, VideoBlock, DocumentBlock, CitableBlock, CitationBlock)


def image_tool(tool: Callable[..., Any] | FunctionTool, **options: Any) -> FunctionTool:
    """A tool whose pictures reach the model, however its function returns them.

        agent = FunctionAgent(tools=[image_tool(camera)], llm=AIFS())
        agent = FunctionAgent(tools=[image_tool(tool) for tool in McpToolSpec(client).to_tool_list()], llm=AIFS())

    LlamaIndex's own tools keep a block, or a list of blocks; of everything else they make a text, with the base64 of
    its pictures in it. This keeps pictures in tuples, mixed lists and dicts, too: blocks, PIL images, the bytes of
    pictures and PDF documents, and results of MCP tools. What holds no picture is as LlamaIndex has it.

    `FunctionAgent` shows the pictures to the model. `ReActAgent` takes nothing but the text of a result: it is
    told that there was a picture, and a tool that reads pictures and returns text serves it better.

    Args:
        tool: a function, synchronous or not, or a `FunctionTool` made of one.
        options: as for `FunctionTool.from_defaults`, where a function is given.

    Raises:
        TypeError: options beside a tool that is made already.
    """
    if not isinstance(tool, FunctionTool):
        return _ImageTool(FunctionTool.from_defaults(tool, **options))
    if options:
        raise TypeError(f"image_tool() takes no {', '.join(sorted(options))} for a tool that is made already")
    return _ImageTool(tool)


class _ImageTool(FunctionTool):
    """Another tool, whose results keep their pictures."""

    def __init__(self, tool: FunctionTool) -> None:
        super().__init__(fn=tool.fn, async_fn=tool.async_fn, metadata=tool.metadata)
        self._tool = tool
        self.requires_context, self.ctx_param_name = tool.requires_context, tool.ctx_param_name

    def call(self, *args: Any, **kwargs: Any) -> ToolOutput:
        """The result, with its pictures as blocks."""
        return _shown(self._tool.call(*args, **kwargs))

    async def acall(self, *args: Any, **kwargs: Any) -> ToolOutput:
        """The asynchronous twin of `call`."""
        return _shown(await self._tool.acall(*args, **kwargs))


def _shown(output: ToolOutput) -> ToolOutput:
    raw, blocks, failed = output.raw_output, output.blocks, output.is_error
    if output.content == str(raw):  # else it has kept its blocks, or a callback has spoken
        found = list(_blocks_of(raw))
        if _is_mcp(raw) or _pictures_in(found):
            blocks, failed = found, failed or _is_error(raw)
    if (count := _pictures_in(blocks)) and not any(isinstance(block, TextBlock) for block in blocks):
        # Agents that read texts alone are to know that there is something.
        blocks = [TextBlock(text=f"[{count} picture{'s' if count > 1 else ''}]"), *blocks]
    return output.model_copy(update={"blocks": blocks, "is_error": failed})


def _pictures_in(blocks: Iterable[Block]) -> int:
    return sum(isinstance(block, (ImageBlock, VideoBlock, DocumentBlock)) for block in blocks)


def _blocks_of(value: Any) -> Iterator[Block]:
    """The blocks in a value, in its order; what is neither a block nor a picture becomes a text."""
    if isinstance(value, _BLOCKS):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield TextBlock(text=f"{key}:")
            yield from _blocks_of(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _blocks_of(inner)
    elif isinstance(value, (bytes, bytearray)):
        yield _block_of_bytes(bytes(value)) or TextBlock(text=str(value))
    elif _is_mcp(value):
        yield from blocks_of_mcp(value)
    elif _is_picture(value):
        buffer = io.BytesIO()
        value.save(buffer, "PNG")
        yield ImageBlock(image=buffer.getvalue(), image_mimetype="image/png")
    else:
        yield TextBlock(text=str(value))


def _block_of_bytes(data: bytes) -> Block | None:
    """The block of a picture, video or PDF document, told by its first bytes."""
    guess = filetype.guess(data)
    kind = guess.mime if guess else ""
    if kind.startswith("image/"):
        return ImageBlock(image=data, image_mimetype=kind)
    if kind.startswith("video/"):
        return VideoBlock(video=data, video_mimetype=kind)
    return DocumentBlock(data=data, document_mimetype=kind) if kind == "application/pdf" else None


def _is_picture(value: object) -> bool:
    """Whether this is a PIL image; Pillow need not be imported to tell."""
    return any(kind.__module__ == "PIL.Image" for kind in type(value).__mro__)


# -- MCP ---------------------------------------------------------------------------------------------------


def blocks_of_mcp(result: Any) -> list[Block]:
    """The content of an MCP tool's result as blocks: texts, pictures, and resources of both kinds.

        result = await session.call_tool("screenshot", {})
        message = ChatMessage(role="user", blocks=blocks_of_mcp(result))

    Neither LangChain nor `mcp` is needed. Pictures are told by their bytes, whatever the server calls them. What is
    neither a text nor a picture (sound, archives, links) is named by a text, without its data.

    Args:
        result: a `CallToolResult` or `ReadResourceResult` of any version of `mcp`, or the list in it.

    Raises:
        ValueError: data that are not base64.
    """
    content = getattr(result, "content", getattr(result, "contents", result))
    blocks = [block for item in content for block in _blocks_of_content(item)]
    data = getattr(result, "structuredContent", None) or getattr(result, "structured_content", None)
    if not blocks and data is not None:
        blocks.append(TextBlock(text=json.dumps(data, ensure_ascii=False, default=str)))
    return blocks


def _blocks_of_content(item: Any) -> Iterator[Block]:
    kind = getattr(item, "type", "resource")  # what a server reads out has no type
    resource = getattr(item, "resource", item)
    if kind == "text":
        yield TextBlock(text=item.text)
    elif kind == "resource" and getattr(resource, "text", None) is not None:
        yield TextBlock(text=f"{resource.uri}:\n{resource.text}")
    elif kind == "resource" and getattr(resource, "blob", None) is not None:
        yield from _seen(resource.blob, f"resource {resource.uri}", resource)
    elif kind == "resource_link":
        yield TextBlock(text=f"[{item.name}: {item.uri}]")
    else:
        yield from _seen(getattr(item, "data", ""), kind, item)


def _seen(data: str, name: str, item: Any) -> Iterator[Block]:
    raw = base64.b64decode(data, validate=True)
    block = _block_of_bytes(raw)
    if block is None:
        label = getattr(item, "mimeType", None) or getattr(item, "mime_type", None) or "unknown type"
        block = TextBlock(text=f"[{name}: {len(raw):,} bytes of {label}, which cannot be shown]")
    yield block


def _is_mcp(value: Any) -> bool:
    if hasattr(value, "isError") or hasattr(value, "is_error"):
        return isinstance(getattr(value, "content", None), list)
    read = getattr(value, "contents", None)
    return isinstance(read, list) and all(hasattr(item, "uri") for item in read)


def _is_error(value: Any) -> bool:
    return _is_mcp(value) and bool(cast("Any", getattr(value, "isError", None) or getattr(value, "is_error", None)))
