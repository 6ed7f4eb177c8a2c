"""Paper to print on: text in real fonts, which the paper remembers.

Lengths are points (1/72 inch), scaled to the pixels asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BRASS", "GREY", "INK", "PAGE", "SEA", "WIDTH", "Printed", "Sheet", "Style"]

INK, GREY, SEA, BRASS = "#1c1c1e", "#6b6f76", "#1f5f8b", "#b5893b"

PAGE = 1536  # px of the longer side of a page as the client sends it
WIDTH, HEIGHT = 595.28, 841.89  # points of an A4 page
_FONTS = {
    "sans": "font_roboto/Roboto-{}.ttf",
    # Not the .ttf: its table of kerns pulls blanks and quotation marks into their neighbours.
    "serif": "font_source_serif_pro/SourceSerifPro-{}.otf",
}


class Printed(NamedTuple):
    """A picture and the text that is printed in it, in reading order, a row of a table on one line."""

    image: Image.Image
    text: str


@dataclass(frozen=True, kw_only=True)
class Style:
    """How text is set: family ("sans", "serif"), weight as its font file has it, size in points."""

    family: str = "sans"
    weight: str = "Regular"
    size: float = 11.0
    fill: str = INK

    def font(self, scale: float) -> ImageFont.FreeTypeFont:
        """The font at `scale` pixels a point; basic layout draws the same with and without a shaping library."""
        package, name = _FONTS[self.family].format(self.weight).split("/")
        path = files(package) / "files" / name
        return ImageFont.truetype(str(path), self.size * scale, layout_engine=ImageFont.Layout.BASIC)


@dataclass(kw_only=True)
class Sheet:
    """Paper that remembers the lines printed on it; lengths in points, y of text at its base line."""

    width: float = WIDTH
    height: float = HEIGHT
    pixels: int = PAGE
    ground: str = "white"
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._scale = self.pixels / max(self.width, self.height)
        size = (round(self.width * self._scale), round(self.height * self._scale))
        self.image = Image.new("RGB", size, self.ground)
        self._draw = ImageDraw.Draw(self.image)

    def row(self, y: float, style: Style, *cells: tuple[float, str, str]) -> None:
        """Prints cells of (x, anchor, text) on one base line; x is the text's left, middle or right: l, m, r."""
        font = style.font(self._scale)
        for x, anchor, text in cells:
            self._draw.text((x * self._scale, y * self._scale), text, style.fill, font, f"{anchor}s")
        self.lines.append("  ".join(text for _, _, text in cells))

    def paragraph(self, x: float, y: float, width: float, style: Style, text: str) -> float:
        """Prints a text in lines of at most `width`; the base line that follows it."""
        for line in _wrapped(text, style.font(self._scale), width * self._scale):
            self.row(y, style, (x, "l", line))
            y += 1.42 * style.size
        return y

    def box(self, left: float, top: float, right: float, bottom: float, fill: str) -> None:
        """A filled rectangle, or a rule at least one pixel thick."""
        x0, y0, x1, y1 = (round(edge * self._scale) for edge in (left, top, right, bottom))
        self._draw.rectangle((x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)), fill)

    def printed(self) -> Printed:
        """The picture so far, and its text."""
        return Printed(self.image, "\n".join(self.lines))


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: float) -> Iterator[str]:
    line = ""
    for word in text.split():
        longer = f"{line} {word}".lstrip()
        if line and font.getlength(longer) > width:
            yield line
            longer = word
        line = longer
    yield line
