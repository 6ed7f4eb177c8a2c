"""Pictures in messages as people have them: base64 of every spelling, and models that are named with the call."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import HumanMessage

from aifs_vision import ImageFormatError, SettingsError
from langchain_aifs import ChatAIFS
from tests.pictures import corners, saved

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
