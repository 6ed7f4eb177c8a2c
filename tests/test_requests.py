"""What an observer of a run is told of its requests."""

from __future__ import annotations

import asyncio
import gc
import pickle
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from aifs_vision import (
    APIConnectionError,
    BudgetError,
    Limits,
    ReadingCache,
    ServiceError,
    SettingsError,
    Task,
    Usage,
    Vision,
)
from aifs_vision.testing import virtual_time
from tests.pictures import corners, saved
from tests.service import answer

if TYPE_CHECKING:
    from pathlib import Path

    from aifs_vision import SentRequest
    from aifs_vision.emulator import Emulator

PNG = saved(corners())
OTHER = saved(corners(64, 40))
KEY = "a-key-that-nobody-may-see"


class Asynchronous:
    """An observer that would have to be awaited."""

    async def __call__(self, request: SentRequest) -> None:
        """Nothing."""


def observed(vision: Vision, sources: Any, task: str | Task = "ocr", **options: Any) -> list[SentRequest]:
    """What an observer of a run is told of."""
    seen: list[SentRequest] = []
    list(vision.read_many(sources, task, on_request=seen.append, **options))
    return seen


def pairs(seen: list[SentRequest]) -> list[tuple[SentRequest, SentRequest]]:
    """Beginning and end of each request, in the order of the beginnings."""
    ends = {request.id: request for request in seen if request.ended}
    return [(request, ends[request.id]) for request in seen if not request.ended]


def test_each_request_is_told_of_twice(vision: Vision, folder: Path) -> None:
    """A run tells when it sends a request and when it has ended: of which page, to whom, and what it took."""
    seen = observed(vision, folder)
    told = pairs(seen)
    assert len(seen) == 2 * len(told) == 8
    assert sorted((sent.source, sent.page) for sent, _ in told) == [
        (str(folder / "a.png"), 1),
        (str(folder / "b.JPG"), 1),
        (str(folder / "c.tif"), 1),
        (str(folder / "c.tif"), 2),
    ]
    for sent, ended in told:
        assert (sent.model, sent.task, sent.attempt) == (vision.model, "ocr", 1)
        assert (sent.status, sent.error, sent.seconds, sent.usage) == (None, None, None, Usage())
        assert (ended.source, ended.page, ended.attempt) == (sent.source, sent.page, 1)
        assert (ended.status, ended.error) == (200, None)
        assert ended.usage.input_tokens > 0


def test_what_is_sent_again_is_a_request_of_its_own() -> None:
    """Refusals, and what breaks below HTTP, are told of with status or class, and with the seconds they took."""
    outcomes: list[Any] = [503, httpx.ReadError("reset"), 200]

    async def served(_: httpx.Request) -> httpx.Response:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return httpx.Response(outcome, json=answer("text") if outcome == 200 else {"detail": "busy"})

    with virtual_time(served):
        seen = observed(Vision(base_url="http://service.example/v2", api_key=KEY, limits=Limits()), [PNG])
    told = pairs(seen)
    assert [(ended.attempt, ended.status, ended.error) for _, ended in told] == [
        (1, 503, None),
        (2, None, "ReadError"),
        (3, 200, None),
    ]
    assert len({ended.id for _, ended in told}) == 3
    assert [request.ended for request in seen] == [False, True] * 3


def test_the_report_counts_the_same(server: Emulator, vision: Vision) -> None:
    """There are as many requests as the report has attempts, of failures, too."""
    server.fail(503, times=8)
    seen: list[SentRequest] = []
    with virtual_time():
        run = vision.read_many([PNG], "ocr", on_error="keep", on_request=seen.append)
        (reading,) = run
    assert isinstance(reading.error, ServiceError)
    assert len(pairs(seen)) == run.report.attempts > 1


def test_a_repaired_answer_is_a_second_question(server: Emulator, vision: Vision) -> None:
    """A question that is put once more begins with its first attempt again."""
    server.fail("length")
    told = pairs(observed(vision, [PNG], on_error="keep"))
    assert [ended.attempt for _, ended in told] == [1, 1]


def test_what_is_not_sent_is_not_told_of(vision: Vision, server: Emulator, tmp_path: Path) -> None:
    """A reading from a cache, and an equal picture that is on its way, are no requests."""
    cached = Vision(
        base_url=server.base_url, api_key=server.api_key, limits=Limits(), cache=ReadingCache(tmp_path / "readings")
    )
    assert len(pairs(observed(cached, [PNG, PNG, PNG]))) == 1
    assert observed(cached, [PNG]) == []
    assert observed(vision, [b"no picture"], on_error="keep") == []


def test_a_run_that_is_left_tells_of_the_ends(server: Emulator, vision: Vision) -> None:
    """Requests under way when their run is closed have ended, as nobody waits for them any more."""
    server.fail("slow", seconds=5)
    server.fail("none")
    seen: list[SentRequest] = []
    with vision.read_many([PNG, OTHER], "ocr", ordered=False, on_request=seen.append) as run:
        next(iter(run))
    assert sorted(str(ended.error) for _, ended in pairs(seen)) == ["CancelledError", "None"]


def test_no_secrets(vision: Vision, server: Emulator) -> None:
    """Neither the key, the picture, the prompt nor the service's words are in it; it can be pickled."""
    server.fail(400, body='{"detail": "private words"}')
    seen = observed(vision, [("name.png", PNG)], Task.ask("What is the secret?"), on_error="keep")
    assert pickle.loads(pickle.dumps(seen)) == seen  # noqa: S301 - its own pickle
    for words in (server.api_key, "private words", "What is the secret?", "base64"):
        assert words not in str(seen)


ERRORS = [
    ZeroDivisionError("mine"),
    SystemExit(3),
    OSError("disk full"),
    httpx.ConnectError("telemetry is down"),
    httpx.ReadTimeout("telemetry is slow"),
    asyncio.TimeoutError("telemetry is slow"),
    asyncio.CancelledError("telemetry has left"),
    APIConnectionError("telemetry is down"),
    BudgetError(1.0, 1.0, 1.0),
]


@pytest.mark.parametrize(("when", "on_error"), [*product(["sent", "ended"], ["raise", "skip", "keep"])])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_what_an_observer_raises_ends_its_run(
    vision: Vision,
    server: Emulator,
    caplog: pytest.LogCaptureFixture,
    *,
    error: BaseException,
    when: str,
    on_error: Any,
) -> None:
    """An error of the caller's own reaches the caller as it is, whatever it is: no failure of the page or the service.

    Nothing is sent again for it, and no other run is the worse for it.
    """
    told: list[SentRequest] = []

    def observer(request: SentRequest) -> None:
        told.append(request)
        if request.ended is (when == "ended"):
            raise error

    with pytest.raises(type(error)) as raised:
        list(vision.read_many([PNG, OTHER, saved(corners(50, 50))], "ocr", on_request=observer, on_error=on_error))
    assert raised.value is error
    assert {request.attempt for request in told} == {1}
    assert when == "ended" or not any(request.ended for request in told)
    assert len(server.requests) <= len({request.id for request in told}) if when == "ended" else not server.requests
    assert vision.read(PNG, "ocr").attempts == 1
    gc.collect()
    assert "never retrieved" not in caplog.text


def test_an_observer_that_says_that_it_is_over(vision: Vision) -> None:
    """A StopIteration of its own is not taken for the end of the run."""

    def observer(_: SentRequest) -> None:
        next(iter(()))

    with pytest.raises(RuntimeError, match="on_request raised StopIteration"):
        list(vision.read_many([PNG], "ocr", on_request=observer))


def test_what_an_observer_does_not_see_is_paid_all_the_same(server: Emulator) -> None:
    """Money of an answer whose observer raised is spent, and that of a request that was not sent is not."""
    once = Vision(base_url=server.base_url, api_key=server.api_key, limits=Limits(), max_cost=0.02)

    def observer(request: SentRequest) -> None:
        if request.ended is ended:
            raise ZeroDivisionError

    for ended, runs in ((False, 50), (True, 50)):
        met = []
        for _ in range(runs):
            with pytest.raises((ZeroDivisionError, BudgetError)) as raised:
                list(once.read_many([PNG], "ocr", on_request=observer))
            met.append(raised.type)
        assert (BudgetError in met) is ended


@pytest.mark.parametrize("wrong", [3, "print", asyncio.sleep, Asynchronous(), partial(asyncio.sleep, 1)])
def test_an_observer_is_a_plain_function(vision: Vision, wrong: Any) -> None:
    """What cannot be called, or would have to be awaited, is an error when the run is made."""
    with pytest.raises(SettingsError, match="on_request"):
        vision.read_many([PNG], "ocr", on_request=wrong)


def test_a_coroutine_that_nobody_awaits(vision: Vision) -> None:
    """A plain function that gives one is an error, too."""
    later: Any = lambda request: asyncio.sleep(request.attempt)  # noqa: E731 - no `def` would be plain
    with pytest.raises(TypeError, match="coroutine"):
        list(vision.read_many([PNG], "ocr", on_request=later))


def test_an_observer_cannot_wait_for_itself(vision: Vision) -> None:
    """An observer that asks for another reading, for which its own loop would have to go on, is told so."""

    def observer(_: SentRequest) -> None:
        vision.read(OTHER, "ocr")

    with pytest.raises(RuntimeError, match="inside its own event loop"):
        list(vision.read_many([PNG], "ocr", on_request=observer))
