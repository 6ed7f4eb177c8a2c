"""The bytes of a file -> frames: its pages, the first picture of an animation or those asked for, not yet decoded."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from aifs_vision import _pdf, _video
from aifs_vision._decoders import decoding, has_page, open_picture
from aifs_vision._errors import ImageFormatError, SettingsError
from aifs_vision._formats import AVIF, JPEG, PDF, PNG, VIDEOS, WEBP, Format, name_of_bytes, sniff
from aifs_vision._metadata import stripped
from aifs_vision._npy import NPY_MAGIC, picture_of_npy

if TYPE_CHECKING:
    from PIL import Image

    from aifs_vision._guards import ImageLimits

__all__ = [
    "Frame",
    "Frames",
    "check_frames",
    "frame_of_picture",
    "frames_of_bytes",
    "lies_sideways",
    "orientation_of",
    "page_of",
]

Frames = Literal["auto", "first", "all", "scenes"] | int
"""Which frames of an animation or video are read; pages of a document are always all read.

"auto": the first of an animated picture, eight of a video at even times. "first" and "all": of both. A number: so
many at even times. "scenes": up to sixteen, each the first of another scene.
"""

_NAMED_FRAMES = ("auto", "first", "all", "scenes")
_VIDEO_FRAMES, _SCENES = 8, 16
_ORIENTATION = 0x0112  # EXIF 2.3, tag 274


def check_frames(frames: Frames) -> None:
    """Raises SettingsError for what is none of `Frames`."""
    if frames not in _NAMED_FRAMES and (isinstance(frames, bool) or not isinstance(frames, int) or frames < 1):
        raise SettingsError.bad_choice("frames", frames, (*_NAMED_FRAMES, "a number from 1"))


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One picture of a source, not yet decoded.

    Attributes:
        source: what the user gave, as the text that goes into readings.
        page, total_pages: counted from 1; of a video the number of the frame and of all frames.
        width, height: px, upright; a PDF page as it would be drawn at 300 dots an inch; None for a URL.
        time: seconds from the start of a video; None for everything else.
        kind: the format of `data`; None for a URL or a picture that came decoded.
        sha256: digest of the source's bytes (of its pixels, if it came decoded); None for a URL.
        orientation: EXIF's, 1 to 8: how the pixels of `data` are to be turned.
        profile: the ICC profile, where it stood apart from the picture.
        clean: whether `data` has no metadata any more.
        data, picture, url: what there is to send; exactly one of them is set.
    """

    source: str
    page: int = 1
    total_pages: int = 1
    width: int | None = None
    height: int | None = None
    time: float | None = None
    kind: Format | None = None
    sha256: str | None = None
    orientation: int = 1
    profile: bytes | None = field(default=None, repr=False)
    clean: bool = False
    data: bytes | None = field(default=None, repr=False)
    picture: Image.Image | None = field(default=None, repr=False)
    url: str | None = None

    def facts(self) -> dict[str, Any]:
        """What a `Reading` of it says of the picture."""
        return {
            "source": self.source,
            "page": self.page,
            "total_pages": self.total_pages,
            "width": self.width,
            "height": self.height,
            "time": self.time,
            "mime_type": self.kind.mime_type if self.kind else None,
            "image_sha256": self.sha256,
        }


def page_of(frame: Frame) -> int | None:
    """The page to name in errors; None for the only one."""
    return frame.page if frame.total_pages > 1 else None


def lies_sideways(orientation: int) -> bool:
    """Whether this EXIF orientation swaps width and height."""
    return orientation >= 5  # noqa: PLR2004 - EXIF 2.3, tag 274


def frames_of_bytes(name: str, data: bytes, wanted: Frames, limits: ImageLimits) -> list[Frame]:
    """The frames of a file; their sizes are known, but not yet checked.

    Raises:
        ImageFormatError: no picture, or of a format whose extra is not installed.
        ImageBrokenError, ImageEncryptedError: it cannot be opened.
        ImageTooLargeError: more pages or frames than `limits` lets through.
    """
    digest = hashlib.sha256(data).hexdigest()
    if data.startswith(NPY_MAGIC):
        return [frame_of_picture(picture_of_npy(name, data, limits), name, digest)]
    kind = sniff(data)
    if kind is None:
        found, remedy = name_of_bytes(data)
        raise ImageFormatError(name, found, remedy=remedy)
    if kind is PDF:
        with decoding(name, kind):
            sizes = _pdf.page_sizes(name, data, lambda pages: limits.check_pages(name, pages), limits.max_seconds)
        whole = Frame(source=name, total_pages=len(sizes), kind=kind, sha256=digest, data=data)
        return [replace(whole, page=page, width=w, height=h) for page, (w, h) in enumerate(sizes, start=1)]
    if kind in VIDEOS:
        return _frames_of_video(Frame(source=name, kind=kind, sha256=digest, data=data), wanted, limits)
    return _frames_of_picture(Frame(source=name, kind=kind, sha256=digest, data=data), wanted, limits)


def frame_of_picture(picture: Image.Image, name: str, digest: str, *, orientation: int = 1) -> Frame:
    """The frame of a picture that came decoded."""
    width, height = picture.size[::-1] if lies_sideways(orientation) else picture.size
    return Frame(source=name, width=width, height=height, sha256=digest, orientation=orientation, picture=picture)


def orientation_of(picture: Image.Image) -> int:
    """The EXIF orientation as Pillow has it, 1 to 8; 1 where there is none or its data is damaged."""
    try:
        value = picture.getexif().get(_ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, struct.error):
        return 1
    return value if value in range(1, 9) else 1


def _frames_of_picture(whole: Frame, wanted: Frames, limits: ImageLimits) -> list[Frame]:
    kind, data = whole.kind, whole.data
    assert kind is not None  # noqa: S101 - given by the only caller
    assert data is not None  # noqa: S101
    still = wanted in {"auto", "first"} or wanted == 1
    bare = stripped(data, kind, animated=not still)
    with decoding(whole.source, kind):
        picture = open_picture(bare.data, kind)
        # Of AVIF Pillow tells the turning as EXIF does; of what could not be stripped it may know what we do not.
        asked = kind is AVIF or (kind in {JPEG, PNG, WEBP} and not bare.clean)
        orientation = orientation_of(picture) if asked else bare.orientation
        upright = replace(whole, orientation=orientation, profile=bare.profile, clean=bare.clean, data=bare.data)
        if kind.pages:
            sizes = [picture.size]
            while has_page(picture, len(sizes) + 1):
                sizes.append(picture.size)
                limits.check_pages(whole.source, len(sizes))
            numbered = list(enumerate(sizes, start=1))
            total = len(sizes)
        else:
            total = 1 if still else getattr(picture, "n_frames", 1)
            numbers = _chosen(total, wanted)
            limits.check_pages(whole.source, len(numbers))
            numbered = [(number, picture.size) for number in numbers]
    if lies_sideways(orientation):
        numbered = [(number, (height, width)) for number, (width, height) in numbered]
    return [replace(upright, page=n, total_pages=total, width=w, height=h) for n, (w, h) in numbered]


def _chosen(total: int, wanted: Frames) -> range | list[int]:
    """The numbers of the frames of an animation, which has no scenes but its frames."""
    if wanted == "all":
        return range(1, total + 1)
    count = min(total, _SCENES if wanted == "scenes" else int(wanted)) if wanted not in {"auto", "first"} else 1
    return [1 + part * total // count for part in range(count)]


def _frames_of_video(whole: Frame, wanted: Frames, limits: ImageLimits) -> list[Frame]:
    kind, data = whole.kind, whole.data
    assert kind is not None  # noqa: S101 - given by the only caller
    assert data is not None  # noqa: S101
    clip = _video.open_clip(whole.source, data, kind)
    if wanted == "scenes":
        moments = _video.scenes(whole.source, data, kind, clip, _SCENES)
    elif wanted == "first":
        moments = _video.every(replace(clip, frames=1))
    else:
        count = clip.frames if wanted == "all" else _VIDEO_FRAMES if wanted == "auto" else int(wanted)
        limits.check_pages(whole.source, min(count, clip.frames))
        moments = _video.every(clip) if wanted == "all" else _video.even(clip, count)
    upright = replace(whole, total_pages=clip.frames, width=clip.width, height=clip.height)
    return [replace(upright, page=moment.number, time=round(moment.time, 3)) for moment in moments]
