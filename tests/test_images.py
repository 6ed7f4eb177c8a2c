"""What is sent of a picture: upright, opaque, small enough, rightly labelled, and nothing else."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageCms, ImageOps, ImageStat
from PIL.PngImagePlugin import PngInfo

from aifs_vision import CAPTION, DESCRIBE, OCR, ImageBrokenError, Limits, Task, Vision, image_tokens
from tests.pictures import ORIENTATION, corner_names, corners, noise, opened, saved

if TYPE_CHECKING:
    from aifs_vision.emulator import Emulator

UPRIGHT = ["red", "lime", "blue", "yellow"]
# How a picture is to be stored so that its EXIF orientation turns it upright again.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


class Sent:
    """What the server got for one picture."""

    def __init__(self, server: Emulator) -> None:
        ((self.label, self.data),) = server.requests[-1].images
        self.picture = opened(self.data)


def send(vision: Vision, server: Emulator, source: Any, task: str | Task = "describe") -> Sent:
    """Reads a source and gives what was sent of it."""
    assert vision.read(source, task).ok
    return Sent(server)


def difference(one: Image.Image, other: Image.Image) -> float:
    """The mean difference of two pictures' pixels, 0 to 255."""
    parts = ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB"))).mean
    return sum(parts) / len(parts)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", STORED)
def test_pictures_come_out_upright(vision: Vision, server: Emulator, kind: str, orientation: int) -> None:
    """Every EXIF orientation, mirrored ones too, is applied; the reading has the size of the upright picture."""
    turn = STORED[orientation]
    stored = corners() if turn is None else corners().transpose(turn)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = saved(stored, kind, exif=exif, **({"quality": 95} if kind in {"JPEG", "WEBP"} else {}))
    reading = vision.read(data)
    assert (reading.width, reading.height) == (60, 40)
    sent = Sent(server)
    assert sent.picture.size == (60, 40)
    assert corner_names(sent.picture) == UPRIGHT
    assert ORIENTATION not in sent.picture.getexif()


def transparent(mode: str) -> Image.Image:
    """A picture that is opaque in its upper left corner and transparent elsewhere."""
    layer = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    layer.paste((255, 0, 0, 255), (0, 0, 20, 20))
    if mode == "LA":
        return layer.convert("LA")
    if mode == "P":
        paletted = Image.new("P", (40, 40), 0)
        paletted.putpalette([0, 0, 0, 255, 0, 0])
        paletted.paste(1, (0, 0, 20, 20))
        paletted.info["transparency"] = 0
        return paletted
    return layer


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_on_white(vision: Vision, server: Emulator, mode: str) -> None:
    """What is transparent becomes white, and no hidden layer is sent."""
    sent = send(vision, server, saved(transparent(mode)))
    assert sent.picture.mode in {"L", "RGB"}
    assert corner_names(sent.picture)[1:] == ["white"] * 3
    assert corner_names(sent.picture)[0] != "white"


def test_deep_and_printed_colours_become_plain_ones(vision: Vision, server: Emulator) -> None:
    """16-bit greys, bilevel, palettes, CMYK and floats come out as 8-bit pictures that look the same."""
    grey = corners().convert("L")
    deep = grey.convert("I").point(lambda value: value * 257).convert("I;16")
    cases = {
        "16-bit PNG": (saved(deep), grey, 1.0),
        "16-bit TIFF": (saved(deep, "TIFF"), grey, 1.0),
        "bilevel TIFF": (saved(grey.convert("1"), "TIFF", compression="group4"), grey.convert("1"), 1.0),
        "palette GIF": (saved(corners(), "GIF"), corners(), 1.0),
        "CMYK JPEG": (saved(corners().convert("CMYK"), "JPEG", quality=95), corners(), 12.0),
        "CMYK TIFF": (saved(corners().convert("CMYK"), "TIFF"), corners(), 1.0),
        "float TIFF": (saved(grey.convert("F"), "TIFF"), grey, 1.0),
        "32-bit TIFF": (saved(grey.convert("I"), "TIFF"), None, 0.0),
    }
    for name, (data, wanted, most) in cases.items():
        sent = send(vision, server, data)
        assert sent.picture.mode in {"1", "L", "P", "RGB"}, name
        assert wanted is None or difference(sent.picture, wanted) <= most, name


@pytest.mark.parametrize(
    ("model", "task", "size", "expected"),
    [
        ("Qwen3-VL-30B-A3B-Instruct-FP8", CAPTION, (4000, 3000), (1024, 768)),
        ("Qwen3-VL-30B-A3B-Instruct-FP8", OCR, (2480, 3508), (1086, 1536)),
        ("gpt-4.1", OCR, (2480, 3508), (768, 1086)),  # it sees no more than 768 px of the short side
        ("gpt-4.1", OCR, (640, 480), (640, 480)),  # never enlarged
        ("gpt-4.1-mini", OCR, (2000, 2000), (1248, 1248)),  # 1,536 patches of 32 px
    ],
)
def test_pictures_are_shrunk_to_what_task_and_model_use(
    server: Emulator, model: str, task: Task, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    """The longer side is at most the task's, the picture no larger than the model sees, and never enlarged."""
    vision = Vision(model, base_url=server.base_url, api_key=server.api_key, limits=Limits())
    picture = Image.linear_gradient("L").resize(size).convert("RGB")
    assert send(vision, server, saved(picture, "JPEG"), task).picture.size == expected


def test_a_fine_picture_is_sent_as_it_is(vision: Vision, server: Emulator) -> None:
    """Bytes that need no change and carry no metadata are sent untouched."""
    for kind, label in (("JPEG", "image/jpeg"), ("PNG", "image/png")):
        data = saved(noise(80, 60), kind)
        sent = send(vision, server, data)
        assert (sent.label, sent.data) == (label, data)


def secrets() -> dict[str, bytes]:
    """Pictures with a secret in every place where metadata may stand."""
    secret, picture = b"GPS 52.5200 N", noise(80, 60)
    exif = Image.Exif()
    exif[0x010E] = secret.decode()
    text = PngInfo()
    text.add_text("Comment", secret.decode())
    text.add_itxt("XML:com.adobe.xmp", secret.decode())
    jpeg = saved(picture, "JPEG", exif=exif, comment=secret, icc_profile=secret, xmp=secret)
    head, tail = jpeg[:2], jpeg[2:]
    more = b"".join(b"\xff" + bytes([0xE0 + n]) + len(secret + b"xx").to_bytes(2, "big") + secret for n in (3, 13, 15))
    return {
        "JPEG segments": jpeg,
        "JPEG with other segments": head + more + tail,
        "JPEG with something after its end": jpeg + secret,
        "JPEG to be shrunk": saved(noise(1600, 40), "JPEG", exif=exif, comment=secret, icc_profile=secret),
        "PNG chunks": saved(picture, "PNG", exif=exif, pnginfo=text, icc_profile=secret),
        "PNG with something after its end": saved(picture) + secret,
        "PNG to be flattened": saved(picture.convert("RGBA"), "PNG", exif=exif, pnginfo=text),
        "WebP": saved(picture, "WEBP", exif=exif, icc_profile=secret, xmp=secret),
        "TIFF": saved(picture, "TIFF", exif=exif, icc_profile=secret),
        "GIF": saved(picture, "GIF", comment=secret),
    }


@pytest.mark.parametrize("case", secrets())
def test_no_metadata_leaves_the_machine(vision: Vision, server: Emulator, case: str) -> None:
    """EXIF, XMP, ICC, comments, unknown segments and appended data are all left behind; the picture stays."""
    data = secrets()[case]
    assert b"GPS" in data or "WebP" in case
    sent = send(vision, server, data)
    assert b"GPS" not in sent.data
    assert not {"exif", "icc_profile", "comment", "xmp", "photoshop", "Comment"} & set(sent.picture.info)
    if case.startswith(("JPEG segments", "PNG chunks", "JPEG with", "PNG with")):
        assert sent.picture.tobytes() == opened(data).tobytes()  # stripped, not encoded again


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_no_metadata_leaves_with_frames_either(vision: Vision, server: Emulator, kind: str) -> None:
    """Frames of animated pictures and pages go without the comments, profiles and EXIF of their file."""
    exif = Image.Exif()
    exif[0x010E] = "GPS 52.5200 N"
    secret = {"GIF": {"comment": b"GPS"}}.get(kind, {"exif": exif, "icc_profile": b"GPS 52.5200 N"})
    data = saved(noise(80, 60), kind, save_all=True, append_images=[noise(80, 60, seed=2)], **secret)
    readings = list(vision.read_many([data], frames="all"))
    assert [reading.page for reading in readings] == [1, 2]
    for request in server.requests:
        ((_, sent),) = request.images
        assert b"GPS" not in sent
        assert not {"exif", "icc_profile", "comment", "xmp"} & set(opened(sent).info)


def test_a_pil_image_keeps_its_metadata_to_itself(vision: Vision, server: Emulator) -> None:
    """A PIL image's comment, profile and EXIF are not sent, and the caller's object keeps them."""
    with Image.open(io.BytesIO(saved(noise(60, 60), "JPEG", comment=b"GPS", icc_profile=b"GPS"))) as picture:
        sent = send(vision, server, picture)
        assert b"GPS" not in sent.data
        assert picture.info["comment"] == b"GPS"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_the_label_fits_the_bytes(vision: Vision, server: Emulator, kind: str) -> None:
    """Whatever a file is called, what is sent is JPEG, PNG or WebP and labelled as what it is."""
    for picture in (corners(), noise(90, 90), corners(1600, 1200)):
        sent = send(vision, server, ("misleading.heic", saved(picture, kind)))
        assert sent.label == {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}[str(sent.picture.format)]


def test_drawings_stay_sharp_and_photos_small(vision: Vision, server: Emulator) -> None:
    """A drawing of few colours is sent losslessly, a photo as a JPEG without chroma subsampling."""
    drawing = send(vision, server, saved(corners(), "BMP"))
    assert drawing.label == "image/png"
    assert drawing.picture.convert("RGB").tobytes() == corners().tobytes()
    photo = send(vision, server, saved(noise(200, 200), "BMP"))
    assert photo.label == "image/jpeg"
    assert getattr(photo.picture, "layer", [])[0][1:3] == (1, 1)


def test_broken_metadata_does_not_break_a_picture(vision: Vision, server: Emulator) -> None:
    """A readable picture whose EXIF data is nonsense is read."""
    for nonsense in (b"Exif\0\0" + b"\xff" * 40, b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*"):
        data = saved(corners(), "JPEG", exif=nonsense, quality=95)
        assert corner_names(send(vision, server, data).picture) == UPRIGHT


# -- Colours ---------------------------------------------------------------------------------------------------


def profile(kind: str) -> bytes:
    """An ICC profile: sRGB, one with red and blue exchanged, or one with another gamma."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if kind == "exchanged":
        places = {profile[at : at + 4]: at for at in range(132, 132 + 12 * profile[131], 12)}
        red, blue = places[b"rXYZ"], places[b"bXYZ"]
        data = bytearray(profile)
        data[red : red + 4], data[blue : blue + 4] = b"bXYZ", b"rXYZ"
        return bytes(data)
    return profile


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_other_colour_spaces_become_srgb(vision: Vision, server: Emulator, kind: str) -> None:
    """A picture in another colour space is sent as it looks; in sRGB it is not touched, but for the profile."""
    options: Any = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}, "AVIF": {"quality": 95}}.get(kind, {})
    picture = Image.new("RGB", (40, 40), (220, 30, 30))
    data = saved(picture, kind, icc_profile=profile("exchanged"), **options)
    pixel: Any = send(vision, server, data).picture.convert("RGB").getpixel((20, 20))
    assert pixel[2] > 180
    assert pixel[0] < 90
    data = saved(corners(), kind, icc_profile=profile("sRGB"), **options)
    sent = send(vision, server, data)
    assert corner_names(sent.picture) == UPRIGHT
    assert "icc_profile" not in sent.picture.info
    assert b"rXYZ" not in sent.data


def test_broken_profiles_cost_no_picture(vision: Vision, server: Emulator) -> None:
    """A profile that is damaged, or is for another kind of picture, is taken for none."""
    good = profile("exchanged")
    for nonsense in (b"", b"nonsense", good[:200], good[:16] + b"CMYK" + good[20:], good[:140] + b"\xff" * 300):
        for kind, options in (("JPEG", {"quality": 95}), ("PNG", {}), ("TIFF", {})):
            data = saved(corners(), kind, icc_profile=nonsense, **options)
            assert corner_names(send(vision, server, data).picture) == UPRIGHT


def test_grey_pictures_are_sent_grey(vision: Vision, server: Emulator) -> None:
    """A page of greys stored in colours is sent with one band, and looks the same."""
    grey = Image.linear_gradient("L").resize((90, 70))
    sent = send(vision, server, saved(grey.convert("RGB"), "BMP"))
    assert sent.picture.mode == "L"
    assert difference(sent.picture, grey) < 2


def test_deep_greys_with_a_transparent_level(vision: Vision, server: Emulator) -> None:
    """The level of a 16-bit grey PNG that stands for transparent becomes white."""
    deep = Image.frombytes("I;16", (40, 40), struct.pack("<40H", *[30_000] * 20, *[0] * 20) * 40)
    sent = send(vision, server, saved(deep, transparency=0))
    values: list[Any] = [sent.picture.convert("L").getpixel(point) for point in ((5, 5), (35, 5))]
    assert values[0] == pytest.approx(117, abs=2)
    assert values[1] == 255


# -- What cannot be told apart ---------------------------------------------------------------------------------


def test_what_cannot_be_stripped_is_made_anew(vision: Vision, server: Emulator) -> None:
    """Where the metadata of a readable file cannot be told from its picture, the file itself is not sent."""
    exif = Image.Exif()
    exif[ORIENTATION], exif[0x010E] = 6, "GPS 52.5200 N"
    stored = corners().transpose(Image.Transpose.ROTATE_90)
    jpeg, png = saved(stored, "JPEG", exif=exif, quality=95), saved(stored, exif=exif)
    at = 2
    while jpeg[at + 1] != 0xDB:  # a byte of nonsense before the tables
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    for data in (jpeg[:at] + b"\0" + jpeg[at:], png[:-4]):
        sent = send(vision, server, data)
        assert b"52.5200" not in sent.data
        assert corner_names(sent.picture) == UPRIGHT


def test_pictures_of_whole_multiples_are_shrunk(vision: Vision, server: Emulator) -> None:
    """A JPEG of exactly two or four times the size that is wanted is shrunk like any other."""
    for size in ((2048, 1536), (4096, 3072)):
        picture = Image.radial_gradient("L").resize(size).convert("RGB")
        assert send(vision, server, saved(picture, "JPEG"), CAPTION).picture.size == (1024, 768)


@pytest.mark.parametrize("orientation", STORED)
def test_pil_images_from_files_come_out_upright(vision: Vision, server: Emulator, orientation: int) -> None:
    """A PIL image as it was opened is turned as its file says; one that was worked on is taken as it is."""
    turn = STORED[orientation]
    stored = corners() if turn is None else corners().transpose(turn)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    for kind in ("JPEG", "PNG", "TIFF"):
        options = {"quality": 95} if kind == "JPEG" else {}
        lazy = Image.open(io.BytesIO(saved(stored, kind, exif=exif, **options)))
        reading = vision.read(lazy)
        assert (reading.width, reading.height) == (60, 40)
        assert corner_names(Sent(server).picture) == UPRIGHT
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(saved(stored, exif=exif))))
    assert corner_names(send(vision, server, turned).picture) == UPRIGHT


def test_one_pil_image_serves_many_readers(vision: Vision) -> None:
    """An image that is opened and not yet loaded may be read by several at once; a broken one is its own error."""
    data = saved(noise(300, 200), "JPEG")
    shared = Image.open(io.BytesIO(data))
    assert all(reading.ok for reading in vision.read_many([shared] * 12))
    closed = Image.open(io.BytesIO(data))
    closed.close()
    broken = [Image.open(io.BytesIO(data[:2000])), closed, Image.new("La", (20, 20))]
    readings = list(vision.read_many([*broken, shared], on_error="keep"))
    assert [type(reading.error) for reading in readings[:2]] == [ImageBrokenError] * 2
    assert readings[3].ok


# -- Sizes -----------------------------------------------------------------------------------------------------

MODELS = [
    "Qwen3-VL-30B-A3B-Instruct-FP8",
    "gpt-4.1",
    "gpt-4.1-mini",
    "gpt-5.2",
    "gemini-2.5-flash",
    "claude-sonnet-4.5",
]


@given(
    width=st.integers(8, 2600),
    height=st.integers(8, 2600),
    model=st.sampled_from([*MODELS, "mistral-medium-3", "gemini-3-pro", "gemma-4-31B"]),
    task=st.sampled_from([CAPTION, OCR, DESCRIBE, CAPTION.sized(333)]),
)
@example(width=272, height=1086, model="gemini-2.5-flash", task=CAPTION)  # a row of crops more, if shrunk as usual
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sizes_ratios_and_tokens_keep_their_bounds(
    server: Emulator, width: int, height: int, model: str, task: Task
) -> None:
    """Nothing is enlarged or larger than asked for, the ratio holds to one pixel, and tokens only become fewer."""
    assume(max(width, height) <= 200 * min(width, height))
    vision = Vision(model, base_url=server.base_url, api_key=server.api_key, limits=Limits())
    server.clear()
    vision.read(saved(Image.new("L", (width, height), 250)), task)
    tokens = 0
    for request in server.requests:
        across, down = opened(request.images[0][1]).size
        assert across <= width
        assert down <= height
        tokens += image_tokens(model, across, down)
    if len(server.requests) == 1:
        assert abs(across - down * width / height) <= max(1, width / height)
        if across * down >= 256**2:  # fewer are enlarged by Qwen's processor, and rounded by Gemini's most of all
            assert tokens <= image_tokens(model, width, height) * 1.15 + 8
        if task == CAPTION:
            assert max(across, down) <= max(1024, 8 * max(width, height) / min(width, height) + 1)


def test_thin_strips_keep_a_few_rows(vision: Vision, server: Emulator) -> None:
    """A strip that is many times as long as it is wide is not shrunk to nothing."""
    sent = send(vision, server, saved(Image.new("L", (3000, 20))), CAPTION).picture
    assert sent.size == (1200, 8)


def test_the_bytes_that_a_host_takes_are_kept_to(server: Emulator) -> None:
    """A picture with more bytes than the model's host takes is sent with less quality, then smaller."""
    vision = Vision("claude-sonnet-4.5", base_url=server.base_url, api_key=server.api_key, limits=Limits())
    picture = Image.merge("RGB", [Image.effect_noise((1568, 1568), 250) for _ in range(3)])
    for task in (DESCRIBE, CAPTION):
        sent = send(vision, server, saved(picture, "BMP"), task)
        assert len(sent.data) <= vision.card.max_image_bytes == 3_932_160


def test_a_heavy_png_becomes_a_jpeg(vision: Vision, server: Emulator) -> None:
    """A photograph stored as PNG is sent as JPEG, if that has three quarters of its bytes; a drawing as it is."""
    photo = saved(noise(600, 500))
    sent = send(vision, server, photo)
    assert sent.label == "image/jpeg"
    assert len(sent.data) < len(photo) * 3 / 4
    drawn = saved(corners(900, 700))
    assert send(vision, server, drawn).data == drawn


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_the_callers_picture_is_not_written_to(vision: Vision, mode: str) -> None:
    """A PIL image may be read by many at once, and keeps its pixels, its info and what else is on it."""
    picture = corners().convert(mode)
    picture.info["comment"] = "mine"
    before, pixels = {**vars(picture)}, picture.tobytes()
    info = {**picture.info}
    assert all(reading.ok for reading in vision.read_many([picture] * 3, "caption"))
    assert {**vars(picture)} == before
    assert (picture.info, picture.tobytes()) == (info, pixels)
