"""The chat model: what it sends, what it leaks (nothing), and that it answers."""

from __future__ import annotations

import asyncio
import base64
import pickle
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.load import dumps
from langchain_core.messages import HumanMessage

from aifs_vision import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    Limits,
    ResidencyError,
    ServiceError,
    SettingsError,
)
from aifs_vision.testing import virtual_time
from langchain_aifs import AIFSEmbeddings, ChatAIFS
from tests.pictures import corners, saved
from tests.poison import POISON, assert_nothing_leaked

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from aifs_vision.emulator import Emulator

PNG = base64.b64encode(saved(corners())).decode()


def question() -> list[HumanMessage]:
    """A message of text and an image."""
    return [
        HumanMessage(
            [
                {"type": "text", "text": "What is this?"},
                {"type": "image", "base64": PNG, "mime_type": "image/png"},
            ]
        )
    ]


@pytest.mark.usefixtures("environment")
def test_a_message_with_an_image_is_answered(server: Emulator) -> None:
    """Text and image go to the model; the answer comes with its usage, plain and streamed, sync and async."""
    chat = ChatAIFS()
    plain = chat.invoke(question())
    assert "emulator" in plain.text
    assert plain.usage_metadata
    chunks = list(chat.stream(question()))
    assert "".join(chunk.text for chunk in chunks) == plain.text
    assert sum(chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata) > 0

    async def both() -> tuple[str, str]:
        whole = await chat.ainvoke(question())
        parts = [chunk.text async for chunk in chat.astream(question())]
        return whole.text, "".join(parts)

    assert asyncio.run(both()) == (plain.text, plain.text)
    assert all(request.images for request in server.requests)


@pytest.mark.usefixtures("environment")
def test_nothing_of_openai_leaks(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every OPENAI_*, gateway and LC_* variable poisoned, requests go to the service, with its key alone."""
    for name, value in POISON.items():
        monkeypatch.setenv(name, value)
    chat, embeddings = ChatAIFS(), AIFSEmbeddings()
    chat.invoke(question())
    list(chat.stream(question()))
    asyncio.run(chat.ainvoke(question()))
    embeddings.embed_query("Rechnung")
    assert_nothing_leaked(server)


def test_an_openai_key_alone_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key of the service there is an error that says where to put it; OpenAI's key is not sent along."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-poison")
    for make in (ChatAIFS, AIFSEmbeddings):
        with pytest.raises(SettingsError, match="AIFS_API_KEY"):
            make()


@pytest.mark.usefixtures("environment")
def test_settings_that_cannot_be_show_at_once() -> None:
    """Sizes and frames that no picture could be sent with, and models of another kind, are errors before a question."""
    for option, value in (("image_size", 3), ("image_size", 7), ("frames", 0), ("frames", -1)):
        with pytest.raises(SettingsError, match=f"{option}={value!r}"):
            ChatAIFS(**{option: value})
        with pytest.raises(SettingsError, match=f"{option}={value!r}"):
            ChatAIFS().model_copy(update={option: value})
    with pytest.raises(SettingsError, match="for embedding, not for chat"):
        ChatAIFS(model="text-embedding-bge-m3")
    with pytest.raises(SettingsError, match="for chat, not for embedding"):
        AIFSEmbeddings(model="gpt-4.1")


@pytest.mark.usefixtures("environment")
def test_ten_event_loops_make_ten_requests(server: Emulator) -> None:
    """Ten `asyncio.run(chat.ainvoke(...))` are ten requests, and ten streams ten more."""
    chat = ChatAIFS()

    async def streamed() -> str:
        return "".join([chunk.text async for chunk in chat.astream("Hello")])

    for _ in range(10):
        asyncio.run(chat.ainvoke("Hello"))
        assert asyncio.run(streamed())
    assert len(server.requests) == 20


@pytest.mark.usefixtures("environment")
def test_one_authority_retries(server: Emulator) -> None:
    """A fault that passes is tried again by the transport alone: n attempts are n requests."""
    server.fail(503, times=2, retry_after=0.001)
    assert ChatAIFS().invoke("Hello").text
    assert len(server.requests) == 3


@pytest.mark.usefixtures("environment")
def test_codex_goes_to_chat(server: Emulator) -> None:
    """A name like gpt-5-codex does not send a request to /responses."""
    assert ChatAIFS(model="gpt-5-codex").invoke("Hello").text
    assert [request.path for request in server.requests] == ["/v2/chat/completions"]


@pytest.mark.usefixtures("environment")
def test_the_key_shows_nowhere(server: Emulator) -> None:
    """The key is not in repr, in what LangChain serialises, nor in the SDK's clients."""
    for thing in (ChatAIFS(api_key=server.api_key), AIFSEmbeddings(api_key=server.api_key)):
        parts: list[Any] = [repr(thing), str(thing), repr(vars(thing))]
        if isinstance(thing, ChatAIFS):
            parts += [dumps(thing), repr(vars(ChatAIFS(use_responses_api=True).root_client))]
        assert not any(server.api_key in part for part in parts)


@pytest.mark.usefixtures("environment")
def test_unknown_arguments_are_type_errors() -> None:
    """A misspelt argument is a TypeError that suggests the right one."""
    with pytest.raises(TypeError, match="Did you mean 'temperature'"):
        ChatAIFS(temprature=0.5)
    with pytest.raises(TypeError, match="modle"):
        AIFSEmbeddings(modle="x")


@pytest.mark.usefixtures("environment")
def test_residency_is_kept(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model outside of the residency is refused when the chat model is made, and again if it is changed later."""
    with pytest.raises(ResidencyError):
        ChatAIFS(model="gpt-4.1", residency="germany")
    monkeypatch.setenv("AIFS_RESIDENCY", "germany")
    assert AIFSEmbeddings().embed_query("Rechnung")
    assert ChatAIFS().invoke("Hello").text
    server.clear()
    with pytest.raises(ResidencyError):
        AIFSEmbeddings(model="text-embedding-ada-002")
    with pytest.raises(ResidencyError):
        ChatAIFS().invoke("Hello", model="gpt-4.1")
    assert not server.requests


@pytest.mark.usefixtures("environment")
def test_embeddings_are_floats_in_order(server: Emulator) -> None:
    """Texts are sent as texts, floats are asked for, and vectors come in the order of the texts."""
    embeddings = AIFSEmbeddings(chunk_size=2)
    texts = ["Rechnung", "Katze", "Rechnung"]
    vectors = embeddings.embed_documents(texts)
    assert vectors[0] == pytest.approx(vectors[2])
    assert len(vectors[0]) == 1024
    assert asyncio.run(embeddings.aembed_documents(texts)) == vectors
    assert embeddings.embed_query("Katze") == pytest.approx(vectors[1])
    assert sorted(request.body["input"] for request in server.requests[:2]) == [texts[2:], texts[:2]]
    assert server.requests[0].body["encoding_format"] == "float"


def test_exceptions_of_settings_are_picklable() -> None:
    """Errors of the constructors cross process borders."""
    with pytest.raises(SettingsError) as caught:
        ChatAIFS()
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - our own bytes


def test_errors_are_those_of_the_tree(server: Emulator) -> None:
    """A wrong key and a server that is not there give the project's error, with address and remedy, everywhere."""

    async def astreamed(chat: ChatAIFS) -> None:
        async for _ in chat.astream("Hello"):
            pass

    calls: list[Callable[[ChatAIFS, AIFSEmbeddings], Any]] = [
        lambda chat, _: chat.invoke("Hello"),
        lambda chat, _: list(chat.stream("Hello")),
        lambda chat, _: asyncio.run(chat.ainvoke("Hello")),
        lambda chat, _: asyncio.run(astreamed(chat)),
        lambda _, embeddings: embeddings.embed_query("Rechnung"),
        lambda _, embeddings: asyncio.run(embeddings.aembed_query("Rechnung")),
    ]
    wrong: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"api_key": "wrong", "base_url": server.base_url}, AuthenticationError),
        ({"api_key": "k", "base_url": "http://127.0.0.1:9/v2"}, APIConnectionError),
    ]
    for settings, kind in wrong:
        chat, embeddings = ChatAIFS(**settings), AIFSEmbeddings(**settings)
        for asked in calls:
            with virtual_time(), pytest.raises(kind, match=settings["base_url"]) as raised:
                asked(chat, embeddings)
            shown = traceback.TracebackException.from_exception(raised.value, capture_locals=True)
            assert "Bearer" not in "".join(shown.format())


@pytest.mark.usefixtures("environment")
def test_retries_are_not_multiplied(server: Emulator) -> None:
    """Whatever `max_retries` says, a failing request is tried four times, by one authority."""
    server.fail(503, times=50)
    with pytest.raises(ServiceError):
        ChatAIFS(max_retries=3).invoke("Hello")
    assert len(server.requests) == 4


@pytest.mark.usefixtures("environment")
def test_dropped_streams_hold_nobody_up() -> None:
    """Streams that are left in the middle give their slots back, also when nobody closes them."""
    chat = ChatAIFS(limits=Limits(in_flight=1))
    for _ in range(3):
        for _chunk in chat.stream("Hello"):
            break
    kept = chat.stream("Hello")
    next(kept)
    assert chat.invoke("Hello").text
    assert list(kept)


@pytest.mark.usefixtures("environment")
def test_custom_headers_do_not_take_ours_away(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPENAI_CUSTOM_HEADERS neither adds a header nor replaces one of ours."""
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Content-Type: text/plain\nAccept: x\nUser-Agent: y\nX-Poison: z")
    ChatAIFS().invoke("Hello")
    (request,) = server.requests
    assert request.headers["content-type"] == request.headers["accept"] == "application/json"
    assert request.headers["user-agent"] == "aifs-vision"
    assert "x-poison" not in request.headers


@pytest.mark.usefixtures("environment")
def test_a_call_may_have_its_own_timeout() -> None:
    """`timeout=` of one call bounds that call: the answer that stalls is given up, as often as timeouts are."""
    asked: list[httpx.Request] = []

    async def silent(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        await asyncio.sleep(1e9)
        raise AssertionError

    with virtual_time(silent), pytest.raises(APITimeoutError, match=r"within 0\.1 s"):
        ChatAIFS().invoke("Hello", timeout=0.1)
    assert len(asked) == 2


@pytest.mark.usefixtures("environment")
def test_half_a_letter_is_sent_as_json(server: Emulator) -> None:
    """Half a surrogate pair, as texts that were cut have, does not make a request that is no UTF-8."""
    assert ChatAIFS().invoke("half \ud83d").content
    assert server.requests[0].body["messages"] == [{"role": "user", "content": "half \ud83d"}]
