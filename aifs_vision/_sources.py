"""What the user gave -> frames: one for a picture or a page, one or all of an animation."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Union
from urllib.parse import unquote_to_bytes

from aifs_vision._errors import ImageAccessError, ImageFormatError, ImageNotFoundError
from aifs_vision._formats import IMAGE_SUFFIXES, decoding, name_of_bytes, open_picture, sniff
from aifs_vision._images import Frame, lies_sideways
from aifs_vision._metadata import stripped
from aifs_vision._npy import NPY_MAGIC, picture_of_npy

if TYPE_CHECKING:
    from typing import TypeGuard

    from PIL import Image

__all__ = ["Frames", "Readable", "Source", "find_images", "frames", "is_source", "name_of", "spread"]


class Readable(Protocol):
    """A file object open for reading bytes; its `name`, if it is a text, names the source."""

    def read(self) -> bytes:
        """All bytes from here on."""


Frames = Literal["first", "all"]
Source = Union[
    str,
    "os.PathLike[str]",
    bytes,
    bytearray,
    memoryview,
    Readable,
    "Image.Image",
    "tuple[str, bytes | Readable]",
]
"""A path, an http(s) URL (passed on to the service, never fetched here), a data URI, bytes, a file object, a
PIL image, or `(name, bytes or file object)`, as httpx and the openai SDK take files."""

_LONGEST_PATH = 4096  # characters; a longer text is no path, but probably base64 without its label
_NAME_SHOWN = 200  # characters shown of what is too long to be a name
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")  # two letters at least: C:// is a drive


def find_images(folder: str | os.PathLike[str], glob: str = "**/*") -> list[Path]:
    """The image files below a folder that match `glob`, sorted by path; hidden ones are left out.

    A file counts by its suffix, in upper or lower case, or by its first bytes; one that only claims to be a
    picture is listed too, so that its error is reported and not the file lost.

    Raises:
        ImageNotFoundError: no such folder, or no image in it.
        ImageAccessError: the folder, or one below it, cannot be listed.
    """
    root = Path(folder)
    if not root.exists():
        raise ImageNotFoundError(os.fspath(folder))
    if root.is_file():
        return [root]
    chosen = None if glob == "**/*" else set(root.glob(glob))
    found = sorted(
        path
        for path in _files_below(root)
        if (chosen is None or path in chosen) and (path.suffix.lower() in IMAGE_SUFFIXES or _looks_like_image(path))
    )
    if not found:
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ImageNotFoundError(os.fspath(folder), f"no images match {glob!r} there (known: {known}).")
    return found


def is_source(value: object) -> TypeGuard[Source]:
    """Whether this is one source, and not an iterable of them: files and pairs can be iterated, too."""
    if isinstance(value, tuple):
        return len(value) == len(("name", "bytes")) and isinstance(value[0], str) and _holds_bytes(value[1])
    return isinstance(value, (str, os.PathLike)) or _holds_bytes(value) or _is_picture(value)


def _holds_bytes(value: object) -> bool:
    return isinstance(value, (bytes, bytearray, memoryview)) or hasattr(value, "read")


def spread(sources: Source | Iterable[Source], glob: str = "**/*") -> Iterator[Source]:
    """Single sources, one after the other: a lone source as it is, a folder as its images.

    Raises:
        ImageNotFoundError: a lone path that does not exist, or a folder without images.
        ImageAccessError: a folder that cannot be listed.
    """
    alone = is_source(sources) or not isinstance(sources, Iterable)
    if isinstance(sources, (str, os.PathLike)) and _is_missing_path(sources):
        raise ImageNotFoundError(_printable(os.fspath(sources)))
    for source in (sources,) if alone else sources:  # type: ignore[union-attr]
        if isinstance(source, (str, os.PathLike)) and _is_folder(source):
            yield from find_images(source, glob)
        else:
            yield source  # type: ignore[misc]


def frames(source: Source, animation: Frames = "first") -> list[Frame]:
    """The frames of a source, its bytes read once and shared; nothing is decoded yet.

    Args:
        source: see `Source`.
        animation: for animated pictures, the "first" frame or "all" of them; pages are always all.

    Raises:
        ImageNotFoundError, ImageAccessError: the source cannot be read.
        ImageFormatError, ImageBrokenError: its bytes are no picture, or a damaged one.
        TypeError: a source of a type that is none of `Source`.
    """
    if isinstance(source, str) and (scheme := _SCHEME.match(source)):
        if scheme[1].lower() in {"http", "https"}:
            return [Frame(source=source, url=source)]
        remedy = "paths, http(s) URLs and data URIs are; open other addresses yourself and pass the bytes"
        raise ImageFormatError(source[:_NAME_SHOWN], f"an address with {scheme[1]!r}", remedy=remedy)
    if _is_picture(source):
        return [_frame_of_picture(source, name_of(source))]
    name, data = _read(source)
    return _frames_of_bytes(name, data, animation)


def name_of(source: Source) -> str:
    """The text that names a source in readings: as given, or made of the digest where nothing was given.

    Raises:
        TypeError: a source of a type that is none of `Source`.
    """
    if isinstance(source, tuple):
        return _printable(source[0])
    if isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        return "data URI" if text[:5].lower() == "data:" else _printable(text)
    name = getattr(source, "filename", None) if _is_picture(source) else getattr(source, "name", None)
    if isinstance(name, str) and name:
        return _printable(name)
    if _is_picture(source):
        return _digest_name(_digest_of_picture(source))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _digest_name(hashlib.sha256(source).hexdigest())
    if hasattr(source, "read"):
        return "file object"
    raise TypeError(
        f"{type(source).__name__} is not an image source: give a path, URL, data URI, bytes, file object or PIL image"
    )


# -- Reading -----------------------------------------------------------------------------------------------


def _read(source: Any) -> tuple[str, bytes]:
    """Name and bytes of a source that is neither a URL nor a PIL image."""
    name = name_of(source)
    given = source[1] if isinstance(source, tuple) else source
    if isinstance(given, (bytes, bytearray, memoryview)):
        return name, bytes(given)
    if isinstance(given, (str, os.PathLike)):
        text = os.fspath(given)
        if text[:5].lower() == "data:":
            data = _bytes_of_data_uri(text)
            return _digest_name(hashlib.sha256(data).hexdigest()), data
        return name, _bytes_of_file(name, text)
    try:
        data = given.read()
    except FileNotFoundError as error:  # one that is opened only now
        raise ImageNotFoundError(name) from error
    except (OSError, ValueError) as error:  # ValueError: a closed file
        raise ImageAccessError(name, str(error)) from error
    if not isinstance(data, bytes):
        remedy = "open the file in binary mode, open(path, 'rb')"
        raise ImageFormatError(name, f"a file object that gives {type(data).__name__}", remedy=remedy)
    return (_digest_name(hashlib.sha256(data).hexdigest()) if name == "file object" else name), data


def _bytes_of_file(name: str, path: str) -> bytes:
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ImageAccessError(name, "it is not a regular file")
            return file.read()
    except FileNotFoundError as error:
        raise ImageNotFoundError(name) from error
    except IsADirectoryError as error:
        what = "is a folder. Use read_many(folder) or find_images(folder)."
        raise ImageNotFoundError(name, what) from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageAccessError(name, reason) from error


def _without_waiting(path: str, flags: int) -> int:
    """Opens a file; a named pipe, too, at once instead of when somebody writes to it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _bytes_of_data_uri(uri: str) -> bytes:
    head, _, body = uri.partition(",")
    try:
        if head.lower().endswith(";base64"):
            return base64.b64decode(unquote_to_bytes(body), validate=True)
        return unquote_to_bytes(body)
    except (binascii.Error, ValueError) as error:
        remedy = f"its form is data:image/png;base64,...; this one has {error}"
        raise ImageFormatError(head[:_NAME_SHOWN], "a data URI that cannot be decoded", remedy=remedy) from error


# -- Frames ------------------------------------------------------------------------------------------------


def _frames_of_bytes(name: str, data: bytes, animation: Frames) -> list[Frame]:
    digest = hashlib.sha256(data).hexdigest()
    if data.startswith(NPY_MAGIC):
        picture = picture_of_npy(name, data)
        return [_frame_of_picture(picture, name, digest)]
    kind = sniff(data)
    if kind is None:
        raise ImageFormatError(name, name_of_bytes(data))
    bare, orientation = stripped(data, kind, animated=animation == "all")
    with decoding(name, kind):
        picture = open_picture(bare, kind)
        total = getattr(picture, "n_frames", 1) if kind.pages or animation == "all" else 1
        sizes = []
        for page in range(total):
            if page:
                picture.seek(page)
            sizes.append(picture.size[::-1] if lies_sideways(orientation) else picture.size)
    return [
        Frame(
            source=name,
            page=page,
            total_pages=total,
            width=width,
            height=height,
            kind=kind,
            sha256=digest,
            orientation=orientation,
            data=bare,
        )
        for page, (width, height) in enumerate(sizes, start=1)
    ]


def _frame_of_picture(picture: Image.Image, name: str, digest: str | None = None) -> Frame:
    return Frame(
        source=name,
        width=picture.width,
        height=picture.height,
        sha256=digest or _digest_of_picture(picture),
        picture=picture,
    )


# -- Names -------------------------------------------------------------------------------------------------


def _is_picture(source: object) -> TypeGuard[Image.Image]:
    """Whether this is a PIL image, told without importing Pillow for those who gave a path."""
    return any(cls.__module__ == "PIL.Image" and cls.__name__ == "Image" for cls in type(source).__mro__)


def _digest_of_picture(picture: Image.Image) -> str:
    head = f"{picture.mode} {picture.width} {picture.height} ".encode()
    return hashlib.sha256(head + picture.tobytes()).hexdigest()


def _digest_name(digest: str) -> str:
    return f"sha256:{digest[:16]}"


def _printable(name: str) -> str:
    """The name as valid Unicode of bounded length: other things would break indexes and errors."""
    shown = name if len(name) <= _LONGEST_PATH else f"{name[:_NAME_SHOWN]}..."
    return shown.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


# -- Folders -----------------------------------------------------------------------------------------------


def _is_folder(source: str | os.PathLike[str]) -> bool:
    try:
        return os.path.isdir(source)  # noqa: PTH112 - a text need not become a Path
    except ValueError:  # a null byte: no folder, and reading it will say so
        return False


def _is_missing_path(source: str | os.PathLike[str]) -> bool:
    text = os.fspath(source)
    if _SCHEME.match(text) or text[:5].lower() == "data:":
        return False
    try:
        return not os.path.lexists(text)
    except ValueError:
        return True


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
            return sniff(file.read(32)) is not None
    except OSError:
        return False
