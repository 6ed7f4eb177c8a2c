"""Frame -> PreparedImage: upright, opaque, shrunk to what the model sees, encoded, free of metadata."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aifs_vision._errors import ImageBrokenError, ImageTooLargeError, ImageTooSmallError
from aifs_vision._formats import JPEG, PNG, Format, decoding, open_picture
from aifs_vision._tokens import visible_size

if TYPE_CHECKING:
    from PIL import Image

    from aifs_vision._catalogue import ModelCard
    from aifs_vision._tasks import Task

__all__ = ["MAX_PIXELS", "MIN_SIDE", "Frame", "PreparedImage", "lies_sideways", "prepare"]

MAX_PIXELS = 89_478_485
"""Pixels decoded at most: the bound of Pillow's own bomb check, a quarter of a GiB at three bytes a pixel."""

MIN_SIDE = 8
"""Pixels a side needs at least: less shows neither a letter nor a thing, and some hosts answer 400."""

_FEW_COLOURS = 32  # up to here a page is drawn rather than photographed, and PNG keeps it smaller and exact
_UNCHANGED_MODES = frozenset({"1", "L", "P", "RGB"})
_RANGES = (1.0, 255.0, 65_535.0)  # the largest values of greys as floats, of 8 bits and of 16


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One picture of a source, not yet decoded; made by `_sources.frames()`.

    Attributes:
        source: what the user gave, as the text that goes into readings.
        page, total_pages: counted from 1.
        width, height: px, upright; None for a URL.
        kind: the format of `data`; None for a URL or a picture that came decoded.
        sha256: digest of the source's bytes (of its pixels, if it came decoded); None for a URL.
        orientation: EXIF's, 1 to 8: how the pixels of `data` are to be turned.
        data, picture, url: what there is to send; exactly one of them is set. `data` has no metadata any more.
    """

    source: str
    page: int = 1
    total_pages: int = 1
    width: int | None = None
    height: int | None = None
    kind: Format | None = None
    sha256: str | None = None
    orientation: int = 1
    data: bytes | None = field(default=None, repr=False)
    picture: Image.Image | None = field(default=None, repr=False)
    url: str | None = None


@dataclass(frozen=True, kw_only=True)
class PreparedImage:
    """What is sent for a frame: either encoded bytes with the label that fits them, or the user's URL.

    `width` and `height` are px as sent (None for a URL); `sha256` is the digest of `data`; `mime_type` is its
    label ("" for a URL).
    """

    data: bytes = field(repr=False)
    mime_type: str
    width: int | None
    height: int | None
    sha256: str | None
    source: str
    page: int
    total_pages: int
    url: str | None = None


def prepare(frame: Frame, card: ModelCard, task: Task) -> PreparedImage:
    """The picture as `task` and `card` can use it.

    Shrunk so that its longer side is at most `task.long_side` px and no larger than the model sees, never
    enlarged; turned upright by its EXIF orientation; transparency laid on white; all metadata dropped. Bytes
    that need no change are sent as they are, after they have been decoded once to be sure they are whole.

    Raises:
        ImageTooLargeError, ImageTooSmallError: by the size in its header, before it is decoded.
        ImageBrokenError: the decoder gives up.
    """
    if frame.url is not None:
        return _prepared(frame, b"", None, None)
    check_size(frame)
    if frame.picture is not None:
        size = _target(frame, card, task)
        data, kind = _encode(_resized(_plain(frame.picture, frame), size))
        return _prepared(frame, data, kind, size)
    return _prepare_file(frame, card, task)


def check_size(frame: Frame) -> None:
    """Refuses a frame by the size in its header.

    Raises:
        ImageTooLargeError, ImageTooSmallError
    """
    width, height = frame.width or 0, frame.height or 0
    if min(width, height) < MIN_SIDE:
        raise ImageTooSmallError(frame.source, width, height, MIN_SIDE, page=_page(frame))
    if width * height > MAX_PIXELS:
        raise ImageTooLargeError(frame.source, width, height, MAX_PIXELS, page=_page(frame))


def _prepare_file(frame: Frame, card: ModelCard, task: Task) -> PreparedImage:
    kind, data = frame.kind, frame.data
    assert kind is not None  # noqa: S101 - frames() sets both or neither
    assert data is not None  # noqa: S101
    size = _target(frame, card, task)
    with decoding(frame.source, kind, _page(frame)):
        picture = open_picture(data, kind, page=frame.page)
        if kind is JPEG and size != (frame.width, frame.height):
            # The decoder itself halves a large picture, several times faster than a later resize.
            picture.draft(None, size[::-1] if lies_sideways(frame.orientation) else size)
        picture.load()
        unchanged = picture.size == size and frame.orientation == 1 and picture.mode in _UNCHANGED_MODES
        if unchanged and _is_sendable(picture, kind, frame):
            return _prepared(frame, data, kind, size)
        upright = _turned(_plain(picture, frame), frame.orientation)
        encoded, encoding = _encode(_resized(upright, size))
    return _prepared(frame, encoded, encoding, size)


def _is_sendable(picture: Image.Image, kind: Format, frame: Frame) -> bool:
    """Whether a model takes the bytes of this file as they are."""
    return kind in (JPEG, PNG) and frame.total_pages == 1 and not picture.has_transparency_data


def lies_sideways(orientation: int) -> bool:
    """Whether this EXIF orientation swaps width and height."""
    return orientation >= 5  # noqa: PLR2004 - EXIF 2.3, tag 274


def _target(frame: Frame, card: ModelCard, task: Task) -> tuple[int, int]:
    width, height = frame.width or 0, frame.height or 0
    scale = min(1.0, task.long_side / max(width, height))
    return visible_size(card, max(1, round(width * scale)), max(1, round(height * scale)))


def _plain(picture: Image.Image, frame: Frame) -> Image.Image:
    """The picture as L or RGB, what was transparent as white."""
    from PIL import Image

    if picture.mode in {"I", "F"} or picture.mode.startswith("I;16"):
        return _eight_bits(picture)
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        ground = Image.new("RGB", layer.size, "white")
        ground.paste(layer, mask=layer.getchannel("A"))
        return ground
    if picture.mode in {"L", "RGB"}:
        return picture
    try:
        return picture.convert("L" if picture.mode == "1" else "RGB")
    except ValueError as error:
        raise ImageBrokenError(frame.source, picture.mode, str(error), page=_page(frame)) from error


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Deep greys as L: by the range that 1, 8 or 16 bits would have, where all values lie in it."""
    wide = picture.convert("F")
    darkest, lightest = (float(bound) for bound in wide.getextrema())  # type: ignore[arg-type]
    if picture.mode.startswith("I;16"):
        low, high = 0.0, _RANGES[-1]
    elif darkest < 0 or lightest > _RANGES[-1]:
        low, high = darkest, lightest
    else:
        floats = picture.mode == "F"
        low, high = 0.0, next(bound for bound in _RANGES[0 if floats else 1 :] if lightest <= bound)
    scale = 255.0 / (high - low) if high > low else 0.0
    return wide.point(lambda value: value * scale - low * scale).convert("L")


def _turned(picture: Image.Image, value: int) -> Image.Image:
    from PIL import Image

    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    return picture.transpose(turns[value]) if value in turns else picture


def _resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    from PIL import Image

    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)


def _encode(picture: Image.Image) -> tuple[bytes, Format]:
    """JPEG q92 4:4:4; PNG where a drawing of few colours becomes smaller by it. No metadata in either."""
    if picture.info:  # encoders take comments and profiles from there; the user's own picture keeps its
        picture = picture.copy()
        picture.info = {}
    jpeg = _saved(picture, "JPEG", quality=92, subsampling=0)
    if picture.getcolors(_FEW_COLOURS) is not None:
        png = _saved(picture, "PNG")
        if len(png) <= len(jpeg):
            return png, PNG
    return jpeg, JPEG


def _saved(picture: Image.Image, encoding: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, encoding, **options)
    return buffer.getvalue()


def _prepared(frame: Frame, data: bytes, kind: Format | None, size: tuple[int, int] | None) -> PreparedImage:
    return PreparedImage(
        data=data,
        mime_type=kind.mime_type if kind else "",
        width=size[0] if size else None,
        height=size[1] if size else None,
        sha256=hashlib.sha256(data).hexdigest() if kind else None,
        source=frame.source,
        page=frame.page,
        total_pages=frame.total_pages,
        url=frame.url,
    )


def _page(frame: Frame) -> int | None:
    return frame.page if frame.total_pages > 1 else None
