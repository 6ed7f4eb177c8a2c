"""`AIFSEmbedding`: texts to vectors, in order, in batches, through the governor."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from llama_index.core import Settings, VectorStoreIndex
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.rate_limiter import TokenBucketRateLimiter
from llama_index.core.schema import TextNode
from llama_index.core.storage.kvstore import SimpleKVStore

from aifs_vision import (
    AuthenticationError,
    Limits,
    ResidencyError,
    ServiceError,
    SettingsError,
    UnexpectedAnswerError,
    model_card,
)
from aifs_vision.testing import virtual_time
from llama_index_aifs import AIFSEmbedding
from tests.poison import POISON

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aifs_vision.emulator import Emulator

ADDRESS = "http://127.0.0.1:9/v2"  # nobody is there: a scripted service answers in its place
TEXTS = ["a", "bb", "ccc", "dddd", "eeeee", "ffffff", "ggggggg"]


async def backwards(request: httpx.Request) -> httpx.Response:
    """A service whose vectors come in the wrong order, each holding the length of its text."""
    texts = json.loads(request.content)["input"]
    data = [{"index": at, "embedding": [len(text)] * 1024} for at, text in enumerate(texts)]
    return httpx.Response(200, json={"data": data[::-1], "usage": {"prompt_tokens": 1, "total_tokens": 1}})


@pytest.fixture
def _settings() -> Iterator[None]:
    """Leaves LlamaIndex's global settings as they were."""
    yield
    Settings._embed_model = None  # noqa: SLF001 - there is no other way to forget it


@pytest.mark.usefixtures("environment")
def test_all_methods_give_the_same_vectors(server: Emulator) -> None:
    """One text, many, a query, synchronously or not: the same vector for the same text, asked for as floats."""
    embedding = AIFSEmbedding()
    vector = embedding.get_text_embedding("Rechnung")
    assert embedding.get_query_embedding("Rechnung") == vector
    assert embedding.get_text_embedding_batch(["Rechnung"]) == [vector]
    assert asyncio.run(embedding.aget_text_embedding("Rechnung")) == vector
    assert asyncio.run(embedding.aget_query_embedding("Rechnung")) == vector
    assert asyncio.run(embedding.aget_text_embedding_batch(["Rechnung"])) == [vector]
    assert {json.dumps(request.body, sort_keys=True) for request in server.requests} == {
        '{"encoding_format": "float", "input": ["Rechnung"], "model": "text-embedding-bge-m3"}'
    }
    assert len(server.requests) == 6


def test_vectors_come_in_the_order_of_the_texts() -> None:
    """The service's `index` decides which vector is whose, in one batch and over several."""
    embedding = AIFSEmbedding(api_key="k", base_url=ADDRESS, embed_batch_size=3)
    with virtual_time(backwards):
        assert [vector[0] for vector in embedding.get_text_embedding_batch(TEXTS)] == [1, 2, 3, 4, 5, 6, 7]
        vectors = asyncio.run(embedding.aget_text_embedding_batch(TEXTS))
        assert [vector[0] for vector in vectors] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.usefixtures("environment")
def test_batches_are_as_large_as_asked_for(server: Emulator) -> None:
    """`embed_batch_size` texts go into a request, also of nodes; no texts are no request."""
    embedding = AIFSEmbedding(embed_batch_size=3)
    assert len(embedding.get_text_embedding_batch(TEXTS)) == 7
    nodes = [TextNode(text=text) for text in TEXTS]
    assert all(node.embedding for node in embedding(nodes))
    assert sorted(len(request.body["input"]) for request in server.requests) == [1, 1, 3, 3, 3, 3]
    assert embedding.get_text_embedding_batch([]) == asyncio.run(embedding.aget_text_embedding_batch([])) == []
    assert len(server.requests) == 6


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("model", ["text-embedding-bge-m3", "jina-embeddings-v2-base-de", "text-embedding-ada-002"])
def test_the_width_is_known_before_the_first_vector(model: str, server: Emulator) -> None:
    """`dimensions` is the catalogue's width, which is that of the vectors."""
    embedding = AIFSEmbedding(model)
    assert embedding.dimensions == model_card(model).dimensions
    assert not server.requests
    assert len(embedding.get_text_embedding("Rechnung")) == embedding.dimensions


def test_embeddings_keep_to_the_limits() -> None:
    """All embeddings of a model go through one governor, whoever asks: 120 requests at 60 a minute take their time."""
    options: dict[str, Any] = {"api_key": "k", "base_url": ADDRESS, "limits": {"requests_per_minute": 60}}

    def one() -> AIFSEmbedding:
        return AIFSEmbedding(**options, embed_batch_size=1)

    async def together() -> None:
        await asyncio.gather(*(one().aget_text_embedding_batch([text] * 30) for text in "ab"))

    with virtual_time(backwards) as clock:
        one().get_text_embedding_batch(["text"] * 60)
        asyncio.run(together())
        assert 100 < clock.now < 140


@pytest.mark.usefixtures("environment")
def test_faults_that_pass_are_tried_again(server: Emulator) -> None:
    """A 503 and a 429 are tried again by the transport; a lasting fault ends in an error of the tree."""
    server.fail(503, retry_after=0.001)
    server.fail(429, retry_after=0.001)
    assert AIFSEmbedding().get_text_embedding("Rechnung")
    assert len(server.requests) == 3
    server.fail(503, times=20)
    with virtual_time(), pytest.raises(ServiceError, match="503"):
        AIFSEmbedding().get_text_embedding("Rechnung")


def test_errors_are_of_the_tree(server: Emulator) -> None:
    """A refused key, answers without vectors and forbidden regions say what is wrong; so do unknown options."""
    with pytest.raises(AuthenticationError, match="401"):
        AIFSEmbedding(base_url=server.base_url, api_key="wrong").get_text_embedding("x")
    server.fail(200, body='{"data": []}', times=5)
    with virtual_time(), pytest.raises(UnexpectedAnswerError, match="embeddings"):
        AIFSEmbedding(base_url=server.base_url, api_key=server.api_key).get_text_embedding("x")
    with pytest.raises(ResidencyError, match="germany"):
        AIFSEmbedding("text-embedding-ada-002", api_key="k", residency="germany")
    with pytest.raises(SettingsError, match="AIFS_API_KEY"):
        AIFSEmbedding()
    with pytest.raises(TypeError, match="modle"):
        AIFSEmbedding(api_key="k", modle="x")


@pytest.mark.usefixtures("environment")
def test_one_object_in_many_loops(server: Emulator) -> None:
    """One object works in one event loop after the other, inside a running one, and in several at a time."""
    embedding = AIFSEmbedding()

    async def inside() -> list[float]:
        return embedding.get_text_embedding("a")

    vectors = [asyncio.run(embedding.aget_text_embedding("a")) for _ in range(3)]
    assert vectors == [asyncio.run(inside())] * 3
    assert len(server.requests) == 4


@pytest.mark.usefixtures("environment")
def test_no_secret_is_written() -> None:
    """The key is in neither repr, dict, JSON nor pickle; a pickle takes the key of where it is opened."""
    embedding = AIFSEmbedding(
        api_key="very-secret", rate_limiter=TokenBucketRateLimiter(requests_per_minute=600), limits=Limits()
    )
    written = [repr(embedding), str(embedding), str(embedding.to_dict()), embedding.to_json(), str(vars(embedding))]
    data = pickle.dumps(embedding)
    assert not [text for text in (*written, str(data)) if "very-secret" in text]
    assert pickle.loads(data).get_text_embedding("a")  # noqa: S301 - our own
    assert embedding.rate_limiter is not None  # pickling does it no harm
    assert copy.deepcopy(AIFSEmbedding()).get_text_embedding("a")


def test_foreign_variables_change_nothing(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever OPENAI_* and the like say, requests go to the service, with its key."""
    for name, value in POISON.items():
        monkeypatch.setenv(name, value)
    assert AIFSEmbedding(base_url=server.base_url, api_key=server.api_key).get_text_embedding("a")
    (request,) = server.requests
    assert request.headers["authorization"] == f"Bearer {server.api_key}"
    assert not [name for name in request.headers if name.startswith("openai-")]


@pytest.mark.usefixtures("environment")
def test_assigned_fields_count(server: Emulator) -> None:
    """What is assigned is what is asked for: the vectors are of the model that the object names."""
    embedding = AIFSEmbedding(api_key=server.api_key)
    embedding.model_name, embedding.embed_batch_size = "jina-embeddings-v2-base-de", 2
    assert len(embedding.get_text_embedding("a")) == 768
    assert server.requests[-1].body["model"] == embedding.to_dict()["model_name"] == "jina-embeddings-v2-base-de"
    server.clear()
    embedding.get_text_embedding_batch(["a", "b", "c"])
    assert sorted(len(request.body["input"]) for request in server.requests) == [1, 2]
    embedding.plan = "golden"
    with pytest.raises(SettingsError, match="golden"):
        embedding.get_text_embedding("a")


@pytest.mark.usefixtures("environment")
def test_what_the_key_of_a_cache_depends_on() -> None:
    """Vectors are not paid for again because of another address, plan, limit, time-out or size of batches."""

    def key(embedding: AIFSEmbedding) -> str:
        return get_transformation_hash([TextNode(text="a")], embedding)

    known = key(AIFSEmbedding())
    others: list[dict[str, Any]] = [
        {"timeout": 7},
        {"limits": Limits()},
        {"embed_batch_size": 3},
        {"base_url": ADDRESS},
        {"plan": "agentic"},
    ]
    assert {key(AIFSEmbedding(api_key="k", **other)) for other in others} == {known}
    assert key(AIFSEmbedding("jina-embeddings-v2-base-de")) != known
    again = AIFSEmbedding.from_dict(AIFSEmbedding(residency="germany", limits=Limits(in_flight=2)).to_dict())
    assert (again.residency, again.limits) == ("germany", Limits(in_flight=2))
    private = AIFSEmbedding(embeddings_cache=SimpleKVStore())
    private.get_text_embedding("a private text")
    assert (key(private), "private" in str(private.to_json())) == (known, False)


@pytest.mark.usefixtures("environment")
def test_only_models_that_make_vectors() -> None:
    """A chat model is refused when it is named, and one that nobody knows is not."""
    with pytest.raises(SettingsError, match=r"for chat, not for embedding.*text-embedding-bge-m3"):
        AIFSEmbedding("gpt-4.1")
    assert AIFSEmbedding("brand-new-embedding").dimensions is None


def test_a_pickle_opens_without_a_key(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no key, a pickle opens, says so when it is used, and works as soon as there is one."""
    data = pickle.dumps(AIFSEmbedding(api_key=server.api_key, base_url=server.base_url))
    embedding = pickle.loads(data)  # noqa: S301 - our own
    with pytest.raises(SettingsError, match="AIFS_API_KEY"):
        embedding.get_text_embedding("a")
    monkeypatch.setenv("AIFS_API_KEY", server.api_key)
    assert embedding.get_text_embedding("a")


@pytest.mark.usefixtures("environment")
def test_a_cache_of_embeddings(server: Emulator) -> None:
    """LlamaIndex's cache of embeddings works with it: what it has is not asked for."""
    embedding = AIFSEmbedding(embeddings_cache=SimpleKVStore())
    assert embedding.get_text_embedding("a") == embedding.get_text_embedding("a")
    assert len(server.requests) == 1


@pytest.mark.usefixtures("environment", "_settings")
def test_as_the_setting_of_an_index() -> None:
    """As `Settings.embed_model` it serves an index, which finds what means the same."""
    Settings.embed_model = AIFSEmbedding()
    index = VectorStoreIndex([TextNode(text="The cat sleeps on the sofa."), TextNode(text="An invoice over 30 EUR.")])
    (found,) = index.as_retriever(similarity_top_k=1).retrieve("bill to be paid")
    assert found.text == "An invoice over 30 EUR."
