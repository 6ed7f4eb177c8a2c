"""Versions of one source in a Visual RAG store: one stays, whoever adds them, and whoever adds at the same time."""

from __future__ import annotations

import asyncio
import io
import math
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import TYPE_CHECKING

import pytest

from aifs_vision import AIFSVisualRAGStore, NotFoundError, SettingsError, VisualFile
from aifs_vision.testing import virtual_time
from tests.office import html
from tests.test_visual_together import IDS, LONG, Service, contents, present, process

if TYPE_CHECKING:
    from aifs_vision.emulator import Emulator

OLD, NEW, NEXT = (html(f"The price of a tide table is {pounds} pounds") for pounds in (10, 20, 30))


def price(data: bytes) -> tuple[str, bytes]:
    """A version of the one source here."""
    return "price.html", data


def ids_of(service: Service) -> list[str]:
    """The files in the store."""
    return list(service.inside)


# -- One after the other -----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", IDS)
def test_the_version_added_last_stays(order: str) -> None:
    """A later add has the newer version, also within a second of the service's clock, and where an edit is undone."""
    service = Service((0, 0), IDS[order]())
    seen = False
    with virtual_time(service):
        for host, data in (("a", OLD), ("b", NEW), ("a", OLD), ("a", NEW), ("b", NEXT)):
            (file,) = process(host).add(price(data))
            assert ids_of(service) == [file.id]
            assert file.change == ("replaced" if seen else "added")
            (again,) = process(host).add(price(data))
            assert (again.id, again.change) == (file.id, "unchanged")
            seen = True
    assert sorted(service.files) == sorted(service.inside)


def test_an_edit_that_is_taken_back_while_both_are_there() -> None:
    """Of two versions in the store that is left which is added next, also the lower one; nothing else remains."""
    for data in (OLD, NEW):
        service = Service((0,) * 5, IDS["rising"](), held=math.inf)

        async def broken_off(service: Service = service) -> None:
            adds = [asyncio.ensure_future(process(host).aadd(price(each))) for host, each in (("a", OLD), ("b", NEW))]
            await present(process("c"), 2)
            for add in adds:
                add.cancel()
            await asyncio.wait(adds)
            service.held = 0

        with virtual_time(service):
            asyncio.run(broken_off())
            assert len(service.inside) == 2
            (file,) = process("d").add(price(data))
            assert ids_of(service) == list(service.files) == [file.id]
            assert [each.change for each in process("e").add([price(data)])] == ["unchanged"]


# -- At the same time --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(100))
def test_of_versions_added_at_any_pace_one_stays(seed: int) -> None:
    """However long each request takes: no add fails, and one version is left, which an add has put there."""
    chance = Random(seed)  # noqa: S311 - no secret
    begins = [chance.uniform(0, 3) for _ in range(chance.randint(2, 5))]
    service = Service(begins, IDS[chance.choice(list(IDS))](), chance=chance)
    versions = {host: chance.choice((OLD, NEW, NEXT)) for host in service.begins}
    ended: list[VisualFile] = []

    async def one(host: str) -> None:
        ended.extend(await process(host).aadd(price(versions[host])))

    async def all_of_them() -> None:
        await asyncio.gather(*map(one, versions))

    with virtual_time(service):
        asyncio.run(all_of_them())
    assert {file.status for file in ended} == {"completed"}
    (left,) = ids_of(service)
    assert list(service.files) == [left]
    assert left in {file.id for file in ended}


@pytest.mark.parametrize("objects", ["one object", "an object each"])
def test_of_versions_added_in_threads_one_stays(server: Emulator, store: AIFSVisualRAGStore, objects: str) -> None:
    """In one process likewise; whose version does not stay is told so, with the file of the one that does."""
    made = [AIFSVisualRAGStore(store.name, api_key=server.api_key, base_url=server.base_url) for _ in range(4)]
    stores = [store] * 4 if objects == "one object" else made
    store.add([])
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda pair: pair[0].add(price(pair[1])), zip(stores, (OLD, NEW) * 2, strict=True)))
    (left,) = store.files()
    assert {file.status for files in results for file in files} == {"completed"}
    assert left.id in {file.id for files in results for file in files}
    assert {file.id for files in results for file in files if file.change == "superseded"} <= {left.id}
    assert len(store.search("What does a table cost?", k=9)) == 1


def replaced_meanwhile(first: tuple[str, bytes]) -> tuple[VisualFile, Service]:
    """What an add gets that waits for the old version, which another process replaces before it is looked at again."""
    service = Service((0,) * 5, IDS["rising"](), held=math.inf)

    async def both() -> VisualFile:
        earlier = asyncio.ensure_future(process("c").aadd(price(OLD), timeout=LONG))
        await present(process("d"), 1)
        earlier.cancel()
        (old,) = service.inside
        adding = asyncio.ensure_future(process("a").aadd(first, timeout=LONG, on_error="keep"))
        for _ in range(20):  # until it waits
            await present(process("d"), 1)
        other = asyncio.ensure_future(process("b").aadd(price(NEW), timeout=LONG))
        await present(process("d"), 2)
        del service.files[old], service.inside[old]
        service.held = 0
        await other
        return (await adding)[0]

    with virtual_time(service):
        return asyncio.run(both()), service


def test_a_version_that_is_replaced_while_it_is_waited_for() -> None:
    """That is no error: the change is "superseded", and the file the one that has replaced it."""
    file, service = replaced_meanwhile(price(OLD))
    assert (file.error, file.change, file.status, file.source) == (None, "superseded", "completed", "price.html")
    assert ids_of(service) == [file.id]


def test_a_content_that_goes_with_anothers_version_is_told() -> None:
    """Whose content was in another source's file, which was replaced, is told to add it again."""
    file, service = replaced_meanwhile(("copy.html", OLD))
    assert isinstance(file.error, NotFoundError)
    assert str(file.error) == ("'price.html' is not in the store: somebody has deleted it meanwhile; add it again.")
    assert len(contents(service)) == 1


# -- In one call -------------------------------------------------------------------------------------------


def test_two_contents_under_one_name_are_an_error(server: Emulator, store: AIFSVisualRAGStore) -> None:
    """Neither is taken in silence: nothing is sent, whatever on_error says; the same content twice is no matter."""
    with pytest.raises(SettingsError, match=r"sources='price\.html' .* two contents have this name"):
        store.add([price(OLD), ("other.html", NEXT), price(NEW)], on_error="skip")
    assert not server.requests
    first, second = store.add([price(OLD), price(OLD)])
    assert first.id == second.id
    assert len(store.files()) == 1


def test_of_files_that_are_read_twice_one_version_stays(store: AIFSVisualRAGStore) -> None:
    """What only reading shows to be two versions of a source, such as a file edited meanwhile, is so treated."""
    files = [io.BytesIO(data) for data in (OLD, NEW)]
    for file in files:
        file.name = "price.html"
    results = store.add(files)
    (left,) = store.files()
    assert [file.id for file in results] == [left.id] * 2
    assert sorted(str(file.change) for file in results) == ["replaced", "superseded"]
