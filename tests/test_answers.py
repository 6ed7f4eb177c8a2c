"""What is made of answers: loops, inventions, refusals, unfit data; each with its treatment and its status."""

from __future__ import annotations

import json
from decimal import Decimal
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image, ImageDraw
from pydantic import AliasChoices, BaseModel, Field, RootModel, field_validator

from aifs_vision import AnswerError, ContextLengthError, Limits, Reading, RequestTooLargeError, Task, Vision
from aifs_vision.emulator import Emulator
from tests.pictures import corners, noise, saved

if TYPE_CHECKING:
    from collections.abc import Callable

    from aifs_vision.emulator import ChatRequest

PNG = saved(corners())
LOOP = "The end of the page.\n" + "and so it goes on\n" * 60


class Receipt(BaseModel):
    """What is wanted of a receipt."""

    shop: str
    total: float | None = None


class Loose(BaseModel):
    """Data of which nothing has to be there."""

    shop: str | None = None
    items: list[dict[str, str]] = []


def asked(
    said: str | dict[str, Any] | Callable[[ChatRequest], Any],
    task: str | Task = "ocr",
    picture: bytes = PNG,
    **options: Any,
) -> tuple[Reading, list[Any]]:
    """The reading of a picture by a model that says so, and the requests it took."""
    reply = said if callable(said) else lambda _: said
    with Emulator(ocr=False, reply=reply) as server:
        vision = Vision(base_url=server.base_url, api_key=server.api_key, limits=Limits(), **options)
        run = vision.read_many([picture], task, on_error="keep")
        (reading,) = run
        assert run.report.statuses == {reading.status: 1}
        assert run.report.requests == reading.requests
        return reading, [request.body for request in server.requests]


# -- Loops ---------------------------------------------------------------------------------------------------------


def cut_off(text: str) -> dict[str, Any]:
    """An answer that had no more room."""
    return {"content": text, "finish_reason": "length"}


@pytest.mark.parametrize(
    ("text", "looped"),
    [
        (LOOP, True),
        ("Lorem ipsum. " + "the same words again, " * 30, True),
        ("One line\nand another\n" * 40, True),
        ("One line\nand another\n" * 12, False),
        ("Musik " * 40, True),
        ("| Pos | Amount |\n" + "| | |\n" * 30, False),
        ("| Pos | Amount |\n" + "| a | 1 |\n" * 30, False),
        ("| a | 1 |\n" * 80, True),
        (
            "Contents\n"
            + "Chapter ............................................................................. 1\n" * 4,
            False,
        ),
        ("_" * 400, False),
        ("0.00\n" * 60, False),
        ("yes\n" * 9, False),
        ("\n".join(f"item {number} of the list" for number in range(200)), False),
        ("la la la, sang the choir, and then they went home. " * 3, False),
        (
            "".join(
                f"{number}. a line of seventy characters or so, that is a line of ordinary print\n" for number in "1234"
            )
            * 50,
            True,
        ),
        (
            "| "
            + "a cell of a table, with quite a few words | " * 3
            + "\n"
            + ("| " + "another cell of it | " * 6 + "\n") * 90,
            True,
        ),
        ("Page one. " + ("A sentence of more than two hundred characters, " * 5 + "and its end. ") * 12, True),
        ("".join(f"line {number} of nine\n" for number in range(9)) * 60, True),
    ],
)
def test_a_text_that_runs_in_circles_until_it_is_cut_off_is_a_loop(text: str, *, looped: bool) -> None:
    """Lines and phrases over and over are a loop; empty rows, dotted lines and columns of figures are a document."""
    reading, _ = asked(cut_off(text))
    assert reading.status == ("looped" if looped else "truncated")


@pytest.mark.parametrize(
    "text",
    [
        "Name: ____ Signature: ____\n" * 20,
        "Saldo 0,00 EUR\n" * 12,
        "N/A\n" * 60,
        "We will rock you\n" * 8,
        "| 0 | 0 | 0 |\n" * 60,
        "COPY " * 40,
        "ACME Ltd.\n12 Harbour Road\n0815 Town\n\n" * 24,
    ],
)
def test_a_text_that_comes_to_its_end_may_repeat_itself(text: str) -> None:
    """Forms, labels, refrains and lists of zeros are no loop: they end, as a model that runs in circles does not."""
    reading, sent = asked(text)
    assert (reading.status, reading.text, len(sent)) == ("ok", text.strip(), 1)


def test_what_is_said_twice_stands_there() -> None:
    """So long a repetition is asked for again even where it ended; who says the same once more has read it."""
    reading, sent = asked(LOOP)
    assert (reading.status, reading.text) == ("ok", LOOP.strip())
    assert [body["temperature"] for body in sent] == [0.1, 0.3]


def test_a_loop_is_asked_again_at_other_temperatures() -> None:
    """An answer that runs in circles is asked for again, warmer; the first that does not is the reading."""
    reading, sent = asked(lambda it: cut_off(LOOP) if it.body["temperature"] < 0.5 else "The whole page.")
    assert (reading.status, reading.text) == ("ok", "The whole page.")
    assert [body["temperature"] for body in sent] == [0.1, 0.3, 0.8]
    assert (reading.requests, reading.attempts) == (3, 3)


def test_a_model_without_a_temperature_is_not_asked_the_same_again() -> None:
    """A reasoning model takes no temperature, so its loop is a failure at once, and paid once."""
    reading, sent = asked(cut_off(LOOP), model="gpt-5-mini")
    assert (reading.status, len(sent)) == ("looped", 1)


def test_a_loop_that_stays_is_a_failure_with_its_text() -> None:
    """After three temperatures it is "looped", with text and price of all three; a cut one gets no room."""
    reading, sent = asked(cut_off(LOOP))
    assert (reading.status, reading.text) == ("looped", LOOP.strip())
    assert isinstance(reading.error, AnswerError)
    assert [body["max_tokens"] for body in sent] == [2_048] * 3
    assert reading.usage.output_tokens >= 3 * 100


# -- Inventions and refusals -----------------------------------------------------------------------------------------


def blank(mark: str = "") -> bytes:
    """A page with next to nothing on it."""
    page = Image.effect_noise((800, 1100), 6).point(lambda value: 244 + (value - 128) // 4).convert("RGB")
    if mark:
        ImageDraw.Draw(page).text((300, 500), mark, fill="black", font_size=32)
    return saved(page)


STORY = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore et dolore."


def test_a_long_text_from_a_blank_page_is_invented() -> None:
    """What nobody can have read is a failure that keeps the text; a blank page that is called so is a result."""
    reading, sent = asked(STORY, picture=blank())
    assert (reading.status, reading.text, len(sent)) == ("invented", STORY, 1)
    assert "blank" in str(reading.error)
    assert asked("[no text]", picture=blank())[0].status == "empty"
    assert asked("An empty sheet of paper, a little grey.", "describe", picture=blank())[0].status == "ok"


@pytest.mark.parametrize("picture", [blank("Page 7"), saved(noise(400, 300)), saved(Image.radial_gradient("L"))])
def test_a_page_with_anything_on_it_may_say_much(picture: bytes) -> None:
    """One printed line, a photo, a gradient: nobody calls these blank."""
    assert asked(STORY, picture=picture)[0].status == "ok"


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("I'm sorry, but I can't assist with that request.", "refused"),
        ("I cannot help with identifying people in images.", "refused"),
        ("Es tut mir leid, aber dabei kann ich nicht helfen.", "refused"),
        ("I can't see any image. Please upload it.", "refused"),
        ("**I'm sorry**, but I\u2019m unable to read the text in the image.", "refused"),
        ("As an AI language model, I cannot view pictures.", "refused"),
        ("Ich kann auf dem Bild leider nichts erkennen.", "ok"),
        ("Ich kann das Bild leider nicht lesen.", "refused"),
        ("Lo siento, pero no puedo ayudar con eso.", "refused"),
        ("\u62b1\u6b49\uff0c\u6211\u65e0\u6cd5\u8bc6\u522b\u56fe\u7247\u3002", "refused"),
        ("Sorry, we can't process your payment right now.", "ok"),
        ("Leider k\u00f6nnen wir Ihnen in dieser Sache nicht weiterhelfen.", "ok"),
        ("I can't help falling in love with you", "ok"),
        ("Sorry, we are closed", "ok"),
        ("Unfortunately the train to Bonn provides no seats", "ok"),
        ("Unable to pay", "ok"),
    ],
)
def test_a_refusal_in_words_is_no_text_of_the_picture(text: str, status: str) -> None:
    """A model that says no in its answer instead of the field for it is understood, too."""
    assert asked(text)[0].status == status


# -- Data --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        'Here it is:\n```json\n{"shop": "Nord", "total": 3.5}\n```\nAnything else?',
        'The receipt says {"shop": "Nord", "total": 3.5} as you can see.',
        '```\n{"shop": "Nord", "total": 3.5}\n```',
    ],
)
def test_chatter_around_data_is_let_through(said: str) -> None:
    """Fences and words around the JSON do not matter; one request is enough, and the text is kept as it came."""
    reading, sent = asked(said, Task.extract(Receipt))
    assert (reading.data, reading.text, len(sent)) == (Receipt(shop="Nord", total=3.5), said, 1)


@pytest.mark.parametrize(
    "said",
    [
        '{"items": [{"name": "a"}, {"name": "b"}], "shop": "No',
        'Here: {"items": [{"name": "a"}, {"na',
        '{"error": "no receipt"}',
        "There is none.",
    ],
)
def test_data_that_is_cut_off_is_never_mended(said: str) -> None:
    """Of JSON that is cut off no part is taken for the whole, however little the schema asks for."""
    reading, sent = asked(said, Task.extract(Loose))
    assert (reading.status, reading.data, reading.text) == ("failed", None, said)
    assert len(sent) == 2


def test_a_refusal_instead_of_data_is_a_refusal() -> None:
    """Who says no instead of the JSON is not asked to mend it."""
    reading, sent = asked("I'm sorry, but I can't help with that.", Task.extract(Receipt))
    assert (reading.status, len(sent)) == ("refused", 1)


class Free(BaseModel):
    """Data that comes under other names, or as it likes."""

    model_config = {"extra": "allow"}

    shop: str | None = Field(default=None, validation_alias=AliasChoices("Shop Name", "shop"))


class Whole(RootModel[dict[str, int]]):
    """Data that is one dictionary."""


class Exact(BaseModel):
    """Numbers that are not floats."""

    total: Decimal


@pytest.mark.parametrize(
    ("said", "data"),
    [
        ('{"Shop Name": "Nord"}', Free.model_validate({"Shop Name": "Nord"})),
        ('{"whatever": 5}', Free.model_validate({"whatever": 5})),
        ('{"a": 1}', Whole({"a": 1})),
        ('{"total": 1234567.10}', Exact(total=Decimal("1234567.1"))),
        ('<think>{"total": 9}</think>\n{"total": 1}', Exact(total=Decimal(1))),
        ('[see 1] The page says [1]: {"total": 2}', Exact(total=Decimal(2))),
        ('```json\n{"wrong": 1}\n```\nNo, rather:\n```json\n{"total": 3}\n```', Exact(total=Decimal(3))),
    ],
)
def test_data_is_what_was_said(said: str, data: BaseModel) -> None:
    """Aliases, roots and further fields are taken; thoughts, remarks and what does not fit are passed over."""
    reading, sent = asked(said, Task.extract(type(data)))
    assert (reading.data, len(sent)) == (data, 1)


@pytest.mark.parametrize(
    "said",
    ['For example {"shop": "A"}. But: {"shop": "B"}', '{"shop": "A", "total": NaN}', '{"shop": "A", "total": 1e999}'],
)
def test_data_that_may_be_meant_otherwise_is_none(said: str) -> None:
    """Two objects that both fit, and numbers that JSON does not have, are asked for again and never guessed."""
    reading, sent = asked(said, Task.extract(Receipt))
    assert (reading.status, reading.data, len(sent)) == ("failed", None, 2)


class Tripping(BaseModel):
    """A validator that expects too much."""

    date: str

    @field_validator("date")
    @classmethod
    def _month(cls, value: str) -> str:
        return value.split("/")[1]


def test_a_validator_that_trips_fails_one_image() -> None:
    """Whatever a validator raises is that image's failure, with its text; the others are read."""
    reading, _ = asked('{"date": "24.11."}', Task.extract(Tripping))
    assert (reading.status, reading.text) == ("failed", '{"date": "24.11."}')
    assert "IndexError" in str(reading.error)


def test_data_cut_off_by_its_room_is_truncated() -> None:
    """Where the service says that the answer was cut, it gets more room once, and is no data after that."""
    reading, sent = asked({"content": '{"shop": "Nord"}', "finish_reason": "length"}, Task.extract(Loose))
    assert (reading.status, reading.data) == ("truncated", None)
    assert [body["max_tokens"] for body in sent] == [2_000, 6_000]


def test_data_that_does_not_fit_is_shown_to_the_model_once() -> None:
    """One round of repair: the model sees its answer and what is wrong with it; usage and requests are both counted."""
    answers = iter(['{"total": "much"}', '{"shop": "Nord", "total": 3.5}'])
    reading, sent = asked(lambda _: next(answers), Task.extract(Receipt))
    assert reading.data == Receipt(shop="Nord", total=3.5)
    assert (reading.requests, reading.status) == (2, "ok")
    first, second, third = sent[1]["messages"]
    assert first["role"] == "user"
    assert second == {"role": "assistant", "content": '{"total": "much"}'}
    assert "shop" in third["content"]


def test_the_form_follows_what_the_model_can_do() -> None:
    """A host that knows no JSON schema is asked in JSON mode, then in words; what it knows is remembered."""
    known: list[str] = []

    def reply(request: ChatRequest) -> str:
        known.append((request.body.get("response_format") or {}).get("type", "words"))
        assert "shop" in request.prompt or known[-1] == "json_schema"
        return '{"shop": "Nord"}'

    with Emulator(ocr=False, reply=reply) as server:
        vision = Vision(base_url=server.base_url, api_key=server.api_key, limits=Limits())
        for word in ("response_format of type json_schema is not supported", "json_object is not known"):
            server.fail(400, body=json.dumps({"detail": word}))
        assert vision.read(PNG, Task.extract(Receipt)).data == Receipt(shop="Nord")
        forms = [(request.body.get("response_format") or {}).get("type") for request in server.requests]
        assert forms == ["json_schema", "json_object", None]
        assert vision.read(PNG, Task.extract(Receipt)).requests == 1
    assert known == ["words", "words"]


# -- Too large ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (413, '{"detail": "Request Entity Too Large"}'),
        (400, '{"error": {"message": "too long", "code": "context_length_exceeded"}}'),
        (400, '{"detail": "This model\'s maximum context length is 8192 tokens"}'),
    ],
)
def test_what_is_too_large_is_sent_once_more_smaller(status: int, body: str) -> None:
    """A picture that is too large for the service or the model is halved once; twice is an error of its class."""
    picture = saved(corners(900, 600))
    with Emulator(ocr=False) as server:
        vision = Vision(base_url=server.base_url, api_key=server.api_key, limits=Limits())
        server.fail(status, body=body)
        reading = vision.read(picture, "caption")
        assert (reading.requests, reading.width, reading.height) == (2, 900, 600)
        (_, sent) = server.requests[1].images[0]
        assert Image.open(BytesIO(sent)).size == (450, 300)
        server.fail(status, body=body, times=2)
        with pytest.raises((RequestTooLargeError, ContextLengthError), match="smaller picture"):
            vision.read(picture, "caption")
