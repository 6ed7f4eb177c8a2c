"""The LLM and the embeddings: what they send, what they leak (nothing), and that they answer."""

from __future__ import annotations

import asyncio
import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock

from aifs_vision import (
    APIConnectionError,
    AuthenticationError,
    Limits,
    ResidencyError,
    ServiceError,
    SettingsError,
    Task,
    Vision,
)
from aifs_vision.testing import virtual_time
from llama_index_aifs import AIFS, AIFSEmbedding
from tests.pictures import corners, noise, opened, saved
from tests.poison import POISON, assert_nothing_leaked

if TYPE_CHECKING:
    from collections.abc import Callable

    from aifs_vision.emulator import Emulator

PNG = saved(corners())


def question() -> list[ChatMessage]:
    """A message of text and an image."""
    return [ChatMessage(blocks=[TextBlock(text="What is this?"), ImageBlock(image=PNG, image_mimetype="image/png")])]


@pytest.mark.usefixtures("environment")
def test_a_message_with_an_image_is_answered(server: Emulator) -> None:
    """Text and image go to the model; the answer comes with its usage, plain and streamed, sync and async."""
    llm = AIFS()
    plain = llm.chat(question())
    assert "emulator" in str(plain.message.content)
    streamed = list(llm.stream_chat(question()))
    assert streamed[-1].message.content == plain.message.content
    assert any(getattr(part.raw, "usage", None) for part in streamed)

    async def both() -> tuple[Any, Any]:
        whole = await llm.achat(question())
        parts = [part async for part in await llm.astream_chat(question())]
        return whole.message.content, parts[-1].message.content

    assert asyncio.run(both()) == (plain.message.content, plain.message.content)
    assert all(request.images for request in server.requests)
    assert llm.complete("Hello").text


@pytest.mark.usefixtures("environment")
def test_nothing_of_openai_leaks(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every OPENAI_* variable poisoned, requests go to the service, with its key alone."""
    for name, value in POISON.items():
        monkeypatch.setenv(name, value)
    llm, embedding = AIFS(), AIFSEmbedding()
    llm.chat(question())
    list(llm.stream_chat(question()))
    asyncio.run(llm.achat(question()))
    embedding.get_text_embedding("Rechnung")
    assert_nothing_leaked(server)


def test_an_openai_key_alone_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key of the service there is an error; nothing ever falls back to OpenAI."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-poison")
    for make in (AIFS, AIFSEmbedding):
        with pytest.raises(SettingsError, match="AIFS_API_KEY"):
            make()


@pytest.mark.usefixtures("environment")
def test_ten_event_loops_make_ten_requests(server: Emulator) -> None:
    """Ten `asyncio.run(llm.achat(...))` are ten requests, whatever the SDK does with its clients."""
    llm = AIFS()
    for _ in range(10):
        asyncio.run(llm.achat([ChatMessage("Hello")]))
    assert len(server.requests) == 10


@pytest.mark.usefixtures("environment")
def test_one_authority_retries(server: Emulator) -> None:
    """A fault that passes is tried again by the transport alone: n attempts are n requests, of streams as well."""
    llm, hello = AIFS(), [ChatMessage("Hello")]

    async def astreamed() -> Any:
        return [part async for part in await llm.astream_chat(hello)][-1].message.content

    ways: list[Callable[[], Any]] = [
        lambda: llm.complete("Hello").text,
        lambda: list(llm.stream_chat(hello))[-1].message.content,
        lambda: asyncio.run(llm.achat(hello)).message.content,
        lambda: asyncio.run(astreamed()),
    ]
    for count, way in enumerate(ways, 1):
        server.fail(503, times=2, retry_after=0.001)
        assert way()
        assert len(server.requests) == 3 * count


@pytest.mark.usefixtures("environment")
def test_the_key_shows_nowhere(server: Emulator) -> None:
    """The key is not in repr, to_dict or pickles; an unpickled LLM takes it from its environment and answers."""
    for thing in (AIFS(api_key=server.api_key, temperature=0.7), AIFSEmbedding(api_key=server.api_key)):
        parts: list[Any] = [repr(thing), str(thing), str(thing.to_dict())]
        assert not any(server.api_key in part for part in parts)
    llm = AIFS(api_key=server.api_key, temperature=0.7)
    pickled = pickle.dumps(llm)
    assert server.api_key.encode() not in pickled
    twin = pickle.loads(pickled)  # noqa: S301 - our own bytes
    assert twin.temperature == 0.7
    assert twin.complete("Hello").text
    assert llm.complete("Hello").text


@pytest.mark.usefixtures("environment")
def test_the_window_is_the_models() -> None:
    """The context window is the catalogue's, so that LlamaIndex packs its prompts rightly; the model takes tools."""
    metadata = AIFS().metadata
    assert (metadata.context_window, metadata.is_chat_model, metadata.is_function_calling_model) == (
        128_000,
        True,
        True,
    )
    assert AIFS("gpt-4.1").metadata.context_window == 1_000_000


@pytest.mark.usefixtures("environment")
def test_every_chat_model_has_a_window(server: Emulator) -> None:
    """Each chat model that the service lists has a window of its own; one that nobody knows is given 32,000 tokens."""
    cards = [card for card in Vision(base_url=server.base_url, api_key=server.api_key).models() if card.kind == "chat"]
    assert len(cards) > 10
    for card in cards:
        assert card.context_window
        assert AIFS(card.name).metadata.context_window == (card.max_input_tokens or card.context_window)
    assert AIFS("gpt-5").metadata.context_window == 272_000  # what a prompt may have
    assert AIFS("llama-9-vision").metadata.context_window == 32_000


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("size", ["auto", 500])
def test_pictures_are_those_of_the_engine(server: Emulator, size: Any) -> None:
    """What the model is sent of a picture is to the byte what `Vision.read` sends for a question of that size."""
    photo = saved(noise(1600, 1200), "JPEG", quality=90)
    task = Task.ask("What is this?")
    Vision(base_url=server.base_url, api_key=server.api_key).read(photo, task if size == "auto" else task.sized(size))
    AIFS(image_size=size).chat([ChatMessage(blocks=[ImageBlock(image=photo)])])
    read, chatted = (request.images for request in server.requests)
    assert read == chatted
    assert max(opened(chatted[0][1]).size) == (500 if size == 500 else max(opened(read[0][1]).size))


@pytest.mark.usefixtures("environment")
def test_arguments_are_checked(server: Emulator) -> None:
    """Misspelt arguments are TypeErrors, both names of the address together, too; residency is kept."""
    with pytest.raises(TypeError, match="temprature"):
        AIFS(temprature=0.5)
    with pytest.raises(TypeError, match="not both"):
        AIFS(base_url=server.base_url, api_base=server.base_url)
    assert AIFS(api_base=server.base_url).complete("Hello").text
    no_name: Any = None
    with pytest.raises(TypeError, match="name of a model, not None"):
        AIFS(no_name)
    sizes: list[Any] = [-4, 0, 7, True, "big", 3.5, None]
    for size in sizes:
        with pytest.raises(SettingsError, match=f"image_size={size!r}.*original"):
            AIFS(image_size=size)
    for frames in (0, True):
        with pytest.raises(SettingsError, match=f"frames={frames!r}.*scenes"):
            AIFS(frames=frames)
    with pytest.raises(SettingsError, match="for embedding, not for chat"):
        AIFS("text-embedding-bge-m3")
    assert [AIFS(image_size=size).image_size for size in ("auto", "original", 8)] == ["auto", "original", 8]
    with pytest.raises(TypeError, match="modle"):
        AIFSEmbedding(modle="x")
    with pytest.raises(ResidencyError):
        AIFS("gpt-4.1", residency="germany")
    with pytest.raises(ResidencyError):
        AIFSEmbedding("text-embedding-ada-002", residency="germany")


@pytest.mark.usefixtures("environment")
def test_embeddings_come_in_order() -> None:
    """Vectors come in the order of the texts, sync and async, as wide as the model's."""
    embedding = AIFSEmbedding(embed_batch_size=2)
    texts = ["Rechnung", "Katze", "Rechnung"]
    vectors = embedding.get_text_embedding_batch(texts)
    assert vectors[0] == pytest.approx(vectors[2])
    assert len(vectors[0]) == 1024
    assert asyncio.run(embedding.aget_text_embedding_batch(texts)) == vectors
    assert embedding.get_query_embedding("Katze") == pytest.approx(vectors[1])
    assert asyncio.run(embedding.aget_query_embedding("Katze")) == pytest.approx(vectors[1])


def test_errors_are_those_of_the_tree(server: Emulator) -> None:
    """A wrong key and a server that is not there give the project's error, with address and remedy, everywhere."""

    async def astreamed(llm: AIFS) -> None:
        async for _ in await llm.astream_complete("Hello"):
            pass

    calls: list[Callable[[AIFS, AIFSEmbedding], Any]] = [
        lambda llm, _: llm.complete("Hello"),
        lambda llm, _: list(llm.stream_chat(question())),
        lambda llm, _: asyncio.run(llm.acomplete("Hello")),
        lambda llm, _: asyncio.run(astreamed(llm)),
        lambda _, embedding: embedding.get_text_embedding("Rechnung"),
    ]
    wrong: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"api_key": "wrong", "base_url": server.base_url}, AuthenticationError),
        ({"api_key": "k", "base_url": "http://127.0.0.1:9/v2"}, APIConnectionError),
    ]
    for settings, kind in wrong:
        llm, embedding = AIFS(**settings), AIFSEmbedding(**settings)
        for asked in calls:
            with virtual_time(), pytest.raises(kind, match=settings["base_url"]):
                asked(llm, embedding)


@pytest.mark.usefixtures("environment")
def test_retries_are_not_multiplied(server: Emulator) -> None:
    """Whatever `max_retries` says, a failing request is tried four times, by one authority."""
    server.fail(503, times=50)
    with pytest.raises(ServiceError):
        AIFS(max_retries=3).complete("Hello")
    assert len(server.requests) == 4


@pytest.mark.usefixtures("environment")
def test_dropped_streams_hold_nobody_up() -> None:
    """Streams that are left in the middle give their slots back, also when nobody closes them."""
    llm = AIFS(limits=Limits(in_flight=1))

    async def leave() -> None:
        async for _ in await llm.astream_complete("Hello"):
            break

    for _ in range(2):
        for _answer in llm.stream_complete("Hello"):
            break
        asyncio.run(leave())
    assert llm.complete("Hello").text


@pytest.mark.parametrize("kind", [AIFS, AIFSEmbedding])
def test_copies_keep_their_settings_but_not_the_key(
    server: Emulator, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    """A pickled or rebuilt object goes where the first one went, whatever the environment says; its key stays here."""
    monkeypatch.setenv("AIFS_BASE_URL", "http://127.0.0.1:9/v2")
    first = kind(
        base_url=server.base_url, api_key=server.api_key, residency="germany", limits=Limits(in_flight=3), timeout=7.0
    )
    pickled, stored = pickle.dumps(first), json.dumps(first.to_dict())
    assert server.api_key.encode() not in pickled
    assert server.api_key not in stored + repr(first) + repr(first.__pydantic_private__)
    monkeypatch.setenv("AIFS_API_KEY", server.api_key)
    for again in (pickle.loads(pickled), kind.from_dict(json.loads(stored))):  # noqa: S301 - our own
        assert (again.residency, again.limits, again.timeout) == ("germany", Limits(in_flight=3), 7.0)
        answer = again.complete("Hello").text if kind is AIFS else again.get_text_embedding("Rechnung")
        assert answer
    assert len(server.requests) == 2
