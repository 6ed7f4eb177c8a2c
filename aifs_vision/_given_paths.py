"""Paths that others give: what is taken of a model's, and how files below a folder are opened.

Plain names below the folder are taken, and every other form is refused with its reason. What may be opened is opened
name by name, so that no link leads elsewhere meanwhile.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote

from aifs_vision._errors import ImageError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FILE_FLAGS", "opened_below", "parts_of", "refused", "shown_path"]

FILE_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"))
"""How files are opened: nothing is waited for, and no link followed."""
_FOLDER = getattr(os, "O_DIRECTORY", 0)
# A folder on the way need not be readable, where the system knows how to pass through.
_PASSED = getattr(os, "O_PATH", os.O_RDONLY) | FILE_FLAGS | _FOLDER

_LONGEST = 1_024  # characters
_SHOWN = 80  # characters of a refused path that its error repeats
_DECODED = 4  # times: what is encoded more often leads nowhere either, as nothing is decoded to be opened

_ADDRESS = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*:")  # https:, data:, C:, name.png:stream
_UTF16 = re.compile(r"%u[0-9A-Fa-f]{4}")
_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3])(?:\.|$)", re.IGNORECASE)
# What looks like a slash, and is made one by no normal form of Unicode; the other ones are.
_LOOKALIKES = str.maketrans(
    dict.fromkeys("\u2044\u2215\u29f8\u27cb\u2571", "/") | dict.fromkeys("\u2216\u29f5\u29f9\u27cd\u2572", "\\")
)
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # change directions


def parts_of(path: object) -> tuple[str, ...]:
    """The names a path consists of, each of which can be opened in the folder of the one before.

    Nothing is expanded, decoded or normalised: those forms are looked at too, and refused where they would lead
    elsewhere than the text seems to.

    Raises:
        ImageError: it is refused; says why, and what to give instead.
    """
    if not isinstance(path, str):
        raise refused(path, "it is no text")
    if len(path) > _LONGEST:
        raise refused(path, f"it is longer than {_LONGEST:,} characters")
    for form in _forms(path):
        if reason := _reason(form):
            raise refused(path, reason)
    return tuple(part for part in path.split("/") if part not in {"", "."})


class Look(Protocol):
    """Told what a name stands for before it is opened, and whether it is to be a folder; raises where it may not be."""

    def __call__(self, known: os.stat_result, *, folder: bool) -> object:
        """Looks."""


def opened_below(root: str, parts: Iterable[str], *, folder: bool = False, look: Look | None = None) -> int:
    """A descriptor of a file, or of a folder to be listed, opened name by name from the top of the file system.

    No link is followed on the way, so none leads out of the root that a folder below it, or above, has become in the
    meantime.

    Args:
        root: a folder; an absolute path without links.
        parts: names below it.
        folder: whether it is a folder.
        look: is shown each name below the root.

    Raises:
        OSError: it is not there, a link, or cannot be opened.
    """
    top = Path(root)
    names = (*top.parts[1:], *parts) or (".",)
    here = os.open(top.anchor, _PASSED)
    try:
        for number, name in enumerate(names[:-1], 1):
            if look is not None and number >= len(top.parts):
                look(os.stat(name, dir_fd=here, follow_symlinks=False), folder=True)
            inner = os.open(name, _PASSED, dir_fd=here)
            os.close(here)
            here = inner
        if look is not None and len(names) >= len(top.parts):
            look(os.stat(names[-1], dir_fd=here, follow_symlinks=False), folder=folder)
        return os.open(names[-1], FILE_FLAGS | (_FOLDER if folder else 0), dir_fd=here)
    finally:
        os.close(here)


def refused(path: object, reason: str) -> ImageError:
    """The error of a path that is not opened."""
    return ImageError(shown_path(path), f"refused, as {reason}. Give a path below the folder, as list_images shows it.")


def shown_path(path: object) -> str:
    """A path as errors repeat it: short, on one line, without characters that cannot be seen."""
    text = path if isinstance(path, str) else type(path).__name__
    return one_line(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def _forms(path: str) -> list[str]:
    """The path, what it is decoded, and how both look."""
    forms, decoded = [path], path
    for _ in range(_DECODED):
        before, decoded = decoded, unquote(decoded)
        if decoded == before:
            break
        forms.append(decoded)
    visible = ("".join(char for char in form if unicodedata.category(char) != "Cf") for form in forms)
    return [*forms, *(unicodedata.normalize("NFKC", form).translate(_LOOKALIKES) for form in visible)]


def _reason(text: str) -> str:
    """Why a path is refused; "" where it is not."""
    parts = [part for part in text.split("/") if part not in {"", "."}]
    return next((reason for holds, reason in _RULES if holds(text)), "") or next(
        (reason for part in parts for holds, reason in _RULES_OF_PARTS if holds(part)),
        "" if parts else "it names no file",
    )


_Rules = tuple[tuple[Callable[[str], object], str], ...]
_RULES: _Rules = (
    (lambda text: any(map(_is_unseen, text)), "it has characters that cannot be seen"),
    (lambda text: "\N{REPLACEMENT CHARACTER}" in text or _UTF16.search(text), "it has encoded characters"),
    (lambda text: _ADDRESS.match(text) or (os.name == "nt" and ":" in text), "it is an address, data or a drive"),
    (lambda text: "\\" in text, "it has backslashes"),
    (lambda text: text.startswith("/"), "it is absolute"),
    (lambda text: text.startswith("~"), "it begins in a home folder"),
)
_RULES_OF_PARTS: _Rules = (
    (lambda part: not part.strip(". "), "it leads out of its folder"),
    (lambda part: part.startswith("."), "hidden files are not shown"),
    (lambda part: part != part.strip() or part.endswith("."), "a name ends with a dot, or begins or ends with a blank"),
    (_DEVICE.match, "it is the name of a device"),
)


def _is_unseen(char: str) -> bool:
    return unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} or char in _TURNING
