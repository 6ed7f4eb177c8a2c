"""A description is measured: it says so, is the same every time, and tells pictures apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PIL import Image, ImageDraw

from aifs_vision import CAPTION, Vision
from tests.pages import bar_chart, blank_page, english_page, german_letter, photo, receipt, turned
from tests.pictures import saved

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sheets import Printed

pytestmark = pytest.mark.usefixtures("aifs_emulator")


def caption(picture: Image.Image) -> str:
    """What the emulator says about a picture."""
    return Vision().read(saved(picture), CAPTION).text


@pytest.mark.parametrize(
    ("page", "kind", "title"),
    [
        (english_page, "a page of text", "The Brindle Point Tide Clock"),
        (german_letter, "a page of text", "Möwenstein Feinmechanik GmbH"),
        (receipt, "a page of text", "THE DRY ANCHOR"),
        (bar_chart, "a graphic", "Who buys tide clocks?"),
        (blank_page, "a blank page", None),
        (photo, "a photo", None),
    ],
    ids=["english", "german", "receipt", "chart", "blank", "photo"],
)
def test_kind_and_title_are_found(page: Callable[[], Printed], kind: str, title: str | None) -> None:
    """Pages, graphics, photos and blank pages are told apart, and their largest text is quoted."""
    said = caption(page().image)
    assert said.startswith("Measured (no vision model): ")
    assert f"probably {kind}" in said
    assert (f'Largest text: "{title}"' if title else "No text found.") in said


@pytest.mark.parametrize(
    ("colour", "name"),
    [
        ("#ff0000", "red"),
        ("#00a040", "green"),
        ("#2060c0", "blue"),
        ("#ffe040", "yellow"),
        ("#101014", "black"),
        ("#ffffff", "white"),
        ("#808080", "grey"),
        ("#f08020", "orange"),
    ],
)
def test_colours_have_their_names(colour: str, name: str) -> None:
    """A picture of one colour is mainly of that colour, by the name everyone gives it."""
    assert f"mainly {name}," in caption(Image.new("RGB", (64, 48), colour))


def test_size_orientation_and_turn_are_measured() -> None:
    """The description has the size of what arrived, and says when it lies on its side."""
    assert "64 x 48 px, landscape" in caption(Image.new("RGB", (64, 48)))
    assert "50 x 50 px, square" in caption(Image.new("RGB", (50, 50)))
    said = caption(turned(receipt().image, 90))
    assert "landscape" in said
    assert "upright once turned 270 degrees clockwise" in said


def test_it_depends_on_the_pixels_alone() -> None:
    """Equal pixels give equal words; another shape in the picture gives others."""
    picture = Image.new("RGB", (120, 90), "white")
    assert caption(picture) == caption(picture.copy())
    changed = picture.copy()
    ImageDraw.Draw(changed).rectangle((0, 0, 119, 60), "purple")
    assert "mainly purple, white" in caption(changed)
