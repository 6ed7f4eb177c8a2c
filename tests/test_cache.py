"""What was paid is not paid again: the cache in the engine, equal images on their way, kills in mid-run."""

from __future__ import annotations

import os
import pickle
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from pydantic import BaseModel

from aifs_vision import CAPTION, CacheError, Limits, ReadingCache, SettingsError, Task, Vision
from aifs_vision.emulator import Emulator
from tests.pictures import corners, saved, tiff
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

PNG = saved(corners())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a cache is to be."""
    return tmp_path / "readings.db"


def client(server: Emulator, cache: Any, **options: Any) -> Vision:
    """A client with a cache."""
    return Vision(base_url=server.base_url, api_key=server.api_key, limits=Limits(), cache=cache, **options)


def pictures(count: int, start: int = 0) -> list[bytes]:
    """Pictures that differ."""
    return [saved(Image.new("L", (20 + n, 20), 200)) for n in range(start, start + count)]


def test_a_second_run_asks_nothing(server: Emulator, path: Path) -> None:
    """What is in the cache costs nothing: same texts, no request, no cost, and the report says so."""
    first = list(client(server, path).read_many(pictures(10), "ocr"))
    asked = len(server.requests)
    run = client(server, str(path)).read_many(pictures(10), "ocr")
    again = list(run)
    assert asked == len(server.requests) == 10
    assert [reading.text for reading in again] == [reading.text for reading in first]
    assert [reading.metadata() for reading in again] == [reading.metadata() for reading in first]
    assert all(reading.cached and reading.attempts == 0 and not reading.cost_eur for reading in again)
    assert (run.report.cached, run.report.requests, run.report.cost_eur) == (10, 0, 0.0)
    assert "10 of them paid before" in str(run.report)


def test_whatever_can_change_an_answer_is_another_reading(server: Emulator, path: Path) -> None:
    """Model, task, prompt, size and the bytes of the picture are in the key; the name of the file is not."""
    vision = client(server, path)
    vision.read(("a.png", PNG), "caption")
    vision.read(("b.png", PNG), "caption")
    assert len(server.requests) == 1
    others: list[str | Task] = [
        CAPTION.in_language("German"),
        CAPTION.sized(30),
        "ocr",
        Task.ask("What?"),
        Task.ask("Who?"),
    ]
    for number, task in enumerate(others, start=2):
        assert not vision.read(PNG, task).cached
        assert len(server.requests) == number
    assert (
        not Vision("gpt-4o", base_url=server.base_url, api_key=server.api_key, cache=path).read(PNG, "caption").cached
    )


def test_pages_are_kept_apart(server: Emulator, path: Path) -> None:
    """Each page of a document is a reading of its own."""
    document = tiff([corners(40, 40), corners(50, 40)])
    assert len(list(client(server, path).read_many([document], "caption"))) == 2
    assert [reading.cached for reading in client(server, path).read_many([document], "caption")] == [True, True]
    assert len(server.requests) == 2


class Receipt(BaseModel):
    """What is wanted of a receipt."""

    shop: str


def test_data_comes_back_as_data(path: Path) -> None:
    """Typed data is validated anew from the kept text; a schema that has changed is another question."""
    with Emulator(ocr=False, reply=lambda _: '{"shop": "Nord"}') as server:
        vision = client(server, path)
        for _ in range(2):
            assert vision.read(PNG, Task.extract(Receipt)).data == Receipt(shop="Nord")
        assert len(server.requests) == 1

        class Receipt2(Receipt):
            total: float | None = None

        Receipt2.__name__ = "Receipt"
        assert not vision.read(PNG, Task.extract(Receipt2)).cached


@pytest.mark.parametrize(
    "said",
    [
        {"content": "half", "finish_reason": "length"},
        {"content": "", "finish_reason": "content_filter"},
        {"content": None, "refusal": "no"},
        {"content": "and so it goes on\n" * 60, "finish_reason": "length"},
    ],
)
def test_only_results_are_kept(path: Path, said: Any) -> None:
    """A failure is asked again the next time; an empty page is a result, and is not."""
    with Emulator(ocr=False, reply=lambda _: said) as server:
        vision = client(server, path)
        first, second = (next(iter(vision.read_many([PNG], "ocr", on_error="keep"))) for _ in range(2))
        assert first.status == second.status != "ok"
        assert not second.cached
        assert len(server.requests) == 2 * first.requests
    with Emulator(ocr=False, reply=lambda _: "[no text]") as server:
        assert [client(server, path).read(PNG, "ocr").cached for _ in range(2)] == [False, True]


def test_equal_images_on_their_way_are_asked_once(path: Path) -> None:
    """Of equal images in flight one is asked about, whoever asks; the others get its reading under their own names."""
    with Emulator(ocr=False, latency=0.1) as server:
        vision = client(server, path)
        sources: list[Any] = [(f"{number}.png", PNG) for number in range(30)]
        found: list[Any] = []
        threads = [threading.Thread(target=lambda: found.extend(vision.read_many(sources))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(server.requests) == 1
    assert len(found) == 90
    assert sum(not reading.cached for reading in found) == 1
    assert {reading.source for reading in found} == {f"{number}.png" for number in range(30)}
    assert sum(reading.usage.output_tokens > 0 for reading in found) == 1


def test_equal_images_of_a_run_are_asked_once(path: Path) -> None:
    """An image that was opened before the answer about its equal had come, and is read after it, is not paid again."""
    with Emulator(ocr=False, latency=0.05) as server:
        limits = Limits(in_flight=1)
        vision = Vision(base_url=server.base_url, api_key=server.api_key, limits=limits, cache=path)
        run = vision.read_many(pictures(3) * 4, "caption")
        assert [reading.cached for reading in run] == [False] * 3 + [True] * 9
        assert len(server.requests) == 3


def test_who_gives_up_leaves_the_question_to_the_next(path: Path) -> None:
    """If the one who asks is cancelled, one of those who waited for the same answer asks for it."""
    with Emulator(ocr=False) as server:
        vision = client(server, path)
        server.fail("stall", times=1)
        first = vision.read_many([PNG])
        waiting = threading.Thread(target=lambda: list(first), daemon=True)
        waiting.start()
        until(lambda: server.requests)
        texts: list[str] = []
        second = threading.Thread(target=lambda: texts.append(vision.read(PNG).status))
        second.start()
        time.sleep(0.2)  # so that it waits for the answer by now, which shows nowhere; else it asks by itself
        first.close()
        second.join(30)
        waiting.join(30)
        assert texts == ["ok"]
        assert len(server.requests) == 2


def test_without_a_cache_everything_is_asked(server: Emulator) -> None:
    """Off unless named: equal images are asked about as often as they come."""
    assert not any(reading.cached for reading in client(server, None).read_many([PNG] * 5))
    assert len(server.requests) == 5


class Broken:
    """A cache that is not to be reached."""

    def __init__(self, *, reads: bool) -> None:
        self._reads = reads

    def get(self, _: str) -> None:
        """Nothing, or an error."""
        if not self._reads:
            raise ConnectionError("the cache is gone")

    def put(self, _: str, __: str) -> None:
        """An error."""
        raise ConnectionError("the cache is full")


def test_a_cache_that_cannot_be_read_ends_the_run(server: Emulator) -> None:
    """Nothing is paid again unseen: an unreadable cache is an error before anything is sent; the rest is pending."""
    with pytest.raises(CacheError, match="the cache is gone"):
        list(client(server, Broken(reads=False)).read_many(pictures(20), on_error="skip"))
    statuses = [reading.status for reading in client(server, Broken(reads=False)).read_many([PNG] * 9, on_error="keep")]
    assert set(statuses) <= {"failed", "pending"}
    assert not server.requests


def test_a_reading_that_cannot_be_kept_is_delivered(server: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    """What has been paid is handed over, though the cache did not take it; the log says so."""
    assert client(server, Broken(reads=True)).read(PNG).ok
    assert "the cache is full" in caplog.text


def test_what_does_not_belong_there_is_asked_again(server: Emulator, path: Path) -> None:
    """A value that is damaged, or somebody else's, is no reading: the image is asked about, and the value replaced."""
    client(server, path).read(PNG, "ocr")
    for value in (
        "nonsense",
        "[]",
        '{"status": "failed", "text": "x"}',
        '{"status": "ok"}',
        '{"status":"ok","text":5}',
    ):
        with sqlite3.connect(path) as database:
            (table,) = database.execute("select name from sqlite_master where type = 'table'").fetchone()
            database.execute(f"update {table} set reading = ?", (value,))  # noqa: S608 - the test's own table
        database.close()
        server.clear()
        assert not client(server, path).read(PNG, "ocr").cached
        assert len(server.requests) == 1
        assert client(server, path).read(PNG, "ocr").cached


@pytest.mark.parametrize("wrong", [5, object(), True])
def test_what_is_no_cache_is_refused_at_once(server: Emulator, wrong: Any) -> None:
    """A cache is a path or has get and put; a file of something else is refused before anything is read."""
    with pytest.raises(SettingsError, match="cache="):
        client(server, wrong)


def test_a_foreign_file_is_refused_at_once(server: Emulator, path: Path) -> None:
    """A file of something else is refused by the constructor, and left as it is."""
    path.write_text("my shopping list")
    with pytest.raises(CacheError, match=r"readings\.db"):
        client(server, path)
    assert path.read_text() == "my shopping list"


def test_a_client_with_a_cache_can_be_pickled(server: Emulator, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy uses the same file."""
    monkeypatch.setenv("AIFS_API_KEY", server.api_key)
    vision = client(server, ReadingCache(path))
    assert vision.read(PNG).ok
    assert pickle.loads(pickle.dumps(vision)).read(PNG).cached  # noqa: S301 - our own


# -- Kills ---------------------------------------------------------------------------------------------------------

_READER = """
import sys
from aifs_vision import Limits, Vision
from PIL import Image
import io

def picture(number):
    buffer = io.BytesIO()
    Image.new("L", (20 + number, 20), 200).save(buffer, "PNG")
    return (f"{number}.png", buffer.getvalue())

vision = Vision(base_url=sys.argv[1], api_key=sys.argv[2], cache=sys.argv[3], limits=Limits(in_flight=8))
for reading in vision.read_many(map(picture, range(int(sys.argv[4]))), "caption"):
    print(reading.source, flush=True)
"""


def _asked(server: Emulator) -> Counter[str]:
    """How often each picture was asked about; its width, in the header of the PNG, is its number."""
    widths = [int.from_bytes(request.images[0][1][16:20], "big") for request in server.requests if request.images]
    return Counter(f"{width - 20}.png" for width in widths)


def _kept(path: Path) -> int:
    with ReadingCache(path) as cache:
        return len(cache)


if sys.platform != "win32":  # which has no SIGKILL

    def test_ten_kills_and_nothing_finished_is_paid_twice(path: Path) -> None:
        """Killed ten times and run once more, every image is read; none that was handed over is asked about again.

        A kill costs again what was on its way: the requests in flight, and two images beyond them that are just being
        prepared or kept.
        """
        images, on_its_way, chance = 150, 8 + 2, random.Random(4)  # noqa: S311 - no secret
        with Emulator(ocr=False, latency=0.02, jitter=0.02) as server:
            command = [sys.executable, "-c", _READER, server.base_url, server.api_key, str(path), str(images)]
            finished: set[str] = set()
            for kills in range(1, 11):
                paid = {name: times for name, times in _asked(server).items() if name in finished}
                with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                    assert process.stdout is not None
                    for _ in range(len(finished) + chance.randrange(1, 14)):
                        finished.add(process.stdout.readline().strip())
                    time.sleep(chance.uniform(0, 0.03))  # the moment of the kill is what is tried
                    os.kill(process.pid, signal.SIGKILL)
                    finished |= {line.strip() for line in process.stdout if line.endswith(".png\n")}
                asked = _asked(server)
                assert {name: asked[name] for name in paid} == paid
                assert sum(asked.values()) <= _kept(path) + kills * on_its_way
            paid = {name: times for name, times in _asked(server).items() if name in finished}
            last = subprocess.run(command, check=True, capture_output=True, text=True)
            assert last.stdout.split() == [f"{number}.png" for number in range(images)]
            asked = _asked(server)
            assert {name: asked[name] for name in paid} == paid
            assert set(asked) == {f"{number}.png" for number in range(images)}
