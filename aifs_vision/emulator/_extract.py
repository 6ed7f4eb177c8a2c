"""Fills a JSON schema from the text of a page, by the labels that stand in it; nothing is invented.

A property is looked for under its name, title and short description, and for the usual fields of business papers
also under the words of `_SYNONYMS`. Its value stands behind the label ("Total 12,50 EUR"), in the next cell of the
row, or below where labels stand above their values. An array of objects is filled from the table whose header names
its properties, or from rows of a name and an amount. What is not found is null, or an empty array, even where the
schema asks for more: a gap is honest, a guess is not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aifs_vision.emulator._values import decimal_sign, fold, formatted, is_number, number

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
_DEEPEST = 8  # of nested objects; a schema may contain itself
_HEADER = 2  # names make a header
_SHORT = 6  # words of a description that may serve as a name

_CELL = re.compile(r"\s{2,}|\t|\s*[|·]\s*")
_AFTER_LABEL = r"(?!\w)(?:\s*(?:number|nummer|no|nr|id)\b)?\.?\s*([:=#]?)\s*"
_AMOUNT = re.compile(r"(?:€|\$|£|EUR|CHF)?\s*[-\u2212]?\d[\d.,']*\s*(?:€|\$|£|EUR|USD|GBP|CHF|[A-D])?", re.IGNORECASE)
_TIMES = re.compile(r"(\d+)\s*[x\u00d7]\s+(.+)", re.IGNORECASE)


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
        self._decimal = decimal_sign(text)

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
            folded = fold(said)
            choices = (choice for choice in schema["enum"] if re.match(rf"{re.escape(fold(str(choice)))}\b", folded))
            return next(choices, None)
        kind = schema.get("type")
        if kind in {"integer", "number"}:
            percent = bool({"percent", "percentage", "rate", "prozent", "satz"} & set(names[0].split()))
            parsed = number(said, self._decimal, percent=percent)
            if kind == "number" or parsed is None:
                return parsed
            return int(parsed) if parsed.is_integer() else None
        if kind == "boolean":
            word = (fold(said).split() or [""])[0].strip(".,;")
            return True if word in _YES else False if word in _NO else None
        if kind == "string":
            return formatted(said, schema.get("format")) or None
        return None

    def _unlabelled(self, schema: Schema, names: Names) -> Any:
        """What needs no label as the page says it once only: a date, a currency, one of the choices."""
        found: set[Any] = set()
        if "enum" in schema:
            choices = [choice for choice in schema["enum"] if isinstance(choice, str)]
            found = {choice for choice in choices if re.search(rf"\b{re.escape(choice)}\b", self._text)}
        elif names and {"currency", "wahrung"} & set(names[0].split()) and schema.get("type") == "string":
            found = {code for code, sign in _CURRENCIES.items() if re.search(sign, self._text)}
        elif schema.get("type") == "string" and "datum" in names:
            days = (cell for row in self._rows for cell in row if formatted(cell, "date"))
            found = {formatted(cell, schema.get("format")) for cell in days}
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
    return " ".join(re.findall(r"[^\W_]+", fold(parted)))


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
                label = pattern.match(fold(cell))
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
    if len(row) > 1 and (sizes[1:] == [len(row)] or sum(map(_is_label, row)) < _HEADER):
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
    parted = [_parted(row) for row in rows]
    headers = [_header(row, columns) for row in parted]
    most = max(headers, key=len, default={})
    if len(most) < min(_HEADER, len(columns)) or not most:
        return []
    start = headers.index(most)
    found, odd = [], 0
    for row in rows[start + 1 :]:
        odd = odd + 1 if len(row) != len(parted[start]) else 0
        if odd > 1 or _is_sum(row):
            break
        if not odd:
            found.append({key: row[place] for key, place in most.items()})
    return found


def _parted(row: Row) -> Row:
    """The row with labels that stand close together as cells of their own: "Pos. Bezeichnung"."""
    parted = []
    for cell in row:
        words = cell.split()
        parted += words if not _is_label(cell) and all(map(_is_label, words)) else [cell]
    return parted


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
        if (
            len(row) == len(("name", "amount"))
            and _AMOUNT.fullmatch(row[1])
            and not is_number(row[0])
            and not _is_sum(row)
        ):
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


def _is_empty(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_empty(inner) for inner in value.values())
    return value is None or value == []
