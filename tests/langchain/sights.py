"""A scripted model that says what it sees, so that tests know which picture came to it and how."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from aifs_vision.emulator import Emulator
from tests.pictures import corner_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from aifs_vision.emulator import ChatRequest

__all__ = ["seeing"]


@contextmanager
def seeing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulator in the environment that answers with a picture's size, and the colours of its corners."""
    with Emulator(ocr=False, reply=_told) as server:
        monkeypatch.setenv("AIFS_BASE_URL", server.base_url)
        monkeypatch.setenv("AIFS_API_KEY", server.api_key)
        yield server


def _told(asked: ChatRequest) -> str:
    picture = asked.images[0].picture
    assert picture is not None
    return f"{picture.width} x {picture.height}: {', '.join(corner_names(picture))}"
