"""What LlamaIndex's instrumentation sees of readers and transforms."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.dispatcher import instrument_tags
from pydantic import Field

from aifs_vision import ImageFormatError
from llama_index_aifs import AIFSEmbedding, AIFSImageReader, ImageToText
from tests.pictures import corners, saved

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aifs_vision.emulator import Emulator

PNG = saved(corners())


class Events(BaseEventHandler):
    """Keeps what it is told, and says so when a request begins."""

    seen: list[Any] = Field(default_factory=list)
    begun: Any = None

    def handle(self, event: Any, **_: Any) -> None:
        """One more event."""
        self.seen.append(event)
        if self.begun is not None and event.class_name() == "ImageRequestStartEvent":
            self.begun()

    def named(self, name: str) -> list[Any]:
        """The events of a class."""
        return [event for event in self.seen if event.class_name() == name]


@pytest.fixture
def watched() -> Iterator[tuple[Events, SimpleSpanHandler]]:
    """Handlers of events and spans at the root, for as long as a test lasts."""
    root, events, spans = get_dispatcher(), Events(), SimpleSpanHandler()
    before = root.event_handlers, root.span_handlers
    root.event_handlers, root.span_handlers = [*before[0], events], [*before[1], spans]
    yield events, spans
    root.event_handlers, root.span_handlers = before


def own(spans: list[Any], kind: str = ".read-") -> list[Any]:
    """The spans of this project's runs, or of their requests."""
    return [span for span in spans if kind in span.id_]


def run(kind: str, source: Any, **options: Any) -> None:
    """Reads an image or a folder in one of the ways there are."""
    documents = AIFSImageReader(task=None).load_data(source)
    reader, transform = AIFSImageReader(task="caption", **options), ImageToText(task="caption", **options)
    if kind == "reader":
        reader.load_data(source)
    elif kind == "reader, async":
        asyncio.run(reader.aload_data(source))
    elif kind == "transform":
        transform(documents)
    else:
        asyncio.run(transform.acall(documents))


KINDS = pytest.mark.parametrize("kind", ["reader", "reader, async", "transform", "transform, async"])


@pytest.mark.usefixtures("environment")
@KINDS
def test_a_run_is_a_span_with_an_event_for_each_image(kind: str, folder: Path, watched: Any) -> None:
    """A span from the first to the last image, with what was asked, what each image took, and the sum of it."""
    events, spans = watched
    run(kind, folder)
    documents = AIFSImageReader(task=None).load_data(folder)
    _, span, _ = own(spans.completed_spans)  # beside it those of the lists
    assert not spans.open_spans
    (start,), images, (end,) = (
        [event for event in events.named(name) if event.span_id == span.id_]
        for name in ("ReadingStartEvent", "ImageReadEvent", "ReadingEndEvent")
    )
    assert (start.model, start.task) == (ImageToText().vision.model, "caption")
    assert [(image.source, image.page) for image in images] == [
        (document.metadata["source"], document.metadata["page"]) for document in documents
    ]
    assert {image.status for image in images} == {"ok"}
    assert sum(image.requests for image in images) == end.report["requests"] == 4
    assert sum(image.input_tokens for image in images) == end.report["input_tokens"] > 0


@pytest.mark.usefixtures("environment")
@KINDS
def test_each_request_is_a_span_inside_of_its_run(kind: str, folder: Path, server: Emulator, watched: Any) -> None:
    """One that is sent again because it failed is two: one that has failed, and one that has not; with its events."""
    events, spans = watched
    server.fail(503, retry_after=0.01)
    run(kind, folder / "a.png")
    (around,) = [span for span in own(spans.completed_spans) if span.id_.startswith(kind_of(kind))][-1:]
    (failed,), (answered,) = own(spans.dropped_spans, ".request-"), own(spans.completed_spans, ".request-")
    assert {failed.parent_id, answered.parent_id} == {around.id_}
    assert around.start_time <= failed.start_time <= answered.start_time <= answered.end_time <= around.end_time
    starts, ends = events.named("ImageRequestStartEvent"), events.named("ImageRequestEndEvent")
    assert [event.span_id for event in starts] == [event.span_id for event in ends] == [failed.id_, answered.id_]
    assert [(event.source, event.page, event.attempt) for event in starts] == [
        (str(folder / "a.png"), 1, 1),
        (str(folder / "a.png"), 1, 2),
    ]
    assert [(event.status, event.error, event.input_tokens > 0) for event in ends] == [
        (503, None, False),
        (200, None, True),
    ]
    assert len(server.requests) == 2
    assert not spans.open_spans


def kind_of(kind: str) -> str:
    """The class that runs in this way."""
    return "AIFSImageReader" if kind.startswith("reader") else "ImageToText"


@pytest.mark.usefixtures("environment")
def test_requests_have_the_tags_of_who_asks(folder: Path, watched: Any) -> None:
    """Tags that are set around a loading are on the events and spans of its requests, too."""
    events, spans = watched
    with instrument_tags({"tenant": "blue"}):
        AIFSImageReader(task="caption").load_data(folder / "a.png")
    told = [event for event in events.seen if event.class_name().startswith(("Reading", "Image"))]
    assert {event.tags.get("tenant") for event in told} == {"blue"}
    assert [span.tags for span in own(spans.completed_spans, ".request-")] == [{"tenant": "blue"}]


@pytest.mark.usefixtures("environment")
def test_neither_pictures_nor_keys_are_in_it(folder: Path, server: Emulator, watched: Any) -> None:
    """Events are small, can be JSON, and have neither a picture, a text nor the key in them."""
    AIFSImageReader(task="caption").load_data([folder, PNG])
    AIFSEmbedding().get_text_embedding("Rechnung")
    events, _ = watched
    of_readings = [event for event in events.seen if event.class_name().startswith(("Reading", "Image"))]
    assert len(of_readings) == 7 + 2 * 5
    for event in of_readings:
        assert len(json.dumps(event.model_dump(mode="json"))) < 1_000
        assert "fixed answer" not in str(event.model_dump())
    assert server.api_key not in "".join(str(event.model_dump()) for event in events.seen)


@pytest.mark.usefixtures("environment")
def test_failures(folder: Path, server: Emulator, watched: Any) -> None:
    """A failure has its event, without the service's own words; a run that raises is a span that is dropped."""
    events, spans = watched
    server.fail(400, body='{"detail": "private words"}')
    AIFSImageReader(task="caption", on_error="keep").load_data(folder / "a.png")
    (failed,) = events.named("ImageReadEvent")
    assert (failed.status, "400" in failed.error) == ("failed", True)
    server.fail(400, body='{"detail": "private words"}')
    AIFSImageReader(task="caption", on_error="skip").load_data(folder / "a.png")
    end = events.named("ReadingEndEvent")[-1]
    assert end.report["failures"] == [{"source": str(folder / "a.png"), "page": 1, "status": "failed"}]
    assert "private words" not in "".join(str(event.model_dump()) for event in events.seen)
    (folder / "a.png").write_text("not a picture")
    with pytest.raises(ImageFormatError):
        AIFSImageReader(task="caption").load_data(folder)
    assert len(own(spans.dropped_spans)) == 1
    assert not spans.open_spans


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("kind", ["reader", "transform"])
async def test_a_run_that_is_cancelled_has_ended(kind: str, folder: Path, server: Emulator, watched: Any) -> None:
    """Neither the span of a run that is cancelled nor those of its requests stay open, and each has its events."""
    events, spans = watched
    server.fail("slow", seconds=5, times=4)
    begun, loop = asyncio.Event(), asyncio.get_running_loop()
    events.begun = lambda: loop.call_soon_threadsafe(begun.set)
    documents = AIFSImageReader(task=None).load_data(folder)
    reader, transform = AIFSImageReader(task="caption"), ImageToText(task="caption")
    work = asyncio.ensure_future(reader.aload_data(folder) if kind == "reader" else transform.acall(documents))
    await begun.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert not spans.open_spans
    starts, ends = (events.named(f"ImageRequest{when}Event") for when in ("Start", "End"))
    assert {event.span_id for event in starts} == {event.span_id for event in ends}
    assert {event.error for event in ends} == {"CancelledError"}


@pytest.mark.usefixtures("environment")
def test_a_loading_that_is_left_early_has_ended(folder: Path, watched: Any) -> None:
    """Whoever has seen enough closes the span, and it is none that went wrong; it is nobody's parent meanwhile."""
    events, spans = watched
    documents = AIFSImageReader(task="caption").lazy_load_data(folder)
    next(iter(documents))
    assert spans.open_spans
    AIFSEmbedding().get_text_embedding("Rechnung")
    documents.close()  # type: ignore[attr-defined]
    (span,) = own(spans.completed_spans)
    inside = [other for other in spans.completed_spans if other.parent_id == span.id_]
    assert inside == own(spans.completed_spans, ".request-")
    assert not spans.open_spans
    assert not spans.dropped_spans
    assert events.named("ReadingEndEvent")
