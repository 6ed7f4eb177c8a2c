"""Pages of a PDF, drawn straight at the size that is sent; by PDFium (extra `pdf`)."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aifs_vision._errors import ImageBrokenError, ImageEncryptedError, ImageFormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from PIL import Image

__all__ = ["draw_page", "page_sizes"]

_POINTS, _DPI = 72, 300  # a PDF measures in points; nobody prints text to be read with more dots an inch
_LONGEST = 20_000  # px a page counts with at most, however large its paper
_DRAWING = 30.0  # seconds a page may take to be drawn; a drawing for a print shop takes one or two

_turn = threading.Lock()  # PDFium is not made for threads


def page_sizes(source: str, data: bytes, check: Callable[[int], None]) -> list[tuple[int, int]]:
    """The (width, height) of each page, in px at 300 dots an inch: what a good printer would show of it.

    `check` refuses too many pages, before they are measured.

    Raises:
        ImageFormatError: the extra `pdf` is not installed.
        ImageEncryptedError, ImageBrokenError: PDFium cannot open it, or it has no pages.
        ImageTooLargeError: from `check`.
    """
    with _opened(source, data) as document:
        check(len(document))
        if not len(document):
            raise ImageBrokenError(source, "PDF", "it has no pages")
        return [_pixels(*document.get_page_size(index)) for index in range(len(document))]


def draw_page(source: str, data: bytes, page: int, size: tuple[int, int]) -> Image.Image:
    """A page as an RGB picture of `size` px, with its annotations and what was typed into its forms.

    Raises:
        ImageBrokenError: the page cannot be drawn, or not within half a minute.
    """
    with _opened(source, data) as document:
        document.init_forms()
        try:
            return _drawn(document[page - 1], size)
        except TimeoutError as error:
            raise ImageBrokenError(source, "PDF", f"not drawn within {_DRAWING:g} s", page=page) from error
        except (_pdfium().PdfiumError, ValueError) as error:
            raise ImageBrokenError(source, "PDF", str(error), page=page) from error


def _pixels(width: float, height: float) -> tuple[int, int]:
    scale = min(_DPI / _POINTS, _LONGEST / max(width, height, 1))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _drawn(page: Any, size: tuple[int, int]) -> Image.Image:
    """What `PdfPage.render()` does, but for exactly this size, and not for ever."""
    import pypdfium2.raw as pdfium

    width, height = size
    bitmap = _pdfium().PdfBitmap.new_native(width, height, pdfium.FPDFBitmap_BGR, rev_byteorder=True)
    bitmap.fill_rect((255, 255, 255, 255), 0, 0, width, height)
    where = (bitmap, page, 0, 0, width, height, 0, pdfium.FPDF_ANNOT | pdfium.FPDF_REVERSE_BYTE_ORDER)
    pause = _pause_now()
    status = pdfium.FPDF_RenderPageBitmap_Start(*where, pause)
    started = time.monotonic()
    try:
        while status == pdfium.FPDF_RENDER_TOBECONTINUED:
            if time.monotonic() - started > _DRAWING:
                raise TimeoutError
            status = pdfium.FPDF_RenderPage_Continue(page, pause)
    finally:
        pdfium.FPDF_RenderPage_Close(page)
    if status != pdfium.FPDF_RENDER_DONE:
        raise ValueError("PDFium cannot draw it")
    if page.formenv:
        pdfium.FPDF_FFLDraw(page.formenv, *where)
    picture: Image.Image = bitmap.to_pil()
    return picture.copy()  # its pixels belong to PDFium, which frees them with the bitmap


def _pause_now() -> Any:
    """PDFium asks it now and then whether to stop for a moment; it always does, so that the clock is looked at."""
    import pypdfium2.raw as pdfium

    pause = pdfium.IFSDK_PAUSE(version=1)
    answer = type(pause.NeedToPauseNow)(lambda _: 1)
    pause.NeedToPauseNow = answer
    return pause


@contextmanager
def _opened(source: str, data: bytes) -> Iterator[Any]:
    try:
        pdfium = _pdfium()
    except ImportError as error:
        raise ImageFormatError.needs(source, "PDF", "pdf") from error
    with _turn:
        try:
            document = pdfium.PdfDocument(data)
        except pdfium.PdfiumError as error:
            if getattr(error, "err_code", None) == _PASSWORD:
                raise ImageEncryptedError(source) from error
            raise ImageBrokenError(source, "PDF", str(error)) from error
        try:
            yield document
        finally:
            document.close()


_PASSWORD = 4  # FPDF_ERR_PASSWORD


def _pdfium() -> Any:
    import pypdfium2

    return pypdfium2


def _renew() -> None:
    global _turn  # noqa: PLW0603 - a forked child must not wait for a thread it does not have
    _turn = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
