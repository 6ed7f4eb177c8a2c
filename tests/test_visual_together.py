"""Several add to one Visual RAG store at the same time: threads, tasks and processes; each content is there once."""

from __future__ import annotations

import asyncio
import inspect
import json
import math
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest

from aifs_vision import AIFSVisualRAGStore, BadRequestError, NotFoundError, VisualFile
from aifs_vision.testing import virtual_time
from tests.office import html

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aifs_vision.emulator import Emulator

LONG = 1e6  # seconds in virtual time, which run while something else is done in real time
PAGES = [(f"{number}.html", html(f"Page {number} of the tide tables")) for number in range(6)]


class Service:
    """A Visual RAG in memory and in virtual time, with one store, asked by processes that each have their own host.

    Args:
        begins: when the first request of each host reaches it, in seconds.
        ids: the ids of files, in the order of their upload: of those made within a second any may be the smallest.
        refuses: files whose ingestion fails, by their number in the order of ingestion.
        chance: how long each request takes, on its way there and back; None for always the same.
        held: how many times the files of the store are listed, from now on, until any is ingested.
    """

    def __init__(
        self,
        begins: Sequence[float],
        ids: Iterator[str],
        *,
        refuses: Sequence[int] = (),
        chance: Random | None = None,
        held: float = 0,
    ) -> None:
        self.begins, self.ids, self.refuses, self.held = dict(zip("abcdef", begins, strict=False)), ids, refuses, held
        self.files: dict[str, tuple[str, float]] = {}
        self.inside: dict[str, tuple[str, float]] = {}
        self._chance = chance
        self._numbers = count()
        self._ready = 0.0
        self._seen: set[str] = set()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answers a request, some time after it came."""
        host, clock = request.url.host, asyncio.get_running_loop().time
        if host not in self._seen:
            self._seen.add(host)
            await asyncio.sleep(self.begins[host])
        await asyncio.sleep(self._way())
        status, answer = self._answer(request, clock())
        await asyncio.sleep(self._way())
        return httpx.Response(status, json=answer)

    def _way(self) -> float:
        return 0.02 if self._chance is None else self._chance.choice((0.001, 0.02, 0.3, 0.9))

    def _answer(self, request: httpx.Request, now: float) -> tuple[int, Any]:
        if request.method == "DELETE":
            there = self.inside if "/vector_stores/" in request.url.path else self.files
            gone = there.pop(request.url.path.rpartition("/")[2], None)
            self.inside = {id_: member for id_, member in self.inside.items() if id_ in self.files}
            return (404, {"detail": "gone"}) if gone is None else (200, {"deleted": True})
        if request.method == "GET":
            return 200, {"data": self._listed(request.url.path.rpartition("/v1")[2], now)}
        if request.url.path == "/v1/files":
            name = re.search(rb'filename="([^"]*)"', request.content)
            assert name is not None
            self.files[made := next(self.ids)] = name[1].decode(), now
            return 200, {"id": made}
        return self._attach(json.loads(request.content)["file_id"], now)

    def _listed(self, path: str, now: float) -> list[dict[str, Any]]:
        if path == "/vector_stores":
            return [{"id": "vs", "name": "tides"}]
        if path == "/files":
            return [{"id": id_, "filename": name, "created_at": int(at)} for id_, (name, at) in self.files.items()]
        self.held = max(0, self.held - 1)
        return [self._member(id_, now) for id_ in self.inside]

    def _attach(self, file: str, now: float) -> tuple[int, Any]:
        if file not in self.files:
            return 404, {"detail": f"No such File object: {file}"}
        if file not in self.inside:
            self._ready = max(self._ready, now) + 0.3  # one after the other
            self.inside[file] = "failed" if next(self._numbers) in self.refuses else "completed", self._ready
        return 200, self._member(file, now)

    def _member(self, file: str, now: float) -> dict[str, Any]:
        ends, ready = self.inside[file]
        return {"id": file, "status": ends if now >= ready and not self.held else "in_progress", "last_error": None}


def process(host: str) -> AIFSVisualRAGStore:
    """A client that shares nothing with those of other hosts: what the process knows, it knows by address."""
    return AIFSVisualRAGStore("tides", api_key="key", base_url=f"http://{host}/v2")


def added(service: Service, *sources: Any) -> list[list[VisualFile]]:
    """What each process gets that adds these at its time, the one that ended last at the end; any error is raised."""
    ended: list[list[VisualFile]] = []

    async def one(host: str) -> None:
        ended.append(await process(host).aadd(list(sources)))

    async def all_of_them() -> None:
        await asyncio.gather(*map(one, service.begins))

    with virtual_time(service):
        asyncio.run(all_of_them())
    return ended


async def present(store: AIFSVisualRAGStore, number: int) -> None:
    """Waits until so many files are in the store, however far they are; no waiting in virtual time, which runs on."""
    while len(await store.afiles()) < number:  # noqa: ASYNC110 - the store tells nobody of it
        await asyncio.sleep(0)


def contents(service: Service) -> list[str]:
    """The contents in the store, as the names of its files have them."""
    return sorted(service.files[file][0] for file in service.inside)


# -- Processes ---------------------------------------------------------------------------------------------

IDS = {
    "rising": lambda: (f"file-{number:03}" for number in count()),
    "falling": lambda: (f"file-{number:03}" for number in range(999, 0, -1)),
    "mixed": lambda: (f"file-{number * 379 % 1000:03}" for number in count()),
}


@pytest.mark.parametrize("order", IDS)
@pytest.mark.parametrize(
    "begins",
    [
        *((0, delay / 20) for delay in range(0, 50, 3)),
        (0, 0, 0),
        (0, 0, 0.5, 1),
        (0, 0.1, 0.2, 0.3, 0.4, 0.5),
        (0, 0, 0.5, 1, 1.5, 2),
    ],
    ids=str,
)
def test_processes_that_add_the_same_all_succeed(begins: tuple[float, ...], order: str) -> None:
    """Whenever each begins, and whatever ids it gets: no add fails, and every content is in the store, and once."""
    service = Service(begins, IDS[order]())
    results = added(service, *PAGES)
    assert {file.status for files in results for file in files} == {"completed"}
    names = contents(service)
    assert [name.partition(".aifs-")[0] for name in names] == [name for name, _ in PAGES]
    assert sorted(service.files) == sorted(service.inside)


@pytest.mark.parametrize("seed", range(100))
def test_processes_that_add_the_same_at_any_pace(seed: int) -> None:
    """However long each request takes: no add fails, every content is there once, and the last add knows its file."""
    chance = Random(seed)  # noqa: S311 - no secret
    begins = [chance.uniform(0, 3) for _ in range(chance.randint(2, 5))]
    service = Service(begins, IDS[chance.choice(list(IDS))](), chance=chance)
    results = added(service, *PAGES[:3])
    assert {file.status for files in results for file in files} == {"completed"}
    assert [name.partition(".aifs-")[0] for name in contents(service)] == [name for name, _ in PAGES[:3]]
    assert sorted(service.files) == sorted(service.inside) == sorted(file.id for file in results[-1])


@pytest.mark.parametrize("order", IDS)
def test_processes_that_overlap_lose_nothing(order: str) -> None:
    """Of adds with some contents in common each gets all of its own, in the order of its sources."""
    service = Service((0, 0.1, 0.3), IDS[order]())

    async def all_of_them() -> list[list[VisualFile]]:
        parts = zip(service.begins, (PAGES[:4], PAGES[2:], PAGES[::-1]), strict=True)
        return list(await asyncio.gather(*(process(host).aadd(part) for host, part in parts)))

    with virtual_time(service):
        first, second, third = asyncio.run(all_of_them())
    names = [name for name, _ in PAGES]
    assert [file.source for file in first] == names[:4]
    assert [file.source for file in second] == names[2:]
    assert [file.source for file in third] == names[::-1]
    assert [name.partition(".aifs-")[0] for name in contents(service)] == names


@pytest.mark.parametrize("refused", [0, 1])
def test_a_file_that_fails_is_replaced_by_anothers(refused: int) -> None:
    """Of two files with one content the one that is ingested stays, whichever it is, and its add has not failed."""
    service = Service((0, 0), IDS["rising"](), refuses=[refused])

    async def both() -> list[Any]:
        adds = (process(host).aadd(PAGES[0]) for host in service.begins)
        return list(await asyncio.gather(*adds, return_exceptions=True))

    with virtual_time(service):
        results = asyncio.run(both())
        both_uploaded = next(service.ids) == "file-002"  # and not the second one seen the first one's file
        (file,) = process("a").add(PAGES[0])
    assert not both_uploaded or any(not isinstance(result, BadRequestError) for result in results)
    assert file.status == "completed"
    assert len(service.files) == len(service.inside) == 1


@pytest.mark.parametrize("begin", [1.8 + step / 20 for step in range(20)])
def test_a_file_that_another_tries_anew_is_waited_for(begin: float) -> None:
    """A file that has failed, and that another process has replaced since it was looked at, is not told to be gone."""
    service = Service((0, begin), IDS["rising"](), refuses=[5])

    async def both() -> list[list[VisualFile]]:
        adds = (process(host).aadd(part, on_error="keep") for host, part in (("a", PAGES), ("b", PAGES[5:])))
        return list(await asyncio.gather(*adds))

    with virtual_time(service):
        first, _ = asyncio.run(both())
    assert not isinstance(first[5].error, NotFoundError)


def test_what_somebody_deletes_meanwhile_is_told() -> None:
    """A file that is gone, and of whose source there is no other, is not there; the error says so."""
    service = Service((0, 0), IDS["rising"](), held=math.inf)

    async def both() -> Any:
        adding = asyncio.ensure_future(process("a").aadd(PAGES[:4], timeout=LONG))
        other = process("b")
        await present(other, 4)
        await other.adelete("3.html")
        service.held = 0
        return await adding

    with virtual_time(service), pytest.raises(NotFoundError, match=r"'3\.html' is not in .* deleted it meanwhile"):
        asyncio.run(both())


ADD = """
    import sys
    from aifs_vision import AIFSVisualRAGStore

    name, key, url, *pages = sys.argv[1:]
    print("begin", flush=True)
    sys.stdin.readline()
    sources = [(page, f"<!doctype html><html><p>Page {page} of the tables".encode()) for page in pages]
    files = AIFSVisualRAGStore(name, api_key=key, base_url=url).add(sources)
    print(*(file.status for file in files))
"""


def test_three_real_processes(server: Emulator) -> None:
    """Three processes add the same at one moment: all succeed, and each content is found once."""
    store = AIFSVisualRAGStore(f"store {uuid4().hex[:6]}", api_key=server.api_key, base_url=server.base_url)
    pages = [f"{number}.html" for number in range(4)]
    command = [sys.executable, "-c", inspect.cleandoc(ADD), store.name, server.api_key, server.base_url, *pages]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for each in started:
        assert each.stdout is not None
        assert each.stdout.readline() == "begin\n"
    server.fail("slow", seconds=0.5, times=3, path="/v1/files")  # all have looked before the first one uploads
    for each in started:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    said = [each.communicate() for each in started]
    assert said == [("completed completed completed completed\n", "")] * 3
    assert sorted(file.filename for file in store.files()) == pages
    assert sorted(hit.filename for hit in store.search("tables", k=9)) == pages
    store.drop()


# -- Threads and tasks -------------------------------------------------------------------------------------


def uploads(server: Emulator) -> int:
    """How many files were uploaded."""
    return [(request.method, request.path) for request in server.requests].count(("POST", "/v1/files"))


@pytest.mark.parametrize("objects", ["one object", "an object each"])
@pytest.mark.parametrize("calls", ["threads", "tasks"])
def test_in_one_process_a_content_is_uploaded_once(server: Emulator, calls: str, objects: str) -> None:
    """However many threads or tasks add the same at the same time: it is uploaded once, and one call has added it."""
    name = f"store {uuid4().hex[:6]}"
    made = [AIFSVisualRAGStore(name, api_key=server.api_key, base_url=server.base_url) for _ in range(4)]
    stores = made[:1] * 4 if objects == "one object" else made
    made[0].add([])
    if calls == "threads":
        with ThreadPoolExecutor(4) as threads:
            results = list(threads.map(lambda store: store.add(PAGES), stores))
    else:

        async def all_of_them() -> list[list[VisualFile]]:
            return list(await asyncio.gather(*(store.aadd(PAGES) for store in stores)))

        results = asyncio.run(all_of_them())
    assert uploads(server) == len(PAGES)
    for files in zip(*results, strict=True):
        assert len({file.id for file in files}) == 1
        assert sorted(str(file.change) for file in files) == ["added", "unchanged", "unchanged", "unchanged"]
    assert len(made[0].files()) == len(PAGES)
    assert len({hit.id for hit in made[0].search("tide", k=20)}) == len(made[0].search("tide", k=20)) == len(PAGES)
    made[0].drop()


def test_what_was_deleted_while_another_adds_is_added_again() -> None:
    """What a long add has put there, and somebody has deleted since, is no reason for a later add to leave it out."""
    service = Service((0,), IDS["rising"](), held=math.inf)

    async def all_of_it() -> VisualFile:
        store = process("a")
        adding = asyncio.ensure_future(store.aadd(PAGES[1:], timeout=LONG))
        first = asyncio.ensure_future(store.aadd(PAGES[:1], timeout=LONG))
        await present(store, len(PAGES))
        await store.adelete("1.html")
        again = asyncio.ensure_future(store.aadd(PAGES[1], timeout=LONG))
        service.held = 30  # looks of all three, so many that the last one has uploaded
        await first
        await asyncio.wait([adding])
        (file,) = await again
        return file

    with virtual_time(service):
        file = asyncio.run(all_of_it())
    assert (file.change, file.status) == ("added", "completed")
    assert len(contents(service)) == len(PAGES)
