"""Nothing of the environment leads a request, a header or an answer astray: by every endpoint, gateway and proxy."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import HumanMessage

from aifs_vision import BadRequestError
from langchain_aifs import AIFSEmbeddings, ChatAIFS, image_block
from tests.pictures import corners
from tests.poison import POISON, assert_nothing_leaked
from tests.servers import accepting, answer_all, refusing_proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aifs_vision.emulator import Emulator

CHAT, EMBEDDINGS, RESPONSES = "/v2/chat/completions", "/v2/embeddings", "/v2/responses"
GATEWAYS = [
    {"LANGSMITH_GATEWAY": "true", "LANGSMITH_API_KEY": "lsv2_poison"},
    {"LANGSMITH_GATEWAY": "http://poison.example", "LANGSMITH_API_KEY": "lsv2_poison"},
    {"LANGSMITH_GATEWAY": "http://poison.example", "LANGSMITH_GATEWAY_API_KEY": "poison"},
]


def question() -> list[Any]:
    """A message with a picture."""
    return [HumanMessage([{"type": "text", "text": "What is it?"}, image_block(corners())])]


def ask_in_every_way(chat: ChatAIFS) -> set[str]:
    """Asks four times; the texts of the answers."""

    async def later() -> list[str]:
        pieces = [chunk.text async for chunk in chat.astream(question())]
        return [(await chat.ainvoke(question())).text, "".join(pieces)]

    streamed = "".join(chunk.text for chunk in chat.stream(question()))
    return {chat.invoke(question()).text, streamed, *asyncio.run(later())}


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("variables", GATEWAYS, ids=str)
def test_no_gateway_is_gone_through(
    server: Emulator, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """LangSmith's gateway in the environment, alone, is not heeded by chats nor embeddings."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert len(ask_in_every_way(ChatAIFS())) == 1
    AIFSEmbeddings().embed_query("Rechnung")
    assert_nothing_leaked(server, CHAT, EMBEDDINGS)


@pytest.mark.usefixtures("environment")
def test_responses_leak_nothing_either(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """By way of the SDK, too, requests go to the service with its key alone."""
    for name, value in POISON.items():
        monkeypatch.setenv(name, value)
    assert len(ask_in_every_way(ChatAIFS(model="gpt-4.1", use_responses_api=True))) == 1
    assert_nothing_leaked(server, RESPONSES)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("version", ["v0", "v1", "responses/v1"])
def test_the_form_of_answers_is_nobody_elses(server: Emulator, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """LC_OUTPUT_VERSION does not turn the text of an answer into blocks, whole or streamed."""
    plain = ChatAIFS().invoke("Hello").content
    monkeypatch.setenv("LC_OUTPUT_VERSION", version)
    chat = ChatAIFS()
    first, *others = chat.stream("Hello")
    assert chat.invoke("Hello").content == sum(others, first).content == plain
    assert isinstance(plain, str)
    assert len(server.requests) == 3


if find_spec("langchain_core.utils._gateway"):  # which older versions do not have

    @pytest.mark.usefixtures("environment")
    def test_no_gateway_of_the_program_is_gone_through(server: Emulator) -> None:
        """LangSmith's gateway, as a program sets it for a block, takes no request to somebody else."""
        from langchain_core.utils._gateway import langsmith_gateway

        with langsmith_gateway(api_key="lsv2_poison", base_url="http://poison.example"):
            assert len(ask_in_every_way(ChatAIFS())) == 1
            AIFSEmbeddings().embed_query("Rechnung")
        assert_nothing_leaked(server, CHAT, EMBEDDINGS)


# -- Connections ---------------------------------------------------------------------------------------------------


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """An HTTP proxy in the environment; what it was asked for."""
    with refusing_proxy() as (address, notes):
        monkeypatch.setenv("HTTP_PROXY", address)
        yield notes


def test_proxies_of_the_environment_are_used(proxy: list[str]) -> None:
    """HTTP_PROXY leads chats, their streams and embeddings through the proxy, whose refusal is heard."""
    settings: dict[str, Any] = {"base_url": "http://service.example/v2", "api_key": "k"}
    chat = ChatAIFS(**settings)
    for ask in (chat.invoke, lambda text: list(chat.stream(text)), AIFSEmbeddings(**settings).embed_query):
        with pytest.raises(BadRequestError, match="from the proxy"):
            ask("Hello")
    paths = [note.split()[1].removeprefix("http://service.example") for note in proxy]
    assert paths == [CHAT, CHAT, EMBEDDINGS]


def test_connections_are_used_again() -> None:
    """One after the other, the calls of several chat models go by one connection."""
    with accepting(answer_all) as (url, accepted):
        for _ in range(3):
            chat = ChatAIFS(base_url=url, api_key="k")
            assert [chat.invoke("Hello").text for _ in range(3)] == ["seen"] * 3
        assert len(accepted) == 1
