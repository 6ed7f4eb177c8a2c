"""What the user gave -> a file that the service's Visual RAG takes: PDF, PPTX, DOCX, HTML or PNG, told by its bytes."""

from __future__ import annotations

import io
import os
import re
import zipfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from aifs_vision._catalogue import model_card
from aifs_vision._errors import ImageAccessError, ImageFormatError, ImageNotFoundError, SettingsError
from aifs_vision._formats import IMAGE_SUFFIXES, PDF, VIDEOS, name_of_bytes, sniff
from aifs_vision._images import prepare
from aifs_vision._sources import _read as read_source
from aifs_vision._sources import frames, has_scheme, is_source, name_of, printable
from aifs_vision._tasks import CAPTION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from aifs_vision._frames import Frame
    from aifs_vision._guards import ImageLimits
    from aifs_vision._sources import Source

__all__ = ["Document", "Kind", "document", "spread", "uploadable"]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A format that the Visual RAG takes, or one that is turned into such a one before it is sent."""

    name: str
    suffix: str
    mime_type: str


_OFFICE = "application/vnd.openxmlformats-officedocument"
_PDF = Kind(name="PDF", suffix=".pdf", mime_type="application/pdf")
_PNG = Kind(name="PNG", suffix=".png", mime_type="image/png")
_PPTX = Kind(name="PPTX", suffix=".pptx", mime_type=f"{_OFFICE}.presentationml.presentation")
_DOCX = Kind(name="DOCX", suffix=".docx", mime_type=f"{_OFFICE}.wordprocessingml.document")
_HTML = Kind(name="HTML", suffix=".html", mime_type="text/html")
_SUFFIXES = frozenset({".pdf", ".pptx", ".docx", ".html", ".htm", *IMAGE_SUFFIXES})
_TAKEN = (
    "Visual RAG takes PDF, PPTX, DOCX, HTML and PNG, told by their first bytes, and pictures, which are sent as PNG"
)
_PARTS = {"word/document.xml": _DOCX, "ppt/presentation.xml": _PPTX}
_PAGE = re.compile(rb"(?is)\s*(?:<\?xml[^>]*>\s*)?(?:<!--(?:(?!-->).)*-->\s*)*<(?:!doctype\s+html|html|head|body)\b")
_MARKUP = re.compile(rb"\s*<[a-z!]", re.IGNORECASE)
_HEAD = 4096  # bytes in which an HTML page says that it is one
_SEEING = "Qwen3-VL-30B-A3B-Instruct-FP8"  # by whose eyes pictures are prepared: it runs where the service's index does
_LONGEST = 2560  # px of the longer side of a picture: an A4 page at 220 dots an inch
_PREPARING = CAPTION.sized(_LONGEST)  # for its sizes: whole pages, whatever their print; nothing is asked
_QUALITY, _DPI = 92, 220  # of the pages of a picture that has several


@dataclass(frozen=True, kw_only=True)
class Document:
    """A file to be uploaded, as it was given.

    Attributes:
        source: its name, as for readings.
        data: its bytes, as given.
        kind: what it is uploaded as.
        picture: whether it is prepared before.
    """

    source: str
    data: bytes = field(repr=False)
    kind: Kind
    picture: bool


def spread(sources: Source | Iterable[Source]) -> list[Source]:
    """Single sources: a folder is the files below it that Visual RAG takes by their suffix, hidden ones left out.

    Raises:
        ImageNotFoundError: a folder with no such file.
        ImageAccessError: a folder that cannot be listed.
        SettingsError: two contents under one name.
    """
    given: Iterable[Source] = (sources,) if is_source(sources) else sources  # type: ignore[assignment]
    found = [single for source in given for single in _spread(source)]
    named: dict[str, bytes] = {}
    for single in found:
        if isinstance(single, tuple) and isinstance(single[1], (bytes, bytearray, memoryview)):
            name, data = name_of(single), bytes(single[1])
            if named.setdefault(name, data) != data:
                rule = "two contents have this name, and would be versions of one file; name each differently"
                raise SettingsError.bad_value("sources", name, rule)
    return found


def _spread(source: Source) -> Iterator[Source]:
    # Of Path, is_dir() raises where a path is too long or forbidden, and "" is the current folder.
    if (
        not isinstance(source, (str, os.PathLike)) or has_scheme(os.fspath(source)) or not os.path.isdir(source)  # noqa: PTH112 - see above
    ):
        yield source
        return
    found = sorted(_files_below(Path(source)))
    if not found:
        raise ImageNotFoundError(printable(os.fspath(source)), f"no such files there: {_TAKEN}.")
    yield from found


def _files_below(root: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise ImageAccessError(str(error.filename), error.strerror or str(error)) from error

    for folder, below, names in os.walk(root, onerror=refuse):
        below[:] = [name for name in below if not name.startswith(".")]
        paths = (Path(folder, name) for name in names if not name.startswith("."))
        yield from (path for path in paths if path.suffix.lower() in _SUFFIXES)


def document(source: Source, limits: ImageLimits) -> Document:
    """A source, read once; blocks.

    Raises:
        ImageNotFoundError, ImageAccessError, ImageTooLargeError: it cannot be read.
        ImageFormatError: it is nothing that Visual RAG takes.
        TypeError: a source of a type that is none of `Source`.
    """
    name = name_of(source)
    if source == "":
        raise ImageNotFoundError("''", "an empty path. Give that of a file or folder; the current folder is '.'.")
    if isinstance(source, str) and source[:5].lower() != "data:" and has_scheme(source):
        raise _not_taken(name, "an address, which is not fetched here: download it, and give the path or the bytes;")
    if not isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview, tuple)) and not hasattr(source, "read"):
        drawn, as_drawn = _converted(frames(source, "auto", limits), limits)  # a PIL image
        return Document(source=name, data=drawn, kind=as_drawn, picture=False)
    name, data = read_source(source, limits)
    kind = _document_kind(name, data)
    return Document(source=name, data=data, kind=kind or _PNG, picture=kind is None)


def uploadable(given: Document, limits: ImageLimits) -> tuple[bytes, Kind]:
    """What is uploaded for a document: the file itself, or its picture, prepared as the engine prepares its own.

    A picture with several pages, such as a TIFF, becomes a PDF, so that its pages keep their numbers. Blocks.

    Raises:
        ImageError: the picture cannot be read, or is too large or too small.
    """
    if not given.picture:
        return given.data, given.kind
    return _converted(frames((given.source, given.data), "auto", limits), limits)


def _document_kind(name: str, data: bytes) -> Kind | None:
    """The format of a document; None for a picture."""
    kind = sniff(data)
    if kind is PDF:
        return _PDF
    if kind is not None and kind not in VIDEOS:
        return None
    if kind is None and (office := _office_kind(data)) is not None:
        return office
    head = data[:_HEAD].removeprefix(b"\xef\xbb\xbf")
    if kind is None and (_PAGE.match(head) or (name.lower().endswith((".html", ".htm")) and _MARKUP.match(head))):
        return _HTML
    raise _not_taken(name, f"{kind.name if kind else name_of_bytes(data)[0]}, which")


def _office_kind(data: bytes) -> Kind | None:
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(data)) as parts:
        names = set(parts.namelist())
        return next((kind for part, kind in _PARTS.items() if part in names), None)
    return None


def _not_taken(name: str, found: str) -> ImageFormatError:
    error = ImageFormatError(name, found)
    error.args = (f"{name}: this is {found} is not taken: {_TAKEN}.",)
    return error


def _converted(pages: Sequence[Frame], limits: ImageLimits) -> tuple[bytes, Kind]:
    """Pages as one file: a PNG, or a PDF where there are several."""
    from PIL import Image

    images = [image for page in pages for image in prepare(page, model_card(_SEEING), _PREPARING, limits)]
    if len(images) == 1 and images[0].mime_type == _PNG.mime_type:
        return images[0].data, _PNG
    first, *others = (Image.open(io.BytesIO(image.data)) for image in images)
    buffer = io.BytesIO()
    if not others:
        first.save(buffer, "PNG")
        return buffer.getvalue(), _PNG
    first.save(buffer, "PDF", save_all=True, append_images=others, quality=_QUALITY, resolution=_DPI)
    return buffer.getvalue(), _PDF
