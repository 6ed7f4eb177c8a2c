"""Pictures for messages: `image_block` for one, `image_blocks` for the pages and frames of a file."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from typing import TYPE_CHECKING, Any

from aifs_vision import ImageFormatError, prepare_images

if TYPE_CHECKING:
    from aifs_vision import Frames, ImageLimits, ImageSize, PreparedImage, Source

__all__ = ["DEFAULT_MODEL", "image_block", "image_blocks"]

DEFAULT_MODEL = "Qwen3-VL-30B-A3B-Instruct-FP8"
"""The model of whoever names none; one that sees."""
_DIGITS = 32  # of the digest in an id


def image_block(
    source: Source,
    *,
    detail: str | None = None,
    model: str = DEFAULT_MODEL,
    size: ImageSize = "auto",
    image_limits: ImageLimits | None = None,
) -> dict[str, Any]:
    """A picture as a content block (LangChain's v1 form) of a message, from whatever it is in.

        HumanMessage([{"type": "text", "text": "What does it say?"}, image_block("sign.heic")])

    It is prepared here, as the engine prepares its own: upright, without metadata, no larger than a model makes use
    of. So no position of a camera gets into traces, caches or checkpoints, and they stay small. Equal pictures make
    equal blocks, so caches of answers know them again. A URL is passed on, and never fetched here.

    Args:
        source: a path, which is opened; bytes, a file object, a PIL image, a data URI, or an http(s) URL.
        detail: "low", "high" or "auto": how closely the model is to look, where it knows that.
        model: the model for whose eyes it is prepared; others see it as well.
        size: "auto", "original" (as large as the model sees), or px of the longer side; never enlarged.
        image_limits: how large files may be that are opened.

    Raises:
        ImageError: the source cannot be read, or has several pages or frames: `image_blocks` is for those.
        SettingsError: a model that takes no images, or a size that is none.
    """
    images = prepare_images(source, model, size=size, image_limits=image_limits)
    if len(images) > 1:
        found = f"a file of {len(images)} pages or frames"
        raise ImageFormatError(images[0].source, found, remedy="image_blocks(...) gives a block for each")
    return _block(images[0], detail)


def image_blocks(
    source: Source,
    *,
    detail: str | None = None,
    model: str = DEFAULT_MODEL,
    size: ImageSize = "auto",
    frames: Frames = "auto",
    image_limits: ImageLimits | None = None,
) -> list[dict[str, Any]]:
    """All pages of a document, or frames of a video, as content blocks; of a picture, its one block.

    Args:
        frames: which frames of an animation or video, as for `Vision.read_many`.
        source, detail, model, size, image_limits: as for `image_block`.

    Raises:
        ImageError: the source cannot be read.
        SettingsError: a model that takes no images, or a size that is none.
    """
    images = prepare_images(source, model, size=size, frames=frames, image_limits=image_limits)
    return [_block(image, detail) for image in images]


def _block(image: PreparedImage, detail: str | None) -> dict[str, Any]:
    given = image.data or (image.url or "").encode()
    block: dict[str, Any] = {"type": "image", "id": f"aifs-{hashlib.sha256(given).hexdigest()[:_DIGITS]}"}
    if image.url is not None:
        block["url"] = image.url
    else:
        block["base64"], block["mime_type"] = b64encode(image.data).decode(), image.mime_type
    if detail is not None:
        block["extras"] = {"detail": detail}
    return block
