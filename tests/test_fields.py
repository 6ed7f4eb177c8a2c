"""What an index gets of a reading: content and flat fields; and reports that add up."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel, computed_field, create_model

from aifs_vision import Limits, Reading, ReadingIds, Task, Vision
from aifs_vision.emulator import Emulator
from tests.pictures import corners, saved

if TYPE_CHECKING:
    from aifs_vision.emulator import ChatRequest


class Address(BaseModel):
    """A place."""

    city: str
    lines: list[str] = []


class Invoice(BaseModel):
    """A schema with everything that has to be flattened."""

    model_config = ConfigDict(extra="allow")

    source: str
    total: Decimal
    paid: bool
    due: str | None = None
    buyer: Address | None = None
    items: list[str] = []


SAID = {
    "source": "web shop",
    "total": "12.50",
    "paid": True,
    "buyer": {"city": "Bonn", "lines": ["a", "b"]},
    "items": ["x"],
    "unasked": "more",
}


def read(said: str, task: str | Task) -> Any:
    """The reading of a picture of which the model says so, and the report."""
    with Emulator(ocr=False, reply=lambda _: said) as server:
        vision = Vision(base_url=server.base_url, api_key=server.api_key, limits=Limits())
        run = vision.read_many([saved(corners())], task, on_error="keep")
        (reading,) = run
        return reading, run.report


def holding(data: BaseModel) -> Reading:
    """A reading with these data."""
    return Reading(status="ok", source="a.png", model="m", task="t", prompt_version="1", data=data)


def test_data_are_flat_fields_and_json() -> None:
    """Scalars of the data stand flat beside the metadata, under names of their own; the content has all as JSON."""
    reading, _ = read(f"Here it is: ```json\n{json.dumps(SAID)}\n```", Task.extract(Invoice))
    assert reading.fields() == {"data_source": "web shop", "total": 12.5, "paid": True, "buyer_city": "Bonn"}
    assert not reading.fields().keys() & reading.metadata().keys()
    assert json.loads(reading.content) == {**SAID, "due": None}


class Seller(BaseModel):
    """Somebody who sells, perhaps for somebody else."""

    city: str = "inner"
    name_first: str | None = None
    agent: Seller | None = None

    @computed_field
    def label(self) -> str:
        """What is printed."""
        return f"[{self.city}]"


class Name(BaseModel):
    """The name of a seller."""

    first: str


class Clashing(BaseModel):
    """A schema of fields that have one name when they are flat, with each other or with what readings say."""

    status: str | None = None
    data_status: str | None = None
    error: str | None = None
    data_data_error: str | None = None
    source: str | None = None
    page: int | None = None
    id: str | None = None
    attempts: str | None = None
    data_attempts: str | None = None
    seller: Seller | None = None
    seller_city: str | None = None
    seller_name: Name | None = None
    seller_label: str | None = None
    data_seller_city: str | None = None
    mime: Name | None = None
    mime_first: str | None = None


def names(**said: Any) -> dict[str, Any]:
    """What the fields of an answer are called."""
    reading, _ = read(json.dumps(said), Task.extract(Clashing))
    flat: dict[str, Any] = reading.fields()
    return flat


def test_no_field_takes_the_name_of_another() -> None:
    """Names of readings are theirs; of fields with one name the less deep one has it, and nothing is lost."""
    assert names(status="a", data_status="b") == {"data_data_status": "a", "data_status": "b"}
    assert names(error="a", data_data_error="b") == {"data_error": "a", "data_data_error": "b"}
    assert names(source="a", page=3, id="b") == {"data_source": "a", "data_page": 3, "id": "b"}
    assert names(attempts="a", data_attempts="b") == {"data_data_attempts": "a", "data_attempts": "b"}
    assert names(seller={"city": "a"}, seller_city="b", seller_label="c", data_seller_city="d") == {
        "seller_city": "b",
        "data_seller_city": "d",
        "data_data_seller_city": "a",
        "seller_label": "c",
        "data_seller_label": "[a]",
    }
    assert names(mime={"first": "a"}, mime_first="b") == {"data_mime_first": "a", "mime_first": "b"}


def test_a_name_does_not_depend_on_the_others() -> None:
    """A field has the same name in every entry of an index, also where the one it clashes with is not there."""
    assert names(status="a") == {"data_data_status": "a"}
    assert names(seller={"city": "a"}) == {"data_data_seller_city": "a", "data_seller_label": "[a]"}
    assert names(seller_name={"first": "a"}) == {"data_seller_name_first": "a"}
    assert names(seller={"city": "a", "name_first": "b"})["seller_name_first"] == "b"
    deep = names(seller={"agent": {"city": "a", "agent": {"city": "b"}}})
    assert (deep["seller_agent_city"], deep["seller_agent_agent_city"]) == ("a", "b")


def test_every_field_is_there_whatever_it_is_called() -> None:
    """Of many fields that could all have each other's names each is found once."""
    inner = create_model("Inner", **{name: (str, name) for name in ("b", "b_c", "c", "data_b")})  # type: ignore[call-overload]
    named = {name: (str, name) for name in ("a_b", "data_a_b", "data_data_a_b", "a_b_c", "ok", "text", "data_text")}
    outer = create_model("Outer", a=(inner, inner()), data_a=(inner, inner()), a_b_=(inner, inner()), **named)  # type: ignore[call-overload]
    reading, _ = read("{}", Task.extract(outer))
    assert len(reading.fields()) == len(named) + 3 * 4
    assert not reading.fields().keys() & (reading.metadata().keys() | {"text"})


class Part(BaseModel):
    """A part of parts, with names that begin with each other's."""

    name: str = "n"
    a: Part | None = None
    a_a: Part | None = None
    a_a_name: str = "x"


def test_schemas_that_are_part_of_themselves() -> None:
    """Names that very many paths could have are the paths; no field is lost, and none takes long."""
    whole = Part()
    for _ in range(40):
        whole = Part(a=whole)
    for _ in range(3):
        whole = Part(a=whole, a_a=whole)
    flat = holding(whole).fields()
    assert len(flat) == 2 * (2**3 * 41 + 2**3 - 1)
    deepest = ".".join([*["a"] * 43, "name"])
    assert flat[deepest] == "n"
    assert (flat["name"], flat["a_name"], flat["a_a_name"]) == ("n", "n", "x")
    assert not any("." in name for name in holding(Part(a=Part(a=Part()))).fields())


class Numbers(BaseModel):
    """Numbers of which some are none."""

    large: Decimal
    nothing: Annotated[Decimal, Field(allow_inf_nan=True)]
    endless: float
    usual: Decimal


def test_numbers_that_no_json_has_are_in_the_content_alone() -> None:
    """What is no number of a JSON, or becomes none as a float, is no field."""
    numbers: dict[str, Any] = {
        "large": Decimal("1e400"),
        "nothing": Decimal("NaN"),
        "endless": math.inf,
        "usual": Decimal("0.10"),
    }
    reading = holding(Numbers(**numbers))
    assert reading.fields() == {"usual": 0.1}
    json.dumps(reading.fields(), allow_nan=False)
    assert "1E+400" in reading.content


class Rows(RootModel[list[int]]):
    """A list, and nothing else."""


class Place(RootModel[Address]):
    """An address by another name."""


class Held(BaseModel):
    """A model whose parts are nothing but types."""

    rows: Rows = Rows([1])
    title: RootModel[str] = RootModel[str]("t")
    place: Place | None = None
    place_city: str = "outer"


@pytest.mark.parametrize(
    ("schema", "said", "expected"),
    [
        (Rows, "[1, 2]", {}),
        (RootModel[dict[str, int]], '{"a": 1}', {}),
        (Place, '{"city": "Bonn"}', {"city": "Bonn"}),
        (Held, '{"place": {"city": "Bonn"}}', {"title": "t", "place_city": "outer", "data_place_city": "Bonn"}),
    ],
)
def test_models_that_are_nothing_but_a_type(schema: Any, said: str, expected: dict[str, Any]) -> None:
    """Of a list or dict at the top there are no fields; of another model its own, without a name in between."""
    reading, _ = read(said, Task.extract(schema))
    assert reading.ok, reading.error
    assert reading.fields() == expected


def test_a_text_is_its_own_content() -> None:
    """Without data there are no fields, and the content is the text."""
    reading, _ = read("Some text", "ocr")
    assert (reading.content, reading.fields()) == ("Some text", {})


def test_pictures_of_one_name_have_ids_of_their_own() -> None:
    """In a run the first picture of a name has the usual id, others have one by their bytes, and copies share one."""
    one, other = saved(corners()), saved(corners(90, 50))
    uploads = [("a.png", one), ("a.png", other), ("a.png", one), ("b.png", one)]
    with Emulator(ocr=False) as server:
        vision = Vision(base_url=server.base_url, api_key=server.api_key, limits=Limits())
        readings = list(vision.read_many(uploads, "ocr"))
    ids = ReadingIds()
    found = [ids.of(reading) for reading in readings]
    assert found == [readings[0].id, readings[1].twin_id, readings[0].id, readings[3].id]
    assert len(set(found)) == 3
    assert readings[0].id == readings[1].id


def refusing(asked: ChatRequest) -> str:
    """What is said of pictures: of those of one size nothing."""
    picture = asked.images[0].picture
    return "Text." if picture is not None and picture.size == (90, 50) else "I'm sorry, but I can't assist with that."


def test_what_is_skipped_keeps_its_id() -> None:
    """A run's ids know of what it has left out: no other picture of the name gets its id, and no page another one."""
    uploads = [("a.png", saved(corners())), ("a.png", saved(corners(90, 50))), ("b.png", b"broken")]
    uploads.append(("b.png", saved(corners(90, 50))))
    found = {}
    for on_error in ("keep", "skip"):
        with Emulator(ocr=False, reply=refusing) as server:
            vision = Vision(base_url=server.base_url, api_key=server.api_key, limits=Limits())
            run = vision.read_many(uploads, "ocr", on_error=on_error)
            found[on_error] = [run.ids.of(reading) for reading in run]
    assert len({*found["keep"]}) == 4
    assert found["skip"] == [found["keep"][1], found["keep"][3]]


def test_reports_add_up() -> None:
    """The sum of two reports has all images, models and failures of both."""
    (_, one), (_, other) = read("Some text", "ocr"), read("I'm sorry, but I can't assist with that.", "ocr")
    both = one + other
    assert both.statuses == {"ok": 1, "refused": 1}
    assert (both.images, both.attempts, both.results) == (2, 2, 1)
    assert both.usage == one.usage + other.usage
    assert both.failures == other.failures
    assert both.seconds == one.seconds + other.seconds
