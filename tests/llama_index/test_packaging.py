"""What LlamaHub is told, and what an import costs."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import tomli

import llama_index_aifs

ROOT = Path(__file__).parent.parent.parent


def test_llamahub_is_told_what_there_is() -> None:
    """The classes that LlamaHub lists can be imported from where it says."""
    told = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["llamahub"]
    package = importlib.import_module(told["import_path"])
    assert package is llama_index_aifs
    assert {"AIFS", "AIFSImageReader", "ImageToText", "AttachImages", "AIFSEmbedding"} <= told["class_authors"].keys()
    for name in told["class_authors"]:
        assert name in package.__all__
        assert isinstance(getattr(package, name), type)


def test_an_import_loads_next_to_nothing() -> None:
    """`import llama_index_aifs` loads neither LlamaIndex nor the SDK, nor anything else that takes its time."""
    slow = {"llama_index", "openai", "httpx", "PIL", "pydantic", "numpy", "sqlite3"}
    code = f"import sys, llama_index_aifs; print(sorted({slow!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
