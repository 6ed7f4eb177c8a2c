"""`AIFSImageBlobParser` as `images_parser` of LangChain's PDF loaders, each on a real PDF."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, cast

import pymupdf
import pytest

from langchain_aifs import AIFSImageBlobParser
from tests.langchain.sights import seeing
from tests.pictures import corners, saved

with warnings.catch_warnings():  # it says that it is no longer developed
    warnings.simplefilter("ignore", DeprecationWarning)
    from langchain_community.document_loaders import PyMuPDFLoader, PyPDFium2Loader, PyPDFLoader
    from langchain_community.document_loaders.generic import GenericLoader
    from langchain_community.document_loaders.parsers import PyMuPDFParser

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aifs_vision.emulator import Emulator

TURNED = corners(90, 60).rotate(180)  # blue, yellow, red, lime
UPRIGHT = corners(180, 120)  # red, lime, blue, yellow


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulator that says what it sees, in the environment."""
    with seeing(monkeypatch) as server:
        yield server


def report(path: Path, *pictures: bytes) -> str:
    """A PDF with a line of text and these pictures on its one page."""
    document = cast(Any, pymupdf).open()
    page = document.new_page(width=300, height=400)
    page.insert_text((30, 30), "Annual report")
    for number, picture in enumerate(pictures):
        top = 50 + 110 * number
        page.insert_image((20, top, 170, top + 100), stream=picture)
    document.save(path, deflate=True, deflate_images=True)
    return str(path)


# What each loader of LangChain needs to hand its pictures over in their own colours.
PDF_LOADERS: list[tuple[Any, dict[str, Any]]] = [
    (PyMuPDFLoader, {}),
    (PyPDFLoader, {}),
    (PyPDFium2Loader, {"channels": "BGR"}),
]
NAMES = [loader.__name__ for loader, _ in PDF_LOADERS]


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(("loader", "options"), PDF_LOADERS, ids=NAMES)
def test_pdf_loaders_read_pictures(tmp_path: Path, loader: Any, options: dict[str, Any]) -> None:
    """As `images_parser` of a PDF loader, every picture's text stands in its page, in the picture's own colours."""
    path = report(tmp_path / "report.pdf", saved(UPRIGHT), saved(TURNED))
    parser = AIFSImageBlobParser(task="caption", **options)
    (page,) = loader(path, images_parser=parser).load()
    assert "Annual report" in page.page_content
    assert "180 x 120: red, lime, blue, yellow" in page.page_content
    assert "90 x 60: blue, yellow, red, lime" in page.page_content
    assert page.metadata["source"] == path
    assert parser.report.statuses == {"ok": 2}


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(("loader", "options"), PDF_LOADERS, ids=NAMES)
def test_a_picture_that_fails_does_not_end_the_pdf(tmp_path: Path, loader: Any, options: dict[str, Any]) -> None:
    """With `on_error="keep"` a picture that cannot be read is empty in the page, in the report, and alone in it."""
    path = report(tmp_path / "report.pdf", saved(corners(180, 4)), saved(UPRIGHT))  # 4 px are too few to show anything
    parser = AIFSImageBlobParser(on_error="keep", **options)
    (page,) = loader(path, images_parser=parser).load()
    assert "180 x 120: red" in page.page_content
    assert parser.report.statuses == {"failed": 1, "ok": 1}
    assert "180 x 4" in parser.report.failures[0].reason


@pytest.mark.usefixtures("service")
def test_generic_loader_reads_pdf(tmp_path: Path) -> None:
    """In GenericLoader the parser reads pages of PDF files, or, as `images_parser` of theirs, the pictures in them."""
    path = report(tmp_path / "report.pdf", saved(UPRIGHT))
    parser: Any = AIFSImageBlobParser(task="caption")
    (page,) = GenericLoader.from_filesystem(tmp_path, glob="*.pdf", parser=parser).load()
    assert (page.metadata["source"], page.metadata["page"], page.metadata["mime_type"]) == (path, 1, "application/pdf")
    (page,) = GenericLoader.from_filesystem(tmp_path, glob="*.pdf", parser=PyMuPDFParser(images_parser=parser)).load()
    assert "Annual report" in page.page_content
    assert "180 x 120: red, lime, blue, yellow" in page.page_content


@pytest.mark.usefixtures("service")
def test_pictures_of_pdf_are_paid_once(tmp_path: Path, service: Emulator) -> None:
    """With a cache, pictures of a PDF are asked about once, however often it is loaded, and whoever loads it."""
    path = report(tmp_path / "report.pdf", saved(UPRIGHT), saved(TURNED))
    parser: Any = AIFSImageBlobParser(cache=tmp_path / "readings.db")  # LangChain's annotation wants its own class
    pages = [PyMuPDFLoader(path, images_parser=parser).load()[0].page_content for _ in range(2)]
    assert pages[0] == pages[1]
    assert len(service.requests) == 2
    assert parser.report.cached == 2


@pytest.mark.usefixtures("service")
def test_pdf_made_for_print_keep_their_colours(tmp_path: Path) -> None:
    """PyMuPDFLoader hands over inks as an array of four channels; told so, the parser sees their colours."""
    path = report(tmp_path / "print.pdf", saved(UPRIGHT.convert("CMYK"), "JPEG", quality=95), saved(TURNED))
    parser: Any = AIFSImageBlobParser(channels="CMYK")
    (page,) = PyMuPDFLoader(path, images_parser=parser).load()
    assert "180 x 120: red, lime, blue, yellow" in page.page_content
    assert "90 x 60: blue, yellow, red, lime" in page.page_content
