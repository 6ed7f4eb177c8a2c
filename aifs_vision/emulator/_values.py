"""Numbers, dates and times as they are printed, in German and in English notation."""

from __future__ import annotations

import re
import unicodedata
from datetime import date

__all__ = ["decimal_sign", "fold", "formatted", "is_number", "number"]

_MONTHS = ("jan", "feb", "mar", "apr", "ma[iy]", "jun", "jul", "aug", "sep", "o[ck]t", "nov", "de[cz]")
_NUMBER = re.compile(r"(?<![\w.,:/-])([-+\u2212]?) ?(\d[\d.,'\u2019\u00a0\u202f]*)(?![\d.,]*[-/:]\d)(?!\w*\d)\s*(%?)")
_ISO_DATE = re.compile(r"\b(\d{4})-(\d\d)-(\d\d)\b")
_NUMERIC_DATE = re.compile(r"\b(\d\d?)([./])\s?(\d\d?)\2\s?(\d{4}|\d\d)\b")
_NAMED_DATE = re.compile(r"\b(\d\d?)\.?\s+([a-z]{3,9})\.?,?\s+(\d{4})\b|\b([a-z]{3,9})\.?\s+(\d\d?),\s+(\d{4})\b")
_TIME = re.compile(r"\b([01]?\d|2[0-3]):([0-5]\d)\b")
_OTHER = {",": ".", ".": ","}


def fold(text: str) -> str:
    """Lower case without accents, letter by letter, so that places in the text stay the same."""
    return "".join(unicodedata.normalize("NFD", letter)[0].lower()[:1] for letter in text)


def decimal_sign(text: str) -> str:
    """The sign before decimals, by the numbers that leave no doubt; "" where there are none."""
    commas = len(re.findall(r"\d,\d\d?(?![\d,])", text))
    points = len(re.findall(r"\d\.\d\d?(?![\d.])", text))
    if commas == points:
        return ""
    return "," if commas > points else "."


def is_number(said: str) -> bool:
    """Whether a text is a number and nothing else."""
    return bool(_NUMBER.fullmatch(said))


def number(said: str, decimal: str, *, percent: bool) -> float | None:
    """The first number, in either notation; a percentage only where one is asked for."""
    for sign, digits, percent_sign in _NUMBER.findall(said):
        value = _unsigned(re.sub(r"['\u2019\u00a0\u202f]", "", digits).rstrip(".,"), decimal)
        if value is not None and (percent or not percent_sign):
            return -value if sign in {"-", "\u2212"} else value
    return None


def _unsigned(digits: str, decimal: str) -> float | None:
    """A number of digits, points and commas; None where these stand in no order that a number has."""
    signs = set(re.findall(r"[.,]", digits))
    if len(signs) > 1:
        decimal = "," if digits.rfind(",") > digits.rfind(".") else "."
    elif signs:
        # "1.234" and "1,234": thousands, unless the page has decimals that are written so
        grouped = re.fullmatch(r"[1-9]\d{0,2}([.,]\d{3})+", digits)
        sign = signs.pop()
        is_decimal = not grouped or (digits.count(sign) == 1 and sign == decimal)
        decimal = sign if is_decimal else _OTHER[sign]
    whole, _, part = digits.partition(decimal) if decimal else (digits, "", "")
    thousands = _OTHER.get(decimal, ",")
    if not re.fullmatch(rf"\d+|\d{{1,3}}(?:[{thousands}]\d{{3}})+", whole) or not re.fullmatch(r"\d*", part):
        return None
    return float(f"{whole.replace(thousands, '')}.{part or 0}")


def formatted(said: str, wanted: str | None) -> str:
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
    folded = fold(said)
    if found := _ISO_DATE.search(folded):
        return _iso(found[1], found[2], found[3])
    if found := _NUMERIC_DATE.search(folded):
        day, month, year = found[1], found[3], f"20{found[4]}"[-4:]
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
