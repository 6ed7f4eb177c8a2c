"""A Visual RAG store: failures, doubles, deleting, stores by name, settings."""

from __future__ import annotations

import asyncio
import copy
import inspect
import logging
import pickle
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest

from aifs_vision import (
    AIFSVisualRAGStore,
    APIError,
    AuthenticationError,
    BadRequestError,
    ImageFormatError,
    Limits,
    NotFoundError,
    PermissionDeniedError,
    ResidencyError,
    SettingsError,
)
from aifs_vision.testing import virtual_time
from tests.office import html
from tests.pictures import corners, saved
from tests.poison import POISON

if TYPE_CHECKING:
    from aifs_vision.emulator import Emulator

PNG = saved(corners())
CLOCK, FLOAT = html("Upkeep of the tide clock"), html("Mussels on the float")
CUT = b"%PDF-1.7 cut off"
LONG = 1e6  # seconds in virtual time, while a real emulator ingests in real time


def raw(server: Emulator) -> httpx.Client:
    """A plain client, as somebody else may use the service."""
    headers = {"Authorization": f"Bearer {server.api_key}"}
    return httpx.Client(base_url=server.base_url.replace("/v2", "/v1"), headers=headers, trust_env=False)


def everything(server: Emulator) -> list[dict[str, Any]]:
    """All files that the service has."""
    with raw(server) as http:
        return [dict(file) for file in http.get("/files?limit=100").json()["data"]]


def put_by_others(server: Emulator, store: AIFSVisualRAGStore, name: str, data: bytes = FLOAT) -> str:
    """Somebody else uploads a file, and puts it into the store; its id, once it is ingested."""
    with raw(server) as http:
        form: dict[str, Any] = {"data": {"purpose": "visual-rag"}, "files": {"file": (name, data)}}
        file = str(http.post("/files", **form).json()["id"])
        (own,) = [s["id"] for s in http.get("/vector_stores?limit=100").json()["data"] if s["name"] == store.name]
        told = http.post(f"/vector_stores/{own}/files", json={"file_id": file}).json()
        while told["status"] == "in_progress":
            told = http.get(f"/vector_stores/{own}/files/{file}").json()
    return file


# -- Failures ----------------------------------------------------------------------------------------------


def test_failures_are_raised_left_out_or_kept(store: AIFSVisualRAGStore, caplog: pytest.LogCaptureFixture) -> None:
    """A file that cannot be read, or not be ingested, harms no other: raised first, skipped and logged, or kept."""
    sources = [("good.html", CLOCK), ("cut.pdf", CUT), ("text.txt", b"text"), ("fine.html", FLOAT)]
    with pytest.raises(ImageFormatError, match=r"text\.txt"):
        store.add(sources)
    with pytest.raises(BadRequestError, match=r"'cut\.pdf'"):
        store.add([*sources[:2], sources[3]])
    with caplog.at_level(logging.WARNING, "aifs_vision"):
        assert [file.filename for file in store.add(sources, on_error="skip")] == ["good.html", "fine.html"]
    assert [record.message.split()[0] for record in caplog.records] == ["cut.pdf", "text.txt"]
    kept = store.add(sources, on_error="keep")
    assert [file.source for file in kept] == [name for name, _ in sources]
    assert [file.status for file in kept] == ["completed", "failed", "failed", "completed"]
    assert [type(file.error) for file in kept] == [type(None), BadRequestError, ImageFormatError, type(None)]
    with pytest.raises(SettingsError, match="on_error='ignore'"):
        store.add(sources, on_error="ignore")  # type: ignore[arg-type]


def test_what_has_failed_is_tried_again(server: Emulator, store: AIFSVisualRAGStore) -> None:
    """A file whose ingestion has failed is uploaded anew by the next add, and its old one deleted."""
    (first,) = store.add(("cut.pdf", CUT), on_error="keep")
    (second,) = store.add(("cut.pdf", CUT), on_error="keep")
    assert first.id != second.id
    assert [file.id for file in store.files()] == [second.id]
    assert first.id not in {file["id"] for file in everything(server)}


@pytest.mark.parametrize(("status", "kind"), [(401, AuthenticationError), (403, PermissionDeniedError)])
def test_a_key_that_may_not_ends_everything(
    server: Emulator, store: AIFSVisualRAGStore, status: int, kind: type[APIError]
) -> None:
    """401 and 403 are raised whatever `on_error` says, and the other files are not tried."""
    store.add([])
    server.clear()
    server.fail("none", path="/v1/files")
    server.fail(status, times=99, path="/v1/files")
    with pytest.raises(kind):
        store.add([(f"{n}.html", html(str(n))) for n in range(20)], on_error="keep")
    assert len(server.requests) <= 3 + 4  # what there is, and those under way


@pytest.mark.parametrize("fault", [500, 503, "reset", "html", 429])
def test_passing_faults_are_tried_again(server: Emulator, store: AIFSVisualRAGStore, fault: Any) -> None:
    """Every request goes through the project's transport: what may pass is tried again, with no sign of it."""
    server.fail(fault, times=2, retry_after=0.001)
    with virtual_time():
        store.add(("clock.html", CLOCK), timeout=LONG)
        server.fail(fault, times=2, retry_after=0.001)
        assert store.search("clock")


def test_an_upload_whose_answer_is_lost_leaves_no_double(server: Emulator, store: AIFSVisualRAGStore) -> None:
    """An upload is tried again although the service may have the file; the double is deleted at once."""
    server.fail("none", path="/v1/files")
    server.fail("reset_body", times=2, path="/v1/files")
    with virtual_time():
        (file,) = store.add(("clock.html", CLOCK), timeout=LONG)
    assert [each["id"] for each in everything(server) if each["filename"].startswith("clock.html.")] == [file.id]


def test_a_run_that_broke_off_is_gone_on_with(server: Emulator, store: AIFSVisualRAGStore) -> None:
    """What was uploaded and never put into the store is found by the next add, and its doubles are deleted."""
    server.fail("none", path="/v1/files")
    server.fail("reset_body", times=4, path="/v1/files")
    with virtual_time(), pytest.raises(APIError):
        store.add(("lost.html", CLOCK))
    assert len([each for each in everything(server) if each["filename"].startswith("lost.html.")]) == 4
    server.clear()
    (file,) = store.add(("lost.html", CLOCK))
    assert file.change == "added"
    assert ("POST", "/v1/files") not in {(request.method, request.path) for request in server.requests}
    assert [each["id"] for each in everything(server) if each["filename"].startswith("lost.html.")] == [file.id]


def test_doubles_of_two_processes_become_one(server: Emulator, store: AIFSVisualRAGStore) -> None:
    """A content that two processes have added at the same moment is found once after the next add."""
    store.add(("clock.html", CLOCK))
    (name,) = [file["filename"] for file in everything(server)][:1]
    put_by_others(server, store, name, CLOCK)
    assert len(store.files()) == 2
    assert [file.change for file in store.add(("clock.html", CLOCK))] == ["unchanged"]
    assert len(store.search("clock")) == len(store.files()) == 1


# -- Files and stores --------------------------------------------------------------------------------------


def test_files_are_deleted_by_name_source_or_entry(server: Emulator, store: AIFSVisualRAGStore) -> None:
    """A deleted file is in the store no more, nor anywhere; one that is not there is an error that deletes nothing."""
    names = ["docs/a.html", "b.html", "c.html", "d.html"]
    files = store.add([(name, html(name)) for name in names])
    with pytest.raises(NotFoundError, match=r"There is no file 'z\.html' in the store"):
        store.delete("b.html", "z.html")
    assert len(store.files()) == 4
    gone = store.delete("docs/a.html", "b.html", files[2])
    assert [file.filename for file in gone] == ["a.html", "b.html", "c.html"]
    assert [file.filename for file in store.files()] == ["d.html"]
    assert not {file.id for file in gone} & {file["id"] for file in everything(server)}


def test_of_files_with_one_name_the_one_that_is_meant_is_deleted(store: AIFSVisualRAGStore) -> None:
    """A name that is a source is that one alone; one that several sources have is an error that names their ids."""
    names = ["report.html", "a/report.html", "b/report.html", "b/other.html"]
    first, second, third, _ = store.add([(name, html(name)) for name in names])
    assert [file.id for file in store.delete("report.html")] == [first.id]
    with pytest.raises(SettingsError, match=r"files='report\.html' is not possible: several files") as caught:
        store.delete("other.html", "report.html")
    assert all(file.id in str(caught.value) for file in (second, third))
    assert len(store.files()) == 3
    assert [file.id for file in store.delete("b/report.html", "other.html")][:1] == [third.id]
    assert [file.id for file in store.delete("report.html")] == [second.id]


def test_a_source_comes_before_somebody_elses_file_of_that_name(server: Emulator, store: AIFSVisualRAGStore) -> None:
    """A file that somebody else has put there under the name of a source stays; it is deleted by its id, or alone."""
    store.add(("theirs.html", CLOCK))
    theirs = put_by_others(server, store, "theirs.html")
    assert theirs not in {file.id for file in store.delete("theirs.html")}
    assert [file.id for file in store.delete("theirs.html")] == [theirs]


def test_what_is_gone_already_is_deleted(server: Emulator, store: AIFSVisualRAGStore) -> None:
    """A deletion whose answer was lost is tried again, and the 404 it then meets is no error."""
    (file,) = store.add(("clock.html", CLOCK))
    server.fail("reset_body", times=2, path=f"/files/{file.id}")
    with virtual_time():
        assert store.delete(file)[0].id == file.id
    assert store.files() == []


def test_files_of_others_are_listed_and_kept(server: Emulator, store: AIFSVisualRAGStore) -> None:
    """What somebody else has put into the store is listed and found under its name, and outlives the store."""
    store.add(("clock.html", CLOCK))
    theirs = put_by_others(server, store, "theirs.html")
    store.add(("clock.html", FLOAT))
    assert sorted(file.filename for file in store.files()) == ["clock.html", "theirs.html"]
    assert {hit.filename for hit in store.search("float")} == {"clock.html", "theirs.html"}
    store.drop()
    left = {file["id"]: file["filename"] for file in everything(server)}
    assert left[theirs] == "theirs.html"
    assert "clock.html" not in str(left)


def test_a_store_is_made_by_the_first_add_alone(server: Emulator, store: AIFSVisualRAGStore) -> None:
    """Looking into a store that is not there makes none: it has no files, dropping it does nothing, a search fails."""
    assert store.files() == []
    store.drop()
    with pytest.raises(NotFoundError, match=rf"There is no store '{store.name}' at http.*/v1; add\(\) makes it"):
        store.search("clock")
    assert {request.method for request in server.requests} == {"GET"}
    assert store.add([]) == []
    assert store.search("clock") == []


def test_a_store_is_found_again_after_others_have_made_it_anew(server: Emulator, store: AIFSVisualRAGStore) -> None:
    """A store that somebody has dropped and made again is searched, one that is gone is an error."""
    other = AIFSVisualRAGStore(store.name, api_key=server.api_key, base_url=server.base_url)
    store.add(("clock.html", CLOCK))
    assert store.search("clock")
    other.drop()
    other.add(("float.html", FLOAT))
    assert [hit.filename for hit in store.search("clock")] == ["float.html"]
    other.drop()
    with pytest.raises(NotFoundError, match="There is no store"):
        store.search("clock")


def test_stores_made_at_the_same_time_are_one(server: Emulator) -> None:
    """Of stores that several make at once under one name, or whose answer was lost, one is left."""
    name = f"race {uuid4().hex[:6]}"
    server.fail("none", path="/vector_stores")
    server.fail("reset_body", path="/vector_stores")
    with virtual_time():
        made = AIFSVisualRAGStore(name, api_key=server.api_key, base_url=server.base_url)
        made.add(("clock.html", CLOCK), timeout=LONG)
    with raw(server) as http:
        assert [s["name"] for s in http.get("/vector_stores?limit=100").json()["data"]].count(name) == 1
    store = AIFSVisualRAGStore(name, api_key=server.api_key, base_url=server.base_url)
    assert [file.filename for file in store.files()] == ["clock.html"]
    store.drop()


def test_long_lists_are_read_to_their_end(server: Emulator, store: AIFSVisualRAGStore) -> None:
    """A store of more files than the service lists at once is known as a whole."""
    pages = [(f"{n}.html", html("") + f"<!-- {n} -->".encode()) for n in range(103)]  # nothing to embed
    files = store.add(pages)
    assert len(store.files()) == len({file.id for file in files}) == 103
    server.clear()
    assert {file.change for file in store.add(pages[::7])} == {"unchanged"}


# -- Synchronous, asynchronous, settings -------------------------------------------------------------------

TWINS = ["add", "files", "delete", "drop", "search"]


def test_every_call_has_its_asynchronous_twin(store: AIFSVisualRAGStore) -> None:
    """Both take the same and do the same, from any number of loops."""
    for name in TWINS:
        one, other = getattr(AIFSVisualRAGStore, name), getattr(AIFSVisualRAGStore, f"a{name}")
        assert inspect.signature(one) == inspect.signature(other)

    async def all_of_it() -> list[str]:
        await store.aadd([("clock.html", CLOCK), ("float.html", FLOAT)])
        hits, others = await asyncio.gather(store.asearch("clock"), store.asearch("clock"))
        assert hits == others
        assert len(hits) == 2
        await store.adelete("float.html")
        names = [file.filename for file in await store.afiles()]
        await store.adrop()
        return names

    for _ in range(2):
        assert asyncio.run(all_of_it()) == ["clock.html"]


def test_settings_are_those_of_the_rest(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Key and address come from the environment, other services' variables change nothing, and all goes to /v1."""
    for name, value in POISON.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="AIFS_API_KEY"):
        AIFSVisualRAGStore("x")
    monkeypatch.setenv("AIFS_API_KEY", server.api_key)
    for end in ("/v2", "/queue", "/v1", ""):
        monkeypatch.setenv("AIFS_BASE_URL", server.base_url.replace("/v2", end))
        assert AIFSVisualRAGStore("x").base_url == server.base_url.replace("/v2", "/v1")
    assert AIFSVisualRAGStore("nobody's").files() == []
    for request in server.requests:
        assert request.headers["authorization"] == f"Bearer {server.api_key}"
        assert "poison" not in str(request.headers).lower()
    for wrong in (
        {"name": ""},
        {"name": 7},
        {"name": "half \ud83d"},
        {"chunk_size": 0},
        {"chunk_overlap": 1024},
        {"timeout": 0},
        {"limits": 5},
    ):
        with pytest.raises(SettingsError):
            AIFSVisualRAGStore(**{"name": "x", **wrong})  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        AIFSVisualRAGStore("x", chunksize=3)  # type: ignore[call-arg]


def test_residency_is_kept_to(server: Emulator) -> None:
    """Both models must be where the residency wants them, known to be so, before anything is sent."""
    given: dict[str, Any] = {"api_key": server.api_key, "base_url": server.base_url, "residency": "germany"}
    assert AIFSVisualRAGStore("x", **given).residency == "germany"
    with pytest.raises(ResidencyError, match="text-embedding-ada-002"):
        AIFSVisualRAGStore("x", text_embedding_model="text-embedding-ada-002", **given)
    with pytest.raises(ResidencyError, match="its region is not known"):
        AIFSVisualRAGStore("x", vision_embedding_model="some-other-model", **given)
    assert not server.requests


def test_models_and_chunks_are_those_that_were_chosen(server: Emulator) -> None:
    """A store is made with its models, and each file put into it with the size and overlap of passages."""
    store = AIFSVisualRAGStore(
        f"chosen {uuid4().hex[:6]}",
        api_key=server.api_key,
        base_url=server.base_url,
        text_embedding_model="jina-embeddings-v2-base-de",
        chunk_size=300,
        chunk_overlap=20,
        limits=Limits(in_flight=1),
    )
    store.add(("clock.html", CLOCK))
    bodies = [request.body for request in server.requests if request.method == "POST"]
    models = {
        "text_embedding_model": "jina-embeddings-v2-base-de",
        "vision_embedding_model": "tsi-embedding-colqwen2-2b-v1",
    }
    assert bodies[0] == {"name": store.name, "chunking_strategy": models}
    assert bodies[-1]["chunking_strategy"] == {"chunk_size": 300, "chunk_overlap": 20}
    store.drop()


def test_the_key_is_shown_nowhere(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither repr nor pickle nor errors have the key; whoever unpickles it takes it from its own environment."""
    store = AIFSVisualRAGStore(
        "secret", api_key="sk-very-secret", base_url=server.base_url, chunk_size=64, chunk_overlap=8
    )
    with pytest.raises(AuthenticationError) as caught:
        store.search("x")
    for shown in (repr(store), str(caught.value), repr(vars(caught.value)), str(pickle.dumps(store))):
        assert "sk-very-secret" not in shown
    assert copy.deepcopy(store) is store
    dumped = pickle.dumps(store)
    with pytest.raises(SettingsError, match="AIFS_API_KEY"):
        pickle.loads(dumped)  # noqa: S301 - our own
    monkeypatch.setenv("AIFS_API_KEY", server.api_key)
    loaded = pickle.loads(dumped)  # noqa: S301 - our own
    assert (loaded.name, loaded.base_url, loaded.files()) == ("secret", store.base_url, [])
