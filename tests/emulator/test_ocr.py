"""What the emulator reads in a picture: text whose truth is known, in reading order, whichever way up it lies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from aifs_vision import OCR, Vision
from tests.make_images import IMAGES, TRUTH, printed
from tests.pages import blank_page, english_page, error_rate, german_letter, photo, receipt, turned, two_columns
from tests.pictures import saved

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sheets import Printed

pytestmark = pytest.mark.usefixtures("aifs_emulator")

CLEAN, HARDER = 0.01, 0.02  # edits for each character of the text


def read(picture: Image.Image) -> str:
    """The text that the emulator finds."""
    return Vision(model="gemini-2.5-flash").read(saved(picture), OCR).text


@pytest.mark.parametrize(
    ("page", "most"),
    [
        pytest.param(english_page, CLEAN, id="english"),
        pytest.param(lambda: english_page(family="sans", size=10.5), CLEAN, id="small"),
        pytest.param(german_letter, CLEAN, id="german letter with a table"),
        pytest.param(two_columns, HARDER, id="two columns"),
        pytest.param(receipt, HARDER, id="receipt"),
        pytest.param(lambda: receipt(tilt=-3), HARDER, id="crooked receipt"),
    ],
)
def test_text_is_read_in_order(page: Callable[[], Printed], most: float) -> None:
    """Pages are right to 99 % of their characters, tables, columns and receipts to 98 %."""
    picture, text = page()
    assert error_rate(read(picture), text) <= most


@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize("page", [german_letter, receipt], ids=["letter", "receipt"])
def test_a_turned_page_reads_the_same(page: Callable[[], Printed], degrees: int) -> None:
    """The text does not depend on the way up that the picture lies."""
    picture, text = page()
    assert error_rate(read(turned(picture, degrees)), text) <= HARDER


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(blank_page().image, id="blank page"),
        pytest.param(photo().image, id="photo"),
        pytest.param(Image.new("L", (10, 2000), 128), id="narrow"),
        pytest.param(Image.effect_noise((300, 200), 60), id="noise"),
    ],
)
def test_where_there_is_no_text_none_is_found(picture: Image.Image) -> None:
    """A picture without text gives the status `empty`, not letters that are not there."""
    reading = Vision().read(saved(picture), OCR)
    assert (reading.status, reading.text) == ("empty", "")


def test_transparent_and_sixteen_bit_pictures_are_read() -> None:
    """Text on a transparent ground, and text in 16 bits, is read as on white paper."""
    picture, text = receipt(pixels=1000)
    ink = Image.new("RGBA", picture.size, "black")
    ink.putalpha(picture.convert("L").point(lambda level: 255 - level))
    deep = picture.convert("L").convert("I").point(lambda level: level * 257).convert("I;16")
    for form in (ink, deep):
        assert error_rate(read(form), text) <= HARDER


def test_the_example_images_are_read_right() -> None:
    """98 % of the characters of each example page are read right, the umlauts of the letter among them."""
    truth: dict[str, list[str]] = json.loads(TRUTH.read_text(encoding="utf-8"))
    assert truth == {name: [page.text for page in pages] for name, pages in printed().items()}
    readings = list(Vision().read_many(IMAGES, task="ocr"))
    texts: dict[str, list[str]] = {}
    for reading in readings:
        texts.setdefault(reading.source.rpartition("/")[2], []).append(reading.text)
    assert texts.keys() == truth.keys()
    for name, pages in truth.items():
        for found, wanted in zip(texts[name], pages, strict=True):
            assert error_rate(found, wanted) <= HARDER, name
    (letter,) = texts["letter.png"]
    for word in ("Möwenstein", "Übersee", "Süßholzgasse", "Bärenfließ", "Öldichtung", "Maßprotokoll", "507,00 €"):
        assert word in letter


def test_rows_of_tables_stay_together() -> None:
    """A row of a table is one line, its cells parted by two blanks, in order."""
    picture, _ = german_letter()
    lines = read(picture).splitlines()
    assert "3  Schwimmerkette, 3,5 m, geprüft  4  46,80 €  187,20 €" in lines
    assert "Gesamtbetrag  1.681,71 €" in lines


def test_equal_pictures_read_at_once_are_read_the_same() -> None:
    """Threads that ask for the same picture at the same moment all get its whole text."""
    picture, text = receipt(pixels=900)
    run = Vision().read_many([saved(picture)] * 8, task="ocr")
    found: list[Any] = [reading.text for reading in run]
    assert len(found) == 8
    assert len(set(found)) == 1
    assert error_rate(found[0], text) <= HARDER
