"""What `AttachImages` does with nodes that have pictures, paths, addresses or recordings of their own."""

from __future__ import annotations

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.base.llms.types import TextBlock
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import ImageDocument, ImageNode, MediaResource, MetadataMode, Node, NodeWithScore

from aifs_vision import Limits
from llama_index_aifs import AIFS, AIFSImageReader, AttachImages
from tests.llama_index.scripts import Found, scored
from tests.pictures import corners, opened, saved, tiff

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aifs_vision.emulator import Emulator

PNG = saved(corners())


def asked(server: Emulator, attach: AttachImages, *nodes: Any) -> list[Any]:
    """The pictures that a query engine sends: their sizes, or the address where they are at one."""
    server.clear()
    llm = AIFS(base_url=server.base_url, api_key=server.api_key, limits=Limits())
    engine = RetrieverQueryEngine.from_args(Found(*nodes), llm=llm, multimodal=True, node_postprocessors=[attach])
    asyncio.run(engine.aquery("What is there?"))
    parts = [part for request in server.requests for message in request.body["messages"] for part in message["content"]]
    urls = [part["image_url"]["url"] for part in parts if isinstance(part, dict) and part["type"] == "image_url"]
    data = [opened(data).size for request in server.requests for _, data in request.images if data]
    return [url for url in urls if not url.startswith("data:")] + data


def reason(node: NodeWithScore) -> str:
    """Why a node has no picture."""
    return str(node.metadata.get("image_skipped", ""))


def naming(path: Path) -> list[Any]:
    """Nodes that name a file, in all ways that LlamaIndex knows."""
    resource = MediaResource(path=path)
    return [
        ImageNode(image_path=str(path), text="words"),
        ImageDocument(image_path=str(path), text="words"),
        ImageNode(image_url=path.as_uri(), text="words"),
        Node(image_resource=resource, text_resource=MediaResource(text="words")),
        ImageNode(image_path=str(path), text="words", metadata={"status": "ok", "image_sha256": "0", "source": "x"}),
    ]


@pytest.mark.parametrize("way", range(5))
def test_a_node_that_names_a_file_leads_no_further_than_the_roots(way: int, tmp_path: Path, server: Emulator) -> None:
    """A path in the node itself is no way around the roots: nothing is sent, and the node says why."""
    (tmp_path / "scans").mkdir()
    secret = tmp_path / "secret.png"
    secret.write_bytes(PNG)
    node, attach = naming(secret)[way], AttachImages(tmp_path / "scans")
    assert asked(server, attach, node) == []
    (after,) = attach.postprocess_nodes(scored(node))
    assert [type(block) for block in after.node.get_content_blocks(MetadataMode.NONE)] == [TextBlock]
    assert "outside of roots" in reason(after)
    assert after.node.id_ == node.id_
    assert str(secret) not in json.dumps({**after.node.to_dict(), "metadata": {}})


@pytest.mark.parametrize("way", [0, 1, 3, 4])
def test_a_file_below_the_roots_that_a_node_names_is_shown(way: int, tmp_path: Path, server: Emulator) -> None:
    """It is prepared like the others: of several pages the first, shrunk to what is to be sent."""
    path = tmp_path / "large.tif"
    path.write_bytes(tiff([corners(600, 400), corners(90, 60)]))
    assert asked(server, AttachImages(tmp_path, size=300), naming(path)[way]) == [(300, 200)]


def test_files_that_nodes_name_count(tmp_path: Path, server: Emulator) -> None:
    """They take of the budget, each once."""
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(saved(corners(60 + number, 40)))
    nodes = [ImageNode(image_path=str(tmp_path / f"{number}.png"), text=str(number)) for number in (0, 0, 1, 2, 3)]
    attach = AttachImages(tmp_path, max_images=2)
    assert asked(server, attach, *nodes) == [(60, 40), (61, 40)]
    assert ["max_images=2" in reason(node) for node in attach.postprocess_nodes(scored(*nodes))] == [
        False, False, False, True, True,
    ]  # fmt: skip


def test_the_picture_of_a_reading_is_that_of_its_metadata(tmp_path: Path, server: Emulator) -> None:
    """A node that has the metadata of a reading, and names another file besides, shows what was read."""
    inside, secret = tmp_path / "scans" / "a.png", tmp_path / "secret.png"
    inside.parent.mkdir()
    inside.write_bytes(PNG)
    secret.write_bytes(saved(corners(90, 60)))
    (document,) = AIFSImageReader(task=None).load_data(inside)
    node = ImageNode(image_path=str(secret), text="words", metadata={**document.metadata, "status": "ok"})
    assert asked(server, AttachImages(inside.parent), node) == [(60, 40)]


@pytest.mark.parametrize("kind", ["video_resource", "audio_resource"])
def test_no_recording_of_a_node_is_opened(kind: str, tmp_path: Path, server: Emulator) -> None:
    """Videos and recordings in nodes, which nobody here counts or keeps below roots, are left out, with the reason."""
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(PNG)
    node = Node(text_resource=MediaResource(text="words"))
    setattr(node, kind, MediaResource(path=secret, mimetype="video/mp4"))
    attach = AttachImages(tmp_path)
    assert asked(server, attach, node) == []
    (after,) = attach.postprocess_nodes(scored(node))
    assert (getattr(after.node, kind), after.get_content()) == (None, "words")
    assert "AIFSImageReader" in reason(after)
    assert getattr(node, kind) is not None  # the store's own


# -- Addresses ---------------------------------------------------------------------------------------------


@pytest.fixture
def address() -> Iterator[tuple[str, list[str]]]:
    """The address of a picture, and who has fetched it: the emulator does, by urllib."""
    fetched: list[str] = []

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fetched.append(str(self.headers["User-Agent"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PNG)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    site = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=site.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{site.server_port}/a.png", fetched
    site.shutdown()
    thread.join()
    site.server_close()


def test_nothing_is_fetched_on_this_machine(address: tuple[str, list[str]], tmp_path: Path, server: Emulator) -> None:
    """The address of a node's picture goes to the service as it is, and nobody on this machine asks there."""
    url, fetched = address
    as_resource = MediaResource.model_validate({"url": url})
    attach = AttachImages(tmp_path)
    for node in (
        ImageNode(image_url=url, text="words"),
        Node(image_resource=as_resource, text_resource=MediaResource(text="words")),
    ):
        assert asked(server, attach, node) == [url]
        (after,) = attach.postprocess_nodes(attach.postprocess_nodes(scored(node)))
        assert (after.node.id_, after.get_content(), reason(after)) == (node.id_, "words", "")
    assert {agent.partition("/")[0] for agent in fetched} == {"Python-urllib"}


def test_what_is_no_address_is_left_out(tmp_path: Path, server: Emulator) -> None:
    """A broken address does not end a query; its node says so."""
    node = ImageNode(image_url="http://", text="words")
    attach = AttachImages(tmp_path)
    assert asked(server, attach, node) == []
    assert "address" in reason(attach.postprocess_nodes(scored(node))[0])
