"""Pictures whose text is known: pages, a letter, a receipt, a chart, and a photo that has none.

Everything in them is made up. Lengths are points (1/72 inch), scaled to the pixels asked for.
"""

from __future__ import annotations

import io
import unicodedata
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

__all__ = [
    "BRASS",
    "GREY",
    "SEA",
    "Printed",
    "Sheet",
    "Style",
    "bar_chart",
    "blank_page",
    "english_page",
    "error_rate",
    "german_letter",
    "photo",
    "receipt",
    "sent",
    "turned",
    "two_columns",
]

INK, GREY, SEA, BRASS = "#1c1c1e", "#6b6f76", "#1f5f8b", "#b5893b"

_PAGE = 1536  # px of the longer side of a page as the client sends it
_WIDTH, _HEIGHT = 595.28, 841.89  # points of an A4 page
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

    width: float = _WIDTH
    height: float = _HEIGHT
    pixels: int = _PAGE
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


# -- Pages ---------------------------------------------------------------------------------------------------

_REPORT = (
    ("", "The tide clock at Brindle Point has now run for twelve months without a stop. Our workshop of nine people "
    "set it on the old customs pier on 3 February 2025; it shows the height of the water on a dial of brass 2.40 "
    "metres across, lit from within after dusk."),
    ("1. Accuracy", "We compared the dial with the gauge of the harbour office at every high water, 705 times in "
    "all. The mean error was 3.8 centimetres, and 97 % of the readings lay within 10 centimetres. The worst day "
    "was 19 October, when a north-westerly storm raised the sea 61 centimetres above the predicted level and the "
    "float struck its upper stop."),
    ("2. Repairs", "The float was replaced once, in June, after mussels had grown on its chain; the new one is "
    "made of cork and weighs 1,140 grams. Salt had reached two of the seven bearings. They were cleaned, packed "
    'with lanolin ("sheep grease", as the crew call it) and have turned freely since.'),
    ("3. Costs", "Upkeep came to 4,316.50 pounds, of which 1,875 went into boat hire alone. The board had set "
    "aside 5,000 pounds; the rest, 683.50, stays in the fund for the second season. Visitors left a further "
    "212.40 in the box beside the dial & asked, more often than anything else, who winds it. Nobody does: the "
    "tide lifts the float twice a day, and the float winds the clock."),
)  # fmt: skip


def english_page(*, family: str = "serif", size: float = 12.0, pixels: int = _PAGE) -> Printed:
    """A printed report: title, headings, paragraphs, a page number."""
    sheet, left, width = Sheet(pixels=pixels), 72.0, 451.0
    sheet.row(100, Style(family=family, weight="Bold", size=25), (left, "l", "The Brindle Point Tide Clock"))
    note = "Report to the harbour board of Merrowhaven, 12 January 2026"
    sheet.row(122, Style(family=family, fill=GREY), (left, "l", note))
    sheet.box(left, 134, left + width, 135.4, BRASS)
    _print_sections(sheet, _REPORT, (left, 166, width), Style(family=family, size=size))
    sheet.row(790, Style(family=family, size=10, fill=GREY), (_WIDTH / 2, "m", "Page 1 of 3"))
    return sheet.printed()


def two_columns(*, pixels: int = _PAGE) -> Printed:
    """A newsletter: a title over the whole width, then two columns of unequal length."""
    sheet, left, width, gutter = Sheet(pixels=pixels), 60.0, 224.0, 27.0
    body = Style(family="serif", size=12)
    title = Style(family="serif", weight="Bold", size=30)
    sheet.row(92, title, (_WIDTH / 2, "m", "One Year of the Tide Clock"))
    note = "Brindle Point Notes, number 14, spring 2026"
    sheet.row(116, Style(family="serif", fill=GREY), (_WIDTH / 2, "m", note))
    sheet.box(left, 130, left + 2 * width + gutter, 131.4, SEA)
    _print_sections(sheet, _REPORT[:2], (left, 160, width), body)
    _print_sections(sheet, _REPORT[2:], (left + width + gutter, 160, width), body)
    return sheet.printed()


def _print_sections(
    sheet: Sheet, sections: Iterable[tuple[str, str]], place: tuple[float, float, float], body: Style
) -> None:
    left, y, width = place
    heading = Style(family=body.family, weight="Bold", size=body.size + 3)
    for title, text in sections:
        if title:
            sheet.row(y + 4, heading, (left, "l", title))
            y += 4 + 2 * body.size
        y = sheet.paragraph(left, y, width, body, text) + 0.8 * body.size


_OFFER = """vielen Dank für Ihre Anfrage. Gern bieten wir Ihnen die gewünschten Teile an. Alle Stücke fräsen wir in
unserer Werkstatt aus seewasserfester Bronze; die Maße prüfen wir bei 20 °C."""
_TERMS = """Die Lieferzeit beträgt fünf Wochen ab Auftragseingang. Bei Zahlung innerhalb von 14 Tagen gewähren wir 2 %
Skonto. Größe und Ausführung des Zifferblatts besprechen wir gern persönlich: Wir öffnen täglich, außer donnerstags,
um 8:30 Uhr."""
_REFERENCES = {"Ihre Nachricht": "02.03.2026", "Angebot Nr.": "2026-118", "Kunde": "20417", "Datum": "14.03.2026"}
_PRICES = (
    ("Pos.", "Bezeichnung", "Menge", "Einzelpreis", "Betrag"),
    ("1", "Zahnrad, 48 Zähne, Bronze", "6", "84,50 €", "507,00 €"),
    ("2", "Gehäuse mit Öldichtung", "2", "312,00 €", "624,00 €"),
    ("3", "Schwimmerkette, 3,5 m, geprüft", "4", "46,80 €", "187,20 €"),
    ("4", "Maßprotokoll für alle Teile", "1", "95,00 €", "95,00 €"),
)
_SUMS = {"Zwischensumme": "1.413,20 €", "Mehrwertsteuer 19 %": "268,51 €", "Gesamtbetrag": "1.681,71 €"}


def german_letter(*, pixels: int = _PAGE) -> Printed:
    """A business letter with umlauts, ß and €, a row of references and a table of prices."""
    sheet, left, right = Sheet(pixels=pixels), 72.0, 523.0
    body, small = Style(size=10.5), Style(size=8.5, fill=GREY)
    sheet.box(left, 50, left + 5, 82, SEA)
    sheet.row(66, Style(weight="Bold", size=17, fill=SEA), (left + 14, "l", "Möwenstein Feinmechanik GmbH"))
    sheet.row(80, small, (left + 14, "l", "Weidenstieg 7 · 00815 Quellmünde · Telefon 0815 4711-0"))
    for y, text in ((132, "Frau Jördis Übersee"), (147, "Große Süßholzgasse 14"), (162, "00816 Bärenfließ")):
        sheet.row(y, body, (left, "l", text))
    places = (left, left + 130, left + 260, left + 370)
    sheet.row(204, small, *((x, "l", label) for x, label in zip(places, _REFERENCES, strict=True)))
    sheet.row(218, body, *((x, "l", text) for x, text in zip(places, _REFERENCES.values(), strict=True)))
    sheet.row(262, Style(weight="Bold", size=13), (left, "l", "Zahnräder und Gehäuse für Ihre Gezeitenuhr"))
    sheet.row(290, body, (left, "l", "Sehr geehrte Frau Übersee,"))
    y = sheet.paragraph(left, 312, right - left, body, _OFFER)
    y = _print_prices(sheet, left, right, y + 16)
    y = sheet.paragraph(left, y, right - left, body, _TERMS)
    sheet.row(y + 14, body, (left, "l", "Mit freundlichen Grüßen"))
    sheet.row(y + 50, Style(family="serif", weight="It", size=17, fill=SEA), (left, "l", "Käthe Weißhäupl"))
    sheet.row(y + 70, body, (left, "l", "Geschäftsführerin"))
    sheet.box(left, 786, right, 786.8, SEA)
    footer = "Handelsregister Quellmünde HRB 00417 · Wir fertigen seit 1987"
    sheet.row(802, small, (_WIDTH / 2, "m", footer))
    return sheet.printed()


def _print_prices(sheet: Sheet, left: float, right: float, y: float) -> float:
    """The table and its sums; the base line of the text that follows."""
    body, bold = Style(size=10.5), Style(weight="Bold", size=10.5)
    columns = ((left + 5, "l"), (left + 40, "l"), (left + 290, "r"), (left + 370, "r"), (right - 5, "r"))
    sheet.box(left, y - 14.5, right, y + 6.5, "#e3edf4")
    for row in _PRICES:
        style = bold if row is _PRICES[0] else body
        sheet.row(y, style, *((x, side, text) for (x, side), text in zip(columns, row, strict=True)))
        y += 21
        sheet.box(left, y - 14.5, right, y - 14.2, "#b9c7d2")
    for label, amount in _SUMS.items():
        style = bold if label == "Gesamtbetrag" else body
        sheet.row(y, style, (left + 40, "l", label), (right - 5, "r", amount))
        y += 19
    return y + 14


_ORDERS = {
    "2 x Fish soup with saffron": "13.80",
    "1 x Smoked mackerel roll": "6.40",
    "1 x Seaweed crisps": "2.95",
    "3 x Elderflower press": "10.50",
    "1 x Rhubarb crumble": "5.20",
}


def receipt(*, pixels: int = 1200, tilt: float = 0.0) -> Printed:
    """A till receipt; with a `tilt` it lies on a dark table, turned by so many degrees."""
    sheet, middle = Sheet(width=227, height=390, pixels=pixels, ground="#fbfaf6"), 113.5
    body, bold, large = Style(size=9.5), Style(weight="Bold", size=9.5), Style(weight="Bold", size=14)
    sheet.row(36, Style(weight="Bold", size=17), (middle, "m", "THE DRY ANCHOR"))
    sheet.row(52, body, (middle, "m", "Harbour canteen · Pier 3 · Merrowhaven"))
    blocks = (
        (82, body, {"Receipt No. 20417": "14.03.2026 12:48", "Table 9": "Served by Oda"}),
        (124, body, _ORDERS),
        (214, body, {"Subtotal": "38.85", "Regulars' discount 10 %": "-3.89"}),
        (254, large, {"TOTAL EUR": "34.96"}),
        (278, body, {"VAT 7 % included": "2.29", "Cash": "40.00", "Change": "5.04"}),
    )
    for y, style, cells in blocks:
        for number, (label, amount) in enumerate(cells.items()):
            sheet.row(y + 16 * number, style, (18, "l", label), (209, "r", amount))
    for y in (107, 197, 320):
        sheet.box(18, y, 209, y + 0.6, INK)
    sheet.row(340, bold, (middle, "m", "Time and tide wait for no one."))
    sheet.row(354, body, (middle, "m", "Your table does, until 22:00."))
    image, text = sheet.printed()
    return Printed(_on_a_table(image, tilt) if tilt else image, text)


_SALES = {"Harbour offices": 412, "Hotels": 268, "Schools": 193, "Lighthouses": 121, "Private gardens": 76}


def bar_chart(*, pixels: int = 1200) -> Printed:
    """A bar chart: title, unit, five labelled bars (the longest of brass, the others sea blue), a source."""
    sheet = Sheet(width=800, height=500, pixels=pixels)
    sheet.row(64, Style(weight="Bold", size=28), (48, "l", "Who buys tide clocks?"))
    sheet.row(92, Style(size=16, fill=GREY), (48, "l", "Clocks sold in 2025, by kind of customer"))
    for number, (label, sold) in enumerate(_SALES.items()):
        middle, end = 150 + 62 * number, 210 + 1.2 * sold
        sheet.box(210, middle - 20, end, middle + 20, SEA if number else BRASS)
        style = Style(size=17, weight="Regular" if number else "Bold")
        sheet.row(middle + 6, style, (196, "r", label), (end + 10, "l", str(sold)))
    source = "Source: order book of the workshop, 1,070 clocks in all"
    sheet.row(474, Style(size=13, fill=GREY), (48, "l", source))
    return sheet.printed()


def blank_page() -> Printed:
    """A sheet with nothing on it."""
    return Sheet(ground="#fdfdfb").printed()


# -- What looks like a photo ---------------------------------------------------------------------------------


def photo(*, width: int = 1200, height: int = 800) -> Printed:
    """An evening at a lake, without text: sky, ridges in the haze, their reflection, the grain of a film."""
    shore = height * 5 // 8
    rows, columns = np.mgrid[0:shore, 0:width]
    dusk = (rows / shore)[..., None]
    scene = (1 - dusk) * (62, 104, 166) + dusk * (244, 190, 136)
    scene += 110 * (_clouds(shore, width, (70, 420), seed=1)[..., None] ** 3) * (1.1 - dusk)
    sun = np.exp(-np.hypot(columns - 0.68 * width, rows - 0.72 * shore) / (0.12 * width))[..., None]
    scene += sun * (110, 80, 30)
    haze = np.array((206, 178, 158))
    for number, top in enumerate((0.66, 0.78, 0.88)):
        ridge = shore * (top + 0.34 * (0.5 - _clouds(1, width, (1, 300), seed=4 + number)))
        rock = np.array((22, 38, 34)) * (0.7 + 0.6 * _clouds(shore, width, (7, 11), seed=11 + number)[..., None])
        veil = (0.62, 0.36, 0.1)[number] + 0.12 * np.clip((rows - ridge) / shore, 0, 1)[..., None]
        inside = np.clip(rows - ridge, 0, 1)[..., None]
        scene = scene * (1 - inside) + inside * (rock * (1 - veil) + haze * veil)
    depth = height - shore
    ripple = np.rint(18 * (_clouds(depth, width, (5, 110), seed=21) - 0.5)).astype(int)
    mirrored = np.clip(shore - 1 - np.arange(depth)[:, None] * shore // (depth + 40) + ripple, 0, shore - 1)
    scene = np.concatenate([scene, scene[mirrored, columns[:1]] * 0.7 + (4, 12, 20)])
    scene += np.random.default_rng(9).normal(0, 4, (height, width, 1))
    return Printed(Image.fromarray(np.clip(scene, 0, 255).astype(np.uint8)), "")


def _on_a_table(paper: Image.Image, tilt: float) -> Image.Image:
    """The paper as taken from above: grain of wood, a soft shadow, not quite straight."""
    width, height = paper.width * 4 // 3, paper.height * 9 // 8
    grain = _clouds(height, width, (height * 2, 6), seed=3)[..., None]
    table = Image.fromarray((np.array((92, 66, 48)) * (0.75 + 0.5 * grain)).astype(np.uint8))
    place = ((width - paper.width) // 2, (height - paper.height) // 2)
    mask, sheet = Image.new("L", table.size), Image.new("RGB", table.size, "white")
    mask.paste(255, (*place, place[0] + paper.width, place[1] + paper.height))
    sheet.paste(paper, place)
    mask, sheet = (layer.rotate(tilt, Image.Resampling.BICUBIC) for layer in (mask, sheet))
    table.paste("black", (6, 10), mask.filter(ImageFilter.GaussianBlur(14)).point(lambda value: value * 0.6))
    table.paste(sheet, mask=mask)
    return table


def _clouds(height: int, width: int, cell: tuple[int, int], *, seed: int) -> NDArray[np.float64]:
    """Smooth noise from 0 to 1 in five octaves, the coarsest grain `cell` pixels (high, wide)."""
    random, total = np.random.default_rng(seed), np.zeros((height, width))
    for octave in (1, 2, 4, 8, 16):
        rows, columns = octave * height // cell[0] + 2, octave * width // cell[1] + 2
        noise = Image.fromarray(random.random((rows, columns), np.float32))
        total += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC)) / octave
    return np.clip((total / 1.94 - 0.5) * 1.6 + 0.5, 0, 1)


# -- What happens to a picture, and what is read from it -----------------------------------------------------


def turned(picture: Image.Image, degrees: int) -> Image.Image:
    """The picture turned clockwise by so many degrees, a multiple of 90."""
    return picture.rotate(-degrees, expand=True)


def sent(picture: Image.Image) -> Image.Image:
    """The picture as it reaches the service: shrunk to 1536 pixels, and through JPEG at quality 92."""
    smaller = picture.convert("RGB")
    smaller.thumbnail((_PAGE, _PAGE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    smaller.save(buffer, "JPEG", quality=92, subsampling=0)
    return Image.open(buffer)


def error_rate(read: str, truth: str) -> float:
    """The edit distance by characters, as a part of the true text's; any white space counts as one blank."""
    found, wanted = (" ".join(unicodedata.normalize("NFC", text).split()) for text in (read, truth))
    previous = list(range(len(wanted) + 1))
    for row, left in enumerate(found, 1):
        current = [row]
        for column, right in enumerate(wanted):
            current.append(min(previous[column] + (left != right), previous[column + 1] + 1, current[-1] + 1))
        previous = current
    return previous[-1] / max(1, len(wanted))
