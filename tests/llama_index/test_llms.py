"""The LLM and the embeddings: what they send, what they leak (nothing), and that they answer."""

from __future__ import annotations

import asyncio
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock

from aifs_vision import ResidencyError, SettingsError
from llama_index_aifs import AIFS, AIFSEmbedding
from tests.pictures import corners, saved
from tests.poison import POISON, assert_nothing_leaked

if TYPE_CHECKING:
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
    """A fault that passes is tried again by the transport alone: n attempts are n requests."""
    server.fail(503, times=2, retry_after=0.001)
    assert AIFS().complete("Hello").text
    assert len(server.requests) == 3


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
def test_arguments_are_checked(server: Emulator) -> None:
    """Misspelt arguments are TypeErrors, both names of the address together, too; residency is kept."""
    with pytest.raises(TypeError, match="temprature"):
        AIFS(temprature=0.5)
    with pytest.raises(TypeError, match="not both"):
        AIFS(base_url=server.base_url, api_base=server.base_url)
    assert AIFS(api_base=server.base_url).complete("Hello").text
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
