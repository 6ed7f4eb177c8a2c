"""Which nodes are pending, and what becomes of those that failed: nothing of others is touched, nothing gets lost."""

from __future__ import annotations

import asyncio
import base64
import os
import pickle
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from llama_index.core import Document
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import ImageNode, MediaResource, MetadataMode, Node, NodeRelationship, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores import SimpleVectorStore

from aifs_vision import ImageAccessError, ImageNotFoundError, Limits, SettingsError, Vision
from llama_index_aifs import AIFSImageReader, ImageToText
from tests.llama_index.scripts import listed, questions
from tests.pictures import corners, saved, tiff

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aifs_vision.emulator import Emulator

PNG = saved(corners())
OTHER = saved(corners().rotate(180))
BASE64 = base64.b64encode(PNG).decode()


def read(nodes: Sequence[Any], **options: Any) -> list[Any]:
    """What becomes of nodes when they are captioned."""
    return list(ImageToText(**{"task": "caption", "limits": Limits(), **options})(nodes))


# -- Whose nodes they are -------------------------------------------------------------------------------------


def test_nodes_of_others_are_not_taken_for_ours(tmp_path: Path, eyes: Emulator) -> None:
    """Whatever `status` and `source` say, text passes as it is, and of a picture the node's own is read."""
    for name, data in (("a.png", PNG), ("b.png", OTHER)):
        (tmp_path / name).write_bytes(data)
    others: list[dict[str, Any]] = [
        {"status": "published", "source": str(tmp_path / "a.png"), "page": 1},
        {"status": "failed", "source": str(tmp_path / "a.png"), "page": 1, "task": "caption"},
        {"status": "pending", "source": "notes.txt"},
        {"status": ["a", "b"], "source": "s"},
        {"status": {"a": 1}, "source": "s", "page": float("nan")},
        {"status": None, "source": "s", "aifs_pending": 7},
        {"aifs_pending": "something else"},
    ]
    texts = [Document(text="A long article.", metadata=metadata) for metadata in others]
    assert read(texts) == texts
    assert questions(eyes) == 0
    metadata = {"status": "draft", "source": str(tmp_path / "a.png"), "author": "Ada"}
    (made,) = read([ImageNode(image_path=str(tmp_path / "b.png"), metadata=metadata)])
    assert (made.text, made.metadata["extra_status"], made.metadata["status"]) == ("blue", "draft", "ok")


@pytest.mark.usefixtures("eyes")
def test_the_mark_is_hidden_and_goes_when_it_is_read(tmp_path: Path) -> None:
    """Documents that are pending say so under a key of this package's, which nobody is shown, until they are read."""
    (tmp_path / "a.png").write_bytes(PNG)
    (document,) = listed(tmp_path / "a.png")
    assert document.metadata["aifs_pending"]
    assert not any("aifs_pending" in document.get_content(mode) for mode in (MetadataMode.EMBED, MetadataMode.LLM))
    (node,) = read([document])
    assert "aifs_pending" not in node.metadata


@pytest.mark.parametrize("page", [float("nan"), float("inf"), "1", None])
@pytest.mark.usefixtures("eyes")
def test_a_page_that_is_no_number(tmp_path: Path, page: Any) -> None:
    """A page that a store has made something else of stands for the whole file."""
    (tmp_path / "a.tif").write_bytes(tiff([corners(), corners().rotate(180)]))
    document = listed(tmp_path / "a.tif")[1]
    document.metadata["page"] = page
    assert [node.text for node in read([document])] == ["red", "blue"]


# -- What failed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("others", [False, True], ids=["ours", "others'"])
def test_bytes_that_failed_are_read_again(eyes: Emulator, *, others: bool) -> None:
    """A node that is kept after a failure has its picture still: what is read of it is as if it had never failed."""
    metadata = {"source": "report.pdf", "page": 7, "status": "draft", "author": "Ada"}
    nodes: list[Any] = listed(("up.png", PNG), ("up.tif", tiff([corners(), corners().rotate(180)])))
    if others:
        nodes = [
            ImageNode(image=BASE64, text="Figure 3", metadata=metadata, excluded_embed_metadata_keys=["author"]),
            Node(image_resource=MediaResource(data=tiff([corners(), corners().rotate(180)]))),
        ]
    whole = [(node.id_, node.text, node.metadata, node.ref_doc_id) for node in read(nodes)]
    eyes.fail(400, times=3)
    kept = read(nodes, on_error="keep")
    assert [node.metadata["status"] for node in kept] == ["failed"] * 3
    if others:
        assert (kept[0].get_content(), kept[0].image, kept[0].metadata["source"]) == ("Figure 3", BASE64, "report.pdf")
    eyes.fail(400)
    kept = read(kept, on_error="keep")
    assert sorted(node.metadata["status"] for node in kept) == ["failed", "ok", "ok"]
    before = questions(eyes)
    again = read(kept)
    assert [(node.id_, node.get_content(), node.metadata, node.ref_doc_id) for node in again] == whole
    assert questions(eyes) == before + 1
    assert all(node.excluded_embed_metadata_keys for node in again)


def test_the_picture_of_a_failed_node_is_not_looked_for_elsewhere(tmp_path: Path, eyes: Emulator) -> None:
    """A node of others that failed is read at its own path, and not at the `source` that its metadata name."""
    (tmp_path / "figure.png").write_bytes(PNG)
    (tmp_path / "report.tif").write_bytes(tiff([corners().rotate(180)] * 8))
    metadata = {"source": str(tmp_path / "report.tif"), "page": 7}
    node = ImageNode(image_path=str(tmp_path / "figure.png"), text="Figure 3", metadata=metadata)
    eyes.fail(400)
    kept = read([node], on_error="keep")
    assert kept[0].relationships[NodeRelationship.SOURCE].node_id == node.id_
    (made,) = read(kept)
    assert (made.text, made.metadata["source"], made.metadata["page"]) == ("Figure 3\n\nred", metadata["source"], 7)


@pytest.mark.usefixtures("eyes")
def test_bytes_that_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node whose bytes JSON has left out is an error: no file of the name that was given is opened in their place."""
    monkeypatch.chdir(tmp_path)
    Path("up.png").write_bytes(OTHER)
    (document,) = listed(("up.png", PNG))
    assert read([document])[0].text == "red"
    stored = Document.from_json(document.to_json())
    with pytest.raises(ImageAccessError, match="Load it again"):
        read([stored])
    kept = read([stored], on_error="keep")
    assert kept[0].metadata["status"] == "failed"
    with pytest.raises(ImageAccessError, match="Load it again"):
        read(kept)
    refused = listed(("up.png", b"no picture"), on_error="keep")
    with pytest.raises(ImageAccessError):
        read([Document.from_json(refused[0].to_json())])


def test_bytes_of_others_that_are_gone(eyes: Emulator) -> None:
    """A node of others that failed, and whose bytes JSON has left out, is an error, too."""
    eyes.fail(400)
    (kept,) = read([Node(image_resource=MediaResource(data=PNG))], on_error="keep")
    with pytest.raises(ImageAccessError, match="Load it again"):
        read([Node.from_json(kept.to_json())])


def test_parts_of_a_failure_are_text(eyes: Emulator) -> None:
    """What a splitter makes of a node that failed, or was cut short, is text, and is not read once for each part."""
    eyes.fail(400)
    figure = ImageNode(image=BASE64, text="A sentence about corners. " * 40)
    parts = SentenceSplitter(chunk_size=40, chunk_overlap=0)(read([figure], on_error="keep"))
    texts = [TextNode(text=part.get_content(), metadata=part.metadata) for part in parts]
    before = questions(eyes)
    assert read(texts) == texts
    assert (len(texts) > 2, questions(eyes)) == (True, before)


@pytest.mark.parametrize("on_error", ["skip", "keep"])
def test_no_cache_answers_with_failures(on_error: Any, tmp_path: Path, eyes: Emulator) -> None:
    """Neither a shared cache, nor one from disk, nor a copy in a worker answers with what a failed run has given."""
    (tmp_path / "a.png").write_bytes(PNG)
    documents = listed(tmp_path / "a.png")

    def steps(**options: Any) -> IngestionPipeline:
        transform = ImageToText(task="caption", on_error=on_error, limits=Limits())
        return IngestionPipeline(**{"transformations": [transform], **options})

    cache = IngestionCache()
    first = steps(cache=cache)
    eyes.fail(400)
    assert [node.get_content() for node in first.run(documents=documents)] == ([""] if on_error == "keep" else [])
    first.persist(str(tmp_path / "kept"))
    loaded = steps()
    loaded.load(str(tmp_path / "kept"))
    copied = steps(cache=cache, transformations=pickle.loads(pickle.dumps(first.transformations)))  # noqa: S301
    for pipeline in (steps(cache=cache), loaded, copied, first):
        assert [node.get_content() for node in pipeline.run(documents=documents)] == ["red"]
    before = questions(eyes)
    assert [node.get_content() for node in first.run(documents=documents)] == ["red"]  # by now, a good run's
    assert questions(eyes) == before


def test_good_runs_are_cached_for_all(tmp_path: Path, eyes: Emulator) -> None:
    """With "raise" nothing but good runs is kept, and everybody who has the cache is answered from it."""
    (tmp_path / "a.png").write_bytes(PNG)
    cache = IngestionCache()
    for _ in range(2):
        transform = ImageToText(task="caption", limits=Limits())
        pipeline = IngestionPipeline(transformations=[transform], cache=cache)
        assert len(pipeline.run(documents=listed(tmp_path / "a.png"))) == 1
    assert questions(eyes) == 1


# -- Nothing gets lost ----------------------------------------------------------------------------------------


class _Forgetful(Vision):
    """One that reads nothing of what it is given."""

    def read_many(self, sources: Any, *args: Any, **options: Any) -> Any:
        """A run over none of them."""
        return super().read_many(() if sources else sources, *args, **options)


@pytest.mark.parametrize("on_error", ["raise", "skip", "keep"])
@pytest.mark.usefixtures("eyes")
def test_a_picture_without_a_reading_is_an_error(on_error: Any) -> None:
    """A node whose picture has neither been read nor counted as a failure is not left out in silence."""
    transform = ImageToText(vision=_Forgetful(), on_error=on_error)
    with pytest.raises(RuntimeError, match="neither a reading nor a failure"):
        transform([ImageNode(image=BASE64)])


@pytest.mark.parametrize(
    "node",
    [
        ImageNode(image_url=f"data:image/png;base64,{BASE64}"),
        ImageNode(image_path=f"DATA:image/png;base64,{BASE64}"),
        Node(image_resource=MediaResource(url=f"data:image/png;base64,{BASE64}")),  # type: ignore[arg-type]
        ImageNode(image=base64.encodebytes(PNG).decode()),
        ImageNode(image=f"data:image/png;base64,{BASE64[:20]}%0A{BASE64[20:]}"),
    ],
    ids=["URL", "path", "resource", "lines", "escaped lines"],
)
def test_pictures_written_otherwise(node: Any, eyes: Emulator) -> None:
    """A data URI is a picture wherever it stands, and so is base64 in lines."""
    assert [made.text for made in read([node])] == ["red"]
    assert questions(eyes) == 1


def test_a_folder_is_no_picture(tmp_path: Path, eyes: Emulator) -> None:
    """A node that names a folder is an error, and not a question for each picture in it; so is an endless path."""
    (tmp_path / "a.png").write_bytes(PNG)
    for place, words in ((str(tmp_path), "is a folder"), ("x" * 5000, "no such file")):
        with pytest.raises(ImageNotFoundError, match=words):
            read([ImageNode(image_path=place)])
        assert [node.metadata["status"] for node in read([ImageNode(image_path=place)], on_error="keep")] == ["failed"]
        assert read([ImageNode(image_path=place)], on_error="skip") == []
    assert questions(eyes) == 0


def test_two_uploads_of_one_name(eyes: Emulator) -> None:
    """Different bytes under one name have ids of their own: both are in the store, and neither is paid for again."""
    store = SimpleVectorStore()
    pipeline = IngestionPipeline(
        transformations=[ImageToText(task="caption", limits=Limits()), MockEmbedding(embed_dim=2)],
        docstore=SimpleDocumentStore(),
        vector_store=store,
        disable_cache=True,
    )
    uploads = [("image.png", PNG), ("image.png", OTHER), ("image.png", PNG), ("broken.png", b"?"), ("broken.png", PNG)]
    documents = listed(*uploads[:3])
    assert documents[0].id_ == documents[2].id_ != documents[1].id_
    nodes = pipeline.run(documents=documents[:2])
    assert sorted(node.get_content() for node in nodes) == ["blue", "red"]
    for _ in range(2):
        assert list(pipeline.run(documents=listed(*uploads[:2]))) == []
    assert (len(store.data.embedding_dict), questions(eyes)) == (2, 2)
    broken, whole = listed(*uploads[3:], on_error="keep")
    assert [node.metadata["status"] for node in read([broken, whole], on_error="keep")] == ["failed", "ok"]
    eyes.fail(400)
    assert {node.id_ for node in read(read(documents[:2], on_error="keep"))} == {node.id_ for node in nodes}


@pytest.mark.usefixtures("eyes")
def test_a_broken_upload_is_not_mixed_up() -> None:
    """Of two uploads of one name the one that is no picture fails, and the other is read, in whatever order."""
    uploads = [("up.png", PNG), ("up.png", b"no picture")]
    for given, expected in ((uploads, ["ok", "failed"]), (uploads[::-1], ["failed", "ok"])):
        documents = listed(*given, on_error="keep")
        assert [document.metadata["status"] for document in documents] == [s.replace("ok", "pending") for s in expected]
        assert [node.metadata["status"] for node in read(documents, on_error="keep")] == expected


@pytest.mark.usefixtures("eyes")
def test_bytes_named_like_a_file(tmp_path: Path) -> None:
    """Bytes that have the name of a file in a folder given beside them are read, and so is the file."""
    (tmp_path / "a.png").write_bytes(PNG)
    for data, colours in ((OTHER, ["red", "red", "blue"]), (PNG, ["red", "red", "red"])):
        documents = AIFSImageReader(task=None).load_data([tmp_path, PNG, (str(tmp_path / "a.png"), data)])
        assert [document.image_resource is not None for document in documents][1:] == [True, True]
        assert [node.text for node in read(documents)] == colours


@pytest.mark.usefixtures("eyes")
def test_names_that_are_no_text(tmp_path: Path) -> None:
    """A file whose name is not UTF-8 is found again when it has been listed; so is one named like its escape."""
    for number, name in enumerate((b"/\xff.png", b"/\\xfe.png")):
        path = os.fsdecode(os.fsencode(tmp_path) + name)
        Path(path).write_bytes(PNG if number else OTHER)
    documents = AIFSImageReader(task=None).load_data(tmp_path)
    assert sorted(node.text for node in read(documents)) == ["blue", "red"]
    assert read(documents)[0].metadata["source"] == documents[0].metadata["source"]


def test_one_file_named_by_both(tmp_path: Path, eyes: Emulator) -> None:
    """A file that a Document of ours and a node of others stand for is read once."""
    (tmp_path / "a.png").write_bytes(PNG)
    read([*listed(tmp_path / "a.png"), ImageNode(image_path=str(tmp_path / "a.png"))], limits=Limits(in_flight=1))
    assert questions(eyes) == 1


# -- Bytes of several pages -----------------------------------------------------------------------------------


def test_pages_share_their_bytes() -> None:
    """The pages of a file that was given as bytes have one copy of it between them."""
    documents = listed(("scan.tif", tiff([corners()] * 5)))
    resources = [document.image_resource for document in documents]
    assert len({id(resource.data) for resource in resources if resource is not None}) == 1
    assert {resource.mimetype for resource in resources if resource is not None} == {"image/tiff"}


@pytest.mark.usefixtures("eyes")
def test_pages_are_decoded_and_put_together_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """In asynchronous use base64 is neither made nor opened on the caller's event loop, and once a file."""
    threads: list[tuple[str, int]] = []
    for name in ("b64encode", "b64decode"):
        plain = getattr(base64, name)

        def watched(data: Any, *args: Any, _plain: Any = plain, _name: str = name, **options: Any) -> Any:
            if len(data) > 10_000:
                threads.append((_name, threading.get_ident()))
            return _plain(data, *args, **options)

        monkeypatch.setattr(base64, name, watched)
    scan = tiff([corners(900, 600).rotate(180 * (page % 2)) for page in range(4)])

    async def main() -> int:
        documents = await AIFSImageReader(task=None).aload_data(("scan.tif", scan))
        threads.clear()
        assert len(await ImageToText(task="caption", limits=Limits()).acall(documents)) == 4
        return threading.get_ident()

    loop = asyncio.run(main())
    assert [name for name, _ in threads].count("b64decode") == 1
    assert loop not in {ident for _, ident in threads}


# -- Where there is no key ------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # LlamaIndex forks, and Python warns of that
@pytest.mark.parametrize("kind", ["run", "arun"])
def test_workers_without_a_key(kind: str, tmp_path: Path, eyes: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the workers of a pipeline have no key, that is an error which names the variable; nobody waits for ever."""
    (tmp_path / "a.png").write_bytes(PNG)
    monkeypatch.delenv("AIFS_API_KEY")
    transform = ImageToText(task="caption", api_key=eyes.api_key)
    pipeline = IngestionPipeline(transformations=[transform], disable_cache=True)
    given: dict[str, Any] = {"documents": listed(tmp_path / "a.png"), "num_workers": 2}

    async def arun() -> Any:
        return await pipeline.arun(**given)

    with pytest.raises(SettingsError, match="AIFS_API_KEY"):
        pipeline.run(**given) if kind == "run" else asyncio.run(arun())


def test_pickles_open_without_a_key(tmp_path: Path, eyes: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reader and transform open where there is no key, say what they are, and work as soon as there is one."""
    (tmp_path / "a.png").write_bytes(PNG)
    made: list[Any] = [kind(task="caption", limits=Limits()) for kind in (AIFSImageReader, ImageToText)]
    monkeypatch.delenv("AIFS_API_KEY")
    reader, transform = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(made))))  # noqa: S301 - our own
    assert [each.to_dict() for each in (reader, transform)] == [each.to_dict() for each in made]
    assert "Qwen" in repr(reader) + repr(transform)
    assert reader.report.images == transform.report.images == 0
    documents = listed(tmp_path / "a.png")
    for use, given in ((reader.load_data, tmp_path), (transform, documents)):
        with pytest.raises(SettingsError, match="AIFS_API_KEY"):
            use(given)
    monkeypatch.setenv("AIFS_API_KEY", eyes.api_key)
    assert [node.text for node in (*reader.load_data(tmp_path), *transform(documents))] == ["red", "red"]


def test_what_is_no_file_system() -> None:
    """The name of a file system is refused with what to give instead."""
    with pytest.raises(TypeError, match=r"fsspec\.filesystem"):
        ImageToText(api_key="k", fs="memory")
    with pytest.raises(TypeError, match=r"fsspec\.filesystem"):
        AIFSImageReader(task=None).load_data("scans", fs="memory")
    assert ImageToText(api_key="k", fs=fsspec.filesystem("memory")).report.images == 0
