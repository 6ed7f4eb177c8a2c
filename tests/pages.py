"""Pictures whose text is known: pages, a letter, a receipt, a chart, and a photo that has none.

Everything in them is made up.
"""

from __future__ import annotations

import io
import unicodedata
from typing import TYPE_CHECKING

from PIL import Image

from tests.scenes import lake, on_a_table
from tests.sheets import BRASS, GREY, INK, PAGE, SEA, WIDTH, Printed, Sheet, Style

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "bar_chart",
    "blank_page",
    "english_page",
    "error_rate",
    "german_letter",
    "minutes",
    "photo",
    "receipt",
    "sent",
    "turned",
    "two_columns",
]

_REPORT = (
    (
        "",
        """The tide clock at Brindle Point has now run for twelve months without a stop. Our workshop of nine people set
        it on the old customs pier on 3 February 2025; it shows the height of the water on a dial of brass 2.40 metres
        across, lit from within after dusk.""",
    ),
    (
        "1. Accuracy",
        """We compared the dial with the gauge of the harbour office at every high water, 705 times in all. The mean
        error was 3.8 centimetres, and 97 % of the readings lay within 10 centimetres. The worst day was 19 October,
        when a north-westerly storm raised the sea 61 centimetres above the predicted level and the float struck its
        upper stop.""",
    ),
    (
        "2. Repairs",
        """The float was replaced once, in June, after mussels had grown on its chain; the new one is made of cork and
        weighs 1,140 grams. Salt had reached two of the seven bearings. They were cleaned, packed with lanolin ("sheep
        grease", as the crew call it) and have turned freely since.""",
    ),
    (
        "3. Costs",
        """Upkeep came to 4,316.50 pounds, of which 1,875 went into boat hire alone. The board had set aside 5,000
        pounds; the rest, 683.50, stays in the fund for the second season. Visitors left a further 212.40 in the box
        beside the dial & asked, more often than anything else, who winds it. Nobody does: the tide lifts the float
        twice a day, and the float winds the clock.""",
    ),
)


def english_page(*, family: str = "serif", size: float = 12.0, pixels: int = PAGE) -> Printed:
    """A printed report: title, headings, paragraphs, a page number."""
    sheet, left, width = Sheet(pixels=pixels), 72.0, 451.0
    sheet.row(100, Style(family=family, weight="Bold", size=25), (left, "l", "The Brindle Point Tide Clock"))
    note = "Report to the harbour board of Merrowhaven, 12 January 2026"
    sheet.row(122, Style(family=family, fill=GREY), (left, "l", note))
    sheet.box(left, 134, left + width, 135.4, BRASS)
    _print_sections(sheet, _REPORT, (left, 166, width), Style(family=family, size=size))
    sheet.row(790, Style(family=family, size=10, fill=GREY), (WIDTH / 2, "m", "Page 1 of 3"))
    return sheet.printed()


def two_columns(*, pixels: int = PAGE) -> Printed:
    """A newsletter: a title over the whole width, then two columns of unequal length."""
    sheet, left, width, gutter = Sheet(pixels=pixels), 60.0, 224.0, 27.0
    body = Style(family="serif", size=12)
    title = Style(family="serif", weight="Bold", size=30)
    sheet.row(92, title, (WIDTH / 2, "m", "One Year of the Tide Clock"))
    note = "Brindle Point Notes, number 14, spring 2026"
    sheet.row(116, Style(family="serif", fill=GREY), (WIDTH / 2, "m", note))
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


def german_letter(*, pixels: int = PAGE) -> Printed:
    """A business letter with umlauts, ß and €, a row of references and a table of prices."""
    sheet, left, right = Sheet(pixels=pixels), 72.0, 523.0
    body, small = Style(size=10.5), Style(size=8.5, fill=GREY)
    sheet.box(left, 50, left + 5, 82, SEA)
    sheet.row(66, Style(weight="Bold", size=17, fill=SEA), (left + 14, "l", "Möwenstein Feinmechanik GmbH"))
    sheet.row(80, small, (left + 14, "l", "Weidenstieg 7 · 00815 Quellmünde · Telefon 0815 4711-0"))
    for y, text in ((132.0, "Frau Jördis Übersee"), (147.0, "Große Süßholzgasse 14"), (162.0, "00816 Bärenfließ")):
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
    sheet.row(802, small, (WIDTH / 2, "m", footer))
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
    return Printed(on_a_table(image, tilt) if tilt else image, text)


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


_MINUTES = (
    (
        (
            "Present",
            "Ottilie Marsh (chair), Barnaby Quill, Ines Tarrow, Sunniva Holt (minutes). Apologies: Piet Oakum.",
        ),
        (
            "1. Moorings",
            """The rent of a berth rises from 38 to 41 pounds a month on 1 May. Boats shorter than four metres pay the
            old rate until the end of the year. Berths 12 to 17 close for dredging between 6 and 24 April.""",
        ),
        (
            "2. The foghorn",
            """Three households on Gull Lane have asked for the horn to be turned seaward. The board agreed; the work
            was given to Tarrow & Daughters for 920 pounds.""",
        ),
    ),
    (
        (
            "3. The tide clock",
            """The board heard the report of the workshop and thanked it. A second clock, for the railway station, will
            be paid from the fund once it holds 7,250 pounds.""",
        ),
        (
            "4. Any other business",
            """The key to the customs shed is lost. Whoever finds it is asked to leave it with the ferryman, who has
            put up a reward of one smoked eel.""",
        ),
        ("", "The meeting closed at 20:55. The next one is on Thursday, 16 April 2026, in the net loft."),
    ),
)


def minutes(page: int, *, pixels: int = PAGE) -> Printed:
    """One of the two pages of the minutes of a meeting, as a fax has it: black and white."""
    sheet, left, width = Sheet(pixels=pixels), 72.0, 451.0
    body = Style(size=12.5, fill="black")
    y = 100.0
    if page == 1:
        sheet.row(y, Style(weight="Bold", size=21, fill="black"), (left, "l", "Minutes of the Harbour Board"))
        sheet.row(y + 24, body, (left, "l", "Merrowhaven, Thursday, 19 March 2026, in the net loft"))
        y += 62
    _print_sections(sheet, _MINUTES[page - 1], (left, y, width), body)
    sheet.row(790, Style(size=10, fill="black"), (WIDTH / 2, "m", f"Page {page} of {len(_MINUTES)}"))
    image, text = sheet.printed()
    return Printed(image.convert("L").point(lambda level: 255 * (level > 150)).convert("1"), text)


def blank_page() -> Printed:
    """A sheet with nothing on it."""
    return Sheet(ground="#fdfdfb").printed()


def photo() -> Printed:
    """An evening at a lake, without text."""
    return Printed(lake(), "")


def turned(picture: Image.Image, degrees: int) -> Image.Image:
    """The picture turned clockwise by so many degrees, a multiple of 90."""
    return picture.rotate(-degrees, expand=True)


def sent(picture: Image.Image) -> Image.Image:
    """The picture as it reaches the service: shrunk to 1536 pixels, and through JPEG at quality 92."""
    smaller = picture.convert("RGB")
    smaller.thumbnail((PAGE, PAGE), Image.Resampling.LANCZOS)
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
