"""`AIFSImageBlobParser` and the arrays of PDF loaders, and inside LangChain's GenericLoader."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from langchain_core.document_loaders import Blob

from aifs_vision import ImageBrokenError, ImageFormatError, SettingsError
from langchain_aifs import AIFSImageBlobParser, AIFSImageLoader
from tests.langchain.sights import seeing
from tests.pictures import corners, saved

with warnings.catch_warnings():  # it says that it is no longer developed
    warnings.simplefilter("ignore", DeprecationWarning)
    from langchain_community.document_loaders.generic import GenericLoader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from PIL import Image

    from aifs_vision.emulator import Emulator

UPRIGHT = corners(180, 120)  # red, lime, blue, yellow


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulator that says what it sees, in the environment."""
    with seeing(monkeypatch) as server:
        yield server


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
