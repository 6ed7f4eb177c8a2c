"""Runs over many images: order, bounds, errors, laziness, and leaving early."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from aifs_vision import (
    AIFSError,
    AuthenticationError,
    ImageFormatError,
    ImageNotFoundError,
    Limits,
    SettingsError,
    Vision,
)
from aifs_vision.emulator import Emulator
from aifs_vision.testing import virtual_time
from tests.pictures import saved
from tests.replies import Crowd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aifs_vision.emulator import ChatRequest


def pictures(count: int) -> list[tuple[str, bytes]]:
    """Pictures that differ in their width, so that the server can tell them apart."""
    return [(f"{n:03}.png", saved(Image.new("L", (20 + n, 20), 200))) for n in range(count)]


def width(asked: ChatRequest) -> str:
    """A reply: the width of the picture, the later ones sooner."""
    picture = asked.images[0].picture
    assert picture is not None
    return str(picture.width - 20)


@pytest.fixture
def echo() -> Iterator[Emulator]:
    """A server that answers with the number of the picture, after a random while."""
    with Emulator(ocr=False, reply=width, jitter=0.05) as server:
        yield server


def client(server: Emulator, in_flight: int = 8, **options: Any) -> Vision:
    """A client without limits a minute."""
    return Vision(base_url=server.base_url, api_key=server.api_key, limits=Limits(in_flight=in_flight), **options)


def test_readings_come_in_the_order_of_their_sources(echo: Emulator) -> None:
    """However the answers come in, the readings come in the order of the sources, each with its own text."""
    readings = list(client(echo).read_many(pictures(40)))
    assert [reading.source for reading in readings] == [name for name, _ in pictures(40)]
    assert [reading.text for reading in readings] == [str(n) for n in range(40)]


def test_unordered_readings_are_all_there(echo: Emulator) -> None:
    """Without order every reading comes exactly once, with its own text."""
    readings = list(client(echo).read_many(pictures(40), ordered=False))
    assert sorted((reading.source, int(reading.text)) for reading in readings) == [
        (name, n) for n, (name, _) in enumerate(pictures(40))
    ]


def test_async_iteration_is_the_same(echo: Emulator) -> None:
    """`async for` gives what `for` gives."""

    async def texts() -> list[str]:
        return [reading.text async for reading in client(echo).read_many(pictures(20))]

    assert asyncio.run(texts()) == [str(n) for n in range(20)]


def test_no_more_than_allowed_is_in_flight() -> None:
    """Never more requests than Limits.in_flight are under way at once, and not fewer where there is work."""
    crowd = Crowd()
    with Emulator(ocr=False, reply=crowd) as server:
        list(client(server, in_flight=2).read_many(pictures(30)))
    assert crowd.most == 2


def test_the_first_reading_comes_before_the_last_source_is_asked_for(echo: Emulator) -> None:
    """Sources are taken as there is room: an endless iterator of them is no problem."""
    taken = 0

    def endless() -> Iterator[tuple[str, bytes]]:
        nonlocal taken
        while True:
            taken += 1
            yield pictures(1)[0]

    with client(echo, in_flight=4).read_many(endless()) as run:
        first = next(run)
        assert first.ok
        for _ in range(10):
            next(run)
    # Delivered, finished ahead, one that waits to be begun, opened ahead, and one that waits to be opened.
    assert taken <= 11 + 4 * 4 + 1 + 4 + 1


def test_raise_delivers_what_was_before(echo: Emulator) -> None:
    """on_error="raise" raises at the failure's place: what was before it has been delivered, nothing after it is."""
    sources: list[Any] = [*pictures(5), b"not a picture", *pictures(5)]
    run = client(echo).read_many(sources)
    assert [next(run).text for _ in range(5)] == [str(n) for n in range(5)]
    with pytest.raises(ImageFormatError):
        next(run)
    assert list(run) == []


def test_skip_logs_and_reports(echo: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    """on_error="skip" leaves failures out, and says so in the log and the report."""
    caplog.set_level(logging.WARNING, "aifs_vision")
    run = client(echo).read_many([*pictures(2), b"not a picture", "missing.png"], on_error="skip")
    assert [reading.text for reading in run] == ["0", "1"]
    assert "a text file" in caplog.text
    assert "missing.png" in caplog.text
    assert run.report.statuses == {"ok": 2, "failed": 2}
    assert [failure.source for failure in run.report.failures][1] == "missing.png"


def test_keep_gives_every_failure_its_place(echo: Emulator) -> None:
    """on_error="keep" gives failures as readings with empty text, their status and their error."""
    readings = list(client(echo).read_many([*pictures(1), "missing.png", *pictures(1)], on_error="keep"))
    assert [reading.status for reading in readings] == ["ok", "failed", "ok"]
    assert isinstance(readings[1].error, ImageNotFoundError)
    assert readings[1].text == ""
    assert "missing.png" in str(readings[1].metadata()["error"])


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_refused_key_ends_the_run(echo: Emulator, on_error: Any) -> None:
    """A key that is refused is true of every image: the run ends, whether it raises or skips."""
    vision = Vision(base_url=echo.base_url, api_key="wrong", limits=Limits(in_flight=1))
    with pytest.raises(AuthenticationError, match="Incorrect API key"):
        list(vision.read_many(pictures(20), on_error=on_error))
    assert len(echo.requests) <= 2


def test_a_refused_key_keeps_the_rest_pending(echo: Emulator) -> None:
    """Kept, a refused key is one failure, and what was not sent because of it is pending."""
    vision = Vision(base_url=echo.base_url, api_key="wrong", limits=Limits(in_flight=1))
    readings = list(vision.read_many(pictures(20), on_error="keep"))
    assert len(readings) == 20
    statuses = [reading.status for reading in readings]  # whose picture is prepared first, asks first
    assert set(statuses) == {"failed", "pending"}
    assert statuses.count("failed") <= 2
    assert all(isinstance(reading.error, AuthenticationError) for reading in readings)
    assert len(echo.requests) <= 2


def test_an_error_of_the_callers_iterator_reaches_the_caller(echo: Emulator) -> None:
    """If the iterable of sources raises, the readings before it are delivered and its error comes through."""

    def sources() -> Iterator[tuple[str, bytes]]:
        yield from pictures(3)
        raise LookupError("the database is gone")

    for ordered in (True, False):
        run = client(echo).read_many(sources(), on_error="skip", ordered=ordered)
        assert sorted(next(run).text for _ in range(3)) == ["0", "1", "2"]
        with pytest.raises(LookupError, match="database"):
            next(run)


def _wait_until_quiet(server: Emulator) -> int:
    """Waits until nothing more arrives at the server; gives the number of requests."""
    seen = -1
    while seen != len(server.requests):
        seen = len(server.requests)
        time.sleep(0.15)  # nothing tells that nothing more will come
    return seen


def test_leaving_early_stops_the_work() -> None:
    """Closing a run, leaving its `with` block or dropping it cancels what is in flight and sends nothing more."""
    with Emulator(ocr=False, latency=0.05) as server:
        vision = client(server, in_flight=2)
        threads = threading.active_count()
        for leave in ("close", "with", "drop", "async"):
            server.clear()
            run: Any = vision.read_many(pictures(200))
            if leave == "async":

                async def some(run: Any = run) -> None:
                    async with run:
                        async for _ in run:
                            break

                asyncio.run(some())
            elif leave == "with":
                with run:
                    next(run)
            else:
                next(run)
            if leave == "close":
                run.close()
                run.close()
                assert list(run) == []
            del run
            gc.collect()
            assert _wait_until_quiet(server) < 40, leave
        assert threading.active_count() <= threads + 16  # the loop's own pools, and nothing for each run


def test_a_run_that_was_never_started_leaves_nothing(echo: Emulator) -> None:
    """A run that is not iterated sends nothing, and may be closed."""
    run = client(echo).read_many(pictures(3))
    run.close()
    assert list(run) == []
    assert not echo.requests
    assert run.report.images == 0


def test_cancelling_the_caller_loses_no_reading(echo: Emulator) -> None:
    """An `anext` that is cancelled by a timeout can be asked again, and gives the reading it was waiting for."""

    async def numbers() -> list[str]:
        run, texts = client(echo, in_flight=2).read_many(pictures(10)), []
        while True:
            try:
                texts.append((await asyncio.wait_for(run.__anext__(), 0.005)).text)
            except asyncio.TimeoutError:
                continue
            except StopAsyncIteration:
                return texts

    assert asyncio.run(numbers()) == [str(n) for n in range(10)]


def test_arguments_are_checked_before_anything_is_sent(echo: Emulator) -> None:
    """A wrong task, on_error or frames is refused by the call itself, not by the first reading."""
    vision = client(echo)
    wrong: list[dict[str, Any]] = [{"on_error": "ignore"}, {"frames": "some"}, {"task": "captoin"}]
    for options in wrong:
        with pytest.raises(SettingsError):
            vision.read_many(pictures(1), **options)
    assert not echo.requests


def test_the_report_counts(echo: Emulator) -> None:
    """The report has images by status, requests, tokens, EUR and failures; as a table and as plain values."""
    echo.fail(503, times=1, retry_after=0.001)
    run = client(echo).read_many([*pictures(3), "missing.png"], on_error="keep")
    readings = list(run)
    report = run.report
    assert (report.images, report.results, report.requests, report.attempts) == (4, 3, 3, 4)
    assert report.usage.input_tokens == sum(reading.usage.input_tokens for reading in readings) > 0
    assert report.cost_eur == pytest.approx(sum(reading.cost_eur or 0 for reading in readings))
    assert report.as_dict()["failures"][0]["source"] == "missing.png"
    assert "3 ok, 1 failed" in str(report)
    assert "missing.png" in str(report)


def test_progress_is_shown_on_stderr(echo: Emulator, capfd: pytest.CaptureFixture[str]) -> None:
    """progress=True says on stderr how far the run got, also when it is left early; stdout stays clean."""
    list(client(echo).read_many([*pictures(3), "missing.png"], on_error="keep", progress=True))
    shown = capfd.readouterr()
    assert "4/4 (3 ok, 1 failed)" in shown.err
    assert not shown.out
    with client(echo).read_many(pictures(30), progress=True) as run:
        next(run)
    assert "/30 (" in capfd.readouterr().err


def test_many_threads_share_one_client(echo: Emulator) -> None:
    """Several threads may use one client at once; each gets its own readings."""
    vision, wrong = client(echo), []

    def work() -> None:
        texts = [reading.text for reading in vision.read_many(pictures(10))]
        if texts != [str(n) for n in range(10)]:
            wrong.append(texts)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_failures_are_errors_of_the_tree(echo: Emulator) -> None:
    """Whatever goes wrong with an image, its reading's error is of the project's tree."""
    faults: list[Any] = ["html", "reset", "reset_body", "cut_json", 503, 400]
    for fault in faults:
        echo.fail(fault, times=999)
        with virtual_time():
            (reading,) = list(client(echo).read_many(pictures(1), on_error="keep"))
        assert (reading.status, reading.text) == ("failed", "")
        assert isinstance(reading.error, AIFSError)
        echo.clear()


# -- Whatever the caller's own code does ---------------------------------------------------------------------


@pytest.mark.parametrize("error", [SystemExit("enough"), KeyboardInterrupt(), LookupError("gone")])
def test_what_the_callers_code_raises_comes_in_its_place(echo: Emulator, error: BaseException) -> None:
    """SystemExit, too, from an iterable or a file object comes after what was before it, and the loop lives on."""

    class Bad:
        def read(self) -> bytes:
            raise error

    def sources() -> Iterator[Any]:
        yield from pictures(2)
        raise error

    vision = client(echo)
    every: list[Any] = [sources(), [*pictures(2), Bad()]]
    for given in every:
        run = vision.read_many(given, on_error="keep")
        assert [next(run).text, next(run).text] == ["0", "1"]
        with pytest.raises(type(error)):
            next(run)
    assert vision.read(pictures(1)[0]).ok


def test_the_first_reading_does_not_wait_for_the_next_source(echo: Emulator) -> None:
    """A source that is only given once the first reading is there is no deadlock."""
    read = threading.Event()

    def sources() -> Iterator[tuple[str, bytes]]:
        yield pictures(1)[0]
        assert read.wait(30)
        yield pictures(2)[1]

    run = client(echo).read_many(sources())
    assert next(run).text == "0"
    read.set()
    assert next(run).text == "1"


def test_runs_that_feed_each_other_are_no_deadlock(echo: Emulator) -> None:
    """Iterables that read images themselves do not use up the threads that their own reading needs."""
    vision = client(echo)
    texts: list[str] = []

    def nested() -> None:
        inner = vision.read_many(pictures(2), "caption")
        texts.extend(reading.text for reading in vision.read_many((pictures(1)[0] for _ in inner), "ocr"))

    threads = [threading.Thread(target=nested, daemon=True) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert texts == ["0"] * 48


def test_a_run_dropped_at_once_sends_nothing_more(echo: Emulator) -> None:
    """A run that is cancelled and dropped while it begins is ended, without a task or a request left behind."""
    vision = client(echo)

    async def drop() -> None:
        waiting = asyncio.ensure_future(vision.read_many(pictures(60)).__anext__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])

    for _ in range(10):
        asyncio.run(drop())
        gc.collect()
    _wait_until_quiet(echo)
    assert len(echo.requests) < 10 * 20


def test_a_key_refused_in_mid_run_leaves_every_image_its_reading() -> None:
    """However the refusal falls between tasks that have begun and tasks that have not, no reading is missing."""
    for _ in range(20):
        with Emulator(ocr=False, reply=lambda _: "x") as server:
            server.fail(401, times=500)
            readings = list(client(server, in_flight=4).read_many(pictures(30), on_error="keep"))
        assert len(readings) == 30
        assert {reading.status for reading in readings} == {"failed", "pending"}


def test_a_run_has_one_caller_at_a_time(echo: Emulator) -> None:
    """A second thread that asks while the first one waits is refused, and costs no reading."""
    run = client(echo, in_flight=2).read_many(pictures(30))
    readings, refused = [], []

    def take() -> None:
        while True:
            try:
                readings.append(next(run).text)
            except StopIteration:
                return
            except RuntimeError as error:
                refused.append(str(error))
                time.sleep(0.001)  # lets the caller whose turn it is go on

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(readings, key=int) == [str(number) for number in range(30)]
    assert all("one caller at a time" in words for words in refused)


def test_an_empty_folder_among_others_is_its_own_failure(echo: Emulator, tmp_path: Path) -> None:
    """A folder without images, among other sources, fails in its place; the others are read."""
    empty = tmp_path / "empty"
    empty.mkdir()
    first, last = pictures(2)
    readings = list(client(echo).read_many([first, empty, tmp_path / "none", last], on_error="keep"))
    assert [reading.ok for reading in readings] == [True, False, False, True]
    assert readings[1].source == str(empty)
    assert isinstance(readings[1].error, ImageNotFoundError)
    run = client(echo).read_many([first, empty, last], on_error="skip")
    assert [reading.text for reading in run] == ["0", "1"]
    assert run.report.images == 3


FORKED = """
import os, sys
from aifs_vision import Limits, Vision
from tests.pictures import corners
vision = Vision(base_url=sys.argv[1], api_key=sys.argv[2], limits=Limits())
run = vision.read_many([corners()] * 20)
assert next(run).ok
if os.fork() == 0:
    try:
        next(run)
    except RuntimeError as error:
        assert "forked" in str(error)
        assert vision.read(corners()).ok
        os._exit(7)
    os._exit(1)
print(os.waitstatus_to_exitcode(os.wait()[1]), sum(reading.ok for reading in run))
"""

if hasattr(os, "fork"):

    def test_a_run_is_not_carried_on_in_a_forked_child(echo: Emulator) -> None:
        """A child that goes on with its parent's run is told so, instead of waiting for ever; the parent goes on."""
        command = [sys.executable, "-W", "ignore", "-c", FORKED, echo.base_url, echo.api_key]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent)
        assert done.stdout.split() == ["7", "19"], done.stderr
