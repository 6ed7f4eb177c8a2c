"""What an index gets of a reading: content and flat fields; and reports that add up."""

from __future__ import annotations

import json
from decimal import Decimal  # noqa: TC003 - pydantic looks it up
from typing import Any

from pydantic import BaseModel, ConfigDict

from aifs_vision import Limits, Task, Vision
from aifs_vision.emulator import Emulator
from tests.pictures import corners, saved


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


def test_data_are_flat_fields_and_json() -> None:
    """Scalars of the data stand flat beside the metadata, under names of their own; the content has all as JSON."""
    reading, _ = read(f"Here it is: ```json\n{json.dumps(SAID)}\n```", Task.extract(Invoice))
    assert reading.fields() == {"data_source": "web shop", "total": 12.5, "paid": True, "buyer_city": "Bonn"}
    assert not reading.fields().keys() & reading.metadata().keys()
    assert json.loads(reading.content) == {**SAID, "due": None}


def test_a_text_is_its_own_content() -> None:
    """Without data there are no fields, and the content is the text."""
    reading, _ = read("Some text", "ocr")
    assert (reading.content, reading.fields()) == ("Some text", {})


def test_reports_add_up() -> None:
    """The sum of two reports has all images, models and failures of both."""
    (_, one), (_, other) = read("Some text", "ocr"), read("I'm sorry, but I can't assist with that.", "ocr")
    both = one + other
    assert both.statuses == {"ok": 1, "refused": 1}
    assert (both.images, both.attempts, both.results) == (2, 2, 1)
    assert both.usage == one.usage + other.usage
    assert both.failures == other.failures
    assert both.seconds == one.seconds + other.seconds
