"""Images on fsspec file systems, as sources of the engine."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from aifs_vision import (
    IMAGE_SUFFIXES,
    READABLE_SUFFIXES,
    ImageAccessError,
    ImageError,
    ImageNotFoundError,
    is_source,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from fsspec import AbstractFileSystem

    from aifs_vision import Source

__all__ = ["Lost", "checked", "opened_on", "source_on"]

_SPECIAL = re.compile(r"([*?[])")  # what means something in a glob, and nothing in the name of a folder


class Lost:
    """A file that cannot be read, for a reason that is known before it is its turn."""

    def __init__(self, error: ImageError) -> None:
        self._error = error

    def read(self, size: int = -1) -> bytes:  # noqa: ARG002 - of files
        """Raises the reason."""
        raise self._error


class _RemoteFile:
    """A file of an fsspec file system, opened when it is its turn; its trouble is its own image's error."""

    def __init__(self, fs: AbstractFileSystem, path: str) -> None:
        self._fs, self._path = fs, path
        self._file: Any = None

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most so many. Raises ImageError where the file system does not give them."""
        with _TroublesOf(self._path):
            if self._file is None:
                self._file = self._fs.open(self._path, "rb")
            data: bytes = self._file.read(size)
            if not data or size < 0:
                self._file.close()
        return data


def checked(fs: AbstractFileSystem | None) -> AbstractFileSystem | None:
    """The same. Raises TypeError where it is no file system, such as the name of one."""
    if fs is not None and not hasattr(fs, "open"):
        raise TypeError(f"fs={fs!r} is no file system; give one, such as fsspec.filesystem('memory')")
    return fs


def source_on(fs: AbstractFileSystem | None, place: str) -> Source:
    """A path as a file of `fs`; an http(s) URL, which the service opens, as it is, unless `fs` is the one for URLs."""
    if fs is None or _is_address(fs, place):
        return place
    return place, _RemoteFile(fs, place)


def opened_on(fs: AbstractFileSystem, file: Source | Iterable[Source], glob: str) -> Iterator[Any]:
    """Paths as files of `fs` under the name they were given, folders as their images; the rest as it is.

    Raises:
        ImageNotFoundError: a lone path that does not exist, or a folder without images.
        ImageAccessError: the file system does not say what a lone path is, or what is in a folder.
    """
    alone = is_source(file)
    for source in (file,) if alone else file:  # type: ignore[union-attr]
        path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
        if path is None or _is_address(fs, path):
            yield source
            continue
        try:
            found = _found(fs, path, glob, alone=alone)
        except ImageError as error:
            if alone:
                raise
            yield path, Lost(error)
        else:
            yield from ((each, _RemoteFile(fs, each)) for each in found)


def _is_address(fs: AbstractFileSystem, path: str) -> bool:
    if not path.startswith(("http://", "https://")):
        return False
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    return not {"http", "https"} & set(protocols)


def _found(fs: AbstractFileSystem, path: str, glob: str, *, alone: bool) -> list[str]:
    """The files that a path stands for: itself, or the images of a folder."""
    with _TroublesOf(path):
        if fs.isdir(path):
            return _images_below(fs, path, glob)
        if alone and not fs.exists(path):
            raise ImageNotFoundError(path)
    return [path]


class _TroublesOf:
    """A block in which whatever a file system raises becomes the error of the image that it was about.

    Each file system has exceptions of its own. An interrupt is no image's, and passes.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, FileNotFoundError):
            raise ImageNotFoundError(self._path) from error
        if isinstance(error, Exception) and not isinstance(error, ImageError):
            what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise ImageAccessError(self._path, what) from error


def _images_below(fs: AbstractFileSystem, folder: str, glob: str) -> list[str]:
    """The images below a folder that match `glob`, sorted by path, as `find_images` lists those of a local one."""
    literal = _SPECIAL.sub(r"[\1]", folder)
    chosen = None if glob == "**/*" else set(fs.glob(posixpath.join(literal, glob)))
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
