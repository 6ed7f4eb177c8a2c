"""Traces without pictures: `redacted` takes image data out of whatever a tracer is about to write down."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["redacted"]

_DATA = re.compile(
    r"data:(?P<label>[\w.+-]+/[\w.+-]+)?(?:;[\w=.+-]+)*;base64,(?P<data>[A-Za-z0-9+/_=%-]+)", re.IGNORECASE
)
# What the base64 of pictures, PDF documents and videos begins with, in the midst of any text.
_RUN = re.compile(
    r"(?<![A-Za-z0-9+/])"
    r"(?P<data>(?:/9j/|iVBORw0KGgo|R0lGOD|UklGR|JVBERi0|SUkqA|TU0AK|Qk[0-9A-Za-z]|AAAA[A-Za-z0-9+/]{2}Z0eX)"
    r"[A-Za-z0-9+/]{90,}={0,2})"
)
_BASE64 = re.compile(r"[A-Za-z0-9+/_\s-]{90,}={0,2}")
_KEYS = frozenset({"base64", "blob", "bytes", "data", "file_data", "image", "video"})  # of content blocks, for data


def redacted(value: Any) -> Any:
    """The same value with notes in place of image data, for whatever writes traces.

        client = langsmith.Client(hide_inputs=redacted, hide_outputs=redacted)
        tracer = LangChainTracer(client=client)

    Messages, content blocks of every form, dicts, lists, dataclasses, pydantic objects, and texts with data in them are
    looked through; what holds no data is given back as it is, and nothing that is given is changed. A note says type
    and size.
    """
    if isinstance(value, str):
        return _RUN.sub(_note, _DATA.sub(_note, value)) if len(value) >= len("data:,") else value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"[{len(value):,} bytes]"
    if isinstance(value, Mapping):
        held = {key: _redacted_at(key, inner) for key, inner in value.items()}
        return value if all(held[key] is value[key] for key in held) else held
    if isinstance(value, (list, tuple)):
        return _of_sequence(value)
    return _of_object(value)


def _redacted_at(key: object, value: Any) -> Any:
    if key in _KEYS and isinstance(value, str) and _BASE64.fullmatch(value.strip()):
        return f"[{_size(value)}]"
    return redacted(value)


def _of_sequence(value: list[Any] | tuple[Any, ...]) -> Any:
    held = [redacted(inner) for inner in value]
    if all(new is old for new, old in zip(held, value, strict=True)):
        return value
    if isinstance(value, list):
        return held
    made = getattr(type(value), "_make", tuple)  # of a named one
    return made(held)


def _of_object(value: Any) -> Any:
    if isinstance(value, BaseModel):
        fields = {name: getattr(value, name) for name in (*type(value).model_fields, *(value.model_extra or ()))}
        return _with_fields(value, fields, lambda changed: value.model_copy(update=changed))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        return _with_fields(value, fields, lambda changed: dataclasses.replace(value, **changed))
    return value


def _with_fields(value: Any, fields: dict[str, Any], made: Callable[[dict[str, Any]], Any]) -> Any:
    held = {name: redacted(inner) for name, inner in fields.items()}
    changed = {name: inner for name, inner in held.items() if inner is not fields[name]}
    return made(changed) if changed else value


def _note(found: re.Match[str]) -> str:
    label = found.groupdict().get("label")
    return f"[{label}, {_size(found['data'])}]" if label else f"[{_size(found['data'])}]"


def _size(data: str) -> str:
    return f"{len(data.rstrip('=')) * 3 // 4:,} bytes"
