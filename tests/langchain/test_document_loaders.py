"""Images as LangChain Documents."""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.document_loaders import BaseLoader, Blob

from aifs_vision import (
    BudgetError,
    ImageFormatError,
    ImageNotFoundError,
    Limits,
    RunReport,
    SettingsError,
    Task,
    Vision,
)
from aifs_vision.emulator import Emulator
from langchain_aifs import AIFSImageBlobParser, AIFSImageLoader
from tests.pictures import corners, noise, opened, saved
from tests.service import answer
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aifs_vision.emulator import ChatRequest

PNG = saved(corners())
ANSWER = json.dumps(answer())


@pytest.mark.usefixtures("environment")
def test_a_folder_becomes_documents(folder: Path) -> None:
    """Each page of each image below a folder is a Document with the reading's id, text and metadata."""
    documents = AIFSImageLoader(folder, task="ocr").load()
    readings = list(Vision().read_many(folder, "ocr"))
    assert [document.id for document in documents] == [reading.id for reading in readings]
    assert [document.page_content for document in documents] == [reading.text for reading in readings]
    assert [document.metadata for document in documents] == [reading.metadata() for reading in readings]
    assert [document.metadata["page"] for document in documents] == [1, 1, 1, 2]


@pytest.mark.usefixtures("environment")
def test_loading_asynchronously_gives_the_same(folder: Path) -> None:
    """`aload` and `alazy_load` give what `load` gives."""
    loader = AIFSImageLoader(folder, task="caption")

    async def lazily() -> list[Any]:
        return [document async for document in loader.alazy_load()]

    assert asyncio.run(loader.aload()) == asyncio.run(lazily()) == loader.load()


def slow(pictures: int, in_flight: int) -> tuple[AIFSImageLoader, list[int]]:
    """A loader over many pictures, and a list that tells how many of them were asked for."""
    taken: list[int] = []

    def sources() -> Iterator[bytes]:
        for n in range(pictures):
            taken.append(n)
            yield PNG

    return AIFSImageLoader(sources(), limits=Limits(in_flight=in_flight)), taken


@pytest.mark.usefixtures("environment")
def test_the_first_document_comes_while_the_rest_is_read(server: Emulator) -> None:
    """Lazy loading is lazy: the first Document comes when few of many images have been taken."""
    loader, taken = slow(1000, 2)
    documents = loader.lazy_load()
    assert next(documents).page_content
    assert len(taken) < 50
    documents.close()  # type: ignore[attr-defined]
    loader, taken = slow(1000, 2)

    async def first() -> None:
        stream = loader.alazy_load()
        async for document in stream:
            assert document.page_content
            break
        await stream.aclose()  # type: ignore[attr-defined]

    asyncio.run(first())
    assert len(taken) < 50
    assert len(server.requests) < 100


@pytest.mark.usefixtures("environment")
def test_on_error_decides(folder: Path) -> None:
    """A picture that cannot be read raises, is skipped, or is kept as an empty Document with its error."""
    (folder / "b.JPG").write_text("not a picture")
    with pytest.raises(ImageFormatError, match="a text file"):
        AIFSImageLoader(folder).load()
    assert len(AIFSImageLoader(folder, on_error="skip").load()) == 3
    kept = AIFSImageLoader(folder, on_error="keep").load()
    assert [document.metadata["status"] for document in kept] == ["ok", "failed", "ok", "ok"]
    assert (kept[1].page_content, "a text file" in kept[1].metadata["error"]) == ("", True)


@pytest.mark.usefixtures("environment")
def test_what_is_missing_is_an_error(tmp_path: Path) -> None:
    """A missing path or an empty folder is an error, also when errors are skipped; not an empty list."""
    for path in (tmp_path, tmp_path / "missing.png", "missing folder"):
        with pytest.raises(ImageNotFoundError):
            AIFSImageLoader(path, on_error="skip").load()


@pytest.mark.usefixtures("environment")
def test_globs_and_lists(folder: Path) -> None:
    """A glob chooses among the files of a folder; a list may hold anything that is an image source."""
    assert len(AIFSImageLoader(folder, glob="*.png").load()) == 1
    assert len(AIFSImageLoader([folder / "a.png", PNG, corners(), ("named.png", PNG)]).load()) == 4


def test_settings_are_checked_when_the_loader_is_made(server: Emulator) -> None:
    """No key, an unknown task or option is an error of the constructor, not of the first image."""
    with pytest.raises(SettingsError, match="AIFS_API_KEY"):
        AIFSImageLoader("a.png")
    options: dict[str, Any] = {"base_url": server.base_url, "api_key": server.api_key}
    with pytest.raises(SettingsError, match="captoin"):
        AIFSImageLoader("a.png", task="captoin", **options)
    for kind in (AIFSImageLoader, AIFSImageBlobParser):
        arguments = ["a.png"] if kind is AIFSImageLoader else []
        with pytest.raises(TypeError, match="modle"):
            kind(*arguments, modle="x", **options)
        with pytest.raises(TypeError, match="not both"):
            kind(*arguments, vision=Vision(**options), model="gpt-4.1")


def test_a_task_of_ones_own(tmp_path: Path) -> None:
    """A question is asked of every image, and its readings have an id of their own."""

    def reply(asked: ChatRequest) -> str:
        return "blue" if asked.prompt == "Which colour?" else "?"

    (tmp_path / "a.png").write_bytes(PNG)
    with Emulator(ocr=False, reply=reply) as server:
        options: dict[str, Any] = {"base_url": server.base_url, "api_key": server.api_key}
        (asked,) = AIFSImageLoader(tmp_path, task=Task.ask("Which colour?"), **options).load()
        (plain,) = AIFSImageLoader(tmp_path, **options).load()
    assert asked.page_content == "blue"
    assert asked.id != plain.id


@pytest.mark.usefixtures("environment")
def test_every_named_task_and_its_language(tmp_path: Path, server: Emulator) -> None:
    """A task by its name, as a Task or in another language asks with its own prompt, and marks its Documents."""
    (tmp_path / "a.png").write_bytes(PNG)
    tasks: list[str | Task] = ["caption", "ocr", "describe", Task.of("caption").in_language("German")]
    documents = [AIFSImageLoader(tmp_path, task=task).load()[0] for task in tasks]
    assert [document.metadata["task"] for document in documents] == ["caption", "ocr", "describe", "caption-german"]
    assert len({document.id for document in documents}) == 4
    prompts = [str(request.body["messages"]) for request in server.requests]
    assert len(set(prompts)) == 4
    assert "Write in German" in prompts[3]


@pytest.mark.usefixtures("environment")
def test_tasks_of_every_form_are_asked(tmp_path: Path, server: Emulator) -> None:
    """A task of another size sends that size, a question with a name and a room has both; so the loader's do."""
    (tmp_path / "a.png").write_bytes(saved(noise(900, 600, 1)))
    AIFSImageLoader(tmp_path, task=Task.of("ocr").sized(300)).load()
    (document,) = AIFSImageLoader(tmp_path, task=Task.ask("Which colour?", name="colour", max_tokens=50)).load()
    small, asked = server.requests
    assert max(opened(small.images[0][1]).size) <= 300
    assert (document.metadata["task"], asked.body["max_tokens"]) == ("colour", 50)
    assert "Which colour?" in str(asked.body["messages"])


@pytest.mark.usefixtures("environment")
def test_frames_of_animations_are_chosen(tmp_path: Path) -> None:
    """`frames` says which frames of an animation or video become Documents; those of videos know their time."""
    pictures = [noise(40, 40, seed) for seed in range(1, 5)]
    (tmp_path / "a.gif").write_bytes(saved(pictures[0], "GIF", save_all=True, append_images=pictures[1:]))
    pages = [[d.metadata["page"] for d in AIFSImageLoader(tmp_path, frames=f).load()] for f in ("auto", "all", 2)]
    assert pages[0] == [1]
    assert pages[1] == [1, 2, 3, 4]
    assert len(pages[2]) == 2
    with pytest.raises(SettingsError, match="frames"):
        AIFSImageLoader(tmp_path, frames="some")  # type: ignore[arg-type]


# -- Options of Vision -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("environment")
def test_a_second_run_over_the_same_images_is_free_and_equal(folder: Path, tmp_path: Path, server: Emulator) -> None:
    """With a cache nothing is asked twice; ids, texts and metadata are the same on every run, cached or not."""
    cache = tmp_path / "cache" / "readings.db"
    cache.parent.mkdir()
    first = AIFSImageLoader(folder, cache=cache).load()
    asked = len(server.requests)
    loader = AIFSImageLoader(folder, cache=cache)
    assert loader.load() == first
    assert len(server.requests) == asked
    assert (loader.report.cached, loader.report.requests) == (4, 0)
    assert AIFSImageLoader(folder).load() == first


@pytest.mark.usefixtures("environment")
def test_options_of_vision_are_the_loaders(folder: Path, server: Emulator) -> None:
    """Model, limits, budget and the rest go to the Vision that the loader makes, or come with the one it is given."""
    loader = AIFSImageLoader(folder, model="gpt-4.1", residency="eu", max_cost=1.0, queue=True)
    assert {document.metadata["model"] for document in loader.load()} == {"gpt-4.1"}
    assert {request.path for request in server.requests} == {"/queue/chat/completions"}
    vision = Vision("gpt-4.1")
    assert AIFSImageLoader(folder, vision=vision).vision is vision
    with pytest.raises(BudgetError):
        AIFSImageLoader(folder, max_cost=0.000001).load()


@pytest.mark.usefixtures("environment")
def test_progress_is_shown_where_it_is_wanted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`progress=True` writes to stderr how far the loading is; without it nothing is written."""
    AIFSImageLoader(folder).load()
    assert capsys.readouterr().err == ""
    AIFSImageLoader(folder, progress=True).load()
    assert "3" in capsys.readouterr().err


# -- Report and estimate -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("environment")
def test_the_report_is_of_the_last_loading(folder: Path) -> None:
    """`report` is empty at first, grows while Documents come, and has every image and failure in the end."""
    (folder / "b.JPG").write_text("not a picture")
    loader = AIFSImageLoader(folder, on_error="skip")
    assert loader.report == RunReport()
    documents = loader.lazy_load()
    next(documents)
    assert loader.report.images == 1
    assert len(list(documents)) == 2
    assert loader.report.statuses == {"ok": 3, "failed": 1}
    assert [failure.source for failure in loader.report.failures] == [str(folder / "b.JPG")]
    assert loader.report.requests == 3
    assert loader.report.usage.input_tokens > 0
    assert loader.report.cost_eur
    asyncio.run(loader.aload())
    assert loader.report.images == 4


@pytest.mark.usefixtures("environment")
def test_an_estimate_sends_nothing(folder: Path, server: Emulator) -> None:
    """`estimate` says what loading would take, by task, glob and frames, and sends nothing."""
    loader = AIFSImageLoader(folder, task="caption", glob="*.tif")
    estimate = loader.estimate()
    assert (estimate.images, estimate.requests) == (2, 2)
    assert estimate.cost_eur
    assert asyncio.run(loader.aestimate()).images == 2
    assert not server.requests
    loader.load()
    assert loader.report.requests == estimate.requests
    assert loader.report.usage.input_tokens == pytest.approx(estimate.input_tokens, rel=0.05)
    with pytest.raises(ImageNotFoundError):
        AIFSImageLoader("missing").estimate()


@pytest.mark.usefixtures("environment")
def test_an_iterator_is_read_once(server: Emulator) -> None:
    """Images of an iterator are loaded once; a second loading is an error, and not a folder that is empty."""
    loader = AIFSImageLoader(iter([PNG, saved(noise(20, 20))]))
    with pytest.raises(RuntimeError, match="give a list or a folder"):
        loader.estimate()
    with pytest.raises(RuntimeError, match="only once"):
        asyncio.run(loader.aestimate())
    assert len(loader.load()) == 2
    with pytest.raises(RuntimeError, match="list_iterator"):
        loader.load()
    with pytest.raises(RuntimeError, match="only once"):
        asyncio.run(loader.aload())
    assert len(server.requests) == 2
    listed = AIFSImageLoader([PNG])
    assert listed.load() == listed.load()


# -- Pickles, and leaving early ----------------------------------------------------------------------------


@pytest.mark.usefixtures("environment")
def test_loaders_and_parsers_are_pickled_without_the_key(folder: Path, server: Emulator) -> None:
    """A pickled loader or parser holds no key, and reads as the original does, also after a report."""
    loader = AIFSImageLoader(folder, task="ocr", glob="*.png", on_error="keep", api_key=server.api_key)
    parser = AIFSImageBlobParser(task="ocr", on_error="keep", channels="BGR", api_key=server.api_key)
    documents = loader.load()
    assert isinstance(loader, BaseLoader)
    for thing in (loader, parser):
        assert server.api_key.encode() not in pickle.dumps(thing)
    again: AIFSImageLoader = pickle.loads(pickle.dumps(loader))  # noqa: S301 - our own bytes
    assert again.report == RunReport()
    assert again.load() == documents
    other: AIFSImageBlobParser = pickle.loads(pickle.dumps(parser))  # noqa: S301 - our own bytes
    assert (other.task, other.on_error, other.channels) == (parser.task, "keep", "BGR")
    assert other.report == RunReport()


async def begin_and_leave(loader: AIFSImageLoader, leave: str, asked: Callable[[], bool]) -> None:
    """Loads until the requests are under way; then cancels the task that loads, or closes the generator."""
    documents = loader.alazy_load()
    await anext(documents)
    if leave == "aclose":
        await asyncio.to_thread(until, asked)
        await documents.aclose()  # type: ignore[attr-defined]
        return

    async def rest() -> list[Any]:
        return [document async for document in documents]

    loading = asyncio.ensure_future(rest())
    await asyncio.to_thread(until, asked)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("leave", ["cancel", "aclose", "close", "drop"])
def test_leaving_early_ends_the_requests(server: Emulator, leave: str) -> None:
    """A task that is cancelled, or a generator that is closed or dropped, ends what is under way and asks no more."""
    loader = AIFSImageLoader([saved(noise(20, 20, seed)) for seed in range(1, 60)], limits=Limits(in_flight=3))
    server.fail(200, body=ANSWER)
    server.fail("stall", times=100)

    def asked() -> bool:
        return len(server.requests) == 4

    if leave in {"cancel", "aclose"}:
        asyncio.run(begin_and_leave(loader, leave, asked))
    else:
        documents = loader.lazy_load()
        next(documents)
        until(asked)
        if leave == "close":
            documents.close()  # type: ignore[attr-defined]
        del documents
        gc.collect()
    until(lambda: all(request.finished is not None for request in server.requests))
    assert asked()


# -- Blobs -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("environment")
def test_blobs_by_path_and_bytes(folder: Path) -> None:
    """A blob is read by its path, or by its bytes under its source's name; each page is a Document."""
    parser = AIFSImageBlobParser(task="ocr")
    (by_path,) = parser.parse(Blob.from_path(folder / "a.png"))
    (loaded,) = AIFSImageLoader(folder, glob="*.png", task="ocr").load()
    assert by_path == loaded
    (by_bytes,) = parser.parse(Blob.from_data(PNG, metadata={"source": "upload"}))
    assert by_bytes.metadata["source"] == "upload"
    (nameless,) = parser.parse(Blob.from_data(PNG))
    assert nameless.metadata["source"].startswith("sha256:")
    assert [document.metadata["page"] for document in parser.parse(Blob.from_path(folder / "c.tif"))] == [1, 2]
    assert len(list(AIFSImageBlobParser(frames=1).lazy_parse(Blob.from_path(folder / "c.tif")))) == 2


@pytest.mark.usefixtures("environment")
def test_the_source_that_a_blob_names_is_its_name(folder: Path) -> None:
    """A blob that is a file, but names another source, has the Document of that source: the file may be temporary."""
    blob = Blob.from_path(folder / "a.png", metadata={"source": "s3://bucket/a.png"})
    (document,) = AIFSImageBlobParser().parse(blob)
    (named,) = AIFSImageLoader(("s3://bucket/a.png", PNG)).load()
    assert document == named


@pytest.mark.usefixtures("environment")
def test_the_metadata_of_a_blob_is_kept(folder: Path) -> None:
    """What a blob says of itself stands beside the reading's; what the reading says otherwise, under another name."""
    given = {"chapter": 3, "page": 7, "mime_type": "image/png", "model": "camera"}
    (document,) = AIFSImageBlobParser().parse(Blob.from_path(folder / "a.png", metadata=given))
    (loaded,) = AIFSImageLoader(folder, glob="*.png").load()
    assert document.metadata == {**loaded.metadata, "chapter": 3, "blob_page": 7, "blob_model": "camera"}


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("claimed", ["image/jpeg", "application/pdf", "text/plain", None])
def test_the_mime_type_of_a_blob_is_not_believed(server: Emulator, claimed: str | None) -> None:
    """The bytes say what a blob is: it is sent, and described, as what it is."""
    (document,) = AIFSImageBlobParser().parse(Blob.from_data(PNG, mime_type=claimed))
    assert document.metadata["mime_type"] == "image/png"
    assert server.requests[0].images[0][0] == "image/png"


@pytest.mark.usefixtures("environment")
def test_a_blob_that_is_no_picture() -> None:
    """A blob that cannot be read raises, is skipped, or is kept, so that one picture does not end a whole PDF."""
    for blob in (Blob.from_data(b"not a picture", mime_type="image/png"), Blob.from_data("text", mime_type="x/y")):
        with pytest.raises(ImageFormatError):
            AIFSImageBlobParser().parse(blob)
        assert AIFSImageBlobParser(on_error="skip").parse(blob) == []
        (kept,) = AIFSImageBlobParser(on_error="keep").parse(blob)
        assert (kept.page_content, kept.metadata["status"]) == ("", "failed")


@pytest.mark.usefixtures("environment")
def test_the_report_of_a_parser_adds_up(folder: Path) -> None:
    """`report` counts all blobs of a parser, those that were left after their first page as well."""
    parser = AIFSImageBlobParser(on_error="skip", limits=Limits(in_flight=1))
    assert parser.report == RunReport()
    parser.parse(Blob.from_path(folder / "a.png"))
    parser.parse(Blob.from_data(b"no picture"))
    assert next(parser.lazy_parse(Blob.from_path(folder / "c.tif"))).page_content
    gc.collect()
    report = parser.report
    assert report.statuses == {"ok": 2, "failed": 1}
    assert len(report.failures) == 1
    assert report.requests == 2
    assert report.models.keys() == {"Qwen3-VL-30B-A3B-Instruct-FP8"}
    assert report.cost_eur
