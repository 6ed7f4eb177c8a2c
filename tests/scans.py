"""A folder with pictures, among everything that must not be read."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from tests.pictures import corners, saved, tiff

__all__ = ["PNG", "scans"]

PNG = saved(corners())


def scans(place: Path) -> Path:
    """The folder, made in an empty one: pictures, links, pipes, devices, and files of others."""
    root, outside = place / "root", place / "outside"
    for folder in (root / "sub", root / "a b", outside, place / "root-too"):
        folder.mkdir(parents=True)
    for path in (root / "a.png", root / "sub" / "b.png", root / "a b" / "Größe 50%.png"):
        path.write_bytes(PNG)
    for path in (outside / "secret.png", place / "root-too" / "secret.png", root / ".hidden.png"):
        path.write_bytes(PNG)
    (root / "minutes.tif").write_bytes(tiff([corners(), corners(90, 60)]))
    (root / "notes.txt").write_text("The word is swordfish.", encoding="utf-8")
    (root / "link.png").symlink_to(outside / "secret.png")
    (root / "inner.png").symlink_to(root / "a.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    (root / "way").symlink_to(outside)
    (root / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(root / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(root)  # the path of a socket has to be short
        listening.bind("socket.png")
        os.chdir(here)
    (root / "big.png").write_bytes(PNG + b"\0" * 2_000_000)
    (root / "foreign.png").write_bytes(PNG)
    if os.geteuid() == 0:
        os.chown(root / "foreign.png", 12_345, 12_345)
    return root
