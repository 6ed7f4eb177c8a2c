"""The chat model on an event loop: pictures become what traces and caches can hold beside it, and not on it."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.tools import tool
from PIL import Image
from pydantic import BaseModel

from aifs_vision import ImageFormatError
from aifs_vision.emulator import Emulator
from aifs_vision.testing import isolated
from langchain_aifs import ChatAIFS
from tests.langchain.scripted import answer_from_tools_and_schema
from tests.pictures import corners, saved

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

pytestmark = pytest.mark.usefixtures("environment")


class Watched(Image.Image):
    """A picture that remembers which threads have asked for its pixels."""

    def __init__(self, picture: Image.Image) -> None:
        super().__init__()
        self.im, self._mode, self._size = picture.im, picture.mode, picture.size
        self.threads: set[int] = set()

    def load(self) -> Any:
        """Decodes, which is where the time goes."""
        self.threads.add(threading.get_ident())
        return super().load()


class Bytes(bytes):
    """A file's bytes that remember which threads have read them."""

    threads: set[int]

    def __bytes__(self) -> bytes:
        self.threads.add(threading.get_ident())
        return self[:]


def watched() -> list[Any]:
    """A picture and a file, fresh, that know who has looked at them."""
    data = Bytes(saved(corners()))
    data.threads = set()
    return [Watched(corners()), data]


def question(source: Any) -> list[Any]:
    """A message that shows it."""
    key = "base64" if isinstance(source, bytes) else "image"
    return [HumanMessage([{"type": "text", "text": "What is it?"}, {"type": "image", key: source}])]


class Seen(BaseModel):
    """What was seen."""

    colour: str


@tool
def look(place: str) -> str:
    """Looks at a place."""
    return place


async def streamed(chunks: Any) -> Any:
    """The last of what a stream gives."""
    return [chunk async for chunk in chunks][-1]


async def told(chat: ChatAIFS, messages: Any) -> Any:
    """The answer by events of the newest kind."""
    stream = await chat.astream_events(messages, version="v3")
    return await stream.output


CALLS: dict[str, Callable[[ChatAIFS, Any], Coroutine[Any, Any, Any]]] = {
    "ainvoke": lambda chat, messages: chat.ainvoke(messages),
    "astream": lambda chat, messages: streamed(chat.astream(messages)),
    "astream_events": lambda chat, messages: streamed(chat.astream_events(messages, version="v2")),
    "abatch": lambda chat, messages: chat.abatch([messages]),
    "agenerate": lambda chat, messages: chat.agenerate([messages]),
    "bind_tools": lambda chat, messages: chat.bind_tools([look]).ainvoke(messages),
    "with_structured_output": lambda chat, messages: chat.with_structured_output(Seen).ainvoke(messages),
    "in words": lambda chat, messages: (
        chat.model_copy(update={"model": "gemini-2.5-flash-image"})
        .with_structured_output(Seen, include_raw=True)
        .ainvoke(messages)
    ),
    "with_retry": lambda chat, messages: chat.with_retry().ainvoke(messages),
}
if hasattr(BaseChatModel, "stream_events"):  # the version of langchain-core that has its third kind
    CALLS["events of version 3"] = told


@pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")
@pytest.mark.parametrize("kind", [0, 1], ids=["PIL", "bytes"])
@pytest.mark.parametrize("call", CALLS)
def test_no_picture_is_touched_on_the_loop(monkeypatch: pytest.MonkeyPatch, call: str, kind: int) -> None:
    """Whatever way an asynchronous call takes, pixels and bytes are read in another thread than the loop's."""
    source = watched()[kind]
    with Emulator(ocr=False, reply=answer_from_tools_and_schema) as server, isolated():
        monkeypatch.setenv("AIFS_BASE_URL", server.base_url)
        monkeypatch.setenv("AIFS_API_KEY", server.api_key)
        assert asyncio.run(CALLS[call](ChatAIFS(), question(source)))
        assert len(server.requests[0].images) == 1
    assert source.threads
    assert threading.get_ident() not in source.threads


def test_the_loop_goes_on_while_a_picture_is_prepared() -> None:
    """Others on the loop have their turn in the midst of the preparation."""

    class Waiting(Watched):
        def load(self) -> Any:
            assert turned.wait(10)
            return super().load()

    turned = threading.Event()

    async def both() -> None:
        answer = asyncio.ensure_future(ChatAIFS().ainvoke(question(Waiting(corners()))))
        await asyncio.sleep(0)
        turned.set()
        assert (await answer).text

    asyncio.run(both())


def test_caches_know_a_question_again_either_way(server: Emulator) -> None:
    """What was asked synchronously is not asked again asynchronously, nor by `generate`; and the other way round."""
    for kind in (0, 1):
        for asynchronous_first in (False, True):
            server.clear()
            chat = ChatAIFS(cache=InMemoryCache())
            if asynchronous_first:
                asyncio.run(chat.ainvoke(question(watched()[kind])))
            assert chat.invoke(question(watched()[kind])).text
            asyncio.run(chat.ainvoke(question(watched()[kind])))
            chat.generate([question(watched()[kind])])
            asyncio.run(chat.agenerate([question(watched()[kind])]))
            assert len(server.requests) == 1


@pytest.mark.parametrize("kind", ["text", "image"])
def test_light_messages_are_mended_either_way(server: Emulator, kind: str) -> None:
    """Blocks that LangChain's traces break on, a text file and base64 without a label, do in all ways of asking."""
    data = base64.b64encode(saved(corners())).decode()
    given = {
        "text": {"type": "file", "source_type": "text", "text": "hello", "mime_type": "text/plain"},
        "image": {"type": "image", "source_type": "base64", "data": data},
    }
    talk: list[BaseMessage] = [HumanMessage([{"type": "text", "text": "What is it?"}, given[kind]])]
    chat = ChatAIFS()
    assert chat.invoke(talk).text
    assert chat.generate([talk]).generations
    assert asyncio.run(chat.ainvoke(talk)).text
    assert asyncio.run(chat.agenerate([talk])).generations
    bodies = [request.body for request in server.requests]
    assert bodies == bodies[:1] * 4


def test_callbacks_are_told_the_same_either_way() -> None:
    """Traces hold the picture as JSON, and equally in synchronous and asynchronous calls."""
    heard: list[Any] = []

    class Tracer(BaseCallbackHandler):
        def on_chat_model_start(self, serialized: Any, messages: Any, **_: Any) -> None:
            del serialized
            heard.append(messages[0][0].content)

    config: Any = {"callbacks": [Tracer()]}
    for source in (0, 1):
        ChatAIFS().invoke(question(watched()[source]), config)
        asyncio.run(ChatAIFS().ainvoke(question(watched()[source]), config))
        asyncio.run(streamed(ChatAIFS().astream(question(watched()[source]), config)))
        assert heard[-1] == heard[-2] == heard[-3]
        assert json.loads(json.dumps(heard[-1])) == heard[-1]


def test_a_stream_that_is_left_is_closed_at_once(server: Emulator) -> None:
    """Whoever leaves an asynchronous stream in the middle ends the request, with or without a picture in it."""

    async def left() -> None:
        stream: Any = ChatAIFS().astream(question(watched()[0]))
        async for _ in stream:
            break
        await stream.aclose()
        assert (await ChatAIFS().ainvoke("Hello")).text

    asyncio.run(left())
    assert len(server.requests) == 2


def test_what_is_wrong_is_said_in_asynchronous_calls_too() -> None:
    """A path in a message, and an input that is none, are the same errors as in synchronous calls."""
    mixed = [HumanMessage([{"type": "image", "image": corners()}, {"type": "image", "path": "a.png"}])]
    wrong: list[tuple[Any, str]] = [(mixed, "never opened"), (7, "Invalid input type")]
    for asked, words in wrong:
        with pytest.raises((ImageFormatError, ValueError), match=words):
            ChatAIFS().invoke(asked)
        with pytest.raises((ImageFormatError, ValueError), match=words):
            asyncio.run(ChatAIFS().ainvoke(asked))
