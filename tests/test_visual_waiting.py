"""A Visual RAG store and a service in memory: waiting for the ingestion in virtual time, answers of every form."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import httpx
import pytest

from aifs_vision import AIFSVisualRAGStore, APIError, APITimeoutError, ServiceError, UnexpectedAnswerError
from aifs_vision.testing import virtual_time
from tests.office import html

CLOCK, FLOAT = html("Upkeep of the tide clock"), html("Mussels on the float")


class Slow:
    """A service in memory and in virtual time whose ingestion takes `seconds` for each file, one after the other."""

    def __init__(self, seconds: float, *, error: dict[str, str] | None = None) -> None:
        self.seconds, self.error = seconds, error
        self.looks: list[float] = []
        self._files: dict[str, str] = {}
        self._inside: list[tuple[str, float]] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answers a request."""
        now, path = asyncio.get_running_loop().time(), request.url.path
        if request.method == "POST" and path == "/v1/files":
            found = re.search(rb'filename="([^"]*)"', request.content)
            assert found is not None
            self._files[f"f{len(self._files)}"] = found[1].decode()
            return httpx.Response(201, json={"id": f"f{len(self._files) - 1}"})
        if request.method == "POST" and path == "/v1/vector_stores/vs/files":
            self._inside.append((json.loads(request.content)["file_id"], now))
            return httpx.Response(200, json={"id": self._inside[-1][0], "status": "in_progress"})
        if path == "/v1/vector_stores":
            return httpx.Response(200, json={"data": [{"id": "vs", "name": "slow"}]})
        if path == "/v1/files":
            return httpx.Response(200, json={"data": [{"id": i, "filename": name} for i, name in self._files.items()]})
        self.looks.append(now)
        begun = self._inside[0][1] if self._inside else 0.0
        listed = []
        for place, (file, _) in enumerate(self._inside, start=1):
            ended = now >= begun + place * self.seconds
            status = ("failed" if self.error else "completed") if ended else "in_progress"
            listed.append({"id": file, "status": status, "last_error": self.error if ended else None})
        return httpx.Response(200, json={"data": listed})


def slow() -> AIFSVisualRAGStore:
    """A client of that service."""
    return AIFSVisualRAGStore("slow", api_key="key", base_url="http://slow.example/v2")


# -- Waiting -----------------------------------------------------------------------------------------------


def test_it_waits_until_the_service_is_done() -> None:
    """An add looks again after pauses that grow to ten seconds until its files are ingested, and then for doubles."""
    service = Slow(100)
    with virtual_time(service) as clock:
        (file,) = slow().add(("clock.html", CLOCK))
        assert 100 <= clock.now < 111
    assert file.status == "completed"
    pauses = [later - one for one, later in zip(service.looks[1:-1], service.looks[2:-1], strict=False)]
    assert pauses[0] < 0.3
    assert pauses == sorted(pauses)
    assert max(pauses) < 10.5
    assert len(service.looks) < 25


def test_waiting_is_bounded_and_can_go_on() -> None:
    """What takes longer than `timeout` is an error that names it, and another add waits without an upload."""
    service = Slow(100)
    with virtual_time(service) as clock:
        store = slow()
        with pytest.raises(APITimeoutError, match=r"not ingested 'clock\.html' within 30 s.*timeout=") as caught:
            store.add(("clock.html", CLOCK), timeout=30)
        assert 30 <= clock.now < 32
        assert not isinstance(caught.value.__cause__, httpx.HTTPError)
        (file,) = store.add(("clock.html", CLOCK), timeout=90)
        assert (file.status, file.change) == ("completed", "unchanged")


def test_the_time_is_counted_anew_with_each_file() -> None:
    """A long row of files is waited for as long as one after the other is done within the time."""
    service = Slow(20)
    with virtual_time(service) as clock:
        files = slow().add([(f"{n}.html", html(str(n))) for n in range(8)], timeout=31)
        assert 160 <= clock.now < 171
    assert len(service.looks) < 35
    assert {file.status for file in files} == {"completed"}


def test_progress_is_told_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """With progress=True lines on stderr count the files that are ready; without it there are none."""
    with virtual_time(Slow(5)):
        slow().add([("a.html", CLOCK), ("b.html", FLOAT)], progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "aifs-vision: 2/2 files are ready in 'slow'"
    assert "aifs-vision: 1/2 files are ready in 'slow'" in lines
    with virtual_time(Slow(5)):
        slow().add([("a.html", CLOCK), ("b.html", FLOAT)])
    assert not capsys.readouterr().err


def test_progress_counts_the_files_of_this_add_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """What else the store has is no part of the progress; sources with one content are counted each."""
    with virtual_time(Slow(5)):
        slow().add([(f"{n}.html", html(str(n))) for n in range(8)])
        slow().add([("a.html", CLOCK), ("b.html", FLOAT), ("c.html", CLOCK)], progress=True)
        slow().add([(f"{n}.html", html(str(n))) for n in range(3)], progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert {line.partition("/")[2] for line in lines} == {"3 files are ready in 'slow'"}
    ready = [int(line.removeprefix("aifs-vision: ").partition("/")[0]) for line in lines]
    assert ready in ([0, 1, 3, 1, 3], [0, 2, 3, 1, 3])  # whichever of the two contents was uploaded first


def test_a_failure_of_the_service_is_its_own() -> None:
    """A file that the service could not ingest for its own reasons is a ServiceError with its words."""
    with (
        virtual_time(Slow(1, error={"code": "server_error", "message": "out of memory"})),
        pytest.raises(ServiceError, match=r"could not ingest 'a\.html': out of memory"),
    ):
        slow().add(("a.html", CLOCK))


# -- Lists ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lost", "status"), [(3, 400), (1, 404), (99, 400)])
def test_a_list_is_begun_anew_where_its_place_is_lost(lost: int, status: int) -> None:
    """Others may delete the file after which the next part begins; who meets that again and again is told."""
    parts: list[int] = []

    async def service(request: httpx.Request) -> httpx.Response:
        asked = request.url.params
        if request.url.path == "/v1/vector_stores":
            return httpx.Response(200, json={"data": [{"id": "vs", "name": "slow"}]})
        if request.url.path == "/v1/files":
            return httpx.Response(200, json={"data": []})
        parts.append(1)
        if "after" not in asked:
            first = {"id": f"f{len(parts)}", "status": "completed"}
            return httpx.Response(200, json={"data": [first], "has_more": True})
        if len(parts) <= 2 * lost:
            return httpx.Response(status, json={"detail": "query.after: there is no such file"})
        return httpx.Response(200, json={"data": [{"id": "last", "status": "completed"}]})

    with virtual_time(service):
        if lost == 99:
            with pytest.raises(APIError, match="there is no such file"):
                slow().files()
        else:
            assert [file.id for file in slow().files()] == [f"f{2 * lost + 1}", "last"]


# -- Answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {"data": 7},
        {"data": [7]},
        {"data": [{"filename": "a", "score": 1, "content": [{"type": "audio", "text": "x"}]}]},
        {"data": [{"filename": "a", "score": 1, "content": [{"type": "base64", "text": "iVBOR"}]}]},
        {"data": [{"filename": "a", "score": None, "content": [{"type": "text", "text": "x"}]}]},
        {"results": []},
    ],
)
def test_an_answer_that_is_none_is_an_error(answer: Any) -> None:
    """Hits in a form that was not promised are an error of the tree, never an empty list."""

    async def service(request: httpx.Request) -> httpx.Response:
        stores = {"data": [{"id": "vs", "name": "slow"}]}
        return httpx.Response(200, json=stores if request.method == "GET" else answer)

    with virtual_time(service), pytest.raises(UnexpectedAnswerError):
        slow().search("x")


def test_more_than_was_asked_for_is_left_out() -> None:
    """Whatever the service sends without being asked, there are no more hits of a kind than were wanted."""
    one = {"filename": "a.pdf", "page_number": 1, "score": 0.5, "content": [{"type": "text", "text": "x"}]}
    hits = [one, one, {**one, "content": [{"type": "base64", "text": "data:image/png;base64,AA"}]}]

    async def service(request: httpx.Request) -> httpx.Response:
        stores = [{"id": "vs", "name": "slow"}]
        return httpx.Response(200, json={"data": stores if request.method == "GET" else hits})

    with virtual_time(service):
        assert [hit.modality for hit in slow().search("x", k=1)] == ["text"]
        assert [hit.modality for hit in slow().search("x", k=0, k_images=1)] == ["image"]


def test_a_page_may_be_unknown() -> None:
    """A hit whose page the service does not tell has none, and its picture's address is passed on as it is."""
    hit = {"filename": "a.png", "score": 0.5, "content": [{"type": "base64", "text": "https://x.example/a.png"}]}

    async def service(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"data": [{"id": "vs", "name": "slow"} if request.method == "GET" else hit]})

    with virtual_time(service):
        (found,) = slow().search("x", k=0, k_images=1)
    assert "page" not in found.metadata()
    assert (found.page, found.filename, found.image_url) == (None, "a.png", "https://x.example/a.png")
