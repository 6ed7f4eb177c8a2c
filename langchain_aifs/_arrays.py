"""`.npy` blobs of LangChain's PDF loaders whose channels are in another order than red, green, blue."""

from __future__ import annotations

import io
from math import prod
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["CHANNELS", "Channels", "in_rgb"]

Channels = Literal["RGB", "BGR", "CMYK"]
"""How the channels of an array are to be understood: "RGB" also as RGBA, "BGR" also as BGRA; "CMYK" where there are
four, and as RGB where there are three."""

CHANNELS = ("RGB", "BGR", "CMYK")

_COLOURS, _INKS = 3, 4


def in_rgb(data: bytes, channels: Channels) -> bytes:
    """The bytes of an array of pixels, its channels in the order in which pictures are read.

    What is no array of 8 bits in colour comes back as it is: the engine says what is wrong with it.
    """
    if channels == "RGB" or (pixels := _pixels_of(data)) is None:
        return data
    import numpy as np

    if channels == "BGR":
        turned = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    elif pixels.shape[2] == _INKS:
        # As Pillow and most viewers do it without a profile: each ink takes its part of what black lets through.
        left = (255 - pixels).astype(np.uint16)
        turned = ((left[..., :_COLOURS] * left[..., _COLOURS:] + 127) // 255).astype(np.uint8)
    else:
        return data
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(turned), allow_pickle=False)
    return buffer.getvalue()


def _pixels_of(data: bytes) -> NDArray[np.uint8] | None:
    """The pixels as they lie in the bytes, so that a header that promises too much costs nothing."""
    import numpy as np

    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, columns_first, kind = read_header(stream)
    except ValueError:
        return None
    body = data[stream.tell() :]
    coloured = len(shape) == 3 and shape[2] in {_COLOURS, _INKS}  # noqa: PLR2004 - (height, width, channels)
    if columns_first or kind != np.uint8 or not coloured or len(body) != prod(shape):
        return None
    return np.frombuffer(body, np.uint8).reshape(shape)
