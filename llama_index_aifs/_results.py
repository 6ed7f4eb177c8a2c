"""What tools give back -> content blocks: pictures stay pictures, and base64 is never a text."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import filetype  # type: ignore[import-untyped]
from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    VideoBlock,
)
from llama_index.core.schema import BaseNode, ImageNode, MetadataMode, Node, NodeWithScore
from llama_index.core.tools import ToolOutput
from pydantic import BaseModel

from aifs_vision import bytes_of_base64
from llama_index_aifs._pictures import block_of

if TYPE_CHECKING:
    from collections.abc import Callable

    Block = Any  # pydantic knows the union; mypy need not

__all__ = ["blocks_of", "blocks_of_mcp", "is_mcp", "is_mcp_error", "media_in"]

_MEDIA = (ImageBlock, VideoBlock, DocumentBlock, AudioBlock)
_BLOCKS = (TextBlock, *_MEDIA, CitableBlock, CitationBlock)
_DATA_URI = re.compile(r"\s*data:([\w.+-]+/[\w.+-]+)?(?:;[\w=.+-]+)*;base64,([\w+/=\s-]+)", re.ASCII)
_ADDRESSES = ("http://", "https://")


def media_in(blocks: Iterable[Block]) -> int:
    """How many pictures, videos, documents and recordings there are, quoted ones as well."""
    return sum(
        media_in(block.nested_blocks) if isinstance(block, (CitableBlock, CitationBlock)) else isinstance(block, _MEDIA)
        for block in blocks
    )


def blocks_of(value: Any) -> Iterator[Block]:
    """The blocks in a value, in its order; what is neither a block nor a picture becomes a text."""
    read = next((reader for kinds, reader in _READERS if isinstance(value, kinds)), None)
    if read is not None:
        yield from read(value)
    elif is_mcp(value):
        yield from blocks_of_mcp(value)
    elif _is_picture(value):
        yield from _blocks_of_drawing(value)
    elif isinstance(value, Mapping) and (part := _block_of_part(value)) is not None:
        yield part
    elif (fields := _fields_of(value)) is not None:
        yield from _blocks_of_fields(value, fields)
    else:
        yield TextBlock(text=str(value))


def _fields_of(value: Any) -> Mapping[Any, Any] | None:
    if isinstance(value, Mapping):
        return value
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in type(value).model_fields}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return None


def _blocks_of_fields(value: Any, fields: Mapping[Any, Any]) -> Iterator[Block]:
    """The fields of a dict or an object with their names; what holds no picture as the text it is."""
    named = {name: list(blocks_of(inner)) for name, inner in fields.items()}
    if not any(media_in(blocks) for blocks in named.values()):
        yield TextBlock(text=str(value))
        return
    for name, blocks in named.items():
        yield TextBlock(text=f"{name}:")
        yield from blocks


def _blocks_of_node(value: BaseNode | NodeWithScore) -> Iterator[Block]:
    """The text of a node as a model is to read it, and its picture."""
    node = value.node if isinstance(value, NodeWithScore) else value
    if text := node.get_content(metadata_mode=MetadataMode.LLM):
        yield TextBlock(text=text)
    held = isinstance(node, ImageNode) and (node.image or node.image_path or node.image_url)
    if held or (isinstance(node, Node) and node.image_resource is not None):
        yield block_of(node)


def _blocks_of_list(values: Iterable[Any]) -> Iterator[Block]:
    for value in values:
        yield from blocks_of(value)


def _blocks_of_drawing(drawing: Any) -> Iterator[Block]:
    buffer = io.BytesIO()
    drawing.save(buffer, "PNG")
    yield ImageBlock(image=buffer.getvalue(), image_mimetype="image/png")


def _blocks_of_data(data: bytes | bytearray) -> Iterator[Block]:
    yield _block_of_bytes(bytes(data)) or _unseen("data", bytes(data), "unknown type")


def _blocks_of_file(file: Any) -> Iterator[Block]:
    if file.seekable():
        file.seek(0)
    yield from blocks_of(file.read())


def _block_of_text(text: str) -> Block:
    """A text, or the picture that it is as a data URI."""
    found = _DATA_URI.fullmatch(text) if text.lstrip()[:5] == "data:" else None
    if found is None:
        return TextBlock(text=text)
    try:
        data = bytes_of_base64(found[2])
    except ValueError:
        return TextBlock(text=f"[data of {found[1] or 'unknown type'}, which are damaged]")
    return _block_of_bytes(data) or _unseen("data", data, found[1] or "unknown type")


def _block_of_part(part: Mapping[Any, Any]) -> Block | None:
    """The block of a content part as chat APIs have them: of OpenAI, of LangChain, of MCP; None for other dicts."""
    kind = part.get("type")
    if kind in {"text", "input_text", "output_text"} and isinstance(part.get("text"), str):
        return TextBlock(text=part["text"])
    if kind not in {"image_url", "input_image", "image"}:
        return None
    held = part.get("image_url")
    address = held.get("url") if isinstance(held, Mapping) else held or part.get("url")
    data = part.get("base64") or part.get("data")
    if isinstance(address, str):
        # Not as a path: it may be what a stranger said.
        return ImageBlock(url=address) if address.startswith(_ADDRESSES) else _block_of_text(address)
    if isinstance(data, str):
        return _block_of_text(f"data:{part.get('mime_type') or part.get('mimeType') or 'image/png'};base64,{data}")
    return None


def _block_of_bytes(data: bytes) -> Block | None:
    """The block of a picture, video or PDF document, told by its first bytes."""
    guess = filetype.guess(data)
    kind = guess.mime if guess else ""
    if kind.startswith("image/"):
        return ImageBlock(image=data, image_mimetype=kind)
    if kind.startswith("video/"):
        return VideoBlock(video=data, video_mimetype=kind)
    return DocumentBlock(data=data, document_mimetype=kind) if kind == "application/pdf" else None


def _unseen(name: str, data: bytes, label: str) -> TextBlock:
    """What stands in the place of data that no model looks at."""
    return TextBlock(text=f"[{name}: {len(data):,} bytes of {label}, which cannot be shown]")


def _is_picture(value: object) -> bool:
    """Whether this is a PIL image; Pillow need not be imported to tell."""
    return any(kind.__module__ == "PIL.Image" for kind in type(value).__mro__)


_READERS: tuple[tuple[Any, Callable[[Any], Iterable[Block]]], ...] = (
    (_BLOCKS, lambda block: [block]),
    (str, lambda text: [_block_of_text(text)]),
    ((bytes, bytearray), _blocks_of_data),
    (io.IOBase, _blocks_of_file),
    ((BaseNode, NodeWithScore), _blocks_of_node),
    ((ToolOutput, ChatMessage), lambda holder: holder.blocks),
    ((list, tuple), _blocks_of_list),
)
"""What is told by its class, and how its blocks are found."""


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
    raw = bytes_of_base64(data)
    label = getattr(item, "mimeType", None) or getattr(item, "mime_type", None) or "unknown type"
    yield _block_of_bytes(raw) or _unseen(name, raw, label)


def is_mcp(value: Any) -> bool:
    """Whether this is a result of an MCP tool, or what an MCP server has read out."""
    if hasattr(value, "isError") or hasattr(value, "is_error"):
        return isinstance(getattr(value, "content", None), list)
    read = getattr(value, "contents", None)
    return isinstance(read, list) and all(hasattr(item, "uri") for item in read)


def is_mcp_error(value: Any) -> bool:
    """Whether an MCP tool says that it has failed."""
    return bool(getattr(value, "isError", None) or getattr(value, "is_error", None))
