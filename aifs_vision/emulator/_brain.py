"""What the emulator answers: real text of the picture, a measured description, a filled schema."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from aifs_vision.emulator._describe import describe
from aifs_vision.emulator._extract import fill
from aifs_vision.emulator._ocr import TextReader

if TYPE_CHECKING:
    from aifs_vision.emulator._checks import ChatRequest
    from aifs_vision.emulator._ocr import Page

__all__ = ["Brain"]

_FIXED = "A fixed answer of the emulator, whose text recognition is switched off."
_NO_MODEL = "The emulator has no language model; the closest line of what it was given:"

_ASKS_CAPTION = re.compile(r"\bcaption|\bbildunterschrift", re.IGNORECASE)
_ASKS_DESCRIPTION = re.compile(r"\bdescri|\bbeschreib", re.IGNORECASE)
_ASKS_TEXT = re.compile(
    r"\bocr\b|\btranscri|\bread (?:all |the |out |every)*text|\bextract (?:all |the )*text"
    r"|\btext (?:only|alone)|\btranskri|\blies (?:den |allen )?text|\babschreib",
    re.IGNORECASE,
)
_SENTINEL = re.compile(r"answer exactly\s+(\S.*?)\s*$", re.IGNORECASE | re.MULTILINE)
_WORD = re.compile(r"\w{3,}", re.UNICODE)


class Brain:
    """Answers chat requests; its calls block and may come from several threads."""

    def __init__(self, *, ocr: bool) -> None:
        self._reader = TextReader() if ocr else None

    def answer(self, request: ChatRequest) -> str:
        """The content of the assistant's message."""
        if self._reader is None:
            return _FIXED if request.schema is None else json.dumps(fill(request.schema, ""))
        pages = [self._reader.read(image.picture) for image in request.images if image.picture is not None]
        text = "\n\n".join(page.text for page in pages if page.text)
        if request.schema is not None:
            known = text if pages else "\n".join(request.texts)
            filled = fill(request.schema, known) if request.schema else {"text": known}
            return json.dumps(filled, ensure_ascii=False)
        if not pages:
            return _closest_line(request.prompt, request.texts)
        return self._about_pictures(request, pages, text)

    def _about_pictures(self, request: ChatRequest, pages: list[Page], text: str) -> str:
        asked = request.prompt
        measured = "\n".join(
            describe(image.picture, page)
            for image, page in zip(request.images, pages, strict=True)
            if image.picture is not None
        )
        if _ASKS_CAPTION.search(asked):
            return measured
        if _ASKS_TEXT.search(asked) and not _ASKS_DESCRIPTION.search(asked):
            sentinel = _SENTINEL.search(asked)
            return text or (sentinel[1] if sentinel else "")
        return f"{measured}\n\n{text}" if text else measured


def _closest_line(question: str, texts: tuple[str, ...]) -> str:
    """The line of the conversation that shares most words with its last question; said to be just that."""
    asked = _words(question.splitlines()[-1] if question.strip() else "")
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    others = [line for line in lines if not _words(line) <= asked]
    best = max(others or lines or [""], key=lambda line: len(_words(line) & asked))
    return f"{_NO_MODEL} {best}"


def _words(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text)}
