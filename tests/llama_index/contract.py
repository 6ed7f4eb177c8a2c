"""What readers and transforms of LlamaIndex are held to: classes to be subclassed, by other projects, too.

class TestMyReader(ReaderContract):
    @pytest.fixture
    def reader(self) -> BaseReader: ...                   # one that reads
    @pytest.fixture
    def files(self, tmp_path: Path) -> list[Path]: ...    # what it is given, in the order of its Documents

class TestMyTransform(TransformContract):
    @pytest.fixture
    def make(self) -> Callable[..., TransformComponent]: ...      # makes one; without arguments, always the same
    @pytest.fixture
    def load(self, tmp_path: Path) -> Callable[[], list[Document]]: ...  # Documents for it, made anew at each call
    @pytest.fixture
    def edit(self, tmp_path: Path) -> Callable[[], str]: ...      # changes one of them; gives what its text is then
    @pytest.fixture
    def asked(self) -> Callable[[], int]: ...                     # how often the service has been asked so far
    @pytest.fixture
    def embedding(self) -> BaseEmbedding: ...

class TestMyNodes(ReferenceContract):
    @pytest.fixture
    def nodes(self) -> list[BaseNode]: ...                # as they come out of the transform or reader
    @pytest.fixture
    def kept(self) -> tuple[str, ...]: ...                # the metadata that must not get lost
"""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import shutil
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from llama_index.core import Document, SimpleDirectoryReader, StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import MetadataMode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.readers.base import BaseReader
    from llama_index.core.schema import BaseNode, TransformComponent

__all__ = ["ReaderContract", "ReferenceContract", "TransformContract"]

SECRETS = ("key", "secret", "token", "password")


def same(documents: list[Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """What makes two lists of nodes the same."""
    return [(node.id_, node.get_content(MetadataMode.NONE), node.metadata) for node in documents]


class ReaderContract:
    """Documents are the same however, wherever and how often they are loaded."""

    def test_documents_are_the_same_on_every_run(self, reader: BaseReader, files: list[Path]) -> None:
        """Ids, texts, metadata and hashes do not change while the files do not: a store finds nothing to do."""
        first, second = (reader.load_data(files) for _ in range(2))
        assert same(first) == same(second)
        assert [document.hash for document in first] == [document.hash for document in second]
        assert len({document.id_ for document in first}) == len(first) >= len(files)

    def test_metadata_are_flat(self, reader: BaseReader, files: list[Path]) -> None:
        """Metadata are texts and numbers, which every vector store takes."""
        for document in reader.load_data(files):
            assert all(isinstance(value, (str, int, float)) for value in document.metadata.values())

    def test_what_is_embedded_is_short(self, reader: BaseReader, files: list[Path]) -> None:
        """Neither digests nor numbers are embedded or shown to the LLM, so that splitters have room for the text."""
        for document in reader.load_data(files):
            for mode in (MetadataMode.EMBED, MetadataMode.LLM):
                assert "sha256" not in document.get_metadata_str(mode)
                assert len(document.get_metadata_str(mode).splitlines()) <= 3

    def test_no_two_documents_are_one_in_a_cache(self, reader: BaseReader, files: list[Path]) -> None:
        """Each Document has a text of its own for LlamaIndex's cache, also where its text is empty."""
        documents = reader.load_data(files)
        assert all(document.text_resource is not None for document in documents)
        contents = {document.get_content(MetadataMode.ALL) for document in documents}
        assert len(contents) == len(documents)

    def test_all_ways_of_loading_give_the_same(self, reader: BaseReader, files: list[Path]) -> None:
        """Lazy, asynchronous and both, in one event loop after the other: the same Documents."""

        async def lazily() -> list[Any]:
            return [document async for document in reader.alazy_load_data(files)]  # type: ignore[attr-defined]

        async def inside() -> list[Any]:
            return reader.load_data(files)  # of a running loop

        whole = same(reader.load_data(files))
        assert same(list(reader.lazy_load_data(files))) == whole
        for _ in range(2):
            assert same(asyncio.run(reader.aload_data(files))) == whole
            assert same(asyncio.run(lazily())) == whole
        assert same(asyncio.run(inside())) == whole

    def test_further_metadata_are_kept(self, reader: BaseReader, files: list[Path]) -> None:
        """`extra_info` is in the metadata of each Document."""
        for document in reader.load_data(files, extra_info={"project": "tower"}):
            assert document.metadata["project"] == "tower"

    def test_documents_survive_json(self, reader: BaseReader, files: list[Path]) -> None:
        """A Document that was JSON has the same id, text, metadata and hash."""
        for document in reader.load_data(files):
            back = Document.from_json(document.to_json())
            assert same([back]) == same([document])
            assert back.hash == document.hash

    def test_a_reader_can_be_sent_to_other_processes(self, reader: BaseReader, files: list[Path]) -> None:
        """Pickled or copied, a reader loads the same; pickling does it no harm."""
        whole = same(reader.load_data(files))
        for other in (pickle.loads(pickle.dumps(reader)), copy.deepcopy(reader), reader):  # noqa: S301 - our own
            assert same(other.load_data(files)) == whole

    def test_simple_directory_reader(self, reader: BaseReader, files: list[Path]) -> None:
        """As file extractor it gives the same, whether loaded synchronously or not."""
        extractor = {suffix: reader for path in files for suffix in (path.suffix.lower(),)}
        directory = SimpleDirectoryReader(
            input_files=files, file_extractor=extractor, file_metadata=lambda _: {}, raise_on_error=True
        )
        loaded = directory.load_data()
        assert same(loaded) == same(reader.load_data(files))
        assert same(asyncio.run(directory.aload_data(num_workers=2))) == same(loaded)

    @pytest.mark.parametrize("kind", ["memory", "zip"])
    def test_other_file_systems(self, reader: BaseReader, files: list[Path], tmp_path: Path, kind: str) -> None:
        """Files are opened on the file system they are on: the same texts, whichever that is."""
        if kind == "zip":
            folder = tmp_path / "packed"
            (folder / "scans").mkdir(parents=True)
            for path in files:
                shutil.copy(path, folder / "scans")
            fs, top = fsspec.filesystem("zip", fo=shutil.make_archive(str(tmp_path / "all"), "zip", folder)), "scans"
        else:
            fs, top = fsspec.filesystem("memory"), "/contract"
            fs.pipe({f"{top}/{path.name}": path.read_bytes() for path in files})
        try:
            there = [f"{top}/{path.name}" for path in files]
            expected = [text for _, text, _ in same(reader.load_data(files))]
            assert [text for _, text, _ in same(reader.load_data(there, fs=fs))] == expected
            extractor = {suffix: reader for path in files for suffix in (path.suffix.lower(),)}
            directory = SimpleDirectoryReader(top, fs=fs, file_extractor=extractor, raise_on_error=True)
            assert sorted(document.text for document in directory.load_data()) == sorted(expected)
            assert sorted(document.text for document in asyncio.run(directory.aload_data())) == sorted(expected)
        finally:
            if kind == "memory":
                fs.rm(top, recursive=True)


class TransformContract:
    """A transform that asks a service: nothing is asked twice, nothing gets lost, nothing is taken for another."""

    def test_keys_are_the_same_in_every_process(
        self, make: Callable[..., TransformComponent], load: Callable[[], list[Document]]
    ) -> None:
        """The key of a batch in LlamaIndex's cache depends on its content alone: no addresses, no run."""
        first, second = make(), make()
        first(load())
        assert get_transformation_hash(load(), first) == get_transformation_hash(load(), second)
        assert json.loads(json.dumps(first.to_dict())) == first.to_dict() == second.to_dict()

    def test_no_two_batches_are_one(
        self, make: Callable[..., TransformComponent], load: Callable[[], list[Document]]
    ) -> None:
        """Any two batches have different keys, also where no Document has a text."""
        documents, transform = load(), make()
        batches = [documents[:count] for count in range(1, len(documents) + 1)] + [[each] for each in documents[1:]]
        assert len({get_transformation_hash(batch, transform) for batch in batches}) == len(batches)

    def test_secrets_stay_inside(self, make: Callable[..., TransformComponent]) -> None:
        """Neither the serialised form nor the pickle nor the repr has a field for a secret."""
        transform = make()
        assert not [name for name in transform.to_dict() if any(secret in name.lower() for secret in SECRETS)]
        assert "key" not in repr(transform).lower()
        assert b"_key" not in pickle.dumps(transform)

    def test_the_source_is_known(
        self, make: Callable[..., TransformComponent], load: Callable[[], list[Document]]
    ) -> None:
        """Each node names the Document it was made of, by id and hash."""
        documents = load()
        known = {document.id_: document.hash for document in documents}
        nodes = make()(documents)
        assert {node.ref_doc_id for node in nodes} == set(known)
        assert all(node.source_node and node.source_node.hash == known[node.source_node.node_id] for node in nodes)
        assert len({node.id_ for node in nodes}) == len(nodes)

    def test_a_second_time_does_nothing(
        self,
        make: Callable[..., TransformComponent],
        load: Callable[[], list[Document]],
        asked: Callable[[], int],
    ) -> None:
        """What has been through it passes through it, unchanged and unasked; so does text that never was a picture."""
        transform = make()
        nodes = [*transform(load()), Document(text="plain words", metadata={"source": "notes.txt", "page": 1})]
        before = asked()
        assert transform(nodes) == nodes
        assert asked() == before

    def test_both_calls_give_the_same(
        self, make: Callable[..., TransformComponent], load: Callable[[], list[Document]]
    ) -> None:
        """The call, inside of a running event loop, too, and its asynchronous twin give the same, in any loop."""

        async def inside() -> list[Any]:
            return list(transform(load()))

        whole = same(list(make()(load())))
        transform = make()
        for _ in range(2):
            assert same(list(asyncio.run(transform.acall(load())))) == whole
            assert same(asyncio.run(inside())) == whole

    def test_the_event_loop_stays_free(
        self, make: Callable[..., TransformComponent], load: Callable[[], list[Document]]
    ) -> None:
        """Others get their turn while the asynchronous call waits for the service."""

        async def main() -> int:
            turns = 0
            call = asyncio.ensure_future(make().acall(load()))
            while not call.done():
                turns += 1
                await asyncio.sleep(0.001)
            assert await call
            return turns

        assert asyncio.run(main()) > 3

    def test_it_does_not_change_what_it_is_given(
        self, make: Callable[..., TransformComponent], load: Callable[[], list[Document]]
    ) -> None:
        """Documents are as they were: their hashes go into document stores after the run."""
        documents = load()
        before = [document.hash for document in documents]
        make()(documents)
        assert [document.hash for document in documents] == before

    def test_it_can_be_sent_to_other_processes(
        self, make: Callable[..., TransformComponent], load: Callable[[], list[Document]]
    ) -> None:
        """Pickled or copied, it gives the same nodes and keys; pickling does it no harm."""
        transform = make()
        whole = same(list(transform(load())))
        for other in (pickle.loads(pickle.dumps(transform)), copy.deepcopy(transform), transform):  # noqa: S301 - our own
            assert same(list(other(load()))) == whole
            assert other.to_dict() == transform.to_dict()

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # LlamaIndex forks, and Python warns of that
    def test_workers(self, make: Callable[..., TransformComponent], load: Callable[[], list[Document]]) -> None:
        """In processes of their own, spawned or forked, the nodes are the same."""
        whole = sorted(node[:2] for node in same(list(make()(load()))))
        pipeline = IngestionPipeline(transformations=[make()], disable_cache=True)
        nodes = pipeline.run(documents=load(), num_workers=2)
        assert sorted(node[:2] for node in same(list(nodes))) == whole
        nodes = asyncio.run(pipeline.arun(documents=load(), num_workers=2))
        assert sorted(node[:2] for node in same(list(nodes))) == whole

    def test_upserts(
        self,
        make: Callable[..., TransformComponent],
        load: Callable[[], list[Document]],
        edit: Callable[[], str],
        asked: Callable[[], int],
        embedding: BaseEmbedding,
    ) -> None:
        """What is unchanged costs nothing, what is edited is asked once, and its old text is gone from the store."""
        store = SimpleVectorStore()
        pipeline = IngestionPipeline(
            transformations=[make(), SentenceSplitter(), embedding], docstore=SimpleDocumentStore(), vector_store=store
        )
        nodes = pipeline.run(documents=load())
        count, before = len(store.data.embedding_dict), asked()
        assert count == len(nodes)
        assert not pipeline.run(documents=load())
        assert not asyncio.run(pipeline.arun(documents=load()))
        assert asked() == before
        text = edit()
        (node,) = pipeline.run(documents=load())
        assert node.get_content(MetadataMode.NONE) == text
        assert asked() == before + 1
        assert len(store.data.embedding_dict) == count
        (replaced,) = [old for old in nodes if old.ref_doc_id == node.ref_doc_id]
        assert replaced.id_ not in store.data.embedding_dict

    def test_a_persisted_cache_answers(
        self,
        make: Callable[..., TransformComponent],
        load: Callable[[], list[Document]],
        asked: Callable[[], int],
        tmp_path: Path,
    ) -> None:
        """What a pipeline has kept on disk is not asked again by another one."""
        pipeline = IngestionPipeline(transformations=[make()])
        nodes = pipeline.run(documents=load())
        pipeline.persist(str(tmp_path / "kept"))
        before = asked()
        other = IngestionPipeline(transformations=[make()])
        other.load(str(tmp_path / "kept"))
        assert same(list(other.run(documents=load()))) == same(list(nodes))
        assert asked() == before


class ReferenceContract:
    """Nodes keep what leads back to where they came from, wherever they go."""

    def _kept(self, nodes: list[Any], keys: tuple[str, ...]) -> list[tuple[Any, ...]]:
        return [tuple(node.metadata[key] for key in keys) for node in nodes]

    def test_splitters(self, nodes: list[BaseNode], kept: tuple[str, ...]) -> None:
        """Every chunk has what its node had, and what was hidden of it is hidden still."""
        for node in nodes:
            node.set_content("A sentence of some words. " * 40)
            chunks = SentenceSplitter(chunk_size=64, chunk_overlap=0)([node])
            assert len(chunks) > 3
            assert set(self._kept(chunks, kept)) == set(self._kept([node], kept))
            assert all(chunk.excluded_embed_metadata_keys == node.excluded_embed_metadata_keys for chunk in chunks)

    def test_json(self, nodes: list[BaseNode], kept: tuple[str, ...]) -> None:
        """Nodes that were JSON have it."""
        back = [type(node).from_json(node.to_json()) for node in nodes]
        assert self._kept(back, kept) == self._kept(nodes, kept)

    def test_vector_stores(self, nodes: list[BaseNode], kept: tuple[str, ...]) -> None:
        """Nodes have it that a vector store has kept in flat metadata."""
        back = [metadata_dict_to_node(node_to_metadata_dict(node, flat_metadata=True)) for node in nodes]
        assert self._kept(back, kept) == self._kept(nodes, kept)

    def test_document_stores(self, nodes: list[BaseNode], kept: tuple[str, ...], tmp_path: Path) -> None:
        """Nodes have it that a document store has written to disk."""
        store = SimpleDocumentStore()
        store.add_documents(nodes)
        store.persist(str(tmp_path / "docstore.json"))
        read = SimpleDocumentStore.from_persist_path(str(tmp_path / "docstore.json"))
        assert self._kept([read.get_document(node.id_) for node in nodes], kept) == self._kept(nodes, kept)

    def test_persisted_indexes(
        self, nodes: list[BaseNode], kept: tuple[str, ...], embedding: BaseEmbedding, tmp_path: Path
    ) -> None:
        """Nodes have it that are retrieved from an index loaded from disk."""
        index = VectorStoreIndex(nodes, embed_model=embedding)
        index.storage_context.persist(str(tmp_path / "index"))
        context = StorageContext.from_defaults(persist_dir=str(tmp_path / "index"))
        retriever: Any = load_index_from_storage(context, embed_model=embedding)
        found = retriever.as_retriever(similarity_top_k=len(nodes)).retrieve("words")
        assert set(self._kept(found, kept)) == set(self._kept(nodes, kept))
