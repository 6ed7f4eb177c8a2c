"""Every format in: pictures, documents and videos, told by their first bytes; what cannot be read says why."""

from __future__ import annotations

import io
import struct
import sys
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image, ImageChops, ImageStat

from aifs_vision import (
    ImageBrokenError,
    ImageEncryptedError,
    ImageFormatError,
    ImageNotFoundError,
    SettingsError,
    SeveralPagesError,
    find_images,
)
from tests.media import FORMATS, clip, heic, pdf
from tests.pictures import corner_names, corners, opened, saved, tiff

if TYPE_CHECKING:
    from pathlib import Path

    from aifs_vision import Vision
    from aifs_vision.emulator import Emulator

UPRIGHT = ["red", "lime", "blue", "yellow"]
RED_AND_BLUE = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]


def sent_pictures(server: Emulator) -> list[Image.Image]:
    """What was sent, in the order of arrival."""
    return [opened(request.images[0][1]) for request in server.requests]


def error_between(one: Image.Image, other: Image.Image) -> float:
    """The mean difference of two pictures, in levels of 255."""
    parts = ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB"))).mean
    return sum(parts) / len(parts)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read(vision: Vision, server: Emulator, name: str) -> None:
    """A picture in any format, whatever its file is called, is sent as it looks, at its size, rightly labelled."""
    make, looks, most = FORMATS[name]
    picture = corners(64, 64)
    reading = vision.read(("photo.dat", make(picture)))
    ((label, data),) = server.requests[-1].images
    sent = opened(data)
    assert sent.size == picture.size == (reading.width, reading.height)
    assert label == Image.MIME[str(sent.format)]
    assert label in {"image/jpeg", "image/png", "image/webp"}
    assert error_between(sent, looks(picture)) <= most
    assert reading.mime_type
    assert (reading.page, reading.total_pages, reading.time) == (1, 1, None)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_of_phones_come_out_upright(vision: Vision, server: Emulator, orientation: int) -> None:
    """HEIC and AVIF pictures are turned once, whatever way they were held."""
    from tests.test_images import STORED

    turn = STORED[orientation]
    stored = corners() if turn is None else corners().transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for data in (heic(stored, exif=exif.tobytes()), saved(stored, "AVIF", exif=exif, quality=95)):
        reading = vision.read(data)
        assert (reading.width, reading.height) == (60, 40)
        assert corner_names(opened(server.requests[-1].images[0][1])) == UPRIGHT


def test_pages_of_different_size_are_readings_of_their_own(vision: Vision, server: Emulator) -> None:
    """Each page of a TIFF is read, in its own size."""
    readings = list(vision.read_many([("scan.tif", tiff([corners(60, 40), corners(40, 80), corners(24, 24)]))]))
    assert [(r.page, r.total_pages, r.width, r.height) for r in readings] == [
        (1, 3, 60, 40),
        (2, 3, 40, 80),
        (3, 3, 24, 24),
    ]
    assert sorted(picture.size for picture in sent_pictures(server)) == [(24, 24), (40, 80), (60, 40)]


# -- Animations ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_frames_of_animations_are_chosen(vision: Vision, server: Emulator, kind: str) -> None:
    """The first frame unless asked; all, or so many at even distances, each with its number."""
    colours = ("red", "lime", "blue", "yellow")
    first, *others = (Image.new("RGB", (40, 40), colour) for colour in colours)
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(first, kind, save_all=True, append_images=others, **options)
    for frames, pages in (("auto", [1]), ("first", [1]), ("all", [1, 2, 3, 4]), (2, [1, 3]), (9, [1, 2, 3, 4])):
        server.clear()
        readings = list(vision.read_many([data], frames=frames))  # type: ignore[arg-type]
        assert [reading.page for reading in readings] == pages, frames
        names = sorted(corner_names(picture)[0] for picture in sent_pictures(server))
        assert names == sorted(colours[page - 1] for page in pages), frames


def test_an_impossible_choice_of_frames_is_refused(vision: Vision) -> None:
    """A choice of frames that is none is refused before anything is read."""
    for frames in ("some", 0, -1, True, 2.5):
        with pytest.raises(SettingsError, match="frames="):
            vision.read_many([], frames=frames)  # type: ignore[arg-type]


# -- PDF -----------------------------------------------------------------------------------------------------

SQUARES = ["1 0 0 rg 0 50 100 50 re f 0 0 1 rg 100 0 100 50 re f", "0 1 0 rg 0 0 200 100 re f"]


def test_pages_of_a_pdf_are_drawn(vision: Vision, server: Emulator) -> None:
    """Every page is a reading, drawn at the size that is sent: that of its paper at 300 dots an inch, at most."""
    readings = list(vision.read_many([("plan.pdf", pdf(*SQUARES))], "caption"))
    assert [(r.page, r.total_pages, r.mime_type) for r in readings] == [
        (1, 2, "application/pdf"),
        (2, 2, "application/pdf"),
    ]
    assert {(r.width, r.height) for r in readings} == {(833, 417)}
    first, second = sorted(sent_pictures(server), key=lambda picture: corner_names(picture)[0], reverse=True)
    assert corner_names(first) == ["red", "white", "blue", "white"]
    assert corner_names(second) == ["lime"] * 4
    assert first.size == (833, 417)


def test_a_large_page_is_drawn_no_larger_than_needed(vision: Vision, server: Emulator) -> None:
    """A poster of many square metres is drawn at the size of its caption, and takes no more memory than that."""
    reading = vision.read(pdf(SQUARES[1], width=14_000, height=7_000), "caption")
    assert reading.ok
    assert sent_pictures(server)[0].size == (1024, 512)


def test_a_turned_page_is_upright(vision: Vision, server: Emulator) -> None:
    """A page that says it is to be turned is drawn turned."""
    vision.read(pdf(SQUARES[0], extra="/Rotate 90"), "caption")
    assert corner_names(sent_pictures(server)[0]) == ["white", "red", "white", "blue"]


def test_pdf_files_that_cannot_be_opened_say_why(vision: Vision) -> None:
    """A PDF with a password, a broken one, and one without pages are errors that say what they are."""
    with pytest.raises(ImageEncryptedError, match="password"):
        vision.read(("secret.pdf", encrypted_pdf()))
    with pytest.raises(ImageBrokenError, match="damaged or cut off"):
        vision.read(b"%PDF-1.7\nnothing of the kind")
    with pytest.raises(SeveralPagesError, match="2 pages"):
        vision.read(pdf(*SQUARES))


def encrypted_pdf() -> bytes:
    """A PDF that opens with a password."""
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(PdfReader(io.BytesIO(pdf(*SQUARES))))
    writer.encrypt("open sesame", algorithm="RC4-128")
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def test_one_broken_page_is_that_page_alone(vision: Vision) -> None:
    """PDFium is asked page by page from several threads, and the pages come in their order."""
    source = ("many.pdf", pdf(*SQUARES * 10))
    readings = list(vision.read_many([source, corners()], "caption"))
    assert [reading.page for reading in readings] == [*range(1, 21), 1]


# -- Video ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "codec", "mime_type"),
    [("mp4", "mpeg4", "video/mp4"), ("webm", "libvpx", "video/webm"), ("avi", "mpeg4", "video/x-msvideo")],
)
def test_videos_are_read_at_even_times(vision: Vision, server: Emulator, kind: str, codec: str, mime_type: str) -> None:
    """Of a video so many frames are read, each with its number and its time in seconds, also in the metadata."""
    data = clip(RED_AND_BLUE, kind=kind, codec=codec)
    readings = list(vision.read_many([("clip", data)], frames=4))
    assert [(reading.page, reading.time) for reading in readings] == [(7, 0.24), (19, 0.72), (32, 1.24), (44, 1.72)]
    assert {reading.total_pages for reading in readings} == {50}
    assert readings[1].metadata()["time"] == 0.72
    assert readings[0].mime_type == mime_type
    assert sorted(corner_names(picture)[0] for picture in sent_pictures(server)) == ["blue", "blue", "red", "red"]
    assert len(list(vision.read_many([("clip", data)]))) == 8
    (first,) = vision.read_many([("clip", data)], frames="first")
    assert (first.page, first.time) == (1, 0.0)


def test_videos_are_read_at_changes_of_scene(vision: Vision, server: Emulator) -> None:
    """Where the scene changes, one frame of each is read."""
    scenes = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue", "white")]
    readings = list(vision.read_many([("clip.mp4", clip(scenes, frames=75))], frames="scenes"))
    assert [reading.page for reading in readings] == [1, 26, 51]
    assert sorted(corner_names(picture)[0] for picture in sent_pictures(server)) == ["blue", "red", "white"]


def test_a_video_of_a_phone_held_upright_is_upright(vision: Vision, server: Emulator) -> None:
    """The turning that a phone writes beside the picture is applied."""
    lying = corners(96, 64)
    data = bytearray(clip([lying], frames=5))
    # The matrix of the track's header: a quarter turn to the right, as phones write it (ISO 14496-12, 8.3.2).
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 64 << 16, 0, 1 << 30)
    (reading,) = vision.read_many([("phone.mov", bytes(data))], frames="first")
    assert (reading.width, reading.height) == (64, 96)
    assert corner_names(sent_pictures(server)[0]) == corner_names(lying.transpose(Image.Transpose.ROTATE_270))


def test_a_video_without_a_picture_says_so(vision: Vision) -> None:
    """A damaged video is that source's error."""
    data = clip(RED_AND_BLUE)
    for bad in (data[:200], data[:12] + b"\0" * 400, heic(corners())[:60]):
        with pytest.raises(ImageBrokenError):
            list(vision.read_many([("clip.mp4", bad)]))


# -- What is not there -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "extra", "data"),
    [
        ("pypdfium2", "pdf", pdf(SQUARES[0])),
        ("av", "video", b"\0\0\0\x18ftypisom" + b"\0" * 40),
        ("pillow_heif.as_plugin", "heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
    ],
)
def test_a_missing_extra_is_named(
    vision: Vision, monkeypatch: pytest.MonkeyPatch, module: str, extra: str, data: bytes
) -> None:
    """A format whose decoder is not installed is an error that says what to install; the others are read."""
    monkeypatch.setitem(sys.modules, module, None)
    bad, good = vision.read_many([data, corners()], on_error="keep")
    assert isinstance(bad.error, ImageFormatError)
    assert f"pip install 'aifs-vision[{extra}]'" in str(bad.error)
    assert good.ok


STRANGERS: dict[str, tuple[bytes, str]] = {
    "SVG": (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "draw it into a PNG"),
    "Word": (b"PK\3\4" + b"\0" * 30, "save it as PDF"),
    "Photoshop": (b"8BPS\0\1" + b"\0" * 30, "save it as PNG"),
    "JPEG XL": (b"\xff\x0a" + b"\1" * 30, "save it as PNG"),
    "gzip": (b"\x1f\x8b" + b"\0" * 30, "unpack it"),
    "text that begins like a picture": (b"P5 is a fine road. BMW. The free software foundation. " * 3, "a text file"),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_other_files_are_named_with_a_remedy(vision: Vision, name: str) -> None:
    """What is no picture is an error that says what it seems to be and what to do."""
    data, words = STRANGERS[name]
    with pytest.raises(ImageFormatError) as caught:
        vision.read((f"{name}.png", data))
    assert words in str(caught.value)


def test_folders_give_documents_and_videos_when_asked(tmp_path: Path) -> None:
    """A folder stands for its pictures; PDF files and videos, which can be long, are found by a glob of one's own."""
    for name in ("a.heic", "b.jp2", "c.avif", "d.PDF", "e.mp4", "f.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in find_images(tmp_path)] == ["a.heic", "b.jp2", "c.avif"]
    assert [path.name for path in find_images(tmp_path, "*.PDF")] == ["d.PDF"]
    assert len(find_images(tmp_path, "*")) == 5
    with pytest.raises(SettingsError, match="glob="):
        find_images(tmp_path, "**x/**y**" if sys.version_info < (3, 13) else "")
    with pytest.raises(ImageNotFoundError):
        find_images(tmp_path / "a\0b")


def test_a_file_that_vanishes_is_its_own_error(vision: Vision, tmp_path: Path) -> None:
    """A file that goes, or changes, while the run is under way harms no other."""
    paths: list[Any] = []
    for number in range(6):
        paths.append(tmp_path / f"{number}.png")
        paths[-1].write_bytes(saved(corners()))

    def asked() -> Any:
        for number, path in enumerate(paths):
            if number == 2:
                path.unlink()
            if number == 4:
                path.write_bytes(b"something else")
            yield path

    readings = list(vision.read_many(asked(), on_error="keep"))
    assert [reading.ok for reading in readings] == [True, True, False, True, False, True]
    assert isinstance(readings[2].error, ImageNotFoundError)
    assert isinstance(readings[4].error, ImageFormatError)
