"""A schema is filled from what the page says; what it does not say stays null."""

from __future__ import annotations

import datetime as dt  # noqa: TC003 - pydantic reads the annotations
from typing import Any, Literal

import httpx
import pytest
from pydantic import BaseModel, Field

from aifs_vision import Task, Vision
from aifs_vision.emulator import Emulator  # noqa: TC001 - as above
from tests.pages import german_letter, receipt
from tests.pictures import saved


class Item(BaseModel):
    """A line of a receipt."""

    quantity: int | None = None
    name: str | None = None
    amount: float | None = None


class Receipt(BaseModel):
    """What a till prints."""

    receipt_number: str | None = None
    date: str | None = None
    total: float | None = None
    vat: float | None = None
    currency: str | None = None
    iban: str | None = None
    items: list[Item] = []


class Position(BaseModel):
    """A row of a table of prices."""

    description: str
    quantity: int
    unit_price: float
    amount: float


class Offer(BaseModel):
    """What the letter offers."""

    offer_number: str
    customer_number: str
    issued: dt.date = Field(description="date")
    total: float = Field(description="Gesamtbetrag")
    net_total: float
    tax: float
    phone: str | None = None
    positions: list[Position]


def filled(server: Emulator, model: type[BaseModel], text: str) -> dict[str, Any]:
    """What the emulator fills into a schema from a text that is given instead of a picture."""
    schema = {"name": model.__name__, "schema": model.model_json_schema()}
    body = {
        "model": "gpt-4.1",
        "messages": [{"role": "user", "content": text}],
        "response_format": {"type": "json_schema", "json_schema": schema},
    }
    headers = {"Authorization": f"Bearer {server.api_key}"}
    answer = httpx.post(f"{server.base_url}/chat/completions", json=body, headers=headers, trust_env=False).json()
    return model.model_validate_json(answer["choices"][0]["message"]["content"]).model_dump()


@pytest.mark.usefixtures("aifs_emulator")
def test_a_receipt_becomes_data() -> None:
    """Number, date, sums, currency and the rows of a receipt are found; an IBAN that is not there is null."""
    reading = Vision().read(saved(receipt().image), task=Task.extract(Receipt))
    assert isinstance(reading.data, Receipt)
    assert reading.data.model_dump() == {
        "receipt_number": "20417",
        "date": "14.03.2026 12:48",
        "total": 34.96,
        "vat": 2.29,
        "currency": "EUR",
        "iban": None,
        "items": [
            {"quantity": 2, "name": "Fish soup with saffron", "amount": 13.8},
            {"quantity": 1, "name": "Smoked mackerel roll", "amount": 6.4},
            {"quantity": 1, "name": "Seaweed crisps", "amount": 2.95},
            {"quantity": 3, "name": "Elderflower press", "amount": 10.5},
            {"quantity": 1, "name": "Rhubarb crumble", "amount": 5.2},
        ],
    }


@pytest.mark.usefixtures("aifs_emulator")
def test_a_german_letter_becomes_data() -> None:
    """Labels above values, German numbers and dates, and a table are understood."""
    reading = Vision().read(saved(german_letter().image), task=Task.extract(Offer))
    assert isinstance(reading.data, Offer)
    offer = reading.data
    assert (offer.offer_number, offer.customer_number, offer.issued.isoformat()) == ("2026-118", "20417", "2026-03-14")
    assert (offer.total, offer.net_total, offer.tax) == (1681.71, 1413.2, 268.51)
    assert offer.phone == "0815 4711-0"
    assert [(row.description, row.quantity, row.unit_price, row.amount) for row in offer.positions] == [
        ("Zahnrad, 48 Zähne, Bronze", 6, 84.5, 507.0),
        ("Gehäuse mit Öldichtung", 2, 312.0, 624.0),
        ("Schwimmerkette, 3,5 m, geprüft", 4, 46.8, 187.2),
        ("Maßprotokoll für alle Teile", 1, 95.0, 95.0),
    ]


@pytest.mark.parametrize(
    ("text", "total"),
    [
        ("Total: 1,234.50 EUR", 1234.5),
        ("Gesamtbetrag  1.234,50 €", 1234.5),
        ("Gesamtbetrag: 1.234 €\nPorto 3,50 €", 1234.0),
        ("TOTAL  12.00\nChange  1.50", 12.0),
        ("Summe\n99,00", 99.0),
        ("Total due: -5.20", -5.2),
        ("Total 19 %  7,60", 7.6),
        ("Nothing to pay here", None),
        ("Subtotal 8.00", None),
        ("Totals differ by 3", None),
    ],
)
def test_numbers_are_read_in_either_notation(aifs_emulator: Emulator, text: str, total: float | None) -> None:
    """A total is found by its label, in German and English notation, and not where another label stands."""

    class Bill(BaseModel):
        total: float | None = None

    assert filled(aifs_emulator, Bill, text)["total"] == total


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("Date: 2026-03-04", "2026-03-04"),
        ("Datum: 4.3.2026", "2026-03-04"),
        ("Rechnungsdatum 04.03.26", "2026-03-04"),
        ("Date: 4 March 2026", "2026-03-04"),
        ("Date: March 4, 2026", "2026-03-04"),
        ("Datum: 4. März 2026", "2026-03-04"),
        ("Date: 25/12/2026", "2026-12-25"),
        ("Date: 03/04/2026", None),
        ("Date: 31.02.2026", None),
    ],
)
def test_dates_become_iso(aifs_emulator: Emulator, text: str, day: str | None) -> None:
    """Dates are read as they are printed; one that may mean two days, or none, is null."""

    class Bill(BaseModel):
        date: dt.date | None = None

    found = filled(aifs_emulator, Bill, text)["date"]
    assert (found.isoformat() if found else None) == day


def test_choices_flags_and_nested_objects_are_filled(aifs_emulator: Emulator) -> None:
    """Enums, booleans and objects within objects are found by their names; a constant is what it must be."""

    class Vendor(BaseModel):
        name: str | None = None
        phone: str | None = None

    class Order(BaseModel):
        kind: Literal["order"] = "order"
        priority: Literal["high", "low"] | None = None
        paid: bool | None = None
        gift: bool | None = None
        vendor: Vendor

    text = "Vendor name: Tarrow & Daughters\nPhone: 0815 22\nPriority: high\nPaid: yes\nGift: nein"
    assert filled(aifs_emulator, Order, text) == {
        "kind": "order",
        "priority": "high",
        "paid": True,
        "gift": False,
        "vendor": {"name": "Tarrow & Daughters", "phone": "0815 22"},
    }


def test_a_schema_that_contains_itself_ends(aifs_emulator: Emulator) -> None:
    """A recursive schema is filled to a bounded depth."""
    assert filled(aifs_emulator, Node, "Label: root")["label"] == "root"


class Node(BaseModel):
    """A tree."""

    label: str | None = None
    child: Node | None = None
