"""Messages on their way to the model: no picture is lost, each one is where the model looks, and named."""

from __future__ import annotations

import asyncio
import base64
import io
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.base.llms.types import (
    AudioBlock,
    CacheControl,
    CachePoint,
    ChatMessage,
    CitableBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)
from llama_index.core.schema import Document, ImageDocument, ImageNode, MediaResource, Node, NodeWithScore, TextNode

from aifs_vision import BadRequestError, ImageError, ImageFormatError, ImageNotFoundError, SettingsError
from llama_index_aifs import AIFS
from tests.llama_index.scripts import content
from tests.media import clip, pdf
from tests.pictures import ORIENTATION, corner_names, corners, opened, saved

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

    from aifs_vision.emulator import Emulator

pytestmark = pytest.mark.usefixtures("environment")

PNG, JPEG = saved(corners()), saved(corners(), "JPEG", quality=95)
CORNERS = ["red", "lime", "blue", "yellow"]
WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


def asked(*blocks: Any) -> list[ChatMessage]:
    """A question about these blocks."""
    return [ChatMessage(blocks=[TextBlock(text="What is this?"), *blocks])]


def file(folder: pathlib.Path, name: str, data: bytes) -> pathlib.Path:
    """A file in a folder."""
    path = folder / name
    path.write_bytes(data)
    return path


class Once(io.BytesIO):
    """A stream that can be read once, as those of sockets and pipes."""

    def seekable(self) -> bool:
        """It cannot be read again."""
        return False


def image_node(**given: Any) -> ImageNode:
    """An ImageNode, which pydantic's plugin thinks takes nothing."""
    return ImageNode(**given)


IMAGE_BLOCKS: dict[str, Callable[[], ImageBlock]] = {
    "bytes": lambda: ImageBlock(image=PNG),
    "base64": lambda: ImageBlock(image=base64.b64encode(PNG)),
    "wrong label": lambda: ImageBlock(image=PNG, image_mimetype="image/jpeg"),
    "base64 in lines": lambda: ImageBlock(image=base64.encodebytes(PNG)),
    "file object": lambda: ImageBlock(image=io.BytesIO(PNG)),
    "data URI as bytes": lambda: ImageBlock(image=b"data:image/jpeg;base64," + base64.b64encode(PNG)),
    "data URI": lambda: ImageBlock(url="data:image/jpeg;base64," + base64.b64encode(PNG).decode()),
}
FILES = ("x.jpeg", "x.JPG", "x.PNG", "x.tiff", "x.jfif", "x.txt", "x")


@pytest.mark.parametrize("form", [*IMAGE_BLOCKS, *FILES])
def test_a_picture_arrives_in_every_form(server: Emulator, tmp_path: pathlib.Path, form: str) -> None:
    """Bytes, base64, files of any or no suffix, file objects and data URIs arrive, labelled by their bytes."""
    block = ImageBlock(path=file(tmp_path, form, JPEG)) if form in FILES else IMAGE_BLOCKS[form]()
    llm = AIFS()
    for messages in (asked(block), asked(block)):  # a conversation shows it again
        assert llm.chat(messages).message.content
    for request in server.requests:
        ((label, data),) = request.images
        assert label == f"image/{(opened(data).format or '').lower()}"
        assert corner_names(opened(data)) == CORNERS


def test_texts_that_are_empty_are_no_parts(server: Emulator) -> None:
    """Beside a picture an empty text is left out, as some hosts refuse it; alone it is an empty content."""
    AIFS().chat([ChatMessage(blocks=[TextBlock(text=""), ImageBlock(image=PNG)]), ChatMessage("")])
    pictured, empty = server.requests[0].body["messages"]
    assert [part["type"] for part in content(pictured)] == ["image_url"]
    assert empty == {"role": "user", "content": ""}


def test_an_address_is_passed_on(server: Emulator) -> None:
    """An http(s) address goes to the service as it is, with its `detail`; nothing is fetched here."""
    address = f"{server.base_url}/picture.png"  # nothing is there: the emulator says so, and who asked
    with pytest.raises(Exception, match="cannot fetch"):
        AIFS().chat(asked(ImageBlock(url=address, detail="low")))
    sent = content(server.requests[0].body["messages"][0])
    assert sent[1] == {"type": "image_url", "image_url": {"url": address, "detail": "low"}}


def test_pictures_are_prepared(server: Emulator) -> None:
    """What is sent is upright, without metadata, and as large as `image_size` and the model's eyes have it."""
    turned = corners(3000, 2000)
    exif = turned.getexif()
    exif[ORIENTATION] = 6
    large = saved(turned, "JPEG", exif=exif)
    for size in ("auto", 500, "original"):
        AIFS(image_size=size).chat(asked(ImageBlock(image=large)))
    sent = [opened(request.images[0][1]) for request in server.requests]
    assert all(corner_names(picture) == ["yellow", "red", "lime", "blue"] for picture in sent)
    assert not any(picture.getexif() for picture in sent)
    auto, small, original = [max(picture.size) for picture in sent]
    assert (small, original) == (500, 3000)
    assert small < auto < original


@pytest.mark.parametrize("kind", ["bytes", "path"])
def test_videos_and_documents_are_shown(server: Emulator, tmp_path: pathlib.Path, kind: str) -> None:
    """A video is sent as frames and a PDF document as pages, each with a label that says which one it is."""
    film, paper = clip([corners(64, 48)]), pdf("BT /F1 20 Tf 20 40 Td (one) Tj ET", "0 0 1 rg 0 0 200 100 re f")
    if kind == "bytes":
        blocks = [VideoBlock(video=film), DocumentBlock(data=paper, title="bill")]
    else:
        blocks = [
            VideoBlock(path=file(tmp_path, "film.bin", film)),
            DocumentBlock(path=file(tmp_path, "bill", paper), title="bill"),
        ]
    AIFS(frames=3).chat(asked(*blocks))
    (request,) = server.requests
    assert len(request.images) == 5
    texts = [part["text"] for part in content(request.body["messages"][0]) if part["type"] == "text"]
    assert len([text for text in texts if re.fullmatch(r"Frame \d+ of 50 of the video:", text)]) == 3
    assert texts[-2:] == ["Page 1 of 2 of bill:", "Page 2 of 2 of bill:"]


def test_pictures_of_tools_are_moved_and_named(server: Emulator) -> None:
    """Pictures that parallel tools give back come behind the last of their answers, and are named at both places."""
    calls = [ToolCallBlock(tool_call_id=f"c{n}", tool_name=name, tool_kwargs={}) for n, name in enumerate("ab")]
    history = [
        ChatMessage("Look around."),
        ChatMessage(role="assistant", blocks=calls),
        ChatMessage(
            role="tool",
            blocks=[TextBlock(text="left"), ImageBlock(image=PNG)],
            additional_kwargs={"tool_call_id": "c0"},
        ),
        ChatMessage(role="tool", blocks=[ImageBlock(image=JPEG)], additional_kwargs={"tool_call_id": "c1"}),
        ChatMessage(role="assistant", content="I see."),
        ChatMessage("And now?"),
    ]
    before = [message.model_dump() for message in history]
    AIFS().chat(history)
    assert [message.model_dump() for message in history] == before
    (request,) = server.requests
    sent = request.body["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool", "user", "assistant", "user"]
    assert sent[1]["content"] is None
    assert sent[2]["content"] == "left\n[Tool image 1: see the next user message]"
    assert (sent[3]["content"], sent[3]["tool_call_id"]) == ("[Tool image 2: see the next user message]", "c1")
    told = [part.get("text", "picture") for part in content(sent[4])]
    assert told == ["Tool image 1, from the tool 'a':", "picture", "Tool image 2, from the tool 'b':", "picture"]
    assert [label for label, _ in request.images] == ["image/png", "image/jpeg"]


@pytest.mark.parametrize("older", [False, True])
def test_ids_of_calls_may_come_again(server: Emulator, *, older: bool) -> None:
    """A picture is from the tool that the turn before it has called, where a host counts its calls anew."""

    def turn(name: str) -> list[ChatMessage]:
        """A call, and what it has given."""
        told = {"id": "call_0", "type": "function", "function": {"name": name, "arguments": "{}"}}
        block = ToolCallBlock(tool_call_id="call_0", tool_name=name, tool_kwargs={})
        asking = {"additional_kwargs": {"tool_calls": [told]}} if older and name == "b" else {"blocks": [block]}
        image = ImageBlock(image=PNG)
        answer = ChatMessage(role="tool", blocks=[image], additional_kwargs={"tool_call_id": "call_0"})
        return [ChatMessage(role="assistant", **asking), answer]

    AIFS().chat([ChatMessage("Look."), *turn("a"), *turn("b")])
    messages = server.requests[-1].body["messages"]
    told = [part["text"] for message in messages if message["role"] == "user" for part in content(message)[::2]]
    assert told == ["Look.", "Tool image 1, from the tool 'a':", "Tool image 2, from the tool 'b':"]


def test_pictures_of_other_turns_join_the_next_user_turn(server: Emulator) -> None:
    """Pictures in system and assistant messages head the next user turn; the last ones get one of their own."""
    AIFS().chat(
        [
            ChatMessage(role="system", blocks=[TextBlock(text="The logo:"), ImageBlock(image=PNG)]),
            ChatMessage("Draw it."),
            ChatMessage(role="assistant", blocks=[ImageBlock(image=JPEG)]),
            ChatMessage("Is it right?"),
            ChatMessage(role="assistant", blocks=[TextBlock(text="Compare:"), ImageBlock(image=PNG)]),
        ]
    )
    (request,) = server.requests
    sent = request.body["messages"]
    assert [message["role"] for message in sent] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert [[part.get("text", "picture") for part in content(message)] for message in sent] == [
        ["The logo:\n[System image 1: see the next user message]"],
        ["System image 1, from the system message:", "picture", "Draw it."],
        ["[Assistant image 2: see the next user message]"],
        ["Assistant image 2, from the assistant message:", "picture", "Is it right?"],
        ["Compare:\n[Assistant image 3: see the next user message]"],
        ["Assistant image 3, from the assistant message:", "picture"],
    ]


def test_other_blocks_are_understood(server: Emulator) -> None:
    """Quotations are opened, cache points and thoughts left out, other names of roles translated; calls kept."""
    quoted = CitableBlock(title="Bill", source="b.pdf", content=[TextBlock(text="12 EUR"), ImageBlock(image=PNG)])
    older = [{"id": "c9", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    AIFS().chat(
        [
            ChatMessage(role=MessageRole.CHATBOT, content="Hello."),
            ChatMessage(blocks=[quoted, CachePoint(cache_control=CacheControl(type="ephemeral"))]),
            ChatMessage(role="assistant", blocks=[ThinkingBlock(content="hm"), TextBlock(text="Yes.")]),
            ChatMessage(role="assistant", content="", additional_kwargs={"tool_calls": older}),
            ChatMessage(role="tool", content="ok", additional_kwargs={"tool_call_id": "c9"}),
        ]
    )
    sent = server.requests[0].body["messages"]
    assert sent[0] == {"role": "assistant", "content": "Hello."}
    assert [part.get("text", "picture") for part in content(sent[1])] == ["Bill (b.pdf):", "12 EUR", "picture"]
    assert sent[2] == {"role": "assistant", "content": "Yes."}
    assert (sent[3]["content"], sent[3]["tool_calls"]) == (None, older)


def test_what_is_no_picture_is_for_the_service_to_judge(server: Emulator, tmp_path: pathlib.Path) -> None:
    """Recordings and other documents go to the service in the user turn, from tools too; it says what it takes."""
    letter = file(tmp_path, "letter.docx", b"PK\x03\x04....")
    blocks = [AudioBlock(audio=b"sound", format="wav"), DocumentBlock(path=letter, document_mimetype=WORD)]
    blocks.append(DocumentBlock(url=f"data:{WORD};base64,UEs=", title="other", document_mimetype=WORD))
    blocks.append(DocumentBlock(data=b"gr\xfc\xdfe", title="old.txt"))  # not in UTF-8: nobody guesses what it says
    with pytest.raises(BadRequestError, match="unknown part type"):
        AIFS().chat([ChatMessage("Well?"), ChatMessage(role="tool", blocks=blocks)])
    told = content(server.requests[0].body["messages"][2])
    assert [part.get("text", part["type"]) for part in told] == [
        *("Tool recording 1, from a tool:", "input_audio"),
        *("Tool document 2, from a tool:", "file"),
        *("Tool document 3, from a tool:", "file"),
        *("Tool document 4, from a tool:", "file"),
    ]
    assert told[1]["input_audio"] == {"data": base64.b64encode(b"sound").decode(), "format": "wav"}
    assert told[5]["file"]["filename"] == "other"


def test_documents_that_are_texts_are_sent_as_texts(server: Emulator, tmp_path: pathlib.Path) -> None:
    """Plain text, CSV and JSON stay where they are as texts with their names, by label or name; a PDF stays a PDF."""
    blocks = [
        DocumentBlock(path=file(tmp_path, "sheet.csv", "\ufeffa;größe".encode())),
        DocumentBlock(data=b"12 EUR", title="note", document_mimetype="text/plain"),
        DocumentBlock(data=io.BytesIO(b"{}"), title="data.json"),
        DocumentBlock(url="data:text/csv;base64,YTti", title="other"),
        DocumentBlock(url="data:text/plain,a%20b", title="last", document_mimetype="text/plain"),
        DocumentBlock(data=pdf(""), title="bill", document_mimetype="text/plain"),
    ]
    texts = ["sheet.csv:\na;größe", "note:\n12 EUR", "data.json:\n{}", "other:\na;b", "last:\na b"]
    AIFS().chat(asked(*blocks))
    AIFS().chat([ChatMessage("Well?"), ChatMessage(role="tool", blocks=blocks[:2])])
    asked_, from_tool = (request.body["messages"] for request in server.requests)
    parts = [part.get("text", "picture") for part in content(asked_[0])]
    assert parts == ["What is this?", *texts, "Page 1 of 1 of bill:", "picture"]
    assert from_tool[1]["content"] == "\n".join(texts[:2])
    assert len(from_tool) == 2


def test_names_of_moved_pictures_are_not_the_users(server: Emulator) -> None:
    """What the user calls "image 1" is one of their own: the names of moved pictures say whose those are."""
    shown = ChatMessage(role="tool", blocks=[ImageBlock(image=JPEG)], additional_kwargs={"name": "camera"})
    AIFS().chat([shown, ChatMessage(blocks=[TextBlock(text="Is it image 1?"), ImageBlock(image=PNG)])])
    told = [part.get("text", "picture") for part in content(server.requests[0].body["messages"][1])]
    assert told == ["Tool image 1, from the tool 'camera':", "picture", "Is it image 1?", "picture"]


def test_what_is_no_conversation_is_a_type_error(server: Emulator) -> None:
    """One message, a text or a dict in the place of messages is a TypeError that says what is taken, everywhere."""
    llm = AIFS()

    async def streamed(wrong: Any) -> None:
        async for _ in await llm.astream_chat(wrong):
            pass

    cases: list[tuple[Any, str]] = [
        (ChatMessage("x"), "list of ChatMessages, not one ChatMessage"),
        ("x", "not one str"),
        (["x"], "ChatMessages, not str"),
        ([{"role": "user", "content": "x"}], "ChatMessages, not dict"),
    ]
    for wrong, words in cases:
        for call in (llm.chat, lambda given: list(llm.stream_chat(given)), lambda given: asyncio.run(streamed(given))):
            with pytest.raises(TypeError, match=words):
                call(wrong)
        with pytest.raises(TypeError, match=words):
            asyncio.run(llm.achat(wrong))
    assert not server.requests


def test_what_cannot_be_shown_is_an_error(server: Emulator, tmp_path: pathlib.Path) -> None:
    """What is no picture, gone, or at an address that nobody fetches, is an error before anything is sent."""
    llm, gone = AIFS(), file(tmp_path, "gone.png", PNG)
    block = ImageBlock(path=gone)
    gone.unlink()
    wrong: list[tuple[Any, type[ImageError], str]] = [
        (block, ImageNotFoundError, "gone.png"),
        (ImageBlock(image=b"no picture at all"), ImageFormatError, "first bytes"),
        (ImageBlock(url="file:///etc/passwd"), ImageFormatError, "file"),
        (ImageBlock(url=f"c:/{tmp_path}/x.png"), ImageFormatError, "address with 'c'"),
        (ImageBlock(), ImageFormatError, "path="),
        (ImageBlock(image=Once(PNG)), ImageFormatError, r"only once.*stream\.read"),
        (VideoBlock(url="https://example.com/film.mp4"), ImageFormatError, "fetch it yourself"),
        (DocumentBlock(url="https://example.com/bill.pdf"), ImageFormatError, "fetch it yourself"),
        (AudioBlock(url="https://example.com/song.mp3"), ImageFormatError, "fetch it yourself"),
    ]
    for given, kind, words in wrong:
        with pytest.raises(kind, match=words):
            llm.chat(asked(given))
        with pytest.raises(kind, match=words):
            asyncio.run(llm.achat(asked(given)))
    with pytest.raises(SettingsError, match="does not take images"):
        AIFS("Llama-3.3-70B-Instruct").chat(asked(ImageBlock(image=PNG)))
    assert not server.requests


def test_pictures_are_prepared_off_the_event_loop(server: Emulator) -> None:
    """While a picture is read and prepared, the caller's loop goes on."""
    released = threading.Event()

    class Slow(io.BytesIO):
        in_time = False

        def read(self, size: int | None = -1, /) -> bytes:
            self.in_time = released.wait(10)
            return super().read(size)

    slow = Slow(PNG)

    async def ask() -> None:
        task = asyncio.ensure_future(AIFS().achat(asked(ImageBlock(image=slow))))
        await asyncio.sleep(0)
        released.set()  # never, if the loop were held up
        await task

    asyncio.run(ask())
    assert slow.in_time
    assert server.requests


def test_other_documents_do_not_hold_the_loop_up(server: Emulator) -> None:
    """Documents that are no pictures are read off the event loop, and not again when the request is written."""
    readers: list[bool] = []

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            readers.append(threading.current_thread() is threading.main_thread())
            return super().read(size)

    letter = DocumentBlock(data=Watched(b"PK\x03\x04...."), document_mimetype=WORD, title="letter")
    readers.clear()
    with pytest.raises(BadRequestError, match="unknown part type"):
        asyncio.run(AIFS().achat(asked(letter, ImageBlock(image=PNG))))
    assert readers == [False, False]  # to see whether it is a picture, and to send it
    sent = content(server.requests[0].body["messages"][0])
    assert sent[1]["file"]["file_data"] == f"data:{WORD};base64,UEsDBC4uLi4="


PICTURES: dict[str, Callable[[pathlib.Path], Any]] = {
    "ImageBlock": lambda _: ImageBlock(image=PNG),
    "ImageDocument": lambda _: ImageDocument(image=base64.b64encode(PNG).decode()),
    "ImageDocument of a file": lambda folder: ImageDocument(image_path=str(file(folder, "a.jpeg", JPEG))),
    "ImageNode": lambda _: image_node(image=base64.b64encode(PNG).decode(), text="a caption"),
    "ImageNode of a file": lambda folder: image_node(image_path=str(file(folder, "a", JPEG))),
    "Node": lambda _: Node(image_resource=MediaResource(data=PNG), text_resource=MediaResource(text="a caption")),
    "Document": lambda folder: Document(text="a", image_resource=MediaResource(path=file(folder, "a.png", PNG))),
    "NodeWithScore": lambda _: NodeWithScore(node=image_node(image=base64.b64encode(PNG).decode()), score=0.5),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_prompts_may_have_pictures(server: Emulator, tmp_path: pathlib.Path, kind: str) -> None:
    """`complete(prompt, image_documents=[...])` shows blocks, documents and nodes, plain, streamed, sync and async."""
    llm, pictures = AIFS(), [PICTURES[kind](tmp_path)]

    async def both() -> list[str]:
        whole = await llm.acomplete("What?", image_documents=pictures)
        parts = [part async for part in await llm.astream_complete("What?", image_documents=pictures)]
        return [whole.text, parts[-1].text]

    texts = [llm.complete("What?", image_documents=pictures).text]
    texts += [list(llm.stream_complete("What?", image_documents=pictures))[-1].text, *asyncio.run(both())]
    assert len(set(texts)) == 1
    assert len(server.requests) == 4
    for request in server.requests:
        assert corner_names(opened(request.images[0][1])) == CORNERS
        assert content(request.body["messages"][0])[-1]["text"] == "What?"


def test_a_prompt_with_what_is_no_picture_is_an_error(server: Emulator) -> None:
    """A node without a picture among `image_documents` is a TypeError that says what is taken; so is one picture."""
    with pytest.raises(TypeError, match="ImageDocuments"):
        AIFS().complete("What?", image_documents=[TextNode(text="a")])
    singles: list[Any] = [ImageBlock(image=PNG), "a.png"]
    for wrong in singles:
        with pytest.raises(TypeError, match=f"not one {type(wrong).__name__}"):
            AIFS().complete("What?", image_documents=wrong)
    assert not server.requests
