"""`redacted`: no image data in what tracers write down, in whatever form it stands there."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from base64 import b64encode, encodebytes, urlsafe_b64encode
from collections import deque
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from langchain_core.documents import Document
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.prompt_values import ChatPromptValue

from langchain_aifs import redacted
from tests.media import pdf
from tests.pictures import corners, noise, saved

PICTURE = saved(noise(60, 40))
CODED = b64encode(PICTURE).decode()


class Named(NamedTuple):
    """A tuple with names."""

    first: str
    second: Any


@dataclasses.dataclass(frozen=True)
class Made:
    """A value."""

    content: Any
    number: int = 1


@pytest.mark.parametrize(
    "held",
    [
        f"data:image/png;base64,{CODED}",
        f"see data:image/png;base64,{CODED} and more",
        f"{{'base64': '{CODED}'}}",
        {"type": "image", "base64": CODED, "mime_type": "image/png"},
        {"type": "image_url", "image_url": {"url": f"DATA:image/png;charset=x;base64,{CODED}"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": CODED}},
        {"type": "file", "file": {"file_data": b64encode(b"\0" * 500).decode()}},
        [saved(noise(60, 40)), bytearray(CODED.encode())],
        (1, {"messages": [HumanMessage([{"type": "image", "base64": CODED}])]}),
        Named("a", {"data": CODED}),
        Made([HumanMessage([{"type": "image", "base64": CODED}])]),
        ChatPromptValue(messages=[HumanMessage([{"type": "image", "base64": CODED}])]),
        ToolMessage("x", tool_call_id="1", artifact={"hits": [{"image_url": f"data:image/png;base64,{CODED}"}]}),
        Document(f"![](data:image/png;base64,{CODED})", metadata={"data": CODED}),
    ],
    ids=range(14),
)
def test_image_data_is_redacted(held: Any) -> None:
    """Wherever image data is, a note with its size stands there instead; the form stays, and what was given."""
    before = repr(held)
    new = redacted(held)
    assert type(new) is type(held) or isinstance(held, tuple)
    assert CODED[:60] not in repr(new)
    assert "AAAAAAAA" not in repr(new)
    assert " bytes]" in repr(new)
    assert repr(held) == before
    assert redacted(new) is new or redacted(new) == new


@pytest.mark.parametrize(
    "held",
    [
        "",
        "plain",
        "/9j/ is how a JPEG begins",
        {"a": [1, None, 2.5, True]},
        ("x",),
        HumanMessage("hi"),
        Made("x"),
        object,
        7,
    ],
)
def test_nothing_else_is_redacted(held: Any) -> None:
    """What has no image data is given back as it is, the very same object."""
    assert redacted(held) is held


def lines_of(text: str, length: int, mark: str = "") -> str:
    """A text in lines, all but the first with a mark before them."""
    return f"\n{mark}".join(text[at : at + length] for at in range(0, len(text), length)) + "\n"


LINES = encodebytes(PICTURE).decode()
SOUND = b64encode(b"fLaC" + PICTURE).decode()
URI = f"data:image/png;base64,{CODED}"
JPEG = b64encode(saved(noise(60, 40), "JPEG")).decode()
SAFE = urlsafe_b64encode(PICTURE).decode()
SVG = f"<svg xmlns='http://www.w3.org/2000/svg'><path d=\"M0 {'1' * 300}\"/></svg>"


@dataclasses.dataclass
class Later:
    """A value with a field that its making does not take."""

    name: str
    held: str = dataclasses.field(init=False, default=URI)


TEXTS = {
    "data URI in lines": f"data:image/png;base64,{LINES}",
    "data URI in lines, in a text": f"see\ndata:image/png;base64,{LINES}ZEBRA of it",
    "data URI after a blank": f"data:image/png;base64, {CODED}",
    "data URI with a name": f'data:image/png;name="a b.png";base64,{CODED}',
    "data URI, percent-encoded": f"ZEBRA data:image/png,{quote(PICTURE)} ZEBRA",
    "data URI of an SVG": f'ZEBRA <img src="data:image/svg+xml;utf8,{SVG}"> ZEBRA',
    "data URI of an SVG, percent-encoded": f"ZEBRA data:image/svg+xml,{quote(SVG)} ZEBRA",
    "base64 in lines": f"ZEBRA\n{LINES}ZEBRA of it",
    "base64 in lines, indented": "ZEBRA\n" + "".join(f"  {line}\n" for line in LINES.split()) + "ZEBRA of it",
    "base64 in lines, in JSON": json.dumps({"ZEBRA": LINES}),
    "base64 in lines, as Python shows it": repr({"ZEBRA": LINES}),
    "base64 for addresses": f"ZEBRA {SAFE} ZEBRA",
    "base64 with escaped slashes": json.dumps({"ZEBRA": JPEG, "x": URI}).replace("/", "\\/"),
    "JSON in JSON": json.dumps(json.dumps({"ZEBRA": JPEG, "x": LINES}).replace("/", "\\/")),
    "bytes as Python shows them": f"ZEBRA {PICTURE!r} ZEBRA",
    "bytes in a dict, in JSON": json.dumps(str({"ZEBRA": PICTURE})),
    "bytes with both quotes, in JSON": json.dumps(str({"ZEBRA": b"'\"" + PICTURE})),
    "bytes with one quote, in JSON": json.dumps(str({"ZEBRA": b"'" + PICTURE.replace(b'"', b"")})),
    "bytes that end with a backslash": f"ZEBRA {PICTURE + bytes([92])!r} ZEBRA",
    "bytes of a PDF as Python shows them": f"ZEBRA {pdf('1 0 0 rg 0 60 80 40 re f ' * 20)!r} ZEBRA",
    "bytes with both quotes, in JSON in JSON": json.dumps(json.dumps(str({"ZEBRA": b"'\"" + PICTURE + b"'\""}))),
    "bytes with one quote, in JSON in JSON": json.dumps(json.dumps(str({"ZEBRA": b"'" + PICTURE.replace(b'"', b"")}))),
    "bytes in a line of their own, in JSON": json.dumps({"ZEBRA": f"got:\n{PICTURE!r}"}),
    "bytes after an apostrophe": f"ZEBRA: plan b's picture is {PICTURE!r} ZEBRA",
    "hex": f"ZEBRA {PICTURE.hex()} ZEBRA",
    "hex of HEIC": f"ZEBRA {(bytes(3) + b'@ftypheic' + PICTURE).hex()} ZEBRA",
    "hex in a line of its own, in JSON": json.dumps({"ZEBRA": f"got:\n{PICTURE.hex()}"}),
    "base64 in the lines of mails": f"ZEBRA\n{lines_of(CODED, 998)}ZEBRA of it",
    "data URI in the lines of mails": f"ZEBRA\ndata:image/png;base64,{lines_of(CODED, 998)}ZEBRA of it",
    "data URI in lines after its head, in JSON": json.dumps(f"ZEBRA data:audio/wav;base64,\r\n> {lines_of(SOUND, 76)}"),
    "data URI in short lines with its head": f"ZEBRA {lines_of('data:image/png;base64,' + CODED, 60)}ZEBRA of it",
    "data URI in lines with its head": f"ZEBRA {lines_of('data:image/png;base64,' + CODED, 76)}ZEBRA of it",
    "base64 in quoted lines": f"ZEBRA\n> {lines_of(CODED, 76, '> ')}ZEBRA of it",
    "base64 in lines quoted twice": f"ZEBRA\n> > {lines_of(CODED, 76, '> > ')}ZEBRA of it",
    "base64 with escaped signs": json.dumps({"ZEBRA": CODED}).replace("+", "\\u002B").replace("/", "\\u002f"),
    "JPEG with escaped signs": json.dumps({"ZEBRA": JPEG}).replace("+", "\\u002b").replace("/", "\\u002F"),
    "data URI with escaped signs": json.dumps({"ZEBRA": URI}).replace("+", "\\u002b").replace("/", "\\u002f"),
    "data URI with signs of HTML": f"ZEBRA {URI.replace('+', '&#43;')} ZEBRA",
    "data URI that is percent-encoded": f"ZEBRA?image={quote(URI, safe='')}&ZEBRA",
    "data URI of an SVG, encoded twice": f"ZEBRA {quote(f'data:image/svg+xml,{quote(SVG)}', safe='')} ZEBRA",
    "base64 that is percent-encoded": f"ZEBRA?image={quote(JPEG, safe='')}&ZEBRA",
    "base64 after other letters": f"ZEBRA base64{CODED} ZEBRA",
}
for _kind, _begin in {
    "WebM": b"\x1aE\xdf\xa3",
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n",
    "MP4": b"\0\0\0\x20ftypisom",
    "HEIC": b"\0\0\0\x18ftypheic",
    "BMP": b"BM\x36\x10",
    "WebP": b"RIFF\x24\x10\0\0WEBP",
    "TIFF": b"MM\0*",
    "ICO": b"\0\0\1\0",
}.items():
    TEXTS[f"base64 of {_kind}"] = f"ZEBRA {b64encode(_begin + PICTURE).decode()} ZEBRA"


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_texts_are_redacted(text: str) -> None:
    """Of image data in a text nothing is left but a note, whatever form it has; what stands around it stays."""
    new = redacted(text)
    assert len(new) < 120
    assert " bytes]" in new or " characters]" in new
    assert new.count("ZEBRA") == text.count("ZEBRA")
    assert redacted(new) == new


@pytest.mark.parametrize(
    "held",
    [
        {URI},
        frozenset({(URI, "x")}),
        deque([URI, "x"]),
        {URI: 1, "x": 2},
        {PICTURE: 1, bytes(PICTURE[:-1]): 2},
        Later("a"),
    ],
    ids=["set", "frozenset", "deque", "keys", "keys of bytes", "dataclass"],
)
def test_every_container_is_looked_into(held: Any) -> None:
    """Sets, keys, and fields that are made later hold no data either; nothing else of them is lost."""
    before = repr(held)
    new = redacted(held)
    assert type(new) is type(held)
    assert CODED[:60] not in repr(new)
    assert "PNG" not in repr(new)
    assert " bytes]" in repr(new)
    assert isinstance(held, Later) or len(new) == len(held)
    assert repr(held) == before


@pytest.mark.parametrize(
    "text",
    [
        "Words " * 40,
        "b'" + "words and words " * 20 + "'",
        "data:text/plain,hello data:,x data:image/png and data:image/png, which is it?",
        "data: image/png;base64, is how it begins",
        "\\n" * 300,
        "/usr/share/" * 40,
        "x" * 500,
        f"{2**2000:x}",
        "use data:image/svg+xml, <b>. Then: total 5, paid by Ann",
        "Accept: data:image/png,image/jpeg and more",
    ],
    ids=range(10),
)
def test_words_stay(text: str) -> None:
    """Texts without image data are the very same, also where they speak of it, and under keys that often hold it."""
    assert redacted(text) is text
    words = {"data": "some words that go on and on without any mark between them " * 3}
    assert redacted(words) is words


@pytest.mark.parametrize(
    "held",
    [
        {"data": hashlib.sha512(b"x").hexdigest()},
        {"data": hashlib.sha512(b"x").hexdigest().upper()},
        {"image": "scans" + "/archive-2024" * 10},
        {"image": "/Scans/Rechnungen/Archiv" * 5},
        {"video": "550e8400-e29b-11d4-a716-446655440000_" * 3},
    ],
    ids=["digest", "digest in capitals", "path", "path with capitals", "ids"],
)
def test_names_stay(held: Any) -> None:
    """Digests, paths and lists of ids, though of the letters of base64, are no data under any key."""
    assert redacted(held) is held


@pytest.mark.parametrize("behind", ["Total: 5\nNext", "Note\nNext", "Signature\nInvoice", "Page 2", "Ende.", "a1b2: x"])
def test_words_after_base64_stay(behind: str) -> None:
    """What comes in the lines after base64, also after one that is full, is not taken for its last line."""
    coded = b64encode(PICTURE[:570]).decode()  # ten lines, and no "=" at their end
    for text in (coded, lines_of(coded, 76).strip(), f"data:image/png;base64,{coded}"):
        new = redacted(f"{text}\n{behind}")
        assert new.endswith(f" bytes]\n{behind}")
        assert len(new) < 60


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "\\",
            "\\/",
            "\\n",
            "b'",
            'b"',
            'b"\\',
            "b'\\",
            "b'\\'",
            "b'\\x",
            "data:image/",
            "data:image/png,<",
            "data:a/b;",
        ),
        *("data:;%2", ";a", "/9j/", "AAAA", " ", "> ", "%2f", "\\u002b", "&#4", "ffd8ff", "=", f"{'A' * 76}\n"),
    ],
)
def test_no_text_takes_long(piece: str) -> None:
    """A megabyte of anything that patterns may begin or go on with is looked through, and no picture beside it lost."""
    assert CODED[:60] not in redacted(f"{CODED} {piece * (1_000_000 // len(piece))} {CODED}")


def test_pictures_that_a_message_takes_in_lines_are_redacted_as_well() -> None:
    """A message with base64 in lines, which chat models take, leaves nothing."""
    lines = encodebytes(saved(corners(300, 200))).decode()
    message = HumanMessage([{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{lines}"}}])
    assert len(str(redacted(message))) < 300
