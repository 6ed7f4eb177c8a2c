"""What may be given as an image, and what becomes of what cannot be one."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from aifs_vision import (
    ImageAccessError,
    ImageBrokenError,
    ImageError,
    ImageFormatError,
    ImageNotFoundError,
    ImageTooLargeError,
    ImageTooSmallError,
    SettingsError,
    SeveralPagesError,
    find_images,
)
from tests.pictures import corners, noise, opened, png_header, saved, tiff

if TYPE_CHECKING:
    from aifs_vision import Vision
    from aifs_vision.emulator import Emulator

PNG = saved(corners())


# -- In ----------------------------------------------------------------------------------------------------


def test_every_kind_of_source_is_read(vision: Vision, server: Emulator, tmp_path: Path) -> None:
    """Paths, bytes, data URIs, file objects, PIL images and named bytes all reach the model as the same picture."""
    path = tmp_path / "a picture.png"
    path.write_bytes(PNG)
    named = io.BytesIO(PNG)
    named.name = "upload.png"
    sources: dict[str, Any] = {
        str(path): str(path),
        os.fspath(path): path,
        "upload.png": named,
        "by name.png": ("by name.png", PNG),
        "by name too.png": ("by name too.png", io.BytesIO(PNG)),
    }
    for name, source in sources.items():
        assert vision.read(source).source == name
    digest = vision.read(PNG).source
    assert digest.startswith("sha256:")
    data_uri = "data:image/gif;base64," + base64.b64encode(PNG).decode()
    for nameless in (bytearray(PNG), memoryview(PNG), io.BytesIO(PNG), data_uri):
        assert vision.read(nameless).source == digest
    assert vision.read(corners()).source.startswith("sha256:")
    with Image.open(path) as picture:
        assert vision.read(picture).source == str(path)
    sent = {opened(request.images[0][1]).convert("RGB").tobytes() for request in server.requests}
    assert sent == {corners().tobytes()}


def test_a_reading_knows_its_picture(vision: Vision, tmp_path: Path) -> None:
    """A reading has the size, type and digest of the picture as it was given, not as it was sent."""
    path = tmp_path / "big.bmp"
    path.write_bytes(saved(Image.new("RGB", (3000, 1500), "teal"), "BMP"))
    reading = vision.read(path)
    assert (reading.width, reading.height, reading.mime_type) == (3000, 1500, "image/bmp")
    assert reading.image_sha256 == __import__("hashlib").sha256(path.read_bytes()).hexdigest()


def test_an_address_is_passed_on_untouched(vision: Vision, server: Emulator) -> None:
    """An http(s) URL goes to the service as it is; nothing is fetched here."""
    url = 'https://pictures.example/a "b".jpg?x=1&y=\\u00e4'
    run = vision.read_many([url], on_error="keep")
    (reading,) = list(run)
    assert server.requests[0].body["messages"][0]["content"][0]["image_url"]["url"] == url
    assert reading.source == url
    assert reading.status == "failed"  # the emulator has no network
    assert "width" not in reading.metadata()


def test_every_page_of_a_tiff_is_a_reading(vision: Vision, server: Emulator) -> None:
    """A TIFF gives one reading for each page, with its number, its size and the digest of the whole file."""
    data = tiff([corners(60, 40), corners(90, 50), corners(40, 80)])
    readings = list(vision.read_many([("scan.tif", data)]))
    assert [(r.page, r.total_pages, r.width, r.height) for r in readings] == [
        (1, 3, 60, 40),
        (2, 3, 90, 50),
        (3, 3, 40, 80),
    ]
    assert len({r.id for r in readings}) == 3
    assert len({r.image_sha256 for r in readings}) == 1
    assert sorted(opened(request.images[0][1]).size for request in server.requests) == [
        (40, 80),
        (60, 40),
        (90, 50),
    ]


def test_read_refuses_to_drop_pages(vision: Vision) -> None:
    """read() gives one reading, so a source of several pages is refused with the way to read them all."""
    with pytest.raises(SeveralPagesError, match=r"has 2 pages.*read_many"):
        vision.read(("scan.tif", tiff([corners(), corners()])))


def test_an_animation_gives_its_first_frame_unless_asked(vision: Vision, server: Emulator) -> None:
    """Of an animated picture the first frame is read, or all of them where that is asked for."""
    first, second = Image.new("RGB", (40, 40), "red"), Image.new("RGB", (40, 40), "blue")
    data = saved(first, "GIF", save_all=True, append_images=[second])
    assert [reading.total_pages for reading in vision.read_many([data])] == [1]
    assert [reading.page for reading in vision.read_many([data], frames="all")] == [1, 2]
    sent = [opened(request.images[0][1]).convert("RGB").getpixel((5, 5)) for request in server.requests]
    assert sorted(map(str, sent)) == sorted(map(str, [(255, 0, 0), (255, 0, 0), (0, 0, 255)]))


def test_arrays_of_pdf_loaders_are_pictures(vision: Vision, server: Emulator) -> None:
    """The .npy bytes that LangChain's PDF loaders make are read: grey, colour, with alpha, and boolean."""
    import numpy as np  # the emulator brings it along

    arrays = [
        np.asarray(corners()),
        np.asarray(corners().convert("L")),
        np.asarray(corners().convert("RGBA")),
        np.asarray(corners().convert("L")) > 200,
        np.asarray(corners().convert("L"))[:, :, None],
        np.asarray(corners().convert("L")).astype("<u2") * 257,
    ]
    for array in arrays:
        buffer = io.BytesIO()
        np.save(buffer, array)
        assert vision.read(buffer.getvalue()).ok
    sent = [opened(request.images[0][1]).convert("RGB").tobytes() for request in server.requests]
    grey = corners().convert("L").convert("RGB").tobytes()
    assert sent[0] == sent[2] == corners().tobytes()
    assert sent[1] == sent[4] == sent[5] == grey


# -- Folders -----------------------------------------------------------------------------------------------


def test_a_folder_stands_for_its_images(vision: Vision, tmp_path: Path) -> None:
    """Images below a folder are found by suffix in any case, or by their first bytes; sorted, without hidden ones."""
    for name in ("b.PNG", "a.png", "deep/er/c.Jpeg", "no-suffix", ".hidden.png", ".git/d.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "no-picture").write_text("no picture")
    expected = [tmp_path / name for name in ("a.png", "b.PNG", "deep/er/c.Jpeg", "no-suffix")]
    assert find_images(tmp_path) == expected
    assert find_images(str(tmp_path), "*.png") == [tmp_path / "a.png"]
    assert [reading.source for reading in vision.read_many(tmp_path)] == [str(path) for path in expected]
    assert next(vision.read_many([tmp_path / "deep", PNG])).source == str(expected[2])
    assert len(list(vision.read_many(tmp_path, glob="**/*.[jJ]*"))) == 1


def test_a_folder_without_images_is_an_error(vision: Vision, tmp_path: Path) -> None:
    """An empty or a missing folder is an error whatever on_error is, not an empty result."""
    for folder, words in ((tmp_path, "no images"), (tmp_path / "missing", "no such file")):
        with pytest.raises(ImageNotFoundError, match=words):
            find_images(folder)
        with pytest.raises(ImageNotFoundError, match=words):
            list(vision.read_many(folder, on_error="skip"))


def test_a_folder_that_may_not_be_listed_is_an_error(tmp_path: Path) -> None:
    """A folder, or one below it, without permission is an error and not an empty one."""
    locked = tmp_path / "locked"
    locked.mkdir()
    (locked / "a.png").write_bytes(PNG)
    tmp_path.chmod(0o755)
    locked.chmod(0)
    script = (
        "import os, sys\n"
        "from aifs_vision import find_images, ImageAccessError\n"
        "if os.getuid() == 0: os.setuid(65534)\n"  # root may list everything
        "try: find_images(sys.argv[1])\n"
        "except ImageAccessError as error: print(error)\n"
    )
    for parent in tmp_path.parents:
        if parent.owner() == tmp_path.owner():
            parent.chmod(parent.stat().st_mode | 0o11)  # so that anybody can get there
    command = [sys.executable, "-c", script, str(tmp_path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        locked.chmod(0o755)
    assert "Permission denied" in done.stdout, done.stderr
    assert str(locked) in done.stdout


# -- Bad input ---------------------------------------------------------------------------------------------

JPEG = saved(noise(64, 64), "JPEG")


def npy(header: str) -> bytes:
    """An array file with this header, and nothing in it."""
    return b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header.encode()


BAD: dict[str, tuple[Any, type[ImageError], str]] = {
    "missing": ("nowhere/a.png", ImageNotFoundError, "no such file"),
    "text": (b"Dear Sir or Madam,", ImageFormatError, "a text file"),
    "empty": (b"", ImageFormatError, "an empty file"),
    "truncated JPEG": (JPEG[: len(JPEG) * 2 // 3], ImageBrokenError, "damaged or cut off"),
    "truncated PNG": (saved(noise(64, 64))[:500], ImageBrokenError, "damaged or cut off"),
    "one pixel": (saved(Image.new("RGB", (1, 1))), ImageTooSmallError, "1 x 1 px is too small"),
    "bomb": (png_header(60_000, 60_000), ImageTooLargeError, "60000 x 60000 px"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", ImageFormatError, "an SVG drawing"),
    "array of endless shape": (
        npy("{'shape': (1e999, 2), 'descr': '|u1', 'fortran_order': False}"),
        ImageBrokenError,
        "",
    ),
    "array of nonsense": (npy("-" * 9_000 + "1"), ImageBrokenError, "NumPy array"),
    "half a character": ("\ud800.png", ImageError, "ud800"),
    "HTML": (b"<!doctype html><p>", ImageFormatError, "HTML"),
    "data URI": ("data:image/png;base64,@@@", ImageFormatError, "data URI"),
    "other scheme": ("s3://bucket/a.png", ImageFormatError, "'s3'"),
    "text file object": (io.StringIO("text"), ImageFormatError, "binary mode"),
    "null byte": ("a\0b.png", ImageError, "a"),
    "base64 without label": (base64.b64encode(JPEG * 20).decode(), ImageError, "File name too long"),
    "damaged array": (b"\x93NUMPY\x01\x00\xff\xff", ImageBrokenError, "NumPy array"),
}


def test_data_uris_are_read_as_people_write_them(vision: Vision) -> None:
    """Base64 in a data URI may be wrapped, unpadded, or in the alphabet for addresses."""
    picture = saved(corners(61, 41), "BMP")
    usual = base64.b64encode(picture).decode()
    assert usual.endswith("=")
    assert {"+", "/"} & set(usual)
    for written in (
        "\n".join(usual[at : at + 76] for at in range(0, len(usual), 76)),
        usual.rstrip("="),
        base64.urlsafe_b64encode(picture).decode(),
    ):
        assert vision.read(f"data:image/bmp;base64,{written}").source == vision.read(picture).source


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error(vision: Vision, server: Emulator, case: str) -> None:
    """A source that cannot be read is one short error of the tree that names it; nothing is sent."""
    source, kind, words = BAD[case]
    with pytest.raises(kind) as caught:
        vision.read(source)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 500
    assert caught.value.source
    assert not server.requests


def test_bad_files_do_not_harm_the_others(vision: Vision, server: Emulator, tmp_path: Path) -> None:
    """Among bad files each good one is read; each bad one keeps its place and its reason."""
    good, sources = 0, []
    for case, (source, _, _) in BAD.items():
        if isinstance(source, bytes):
            bad, fine = tmp_path / f"{case}.png", tmp_path / f"{case}-good.png"
            bad.write_bytes(source)
            fine.write_bytes(PNG)
            sources += [bad, fine]
            good += 1
    readings = list(vision.read_many(sources, on_error="keep"))
    assert [reading.source for reading in readings] == [str(source) for source in sources]
    assert [reading.ok for reading in readings] == [False, True] * good
    assert all(reading.error is not None and "error" in reading.metadata() for reading in readings[::2])
    assert len(server.requests) == good


def test_a_text_file_named_png_is_listed_and_reported(vision: Vision, tmp_path: Path) -> None:
    """A file that only claims to be a picture is found in its folder and reported, not lost."""
    (tmp_path / "fake.png").write_text("not a picture")
    (tmp_path / "real.png").write_bytes(PNG)
    run = vision.read_many(tmp_path, on_error="skip")
    assert [Path(reading.source).name for reading in run] == ["real.png"]
    (failure,) = run.report.failures
    assert "a text file" in failure.reason


def test_a_file_without_permission_is_an_error_of_its_own(vision: Vision, tmp_path: Path) -> None:
    """What cannot be read although it is there is said to be so: here something that is no regular file."""
    fifo = tmp_path / "pipe.png"
    os.mkfifo(fifo)
    keeper = os.open(fifo, os.O_RDWR)  # so that opening it does not wait for a writer
    try:
        with pytest.raises(ImageAccessError, match="not a regular file"):
            vision.read(fifo)
    finally:
        os.close(keeper)


def test_what_is_no_source_is_a_type_error(vision: Vision) -> None:
    """An object that is no image source at all is a mistake of the program: a TypeError that says what is one."""
    with pytest.raises(TypeError, match="give a path"):
        vision.read(3.14)  # type: ignore[arg-type]


def test_names_that_are_no_unicode_are_shown_readably(vision: Vision, tmp_path: Path) -> None:
    """A file whose name is not valid UTF-8 is read, and its name is made printable."""
    path = os.fsencode(tmp_path) + b"/sc\xe4n.png"
    Path(os.fsdecode(path)).write_bytes(PNG)
    (reading,) = list(vision.read_many(tmp_path))
    assert reading.source.endswith("sc\\xe4n.png")
    assert reading.id


def test_one_source_is_one_source(vision: Vision, tmp_path: Path) -> None:
    """A lone file object, or pair of name and bytes, is read as one picture and not taken apart."""
    data = saved(corners())
    (tmp_path / "a.png").write_bytes(data)
    with (tmp_path / "a.png").open("rb") as file:
        assert [reading.source for reading in vision.read_many(file)] == [str(tmp_path / "a.png")]
    assert [reading.source for reading in vision.read_many(("b.png", data))] == ["b.png"]
    assert [reading.ok for reading in vision.read_many(io.BytesIO(data))] == [True]
    assert [reading.ok for reading in vision.read_many(bytearray(data))] == [True]


if hasattr(os, "mkfifo"):

    def test_a_named_pipe_does_not_hold_up_the_run(vision: Vision, tmp_path: Path) -> None:
        """A named pipe that nobody writes to is an error of its own, at once."""
        (tmp_path / "b.png").write_bytes(saved(corners()))
        os.mkfifo(tmp_path / "a.png")
        pipe, picture = vision.read_many(tmp_path, on_error="keep")
        assert isinstance(pipe.error, ImageAccessError)
        assert picture.ok


def test_what_opens_late_and_is_missing_is_not_found(vision: Vision) -> None:
    """A file object that finds no file when it is read is a missing image."""

    class Late:
        def read(self) -> bytes:
            raise FileNotFoundError("gone.png")

    with pytest.raises(ImageNotFoundError, match=r"late\.png"):
        vision.read(("late.png", Late()))


def test_any_view_of_bytes_is_a_source(vision: Vision) -> None:
    """A memoryview that skips bytes is read as the bytes it shows."""
    doubled = bytes(byte for pair in zip(PNG, PNG, strict=True) for byte in pair)
    assert vision.read(memoryview(doubled)[::2]).image_sha256 == vision.read(PNG).image_sha256


def test_paths_that_cannot_be_looked_at_are_errors_of_the_tree(vision: Vision, tmp_path: Path) -> None:
    """Names too long, below a file, or with a null byte are missing images or say why they cannot be read."""
    (tmp_path / "file").write_bytes(PNG)
    for path in ("a" * 5_000, str(tmp_path / "file" / "below.png"), "a\0b"):
        with pytest.raises(ImageError):
            find_images(path)
        with pytest.raises(ImageError):
            list(vision.read_many(path))
    for glob in ("**x", "a**"):
        if sys.version_info < (3, 13):
            with pytest.raises(SettingsError, match="glob="):
                list(vision.read_many(tmp_path, glob=glob))
