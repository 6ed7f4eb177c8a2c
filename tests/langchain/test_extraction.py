"""`Task.extract` in LangChain: JSON in the content, scalars in flat metadata that vector stores take."""

from __future__ import annotations

import datetime as dt  # noqa: TC003 - pydantic reads the annotations
import json
from decimal import Decimal  # noqa: TC003 - as above
from enum import Enum
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.document_loaders import Blob
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import BaseModel, ConfigDict, Field, RootModel, SecretStr, computed_field, field_serializer

from aifs_vision import AnswerError, Task
from aifs_vision.emulator import Emulator
from langchain_aifs import AIFSEmbeddings, AIFSImageBlobParser, AIFSImageLoader
from tests.pictures import corners, saved

if TYPE_CHECKING:
    from langchain_core.documents import Document

PNG = saved(corners())


class Currency(Enum):
    EUR = "EUR"
    USD = "USD"


class Vendor(BaseModel):
    name: str
    city: str | None = None


class Item(BaseModel):
    text: str
    price: float


class Invoice(BaseModel):
    number: str
    issued: dt.date
    total: Decimal
    currency: Currency
    paid: bool
    copies: int | None = None
    vendor: Vendor
    items: list[Item] = []
    tags: dict[str, str] = {}


INVOICE = {
    "number": "R-1",
    "issued": "2026-03-01",
    "total": "12.50",
    "currency": "EUR",
    "paid": True,
    "copies": None,
    "vendor": {"name": "Müller", "city": None},
    "items": [{"text": "tea", "price": 12.5}],
    "tags": {"a": "b"},
}


def extracted(schema: type[BaseModel], said: Any, blob: Blob | None = None, **options: Any) -> Document:
    """The Document of a picture of which a model says this."""
    text = said if isinstance(said, str) else json.dumps(said)
    with Emulator(ocr=False, reply=lambda _: text) as server:
        place: dict[str, Any] = {"base_url": server.base_url, "api_key": server.api_key, **options}
        if blob is not None:
            return AIFSImageBlobParser(task=Task.extract(schema), **place).parse(blob)[0]
        (document,) = AIFSImageLoader([("a.png", PNG)], task=Task.extract(schema), **place).load()
    return document


def data_in(document: Document) -> dict[str, Any]:
    """What a Document's metadata has beside that of a reading without data."""
    (plain,) = AIFSImageLoader([("a.png", PNG)], task="ocr").load()
    return {name: value for name, value in document.metadata.items() if name not in plain.metadata}


@pytest.mark.usefixtures("environment")
def test_scalars_are_flat_metadata_and_the_content_is_json() -> None:
    """Scalars, also those of models within, are metadata; lists and dicts are in the JSON of the content alone."""
    document = extracted(Invoice, INVOICE)
    assert json.loads(document.page_content) == INVOICE
    assert data_in(document) == {
        "number": "R-1",
        "issued": "2026-03-01",
        "total": 12.5,
        "currency": "EUR",
        "paid": True,
        "vendor_name": "Müller",
    }
    assert {type(value) for value in document.metadata.values()} <= {str, int, float, bool}
    assert document.metadata["task"] == "extract-Invoice"


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("around", ["```json\n{}\n```", "Here you are:\n{}\nAnything else?", "<think>{{</think>{}"])
def test_the_content_is_json_whatever_stands_around_it(around: str) -> None:
    """Fences, chatter and thoughts around the model's JSON are not in the content."""
    document = extracted(Invoice, around.format(json.dumps(INVOICE)))
    assert json.loads(document.page_content) == INVOICE
    assert document == extracted(Invoice, INVOICE)


class Named(BaseModel):
    source: str
    time: str
    text: str
    status: int
    chapter: str


@pytest.mark.usefixtures("environment")
def test_no_name_is_used_twice() -> None:
    """A field named as something of the reading, or of the blob, has "data_" before it; the others keep their own."""
    said = {"source": "phone", "time": "12:30", "text": "words", "status": 4, "chapter": "one"}
    blob = Blob.from_data(PNG, metadata={"source": "a.png", "chapter": 3})
    document = extracted(Named, said, blob)
    assert document.metadata["source"] == "a.png"
    assert document.metadata["status"] == "ok"
    assert data_in(document) == {
        "chapter": 3,
        "data_source": "phone",
        "data_time": "12:30",
        "data_text": "words",
        "data_status": 4,
        "data_chapter": "one",
    }
    assert document.id == extracted(Named, said).id


class Iban(RootModel[str]):
    pass


class Account(BaseModel):
    model_config = ConfigDict(extra="allow")

    iban: Iban
    holder: str = Field(serialization_alias="Kontoinhaber")
    pin: SecretStr
    note: str = Field(exclude=True)
    balance: float

    @field_serializer("balance")
    def rounded(self, value: float) -> int:
        """Nobody's business to the cent."""
        return round(value)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def country(self) -> str:
        """Of the bank."""
        return self.iban.root[:2]


@pytest.mark.usefixtures("environment")
def test_data_are_shown_as_they_show_themselves() -> None:
    """What a schema hides, shortens or computes is so in content and metadata; names that are not its own are not."""
    said = {"iban": "DE12", "holder": "A", "pin": "4711", "note": "x", "balance": 3.7, "anything": "else"}
    document = extracted(Account, said)
    assert data_in(document) == {"iban": "DE12", "holder": "A", "pin": "**********", "balance": 4, "country": "DE"}
    assert "4711" not in document.page_content
    assert "note" not in json.loads(document.page_content)


@pytest.mark.usefixtures("environment")
def test_data_can_be_filtered_by_in_a_vector_store() -> None:
    """A vector store that is given the Documents as they are can filter by the data."""
    store = InMemoryVectorStore(AIFSEmbeddings())
    store.add_documents([extracted(Invoice, INVOICE), extracted(Invoice, {**INVOICE, "number": "R-2", "total": 99})])
    (found,) = store.similarity_search("invoice", k=5, filter=lambda document: document.metadata["total"] > 50)
    assert found.metadata["number"] == "R-2"


@pytest.mark.usefixtures("environment")
def test_data_that_do_not_fit_are_no_document_like_others() -> None:
    """An answer that does not fit the schema is a failure: it raises, or is kept with its error and without data."""
    with pytest.raises(AnswerError, match="does not fit Invoice"):
        extracted(Invoice, "{}")
    kept = extracted(Invoice, "{}", on_error="keep")
    assert kept.metadata["status"] == "failed"
    assert "does not fit Invoice" in kept.metadata["error"]
    assert data_in(kept).keys() == {"error"}


@pytest.mark.usefixtures("environment")
def test_cached_data_are_the_same_document(tmp_path: Any) -> None:
    """Data from the cache make the same Document as data just read."""
    first = extracted(Invoice, INVOICE, cache=tmp_path / "readings.db")
    assert extracted(Invoice, "never asked", cache=tmp_path / "readings.db") == first
