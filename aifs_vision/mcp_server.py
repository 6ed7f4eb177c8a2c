"""The tools of agents as an MCP server: `python -m aifs_vision.mcp_server --root DIR`, or `aifs mcp --root DIR`.

    {"mcpServers": {"images": {"command": "aifs", "args": ["mcp", "--root", "scans/"], "env": {"AIFS_API_KEY": "..."}}}}

Whoever is connected can list the images below the folder, and have them captioned, transcribed, asked about and turned
into data; with `--store`, a Visual RAG store is searched as well. Results are texts, and plain JSON beside them;
pictures stay on this machine and with the service. No path of this machine is told but those below the folder.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from aifs_vision._engine import DEFAULT_MODEL
from aifs_vision._errors import AIFSError
from aifs_vision._tools import ToolResult, VisionTools
from aifs_vision._visual_rag import AIFSVisualRAGStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp.server import Server

__all__ = ["add_arguments", "main", "run", "server_of"]

_INSTALL = "the MCP server needs its extra: pip install 'aifs-vision[mcp]'"


def server_of(tools: VisionTools) -> Server[Any]:
    """An MCP server with these tools, for any transport of the SDK.

    Raises:
        ImportError: the extra `mcp` is not installed.
    """
    try:
        from mcp import types
        from mcp.server import Server
    except ImportError as error:
        raise ImportError(f"{_INSTALL} ({error})") from error

    listed = [
        types.Tool(
            name=form.name,
            description=form.description,
            input_schema=form.schema(searched=tools.searches),
            annotations=types.ToolAnnotations(read_only_hint=True, destructive_hint=False, open_world_hint=False),
        )
        for form in tools.forms
    ]

    async def list_tools(_: Any, __: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=listed)

    async def call_tool(_: Any, asked: types.CallToolRequestParams) -> types.CallToolResult:
        result = await tools.arun(asked.name, asked.arguments or {})
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=result.text)],
            structured_content=_told(result),
            is_error=not result.ok,
        )

    return Server(
        "aifs-vision",
        version=_version(),
        instructions=f"Reads the images below the folder {tools.root_name!r}; list_images shows them.",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def _told(result: ToolResult) -> dict[str, Any]:
    """The artifact without pictures, which a client would show its model as text."""
    hits = result.artifact.get("hits")
    if hits is None:
        return result.artifact
    return {"hits": [{key: value for key, value in hit.items() if key != "image_url"} for hit in hits]}


def _version() -> str:
    try:
        return version("aifs-vision")
    except PackageNotFoundError:  # run from a folder with the sources
        return ""


async def _serve(tools: VisionTools) -> None:
    server = server_of(tools)
    from mcp.server.stdio import stdio_server

    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


# -- The command -----------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes; the key comes from AIFS_API_KEY, and never from the command line, which others see."""
    parser.add_argument("--root", required=True, metavar="DIR", help="the folder whose images may be read")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="the model that reads them")
    parser.add_argument("--base-url", metavar="URL", help="the service's address; else AIFS_BASE_URL")
    parser.add_argument("--residency", choices=["germany", "eu"], help="refuse models elsewhere; else AIFS_RESIDENCY")
    parser.add_argument("--cache", metavar="FILE", help="keep readings, so that none is paid twice")
    parser.add_argument("--max-cost", type=float, metavar="EUR", help="spend no more than this")
    parser.add_argument("--store", metavar="NAME", help="a Visual RAG store to search")


def run(given: argparse.Namespace) -> int:
    """Serves on stdin and stdout until they are closed; gives the exit status of the command."""
    place = {"base_url": given.base_url, "residency": given.residency}
    try:
        store = AIFSVisualRAGStore(given.store, **place) if given.store else None
        tools = VisionTools(
            given.root, store=store, model=given.model, cache=given.cache, max_cost=given.max_cost, **place
        )
        asyncio.run(_serve(tools))
    except (AIFSError, ImportError) as error:
        sys.stderr.write(f"aifs mcp: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `python -m aifs_vision.mcp_server`."""
    parser = argparse.ArgumentParser(
        prog="python -m aifs_vision.mcp_server",
        description="Serves tools that read images, by MCP on stdin and stdout.",
    )
    add_arguments(parser)
    return run(parser.parse_args(arguments))


if __name__ == "__main__":
    raise SystemExit(main())
