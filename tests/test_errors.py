"""The tree of errors."""

from __future__ import annotations

import copy
import pickle
import re

import pytest

import aifs_vision
from aifs_vision import (
    AIFSError,
    AnswerError,
    APIError,
    ImageBrokenError,
    ImageEncryptedError,
    ImageFormatError,
    ImageNotFoundError,
    ImageTooLargeError,
    RateLimitError,
    Reading,
    ResidencyError,
    SettingsError,
    SeveralPagesError,
)

CLASSES = {
    name: value for name, value in vars(aifs_vision).items() if isinstance(value, type) and issubclass(value, AIFSError)
}
READING = Reading(status="truncated", text="half a", source="a.png", model="m", task="ocr", prompt_version="1")


def test_the_drawn_tree_is_the_real_one() -> None:
    """The drawing at the top of the module shows every class below its parent, and nothing else."""
    drawing = __import__("sys").modules[AIFSError.__module__].__doc__ or ""
    drawn: dict[str, str | None] = {}
    above: list[str] = []
    for line in drawing.splitlines():
        if found := re.match(r"([│├└─ ]*)(\w+Error)\b", line):
            depth = len(found[1]) // 4
            above[depth:] = [found[2]]
            drawn[found[2]] = above[depth - 1] if depth else None
    real = {name: value.__mro__[1].__name__ if value is not AIFSError else None for name, value in CLASSES.items()}
    assert drawn == real


@pytest.mark.parametrize(
    "error",
    [
        SettingsError.missing_key(),
        ResidencyError("m", None, "germany"),
        ImageNotFoundError("a.png"),
        ImageFormatError("a.png", "a text file"),
        ImageBrokenError("a.png", "JPEG", "truncated", page=2),
        ImageEncryptedError("a.pdf"),
        ImageFormatError.needs("a.heic", "HEIC", "heic"),
        ImageTooLargeError("a.png", "has 60000 x 60000 px", "max_pixels", 1),
        SeveralPagesError("a.tif", 2),
        APIError("HTTP 418", detail="teapot", status=418, request_id="r1"),
        RateLimitError("HTTP 429", status=429),
        AnswerError(READING, "too long"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_a_pickle_and_a_copy(error: AIFSError) -> None:
    """An error that crosses to another process keeps its class, its message and its facts."""
    for twin in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):  # noqa: S301 - our own bytes
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin).keys() == vars(error).keys()


def test_api_errors_carry_the_services_words() -> None:
    """The message of an API error has the service's own words, the request's id and the remedy."""
    error = aifs_vision.AuthenticationError("HTTP 401", detail="Incorrect API key provided", request_id="abc")
    assert "Incorrect API key provided" in str(error)
    assert "abc" in str(error)
    assert "AIFS_API_KEY" in str(error)


def test_image_errors_name_source_and_page() -> None:
    """An image error says which source and page it is about, in its message and as attributes."""
    error = ImageBrokenError("scan.tif", "TIFF", "cut off", page=3)
    assert (error.source, error.page) == ("scan.tif", 3)
    assert str(error).startswith("scan.tif (page 3): ")
