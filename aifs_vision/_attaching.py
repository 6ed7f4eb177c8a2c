"""Pictures for chat messages: what a chat model is sent of a source, prepared as the engine prepares its own."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aifs_vision._catalogue import ModelCard, model_card
from aifs_vision._errors import SettingsError
from aifs_vision._frames import check_frames
from aifs_vision._guards import MIN_SIDE, ImageLimits
from aifs_vision._images import PreparedImage, prepare
from aifs_vision._sources import SourcePages, bytes_of_data_uri, frames, has_scheme
from aifs_vision._tasks import Task

if TYPE_CHECKING:
    from collections.abc import Hashable

    from aifs_vision._frames import Frames
    from aifs_vision._sources import Source

__all__ = ["ImageSize", "check_image_options", "prepare_images"]

ImageSize = Literal["auto", "original"] | int
"""How large a picture is sent: "auto" as for a question of `Task.ask`, a number of px for its longer side, or
"original": no smaller than it is, where the model sees that much. Never enlarged, in any case."""

_UNBOUNDED = 1_000_000  # px; what the model sees and its host takes are bounds all the same
_KEPT = 64 * 2**20  # bytes of prepared pictures that are kept: a conversation shows the same ones at every turn


def check_image_options(
    *, size: ImageSize = "auto", frames: Frames = "auto", image_limits: ImageLimits | None = None
) -> None:
    """Raises now what `prepare_images` would raise at the first picture: SettingsError for options that cannot be."""
    _checked(size, frames, image_limits)


def prepare_images(
    source: Source,
    model: str | ModelCard,
    *,
    size: ImageSize = "auto",
    frames: Frames = "auto",
    image_limits: ImageLimits | None = None,
) -> list[PreparedImage]:
    """What a chat model is sent of a source: its picture, its pages, or frames of its video.

        (picture,) = prepare_images("photo.heic", "gpt-4.1")
        {"type": "image_url", "image_url": {"url": picture.image_url}}

    Upright, opaque, in sRGB, without metadata, in a format the model takes, labelled by its bytes, and no larger
    than `size` and the model's eyes. An http(s) URL is passed on. Blocks while it decodes; the last pictures are
    remembered, so that a conversation does not prepare them at every turn.

    Args:
        source: as for `Vision.read`: also a path, which is opened; check what comes from strangers before.
        model: the model that is to see it.
        size: "auto", "original", or px of the longer side.
        frames: which frames of an animation or video, as for `Vision.read_many`.
        image_limits: how large files may be that are opened.

    Raises:
        ImageError: the source cannot be read, or is too large.
        SettingsError: a model that takes no images, or options that cannot be.
    """
    task = _checked(size, frames, image_limits)
    card = model_card(model) if isinstance(model, str) else model
    if not card.takes_images:
        raise SettingsError.blind_model(card.name)
    limits = image_limits or ImageLimits()
    given, pages = (source.source, source.pages) if isinstance(source, SourcePages) else (source, None)
    content = _content_of(given)
    key = None if content is None else (content, pages, card.name, size, frames, limits)
    return _remembered.images(key, source, (card, task, frames, limits))


def _content_of(source: object) -> Hashable:
    """What tells one content from others, without reading a file; None where only reading it would."""
    if isinstance(source, str) and source[:5].lower() == "data:":
        source = bytes_of_data_uri(source)
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    if isinstance(source, (str, os.PathLike)) and not (isinstance(source, str) and has_scheme(source)):
        with suppress(OSError, ValueError):  # it will be met again by whoever reads it
            found = Path(source).stat()
            if stat.S_ISREG(found.st_mode):
                # Whatever is written to a file changes its times.
                times = found.st_mtime_ns, found.st_ctime_ns
                return os.fspath(source), found.st_dev, found.st_ino, found.st_size, *times
    return None


def _checked(size: ImageSize, frames: Frames, image_limits: ImageLimits | None) -> Task:
    """What decides the size of pictures, where the options can be right."""
    check_frames(frames)
    if image_limits is not None and not isinstance(image_limits, ImageLimits):
        raise SettingsError.bad_value("image_limits", image_limits, "it is an ImageLimits(...), or None")
    return _task(size)


def _task(size: ImageSize) -> Task:
    if size == "auto":
        return _ASKING
    if size == "original":
        return _ASKING.sized(_UNBOUNDED)
    if isinstance(size, bool) or not isinstance(size, int) or size < MIN_SIDE:
        rule = f'it is "auto", "original" or a number of px, {MIN_SIDE} or more'
        raise SettingsError.bad_value("image_size", size, rule)
    return _ASKING.sized(size)


_ASKING = Task.ask("What is shown?", name="attach")  # for its sizes: nothing is asked


class _Remembered:
    """The pictures prepared last, up to some bytes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._images: OrderedDict[Hashable, list[PreparedImage]] = OrderedDict()
        self._bytes = 0

    def images(
        self, key: tuple[Hashable, ...] | None, source: Source, how: tuple[ModelCard, Task, Any, ImageLimits]
    ) -> list[PreparedImage]:
        """The pictures of a source; a key of None is not remembered."""
        with self._lock:
            if key is not None and key in self._images:
                self._images.move_to_end(key)
                return list(self._images[key])
        card, task, wanted, limits = how
        made = [image for frame in frames(source, wanted, limits) for image in prepare(frame, card, task, limits)]
        if key is not None:
            self._keep(key, made)
            for image in made:  # what was prepared is prepared: it may come back in a message
                self._keep((image.sha256, None, *key[2:]), [image])
        return list(made)

    def _keep(self, key: Hashable, made: list[PreparedImage]) -> None:
        with self._lock:
            if key in self._images:
                return
            self._images[key] = made
            self._bytes += _bytes_of(made)
            while self._bytes > _KEPT:
                _, oldest = self._images.popitem(last=False)
                self._bytes -= _bytes_of(oldest)


def _bytes_of(images: list[PreparedImage]) -> int:
    return sum(len(image.data) for image in images)


_remembered = _Remembered()
