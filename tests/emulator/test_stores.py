"""The emulator's Visual RAG: files, vector stores, ingestion, search; over HTTP, without this project's client."""

from __future__ import annotations

import base64
import io
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from PIL import Image

from aifs_vision.emulator import Emulator
from tests.media import pdf
from tests.office import docx, html, pptx, zipped
from tests.pages import english_page, photo
from tests.pictures import corners, opened, saved
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

MODELS = {
    "text_embedding_model": "text-embedding-bge-m3",
    "vision_embedding_model": "tsi-embedding-colqwen2-2b-v1",
}
PNG = saved(corners())
CLOCK = "Upkeep of the tide clock came to 4,316 pounds in its first year."
FLOAT = "Mussels grew on the chain of the float, which is made of cork."


def page(text: str) -> str:
    """The content of a page of a PDF with this text."""
    return f"BT /F1 8 Tf 10 60 Td ({text}) Tj ET"


class Client:
    """The requests of the service's guide, by httpx."""

    def __init__(self, server: Emulator, key: str | None = None) -> None:
        self.http = httpx.Client(
            base_url=server.base_url.replace("/v2", "/v1"),
            headers={"Authorization": f"Bearer {key or server.api_key}"},
            trust_env=False,
            timeout=60,
        )

    def upload(self, name: str, data: bytes, **fields: str) -> httpx.Response:
        """Uploads a file."""
        return self.http.post("/files", data={"purpose": "visual-rag", **fields}, files={"file": (name, data)})

    def store(self, name: str = "s") -> str:
        """The id of a new store."""
        made = self.http.post("/vector_stores", json={"name": name, "chunking_strategy": MODELS})
        return str(made.json()["id"])

    def attach(self, store: str, file: str, **chunking: int) -> httpx.Response:
        """Puts a file into a store."""
        body: dict[str, Any] = {"file_id": file}
        if chunking:
            body["chunking_strategy"] = chunking
        return self.http.post(f"/vector_stores/{store}/files", json=body)

    def ingested(self, store: str) -> list[dict[str, Any]]:
        """The files of a store once none is in progress."""
        files: list[dict[str, Any]] = []

        def done() -> bool:
            files[:] = self.http.get(f"/vector_stores/{store}/files?limit=100").json()["data"]
            return all(file["status"] != "in_progress" for file in files)

        until(done)
        return files

    def filled(self, *files: tuple[str, bytes], **chunking: int) -> str:
        """A store with these files, ingested."""
        store = self.store()
        for name, data in files:
            answer = self.upload(name, data)
            assert answer.status_code == 200, answer.text
            self.attach(store, answer.json()["id"], **chunking)
        assert {file["status"] for file in self.ingested(store)} <= {"completed"}
        return store

    def search(self, store: str, query: str, **asked: Any) -> list[dict[str, Any]]:
        """The hits of a question."""
        answer = self.http.post(f"/vector_stores/{store}/search", json={"query": query, **asked})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["data"])


@pytest.fixture
def client(server: Emulator) -> Iterator[Client]:
    """A client of an emulator that recognises no text."""
    made = Client(server)
    with made.http:
        yield made


@pytest.fixture
def reader(aifs_emulator: Emulator) -> Iterator[Client]:
    """A client of an emulator that recognises text."""
    made = Client(aifs_emulator)
    with made.http:
        yield made


# -- Files and stores --------------------------------------------------------------------------------------


def test_files_are_uploaded_listed_told_and_deleted(client: Client) -> None:
    """A file is shown as OpenAI's API shows files, alone and in the list, until it is deleted."""
    made = client.upload('Übersicht "1".png', PNG).json()
    assert (made["object"], made["purpose"], made["bytes"]) == ("file", "visual-rag", len(PNG))
    assert made["filename"] == 'Übersicht "1".png'
    assert client.http.get(f"/files/{made['id']}").json() == made
    assert made in client.http.get("/files?limit=100&purpose=visual-rag").json()["data"]
    assert client.http.delete(f"/files/{made['id']}").json()["deleted"] is True
    assert client.http.get(f"/files/{made['id']}").status_code == 404


def test_stores_are_made_listed_told_and_deleted(client: Client) -> None:
    """A store is shown with its name and the counts of its files, until it is deleted; its files stay."""
    store, file = client.store("manuals"), client.upload("a.png", PNG).json()["id"]
    client.attach(store, file)
    client.ingested(store)
    told = client.http.get(f"/vector_stores/{store}").json()
    assert (told["object"], told["name"]) == ("vector_store", "manuals")
    assert told["file_counts"] == {"in_progress": 0, "completed": 1, "failed": 0, "cancelled": 0, "total": 1}
    assert told in client.http.get("/vector_stores?limit=100").json()["data"]
    assert client.http.delete(f"/vector_stores/{store}").json()["deleted"] is True
    assert client.http.get(f"/vector_stores/{store}").status_code == 404
    assert client.http.get(f"/files/{file}").status_code == 200


def test_lists_come_in_parts(client: Client) -> None:
    """A list has twenty entries, or `limit`, the newest first; `after` goes on behind one of them."""
    ids = [client.upload(f"{number}.png", PNG).json()["id"] for number in range(22)]
    first = client.http.get("/files").json()
    assert [file["id"] for file in first["data"]] == ids[:1:-1]
    assert (first["has_more"], first["last_id"]) == (True, ids[2])
    rest = client.http.get("/files", params={"after": ids[2], "limit": 2}).json()
    assert [file["id"] for file in rest["data"]] == [ids[1], ids[0]]
    for file in ids:
        client.http.delete(f"/files/{file}")


# -- Ingestion ---------------------------------------------------------------------------------------------


def test_a_file_is_in_progress_until_it_is_ingested(client: Client) -> None:
    """What is put into a store is in progress at first, and completed once the thread is done with it."""
    store, file = client.store(), client.upload("a.pdf", pdf(page(CLOCK), width=400)).json()["id"]
    made = client.attach(store, file, chunk_size=512, chunk_overlap=0).json()
    assert (made["object"], made["status"], made["last_error"]) == ("vector_store.file", "in_progress", None)
    assert made["chunking_strategy"] == {"chunk_size": 512, "chunk_overlap": 0}
    (ended,) = client.ingested(store)
    assert (ended["id"], ended["status"]) == (file, "completed")
    assert client.http.get(f"/vector_stores/{store}/files/{file}").json() == ended
    assert client.attach(store, file).json()["status"] == "completed"


ENCRYPTED = pdf(page("x")).replace(
    b"/Root 1 0 R",
    b"/Root 1 0 R /Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <"
    + b"41" * 32
    + b"> /U <"
    + b"42" * 32
    + b"> >> /ID [<01><02>]",
)
DAMAGED = {
    "cut.pdf": b"%PDF-1.7 and nothing else",
    "secret.pdf": ENCRYPTED,
    "cut.png": PNG[:60],
    "bomb.docx": zipped({"word/document.xml": '<!DOCTYPE w [<!ENTITY a "b">]><w>&a;</w>'}),
    "torn.docx": zipped({"word/document.xml": "<w:document>"}),
    "empty.pptx": zipped({"ppt/presentation.xml": "<p/>"}),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_that_cannot_be_read_has_failed(client: Client, name: str) -> None:
    """A file that is not what its first bytes say ends as failed, with words, and others are not harmed."""
    store = client.store()
    for each, data in ((name, DAMAGED[name]), ("good.png", PNG)):
        client.attach(store, client.upload(each, data).json()["id"])
    good, bad = client.ingested(store)
    assert good["status"] == "completed"
    assert bad["status"] == "failed"
    assert bad["last_error"]["code"] == "invalid_file"
    assert bad["last_error"]["message"]


# -- Search ------------------------------------------------------------------------------------------------

DOCUMENTS = {
    "a.pdf": pdf(page("A first page about ferries."), page(CLOCK), width=400),
    "a.docx": docx("A first page about ferries.", CLOCK),
    "a.pptx": pptx("A first slide about ferries.", CLOCK),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_text_is_found_with_its_page(client: Client, name: str) -> None:
    """The passages of PDF, DOCX and PPTX files are found by what is asked, with file name, page and score."""
    store = client.filled((name, DOCUMENTS[name]))
    first, second = client.search(store, "What did the upkeep of the clock cost?", top_k_texts=5)
    assert first["content"] == [{"type": "text", "text": CLOCK}]
    assert (first["filename"], first["page_number"]) == (name, 2)
    assert 1 >= first["score"] > second["score"]
    assert second["page_number"] == 1


def test_a_web_page_is_its_visible_text(client: Client) -> None:
    """Of an HTML page scripts and styles are not found, and its own character set is used."""
    store = client.filled(
        ("a.html", html("Die Mühle an der Ems", charset="latin-1")), ("b.htm", b"<html>" + CLOCK.encode())
    )
    hits = client.search(store, "Which mill stands on the river?", top_k_texts=5)
    assert {hit["content"][0]["text"] for hit in hits} == {"Die Mühle an der Ems", CLOCK}


def test_pictures_of_pages_are_data_uris(client: Client) -> None:
    """Each page of a PDF, and a PNG, has a picture, which comes as a data URI of a PNG."""
    store = client.filled(("a.pdf", pdf("1 0 0 rg 0 0 400 100 re f", page(CLOCK), width=400)), ("b.png", PNG))
    hits = client.search(store, "What did the upkeep of the clock cost?", top_k_images=9)
    assert {(hit["filename"], hit["page_number"]) for hit in hits} == {("a.pdf", 1), ("a.pdf", 2), ("b.png", 1)}
    assert {hit["content"][0]["type"] for hit in hits} == {"base64"}
    assert (hits[0]["filename"], hits[0]["page_number"]) == ("a.pdf", 2)
    uris = {(hit["filename"], hit["page_number"]): hit["content"][0]["text"] for hit in hits}
    red = opened(base64.b64decode(uris["a.pdf", 1].removeprefix("data:image/png;base64,")))
    assert red.getpixel((red.width // 2, red.height // 2)) == (255, 0, 0)
    assert uris["b.png", 1] == "data:image/png;base64," + base64.b64encode(PNG).decode()


WRITTEN = {
    "a.docx": (docx("Übersicht der Mühlen.", CLOCK, " "), ["Übersicht der Mühlen.", CLOCK]),
    "a.pptx": (pptx("Übersicht der Mühlen.", CLOCK, " "), ["Übersicht der Mühlen.", CLOCK]),
    "a.html": (html(f"Übersicht der Mühlen. {CLOCK}"), [f"Übersicht der Mühlen. {CLOCK}"]),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_pages_without_a_layout_are_pictures_of_their_text(reader: Client, name: str) -> None:
    """Each page of DOCX, PPTX and HTML with a text has a picture in which it can be read, and which says what it is."""
    data, texts = WRITTEN[name]
    store = reader.filled((name, data))
    hits = reader.search(store, "What did the upkeep of the clock cost?", top_k_images=9)
    assert sorted(hit["page_number"] for hit in hits) == list(range(1, len(texts) + 1))
    assert hits[0]["page_number"] == len(texts)
    for hit in hits:
        picture = png_of(hit)
        assert "drawn by aifs-emulator from the text" in picture.info["Comment"]
        assert (picture.width > picture.height) == (name == "a.pptx")
        above = saved(picture.crop((0, 0, picture.width, 180)))  # less to recognise
        (read,) = reader.search(reader.filled(("page.png", above)), "?", top_k_texts=9)
        assert " ".join(read["content"][0]["text"].split()) == texts[hit["page_number"] - 1]


def test_a_picture_of_a_long_text_says_that_it_goes_on(reader: Client) -> None:
    """What has no place on the picture is left out, which its last line says; the text is found as a whole."""
    lines = [f"line {number}" for number in range(80)]
    store = reader.filled(("a.html", "<html>{}".format("<p>".join(lines)).encode()))
    text, hit = reader.search(store, "line", top_k_texts=1, top_k_images=1)
    assert text["content"][0]["text"].splitlines() == lines
    below = saved(png_of(hit).crop((0, 1130, 877, 1240)))
    (read,) = reader.search(reader.filled(("page.png", below)), "?", top_k_texts=9)
    assert read["content"][0]["text"] == "[The text goes on.]"


def test_a_picture_is_found_by_what_is_drawn(client: Client) -> None:
    """What of a long text has no place on the picture is no reason to find it: equal pictures are found alike."""
    lines = "<p>".join(f"line {number}" for number in range(80))
    pages = ((f"{word}.html", f"<html>{lines}<p>The {word}".encode()) for word in ("ferry", "mussels"))
    first, second = client.search(client.filled(*pages), "mussels", top_k_images=9)
    assert first["content"] == second["content"]
    assert first["score"] == second["score"]


def png_of(hit: dict[str, Any]) -> Image.Image:
    """The picture of a hit."""
    return opened(base64.b64decode(hit["content"][0]["text"].removeprefix("data:image/png;base64,")))


def test_a_picture_is_found_by_its_looks(client: Client) -> None:
    """A picture without any text is found by what is measured of it: there is a description in its vector."""
    pages = {name: saved(Image.new("RGB", (300, 200), name)) for name in ("red", "green", "blue")}
    store = client.filled(*((f"{name}.png", data) for name, data in pages.items()))
    (hit,) = client.search(store, "a picture, mainly blue", top_k_images=1)
    assert hit["filename"] == "blue.png"


def test_pages_without_a_text_layer_are_read(reader: Client) -> None:
    """The text of a PNG, and of a scanned page of a PDF, is recognised; of a PDF with text it is taken as it is."""
    scan = io.BytesIO()
    english_page(pixels=1200).image.save(scan, "PDF", quality=92, resolution=100)
    store = reader.filled(("scan.pdf", scan.getvalue()), ("photo.png", saved(photo().image)))
    hits = reader.search(store, "What grew on the chain of the float?", top_k_texts=9)
    assert {hit["filename"] for hit in hits} == {"scan.pdf"}
    assert "mussels had grown on its chain" in " ".join(hits[0]["content"][0]["text"].split())


def test_texts_are_cut_into_passages_that_overlap(client: Client) -> None:
    """No passage has more tokens than chunk_size, the end of each is the start of the next, and no word is lost."""
    words = [f"word{number:03d}" for number in range(60)]  # two tokens each
    store = client.filled(("a.html", html(" ".join(words))), chunk_size=20, chunk_overlap=4)
    hits = client.search(store, "word000", top_k_texts=20)
    passages = sorted(hit["content"][0]["text"].split() for hit in hits)
    assert [len(passage) for passage in passages] == [10] * 7 + [4]
    assert all(one[-2:] == next_[:2] for one, next_ in pairwise(passages))
    assert {word for passage in passages for word in passage} == set(words)


def test_texts_come_before_pictures_and_no_more_than_asked_for(client: Client) -> None:
    """Texts come first, then pictures, each kind with the nearest first; a number that is not sent is none."""
    store = client.filled(("a.pdf", pdf(page(CLOCK), page(FLOAT), width=400)))
    both = client.search(store, "float of cork", top_k_texts=2, top_k_images=1)
    assert [hit["content"][0]["type"] for hit in both] == ["text", "text", "base64"]
    assert [hit["page_number"] for hit in both] == [2, 1, 2]
    assert len(client.search(store, "float", top_k_texts=1)) == 1


def test_what_is_deleted_is_not_found(client: Client) -> None:
    """A file that is taken out of a store, or deleted altogether, is not found in it any more."""
    store = client.filled(("a.html", html(CLOCK)), ("b.html", html(FLOAT)), ("c.html", html("Gulls")))
    newest = client.http.get("/files?limit=3").json()["data"]
    by_name = {file["filename"]: file["id"] for file in newest}
    assert client.http.delete(f"/vector_stores/{store}/files/{by_name['a.html']}").json()["deleted"] is True
    client.http.delete(f"/files/{by_name['b.html']}")
    assert {hit["filename"] for hit in client.search(store, "clock", top_k_texts=9)} == {"c.html"}
    assert client.http.get(f"/files/{by_name['a.html']}").status_code == 200


def test_what_is_kept_lives_as_long_as_the_server() -> None:
    """Files and stores are there for every client, and clear() leaves them; another server has none of them."""
    with Emulator(ocr=False) as server:
        with Client(server).http as http:
            client = Client(server)
            store = client.filled(("a.html", html(CLOCK)))
            server.clear()
            assert http.get(f"/vector_stores/{store}").status_code == 200
            client.http.close()
        with Emulator(ocr=False) as other, Client(other).http as http:
            assert http.get("/files").json()["data"] == []
            assert http.get("/vector_stores").json()["data"] == []


# -- Strictness, faults, log -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "fields", "words"),
    [
        ("a.png", PNG, {"purpose": "assistants"}, "purpose"),
        ("a.png", PNG, {"expires": "never"}, "Unrecognized"),
        ("a.jpg", saved(corners(), "JPEG"), {}, "not supported"),
        ("a.txt", b"plain text", {}, "not supported"),
        ("a.xlsx", zipped({"xl/workbook.xml": "<x/>"}), {}, "not supported"),
        ("a.docx", b"PK\3\4 no archive", {}, "not supported"),
        ("a.pdf", PNG, {}, "its name says otherwise"),
        ("", PNG, {}, "body.file"),
    ],
)
def test_files_that_the_service_does_not_take(
    client: Client, name: str, data: bytes, fields: dict[str, str], words: str
) -> None:
    """Another purpose, another field, another format, a name that lies, and no name: 400, with words."""
    answer = client.upload(name, data, **fields)
    assert (answer.status_code, words in answer.json()["detail"]) == (400, True), answer.text


def test_an_upload_is_a_form(client: Client) -> None:
    """A body that is no form, or has no end, is refused."""
    assert client.http.post("/files", json={"purpose": "visual-rag"}).status_code == 400
    headers = {"content-type": "multipart/form-data; boundary=x"}
    torn = b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nvisual-rag'
    assert "no end" in client.http.post("/files", content=torn, headers=headers).json()["detail"]


REFUSED: dict[str, tuple[str, dict[str, Any], int]] = {
    "no name": ("/vector_stores", {"chunking_strategy": MODELS}, 400),
    "no models": ("/vector_stores", {"name": "s"}, 400),
    "one model": ("/vector_stores", {"name": "s", "chunking_strategy": {**MODELS, "vision_embedding_model": ""}}, 400),
    "no such model": (
        "/vector_stores",
        {"name": "s", "chunking_strategy": {**MODELS, "text_embedding_model": "gpt-4.1"}},
        404,
    ),
    "no such vision model": (
        "/vector_stores",
        {"name": "s", "chunking_strategy": {**MODELS, "vision_embedding_model": "text-embedding-bge-m3"}},
        404,
    ),
    "another field": ("/vector_stores", {"name": "s", "chunking_strategy": MODELS, "file_ids": []}, 400),
    "no file": ("{store}/files", {}, 400),
    "no such file": ("{store}/files", {"file_id": "file-0"}, 404),
    "overlap": ("{store}/files", {"file_id": "x", "chunking_strategy": {"chunk_size": 9, "chunk_overlap": 9}}, 400),
    "chunks": ("{store}/files", {"file_id": "x", "chunking_strategy": {"chunk_size": 0}}, 400),
    "static": ("{store}/files", {"file_id": "x", "chunking_strategy": {"type": "static"}}, 400),
    "no store": ("/vector_stores/vs_0/search", {"query": "x", "top_k_texts": 1}, 404),
    "no query": ("{store}/search", {"query": " ", "top_k_texts": 1}, 400),
    "nothing wanted": ("{store}/search", {"query": "x", "top_k_texts": 0}, 400),
    "below zero": ("{store}/search", {"query": "x", "top_k_texts": 1, "top_k_images": -1}, 400),
    "no number": ("{store}/search", {"query": "x", "top_k_texts": "3"}, 400),
    "OpenAI's field": ("{store}/search", {"query": "x", "top_k_texts": 1, "max_num_results": 3}, 400),
}


@pytest.mark.parametrize("case", REFUSED)
def test_requests_that_the_service_does_not_take(client: Client, case: str) -> None:
    """Fields that are missing, unknown or wrong are refused, as are models and ids that there are not."""
    path, body, status = REFUSED[case]
    answer = client.http.post(path.format(store=f"/vector_stores/{client.store()}"), json=body)
    assert (answer.status_code, bool(answer.json()["detail"])) == (status, True)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("{store}/search", rb'{"query": "half \ud83d", "top_k_texts": 1}'),
        ("{store}/files", rb'{"file_id": "\udc00"}'),
        ("/vector_stores", rb'{"name": "\ud83d", "chunking_strategy": {}}'),
    ],
)
def test_half_a_character_is_refused(client: Client, path: str, body: bytes) -> None:
    """JSON can have half of a character, which no text has: 400, and not an error of the emulator."""
    headers = {"content-type": "application/json"}
    url = path.format(store=f"/vector_stores/{client.store()}")
    answer = client.http.post(url, content=body, headers=headers)
    assert (answer.status_code, "valid Unicode" in answer.json()["detail"]) == (400, True)


def test_ids_and_parameters_that_there_are_not(client: Client) -> None:
    """An unknown id is 404, an unknown query parameter and a limit out of range are 400, a strange path is 404."""
    store = client.store()
    for path in ("/files/x", "/vector_stores/x", "/vector_stores/x/files", f"/vector_stores/{store}/files/x", "/x"):
        assert client.http.get(path).status_code == 404, path
    for path in ("/files/x", "/vector_stores/x", f"/vector_stores/{store}/files/x"):
        assert client.http.delete(path).status_code == 404, path
    for query in ("order=asc", "limit=0", "limit=101", "limit=x", "after=x"):
        assert client.http.get(f"/files?{query}").status_code == 400, query


def test_keys_faults_and_log_are_those_of_the_rest(client: Client, server: Emulator) -> None:
    """Another key is 401, scripted faults are met, and each request is logged, an upload without its bytes."""
    with Client(server, key="wrong").http as http:
        assert http.get("/files").status_code == 401
    server.fail(503, path="/vector_stores")
    assert client.http.get("/vector_stores").json() == {"detail": "scripted fault 503"}
    client.upload("a.png", PNG)
    assert [(request.path, request.status) for request in server.requests] == [
        ("/v1/files", 401),
        ("/v1/vector_stores", 503),
        ("/v1/files", 200),
    ]
    assert server.requests[-1].body == {"purpose": "visual-rag", "filename": "a.png", "bytes": len(PNG)}
