"""Pages of sources, found without a key and without a request."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from aifs_vision import (
    CAPTION,
    ImageFormatError,
    ImageLimits,
    ImageNotFoundError,
    ImageTooLargeError,
    SettingsError,
    Vision,
    survey_images,
)
from tests.pictures import corners, saved, tiff

if TYPE_CHECKING:
    from pathlib import Path

    from aifs_vision.emulator import Emulator

PNG = saved(corners())
OF_A_MODEL = ("model", "task", "prompt_version")


def test_it_lists_what_would_be_read(folder: Path, vision: Vision, server: Emulator) -> None:
    """A survey has the pages of a reading, in its order, with all of its metadata that no model is needed for."""
    images = list(survey_images(folder))
    assert not server.requests
    readings = list(vision.read_many(folder, CAPTION))
    assert [image.metadata() for image in images] == [
        {**reading.metadata(), **dict.fromkeys(OF_A_MODEL, "")} for reading in readings
    ]
    assert images[0].image_sha256 == hashlib.sha256(PNG).hexdigest()
    assert len({image.id for image in (*images, *readings)}) == 8


def test_ids_are_of_source_and_page(tmp_path: Path) -> None:
    """An edited picture keeps its id, and has another digest."""
    path = tmp_path / "a.tif"
    path.write_bytes(tiff([corners(), corners()]))
    before = list(survey_images(path))
    path.write_bytes(tiff([corners(30, 30), corners()]))
    after = list(survey_images(path))
    assert [image.id for image in before] == [image.id for image in after]
    assert len({image.id for image in before}) == 2
    assert before[0].image_sha256 != after[0].image_sha256


def test_both_kinds_of_loops(folder: Path) -> None:
    """`async for` gives what `for` gives; the report counts the images, and nothing else."""

    async def listed() -> list[Any]:
        return [image async for image in survey_images(folder)]

    run = survey_images(folder)
    assert asyncio.run(listed()) == list(run)
    assert (run.report.images, run.report.requests, run.report.failures) == (4, 0, ())


def test_frames_and_globs(folder: Path, tmp_path: Path) -> None:
    """`frames` and `glob` choose as they do for a reading."""
    animation = saved(corners(), "GIF", save_all=True, append_images=[corners(60, 40).rotate(180)])
    (tmp_path / "d.gif").write_bytes(animation)
    assert len(list(survey_images(folder, glob="*.png"))) == 1
    assert len(list(survey_images(folder / "d.gif"))) == 1
    assert [image.page for image in survey_images(folder / "d.gif", frames="all")] == [1, 2]


def test_failures_by_on_error(folder: Path) -> None:
    """What is no picture, or too large, is raised, skipped or kept; a page that is too large harms no other."""
    (folder / "b.JPG").write_text("not a picture")
    (folder / "c.tif").write_bytes(tiff([corners(), corners(200, 100)]))
    limits = ImageLimits(max_pixels=5_000)
    with pytest.raises(ImageFormatError, match="a text file"):
        list(survey_images(folder))
    assert [image.page for image in survey_images(folder, on_error="skip", image_limits=limits)] == [1, 1]
    kept = list(survey_images(folder, on_error="keep", image_limits=limits))
    assert [image.status for image in kept] == ["ok", "failed", "ok", "failed"]
    assert isinstance(kept[3].error, ImageTooLargeError)
    with pytest.raises(ImageNotFoundError):
        list(survey_images(folder / "missing", on_error="keep"))
    assert [image.status for image in survey_images([folder / "no", folder / "a.png"], on_error="keep")] == [
        "failed",
        "ok",
    ]


def test_addresses_are_listed_and_not_fetched() -> None:
    """An http(s) URL is listed by its name: there is neither a size nor a digest of it."""
    (image,) = survey_images("http://127.0.0.1:9/a.png")
    assert (image.source, image.width, image.image_sha256, image.ok) == ("http://127.0.0.1:9/a.png", None, None, True)


@pytest.mark.parametrize(
    "wrong", [{"on_error": "ignore"}, {"frames": 0}, {"frames": "some"}, {"glob": ""}, {"image_limits": 5}]
)
def test_wrong_arguments(wrong: dict[str, Any]) -> None:
    """An argument outside of its choices is an error at once."""
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        survey_images((), **wrong)
