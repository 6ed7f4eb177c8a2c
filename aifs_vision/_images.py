"""Frame -> PreparedImage: upright, opaque, in sRGB, shrunk to what the model sees, encoded, free of metadata."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from aifs_vision import _pdf, _video
from aifs_vision._colours import changes_colours, in_srgb, is_grey, opaque
from aifs_vision._decoders import decoding, load, open_picture
from aifs_vision._encoding import encoded
from aifs_vision._formats import JPEG, PDF, PNG, VIDEOS
from aifs_vision._frames import Frame, lies_sideways, page_of
from aifs_vision._layout import layout, usual_size
from aifs_vision._lines import blank_rows, x_height
from aifs_vision._resizing import resized, shrunk_png
from aifs_vision._tokens import visible_size

if TYPE_CHECKING:
    from PIL import Image

    from aifs_vision._catalogue import ModelCard
    from aifs_vision._guards import ImageLimits
    from aifs_vision._layout import Layout
    from aifs_vision._tasks import Task

__all__ = ["PreparedImage", "prepare"]

_UNCHANGED_MODES = frozenset({"1", "L", "P", "RGB"})
_HEAVY = 256 * 1024  # bytes above which a PNG with more than a byte for each pixel is probably a photograph,
_LIGHTER = 0.75  # of whose bytes a JPEG has to be worth it
_SMALLEST = 1.0  # px of x-height: less is no print
_DEEP, _DEPTH_AT = 16, 24  # bits a channel, and where a PNG says how many it has
_SLACK = 0.1  # of a band's height: how far a cut is moved to find a gap between two lines
_GAP = 0.002  # of a band's height: rows without ink that are such a gap
_ASLANT = 0.2  # of a band's width: as far as lines go up or down that are aslant by ten degrees
_SHARED = 0.22  # of a band's height: what two bands both have where there is no gap, as on a page askew


@dataclass(frozen=True, kw_only=True)
class PreparedImage:
    """What is sent for a frame, or for one of its bands: encoded bytes with the label that fits them, or a URL.

    Attributes:
        data: the encoded picture; b"" for a URL.
        mime_type: its label; "" for a URL.
        width, height: px as sent; None for a URL.
        sha256: digest of `data`; None for a URL.
        source, page, total_pages: of the frame.
        band, bands: which part of the page this is, counted from 1 at its top.
        shared: what part of it, from 0 to 1, the band above shows, too.
        url: the user's URL, passed on.
    """

    data: bytes = field(repr=False)
    mime_type: str
    width: int | None
    height: int | None
    sha256: str | None
    source: str
    page: int
    total_pages: int
    band: int = 1
    bands: int = 1
    shared: float = 0.0
    url: str | None = None

    @property
    def image_url(self) -> str:
        """What stands in an `image_url` part of a message: a data URI, or the user's URL."""
        return self.url if self.url is not None else f"data:{self.mime_type};base64,{b64encode(self.data).decode()}"


def prepare(frame: Frame, card: ModelCard, task: Task, limits: ImageLimits) -> list[PreparedImage]:
    """The picture as `task` and `card` can use it: one image, or the bands that a page of small print is cut into.

    Shrunk so that its longer side is at most `task.long_side` px (`task.dense_side` for small print) and no larger
    than the model sees, never enlarged; turned upright by its EXIF orientation; transparency laid on white; other
    colour spaces turned into sRGB; all metadata dropped. Bytes that need no change are sent as they are, after
    they have been decoded once to be sure they are whole.

    Raises:
        ImageTooLargeError, ImageTooSmallError: by the size in its header, before it is decoded.
        ImageBrokenError: the decoder gives up.
    """
    if frame.url is not None:
        return [_prepared(frame, data=b"", mime_type="", url=frame.url)]
    width, height = frame.width or 0, frame.height or 0
    limits.check_size(frame.source, width, height, page=page_of(frame), drawn=frame.kind is PDF)
    plan = layout(width, height, card, task)
    with decoding(frame.source, frame.kind, page_of(frame)):
        if _is_whole(plan, frame):
            return _whole(frame, _decoded(frame, plan.size, limits), plan, card)
        if not task.dense_side:
            return _encoded(frame, _plain(frame, _decoded(frame, plan.size, limits)), plan, card)
        # Print may be too small for the usual size: it is looked at, at no less than that size; and at once in full
        # where the smallest print would need all there is, so that nothing is decoded twice.
        usual = usual_size(width, height, task)
        in_full = frame.kind is not PDF and _is_whole(layout(width, height, card, task, _SMALLEST), frame)
        decoded = _decoded(frame, (width, height) if in_full else max(plan.size, usual), limits)
        picture = whole = _plain(frame, decoded)
        if plan.size == usual and not in_full:  # nearly always: then what is looked at is what is sent
            picture = replace(picture, pixels=resized(picture.pixels, usual))
        letters = x_height(picture.pixels)
        plan = layout(width, height, card, task, letters and letters * width / picture.pixels.width)
        if in_full and _is_whole(plan, frame):
            return _whole(frame, decoded, plan, card, whole)
        if plan.width > picture.pixels.width:
            picture = whole
        if plan.width > picture.pixels.width or (frame.kind is PDF and plan.size != picture.pixels.size):
            picture = _plain(frame, _decoded(frame, plan.size, limits))
        return _encoded(frame, picture, plan, card)


def _is_whole(plan: Layout, frame: Frame) -> bool:
    """Whether the picture is sent in its own size and in one."""
    return plan.size == (frame.width, frame.height) and plan.bands == 1


def _whole(
    frame: Frame, decoded: Image.Image, plan: Layout, card: ModelCard, plain: _Plain | None = None
) -> list[PreparedImage]:
    """The picture in its own size: the bytes as they are where nothing is to be changed, unless a JPEG is far less.

    `plain` is what `_plain` makes of it, where that is known.
    """
    if not _is_sendable(decoded, frame, card):
        return _encoded(frame, plain or _plain(frame, decoded), plan, card)
    unchanged = _unchanged(frame)
    if frame.kind is not PNG or len(unchanged.data) <= max(_HEAVY, plan.width * plan.height):
        return [unchanged]
    (lighter,) = _encoded(frame, plain or _plain(frame, decoded), plan, card)
    return [lighter if len(lighter.data) < _LIGHTER * len(unchanged.data) else unchanged]


@dataclass(frozen=True, kw_only=True)
class _Plain:
    """Upright pixels, L, RGB or CMYK, and the profile of their colours."""

    pixels: Image.Image
    profile: bytes | None


def _decoded(frame: Frame, size: tuple[int, int], limits: ImageLimits) -> Image.Image:
    """The pixels of a frame: drawn at `size`, or decoded at no less than `size` where there is a short cut to it."""
    kind, data = frame.kind, frame.data
    if frame.picture is not None:
        frame.picture.load()
        return frame.picture
    assert kind is not None  # noqa: S101 - frames() sets both or neither
    assert data is not None  # noqa: S101
    if kind is PDF:
        return _pdf.draw_page(frame.source, data, frame.page, size, limits.max_seconds)
    if kind in VIDEOS:
        return _video.picture_at(frame.source, data, kind, frame.time or 0.0)
    if kind is PNG and frame.total_pages == 1 and (shrunk := shrunk_png(data, size)) is not None:
        return shrunk
    picture = open_picture(data, kind, page=frame.page if frame.total_pages > 1 else None)
    if kind is JPEG and size != (frame.width, frame.height):
        # The decoder itself halves a large picture, several times faster than a later resize.
        picture.draft(None, size[::-1] if lies_sideways(frame.orientation) else size)
    load(picture)
    return picture


def _is_sendable(picture: Image.Image, frame: Frame, card: ModelCard) -> bool:
    """Whether a model takes the bytes of this file as they are, and nothing in them is to be changed."""
    data, kind = frame.data, frame.kind
    if data is None or kind is None or kind.mime_type not in card.image_formats or not frame.clean:
        return False
    if frame.total_pages > 1 or frame.orientation != 1 or picture.has_transparency_data:
        return False
    if getattr(picture, "is_animated", False):
        return False
    if kind is PNG and data[_DEPTH_AT] == _DEEP:
        return False
    return (
        picture.mode in _UNCHANGED_MODES
        and len(data) <= card.max_image_bytes
        and not (frame.profile and changes_colours(frame.profile, picture.mode))
    )


def _plain(frame: Frame, picture: Image.Image) -> _Plain:
    profile = frame.profile or picture.info.get("icc_profile")
    pixels = _turned(opaque(picture), frame.orientation)
    if pixels.mode == "RGB" and not profile and is_grey(pixels):
        pixels = pixels.getchannel(0)
    return _Plain(pixels=pixels, profile=profile if isinstance(profile, bytes) else None)


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


def _encoded(frame: Frame, picture: _Plain, plan: Layout, card: ModelCard) -> list[PreparedImage]:
    whole = in_srgb(resized(picture.pixels, plan.size), picture.profile)
    images = []
    parts = _bands(whole, plan.bands)
    for number, (top, bottom) in enumerate(parts, start=1):
        band = whole if len(parts) == 1 else whole.crop((0, top, whole.width, bottom))
        band = resized(band, visible_size(card, *band.size))
        # Encoders write to the object that they encode: never to the user's, which other threads may be encoding, too.
        data, kind, size = encoded(band.copy() if band is frame.picture else band, card.max_image_bytes)
        above = parts[number - 2][1] if number > 1 else top
        part = {"band": number, "bands": len(parts), "shared": (above - top) / (bottom - top)}
        images.append(_prepared(frame, data=data, mime_type=kind.mime_type, size=size, **part))
    return images


def _bands(picture: Image.Image, count: int) -> list[tuple[int, int]]:
    """The (top, bottom) rows of so many bands: cut in gaps between lines, or else sharing some lines."""
    height, parts, top = picture.height / count, [], 0
    for number in range(1, count):
        ideal, slack = round(number * height), round(height * _SLACK)
        gap = blank_rows(picture, max(top, ideal - slack), min(picture.height, ideal + slack))
        if gap is not None and gap[1] - gap[0] >= max(2.0, height * _GAP):
            bottom = following = sum(gap) // 2
        else:
            half = round(min(height * _SHARED, picture.width * _ASLANT) / 2)
            bottom, following = min(picture.height, ideal + half), max(top, ideal - half)
        parts.append((top, bottom))
        top = following
    return [*parts, (top, picture.height)]


def _unchanged(frame: Frame) -> PreparedImage:
    assert frame.kind is not None  # noqa: S101 - a file, or it would not be sendable
    size = (frame.width or 0, frame.height or 0)
    return _prepared(frame, data=frame.data or b"", mime_type=frame.kind.mime_type, size=size)


def _prepared(
    frame: Frame, *, data: bytes, mime_type: str, size: tuple[int, int] | None = None, **more: Any
) -> PreparedImage:
    return PreparedImage(
        data=data,
        mime_type=mime_type,
        width=size[0] if size else None,
        height=size[1] if size else None,
        sha256=hashlib.sha256(data).hexdigest() if size else None,
        source=frame.source,
        page=frame.page,
        total_pages=frame.total_pages,
        **more,
    )
