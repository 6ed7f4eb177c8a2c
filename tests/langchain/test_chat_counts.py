"""Token counts of messages with pictures: those of what is sent, whatever its shape, for every family of models."""

from __future__ import annotations

import base64
import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage, SystemMessage, ToolMessage
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


ARGUMENTS = {"text": "lorem ipsum dolor " * 200}
CALL = {"name": "write", "args": ARGUMENTS, "id": "1"}
CALLS: dict[str, AIMessage] = {
    "v1": AIMessage([{"type": "text", "text": "A"}, {"type": "tool_call", **CALL}], tool_calls=[CALL]),
    "Anthropic": AIMessage(
        [{"type": "text", "text": "A"}, {"type": "tool_use", "name": "write", "input": ARGUMENTS, "id": "1"}],
        tool_calls=[CALL],
    ),
    "OpenAI's": AIMessage(
        "A",
        additional_kwargs={
            "tool_calls": [
                {"type": "function", "id": "1", "function": {"name": "write", "arguments": json.dumps(ARGUMENTS)}}
            ]
        },
    ),
    "OpenAI's of old": AIMessage(
        "A", additional_kwargs={"function_call": {"name": "write", "arguments": json.dumps(ARGUMENTS)}}
    ),
    "one that is no JSON": AIMessage(
        "A", invalid_tool_calls=[{**CALL, "args": json.dumps(ARGUMENTS)[:-1] + "]", "error": None}]
    ),
}


def test_messages_that_are_to_go_count_nothing() -> None:
    """A RemoveMessage of a graph is sent to nobody."""
    chat, said = ChatAIFS(api_key="k"), HumanMessage("Hello")
    assert chat.get_num_tokens_from_messages([said, RemoveMessage("1")]) == chat.get_num_tokens_from_messages([said])


def test_a_call_without_a_function_counts_nothing() -> None:
    """What LangChain sends on of calls that are no functions has nothing in it to count, and is no error."""
    call = AIMessage("A", additional_kwargs={"tool_calls": [{"type": "custom", "id": "1"}]})
    chat = ChatAIFS()
    assert chat.get_num_tokens_from_messages([call]) == chat.get_num_tokens_from_messages([AIMessage("A")])


@pytest.mark.parametrize("form", CALLS)
def test_a_call_counts_once(form: str) -> None:
    """A call counts as often as it is sent: once, whether or not the content has a block for it as well."""
    plain = [HumanMessage("q"), AIMessage("A", tool_calls=[CALL]), ToolMessage("r", tool_call_id="1")]
    counted = ChatAIFS().get_num_tokens_from_messages([plain[0], CALLS[form], plain[2]])
    assert counted == ChatAIFS().get_num_tokens_from_messages(plain)
    assert counted > len(ARGUMENTS["text"]) / 4


LONG = "lorem ipsum dolor " * 200
PHOTO = {"type": "image", "base64": base64.b64encode(saved(corners(320, 200))).decode(), "mime_type": "image/png"}
PHOTO_CALLS = [{"name": "take_a_picture", "args": {}, "id": f"call_{number:032d}"} for number in range(8)]
TALKS: dict[str, list[AnyMessage]] = {
    "thoughts": [
        HumanMessage("q"),
        AIMessage([{"type": "reasoning", "reasoning": LONG}, {"type": "text", "text": "A"}]),
        HumanMessage("w"),
    ],
    "Anthropic's thoughts": [
        HumanMessage("q"),
        AIMessage([{"type": "thinking", "thinking": LONG, "signature": LONG}, {"type": "text", "text": "A"}]),
        HumanMessage("w"),
    ],
    "thoughts beside the content": [
        HumanMessage("q"),
        AIMessage("A", additional_kwargs={"reasoning_content": LONG}),
        HumanMessage("w"),
    ],
    "pictures of eight tools": [
        HumanMessage("q"),
        AIMessage("", tool_calls=PHOTO_CALLS),
        *(ToolMessage([PHOTO], tool_call_id=str(call["id"]), name=str(call["name"])) for call in PHOTO_CALLS),
    ],
    "pictures of system and answers": [
        SystemMessage([PHOTO, PHOTO]),
        HumanMessage("q"),
        AIMessage(["Here it is:", PHOTO]),
        HumanMessage("And?"),
    ],
    "a PDF of a tool": [
        HumanMessage("q"),
        AIMessage("", tool_calls=PHOTO_CALLS[:1]),
        ToolMessage(
            [{"type": "file", "base64": pdf(*["0 0 9 9 re f"] * 3), "mime_type": "application/pdf"}],
            tool_call_id=str(PHOTO_CALLS[0]["id"]),
        ),
    ],
    "texts of many kinds": [
        HumanMessage(["one", {"type": "text", "text": "two", "id": "lc_1", "annotations": []}, {"type": "json"}]),
        AIMessage([{"type": "text", "text": ""}, {"type": "text", "text": "three"}]),
        HumanMessage([{"type": "text-plain", "base64": b"four", "mime_type": "text/plain"}]),
    ],
}


@pytest.mark.parametrize("talk", TALKS)
def test_counts_are_those_of_what_is_sent_whatever_is_given(talk: str) -> None:
    """Thoughts that are not sent do not count; the words that say where a picture has moved do."""
    chat = ChatAIFS()
    used = chat.invoke(TALKS[talk]).usage_metadata
    assert used is not None
    assert chat.get_num_tokens_from_messages(TALKS[talk]) == pytest.approx(used["input_tokens"], rel=0.05, abs=12)


def test_what_cannot_be_sent_cannot_be_counted(server: Emulator) -> None:
    """A model's block in a message of somebody else is the same error for both."""
    message = [HumanMessage([{"type": "thinking", "thinking": "Hm"}])]
    for ask in (ChatAIFS().invoke, ChatAIFS().get_num_tokens_from_messages):
        with pytest.raises(ValueError, match=r"messages\[0\]\.content\[0\]: a 'thinking' block"):
            ask(message)
    assert not server.requests
