"""What of a message is no text -> pictures, prepared for the model that is to see them."""

from __future__ import annotations

import base64
import io
import mimetypes
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

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
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import ImageNode, Node, NodeWithScore
from llama_index.core.utils import resolve_binary

from aifs_vision import ImageFormatError, PreparedImage, bytes_of_base64, prepare_images

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aifs_vision import Frames, ImageSize, ModelCard

    Block = Any  # pydantic knows the union; mypy need not

__all__ = ["Picture", "Sight", "block_of", "flattened", "is_media", "kind_of", "readable"]

_KINDS = {ImageBlock: "Image", VideoBlock: "Video", DocumentBlock: "Document", AudioBlock: "Recording"}
_LOOKED_AT = ("image/", "video/", "application/pdf")
_WRITTEN = ("text/", "application/json", "application/xml")  # documents that are texts already
_UNTITLED = "input_document"  # LlamaIndex's own
_TRACED = "urn:aifs-picture:"
_SHOWN = 80  # characters of an address that an error shows
_ROUGHLY = 2125  # tokens; LlamaIndex's own guess of any picture


class Picture(ImageBlock):
    """A picture as it is sent, which shows its type and size to whoever asks, and its bytes to the request alone.

    Events and traces of LlamaIndex hold the messages they tell of; with this in them they hold no image data. What is
    made of such a trace again says what it was of, and that its bytes are not there.

    Attributes:
        url: the address of a picture that is passed on; else a name with size and digest.
        width, height: px as sent; None for a URL.
        sha256: digest of the bytes that are sent; None for a URL.
    """

    width: int | None = None
    height: int | None = None
    sha256: str | None = None
    _sent: PreparedImage | None = PrivateAttr(default=None)

    @classmethod
    def of(cls, sent: PreparedImage, detail: str | None) -> Picture:
        """The block of a prepared picture."""
        picture = cls(
            url=sent.url or f"{_TRACED}{sent.width}x{sent.height}:sha256:{sent.sha256}",
            image_mimetype=sent.mime_type or None,
            detail=detail,
            width=sent.width,
            height=sent.height,
            sha256=sent.sha256,
        )
        picture._sent = sent
        return picture

    @property
    def is_whole(self) -> bool:
        """Whether it can be sent; one that was made of a trace again cannot."""
        return self._sent is not None

    async def aestimate_tokens(self, *args: Any, **kwargs: Any) -> int:  # noqa: ARG002 - LlamaIndex's signature
        """LlamaIndex's guess; it would fetch what is at an address to see whether there is anything."""
        return _ROUGHLY

    def inline_url(self) -> str:
        """What prompts are filled with: the address as it is, or the data; LlamaIndex would fetch what is there."""
        return str(self.url) if self._sent is None else self._sent.image_url

    def part(self) -> dict[str, Any]:
        """The content part of a request."""
        if self._sent is None:
            raise _of_a_trace(str(self.url))
        address = {"url": self._sent.image_url}
        return {"type": "image_url", "image_url": address | ({"detail": self.detail} if self.detail else {})}


@dataclass(frozen=True, kw_only=True)
class Sight:
    """How a model is shown what is no text.

    Attributes:
        card: the model.
        size: how large pictures are sent, as `AIFS.image_size`.
        frames: which frames of a video, as `AIFS.frames`.
    """

    card: ModelCard
    size: ImageSize
    frames: Frames

    def blocks(self, block: Block) -> list[Block]:
        """The pictures of a block, pages and frames with their labels; the block itself if it cannot be looked at.

        Raises:
            ImageError: it cannot be read, or is too large.
            SettingsError: the model takes no images.
        """
        if isinstance(block, Picture) and block.is_whole:
            return [block]
        source = _source_of(block)
        if source is None:
            return [_held(block)]
        images = prepare_images(source, self.card, size=self.size, frames=self.frames)
        detail = None if isinstance(block, DocumentBlock) else block.detail
        labelled: list[Block] = []
        for image in images:
            if label := _label_of(block, image):
                labelled.append(TextBlock(text=label))
            labelled.append(Picture.of(image, detail))
        return labelled


def block_of(picture: Any) -> ImageBlock:
    """The block of an ImageDocument, an ImageNode, or another node that has an image; a block is one already.

    Nothing is fetched here, which LlamaIndex's own conversion of an address would do.

    Raises:
        TypeError: there is no picture in it.
    """
    if isinstance(picture, ImageBlock):
        return picture
    node = picture.node if isinstance(picture, NodeWithScore) else picture
    found: dict[str, Any] = {}
    if isinstance(node, ImageNode):
        data = node.image.encode() if node.image else None
        found = {"image": data, "path": node.image_path, "url": node.image_url}
    elif isinstance(node, Node) and node.image_resource is not None:
        kept = node.image_resource
        found = {"image": kept.data, "path": kept.path, "url": kept.url and str(kept.url)}
    held = {name: value for name, value in found.items() if value}
    if not held:
        raise TypeError(f"{type(picture).__name__} has no picture: give ImageBlocks, ImageDocuments or ImageNodes")
    return ImageBlock(**held)


def is_media(block: Block) -> bool:
    """Whether this is a block that hosts take in user turns alone, as a picture or not at all."""
    return isinstance(block, tuple(_KINDS))


def kind_of(block: Block) -> str:
    """What to call a block where it is named: "Image", "Document" and so on."""
    return next(name for kind, name in _KINDS.items() if isinstance(block, kind))


def flattened(blocks: Iterable[Block]) -> Iterator[Block]:
    """The blocks, with what is quoted in them in place of quotations, which no host here knows."""
    for block in blocks:
        if isinstance(block, (CitableBlock, CitationBlock)):
            yield TextBlock(text=f"{block.title} ({block.source}):")
            yield from block.nested_blocks
        else:
            yield block


def _label_of(block: Block, image: PreparedImage) -> str:
    """What says which page or frame a picture is; "" for the only picture of an image."""
    what, named = kind_of(block).lower(), isinstance(block, DocumentBlock)
    if image.total_pages > 1 or named:
        unit = "frame" if isinstance(block, VideoBlock) else "page"
        name = block.title if named else f"the {what}"
        label = f"{unit.capitalize()} {image.page} of {image.total_pages} of {name}"
    else:
        label = f"The {what}" if image.bands > 1 else ""
    part = f", part {image.band} of {image.bands} from the top" if image.bands > 1 else ""
    return f"{label}{part}:" if label else ""


def _source_of(block: Block) -> str | bytes | Path | None:
    """What is to be looked at: bytes, a path that the block's maker gave, or an address; None for what is no picture.

    A text becomes a source only where it says that it is data or an http(s) address: other texts would be paths.
    """
    held = {ImageBlock: "image", VideoBlock: "video", DocumentBlock: "data", AudioBlock: "audio"}
    name = next(name for kind, name in held.items() if isinstance(block, kind))
    data: bytes | io.IOBase | None = getattr(block, name)
    if data is None and block.path is None:
        if block.url is None:
            raise ImageFormatError(type(block).__name__, "no data", remedy=f"give it {name}=..., path=... or url=...")
        return _address(block)
    if isinstance(block, AudioBlock):
        return None
    found: Path | bytes | str = Path(block.path) if data is None else _bytes_of(data)
    return found if not isinstance(block, DocumentBlock) or _can_be_seen(block, found) else None


def _bytes_of(data: bytes | io.IOBase) -> bytes | str:
    """The raw bytes of what a block holds, which LlamaIndex keeps in base64 or as a file object; or its data URI."""
    if not isinstance(data, bytes):
        return _read(data)
    raw: bytes = resolve_binary(data).read()
    if raw[:5].lower() == b"data:":  # it took the URI for the picture
        return raw.decode("ascii", "replace")
    if filetype.guess(raw) is None:
        with suppress(ValueError):
            return base64.b64decode(b"".join(raw.split()), validate=True)  # base64 in lines, which it does not know
    return raw


def _read(data: Any) -> bytes:
    if type(data) is io.BytesIO:
        return data.getvalue()  # several threads may read it at once
    if not data.seekable():
        remedy = "a conversation shows its pictures again at every turn: give the bytes, image=stream.read()"
        raise ImageFormatError(type(data).__name__, "a stream that can be read only once", remedy=remedy)
    data.seek(0)  # it was read at the turn before
    read: bytes = data.read()
    return read


def _held(block: Block) -> Block:
    """A document whose data are at hand: LlamaIndex sends none of a file object."""
    if not isinstance(block, DocumentBlock) or not isinstance(block.data, io.IOBase):
        return block
    return DocumentBlock(data=_read(block.data), title=block.title, document_mimetype=block.document_mimetype)


def readable(block: Block) -> Block:
    """A document that is a text already, as CSV is, as a text; any other block as it is."""
    if not isinstance(block, DocumentBlock):
        return block
    name = Path(block.path or "").name if block.title in {None, _UNTITLED} else block.title
    kind = block.document_mimetype or mimetypes.guess_type(name or "")[0] or ""
    url = str(block.url or "")
    if not (kind or url[len("data:") :]).startswith(_WRITTEN):
        return block
    try:
        if block.data is not None:
            data = _bytes_of(block.data)
            raw = data if isinstance(data, bytes) else _bytes_in(data)
        elif block.path is not None:
            raw = Path(block.path).read_bytes()
        else:
            raw = _bytes_in(url)
        text = raw.decode("utf-8-sig")
    except (OSError, ValueError):  # not there, or not in UTF-8: whoever is to send it says so
        return block
    return block if filetype.guess(raw) else TextBlock(text=f"{name or block.title}:\n{text}")


def _bytes_in(uri: str) -> bytes:
    """The data of a data URI."""
    head, comma, body = uri.partition(",")
    if not comma or not head.lower().startswith("data:"):
        raise ValueError(uri[:_SHOWN])
    return bytes_of_base64(body) if head.lower().endswith(";base64") else unquote_to_bytes(body)


def _can_be_seen(block: DocumentBlock, found: bytes | Path | str) -> bool:
    """Whether a document is a PDF, a picture or a video, by its first bytes or else by what it is called."""
    if isinstance(found, str):
        return found[len("data:") :].startswith(_LOOKED_AT)
    guess = filetype.guess(found) if isinstance(found, bytes) or found.is_file() else None
    return str(guess.mime if guess else block.document_mimetype).startswith(_LOOKED_AT)


def _address(block: Block) -> str | None:
    """An address that the service is to look at, or data; None for data that are no picture.

    Of others LlamaIndex would fetch what is there, on the way to the service: nothing is fetched on this machine.
    """
    url, kind = str(block.url), kind_of(block)
    scheme = url.partition(":")[0].lower()
    if scheme == "data":
        seen = kind != "Recording" and (kind != "Document" or url[len("data:") :].startswith(_LOOKED_AT))
        return url if seen else None
    if url.startswith(_TRACED):
        raise _of_a_trace(url)
    if scheme not in {"http", "https"}:
        remedy = "data URIs and http(s) URLs are; give files as path=... and their bytes as data"
        raise ImageFormatError(url[:_SHOWN], f"an address with {scheme!r}", remedy=remedy)
    if kind != "Image":
        remedy = "addresses of single pictures are passed on to the service; fetch it yourself and pass the bytes"
        raise ImageFormatError(url[:_SHOWN], f"the address of a {kind.lower()}", remedy=remedy)
    return url


def _of_a_trace(url: str) -> ImageFormatError:
    size = url[len(_TRACED) :].partition(":")[0]
    remedy = "traces keep size and digest of a picture, and none of its bytes: give the picture itself"
    return ImageFormatError(url, f"what a trace tells of a picture of {size} px", remedy=remedy)
