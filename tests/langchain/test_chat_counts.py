"""Token counts of messages with pictures: those of what is sent, whatever its shape, for every family of models."""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from PIL import Image, ImageDraw, ImageFont

from langchain_aifs import ChatAIFS
from tests.media import pdf
from tests.pictures import corners, saved

if TYPE_CHECKING:
    from aifs_vision.emulator import Emulator

pytestmark = pytest.mark.usefixtures("environment")

# One of each family of the catalogue: a grid, tiles, patches of three kinds, rows, crops, and one price for all.
FAMILIES = """
    Qwen3-VL-30B-A3B-Instruct-FP8 gpt-4.1 gpt-4o-mini gpt-4.1-mini gpt-5 gpt-5.2 mistral-medium-3 claude-sonnet-4
    gemini-2.5-flash gemini-3-flash
""".split()
SIZES = {
    "a small picture": (640, 480),
    "a page": (1240, 1754),
    "a page scanned at 300 dpi": (2480, 3508),
    "the screen of a phone": (1080, 2400),
    "a long screenshot": (1080, 12_000),
    "a wide one": (6000, 700),
}


@lru_cache
def screenshot(width: int, height: int) -> str:
    """Lines of print from top to bottom, as base64."""
    picture = Image.new("L", (width, height), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(20)
    for top in range(0, height, 40):
        draw.text((20, top), "Every line of a long page is to be read. " * 3, fill="black", font=font)
    return base64.b64encode(saved(picture)).decode()


@pytest.mark.parametrize("model", FAMILIES)
@pytest.mark.parametrize("size", SIZES)
def test_counts_are_those_of_what_is_sent(server: Emulator, model: str, size: str) -> None:
    """The count is the service's own, to 2 % and 12 tokens, however long or dense the picture; it asks nobody."""
    chat = ChatAIFS(model=model)
    picture = {"type": "image", "base64": screenshot(*SIZES[size]), "mime_type": "image/png"}
    message = [HumanMessage([{"type": "text", "text": "What does it say?"}, picture])]
    counted = chat.get_num_tokens_from_messages(message)
    assert not server.requests
    used = chat.invoke(message).usage_metadata
    assert used is not None
    assert counted == pytest.approx(used["input_tokens"], rel=0.02, abs=12)


@pytest.mark.parametrize("size", ["original", 400])
def test_counts_follow_the_size_that_is_set(server: Emulator, size: Any) -> None:
    """With a size of one's own, a long screenshot is counted as it is then sent."""
    chat = ChatAIFS(image_size=size)
    message = [HumanMessage([{"type": "image", "base64": screenshot(1080, 12_000), "mime_type": "image/png"}])]
    counted = chat.get_num_tokens_from_messages(message)
    used = chat.invoke(message).usage_metadata
    assert used is not None
    assert counted == pytest.approx(used["input_tokens"], rel=0.02, abs=12)
    assert server.requests[0].images


def test_pictures_are_counted_wherever_they_stand() -> None:
    """Pictures of tools, of the system and of answers, pages and PIL images are counted as they are sent."""
    block = {"type": "image", "base64": screenshot(1080, 2400), "mime_type": "image/png"}
    call = {"name": "look", "args": {"at": "it"}, "id": "1", "type": "tool_call"}
    talk = [
        SystemMessage([{"type": "text", "text": "Be brief."}, block]),
        HumanMessage([{"type": "file", "base64": pdf(*["0 0 9 9 re f"] * 3), "mime_type": "application/pdf"}]),
        AIMessage("", tool_calls=[call]),
        ToolMessage([block], tool_call_id="1", name="look"),
        HumanMessage([{"type": "image", "image": corners(1400, 900)}, {"type": "text", "text": "What is it?"}]),
    ]
    chat = ChatAIFS()
    used = chat.invoke(talk).usage_metadata
    assert used is not None
    assert chat.get_num_tokens_from_messages(talk) == pytest.approx(used["input_tokens"], rel=0.02, abs=12)


@pytest.mark.parametrize("more", [{}, {"use_responses_api": True}])
def test_pictures_of_low_detail_are_counted_as_the_service_does(server: Emulator, more: dict[str, Any]) -> None:
    """A picture with `detail="low"` counts as little as the service takes for it, also in /responses."""
    chat = ChatAIFS(model="gpt-4.1", **more)
    counts = []
    for detail in ("low", "high"):
        url = f"data:image/png;base64,{screenshot(1080, 2400)}"
        block = {"type": "image_url", "image_url": {"url": url, "detail": detail}}
        message = [HumanMessage([{"type": "text", "text": "What does it say?"}, block])]
        counts.append(chat.get_num_tokens_from_messages(message))
        used = chat.invoke(message).usage_metadata
        assert used is not None
        assert counts[-1] == pytest.approx(used["input_tokens"], rel=0.02, abs=12)
    assert counts[0] < 85 + 20 < counts[1]
    assert len(server.requests) == 2
