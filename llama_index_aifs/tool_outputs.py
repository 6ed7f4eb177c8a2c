"""Tools whose results keep their pictures, whatever they are wrapped in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from llama_index.core.base.llms.types import AudioBlock, TextBlock
from llama_index.core.schema import BaseNode
from llama_index.core.tools import AsyncBaseTool, BaseTool, FunctionTool, ToolOutput, adapt_to_async_tool

from llama_index_aifs._results import blocks_of, blocks_of_mcp, is_mcp, is_mcp_error, media_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from llama_index.core.tools import ToolMetadata

    Block = Any  # pydantic knows the union; mypy need not

__all__ = ["blocks_of_mcp", "image_tool"]


@overload
def image_tool(tool: FunctionTool) -> FunctionTool: ...
@overload
def image_tool(tool: BaseTool) -> AsyncBaseTool: ...
@overload
def image_tool(tool: Callable[..., Any], **options: Any) -> FunctionTool: ...
def image_tool(tool: Callable[..., Any] | BaseTool, **options: Any) -> AsyncBaseTool:
    """A tool whose pictures reach the model, however its function returns them.

        agent = FunctionAgent(tools=[image_tool(camera)], llm=AIFS())
        agent = FunctionAgent(tools=[image_tool(tool) for tool in McpToolSpec(client).to_tool_list()], llm=AIFS())

    LlamaIndex's own tools keep a block, or a list of blocks; of everything else they make a text, with the base64 of
    its pictures in it. This keeps pictures in tuples, mixed lists, dicts and objects, too: blocks, nodes and Documents
    (picture and text), messages and outputs of other tools, PIL images, file objects, the bytes of pictures and PDF
    documents, data URIs, content parts as OpenAI has them, and results of MCP tools. What holds no picture is as
    LlamaIndex has it.

    `FunctionAgent` and `ImageReActAgent` show the pictures to the model. LlamaIndex's own `ReActAgent` takes nothing
    but the text of a result: its model is told that there was a picture, and does not see it.

    Args:
        tool: a function, synchronous or not, or any tool: of a tool that is no `FunctionTool`, as of a retriever or a
            query engine, the text stays as it is, and pictures of its raw output come after it.
        options: as for `FunctionTool.from_defaults`, where a function is given.

    Raises:
        TypeError: options beside a tool that is made already, or what is no tool.
    """
    if not isinstance(tool, BaseTool):
        if not callable(tool):
            raise TypeError(f"image_tool() takes a function or a tool, not {type(tool).__name__}")
        return _ImageTool(FunctionTool.from_defaults(tool, **options))
    if options:
        raise TypeError(f"image_tool() takes no {', '.join(sorted(options))} for a tool that is made already")
    return _ImageTool(tool) if isinstance(tool, FunctionTool) else _OtherTool(tool)


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


class _OtherTool(AsyncBaseTool):
    """A tool that is no function, whose results keep their pictures."""

    def __init__(self, tool: BaseTool) -> None:
        self._tool = adapt_to_async_tool(tool)

    @property
    def metadata(self) -> ToolMetadata:
        """What the tool says of itself."""
        return self._tool.metadata

    def call(self, *args: Any, **kwargs: Any) -> ToolOutput:
        """The result, with its pictures as blocks."""
        return _beside(self._tool.call(*args, **kwargs))

    async def acall(self, *args: Any, **kwargs: Any) -> ToolOutput:
        """The asynchronous twin of `call`."""
        return _beside(await self._tool.acall(*args, **kwargs))


def _shown(output: ToolOutput) -> ToolOutput:
    """The output of a function, with blocks for what LlamaIndex has made a text of."""
    raw, blocks, failed = output.raw_output, output.blocks, output.is_error
    if output.content in {str(raw), _text_of_nodes(raw)}:  # else it has kept its blocks, or a callback has spoken
        found = list(blocks_of(raw))
        if is_mcp(raw) or media_in(found):
            blocks, failed = found, failed or bool(is_mcp(raw) and is_mcp_error(raw)) or _has_failed(raw)
    return _announced(output, blocks, failed=failed)


def _beside(output: ToolOutput) -> ToolOutput:
    """The output of another tool, with the pictures of its raw output after its own text."""
    blocks = output.blocks
    if not media_in(blocks):
        blocks = [*blocks, *(block for block in blocks_of(output.raw_output) if media_in([block]))]
    return _announced(output, blocks, failed=output.is_error)


def _announced(output: ToolOutput, blocks: list[Block], *, failed: bool) -> ToolOutput:
    if media_in(blocks) and not any(isinstance(block, TextBlock) for block in blocks):
        # Agents that read texts alone are to know that there is something.
        blocks = [TextBlock(text=_counted(blocks)), *blocks]
    return output.model_copy(update={"blocks": blocks, "is_error": failed})


def _counted(blocks: list[Block]) -> str:
    sounds = sum(isinstance(block, AudioBlock) for block in blocks)
    counts = {"picture": media_in(blocks) - sounds, "recording": sounds}
    told = [f"{count} {name}{'s' if count > 1 else ''}" for name, count in counts.items() if count]
    return f"[{', '.join(told)}]"


def _text_of_nodes(raw: Any) -> str | None:
    """What `FunctionTool` makes of nodes."""
    nodes = raw if isinstance(raw, list) else [raw]
    return (
        "\n".join(node.get_content() for node in nodes) if all(isinstance(node, BaseNode) for node in nodes) else None
    )


def _has_failed(raw: Any) -> bool:
    return isinstance(raw, ToolOutput) and raw.is_error
