"""Whether a host is told to keep strictly to a schema: where that alone makes it more than a hint, and takes it."""

from __future__ import annotations

import json
from datetime import date
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, Optional, Union

import pytest
from pydantic import BaseModel, ConfigDict, Field, create_model
from typing_extensions import TypedDict

from langchain_aifs import ChatAIFS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aifs_vision.emulator import Emulator

pytestmark = pytest.mark.usefixtures("environment")


class Kind(Enum):
    """What it is."""

    TILL = "till"
    INVOICE = "invoice"


class Line(BaseModel):
    """A line."""

    what: str = Field(description="as it is printed")
    price: float


class Receipt(BaseModel):
    """What a receipt says."""

    shop: str
    tip: Optional[float]  # noqa: UP045 - as people write it
    kind: Kind
    paid: Literal["cash", "card"]
    lines: list[Line]
    largest: Line = Field(description="of them")
    note: Union[str, Line, None]  # noqa: UP007 - as above


def sent(server: Emulator, schema: Any, model: str = "gpt-4.1", **how: Any) -> dict[str, Any]:
    """What is asked for of a model."""
    ChatAIFS(model=model).with_structured_output(schema, include_raw=True, **how).invoke("Read it.")
    asked: dict[str, Any] = server.requests[-1].body["response_format"]["json_schema"]
    return asked


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """All objects that a schema speaks of."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        schema = list(schema.values())
    if isinstance(schema, list):
        for inner in schema:
            yield from objects(inner)


@pytest.mark.parametrize("model", ["gpt-4.1", "gpt-4o-mini", "gpt-5", "o3"])
def test_azure_is_told_to_keep_to_a_class(server: Emulator, model: str) -> None:
    """A class that Azure takes is more than a hint there; it means what it has meant, with no other fields."""
    asked = sent(server, Receipt, model)
    assert asked["strict"] is True
    found = list(objects(asked["schema"]))
    assert len(found) == 4
    for one in found:
        assert one["additionalProperties"] is False
        assert set(one["required"]) == set(one["properties"])
    loose = sent(server, Receipt, model, strict=False)
    assert loose["strict"] is False
    assert [one["required"] for one in objects(loose["schema"])] == [one["required"] for one in found]


def deep(levels: int) -> type[BaseModel]:
    """A class of so many objects within each other."""
    made: Any = str
    for _ in range(levels):
        made = create_model("Level", inner=(made, ...))
    return made  # type: ignore[no-any-return]


class Slip(BaseModel):
    """Another object."""

    what: str


class Open(BaseModel):
    """Takes more fields."""

    model_config = ConfigDict(extra="allow")
    shop: str


class Node(BaseModel):
    """Holds itself."""

    inner: list[Node]


LONG: Any = Literal[tuple("x" * 99 + str(n) for n in range(90))]
LOOSE: dict[str, type[BaseModel]] = {
    "a field that may be missing": create_model("A", shop=(str, ""), total=(float, ...)),
    "a default below": create_model("A", item=(create_model("B", what=(str, "x")), ...)),
    "a bound": create_model("A", total=(float, Field(ge=0))),
    "a length": create_model("A", shop=(str, Field(max_length=5))),
    "a number of items": create_model("A", shops=(list[str], Field(min_length=1))),
    "a pattern": create_model("A", shop=(str, Field(pattern="a+"))),
    "a format": create_model("A", day=(date, ...)),
    "anything": create_model("A", shop=(Any, ...)),
    "a list of anything": create_model("A", shops=(list[Any], ...)),
    "a mapping": create_model("A", prices=(dict[str, float], ...)),
    "a pair": create_model("A", both=(tuple[str, int], ...)),
    "two objects to choose from": create_model("A", one=(Line | Slip, ...)),
    "two lists to choose from": create_model("A", one=(list[str] | list[float], ...)),
    "more fields": Open,
    "itself": Node,
    "no field": create_model("A"),
    "another alphabet": create_model("A", total=(float, Field(alias="größe"))),
    "too many fields": create_model("A", **{f"f{n}": (str, ...) for n in range(101)}),  # type: ignore[call-overload]
    "too long choices": create_model("A", word=(LONG, ...)),
    "too deep": deep(6),
}


ODD: list[dict[str, Any]] = [
    {"type": ["string", "null"]},
    {"type": "string", "enum": ["a", None]},
    {"anyOf": [True, {"type": "string"}]},
]


@pytest.mark.parametrize("schema", ODD)
def test_schemas_of_every_form_can_be_asked_for(server: Emulator, schema: dict[str, Any]) -> None:
    """What JSON schema allows, and few write, is a hint."""

    class Odd(BaseModel):
        a: Any = Field(json_schema_extra=lambda made: made.update(schema))

    message = {"role": "assistant", "content": '{"a": "a"}'}
    server.fail(200, body=json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}))
    assert ChatAIFS(model="gpt-4.1").with_structured_output(Odd).invoke("Hello") == Odd(a="a")
    assert "strict" not in server.requests[0].body["response_format"]["json_schema"]


@pytest.mark.parametrize("what", LOOSE)
def test_a_class_that_azure_would_refuse_is_a_hint(server: Emulator, what: str) -> None:
    """Where strictness would be refused, or change what the class means, it is asked for as before."""
    assert "strict" not in sent(server, LOOSE[what])


def test_the_limits_are_not_too_near(server: Emulator) -> None:
    """As many fields and levels as Azure takes are strict."""
    assert sent(server, deep(4))["strict"] is True
    many: Any = create_model("A", **{f"f{n}": (str, ...) for n in range(100)})  # type: ignore[call-overload]
    assert sent(server, many)["strict"] is True


@pytest.mark.parametrize("model", ["Qwen3-VL-30B-A3B-Instruct-FP8", "gemini-2.5-flash"])
def test_other_hosts_are_told_nothing(server: Emulator, model: str) -> None:
    """Hosts that keep to every schema are asked as before; strictness is for whoever asks for it."""
    assert "strict" not in sent(server, Receipt, model)
    assert sent(server, Receipt, model, strict=True)["strict"] is True


def test_other_schemas_and_tools_are_as_they_are_given(server: Emulator) -> None:
    """A TypedDict, a JSON schema or a function to call says itself how strict it is; so do tools beside a class."""

    class Ticket(TypedDict):
        """A ticket."""

        shop: str

    schema = {"title": "Ticket", "type": "object", "properties": {"shop": {"type": "string"}}, "required": ["shop"]}
    assert "strict" not in sent(server, Ticket)
    assert "strict" not in sent(server, schema)
    assert "strict" not in sent(server, Receipt, tools=[Line])
    assert "strict" not in server.requests[-1].body["tools"][0]["function"]
    chat = ChatAIFS(model="gpt-4.1")
    chat.with_structured_output(Receipt, method="function_calling", include_raw=True).invoke("Read it.")
    assert "strict" not in server.requests[-1].body["tools"][0]["function"]
