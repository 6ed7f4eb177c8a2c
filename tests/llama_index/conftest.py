"""What several of these tests look with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aifs_vision.emulator import Emulator
from tests.pictures import corner_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aifs_vision.emulator import ChatRequest


@pytest.fixture
def eyes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """A service that answers with the colour of the upper left corner."""

    def seen(asked: ChatRequest) -> str:
        picture = asked.images[0].picture
        return "nothing" if picture is None else corner_names(picture)[0]

    with Emulator(ocr=False, reply=seen) as server:
        monkeypatch.setenv("AIFS_BASE_URL", server.base_url)
        monkeypatch.setenv("AIFS_API_KEY", server.api_key)
        yield server
