"""`Vision`: images in, readings out."""

from __future__ import annotations

import asyncio
from difflib import get_close_matches
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal

from aifs_vision._budget import Budget
from aifs_vision._catalogue import ModelCard, model_card
from aifs_vision._errors import ResidencyError, SettingsError, SeveralPagesError
from aifs_vision._estimate import Estimate, Estimator, estimate_of
from aifs_vision._folders import Spread
from aifs_vision._guards import ImageLimits
from aifs_vision._interview import Spent, Way
from aifs_vision._limits import Limits
from aifs_vision._listing import list_models
from aifs_vision._loop import call, call_async
from aifs_vision._reader import FrameReader
from aifs_vision._recall import Recall, cache_of
from aifs_vision._run import Run
from aifs_vision._settings import choose_plan, resolve
from aifs_vision._tasks import Task
from aifs_vision._tracing import observer
from aifs_vision._ways import with_queue
from aifs_vision._work import Work

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from aifs_vision._cache import Cache
    from aifs_vision._frames import Frames
    from aifs_vision._readings import Reading
    from aifs_vision._sources import Source
    from aifs_vision._tracing import OnRequest
    from aifs_vision._work import OnError

__all__ = ["DEFAULT_MODEL", "Vision"]

DEFAULT_MODEL = "Qwen3-VL-30B-A3B-Instruct-FP8"


class Vision:
    """A model that reads images, and the settings to reach it; safe to share among threads and loops.

        vision = Vision()                                            # AIFS_API_KEY, the default model
        vision.read("scan.jpg", task="ocr").text
        for reading in vision.read_many("photos/", task="caption", on_error="skip"):
            print(reading.source, reading.text)

    Args:
        model: a vision model of the service, by its full or its short name.
        api_key: else `AIFS_API_KEY`, else `OPENAI_API_KEY` while `OPENAI_BASE_URL` is the service.
        base_url: else `AIFS_BASE_URL`, else the service's address.
        residency: "germany" or "eu" refuses models whose region is elsewhere or unknown; else
            `AIFS_RESIDENCY`, else no guard.
        plan: "essential", "professional" or "agentic": which limits of the price list to keep to.
        limits: other limits than the plan's.
        cache: a file for readings, so that none is paid twice, or any object with `get(key)` and `put(key, text)`.
        queue: True sends to `/queue`, where the service works requests off in the background; give it more timeout.
            "auto" moves over to it when the model has answered 429 for a minute.
        timeout: seconds one request may take.
        max_cost: EUR that all requests of this object may cost; the one that could exceed it is not sent.
        fallback_model: asked where the model stays unavailable; its readings say so in `Reading.model`, and a cache
            keeps them as that model's: once the first one is back, it is asked.
        image_limits: how large files and pictures may be that are opened.

    Raises:
        SettingsError: no key, a setting that cannot be right, a model that takes no images, or one without a known
            price where there is a `max_cost`.
        ResidencyError: the region of a model is unknown or not allowed.
        CacheError: the cache is a file of something else, or of a later version.
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        residency: str | None = None,
        plan: str = "essential",
        limits: Limits | None = None,
        cache: Cache | str | os.PathLike[str] | None = None,
        queue: bool | Literal["auto"] = False,
        timeout: float = 120.0,
        max_cost: float | None = None,
        fallback_model: str | None = None,
        image_limits: ImageLimits | None = None,
    ) -> None:
        self._settings = resolve(api_key=api_key, base_url=base_url, residency=residency, queue=queue, timeout=timeout)
        self._plan, self._queue = choose_plan(plan), queue
        if image_limits is not None and not isinstance(image_limits, ImageLimits):
            raise SettingsError.bad_value("image_limits", image_limits, "it is an ImageLimits(...), or None")
        self._image_limits = image_limits or ImageLimits()
        own = self._way(model, limits)
        self._model, self._card, self._limits, self._fallback_model = model, own.card, limits, fallback_model
        self._ways = with_queue(own) if queue == "auto" else [own]
        if fallback_model is not None:
            self._ways.append(self._way(fallback_model, None))
        self._cache = cache_of(cache)
        self._max_cost, self._budget = max_cost, None if max_cost is None else Budget(max_cost)
        for way in self._ways if self._budget else ():
            if way.card.input_eur is None:
                raise SettingsError.bad_value("max_cost", max_cost, f"the price of {way.model!r} is not known")

    def _way(self, model: str, limits: Limits | None) -> Way:
        """The way to a model that takes images and may be asked."""
        if not isinstance(model, str) or not model:
            raise SettingsError.bad_value("model", model, "it is the name of a model, such as 'gpt-4.1'")
        card = model_card(model)
        if not card.takes_images:
            raise SettingsError.blind_model(model)
        if not card.allowed_in(self._settings.residency):
            raise ResidencyError(model, card.region, str(self._settings.residency))
        return Way(settings=self._settings, model=model, card=card, limits=Limits.chosen(limits, card, self._plan))

    @classmethod
    def of(cls, vision: Vision | None, **options: Any) -> Vision:
        """The given Vision, or a new one made of the options: what takes `vision=None, **vision_options` calls.

        Raises:
            TypeError: both are given, or something else than a Vision, or an option that is none of Vision's.
        """
        known = list(signature(cls).parameters)
        for name in options.keys() - set(known):
            close = get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise TypeError(f"unknown option {name!r}: {hint}")
        if vision is None:
            return cls(**options)
        if not isinstance(vision, Vision):
            raise TypeError(f"vision={vision!r} is not a Vision; give one, or its options, such as model=...")
        if options:
            raise TypeError(f"give either vision=... or its options ({', '.join(sorted(options))}), not both")
        return vision

    @property
    def model(self) -> str:
        """The model's name, as given."""
        return self._model

    @property
    def card(self) -> ModelCard:
        """What the catalogue knows of the model."""
        return self._card

    def read(self, source: Source, task: str | Task = "describe") -> Reading:
        """The reading of one image.

        Args:
            source: a path, http(s) URL, data URI, bytes, file object, PIL image, or (name, bytes).
            task: "caption", "ocr", "describe", or a Task.

        Raises:
            ImageError: the image cannot be read; SeveralPagesError where it has several pages.
            APIError: the service did not answer, or refused.
            AnswerError: the model's answer is no result (truncated, refused, filtered, ...).
        """
        return call(self._read(source, self._reader(task)))

    async def aread(self, source: Source, task: str | Task = "describe") -> Reading:
        """The asynchronous twin of `read()`; it may be called from any event loop."""
        return await call_async(self._read(source, self._reader(task)))

    def read_many(
        self,
        sources: Source | Iterable[Source],
        task: str | Task = "describe",
        *,
        on_error: OnError = "raise",
        ordered: bool = True,
        frames: Frames = "auto",
        glob: str = "**/*",
        progress: bool = False,
        on_request: OnRequest | None = None,
    ) -> Run:
        """A run over many images: one reading for each page or frame, in the order of the sources.

        Args:
            sources: an iterable of sources, or one of them; folders stand for the images in them. An iterator
                is asked in a worker thread, a few sources ahead.
            task: "caption", "ocr", "describe", or a Task.
            on_error: "raise" the first failure at its place in the order, "skip" failures (logged and in the
                report), or "keep" them as readings with their status and error.
            ordered: False gives each reading as soon as it is there.
            frames: which frames of animated pictures and videos; pages of documents are always all read. "auto"
                takes the first of an animation and eight of a video, "first" and "all" mean both, a number so
                many at even times, "scenes" up to sixteen, each the first of another scene.
            glob: which files of a folder; hidden ones are left out, and PDF files and videos unless it names them.
            progress: show on stderr how far the run is; nicely where rich (extra `cli`) and a terminal are there.
            on_request: called with a `SentRequest` when an HTTP request is sent, and again when it has ended; those
                that are sent again because they failed are requests of their own. It is called on the background
                loop, so it is to be quick and must not wait for another reading; what it raises ends the run.

        While it is iterated it raises what `read()` raises, if `on_error` is "raise"; and whatever `on_error` is,
        ImageNotFoundError for a lone path that does not exist or a folder without images. A key that is refused
        (AuthenticationError, PermissionDeniedError) also ends a run that skips, as it would skip every image.

        Raises:
            SettingsError: an argument outside its choices.
        """
        spread = Spread.checked(sources, frames, glob)
        reader = self._reader(task, on_request=observer(on_request))
        return Run(Work(reader, spread, on_error, frames, ordered=ordered, watched=progress))

    def estimate(
        self,
        sources: Source | Iterable[Source],
        task: str | Task = "describe",
        *,
        frames: Frames = "auto",
        glob: str = "**/*",
    ) -> Estimate:
        """What `read_many()` with the same arguments would take; nothing is sent.

        The pictures are opened, prepared and looked at, so it takes the time that takes.

        Raises:
            SettingsError: an argument outside its choices.
            ImageNotFoundError: a lone path that does not exist, or a folder without images.
        """
        return call(self._estimate(sources, task, frames, glob))

    async def aestimate(
        self,
        sources: Source | Iterable[Source],
        task: str | Task = "describe",
        *,
        frames: Frames = "auto",
        glob: str = "**/*",
    ) -> Estimate:
        """The asynchronous twin of `estimate()`."""
        return await call_async(self._estimate(sources, task, frames, glob))

    def models(self) -> list[ModelCard]:
        """The models the key may use: the service's own list, each with what the catalogue knows of it.

        Raises:
            APIError: the service did not answer, or refused.
        """
        return call(list_models(self._settings))

    def __repr__(self) -> str:
        settings = self._settings
        return f"Vision({self._model!r}, base_url={settings.base_url!r}, residency={settings.residency!r})"

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the key: whoever unpickles it takes the key from its own environment."""
        return {
            "model": self._model,
            "base_url": self._settings.base_url,
            "residency": self._settings.residency,
            "plan": self._plan,
            "limits": self._limits,
            "cache": self._cache,
            "queue": "auto" if self._queue == "auto" else False,  # else it is in the address already
            "timeout": self._settings.timeout,
            "max_cost": self._max_cost,
            "fallback_model": self._fallback_model,
            "image_limits": self._image_limits,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __copy__(self) -> Vision:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Vision:
        return self

    def _reader(
        self, task: str | Task, kind: type[FrameReader] = FrameReader, *, on_request: OnRequest | None = None
    ) -> FrameReader:
        return kind(
            ways=self._ways,
            image_limits=self._image_limits,
            task=Task.of(task),
            recall=None if self._cache is None else Recall(self._cache),
            budget=self._budget,
            on_request=on_request,
        )

    async def _read(self, source: Source, reader: FrameReader) -> Reading:
        opened = await asyncio.get_running_loop().run_in_executor(None, reader.open, source)
        if len(opened) > 1:
            raise SeveralPagesError(opened[0].source, len(opened))
        reading = await reader.read(opened[0], Spent())
        if reading.error is not None:
            raise reading.error
        return reading

    async def _estimate(
        self, sources: Source | Iterable[Source], task: str | Task, frames: Frames, glob: str
    ) -> Estimate:
        reader = self._reader(task, Estimator)
        work = Work(reader, Spread.checked(sources, frames, glob), "keep", frames, ordered=False, watched=False)
        try:
            while (outcome := await work.next()) is not None:
                if isinstance(outcome, BaseException):
                    raise outcome
        finally:
            await work.close()
        return estimate_of(work.report(), self._ways[0].limits)
