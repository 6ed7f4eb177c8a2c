"""The README, the docstrings and the examples do what they say: each is run against the emulator."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import aifs_vision
import langchain_aifs
import llama_index_aifs
from aifs_vision import emulator

if TYPE_CHECKING:
    from aifs_vision.emulator import Emulator

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
EXAMPLES = [path for path in sorted((ROOT / "examples").glob("*.py")) if path.stem != "make_images"]
PACKAGES = [aifs_vision, emulator, langchain_aifs, llama_index_aifs]


def run(code: str, where: Path) -> None:
    """Runs code as a program would run it, in this process, so that the emulator's memory serves all of it."""
    before = Path.cwd()
    os.chdir(where)
    try:
        exec(compile(textwrap.dedent(code), "<documentation>", "exec"), {"__name__": "__main__"})  # noqa: S102
    finally:
        os.chdir(before)


@pytest.mark.usefixtures("aifs_emulator")
@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_readme_blocks_run(number: int) -> None:
    """Each Python block of the README runs as it stands, from the root of the project."""
    run(BLOCKS[number], ROOT)


def docstring_examples() -> list[Any]:
    """The indented example that a package's docstring begins with."""
    found = []
    for package in PACKAGES:
        doc = inspect.getdoc(package) or ""
        block = re.search(r"\n\n((?: {4}.*\n|\n)+)", doc)
        assert block, package
        found.append(pytest.param(block[1], id=package.__name__))
    return found


@pytest.mark.usefixtures("aifs_emulator")
@pytest.mark.parametrize("code", docstring_examples())
def test_docstring_examples_run(code: str) -> None:
    """The example at the top of each package runs as it stands, from the root of the project."""
    run(code, ROOT)


def test_docstring_examples_parse() -> None:
    """Every example in a public docstring is valid Python."""
    for package in PACKAGES:
        for name in package.__all__:
            doc = inspect.getdoc(getattr(package, name)) or ""
            for block in re.findall(r"\n\n((?: {4}.*\n?|\n)+)", doc):
                ast.parse(textwrap.dedent(block))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_run(path: Path, aifs_emulator: Emulator) -> None:
    """Each example runs as a program, and prints no warning and no traceback."""
    done = subprocess.run(
        [sys.executable, str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        cwd=ROOT,
        env={**os.environ, "AIFS_API_KEY": aifs_emulator.api_key, "AIFS_BASE_URL": aifs_emulator.base_url},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr, done.stderr
    assert done.stdout


def test_the_readme_names_what_there_is() -> None:
    """Every `make` target, file and public name that the README mentions exists."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make ([a-z-]+)`", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for path in re.findall(r"\]\((?!https?:)([\w./-]+)\)", README):
        assert (ROOT / path).exists(), path
    names = {name for package in PACKAGES for name in package.__all__}
    for name in re.findall(r"`((?:AIFS|Chat)[A-Z]\w+|Vision|Task|Limits|Emulator|Reading)\b", README):
        if not name.isupper():
            assert name in names, name


def test_the_readme_fits_a_screen_before_details() -> None:
    """Problem, install and a working example stand in the first 45 lines."""
    head = "\n".join(README.splitlines()[:45])
    assert "pip install" in head
    assert "```python" in head
    assert "make demo" in head
