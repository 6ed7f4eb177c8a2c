"""Pictures for chat messages: prepared as the engine prepares its own, and paced by their size."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from PIL import Image

from aifs_vision import (
    ImageFormatError,
    ImageLimits,
    ImageTooLargeError,
    Limits,
    SettingsError,
    http_client,
    image_tokens,
    prepare_images,
)
from aifs_vision.testing import virtual_time
from tests.media import pdf
from tests.pictures import corners, saved
from tests.service import Service, answer

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "Qwen3-VL-30B-A3B-Instruct-FP8"


def opened(url: str) -> Image.Image:
    """The picture in a data URI, whose label has to fit."""
    head, _, data = url.partition(",")
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert head == f"data:{Image.MIME[picture.format or '']};base64"
    return picture


def test_a_picture_is_what_the_model_sees(tmp_path: Path) -> None:
    """A large file is shrunk, labelled by its bytes whatever its name says, and found from any form of source."""
    path = tmp_path / "photo.gif"
    path.write_bytes(saved(corners(3000, 2000), "JPEG"))
    data = path.read_bytes()
    uri = f"data:image/webp;base64,{base64.b64encode(data).decode()}"
    pictures = [prepare_images(source, MODEL) for source in (path, str(path), data, uri, io.BytesIO(data))]
    for (picture,) in pictures:
        assert (picture.width, picture.height) == opened(picture.image_url).size
        assert max(opened(picture.image_url).size) == 1536
        assert picture.data == pictures[0][0].data


def test_the_size_can_be_chosen() -> None:
    """A number of px bounds the longer side; "original" keeps all that the model sees; nothing is enlarged."""
    data = saved(corners(3000, 2000), "JPEG")
    sizes = {size: prepare_images(data, MODEL, size=size)[0].width for size in (500, "original", 9000)}
    assert sizes == {500: 500, "original": 3000, 9000: 3000}
    assert prepare_images(data, "gpt-4.1", size="original")[0].height == 768  # no more is seen
    wrong: Any
    for wrong in (0, True, "huge", None, 2.5):
        with pytest.raises(SettingsError, match="image_size"):
            prepare_images(data, MODEL, size=wrong)


def test_pages_and_urls() -> None:
    """Every page of a document is a picture; an address is passed on; what is no picture is an error that says so."""
    pages = prepare_images(pdf("", ""), MODEL)
    assert [(page.page, page.total_pages) for page in pages] == [(1, 2), (2, 2)]
    (passed,) = prepare_images("https://example.com/a.png", MODEL)
    assert passed.image_url == "https://example.com/a.png"
    with pytest.raises(ImageFormatError):
        prepare_images(b"no picture", MODEL)
    with pytest.raises(ImageTooLargeError):
        prepare_images(saved(corners()), MODEL, image_limits=ImageLimits(max_bytes=10))
    with pytest.raises(SettingsError, match="bge"):
        prepare_images(saved(corners()), "text-embedding-bge-m3")


def test_what_is_remembered_is_not_mixed_up() -> None:
    """The same bytes at another size, for another model or with other frames are another picture."""
    data = saved(corners(2400, 1600), "JPEG")
    first = prepare_images(data, MODEL)
    first.clear()  # a caller's list is the caller's
    sides = [
        (prepare_images(data, model, size=size)[0].width, model, size)
        for model in (MODEL, "gpt-4.1")
        for size in (400, 900)
    ]
    assert [side[0] for side in sides] == [400, 900, 400, 900]
    assert prepare_images(data, MODEL)[0].width == 1536
    assert prepare_images(data, "gpt-4.1")[0].height == 768


def test_pictures_in_chat_requests_are_paced_by_their_size() -> None:
    """A budget of input tokens knows how large the pictures of an SDK's request are, before anything was counted."""
    budget = 60_000
    for size in ((64, 64), (1500, 1500)):
        url = f"data:image/png;base64,{base64.b64encode(saved(Image.new('L', size))).decode()}"
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}],
        }
        service = Service(latency=0.01, reply=lambda _: httpx.Response(200, json=answer(usage=None)))
        limits = Limits(input_tokens_per_minute=budget)
        with (
            virtual_time(service),
            http_client(base_url="http://service.example/v2", api_key="k", limits=limits) as http,
        ):
            for _ in range(4):
                assert http.post("/chat/completions", json=body).is_success
        apart = (service.arrivals[-1] - service.arrivals[0]) / 3
        assert apart == pytest.approx(image_tokens(MODEL, *size) / (0.95 * budget / 60), rel=0.05, abs=0.02)


def test_a_file_that_is_edited_is_another_picture(tmp_path: Path) -> None:
    """A path is remembered with its file, as the bytes are: what is written to it is seen at once."""
    path = tmp_path / "a.png"
    path.write_bytes(saved(corners(40, 40)))
    before = prepare_images(path, MODEL)
    assert prepare_images(path, MODEL)[0].data is before[0].data
    path.write_bytes(saved(corners(40, 40).rotate(90)))
    assert prepare_images(path, MODEL)[0].data == saved(corners(40, 40).rotate(90)) != before[0].data
