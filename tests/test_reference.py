"""Qwen's image tokens beside Qwen's own image processor, which no user has to install."""

from __future__ import annotations

import random

from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from aifs_vision import image_tokens


def test_qwen_is_reckoned_as_its_own_processor_does() -> None:
    """Over many random sizes the tokens of Qwen3-VL and Qwen2.5-VL are those of the real image processor."""
    dice = random.Random(1)  # noqa: S311 - the same dice every time
    rules = (("Qwen3-VL-8B-Instruct", 32, 65_536, 16_777_216), ("Qwen2.5-VL-7B-Instruct", 28, 3_136, 12_845_056))
    for model, factor, least, most in rules:
        for _ in range(3_000):
            width, height = (round(10 ** dice.uniform(1.2, 4)) for _ in range(2))
            if max(width, height) > 200 * min(width, height):
                continue
            down, across = smart_resize(height, width, factor=factor, min_pixels=least, max_pixels=most)
            assert image_tokens(model, width, height) == down * across / factor**2 + 2, (model, width, height)


def test_qwen_processor_makes_as_many_patches() -> None:
    """Real pictures through the real processor make as many tokens as were reckoned."""
    size = {"shortest_edge": 65_536, "longest_edge": 16_777_216}
    processor = Qwen2VLImageProcessorPil(patch_size=16, merge_size=2, size=size)
    for width, height in ((64, 48), (640, 480), (1000, 777), (333, 2500)):
        made = processor(images=[Image.new("RGB", (width, height))], return_tensors="np")
        _, down, across = made["image_grid_thw"][0]
        assert image_tokens("Qwen3-VL-30B-A3B-Instruct-FP8", width, height) == down * across / 4 + 2
