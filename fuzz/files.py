"""A fuzzer for everything that opens a file: python fuzz/files.py [SECONDS], or `make fuzz`.

Files grow from a small sample of every format. Whatever is found must be an error of the tree, within a second or
two and 2 GB; anything else stops the run and leaves the file behind. Finds become tests in tests/test_bounds.py.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["aifs_vision"]):
    from aifs_vision import OCR, AIFSError, ImageLimits, model_card
    from aifs_vision._frames import frames_of_bytes
    from aifs_vision._images import prepare

from tests.media import samples

CARD, LIMITS = model_card("gpt-4.1"), ImageLimits(max_pixels=4_000_000, max_pages=20)


def read(data: bytes) -> None:
    """Opens and prepares a file, as the engine does."""
    try:
        for frame in frames_of_bytes("fuzzed", data, 2, LIMITS)[:3]:
            prepare(frame, CARD, OCR, LIMITS)
    except AIFSError:
        pass


def main() -> None:
    """Runs for so many seconds, a minute unless told."""
    seconds = sys.argv[1] if len(sys.argv) > 1 else "60"
    logging.disable()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as corpus:
        for name, data in samples().items():
            Path(corpus, name.replace(" ", "-")).write_bytes(data)
        bounds = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=2048", "-max_len=40000"]
        atheris.Setup([sys.argv[0], *bounds, corpus], read)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
