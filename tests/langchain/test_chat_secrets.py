"""What is written down of a chat model: repr, traces, LangChain's `dumps`, pickles, keys of caches; no secrets."""

from __future__ import annotations

import asyncio
import logging
import pickle
import re
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.load import dumpd, dumps, load
from langchain_core.prompts import ChatPromptTemplate, HumanMessagePromptTemplate, PromptTemplate
from langchain_core.runnables import RunnableSequence
from pydantic import SecretStr

from aifs_vision import ImageLimits, Limits
from langchain_aifs import AIFSEmbeddings, ChatAIFS

if TYPE_CHECKING:
    from aifs_vision.emulator import Emulator

pytestmark = [
    pytest.mark.usefixtures("environment"),
    pytest.mark.filterwarnings("ignore:The function `load` is in beta"),
]

HEADERS = {
    "Authorization": "Bearer of-mine-1",
    "X-Api-Key": "of-mine-2",
    "X-Auth-Token": "of-mine-3",
    "Cookie": "session=of-mine-4",
    "X-Client-Secret": "of-mine-5",
    "X-Tenant": "acme",
}


def with_secrets(server: Emulator, **more: Any) -> ChatAIFS:
    """A model that was given secrets wherever it takes any."""
    return ChatAIFS(
        api_key=server.api_key,
        default_headers=HEADERS,
        default_query={"token": "of-mine-6", "version": "2"},
        model_kwargs={"extra_headers": {"X-Other-Key": "of-mine-7"}, "user": "somebody"},
        **more,
    )


def assert_no_secret(server: Emulator, *shown: Any) -> None:
    """None of the secrets is in what is shown."""
    for text in map(str, shown):
        assert "of-mine" not in text
        assert server.api_key not in text


class Tracer(BaseCallbackHandler):
    """Everything that LangChain tells of the beginning of a run."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def on_chat_model_start(self, serialized: Any, messages: Any, **more: Any) -> None:
        """The beginning."""
        self.told.append((serialized, messages, more))


def test_no_secret_is_written_down(server: Emulator) -> None:
    """Key, headers and parameters that are credentials are in no repr, no dump, no pickle and no trace."""
    chat, tracer = with_secrets(server), Tracer()
    assert_no_secret(server, repr(chat), chat, dumpd(chat), dumps(chat))
    assert_no_secret(server, pickle.dumps(chat).decode("latin-1"))
    bound = chat.bind(extra_headers={"X-Third-Key": "of-mine-8"}, extra_query={"sig": "of-mine-9"})
    bound.invoke("Hello", {"callbacks": [tracer]})
    list(chat.stream("Hello", {"callbacks": [tracer]}))
    assert len(tracer.told) == 2
    assert_no_secret(server, tracer.told)
    assert "X-Tenant" in str(tracer.told)  # names are told, and no value
    assert "acme" not in str(tracer.told)


def test_traces_have_no_value_of_a_header_or_parameter(server: Emulator) -> None:
    """Whatever its name is, the value of a header or parameter is hidden where it is only shown."""
    beside = {"X-Team": "of-mine-1"}
    chat = ChatAIFS(
        api_key=server.api_key,
        default_headers=beside,
        default_query={"team": "of-mine-2"},
        model_kwargs={"extra_headers": {"X-Group": "of-mine-3"}, "extra_query": {"group": "of-mine-4"}},
    )
    tracer = Tracer()
    chat.invoke("Hello", {"callbacks": [tracer]}, extra_headers={"X-Call": "of-mine-5"})
    asyncio.run(chat.ainvoke("Hello", {"callbacks": [tracer]}))
    chat.default_query = {"team": "of-mine-6"}
    list(chat.stream("Hello", {"callbacks": [tracer]}))
    assert len(tracer.told) == 3
    assert_no_secret(server, repr(chat), tracer.told)
    assert {"X-Team", "team", "X-Group", "group"} <= set(re.findall(r"[\w-]+", str(tracer.told)))
    assert server.requests[0].headers["x-team"] == "of-mine-1"


CREDENTIALS = """
    sig X-Sig signature X-JWT IdJwt jwtassertion X-Pwd X-PIN userPin X-SAML-Assertion code auth_code X-Client-Cert
    X-Forwarded-Client-Cert SESSIONID X-OTP sas X-Sas-Url X-Ticket X-MFA apikey ApiKey x_api_key X-Bearer sid pins
"""
OTHERS = "X-Design X-Signal Accept-Encoding X-Decoder Opinion Spinner assign codec X-Pinned Sidecar X-Tenant version"


@pytest.mark.parametrize("name", CREDENTIALS.split())
def test_what_is_named_like_a_credential_is_not_written_down(server: Emulator, name: str) -> None:
    """A header or parameter whose name has a word for credentials in it stays out of pickles and dumps."""
    chat = ChatAIFS(api_key=server.api_key, default_headers={name: "of-mine-1"}, default_query={name: "of-mine-2"})
    assert_no_secret(server, dumps(chat), pickle.dumps(chat).decode("latin-1"))


@pytest.mark.parametrize("name", OTHERS.split())
def test_what_only_looks_like_a_credential_is_kept(server: Emulator, name: str) -> None:
    """Letters of such a word within another one say nothing: pickles and dumps keep the header."""
    chat = ChatAIFS(api_key=server.api_key, default_headers={name: "kept"})
    assert pickle.loads(pickle.dumps(chat)).default_headers == {name: "kept"}  # noqa: S301 - our own bytes
    assert dumpd(chat)["kwargs"]["default_headers"] == {name: "kept"}


def test_what_is_given_is_sent(server: Emulator) -> None:
    """Headers and parameters go to the service all the same; but for an Authorization, which is the key's place."""
    with_secrets(server).invoke("Hello", extra_headers={"X-Third-Key": "of-mine-8"})
    sent = server.requests[0].headers
    assert sent["x-api-key"] == "of-mine-2"
    assert sent["x-third-key"] == "of-mine-8"
    assert sent["x-tenant"] == "acme"
    assert "of-mine-1" not in str(sent)


def test_a_pickle_works_elsewhere_and_says_what_it_lacks(
    server: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The pickle is a model with the key of where it is and the other headers; what was left out is in the log."""
    monkeypatch.setenv("AIFS_API_KEY", "not-this")
    with caplog.at_level(logging.WARNING):
        data = pickle.dumps(with_secrets(server, temperature=0.5))
    assert "Authorization, Cookie, X-Api-Key, X-Auth-Token, X-Client-Secret" in caplog.text
    assert "token" in caplog.text
    assert_no_secret(server, caplog.text)
    monkeypatch.setenv("AIFS_API_KEY", server.api_key)
    copy = pickle.loads(data)  # noqa: S301 - our own bytes
    copy.invoke("Hello")
    sent = server.requests[0]
    assert sent.headers["x-tenant"] == "acme"
    assert "x-api-key" not in sent.headers
    assert sent.body["temperature"] == 0.5
    again = copy.model_copy(update={"default_headers": HEADERS})
    again.invoke("Hello")
    assert server.requests[1].headers["x-api-key"] == "of-mine-2"


def test_copies_in_this_process_keep_everything(server: Emulator) -> None:
    """A copy that crosses no border has key and headers of the model it is made of."""
    with_secrets(server).model_copy(update={"temperature": 0.1}).invoke("Hello")
    with_secrets(server).model_copy(deep=True).invoke("Hello")
    assert [request.headers["x-api-key"] for request in server.requests] == ["of-mine-2"] * 2


def test_dumps_are_loaded_again(server: Emulator) -> None:
    """What `dumps` writes of a model, or of a chain with it, is the same when it is loaded; the key is not in it."""
    chat = ChatAIFS(
        model="gpt-4.1",
        api_key=server.api_key,
        temperature=0.5,
        image_size=64,
        limits=Limits(in_flight=2),
        image_limits=ImageLimits(max_bytes=9_999),
    )
    how: Any = {"valid_namespaces": ["langchain_aifs"], "secrets_from_env": True}
    copy = load(dumpd(chat), allowed_objects=[ChatAIFS], **how)
    assert type(copy) is ChatAIFS
    assert (copy.limits, copy.image_limits, copy.profile) == (chat.limits, chat.image_limits, chat.profile)
    assert dumpd(copy) == dumpd(chat)
    assert copy.openai_api_key == SecretStr(server.api_key)  # of the environment
    chain = ChatPromptTemplate.from_messages([("human", "{word}")]) | chat
    written = dumpd(chain)
    assert_no_secret(server, written)
    kinds: Any = [ChatAIFS, RunnableSequence, ChatPromptTemplate, HumanMessagePromptTemplate, PromptTemplate]
    assert load(written, allowed_objects=kinds, **how).invoke({"word": "Hello"}).text
    (request,) = server.requests
    assert (request.model, request.body["temperature"]) == ("gpt-4.1", 0.5)


def test_traces_tell_the_model_as_it_is() -> None:
    """What was written down of a model before an assignment is not told after it."""
    chat, tracer = ChatAIFS(model="gpt-4.1"), Tracer()
    chat.invoke("Hello", {"callbacks": [tracer]})
    chat.temperature = 0.25
    chat.invoke("Hello", {"callbacks": [tracer]})
    chat.model_name = "gpt-4.1-mini"
    chat.invoke("Hello", {"callbacks": [tracer]})
    kwargs = [serialized["kwargs"] for serialized, *_ in tracer.told]
    assert [told.get("temperature") for told in kwargs] == [None, 0.25, 0.25]
    assert [told["model_name"] for told in kwargs] == ["gpt-4.1", "gpt-4.1", "gpt-4.1-mini"]


class Keys(InMemoryCache):
    """A cache that shows its keys."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[Any] = []

    def lookup(self, prompt: str, llm_string: str) -> Any:
        """As it is, and remembered."""
        self.keys.append((prompt, llm_string))
        return super().lookup(prompt, llm_string)


def test_caches_tell_tenants_apart_and_keep_no_secret(server: Emulator) -> None:
    """Another header of a call is another question; what it says is not in the key."""
    cache = Keys()
    chat = with_secrets(server, cache=cache)
    for tenant in ("of-mine-a", "of-mine-b", "of-mine-a"):
        chat.invoke("Hello", extra_headers={"X-Tenant-Key": tenant})
    assert len(server.requests) == 2
    assert_no_secret(server, cache.keys)


SETTINGS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"default_headers": {"X-Tenant-Key": "of-mine-a"}}, {"default_headers": {"X-Tenant-Key": "of-mine-b"}}),
    ({"default_query": {"token": "of-mine-a"}}, {"default_query": {"token": "of-mine-b"}}),
    ({"default_headers": {"X-Tenant": "a"}}, {}),
    ({"output_version": "v1"}, {"output_version": "v0"}),
    ({"use_responses_api": True}, {}),
]


@pytest.mark.parametrize(("one", "other"), SETTINGS)
def test_caches_tell_models_apart(server: Emulator, one: dict[str, Any], other: dict[str, Any]) -> None:
    """So is what a model sends with every call, and how its answers are written; of the same settings, it is none."""
    cache = Keys()
    for settings in (one, other, dict(one), dict(other)):
        ChatAIFS(model="gpt-4.1", cache=cache, **settings).invoke("Hello")
    assert len(server.requests) == 2
    assert_no_secret(server, cache.keys)


def test_embeddings_show_no_secret(server: Emulator) -> None:
    """Of embeddings neither repr nor dump nor pickle has the key; headers of one's own they do not take."""
    embeddings = AIFSEmbeddings(api_key=server.api_key)
    assert_no_secret(server, repr(embeddings), embeddings, dumps(embeddings), vars(embeddings))
    assert_no_secret(server, pickle.dumps(embeddings).decode("latin-1"))
    assert pickle.loads(pickle.dumps(embeddings)).embed_query("Rechnung")  # noqa: S301 - our own bytes
    with pytest.raises(TypeError, match="default_headers"):
        AIFSEmbeddings(default_headers=HEADERS)
