"""A folder that is all there is: files below it are listed and read, whatever path a model comes up with.

Where the system can (everywhere but on Windows), each name of a path is opened in the folder before it, from the top
of the file system on, and links are not followed: so nobody who swaps a folder for a link in the meantime leads out of
it. Elsewhere the path is compared with its real one. A second name of a file elsewhere (a hard link) cannot be told
from a file, and is one: whoever may put such names into the folder decides what is read.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aifs_vision._errors import ImageAccessError, ImageError, ImageNotFoundError, SettingsError
from aifs_vision._formats import READABLE_SUFFIXES
from aifs_vision._given_paths import FILE_FLAGS, opened_below, parts_of, refused, shown_path

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Jail", "Listed"]

_KB = 1_000  # bytes
_LOOKED_AT = 20_000  # entries of folders that a listing looks at
_NOT_THERE = "no such file below the folder. list_images shows what there is."


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A file below the folder: its path, with slashes, and its size in bytes."""

    path: str
    size: int

    @property
    def line(self) -> str:
        """Both, as people read them."""
        return f"{self.path} ({f'{self.size:,} bytes' if self.size < _KB else f'{self.size / _KB:,.0f} KB'})"


class Jail:
    """The folder, and what may be opened below it: regular files of its owner or of this process's user.

    Args:
        root: the folder; a link is followed here, as it is not a model that gives it.
        max_bytes: how large a file may be.

    Raises:
        SettingsError: there is no such folder.
    """

    def __init__(self, root: str | os.PathLike[str], *, max_bytes: int) -> None:
        rule = "name the folder whose pictures may be read, such as root='scans/'"
        if not isinstance(root, (str, os.PathLike)) or not os.fspath(root):
            raise SettingsError.bad_value("root", root, rule)
        try:
            found = Path(root).resolve(strict=True)
            owner = found.stat().st_uid
        except (OSError, ValueError, RuntimeError) as error:  # a null byte; links in a circle
            raise SettingsError.bad_value("root", os.fspath(root), f"there is no such folder; {rule}") from error
        if not found.is_dir():
            raise SettingsError.bad_value("root", os.fspath(root), f"it is no folder; {rule}")
        self._root, self._max_bytes = found, max_bytes
        self._owners = {owner, os.geteuid() if hasattr(os, "geteuid") else owner}

    @property
    def name(self) -> str:
        """The name of the folder, without where it is."""
        return self._root.name or "root"

    def read(self, path: object) -> tuple[str, bytes]:
        """The path of a file, with slashes, and its bytes.

        Raises:
            ImageError: it is refused, not there, too large, or cannot be read.
        """
        parts = parts_of(path)
        with self._opened(path, parts, folder=False) as file:
            known = os.fstat(file)
            self._check(path, known, folder=False)
            with os.fdopen(os.dup(file), "rb") as whole:
                data = whole.read(self._max_bytes + 1)
        if len(data) > self._max_bytes:  # it grows
            raise self._too_large(path, len(data))
        return "/".join(parts), data

    def files(self, folder: object = "") -> tuple[list[Listed], bool]:
        """The pictures, documents and videos below the folder, by their paths; and whether these are all.

        Links, hidden files and what `read` would refuse are left out, and so are folders that cannot be listed.

        Raises:
            ImageError: the folder below it is refused, not there, or cannot be listed.
        """
        start = () if folder in {"", ".", "./", None} else parts_of(folder)
        found: list[Listed] = []
        folders, left = [start], _LOOKED_AT
        while folders and left > 0:
            here = folders.pop()
            try:
                entries = self._entries(here)
            except ImageError:
                if here == start:
                    raise
                continue
            for name, known in entries[:left]:
                path = "/".join((*here, name))
                if not self._may_be_read(path, known):
                    continue
                if stat.S_ISDIR(known.st_mode):
                    folders.append((*here, name))
                elif stat.S_ISREG(known.st_mode) and os.path.splitext(name)[1].lower() in READABLE_SUFFIXES:  # noqa: PTH122 - a name is no Path
                    found.append(Listed(path=path, size=known.st_size))
            left -= len(entries)
        return sorted(found, key=lambda file: file.path), not folders and left >= 0

    def _may_be_read(self, path: str, known: os.stat_result) -> bool:
        try:
            parts_of(path)
        except ImageError:
            return False
        return known.st_uid in self._owners

    # -- Opening -------------------------------------------------------------------------------------------------

    def _entries(self, parts: tuple[str, ...]) -> list[tuple[str, os.stat_result]]:
        """What is in a folder, by name; links are not followed."""
        shown = "/".join(parts)
        with self._opened(shown, parts, folder=True) as here, os.scandir(here) as entries:
            known = [(entry.name, state) for entry in entries if (state := _state(entry)) is not None]
        return sorted(known)

    @contextmanager
    def _opened(self, path: object, parts: tuple[str, ...], *, folder: bool) -> Iterator[Any]:
        """A descriptor of a file or folder below the root; of a folder its path, where folders have no descriptors."""
        try:
            if os.open in os.supports_dir_fd:
                file: str | int = opened_below(str(self._root), parts, folder=folder, look=partial(self._check, path))
            else:
                place = self._by_path(path, parts, folder=folder)
                file = place if folder else os.open(place, FILE_FLAGS)
            try:
                yield file
            finally:
                if isinstance(file, int):
                    os.close(file)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ImageNotFoundError(shown_path(path), _NOT_THERE) from error
        except (OSError, ValueError) as error:
            raise ImageAccessError(shown_path(path), getattr(error, "strerror", None) or str(error)) from error

    def _by_path(self, path: object, parts: tuple[str, ...], *, folder: bool) -> str:
        whole = os.path.join(self._root, *parts)  # noqa: PTH118 - compared as a text
        if os.path.normcase(os.path.realpath(whole)) != os.path.normcase(whole):
            raise refused(path, "links are not followed")
        self._check(path, os.lstat(whole), folder=folder)
        return whole

    def _check(self, path: object, known: os.stat_result, *, folder: bool) -> None:
        """Refuses links, devices, pipes, files of others, and what is too large, before it is opened.

        Raises:
            ImageError
        """
        if stat.S_ISLNK(known.st_mode):
            raise refused(path, "links are not followed")
        if folder and not stat.S_ISDIR(known.st_mode):
            raise ImageNotFoundError(shown_path(path), _NOT_THERE)
        if not folder and stat.S_ISDIR(known.st_mode):
            raise ImageError(shown_path(path), "is a folder. list_images shows the pictures in it; give one of them.")
        if not folder and not stat.S_ISREG(known.st_mode):
            raise refused(path, "it is no regular file")
        if known.st_uid not in self._owners:
            raise refused(path, "it belongs to another user")
        if not folder and known.st_size > self._max_bytes:
            raise self._too_large(path, known.st_size)

    def _too_large(self, path: object, size: int) -> ImageError:
        what = f"has {size:,} bytes, and at most {self._max_bytes:,} are read. Take a smaller picture."
        return ImageError(shown_path(path), what)


def _state(entry: os.DirEntry[str]) -> os.stat_result | None:
    """What an entry is; None where it is gone meanwhile."""
    try:
        return entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
