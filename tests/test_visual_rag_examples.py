"""The examples of Visual RAG: found as text in a store that another process has filled, answered from the picture."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from aifs_vision.emulator import Emulator

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("visual_rag_*.py"))


def run(path: Path, where: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Runs an example as a user would."""
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", **settings}
    command = [sys.executable, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=where, env=environment)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_caption_and_text_lead_to_the_picture(path: Path, tmp_path: Path) -> None:
    """Caption, text and fields of images stand side by side after a restart, and the answer is from the pixels."""
    done = run(path, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr, done.stderr
    assert "AIFS_API_KEY is not set: the emulator answers" in done.stdout
    stored = re.findall(r"Process (\d+) stores (\d) Documents of the task '([\w-]+)'", done.stdout)
    asked = re.findall(r"Process (\d+) asks", done.stdout)
    assert [(number, task) for _, number, task in stored] == [("7", "caption"), ("6", "ocr"), ("2", "extract-Bill")]
    assert re.findall(r"More than 1000 EUR: (.*)", done.stdout) == ["letter.png, 1681.71"]
    assert {process for process, *_ in stored}.isdisjoint(asked)
    assert re.findall(r"\[\d\] (\S+), page 1: (\w+)", done.stdout) == [("chart.png", "caption"), ("chart.png", "ocr")]
    # Of one picture, measured in what was sent: had no picture come, or two, the emulator would say something else.
    answers = re.findall(r"^Answer: (.*)", done.stdout, re.MULTILINE)
    assert len(answers) == 2
    assert all("1400 x 875 px" in answer and "blue" in answer for answer in answers)
    assert re.findall(r"Visual RAG: (\S+), image", done.stdout) == ["chart.png"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_a_wrong_key_is_said_in_one_line(path: Path, aifs_emulator: Emulator, tmp_path: Path) -> None:
    """A wrong key ends the example with one line, and not with a traceback, in whichever process it shows."""
    done = run(path, tmp_path, AIFS_API_KEY="wrong", AIFS_BASE_URL=aifs_emulator.base_url)
    assert done.returncode == 1
    assert done.stderr.startswith("AuthenticationError: ")
    assert len(done.stderr.splitlines()) == 1
