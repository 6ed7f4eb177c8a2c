"""`AIFSImageBlobParser` inside LangChain's own loaders: GenericLoader, and the PDF loaders' `images_parser`."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pymupdf
import pytest
from langchain_core.document_loaders import Blob

from aifs_vision import ImageBrokenError, ImageFormatError, SettingsError
from aifs_vision.emulator import Emulator
from langchain_aifs import AIFSImageBlobParser, AIFSImageLoader
from tests.pictures import corner_names, corners, saved

with warnings.catch_warnings():  # it says that it is no longer developed
    warnings.simplefilter("ignore", DeprecationWarning)
    from langchain_community.document_loaders import PyMuPDFLoader, PyPDFium2Loader, PyPDFLoader
    from langchain_community.document_loaders.generic import GenericLoader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from PIL import Image

    from aifs_vision.emulator import ChatRequest

TURNED = corners(90, 60).rotate(180)  # blue, yellow, red, lime
UPRIGHT = corners(180, 120)  # red, lime, blue, yellow


def told(asked: ChatRequest) -> str:
    """What a model says of a picture: its size, and the colours of its corners."""
    picture = asked.images[0].picture
    assert picture is not None
    return f"{picture.width} x {picture.height}: {', '.join(corner_names(picture))}"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulator that says what it sees, in the environment."""
    with Emulator(ocr=False, reply=told) as server:
        monkeypatch.setenv("AIFS_BASE_URL", server.base_url)
        monkeypatch.setenv("AIFS_API_KEY", server.api_key)
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


# -- Arrays ------------------------------------------------------------------------------------------------


def npy(array: Any) -> Blob:
    """A blob as the PDF loaders make them."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return Blob.from_data(buffer.getvalue(), mime_type="application/x-npy")


def pixels(mode: str = "RGB", picture: Image.Image = UPRIGHT) -> Any:
    """A picture as an array."""
    return np.asarray(picture.convert(mode))


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    ("channels", "array"),
    [
        ("RGB", pixels()),
        ("RGB", pixels("RGBA")),
        ("BGR", pixels()[..., ::-1]),
        ("BGR", pixels("RGBA")[..., [2, 1, 0, 3]]),
        ("CMYK", pixels("CMYK")),
        ("CMYK", pixels()),
    ],
    ids=["rgb", "rgba", "bgr", "bgra", "cmyk", "rgb among cmyk"],
)
def test_channels_of_arrays(channels: Any, array: Any) -> None:
    """Arrays are seen in their own colours by what `channels` says of them, whatever their blob claims to be."""
    parser = AIFSImageBlobParser(channels=channels)
    for blob in (npy(array), Blob.from_data(npy(array).as_bytes(), mime_type="image/png")):
        (document,) = parser.parse(blob)
        assert document.page_content == "180 x 120: red, lime, blue, yellow"


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("channels", ["RGB", "BGR", "CMYK"])
def test_what_has_no_colours_is_left_alone(channels: Any) -> None:
    """Grey and black-and-white arrays, and pictures that are no arrays, are read as they are."""
    parser = AIFSImageBlobParser(channels=channels)
    grey, flat, bits = pixels("L")[..., None], pixels("L"), pixels("L") > 128
    (first, second, third) = (parser.parse(npy(array))[0] for array in (grey, flat, bits))
    assert first.page_content == second.page_content
    assert third.page_content.startswith("180 x 120")
    (picture,) = parser.parse(Blob.from_data(saved(UPRIGHT)))
    assert picture.page_content == "180 x 120: red, lime, blue, yellow"


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("channels", ["RGB", "BGR", "CMYK"])
def test_damaged_arrays_are_errors_of_their_own(channels: Any) -> None:
    """An array that is cut off, promises too much or holds no pixels gives the engine's error, and no other."""
    parser, whole = AIFSImageBlobParser(channels=channels), npy(pixels()).as_bytes()
    boasting = whole.replace(b"(120, 180, 3)", b"(120, 9**9,3)")
    for data in (whole[:8], whole[:20], whole[:1000], boasting, b"\x93NUMPY\x09\x00" + whole[8:]):
        with pytest.raises((ImageBrokenError, ImageFormatError)):
            parser.parse(Blob.from_data(data, mime_type="application/x-npy"))
    for array in (np.zeros((20, 20, 3)), np.zeros((2, 2, 2, 2), np.uint8), np.asfortranarray(pixels())):
        with pytest.raises((ImageBrokenError, ImageFormatError)):
            parser.parse(npy(array))


@pytest.mark.usefixtures("service")
def test_unknown_channels_are_an_error() -> None:
    """Channels that nobody knows are refused by the constructor."""
    with pytest.raises(SettingsError, match="'RGB', 'BGR', 'CMYK'"):
        AIFSImageBlobParser(channels="HSV")  # type: ignore[arg-type]


# -- GenericLoader -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("service")
def test_generic_loader_reads_images(folder: Path) -> None:
    """With GenericLoader a folder's files become the Documents that AIFSImageLoader makes of them."""
    parser = AIFSImageBlobParser(task="caption")
    documents = GenericLoader.from_filesystem(folder, glob="**/*", parser=parser).load()
    ours = AIFSImageLoader(folder, task="caption").load()
    assert sorted(documents, key=str) == sorted(ours, key=str)
    assert parser.report.statuses == {"ok": 4}


@pytest.mark.usefixtures("service")
def test_generic_loader_skips_what_is_no_image(folder: Path) -> None:
    """With `on_error="skip"` files that are no images are left out, and stand in the report."""
    (folder / "notes.txt").write_text("plain words")
    parser = AIFSImageBlobParser(on_error="skip")
    assert len(GenericLoader.from_filesystem(folder, glob="**/*", parser=parser).load()) == 4
    assert [failure.source for failure in parser.report.failures] == [str(folder / "notes.txt")]
