"""Some pages of a source: the others are neither drawn nor paid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aifs_vision import ImageNotFoundError, SourcePages, Vision, is_source, prepare_images, survey_images
from tests.pictures import corner_names, corners, opened, saved, tiff

if TYPE_CHECKING:
    from pathlib import Path

    from aifs_vision.emulator import Emulator

FILE = tiff([corners(60 + page, 40).rotate(180 * (page % 2)) for page in range(5)])


def test_only_these_pages_are_read(tmp_path: Path, vision: Vision, server: Emulator) -> None:
    """Pages are read in the order of the file, each once, with the ids and metadata they have in the whole."""
    path = tmp_path / "minutes.tif"
    path.write_bytes(FILE)
    whole = list(vision.read_many(path, "ocr"))
    server.clear()
    readings = list(vision.read_many([SourcePages(source=path, pages=(4, 2, 4))], "ocr"))
    assert [reading.page for reading in readings] == [2, 4]
    assert [(r.id, r.metadata()) for r in readings] == [(r.id, r.metadata()) for r in (whole[1], whole[3])]
    assert len(server.requests) == 2
    assert vision.read(SourcePages(source=path, pages=(5,)), "ocr").total_pages == 5
    assert vision.estimate(SourcePages(source=path, pages=(1, 3))).images == 2


def test_one_alone_is_one_source() -> None:
    """It is a source, and no iterable of them; any source may be in it, also one of this kind."""
    pages = SourcePages(source=("minutes.tif", FILE), pages=(3, 1))
    assert is_source(pages)
    assert [image.page for image in survey_images(pages)] == [1, 3]
    (image,) = survey_images([SourcePages(source=pages, pages=(3,))])
    assert (image.source, image.page, image.total_pages) == ("minutes.tif", 3, 5)
    assert list(survey_images(SourcePages(source=saved(corners()), pages=(1,))))


def test_a_page_that_is_not_there() -> None:
    """A page that the source does not have is an error that names it; of the others none is read, either."""
    with pytest.raises(ImageNotFoundError, match=r"minutes.tif: has no page 6, 9 \(it gives 5 pages"):
        list(survey_images(SourcePages(source=("minutes.tif", FILE), pages=(1, 6, 9))))
    with pytest.raises(ImageNotFoundError, match="has no page 2"):
        list(survey_images(SourcePages(source="http://127.0.0.1:9/a.png", pages=(2,))))
    assert list(survey_images([SourcePages(source="missing.tif", pages=(1,)), saved(corners())], on_error="skip"))


def test_pictures_for_a_chat() -> None:
    """Of a document one page is prepared for a message, and remembered apart from the others."""
    for page, corner in ((2, "blue"), (1, "red"), (2, "blue")):
        (image,) = prepare_images(SourcePages(source=FILE, pages=(page,)), "gpt-4.1")
        assert (image.page, corner_names(opened(image.data))[0]) == (page, corner)
    again = prepare_images(SourcePages(source=FILE, pages=(2,)), "gpt-4.1")
    assert again[0] is prepare_images(SourcePages(source=FILE, pages=(2,)), "gpt-4.1")[0]
