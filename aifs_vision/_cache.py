"""Readings that were paid, kept: any object with `get` and `put`, or the SQLite file of `ReadingCache`."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Protocol, cast

from aifs_vision._errors import CacheError, SettingsError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from typing_extensions import Self

__all__ = ["Cache", "ReadingCache"]

_APPLICATION = int.from_bytes(b"AIFS", "big")  # marks the file as ours; `file` and others show it
_VERSION = 1  # of the table
_SCHEMA = (
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_VERSION}",
    # `bytes` are the reading's; `created` and `used` are unix seconds, `used` right to a day.
    "CREATE TABLE readings (key TEXT PRIMARY KEY, bytes INTEGER, created INTEGER, used INTEGER, reading TEXT)",
    "CREATE INDEX by_use ON readings (used)",
    "CREATE INDEX by_age ON readings (created)",
)
_MARKS = "SELECT application_id, user_version FROM pragma_application_id, pragma_user_version"
_SIZE = "SELECT page_size * (page_count-freelist_count) FROM pragma_page_count, pragma_freelist_count, pragma_page_size"

_PATIENCE = 30.0  # seconds to wait while others write
_DAY = 86400
_STEP = 256  # rows or pages a transaction, so that others get their turn in between
_ROOM = 0.9  # of max_bytes: what pruning leaves
_OVERSHOT = 0.01  # of max_bytes: what is written between two looks at the size


class Cache(Protocol):
    """What `Vision(cache=...)` takes: both are called from several threads at once, and may block.

    Keys are hex digests, values are JSON texts of some KB. A reading that is put must be there from then on.
    """

    def get(self, key: str) -> str | None:
        """What was put under this key; None where nothing was, or is no more."""

    def put(self, key: str, value: str) -> None:
        """Keeps a value under a key, in place of what was there."""


class ReadingCache:
    """A cache in one SQLite file, for any number of threads, processes and forks at once.

        cache = ReadingCache("readings.sqlite", max_bytes=10 * 2**30, max_age_days=90)
        vision = Vision(cache=cache)                              # or just Vision(cache="readings.sqlite")

    What `put` has returned for survives the death of the process. The file belongs on a disk, not on a share.

    Args:
        path: the file, made at first use in a folder that is there.
        max_bytes: how large it may become, give or take 1 %; then the readings not used for longest go.
        max_age_days: older readings are not given any more, and go; None keeps them.

    Raises:
        CacheError: the file is foreign, damaged or out of reach, or, in the methods, locked by others for 30 s.
        SettingsError: a bound that cannot be right.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, max_bytes: int = 2**30, max_age_days: float | None = None
    ) -> None:
        if not isinstance(max_bytes, int) or max_bytes < 2**20:
            raise SettingsError.bad_value("ReadingCache.max_bytes", max_bytes, "it is a whole number from 2**20")
        if max_age_days is not None and not (isinstance(max_age_days, (int, float)) and max_age_days > 0):
            raise SettingsError.bad_value("ReadingCache.max_age_days", max_age_days, "it is above 0, or None")
        name = os.fspath(path)
        if name in {"", ":memory:"} or "\0" in name:
            raise SettingsError.bad_value("ReadingCache.path", name, "it is the path of a file, which is kept")
        self._path = os.path.abspath(os.path.expanduser(name))  # noqa: PTH100, PTH111 - a later chdir changes nothing
        self._max_bytes, self._max_age_days = max_bytes, max_age_days
        self._connection: sqlite3.Connection | None = None
        self._closer: weakref.finalize[..., ReadingCache] | None = None
        self._file: tuple[int, int] | None = None  # device and inode of what is open
        self._unseen = 0  # bytes written since the last look at the size
        with _lock:
            _look(self._path)

    @property
    def path(self) -> str:
        """The file, as an absolute path."""
        return self._path

    def get(self, key: str) -> str | None:
        """The value of this key; None where none was put, it has expired or was pruned."""
        _must_be_text(key=key)
        with self._database() as database:
            query = "SELECT reading, used FROM readings WHERE key = ? AND created >= ?"
            found = database.execute(query, (key, self._horizon())).fetchall()
            now = int(time.time())
            if found and now - found[0][1] > _DAY:  # right to a day, so that a hit is rarely a write
                database.execute("UPDATE readings SET used = ? WHERE key = ?", (now, key))
        self._tend()
        return found[0][0] if found else None

    def put(self, key: str, value: str) -> None:
        """Keeps a value; once this has returned, it survives the death of the process."""
        _must_be_text(key=key, value=value)
        size, now = len(value.encode()), int(time.time())
        with self._database() as database:
            database.execute("REPLACE INTO readings VALUES (?, ?, ?, ?, ?)", (key, size, now, now, value))
            self._unseen += size + len(key)
        self._tend()

    def prune(self) -> int:
        """Removes what the bounds do not allow, gives the space back to the disk, and says how many went."""
        removed = self._make_room()
        while self._give_back():
            pass
        with self._database() as database:
            database.execute("PRAGMA wal_checkpoint").fetchall()  # the file shrinks now, not some time later
        return removed

    def clear(self) -> None:
        """Removes all readings; the file stays."""
        with self._database() as database:
            database.execute("DELETE FROM readings")
        self.prune()

    def close(self) -> None:
        """Closes the file; the next use opens it again."""
        with _lock:
            self._close()

    def __len__(self) -> int:
        with self._database() as database:
            return _number(database, "SELECT COUNT(*) FROM readings WHERE created >= ?", self._horizon())

    def __bool__(self) -> bool:
        return True  # an empty cache is a cache

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        make = functools.partial(type(self), max_bytes=self._max_bytes, max_age_days=self._max_age_days)
        return make, (self._path,)

    def __repr__(self) -> str:
        return f"ReadingCache({self._path!r}, max_bytes={self._max_bytes}, max_age_days={self._max_age_days})"

    def _horizon(self) -> float:
        """What was created before this moment has expired."""
        return 0 if self._max_age_days is None else time.time() - self._max_age_days * _DAY

    def _tend(self) -> None:
        """Keeps the bounds, now and then: after the file was opened, and after every hundredth of its size."""
        if self._unseen >= self._max_bytes * _OVERSHOT:
            self._unseen = 0
            self._make_room()
            self._give_back()  # one step: most of the room is wanted again soon

    def _make_room(self) -> int:
        """Removes what the bounds do not allow, and says how many went; only reads where that is nothing."""
        with self._database() as database:
            crowded = _number(database, _SIZE) > self._max_bytes
            query = "SELECT EXISTS (SELECT 1 FROM readings WHERE created < ?)"
            if not crowded and not _number(database, query, self._horizon()):
                return 0
        most = self._max_bytes * _ROOM if crowded else self._max_bytes
        return sum(iter(lambda: self._drop_some(most), 0))

    def _drop_some(self, most: float) -> int:
        """Removes some of what has expired, else, above `most` bytes, of what was not used for longest."""
        with self._database() as database, database:
            database.execute("BEGIN IMMEDIATE")
            query = "SELECT rowid FROM readings WHERE created < ? LIMIT ?"
            rows = database.execute(query, (self._horizon(), _STEP)).fetchall()
            if not rows:
                excess = _number(database, _SIZE) - most
                query = "SELECT rowid, bytes FROM readings ORDER BY used, rowid LIMIT ?"
                for row, size in database.execute(query, (_STEP,)).fetchall():
                    if excess <= 0:
                        break
                    rows.append((row,))
                    excess -= size
            database.executemany("DELETE FROM readings WHERE rowid = ?", rows)
        return len(rows)

    def _give_back(self) -> bool:
        """Gives some free pages back to the disk; False once there are none."""
        with self._database() as database:
            if before := _number(database, "PRAGMA freelist_count"):
                database.execute(f"PRAGMA incremental_vacuum({_STEP})").fetchall()
            return _number(database, "PRAGMA freelist_count") < before

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """The connection of this process, for one thread at a time."""
        import sqlite3

        lock = _lock
        if not lock.acquire(timeout=_PATIENCE):
            raise CacheError.failed(self._path, f"other threads were busy with it for {_PATIENCE:.0f} s")
        try:
            if self._connection is None or self._file != _identity(self._path):  # a deleted file keeps nothing
                self._open()
            yield cast("sqlite3.Connection", self._connection)
        except (sqlite3.Error, OSError) as error:
            raise CacheError.failed(self._path, str(error)) from error
        finally:
            lock.release()

    def _open(self) -> None:
        import sqlite3

        self._close()
        _look(self._path)
        connection = sqlite3.connect(self._path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection, self._path)
            self._file = _identity(self._path)
        except BaseException:
            connection.close()
            raise
        self._connection, self._closer = connection, weakref.finalize(self, connection.close)
        self._unseen = self._max_bytes  # look at the size soon
        _opened.add(self)

    def _close(self) -> None:
        if self._closer is not None:
            self._closer()
        self._connection = self._closer = self._file = None
        _opened.discard(self)


def _must_be_text(**values: object) -> None:
    for name, value in values.items():
        if not isinstance(value, str):
            raise TypeError(f"a cache keeps text; the {name} is of type {type(value).__name__}")


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - at every call; a Path takes thrice as long
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _number(database: sqlite3.Connection, query: str, *values: float) -> int:
    return int(database.execute(query, values).fetchall()[0][0])


def _look(path: str) -> None:
    """Refuses, by its header, what is no cache of ours; SQLite would have touched it by then.

    Not while this process has it open: closing any descriptor of a file drops SQLite's locks on it.
    """
    try:
        found = os.stat(path)  # noqa: PTH116
        if not stat.S_ISREG(found.st_mode):
            raise CacheError.foreign(path, "it is a folder" if stat.S_ISDIR(found.st_mode) else "it is no file")
        if any(cache._file == (found.st_dev, found.st_ino) for cache in _opened):  # noqa: SLF001
            return
        with open(path, "rb") as file:  # noqa: PTH123
            header = file.read(100)
    except FileNotFoundError:
        if not os.path.isdir(os.path.dirname(path)):  # noqa: PTH112, PTH120
            raise CacheError.failed(path, "its folder is not there; make it first") from None
        return
    except OSError as error:
        raise CacheError.failed(path, str(error)) from error
    if header and not header.startswith(b"SQLite format 3\0"):
        raise CacheError.foreign(path, "it is something else than a cache of readings")
    if header:
        _must_be_ours(path, int.from_bytes(header[68:72], "big"), int.from_bytes(header[60:64], "big"))


def _must_be_ours(path: str, application: int, version: int) -> None:
    if application != _APPLICATION:
        raise CacheError.foreign(path, "it is an SQLite database of something else")
    if version > _VERSION:
        raise CacheError.foreign(path, "it was made by a later version of aifs-vision")


def _prepare(connection: sqlite3.Connection, path: str) -> None:
    """Makes the table where there is none, and checks what is there, whoever was faster."""
    import sqlite3

    if not _number(connection, "PRAGMA page_count"):
        with connection:
            connection.execute("BEGIN")
            # The first write, which takes the lock; and nothing can change it later.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            if not connection.execute("SELECT 1 FROM sqlite_master").fetchall():
                for statement in _SCHEMA:
                    connection.execute(statement)
    _must_be_ours(path, *connection.execute(_MARKS).fetchall()[0])
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")  # for good; the marks are in the header by then
            break
        except sqlite3.OperationalError as error:  # SQLite does not wait here for others who make the same file
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            threading.Event().wait(0.005)
    connection.execute("PRAGMA synchronous = NORMAL")  # a commit is safe from our death, not from a power cut


# One lock for all caches of a process: a call takes microseconds, and a fork has to hold them all.
_lock = threading.RLock()
_opened: weakref.WeakSet[ReadingCache] = weakref.WeakSet()


def _before_fork() -> None:
    """Closes all files: a child would inherit SQLite's count of locks, but no lock, and lose what it writes."""
    _lock.acquire()
    for cache in list(_opened):
        cache._close()  # noqa: SLF001


def _after_fork() -> None:
    _lock.release()


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603 - the threads that waited for the old one are not here
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
