"""What is decoded at most: checked by what headers say, before a decoder gets to see the rest."""

from __future__ import annotations

from dataclasses import dataclass, fields

from aifs_vision._errors import ImageTooLargeError, ImageTooSmallError, SettingsError

__all__ = ["MIN_SIDE", "ImageLimits"]

MIN_SIDE = 8
"""Pixels a side needs at least: less shows neither a letter nor a thing, and some hosts answer 400."""


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """Bounds for what is opened; raise one knowingly, for files that can be trusted.

        Vision(image_limits=ImageLimits(max_pixels=400_000_000))        # aerial photographs

    Attributes:
        max_bytes: of one file; 256 MiB.
        max_pixels: of one picture or page, decoded; the bound of Pillow's own bomb check, which at three bytes a
            pixel is a quarter of a GiB. PDF pages are drawn at the size that is sent and have no such size.
        max_pages: pages of a document, or frames that are read of one animation or video.
        max_seconds: that PDFium may take for one page of a PDF: some can be made to take for ever.
        max_ratio: of the longer side to the shorter; 200, above which hosts of Qwen-VL answer 400
            (`smart_resize` of qwen-vl-utils).

    Raises:
        SettingsError: a bound below 1.
    """

    max_bytes: int = 256 * 1024**2
    max_pixels: int = 89_478_485
    max_pages: int = 1_000
    max_ratio: float = 200.0
    max_seconds: float = 30.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 1:
                raise SettingsError.bad_value(f"ImageLimits.{field.name}", value, "it is a number of at least 1")

    def check_bytes(self, source: str, size: int) -> None:
        """Refuses a file by its size in bytes.

        Raises:
            ImageTooLargeError
        """
        if size > self.max_bytes:
            raise ImageTooLargeError(source, f"has {size:,} bytes", "max_bytes", self.max_bytes)

    def check_pages(self, source: str, pages: int) -> None:
        """Refuses a document by the number of its pages, or of the frames asked for.

        Raises:
            ImageTooLargeError
        """
        if pages > self.max_pages:
            raise ImageTooLargeError(source, f"has {pages:,} pages or frames", "max_pages", self.max_pages)

    def check_size(self, source: str, width: int, height: int, *, page: int | None = None, drawn: bool = False) -> None:
        """Refuses a picture by its size in px; one that is `drawn` to measure has no pixels of its own.

        Raises:
            ImageTooSmallError, ImageTooLargeError
        """
        if min(width, height) < MIN_SIDE:
            raise ImageTooSmallError(source, width, height, MIN_SIDE, page=page)
        size = f"has {width} x {height} px"
        if width * height > self.max_pixels and not drawn:
            raise ImageTooLargeError(source, size, "max_pixels", self.max_pixels, page=page)
        if max(width, height) > self.max_ratio * min(width, height):
            raise ImageTooLargeError(
                source, f"{size}, one side many times the other", "max_ratio", self.max_ratio, page=page
            )
