"""Traces without pictures: `redacted` takes image data out of whatever a tracer is about to write down."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections import deque
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["redacted"]

_KEYS = frozenset({"base64", "blob", "bytes", "data", "file_data", "image", "video"})  # of content blocks, for data
_BASE64 = re.compile(r"[A-Za-z0-9+/_\r\n-]{90,}={0,2}")
_LEAST = 90  # characters of data without a label; of data URIs any
_DIGEST = re.compile(r"[0-9A-Fa-f]{1,128}")
_PATH_LENGTH = 1_024  # characters of paths, at most

# No pattern below can fail after a repetition without a bound, so that none is slow on any text. Backslashes are
# doubled each time that a text is put into JSON.
_SLASH = r"(?:\\{0,8}/|\\{1,8}u002f|%2f)"
_PLUS = r"(?:\+|\\{1,8}u002b|%2b)"
_ALONE = r"(?:(?<![A-Za-z0-9+/_-])|(?<=\\[nrt]))"  # also after an escaped line break

_HEAD = re.compile(
    rf"data(?::|%3a)(?:(?P<kind>[\w.+-]+){_SLASH}(?P<form>(?:[\w.-]|{_PLUS})+))?"
    r"(?P<more>(?:(?:;|%3b)(?:[^,;%\n]|%(?!2c|3b)){0,200}){0,8})(?:,|%2c)",
    re.IGNORECASE,
)
_SEEN = ("image/", "video/", "audio/", "application/pdf")  # what is redacted without base64 as well
_PERCENT = re.compile(r"[^\s\"'<>\\]*")
_MARKUP = re.compile(r"\s*<(?:svg|\?xml|!)(?:[^<]|<(?!\\{0,8}/svg>))*(?:<\\{0,8}/svg>)?", re.IGNORECASE)

_ESCAPE = r"\\{1,8}(?:/|u00(?:2[bf]|3d))|%(?:25)?(?:2[bf]|3d|0[ad])|&#(?:43|47|61|x2[bf]|x3d);"
_LINE = re.compile(rf"(?:[A-Za-z0-9+/_-]+|{_ESCAPE})+={{0,2}}", re.IGNORECASE)
_ESCAPED = re.compile(_ESCAPE, re.IGNORECASE)
_BREAK = re.compile(r"(?:\r?\n|(?:\\{1,8}r)?\\{1,8}n)[ \t>]*")  # of lines, also of escaped and of quoted ones
_BLANK = re.compile(r"(?:[\s>]|\\{1,8}[nrt])+")
_SHORTEST, _LONGEST = 38, 1_000  # characters of a line that goes on in a shorter one; of mails they are 998
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_BEHIND = re.compile(r"\Z|[\s\"'`\\<)\]}&]")  # what is behind the last line
# What the base64 of pictures, PDF documents and videos begins with, in the midst of any text.
_BARE = re.compile(
    rf"(?:iVBORw0KGgo|{_ALONE}(?:(?i:{_SLASH})9j(?i:{_SLASH})|_9j_|iVBORw0KGg|R0lGOD|UklGR|JVBERi0|SUkqA|TU0AK"
    r"|Qk[0-9A-Za-z]|AAAA[A-Za-z0-9+/_-]{2}Z0eX|AAAADGpQ|AAABA|GkXfo|OEJQUw|PHN2Z|PD94bWw))"
    r"(?=[A-Za-z0-9+/_\\%-]{30})"
)

# Where bytes as Python shows them may begin; they are looked at further where something is escaped in them.
_OPENED = re.compile(
    r"(?:(?<![A-Za-z0-9_])|(?<=\\[nrt]))b(?:(?P<slashes>\\{0,15})\"|'(?=[^'\\\n]{0,200}\\|%PDF-|<svg|<\?xml))"
)
_BEGIN = re.compile(r"(?:[^'\\\n]|\\+'?){0,120}")
_RUN = re.compile(r"(?<!\\)(\\+)[xnrt]")
_PLAIN = ("%PDF-", "<svg", "<?xml")  # what bytes without escapes may begin with
_HEX = re.compile(
    rf"{_ALONE}(?:0x)?(?P<data>(?:89504e47|ffd8ff|47494638|52494646|25504446|1a45dfa3|49492a00|4d4d002a"
    r"|000000[0-9a-f]{2}66747970)"
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
    if isinstance(key, str) and key in _KEYS and isinstance(value, str):
        data = value.strip()
        if _BASE64.fullmatch(data) and not _is_name(data):
            return f"[{_size(value)}]"
    return redacted(value)


def _is_name(text: str) -> bool:
    """Whether what could be base64 is a digest, or a path, list of ids or the like, with more separators than that."""
    separators = sum(map(text.count, "/-_"))
    named = len(text) <= _PATH_LENGTH and separators * 12 > len(text) and not re.search("[/_-]{2}", text)
    return named or _DIGEST.fullmatch(text) is not None


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
    new = text
    for start, end in ((_HEAD, _data_uri), (_BARE, _bare), (_OPENED, _shown_bytes)):
        new = _without_runs(new, start, end)
    new = _HEX.sub(lambda found: f"[{len(found['data']) // 2:,} bytes]", new)
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
    label = f"{head['kind']}/{re.sub(_PLUS, '+', head['form'], flags=re.IGNORECASE)}" if head["kind"] else ""
    if head["more"].rstrip().lower().endswith((";base64", "%3bbase64")):
        blank = _BLANK.match(text, head.end())
        start = blank.end() if blank and _line(text, blank.end())[1] >= _SHORTEST else head.end()
        end = _end(text, start)
        return (end, _note(label, _size(text[start:end]))) if end > start else (0, "")
    if not label.lower().startswith(_SEEN):
        return 0, ""
    found = _MARKUP.match(text, head.end()) or _PERCENT.match(text, head.end())
    if found is None or not ("%" in found[0] or "<" in found[0]):  # a list of types
        return 0, ""
    return found.end(), _note(label, f"{len(found[0]):,} characters")


def _bare(text: str, begun: re.Match[str]) -> tuple[int, str]:
    end = _end(text, begun.start())
    return (end, f"[{_size(text[begun.start() : end])}]") if end - begun.start() >= _LEAST else (0, "")


def _line(text: str, start: int) -> tuple[int, int]:
    """Where a line of base64 that starts here ends, and its length without escapes."""
    found = _LINE.match(text, start)
    return (found.end(), len(_ESCAPED.sub("+", found[0]))) if found else (start, 0)


def _end(text: str, start: int) -> int:
    """Where base64 ends; it goes on in the next line where it has lines, of which none but the last is shorter."""
    end, length = _line(text, start)
    before, total = 0, length
    while before <= length >= _SHORTEST and text[end - 1] != "=" and (wrapped := _BREAK.match(text, end)):
        after, more = _line(text, wrapped.end())
        last = (total + more) % 4 == 0 and _is_last(text, wrapped.end(), after)
        if more < length and not (more > 0 and length <= _LONGEST and (more >= _SHORTEST or last)):
            break
        end, before, length, total = after, length, more, total + more
    return end


def _is_last(text: str, start: int, end: int) -> bool:
    """Whether a short line may be the last one of base64, and not the words that come after it."""
    return _WORD.fullmatch(text, start, end) is None and _BEHIND.match(text, end) is not None


def _shown_bytes(text: str, opened: re.Match[str]) -> tuple[int, str]:
    """Bytes as Python shows them, and that in JSON, once or more often, where each backslash is two, four, eight."""
    if opened["slashes"] is not None:
        quote, times = '"', len(opened["slashes"]) + 1
    else:
        begin = _BEGIN.match(text, opened.end())
        runs = [len(run) for run in _RUN.findall(begin[0])] if begin else []
        quote, times = "'", min((run & -run for run in runs), default=1)
    found = _literal(quote, times).match(text, opened.end())
    shown = found[0] if found else ""
    escapes = shown.count("\\x")
    if len(shown) < _LEAST or not (escapes * (times + 3) * 5 > len(shown) or shown.startswith(_PLAIN)):
        return 0, ""
    return opened.end() + len(shown), f"[about {len(shown) - (times + 2) * escapes:,} bytes]"


@cache
def _literal(quote: str, times: int) -> re.Pattern[str]:
    """The rest of shown bytes, where one backslash stands there so many times."""
    slash, double = rf"\\{{{times}}}", rf"\\{{{times - 1}}}\""
    if quote == '"':
        return re.compile(rf"(?:[^\"\\\n]|{slash}(?:{slash}|[^\\\"\n]))*(?:{double})?")
    return re.compile(rf"(?:[^'\"\\\n]|{slash}(?:{slash}|[^\\\n])|{double})*'?")


def _note(label: str, size: str) -> str:
    return f"[{label}, {size}]" if label else f"[{size}]"


def _size(data: str) -> str:
    return f"{len(data.rstrip('=')) * 3 // 4:,} bytes"
