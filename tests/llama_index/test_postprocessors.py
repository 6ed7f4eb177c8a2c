"""`AttachImages`: from retrieved texts back to their pictures."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import pickle
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_from_bytes

import fsspec
import pytest
from llama_index.core import StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.base.llms.types import ImageBlock, TextBlock
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.query_engine import CitationQueryEngine, RetrieverQueryEngine
from llama_index.core.schema import ImageNode, MetadataMode, NodeWithScore, TextNode
from PIL import Image, ImageDraw

from aifs_vision import ImageLimits, Limits, SettingsError, image_tokens
from aifs_vision.emulator import Emulator
from llama_index_aifs import AIFS, AIFSEmbedding, AIFSImageReader, AttachImages, ImageToText
from tests.media import clip, pdf
from tests.pictures import ORIENTATION, corner_names, corners, opened, saved, tiff

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aifs_vision.emulator import ChatRequest

QWEN = "Qwen3-VL-30B-A3B-Instruct-FP8"


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder of pictures in formats that no model takes, of several pages, and turned."""
    folder = tmp_path / "scans"
    folder.mkdir()
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    (folder / "a.png").write_bytes(saved(corners()))
    (folder / "b.jpg").write_bytes(saved(corners(), "JPEG", quality=95, exif=exif))
    (folder / "c.tif").write_bytes(tiff([corners(), corners(90, 60), corners(120, 80).rotate(180)]))
    (folder / "d.bmp").write_bytes(saved(corners(), "BMP"))
    return folder


def found(*sources: Any, **options: Any) -> list[NodeWithScore]:
    """What a retriever would find: a text for each page."""
    documents = AIFSImageReader(task=None, **options).load_data(sources)
    return [
        NodeWithScore(
            node=TextNode(
                id_=document.id_,
                text=f"Text {number}",
                metadata={**document.metadata, "status": "ok"},
                excluded_llm_metadata_keys=document.excluded_llm_metadata_keys,
            ),
            score=1 / number,
        )
        for number, document in enumerate(documents, start=1)
    ]


def picture_of(node: Any) -> Image.Image | None:
    """The picture of a node, decoded."""
    resource = getattr(node.node, "image_resource", None)
    return None if resource is None else opened(base64.b64decode(resource.data))


def sizes(nodes: list[NodeWithScore]) -> list[tuple[int, int] | None]:
    """The sizes of their pictures."""
    pictures = [picture_of(node) for node in nodes]
    return [None if picture is None else picture.size for picture in pictures]


def reasons(nodes: list[NodeWithScore]) -> list[str]:
    """Why pictures are not shown."""
    return [node.metadata["image_skipped"] for node in nodes if "image_skipped" in node.metadata]


def test_texts_get_their_pictures(scans: Path) -> None:
    """Each node keeps id, score, text and metadata, and gets its own page: upright, in a format that models take."""
    before = found(scans)
    after = AttachImages([scans]).postprocess_nodes(before, query_str="What?")
    assert [(node.id_, node.score, node.get_content(), node.metadata) for node in after] == [
        (node.id_, node.score, node.get_content(), node.metadata) for node in before
    ]
    assert sizes(after) == [(60, 40), (60, 40), (60, 40), (90, 60), (120, 80), (60, 40)]
    names = [corner_names(picture)[0] for node in after if (picture := picture_of(node))]
    assert names == ["red", "blue", "red", "red", "blue", "red"]
    for node in after:
        text, image = node.node.get_content_blocks(MetadataMode.NONE)
        assert isinstance(text, TextBlock)
        assert isinstance(image, ImageBlock)
        assert image.image_mimetype in {"image/png", "image/jpeg"}


def test_what_has_no_picture_passes_through(scans: Path) -> None:
    """Text of other kinds, and nodes that have a picture, are as they were."""
    attach = AttachImages(scans)
    others = [
        NodeWithScore(node=TextNode(text="words")),
        NodeWithScore(node=TextNode(text="words", metadata={"source": "notes.txt", "page": 1})),
    ]
    assert attach.postprocess_nodes(others) == others
    shown = attach.postprocess_nodes(found(scans / "a.png"))
    assert sizes(AttachImages(scans).postprocess_nodes(shown)) == [(60, 40)]


def test_each_picture_once(scans: Path) -> None:
    """Several texts of one picture, and copies of it, show it once, with the best-ranked; other pages are others."""
    (scans / "copy.png").write_bytes((scans / "a.png").read_bytes())
    nodes = found(scans / "a.png", scans / "copy.png", scans / "c.tif")
    after = AttachImages(scans).postprocess_nodes([nodes[0], *nodes])
    assert sizes(after) == [(60, 40), None, None, (60, 40), (90, 60), (120, 80)]
    assert [node.get_content() for node in after[:3]] == ["Text 1", "Text 1", "Text 2"]
    assert reasons(after) == []


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ({"max_images": 2}, [(60, 40), (90, 60), None]),
        ({"max_pixels": 60 * 40 + 120 * 80}, [(60, 40), (90, 60), None]),
        ({"max_pixels": 60 * 40 + 10}, [(60, 40), None, None]),
        ({"max_tokens": image_tokens(QWEN, 60, 40) + image_tokens(QWEN, 90, 60)}, [(60, 40), (90, 60), None]),
        ({"max_tokens": 10_000}, [(60, 40), (90, 60), (120, 80)]),
    ],
)
def test_the_budget(budget: dict[str, int], expected: Any, scans: Path) -> None:
    """Pictures, pixels or tokens bound what is shown, best-ranked first; what does not fit says so."""
    after = AttachImages(scans, **budget).postprocess_nodes(found(scans / "c.tif"))  # type: ignore[arg-type]
    assert sizes(after) == expected
    assert len(reasons(after)) == expected.count(None)
    assert all(f"{name}={most}" in reason for reason in reasons(after) for name, most in budget.items())


def page(data: bytes, **metadata: Any) -> NodeWithScore:
    """The picture of a page as `AIFSVisualRAGRetriever` gives it."""
    known = {"filename": "a.pdf", "page": 3, "modality": "image", "store": "s", "score": 0.5, **metadata}
    coded = base64.b64encode(data).decode()
    return NodeWithScore(
        node=ImageNode(text="Picture of page 3", image=coded, image_mimetype="image/png", metadata=known)
    )


def test_pictures_that_nodes_have_with_them_count(scans: Path) -> None:
    """Pages that Visual RAG has found take of the budget, are prepared, and shown once; beyond it they are texts."""
    large, other = page(saved(corners(3000, 2000))), page(saved(corners(90, 60)))
    file = found(scans / "a.png")[0]
    attach = AttachImages(scans, max_images=2, size=300)
    after = attach.postprocess_nodes([large, large, other, file])
    assert sizes(after) == [(300, 200), None, (90, 60), None]
    assert [bool(getattr(node.node, "image", None)) for node in after] == [False] * 4  # in no other form either
    assert [node.node.id_ for node in after] == [node.node.id_ for node in (large, large, other, file)]
    assert [node.node.get_content() for node in after[:2]] == ["Picture of page 3"] * 2
    assert reasons(after) == [f"{scans / 'a.png'}: the pictures before it leave too little of max_images=2"]
    (over,) = AttachImages(scans, max_pixels=1_000).postprocess_nodes([large])
    assert "max_pixels=1000" in over.metadata["image_skipped"]
    assert [type(block) for block in over.node.get_content_blocks(MetadataMode.NONE)] == [TextBlock]
    assert large.node.image  # type: ignore[attr-defined]


def test_pictures_in_nodes_however_they_are_written(scans: Path) -> None:
    """What a node has with it is shown in whatever base64 or data URI it is, and once, however often it is written."""
    data = saved(corners())
    coded = base64.b64encode(data).decode()
    lines = base64.encodebytes(data).decode()
    ways: list[dict[str, Any]] = [
        {"image": coded},
        {"image": coded.encode()},
        {"image": lines},
        {"image": f"data:image/png;base64,{coded}"},
        {"image": f"data:image/png;base64,{lines}"},
        {"image": f"DATA:image/png;base64,{coded}"},
        {"image_path": f"DATA:image/png;base64,{coded}"},
        {"image_url": f"Data:image/png;base64,{coded}"},
        {"image": f"data:image/png,{quote_from_bytes(data)}"},
    ]
    nodes = [NodeWithScore(node=ImageNode(text="words", **way)) for way in ways]
    attach = AttachImages(scans)
    for node in nodes:
        after = attach.postprocess_nodes([node])
        assert (sizes(after), reasons(after)) == ([(60, 40)], [])
    assert sizes(attach.postprocess_nodes(nodes)) == [(60, 40), *[None] * (len(ways) - 1)]


def test_pictures_at_addresses_count_as_one(scans: Path) -> None:
    """An address is passed on as it is, while there is room; what is no picture stays out, and says so."""
    url = ImageNode(text="words", image_url="https://example.com/a.png")
    broken = ImageNode(text="words", image=base64.b64encode(b"no picture").decode())
    nodes = [NodeWithScore(node=broken), NodeWithScore(node=url), found(scans / "a.png")[0]]
    first, second, third = AttachImages(scans, max_images=1).postprocess_nodes(nodes)
    text, image = second.node.get_content_blocks(MetadataMode.NONE)
    assert isinstance(text, TextBlock)
    assert isinstance(image, ImageBlock)
    assert (text.text, str(image.url)) == ("words", url.image_url)
    assert not hasattr(first.node, "image")
    assert "image_skipped" in first.metadata
    assert "max_images=1" in third.metadata["image_skipped"]


def test_templates_of_a_node_stay(scans: Path) -> None:
    """What the LLM is shown of a node, and how, is the same with a picture as without."""
    (node,) = found(scans / "a.png")
    node.node.excluded_llm_metadata_keys = [key for key in node.node.metadata if key not in {"source", "page"}]
    node.node.metadata_template, node.node.metadata_separator = "{key}={value}", " & "
    node.node.text_template = "CUSTOM {metadata_str} | {content}"  # type: ignore[attr-defined]
    (after,) = AttachImages(scans).postprocess_nodes([node])
    assert picture_of(after) is not None
    expected = node.node.get_content(MetadataMode.LLM)
    assert expected.startswith("CUSTOM ")
    assert " & page=1 | Text 1" in expected
    assert after.node.get_content(MetadataMode.LLM) == expected


def test_a_smaller_picture_may_still_fit(scans: Path) -> None:
    """A picture that is too large for what is left does not keep a smaller one out."""
    nodes = found(scans / "c.tif")
    after = AttachImages(scans, max_pixels=60 * 40 + 90 * 60).postprocess_nodes([nodes[2], nodes[0], nodes[1]])
    assert sizes(after) == [None, (60, 40), (90, 60)]


def test_the_size_that_is_sent(scans: Path) -> None:
    """Pictures are shrunk to what the model is to see."""
    (scans / "large.png").write_bytes(saved(corners(3000, 2000)))
    (usual,) = sizes(AttachImages(scans).postprocess_nodes(found(scans / "large.png")))
    assert usual is not None
    assert usual[0] < 2100
    assert sizes(AttachImages(scans, size=300).postprocess_nodes(found(scans / "large.png"))) == [(300, 200)]


def test_nothing_outside_of_the_roots(scans: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Files outside are not opened, by whatever path, link or trick; whether they are there is not told, either."""
    secret = tmp_path / "secret.png"
    secret.write_bytes((scans / "a.png").read_bytes())
    (tmp_path / "scans2").mkdir()
    (tmp_path / "scans2" / "a.png").write_bytes(secret.read_bytes())
    (scans / "link.png").symlink_to(secret)
    (scans / "folder").symlink_to(tmp_path)
    (node,) = found(scans / "a.png")
    ways = [
        secret,
        scans / ".." / "secret.png",
        scans / "link.png",
        scans / "folder" / "secret.png",
        tmp_path / "scans2" / "a.png",
        tmp_path / "not there.png",
        os.path.relpath(secret),
    ]
    nodes = []
    for way in ways:
        metadata = {**node.metadata, "source": str(way)}
        nodes.append(NodeWithScore(node=TextNode(text="words", metadata=metadata)))
    with caplog.at_level(logging.WARNING, "llama_index_aifs"):
        after = AttachImages(scans).postprocess_nodes(nodes[:1]) + [
            shown for one in nodes[1:] for shown in AttachImages(scans).postprocess_nodes([one])
        ]
    assert sizes(after) == [None] * len(ways)
    assert all("lies outside of roots" in reason for reason in reasons(after))
    assert len(reasons(after)) == len(caplog.records) == len(ways)
    assert [node.metadata.get("image_skipped") for node in nodes] == [None] * len(ways)  # the store's own are untouched


def test_every_text_without_its_picture_says_why(scans: Path, tmp_path: Path) -> None:
    """Each text of a picture that is not shown has the reason; one that could not be shown hides no copy of it."""
    (tmp_path / "copy.png").write_bytes((scans / "a.png").read_bytes())
    outside, inside = found(tmp_path / "copy.png", scans / "a.png")
    assert sizes(AttachImages(scans).postprocess_nodes([outside, inside])) == [None, (60, 40)]
    (scans / "a.png").unlink()
    after = AttachImages(scans).postprocess_nodes([inside, outside, inside, inside])
    assert [reason.split(":")[0] for reason in reasons(after)] == [
        str(path) for path in (scans / "a.png", tmp_path / "copy.png", scans / "a.png", scans / "a.png")
    ]
    after = AttachImages(scans, max_images=1).postprocess_nodes(found(scans / "b.jpg", *[scans / "d.bmp"] * 3))
    assert (sizes(after), len(reasons(after))) == ([(60, 40), None, None, None], 3)


@pytest.mark.parametrize("page", [float("nan"), float("inf"), "1"])
def test_a_page_that_is_no_number(scans: Path, page: Any) -> None:
    """A node whose page is no number is passed on as the text it is."""
    (node,) = found(scans / "a.png")
    node.node.metadata["page"] = page
    assert sizes(AttachImages(scans).postprocess_nodes([node])) == [None]


def test_ways_that_lead_inside(scans: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A relative path counts from the working directory; links within the roots are followed."""
    (scans / "link.png").symlink_to(scans / "a.png")
    monkeypatch.chdir(tmp_path)
    for way in ("scans/a.png", "scans/../scans/a.png", scans / "link.png"):
        assert sizes(AttachImages("scans").postprocess_nodes(found(way))) == [(60, 40)]
    assert sizes(AttachImages(["scans", tmp_path / "scans"]).postprocess_nodes(found("scans/a.png"))) == [(60, 40)]


def test_what_is_not_there_any_more(scans: Path) -> None:
    """A picture that is missing, changed, shortened, no file or too large is not shown, and the others are."""
    nodes = found(scans / "a.png", scans / "b.jpg", scans / "d.bmp", saved(corners(70, 40)), "http://127.0.0.1:9/x.png")
    (scans / "a.png").write_bytes(saved(corners(61, 41)))
    (scans / "b.jpg").unlink()
    os.mkfifo(scans / "pipe")
    (scans / "circle").symlink_to(scans / "circle")
    pipe = NodeWithScore(node=TextNode(text="x", metadata={**nodes[0].metadata, "source": str(scans / "pipe")}))
    null = NodeWithScore(node=TextNode(text="x", metadata={**nodes[0].metadata, "source": f"{scans}/\0", "page": 2}))
    loop = NodeWithScore(
        node=TextNode(text="x", metadata={**pipe.metadata, "source": str(scans / "circle"), "page": 3.0})
    )
    pipe.node.metadata["image_sha256"] = "0"
    after = AttachImages(scans).postprocess_nodes([*nodes, pipe, null, loop])
    assert sizes(after) == [None, None, (60, 40), None, None, None, None, None]
    expected = ["changed since", "no such file", "outside", "never been here", "regular file", "null", "circle"]
    for reason, words in zip(reasons(after), expected, strict=True):
        assert words in reason
    limits = ImageLimits(max_bytes=100)
    (reason,) = reasons(AttachImages(scans, image_limits=limits).postprocess_nodes(found(scans / "d.bmp")))
    assert "max_bytes" in reason


def test_pages_and_frames(tmp_path: Path) -> None:
    """Pages of a PDF and frames of a video are found again by their numbers."""
    (tmp_path / "a.pdf").write_bytes(pdf("1 0 0 rg 0 60 80 40 re f", "0 0 1 rg 0 60 80 40 re f"))
    first, second = AttachImages(tmp_path).postprocess_nodes(found(tmp_path / "a.pdf"))
    shown = [picture_of(first), picture_of(second)]
    assert [corner_names(picture)[0] for picture in shown if picture] == ["red", "blue"]
    colours = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
    (tmp_path / "b.mp4").write_bytes(clip(colours, frames=10))
    nodes = found(tmp_path / "b.mp4", frames=2)
    pictures = [picture_of(node) for node in AttachImages(tmp_path, frames=2).postprocess_nodes(nodes)]
    assert [corner_names(picture)[0] for picture in pictures if picture] == ["red", "blue"]
    (reason, _) = reasons(AttachImages(tmp_path, frames=1).postprocess_nodes(nodes))
    assert "has no page" in reason


def test_other_file_systems() -> None:
    """Files are found on the file system that is named, below the roots there, and nowhere else."""
    memory = fsspec.filesystem("memory")
    memory.pipe({"/scans/a.png": saved(corners()), "/other/b.png": saved(corners(61, 40))})
    try:
        documents = AIFSImageReader(task=None).load_data(["/scans/a.png", "/other/b.png"], fs=memory)
        nodes = [NodeWithScore(node=TextNode(text="x", metadata=document.metadata)) for document in documents]
        dotted = {**documents[1].metadata, "source": "/scans/../other/b.png", "page": 2}
        after = AttachImages("/scans", fs=memory).postprocess_nodes(
            [*nodes, NodeWithScore(node=TextNode(metadata=dotted))]
        )
        assert sizes(after) == [(60, 40), None, None]
        assert all("outside" in reason for reason in reasons(after))
        with pytest.raises(SettingsError, match="roots"):
            AttachImages("/nowhere", fs=memory)
    finally:
        memory.rm("/scans", recursive=True)
        memory.rm("/other", recursive=True)


def test_settings(scans: Path) -> None:
    """Without roots nothing is opened, and what cannot be right is an error at once; it can be pickled."""
    with pytest.raises(SettingsError, match="roots=\\['scans/'\\]"):
        AttachImages()
    wrong: list[dict[str, Any]] = [
        {"roots": scans / "none"},
        {"roots": scans / "a.png"},
        {"max_images": 0},
        {"max_tokens": 0.5},
        {"size": "huge"},
        {"frames": 0},
        {"image_limits": 5},
        {"model": "text-embedding-bge-m3"},
    ]
    for options in wrong:
        with pytest.raises(SettingsError):
            AttachImages(**{"roots": scans, **options})
    with pytest.raises(TypeError):
        AttachImages(scans, max_image=3)  # type: ignore[call-arg]
    again = pickle.loads(pickle.dumps(AttachImages(scans, max_images=1)))  # noqa: S301 - our own
    assert sizes(again.postprocess_nodes(found(scans / "c.tif"))) == [(60, 40), None, None]
    assert sizes(asyncio.run(again.apostprocess_nodes(found(scans / "a.png")))) == [(60, 40)]


# -- Questions ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def looking() -> Iterator[Emulator]:
    """A service that reads the heading of a chart, and, when it is asked and shown one, the colour of its bar."""

    def reply(asked: ChatRequest) -> str:
        if "transcribe" in asked.prompt.lower():
            return "Sales in 2025. " + "A sentence about clocks and their sales. " * 30
        if not asked.images:
            return "I see no picture."
        picture = asked.images[0].picture
        assert picture is not None
        red, _, blue = picture.convert("RGB").getpixel((picture.width // 2, picture.height // 2))  # type: ignore[misc]
        return f"{len(asked.images)} picture: the bar is {'red' if red > blue else 'blue'}."

    with Emulator(ocr=False, reply=reply) as server:
        yield server


@pytest.fixture
def index(tmp_path: Path, looking: Emulator, monkeypatch: pytest.MonkeyPatch) -> VectorStoreIndex:
    """An index from disk over a chart, whose text does not mention a colour, in several chunks."""
    monkeypatch.setenv("AIFS_BASE_URL", looking.base_url)
    monkeypatch.setenv("AIFS_API_KEY", looking.api_key)
    (tmp_path / "charts").mkdir()
    chart = Image.new("RGB", (400, 300), "white")
    ImageDraw.Draw(chart).rectangle((150, 80, 250, 290), "blue")
    chart.save(tmp_path / "charts" / "sales.tiff")
    nodes = ImageToText(task="ocr", limits=Limits())(AIFSImageReader(task=None).load_data(tmp_path / "charts"))
    chunks = SentenceSplitter(chunk_size=100, chunk_overlap=0)(nodes)
    assert len(chunks) > 2
    embedding = AIFSEmbedding(limits=Limits())
    VectorStoreIndex(chunks, embed_model=embedding).storage_context.persist(str(tmp_path / "index"))
    loaded: Any = load_index_from_storage(
        StorageContext.from_defaults(persist_dir=str(tmp_path / "index")), embed_model=embedding
    )
    return loaded  # type: ignore[no-any-return]


@pytest.mark.parametrize("engine", ["retriever", "citation"])
def test_an_answer_that_is_only_in_the_pixels(engine: str, index: Any, tmp_path: Path, looking: Emulator) -> None:
    """A query engine shows the picture once, answers what no text says, and cites the source."""

    def ask(**options: Any) -> Any:
        looking.clear()
        options = {"llm": AIFS(limits=Limits()), "multimodal": True, **options}
        if engine == "retriever":
            made: Any = RetrieverQueryEngine.from_args(index.as_retriever(similarity_top_k=3), **options)
        else:
            made = CitationQueryEngine.from_args(index, similarity_top_k=3, **options)
        return made.query("Which colour is the bar?")

    assert str(ask()) == "I see no picture."
    answer = ask(node_postprocessors=[AttachImages(tmp_path / "charts")])
    assert str(answer) == "1 picture: the bar is blue."
    sources = {(node.metadata["source"], node.metadata["page"]) for node in answer.source_nodes}
    assert sources == {(str(tmp_path / "charts" / "sales.tiff"), 1)}
    sent = next(request for request in looking.requests if request.images)
    assert [label for label, _ in sent.images] == ["image/png"]
    assert f"source: {tmp_path / 'charts' / 'sales.tiff'}" in str(sent.body)


def test_measured_colours_of_the_chart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chart of the examples, read by real text recognition, does not name the colour that is asked for."""
    with Emulator() as server:
        monkeypatch.setenv("AIFS_BASE_URL", server.base_url)
        monkeypatch.setenv("AIFS_API_KEY", server.api_key)
        documents = AIFSImageReader(task="ocr").load_data("examples/images/chart.png")
        assert "Lighthouses" in documents[0].text
        assert "blue" not in documents[0].text
        index = VectorStoreIndex.from_documents(documents, embed_model=AIFSEmbedding())
        engine = RetrieverQueryEngine.from_args(
            index.as_retriever(), llm=AIFS(), multimodal=True, node_postprocessors=[AttachImages("examples/images")]
        )
        assert "blue" in str(engine.query("Which colours are the bars?"))
