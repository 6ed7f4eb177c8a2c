"""Structured output by TypedDict and JSON schema: the answer is checked by them, as by a pydantic class."""

from __future__ import annotations

import json
import typing
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import pytest
import typing_extensions
from typing_extensions import TypedDict

from aifs_vision.emulator import Emulator
from langchain_aifs import ChatAIFS, StructuredOutputError
from tests.langchain.scripted import called

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aifs_vision.emulator import ChatRequest

METHODS = ("json_schema", "function_calling", "json_mode")


class Line(typing.TypedDict):
    """A line of a receipt; of `typing`, which pydantic alone does not take before Python 3.12."""

    what: str
    price: float


class Receipt(TypedDict):
    """What a receipt says."""

    shop: Annotated[str, ..., "its name"]
    kind: Literal["till", "invoice"]
    lines: list[Line]
    tip: Annotated[Optional[float], None, "in EUR"]  # noqa: UP045 - as people write it


class Base(typing_extensions.TypedDict, total=False):
    """Nothing of it is needed."""

    shop: str


class Grown(Base):
    """One more field, which is."""

    total: float


class Voucher(TypedDict):
    """A voucher.

    Args:
        code: as it is printed.
    """

    code: typing_extensions.NotRequired[str]
    till: typing_extensions.Required[Annotated[int, ..., "its number"]]
    note: Annotated[typing_extensions.NotRequired[str], None, "by hand"]
    parts: typing_extensions.NotRequired[list[Grown]]


SCHEMA: dict[str, Any] = {
    "title": "Receipt",
    "type": "object",
    "properties": {
        "shop": {"type": "string"},
        "kind": {"enum": ["till", "invoice"]},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/Line"}},
        "tip": {"type": ["number", "null"]},
    },
    "required": ["shop", "kind", "lines"],
    "$defs": {
        "Line": {
            "type": "object",
            "properties": {"what": {"type": "string"}, "price": {"type": "number"}},
            "required": ["what", "price"],
        }
    },
}
PARAMETERS = {key: value for key, value in SCHEMA.items() if key != "title"}
SCHEMAS: dict[str, Any] = {
    "TypedDict": Receipt,
    "JSON schema": SCHEMA,
    "of a request": {"name": "Receipt", "schema": SCHEMA, "strict": True},
    "a function": {"name": "Receipt", "description": "What it says.", "parameters": PARAMETERS},
    "a tool": {"type": "function", "function": {"name": "Receipt", "parameters": PARAMETERS}},
    "Anthropic's": {"name": "Receipt", "input_schema": PARAMETERS},
    "Bedrock's": {"toolSpec": {"name": "Receipt", "inputSchema": {"json": PARAMETERS}}},
}
GOOD: dict[str, Any] = {"shop": "Dry Anchor", "kind": "till", "lines": [{"what": "tea", "price": 2.5}]}
WRONG: dict[str, dict[str, Any]] = {
    "shop": {"shop": 3},
    "kind": {"kind": "bill"},
    "price": {"lines": [{"what": "tea", "price": "much"}]},
    "what": {"lines": [{"price": 2.5}]},
    "tip": {"tip": "none"},
}


class Model:
    """A model that says what the test wants it to."""

    said: Any = None

    def __call__(self, request: ChatRequest) -> str | dict[str, Any]:
        """The data: in a call, where a function is asked for."""
        tools = request.body.get("tools")
        if tools:
            return {"tool_calls": [called(tools[0]["function"]["name"], self.said)]}
        return json.dumps(self.said)


MODEL = Model()


@pytest.fixture(scope="module", autouse=True)
def service() -> Iterator[Emulator]:
    """The service of that model."""
    with Emulator(ocr=False, reply=MODEL) as server:
        yield server


@pytest.fixture(autouse=True)
def _environment(service: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFS_BASE_URL", service.base_url)
    monkeypatch.setenv("AIFS_API_KEY", service.api_key)


def asked(schema: Any, said: Any, method: Any, **how: Any) -> Any:
    """What comes of an answer."""
    MODEL.said = said
    return ChatAIFS(model="gpt-4.1").with_structured_output(schema, method=method, **how).invoke("Read it.")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("schema", SCHEMAS)
def test_what_fits_is_given_as_it_is(schema: str, method: Any) -> None:
    """Data that fits comes as a dict, with what may be missing or null, missing or null."""
    for more in ({}, {"tip": None}, {"tip": 0.5}):
        assert asked(SCHEMAS[schema], {**GOOD, **more}, method) == {**GOOD, **more}


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("field", WRONG)
def test_what_does_not_fit_is_an_error(schema: str, field: str) -> None:
    """A wrong type, a value that is no choice, and a field that is missing are errors that name it, at every depth."""
    for method in METHODS if schema == "TypedDict" else METHODS[:2]:
        with pytest.raises(StructuredOutputError, match=rf"does not fit the schema.*{field}") as raised:
            asked(SCHEMAS[schema], {**GOOD, **WRONG[field]}, method)
        assert raised.value.raw.usage_metadata


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("schema", ["TypedDict", "JSON schema"])
def test_the_error_stands_beside_the_raw_answer(schema: str, method: Any) -> None:
    """With `include_raw=True` the error is `parsing_error`, there is no data, and the answer is kept."""
    said = asked(SCHEMAS[schema], {"shop": "Dry Anchor"}, method, include_raw=True)
    assert said["parsed"] is None
    assert isinstance(said["parsing_error"], StructuredOutputError)
    assert "kind" in str(said["parsing_error"])
    assert said["raw"].usage_metadata


@pytest.mark.parametrize("said", [[1, 2], "words", 3, None])
@pytest.mark.parametrize("schema", ["TypedDict", "JSON schema"])
def test_what_is_no_object_is_an_error(schema: str, said: Any) -> None:
    """Lists, texts and numbers are no data of a schema of objects."""
    with pytest.raises(StructuredOutputError, match="does not fit"):
        asked(SCHEMAS[schema], said, "json_schema")


def test_inherited_fields_keep_what_they_are() -> None:
    """A TypedDict with `total=False` has fields that may be missing; one that is made of it may have others."""
    assert asked(Grown, {"total": 3}, "json_mode") == {"total": 3}
    with pytest.raises(StructuredOutputError, match="total"):
        asked(Grown, {"shop": "Dry Anchor"}, "json_mode")


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"title": "A", "type": "objekt", "properties": {}}, "no JSON schema: at .*type"),
        ({"title": "A", "type": "object", "properties": {"a": {"required": "b"}}}, "no JSON schema: at .*required"),
        ({"title": "A", "type": 5, "properties": {}}, "no JSON schema: at .*type"),
        ({"title": "A", "type": "array", "items": {"type": "string"}}, "data are an object"),
        ({"title": "A", "type": ["array", "null"], "items": {"type": "string"}}, "data are an object"),
        ({"$schema": 5, "title": "A", "type": "object", "properties": {}}, "no JSON schema: .*5"),
        ({"name": "a", "parameters": 5}, "5 under 'parameters'"),
        ({"type": "function", "function": 5}, "5 under 'function'"),
        ({"type": "json_schema", "json_schema": {"name": "a", "schema": 5}}, "5 under 'schema'"),
        ({"title": "A", "type": "object", "properties": []}, "no JSON schema: at .*properties"),
        ({"title": "A", "type": "object", "properties": {"a": {"anyOf": 5}}}, "no JSON schema: at .*anyOf"),
    ],
)
def test_a_schema_that_is_none_is_said_at_once(schema: dict[str, Any], words: str) -> None:
    """What cannot be a JSON schema is an error before anything is asked."""
    with pytest.raises(ValueError, match=words):
        ChatAIFS().with_structured_output(schema)
    with pytest.raises(ValueError, match=words):
        ChatAIFS().with_structured_output(schema, strict=True)


def test_a_schema_without_named_fields_is_sent_whole(server: Emulator) -> None:
    """What LangChain takes for no schema, since it names no field, is asked for and checked as it stands."""
    schema = {"title": "Sums", "type": "object", "additionalProperties": {"type": "number"}}
    chat = ChatAIFS(base_url=server.base_url, api_key=server.api_key)
    chat.with_structured_output(schema, method="json_schema").invoke("?")
    sent = server.requests[0].body["response_format"]["json_schema"]["schema"]
    assert sent["additionalProperties"] == {"type": "number"}
    assert asked(schema, {"a": 5}, "json_schema") == {"a": 5}
    with pytest.raises(StructuredOutputError, match="number"):
        asked(schema, {"a": "b"}, "json_schema")
    with pytest.raises(ValueError, match="not with additionalProperties alone"):
        chat.with_structured_output(schema, strict=True)


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
@pytest.mark.parametrize("strict", [None, True])
@pytest.mark.parametrize(
    "schema",
    [
        {"title": "A", "type": ["object", "null"], "properties": {"a": {"type": "number"}}},
        {"title": "A", "type": "object", "properties": {"a": {"type": "number"}}, "schema": "of somebody"},
        {"type": "function", "name": "A", "parameters": {"type": "object", "properties": {"a": {"type": "number"}}}},
        {"type": "function", "function": {"name": "A"}},
        {"name": "A", "description": "Something.", "parameters": None},
        {"name": "A"},
        {},
    ],
)
def test_schemas_in_odd_forms_are_schemas(schema: dict[str, Any], method: Any, strict: bool | None) -> None:  # noqa: FBT001
    """Forms that LangChain stumbles over, and functions that take nothing, are asked for as others are."""
    said = {"a": 5} if "number" in str(schema) else {}
    assert asked(schema, said, method, strict=strict) == said


@pytest.mark.parametrize("address", ["https://a.example/b.json", "#/$defs/B"])
def test_no_schema_is_fetched(address: str) -> None:
    """What a schema refers to and does not hold is an error that keeps the answer; nobody is asked for it."""
    schema = {"title": "A", "type": "object", "properties": {"a": {"$ref": address}}}
    with pytest.raises(StructuredOutputError, match="refers to what is not in it"):
        asked(schema, {"a": 1}, "json_mode")


def a_function() -> Callable[..., Any]:
    """A function whose arguments are the data."""

    def receipt(shop: str, total: float) -> None:
        """What a receipt says."""

    return receipt


def test_functions_are_schemas_as_well() -> None:
    """Of a Python function the arguments are the data."""
    assert asked(a_function(), {"shop": "a", "total": 1}, "function_calling") == {"shop": "a", "total": 1}
    with pytest.raises(StructuredOutputError, match="total"):
        asked(a_function(), {"shop": "a", "total": "b"}, "function_calling")


@pytest.mark.parametrize("method", METHODS)
def test_fields_that_are_not_required_may_be_missing(service: Emulator, method: Any) -> None:
    """`NotRequired` and `total=False` are told to the model, with descriptions, and kept to when it answers."""
    for fits in ({"till": 1}, {"code": "a", "till": 1, "parts": [{"total": 1.0}]}):
        assert asked(Voucher, fits, method) == fits
    for wrong in ({"code": "a"}, {"till": 1, "code": 2}, {"till": 1, "parts": [{"shop": "x"}]}):
        with pytest.raises(StructuredOutputError):
            asked(Voucher, wrong, method)
    body = service.requests[-1].body
    if method == "json_mode":
        return
    told = body["tools"][0]["function"] if "tools" in body else body["response_format"]["json_schema"]
    rules = told["parameters" if "tools" in body else "schema"]
    assert (told["name"], told["description"], rules["required"]) == ("Voucher", "A voucher.", ["till"])
    said = {name: field.get("description") for name, field in rules["properties"].items()}
    assert said == {"code": "as it is printed.", "till": "its number", "note": "by hand", "parts": None}
    assert rules["properties"]["parts"]["items"]["required"] == ["total"]
