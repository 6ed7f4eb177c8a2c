"""One implementation for every way of calling: threads, loops, notebooks, forks, interrupts."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from aifs_vision import (
    DESCRIBE,
    OCR,
    AnswerError,
    APIError,
    Limits,
    RateLimitError,
    ResidencyError,
    SettingsError,
    Task,
    TextEmbedder,
    UnexpectedAnswerError,
    Vision,
    http_client,
)
from aifs_vision.emulator import Emulator
from tests.pictures import corners, noise, saved
from tests.replies import Crowd
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path


PNG = saved(corners())


# -- Ways of calling ---------------------------------------------------------------------------------------


def test_ten_event_loops_make_ten_requests(vision: Vision, server: Emulator) -> None:
    """Ten `asyncio.run(vision.aread(...))` in a row make ten requests on one connection, and no error."""
    for _ in range(10):
        assert asyncio.run(vision.aread(PNG)).ok
    assert len(server.requests) == 10


def test_synchronous_calls_work_inside_a_running_loop(vision: Vision) -> None:
    """In a notebook, where a loop runs already, read() and `for` work as anywhere."""

    async def cell() -> list[str]:
        return [vision.read(PNG).status, *(reading.status for reading in vision.read_many([PNG, PNG]))]

    assert asyncio.run(cell()) == ["ok", "ok", "ok"]


def test_a_callers_cancellation_reaches_the_request(server: Emulator) -> None:
    """Cancelling an `aread` ends its request; the next one is not held up by it."""
    vision = Vision(base_url=server.base_url, api_key=server.api_key, limits=Limits(in_flight=1))
    server.fail("stall")

    async def impatient() -> None:
        asked = asyncio.create_task(vision.aread(PNG))
        while not (server.requests or asked.done()):  # noqa: ASYNC110 - they come in another thread
            await asyncio.sleep(0.01)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asked, 0.01)
        assert (await vision.aread(PNG)).ok

    asyncio.run(impatient())


def run_script(script: str, *arguments: str, environment: dict[str, str] | None = None) -> str:
    """Runs a script in a process of its own, warnings as errors and asyncio in its debug mode; gives its output."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, **(environment or {})},
    )
    assert done.returncode == 0, done.stderr
    assert not complaints(done.stderr), done.stderr
    return done.stdout


def complaints(said: str) -> list[str]:
    """What asyncio's debug mode says, but for steps of over 0.1 s: they tell of the machine, and not of the project."""
    return [line for line in said.splitlines() if not re.fullmatch(r"Executing .* took [\d.]+ seconds", line)]


if hasattr(os, "fork"):

    def test_it_works_after_a_fork(server: Emulator) -> None:
        """A forked child reads with a client of its parent, on connections of its own; the parent goes on."""
        script = """
            import os, sys
            from aifs_vision import Vision, Limits
            vision = Vision(base_url=sys.argv[1], api_key=sys.argv[2], limits=Limits())
            picture = bytes.fromhex(sys.argv[3])
            assert vision.read(picture).ok
            for _ in range(3):
                child = os.fork()
                if not child:
                    readings = list(vision.read_many([picture] * 5))
                    os._exit(0 if len(readings) == 5 else 1)
                assert os.waitpid(child, 0)[1] == 0
                assert vision.read(picture).ok
            print("done")
        """
        assert "done" in run_script(script, server.base_url, server.api_key, PNG.hex())
        assert len(server.requests) == 4 + 3 * 5


def test_nothing_is_left_over_at_the_end_of_a_program(server: Emulator) -> None:
    """A program that ends in the middle of its runs ends at once, without warnings or tracebacks."""
    server.fail("stall", times=1, path="/completions")
    script = """
        import sys, threading
        from aifs_vision import Vision, Limits
        vision = Vision(base_url=sys.argv[1], api_key=sys.argv[2], limits=Limits(in_flight=2))
        picture = bytes.fromhex(sys.argv[3])
        threading.Thread(target=lambda: vision.read(picture), daemon=True).start()
        run = vision.read_many([picture] * 50, ordered=False)
        print(next(run).status)
        abandoned = vision.read_many([picture] * 50, ordered=False)
        print(next(abandoned).status)
        del abandoned
    """
    assert run_script(script, server.base_url, server.api_key, PNG.hex()).split() == ["ok", "ok"]


if sys.platform != "win32":  # which has no SIGINT for a single process

    def test_an_interrupt_ends_a_waiting_read(server: Emulator) -> None:
        """Ctrl-C in the middle of a read comes through as KeyboardInterrupt, at once, and leaves no warning."""
        server.fail("stall")
        script = """
            import signal, sys
            from aifs_vision import Vision
            signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background does not have
            try:
                Vision(base_url=sys.argv[1], api_key=sys.argv[2]).read(bytes.fromhex(sys.argv[3]))
            except KeyboardInterrupt:
                print("interrupted")
        """
        arguments = [textwrap.dedent(script), server.base_url, server.api_key, PNG.hex()]
        with subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", "-c", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            until(lambda: server.requests or process.poll() is not None)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
            assert (out, complaints(err)) == ("interrupted\n", [])


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"limits": 5}, SettingsError),
        ({"vision": "gpt-4.1"}, TypeError),
        ({"modle": "gpt-4.1"}, TypeError),
    ],
)
def test_wrong_options_say_what_is_wrong(server: Emulator, wrong: dict[str, Any], error: type[Exception]) -> None:
    """An option of a wrong kind, or of no known name, is named with what is taken instead."""
    (name,) = wrong
    settings = {"base_url": server.base_url, "api_key": server.api_key} if "vision" not in wrong else {}
    with pytest.raises(error, match=f"{name}.*(Limits|Vision|model)"):
        Vision.of(**{"vision": None, **settings, **wrong})


@pytest.mark.parametrize("glob", ["", "/photos/*", ["*.png"]])
def test_a_pattern_stays_below_its_folder(vision: Vision, glob: Any) -> None:
    """A pattern that is empty, absolute or no text is refused at once."""
    with pytest.raises(SettingsError, match="glob="):
        vision.read_many("photos", glob=glob)


def test_no_traceback_shows_the_key(server: Emulator) -> None:
    """Not even the variables of a traceback hold the key, as error reports and pytest -l would show them."""
    key = server.api_key
    kinds: tuple[Any, ...] = (400, "reset")
    for kind in kinds:
        server.fail(kind, times=4)
        with pytest.raises(APIError) as raised:
            Vision(base_url=server.base_url, api_key=key, limits=Limits()).read(PNG)
        server.clear()
        shown = traceback.TracebackException.from_exception(raised.value, capture_locals=True)
        assert "Bearer" not in "".join(shown.format())


def test_importing_is_quick_and_does_nothing() -> None:
    """`import aifs_vision` loads neither Pillow nor httpx nor pydantic nor a framework, and starts no thread."""
    script = """
        import sys, threading
        import aifs_vision
        heavy = {"PIL", "httpx", "pydantic", "asyncio", "langchain_core", "llama_index", "openai", "starlette"}
        print(sorted(heavy & set(sys.modules)), threading.active_count())
    """
    assert run_script(script) == "[] 1\n"


# -- What is asked -----------------------------------------------------------------------------------------


def test_the_request_is_what_the_service_documents(vision: Vision, server: Emulator) -> None:
    """A request has the picture first, then the task's prompt; room and temperature; and no penalties."""
    vision.read(PNG, "ocr")
    (request,) = server.requests
    (message,) = request.body["messages"]
    assert [part["type"] for part in message["content"]] == ["image_url", "text"]
    assert message["content"][1]["text"] == OCR.prompt
    assert request.body["max_tokens"] == OCR.max_tokens
    assert set(request.body) == {"model", "messages", "max_tokens", "temperature"}
    assert set(request.headers) == {
        *("host", "accept", "authorization", "content-length", "content-type", "user-agent"),
    }


def test_reasoning_models_get_the_fields_they_take(server: Emulator) -> None:
    """Models that want max_completion_tokens get it, and no temperature."""
    vision = Vision("gpt-5-mini", base_url=server.base_url, api_key=server.api_key, limits=Limits())
    assert vision.read(PNG).ok
    assert {"max_completion_tokens"} == set(server.requests[0].body) - {"model", "messages"}


def test_the_queue_is_asked_at_its_address(server: Emulator) -> None:
    """queue=True asks the queue; the list of models still comes from the plain address."""
    vision = Vision(base_url=server.base_url, api_key=server.api_key, queue=True)
    assert vision.read(PNG).ok
    assert vision.models()
    assert [request.path for request in server.requests] == ["/queue/chat/completions", "/v2/models"]


def test_the_live_list_is_merged_with_the_catalogue(vision: Vision) -> None:
    """models() gives the service's list, each with what the catalogue knows of it."""
    cards = {card.name: card for card in vision.models()}
    card = cards["gpt-4.1-2025-04-14"]
    assert (card.takes_images, card.region, card.input_eur) == (True, "azure-sweden-central", 1.91)
    assert cards["jina-embeddings-v2-base-de"].dimensions == 768


@pytest.mark.parametrize("region", ["azure-us", ["otc-germany"], "", None])
def test_a_region_nobody_knows_keeps_no_residency(vision: Vision, server: Emulator, region: Any) -> None:
    """Where the service says that a model is elsewhere than the catalogue thinks, it is not called German any more."""
    told = {"id": "Qwen3-VL-30B-A3B-Instruct-FP8", "meta_data": {"deployment_region": region}}
    server.fail(200, body=json.dumps({"data": [told]}))
    (card,) = vision.models()
    assert card.allowed_in("germany") == (region != "azure-us")


# -- What is made of answers -------------------------------------------------------------------------------


def answering(reply: Any) -> Emulator:
    """A server that gives one answer to everything."""
    return Emulator(ocr=False, reply=lambda _: reply)


@pytest.mark.parametrize(
    ("said", "task", "status"),
    [
        ("Some text.", "ocr", "ok"),
        ("[no text]", "ocr", "empty"),
        ("[No text].", "ocr", "empty"),
        ("", "ocr", "empty"),
        ({"content": None}, "ocr", "failed"),
        ({"content": "half", "finish_reason": "error"}, "ocr", "failed"),
        ({"content": "", "finish_reason": "abort"}, "ocr", "failed"),
        ({"content": None, "finish_reason": "length"}, "ocr", "truncated"),
        ({"content": [{"type": "text", "text": "in "}, {"type": "text", "text": "parts"}]}, "ocr", "ok"),
        ({"content": "half", "finish_reason": "length"}, "ocr", "truncated"),
        ({"content": "", "finish_reason": "content_filter"}, "ocr", "filtered"),
        ({"content": None, "refusal": "I will not."}, "ocr", "refused"),
        ("", "caption", "failed"),
    ],
)
def test_every_answer_gets_its_status(said: Any, task: str, status: str) -> None:
    """finish_reason and refusal decide, not the text; only an empty text of a finished answer is a blank page."""
    with answering(said) as server:
        vision = Vision(base_url=server.base_url, api_key=server.api_key, limits=Limits())
        (reading,) = list(vision.read_many([PNG], task, on_error="keep"))
    assert reading.status == status
    assert reading.ok == (status in {"ok", "empty"})
    assert (reading.error is None) == reading.ok
    assert isinstance(reading.error, (AnswerError, UnexpectedAnswerError, type(None)))
    if status == "truncated":
        assert reading.text == (said["content"] or "")
    if status == "refused":
        assert "I will not." in str(reading.error)


def test_a_cut_answer_gets_more_room_once() -> None:
    """An answer that did not fit is asked for once more with more room; both are counted and paid."""
    words = " ".join(f"w{number:03}" for number in range(900))
    with Emulator(ocr=False, reply=lambda _: words) as server:
        vision = Vision(base_url=server.base_url, api_key=server.api_key, limits=Limits())
        reading = vision.read(PNG, "caption")
        assert reading.ok
        assert reading.text == words
        assert [request.body["max_tokens"] for request in server.requests] == [300, 900]
        assert reading.attempts == 2
        assert reading.usage.output_tokens == 300 + 900
        with pytest.raises(AnswerError, match="truncated") as caught:
            vision.read(PNG, Task.ask("Which?", max_tokens=10))
        assert caught.value.reading.text.startswith("w000")


class Receipt(BaseModel):
    """What is wanted of a receipt."""

    shop: str
    total: float | None = None


@pytest.mark.parametrize("said", ['{"shop": "Nord", "total": 3.5}', '```json\n{"shop": "Nord", "total": 3.5}\n```'])
def test_typed_data_is_validated(said: str) -> None:
    """Task.extract gives a validated object, also from a fenced answer; the schema went with the request."""
    with answering(said) as server:
        vision = Vision(base_url=server.base_url, api_key=server.api_key, limits=Limits())
        reading = vision.read(PNG, Task.extract(Receipt))
        assert reading.data == Receipt(shop="Nord", total=3.5)
        sent = server.requests[0].body["response_format"]
        assert sent["json_schema"]["schema"] == Receipt.model_json_schema()


@pytest.mark.parametrize(
    "said", ['{"total": 3.5}', '{"shop": "Nord", "total": "much"}', "Here it is: none", '{"shop": "No']
)
def test_data_that_does_not_fit_is_a_failure_with_its_text(said: str) -> None:
    """An answer that does not fit the schema is a failure that says where, and keeps the text and the usage."""
    with answering(said) as server:
        vision = Vision(base_url=server.base_url, api_key=server.api_key, limits=Limits())
        (reading,) = list(vision.read_many([PNG], Task.extract(Receipt), on_error="keep"))
    assert (reading.status, reading.text, reading.data) == ("failed", said, None)
    assert "does not fit Receipt" in str(reading.error)
    assert reading.usage.output_tokens > 0


def test_ids_and_metadata_are_the_same_on_every_run(vision: Vision, tmp_path: Path) -> None:
    """Over the same image, id and metadata are equal on every run, whatever was cached, retried or paid."""
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    first, second = (next(iter(vision.read_many([path], "ocr"))) for _ in range(2))
    assert (first.id, first.metadata()) == (second.id, second.metadata())
    assert list(first.metadata()) == [
        *("source", "page", "total_pages", "width", "height", "mime_type", "image_sha256"),
        *("model", "task", "prompt_version", "status"),
    ]
    assert all(isinstance(value, (str, int)) for value in first.metadata().values())
    path.write_bytes(saved(noise(50, 50)))
    edited = vision.read(path, "ocr")
    assert edited.id == first.id
    assert edited.image_sha256 != first.image_sha256
    assert vision.read(path, "caption").id != first.id


def test_cost_is_tokens_times_the_price_list(vision: Vision) -> None:
    """A reading's cost is its tokens by the price list; a model without a price has none."""
    reading = vision.read(PNG)
    paid = reading.usage.input_tokens * 0.20 + reading.usage.output_tokens * 0.65
    assert reading.cost_eur == pytest.approx(paid / 1e6)
    assert DESCRIBE.name == reading.task


# -- Embeddings, and the clients for SDKs ------------------------------------------------------------------


def test_texts_are_embedded_in_order(server: Emulator) -> None:
    """Vectors come in the order of the texts, in batches, as wide as the model's; token ids are never sent."""
    embedder = TextEmbedder(base_url=server.base_url, api_key=server.api_key, batch_size=2, limits=Limits())
    texts = ["Rechnung", "Katze", "invoice", "Rechnung"]
    vectors = embedder.embed(texts)
    assert [len(vector) for vector in vectors] == [1024] * 4
    assert vectors[0] == pytest.approx(vectors[3])
    assert vectors == asyncio.run(embedder.aembed(texts))
    sent = [request.body["input"] for request in server.requests[:2]]
    assert sorted(sent) == [texts[:2], texts[2:]]  # side by side, so that either may come first
    assert embedder.embed([]) == []


def test_sdk_clients_send_to_the_service_alone(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The httpx client for SDKs replaces key and OPENAI_* headers, and refuses any other address."""
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Secret: yes\nX-Other: also")
    with http_client(base_url=server.base_url, api_key=server.api_key) as client:
        answer = client.get(
            "/models",
            headers={
                "Authorization": "Bearer sk-openai",
                "OpenAI-Organization": "org",
                "X-Secret": "yes",
                "X-Mine": "1",
            },
        )
        assert answer.status_code == 200
        (request,) = server.requests
        assert request.headers["authorization"] == f"Bearer {server.api_key}"
        assert request.headers["x-mine"] == "1"
        assert not {"openai-organization", "x-secret", "x-other"} & set(request.headers)
        with pytest.raises(Exception, match=r"api\.openai\.com"):
            client.get("https://api.openai.com/v1/models")
    with pytest.raises(ResidencyError):
        http_client(model="gpt-4.1", residency="germany", api_key="k")


def test_one_line_for_all(server: Emulator) -> None:
    """Vision and an SDK's client that ask the same model share one bound of requests in flight."""
    crowd = Crowd()
    with Emulator(ocr=False, reply=crowd) as busy:
        limits = Limits(in_flight=1)
        vision = Vision(base_url=busy.base_url, api_key=busy.api_key, limits=limits)
        sdk = http_client(base_url=busy.base_url, api_key=busy.api_key, limits=limits)
        body = {"model": vision.model, "messages": [{"role": "user", "content": "Hello"}]}
        threads = [threading.Thread(target=lambda: sdk.post("/chat/completions", json=body)) for _ in range(5)]
        for thread in threads:
            thread.start()
        list(vision.read_many([PNG] * 5))
        for thread in threads:
            thread.join()
        sdk.close()
        assert len(busy.requests) == 10
    assert crowd.most == 1
    assert not server.requests


def test_a_limit_that_is_never_lifted_ends_with_an_error(server: Emulator) -> None:
    """A 429 that would have to be waited for beyond one's patience is an error that carries its words."""
    server.fail(429, times=50, retry_after=0.05)
    limits = Limits(patience=0.2)
    vision = Vision(base_url=server.base_url, api_key=server.api_key, limits=limits)
    with pytest.raises(RateLimitError, match="scripted fault 429"):
        vision.read(PNG)
