"""The file of readings: nothing that was put is lost, and nothing that is not ours is touched."""

from __future__ import annotations

import copy
import os
import pickle
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aifs_vision import Cache, CacheError, ReadingCache, SettingsError, Vision

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = 86400

WRITER = """
import sys
from hashlib import sha256
from aifs_vision import ReadingCache

path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
cache = ReadingCache(path)
print("ready", flush=True)
sys.stdin.readline()
for n in range(count):
    key = sha256(f"{name} {n}".encode()).hexdigest()
    cache.put(key, key * 32)
    print(key, flush=True)
"""


def key(of: object) -> str:
    """A key as the readings have it."""
    return sha256(str(of).encode()).hexdigest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a cache may be made; nothing is there."""
    return tmp_path / "readings.sqlite"


def in_the_file(path: Path, statement: str, *values: object) -> list[Any]:
    """Runs a statement as somebody else would, with the cache closed or open."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement, values).fetchall()


def writer(path: Path, name: object, count: int) -> subprocess.Popen[str]:
    """A process that is about to write, and prints every key once it is written; a line starts it."""
    command = [sys.executable, "-c", WRITER, str(path), str(name), str(count)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def go(process: subprocess.Popen[str]) -> None:
    """Lets a writer write."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def is_whole(path: Path) -> bool:
    """Whether SQLite finds nothing wrong."""
    return in_the_file(path, "PRAGMA integrity_check") == [("ok",)]


def test_what_was_put_is_there(path: Path) -> None:
    """A value comes back as it was, for its own key only; putting again replaces it."""
    with ReadingCache(path) as cache:
        assert cache.get(key(1)) is None
        for value in ("{}", '{"text": "Größe 😀\\u0000 \x00 end"}', "", "x" * 300_000):
            cache.put(key(1), value)
            assert cache.get(key(1)) == value
        assert cache.get(key(2)) is None
        assert len(cache) == 1


def test_an_empty_cache_is_true(path: Path) -> None:
    """`if cache:` asks whether there is one, not whether something is in it."""
    assert ReadingCache(path)


def test_only_text_is_kept(path: Path) -> None:
    """A key or value that is no text is a mistake of the caller, named."""
    cache: Any = ReadingCache(path)
    with pytest.raises(TypeError, match="key is of type int"):
        cache.get(1)
    with pytest.raises(TypeError, match="key is of type bytes"):
        cache.put(b"1", "")
    with pytest.raises(TypeError, match="value is of type NoneType"):
        cache.put("1", None)


def test_the_file_is_made_at_first_use_and_can_be_looked_at(path: Path) -> None:
    """Nothing is made before the first use; then it is a table that anybody can read, marked as ours."""
    cache = ReadingCache(path)
    assert not path.exists()
    cache.put(key(1), "{}")
    cache.close()
    [row] = in_the_file(path, "SELECT key, bytes, reading, created = used, created FROM readings")
    assert row[:4] == (key(1), 2, "{}", 1)
    assert abs(row[4] - time.time()) < DAY
    assert in_the_file(path, "PRAGMA journal_mode") == [("wal",)]
    assert path.read_bytes()[60:72] == b"\0\0\0\1" + b"\0\0\0\1" + b"AIFS"  # version, incremental vacuum, mark
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208 - the names are what counts


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_are_texts_or_objects(path: Path, kind: Callable[[Path], Any]) -> None:
    """A path is a text or a path object; it is made absolute, so that a later chdir changes nothing."""
    with ReadingCache(kind(path)) as cache:
        cache.put(key(1), "{}")
        assert cache.path == str(path)
        assert str(path) in repr(cache)
    assert path.exists()


def test_a_relative_path_is_of_the_folder_of_then(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another working directory later is no other file."""
    monkeypatch.chdir(path.parent)
    with ReadingCache(path.name) as cache:
        monkeypatch.chdir("/")
        cache.put(key(1), "{}")
    assert path.exists()


def test_what_a_setting_means(path: Path) -> None:
    """A path makes a file of readings, None is none, a cache is itself; anything else says what it should be."""

    class Own:
        def get(self, key: str) -> str | None:
            raise AssertionError(f"{key} is asked for, though a setting is only looked at")

        def put(self, key: str, value: str) -> None:
            raise AssertionError(f"{key} is put, with {value}")

    class Waits:
        async def get(self, key: str) -> str | None:
            raise AssertionError(f"{key} is asked for")

        async def put(self, key: str, value: str) -> None:
            raise AssertionError(f"{key} is put, with {value}")

    own: Cache = Own()
    for given in (None, own, path, str(path), ReadingCache(path)):
        Vision(base_url="http://service.example/v2", api_key="k", cache=given)
    wrong: Any
    for wrong in ({}, True, 5, b"path", object(), ReadingCache, Waits()):
        with pytest.raises(SettingsError, match=r"cache=.*it is a path, a ReadingCache or an object"):
            Vision(base_url="http://service.example/v2", api_key="k", cache=wrong)


@pytest.mark.parametrize("name", ["", ":memory:", "a\0b"])
def test_a_cache_is_a_file(name: str) -> None:
    """What is no name of a file is refused, as a cache that is gone with its process pays everything twice."""
    with pytest.raises(SettingsError, match=r"ReadingCache.path"):
        ReadingCache(name)


@pytest.mark.parametrize(
    "options",
    [
        {"max_bytes": 2**20 - 1},
        {"max_bytes": 1e9},
        {"max_bytes": "1 GB"},
        {"max_bytes": None},
        {"max_age_days": 0},
        {"max_age_days": -1},
        {"max_age_days": float("nan")},
        {"max_age_days": "30"},
    ],
)
def test_bounds_that_cannot_be_right(path: Path, options: dict[str, Any]) -> None:
    """A bound that cannot be right is refused by name, before anything is opened."""
    with pytest.raises(SettingsError, match=f"ReadingCache.{next(iter(options))}="):
        ReadingCache(path, **options)


# -- Threads, processes, forks -----------------------------------------------------------------------------


def test_it_can_be_closed_and_used_again(path: Path) -> None:
    """Closing is quiet, also twice; the next use opens the file again."""
    cache = ReadingCache(path)
    cache.close()
    cache.put(key(1), "{}")
    cache.close()
    cache.close()
    assert cache.get(key(1)) == "{}"
    cache.close()


def test_it_can_be_pickled_and_copied(path: Path) -> None:
    """What is pickled is the path and the bounds; a copy, made while it is open, sees the same readings."""
    with ReadingCache(path, max_bytes=2**21, max_age_days=3.5) as cache:
        cache.put(key(1), "{}")
        for twin in (pickle.loads(pickle.dumps(cache)), copy.copy(cache), copy.deepcopy(cache)):  # noqa: S301
            assert repr(twin) == repr(cache)
            assert twin.get(key(1)) == "{}"
            twin.close()


def test_the_next_process_finds_it(path: Path) -> None:
    """What one process has put, the next one gets."""
    process = writer(path, "a", 20)
    out, _ = process.communicate("\n")
    assert process.returncode == 0
    with ReadingCache(path) as cache:
        assert [cache.get(found) for found in out.split()[1:]] == [key(f"a {n}") * 32 for n in range(20)]


def test_many_threads_share_one(path: Path) -> None:
    """Eight threads put and get at once; each finds at once what it has put, and in the end everything is there."""
    with ReadingCache(path) as cache:

        def work(thread: int) -> None:
            for n in range(150):
                mine = key((thread, n))
                cache.put(mine, mine * 20)
                assert cache.get(mine) == mine * 20
                cache.put(key(n), str(n))  # all threads the same

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        assert len(cache) == 8 * 150 + 150
        assert all(cache.get(key((thread, n))) for thread in range(8) for n in range(150))


def test_many_processes_make_and_fill_one(path: Path) -> None:
    """Four processes start at the same moment on a file that is not there; nothing of anybody is lost."""
    for round_ in range(3):
        own = path.with_name(f"{round_}.sqlite")
        processes = [writer(own, name, 60) for name in range(4)]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            go(process)
        written = [found for process in processes for found in process.communicate()[0].split()]
        assert [process.returncode for process in processes] == [0] * 4
        with ReadingCache(own) as cache:
            assert len(written) == len(cache) == 240
            assert all(cache.get(found) == found * 32 for found in written)
        assert is_whole(own)


def test_many_processes_make_many_at_the_same_moment(path: Path) -> None:
    """Processes that race through the same new files all succeed with each, whoever was first."""
    program = """
import sys
from aifs_vision import ReadingCache

for n in range(60):
    ReadingCache(f"{sys.argv[1]}.{n}").put(sys.argv[2], "{}")
"""
    command = [sys.executable, "-c", program, str(path)]
    processes = [subprocess.Popen([*command, str(name)], stderr=subprocess.PIPE, text=True) for name in range(4)]
    assert [process.communicate()[1] for process in processes] == [""] * 4
    for n in range(60):
        with ReadingCache(f"{path}.{n}") as cache:
            assert len(cache) == 4


def test_two_in_one_process_and_others(path: Path) -> None:
    """Making a second one on the same file takes nothing from the first: another process closing loses nothing."""
    with ReadingCache(path) as first:
        first.put(key(0), "{}")
        ReadingCache(path)  # looks at the file, and must not let go of SQLite's locks on it
        process = writer(path, "other", 5)
        process.communicate("\n")  # the last one to close, if it does not see the locks: it would delete the log
        first.put(key(1), "{}")
        assert path.with_name(f"{path.name}-wal").exists()
        check = f"from aifs_vision import ReadingCache; print(ReadingCache({str(path)!r}).get({key(1)!r}))"
        assert subprocess.check_output([sys.executable, "-c", check], text=True) == "{}\n"


if hasattr(signal, "SIGKILL"):

    def test_killed_processes_lose_nothing(path: Path) -> None:
        """Killed at any moment, also while making the file, what a process has reported as written is there."""
        rng = random.Random(5)  # noqa: S311 - not for secrets
        for attempt in range(12):
            own = path.with_name(f"{attempt % 3}.sqlite")
            process = writer(own, attempt, 100_000)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            go(process)
            written = [process.stdout.readline().strip() for _ in range(rng.choice([0, 0, 1, 30, 300]))]
            threading.Event().wait(rng.random() * 0.02)
            process.send_signal(signal.SIGKILL)
            written += process.communicate()[0].split()
            whole = [found for found in written if len(found) == 64]  # a last line may be cut off
            with ReadingCache(own) as cache:
                assert all(cache.get(found) == found * 32 for found in whole)
            assert is_whole(own)


if hasattr(os, "fork"):

    def in_a_child(work: Callable[[], object]) -> int:
        """Runs something in a forked child, which ends without cleaning up, and returns its process id."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 and later warn where threads run
            child = os.fork()
        if child == 0:
            status = 1
            try:
                work()
                status = 0
            finally:
                os._exit(status)
        return child

    def test_a_fork_in_mid_use_loses_nothing(path: Path) -> None:
        """Children of a process whose threads write go on by themselves; what anybody has put is there."""
        cache, stop = ReadingCache(path), threading.Event()
        counts = [0] * 4

        def write(thread: int) -> None:
            while not stop.is_set() or counts[thread] < 10:
                cache.put(key((thread, counts[thread])), "{}")
                counts[thread] += 1

        def child(number: int) -> None:
            with ThreadPoolExecutor(2) as pool:  # threads, too, are new in a child
                list(pool.map(lambda n: cache.put(key(("child", number, n)), "{}"), range(50)))
            assert all(cache.get(key(("child", number, n))) == "{}" for n in range(50))

        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(write, thread) for thread in range(4)]
            children = [in_a_child(lambda number=number: child(number)) for number in range(6)]  # type: ignore[misc]
            assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 6
            stop.set()
            for future in running:
                future.result()
        assert len(cache) == sum(counts) + 6 * 50
        cache.close()
        assert is_whole(path)

    def test_a_child_outlives_the_closing_of_its_parent(path: Path) -> None:
        """What a child writes after its parent has closed the file is kept, though the child is never closed."""
        cache = ReadingCache(path)
        cache.put(key("parent"), "{}")
        (ready, told), (closed, tell) = os.pipe(), os.pipe()

        def child() -> None:
            cache.put(key("before"), "{}")
            os.write(told, b".")
            os.read(closed, 1)
            cache.put(key("after"), "{}")

        pid = in_a_child(child)
        os.read(ready, 1)
        cache.close()
        os.write(tell, b".")
        assert os.waitpid(pid, 0)[1] == 0
        for end in (ready, told, closed, tell):
            os.close(end)
        assert [cache.get(key(name)) for name in ("parent", "before", "after")] == ["{}"] * 3
        cache.close()


def test_it_ends_quietly() -> None:
    """A process that never closes its cache ends without a warning; so does one that forgets it on the way."""
    program = """
import tempfile
from aifs_vision import ReadingCache

folder = tempfile.mkdtemp()
for n in range(3):
    cache = ReadingCache(f"{folder}/{n}.sqlite")
    cache.put("a", "{}")
"""
    done = subprocess.run([sys.executable, "-X", "dev", "-W", "error", "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_file_that_was_deleted_is_made_again(path: Path) -> None:
    """Deleting the file clears the cache; what is put then is in a new file, not in one that nobody can find."""
    with ReadingCache(path) as cache:
        cache.put(key(1), "{}")
        path.unlink()
        assert cache.get(key(1)) is None
        cache.put(key(2), "{}")
    with ReadingCache(path) as cache:
        assert len(cache) == 1
    assert is_whole(path)


# -- What is not ours, and what is broken ------------------------------------------------------------------


def database(path: Path, *statements: str) -> None:
    """A file of somebody else."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)


def a_text(path: Path) -> None:
    """A file that is no database."""
    path.write_text("my diary\n" * 100)


def a_short_text(path: Path) -> None:
    """A file shorter than a header."""
    path.write_text("x")


def a_database(path: Path) -> None:
    """A database without a mark."""
    database(path, "CREATE TABLE mine (a)")


def a_database_with_a_log(path: Path) -> None:
    """A database with a mark of its own and a journal mode that leaves files."""
    database(path, "PRAGMA journal_mode = WAL", "PRAGMA application_id = 77", "CREATE TABLE mine (a)")


def an_empty_database(path: Path) -> None:
    """A database with nothing in it."""
    database(path, "CREATE TABLE mine (a)", "DROP TABLE mine", "VACUUM")


def a_later_one(path: Path) -> None:
    """A cache of a later version."""
    with ReadingCache(path) as cache:
        cache.put(key(1), "{}")
    database(path, "PRAGMA user_version = 2")


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (a_text, "something else than a cache"),
        (a_short_text, "something else than a cache"),
        (a_database, "database of something else"),
        (a_database_with_a_log, "database of something else"),
        (an_empty_database, "database of something else"),
        (a_later_one, "a later version"),
    ],
)
def test_a_foreign_file_is_refused_and_left_alone(path: Path, make: Callable[[Path], None], what: str) -> None:
    """A file that is not ours is refused as soon as it is named, or has come by then; no byte of it changes."""
    early = ReadingCache(path)
    make(path)
    before, at = path.read_bytes(), path.stat().st_mtime_ns
    with pytest.raises(CacheError, match=what):
        ReadingCache(path)
    for use in (lambda: early.get("a"), lambda: early.put("a", "b"), lambda: len(early), early.prune, early.clear):
        with pytest.raises(CacheError, match=what):
            use()
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, at)
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208


def test_an_empty_file_is_a_new_cache(path: Path) -> None:
    """A file without a byte, as `mktemp` makes it, becomes a cache."""
    path.touch()
    with ReadingCache(path) as cache:
        cache.put(key(1), "{}")
    assert path.read_bytes()[68:72] == b"AIFS"


def test_places_where_no_file_can_be(tmp_path: Path) -> None:
    """A folder, a folder that is not there and a file in the place of a folder are refused at once, and clearly."""
    with pytest.raises(CacheError, match="it is a folder"):
        ReadingCache(tmp_path)
    with pytest.raises(CacheError, match="its folder is not there"):
        ReadingCache(tmp_path / "none" / "readings.sqlite")
    (tmp_path / "file").write_text("x")
    with pytest.raises(CacheError, match="file"):
        ReadingCache(tmp_path / "file" / "readings.sqlite")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(CacheError, match="it is no file"):
            ReadingCache(tmp_path / "pipe")


def test_a_damaged_file_is_an_error_and_left_as_it_is(path: Path) -> None:
    """Where the pages are damaged, every method says so; nothing is thrown away."""
    with ReadingCache(path) as cache:
        for n in range(200):
            cache.put(key(n), "{}" * 500)
    damaged = path.read_bytes()[:100] + b"\xa5" * (path.stat().st_size - 100)
    path.write_bytes(damaged)
    cache = ReadingCache(path)
    for use in (lambda: cache.get("a"), lambda: cache.put("a", "b"), lambda: len(cache), cache.prune, cache.clear):
        with pytest.raises(CacheError, match="malformed"):
            use()
    cache.close()
    assert path.read_bytes() == damaged


def test_a_file_that_is_cut_off_is_an_error(path: Path) -> None:
    """Half a file gives no wrong readings: each is right, or an error."""
    with ReadingCache(path) as cache:
        for n in range(200):
            cache.put(key(n), key(n) * 50)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    errors = 0
    with ReadingCache(path) as cache:
        for n in range(200):
            try:
                assert cache.get(key(n)) == key(n) * 50
            except CacheError:
                errors += 1
    assert errors


def test_a_cache_error_can_be_pickled(path: Path) -> None:
    """An error of the cache crosses to another process with its message."""
    path.write_text("x")
    with pytest.raises(CacheError) as caught:
        ReadingCache(path)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301


# -- Bounds ------------------------------------------------------------------------------------------------


def size(path: Path) -> int:
    """The bytes in use, free pages not counted."""
    [(pages,)], [(free,)] = in_the_file(path, "PRAGMA page_count"), in_the_file(path, "PRAGMA freelist_count")
    return int(pages - free) * 4096


def test_the_bound_holds_and_the_oldest_go(path: Path) -> None:
    """However much is put, the file stays within its bound; what was put last is there."""
    most = 2**20
    with ReadingCache(path, max_bytes=most) as cache:
        for n in range(1500):
            cache.put(key(n), key(n) * 32)
            if n % 50 == 0:
                assert size(path) < most * 1.03
        kept = [n for n in range(1500) if cache.get(key(n)) is not None]
        assert kept == list(range(1500 - len(kept), 1500))
        assert size(path) > most * 0.8
        cache.prune()
    assert path.stat().st_size < most * 1.03


def test_what_is_used_stays(path: Path) -> None:
    """A reading that was used since outlives younger ones that were not; use is noted once a day."""
    with ReadingCache(path) as cache:
        for n in range(400):
            cache.put(key(n), "x" * 2048)
        in_the_file(path, "UPDATE readings SET created = created - ?, used = used - ?", 3 * DAY, 3 * DAY)
        for n in range(20):
            assert cache.get(key(n))
        fresh = in_the_file(path, "SELECT COUNT(*) FROM readings WHERE used > created")
        assert fresh == [(20,)]
        for n in range(400, 800):
            cache.put(key(n), "x" * 2048)
    in_the_file(path, "UPDATE readings SET used = used - ? WHERE created > ?", 2 * DAY, time.time() - DAY)
    with ReadingCache(path, max_bytes=2**20) as cache:
        assert cache.prune() > 300
        kept = [n for n in range(800) if cache.get(key(n))]
    assert kept[:20] == list(range(20))
    assert all(n >= 400 for n in kept[20:])


def test_a_hit_is_no_write(path: Path) -> None:
    """Getting what was used within a day changes nothing in the file."""
    with ReadingCache(path) as cache:
        cache.put(key(1), "{}")
    before = path.read_bytes()
    with ReadingCache(path) as cache:
        assert cache.get(key(1)) == "{}"
        assert cache.get(key(2)) is None
    assert path.read_bytes() == before


def test_a_smaller_bound_holds_from_the_first_use(path: Path) -> None:
    """Opened with a smaller bound, the file is made to fit it, whatever the first use is."""
    with ReadingCache(path) as cache:
        for n in range(1000):
            cache.put(key(n), "x" * 2048)
    with ReadingCache(path, max_bytes=2**20) as cache:
        assert cache.get(key(999)) is not None
        assert 2**20 * 0.8 < size(path) < 2**20


def test_old_readings_expire(path: Path) -> None:
    """What is older than the bound is not given and not counted, and pruning removes it and only it."""
    with ReadingCache(path) as cache:
        for n in range(1000):
            cache.put(key(n), "{}")
    in_the_file(path, "UPDATE readings SET created = created - ? WHERE rowid <= 900", 31 * DAY)
    with ReadingCache(path) as cache:
        assert cache.prune() == 0
        assert len(cache) == 1000
    with ReadingCache(path, max_age_days=30) as cache:
        assert len(cache) == 100
        assert cache.prune() == 900
        assert [n for n in range(1000) if cache.get(key(n))] == list(range(900, 1000))
    with ReadingCache(path) as cache:
        assert len(cache) == 100


def test_an_expired_reading_is_paid_and_kept_anew(path: Path) -> None:
    """Getting an expired reading gives None; putting it again makes it young."""
    with ReadingCache(path, max_age_days=1) as cache:
        cache.put(key(1), "old")
        in_the_file(path, "UPDATE readings SET created = created - ?", 2 * DAY)
        assert cache.get(key(1)) is None
        cache.put(key(1), "new")
        assert cache.get(key(1)) == "new"


def test_clearing_gives_the_space_back(path: Path) -> None:
    """An emptied cache is a small file at once, and can be used on."""
    with ReadingCache(path) as cache:
        for n in range(1000):
            cache.put(key(n), "x" * 2048)
        cache.prune()
        assert path.stat().st_size > 2**20
        cache.clear()
        assert path.stat().st_size < 2**16
        assert len(cache) == 0
        cache.put(key(1), "{}")
        assert cache.get(key(1)) == "{}"


def test_readings_that_others_delete_are_gone(path: Path) -> None:
    """Another process may delete rows at any time: they are None, and can be put again."""
    with ReadingCache(path) as cache:
        cache.put(key(1), "{}")
        in_the_file(path, "DELETE FROM readings")
        assert cache.get(key(1)) is None
        cache.put(key(1), "{}")
        assert cache.get(key(1)) == "{}"


def test_it_waits_for_others_that_write(path: Path) -> None:
    """While somebody else holds the file for a moment, a put waits, and reading goes on."""
    with ReadingCache(path) as cache, closing(sqlite3.connect(path, isolation_level=None)) as other:
        cache.put(key(1), "{}")
        other.execute("BEGIN IMMEDIATE")
        assert cache.get(key(1)) == "{}"
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(cache.put, key(2), "{}")
            threading.Event().wait(0.2)
            assert not waiting.done()
            other.execute("COMMIT")
            waiting.result()
        assert cache.get(key(2)) == "{}"


def test_it_takes_over_from_one_that_died_while_making_the_file(path: Path) -> None:
    """A file whose maker died before it had switched to the log is switched, once nobody else writes."""
    with ReadingCache(path) as cache:
        cache.put(key(1), "{}")
    in_the_file(path, "PRAGMA journal_mode = DELETE")
    with ReadingCache(path) as cache, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(cache.put, key(2), "{}")
            threading.Event().wait(0.1)
            other.execute("COMMIT")
            waiting.result()
        assert len(cache) == 2
    assert in_the_file(path, "PRAGMA journal_mode") == [("wal",)]
