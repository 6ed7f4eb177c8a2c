"""Pages of a PDF, drawn straight at the size that is sent; by PDFium (extra `pdf`)."""

from __future__ import annotations

import atexit
import os
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TookTooLong
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from aifs_vision._errors import ImageBrokenError, ImageEncryptedError, ImageFormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from PIL import Image

__all__ = ["draw_page", "page_sizes"]

_POINTS, _DPI = 72, 300  # a PDF measures in points; nobody prints text to be read with more dots an inch
_LOOK = 0.2  # seconds after which whoever waits looks whether there is any hope
_LONGEST = 20_000  # px a page counts with at most, however large its paper

T = TypeVar("T")


class _Place:
    """PDFium, which is not made for threads: whose turn it is, and whether it will ever be anybody's again."""

    def __init__(self) -> None:
        self.turn, self.stuck = threading.Lock(), False


_place = _Place()


def page_sizes(source: str, data: bytes, check: Callable[[int], None], seconds: float) -> list[tuple[int, int]]:
    """The (width, height) of each page, in px at 300 dots an inch: what a good printer would show of it.

    `check` refuses too many pages, before they are measured.

    Raises:
        ImageFormatError: the extra `pdf` is not installed.
        ImageEncryptedError, ImageBrokenError: PDFium cannot open it, or not in time, or it has no pages.
        ImageTooLargeError: from `check`.
    """

    def measured() -> list[tuple[int, int]]:
        with _opened(source, data) as document:
            check(len(document))
            if not len(document):
                raise ImageBrokenError(source, "PDF", "it has no pages")
            return [_pixels(*document.get_page_size(index)) for index in range(len(document))]

    return _in_turn(measured, source, None, seconds)


def draw_page(source: str, data: bytes, page: int, size: tuple[int, int], seconds: float) -> Image.Image:
    """A page as an RGB picture of `size` px, with its annotations and what was typed into its forms.

    Raises:
        ImageBrokenError: the page cannot be drawn, or not in time.
    """

    def drawn() -> Image.Image:
        with _opened(source, data) as document:
            try:
                document.init_forms()
                _not_at_exit(document.formenv)
                return _drawn(_not_at_exit(document[page - 1]), size)
            except (_pdfium().PdfiumError, ValueError) as error:
                raise ImageBrokenError(source, "PDF", str(error), page=page) from error

    return _in_turn(drawn, source, page, seconds)


def _in_turn(work: Callable[[], T], source: str, page: int | None, seconds: float) -> T:
    """What `work` gives, once PDFium is free; a page that is not done in time is left to itself.

    PDFium cannot be stopped: the thread of its own goes on, and until it has ended no other PDF can be read.
    """
    place = _place
    while not place.turn.acquire(timeout=_LOOK):  # released by whoever is done with PDFium, in another thread
        if place.stuck:
            raise ImageBrokenError(source, "PDF", "PDFium is still busy with a page that does not end", page=page)
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            outcome.set_exception(error)
        finally:
            place.stuck = False
            place.turn.release()

    threading.Thread(target=run, name="aifs-vision-pdf", daemon=True).start()
    try:
        return outcome.result(seconds)
    except TookTooLong as error:
        if outcome.done():  # it was in time by a hair, or raised one of its own
            return outcome.result()
        place.stuck = True
        # At the end of the program PDFium would be taken down under the thread that is still in it.
        atexit.unregister(import_module("pypdfium2._library_scope").destroy_lib)
        raise ImageBrokenError(source, "PDF", f"not done within {seconds:g} s", page=page) from error


def _pixels(width: float, height: float) -> tuple[int, int]:
    scale = min(_DPI / _POINTS, _LONGEST / max(width, height, 1))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _drawn(page: Any, size: tuple[int, int]) -> Image.Image:
    """What `PdfPage.render()` does, but for exactly this size."""
    import pypdfium2.raw as pdfium

    width, height = size
    bitmap = _not_at_exit(_pdfium().PdfBitmap.new_native(width, height, pdfium.FPDFBitmap_BGR, rev_byteorder=True))
    bitmap.fill_rect((255, 255, 255, 255), 0, 0, width, height)
    where = (bitmap, page, 0, 0, width, height, 0, pdfium.FPDF_ANNOT | pdfium.FPDF_REVERSE_BYTE_ORDER)
    pdfium.FPDF_RenderPageBitmap(*where)
    if page.formenv:
        pdfium.FPDF_FFLDraw(page.formenv, *where)
    picture: Image.Image = bitmap.to_pil()
    return picture.copy()  # its pixels belong to PDFium, which frees them with the bitmap


def _not_at_exit(thing: Any) -> Any:
    """A thing of PDFium's that is not closed at the end of the program, when a thread may still be in it."""
    finalizer = getattr(thing, "_finalizer", None)
    if finalizer is not None:
        finalizer.atexit = False
    return thing


@contextmanager
def _opened(source: str, data: bytes) -> Iterator[Any]:
    try:
        pdfium = _pdfium()
    except ImportError as error:
        raise ImageFormatError.needs(source, "PDF", "pdf") from error
    try:
        document = _not_at_exit(pdfium.PdfDocument(data))
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
    global _place  # noqa: PLW0603 - a forked child must not wait for a thread it does not have
    _place = _Place()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
