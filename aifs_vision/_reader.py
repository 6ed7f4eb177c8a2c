"""One frame -> one reading: recall or prepare, ask, judge; a failure is a reading, too."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from aifs_vision._answers import Verdict
from aifs_vision._api_errors import AnswerError, APIError, BudgetError, ContextLengthError, RequestTooLargeError
from aifs_vision._errors import AIFSError, ImageError
from aifs_vision._folders import Unreadable
from aifs_vision._frames import Frame
from aifs_vision._images import prepare
from aifs_vision._interview import Interview, Spent, first_manner
from aifs_vision._joining import joined
from aifs_vision._loop import home
from aifs_vision._plan import plan
from aifs_vision._readings import RESULTS, Reading
from aifs_vision._sources import frames, name_of
from aifs_vision._ways import UNAVAILABLE, open_ways, succeeded, unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aifs_vision._budget import Budget
    from aifs_vision._frames import Frames
    from aifs_vision._guards import ImageLimits
    from aifs_vision._images import PreparedImage
    from aifs_vision._interview import Way
    from aifs_vision._plan import Manner, Plan
    from aifs_vision._readings import Status
    from aifs_vision._recall import Recall
    from aifs_vision._sources import Source
    from aifs_vision._tasks import Task
    from aifs_vision._tracing import OnRequest

__all__ = ["FrameReader"]

_PREPARATION = "1"  # counts up whenever the same picture would be sent, or asked about, in another way
_SMALLER = 0.5  # of its sides, for a picture that was too large for the service


@dataclass(frozen=True, kw_only=True)
class FrameReader:
    """Reads frames for one task; what `Vision` and `Run` share.

    Attributes:
        ways: to the model, and to what stands in for it, in their order.
        on_request: told of each request; None where nobody listens.
    """

    ways: Sequence[Way]
    image_limits: ImageLimits
    task: Task
    recall: Recall | None
    budget: Budget | None
    on_request: OnRequest | None = None

    @property
    def in_flight(self) -> int:
        """How many frames may be asked about at once."""
        return max(way.limits.in_flight for way in self.ways)

    def open(self, source: Source | Unreadable, wanted: Frames = "auto") -> list[Frame]:
        """The frames of a source; blocks while it reads, so a worker thread calls it."""
        if isinstance(source, Unreadable):
            raise source.error
        opened = frames(source, wanted, self.image_limits)
        for frame in opened if self.recall is not None else ():
            if self.recall is not None and frame.sha256 is not None:
                self.recall.look_up(self._key(frame, self.ways[0]))
        return opened

    def failed(self, place: Source | Unreadable | Frame, error: AIFSError) -> Reading:
        """The reading that says why there is none."""
        if isinstance(place, Unreadable):
            frame = Frame(source=place.error.source)
        elif isinstance(error, ImageError):  # it knows the source, which may not be asked twice for its name
            frame = place if isinstance(place, Frame) else Frame(source=error.source)
        else:
            frame = place if isinstance(place, Frame) else Frame(source=name_of(place))
        return self._reading(frame, self.ways[0], status="failed", error=error)

    def pending(self, frame: Frame, error: AIFSError, spent: Spent) -> Reading:
        """The reading of a frame that was not read, as the run has ended before."""
        return self._reading(frame, self.ways[0], status="pending", error=error, spent=spent)

    async def read(self, frame: Frame, spent: Spent) -> Reading:
        """The reading of a frame, by the first way that is to be had; `spent` grows by what it takes."""
        *others, last = open_ways(self.ways)
        for way in others:
            try:
                return await self._read(frame, way, spent)
            except UNAVAILABLE as error:
                unavailable(way, error)
            except AIFSError as error:
                return self._without_result(frame, way, error, spent)
        try:
            return await self._read(frame, last, spent)
        except AIFSError as error:
            return self._without_result(frame, last, error, spent)

    def _without_result(self, frame: Frame, way: Way, error: AIFSError, spent: Spent) -> Reading:
        status: Status = "pending" if isinstance(error, BudgetError) or error is spent.ended() else "failed"
        if isinstance(error, APIError) and spent.models:  # of all questions, not of the last one alone
            error.attempts, error.waited = spent.total.attempts, spent.waited
        return self._reading(frame, way, status=status, error=error, spent=spent)

    async def _read(self, frame: Frame, way: Way, spent: Spent) -> Reading:
        async def ask() -> Verdict:
            if (ended := spent.ended()) is not None:
                raise ended
            verdict = await self._asked(frame, way, spent)
            succeeded(way)
            return verdict

        cached = False
        if self.recall is None or frame.sha256 is None:  # nobody knows what a URL shows tomorrow
            verdict = await ask()
        else:
            verdict, cached = await self.recall.verdict(self._key(frame, way), self.task, ask)
        reading = self._reading(
            frame, way, status=verdict.status, text=verdict.text, data=verdict.data, spent=spent, cached=cached
        )
        if reading.ok:
            return reading
        return replace(reading, error=AnswerError(reading, verdict.reason))

    def _key(self, frame: Frame, way: Way) -> str:
        """The name of a reading in a cache: whatever can change it is in it, and nothing else."""
        parts = (_PREPARATION, frame.sha256, frame.page, way.card.name, self.task.fingerprint)
        return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()

    async def _asked(self, frame: Frame, way: Way, spent: Spent) -> Verdict:
        """The verdict on a frame; one that is too large for the service or the model is sent once more, smaller."""
        images = await self._prepared(frame, way, self.task)
        size = max(max(image.width or 0, image.height or 0) for image, _ in images)
        try:
            return await self._verdict(images, way, spent)
        except (RequestTooLargeError, ContextLengthError):
            if not size:  # a URL, whose picture is not here
                raise
        smaller = self.task.sized(max(1, round(size * _SMALLER)))
        return await self._verdict(await self._prepared(frame, way, smaller), way, spent)

    async def _verdict(self, images: list[tuple[PreparedImage, Plan]], way: Way, spent: Spent) -> Verdict:
        """One verdict on all bands of a page: their texts joined, and the first of the failures among them.

        Raises:
            APIError: a band could not be asked for; the page has no reading then, as half a page is none.
        """
        interviews = [
            (
                Interview(way, self.task, image, spent, self.budget, on_request=self.on_request),
                request,
                image.shared,
            )
            for image, request in images
        ]
        images.clear()
        if len(interviews) == 1:
            ((interview, request, _),) = interviews
            return await interview.verdict(request)
        shared = [part for _, _, part in interviews]
        asked = [asyncio.ensure_future(interview.verdict(request)) for interview, request, _ in interviews]
        interviews.clear()
        try:
            verdicts = await asyncio.gather(*asked)
        finally:
            for question in asked:
                question.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        text = joined([verdict.text for verdict in verdicts], shared)
        for number, verdict in enumerate(verdicts, start=1):
            if verdict.status not in RESULTS:
                reason = f"band {number} of {len(verdicts)}: {verdict.reason}"
                return replace(verdict, text=text, reason=reason)
        status: Status = "ok" if any(verdict.status == "ok" for verdict in verdicts) else "empty"
        return Verdict(status=status, text=text)

    async def _prepared(self, frame: Frame, way: Way, task: Task) -> list[tuple[PreparedImage, Plan]]:
        manner = first_manner(way, task)
        return await asyncio.get_running_loop().run_in_executor(home().cpu, self.plans, frame, way, task, manner)

    def plans(self, frame: Frame, way: Way, task: Task, manner: Manner) -> list[tuple[PreparedImage, Plan]]:
        """What is sent for a frame: its picture, or the bands of it, each with its request; blocks."""
        images = prepare(frame, way.card, task, self.image_limits)
        return [(image, plan(image, way.model, way.card, task, manner)) for image in images]

    def _reading(
        self,
        frame: Frame,
        way: Way,
        *,
        status: Status,
        text: str = "",
        data: Any = None,
        error: AIFSError | None = None,
        spent: Spent | None = None,
        cached: bool = False,
    ) -> Reading:
        spent = spent or Spent()
        total = spent.total
        return Reading(
            text=text,
            data=data,
            status=status,
            error=error,
            **frame.facts(),
            model=way.model,
            task=self.task.name,
            prompt_version=self.task.version,
            usage=total.usage,
            cost_eur=None if way.card.input_eur is None else total.cost_eur,
            models=spent.models,
            requests=total.requests,
            attempts=total.attempts,
            waited=spent.waited,
            cached=cached,
        )
