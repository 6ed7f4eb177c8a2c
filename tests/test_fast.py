"""With the extra `fast`, libvips shrinks; what is sent is the same."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from PIL import Image, ImageChops, ImageStat

from tests.pages import german_letter
from tests.pictures import opened, saved

if TYPE_CHECKING:
    from pathlib import Path

    from aifs_vision.emulator import Emulator

READ = """
import sys
if sys.argv[3] == "without": sys.modules["pyvips"] = None
from aifs_vision import Limits, Vision, find_images
vision = Vision(base_url=sys.argv[1], api_key=sys.argv[2], limits=Limits())
one_by_one = (next(vision.read_many([path], "ocr", on_error="keep")) for path in find_images(sys.argv[4]))
print(*(reading.status for reading in one_by_one))
print("pyvips" in sys.modules and sys.modules["pyvips"] is not None)
"""


def read(server: Emulator, folder: Path, way: str) -> tuple[list[Image.Image], list[str]]:
    """What a program of its own sends for the pictures of a folder, with or without libvips; and what it prints."""
    server.clear()
    command = [sys.executable, "-c", READ, server.base_url, server.api_key, way, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [opened(request.images[0][1]) for request in server.requests], done.stdout.splitlines()


def test_libvips_and_pillow_send_the_same(server: Emulator, tmp_path: Path) -> None:
    """Whatever shrinks a page or a photo, it has the same size and, to a level of 255, the same pixels."""
    letter = german_letter(pixels=2200).image
    hues = Image.merge("RGB", [Image.linear_gradient("L").rotate(90 * turn) for turn in range(3)])
    photo = hues.resize((2600, 1900), Image.Resampling.BICUBIC)
    made = {"a.png": letter, "b.png": letter.convert("L"), "c.png": letter.convert("RGBA"), "d.png": photo}
    for name, picture in made.items():
        (tmp_path / name).write_bytes(saved(picture))
    (tmp_path / "e.jpg").write_bytes(saved(photo, "JPEG", quality=95))
    (tmp_path / "f.bmp").write_bytes(saved(letter, "BMP"))
    (with_it, said), (without, also_said) = read(server, tmp_path, "with"), read(server, tmp_path, "without")
    assert (said, also_said) == (["ok ok ok ok ok ok", "True"], ["ok ok ok ok ok ok", "False"])
    for one, other in zip(with_it, without, strict=True):
        assert (one.size, one.mode) == (other.size, other.mode)
        means = ImageStat.Stat(ImageChops.difference(one, other)).mean
        assert max(means) < 1


def test_damage_is_told_alike(server: Emulator, tmp_path: Path) -> None:
    """A page that is cut off or damaged is an error with libvips as without."""
    page = saved(german_letter(pixels=2200).image)
    spoiled = bytearray(page)
    spoiled[len(page) // 2] ^= 0xFF
    for name, data in (("a.png", page[: len(page) * 2 // 3]), ("b.png", bytes(spoiled)), ("c.png", page)):
        (tmp_path / name).write_bytes(data)
    for way in ("with", "without"):
        assert read(server, tmp_path, way)[1][0] == "failed failed ok"


def test_libvips_does_not_log_while_it_is_logged(server: Emulator, tmp_path: Path) -> None:
    """At DEBUG its Python side logs in the middle of a record, and two threads would wait for each other's handler."""
    (tmp_path / "page.png").write_bytes(saved(german_letter().image.convert("RGB")))
    told = 'print(logging.getLogger("pyvips").isEnabledFor(logging.DEBUG))'
    script = f"import logging\nlogging.basicConfig(level=logging.DEBUG)\n{READ}{told}\n"
    command = [sys.executable, "-c", script, server.base_url, server.api_key, "with", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1:] == ["True", "False"]
