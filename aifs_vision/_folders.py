"""Folders and iterables -> single sources."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from aifs_vision._errors import ImageAccessError, ImageError, ImageNotFoundError, SettingsError
from aifs_vision._formats import HEAD, IMAGE_SUFFIXES, PICTURES, READABLE_SUFFIXES, sniff
from aifs_vision._frames import check_frames
from aifs_vision._sources import has_scheme, is_source, printable

if TYPE_CHECKING:
    from typing_extensions import Self

    from aifs_vision._frames import Frames
    from aifs_vision._sources import Source

__all__ = ["Spread", "Unreadable", "find_images"]


@dataclass(frozen=True)
class Unreadable:
    """A folder among the sources that has nothing to read, and why."""

    error: ImageError


def find_images(folder: str | os.PathLike[str], glob: str = "**/*") -> list[Path]:
    """The image files below a folder that match `glob`, sorted by path; hidden ones are left out.

    A file counts by its suffix, in upper or lower case, or by its first bytes; one that only claims to be a
    picture is listed too, so that its error is reported and not the file lost. PDF files and videos, which can
    have a great many pages, are listed where a `glob` of one's own matches them, such as "**/*.pdf".

    Raises:
        ImageNotFoundError: no such folder, or no image in it.
        ImageAccessError: the folder, or one below it, cannot be listed.
        SettingsError: a `glob` that is no pattern.
    """
    root = Path(folder)
    try:
        mode = root.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a null byte
        raise ImageNotFoundError(printable(os.fspath(folder))) from None
    except OSError as error:
        raise ImageAccessError(printable(os.fspath(folder)), error.strerror or str(error)) from error
    if not stat.S_ISDIR(mode):
        return [root]
    if PurePath(glob).anchor:
        raise SettingsError.bad_value("glob", glob, "it is a pattern below a folder, such as '**/*.png'")
    try:
        chosen = None if glob == "**/*" else set(root.glob(glob))
    except ValueError as error:
        raise SettingsError.bad_value("glob", glob, str(error)) from error
    suffixes = IMAGE_SUFFIXES if chosen is None else READABLE_SUFFIXES
    found = sorted(
        path
        for path in _files_below(root)
        if (chosen is None or path in chosen) and (path.suffix.lower() in suffixes or _looks_like_image(path))
    )
    if not found:
        known = ", ".join(sorted(suffixes))
        raise ImageNotFoundError(os.fspath(folder), f"no images match {glob!r} there (known: {known}).")
    return found


class Spread:
    """Single sources, one after the other: a lone source as it is, a folder as its images.

    A folder among others that has no images, or cannot be listed, is `Unreadable`, and the others are unharmed.

    While it is iterated it raises ImageNotFoundError for a lone path that does not exist, or a lone folder without
    images, and ImageAccessError for a lone folder that cannot be listed.

    Attributes:
        total: how many there will be, as far as that is known; None for iterators, which nobody can count.
    """

    def __init__(self, sources: Source | Iterable[Source], glob: str = "**/*") -> None:
        self._alone = is_source(sources) or not isinstance(sources, Iterable)
        self._sources, self._glob = sources, glob
        self.total = 1 if self._alone else len(sources) if isinstance(sources, Sized) else None
        self._each = self._spread()

    @classmethod
    def checked(cls, sources: Source | Iterable[Source], frames: Frames, glob: str) -> Self:
        """The sources of a run whose arguments can be right.

        Raises:
            SettingsError: `frames` or `glob` cannot be.
        """
        check_frames(frames)
        if not isinstance(glob, str) or not glob or PurePath(glob).anchor:
            raise SettingsError.bad_value("glob", glob, "it is a pattern below a folder, such as '**/*.png'")
        return cls(sources, glob)

    def __iter__(self) -> Iterator[Source | Unreadable]:
        return self

    def __next__(self) -> Source | Unreadable:
        return next(self._each)

    def _spread(self) -> Iterator[Source | Unreadable]:
        sources = self._sources
        if isinstance(sources, (str, os.PathLike)) and _is_missing_path(sources):
            raise ImageNotFoundError(printable(os.fspath(sources)))
        for source in (sources,) if self._alone else sources:  # type: ignore[union-attr]
            if isinstance(source, (str, os.PathLike)) and _is_folder(source):
                try:
                    found = find_images(source, self._glob)
                except ImageError as error:
                    if self._alone:
                        raise
                    yield Unreadable(error)
                else:
                    if self.total is not None:
                        self.total += len(found) - 1
                    yield from found
            else:
                yield source  # type: ignore[misc]


# -- Folders -----------------------------------------------------------------------------------------------


def _is_folder(source: str | os.PathLike[str]) -> bool:
    try:
        return os.path.isdir(source)  # noqa: PTH112 - a text need not become a Path
    except ValueError:  # a null byte: no folder, and reading it will say so
        return False


def _is_missing_path(source: str | os.PathLike[str]) -> bool:
    text = os.fspath(source)
    if has_scheme(text):
        return False
    try:
        os.lstat(text)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return True
    except OSError:  # what may not be looked at is there, perhaps; reading it will say so
        return False
    return False


def _files_below(root: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise ImageAccessError(str(error.filename), error.strerror or str(error)) from error

    for folder, below, names in os.walk(root, onerror=refuse):
        below[:] = [name for name in below if not name.startswith(".")]
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def _looks_like_image(path: Path) -> bool:
    """Whether a file without a telling suffix begins like a picture; what cannot be opened does not."""
    if path.suffix.lower() not in {"", ".bin", ".dat", ".tmp"} or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return sniff(file.read(HEAD)) in PICTURES
    except OSError:
        return False
