"""What an SDK's request asks for, and what it is expected to use, before the service has counted."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aifs_vision._decoders import decoding, open_picture
from aifs_vision._errors import ImageError
from aifs_vision._formats import GIF, JPEG, PNG, WEBP, sniff
from aifs_vision._limits import Cost
from aifs_vision._tokens import image_tokens, text_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aifs_vision._catalogue import ModelCard

__all__ = ["asked_by", "cost_of"]

_USUAL_IMAGE = (1024, 1024)  # px assumed of a picture whose size is not known before it is sent
_USUAL_OUTPUT = 500  # tokens assumed of an answer whose length is not bounded
_SENT = (JPEG, PNG, WEBP, GIF)  # what the service's models take
_PICTURES = frozenset({"image_url", "input_image"})
_ROOMS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_ASKING = frozenset({"messages", "prompt", "input"})
_HEADER = 65_536  # characters of base64 in which a picture says how large it is, unless its metadata comes before


def asked_by(body: bytes) -> Mapping[str, Any]:
    """The JSON of a request; {} where there is none, as in the upload of a file."""
    try:
        asked = json.loads(body) if body else {}
    except ValueError:  # a file upload, say: nothing in it to pace by
        return {}
    return asked if isinstance(asked, dict) else {}


def cost_of(asked: Mapping[str, Any], card: ModelCard, *, embeds: bool = False) -> Cost:
    """An estimate from the request alone; corrected once the service has counted. `embeds`: no text is written."""
    read = text_tokens(json.dumps(asked["tools"])) if asked.get("tools") else 0
    for part in _parts(asked):
        if isinstance(part, str):
            read += text_tokens(part)
        elif part.get("type") in _PICTURES:
            read += _tokens_of(part, card) if card.takes_images else 0
        else:
            read += text_tokens(str(part.get("text", "")))
    room = next((asked[name] for name in _ROOMS if asked.get(name)), _USUAL_OUTPUT)
    writes = not embeds and not _ASKING.isdisjoint(asked)
    return Cost(input_tokens=read, output_tokens=min(room, _USUAL_OUTPUT) if writes and isinstance(room, int) else 0)


def _parts(asked: Mapping[str, Any]) -> Iterator[str | dict[str, Any]]:
    """The texts and content parts of a request, be it for a chat, /responses or embeddings."""
    contents = [asked.get("instructions"), asked.get("prompt")]
    for given in (asked.get("messages"), asked.get("input")):
        for item in given if isinstance(given, list) else [given]:
            if isinstance(item, dict):
                contents += [item.get("content"), item.get("output"), item.get("arguments")]
            else:
                contents.append(item)
    for content in contents:
        for part in content if isinstance(content, list) else [content]:
            if isinstance(part, (str, dict)):
                yield part


def _tokens_of(part: Mapping[str, Any], card: ModelCard) -> int:
    given = part.get("image_url")
    detail = (given if isinstance(given, dict) else part).get("detail")
    return image_tokens(card, *_size_of(given), detail=detail)


def _size_of(given: Any) -> tuple[int, int]:
    """The (width, height) in px of a picture in a message, by its header; a usual one where that cannot be told."""
    url = given.get("url") if isinstance(given, dict) else given
    head, _, data = url.partition(",") if isinstance(url, str) and url.startswith("data:") else ("", "", "")
    if head.endswith(";base64"):
        for part in (data[:_HEADER], data):
            with suppress(ImageError, ValueError):
                return _size_in(base64.b64decode(part))
    return _USUAL_IMAGE


def _size_in(data: bytes) -> tuple[int, int]:
    kind = sniff(data)
    if kind not in _SENT:
        return _USUAL_IMAGE
    with decoding("a picture in a message", kind):
        return open_picture(data, kind).size
