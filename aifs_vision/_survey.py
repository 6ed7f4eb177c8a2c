"""The pages and frames of sources, found without asking a model: `survey_images`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aifs_vision._attaching import check_image_options
from aifs_vision._errors import AIFSError, ImageError
from aifs_vision._folders import Spread, Unreadable
from aifs_vision._formats import PDF
from aifs_vision._frames import Frame, page_of
from aifs_vision._guards import ImageLimits
from aifs_vision._readings import Reading
from aifs_vision._run import Run
from aifs_vision._sources import frames as frames_of
from aifs_vision._work import Work

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aifs_vision._frames import Frames
    from aifs_vision._interview import Spent
    from aifs_vision._sources import Source
    from aifs_vision._work import OnError

__all__ = ["survey_images"]

_IN_FLIGHT = 4  # nothing is waited for but the disk


def survey_images(
    sources: Source | Iterable[Source],
    *,
    on_error: OnError = "raise",
    frames: Frames = "auto",
    glob: str = "**/*",
    progress: bool = False,
    image_limits: ImageLimits | None = None,
) -> Run:
    """What `Vision.read_many` would read, without reading it: no key is needed, and nothing is sent.

        for image in survey_images("scans/"):
            print(image.source, image.page, image.width, image.height, image.image_sha256)

    It gives a Reading for each page or frame, with everything that is known of the picture from its header, its
    digest included; text, model and task are empty, and `id` is one of source and page alone. Bytes that are no
    picture and pictures that are too large are failures, as in a reading; what only a decoder finds out is not.

    Args:
        sources, on_error, frames, glob, progress: as for `Vision.read_many`.
        image_limits: how large files and pictures may be that are opened.

    Raises:
        SettingsError: an argument outside its choices.
    """
    check_image_options(frames=frames, image_limits=image_limits)
    surveyor = _Surveyor(image_limits=image_limits or ImageLimits())
    return Run(Work(surveyor, Spread.checked(sources, frames, glob), on_error, frames, ordered=True, watched=progress))


@dataclass(frozen=True, kw_only=True)
class _Surveyor:
    """Looks at headers, and asks nobody."""

    image_limits: ImageLimits
    in_flight: int = _IN_FLIGHT

    def open(self, source: Source | Unreadable, wanted: Frames) -> list[Frame]:
        """The frames of a source; blocks while it reads, so a worker thread calls it."""
        if isinstance(source, Unreadable):
            raise source.error
        return frames_of(source, wanted, self.image_limits)

    async def read(self, frame: Frame, spent: Spent) -> Reading:  # noqa: ARG002 - nothing is sent
        """What is known of a frame."""
        if frame.width is None or frame.height is None:  # a URL, whose picture is not here
            return _known(frame)
        drawn = frame.kind is PDF
        try:
            self.image_limits.check_size(frame.source, frame.width, frame.height, page=page_of(frame), drawn=drawn)
        except ImageError as error:
            return self.failed(frame, error)
        return _known(frame)

    def failed(self, place: Source | Unreadable | Frame, error: AIFSError) -> Reading:
        """What is known of a source or frame that cannot be read, and why."""
        if isinstance(place, Frame):
            return _known(place, error)
        assert isinstance(error, ImageError)  # noqa: S101 - what opening a source raises; it knows its name
        return _known(Frame(source=error.source), error)

    def pending(self, frame: Frame, error: AIFSError, spent: Spent) -> Reading:  # noqa: ARG002 - nothing is sent
        """What is known of a frame that came after the end."""
        return _known(frame, error)


def _known(frame: Frame, error: AIFSError | None = None) -> Reading:
    return Reading(
        status="ok" if error is None else "failed",
        error=error,
        **frame.facts(),
        model="",
        task="",
        prompt_version="",
    )
