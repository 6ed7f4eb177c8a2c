"""`AIFSEmbeddings`: texts to vectors in LangChain, by LangChain's own tests and by the project's rules."""

from __future__ import annotations

import asyncio
import json
import pickle
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from langchain_core.load import dumps
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import OpenAIEmbeddings
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests
from pydantic import ValidationError

from aifs_vision import (
    AuthenticationError,
    Limits,
    NotFoundError,
    ResidencyError,
    ServiceError,
    SettingsError,
    UnexpectedAnswerError,
    model_card,
)
from aifs_vision.testing import virtual_time
from langchain_aifs import AIFSEmbeddings
from tests.poison import POISON

if TYPE_CHECKING:
    from pathlib import Path

    from aifs_vision.emulator import Emulator

MODELS = ("text-embedding-bge-m3", "jina-embeddings-v2-base-de", "text-embedding-ada-002")
ADDRESS = "http://127.0.0.1:9/v2"  # nobody is there: a scripted service answers in its place

# LangChain's tests leave it to the runner to await them.
for _test in (EmbeddingsIntegrationTests.test_aembed_query, EmbeddingsIntegrationTests.test_aembed_documents):
    pytest.mark.asyncio(_test)


class TestStandardUnit(EmbeddingsUnitTests):
    """LangChain's unit tests for embeddings."""

    @property
    def embeddings_class(self) -> type[AIFSEmbeddings]:
        """What is tested."""
        return AIFSEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        """What it is made with."""
        return {"api_key": "a-key"}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        """Variables, arguments, and what they come to."""
        env = {"AIFS_API_KEY": "a-key", "AIFS_BASE_URL": ADDRESS, "AIFS_RESIDENCY": "germany"}
        return env, {}, {"openai_api_base": ADDRESS, "residency": "germany", "model": "text-embedding-bge-m3"}


@pytest.mark.usefixtures("environment")
class TestStandardIntegration(EmbeddingsIntegrationTests):
    """LangChain's integration tests for embeddings, against the emulator."""

    @property
    def embeddings_class(self) -> type[AIFSEmbeddings]:
        """What is tested."""
        return AIFSEmbeddings


async def backwards(request: httpx.Request) -> httpx.Response:
    """A service whose vectors come in the wrong order, each holding the length of its text."""
    texts = json.loads(request.content)["input"]
    data = [{"index": at, "embedding": [len(text)] * 1024} for at, text in enumerate(texts)]
    return httpx.Response(200, json={"data": data[::-1], "usage": {"prompt_tokens": 1, "total_tokens": 1}})


# -- What is sent, and what comes back ---------------------------------------------------------------------


@pytest.mark.usefixtures("environment")
def test_texts_are_sent_and_floats_asked_for(server: Emulator) -> None:
    """Texts are sent as texts, never as token ids, and floats are asked for, in all four methods."""
    embeddings = AIFSEmbeddings()
    (document,) = embeddings.embed_documents(["Rechnung"])
    assert embeddings.embed_query("Rechnung") == document
    assert asyncio.run(embeddings.aembed_documents(["Rechnung"])) == [document]
    assert asyncio.run(embeddings.aembed_query("Rechnung")) == document
    assert {json.dumps(request.body, sort_keys=True) for request in server.requests} == {
        '{"encoding_format": "float", "input": ["Rechnung"], "model": "text-embedding-bge-m3"}'
    }
    assert len(server.requests) == 4
    assert all(type(value) is float for value in document)


def test_vectors_come_in_the_order_of_the_texts() -> None:
    """The service's `index` decides which vector is whose, not the order in which they come."""
    embeddings = AIFSEmbeddings(api_key="k", base_url=ADDRESS, chunk_size=3)
    texts = ["a", "bb", "ccc", "dddd", "eeeee"]
    with virtual_time(backwards):
        assert [vector[0] for vector in embeddings.embed_documents(texts)] == [1, 2, 3, 4, 5]
        assert [vector[0] for vector in asyncio.run(embeddings.aembed_documents(texts))] == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("environment")
def test_batches_are_as_large_as_asked_for(server: Emulator) -> None:
    """`chunk_size` texts go into a request, by the constructor or by the call; no texts are no request."""
    embeddings = AIFSEmbeddings(chunk_size=3)
    texts = [f"text {n}" for n in range(7)]
    assert len(embeddings.embed_documents(texts)) == 7
    assert len(embeddings.embed_documents(texts, chunk_size=5)) == 7
    assert len(asyncio.run(embeddings.aembed_documents(texts, chunk_size=7))) == 7
    assert [len(request.body["input"]) for request in server.requests] == [3, 3, 1, 5, 2, 7]
    assert embeddings.embed_documents([]) == asyncio.run(embeddings.aembed_documents([])) == []
    assert len(server.requests) == 6
    for wrong in (0, -1):
        with pytest.raises(SettingsError, match="batch_size"):
            embeddings.embed_documents(texts, chunk_size=wrong)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("model", MODELS)
def test_the_width_of_vectors_is_known_before_the_first(server: Emulator, model: str) -> None:
    """`dimensions` is the catalogue's width, which is that of the vectors; knowing it costs no request."""
    embeddings = AIFSEmbeddings(model=model)
    assert embeddings.dimensions == model_card(model).dimensions
    assert not server.requests
    assert len(embeddings.embed_query("Rechnung")) == embeddings.dimensions
    assert "dimensions" not in server.requests[0].body


def test_another_width_is_an_error() -> None:
    """A width that the model does not have is refused; for a model nobody knows it is what the user says, or None."""
    with pytest.raises(SettingsError, match=r"dimensions=512 .* text-embedding-bge-m3 have 1024"):
        AIFSEmbeddings(api_key="k", dimensions=512)
    assert AIFSEmbeddings(api_key="k", dimensions=1024).dimensions == 1024
    assert AIFSEmbeddings(api_key="k", model="embed-x", dimensions=512).dimensions == 512
    assert AIFSEmbeddings(api_key="k", model="embed-x").dimensions is None


@pytest.mark.usefixtures("environment")
def test_no_tokenizer_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Embedding asks the service and nobody else: no vocabulary is fetched, even for a long text."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    assert AIFSEmbeddings().embed_query("word " * 300)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("environment")
def test_a_vector_store_finds_by_meaning() -> None:
    """In a vector store of LangChain the text that means the same is found first."""
    store = InMemoryVectorStore.from_texts(["The cat sleeps on the sofa.", "An invoice over 30 EUR."], AIFSEmbeddings())
    assert isinstance(store.embeddings, OpenAIEmbeddings)
    (found,) = store.similarity_search("bill to be paid", k=1)
    assert found.page_content == "An invoice over 30 EUR."


@pytest.mark.usefixtures("environment")
def test_what_is_no_list_of_texts_is_a_type_error(server: Emulator) -> None:
    """One text in place of a list, or token ids in place of texts, are errors before anything is sent."""
    wrong: list[Any] = ["Rechnung", [[15496, 995]], [b"bytes"], [None]]
    embeddings = AIFSEmbeddings()
    for texts in wrong:
        with pytest.raises(TypeError, match=r"str|texts"):
            embeddings.embed_documents(texts)
        with pytest.raises(TypeError, match=r"str|texts"):
            asyncio.run(embeddings.aembed_documents(texts))
    with pytest.raises(TypeError, match="NoneType"):
        embeddings.embed_query(None)  # type: ignore[arg-type]
    assert not server.requests


# -- Limits, faults, loops ---------------------------------------------------------------------------------


def test_embeddings_keep_to_the_limits() -> None:
    """All embeddings of a model go through one governor: 120 requests at 60 a minute take their time."""
    settings: dict[str, Any] = {"api_key": "k", "base_url": ADDRESS, "limits": Limits(requests_per_minute=60)}
    with virtual_time(backwards) as clock:
        for _ in range(4):
            AIFSEmbeddings(**settings, chunk_size=1).embed_documents(["text"] * 30)
        assert 100 < clock.now < 140


@pytest.mark.usefixtures("environment")
def test_faults_that_pass_are_tried_again_by_one_authority(server: Emulator) -> None:
    """A 503 and a 429 are tried again, whatever `max_retries` says; a lasting fault four times in all."""
    server.fail(503, retry_after=0.001)
    server.fail(429, retry_after=0.001)
    assert AIFSEmbeddings(max_retries=0).embed_query("Rechnung")
    assert len(server.requests) == 3
    server.clear()
    server.fail(503, times=20)
    with virtual_time(), pytest.raises(ServiceError, match="503"):
        AIFSEmbeddings(max_retries=7).embed_query("Rechnung")
    assert len(server.requests) == 4


@pytest.mark.usefixtures("environment")
def test_ten_event_loops_make_ten_requests(server: Emulator) -> None:
    """One object serves any number of event loops, and asks once for each call."""
    embeddings = AIFSEmbeddings()
    for _ in range(10):
        assert asyncio.run(embeddings.aembed_query("Rechnung"))
    assert len(server.requests) == 10


def test_errors_are_those_of_the_tree(server: Emulator) -> None:
    """A wrong key, an unknown model and vectors that are missing are the project's errors, sync and async."""

    async def one_short(request: httpx.Request) -> httpx.Response:
        answer = json.loads((await backwards(request)).content)
        return httpx.Response(200, json={**answer, "data": answer["data"][1:]})

    place = {"base_url": server.base_url}
    wrong: list[tuple[AIFSEmbeddings, type[Exception]]] = [
        (AIFSEmbeddings(api_key="wrong", **place), AuthenticationError),
        (AIFSEmbeddings(api_key=server.api_key, model="embed-x", **place), NotFoundError),
    ]
    for embeddings, kind in wrong:
        with pytest.raises(kind):
            embeddings.embed_query("Rechnung")
        with pytest.raises(kind):
            asyncio.run(embeddings.aembed_query("Rechnung"))
    with virtual_time(one_short), pytest.raises(UnexpectedAnswerError, match="1 embeddings for 2 texts"):
        AIFSEmbeddings(api_key="k", base_url=ADDRESS).embed_documents(["a", "b"])


# -- Settings ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("environment")
def test_nothing_of_openai_is_heeded(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every OPENAI_* and gateway variable poisoned, texts go to the service, with its key and nothing else."""
    for name, value in POISON.items():
        monkeypatch.setenv(name, value)
    embeddings = AIFSEmbeddings()
    assert embeddings.embed_query("Rechnung")
    (request,) = server.requests
    assert (request.path, request.headers["authorization"]) == ("/v2/embeddings", f"Bearer {server.api_key}")
    assert "poison" not in str(request.headers).lower()
    assert "poison" not in repr(embeddings)


def test_a_key_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key of the service there is an error that says where to put it; OpenAI's key is none."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-poison")
    with pytest.raises(SettingsError, match="AIFS_API_KEY"):
        AIFSEmbeddings()


def test_residency_is_kept() -> None:
    """A model whose region is elsewhere, or unknown, is refused when the object is made."""
    for model in ("text-embedding-ada-002", "embed-x"):
        with pytest.raises(ResidencyError):
            AIFSEmbeddings(api_key="k", model=model, residency="germany")
    assert AIFSEmbeddings(api_key="k", residency="germany").residency == "germany"


def test_unknown_arguments_are_type_errors() -> None:
    """A misspelt argument is a TypeError with the right name; so are arguments of the calls."""
    with pytest.raises(TypeError, match="Did you mean 'model'"):
        AIFSEmbeddings(modle="x")
    embeddings: Any = AIFSEmbeddings(api_key="k")
    for method in (embeddings.embed_documents, embeddings.embed_query):
        with pytest.raises(TypeError, match="dimensions"):
            method(["x"], dimensions=5)


@pytest.mark.parametrize(
    "argument",
    [
        {"default_headers": {"X-Team": "a"}},
        {"http_client": httpx.Client},
        {"model_kwargs": {"user": "me"}},
        {"organization": "org"},
        {"openai_proxy": "http://proxy"},
        {"embedding_ctx_length": 512},
        {"api_version": "2024"},
    ],
)
def test_what_would_be_ignored_is_a_type_error(argument: dict[str, Any]) -> None:
    """What only the openai SDK would heed is refused, and never silently left out."""
    (name,) = argument
    with pytest.raises(TypeError, match=f"takes no {name}"):
        AIFSEmbeddings(api_key="k", **argument)


def test_what_changes_nothing_is_taken() -> None:
    """What others give to OpenAIEmbeddings, and what changes nothing here, is taken; splitting into tokens is not."""
    plain = AIFSEmbeddings(api_key="k", check_embedding_ctx_length=False, tiktoken_enabled=False, max_retries=5)
    assert plain.dimensions == 1024
    with pytest.raises(TypeError, match="takes no check_embedding_ctx_length=True"):
        AIFSEmbeddings(api_key="k", check_embedding_ctx_length=True)
    with pytest.raises(TypeError, match="takes no check_embedding_ctx_length=True"):
        plain.model_copy(update={"check_embedding_ctx_length": True})


@pytest.mark.usefixtures("environment")
def test_the_key_shows_nowhere(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is in no repr, dump or pickle; whoever unpickles takes it from the environment, or is told to."""
    embeddings = AIFSEmbeddings(api_key=server.api_key, chunk_size=5)
    pickled = pickle.dumps(embeddings)
    shown = [repr(embeddings), str(embeddings), repr(vars(embeddings)), dumps(embeddings)]
    shown += [embeddings.model_dump_json(), repr(embeddings.model_dump()), repr(embeddings.__getstate__())]
    assert not any(server.api_key in text for text in shown)
    assert server.api_key.encode() not in pickled
    again = pickle.loads(pickled)  # noqa: S301 - our own bytes
    assert again.embed_query("Rechnung") == embeddings.embed_query("Rechnung")
    assert (again.chunk_size, again.openai_api_base) == (5, server.base_url)
    monkeypatch.delenv("AIFS_API_KEY")
    with pytest.raises(SettingsError, match="AIFS_API_KEY"):
        pickle.loads(pickled)  # noqa: S301 - our own bytes


@pytest.mark.usefixtures("environment")
def test_changes_take_a_copy(server: Emulator) -> None:
    """It cannot be changed under the feet of an index; a copy with another model asks that model."""
    embeddings = AIFSEmbeddings(api_key=server.api_key, chunk_size=5)
    with pytest.raises(ValidationError, match="frozen"):
        embeddings.model = "jina-embeddings-v2-base-de"
    other = embeddings.model_copy(update={"model": "jina-embeddings-v2-base-de"})
    assert (other.model, other.dimensions, other.chunk_size) == ("jina-embeddings-v2-base-de", 768, 5)
    other.embed_query("Rechnung")
    embeddings.model_copy().embed_query("Rechnung")
    assert [request.model for request in server.requests] == ["jina-embeddings-v2-base-de", "text-embedding-bge-m3"]
    with pytest.raises(TypeError, match="modle"):
        embeddings.model_copy(update={"modle": "x"})
