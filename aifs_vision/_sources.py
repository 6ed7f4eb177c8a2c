"""What the user gave -> a name and bytes -> frames; each source is read once."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Union
from urllib.parse import unquote_to_bytes

from aifs_vision._base64 import bytes_of_base64
from aifs_vision._decoders import decoding
from aifs_vision._errors import ImageAccessError, ImageFormatError, ImageNotFoundError
from aifs_vision._formats import GIF
from aifs_vision._frames import Frame, Frames, frame_of_picture, frames_of_bytes, orientation_of

if TYPE_CHECKING:
    from typing import TypeGuard

    from PIL import Image

    from aifs_vision._guards import ImageLimits

__all__ = [
    "Readable",
    "Source",
    "SourcePages",
    "bytes_of_data_uri",
    "frames",
    "has_scheme",
    "is_source",
    "name_of",
    "printable",
]


class Readable(Protocol):
    """A file object open for reading bytes; its `name`, if it is a text, names the source."""

    def read(self) -> bytes:
        """All bytes from here on."""


@dataclass(frozen=True, kw_only=True)
class SourcePages:
    """Some pages or frames of a source, by the numbers that readings give them; the others are neither drawn nor read.

        Vision().read_many([SourcePages(source="report.pdf", pages=(2, 5))], task="ocr")

    While it is read it raises ImageNotFoundError where one of the pages is not there: the source is another one then.

    Attributes:
        source: any other source.
        pages: counted from 1; of animations and videos those that the setting `frames` gives.
    """

    source: Source
    pages: tuple[int, ...]


Source = Union[
    str,
    "os.PathLike[str]",
    bytes,
    bytearray,
    memoryview,
    Readable,
    "Image.Image",
    "tuple[str, bytes | Readable]",
    SourcePages,
]
"""A path, an http(s) URL (passed on to the service, never fetched here), a data URI, bytes, a file object, a
PIL image, `(name, bytes or file object)`, as httpx and the openai SDK take files, or some pages of one of these."""

_LONGEST_PATH = 4096  # characters; a longer text is no path, but probably base64 without its label
_NAME_SHOWN = 200  # characters shown of what is too long to be a name
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")  # two letters at least: C:// is a drive


def is_source(value: object) -> TypeGuard[Source]:
    """Whether this is one source, and not an iterable of them: files and pairs can be iterated, too."""
    if isinstance(value, tuple):
        return len(value) == len(("name", "bytes")) and isinstance(value[0], str) and _holds_bytes(value[1])
    return isinstance(value, (str, os.PathLike, SourcePages)) or _holds_bytes(value) or _is_picture(value)


def _holds_bytes(value: object) -> bool:
    return isinstance(value, (bytes, bytearray, memoryview)) or hasattr(value, "read")


def has_scheme(text: str) -> bool:
    """Whether a text is an address or a data URI, and no path."""
    return text[:5].lower() == "data:" or _SCHEME.match(text) is not None


def frames(source: Source, wanted: Frames, limits: ImageLimits) -> list[Frame]:
    """The frames of a source, its bytes read once and shared; nothing is decoded yet.

    Raises:
        ImageNotFoundError, ImageAccessError: the source cannot be read, or has not the pages that are asked for.
        ImageFormatError, ImageBrokenError, ImageEncryptedError: its bytes are no picture, or a damaged one.
        ImageTooLargeError: more bytes or pages than `limits` lets through.
        TypeError: a source of a type that is none of `Source`.
    """
    if isinstance(source, SourcePages):
        return _some(frames(source.source, wanted, limits), source.pages)
    if isinstance(source, str) and (scheme := _SCHEME.match(source)):
        if scheme[1].lower() in {"http", "https"}:
            return [Frame(source=source, url=source)]
        remedy = "paths, http(s) URLs and data URIs are; open other addresses yourself and pass the bytes"
        raise ImageFormatError(source[:_NAME_SHOWN], f"an address with {scheme[1]!r}", remedy=remedy)
    if _is_picture(source):
        return [_frame_of_picture(source, limits)]
    name, data = _read(source, limits)
    return frames_of_bytes(name, data, wanted, limits)


def _some(whole: list[Frame], pages: tuple[int, ...]) -> list[Frame]:
    """Those of the frames whose numbers are asked for, in their order."""
    by_page = {frame.page: frame for frame in whole}
    if missing := [page for page in pages if page not in by_page]:
        has = "1 page" if len(whole) == 1 else f"{len(whole)} pages or frames"
        remedy = f"Give a page from {min(by_page)} to {max(by_page)}"
        if whole[0].time is not None or whole[0].kind is GIF:
            remedy += ", or the frames=... that it was read with"
        what = f"has no page {', '.join(map(str, missing))} (it gives {has}). {remedy}."
        raise ImageNotFoundError(whole[0].source, what)
    return [frame for page, frame in by_page.items() if page in pages]


def name_of(source: Source) -> str:
    """The text that names a source in readings: as given, or made of the digest where nothing was given.

    Raises:
        TypeError: a source of a type that is none of `Source`.
    """
    while isinstance(source, SourcePages):
        source = source.source
    if isinstance(source, tuple):
        return printable(source[0])
    if isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        return "data URI" if text[:5].lower() == "data:" else printable(text)
    name = getattr(source, "filename", None) if _is_picture(source) else getattr(source, "name", None)
    if isinstance(name, str) and name:
        return printable(name)
    if _is_picture(source):
        return _digest_name(_digest_of_picture(source))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _digest_name(hashlib.sha256(bytes(source)).hexdigest())
    if hasattr(source, "read"):
        return "file object"
    raise TypeError(
        f"{type(source).__name__} is not an image source: give a path, URL, data URI, bytes, file object or PIL image"
    )


_loading = threading.Lock()  # a picture that is opened, but not loaded, may be read by several at once


def _frame_of_picture(picture: Image.Image, limits: ImageLimits) -> Frame:
    """The frame of a PIL image; one that came from a file as it is, is turned as its EXIF data says."""
    from PIL.ImageFile import ImageFile

    given = getattr(picture, "filename", None)
    shown = printable(given) if isinstance(given, str) and given else "PIL image"
    limits.check_size(shown, *picture.size)
    with _loading, decoding(shown, None):
        picture.load()
        orientation = orientation_of(picture) if isinstance(picture, ImageFile) else 1
        return frame_of_picture(picture, name_of(picture), _digest_of_picture(picture), orientation=orientation)


# -- Reading -----------------------------------------------------------------------------------------------


def _read(source: Any, limits: ImageLimits) -> tuple[str, bytes]:
    """Name and bytes of a source that is neither a URL nor a PIL image."""
    name = name_of(source)
    given = source[1] if isinstance(source, tuple) else source
    if isinstance(given, (bytes, bytearray, memoryview)):
        limits.check_bytes(name, len(given))
        return name, bytes(given)
    if isinstance(given, (str, os.PathLike)):
        text = os.fspath(given)
        if text[:5].lower() == "data:":
            data = bytes_of_data_uri(text)
            limits.check_bytes(name, len(data))
            return _digest_name(hashlib.sha256(data).hexdigest()), data
        return name, _bytes_of_file(name, text, limits)
    try:
        data = _bytes_of_object(given, limits)
    except FileNotFoundError as error:  # one that is opened only now
        raise ImageNotFoundError(name) from error
    except (OSError, ValueError) as error:  # ValueError: a closed file
        raise ImageAccessError(name, str(error)) from error
    if not isinstance(data, bytes):
        remedy = "open the file in binary mode, open(path, 'rb')"
        raise ImageFormatError(name, f"a file object that gives {type(data).__name__}", remedy=remedy)
    limits.check_bytes(name, len(data))
    return (_digest_name(hashlib.sha256(data).hexdigest()) if name == "file object" else name), data


def _bytes_of_object(file: Any, limits: ImageLimits) -> Any:
    """All that a file object gives, or a byte more than is allowed; some give less than asked, some take no size."""
    parts: list[bytes] = []
    left = limits.max_bytes + 1
    while left > 0:
        try:
            part = file.read(left)
        except TypeError:
            return file.read()
        if not isinstance(part, bytes):
            return part
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _bytes_of_file(name: str, path: str, limits: ImageLimits) -> bytes:
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            known = os.fstat(file.fileno())
            if not stat.S_ISREG(known.st_mode):
                raise ImageAccessError(name, "it is not a regular file")
            limits.check_bytes(name, known.st_size)
            return file.read(limits.max_bytes + 1)
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


def bytes_of_data_uri(uri: str) -> bytes:
    """The bytes in a data URI.

    Raises:
        ImageFormatError: it is none, or damaged.
    """
    head, _, body = uri.partition(",")
    try:
        if head.lower().endswith(";base64"):
            return bytes_of_base64(unquote_to_bytes(body))
        return unquote_to_bytes(body)
    except ValueError as error:
        remedy = f"its form is data:image/png;base64,...; this one has {error}"
        raise ImageFormatError(head[:_NAME_SHOWN], "a data URI that cannot be decoded", remedy=remedy) from error


# -- Names -------------------------------------------------------------------------------------------------


def _is_picture(source: object) -> TypeGuard[Image.Image]:
    """Whether this is a PIL image, told without importing Pillow for those who gave a path."""
    return any(cls.__module__ == "PIL.Image" and cls.__name__ == "Image" for cls in type(source).__mro__)


def _digest_of_picture(picture: Image.Image) -> str:
    head = f"{picture.mode} {picture.width} {picture.height} ".encode()
    return hashlib.sha256(head + picture.tobytes()).hexdigest()


def _digest_name(digest: str) -> str:
    return f"sha256:{digest[:16]}"


def printable(name: str) -> str:
    """The name as valid Unicode of bounded length: other things would break indexes and errors."""
    shown = name if len(name) <= _LONGEST_PATH else f"{name[:_NAME_SHOWN]}..."
    try:
        return shown.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a half character that stands for no byte of a file's name
        return shown.encode("utf-8", "backslashreplace").decode("utf-8")
