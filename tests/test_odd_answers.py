"""Answers of the odd kind, and what is told of them: nothing unexpected becomes a text, nothing is counted twice."""

from __future__ import annotations

import base64
import json
import textwrap
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydantic import BaseModel, field_validator

from aifs_vision import AIFSError, AuthenticationError, BudgetError, Limits, Task, Vision
from aifs_vision.testing import virtual_time
from tests.pictures import corners, saved
from tests.service import Service, answer, json_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from aifs_vision import Reading, RunReport

PNG = saved(corners())
KEY = "a-key-that-nobody-may-see"


def client(**options: Any) -> Vision:
    """A client of the service in memory."""
    settings = {"base_url": "http://service.example/v2", "api_key": KEY, "limits": Limits(), **options}
    return Vision(**settings)


def page(*lines: str) -> bytes:
    """A white page with these lines of print."""
    sheet = Image.new("L", (1000, 700), 255)
    for number, line in enumerate(part for given in lines for part in textwrap.wrap(given, 55)):
        ImageDraw.Draw(sheet).text((60, 60 + 50 * number), line, 0, ImageFont.load_default(30))
    return saved(sheet)


def said(message: Any, picture: bytes = PNG, task: str | Task = "ocr", **options: Any) -> tuple[Reading, RunReport]:
    """The reading of a picture of which the model says so, and the report."""
    whole = answer(message) if isinstance(message, str) else message
    with virtual_time(Service(latency=0.01, reply=lambda _: httpx.Response(200, content=json_bytes(whole)))):
        run = client(**options).read_many([("a.png", picture)], task, on_error="keep")
        (reading,) = run
        return reading, run.report


TEXTS = [
    "I can't answer the phone right now. Please leave a message.",
    "Ich kann morgen nicht arbeiten, ich bin krank.",
    "I am unable to attend on Monday. Please provide another date.",
    "No image available",
    "Hey, I can't see the picture you sent",
    "I can't help you with that, sorry. Ask Peter!",
    "Leider kann ich Ihnen dabei nicht weiterhelfen. Bitte wenden Sie sich an Frau Schulz.",
    "Out of office: I cannot answer your request until Monday.",
    "Error: No file was uploaded.",
    "Claim 4711: no photo was attached.",
    "Ich kann das Foto leider nicht sehen",
    "I do not have the ability to process refunds.",
    "I see no text messages from him.",
    "There is no text on the back of this receipt",
    "Wir können Ihnen dabei leider nicht helfen, da das Gerät älter als zwei Jahre ist.",
]
REFUSALS = [
    "I'm sorry, but I can't assist with that.",
    "I cannot help with this request.",
    "I'm unable to transcribe the text of this image.",
    "I don't see any image attached. Please upload the image.",
    "No image was provided.",
    "I do not have the ability to view images.",
    "Es wurde kein Bild bereitgestellt.",
    "Unable to process the image.",
    "Dabei kann ich leider nicht helfen.",
    "It looks like you haven't uploaded an image. Please provide the image.",
    "Please provide the image you would like me to transcribe.",
    "The image is too blurry to read.",
    "I can't reproduce the text from this image verbatim because it may be copyrighted.",
    "I must decline this request.",
    "Sorry, I can't do that.",
    "Ich sehe kein Bild. Bitte lade es hoch.",
    "Ich bin nicht in der Lage, Bilder zu verarbeiten.",
    "Leider ist kein Bild angehängt.",
    "我无法查看图片。",
    "Lo siento, pero no puedo procesar imágenes.",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_page_may_say_what_it_likes(text: str) -> None:
    """A text that speaks of other things than the picture is the picture's text, however unable it is."""
    assert said(text, page(text))[0].status == "ok"


@pytest.mark.parametrize("text", REFUSALS)
def test_a_model_that_speaks_of_its_task_refuses(text: str) -> None:
    """What speaks of the picture, of its absence or of what was asked is a refusal, where something else is printed."""
    for picture in (PNG, page(*["A whole page of print, which says other things than that."] * 11)):
        assert said(text, picture)[0].status == "refused"


@pytest.mark.parametrize(
    "text",
    [
        "The image does not contain any text.",
        "No text found.",
        "There is no visible text in this image.",
        "Das Bild enthält keinen Text.",
        "Kein Text.",
    ],
)
def test_an_empty_page_in_words_is_an_empty_page(text: str) -> None:
    """A model that says in its own words that there is nothing to be read has read an empty page."""
    reading, _ = said(text)
    assert (reading.status, reading.text) == ("empty", "")


def test_nothing_at_all_is_no_empty_page_where_there_is_print() -> None:
    """A finished answer without a word is asked for again; of a page with print it is a failure, not an empty page."""
    for message in (
        answer(""),
        {**answer(""), "choices": [{"message": {"content": "", "tool_calls": []}, "finish_reason": "stop"}]},
    ):
        reading, _ = said(message, page("A page of print, with three lines", "that nobody can overlook", "Total 12.50"))
        assert (reading.status, reading.text, reading.attempts) == ("failed", "", 2)
        assert "print" in str(reading.error)
    assert said(answer(""), page())[0].status == "empty"


class Receipt(BaseModel):
    """What is wanted of a receipt."""

    shop: str | None = None
    lines: list[str] = []
    colour: str | None = None


def test_much_data_from_a_blank_page_is_invented() -> None:
    """A typed task is asked of a blank page, too: a word or two may be true, a whole receipt is not."""
    invented = json.dumps({"shop": "Dry Anchor", "lines": ["2 x coffee with milk and sugar, 5.80"] * 3})
    assert said(invented, page(), Task.extract(Receipt))[0].status == "invented"
    assert said('{"colour": "white"}', page(), Task.extract(Receipt))[0].status == "ok"
    assert said(invented, page("Dry Anchor", "2 x coffee"), Task.extract(Receipt))[0].status == "ok"


def test_thoughts_and_halves_of_letters_are_no_text() -> None:
    """What a host leaves of the model's thoughts is not the picture's text, and every text can be encoded."""
    assert said("<think>There is a sign.\nIt says: open.</think>\n\nOpen")[0].text == "Open"
    text = said("half \ud83d of a smile")[0].text
    assert text.encode() == "half � of a smile".encode()


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "The response was filtered.", "code": "content_filter", "status": 400}},
        {
            "error": {
                "message": "blocked by our content management policy",
                "innererror": {"code": "ResponsibleAIPolicyViolation"},
            }
        },
    ],
)
def test_a_filter_that_answers_400_is_a_filter(body: Any) -> None:
    """Azure refuses what its filter stops with status 400: the reading is filtered, and not a broken request."""
    with virtual_time(Service(reply=lambda _: httpx.Response(400, json=body))):
        (reading,) = client().read_many([PNG], on_error="keep")
    assert (reading.status, reading.text, reading.attempts) == ("filtered", "", 1)


ODD_HEADERS = [
    {"content-type": "application/json; charset=hex"},
    {"content-type": "application/json; charset=rot13"},
    {"content-type": "text/html; charset=undefined"},
    {"retry-after": "Wed, 21 Oct 99999999999 07:28:00 GMT"},
]


@pytest.mark.parametrize("headers", ODD_HEADERS, ids=str)
@pytest.mark.parametrize("status", [400, 429, 503])
def test_odd_headers_are_errors_of_the_tree(headers: dict[str, str], status: int) -> None:
    """Encodings and dates that do not exist neither end a run nor hide what was said."""
    reply = lambda _: httpx.Response(status, content=b'{"detail": "No."}', headers=headers)  # noqa: E731
    with virtual_time(Service(latency=0.01, reply=reply)):
        (reading,) = client(limits=Limits(patience=20)).read_many([PNG], on_error="keep")
    assert isinstance(reading.error, AIFSError)
    assert "No." in str(reading.error)


def test_no_error_holds_what_was_sent() -> None:
    """Neither the key nor the picture hangs on an error, in its words, its request or the error behind it."""
    data = base64.encodebytes(PNG * 3).decode()  # in lines of 76 characters
    replies: list[Any] = [
        lambda _: httpx.Response(400, json={"detail": f"Cannot read {data} of {KEY}"}, headers={"x-request-id": KEY}),
        lambda _: httpx.ReadTimeout("late"),
        lambda _: httpx.Response(200, html="<p>Sign in.</p>"),
    ]
    for reply in replies:
        with virtual_time(Service(latency=0.01, reply=reply)):
            (reading,) = client().read_many([PNG], on_error="keep")
        error: BaseException | None = reading.error
        while error is not None:
            shown = f"{error} {error!r} {getattr(error, 'request_id', '')}"
            assert KEY not in shown
            assert data.splitlines()[1] not in shown
            if isinstance(error, httpx.RequestError):
                assert not error.request.content
                assert "authorization" not in error.request.headers
            error = error.__cause__


def test_the_report_counts_what_was_sent_when_a_key_is_refused() -> None:
    """Requests that were on their way when a 401 ended the run are in the report: it is what the service has seen."""
    service = Service(latency=0.5, reply=lambda number: httpx.Response(401) if number == 0 else None)

    with virtual_time(service):
        run = client().read_many([PNG] * 20, "caption", on_error="keep")
        readings = list(run)
    assert run.report.attempts == len(service.arrivals) > 1
    assert {reading.status for reading in readings} == {"failed", "pending"}
    assert all(isinstance(reading.error, AuthenticationError) for reading in readings)


def test_a_report_names_the_place_on_one_line() -> None:
    """A failure in the printed report has its source, and nothing in it moves the cursor or forges a line."""
    evil = "scan\n2026-01-01 ok\x1b[2J.png"
    with virtual_time(Service(reply=lambda _: httpx.Response(400, json={"detail": "No.\r\x1b[31mred"}))):
        run = client().read_many([(evil, PNG), ("b.png", PNG)], on_error="keep")
        list(run)
    shown = str(run.report)
    assert "b.png (page 1): " in shown
    assert "scan\\n2026-01-01 ok" in shown
    assert "\x1b" not in shown + run.report._repr_html_()
    assert len(shown.splitlines()) == 5


def test_another_run_gets_results_and_no_failures(tmp_path: Path) -> None:
    """Who asks the same at the same time shares a result; a failure may have been of the other's making."""
    number = iter(range(100))

    def reply(_: int) -> httpx.Response:
        finish = "length" if next(number) < 2 else "stop"
        choice = {"message": {"content": "some text"}, "finish_reason": finish}
        return httpx.Response(200, json={**answer(), "choices": [choice]})

    with virtual_time(Service(latency=1.0, reply=reply)):
        runs = [client(cache=tmp_path / "a.db").read_many([PNG], "ocr", on_error="keep") for _ in range(2)]
        first = [run.__next__ for run in runs]
        with ThreadPoolExecutor(2) as pool:
            readings = [future.result() for future in [pool.submit(step) for step in first]]
    assert sorted(reading.status for reading in readings) == ["ok", "truncated"]


def test_equal_questions_have_answers_of_their_own_class(tmp_path: Path) -> None:
    """Two classes of one name and schema share what was said, each validated by its own class."""

    def made(*, strict: bool) -> type[BaseModel]:
        class Sign(BaseModel):
            text: str

            @field_validator("text")
            @classmethod
            def checked(cls, value: str) -> str:
                if strict:
                    return value.upper()
                return value

        return Sign

    with virtual_time(Service(latency=1.0, reply=lambda _: httpx.Response(200, json=answer('{"text": "open"}')))):
        classes = [made(strict=False), made(strict=True)]
        runs = [client(cache=tmp_path / "a.db").read_many([PNG], Task.extract(each)) for each in classes]
        with ThreadPoolExecutor(2) as pool:
            readings = list(pool.map(next, runs))
    assert [type(reading.data) for reading in readings] == classes
    assert [reading.data.text for reading in readings] == ["open", "OPEN"]


def test_what_is_in_the_cache_is_had_though_the_money_is_spent(tmp_path: Path) -> None:
    """After `max_cost` has ended the asking, images that were paid before are still delivered."""
    with virtual_time(Service(latency=0.1)):
        kept = [saved(corners(50 + number, 50)) for number in range(10)]
        assert all(reading.ok for reading in client(cache=tmp_path / "a.db").read_many(kept, "caption"))
        poor = client(cache=tmp_path / "a.db", max_cost=0, limits=Limits(in_flight=1))
        readings = list(poor.read_many([PNG, *kept], "caption", on_error="keep"))
    assert [reading.status for reading in readings] == ["pending", *["ok"] * 10]
    assert isinstance(readings[0].error, BudgetError)


def test_rubbish_for_ever_is_no_model_to_stay_with() -> None:
    """A gateway that answers with a page of HTML is passed by for the model that stands in."""

    async def answered(request: httpx.Request) -> httpx.Response:
        model = json.loads(request.content)["model"]
        return httpx.Response(200, json=answer()) if model == "gpt-4o" else httpx.Response(200, html="<p>Sign in.</p>")

    with virtual_time(answered):
        readings = list(client(fallback_model="gpt-4o").read_many([PNG] * 3, "caption", on_error="keep"))
    assert [(reading.status, reading.model) for reading in readings] == [("ok", "gpt-4o")] * 3


def test_one_bad_image_shuts_no_door(tmp_path: Path) -> None:
    """Equal images that share one failure count as one: the model is asked about the next image as before."""
    asked: list[str] = []

    async def answered(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        asked.append(body["model"])
        bad = base64.b64encode(PNG)[-40:].decode() in request.content.decode()
        status = 503 if bad and body["model"] != "gpt-4o" else 200
        return httpx.Response(status, json=answer())

    with virtual_time(answered):
        vision = client(fallback_model="gpt-4o", cache=tmp_path / "a.db", limits=Limits(in_flight=4))
        readings = list(vision.read_many([PNG] * 3, "caption"))
        assert {reading.model for reading in readings} == {"gpt-4o"}
        assert vision.read(saved(corners(60, 60)), "caption").model == vision.model


def test_what_failed_unread_gives_its_tokens_back() -> None:
    """Requests that never reached the model take nothing from the budgets of tokens."""
    reply = lambda number: httpx.ConnectError("refused") if number % 2 else None  # noqa: E731
    service = Service(latency=0.01, reply=reply)
    with virtual_time(service) as clock:
        run = client(limits=Limits(input_tokens_per_minute=60_000)).read_many([PNG] * 120, "caption", on_error="keep")
        assert sum(reading.ok for reading in run) > 100
        assert clock.now < 120 * 150 / 1_000 * 1.5
