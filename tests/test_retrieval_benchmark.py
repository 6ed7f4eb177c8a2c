"""The measure of worth: its questions have one answer each, in one picture, and a small run of it finds them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.documents import KINDS, LANGUAGES, MOST, facts
from benchmarks.paper import CONDITIONS, pictures

ROOT = Path(__file__).parent.parent
SEED = 7


def test_there_are_thirty_of_each_kind_and_language() -> None:
    """Of 300, each kind in each language has 30; fewer are the first of more, and another seed gives others."""
    made = list(facts(MOST, SEED))
    assert set(Counter((each.kind, each.language) for each in made).values()) == {30}
    assert {each.kind for each in made} == set(KINDS)
    assert {each.language for each in made} == set(LANGUAGES)
    assert list(facts(25, SEED)) == made[:25]
    assert list(facts(25, SEED + 1)) != made[:25]


@pytest.mark.parametrize("count", [0, MOST + 1])
def test_more_than_there_are_is_an_error(count: int) -> None:
    """What cannot be had is refused, and not made less."""
    with pytest.raises(ValueError, match=f"count={count}"):
        list(facts(count, SEED))


@pytest.mark.parametrize("seed", [SEED, 11])
def test_a_question_has_one_answer_in_one_picture(seed: int) -> None:
    """The answer is printed in the question's own picture alone, and nowhere is all that the question names."""
    made = list(facts(MOST, seed))
    assert len({each.question for each in made}) == MOST
    for each in made:
        assert [other.question for other in made if each.answer in other.text] == [each.question]
        assert [other.question for other in made if all(key in other.text for key in each.keys)] == [each.question]
        assert each.answer not in each.question


def test_no_name_of_a_file_tells_the_answer() -> None:
    """Names are those of devices, or say what the picture is of: never what is asked; no two are the same."""
    made = list(pictures(facts(20, SEED), SEED))
    assert len({picture.name for picture in made}) == len(made)
    assert not [picture.name for picture in made if picture.facts.answer in picture.name]
    assert {picture.condition for picture in made} <= set(CONDITIONS)
    again = next(pictures(facts(1, SEED), SEED))
    assert hashlib.sha256(again.data).digest() == hashlib.sha256(made[0].data).digest()


def test_a_small_run_reaches_its_goal() -> None:
    """Run as a program it prints the table, with the project nowhere below LangChain's parser, nor below the names."""
    done = subprocess.run(
        [sys.executable, "benchmarks/retrieval.py", "--images", "10", "--seed", str(SEED)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "10 pictures, seed 7" in done.stdout
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| all ")]
    (_, count, *cells) = rows[0]
    names, rival, loader, reader, _, *whole = (tuple(map(int, cell.split(", "))) for cell in cells)
    assert count == "10"
    assert names < rival <= loader
    assert rival <= reader
    assert whole[0] <= whole[1]
    assert done.stdout.rstrip().endswith("(goal: never): reached")
