"""Spans of OpenTelemetry: what they hold, whose children they are, and what they never hold."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from PIL import Image
from pydantic import BaseModel

from aifs_vision import (
    AuthenticationError,
    BadRequestError,
    Limits,
    ServiceError,
    Task,
    Vision,
)
from aifs_vision.emulator import Emulator
from tests.pictures import saved
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan

MODEL = "Qwen3-VL-30B-A3B-Instruct-FP8"
KEY, PROMPT, SAID, NAME = "key-of-mine", "Which colour is it?", "All of it is grey.", "photo-of-grandmother.png"
PICTURE = saved(Image.new("L", (40, 40), 128))


class Colour(BaseModel):
    """What a typed task fills in."""

    name: str


@pytest.fixture(scope="module")
def _exporter() -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    yield exporter
    provider.shutdown()


@pytest.fixture
def exporter(_exporter: InMemorySpanExporter) -> InMemorySpanExporter:
    """Where the spans of this process end up; empty of those of other tests."""
    _exporter.clear()
    return _exporter


@pytest.fixture
def grey() -> Iterator[Emulator]:
    """A server that says one thing, whatever it is asked."""
    with Emulator(api_key=KEY, ocr=False, reply=lambda _: SAID) as server:
        yield server


def client(server: Emulator, api_key: str = KEY) -> Vision:
    """A client without limits."""
    return Vision(MODEL, base_url=server.base_url, api_key=api_key, limits=Limits())


def only(exporter: InMemorySpanExporter) -> tuple[ReadableSpan, dict[str, Any]]:
    """The one span there is, and its attributes."""
    (span,) = exporter.get_finished_spans()
    return span, dict(span.attributes or {})


def test_a_span_has_the_names_of_the_semantic_conventions(exporter: InMemorySpanExporter, grey: Emulator) -> None:
    """A question is one span of a client: who was asked, how, by which address, and what the answer counted."""
    reading = client(grey).read(PICTURE, Task.ask(PROMPT, max_tokens=300))
    span, attributes = only(exporter)
    assert (span.name, span.kind, span.status.status_code) == (
        f"chat {MODEL}",
        trace.SpanKind.CLIENT,
        trace.StatusCode.UNSET,
    )
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "aifs_vision"
    assert attributes.pop("gen_ai.response.id")
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "aifs",
        "gen_ai.request.model": MODEL,
        "gen_ai.request.max_tokens": 300,
        "gen_ai.request.temperature": 0.1,
        "gen_ai.output.type": "text",
        "gen_ai.response.model": MODEL,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": reading.usage.input_tokens,
        "gen_ai.usage.output_tokens": reading.usage.output_tokens,
        "server.address": "127.0.0.1",
        "server.port": int(grey.base_url.split(":")[2].split("/")[0]),
    }


def test_a_typed_task_asks_for_json(exporter: InMemorySpanExporter) -> None:
    """A task with a schema has the output type "json"."""
    with Emulator(api_key=KEY, ocr=False, reply=lambda _: '{"name": "grey"}') as server:
        client(server).read(PICTURE, Task.extract(Colour))
    assert only(exporter)[1]["gen_ai.output.type"] == "json"


def test_all_attempts_are_one_span(exporter: InMemorySpanExporter, grey: Emulator) -> None:
    """A request that is sent again stays one span, which says how often; so does one that fails in the end."""
    grey.fail(503, times=2, retry_after=0.01)
    client(grey).read(PICTURE)
    assert only(exporter)[1]["http.request.resend_count"] == 2
    exporter.clear()
    grey.fail(503, times=4, retry_after=0.01)
    with pytest.raises(ServiceError):
        client(grey).read(PICTURE)
    assert only(exporter)[1]["http.request.resend_count"] == 3


def test_spans_are_children_of_the_span_of_their_caller(exporter: InMemorySpanExporter, grey: Emulator) -> None:
    """Whoever asks, a thread, a coroutine or a run of many images at once, its span is the parent of each question's.

    And the caller's context is as it was.
    """

    async def ask(vision: Vision) -> None:
        await vision.aread(PICTURE)

    tracer = trace.get_tracer("test")
    vision = client(grey)
    for way in (
        lambda: vision.read(PICTURE),
        lambda: list(vision.read_many([PICTURE] * 8)),
        lambda: asyncio.run(ask(vision)),
    ):
        exporter.clear()
        with tracer.start_as_current_span("outer") as outer:
            way()
            assert trace.get_current_span() is outer
        *inner, last = exporter.get_finished_spans()
        assert last.name == "outer"
        assert {span.parent.span_id if span.parent else None for span in inner} == {outer.get_span_context().span_id}
    assert not trace.get_current_span().get_span_context().is_valid


@pytest.mark.parametrize(
    ("fault", "body", "kind"),
    [
        (401, None, AuthenticationError),
        (400, json.dumps({"error": {"message": f"{PROMPT} {KEY} {SAID}"}}), BadRequestError),
    ],
)
def test_an_error_is_its_class_alone(
    exporter: InMemorySpanExporter, grey: Emulator, fault: int, body: str | None, kind: type[Exception]
) -> None:
    """A question that fails has the status ERROR and the class of its error; what the error says may be private."""
    grey.fail(fault, body=body)
    with pytest.raises(kind):
        client(grey).read((NAME, PICTURE), Task.ask(PROMPT))
    span, attributes = only(exporter)
    assert (span.status.status_code, span.status.description) == (trace.StatusCode.ERROR, kind.__name__)
    assert attributes["error.type"] == kind.__name__
    assert not span.events


def test_cancelling_is_no_error(exporter: InMemorySpanExporter) -> None:
    """A question nobody wants answered any more ends without the status ERROR, and says that it was cancelled."""
    with Emulator(api_key=KEY, ocr=False, latency=30) as server:
        vision = client(server)

        async def give_up() -> None:
            asked = asyncio.create_task(vision.aread(PICTURE))
            while not server.requests:  # noqa: ASYNC110 - what is waited for is no event of this loop
                await asyncio.sleep(0.01)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)

        asyncio.run(give_up())
        until(exporter.get_finished_spans)  # the question ends on a loop of its own
    span, attributes = only(exporter)
    assert span.status.status_code is trace.StatusCode.UNSET
    assert attributes["aifs_vision.cancelled"] is True
    assert "error.type" not in attributes


def test_nothing_private_is_in_a_span(exporter: InMemorySpanExporter, grey: Emulator) -> None:
    """No key, prompt, answer, picture or name of a file is in any span, whether it went well or not."""
    vision = client(grey)
    vision.read((NAME, PICTURE), Task.ask(PROMPT))
    grey.fail(400, body=json.dumps({"detail": f"no: {KEY} {PROMPT} {SAID} {NAME}"}))
    with pytest.raises(BadRequestError):
        vision.read((NAME, PICTURE), Task.ask(PROMPT))
    with pytest.raises(AuthenticationError):
        client(grey, "another-key").read((NAME, PICTURE), Task.ask(PROMPT))
    spans = exporter.get_finished_spans()
    assert len(spans) == 3
    told = "".join(span.to_json() for span in spans)
    sent = [b64encode(data).decode() for request in grey.requests for _, data in request.images]
    assert sent
    for secret in (KEY, "another-key", "Bearer", "authorization", PROMPT, SAID, NAME, "base64", *sent):
        assert secret[:40] not in told


# Read in a process of its own: this one has a provider, and has imported everything.
_READ = """
import sys
if sys.argv[3] == "absent": sys.modules["opentelemetry"] = None
import aifs_vision, aifs_vision._engine, aifs_vision._tracing
assert not any(name.startswith("opentelemetry.") for name in sys.modules), "imported before its first use"
vision = aifs_vision.Vision(base_url=sys.argv[1], api_key=sys.argv[2], limits=aifs_vision.Limits())
from PIL import Image
def read(): print(vision.read(Image.new("L", (40, 40))).text)
read()
if sys.argv[3] == "late":
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=lambda span: span.name + chr(10))))
    trace.set_tracer_provider(provider)
    read()
print("opentelemetry.trace" in sys.modules, "opentelemetry.sdk" in sys.modules)
"""


@pytest.mark.parametrize(
    ("way", "told"),
    [
        ("absent", [SAID, "False False"]),
        ("silent", [SAID, "True False"]),
        ("late", [SAID, "chat Qwen3-VL-30B-A3B-Instruct-FP8", SAID, "True True"]),
    ],
)
def test_without_a_provider_nothing_is_recorded(grey: Emulator, way: str, told: list[str]) -> None:
    """Without OpenTelemetry, or without a provider, reading works and records nothing; a provider may come late.

    Importing the package imports nothing of OpenTelemetry.
    """
    arguments = [sys.executable, "-W", "error", "-c", _READ, grey.base_url, KEY, way]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.splitlines(), done.stderr) == (told, "")
