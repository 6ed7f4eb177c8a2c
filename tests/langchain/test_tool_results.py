"""What tools return and LangChain makes a text of: pictures in it are looked at, all other texts stay as they are."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool

from aifs_vision import ImageBrokenError
from langchain_aifs import ChatAIFS, image_block
from langchain_aifs.middleware import ImageBudgetMiddleware
from tests.media import clip, pdf
from tests.pictures import corner_names, corners, opened, saved

if TYPE_CHECKING:
    from pathlib import Path

    from aifs_vision.emulator import Emulator

pytestmark = pytest.mark.usefixtures("environment")

PICTURE = corners()
PNG = saved(PICTURE)
B64 = base64.b64encode(PNG).decode()
VIDEO = base64.b64encode(clip([PICTURE])).decode()
PDF = base64.b64encode(pdf("0 0 9 9 re f", "0 0 9 9 re f")).decode()
IMAGE = {"type": "image", "base64": B64, "mime_type": "image/png"}
NOTE = {"type": "text-plain", "text": "a note", "mime_type": "text/plain"}

# By what a tool returns: how many pictures are sent for it (a video has two frames here), and which texts beside them.
RETURNED: dict[str, tuple[Any, int, list[str]]] = {
    "a note and a picture": ([NOTE, IMAGE], 1, ["a note"]),
    "a picture of image_block": ([NOTE, image_block(PICTURE)], 1, ["a note"]),
    "a video": ([{"type": "video", "base64": VIDEO, "mime_type": "video/mp4"}], 2, []),
    "Google's media": ([{"type": "media", "data": VIDEO, "mime_type": "video/mp4"}], 2, []),
    "a text, then a video": (["Look:", {"type": "video", "base64": VIDEO, "mime_type": "video/mp4"}], 2, ["Look:"]),
    "a PDF beside a note": ([NOTE, {"type": "file", "base64": PDF, "mime_type": "application/pdf"}], 2, ["a note"]),
    "Google's own": ([{"text": "Look:"}, {"inlineData": {"mimeType": "image/png", "data": B64}}], 1, ["Look:"]),
    "a block in no list": (IMAGE, 1, []),
    "a picture beside data": ([IMAGE, {"name": "Ä", "size": 5}], 1, ['{"name": "Ä", "size": 5}']),
}


def returned(value: Any) -> ToolMessage:
    """The message that LangChain makes of what a tool returns; a text, in all of these cases."""

    @tool
    def camera() -> Any:
        """Takes a picture."""
        return value

    message = camera.invoke({"name": "camera", "args": {}, "id": "1", "type": "tool_call"})
    assert isinstance(message, ToolMessage)
    assert isinstance(message.content, str)
    return message


def talk(result: ToolMessage) -> list[AnyMessage]:
    """A question, the call of a tool, and its result."""
    return [HumanMessage("look"), AIMessage("", tool_calls=[{"name": "camera", "args": {}, "id": "1"}]), result]


@pytest.mark.parametrize("case", RETURNED)
def test_pictures_in_texts_of_tools_are_seen(server: Emulator, case: str) -> None:
    """Blocks that LangChain has made a text of are sent as those blocks, pictures by the user; in every way to ask."""
    value, count, texts = RETURNED[case]
    messages, chat = talk(returned(value)), ChatAIFS(frames=2)
    chat.invoke(messages)
    list(chat.stream(messages))
    asyncio.run(chat.ainvoke(messages))
    assert len(server.requests) == 3
    for request in server.requests:
        *_, result, shown = request.body["messages"]
        assert [result["role"], shown["role"]] == ["tool", "user"]
        assert [
            part["text"] for part in result["content"] if "in the next message of the user" not in part["text"]
        ] == texts
        assert len(request.images) == count
        assert B64 not in str(result)
    if value is IMAGE:
        assert corner_names(opened(server.requests[0].images[0][1])) == corner_names(PICTURE)


def test_they_are_counted_as_they_are_sent(server: Emulator) -> None:
    """The count of such a result is that of its pictures, and not of its base64."""
    chat, messages = ChatAIFS(frames=2), talk(returned(RETURNED["a video"][0]))
    counted = chat.get_num_tokens_from_messages(messages)
    used = chat.invoke(messages).usage_metadata
    assert used is not None
    assert counted == pytest.approx(used["input_tokens"], rel=0.05, abs=12)
    assert counted < len(VIDEO) / 4
    assert server.requests


def test_they_are_pictures_of_the_conversation(server: Emulator) -> None:
    """A budget takes them out of what is sent as it does others, and leaves the texts beside them."""
    agent: Any = create_agent(ChatAIFS(), [], middleware=[ImageBudgetMiddleware(max_images=1)])
    agent.invoke({"messages": [*talk(returned([IMAGE, {"a": 1}])), HumanMessage([image_block(PICTURE)])]})
    result = next(message for message in server.requests[0].body["messages"] if message["role"] == "tool")
    said = [part["text"] for part in result["content"]]
    assert said == ["[picture 1 was shown here by the tool 'camera']", '{"a": 1}']
    assert len(server.requests[0].images) == 1


@pytest.mark.parametrize(
    "value",
    [
        [{"name": "a.png", "size": 5}, {"name": "b.png", "size": 6}],
        [{"type": "file", "name": "README.md", "path": "README.md"}, {"type": "dir", "name": "docs"}],
        [{"type": "image", "path": "{path}"}, {"type": "video", "url": "{path}"}],
        [{"type": "video", "base64": "{path}"}],
        [{"image": "https://shop.example/shoe.png", "title": "A shoe"}],
        [{"image": {"url": "https://shop.example/shoe.png"}, "title": "A shoe"}],
        [{"type": "image", "url": "https://a.example/a.png", "title": "A"}, {"type": "web", "title": "B"}],
        [{"type": "video", "url": "https://a.example/a.mp4"}],
        [{"type": ["image"], "image": 5}],
        [{"type": "image", "base64": 5, "data": {"width": 5}}, {"type": "x"}],
        {"type": "image", "size": 5},
        {"type": "file", "name": "notes", "data": "Anna"},
        {"type": "file", "name": "a.zip", "data": base64.b64encode(b"PK" * 99).decode()},
        [{"type": "document", "title": "Doc", "text": "the text", "image": "d41d8cd98f00b204e9800998ecf8427e"}],
        [{"type": "image", "url": "https://shop.example/cat.png", "title": "Cat", "price": 12}],
        [NOTE],
    ],
)
def test_data_of_tools_stays_the_text_that_it_is(server: Emulator, tmp_path: Path, value: Any) -> None:
    """A JSON text without a picture's data or address is sent as it is, and paths in it are not opened."""
    path = tmp_path / "secret.png"
    path.write_bytes(PNG)
    text = json.dumps(value).replace("{path}", str(path))
    ChatAIFS().invoke(talk(ToolMessage(text, tool_call_id="1")))
    (*_, result) = server.requests[0].body["messages"]
    assert result == {"role": "tool", "tool_call_id": "1", "content": text}


@pytest.mark.parametrize(
    "text",
    [
        f'[{{"type": "image", "base64": "{B64}"}}',
        '[{"type": "image"}' + "[" * 100_000,
        '{"type": "image", "data": ' + '{"data": ' * 5000 + f'"{B64}"' + "}" * 5001,
        '[{"type": "image", "size": ' + "9" * 5000 + "}]",
        f'See [{{"type": "image", "base64": "{B64}"}}]',
    ],
)
def test_what_is_no_json_stays_a_text(server: Emulator, text: str) -> None:
    """A text that only looks like blocks is sent as it is, however deep or long what is in it."""
    ChatAIFS().invoke(talk(ToolMessage(text, tool_call_id="1")))
    assert server.requests[0].body["messages"][-1]["content"] == text


URI = f"data:image/png;base64,{B64}"
SOUND = base64.b64encode(b"\0\0\0 ftypM4A " + bytes(99)).decode()
OTHER = base64.b64encode(saved(corners().rotate(90))).decode()

# By what stands in a block: how many pictures are sent for it, and what is said beside them.
SAID: dict[str, tuple[dict[str, Any], int, list[Any]]] = {
    "of its place": ({**IMAGE, "page": 3}, 1, [{"page": 3}]),
    "of its origin": ({**IMAGE, "source": "a.pdf", "name": "a.png"}, 1, [{"source": "a.pdf", "name": "a.png"}]),
    "where else it is": ({**IMAGE, "url": "https://a.example/a.png"}, 1, [{"url": "https://a.example/a.png"}]),
    "nothing": ({**IMAGE, "id": "lc_1", "index": 0, "extras": {"detail": "low"}, "page": None}, 1, []),
    "the same once more": ({**IMAGE, "url": URI, "image_url": {"url": URI}, "page": 3}, 1, [{"page": 3}]),
    "another picture": ({**IMAGE, "image": OTHER}, 2, []),
    "OpenAI's": ({"type": "image_url", "image_url": {"url": URI}, "page": 3}, 1, [{"page": 3}]),
    "LangChain's with an address": ({"type": "image", "url": URI, "page": 3}, 1, [{"page": 3}]),
    "Anthropic's": ({"type": "image", "source": {"type": "base64", "data": B64}, "page": 3}, 1, [{"page": 3}]),
    "Qwen's": ({"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{VIDEO}"}}, 2, []),
    "Google's": ({"type": "media", "file_uri": URI, "mime_type": "image/png", "page": 3}, 1, [{"page": 3}]),
    "a text's": ({"type": "text", "text": "hi", "score": 0.5, "annotations": None}, 0, ["hi", {"score": 0.5}]),
    "a document's": (
        {"type": "document", "title": "A", "source": {"type": "text", "media_type": "text/plain", "data": "hi"}},
        0,
        ["hi", {"title": "A"}],
    ),
    "the same under a foreign key": ({**IMAGE, "source": URI, "thumbnail": B64, "page": 3}, 1, [{"page": 3}]),
    "another under a foreign key": ({**IMAGE, "thumbnail": OTHER}, 2, []),
    "of its size": ({"type": "image", "url": URI, "bytes": 34_567}, 1, [{"bytes": 34_567}]),
    "of another file": ({"type": "image_url", "image_url": {"url": URI}, "data": "b.png"}, 1, [{"data": "b.png"}]),
    "a text with a picture": ({"type": "text", "text": "hi", "image_url": {"url": URI}}, 1, ["hi"]),
    "a table with a picture": ({"type": "file", "mime_type": "text/csv", "text": "a;b", "image": B64}, 1, ["a;b"]),
    "in a wrapping": ({"type": "non_standard", "value": {**IMAGE, "page": 3}}, 1, [{"page": 3}]),
    "data": ({"type": "json", "data": {"price": 5}}, 0, [{"data": {"price": 5}}]),
    "nothing, with a name": ({"type": "json", "json": None, "name": "n"}, 0, [{"json": None, "name": "n"}]),
    "data with a picture": ({"type": "json", "a": 1, "picture": OTHER}, 1, [{"a": 1}]),
    "data around a picture": ({"type": "json", "json": {"a": 1, "b": {"c": OTHER}}}, 1, [{"json": {"a": 1}}]),
    "of another in it": (
        {**IMAGE, "thumbnail": {"data": OTHER, "width": 64, "mime_type": "image/png"}},
        2,
        [{"thumbnail": {"width": 64}}],
    ),
    "others in a list": (
        {**IMAGE, "crops": [OTHER, {"x": 1, "image": B64}, 5], "ids": [None]},
        2,
        [{"crops": [{"x": 1}, 5], "ids": [None]}],
    ),
    "its file's name": (
        {"type": "file", "file": {"filename": "a.png", "file_data": URI}},
        1,
        [{"file": {"filename": "a.png"}}],
    ),
    "far down": ({"type": "image", "data": {"a": [{"b": {"c": {"d": {"e": {"f": URI}}}}}]}}, 1, []),
    "sound": ({"type": "file", "base64": SOUND}, 0, [{"type": "file", "base64": SOUND}]),
    "half a letter": ({**IMAGE, "name": "\ud83d"}, 1, [{"name": "\ud83d"}]),
}


@pytest.mark.parametrize("case", SAID)
def test_what_a_block_says_besides_its_picture_is_kept(server: Emulator, case: str) -> None:
    """It is a text in JSON beside the picture, whose data are sent once; other pictures in the block are seen, too."""
    block, count, said = SAID[case]
    ChatAIFS(frames=2).invoke(talk(ToolMessage(json.dumps([IMAGE, block]), tool_call_id="1")))
    (request,) = server.requests
    result = next(message for message in request.body["messages"] if message["role"] == "tool")
    texts = [part["text"] for part in result["content"] if "in the next message of the user" not in part["text"]]
    assert [json.loads(text) if text[0] == "{" else text for text in texts] == said
    assert len(request.images) == 1 + count
    for data in (B64, OTHER, VIDEO):
        assert data not in str(result)


def test_blocks_without_pictures_are_kept(server: Emulator) -> None:
    """Blocks that have no picture are texts beside those that do."""
    found = {"type": "file", "name": "a.txt", "url": "https://shop.example/a.txt"}
    ChatAIFS().invoke(talk(returned([NOTE, IMAGE, found])))
    (request,) = server.requests
    result = next(message for message in request.body["messages"] if message["role"] == "tool")
    assert [json.loads(part["text"]) for part in result["content"] if part["text"][0] == "{"] == [found]
    assert len(request.images) == 1


def test_a_model_that_does_not_see_gets_the_text(server: Emulator) -> None:
    """For a model that takes no images the text of a tool stays what it is, in counts, too."""
    chat, messages = ChatAIFS(model="Llama-3.3-70B-Instruct"), talk(returned([NOTE, IMAGE]))
    chat.invoke(messages)
    assert server.requests[0].body["messages"][-1]["content"] == messages[-1].content
    assert chat.get_num_tokens_from_messages(messages) > len(B64) / 8


@pytest.mark.parametrize("value", [PICTURE, ["Look:", PICTURE]], ids=["bare", "in a list"])
def test_a_picture_that_has_become_words_is_told_of(
    server: Emulator, caplog: pytest.LogCaptureFixture, value: Any
) -> None:
    """LangChain makes words of a bare PIL image, so that no model can see it: a warning says what to return."""
    ChatAIFS().invoke(talk(returned(value)))
    assert not server.requests[0].images
    (record,) = caplog.records
    assert "messages[2]" in record.getMessage()
    assert "image_block" in record.getMessage()


def test_only_tools_say_blocks_as_texts(server: Emulator) -> None:
    """What a user has written is what a user has written."""
    text = json.dumps([IMAGE])
    ChatAIFS().invoke([HumanMessage(text)])
    assert server.requests[0].body["messages"] == [{"role": "user", "content": text}]


def test_a_broken_picture_in_a_text_of_a_tool_says_so(server: Emulator) -> None:
    """A picture that cannot be decoded is an error that says where it stands, as in lists."""
    broken = base64.b64encode(PNG[: len(PNG) // 2]).decode()
    with pytest.raises(ImageBrokenError, match=r"messages\[2\]\.content\[1\]"):
        ChatAIFS().invoke(talk(returned([NOTE, {"type": "image", "base64": broken}])))
    assert not server.requests
