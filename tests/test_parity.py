"""Both frameworks give the same: ids, texts, metadata and errors for the same images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from aifs_vision import AIFSError
from langchain_aifs import AIFSImageLoader
from llama_index_aifs import AIFSImageReader
from tests.pictures import corners, saved, tiff

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("task", ["ocr", "caption", "describe"])
def test_the_same_folder_gives_the_same_documents(tmp_path: Path, task: str) -> None:
    """For the same folder both frameworks give Documents with the same ids, texts and metadata, failures included."""
    (tmp_path / "a.png").write_bytes(saved(corners()))
    (tmp_path / "b.tif").write_bytes(tiff([corners(), corners(90, 40)]))
    (tmp_path / "c.jpg").write_text("not a picture")
    chain = AIFSImageLoader(tmp_path, task=task, on_error="keep").load()
    index = AIFSImageReader(task=task, on_error="keep").load_data(tmp_path)
    assert [(d.id, d.page_content, d.metadata) for d in chain] == [(d.id_, d.text, d.metadata) for d in index]
    assert [document.metadata["status"] for document in chain] == ["ok", "ok", "ok", "failed"]


@pytest.mark.usefixtures("environment")
def test_the_same_mistakes_give_the_same_errors(tmp_path: Path) -> None:
    """What cannot be read is the same error, word for word, in both frameworks."""
    (tmp_path / "a.png").write_bytes(saved(corners())[:60])
    sources: list[Any] = [tmp_path, tmp_path / "a.png", "missing.png", b"", "ftp://host/a.png"]
    for source in sources:
        with pytest.raises(AIFSError) as chain:
            AIFSImageLoader(source).load()
        with pytest.raises(AIFSError) as index:
            AIFSImageReader().load_data(source)
        assert (type(chain.value), str(chain.value)) == (type(index.value), str(index.value))
