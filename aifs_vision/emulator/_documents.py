"""What a file of the Visual RAG is and has on its pages: PDF, PPTX, DOCX, HTML and PNG, told by their bytes.

Pages of PDF are pictures as PDFium draws them. Pages of PPTX, DOCX and HTML are pictures of their text alone: there is
nothing here that lays them out, and pictures in them are not read.
"""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import groupby
from posixpath import basename, normpath
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from PIL import Image, UnidentifiedImageError

from aifs_vision.emulator._drawn import drawn
from aifs_vision.emulator._pages import UnreadablePdfError, pdf_pages

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SUFFIXES", "Leaf", "UnreadableError", "kind_of", "leaves"]

SUFFIXES = {"PDF": (".pdf",), "PPTX": (".pptx",), "DOCX": (".docx",), "HTML": (".html", ".htm"), "PNG": (".png",)}
"""The formats, and how the names of their files end."""

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_SLIDES = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_LINKS = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_LARGEST_PART = 64 * 2**20  # bytes of one part of an Office file, unpacked
_HTML = re.compile(rb"(?is)\s*(?:<\?xml[^>]*>\s*)?(?:<!--(?:(?!-->).)*-->\s*)*<(?:!doctype\s+html|html|head|body)\b")
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset=[\"']?([\w.:-]+)", re.IGNORECASE)
_BLOCKS = frozenset(
    "address article blockquote br dd div dt h1 h2 h3 h4 h5 h6 hr li p pre section table td th tr".split()
)
_HIDDEN = frozenset({"script", "style", "template", "noscript"})


class UnreadableError(Exception):
    """A file that is not what its first bytes say; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A page or slide.

    Attributes:
        number: from 1.
        text: all that it has of its own; "" for one that is to be recognised.
        png: its picture; None for one of an Office file without a text.
        seen: the part of its text that is on the picture.
    """

    number: int
    text: str
    png: bytes | None = field(default=None, repr=False)
    seen: str


def kind_of(data: bytes) -> str | None:
    """The name of the format, or None where it is none of the five."""
    if data.startswith(b"%PDF-"):
        return "PDF"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"PK\3\4"):
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as parts:
                names = set(parts.namelist())
        except zipfile.BadZipFile:
            return None
        return "DOCX" if "word/document.xml" in names else "PPTX" if "ppt/presentation.xml" in names else None
    return "HTML" if _HTML.match(data.removeprefix(b"\xef\xbb\xbf")[:4096]) else None


def leaves(data: bytes, kind: str) -> list[Leaf]:
    """The pages of a file; blocks.

    Raises:
        UnreadableError: it is damaged.
    """
    try:
        return list(_READERS[kind](data))
    except UnreadablePdfError as error:
        raise UnreadableError(str(error)) from error
    except (zipfile.BadZipFile, KeyError, ET.ParseError, UnidentifiedImageError, OSError, SyntaxError) as error:
        raise UnreadableError(f"this {kind} is damaged ({error})") from error


def _pdf(data: bytes) -> Iterator[Leaf]:
    for number, page in enumerate(pdf_pages(data), start=1):
        yield Leaf(number=number, text=page.text, png=page.png, seen=page.text)


def _png(data: bytes) -> Iterator[Leaf]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            Image.open(io.BytesIO(data)).load()
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise UnreadableError(f"this PNG has too many pixels ({error})") from error
    yield Leaf(number=1, text="", png=data, seen="")


def _written(number: int, text: str, *, slide: bool = False) -> Leaf:
    png, seen = drawn(text, slide=slide) if text else (None, "")
    return Leaf(number=number, text=text, png=png, seen=seen)


# -- Office ------------------------------------------------------------------------------------------------


def _docx(data: bytes) -> Iterator[Leaf]:
    """The pages as Word last laid them out, told by the breaks that it left in the text."""
    with zipfile.ZipFile(io.BytesIO(data)) as parts:
        body = _xml(parts, "word/document.xml")
    page, lines = 1, [(1, "")]
    for element in body.iter():
        if element.tag == f"{_WORD}p":
            lines.append((page, ""))
        elif element.tag == f"{_WORD}lastRenderedPageBreak" or (
            element.tag == f"{_WORD}br" and element.get(f"{_WORD}type") == "page"
        ):
            page += 1
            lines.append((page, ""))
        elif element.tag in {f"{_WORD}t", f"{_WORD}tab"}:
            lines[-1] = (page, lines[-1][1] + (element.text or "\t"))
    for number, group in groupby(lines, key=lambda line: line[0]):
        yield _written(number, "\n".join(text for _, text in group if text.strip()))


def _pptx(data: bytes) -> Iterator[Leaf]:
    """The slides in the order they are shown in."""
    with zipfile.ZipFile(io.BytesIO(data)) as parts:
        links = {link.get("Id"): link.get("Target", "") for link in _xml(parts, "ppt/_rels/presentation.xml.rels")}
        order = [slide.get(f"{_LINKS}id") for slide in _xml(parts, "ppt/presentation.xml").iter(f"{_SLIDES}sldId")]
        for number, link in enumerate(order, start=1):
            target = links[link]
            slide = _xml(parts, normpath(target.lstrip("/") if target.startswith("/") else f"ppt/{target}"))
            paragraphs = (
                "".join(run.text or "" for run in paragraph.iter(f"{_DRAWING}t"))
                for paragraph in slide.iter(f"{_DRAWING}p")
            )
            yield _written(number, "\n".join(filter(str.strip, paragraphs)), slide=True)


def _xml(parts: zipfile.ZipFile, name: str) -> ET.Element:
    """A part of an Office file; one with a DTD, which none needs and bombs are made of, is no such part."""
    part = parts.getinfo(name)
    if part.file_size > _LARGEST_PART:
        raise UnreadableError(f"its part {basename(name)!r} has {part.file_size:,} bytes unpacked")
    data = parts.read(part)
    if b"<!DOCTYPE" in data:
        raise UnreadableError(f"its part {basename(name)!r} has a document type")
    return ET.fromstring(data)  # noqa: S314 - without a DTD there are no entities to expand


# -- HTML --------------------------------------------------------------------------------------------------


class _Visible(HTMLParser):
    """Collects the text that a reader of the page would see."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in _HIDDEN
        if tag in _BLOCKS:
            self.text.append("\n")
        if tag == "img":
            self.text.append(next((f" {value} " for name, value in attrs if name == "alt" and value), ""))

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in _HIDDEN and self._hidden > 0
        if tag in _BLOCKS or tag == "title":
            self.text.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text.append(re.sub(r"\s+", " ", data))


def _html(data: bytes) -> Iterator[Leaf]:
    named = _CHARSET.search(data[:2048])
    try:
        text = data.decode(named[1].decode() if named else "utf-8-sig", "replace")
    except LookupError:  # a character set that nobody knows
        text = data.decode("utf-8", "replace")
    visible = _Visible()
    visible.feed(text)
    visible.close()
    lines = (" ".join(line.split()) for line in "".join(visible.text).splitlines())
    yield _written(1, "\n".join(filter(None, lines)))


_READERS = {"PDF": _pdf, "PNG": _png, "DOCX": _docx, "PPTX": _pptx, "HTML": _html}
