"""What it costs: estimates before, reports after, and a bound that is never passed."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from PIL import Image

from aifs_vision import BudgetError, Limits, Reading, RunReport, SettingsError, Task, Vision
from aifs_vision.emulator import Emulator
from aifs_vision.testing import virtual_time
from tests import pages
from tests.pictures import corners, saved, tiff
from tests.service import answer

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parent.parent / "examples" / "images"


@pytest.fixture(scope="module")
def reading() -> Iterator[Emulator]:
    """A server that really reads."""
    with Emulator() as server:
        yield server


def client(server: Emulator, **options: Any) -> Vision:
    """A client without limits."""
    return Vision(base_url=server.base_url, api_key=server.api_key, **{"limits": Limits(), **options})


def pictures(count: int) -> list[bytes]:
    """Pictures that differ."""
    return [saved(Image.new("L", (20 + n, 20), 200)) for n in range(count)]


# -- Estimates -----------------------------------------------------------------------------------------------------


def test_an_estimate_sends_nothing(server: Emulator, tmp_path: Path) -> None:
    """It opens and prepares, counts pages, what the cache has, doubles and what cannot be read; and sends nothing."""
    vision = client(server, cache=tmp_path / "readings.db", limits=Limits(requests_per_minute=60))
    assert vision.read(pictures(1)[0], "caption").ok
    server.clear()
    sources: list[Any] = [
        *pictures(4),
        pictures(4)[3],
        tiff([corners(40, 40), corners(50, 40)]),
        b"no picture",
        "none.png",
    ]
    estimate = vision.estimate(sources, "caption")
    assert not server.requests
    assert (estimate.images, estimate.cached, estimate.unreadable, estimate.requests) == (9, 2, 2, 5)
    assert estimate.minutes == pytest.approx(5 / 57, rel=0.01)
    assert "9 images (2 paid before, 2 unreadable)" in str(estimate)
    assert estimate.cost_eur


@pytest.mark.parametrize("task", ["ocr", "describe", "caption"])
def test_an_estimate_is_near_the_bill(reading: Emulator, task: str) -> None:
    """For a folder of pages, receipts, charts and photos it is within ten percent of what the service bills."""
    printed = [pages.english_page(size=9), pages.two_columns(), pages.german_letter(), pages.minutes(1), pages.photo()]
    sources: list[Any] = [path for path in sorted(EXAMPLES.iterdir()) if path.suffix != ".json"]
    sources += [saved(page.image) for page in printed]
    vision = client(reading)
    estimate = vision.estimate(sources, task)
    run = vision.read_many(sources, task)
    list(run)
    bill = run.report
    assert estimate.images == bill.images
    assert estimate.input_tokens == pytest.approx(bill.usage.input_tokens, rel=0.05)
    assert estimate.cost_eur == pytest.approx(bill.cost_eur, rel=0.10)


def test_an_estimate_knows_no_price_of_unknown_models(server: Emulator) -> None:
    """Of a model that is not in the catalogue the tokens are told, and no cost is made up."""
    estimate = client(server, model="some-new-model").estimate(pictures(2), "caption")
    assert estimate.cost_eur is None
    assert estimate.input_tokens > 0
    assert "price unknown" in str(estimate)


# -- The bound -----------------------------------------------------------------------------------------------------


def test_no_request_that_could_exceed_the_bound_is_sent(server: Emulator, tmp_path: Path) -> None:
    """The run stops before that request; what was read is delivered and cached, and the bound is never passed."""
    price = client(server).read(pictures(1)[0], "caption").cost_eur
    assert price
    server.clear()
    bound = price * 40
    vision = client(server, max_cost=bound, cache=tmp_path / "readings.db")
    run = vision.read_many(pictures(400), "caption")
    got: list[Reading] = []
    with pytest.raises(BudgetError, match="max_cost=") as caught:
        got.extend(run)
    spent = sum(reading.cost_eur or 0 for reading in got)
    assert len(got) > 3
    assert spent == pytest.approx(caught.value.spent)
    assert spent <= bound
    assert len(got) == len(server.requests)  # what is paid is delivered, also what came out of its turn
    assert len(server.requests) * price <= bound * 1.2  # pictures differ a little
    paid = [reading.width - 20 for reading in got if reading.width]
    again = client(server, cache=tmp_path / "readings.db").read_many([pictures(400)[n] for n in paid], "caption")
    assert [reading.cached for reading in again] == [True] * len(got)


def test_the_bound_is_of_all_that_one_object_reads(server: Emulator) -> None:
    """Several calls share it; kept, what was not sent is pending, with the reason."""
    vision = client(server, max_cost=0.0005, limits=Limits(in_flight=2))
    statuses: list[str] = []
    for picture in pictures(100):
        statuses += [reading.status for reading in vision.read_many([picture], "caption", on_error="keep")]
    assert statuses == sorted(statuses)  # "ok" first, then "pending"
    assert set(statuses) == {"ok", "pending"}
    run = vision.read_many(pictures(9), "caption", on_error="keep")
    assert all(isinstance(reading.error, BudgetError) for reading in run)
    assert run.report.statuses == {"pending": 9}
    with pytest.raises(BudgetError):
        list(vision.read_many(pictures(9), "caption", on_error="skip"))


@pytest.mark.parametrize(
    "counted",
    [
        {"prompt_tokens": 900, "completion_tokens": 4, "total_tokens": 1_904},  # thoughts, in the sum alone
        {"prompt_tokens": 4_000, "completion_tokens": 4},  # another rule of counting pictures
    ],
)
def test_a_bound_follows_what_the_service_counts(counted: dict[str, int], server: Emulator) -> None:
    """What is counted beyond the published rules is in the bill, and the bound is passed by one request at most."""
    answer = {"choices": [{"message": {"content": "A yard."}, "finish_reason": "stop"}], "usage": counted}
    server.fail(200, body=json.dumps(answer), times=500)
    reading = client(server).read(pictures(1)[0], "caption")
    price, bound = reading.cost_eur or 0.0, 0.01
    assert reading.usage.input_tokens + reading.usage.output_tokens == max(counted["prompt_tokens"] + 4, 1_904)
    run = client(server, max_cost=bound, limits=Limits(in_flight=1)).read_many(pictures(200), "caption")
    with pytest.raises(BudgetError) as caught:
        list(run)
    paid = (len(server.requests) - 1) * price
    assert run.report.cost_eur == pytest.approx(paid)
    assert caught.value.spent == pytest.approx(paid)
    assert paid <= bound + price


def test_the_picture_of_a_url_may_be_of_any_size(server: Emulator) -> None:
    """Nobody knows how many tokens a URL's picture takes, so there has to be money for the most that it can."""
    with pytest.raises(BudgetError):
        client(server, max_cost=0.002).read("https://pictures.example/large.jpg", "caption")
    assert client(server, max_cost=0.002).read(pictures(1)[0], "caption").ok


def test_what_breaks_on_its_way_is_booked(server: Emulator) -> None:
    """An answer that broke may be billed all the same: it counts for the bound, though not for the report."""
    vision = client(server, max_cost=0.002)
    server.fail("reset_body", times=400)
    run = vision.read_many(pictures(100), "caption", on_error="keep")
    with virtual_time():
        statuses = [reading.status for reading in run]
    assert set(statuses) == {"failed", "pending"}
    assert len(server.requests) < 60
    assert run.report.cost_eur == 0


def test_what_was_paid_is_kept_when_better_is_too_dear() -> None:
    """An answer that was cut off is delivered as such where the question with more room has no money or no luck."""
    cut = {"content": "half of it", "finish_reason": "length"}
    with Emulator(ocr=False, reply=lambda _: cut) as server:
        reading = next(iter(client(server, max_cost=0.003).read_many(pictures(1), "ocr", on_error="keep")))
        assert (reading.status, reading.text, len(server.requests)) == ("truncated", "half of it", 1)
        server.fail("none")
        server.fail(400)
        reading = next(iter(client(server).read_many(pictures(1), "ocr", on_error="keep")))
        assert (reading.status, reading.text, len(server.requests)) == ("truncated", "half of it", 3)


def test_a_bound_of_nothing_sends_nothing(server: Emulator) -> None:
    """max_cost=0 reads what is cached and sends nothing."""
    with pytest.raises(BudgetError):
        client(server, max_cost=0).read(pictures(1)[0])
    assert not server.requests


@pytest.mark.parametrize("wrong", [-1, "1", float("nan"), True])
def test_a_bound_is_a_number(server: Emulator, wrong: Any) -> None:
    """A bound that is none is refused at once, and so is one for a model whose price nobody knows."""
    with pytest.raises(SettingsError, match="max_cost"):
        client(server, max_cost=wrong)
    with pytest.raises(SettingsError, match="price"):
        client(server, model="some-new-model", max_cost=1)


# -- Reports -------------------------------------------------------------------------------------------------------


def test_a_report_is_a_value(server: Emulator) -> None:
    """It prints as a table, is plain values for JSON, can be pickled, and shows itself in notebooks, escaped."""
    server.fail(400, path="/completions")
    run = client(server, limits=Limits(in_flight=1)).read_many(
        [("<b>.png", pictures(1)[0]), *pictures(3)], on_error="keep"
    )
    list(run)
    report = run.report
    assert pickle.loads(pickle.dumps(report)) == report  # noqa: S301 - our own
    told = json.loads(json.dumps(report.as_dict()))
    assert told["statuses"] == {"failed": 1, "ok": 3}
    assert told["models"]["Qwen3-VL-30B-A3B-Instruct-FP8"]["attempts"] == told["attempts"] == 4
    assert told["images_per_second"] > 0
    assert "model     Qwen3-VL-30B-A3B-Instruct-FP8: 4 requests (4 sent), " in str(report)
    shown = report._repr_html_()
    assert "<table>" in shown
    assert "<b>" not in shown
    assert str(RunReport())


def test_a_report_tells_models_apart() -> None:
    """Where a second model has stood in, each has its own line, and together they are the sum."""
    asked: Counter[str] = Counter()

    async def answered(request: httpx.Request) -> httpx.Response:
        model = json.loads(request.content)["model"]
        asked[model] += 1
        return httpx.Response(200, json=answer()) if model == "gpt-4o" else httpx.Response(503)

    with virtual_time(answered):
        vision = Vision(base_url="http://service.example/v2", api_key="k", fallback_model="gpt-4o", limits=Limits())
        run = vision.read_many(pictures(6), Task.ask("What?"))
        models = [reading.model for reading in run]
    report = run.report
    assert set(models) == {"gpt-4o"}
    assert {name: use.attempts for name, use in report.models.items()} == asked
    assert asked["gpt-4o"] == report.models["gpt-4o"].requests == 6
    assert report.models["gpt-4o"].cost_eur == report.cost_eur
    assert report.attempts == sum(asked.values()) > 6
