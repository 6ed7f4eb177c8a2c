"""Documents in the service's Visual RAG: uploaded once, waited for, found again as texts and page pictures."""

from __future__ import annotations

import inspect
import io
import pickle
import subprocess
import sys
from base64 import b64decode
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from PIL import Image

from aifs_vision import (
    AIFSVisualRAGStore,
    BadRequestError,
    ImageAccessError,
    ImageFormatError,
    ImageNotFoundError,
    SettingsError,
    prepare_images,
)
from tests.media import clip, pdf
from tests.office import docx, html, pptx, zipped
from tests.pages import english_page
from tests.pictures import corner_names, corners, opened, saved, tiff

if TYPE_CHECKING:
    from pathlib import Path

    from aifs_vision.emulator import Emulator

PNG = saved(corners())
CLOCK = "Upkeep of the tide clock came to 4,316 pounds in its first year."
FLOAT = "Mussels grew on the chain of the float, which is made of cork."
FERRY = "The ferry to Merrowhaven leaves at noon, but never on Sundays."


def page(text: str) -> str:
    """The content of a page of a PDF with this text."""
    return f"BT /F1 8 Tf 10 60 Td ({text}) Tj ET"


def asked(server: Emulator, method: str = "", end: str = "") -> list[str]:
    """The requests so far, of a method, to paths that end so."""
    return [
        f"{request.method} {request.path}"
        for request in server.requests
        if request.method.startswith(method) and request.path.endswith(end)
    ]


def uploads(server: Emulator) -> list[str]:
    """The names under which files were uploaded."""
    return [r.body["filename"] for r in server.requests if (r.method, r.path) == ("POST", "/v1/files") and r.body]


# -- The round trip ----------------------------------------------------------------------------------------


def test_from_documents_to_the_right_page(aifs_emulator: Emulator) -> None:
    """Of two PDFs and a PNG the text and the picture of the right page come back, the picture ready for a message."""
    store = AIFSVisualRAGStore("round trip", residency="germany")
    ferries = pdf(page("All about gulls."), page(FERRY), width=400)
    clock = pdf(page(CLOCK), "0 0 1 rg 0 0 400 100 re f", width=400)
    scan = saved(english_page(pixels=1200).image)
    added = store.add([("ferries.pdf", ferries), ("clock.pdf", clock), ("scan.png", scan)])
    assert [(file.filename, file.status, file.change) for file in added] == [
        ("ferries.pdf", "completed", "added"),
        ("clock.pdf", "completed", "added"),
        ("scan.png", "completed", "added"),
    ]
    (text, picture) = store.search("When does the ferry leave?", k=1, k_images=1)
    assert (text.filename, text.page, text.modality, text.text) == ("ferries.pdf", 2, "text", FERRY)
    assert (picture.filename, picture.page, picture.modality, picture.text) == ("ferries.pdf", 2, "image", "")
    assert text.image_url is None
    assert text.metadata() == {
        "filename": "ferries.pdf",
        "page": 2,
        "modality": "text",
        "score": text.score,
        "store": "round trip",
    }
    assert picture.image_url is not None
    (prepared,) = prepare_images(picture.image_url, "gpt-4.1")
    assert prepared.width == 834  # 400 points at 150 dots an inch
    (scanned,) = store.search("What was wrong with the float, was it mussels?", k=1)
    assert scanned.filename == "scan.png"
    assert "mussels had grown" in " ".join(scanned.text.split())
    assert {request.path.split("/")[1] for request in aifs_emulator.requests} == {"v1"}


@pytest.mark.parametrize(
    ("name", "data", "on"),
    [
        ("a.pdf", pdf(page(CLOCK), page(FLOAT), width=400), 2),
        ("a.docx", docx(CLOCK, FLOAT), 2),
        ("a.pptx", pptx(CLOCK, FLOAT), 2),
        ("a.html", html(FLOAT), 1),
    ],
)
def test_every_format_is_found_as_text_and_as_picture(
    store: AIFSVisualRAGStore, name: str, data: bytes, on: int
) -> None:
    """The passage and the picture of the page that is asked for come back, the picture ready for a message."""
    store.add([(name, data), ("other.html", html(FERRY))])
    text, picture = store.search("What is the float made of?", k=1, k_images=1)
    assert (text.filename, text.page, text.text) == (name, on, FLOAT)
    assert (picture.filename, picture.page, picture.modality) == (name, on, "image")
    assert picture.image_url is not None
    (prepared,) = prepare_images(picture.image_url, "gpt-4.1")
    assert prepared.mime_type in {"image/png", "image/jpeg"}
    assert picture.id in {hit.id for hit in store.search("clock", k=1, k_images=9)}


def test_hits_have_the_same_ids_in_every_process(server: Emulator, store: AIFSVisualRAGStore) -> None:
    """An id is made of store, file, page, modality and content, whatever was asked, by whichever process."""
    store.add(("clock.pdf", pdf(page(CLOCK), page(FLOAT), width=400)))
    hits = store.search("clock", k=2, k_images=2)
    again = store.search("float of cork", k=2, k_images=2)
    assert {hit.id for hit in hits} == {hit.id for hit in again}
    assert len({hit.id for hit in hits}) == 4
    first = hits[0]
    assert first.id.startswith(f"{store.name}:clock.pdf:1:text:")
    script = f"""
        from aifs_vision import AIFSVisualRAGStore
        store = AIFSVisualRAGStore({store.name!r}, api_key={server.api_key!r}, base_url={server.base_url!r})
        print(*(hit.id for hit in store.search("clock", k=2, k_images=2)), sep="\\n")
    """
    done = subprocess.run([sys.executable, "-c", inspect.cleandoc(script)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [hit.id for hit in hits]


def test_texts_come_first_each_kind_with_the_best_first(store: AIFSVisualRAGStore) -> None:
    """There are at most k passages and k_images pictures; their scores go down within each kind."""
    store.add(("clock.pdf", pdf(page(CLOCK), page(FLOAT), page(FERRY), width=400)))
    hits = store.search("float of cork", k=2, k_images=3)
    assert [hit.modality for hit in hits] == ["text"] * 2 + ["image"] * 3
    for modality in ("text", "image"):
        scores = [hit.score for hit in hits if hit.modality == modality]
        assert scores == sorted(scores, reverse=True)
    assert hits[0].text == FLOAT


def test_only_what_is_set_is_asked_for(server: Emulator, store: AIFSVisualRAGStore) -> None:
    """A number of 0 is not sent, and what was not asked for is not given."""
    store.add(("clock.html", html(CLOCK)))
    store.search("clock")
    store.search("clock", k=0, k_images=2)
    bodies = [request.body for request in server.requests if request.path.endswith("/search")]
    assert bodies == [{"query": "clock", "top_k_texts": 4}, {"query": "clock", "top_k_images": 2}]


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("", {}),
        (" ", {}),
        (7, {}),
        ("half \ud83d", {}),
        ("x", {"k": -1}),
        ("x", {"k": True}),
        ("x", {"k_images": 1.5}),
        ("x", {"k": 0}),
    ],
)
def test_questions_that_ask_for_nothing(
    server: Emulator, store: AIFSVisualRAGStore, query: Any, numbers: dict[str, Any]
) -> None:
    """An empty question, half a character, and numbers that ask for nothing are an error before anything is sent."""
    with pytest.raises(SettingsError, match="not possible"):
        store.search(query, **numbers)
    assert not server.requests


def test_what_is_found_twice_is_given_once(server: Emulator) -> None:
    """Passages that a page repeats have one id, and are one hit; those of another page or file are others."""
    store = AIFSVisualRAGStore(
        f"store {uuid4().hex[:6]}", api_key=server.api_key, base_url=server.base_url, chunk_size=4, chunk_overlap=0
    )
    store.add([("a.html", html("good day " * 40)), ("b.docx", docx("good day " * 8, "good day " * 8))])
    hits = store.search("good day", k=99)
    assert [hit.text for hit in hits] == ["good day good day"] * 3
    assert len({hit.id for hit in hits}) == 3
    assert len(store.search("good day", k=2)) <= 2
    store.drop()


# -- Once, and edited --------------------------------------------------------------------------------------


def test_a_second_run_uploads_nothing(server: Emulator, store: AIFSVisualRAGStore, tmp_path: Path) -> None:
    """What the store has is found by its content, by any process and under any name, and not uploaded again."""
    (tmp_path / "clock.html").write_bytes(html(CLOCK))
    (tmp_path / "corners.png").write_bytes(PNG)
    first = store.add(tmp_path)
    server.clear()
    other = AIFSVisualRAGStore(store.name, api_key=server.api_key, base_url=server.base_url)
    again = other.add([tmp_path / "corners.png", ("renamed.html", html(CLOCK))])
    assert [file.change for file in again] == ["unchanged", "unchanged"]
    assert {file.id for file in again} == {file.id for file in first}
    assert not asked(server, "POST")
    assert len(server.requests) == 3


def test_an_edited_file_replaces_its_old_version(server: Emulator, store: AIFSVisualRAGStore, tmp_path: Path) -> None:
    """The old version is found no more, and its file is deleted, once the new one is ingested; others stay."""
    path = tmp_path / "report.html"
    path.write_bytes(html(CLOCK))
    (old, _) = store.add([path, ("other.html", html(FERRY))])
    path.write_bytes(html(FLOAT))
    (new,) = store.add(path)
    assert (old.change, new.change) == ("added", "replaced")
    assert {hit.text for hit in store.search("clock", k=9)} == {FLOAT, FERRY}
    requests = asked(server)
    deleted, attached = requests.index(f"DELETE /v1/files/{old.id}"), asked(server, "POST", "/files")[-1]
    assert attached in requests[:deleted]
    assert attached.replace("POST", "GET") in requests[requests.index(attached) : deleted]


def test_equal_contents_of_two_sources_and_one_of_them_is_edited(store: AIFSVisualRAGStore, tmp_path: Path) -> None:
    """Added with all sources nothing is lost; what is lost when the edited one comes alone, the next add has again."""
    for name in ("x.html", "y.html"):
        (tmp_path / name).write_bytes(html(CLOCK))
        store.add(tmp_path / name)
    (tmp_path / "x.html").write_bytes(html(FLOAT))
    store.add(tmp_path)
    assert {hit.text for hit in store.search("clock", k=9)} == {CLOCK, FLOAT}
    store.add(tmp_path / "x.html")
    assert {hit.text for hit in store.search("clock", k=9)} == {FLOAT}
    assert [file.change for file in store.add(tmp_path)] == ["unchanged", "added"]
    assert {hit.text for hit in store.search("clock", k=9)} == {CLOCK, FLOAT}


def test_the_old_version_stays_where_the_new_one_fails(store: AIFSVisualRAGStore) -> None:
    """A version that cannot be ingested replaces nothing."""
    store.add(("report.pdf", pdf(page(CLOCK), width=400)))
    with pytest.raises(BadRequestError, match=r"could not ingest 'report\.pdf'"):
        store.add(("report.pdf", b"%PDF-1.7 cut off"))
    assert [hit.text for hit in store.search("clock")] == [CLOCK]


def test_equal_contents_are_uploaded_once(server: Emulator, store: AIFSVisualRAGStore) -> None:
    """Two sources with the same content are one file in the store, also when they come side by side."""
    files = store.add([(f"{number}.html", html(CLOCK)) for number in range(6)])
    assert len({file.id for file in files}) == len(uploads(server)) == 1
    assert [file.change for file in files].count("added") == 1
    assert len(store.files()) == 1


def test_files_of_one_name_in_two_folders_are_two(store: AIFSVisualRAGStore, tmp_path: Path) -> None:
    """A file replaces what came from the same source, not what has the same name; their hits are told apart."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "report.html").write_bytes(html(CLOCK) + f"<!-- of {folder} -->".encode())
    store.add(tmp_path / "a")
    (second,) = store.add(tmp_path / "b")
    assert second.change == "added"
    assert [hit.filename for hit in store.search("clock")] == ["report.html"] * 2
    assert len({hit.id for hit in store.search("clock")}) == 2


def test_two_stores_do_not_share_files(server: Emulator, store: AIFSVisualRAGStore) -> None:
    """Dropping one store leaves the equal file of another one where it is."""
    other = AIFSVisualRAGStore(f"{store.name} 2", api_key=server.api_key, base_url=server.base_url)
    for each in (store, other):
        each.add(("clock.html", html(CLOCK)))
    other.drop()
    assert [hit.text for hit in store.search("clock")] == [CLOCK]
    assert other.files() == []


# -- What is taken -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "suffix"),
    [
        (pdf(page(CLOCK)), ".pdf"),
        (docx(CLOCK), ".docx"),
        (pptx(CLOCK), ".pptx"),
        (html(CLOCK), ".html"),
        (PNG, ".png"),
        (saved(corners(), "JPEG"), ".png"),
        (saved(corners(), "WEBP"), ".png"),
        (tiff([corners()]), ".png"),
        (tiff([corners(), corners()]), ".pdf"),
    ],
    ids=["PDF", "DOCX", "PPTX", "HTML", "PNG", "JPEG", "WebP", "TIFF", "TIFF of two pages"],
)
def test_formats_are_told_by_content(server: Emulator, store: AIFSVisualRAGStore, data: bytes, suffix: str) -> None:
    """Each format is uploaded as what it is, whatever it is called; other pictures become PNG, or PDF with pages."""
    (file,) = store.add(("wrongly called.pdf", data))
    (name,) = uploads(server)
    assert name.startswith("wrongly called.pdf.aifs-")
    assert name.endswith(suffix)
    assert (file.filename, file.status) == ("wrongly called.pdf", "completed")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (("a.pdf", b"just a text"), "a text file"),
        (("a.xlsx", zipped({"xl/workbook.xml": "<x/>"})), "Office document"),
        (("a.png", b""), "empty"),
        (("a.mp4", clip([corners()], frames=2)), "video"),
        (("a.html", b"no markup"), "a text file"),
        (("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "SVG"),
        (("a.xml", b"<!---->" * 585), "XML"),  # to be told in a moment, however many comments there are
        ("https://example.com/a.pdf", "not fetched"),
        ("s3://bucket/a.pdf", "not fetched"),
    ],
)
def test_other_files_are_refused(server: Emulator, store: AIFSVisualRAGStore, source: Any, words: str) -> None:
    """What is none of these formats is not uploaded, and the error says what it is and what is taken."""
    with pytest.raises(ImageFormatError, match=r"Visual RAG takes PDF, PPTX, DOCX, HTML and PNG") as caught:
        store.add(source)
    assert words in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args  # noqa: S301 - our own
    assert not uploads(server)


def test_pictures_lose_their_metadata_and_documents_keep_theirs(store: AIFSVisualRAGStore) -> None:
    """A photo is sent upright and without what its camera wrote; what comes back is a PNG of it."""
    exif = Image.Exif()
    exif[0x0112], exif[0x8825] = 6, {1: "N"}
    store.add(
        [("photo.jpg", saved(corners(), "JPEG", quality=95, exif=exif)), ("map.png", saved(corners(), exif=exif))]
    )
    for hit in store.search("a picture", k=0, k_images=2):
        data = b64decode((hit.image_url or "").removeprefix("data:image/png;base64,"))
        assert (opened(data).size, dict(opened(data).getexif())) == ((40, 60), {})
        assert corner_names(opened(data)) == ["yellow", "red", "lime", "blue"]


def test_pages_of_a_picture_keep_their_numbers(store: AIFSVisualRAGStore) -> None:
    """A TIFF of several pages becomes a PDF: each page is found with its number."""
    pages = [Image.new("RGB", (200, 100), colour) for colour in ("red", "green", "blue")]
    store.add(("pages.tif", tiff(pages)))
    (hit,) = store.search("a picture, mainly blue", k=0, k_images=1)
    assert (hit.filename, hit.page) == ("pages.tif", 3)


def test_sources_of_every_kind(store: AIFSVisualRAGStore, tmp_path: Path) -> None:
    """Paths, bytes, data URIs, file objects and PIL images are taken, each read once."""
    path = tmp_path / "a.html"
    path.write_bytes(html(CLOCK))
    given: list[Any] = [str(path), html(FLOAT), io.BytesIO(PNG), Image.new("L", (30, 20), 99), "data:text/html,<html>x"]
    files = store.add(given)
    assert {file.change for file in files} == {"added"}
    assert files[0].source == str(path)
    assert len(store.files()) == 5
    with pytest.raises(TypeError, match="int is not an image source"):
        store.add([7])  # type: ignore[list-item]


def test_odd_paths_are_errors_of_the_project(
    store: AIFSVisualRAGStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty path is not the current folder; one too long, or with a null byte, cannot be read; others are added."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "private.html").write_bytes(html(CLOCK))
    kinds = {"": ImageNotFoundError, "x" * 300 + ".png": ImageAccessError, "a\0b.png": ImageAccessError}
    for path, kind in kinds.items():
        with pytest.raises(kind, match="the current folder is '.'" if not path else "cannot be read"):
            store.add(path)
    kept = store.add([*kinds, ("a.html", html(FLOAT))], on_error="keep")
    assert [type(file.error) for file in kept] == [*kinds.values(), type(None)]
    assert [file.source for file in store.add([*kinds, ("a.html", html(FLOAT))], on_error="skip")] == ["a.html"]
    assert [file.filename for file in store.files()] == ["a.html"]
    assert [file.source for file in store.add(".")] == ["private.html"]


def test_a_folder_is_its_files(store: AIFSVisualRAGStore, tmp_path: Path) -> None:
    """Below a folder everything that can be added is, hidden files and other formats left out; an empty one is said."""
    (tmp_path / "deep" / ".hidden").mkdir(parents=True)
    for name in ("b.HTML", "deep/a.htm", "deep/.hidden/c.html", ".d.html", "notes.txt"):
        (tmp_path / name).write_bytes(html(name))
    (tmp_path / "corners.jpeg").write_bytes(saved(corners(), "JPEG"))
    assert [file.filename for file in store.add(tmp_path)] == ["b.HTML", "corners.jpeg", "a.htm"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageNotFoundError, match="Visual RAG takes"):
        store.add(tmp_path / "empty")
    with pytest.raises(ImageNotFoundError, match="no such file"):
        store.add(tmp_path / "missing.pdf")
