"""The command `aifs`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from aifs_vision import mcp_server

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the command line says; gives the exit status."""
    parser = argparse.ArgumentParser(prog="aifs", description="Images in, text out, through AI Foundation Services.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    serving = commands.add_parser(
        "mcp",
        help="serve tools that read images, by MCP",
        description="Serves tools that read images, by MCP on stdin and stdout.",
    )
    mcp_server.add_arguments(serving)
    serving.set_defaults(run=mcp_server.run)
    given = parser.parse_args(arguments)
    status: int = given.run(given)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
