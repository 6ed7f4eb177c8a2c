"""Every test runs without a network but loopback, and without anything the environment may say."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from aifs_vision import AIFSVisualRAGStore, Limits, Vision
from aifs_vision.testing import isolated
from tests.pictures import corners, saved, tiff

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aifs_vision.emulator import Emulator

SETTINGS = ("AIFS_", "OPENAI_", "AZURE_OPENAI_", "LANGSMITH_", "LANGCHAIN_", "LC_", "SSL_CERT")
PROXIES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}


def _installed(*modules: str) -> bool:
    try:
        return all(importlib.util.find_spec(module) for module in modules)
    except ModuleNotFoundError:  # the package that it would be in is not there
        return False


# Tests of a part vanish with the part: CI also runs with the core alone, and with one framework alone.
LANGCHAIN, LLAMA_INDEX = _installed("langchain_core", "langchain_openai"), _installed("llama_index")
EMULATOR = _installed("starlette", "rapidocr")
WITHOUT_SERVER = {
    *(
        "test_cache_adapters",
        "test_cache_store",
        "test_catalogue",
        "test_errors",
        "test_reference",
        "test_settings",
        "test_tasks",
        "test_tokens",
        "test_visual_waiting",
    ),
}

collect_ignore_glob: list[str] = []
if not _installed("transformers"):
    collect_ignore_glob.append("test_reference.py")
if not _installed("pyvips"):
    collect_ignore_glob.append("test_fast.py")
if not _installed("av", "pillow_heif", "pypdfium2"):
    collect_ignore_glob += ["test_bounds.py", "test_formats.py", "test_visual_rag.py"]
if not (LANGCHAIN and EMULATOR):
    collect_ignore_glob.append("langchain/*")
if not (LLAMA_INDEX and EMULATOR):
    collect_ignore_glob.append("llama_index/*")
if not (LANGCHAIN and LLAMA_INDEX and EMULATOR and _installed("langchain_community")):
    collect_ignore_glob.append("test_retrieval_benchmark.py")
if not _installed("langchain_community"):
    collect_ignore_glob += ["langchain/test_parsers.py", "langchain/test_pdf_loaders.py"]
elif not _installed("pymupdf") or version("langchain-community") == "0.4.1":
    # 0.4.1 loses the pictures of PDF files, and wants another RapidOCR than the emulator has.
    collect_ignore_glob += ["langchain/test_pdf_loaders.py", "test_retrieval_benchmark.py"]
if not _installed("chromadb", "langchain_chroma", "llama_index.vector_stores.chroma"):
    collect_ignore_glob += ["test_same_hits.py", "test_visual_rag_examples.py"]
if not _installed("mcp"):
    collect_ignore_glob += ["llama_index/test_mcp.py", "test_mcp_server.py"]
if not _installed("langchain"):
    collect_ignore_glob += ["langchain/test_middleware.py", "langchain/test_tools.py"]
if not (LANGCHAIN and LLAMA_INDEX and EMULATOR):
    collect_ignore_glob += ["test_architecture.py", "test_docs.py", "test_parity.py", "test_same_hits.py"]
if not EMULATOR:
    tests = Path(__file__).parent.glob("test_*.py")
    collect_ignore_glob += ["emulator/*", *(test.name for test in tests if test.stem not in WITHOUT_SERVER)]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of whoever runs the tests can change what they do."""
    for name in list(os.environ):
        if name.startswith(SETTINGS) or name.lower() in PROXIES:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """A loop of the thread's own for whoever takes it and never closes it, as LlamaIndex's synchronous calls do."""
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        yield
        return
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture(scope="session")
def _server() -> Iterator[Emulator]:
    from aifs_vision.emulator import Emulator

    with Emulator(ocr=False) as server:
        yield server


@pytest.fixture
def server(_server: Emulator) -> Iterator[Emulator]:
    """An emulator with fixed answers, empty of requests and faults, of whose limits nobody has learned anything."""
    _server.clear()
    with isolated():
        yield _server
    _server.clear()


@pytest.fixture
def vision(server: Emulator) -> Vision:
    """A client of that emulator, without limits."""
    return Vision(base_url=server.base_url, api_key=server.api_key, limits=Limits())


@pytest.fixture
def store(server: Emulator) -> Iterator[AIFSVisualRAGStore]:
    """A Visual RAG store of its own name in that emulator, which recognises no text; dropped in the end."""
    made = AIFSVisualRAGStore(f"store {uuid4().hex[:6]}", api_key=server.api_key, base_url=server.base_url)
    yield made
    server.clear()
    made.drop()


@pytest.fixture
def environment(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Address and key of that emulator in the environment, for code that takes its settings from there."""
    monkeypatch.setenv("AIFS_BASE_URL", server.base_url)
    monkeypatch.setenv("AIFS_API_KEY", server.api_key)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two pictures and a TIFF of two pages."""
    (tmp_path / "a.png").write_bytes(saved(corners()))
    (tmp_path / "b.JPG").write_bytes(saved(corners(), "JPEG"))
    (tmp_path / "c.tif").write_bytes(tiff([corners(), corners()]))
    return tmp_path
