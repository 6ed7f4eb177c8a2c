"""Pages of small print and tall receipts: sent large enough to be read, in bands where a model would shrink them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from aifs_vision import CAPTION, DESCRIBE, OCR, Limits, SettingsError, Task, Vision
from aifs_vision.emulator import Emulator
from tests.pages import english_page, error_rate
from tests.pictures import noise, opened, saved
from tests.scenes import lake
from tests.sheets import Printed, Sheet, Style

if TYPE_CHECKING:
    from pydantic import BaseModel

    from aifs_vision.emulator import ChatRequest

QWEN, TILES = "Qwen3-VL-30B-A3B-Instruct-FP8", "gpt-4.1"
LETTER, BITS = 12, 10  # px of a mark's side, and marks in a line


def ledger(lines: int, *, tilt: float = 0.0, width: int = 600) -> Image.Image:
    """A roll whose lines are marks that say their number in binary: what a machine reads without mistakes."""
    picture = Image.new("L", (width, 60 + lines * 30), 255)
    draw = ImageDraw.Draw(picture)
    for number in range(lines):
        top = 30 + number * 30
        for bit, on in enumerate(f"1{number:0{BITS}b}"):
            left = 30 + bit * (width - 60) // (BITS + 1)
            draw.rectangle((left, top + (0 if on == "1" else LETTER - 4), left + 24, top + LETTER), 0)
    return picture.rotate(tilt, Image.Resampling.BICUBIC, fillcolor=255) if tilt else picture


def numbers_in(asked: ChatRequest) -> str:
    """What is written in the lines of a ledger, or of a band of one, that can be seen; a cut line says anything."""
    picture = asked.images[0].picture
    assert picture is not None
    scale = 600 / picture.width
    grey = picture.convert("L").resize((600, round(picture.height * scale)))
    rows = [min(grey.crop((32, y, 54, y + 1)).tobytes()) < 128 for y in range(grey.height)]
    said, y = [], 0
    while y < grey.height:
        if not rows[y]:
            y += 1
            continue
        end = next((row for row in range(y, grey.height) if not rows[row]), grey.height)
        if end - y < LETTER - 2 or end == grey.height:
            said.append("#~#~#~#")
        else:
            columns = [30 + bit * 540 // (BITS + 1) + 12 for bit in range(1, BITS + 1)]
            value = "".join(str(int(_dark(grey, x, y + 3))) for x in columns)
            said.append(f"line {int(value, 2)}")
        y = end
    return "\n".join(said) or "[no text]"


def _dark(grey: Image.Image, x: int, y: int) -> bool:
    level: Any = grey.getpixel((x, y))
    return bool(level < 128)


def client(server: Emulator, model: str) -> Vision:
    """A client without limits a minute."""
    return Vision(model, base_url=server.base_url, api_key=server.api_key, limits=Limits())


def sizes(server: Emulator) -> list[tuple[int, int]]:
    """Of what was sent, in the order of arrival."""
    return [opened(request.images[0][1]).size for request in server.requests]


@pytest.mark.parametrize("model", [QWEN, TILES, "gpt-4.1-mini", "claude-sonnet-4.5", "gemini-2.5-flash"])
@pytest.mark.parametrize("lines", [198, 320])
def test_a_tall_receipt_comes_out_whole(model: str, lines: int) -> None:
    """Of a receipt of 600 x 6,000 px, and of one half as long again, every line is read, once and in its order."""
    with Emulator(ocr=False, reply=numbers_in) as server:
        reading = client(server, model).read(saved(ledger(lines)), "ocr")
    assert reading.text.splitlines() == [f"line {number}" for number in range(lines)]
    assert reading.attempts == len(server.requests)
    assert reading.usage.output_tokens > 0
    assert min(width for width, _ in sizes(server)) >= 340
    if model == TILES:
        assert all(min(size) <= 768 and max(size) <= 2048 for size in sizes(server))


@given(lines=st.integers(20, 400), model=st.sampled_from([QWEN, TILES, "claude-sonnet-4.5"]))
@settings(max_examples=12, deadline=None)
def test_no_length_loses_or_doubles_a_line(lines: int, model: str) -> None:
    """Whatever its length, a roll is read whole, and no part of it is sent larger than the model sees."""
    with Emulator(ocr=False, reply=numbers_in) as server:
        reading = client(server, model).read(saved(ledger(lines)), OCR)
        assert reading.text.splitlines() == [f"line {number}" for number in range(lines)]
        if model == TILES:
            assert all(min(size) <= 768 and max(size) <= 2048 for size in sizes(server))


def receipt_of_a_warehouse() -> Printed:
    """A till roll of 600 x 6,000 px with small print that is nowhere the same."""
    sheet = Sheet(width=150, height=1500, pixels=6000, ground="#fcfbf7")
    sheet.row(24, Style(weight="Bold", size=11), (75, "m", "HARBOUR STORES"))
    style = Style(size=6)
    for number in range(1, 140):
        weight, price = number * 37 % 91 + 3, number * 137 % 9973
        sheet.row(36 + number * 10, style, (8, "l", f"{number:03} rope {weight} m"), (142, "r", f"{price / 100:.2f}"))
    sheet.row(1470, Style(weight="Bold", size=9), (8, "l", "TOTAL EUR"), (142, "r", "6814.62"))
    return sheet.printed()


@pytest.mark.usefixtures("aifs_emulator")
def test_real_print_in_bands_is_read_whole() -> None:
    """The same with letters and a real OCR engine: a receipt of 600 x 6,000 px is right to 98 % of its characters."""
    image, text = receipt_of_a_warehouse()
    assert image.size == (600, 6000)
    reading = Vision(TILES).read(saved(image), OCR)
    assert reading.attempts > 1
    assert error_rate(reading.text, text) <= 0.02


def test_small_print_is_sent_larger() -> None:
    """A usual page is sent with 1,536 px, one of small print with up to 2,048, one for a caption with 1,024."""
    with Emulator(ocr=False, reply=lambda _: "text") as server:
        vision = client(server, QWEN)
        for size in (12, 8):
            page = saved(english_page(size=size, pixels=3508).image, "JPEG", quality=90)
            for task in (CAPTION, DESCRIBE, OCR, Task.ask("How many?")):
                vision.read(page, task)
    sent = [max(size) for size in sizes(server)]
    assert sent[:4] == [1024, 1536, 1536, 1536]
    assert sent[4] == 1024
    assert all(1600 < side <= 2048 for side in sent[5:])


@pytest.mark.parametrize(("kind", "label"), [("PNG", "image/png"), ("JPEG", "image/jpeg")])
def test_print_that_needs_the_picture_whole_is_sent_untouched(kind: str, label: str) -> None:
    """A screenshot whose print is read only in its own size is sent as it came, and not encoded once more."""
    page = english_page(size=5.0, pixels=1900).image.convert("RGB")
    page.putpixel((0, 0), (255, 0, 0))
    data = saved(page, kind)
    with Emulator(ocr=False) as server:
        client(server, QWEN).read(data, "ocr")
        ((sent_label, sent),) = server.requests[0].images
    assert (sent_label, sent) == (label, data)


def test_a_size_of_ones_own_holds() -> None:
    """`sized()` bounds the longer side, small print or not, and nothing is enlarged to it."""
    page = saved(english_page(size=6, pixels=2339).image)
    with Emulator(ocr=False, reply=lambda _: "text") as server:
        vision = client(server, QWEN)
        for side in (800, 5000):
            vision.read(page, DESCRIBE.sized(side))
    assert [max(size) for size in sizes(server)] == [800, 2339]


@pytest.mark.parametrize(
    ("task", "model", "requests"),
    [
        (OCR, TILES, 3),
        (OCR, QWEN, 1),
        (DESCRIBE, TILES, 1),  # one description cannot be made of three
        (Task.ask("What is the total?"), TILES, 1),
    ],
)
def test_bands_are_cut_where_the_numbers_say_so(task: Task, model: str, requests: int) -> None:
    """A dense page is read in bands where a model would shrink it too far, and only where texts can be joined."""
    page = saved(english_page(size=6, pixels=3508).image, "JPEG", quality=90)
    with Emulator(ocr=False, reply=lambda _: "text") as server:
        reading = client(server, model).read(page, task)
    assert len(server.requests) == reading.attempts == requests


def test_detail_decides_about_bands() -> None:
    """`detail="bands"` cuts wherever that shows more; any other detail goes to the service, with the page in one."""
    page = saved(english_page(size=12, pixels=3508).image, "JPEG", quality=90)
    with Emulator(ocr=False, reply=lambda _: "text") as server:
        vision = client(server, TILES)
        for detail, requests in (("bands", 3), ("high", 1), (None, 1)):
            server.clear()
            vision.read(page, with_detail(OCR, detail))
            assert len(server.requests) == requests, detail
            (asked,) = {str(request.body["messages"][0]["content"][0]) for request in server.requests}
            assert ("'detail': 'high'" in asked) == (detail == "high")
            assert "bands" not in asked
        vision.read(saved(noise(64, 64)), with_detail(OCR, "bands"))  # too small to be shown larger
        assert len(server.requests) == 2


def with_detail(task: Task, detail: str | None) -> Task:
    """The task with another detail."""
    from dataclasses import replace

    return replace(task, detail=detail)


def test_an_impossible_detail_is_refused() -> None:
    """Unknown details are refused, and bands for data, which cannot be joined."""
    from pydantic import create_model

    with pytest.raises(SettingsError, match=r"Task\.detail"):
        with_detail(OCR, "medium")
    schema: type[BaseModel] = create_model("Invoice", total=(float, ...))
    with pytest.raises(SettingsError, match=r"Task\.detail"):
        with_detail(Task.extract(schema), "bands")


def test_a_band_that_fails_is_a_page_that_fails() -> None:
    """Half a page is no page: the reading fails, says which band, and keeps the text of the others."""
    page = saved(ledger(198))
    with Emulator(ocr=False, reply=numbers_in) as server:
        server.fail("length", times=2)
        (reading,) = client(server, TILES).read_many([page], OCR, on_error="keep")
        assert reading.status in {"ok", "truncated"}
        server.clear()
        server.fail(413, times=9)
        (reading,) = client(server, TILES).read_many([page], OCR, on_error="keep")
        assert reading.status == "failed"
        assert "413" in str(reading.error)

    def refuses(asked: ChatRequest) -> str | dict[str, Any]:
        text = numbers_in(asked)
        return {"content": None, "refusal": "Not this one."} if "line 150" in text else text

    with Emulator(ocr=False, reply=refuses) as server:
        (reading,) = client(server, TILES).read_many([page], OCR, on_error="keep")
    assert reading.status == "refused"
    assert "line 3" in reading.text
    assert "band" in str(reading.error)


def test_blank_bands_are_no_lines() -> None:
    """A roll with nothing on it is empty; one with print at its top alone has that print."""
    blank = Image.new("L", (600, 6000), 255)
    with Emulator(ocr=False, reply=numbers_in) as server:
        vision = client(server, TILES)
        assert vision.read(saved(blank), OCR).status == "empty"
        blank.paste(ledger(20), (0, 0))
        assert vision.read(saved(blank), OCR).text.splitlines() == [f"line {number}" for number in range(20)]


@pytest.mark.parametrize("tilt", [1.0, -2.0])
def test_pages_askew_share_lines_and_say_them_once(tilt: float) -> None:
    """Where no cut misses every line, bands share some, and those are said once."""
    image, text = askew_page(tilt)
    with Emulator() as server:
        reading = client(server, TILES).read(saved(image, "JPEG", quality=92), OCR)
    assert reading.attempts > 1
    assert error_rate(reading.text, text) <= 0.03


def askew_page(tilt: float) -> Printed:
    """A densely printed page, turned a little."""
    image, text = english_page(size=7, pixels=3508, family="sans")
    return Printed(image.rotate(tilt, Image.Resampling.BICUBIC, fillcolor="white"), text)


def ruled(lines: int) -> Image.Image:
    """A ledger with a line down its margin, so that no cut misses all ink."""
    picture = ledger(lines)
    ImageDraw.Draw(picture).rectangle((8, 0, 12, picture.height), 0)
    return picture


@given(lines=st.integers(200, 400), model=st.sampled_from([TILES, "claude-sonnet-4.5"]), rows=st.sampled_from([999, 7]))
@settings(max_examples=12, deadline=None)
def test_bands_that_share_lines_are_joined(lines: int, model: str, rows: int) -> None:
    """Bands that share lines, cut some in two, and have rows that say the same as others, make the whole page."""

    def reply(asked: ChatRequest) -> str:
        return re.sub(r"\d+", lambda found: f"{int(found[0]) % rows} x coffee", numbers_in(asked))

    with Emulator(ocr=False, reply=reply) as server:
        reading = client(server, model).read(saved(ruled(lines)), OCR)
    assert reading.attempts > 1
    assert reading.text.splitlines() == [f"line {number % rows} x coffee" for number in range(lines)]


def test_what_shares_no_line_is_kept_whole() -> None:
    """Where no line is found in two bands that share some, nothing is left out."""
    with Emulator(ocr=False, reply=lambda asked: f"only here: {hash(asked.images[0].data)}") as server:
        reading = client(server, TILES).read(saved(ruled(198)), OCR)
    assert len(set(reading.text.splitlines())) == reading.attempts > 1


def test_a_picture_on_the_page_does_not_hide_small_print() -> None:
    """Half a page of small print beside a photograph is still read as small print; a photograph alone is not."""
    photograph = lake(width=2000, height=1200)
    page = english_page(size=7, pixels=3508).image
    page.paste(photograph, (200, 1900))
    with Emulator(ocr=False, reply=lambda _: "text") as server:
        vision = client(server, TILES)
        for picture, requests in ((page, 3), (photograph, 1), (Image.effect_noise((1500, 1500), 60), 1)):
            server.clear()
            vision.read(saved(picture, "JPEG", quality=90), OCR)
            assert len(server.requests) == requests
