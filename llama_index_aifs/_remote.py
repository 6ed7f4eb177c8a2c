"""Images on fsspec file systems, as sources of the engine."""

from __future__ import annotations

import os
import posixpath
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from aifs_vision import IMAGE_SUFFIXES, READABLE_SUFFIXES, ImageNotFoundError, is_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fsspec import AbstractFileSystem

    from aifs_vision import Source

__all__ = ["RemoteFile", "opened_on"]


class RemoteFile:
    """A file of an fsspec file system, opened when it is its turn; its trouble is its own image's error."""

    def __init__(self, fs: AbstractFileSystem, path: str) -> None:
        self._fs, self._path = fs, path
        self._file: Any = None

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most so many."""
        if self._file is None:
            self._file = self._fs.open(self._path, "rb")
        data: bytes = self._file.read(size)
        if not data or size < 0:
            self._file.close()
        return data


def opened_on(fs: AbstractFileSystem, file: Source | Iterable[Source], glob: str) -> Iterator[Any]:
    """Paths as files of `fs` under the name they were given, folders as their images; the rest as it is.

    Raises:
        ImageNotFoundError: a lone path that does not exist, or a folder without images.
    """
    alone = is_source(file)
    for source in (file,) if alone else file:  # type: ignore[union-attr]
        path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
        if path is None:
            yield source
        elif fs.isdir(path):
            yield from ((each, RemoteFile(fs, each)) for each in _images_below(fs, path, glob))
        elif alone and not fs.exists(path):
            raise ImageNotFoundError(path)
        else:
            yield path, RemoteFile(fs, path)


def _images_below(fs: AbstractFileSystem, folder: str, glob: str) -> list[str]:
    """The images below a folder that match `glob`, sorted by path, as `find_images` lists those of a local one."""
    chosen = None if glob == "**/*" else set(fs.glob(posixpath.join(folder, glob)))
    suffixes = IMAGE_SUFFIXES if chosen is None else READABLE_SUFFIXES
    root = PurePosixPath(fs._strip_protocol(folder))  # noqa: SLF001 - what `find` puts before the names it gives
    found = [
        path
        for path in sorted(fs.find(folder))
        if (chosen is None or path in chosen)
        and PurePosixPath(path).suffix.lower() in suffixes
        and not any(part.startswith(".") for part in PurePosixPath(path).relative_to(root).parts)
    ]
    if not found:
        known = ", ".join(sorted(suffixes))
        raise ImageNotFoundError(folder, f"no images match {glob!r} there (known: {known}).")
    return found
