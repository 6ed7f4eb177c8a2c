"""Any picture as plain L or RGB: opaque, of 8 bits, in sRGB."""

from __future__ import annotations

import io
from array import array
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["changes_colours", "in_srgb", "is_grey", "opaque"]

_RANGES = (1.0, 255.0, 65_535.0)  # the largest values of greys as floats, of 8 bits and of 16
_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
_ALIKE = 3  # levels of 255; nobody sees such a difference, and no model does
_FEW = 64  # px across and down that are looked at first
_STEP = 51  # levels between the colours that a profile is tried with


def opaque(picture: Image.Image) -> Image.Image:
    """The picture as L, RGB or CMYK of 8 bits, what was transparent as white.

    Raises:
        ValueError: a mode that Pillow cannot turn into RGB.
    """
    from PIL import Image

    if picture.mode in {"I", "F"} or picture.mode.startswith("I;16"):
        return _on_white(picture, _eight_bits(picture))
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        ground = Image.new("RGB", layer.size, "white")
        ground.paste(layer, mask=layer.getchannel("A"))
        return ground
    if picture.mode in _SPACES:
        return picture
    return picture.convert("L" if picture.mode == "1" else "RGB")


def in_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """An L, RGB or CMYK picture as L or RGB in sRGB, by its ICC profile.

    A profile that is damaged, or made for another kind of picture, is taken for none: it must not cost a
    picture that can be read.
    """
    transform = _transform(profile, picture.mode) if profile else None
    if transform is not None:
        from PIL import ImageCms

        turned: Image.Image | None = ImageCms.applyTransform(picture, transform)
        if turned is not None:
            return turned.convert("L") if picture.mode == "L" else turned
    return picture.convert("RGB") if picture.mode == "CMYK" else picture


def changes_colours(profile: bytes, mode: str) -> bool:
    """Whether a picture of this mode looks any different in sRGB."""
    return _transform(profile, "RGB" if mode == "P" else mode) is not None


def is_grey(picture: Image.Image) -> bool:
    """Whether an RGB picture has greys only, so that one band says it all."""
    from PIL import Image, ImageChops

    # Nearly every coloured picture shows it in a few pixels.
    few = picture.resize((min(picture.width, _FEW), min(picture.height, _FEW)), Image.Resampling.NEAREST)
    for pixels in (few, picture):
        red, green, blue = pixels.split()
        if any(ImageChops.difference(red, other).getbbox() for other in (green, blue)):
            return False
    return True


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> Any | None:
    """LittleCMS's way from a profile to sRGB; None where it changes nothing anybody would see, or is unusable."""
    from PIL import Image, ImageCms

    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if given.profile.xcolor_space.strip() != _SPACES.get(mode):
            return None
        transform = ImageCms.buildTransform(given, ImageCms.createProfile("sRGB"), mode, "RGB")
        if mode == "CMYK":
            return transform
        levels = range(0, 256, _STEP)
        colours = [(r, g, b) for r in levels for g in levels for b in levels] if mode == "RGB" else list(levels)
        tried = Image.new(mode, (len(colours), 1))
        tried.putdata(colours)
        turned: Image.Image | None = ImageCms.applyTransform(tried, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if turned is None:
        return None
    before, after = tried.convert("RGB").tobytes(), turned.tobytes()
    return transform if max(abs(a - b) for a, b in zip(before, after, strict=True)) > _ALIKE else None


def _on_white(deep: Image.Image, grey: Image.Image) -> Image.Image:
    """A grey picture with white where the deep one it was made of has the level that means transparent."""
    from PIL import Image

    level = deep.info.get("transparency")
    if not isinstance(level, int) or deep.mode not in {"I;16", "I"}:
        return grey
    levels = array("H" if deep.mode == "I;16" else "i", deep.tobytes())
    see_through = bytes(255 * (value == level) for value in levels)
    grey.paste(255, mask=Image.frombytes("L", deep.size, see_through))
    return grey


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
