"""Pictures in messages: every form goes in, prepared; nothing is opened, dropped or corrupted."""

from __future__ import annotations

import asyncio
import base64
import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage

from aifs_vision import (
    AIFSError,
    ImageBrokenError,
    ImageError,
    ImageFormatError,
    ImageLimits,
    ImageTooLargeError,
    SettingsError,
)
from langchain_aifs import ChatAIFS, image_block, image_blocks
from tests.media import clip, pdf
from tests.pictures import ORIENTATION, corner_names, corners, opened, saved, tiff

if TYPE_CHECKING:
    from collections.abc import Callable

    from aifs_vision.emulator import Emulator

pytestmark = pytest.mark.usefixtures("environment")

PICTURE = corners()
PNG, JPEG = saved(PICTURE), saved(PICTURE, "JPEG", quality=95, subsampling=0)
B64 = base64.b64encode(PNG).decode()
URI = f"data:image/png;base64,{B64}"
TURNED = ["red", "lime", "blue", "yellow"]

FORMS: dict[str, dict[str, Any]] = {
    "image_url": {"type": "image_url", "image_url": {"url": URI}},
    "image_url, a text": {"type": "image_url", "image_url": URI},
    "v0": {"type": "image", "source_type": "base64", "data": B64, "mime_type": "image/png"},
    "v0, no label": {"type": "image", "source_type": "base64", "data": B64},
    "v0, url": {"type": "image", "source_type": "url", "url": URI},
    "v1": {"type": "image", "base64": B64, "mime_type": "image/png", "id": "lc_1", "index": 0},
    "v1, no label": {"type": "image", "base64": B64},
    "v1, wrong label": {"type": "image", "base64": B64, "mime_type": "image/jpeg"},
    "v1, url": {"type": "image", "url": URI},
    "v1, bytes": {"type": "image", "base64": PNG, "mime_type": "image/png"},
    "v1, base64 as bytes": {"type": "image", "base64": B64.encode(), "mime_type": "image/png"},
    "v1, wrapped lines": {"type": "image", "base64": base64.encodebytes(PNG).decode(), "mime_type": "image/png"},
    "non_standard": {"type": "non_standard", "value": {"type": "image", "base64": B64}},
    "Anthropic": {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": B64}},
    "Anthropic, url": {"type": "image", "source": {"type": "url", "url": URI}},
    "GenAI": {"type": "media", "mime_type": "image/png", "data": B64},
    "GenAI, bytes": {"type": "media", "mime_type": "image/png", "data": PNG},
    "Bedrock": {"image": {"format": "png", "source": {"bytes": PNG}}},
    "Responses": {"type": "input_image", "image_url": URI},
    "Hugging Face": {"type": "image", "image": PICTURE},
    "PIL": {"type": "image", "base64": PICTURE},
    "file": {"type": "file", "base64": B64, "mime_type": "image/png"},
    "OpenAI's file": {"type": "file", "file": {"file_data": URI, "filename": "a.png"}},
    "image_block": image_block(PNG),
}


def asked(*blocks: Any, text: str = "What is it?") -> list[BaseMessage]:
    """One message of the user."""
    return [HumanMessage([{"type": "text", "text": text}, *blocks])]


def parts(server: Emulator, message: int = -1) -> list[dict[str, Any]]:
    """The content parts of a message of the last request."""
    content: list[dict[str, Any]] = server.requests[-1].body["messages"][message]["content"]
    return content


def streamed(messages: list[BaseMessage]) -> str:
    """What the stream says, read asynchronously."""

    async def read() -> str:
        return "".join([chunk.text async for chunk in ChatAIFS().astream(messages)])

    return asyncio.run(read())


@pytest.mark.parametrize("form", FORMS)
def test_every_form_goes_in(server: Emulator, form: str) -> None:
    """A picture of any form arrives as itself under the right label, by invoke and stream, sync and async."""
    message = asked(FORMS[form])
    chat = ChatAIFS()
    chat.invoke(message)
    list(chat.stream(message))
    asyncio.run(chat.ainvoke(message))
    streamed(message)
    assert len(server.requests) == 4
    for request in server.requests:
        ((label, data),) = request.images
        assert label == {"PNG": "image/png", "JPEG": "image/jpeg"}[str(opened(data).format)]
        assert corner_names(opened(data)) == TURNED
        assert [part["type"] for part in request.body["messages"][0]["content"]] == ["text", "image_url"]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image_url", "image_url": {"url": URI, "detail": "low"}},
        {"type": "image", "base64": B64, "mime_type": "image/png", "extras": {"detail": "low"}},
        {"type": "input_image", "image_url": URI, "detail": "low"},
        {"type": "image", "base64": PNG, "extras": {"detail": "low"}},
        image_block(PNG, detail="low"),
    ],
)
def test_detail_is_kept(server: Emulator, block: Any) -> None:
    """How closely the model is to look is sent, whichever form says it."""
    ChatAIFS().invoke(asked(block))
    assert parts(server)[1]["image_url"]["detail"] == "low"


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image_url", "image_url": {"url": "{}"}},
        {"type": "image_url", "image_url": "{}"},
        {"type": "image", "url": "{}"},
        {"type": "image", "source_type": "url", "url": "{}"},
        {"type": "image", "source": {"type": "url", "url": "{}"}},
        {"type": "media", "mime_type": "image/png", "file_uri": "{}"},
        {"type": "file", "url": "{}", "mime_type": "image/png"},
    ],
)
def test_addresses_are_passed_on(server: Emulator, block: dict[str, Any]) -> None:
    """An http(s) URL goes to the service as it is; nothing is fetched here."""
    address = "https://pictures.example/a.png?size=1"

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(inner) for key, inner in value.items()}
        return address if value == "{}" else value

    with pytest.raises(AIFSError, match="fetches pictures from this machine only"):  # the emulator's own words
        ChatAIFS().invoke(asked(filled(block)))
    assert server.requests[-1].body["messages"][0]["content"][1] == {
        "type": "image_url",
        "image_url": {"url": address},
    }


NONE: dict[str, tuple[dict[str, Any], str]] = {
    "path": ({"type": "image", "url": "{path}"}, "image_block"),
    "path as image_url": ({"type": "image_url", "image_url": {"url": "{path}"}}, "never opened"),
    "file://": ({"type": "image_url", "image_url": "file://{path}"}, "never opened"),
    "path key": ({"type": "image", "path": "{path}"}, "never opened"),
    "Path": ({"type": "image", "image": Path("{path}")}, "never opened"),
    "path as base64": ({"type": "image", "base64": "{path}"}, "never opened"),
    "PDF path": ({"type": "file", "url": "{path}", "mime_type": "application/pdf"}, "never opened"),
    "file_id": ({"type": "image", "file_id": "file-1"}, "file id"),
    "v0 id": ({"type": "image", "source_type": "id", "id": "file-1"}, "file id"),
    "Anthropic file": ({"type": "image", "source": {"type": "file", "file_id": "file-1"}}, "file id"),
    "OpenAI file": ({"type": "file", "file": {"file_id": "file-1"}}, "file id"),
    "gs://": ({"type": "media", "mime_type": "image/png", "file_uri": "gs://bucket/a.png"}, "fetches http"),
    "PDF at a URL": ({"type": "file", "url": "https://a.example/a.pdf", "mime_type": "application/pdf"}, "download it"),
    "video at a URL": ({"type": "video_url", "video_url": {"url": "https://a.example/a.mp4"}}, "download it"),
    "no base64": ({"type": "image", "base64": "!!!!", "mime_type": "image/png"}, "base64"),
    "bad data URI": ({"type": "image_url", "image_url": {"url": "data:image/png;base64,!"}}, "data URI"),
    "no data": ({"type": "image", "mime_type": "image/png"}, "without data"),
    "no picture": ({"type": "image", "base64": base64.b64encode(b"hello there").decode()}, "a text file"),
}


@pytest.mark.parametrize("case", NONE)
def test_what_is_no_picture_is_an_error(server: Emulator, tmp_path: Path, case: str) -> None:
    """A path, a reference or data that is none gives an error with place and remedy, and nothing is sent or opened."""
    path = tmp_path / "secret.png"
    path.write_bytes(PNG)
    block, words = NONE[case]

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(inner) for key, inner in value.items()}
        if isinstance(value, Path):
            return path
        return value.replace("{path}", str(path))

    message = asked(filled(block))
    calls: list[Any] = [
        lambda: ChatAIFS().invoke(message),
        lambda: list(ChatAIFS().stream(message)),
        lambda: asyncio.run(ChatAIFS().ainvoke(message)),
        lambda: streamed(message),
        lambda: ChatAIFS().get_num_tokens_from_messages(message),
    ]
    for call in calls if case != "no picture" else calls[:-1]:
        with pytest.raises(ImageError, match=words) as raised:
            call()
        assert case == "bad data URI" or "messages[0].content[1]" in str(raised.value)
    assert not server.requests


def test_a_broken_picture_says_where_it_stands(server: Emulator) -> None:
    """Of several pictures in several messages, the error names the place of the one that cannot be read."""
    broken = {"type": "image", "base64": base64.b64encode(JPEG[: len(JPEG) // 2]).decode(), "mime_type": "image/jpeg"}
    with pytest.raises(ImageBrokenError, match=r"messages\[1\]\.content\[2\]"):
        ChatAIFS().invoke([*asked(FORMS["v1"]), *asked(FORMS["v1"], broken)])
    assert not server.requests


def test_texts_of_every_form_go_in(server: Emulator) -> None:
    """Text blocks arrive as texts: without ids of LangChain's, and also where they came as documents."""
    text = base64.b64encode(b"six").decode()
    ChatAIFS().invoke(
        [
            HumanMessage(
                [
                    "one",
                    {"type": "text", "text": "two", "id": "lc_1", "annotations": []},
                    {"type": "text-plain", "text": "three", "mime_type": "text/plain"},
                    {"type": "file", "source_type": "text", "text": "four", "mime_type": "text/plain"},
                    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "five"}},
                    {"type": "file", "base64": text, "mime_type": "text/plain"},
                ]
            )
        ]
    )
    words = "one two three four five six".split()
    assert parts(server) == [{"type": "text", "text": word} for word in words]


def test_blocks_of_models_are_not_dropped_silently(server: Emulator) -> None:
    """Thoughts in messages of others are an error, in the model's own they are left out; JSON is a text."""
    for kind in ("thinking", "tool_use", "reasoning_content"):
        with pytest.raises(ValueError, match=r"messages\[0\].content\[1\]: a '"):
            ChatAIFS().invoke(asked({"type": kind, "text": "Hm"}))
    assert not server.requests
    own = AIMessage([{"type": "thinking", "thinking": "Hm"}, {"type": "text", "text": "Yes"}])
    ChatAIFS().invoke([HumanMessage("Hello"), own, HumanMessage([{"type": "json", "json": {"a": "ä"}}])])
    assert parts(server, 1) == [{"type": "text", "text": "Yes"}]
    assert parts(server) == [{"type": "text", "text": '{"a": "ä"}'}]


@pytest.mark.parametrize(
    "form",
    [
        {"type": "file", "base64": "{}", "mime_type": "application/pdf"},
        {"type": "file", "source_type": "base64", "data": "{}", "mime_type": "application/pdf"},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,{}", "filename": "a.pdf"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "{}"}},
        {"type": "media", "mime_type": "application/pdf", "data": "{}"},
        {"type": "image_url", "image_url": {"url": "data:application/pdf;base64,{}"}},
    ],
)
def test_documents_become_pages(server: Emulator, form: dict[str, Any]) -> None:
    """Of a PDF in a message each page is sent as a picture, in order."""
    data = base64.b64encode(pdf("1 0 0 rg 0 0 99 99 re f", "0 0 1 rg 0 0 99 99 re f")).decode()

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(inner) for key, inner in value.items()}
        return value.replace("{}", data)

    ChatAIFS().invoke(asked(filled(form)))
    colours = [
        opened(page).convert("RGB").getpixel((5, opened(page).height - 5)) for _, page in server.requests[0].images
    ]
    assert colours == [pytest.approx((255, 0, 0), abs=4), pytest.approx((0, 0, 255), abs=4)]


@pytest.mark.parametrize("kind", ["video", "video_url", "media"])
def test_videos_become_frames(server: Emulator, kind: str) -> None:
    """Of a video in a message so many frames are sent as `frames` says, whichever form it has."""
    data = base64.b64encode(clip([PICTURE])).decode()
    forms: dict[str, dict[str, Any]] = {
        "video": {"type": "video", "base64": data, "mime_type": "video/mp4"},
        "video_url": {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{data}"}},
        "media": {"type": "media", "mime_type": "video/mp4", "data": data},
    }
    ChatAIFS(frames=3).invoke(asked(forms[kind]))
    assert len(server.requests[0].images) == 3


def test_pages_of_a_tiff_are_all_sent(server: Emulator) -> None:
    """A TIFF of two pages is two pictures, not its first."""
    data = base64.b64encode(tiff([PICTURE, PICTURE.rotate(180)])).decode()
    ChatAIFS().invoke(asked({"type": "image", "base64": data, "mime_type": "image/tiff"}))
    first, second = (corner_names(opened(data)) for _, data in server.requests[0].images)
    assert (first, second) == (TURNED, TURNED[2:] + TURNED[:2])


def test_pictures_are_prepared(server: Emulator) -> None:
    """Sent upright, without metadata, and shrunk as `image_size` says; "original" keeps the size."""
    exif = PICTURE.getexif()
    exif[ORIENTATION], exif[0x010E] = 3, "somewhere secret"
    large = PICTURE.resize((2400, 1600))
    data = saved(large, "JPEG", exif=exif)
    assert b"secret" in data
    block = {"type": "image", "base64": base64.b64encode(data).decode(), "mime_type": "image/jpeg"}
    for size, side in {"auto": 1536, "original": 2400, 300: 300}.items():
        ChatAIFS(image_size=size).invoke(asked(block))
        ((_, sent),) = server.requests[-1].images
        assert max(opened(sent).size) == side
        assert corner_names(opened(sent)) == TURNED[2:] + TURNED[:2]
        assert b"secret" not in sent


def test_limits_of_pictures_hold_in_messages(server: Emulator) -> None:
    """`image_limits` bounds what is decoded of messages."""
    with pytest.raises(ImageTooLargeError, match="max_pixels"):
        ChatAIFS(image_limits=ImageLimits(max_pixels=100)).invoke(asked(FORMS["v1"]))
    assert not server.requests


def test_a_model_without_eyes_says_so(server: Emulator) -> None:
    """A picture for a model that takes none is an error before anything is sent, also if the call names the model."""
    calls: list[Callable[[], Any]] = [
        lambda: ChatAIFS(model="Llama-3.3-70B-Instruct").invoke(asked(FORMS["v1"])),
        lambda: ChatAIFS().invoke(asked(FORMS["v1"]), model="Llama-3.3-70B-Instruct"),
    ]
    for call in calls:
        with pytest.raises(SettingsError, match="does not take images"):
            call()
    assert not server.requests


def test_messages_of_the_caller_stay_as_they_are() -> None:
    """Nothing in the messages that were given is changed."""
    tool = ToolMessage([{"type": "image", "base64": B64, "mime_type": "image/png"}], tool_call_id="1")
    given = [*asked(FORMS["v1, no label"], FORMS["GenAI, bytes"]), called("1"), tool]
    before = copy.deepcopy(given)
    ChatAIFS().invoke(given)
    assert given == before


# -- Pictures outside of the user's messages -----------------------------------------------------------------------


def called(*ids: str) -> AIMessage:
    """An answer that calls a tool so many times."""
    return AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": each, "type": "tool_call"} for each in ids])


def shown(call: str, picture: bytes = PNG) -> ToolMessage:
    """What a tool has to show."""
    block = {"type": "image", "base64": base64.b64encode(picture).decode(), "mime_type": "image/png"}
    return ToolMessage([{"type": "text", "text": f"done {call}"}, block], tool_call_id=call, name="look")


def test_pictures_of_parallel_tools_move_into_one_message(server: Emulator) -> None:
    """They come in one message of the user after the last tool message of the turn, each said where it is from."""
    blue = saved(corners().rotate(180))
    later = [called("c"), shown("c")]
    ChatAIFS().invoke([HumanMessage("look"), called("a", "b"), shown("a"), shown("b", blue), *later])
    messages = server.requests[0].body["messages"]
    roles = [message["role"] for message in messages]
    assert roles == ["user", "assistant", "tool", "tool", "user", "assistant", "tool", "user"]
    assert [message["tool_call_id"] for message in messages if message["role"] == "tool"] == ["a", "b", "c"]
    assert [part["text"] for part in messages[2]["content"]] == ["done a", "[Image 1: in the next message of the user]"]
    assert [part.get("text") for part in messages[4]["content"]] == [
        "Image 1, from the result of the tool 'look' (call 'a'):",
        None,
        "Image 2, from the result of the tool 'look' (call 'b'):",
        None,
    ]
    assert "Image 3" in messages[7]["content"][0]["text"]
    assert len(server.requests[0].images) == 3


def test_pictures_of_tools_join_what_the_user_says_next(server: Emulator) -> None:
    """Where the user speaks after the tools, the pictures stand before that, in the same message."""
    ChatAIFS().invoke([HumanMessage("look"), called("a"), shown("a"), HumanMessage("And now?")])
    messages = server.requests[0].body["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "user"]
    assert [part["type"] for part in messages[3]["content"]] == ["text", "image_url", "text"]
    assert messages[3]["content"][2]["text"] == "And now?"


def test_pictures_of_system_and_assistant_move_too(server: Emulator) -> None:
    """Those in system, assistant and other messages move to the next message of the user, said where they are from."""
    block = FORMS["v1"]
    ChatAIFS().invoke(
        [
            SystemMessage(["Compare with this logo:", block]),
            HumanMessage("Draw."),
            AIMessage(["Here:", block]),
            ChatMessage(role="developer", content=[block]),
            HumanMessage("Thanks"),
        ]
    )
    messages = server.requests[0].body["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "developer", "user"]
    assert [part["type"] for part in messages[0]["content"]] == ["text", "text"]
    assert messages[1]["content"][0]["text"] == "Image 1, from the system message:"
    assert messages[4]["content"][0]["text"] == "Image 2, from an earlier answer of the assistant:"
    assert messages[4]["content"][2]["text"] == "Image 3, from a message of the role 'developer':"
    assert len(server.requests[0].images) == 3


def test_a_picture_at_the_end_still_reaches_the_model(server: Emulator) -> None:
    """With nothing of the user after it, a moved picture gets a message of its own."""
    ChatAIFS().invoke([HumanMessage("look"), called("a"), shown("a")])
    assert [message["role"] for message in server.requests[0].body["messages"]][-2:] == ["tool", "user"]
    assert len(server.requests[0].images) == 1


def test_documents_of_tools_move_page_by_page(server: Emulator) -> None:
    """A PDF that a tool returns moves as the pictures of its pages, under one name."""
    data = base64.b64encode(pdf("0 0 9 9 re f", "0 0 9 9 re f")).decode()
    tool = ToolMessage([{"type": "file", "base64": data, "mime_type": "application/pdf"}], tool_call_id="a")
    ChatAIFS().invoke([HumanMessage("look"), called("a"), tool])
    assert parts(server)[0]["text"] == "Images 1 to 2, from the result (call 'a'):"
    assert len(server.requests[0].images) == 2


# -- image_block ---------------------------------------------------------------------------------------------------


def test_image_block_takes_every_source(server: Emulator, tmp_path: Path) -> None:
    """Path, bytes, file object, PIL image and data URI make the same block, and a URL one that is passed on."""
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    with path.open("rb") as file:
        blocks = [image_block(source) for source in (path, str(path), PNG, file, URI)]
    assert all(block == blocks[0] for block in blocks)
    assert corner_names(opened(base64.b64decode(image_block(PICTURE)["base64"]))) == TURNED
    assert image_block("https://a.example/a.png")["url"] == "https://a.example/a.png"
    ChatAIFS().invoke(asked(blocks[0]))
    assert server.requests[0].images == [("image/png", PNG)]


def test_image_block_has_an_id_made_of_content() -> None:
    """Equal pictures have equal ids, others have others; so caches of answers know them again."""
    other = image_block(saved(corners(80, 40)))
    assert image_block(PNG)["id"] == image_block(bytearray(PNG))["id"] != other["id"]
    assert image_block("https://a.example/a")["id"] != image_block("https://a.example/b")["id"]
    assert image_block(PICTURE) == image_block(PICTURE.copy()) != image_block(PICTURE.rotate(180))


def test_image_block_keeps_secrets_of_cameras_out() -> None:
    """What a camera has written beside the picture is not in the block, so not in traces or caches either."""
    exif = PICTURE.getexif()
    exif[0x010E] = "somewhere secret"
    data = saved(PICTURE, "JPEG", exif=exif)
    assert b"secret" in data
    assert b"secret" not in base64.b64decode(image_block(data)["base64"])


def test_image_block_is_one_picture_and_image_blocks_are_all(tmp_path: Path) -> None:
    """Several pages are an error that names `image_blocks`, which gives a block for each; sizes are bounded."""
    path = tmp_path / "two.pdf"
    path.write_bytes(pdf("0 0 9 9 re f", "0 0 99 99 re f"))
    with pytest.raises(ImageFormatError, match="image_blocks"):
        image_block(path)
    first, second = image_blocks(path)
    assert first["id"] != second["id"]
    small = opened(base64.b64decode(image_block(PICTURE.resize((900, 600)), size=300)["base64"]))
    assert small.size == (300, 200)
