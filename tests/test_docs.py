"""The README, the docstrings and the examples do what they say: each is run against the emulator."""

from __future__ import annotations

import ast
import inspect
import os
import re
import shutil
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
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PACKAGES = [aifs_vision, emulator, langchain_aifs, llama_index_aifs]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the examples in it, in which code may leave files."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    return tmp_path


def run(code: str, where: Path) -> None:
    """Runs code as a program would run it, in this process, so that the emulator's memory serves all of it."""
    before = Path.cwd()
    os.chdir(where)
    try:
        exec(compile(textwrap.dedent(code), "<documentation>", "exec"), {"__name__": "__main__"})  # noqa: S102
    finally:
        os.chdir(before)


@pytest.mark.usefixtures("aifs_emulator")
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning")  # of LlamaIndex's agents
@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_readme_blocks_run(number: int, project: Path) -> None:
    """Each Python block of the README runs as it stands, from the root of the project."""
    run(BLOCKS[number], project)


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
def test_docstring_examples_run(code: str, project: Path) -> None:
    """The example at the top of each package runs as it stands, from the root of the project."""
    run(code, project)


def test_docstring_examples_parse() -> None:
    """Every example in a public docstring is valid Python."""
    for package in PACKAGES:
        for name in package.__all__:
            doc = inspect.getdoc(getattr(package, name)) or ""
            for block in re.findall(r"\n\n((?: {4}.*\n?|\n)+)", doc):
                ast.parse(textwrap.dedent(block))


def run_example(path: Path, where: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Runs an example as a user would, in any directory."""
    return subprocess.run(
        [sys.executable, str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        cwd=where,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **settings},
    )


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_run(path: Path, aifs_emulator: Emulator, tmp_path: Path) -> None:
    """Each example runs as a program, and prints no warning and no traceback."""
    done = run_example(path, tmp_path, AIFS_API_KEY=aifs_emulator.api_key, AIFS_BASE_URL=aifs_emulator.base_url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr, done.stderr
    assert "AIFS_API_KEY is set" in done.stdout


def test_the_quickstart_needs_no_key(tmp_path: Path) -> None:
    """Without a key it starts the emulator and says so; each question leads to the image that has the answer."""
    done = run_example(ROOT / "examples" / "quickstart.py", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr, done.stderr
    assert "AIFS_API_KEY is not set: the images are read by the emulator" in done.stdout
    shown = re.findall(r"^  (\S+) +(\d)/(\d) +(ok|empty)\b", done.stdout, re.MULTILINE)
    images = ["chart.png", "lake.jpg", "letter.png", "minutes.tif", "minutes.tif", "receipt.jpg", "report.png"]
    assert [name for name, *_ in shown] == 2 * images
    assert [name for name, *_, status in shown if status == "empty"] == 2 * ["lake.jpg"]
    assert re.findall(r"Found in: (\S+), page (\d)", done.stdout) == [("receipt.jpg", "1"), ("letter.png", "1")]
    assert re.findall(r"Its text: (.*)", done.stdout) == [
        "TOTAL EUR  34.96",
        "2  Gehäuse mit Öldichtung  2  312,00 €  624,00 €",
    ]


def test_the_quickstart_says_what_is_wrong_with_a_key(aifs_emulator: Emulator, tmp_path: Path) -> None:
    """A wrong key ends it with one line that names the remedy, not with a traceback."""
    settings = {"AIFS_API_KEY": "wrong", "AIFS_BASE_URL": aifs_emulator.base_url}
    done = run_example(ROOT / "examples" / "quickstart.py", tmp_path, **settings)
    assert done.returncode == 1
    assert done.stderr.startswith("AuthenticationError: ")
    assert len(done.stderr.splitlines()) == 1
    assert "wrong" not in done.stderr


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


def test_langchain_is_shown_in_three_short_blocks() -> None:
    """Index, chat model and parser: a block each, none longer than a screen's half; they run above."""
    part = README.partition("\n## LangChain\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```python\n(.*?)^```", part, re.MULTILINE | re.DOTALL)
    assert all(block in BLOCKS and len(block.splitlines()) <= 20 for block in blocks)
    shown = [re.findall(r"AIFSImageLoader|ChatAIFS|AIFSImageBlobParser", block)[0] for block in blocks]
    assert shown == ["AIFSImageLoader", "ChatAIFS", "AIFSImageBlobParser"]


def test_the_readme_fits_a_screen_before_details() -> None:
    """Problem, install and a working example stand in the first 45 lines."""
    head = "\n".join(README.splitlines()[:45])
    assert "pip install" in head
    assert "```python" in head
    assert "make demo" in head
