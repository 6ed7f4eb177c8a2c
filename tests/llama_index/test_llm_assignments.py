"""What is assigned to an `AIFS`, or given to a copy of one, holds, or is an error at once."""

from __future__ import annotations

import asyncio
import copy
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager
from pydantic import ValidationError

from aifs_vision import AuthenticationError, Limits, ResidencyError, SettingsError
from llama_index_aifs import AIFS

if TYPE_CHECKING:
    from collections.abc import Callable

    from aifs_vision.emulator import Emulator

pytestmark = pytest.mark.usefixtures("environment")
HELLO = [ChatMessage("Hello")]
KEY = "a-key-that-nobody-may-see"


def assigned(llm: AIFS, **values: Any) -> AIFS:
    """The same one, with other values."""
    for name, value in values.items():
        setattr(llm, name, value)
    return llm


def copied(llm: AIFS, **values: Any) -> AIFS:
    """A copy with other values."""
    return llm.model_copy(update=values)


def copied_deeply(llm: AIFS, **values: Any) -> AIFS:
    """A deep copy with other values."""
    return llm.model_copy(update=values, deep=True)


WAYS = [assigned, copied, copied_deeply]
ways = pytest.mark.parametrize("way", WAYS)


def used(**options: Any) -> AIFS:
    """A model that has been asked before, so that there are connections."""
    llm = AIFS(**options)
    llm.chat(HELLO)
    asyncio.run(llm.achat(HELLO))
    return llm


@ways
def test_a_residency_is_never_a_false_statement(way: Callable[..., AIFS], server: Emulator) -> None:
    """It is refused where the model is elsewhere, and kept to where it is taken: nothing is sent against it."""
    llm = used(model="gpt-4.1")
    server.clear()
    with pytest.raises(ResidencyError):
        way(llm, residency="germany")
    assert llm.residency is None
    with pytest.raises(SettingsError, match="residency='mars'"):
        way(llm, residency="mars")
    guarded = way(used(), residency="germany")
    assert guarded.chat(HELLO).message.content
    server.clear()
    for attempt in (
        lambda: guarded.chat(HELLO, model="gpt-4.1"),
        lambda: asyncio.run(guarded.achat(HELLO, model="gpt-4.1")),
        lambda: way(guarded, model="gpt-4.1"),
    ):
        with pytest.raises(ResidencyError):
            attempt()
    assert guarded.model != "gpt-4.1"
    assert not server.requests


@ways
def test_the_queue_and_back(way: Callable[..., AIFS], server: Emulator) -> None:
    """Requests go to the queue from then on, and to the service itself again."""
    queued = way(used(), queue=True)
    server.clear()
    queued.chat(HELLO)
    back = way(queued, queue=False)
    back.chat(HELLO)
    assert [request.path.split("/")[1] for request in server.requests] == ["queue", "v2"]
    with pytest.raises(SettingsError, match="queue"):
        way(back, queue="now")


@ways
def test_another_key_or_address(way: Callable[..., AIFS], server: Emulator) -> None:
    """Both are used from then on; the key shows as little as any other, and stays where something else is changed."""
    llm = way(used(), api_key=KEY)
    with pytest.raises(AuthenticationError):
        llm.chat(HELLO)
    shown = f"{llm!r} {llm.to_dict()} {vars(llm)} {llm.__pydantic_private__} {pickle.dumps(llm)!r}"
    assert KEY not in shown
    with pytest.raises(AuthenticationError):
        way(llm, timeout=9.0).chat(HELLO)
    assert way(llm, api_key=server.api_key).chat(HELLO).message.content
    with pytest.raises(Exception, match=r"127\.0\.0\.1:9\b"):
        way(used(limits=Limits(patience=1)), api_base="http://127.0.0.1:9/v2").chat(HELLO)


@ways
def test_it_stays_where_it_is(way: Callable[..., AIFS], server: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another environment, or one without a key, changes nothing of where requests go."""
    llm = used()
    monkeypatch.setenv("AIFS_BASE_URL", "http://127.0.0.1:9/v2")
    assert way(llm, timeout=9.0).chat(HELLO).message.content
    monkeypatch.delenv("AIFS_API_KEY")
    llm = way(llm, temperature=0.3, max_tokens=5)
    llm.chat(HELLO)
    assert (server.requests[-1].body["temperature"], server.requests[-1].body["max_tokens"]) == (0.3, 5)
    with pytest.raises(SettingsError, match="AIFS_API_KEY"):
        way(llm, timeout=8.0)


@ways
def test_headers_and_retries(way: Callable[..., AIFS], server: Emulator) -> None:
    """Headers are sent from then on; retries are the transport's alone, whatever is assigned."""
    llm = way(used(), default_headers={"x-team": "a"}, max_retries=5)
    llm.chat(HELLO)
    assert server.requests[-1].headers["x-team"] == "a"
    assert llm.max_retries == 0
    server.clear()
    server.fail(400)
    with pytest.raises(Exception, match="400"):
        llm.chat(HELLO)
    assert len(server.requests) == 1


@ways
@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("temperature", 5, ValidationError),
        ("image_size", 3, SettingsError),
        ("frames", [], SettingsError),
        ("timeout", -1, SettingsError),
        ("plan", "gratis", SettingsError),
        ("limits", 3, SettingsError),
        ("model", 3, TypeError),
        ("model", None, TypeError),
        ("model", "", SettingsError),
        ("additional_kwargs", {"model": 3}, TypeError),
    ],
)
def test_what_cannot_be_right_is_refused(way: Callable[..., AIFS], name: str, value: Any, error: Any) -> None:
    """The constructor's own checks, and the object is as it was."""
    llm = AIFS()
    before = llm.to_dict()
    with pytest.raises(error):
        way(llm, **{name: value})
    assert llm.to_dict() == before
    with pytest.raises(error):
        AIFS(**{name: value})


def test_what_is_no_setting_is_refused() -> None:
    """A misspelt name is an error, as it is for the constructor."""
    with pytest.raises(TypeError, match="temprature"):
        AIFS().model_copy(update={"temprature": 0.5})
    with pytest.raises(ValueError, match="temprature"):
        AIFS().temprature = 0.5
    with pytest.raises(TypeError, match="model=3 is not the name of a model"):
        AIFS().chat(HELLO, model=3)


@ways
def test_a_model_in_additional_kwargs(way: Callable[..., AIFS], server: Emulator) -> None:
    """It is followed as one that is assigned by its own name is, and left again."""
    llm = way(used(), additional_kwargs={"model": "o3"})
    assert llm.metadata.context_window == AIFS("o3").metadata.context_window
    llm.chat(HELLO)
    assert (server.requests[-1].body["model"], "temperature" in server.requests[-1].body) == ("o3", False)
    llm = way(llm, additional_kwargs={})
    llm.chat(HELLO)
    assert server.requests[-1].body["temperature"] == 0.1
    assert llm.metadata == AIFS().metadata


def test_copies_of_a_used_model(server: Emulator) -> None:
    """All of them answer, and deep ones have settings of their own."""
    llm = used(additional_kwargs={"seed": 1}, callback_manager=CallbackManager())
    deep = [copy.deepcopy(llm), llm.model_copy(deep=True), llm.model_copy(update={"temperature": 0.5}, deep=True)]
    for twin in (*deep, copy.copy(llm), llm.model_copy()):
        assert twin.chat(HELLO).message.content
    for twin in deep:
        twin.additional_kwargs["seed"] = 2
    llm.chat(HELLO)
    assert server.requests[-1].body["seed"] == 1
    assert [twin.temperature for twin in deep] == [0.1, 0.1, 0.5]
