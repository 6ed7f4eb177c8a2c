"""Makes the example images, and truth.json with the text that is printed in them: python -m tests.make_images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tests.pages import bar_chart, english_page, german_letter, minutes, photo, receipt

if TYPE_CHECKING:
    from PIL import Image

    from tests.sheets import Printed

__all__ = ["IMAGES", "TRUTH", "printed"]

IMAGES = Path(__file__).parent.parent / "examples" / "images"
TRUTH = IMAGES / "truth.json"

_A4 = 2339  # px of its longer side at 200 dpi
_DPI = (200, 200)


def printed() -> dict[str, list[Printed]]:
    """The pages of each example image, by the name of its file."""
    return {
        "chart.png": [bar_chart(pixels=1400)],
        "lake.jpg": [photo()],
        "letter.png": [german_letter(pixels=_A4)],
        "minutes.tif": [minutes(page, pixels=_A4) for page in (1, 2)],
        "receipt.jpg": [receipt(pixels=1500, tilt=2.5)],
        "report.png": [english_page(pixels=_A4)],
    }


def _save(images: list[Image.Image], path: Path) -> None:
    image, *further = images
    if path.suffix == ".tif":
        image.save(path, save_all=True, append_images=further, compression="group4", dpi=_DPI)
    elif path.suffix == ".jpg":
        image.save(path, quality=85, optimize=True)
    else:
        image.quantize(32).save(path, optimize=True, dpi=_DPI)


def main() -> None:
    """Writes the images and their texts."""
    IMAGES.mkdir(exist_ok=True)
    texts = {}
    for name, pages in printed().items():
        _save([page.image for page in pages], IMAGES / name)
        texts[name] = [page.text for page in pages]
    TRUTH.write_text(json.dumps(texts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
