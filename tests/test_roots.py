"""Names of files that are no text: what readings call them, and how they are found again."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from aifs_vision import Originals, name_of, path_named, survey_images
from tests.pictures import corners, saved

# No name of a file can be other than text there, so that there is nothing to be tested.
pytestmark = pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="names are Unicode there")


def written(folder: Path, name: bytes, data: bytes) -> Path:
    """A file of this name, whatever its bytes say."""
    path = Path(os.fsdecode(os.fsencode(folder) + b"/" + name))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def seen(roots: Path, *paths: Path) -> list[tuple[int, int] | str]:
    """The sizes of the pictures that are found again for what was read of these files, or why they are not."""
    metadata = [{**reading.metadata(), "status": "ok"} for path in paths for reading in survey_images([path])]
    assert all(str(one["source"]).isprintable() for one in metadata)
    found = Originals(roots).of(metadata)
    return [
        (one.image.width or 0, one.image.height or 0) if one and one.image else str(one and one.skipped)
        for one in found
    ]


def test_files_whose_names_are_not_utf_8(tmp_path: Path) -> None:
    """Files and folders whose names are bytes of another encoding are found again by what readings call them."""
    latin = written(tmp_path, "Gebäude.png".encode("latin-1"), saved(corners(80, 50)))
    inner = written(tmp_path, b"\xff\xfe/a b.png", saved(corners(90, 50)))
    assert seen(tmp_path, latin, inner) == [(80, 50), (90, 50)]
    assert seen(inner.parent, inner, latin)[0] == (90, 50)
    assert "lies outside" in str(seen(inner.parent, inner, latin)[1])
    assert path_named(name_of(latin)) == str(latin)


def test_names_that_only_look_so(tmp_path: Path) -> None:
    """A file that has the written-out name itself is that file, and one that is not there is not found by another."""
    real, named = (
        written(tmp_path, b"\xff.png", saved(corners(80, 50))),
        written(tmp_path, rb"\xff.png", saved(corners())),
    )
    assert name_of(real) == name_of(named)
    assert seen(tmp_path, named) == [(60, 40)]
    assert "has changed since" in str(seen(tmp_path, real)[0])  # never the wrong one
    named.unlink()
    assert seen(tmp_path, real) == [(80, 50)]
    assert path_named(str(tmp_path / r"\xfe.png")) == str(tmp_path / r"\xfe.png")


def test_no_name_leads_out(tmp_path: Path) -> None:
    """Bytes that would be parts of a path are not read out of a name."""
    (tmp_path / "in").mkdir()
    outside = written(tmp_path, b"\xff.png", saved(corners()))
    (reading,) = survey_images([outside])
    for source in (rb"in/\x2e\x2e/\xff.png", rb"in/..\x2f\xff.png", rb"in/../\xff.png"):
        name = str(tmp_path / source.decode())
        (found,) = Originals(tmp_path / "in").of([{**reading.metadata(), "source": name}])
        assert found is not None
        assert found.image is None
