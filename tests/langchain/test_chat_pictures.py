"""Pictures in messages as people have them: base64 of every spelling, and models that are named with the call."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import HumanMessage

from aifs_vision import AIFSError, ImageFormatError, SettingsError
from langchain_aifs import ChatAIFS
from tests.media import clip
from tests.pictures import corners, saved, tiff

if TYPE_CHECKING:
    from collections.abc import Callable

    from aifs_vision.emulator import Emulator

pytestmark = pytest.mark.usefixtures("environment")

WITHOUT_EYES = "Llama-3.3-70B-Instruct"


def of_every_sign() -> bytes:
    """A picture whose base64 needs padding and has the signs that the alphabet for URLs writes otherwise."""
    picture = saved(corners())
    text = base64.b64encode(picture).decode()
    assert "+" in text
    assert "/" in text
    while len(picture) % 3 == 0 or not base64.b64encode(picture).endswith(b"="):
        picture += b"\0"  # after the end of the file, where nobody looks
    return picture


PNG = of_every_sign()
PLAIN = base64.b64encode(PNG).decode()
SPELLINGS: dict[str, Callable[[str], Any]] = {
    "unpadded": lambda text: text.rstrip("="),
    "for URLs": lambda text: text.translate(str.maketrans("+/", "-_")),
    "for URLs, unpadded": lambda text: text.translate(str.maketrans("+/", "-_")).rstrip("="),
    "wrapped": lambda text: "\n".join(text[at : at + 76] for at in range(0, len(text), 76)) + "\n",
    "wrapped late": lambda text: text[:200] + "\r\n" + text[200:],
    "indented": lambda text: "  " + "\n  ".join(text[at : at + 76] for at in range(0, len(text), 76)),
    "bytes, wrapped": lambda text: (text[:76] + "\n" + text[76:] + "\n").encode(),
    "data URI, unpadded": lambda text: "data:image/png;base64," + text.rstrip("="),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_base64_of_every_spelling_is_a_picture(server: Emulator, spelling: str) -> None:
    """Padding, line ends and alphabet are a matter of taste; the picture is sent."""
    ChatAIFS().invoke(
        [HumanMessage([{"type": "image", "base64": SPELLINGS[spelling](PLAIN), "mime_type": "image/png"}])]
    )
    (part,) = server.requests[-1].body["messages"][-1]["content"]
    assert part["image_url"]["url"].startswith("data:image/")


@pytest.mark.parametrize("text", [PLAIN[:400] + "!" + PLAIN[400:], PLAIN[:300] + ".", "ab/c" * 300 + "!"])
def test_damaged_base64_is_not_called_a_path(server: Emulator, text: str) -> None:
    """Base64 that cannot be decoded is called that, though there are slashes in it."""
    with pytest.raises(ImageFormatError, match="base64 that cannot be decoded"):
        ChatAIFS().invoke([HumanMessage([{"type": "image", "base64": text}])])
    assert not server.requests


def test_prose_is_no_base64(server: Emulator) -> None:
    """A text document of plain words stays what it is, however long."""
    words = "plain words and more of them " * 20
    ChatAIFS().invoke([HumanMessage([{"type": "text-plain", "data": words.encode()}])])
    assert server.requests[-1].body["messages"][-1]["content"] == [{"type": "text", "text": words}]


def test_a_pil_image_is_for_the_model_that_is_asked(server: Emulator) -> None:
    """A model named with the call sees a PIL image that the model's own name could not; and the other way round."""
    message = HumanMessage("").model_copy(update={"content": [{"type": "image", "image": corners()}]})
    ChatAIFS(model=WITHOUT_EYES).bind(model="gpt-4.1").invoke([message])
    assert server.requests[-1].model == "gpt-4.1"
    assert server.requests[-1].body["messages"][-1]["content"][0]["type"] == "image_url"
    for chat in (ChatAIFS(model=WITHOUT_EYES), ChatAIFS().bind(model=WITHOUT_EYES)):
        with pytest.raises(SettingsError, match=WITHOUT_EYES):
            chat.invoke([message])
    assert len(server.requests) == 1


GOOGLE: dict[str, dict[str, Any]] = {
    "inlineData": {"inlineData": {"mimeType": "image/png", "data": PLAIN}},
    "inline_data": {"inline_data": {"mime_type": "image/png", "data": PLAIN}},
    "inlineData, bytes": {"inlineData": {"mimeType": "image/png", "data": PNG, "displayName": "a.png"}},
    "inlineData, inline_data's keys": {"inlineData": {"mime_type": "image/png", "data": PLAIN}},
}


@pytest.mark.parametrize("form", GOOGLE)
def test_googles_pictures_go_in_in_both_cases(server: Emulator, form: str) -> None:
    """Google's blocks are read in the spelling of its REST interface, and in that of Python."""
    ChatAIFS().invoke([HumanMessage([GOOGLE[form]])])
    (part,) = server.requests[-1].body["messages"][-1]["content"]
    assert part["image_url"]["url"].startswith("data:image/")


@pytest.mark.parametrize(
    "block",
    [
        {"fileData": {"mimeType": "image/png", "fileUri": "{}"}},
        {"file_data": {"mime_type": "image/png", "file_uri": "{}"}},
        {"type": "media", "mimeType": "IMAGE/PNG", "fileUri": "{}"},
    ],
)
def test_googles_addresses_are_passed_on(server: Emulator, block: dict[str, Any]) -> None:
    """An http(s) address goes to the service; one that only Google could open, or of a video, is an error before."""

    def filled(value: Any, address: str) -> Any:
        if isinstance(value, dict):
            return {key: filled(inner, address) for key, inner in value.items()}
        return address if value == "{}" else value

    address = "https://pictures.example/a.png"
    with pytest.raises(AIFSError, match="fetches pictures from this machine only"):  # the emulator's own words
        ChatAIFS().invoke([HumanMessage([filled(block, address)])])
    (part,) = server.requests[-1].body["messages"][-1]["content"]
    assert part == {"type": "image_url", "image_url": {"url": address}}
    with pytest.raises(ImageFormatError, match="fetches http"):
        ChatAIFS().invoke([HumanMessage([filled(block, "gs://bucket/a.png")])])
    assert len(server.requests) == 1


@pytest.mark.parametrize("words", [b"test", b"Anna", b"12345678", b"MTIz", b"word" * 100, PLAIN.encode()])
@pytest.mark.parametrize("label", ["text/csv", "TEXT/PLAIN", "text/plain; charset=utf-8", "application/json"])
def test_bytes_of_a_text_are_the_text(server: Emulator, words: bytes, label: str) -> None:
    """Bytes that are called a text are that text, though each of their signs is one of base64's."""
    for block in (
        {"type": "file", "mime_type": label, "base64": words},
        {"type": "media", "mime_type": label, "data": words},
        {"type": "text-plain", "mime_type": label, "base64": words},
    ):
        ChatAIFS().invoke([HumanMessage([block])])
        (part,) = server.requests[-1].body["messages"][-1]["content"]
        assert part == {"type": "text", "text": words.decode()}


@pytest.mark.parametrize("label", ["application/json", "application/ld+json", "Application/JSON", "application/xml"])
def test_json_is_a_text(server: Emulator, label: str) -> None:
    """A document of JSON or XML goes in as the text that it is."""
    data = base64.b64encode(b'{"a": 1}').decode()
    ChatAIFS().invoke([HumanMessage([{"type": "file", "base64": data, "mime_type": label}])])
    assert server.requests[-1].body["messages"][-1]["content"] == [{"type": "text", "text": '{"a": 1}'}]


@pytest.mark.parametrize("data", [b"test", b"12345678", base64.b64encode(b"12345678").decode()])
def test_short_words_without_a_label_are_called_a_text(server: Emulator, data: Any) -> None:
    """What has no label and is no picture is called what it is, and not what it would be as base64."""
    with pytest.raises(ImageFormatError, match="a text file"):
        ChatAIFS().invoke([HumanMessage([{"type": "file", "base64": data}])])
    assert not server.requests


def test_base64_in_bytes_is_a_file_of_every_format(server: Emulator) -> None:
    """Bytes that are base64 of a picture or video are read, also where their beginning is no known one."""
    for data in (tiff([corners()]), clip([corners()])):
        ChatAIFS(frames=1).invoke([HumanMessage([{"type": "media", "data": base64.b64encode(data)}])])
        assert len(server.requests[-1].images) == 1


@pytest.mark.parametrize("value", [5, True, 1.5, [PLAIN]])
def test_data_that_is_none_is_an_error_of_its_block(server: Emulator, value: Any) -> None:
    """Numbers and lists where data should be are errors that say where they stand."""
    with pytest.raises(ImageFormatError, match=r"messages\[0\]\.content\[0\]: data that is of the type"):
        ChatAIFS().invoke([HumanMessage([{"type": "image", "base64": value, "mime_type": "image/png"}])])
    assert not server.requests


@pytest.mark.parametrize("label", ["text/plain", "text/markdown; charset=utf-8", "application/json", "Text/CSV"])
def test_texts_in_data_uris_are_texts(server: Emulator, label: str) -> None:
    """Files of /responses have their label in a data URI; a text in them goes in as a text."""
    uri = f"data:{label};base64,{base64.b64encode(b'[1, 2]').decode()}"
    ChatAIFS().invoke([HumanMessage([{"type": "input_file", "file_data": uri, "filename": "a.txt"}])])
    assert server.requests[-1].body["messages"][-1]["content"] == [{"type": "text", "text": "[1, 2]"}]
