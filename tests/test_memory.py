"""A long run needs no more memory than a short one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aifs_vision.emulator import Emulator

ROOT = Path(__file__).parent.parent

# A process of its own: the emulator keeps what it was sent, and the peak of a process never sinks.
PROGRAM = """
import io, json, resource
from PIL import Image
from aifs_vision import Limits, Vision

noise = Image.effect_noise((1100, 900), 80)

def pictures():
    for number in range(500):
        buffer = io.BytesIO()
        noise.rotate(number / 2).save(buffer, "JPEG", quality=80)
        yield f"{number}.jpg", buffer.getvalue()

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

peaks = {}
for number, reading in enumerate(Vision(limits=Limits(in_flight=8)).read_many(pictures()), 1):
    assert reading.ok
    if number in (100, 500):
        peaks[number] = peak()
print(json.dumps(peaks))
"""
UNIT = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss
MOST = 30_000_000  # bytes; the 400 pictures between are 90 MB of JPEG, and 400 MB decoded


def test_memory_stays_flat_over_500_images(server: Emulator) -> None:
    """Reading 500 images peaks at most 30 MB above reading 100: no picture is kept once it has been read."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "AIFS_BASE_URL": server.base_url, "AIFS_API_KEY": server.api_key},
    )
    assert done.returncode == 0, done.stderr
    peaks = json.loads(done.stdout)
    assert (peaks["500"] - peaks["100"]) * UNIT <= MOST, peaks
