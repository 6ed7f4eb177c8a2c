"""One frame -> one reading: prepare, send, judge; a failure is a reading, too."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from aifs_vision._answers import Verdict, judge
from aifs_vision._errors import AIFSError, AnswerError, APIError, ImageError
from aifs_vision._exchange import exchange
from aifs_vision._folders import Unreadable
from aifs_vision._frames import Frame
from aifs_vision._images import prepare
from aifs_vision._joining import joined
from aifs_vision._loop import home
from aifs_vision._plan import plan
from aifs_vision._readings import RESULTS, Reading, Usage
from aifs_vision._sources import frames, name_of

if TYPE_CHECKING:
    from aifs_vision._catalogue import ModelCard
    from aifs_vision._frames import Frames
    from aifs_vision._guards import ImageLimits
    from aifs_vision._images import PreparedImage
    from aifs_vision._limits import Limits
    from aifs_vision._plan import Plan
    from aifs_vision._readings import Status
    from aifs_vision._settings import Settings
    from aifs_vision._sources import Source
    from aifs_vision._tasks import Task

__all__ = ["FrameReader"]

_MORE_ROOM = 3  # times its room for an answer that did not fit into it; once


@dataclass(frozen=True, kw_only=True)
class FrameReader:
    """Reads frames for one task with one model; what `Vision` and `Run` share."""

    settings: Settings
    model: str
    card: ModelCard
    limits: Limits
    image_limits: ImageLimits
    task: Task

    @property
    def in_flight(self) -> int:
        """How many frames may be asked about at once."""
        return self.limits.in_flight

    def open(self, source: Source | Unreadable, wanted: Frames = "auto") -> list[Frame]:
        """The frames of a source; blocks while it reads, so a worker thread calls it."""
        if isinstance(source, Unreadable):
            raise source.error
        return frames(source, wanted, self.image_limits)

    def failed(self, place: Source | Unreadable | Frame, error: AIFSError, *, pending: bool = False) -> Reading:
        """The reading that says why there is none."""
        if isinstance(place, Unreadable):
            frame = Frame(source=place.error.source)
        elif isinstance(error, ImageError):  # it knows the source, which may not be asked twice for its name
            frame = place if isinstance(place, Frame) else Frame(source=error.source)
        else:
            frame = place if isinstance(place, Frame) else Frame(source=name_of(place))
        return self._reading(frame, status="pending" if pending else "failed", error=error)

    async def read(self, frame: Frame) -> Reading:
        """The reading of a frame."""
        spent = _Spent()
        try:
            images = await self._on_cpu(self._prepare, frame)
            if len(images) == 1:
                ((image, request),) = images
                images.clear()
                verdict = await self._read_image(image, request, spent)
            else:
                verdict = await self._read_bands(images, spent)
        except AIFSError as error:
            return self._reading(frame, status="failed", error=error, spent=spent)
        reading = self._reading(frame, status=verdict.status, text=verdict.text, data=verdict.data, spent=spent)
        if reading.ok:
            return reading
        return replace(reading, error=AnswerError(reading, verdict.reason))

    async def _read_image(self, image: PreparedImage, request: Plan, spent: _Spent) -> Verdict:
        """The verdict on one image; an answer that did not fit is given more room, once."""
        verdict = await self._ask(request, spent)
        if verdict.status == "truncated" and (room := self._more_room()) > self.task.max_tokens:
            verdict = await self._ask(await self._on_cpu(self._plan, image, room), spent)
        return verdict

    async def _read_bands(self, images: list[tuple[PreparedImage, Plan]], spent: _Spent) -> Verdict:
        """One verdict on all bands of a page: their texts joined, and the worst of what was said of them.

        Raises:
            APIError: a band could not be asked for; the page has no reading then, as half a page is none.
        """
        asked = [asyncio.ensure_future(self._read_image(image, request, spent)) for image, request in images]
        shared = [image.shared for image, _ in images]
        images.clear()
        try:
            verdicts = await asyncio.gather(*asked)
        finally:
            for question in asked:
                question.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        text = joined([verdict.text for verdict in verdicts], shared)
        usage = sum((verdict.usage for verdict in verdicts), Usage())
        for number, verdict in enumerate(verdicts, start=1):
            if verdict.status not in RESULTS:
                reason = f"band {number} of {len(verdicts)}: {verdict.reason}"
                return replace(verdict, text=text, reason=reason, usage=usage)
        status: Status = "ok" if any(verdict.status == "ok" for verdict in verdicts) else "empty"
        return Verdict(status=status, text=text, usage=usage)

    def _prepare(self, frame: Frame) -> list[tuple[PreparedImage, Plan]]:
        images = prepare(frame, self.card, self.task, self.image_limits)
        return [(image, self._plan(image, self.task.max_tokens)) for image in images]

    def _plan(self, image: PreparedImage, room: int) -> Plan:
        return plan(image, self.model, self.card, self.task, room=room)

    def _more_room(self) -> int:
        wanted = self.task.max_tokens * _MORE_ROOM
        return min(wanted, self.card.max_output_tokens or wanted)

    async def _on_cpu(self, work: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(home().cpu, work, *arguments)

    async def _ask(self, request: Plan, spent: _Spent) -> Verdict:
        """One question, judged; `spent` grows by what it took, also when it fails."""
        try:
            answer, attempts = await exchange(
                "POST",
                f"{self.settings.base_url}/chat/completions",
                self.settings,
                model=self.model,
                limits=self.limits,
                cost=request.cost,
                body=request.body,
            )
        except APIError as error:
            spent.attempts += error.attempts
            raise
        spent.attempts += attempts
        verdict = judge(answer, self.task)
        spent.usage += verdict.usage
        return verdict

    def _reading(
        self,
        frame: Frame,
        *,
        status: Status,
        text: str = "",
        data: Any = None,
        error: AIFSError | None = None,
        spent: _Spent | None = None,
    ) -> Reading:
        spent = spent or _Spent()
        return Reading(
            text=text,
            data=data,
            status=status,
            error=error,
            source=frame.source,
            page=frame.page,
            total_pages=frame.total_pages,
            width=frame.width,
            height=frame.height,
            time=frame.time,
            mime_type=frame.kind.mime_type if frame.kind else None,
            image_sha256=frame.sha256,
            model=self.model,
            task=self.task.name,
            prompt_version=self.task.version,
            usage=spent.usage,
            cost_eur=self.card.cost_eur(spent.usage.input_tokens, spent.usage.output_tokens),
            attempts=spent.attempts,
        )


class _Spent:
    """What the requests of one reading took together."""

    def __init__(self) -> None:
        self.attempts, self.usage = 0, Usage()
