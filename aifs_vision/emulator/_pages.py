"""The pages of a PDF, by PDFium, in a process of its own: PDFium is not made for threads, and the client uses it too.

Run as a program it reads a PDF from stdin and writes a line of JSON for each page. It stands on PDFium alone, so that
it is started by its path, whatever the parent's `sys.path` may be.
"""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PdfPage", "UnreadablePdfError", "pdf_pages"]

_DPI, _POINTS = 150, 72
_LONGEST = 1754  # px of a page's longer side: A4 at 150 dots an inch
_UNREADABLE, _NO_PDFIUM = 3, 4  # exit statuses
_TIME = 120.0  # seconds for a whole file: some pages can be made to take for ever


class UnreadablePdfError(Exception):
    """A PDF that PDFium does not open, or not in time; the message says why."""


class PdfPage(NamedTuple):
    """The text layer of a page, "" where there is none, and the page as a PNG."""

    text: str
    png: bytes


def pdf_pages(data: bytes) -> list[PdfPage]:
    """The pages of a PDF; blocks while another process draws them.

    Raises:
        UnreadablePdfError: it is damaged, protected by a password, takes too long, or PDFium is not installed.
    """
    try:
        done = subprocess.run(  # noqa: S603 - this file, by this interpreter
            [sys.executable, str(Path(__file__).resolve())], input=data, capture_output=True, timeout=_TIME, check=False
        )
    except subprocess.TimeoutExpired:
        raise UnreadablePdfError(f"not read within {_TIME:g} s") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise UnreadablePdfError(said[-1] if said else f"its reader ended with status {done.returncode}")
    read = map(json.loads, done.stdout.splitlines())
    return [PdfPage(page["text"], base64.b64decode(page["png"])) for page in read]


def _read(data: bytes) -> Iterator[PdfPage]:
    """The pages, as the other process reads them."""
    import pypdfium2

    document = pypdfium2.PdfDocument(data)
    document.init_forms()
    for page in document:
        scale = min(_DPI / _POINTS, _LONGEST / max(*page.get_size(), 1.0))
        buffer = io.BytesIO()
        page.render(scale=scale, may_draw_forms=True).to_pil().convert("RGB").save(buffer, "PNG")
        text = page.get_textpage().get_text_bounded().replace("\r\n", "\n").strip()
        yield PdfPage(text, buffer.getvalue())


def main() -> int:
    """Reads stdin, writes stdout; what is wrong is said in the last line of stderr."""
    try:
        from pypdfium2 import PdfiumError
    except ImportError as error:
        sys.stderr.write(f"the emulator reads PDF with pypdfium2: pip install 'aifs-vision[pdf]' ({error})\n")
        return _NO_PDFIUM
    try:
        for page in _read(sys.stdin.buffer.read()):
            sys.stdout.write(json.dumps({"text": page.text, "png": base64.b64encode(page.png).decode()}) + "\n")
    except PdfiumError as error:
        sys.stderr.write(f"this PDF cannot be read: {error}\n")
        return _UNREADABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
