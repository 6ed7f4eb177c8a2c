"""Images on other file systems: opened there, each file's trouble its own."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from llama_index.core import SimpleDirectoryReader

from aifs_vision import ImageAccessError, ImageNotFoundError
from llama_index_aifs import AIFSImageReader, ImageToText
from tests.media import samples
from tests.pictures import corners, saved

if TYPE_CHECKING:
    from aifs_vision.emulator import Emulator

PNG = saved(corners())


@pytest.mark.usefixtures("environment")
def test_remote_file_systems(folder: Path, server: Emulator) -> None:
    """Paths are opened on the fsspec file system that is given; a missing one is that image's error only."""
    memory = fsspec.filesystem("memory")
    memory.pipe({"/scans/a.png": PNG, "/scans/b.JPG": (folder / "b.JPG").read_bytes()})
    try:
        reader = AIFSImageReader(task="ocr", on_error="keep")
        documents = reader.load_data(["/scans/a.png", "/scans/missing.png", "/scans/b.JPG"], fs=memory)
        assert [document.metadata["status"] for document in documents] == ["ok", "failed", "ok"]
        assert documents[0].metadata["source"] == "/scans/a.png"
        assert "missing.png" in documents[1].metadata["error"]
        server.clear()
        through = SimpleDirectoryReader(
            "/scans", fs=memory, file_extractor=AIFSImageReader().file_extractor(), raise_on_error=True
        )
        assert len(through.load_data()) == 2
        assert len(server.requests) == 2
    finally:
        memory.rm("/scans", recursive=True)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("task", [None, "caption"])
def test_trouble_of_a_file_system_is_its_images_own(tmp_path: Path, task: Any) -> None:
    """Whatever a file system raises for one file is that file's error, and the others are read."""
    with zipfile.ZipFile(tmp_path / "scans.zip", "w") as packed:
        for name in ("a.png", "b.png", "c.png"):
            packed.writestr(name, saved(corners(61 + ord(name[0]), 40)))
    whole = bytearray((tmp_path / "scans.zip").read_bytes())
    whole[whole.find(b"b.png") + 60] ^= 255
    (tmp_path / "scans.zip").write_bytes(whole)
    reader = AIFSImageReader(task=task, on_error="keep")
    documents = reader.load_data("", fs=fsspec.filesystem("zip", fo=str(tmp_path / "scans.zip")))
    assert [document.metadata["status"] == "failed" for document in documents] == [False, True, False]
    assert "b.png" in documents[1].metadata["error"]
    if task is None:
        steps = ImageToText(
            task="caption", on_error="keep", fs=fsspec.filesystem("zip", fo=str(tmp_path / "scans.zip"))
        )
        assert [node.metadata["status"] for node in steps(documents)] == ["ok", "failed", "ok"]


def test_trouble_of_a_folder(tmp_path: Path) -> None:
    """A folder that the file system does not list is an error of its own among others, and of the run alone."""

    class Broken(DirFileSystem):  # type: ignore[misc]
        def find(self, path: str, *args: Any, **options: Any) -> Any:
            if path.endswith("broken"):
                raise LookupError("no listing today")
            return super().find(path, *args, **options)

    for name in ("broken", "whole"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(PNG)
    fs, reader = Broken(str(tmp_path), LocalFileSystem()), AIFSImageReader(task=None, on_error="keep")
    documents = reader.load_data(["broken", "whole"], fs=fs)
    assert [document.metadata["status"] for document in documents] == ["failed", "pending"]
    with pytest.raises(ImageAccessError, match="no listing today"):
        reader.load_data("broken", fs=fs)


def test_an_interrupt_is_no_trouble_of_a_file_system(tmp_path: Path) -> None:
    """Ctrl-C while a file system is asked ends the loading, whatever `on_error` says."""

    class Interrupted(DirFileSystem):  # type: ignore[misc]
        def isdir(self, _: str) -> bool:
            raise KeyboardInterrupt

    fs = Interrupted(str(tmp_path), LocalFileSystem())
    with pytest.raises(KeyboardInterrupt):
        AIFSImageReader(task=None, on_error="keep").load_data(["a.png", "b.png"], fs=fs)


def test_folders_with_odd_names() -> None:
    """The name of a folder is no pattern, whatever is in it."""
    memory = fsspec.filesystem("memory")
    memory.pipe({"/odd/scans[2024]?/a.png": PNG, "/odd/scans2/b.png": PNG})
    try:
        (document,) = AIFSImageReader(task=None, glob="*.png").load_data("/odd/scans[2024]?", fs=memory)
        assert document.metadata["source"] == "/odd/scans[2024]?/a.png"
    finally:
        memory.rm("/odd", recursive=True)


def test_addresses_beside_a_file_system() -> None:
    """URLs are passed on to the service, also where paths are opened on a file system."""
    url = "http://127.0.0.1:9/x.png"
    (document,) = AIFSImageReader(task=None).load_data([url], fs=fsspec.filesystem("memory"))
    assert (document.metadata["source"], document.metadata["status"]) == (url, "pending")


@pytest.mark.usefixtures("environment")
def test_globs_on_both_kinds_of_file_systems(tmp_path: Path) -> None:
    """Below a folder, local or not, the same files are read: by suffix, without hidden ones, PDF files where named."""
    names = ["a.png", "b.PNG", "deep/c.png", "deep/.hidden.png", ".git/d.png", "notes.txt", "report.pdf"]
    memory = fsspec.filesystem("memory")
    for name in names:
        data = samples()["PDF"] if name.endswith(".pdf") else PNG
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
        memory.pipe(f"/globs/{name}", data)
    try:
        for glob, expected in (
            ("**/*", ["a.png", "b.PNG", "deep/c.png"]),
            ("*.pdf", ["report.pdf"] * 2),
            ("*.gif", None),
        ):
            reader = AIFSImageReader(task=None, glob=glob)
            if expected is None:
                with pytest.raises(ImageNotFoundError, match="gif"):
                    reader.load_data(tmp_path)
                with pytest.raises(ImageNotFoundError, match="gif"):
                    reader.load_data("/globs", fs=memory)
                continue
            local, remote = reader.load_data(tmp_path), reader.load_data("/globs", fs=memory)
            assert [str(Path(d.metadata["source"]).relative_to(tmp_path)) for d in local] == expected
            assert [d.metadata["source"].removeprefix("/globs/") for d in remote] == expected
        with pytest.raises(ImageNotFoundError):
            AIFSImageReader(task=None, on_error="skip").load_data("/globs/missing.png", fs=memory)
    finally:
        memory.rm("/globs", recursive=True)
