"""What is sent for an image: the request body, and what it is expected to use."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aifs_vision._layout import BANDS
from aifs_vision._limits import Cost
from aifs_vision._tokens import image_tokens, text_tokens

if TYPE_CHECKING:
    from aifs_vision._catalogue import ModelCard
    from aifs_vision._images import PreparedImage
    from aifs_vision._tasks import Task

__all__ = ["Plan", "plan"]

_TEMPERATURE = 0.1  # nearly always the same words, yet not the loops of pure greed (olmOCR starts there, too)
_ANSWERED = 0.4  # of its room an answer is expected to fill, before any has been counted
_URL_MARK = "\0image"  # stands for the picture while the JSON is made; no JSON text holds a bare NUL


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One request, ready to be sent.

    Attributes:
        body: the JSON, the picture's base64 spliced into it without a second copy of either.
        cost: the tokens it is expected to use.
    """

    body: bytes = field(repr=False)
    cost: Cost


def plan(image: PreparedImage, model: str, card: ModelCard, task: Task, *, room: int) -> Plan:
    """The request for a prepared picture; `room` is the most tokens the answer may have."""
    picture = {"url": image.url or _URL_MARK}
    if task.detail is not None and task.detail != BANDS:
        picture["detail"] = task.detail
    # The picture first: models read the instruction in the light of it.
    content = [{"type": "image_url", "image_url": picture}, {"type": "text", "text": task.prompt}]
    body = {"messages": [{"role": "user", "content": content}], "model": model, card.max_tokens_field: room}
    if card.max_tokens_field == "max_tokens":  # the reasoning models take neither this field nor a temperature
        body["temperature"] = _TEMPERATURE
    if (wanted := task.response_format()) is not None:
        body["response_format"] = wanted
    text = json.dumps(body).encode()
    if image.url is None:
        before, after = text.split(json.dumps(_URL_MARK)[1:-1].encode(), 1)
        text = b"%sdata:%s;base64,%s%s" % (before, image.mime_type.encode(), b64encode(image.data), after)
    size = (image.width or task.long_side, image.height or task.long_side)
    return Plan(
        body=text,
        cost=Cost(input_tokens=image_tokens(card, *size) + text_tokens(task.prompt), output_tokens=room * _ANSWERED),
    )
