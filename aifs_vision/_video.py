"""Frames of a video: at even times or at changes of scene, each with its time; by PyAV (extra `video`)."""

from __future__ import annotations

import io
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aifs_vision._errors import ImageBrokenError, ImageFormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image

    from aifs_vision._formats import Format

__all__ = ["Clip", "Moment", "even", "every", "open_clip", "picture_at", "scenes"]

_TRIED = 120  # moments looked at to find changes of scene
_THUMB = (32, 18)  # px; enough to see that the scene has changed, too little to see a hand move
_CHANGED = 18.0  # levels of 255, on average, between two scenes
_EARLY = 0.001  # seconds; times are rounded to the stream's own clock
_DEMUXERS = {"MP4 or MOV video": "mov", "WebM or Matroska video": "matroska", "AVI video": "avi"}
_DECODED = 2_000  # frames decoded at most to get to one moment; key frames lie 250 apart as a rule


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One frame of a video: its number, counted from 1, and its time in seconds."""

    number: int
    time: float


@dataclass(frozen=True, kw_only=True)
class Clip:
    """What the header of a video says: upright size in px, number of frames, seconds, frames a second."""

    width: int
    height: int
    frames: int
    seconds: float
    rate: float


def open_clip(source: str, data: bytes, kind: Format) -> Clip:
    """Reads the header of a video.

    Raises:
        ImageFormatError: the extra `video` is not installed.
        ImageBrokenError: there is no picture in it, or it is damaged.
    """
    with _stream(source, data, kind) as (container, stream):
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        seconds = _seconds(container, stream, rate)
        frames = stream.frames or max(1, round(seconds * rate))
        first = _frame_at(container, stream, 0.0)
        width, height = first.width, first.height
        if _turns(first) % 2:
            width, height = height, width
        return Clip(width=width, height=height, frames=frames, seconds=seconds, rate=rate)


def even(clip: Clip, most: int) -> list[Moment]:
    """At most so many moments, each in the middle of an equal part of the video."""
    count = max(1, min(most, clip.frames))
    return _numbered(clip, [(part + 0.5) * clip.seconds / count for part in range(count)])


def every(clip: Clip) -> list[Moment]:
    """All frames."""
    return [Moment(number=number, time=(number - 1) / clip.rate) for number in range(1, clip.frames + 1)]


def scenes(source: str, data: bytes, kind: Format, clip: Clip, most: int) -> list[Moment]:
    """The first moment, and those where the scene is another one than before: at most so many, the clearest.

    Up to 120 even moments are looked at; scenes between two of them are not seen.
    """
    moments = even(clip, _TRIED)
    changes: list[tuple[float, Moment]] = []
    with _stream(source, data, kind) as (container, stream):
        before: bytes | None = None
        for moment in moments:
            thumb = (
                _frame_at(container, stream, moment.time)
                .to_image(width=_THUMB[0], height=_THUMB[1])
                .convert("L")
                .tobytes()
            )
            if before is None:
                changes.append((float("inf"), moment))
            else:
                change = sum(abs(a - b) for a, b in zip(before, thumb, strict=True)) / len(thumb)
                if change >= _CHANGED:
                    changes.append((change, moment))
            before = thumb
    clearest = sorted(changes, key=lambda found: -found[0])[:most]
    return sorted((moment for _, moment in clearest), key=lambda moment: moment.time)


def picture_at(source: str, data: bytes, kind: Format, time: float) -> Image.Image:
    """The frame that is shown at this time, upright, as an RGB picture.

    Raises:
        ImageBrokenError: it cannot be decoded.
    """
    with _stream(source, data, kind) as (container, stream):
        frame = _frame_at(container, stream, time)
        picture: Image.Image = frame.to_image()
        return picture.rotate(90 * _turns(frame), expand=True) if _turns(frame) else picture


def _numbered(clip: Clip, times: list[float]) -> list[Moment]:
    """The moments at these times; each frame once, also in a video of a few frames."""
    numbers = sorted({min(clip.frames, int(time * clip.rate) + 1) for time in times})
    return [Moment(number=number, time=(number - 1) / clip.rate) for number in numbers]


@contextmanager
def _stream(source: str, data: bytes, kind: Format) -> Iterator[tuple[Any, Any]]:
    """The first video stream, open; whatever goes wrong with it is the picture's error."""
    try:
        import av
    except ImportError as error:
        raise ImageFormatError.needs(source, kind.name, kind.extra) from error
    try:
        # The demuxer is named, so that none is tried that reads lists of other files.
        with av.open(io.BytesIO(data), format=_DEMUXERS[kind.name]) as container:
            if not container.streams.video:
                raise ImageBrokenError(source, kind.name, "there is no picture in it, only sound")
            stream = container.streams.video[0]
            if stream.codec_context is None:  # PyAV before 18 would not survive to decode it
                raise ImageBrokenError(source, kind.name, "its codec is not known")
            stream.thread_type = "NONE"  # a frame here and there is quicker without a pool of threads for each
            yield container, stream
    except (av.error.FFmpegError, ValueError, EOFError, ArithmeticError, MemoryError) as error:
        raise ImageBrokenError(source, kind.name, getattr(error, "strerror", None) or str(error)) from error


def _seconds(container: Any, stream: Any, rate: float) -> float:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration:
        return float(container.duration) / 1_000_000  # AV_TIME_BASE
    return float(max(1, stream.frames) / rate)


def _frame_at(container: Any, stream: Any, time: float) -> Any:
    """The last frame that begins by `time`, or the first of all."""
    start = stream.start_time or 0
    container.seek(start + int(time / stream.time_base), stream=stream, backward=True)
    late = start * stream.time_base + time + _EARLY
    found = None
    for number, frame in enumerate(container.decode(stream)):
        if found is not None and (frame.time is None or frame.time > late or number > _DECODED):
            break
        found = frame
    if found is None:
        raise ValueError(f"there is no frame at {time:.2f} s")
    return found


def _turns(frame: Any) -> int:
    """Quarter turns to the left that make a frame upright: a phone writes them beside the picture."""
    return int(round(frame.rotation / 90) % 4)
