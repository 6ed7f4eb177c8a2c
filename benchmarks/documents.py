"""Made-up facts for pictures, each with a question that one picture alone answers; imported by retrieval.py.

Five kinds (receipts, tables, charts, slides, labels) in two languages. As in real folders, things come back: a shop
has three receipts, a subject three tables or charts of different places, a project three slides, so that a question
has to be told from its near neighbours. The same seed gives the same facts, and fewer of them are the first of more.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["KINDS", "LANGUAGES", "MOST", "Facts", "facts"]

KINDS = ("receipt", "table", "chart", "slide", "label")
LANGUAGES = ("English", "German")
MOST = 300  # with more of them, subjects would come back with the same place
_VISITS = 3  # how often a subject comes back
_WORDS: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8"))
_Item = TypeVar("_Item")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What stands in a picture, and what is asked about it.

    Attributes:
        kind, language: of `KINDS`, `LANGUAGES`.
        number: counts the pictures of this kind and language.
        heading, notes, rows, foot: the lines that are printed; a row has one or more cells.
        question: in the picture's language; it names `keys`, and `answer` is what it asks for.
        answer: printed in this picture and in no other.
        keys: printed pieces by which the question means this picture; no other has all of them.
        short: a few words that a careful person might name the file by.
    """

    kind: str
    language: str
    number: int
    heading: str
    notes: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    foot: tuple[str, ...]
    question: str
    answer: str
    keys: tuple[str, ...]
    short: str

    @property
    def text(self) -> str:
        """All that is printed, a row on a line."""
        rows = ("  ".join(row) for row in self.rows)
        return "\n".join((self.heading, *self.notes, *rows, *self.foot))


def facts(count: int, seed: int) -> Iterator[Facts]:
    """So many, kinds and languages by turns.

    Raises:
        ValueError: more than there are.
    """
    if not 0 < count <= MOST:
        raise ValueError(f"count={count!r}: there are 1 to {MOST} pictures")
    before: list[Facts] = []
    for place in range(count):
        number, cell = divmod(place, len(KINDS) * len(LANGUAGES))
        kind, language = KINDS[cell // len(LANGUAGES)], LANGUAGES[cell % len(LANGUAGES)]
        made = _first_of_its_own((seed, cell, number), kind, language, before)
        before.append(made)
        yield made


def _first_of_its_own(seeds: tuple[int, ...], kind: str, language: str, before: Sequence[Facts]) -> Facts:
    """The first draw whose question has one answer, and leaves each earlier question its own."""
    drawing = 0
    while True:
        draw = _Draw(np.random.default_rng((*seeds, drawing)), language)
        made = _MAKERS[kind](draw, seeds[-1])
        if not any(_confused(made, other) for other in before):
            return made
        drawing += 1


def _confused(one: Facts, other: Facts) -> bool:
    return any(
        mine.answer in theirs.text or all(key in theirs.text for key in mine.keys)
        for mine, theirs in ((one, other), (other, one))
    )


class _Draw:
    """Chance, in one language."""

    def __init__(self, random: np.random.Generator, language: str) -> None:
        self.random, self.language = random, language
        self.words: dict[str, Any] = _WORDS[language]
        self._dates = self.one(("{0:%d} {1} {0:%Y}", "{0:%Y-%m-%d}", "{0:%d/%m/%Y}"))

    @property
    def german(self) -> bool:
        return self.language == "German"

    def number(self, least: int, most: int) -> int:
        return int(self.random.integers(least, most + 1))

    def one(self, items: Sequence[_Item]) -> _Item:
        return items[self.number(0, len(items) - 1)]

    def in_order(self, items: Sequence[_Item], count: int) -> list[_Item]:
        """So many of them, as they follow each other."""
        return [items[place] for place in sorted(self.random.permutation(len(items))[:count])]

    def some(self, items: Sequence[_Item], count: int) -> list[_Item]:
        return [items[place] for place in self.random.permutation(len(items))[:count]]

    def word(self, name: str) -> str:
        """One of a list of words."""
        words: list[str] = self.words[name]
        return self.one(words)

    def person(self) -> str:
        return f"{self.word('first_names')} {self.word('last_names')}"

    def day(self) -> tuple[str, str]:
        """A day as it is printed, and as it is asked for."""
        day = date(2024, 1, 2) + timedelta(self.number(0, 720))
        month = self.words["months"][day.month - 1]
        if self.german:
            return f"{day:%d.%m.%Y}", f"{day.day}. {month} {day.year}"
        return self._dates.format(day, month[:3]), f"{day.day} {month} {day.year}"

    def code(self, pattern: str) -> str:
        """The pattern with a digit for each 0 and a letter for each A."""
        letters = {"0": "0123456789", "A": "BCDEFHKLMNPRTVXZ"}
        return "".join(self.one(letters.get(sign, sign)) for sign in pattern)

    def value(self, unit: str) -> str:
        """A number, price or time, as tables have it."""
        if unit == "time":
            return f"{self.number(6, 21):02}:{self.number(0, 11) * 5:02}"
        if unit == "price":
            return self.money(self.number(180, 9900))
        return self.whole(self.number(12, 9800 if unit == "many" else 980))

    def whole(self, number: int) -> str:
        return f"{number:,}".replace(",", ".") if self.german else f"{number:,}"

    def money(self, cents: int) -> str:
        text = f"{self.whole(cents // 100)}{',' if self.german else '.'}{cents % 100:02}"
        return f"{text} €" if self.german else text


def _subject(pool: Sequence[_Item], number: int) -> tuple[_Item, int]:
    """One of the pool by turns, and how often it has been before."""
    return pool[number % len(pool)], number // len(pool)


def _receipt(draw: _Draw, number: int) -> Facts:
    words = draw.words
    (shop, trade), visit = _subject(words["shops"], number)
    special, *others = (words["goods"][trade][visit], *draw.some(words["goods"][trade][_VISITS:], draw.number(2, 6)))
    bought = draw.some([special, *others], len(others) + 1)
    counts = [draw.number(1, 3) for _ in bought]
    cents = [count * draw.number(90, 1990) for count in counts]
    total, (printed, asked) = sum(cents), draw.day()
    paid = -(-total // 1000) * 1000
    rows = [(f"{count} x {item}", draw.money(price)) for count, item, price in zip(counts, bought, cents, strict=True)]
    by_date = bool(draw.number(0, 1))
    rows += [
        (words["total"], draw.money(total)),
        (words["tax"], draw.money(round(total * 7 / 107))),
        (words["cash"], draw.money(paid)),
        (words["change"], draw.money(paid - total)),
    ]
    answer = draw.money(total) if by_date else draw.money(cents[bought.index(special)])
    return Facts(
        kind="receipt",
        language=draw.language,
        number=number,
        heading=shop,
        notes=(
            f"{draw.word('streets')} {draw.number(1, 90)}, {draw.word('places')}",
            f"{words['receipt']} {draw.code('00000')}   {printed} {draw.value('time')}",
        ),
        rows=tuple(rows),
        foot=(draw.word("thanks"),),
        question=(words["asks_total"] if by_date else words["asks_price"]).format(
            shop=shop, day=asked, item=special, other=others[0]
        ),
        answer=answer,
        keys=(shop, printed if by_date else special),
        short=f"{words['receipt'].split()[0]} {shop}",
    )


def _table(draw: _Draw, number: int) -> Facts:
    words = draw.words
    topic, visit = _subject(words["tables"], number)
    where = words["places"][(number + 7 * visit) % len(words["places"])]
    chosen = draw.in_order(topic["rows"], draw.number(5, len(topic["rows"])))
    body = [(row, *(draw.value(unit) for _, unit in topic["columns"])) for row in chosen]
    asked = draw.one(body)
    return Facts(
        kind="table",
        language=draw.language,
        number=number,
        heading=topic["title"],
        notes=(f"{where}, {words['valid']} {draw.day()[0]}",),
        rows=((topic["first"], *(name for name, _ in topic["columns"])), *body),
        foot=(f"{words['signed']} {draw.person()}, {draw.code('AA-000')}",),
        question=topic["question"].format(where=where, row=asked[0]),
        answer=asked[topic["asked"]],
        keys=(topic["title"], where, asked[0]),
        short=f"{topic['title']} {where}",
    )


def _chart(draw: _Draw, number: int) -> Facts:
    words = draw.words
    topic, visit = _subject(words["charts"], number)
    where = words["places"][(number + 5 * visit + 3) % len(words["places"])]
    year = 2019 + draw.number(0, 5)
    rows = [
        (row, draw.value("many")) for row in draw.in_order(topic["rows"], draw.number(4, min(7, len(topic["rows"]))))
    ]
    asked = draw.one(rows)
    return Facts(
        kind="chart",
        language=draw.language,
        number=number,
        heading=topic["title"],
        notes=(f"{where} {year}: {topic['first']}",),
        rows=tuple(rows),
        foot=(f"{words['source']}: {draw.word('offices')} {where}, {year + 1}",),
        question=topic["question"].format(where=where, year=year, row=asked[0]),
        answer=asked[1],
        keys=(topic["title"], f"{where} {year}", asked[0]),
        short=f"{topic['title']} {where}",
    )


def _slide(draw: _Draw, number: int) -> Facts:
    words = draw.words
    project, visit = _subject(words["projects"], number)
    slide, named = words["slides"][visit % len(words["slides"])], f"{words['project']} {project}"
    values: dict[str, str] = {f"day{place}": draw.day()[0] for place in range(3)}
    values |= {f"sum{place}": draw.whole(draw.number(1100, 98000)) for place in range(3)}
    values |= {f"person{place}": name for place, name in enumerate(dict.fromkeys(draw.person() for _ in range(9)))}
    values |= {"where": draw.word("places"), "count": str(draw.number(2, 19)), "thing": draw.word("things")}
    points = [point.format(**values) for point in slide["points"]]
    return Facts(
        kind="slide",
        language=draw.language,
        number=number,
        heading=slide["title"],
        notes=(),
        rows=tuple((point,) for point in draw.some(points, len(points))),
        foot=(f"{named} · {draw.word('offices')} · {draw.day()[0]} · {draw.number(2, 30)}",),
        question=slide["question"].format(project=project, where=values["where"], thing=values["thing"]),
        answer=slide["answer"].format(**values),
        keys=(named, slide["title"]),
        short=f"{named} {slide['title']}",
    )


def _label(draw: _Draw, number: int) -> Facts:
    words = draw.words
    makers: tuple[Callable[[_Draw, int, dict[str, Any]], dict[str, Any]], ...] = (_food, _plate, _parcel)
    made = makers[number % len(makers)](draw, number // len(makers), words)
    return Facts(kind="label", language=draw.language, number=number, **made)


def _food(draw: _Draw, number: int, words: dict[str, Any]) -> dict[str, Any]:
    food, contents = words["foods"][number % len(words["foods"])]
    maker = f"{draw.word('farms')} {draw.word('places')}"
    best_before = draw.day()[0]
    batch = draw.code("A0000-00")
    names = words["food_fields"]
    by_batch = bool(draw.number(0, 1))
    rows = ((names[0], f"{draw.number(10, 98) * 5} g"), (names[1], best_before), (names[2], batch))
    return {
        "heading": food,
        "notes": (maker, contents),
        "rows": rows,
        "foot": (words["storage"],),
        "question": words["asks_food"][by_batch].format(food=food, maker=maker),
        "answer": batch if by_batch else best_before,
        "keys": (food, maker),
        "short": food,
    }


def _plate(draw: _Draw, number: int, words: dict[str, Any]) -> dict[str, Any]:
    machine = words["machines"][number % len(words["machines"])]
    maker = f"{draw.word('last_names')} {draw.word('companies')}"
    serial, power = draw.code("00-000000"), f"{draw.number(11, 99)}0 W"
    voltage = draw.one(("230 V ~ 50 Hz", "400 V 3~", "24 V DC"))
    rows = zip(words["plate_fields"], (draw.code("AA 000 A"), serial, voltage, power, draw.code("IP 54")), strict=True)
    return {
        "heading": maker,
        "notes": (machine,),
        "rows": tuple(rows),
        "foot": (f"CE  {draw.word('places')} {draw.number(2008, 2025)}",),
        "question": words["asks_plate"].format(machine=machine, maker=maker),
        "answer": serial,
        "keys": (maker, machine),
        "short": machine,
    }


def _parcel(draw: _Draw, number: int, words: dict[str, Any]) -> dict[str, Any]:
    to, sender = draw.person(), words["shops"][number % len(words["shops"])][0]
    tracking = draw.code("00 0000 0000 00")
    weight = f"{draw.number(1, 29)},{draw.number(1, 9)} kg" if draw.german else f"{draw.number(1, 29)}.4 kg"
    return {
        "heading": to,
        "notes": (
            f"{draw.word('streets')} {draw.number(1, 140)}",
            f"{draw.code('00000')} {draw.word('places')}",
        ),
        "rows": tuple(zip(words["parcel_fields"], (sender, weight, tracking), strict=True)),
        "foot": (words["parcel_note"],),
        "question": words["asks_parcel"].format(to=to, sender=sender),
        "answer": tracking,
        "keys": (to, sender),
        "short": f"{words['parcel']} {to.split()[-1]}",
    }


_MAKERS: dict[str, Callable[[_Draw, int], Facts]] = {
    "receipt": _receipt,
    "table": _table,
    "chart": _chart,
    "slide": _slide,
    "label": _label,
}
