"""Content blocks of every form -> the picture in them, or the block as the service takes it.

LangChain has had three forms of its own, and lets through those of OpenAI, Anthropic, Google, Bedrock and
Hugging Face. All of them hold bytes, base64, an address or a reference under some key.
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aifs_vision import ImageFormatError
from langchain_aifs._base64 import UNKNOWN, decoded, label_of, of_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from PIL import Image

__all__ = ["KINDS", "LOOKED_AT", "Attached", "is_attached", "is_picture", "read_block"]

_BYTES = ("base64", "data", "bytes", "file_data", "image", "video")
_ADDRESSES = ("url", "image_url", "video_url", "file_url", "file_uri", "fileUri")
_REFERENCES = ("file_id", "fileId")
_PATHS = ("path", "file_path", "filepath")
# Anthropic's, Google's and OpenAI's blocks hold their data one level down.
_WRAPPED = ("source", "inline_data", "inlineData", "file_data", "fileData", "file", "input_audio")
_NESTED = 4  # levels down; no form needs more than two
_WRITTEN, _SOUND = ("text/", "application/json", "application/xml"), "audio/"  # documents that are texts, or sound
_USE_BLOCK = "use langchain_aifs.image_block(...), which takes paths, bytes and PIL images"
_SHOWN = 80  # characters of what cannot be read
_PATH_LENGTH = 1024  # characters; what is longer is no path


@dataclass(frozen=True)
class Attached:
    """What somebody has put into a message to be looked at: bytes, a data URI, an http(s) URL, or a PIL image.

    `place` says where it was found, for errors; `detail` is sent along.
    """

    source: bytes | str | Image.Image = field(repr=False)
    place: str
    detail: str | None = None

    @property
    def is_address(self) -> bool:
        """Whether it is a URL, which is passed on."""
        return isinstance(self.source, str) and not self.source.startswith("data:")


def read_block(block: Any, place: str) -> Attached | dict[str, Any]:
    """The picture, document or video in a content block; or else the block, as the chat endpoint takes it.

    Args:
        block: a dict of any form, or a text.
        place: where it stands, for errors.

    Raises:
        ImageFormatError: a path, a file id, an address that the service cannot fetch, or data that is none.
    """
    if isinstance(block, str):
        return {"type": "text", "text": block}
    kind = _kind(block)
    if kind == "non_standard" and isinstance(block.get("value"), dict):
        return read_block(block["value"], place)
    reader = _READERS.get(kind)
    return block if reader is None else reader(block, place)


def is_picture(block: Any) -> bool:
    """Whether there is something to look at in a block, by its kind and label; cheap, as it decodes nothing."""
    if isinstance(block, str):
        return False
    kind = _kind(block)
    if kind == "non_standard" and isinstance(block.get("value"), dict):
        return is_picture(block["value"])
    if _READERS.get(kind) is not _document:
        return kind in LOOKED_AT
    label = _label(block)
    return not (_is_written(block, label) or label.startswith(_SOUND))


def is_attached(block: Any) -> bool:
    """Whether a block may hold a file, which takes time to be read."""
    return not isinstance(block, str) and _kind(block) not in _TEXTS


def _kind(block: Mapping[str, Any]) -> str:
    kind = block.get("type")
    if kind is None:  # Bedrock and Google name the kind by the key
        kind = next((key for key in block if key in _READERS), "")
    return str(kind)


# -- The kinds of blocks -------------------------------------------------------------------------------------------


def _text(block: Mapping[str, Any], place: str) -> Attached | dict[str, Any]:
    text = block.get("text")
    if isinstance(text, str):
        # Ids and annotations of LangChain's own are not the service's business; what steers its cache is.
        kept = {key: block[key] for key in ("prompt_cache_breakpoint", "cache_control") if key in block}
        return {"type": "text", "text": text, **kept}
    data = _found(block, place)
    if isinstance(data, bytes):
        try:
            return {"type": "text", "text": data.decode()}
        except UnicodeDecodeError as error:
            raise _unreadable(place, "a text that is not UTF-8", f"decode it first ({error.reason})") from error
    if isinstance(data, str) and not data.startswith(("data:", "http://", "https://")):
        return {"type": "text", "text": data}
    raise _unreadable(place, f"a {_kind(block)!r} block without its text", "give it as text")


def _json(block: Mapping[str, Any], place: str) -> dict[str, Any]:
    """What tools return as data, as the text that it is to a model."""
    held = block["json"] if "json" in block else {key: value for key, value in block.items() if key != "type"}
    try:
        return {"type": "text", "text": json.dumps(held, ensure_ascii=False)}
    except (TypeError, ValueError) as error:
        raise _unreadable(place, f"a 'json' block that is no JSON ({error})", "give it as text") from error


def _picture(block: Mapping[str, Any], place: str) -> Attached | dict[str, Any]:
    return Attached(_source(block, place), place, _detail(block))


def _document(block: Mapping[str, Any], place: str) -> Attached | dict[str, Any]:
    """A PDF, picture, video or text by its label; addresses of documents and videos are not fetched by anybody."""
    label = _label(block)
    if _is_written(block, label):
        return _text(_plain(block), place)
    if label.startswith(_SOUND):
        return _sound({**block, "type": "audio", "mime_type": label}, place)
    found = _picture(block, place)
    if isinstance(found, Attached) and found.is_address and not label.startswith("image/"):
        what = f"the address of a document or video ({str(found.source)[:_SHOWN]!r})"
        raise _unreadable(place, what, "the service fetches pictures alone; download it and give its bytes")
    return found


def _sound(block: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Sound goes on as it is, under the name that OpenAI's format has for MP3."""
    label, inner = _label(block), block.get("input_audio")
    data = _source(inner if isinstance(inner, dict) else block, place)
    if not isinstance(data, bytes):
        raise _unreadable(place, "sound that is not given by its bytes", "give it as base64")
    kind = inner.get("format") if isinstance(inner, dict) else label.rpartition("/")[2]
    kind = {"mpeg": "mp3", "x-wav": "wav"}.get(str(kind), str(kind))
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": kind}}


if TYPE_CHECKING:
    _Reader = Callable[[Mapping[str, Any], str], Attached | dict[str, Any]]

_READERS: dict[str, _Reader] = {
    "text": _text,
    "input_text": _text,
    "text-plain": _text,
    "json": _json,
    "image": _picture,
    "image_url": _picture,
    "input_image": _picture,
    "file": _document,
    "input_file": _document,
    "document": _document,
    "media": _document,
    "inline_data": _document,
    "inlineData": _document,
    "file_data": _document,
    "fileData": _document,
    "video": _document,
    "video_url": _document,
    "input_video": _document,
    "audio": _sound,
    "input_audio": _sound,
}
_TEXTS = frozenset({"text", "input_text", "json"})
KINDS = frozenset(_READERS)
LOOKED_AT = frozenset(kind for kind, reader in _READERS.items() if reader in {_picture, _document})


def _is_written(block: Mapping[str, Any], label: str) -> bool:
    """Whether a document of this label is a text."""
    source = block.get("source")
    of_text = block.get("source_type") == "text" or (isinstance(source, dict) and source.get("type") == "text")
    return of_text or (label.startswith(_WRITTEN) or (label.endswith(("+json", "+xml")) and label != "image/svg+xml"))


def _plain(block: Mapping[str, Any]) -> Mapping[str, Any]:
    """A text document whose text stands where data would."""
    source = block.get("source")
    if isinstance(source, dict) and source.get("type") == "text":
        return {"type": "text", "text": source.get("data", "")}
    if block.get("source_type") == "text":
        return {"type": "text", "text": block.get("text") or block.get("url") or block.get("data")}
    return block


def _detail(block: Mapping[str, Any]) -> str | None:
    """How closely the model is to look, wherever the form says it."""
    nested = [block.get(key) for key in ("image_url", "video_url", "extras", "metadata")]
    for holder in [block, *nested]:
        if isinstance(holder, dict) and isinstance(holder.get("detail"), str):
            return str(holder["detail"])
    return None


def _label(block: Mapping[str, Any]) -> str:
    """The MIME type that a block or its data URI says it has, in lower case, without parameters; "" if none does."""
    holders = [holder for holder in (block, *map(block.get, _WRAPPED)) if isinstance(holder, dict)]
    said = [holder.get(key) for holder in holders for key in ("mime_type", "media_type", "mimeType")]
    given = [holder.get(key) for holder in holders for key in (*_BYTES, *_ADDRESSES)]
    heads = [text[:_SHOWN].strip().partition(",")[0] for text in given if isinstance(text, str)]
    said += [head[5:] for head in heads if head[:5].lower() == "data:"]
    label = next((text for text in said if isinstance(text, str)), "")
    return label.partition(";")[0].strip().lower()


# -- Where the data is ---------------------------------------------------------------------------------------------


def _source(block: Mapping[str, Any], place: str) -> bytes | str | Image.Image:
    found: bytes | str | Image.Image | None = _found(block, place)
    if found is None:
        keys = ", ".join(map(repr, block))
        raise _unreadable(place, f"a block without data (it has {keys})", _USE_BLOCK)
    return of_bytes(found) if isinstance(found, bytes) else found


def _found(block: Mapping[str, Any], place: str, level: int = 0) -> Any:
    """Bytes, a data URI, an http(s) URL or a PIL image: whatever stands under one of the keys; or None."""
    for key in _WRAPPED:
        if isinstance(block.get(key), dict):
            block = {**block, **block[key]}
    for key in _BYTES:
        if block.get(key) is not None:
            return _decoded(block[key], place, level)
    for key in _ADDRESSES:
        if block.get(key) is not None:
            return _address(block[key], place, level)
    reference = next((block[key] for key in _REFERENCES if key in block), None)
    if reference is None and block.get("source_type") == "id":
        reference = block.get("id")
    if reference is not None:
        raise _unreadable(place, f"a file id ({reference!r})", f"the chat endpoint keeps no files; {_USE_BLOCK}")
    path = next((block[key] for key in _PATHS if key in block), None)
    if path is not None:
        raise _path(path, place)
    return None


def _further_down(block: Mapping[str, Any], place: str, level: int) -> Any:
    if level == _NESTED:
        raise _unreadable(place, f"a block whose data are more than {_NESTED} levels down", _USE_BLOCK)
    return _found(block, place, level + 1)


def _decoded(value: Any, place: str, level: int) -> Any:
    if isinstance(value, dict):
        return _further_down(value, place, level)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, str):
        text = value.strip()
        if text[:5].lower() == "data:":
            return _of_data_uri(text)
        if text[:8].lower().startswith(("http://", "https://")):
            return text
        try:
            return decoded(text)
        except ValueError as error:
            if len(text) < _PATH_LENGTH and label_of(text) == UNKNOWN and ("/" in text or "." in text):
                raise _path(text, place) from error
            what = f"base64 that cannot be decoded ({text[:20]!r}...: {error})"
            raise _unreadable(place, what, "encode the whole file again") from error
    if isinstance(value, os.PathLike):
        raise _path(value, place)
    if isinstance(value, (int, float, list, tuple)):
        raise _unreadable(place, f"data that is of the type {type(value).__name__!r}", _USE_BLOCK)
    return value


def _of_data_uri(text: str) -> bytes | str:
    """Its bytes; the URI itself where it is not the usual base64, and the engine says what is wrong with it."""
    head, _, body = text.partition(",")
    if head[-7:].lower() == ";base64":
        try:
            return decoded(body)
        except ValueError:
            return text
    return text


def _address(value: Any, place: str, level: int) -> Any:
    if isinstance(value, dict):
        return _further_down(value, place, level)
    if not isinstance(value, str):
        raise _unreadable(place, f"an address that is a {type(value).__name__}", _USE_BLOCK)
    text = value.strip()
    scheme = text[:16].partition(":")[0].lower()
    if scheme == "data":
        return _of_data_uri(text)
    if scheme in {"http", "https"}:
        return text
    if "://" in text[:16] and scheme != "file":
        remedy = "the service fetches http(s) alone; open other addresses yourself, and give the bytes"
        raise _unreadable(place, f"an address with {scheme!r} ({text[:_SHOWN]!r})", remedy)
    raise _path(text, place)


def _path(path: Any, place: str) -> ImageFormatError:
    shown = os.fspath(path) if isinstance(path, os.PathLike) else path
    return _unreadable(place, f"a path ({str(shown)[:_SHOWN]!r})", f"paths in messages are never opened; {_USE_BLOCK}")


def _unreadable(place: str, found: str, remedy: str) -> ImageFormatError:
    return ImageFormatError(place, found, remedy=remedy)
