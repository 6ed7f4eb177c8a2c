"""Traces without pictures: `redacted` takes image data out of whatever a tracer is about to write down."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["redacted"]

_KEYS = frozenset({"base64", "blob", "bytes", "data", "file_data", "image", "video"})  # of content blocks, for data
_BASE64 = re.compile(r"[A-Za-z0-9+/_\r\n-]{90,}={0,2}")
_LEAST = 90  # characters of base64 without a label; of data URIs any

# No pattern below can fail after a repetition, so that none is slow on any text.
_HEAD = re.compile(r"data:(?P<label>[\w.+-]+\\{0,4}/[\w.+-]+)?(?P<more>(?:;[^,;\n]{0,200}){0,8}),", re.IGNORECASE)
_SEEN = ("image/", "video/", "audio/", "application/pdf")  # what is redacted without base64 as well
_LINE = re.compile(r"(?:[A-Za-z0-9+/_=-]+|\\{1,4}/|%[0-9A-Fa-f]{2})+")  # "\/" and "%2B" where it is escaped once more
_BREAK = re.compile(r"(?:\r?\n|(?:\\{1,4}r)?\\{1,4}n)[ \t]*")  # of lines, also of escaped ones
_SHORTEST, _LONGEST = 40, 256  # characters of a line that goes on in the next
_PERCENT = re.compile(r"[^\s\"'<>\\]*")
_MARKUP = re.compile(r"\s*<(?:[^<]|<(?!/svg>))*(?:</svg>)?", re.IGNORECASE)
# What the base64 of pictures, PDF documents and videos begins with, in the midst of any text.
_BARE = re.compile(
    r"(?:(?<![A-Za-z0-9+/_-])|(?<=\\[nrt]))"
    r"(?:\\{0,4}/9j\\{0,4}/|_9j_|iVBORw0KGg|R0lGOD|UklGR|JVBERi0|SUkqA|TU0AK|Qk[0-9A-Za-z]|AAAA[A-Za-z0-9+/_-]{2}Z0eX"
    r"|AAAADGpQ|AAABA|GkXfo|OEJQUw|PHN2Z|PD94bWw)(?=[A-Za-z0-9+/_\\-]{30})"
)
# Bytes as Python shows them, and that once more in JSON, where each backslash is two.
_BYTES = re.compile(
    r"(?<![A-Za-z0-9_])b(?:"
    r"'(?=[^\\\n]{0,100}\\\\)(?:[^'\\\n]|\\\\\\\\|\\\\[^\\]|\\[^\\])*'?|\\\"(?:[^\"\\\n]|\\\\\\\\|\\\\[^\\])*(?:\\\")?"
    r"|'(?:[^'\\\n]|\\.)*'?|\"(?:[^\"\\\n]|\\.)*\"?)"
)
_PLAIN = ("%PDF-", "<svg", "<?xml")  # what bytes without escapes may begin with
_HEX = re.compile(
    r"(?<![0-9A-Za-z])(?:0x)?(?P<data>(?:89504e47|ffd8ff|47494638|52494646|25504446|1a45dfa3|49492a00|4d4d002a)"
    r"[0-9a-f]{160,})",
    re.IGNORECASE,
)


def redacted(value: Any) -> Any:
    """The same value with notes in place of image data, for whatever writes traces.

        client = langsmith.Client(hide_inputs=redacted, hide_outputs=redacted)
        tracer = LangChainTracer(client=client)

    Messages, content blocks of every form, dicts, lists, sets, dataclasses, pydantic objects, and texts are looked
    through; in texts for data URIs, for base64 (also in lines, escaped or URL-safe), for bytes as Python or hex shows
    them. What holds no data is given back as it is, and nothing that is given is changed. A note says type and size.
    Objects of other classes are given back as they are.
    """
    if isinstance(value, str):
        return _of_text(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"[{memoryview(value).nbytes:,} bytes]"
    if isinstance(value, Mapping):
        return _of_mapping(value)
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return _of_collection(value)
    return _of_object(value)


# -- Values that hold others ---------------------------------------------------------------------------------------


def _of_mapping(value: Mapping[Any, Any]) -> Any:
    held: dict[Any, Any] = {}
    same = True
    for key, inner in value.items():
        name, new = redacted(key), _at(key, inner)
        same = same and name is key and new is inner
        while name in held:  # two keys whose notes are equal
            name = f"{name}'"
        held[name] = new
    return value if same else held


def _at(key: object, value: Any) -> Any:
    if isinstance(key, str) and key in _KEYS and isinstance(value, str) and _BASE64.fullmatch(value.strip()):
        return f"[{_size(value)}]"
    return redacted(value)


def _of_collection(value: Any) -> Any:
    given = list(value)
    held = [redacted(inner) for inner in given]
    if all(new is old for new, old in zip(held, given, strict=True)):
        return value
    if isinstance(value, tuple):
        return getattr(type(value), "_make", tuple)(held)  # of a named one
    return next(kind for kind in (list, set, frozenset, deque) if isinstance(value, kind))(held)


def _of_object(value: Any) -> Any:
    if isinstance(value, BaseModel):
        changed = _changed(value, (*type(value).model_fields, *(value.model_extra or ())))
        return value.model_copy(update=changed) if changed else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if not (changed := _changed(value, (field.name for field in dataclasses.fields(value)))):
            return value
        made = copy.copy(value)  # as its `__init__` may take other things than its fields
        for name, inner in changed.items():
            object.__setattr__(made, name, inner)  # frozen ones as well
        return made
    return value


def _changed(value: Any, names: Iterable[str]) -> dict[str, Any]:
    """The attributes that are to be others."""
    held = ((name, getattr(value, name)) for name in names if hasattr(value, name))
    return {name: new for name, inner in held if (new := _at(name, inner)) is not inner}


# -- Texts ---------------------------------------------------------------------------------------------------------


def _of_text(text: str) -> str:
    if len(text) < len("data:,"):
        return text
    new = _without_runs(_without_runs(text, _HEAD, _data_uri), _BARE, _bare)
    new = _HEX.sub(lambda found: f"[{len(found['data']) // 2:,} bytes]", _BYTES.sub(_shown_bytes, new))
    return text if new == text else new


def _without_runs(text: str, start: re.Pattern[str], end: Callable[[str, re.Match[str]], tuple[int, str]]) -> str:
    """The text with notes for what begins where a pattern is found, and ends where `end` says; 0 for nothing."""
    parts: list[str] = []
    done = place = 0
    while found := start.search(text, place):
        place, note = end(text, found)
        if place:
            parts += (text[done : found.start()], note)
            done = place
        else:
            place = found.end()
    return "".join((*parts, text[done:])) if parts else text


def _data_uri(text: str, head: re.Match[str]) -> tuple[int, str]:
    label, more = (head["label"] or "").replace("\\", ""), head["more"].lower()
    if more.rstrip().endswith(";base64"):
        start = head.end()
        blank = re.compile(r"\s+").match(text, start)
        if blank and _bare_length(text, blank.end()) >= _SHORTEST:
            start = blank.end()
        end = _end(text, start)
        return (end, _note(label, _size(text[start:end]))) if end > start else (0, "")
    if not label.lower().startswith(_SEEN):
        return 0, ""
    found = _MARKUP.match(text, head.end()) or _PERCENT.match(text, head.end())
    end = found.end() if found else head.end()
    return (end, _note(label, f"{end - head.end():,} characters")) if end > head.end() else (0, "")


def _bare(text: str, begun: re.Match[str]) -> tuple[int, str]:
    end = _end(text, begun.start())
    return (end, f"[{_size(text[begun.start() : end])}]") if end - begun.start() >= _LEAST else (0, "")


def _bare_length(text: str, start: int) -> int:
    found = _LINE.match(text, start)
    return len(found[0]) if found else 0


def _end(text: str, start: int) -> int:
    """Where base64 ends; it goes on in the next line where it has lines."""
    end, length = start, _bare_length(text, start)
    while length:
        end += length
        wrapped = _BREAK.match(text, end) if _SHORTEST <= length <= _LONGEST and text[end - 1] != "=" else None
        if wrapped is None:
            break
        length = _bare_length(text, wrapped.end())
        after = wrapped.end() + length
        if length < _SHORTEST and text[after : after + 1] in {" ", "\t", ".", ","}:  # words, and no last line
            break
        end = wrapped.end() if length else end
    return end


def _shown_bytes(found: re.Match[str]) -> str:
    text, inner = found[0], found[0][1:].lstrip("\\\"'")
    if len(text) < _LEAST or not (text.count("\\x") * 20 > len(text) or inner.startswith(_PLAIN)):
        return text
    return f"[about {len(text) - 3 * text.count(chr(92) + 'x'):,} bytes]"


def _note(label: str, size: str) -> str:
    return f"[{label}, {size}]" if label else f"[{size}]"


def _size(data: str) -> str:
    return f"{len(data.rstrip('=')) * 3 // 4:,} bytes"
