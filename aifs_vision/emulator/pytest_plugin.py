"""A pytest fixture for the project's users; found by pytest itself once aifs-vision is installed.

    def test_reading(aifs_emulator):
        vision = Vision()  # key and address are in the environment of this test
        assert vision.read("scan.png").ok
        assert len(aifs_emulator.requests) == 1

One server serves the whole session; each test finds it without requests and faults, and knows nothing of the limits
that another test has met.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aifs_vision.emulator import Emulator


@pytest.fixture(scope="session")
def _aifs_emulator() -> Iterator[Emulator]:
    """One server a session: its text recognition takes a second to load and remembers what it has read."""
    from aifs_vision.emulator import Emulator

    with Emulator() as server:
        yield server


@pytest.fixture
def aifs_emulator(_aifs_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """The emulator, empty of requests and faults, with AIFS_BASE_URL and AIFS_API_KEY pointing at it."""
    from aifs_vision.testing import isolated

    _aifs_emulator.clear()
    monkeypatch.setenv("AIFS_BASE_URL", _aifs_emulator.base_url)
    monkeypatch.setenv("AIFS_API_KEY", _aifs_emulator.api_key)
    with isolated():
        yield _aifs_emulator
    _aifs_emulator.clear()
