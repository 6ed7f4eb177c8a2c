"""Files that may be opened: those below some folders, and no others."""

from __future__ import annotations

import os
import posixpath
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from aifs_vision._errors import ImageAccessError, ImageError, ImageNotFoundError, SettingsError
from aifs_vision._given_paths import FILE_FLAGS, opened_below

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fsspec import AbstractFileSystem

    from aifs_vision._guards import ImageLimits

__all__ = ["Roots", "no_roots", "path_named"]

_ESCAPED = re.compile(rb"\\x([89a-f][0-9a-f])")  # a byte that is no part of a text, as readings write it
_RULE = "name the folders whose pictures may be shown, such as roots=['scans/']"


class Roots:
    """Folders, and the file system they are on; only files below them are opened.

    Args:
        roots: one or several folders.
        fs: the fsspec file system; None for the local one.
        limits: how large files may be.

    Raises:
        SettingsError: there is no root, or one that is no folder.
    """

    def __init__(
        self,
        roots: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        fs: AbstractFileSystem | None,
        limits: ImageLimits,
    ) -> None:
        given = [os.fspath(root) for root in ((roots,) if isinstance(roots, (str, os.PathLike)) else roots)]
        if not given or not all(given):
            raise no_roots(roots)
        local = fs is None or _is_local(fs)
        if not local and any(map(_is_local, _wrapped(fs))):
            rule = "it wraps a local file system, whose links it follows; name the local folders, without fs"
            raise SettingsError.bad_value("fs", fs, rule)
        self._fs, self._limits = None if local else fs, limits
        self._given, self._roots = given, [self._resolved(root) for root in given]
        for root, resolved in zip(given, self._roots, strict=True):
            if not (os.path.isdir(resolved) if self._fs is None else self._fs.isdir(resolved)):  # noqa: PTH112
                raise SettingsError.bad_value("roots", root, f"there is no such folder; {_RULE}")

    def read(self, source: str) -> bytes:
        """The bytes of a file below the roots, which readings call so.

        Raises:
            ImageError: it lies elsewhere, is not there, cannot be read, or is too large.
        """
        try:
            path = self._resolved(path_named(source) if self._fs is None else source)
            separator = os.sep if self._fs is None else "/"
            root = next((root for root in self._roots if _is_below(path, root, separator)), None)
            if root is None:
                what = f"lies outside of roots={self._given!r}, so it is not opened. Name its folder there to show it."
                raise ImageError(source, what)
            return self._local(source, root, path) if self._fs is None else self._remote(source, path)
        except FileNotFoundError as error:
            raise ImageNotFoundError(source) from error
        except (OSError, ValueError, RuntimeError) as error:  # a null byte; links that lead in a circle, before 3.13
            raise ImageAccessError(source, getattr(error, "strerror", None) or str(error)) from error

    def _resolved(self, path: str) -> str:
        """The path without symbolic links, "." and ".."."""
        if self._fs is None:
            return str(Path(path).resolve())
        bare: str = self._fs._strip_protocol(path)  # noqa: SLF001 - every fsspec file system has it
        return posixpath.normpath(bare)

    def _local(self, source: str, root: str, path: str) -> bytes:
        with open(_opened(root, path), "rb") as file:
            known = os.fstat(file.fileno())
            if not stat.S_ISREG(known.st_mode):
                raise ImageAccessError(source, "it is not a regular file")
            self._limits.check_bytes(source, known.st_size)
            return file.read(self._limits.max_bytes + 1)

    def _remote(self, source: str, path: str) -> bytes:
        assert self._fs is not None  # noqa: S101 - told apart by the only caller
        known = self._fs.info(path)
        if known["type"] != "file":
            raise ImageAccessError(source, f"it is a {known['type']}, and not a file")
        self._limits.check_bytes(source, known["size"] or 0)
        with self._fs.open(path, "rb") as file:
            data: bytes = file.read(self._limits.max_bytes + 1)
        return data


def path_named(name: str) -> str:
    """The path of the local file that readings call so: they write out the bytes of a name that is not UTF-8.

    A file that has the name as it stands comes first; where there is neither, it is the name itself.

    Raises:
        ValueError: it cannot be the name of a file.
    """
    if "\\x" not in name or os.path.lexists(name):
        return name
    path = os.fsdecode(_ESCAPED.sub(lambda byte: bytes.fromhex(byte[1].decode()), os.fsencode(name)))
    return path if os.path.lexists(path) else name


def _opened(root: str, path: str) -> int:
    """A descriptor of a file whose path is resolved; a folder that is swapped for a link meanwhile leads nowhere."""
    if os.open not in os.supports_dir_fd:
        return os.open(path, FILE_FLAGS)
    return opened_below(root, Path(path).relative_to(root).parts)


def _is_local(fs: AbstractFileSystem) -> bool:
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def _wrapped(fs: AbstractFileSystem | None) -> Iterator[AbstractFileSystem]:
    """The file systems inside of a file system, such as that behind a cache."""
    while (fs := getattr(fs, "fs", None)) is not None and hasattr(fs, "protocol"):
        yield fs


def _is_below(path: str, root: str, separator: str) -> bool:
    return path == root or path.startswith(root.rstrip(separator) + separator)


def no_roots(given: object) -> SettingsError:
    """A file would have to be opened, and no folder is named below which that may be done."""
    return SettingsError.bad_value("roots", given, _RULE)
