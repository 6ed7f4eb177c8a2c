"""Pictures that look like photos: an evening at a lake, and a wooden table to lay paper on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["lake", "on_a_table"]


def lake(*, width: int = 1200, height: int = 800) -> Image.Image:
    """An evening at a lake: sky, ridges in the haze, their reflection, the grain of a film."""
    shore = height * 5 // 8
    rows, columns = np.mgrid[0:shore, 0:width]
    dusk = (rows / shore)[..., None]
    scene = (1 - dusk) * (62, 104, 166) + dusk * (244, 190, 136)
    scene += 110 * (_clouds(shore, width, (70, 420), seed=1)[..., None] ** 3) * (1.1 - dusk)
    sun = np.exp(-np.hypot(columns - 0.68 * width, rows - 0.72 * shore) / (0.12 * width))[..., None]
    scene += sun * (110, 80, 30)
    haze = np.array((206, 178, 158))
    for number, top in enumerate((0.66, 0.78, 0.88)):
        ridge = shore * (top + 0.34 * (0.5 - _clouds(1, width, (1, 300), seed=4 + number)))
        rock = np.array((22, 38, 34)) * (0.7 + 0.6 * _clouds(shore, width, (7, 11), seed=11 + number)[..., None])
        veil = (0.62, 0.36, 0.1)[number] + 0.12 * np.clip((rows - ridge) / shore, 0, 1)[..., None]
        inside = np.clip(rows - ridge, 0, 1)[..., None]
        scene = scene * (1 - inside) + inside * (rock * (1 - veil) + haze * veil)
    depth = height - shore
    ripple = np.rint(18 * (_clouds(depth, width, (5, 110), seed=21) - 0.5)).astype(int)
    mirrored = np.clip(shore - 1 - np.arange(depth)[:, None] * shore // (depth + 40) + ripple, 0, shore - 1)
    scene = np.concatenate([scene, scene[mirrored, columns[:1]] * 0.7 + (4, 12, 20)])
    scene += np.random.default_rng(9).normal(0, 4, (height, width, 1))
    return Image.fromarray(np.clip(scene, 0, 255).astype(np.uint8))


def on_a_table(paper: Image.Image, tilt: float) -> Image.Image:
    """The paper as taken from above: grain of wood, a soft shadow, not quite straight."""
    width, height = paper.width * 4 // 3, paper.height * 9 // 8
    grain = _clouds(height, width, (height * 2, 6), seed=3)[..., None]
    table = Image.fromarray((np.array((92, 66, 48)) * (0.75 + 0.5 * grain)).astype(np.uint8))
    place = ((width - paper.width) // 2, (height - paper.height) // 2)
    mask, sheet = Image.new("L", table.size), Image.new("RGB", table.size, "white")
    mask.paste(255, (*place, place[0] + paper.width, place[1] + paper.height))
    sheet.paste(paper, place)
    mask, sheet = (layer.rotate(tilt, Image.Resampling.BICUBIC) for layer in (mask, sheet))
    table.paste("black", (6, 10), mask.filter(ImageFilter.GaussianBlur(14)).point(lambda value: value * 0.6))
    table.paste(sheet, mask=mask)
    return table


def _clouds(height: int, width: int, cell: tuple[int, int], *, seed: int) -> NDArray[np.float64]:
    """Smooth noise from 0 to 1 in five octaves, the coarsest grain `cell` pixels (high, wide)."""
    random, total = np.random.default_rng(seed), np.zeros((height, width))
    for octave in (1, 2, 4, 8, 16):
        rows, columns = octave * height // cell[0] + 2, octave * width // cell[1] + 2
        noise = Image.fromarray(random.random((rows, columns), np.float32))
        total += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC)) / octave
    return np.clip((total / 1.94 - 0.5) * 1.6 + 0.5, 0, 1)
