"""Fills a JSON schema from the text of a page, by the labels that stand in it; nothing is invented.

A property is looked for under its name, title and short description, and for the usual fields of business papers
also under the words of `_SYNONYMS`. Its value stands behind the label ("Total 12,50 EUR"), in the next cell of the
row, or below where labels stand above their values. An array of objects is filled from the table whose header names
its properties, or from rows of a name and an amount. What is not found is null, or an empty array, even where the
schema asks for more: a gap is honest, a guess is not.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["fill"]

Schema = Mapping[str, Any]
Names = Sequence[str]
Row = list[str]

# A line for each field: its names in English and German papers, without accents.
_SYNONYMS: Sequence[Names] = [
    line.split(", ")
    for line in """\
total, grand total, total amount, amount due, balance due, gesamtbetrag, gesamtsumme, endbetrag, rechnungsbetrag, \
zu zahlen, gesamt, summe, amount, betrag
subtotal, net amount, net total, zwischensumme, nettobetrag, netto
vat, tax, sales tax, mwst, mehrwertsteuer, ust, umsatzsteuer
discount, rabatt, nachlass
invoice number, invoice no, invoice, rechnungsnummer, rechnungs nr, rechnung nr, rechnung
receipt number, receipt no, receipt, belegnummer, beleg nr, bon nr
offer number, quote number, angebotsnummer, angebots nr, angebot nr, angebot
order number, order no, bestellnummer, bestell nr, auftragsnummer, auftrags nr
customer number, customer no, customer id, kundennummer, kunden nr, kunde
date, invoice date, issue date, datum, rechnungsdatum, belegdatum
due date, payable by, falligkeitsdatum, fallig am, zahlbar bis
vendor, seller, supplier, merchant, company, lieferant, verkaufer, anbieter, firma
customer, client, buyer, bill to, kunde, kaufer
description, item, article, product, name, bezeichnung, beschreibung, artikel, leistung, label, category
quantity, qty, count, menge, anzahl
price, unit price, einzelpreis, stuckpreis, preis, line total, amount, value, betrag, gesamt
position, pos
email, e mail
phone, phone number, telephone, tel, telefon, telefonnummer
address, anschrift, adresse
""".splitlines()
]
_FIELDS = {names[0]: names for names in _SYNONYMS}
_SUMS = {name for field in ("total", "subtotal", "vat", "discount") for name in _FIELDS[field]}
_SUMS |= {"cash", "change", "bar", "ruckgeld"}
_VAGUE = frozenset({"amount", "category", "count", "item", "label", "name", "position", "total", "value"})
_FILLERS = frozenset(
    {"amount", "eur", "euro", "gross", "in", "invoice", "name", "of", "receipt", "the", "total", "usd", "value"}
)
_YES, _NO = frozenset({"yes", "ja", "true", "wahr", "x"}), frozenset({"no", "nein", "false", "falsch"})
_CURRENCIES = {"EUR": r"\bEURO?\b|€", "USD": r"\bUSD\b|US\$", "GBP": r"\bGBP\b|£", "CHF": r"\bCHF\b"}
_MONTHS = ("jan", "feb", "mar", "apr", "ma[iy]", "jun", "jul", "aug", "sep", "o[ck]t", "nov", "de[cz]")
_DEEPEST = 8  # of nested objects; a schema may contain itself
_SHORT = 6  # words of a description that may serve as a name

_CELL = re.compile(r"\s{2,}|\t|\s*[|·]\s*")
_AFTER_LABEL = r"(?!\w)(?:\s*(?:number|nummer|no|nr|id)\b)?\.?\s*([:=#]?)\s*"
_NUMBER = re.compile(r"(?<![\w.,:/-])([-+\u2212]?) ?(\d[\d.,'\u2019\u00a0\u202f]*)(?![\d.,]*[-/:]\d)(?!\w*\d)\s*(%?)")
_AMOUNT = re.compile(r"(?:€|\$|£|EUR|CHF)?\s*[-\u2212]?\d[\d.,']*\s*(?:€|\$|£|EUR|USD|GBP|CHF|[A-D])?", re.IGNORECASE)
_TIMES = re.compile(r"(\d+)\s*[x\u00d7]\s+(.+)", re.IGNORECASE)
_ISO_DATE = re.compile(r"\b(\d{4})-(\d\d)-(\d\d)\b")
_NUMERIC_DATE = re.compile(r"\b(\d\d?)([./])\s?(\d\d?)\2\s?(\d{4}|\d\d)\b")
_NAMED_DATE = re.compile(r"\b(\d\d?)\.?\s+([a-z]{3,9})\.?,?\s+(\d{4})\b|\b([a-z]{3,9})\.?\s+(\d\d?),\s+(\d{4})\b")
_TIME = re.compile(r"\b([01]?\d|2[0-3]):([0-5]\d)\b")


def fill(schema: Schema, text: str) -> Any:
    """What the schema asks for, as far as the text says it; the rest is null, arrays are empty.

    Understands what pydantic's `model_json_schema()` makes. Numbers are read in German and in English notation;
    dates and times become ISO 8601 where the schema has a format for them.
    """
    return _Filler(schema, text).value(schema, [], 0)


class _Filler:
    """Walks a schema and finds its values in the rows of a text."""

    def __init__(self, schema: Schema, text: str) -> None:
        self._definitions: Schema = schema.get("$defs", {})
        self._text = text
        self._rows = _rows_of(text)
        self._decimal = _decimal_sign(text)

    def value(self, schema: Schema, names: Names, depth: int) -> Any:
        """The value of a property that goes by these names; its own names come first."""
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]  # the schema leaves no choice
        options = [option for option in schema.get("anyOf", schema.get("oneOf", ())) if option != {"type": "null"}]
        if options:
            values = (self.value(option, names, depth) for option in options)
            return next((value for value in values if not _is_empty(value)), None)
        kind = schema.get("type")
        if kind == "object":
            return self._object(schema, names, depth)
        if kind == "array":
            return self._array(self._resolved(schema.get("items", {})), names, depth)
        said = _labelled(self._rows, names, amounts=kind in {"integer", "number"})
        found = (self._parsed(each, schema, names) for each in said)
        return next((value for value in found if value is not None), self._unlabelled(schema, names))

    def _resolved(self, schema: Schema) -> Schema:
        """The schema behind references, and in a single allOf."""
        while "$ref" in schema or len(schema.get("allOf", ())) == 1:
            if "$ref" in schema:
                schema = self._definitions.get(str(schema["$ref"]).rpartition("/")[2], {})
            else:
                schema = schema["allOf"][0]
        return schema

    def _object(self, schema: Schema, names: Names, depth: int) -> dict[str, Any] | None:
        if depth >= _DEEPEST:
            return None
        filled = {}
        for key, inner in schema.get("properties", {}).items():
            own = _names(key, inner)
            # "vendor" above "name": "vendor name" is looked for first
            filled[key] = self.value(inner, [*(f"{names[0]} {name}" for name in own[:1] if names), *own], depth + 1)
        return filled

    def _array(self, items: Schema, names: Names, depth: int) -> list[Any]:
        if depth >= _DEEPEST:
            return []
        if items.get("type") == "object":
            columns = {key: _names(key, inner) for key, inner in items.get("properties", {}).items()}
            found = _table(self._rows, columns) or _price_list(self._rows, columns)
            return [self._record(items["properties"], said) for said in found]
        for said in _labelled(self._rows, names, amounts=False):
            parts = (self._parsed(part.strip(), items, names) for part in re.split(r";|,\s", said))
            return [part for part in parts if part is not None]
        return []

    def _record(self, properties: Schema, said: Mapping[str, str]) -> dict[str, Any]:
        """One object of an array, from what its columns say."""
        record = {}
        for key, inner in properties.items():
            schema = self._resolved(inner)
            options = [self._resolved(option) for option in schema.get("anyOf", schema.get("oneOf", [schema]))]
            values = (self._parsed(said.get(key, ""), option, [key]) for option in options)
            record[key] = next((value for value in values if value is not None), None)
        return record

    def _parsed(self, said: str, schema: Schema, names: Names) -> Any:
        """What was said as a value of the schema's type, or None where it is none."""
        if "enum" in schema:
            folded = _fold(said)
            choices = (choice for choice in schema["enum"] if re.match(rf"{re.escape(_fold(str(choice)))}\b", folded))
            return next(choices, None)
        kind = schema.get("type")
        if kind in {"integer", "number"}:
            percent = bool({"percent", "percentage", "rate", "prozent", "satz"} & set(names[0].split()))
            number = _number(said, self._decimal, percent=percent)
            if kind == "number" or number is None:
                return number
            return int(number) if number.is_integer() else None
        if kind == "boolean":
            word = (_fold(said).split() or [""])[0].strip(".,;")
            return True if word in _YES else False if word in _NO else None
        if kind == "string":
            return _formatted(said, schema.get("format")) or None
        return None

    def _unlabelled(self, schema: Schema, names: Names) -> Any:
        """What needs no label as the page says it once only: a date, a currency, one of the choices."""
        found: set[Any] = set()
        if "enum" in schema:
            choices = [choice for choice in schema["enum"] if isinstance(choice, str)]
            found = {choice for choice in choices if re.search(rf"\b{re.escape(choice)}\b", self._text)}
        elif names and {"currency", "wahrung"} & set(names[0].split()) and schema.get("type") == "string":
            found = {code for code, sign in _CURRENCIES.items() if re.search(sign, self._text)}
        elif schema.get("format") in {"date", "date-time"} and "datum" in names:
            found = {_formatted(cell, schema["format"]) for row in self._rows for cell in row} - {""}
        return found.pop() if len(found) == 1 else None


# -- Names ---------------------------------------------------------------------------------------------------


def _names(key: str, schema: Schema) -> list[str]:
    """What a property may be called on a page: its own words first, then those of the field that it is."""
    described = schema.get("description", "")
    own = [_words(key), _words(schema.get("title", "")), _words(described) if len(described.split()) <= _SHORT else ""]
    names = [name for name in own if name]
    for name in own:
        field = _field(name.split())
        names += [*field]
    return list(dict.fromkeys(names))


def _words(name: str) -> str:
    """The words of a snake_case, camelCase or written name, folded."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return " ".join(re.findall(r"[^\W_]+", _fold(parted)))


def _fold(text: str) -> str:
    """Lower case without accents, letter by letter, so that places in the text stay the same."""
    return "".join(unicodedata.normalize("NFD", letter)[0].lower()[:1] for letter in text)


def _field(words: Sequence[str]) -> Names:
    """The synonyms of a name; of a longer one those of the phrase in it, the rest being fillers."""
    best: tuple[tuple[int, int], Names] = ((0, 0), ())
    for names in _SYNONYMS:
        for phrase in names:
            parts = phrase.split()
            for start in range(len(words) - len(parts) + 1):
                rest = {*words[:start], *words[start + len(parts) :]}
                if list(words[start : start + len(parts)]) != parts or not rest <= _FILLERS:
                    continue
                if not rest or phrase not in _VAGUE - {"total"}:
                    # the longest phrase, then the last one: an "invoice total" is a total
                    best = max(best, ((len(parts), start + 1), names), key=lambda each: each[0])
    return best[1]


# -- Places --------------------------------------------------------------------------------------------------


def _rows_of(text: str) -> list[Row]:
    rows = ([cell for cell in _CELL.split(line.strip()) if cell] for line in text.splitlines())
    return [row for row in rows if row]


def _labelled(rows: Sequence[Row], names: Names, *, amounts: bool) -> Iterator[str]:
    """What stands at these names, the most probable first: by name, then beside the label before below it."""
    for name in names:
        pattern = re.compile(r"\W*" + r"[\W_]*".join(name.split()) + _AFTER_LABEL)
        below: list[str] = []
        for index, row in enumerate(rows):
            for column, cell in enumerate(row):
                label = pattern.match(_fold(cell))
                if label is None:
                    continue
                rest, marked = cell[label.end() :], bool(label[1])
                if not rest and not marked and (under := _under(rows, index, column)):
                    below.append(under)
                elif amounts:
                    # the amount of a row is its last cell: "Mehrwertsteuer 19 %  268,51 EUR"
                    yield from (*row[:column:-1], rest)
                elif rest:
                    yield rest if marked else _code(rest)
                elif column + 1 < len(row):
                    yield row[column + 1]
        yield from below


def _under(rows: Sequence[Row], index: int, column: int) -> str:
    """The value below a label: of a lone label, or of a row of labels that is not the header of a table."""
    row, *following = rows[index : index + 3]
    sizes = [len(each) for each in following]
    if any(character.isdigit() for cell in row for character in cell) or not sizes or sizes[0] != len(row):
        return ""
    if len(row) > 1 and (sizes[1:] == [len(row)] or sum(map(_is_label, row)) < 2):
        return ""
    return following[0][column]


def _is_label(cell: str) -> bool:
    return any(_words(cell) in names for names in _SYNONYMS)


def _code(rest: str) -> str:
    """The number that follows a label without a colon ("Rechnungsnummer 2026-118 vom ..."), else nothing."""
    words = rest.split()
    length = next((place for place, word in enumerate(words) if not any(map(str.isdigit, word))), len(words))
    return " ".join(words[:length])


def _table(rows: Sequence[Row], columns: Mapping[str, Names]) -> list[dict[str, str]]:
    """The rows below the header that names most columns, by column; a row of another length is passed over."""
    headers = [_header(row, columns) for row in rows]
    most = max(headers, key=len, default={})
    if len(most) < min(2, len(columns)) or not most:
        return []
    start = headers.index(most)
    found, odd = [], 0
    for row in rows[start + 1 :]:
        odd = odd + 1 if len(row) != len(rows[start]) else 0
        if odd > 1 or _is_sum(row):
            break
        if not odd:
            found.append({key: row[place] for key, place in most.items()})
    return found


def _header(row: Row, columns: Mapping[str, Names]) -> dict[str, int]:
    """Which cell of a header belongs to which column; a cell and a column go together once, the best first."""
    cells = [_words(re.sub(r"\(.*?\)|€|\$|£|\b(?:in )?EUR\b", "", cell)) for cell in row]
    matches = sorted(
        (names.index(cell), place, key)
        for key, names in columns.items()
        for place, cell in enumerate(cells)
        if cell in names
    )
    header: dict[str, int] = {}
    for _, place, key in matches:
        if key not in header and place not in header.values():
            header[key] = place
    return header


def _price_list(rows: Sequence[Row], columns: Mapping[str, Names]) -> list[dict[str, str]]:
    """The longest run of rows that are a name and an amount, for objects that have a name and an amount."""
    thing = next((key for key, names in columns.items() if "description" in names), None)
    price = next((key for key, names in columns.items() if {"price", "total"} & set(names)), None)
    count = next((key for key, names in columns.items() if "quantity" in names), "")
    if thing is None or price is None:
        return []
    best: list[dict[str, str]] = []
    run: list[dict[str, str]] = []
    for row in rows:
        if len(row) == 2 and _AMOUNT.fullmatch(row[1]) and not _NUMBER.fullmatch(row[0]) and not _is_sum(row):
            times = _TIMES.match(row[0]) if count else None
            said = {count: times[1], thing: times[2]} if times else {thing: row[0]}
            run.append({**said, price: row[1]})
            best = max(best, run, key=len)
        else:
            run = []
    return best


def _is_sum(row: Row) -> bool:
    words = _words(row[0]).split()
    return any(" ".join(words[: end + 1]) in _SUMS for end in range(len(words)))


# -- Values --------------------------------------------------------------------------------------------------


def _is_empty(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_empty(inner) for inner in value.values())
    return value is None or value == []


def _decimal_sign(text: str) -> str:
    """The sign before decimals, by the numbers that leave no doubt; "" where there are none."""
    commas = len(re.findall(r"\d,\d\d?(?![\d,])", text))
    points = len(re.findall(r"\d\.\d\d?(?![\d.])", text))
    if commas == points:
        return ""
    return "," if commas > points else "."


def _number(said: str, decimal: str, *, percent: bool) -> float | None:
    """The first number, in either notation; a percentage only where one is asked for."""
    for sign, digits, percent_sign in _NUMBER.findall(said):
        value = _unsigned(re.sub(r"['\u2019\u00a0\u202f]", "", digits).rstrip(".,"), decimal)
        if value is not None and (percent or not percent_sign):
            return -value if sign in {"-", "\u2212"} else value
    return None


def _unsigned(digits: str, decimal: str) -> float | None:
    """A number of digits, points and commas; None where these stand in no order that a number has."""
    signs = set(re.findall(r"[.,]", digits))
    if len(signs) == 2:
        decimal = "," if digits.rfind(",") > digits.rfind(".") else "."
    elif len(signs) == 1:
        # "1.234" and "1,234": thousands, unless the page has decimals that are written so
        grouped = re.fullmatch(r"[1-9]\d{0,2}([.,]\d{3})+", digits)
        sign = signs.pop()
        if not grouped or (digits.count(sign) == 1 and sign == decimal):
            decimal = sign
        else:
            decimal = "." if sign == "," else ","
    whole, _, part = digits.partition(decimal) if decimal else (digits, "", "")
    thousands = "." if decimal == "," else ","
    if not re.fullmatch(rf"\d+|\d{{1,3}}(?:[{thousands}]\d{{3}})+", whole) or not re.fullmatch(r"\d*", part):
        return None
    return float(f"{whole.replace(thousands, '')}.{part or 0}")


def _formatted(said: str, wanted: str | None) -> str:
    """A text as its format wants it; "" where it holds no such thing. A date-time without a time stays a date."""
    clock = _TIME.search(said)
    time = f"{int(clock[1]):02}:{clock[2]}:00" if clock else ""
    if wanted == "time":
        return time
    if wanted not in {"date", "date-time"}:
        return said.strip()
    day = _date(said)
    return f"{day}T{time}" if day and time and wanted == "date-time" else day


def _date(said: str) -> str:
    """The first date, as ISO 8601; "" for none, or for one like 03/04/2026 that may be of March or of April."""
    folded = _fold(said)
    if found := _ISO_DATE.search(folded):
        return _iso(found[1], found[2], found[3])
    if found := _NUMERIC_DATE.search(folded):
        day, month, year = found[1], found[3], found[4].rjust(4, "20"[: 4 - len(found[4])] or "0")
        if found[2] == "/" and int(month) > len(_MONTHS):
            day, month = month, day
        elif found[2] == "/" and int(day) <= len(_MONTHS) and day != month:
            return ""
        return _iso(year, month, day)
    if found := _NAMED_DATE.search(folded):
        day, name, year = found.group(1, 2, 3) if found[1] else found.group(5, 4, 6)
        months = [number for number, month in enumerate(_MONTHS, 1) if re.match(month, name)]
        return _iso(year, str(months[0]), day) if months else ""
    return ""


def _iso(year: str, month: str, day: str) -> str:
    try:
        return date(int(year), int(month), int(day)).isoformat()
    except ValueError:
        return ""
