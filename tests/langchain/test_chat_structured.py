"""Structured output: data or an error that keeps the answer, by every method."""

from __future__ import annotations

import asyncio
import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core import exceptions
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from pydantic import BaseModel, Field, field_validator
from typing_extensions import TypedDict

from aifs_vision import AIFSError
from aifs_vision.emulator import Emulator
from aifs_vision.testing import isolated
from langchain_aifs import ChatAIFS, RefusedOutputError, StructuredOutputError, image_block
from tests.langchain.scripted import called
from tests.pictures import corners

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aifs_vision.emulator import ChatRequest

METHODS = ("json_schema", "function_calling", "json_mode")


class Receipt(BaseModel):
    """What a receipt says."""

    shop: str
    total: float = Field(description="in EUR")


class ReceiptDict(TypedDict):
    """What a receipt says."""

    shop: str
    total: float


DATA = {"shop": "Dry Anchor", "total": 12.5}
TEXT = json.dumps(DATA)
SCHEMAS: dict[str, Any] = {
    "pydantic": Receipt,
    "TypedDict": ReceiptDict,
    "JSON schema": {"title": "Receipt", "description": "What a receipt says.", **Receipt.model_json_schema()},
}


class Script:
    """A model that answers as the test wants it to: `said` is text, or what stands in the call of the function."""

    def __init__(self) -> None:
        self.said: str | dict[str, Any] = TEXT
        self.finish: str | None = None
        self.asked: list[ChatRequest] = []

    def __call__(self, asked: ChatRequest) -> str | dict[str, Any] | None:
        """The answer to a request: a call, where a function is asked for."""
        self.asked.append(asked)
        if isinstance(self.said, dict):
            return self.said
        finish = {"finish_reason": self.finish} if self.finish else {}
        tools = asked.body.get("tools")
        if not tools:
            return {"content": self.said, **finish}
        call = called(tools[0]["function"]["name"], {})
        call["function"]["arguments"] = self.said
        return {"tool_calls": [call], **finish}


@pytest.fixture
def script() -> Script:
    """What the model says."""
    return Script()


@pytest.fixture
def chat(script: Script) -> Iterator[ChatAIFS]:
    """A chat model that can all three methods."""
    with Emulator(ocr=False, reply=script) as server, isolated():
        yield ChatAIFS(model="gpt-4.1", base_url=server.base_url, api_key=server.api_key)


def every_way(chat: ChatAIFS, schema: Any, question: Any = "Read it.", **how: Any) -> list[Callable[[], Any]]:
    """invoke, ainvoke, stream and astream of the same question; streams give the last of what they give."""
    asker = chat.with_structured_output(schema, **how)

    async def astreamed() -> Any:
        return [data async for data in asker.astream(question)][-1]

    return [
        lambda: asker.invoke(question),
        lambda: asyncio.run(asker.ainvoke(question)),
        lambda: list(asker.stream(question))[-1],
        lambda: asyncio.run(astreamed()),
    ]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("schema", SCHEMAS)
def test_data_comes_by_every_method(chat: ChatAIFS, method: Any, schema: str) -> None:
    """A pydantic class gives its validated object, other schemas a dict; with a picture in the question."""
    question = [HumanMessage([{"type": "text", "text": "Read it."}, image_block(corners())])]
    wanted = Receipt(**DATA) if schema == "pydantic" else DATA  # type: ignore[arg-type]
    for way in every_way(chat, SCHEMAS[schema], question, method=method):
        assert way() == wanted


@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
@pytest.mark.parametrize(
    "said", ["```json\n{}\n```", "Here it is:\n\n```\n{}\n```\nAnything else?", "<think>Hm: {{}}</think>{}", "Sure: {}"]
)
def test_fences_and_chatter_are_tolerated(chat: ChatAIFS, script: Script, method: Any, said: str) -> None:
    """JSON in a fence, among words or after thoughts is read."""
    script.said = said.replace("{}", TEXT).replace("{{}}", "braces")
    for way in every_way(chat, Receipt, method=method):
        assert way() == Receipt(shop="Dry Anchor", total=12.5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("finish", ["length", None])
def test_what_is_cut_off_is_never_mended(
    chat: ChatAIFS, script: Script, method: Any, schema: str, finish: str | None
) -> None:
    """Truncated JSON is an error in every case, by its finish_reason, or by itself where that lies."""
    script.said, script.finish = TEXT[:-3] if finish is None else TEXT, finish
    for way in every_way(chat, SCHEMAS[schema], method=method):
        with pytest.raises(StructuredOutputError, match="cut off" if finish else "cut off|cannot be read") as raised:
            way()
        assert isinstance(raised.value, OutputParserException)
        assert isinstance(raised.value, AIFSError)


@pytest.mark.parametrize("said", ["I cannot read that.", '{"shop": 3}', "[1, 2]", '{"total": "much", "shop": "x"}'])
def test_what_does_not_fit_is_an_error_that_keeps_the_answer(chat: ChatAIFS, script: Script, said: str) -> None:
    """Prose or data that does not fit raises an error with text, usage and cost of what was paid for."""
    script.said = said
    for method in ("json_schema", "json_mode"):
        for way in every_way(chat, Receipt, method=method):
            with pytest.raises(StructuredOutputError) as raised:
                way()
            raw = raised.value.raw
            assert raw.text == said == raised.value.llm_output
            assert raw.usage_metadata
            assert raw.response_metadata["cost_eur"]
            assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)  # noqa: S301 - our own bytes


@pytest.mark.parametrize("said", ["I cannot read that.", {"tool_calls": [called("other", {})]}])
def test_a_function_that_is_not_called_is_an_error(chat: ChatAIFS, script: Script, said: Any) -> None:
    """Function calling without a call of the function is an error that says so, never None."""
    script.said = {"content": said} if isinstance(said, str) else said
    for way in every_way(chat, Receipt, method="function_calling"):
        with pytest.raises(StructuredOutputError, match="was to call 'Receipt'"):
            way()


def test_a_refusal_is_an_error_of_its_own(chat: ChatAIFS, script: Script) -> None:
    """A model or filter that declines is told apart from data that does not fit."""
    script.said = {"content": None, "refusal": "I do not do receipts."}
    with pytest.raises(RefusedOutputError, match="do receipts") as raised:
        chat.with_structured_output(Receipt).invoke("Read it.")
    refusal = getattr(exceptions, "ModelRefusalError", None)
    assert refusal is None or isinstance(raised.value, refusal)
    script.said = {"content": "", "finish_reason": "content_filter"}
    with pytest.raises(RefusedOutputError):
        chat.with_structured_output(Receipt).invoke("Read it.")


@pytest.mark.parametrize("method", METHODS)
def test_raw_is_kept_beside_the_data(chat: ChatAIFS, script: Script, method: Any) -> None:
    """include_raw=True gives message and data, or message and error: nothing that was paid for is lost."""
    wanted = Receipt(shop="Dry Anchor", total=12.5)
    for way in every_way(chat, Receipt, method=method, include_raw=True):
        good = way()
        assert (good["parsed"], good["parsing_error"]) == (wanted, None)
        assert isinstance(good["raw"], AIMessage)
    script.said = '{"shop": '
    for way in every_way(chat, Receipt, method=method, include_raw=True):
        assert_error_beside_answer(way(), None if method == "function_calling" else '{"shop": ')


def assert_error_beside_answer(given: dict[str, Any], said: str | None) -> None:
    """What include_raw=True gives has the error, and the answer with what it cost."""
    assert given["parsed"] is None
    assert isinstance(given["parsing_error"], StructuredOutputError)
    assert given["raw"].usage_metadata
    assert given["raw"].response_metadata["cost_eur"]
    assert said is None or given["raw"].text == said


@pytest.mark.parametrize("method", METHODS)
def test_events_tell_raw_and_error_too(chat: ChatAIFS, script: Script, method: Any) -> None:
    """The events of a chain end with what include_raw=True gives, also where the answer does not fit."""
    chain = ChatPromptTemplate.from_messages([("human", "{what}")]) | chat.with_structured_output(
        Receipt, method=method, include_raw=True
    )

    async def told() -> list[Any]:
        return [event async for event in chain.astream_events({"what": "Read it."}, version="v2")]

    script.said = '{"shop": '
    last = asyncio.run(told())[-1]
    assert last["event"] == "on_chain_end"
    assert_error_beside_answer(last["data"]["output"], None)


def test_an_error_of_the_class_itself_is_beside_the_answer_too(chat: ChatAIFS) -> None:
    """What a validator raises that is no ValueError loses no answer either."""

    class Odd(BaseModel):
        """Its validator has a fault."""

        shop: str

        @field_validator("shop")
        @classmethod
        def _known(cls, shop: str) -> str:
            known: dict[str, str] = {}
            return known[shop]

    for way in every_way(chat, Odd, include_raw=True):
        given = way()
        assert isinstance(given["parsing_error"], StructuredOutputError)
        assert (given["parsed"], given["raw"].text) == (None, TEXT)


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        ("gpt-4.1", "json_schema"),
        ("gemini-2.5-flash", "json_schema"),
        ("Qwen3-VL-30B-A3B-Instruct-FP8", "json_schema"),
        ("claude-sonnet-4", "tools"),
        ("o1-mini", "json_object"),
    ],
)
def test_the_usual_method_is_the_models(chat: ChatAIFS, script: Script, model: str, sent: str) -> None:
    """Without `method=` data is asked for as the catalogue says the model can; a model that can neither reads how."""
    other = chat.model_copy(update={"model_name": model})
    other.with_structured_output(Receipt).invoke("Read it.")
    body = script.asked[0].body
    assert ("tools" in body) is (sent == "tools")
    assert body.get("response_format", {}).get("type") == (None if sent == "tools" else sent)
    assert ("fits this JSON schema" in str(body["messages"])) is (sent == "json_object")


def test_a_schema_is_sent_as_such(chat: ChatAIFS, script: Script) -> None:
    """The schema goes with its name into response_format, strict when asked for; a bound class is turned into one."""
    chat.with_structured_output(Receipt, strict=True).invoke("Read it.")
    chat.bind(response_format=Receipt).invoke("Read it.")
    chat.bind(response_format={"type": "json_object"}).invoke("Read it.")
    first, second, third = (asked.body["response_format"] for asked in script.asked)
    assert first["json_schema"]["name"] == second["json_schema"]["name"] == "Receipt"
    assert first["json_schema"]["strict"] is True
    assert set(first["json_schema"]["schema"]["properties"]) == {"shop", "total"}
    assert third == {"type": "json_object"}


def test_other_tools_may_be_called_before(chat: ChatAIFS, script: Script) -> None:
    """With `tools=` a model may call one of these first: there is no data yet, and no error."""

    @tool
    def look_up(shop: str) -> str:
        """Looks up a shop."""
        return shop

    for method in ("json_schema", "function_calling"):
        script.said = {"tool_calls": [called("look_up", {"shop": "x"})]}
        asker = chat.with_structured_output(Receipt, method=method, tools=[look_up], include_raw=True)
        given = asker.invoke("Read it.")
        assert (given["parsed"], given["parsing_error"]) == (None, None)
        assert given["raw"].tool_calls[0]["name"] == "look_up"
    assert script.asked[-1].body["tool_choice"] == "required"
    assert list(asker.stream("Read it."))[-1].keys() <= {"raw", "parsed", "parsing_error"}
    script.said = TEXT
    assert asker.invoke("Read it.")["parsed"] == Receipt(**DATA)  # type: ignore[arg-type]


def test_wrong_arguments_are_errors(chat: ChatAIFS) -> None:
    """A method that is none, one without its schema, and a strictness that json_mode has not are ValueErrors."""
    for schema, how in (
        (Receipt, {"method": "guessing"}),
        (None, {"method": "json_schema"}),
        (None, {"method": "function_calling"}),
        (Receipt, {"method": "json_mode", "strict": True}),
    ):
        with pytest.raises(ValueError, match=r"method|schema"):
            chat.with_structured_output(schema, **how)
    assert chat.with_structured_output(method="json_mode").invoke("Read it.") == DATA
