"""What is promised of the code itself: names, layers, sizes, values."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli

import aifs_vision
import langchain_aifs
import llama_index_aifs
from aifs_vision import Vision, async_http_client, http_client
from aifs_vision import emulator as emulator_package

ROOT = Path(__file__).parent.parent
PACKAGES = [aifs_vision, emulator_package, langchain_aifs, llama_index_aifs]
MODULES = sorted(
    path
    for package in ("aifs_vision", "langchain_aifs", "llama_index_aifs", "examples", "benchmarks")
    for path in (ROOT / package).rglob("*.py")
)
PROJECT = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_public_names_are_what_is_exported(package: Any) -> None:
    """Each name of `__all__` stands there once, can be imported, and is what `dir()` shows; no other name exists."""
    assert len(package.__all__) == len(set(package.__all__))
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert name in dir(package)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = package.no_such_name


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_public_names_are_documented(package: Any) -> None:
    """Every public class and function, and each of their public methods, has a docstring."""
    for name in package.__all__:
        value = getattr(package, name)
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        assert (value.__doc__ or "").strip(), name
        for part, member in vars(value).items() if inspect.isclass(value) else ():
            if not part.startswith(("_", "model_")) and inspect.isfunction(member):  # model_: pydantic's own
                assert (inspect.getdoc(member) or "").strip(), f"{name}.{part}"


def test_public_values_are_frozen_and_keyword_only() -> None:
    """Every public dataclass is frozen and takes keywords only."""
    for name in aifs_vision.__all__:
        value = getattr(aifs_vision, name)
        if inspect.isclass(value) and dataclasses.is_dataclass(value):
            parameters: Any = value.__dataclass_params__  # type: ignore[attr-defined]
            assert parameters.frozen, name
            assert all(field.kw_only for field in dataclasses.fields(value) if field.init), name


def test_sync_and_async_take_the_same() -> None:
    """A synchronous call and its asynchronous twin have the same parameters."""
    twins: list[tuple[Any, Any]] = [(Vision.read, Vision.aread), (http_client, async_http_client)]
    for one, other in twins:
        assert inspect.signature(one).parameters == inspect.signature(other).parameters


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_fit_in_one_sitting(path: Path) -> None:
    """No module is longer than 350 lines, and none is a drawer for everything."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350
    assert path.stem.strip("_") not in {"utils", "helpers", "common", "types"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_catch_alls_and_no_loose_ends(path: Path) -> None:
    """No `except Exception`, no bare `except`, no bare ignores, no notes to do something later."""
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None
            assert ast.unparse(node.type) != "Exception"
    # What the project may not have is named here, which is why this line has it.
    assert not re.search(r"# type: ignore(?!\[)|# noqa(?!:)|\b(TODO|FIXME|XXX)\b|NotImplementedError", text)


def test_importing_one_plugin_does_not_load_the_other() -> None:
    """Each package is imported without any framework, and used without the other's framework."""
    script = """
        import sys
        import {package}
        assert not {{"langchain_core", "llama_index", "openai", "PIL"}} & set(sys.modules), "loaded at import"
        {package}.{name}
        assert {other!r} not in sys.modules
    """
    for package, name, other in (
        ("langchain_aifs", "AIFSImageLoader", "llama_index"),
        ("llama_index_aifs", "AIFSImageReader", "langchain_core"),
    ):
        code = inspect.cleandoc(script).format(package=package, name=name, other=other)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_every_module_of_the_client_is_closed_to_the_emulator() -> None:
    """The contract that keeps the emulator an independent witness names every module but the catalogue."""
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    (contract,) = [contract for contract in contracts if contract["name"].startswith("The emulator shares")]
    modules = {f"aifs_vision.{path.stem}" for path in (ROOT / "aifs_vision").glob("*.py") if path.stem != "__init__"}
    assert set(contract["forbidden_modules"]) == modules - {"aifs_vision._catalogue"}


def test_tests_use_public_names() -> None:
    """No test imports a private module of the project."""
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            private = [
                name for name in names if re.match(r"(aifs_vision|langchain_aifs|llama_index_aifs)\b.*\._", name)
            ]
            assert not private or path.parent.name == "emulator", path


def test_the_lowest_versions_are_those_of_the_project() -> None:
    """tests/lowest.txt pins each dependency of the wheel to the lower bound that pyproject.toml states."""
    stated = {}
    extras = PROJECT["project"]["optional-dependencies"].values()
    for requirement in [*PROJECT["project"]["dependencies"], *(line for extra in extras for line in extra)]:
        if found := re.match(r"([\w-]+)>=([\d.]+)", requirement):
            stated[found[1]] = found[2]
    lines = (ROOT / "tests" / "lowest.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert {name: pinned.get(name) for name in stated} == stated


def test_version_and_changelog_agree() -> None:
    """The changelog has a section for what is unreleased, and for the version once that is released."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[([\w.]+)\]", changelog, re.MULTILINE)
    assert "Unreleased" in released or PROJECT["project"]["version"] == released[0]


def test_typing_marker_is_there() -> None:
    """Each package says that it is typed."""
    for package in ("aifs_vision", "langchain_aifs", "llama_index_aifs"):
        assert Path(str(importlib.import_module(package).__file__)).with_name("py.typed").exists()
