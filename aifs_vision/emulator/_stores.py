"""`/v1`, the Visual RAG: files, vector stores, and the search in them; kept for as long as the emulator runs."""

from __future__ import annotations

import itertools
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from aifs_vision.emulator._checks import Refused
from aifs_vision.emulator._documents import SUFFIXES, UnreadableError, kind_of
from aifs_vision.emulator._multipart import parts_of
from aifs_vision.emulator._ocr import TextReader
from aifs_vision.emulator._shelf import Indexer
from aifs_vision.emulator._store_checks import check_attaching, check_search, check_store
from aifs_vision.emulator._store_objects import PURPOSE, Member, Store, StoredFile, page

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Future

    from starlette.requests import Request

    from aifs_vision.emulator._embeddings import Embedder
    from aifs_vision.emulator._log import LoggedRequest
    from aifs_vision.emulator._shelf import Entry

    Endpoint = Callable[[Request, LoggedRequest], Awaitable[dict[str, Any]]]

__all__ = ["Stores"]

_log = logging.getLogger("aifs_vision.emulator")


class Stores:
    """Files and vector stores of one emulator; its endpoints run on the server's loop, ingestion in a thread."""

    def __init__(self, *, ocr: bool, embedder: Embedder, work: Callable[..., Awaitable[Any]]) -> None:
        self._work, self._closing = work, False
        self._indexer = Indexer(embedder=embedder, reader=TextReader() if ocr else None, unwanted=lambda: self._closing)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="aifs-emulator-ingestion")
        self._lock = threading.Lock()  # the ingestion writes what the endpoints read
        self._files: dict[str, StoredFile] = {}
        self._stores: dict[str, Store] = {}
        self._numbers = itertools.count()  # newest last, also within a second

    def close(self) -> None:
        """Ends the ingestion."""
        self._closing = True
        self._pool.shutdown(cancel_futures=True)

    def endpoints(self) -> list[tuple[str, str, Endpoint]]:
        """Path, method and function of each endpoint; a function gives the JSON of its answer."""
        store = "/vector_stores/{store}"
        return [
            ("/files", "POST", self._upload),
            ("/files", "GET", self._list_files),
            ("/files/{file}", "GET", self._file),
            ("/files/{file}", "DELETE", self._delete_file),
            ("/vector_stores", "POST", self._make),
            ("/vector_stores", "GET", self._list_stores),
            (store, "GET", self._store),
            (store, "DELETE", self._delete_store),
            (f"{store}/files", "POST", self._attach),
            (f"{store}/files", "GET", self._list_members),
            (f"{store}/files/{{file}}", "GET", self._member),
            (f"{store}/files/{{file}}", "DELETE", self._detach),
            (f"{store}/search", "POST", self._search),
        ]

    # -- Files -----------------------------------------------------------------------------------------------

    async def _upload(self, request: Request, logged: LoggedRequest) -> dict[str, Any]:
        parts = parts_of(request.headers.get("content-type", ""), await request.body())
        if strange := sorted(set(parts) - {"file", "purpose"}):
            raise Refused(400, f"Unrecognized request argument supplied: {', '.join(strange)}")
        purpose = parts["purpose"].data.decode("utf-8", "replace") if "purpose" in parts else None
        if purpose != PURPOSE:
            raise Refused(400, f"body.purpose: Input should be {PURPOSE!r}, not {purpose!r}")
        if "file" not in parts or not parts["file"].filename:
            raise Refused(400, "body.file: Field required, with a filename")
        data, name = parts["file"].data, parts["file"].filename
        logged.body = {"purpose": purpose, "filename": name, "bytes": len(data)}
        kind = kind_of(data)
        if kind is None:
            raise Refused(400, f"the file {name!r} is not supported: it is none of {', '.join(SUFFIXES)}")
        if not name.lower().endswith(SUFFIXES[kind]):
            raise Refused(400, f"the file {name!r} is {kind}, and its name says otherwise")
        file = StoredFile(name=name, kind=kind, data=data, number=next(self._numbers))
        self._files[file.id] = file
        return file.shown()

    async def _list_files(self, request: Request, _logged: LoggedRequest) -> dict[str, Any]:
        purpose = request.query_params.get("purpose", PURPOSE)
        files = self._files.values() if purpose == PURPOSE else ()
        return page(request.query_params, files, more=("purpose",))

    async def _file(self, request: Request, _logged: LoggedRequest) -> dict[str, Any]:
        return self._known_file(request.path_params["file"]).shown()

    async def _delete_file(self, request: Request, _logged: LoggedRequest) -> dict[str, Any]:
        """A file that is deleted is found in no store any more."""
        file = self._known_file(request.path_params["file"])
        with self._lock:
            del self._files[file.id]
            for store in self._stores.values():
                store.members.pop(file.id, None)
        return {"id": file.id, "object": "file.deleted", "deleted": True}

    def _known_file(self, file: str) -> StoredFile:
        if file not in self._files:
            raise Refused(404, f"No such File object: {file}")
        return self._files[file]

    # -- Stores ----------------------------------------------------------------------------------------------

    async def _make(self, _request: Request, logged: LoggedRequest) -> dict[str, Any]:
        store = Store(name=check_store(logged.body), number=next(self._numbers))
        self._stores[store.id] = store
        return store.shown()

    async def _list_stores(self, request: Request, _logged: LoggedRequest) -> dict[str, Any]:
        return page(request.query_params, self._stores.values())

    async def _store(self, request: Request, _logged: LoggedRequest) -> dict[str, Any]:
        return self._known(request).shown()

    async def _delete_store(self, request: Request, _logged: LoggedRequest) -> dict[str, Any]:
        """A store goes, its files stay."""
        store = self._known(request)
        with self._lock:
            del self._stores[store.id]
            store.members.clear()
        return {"id": store.id, "object": "vector_store.deleted", "deleted": True}

    def _known(self, request: Request) -> Store:
        store = request.path_params["store"]
        if store not in self._stores:
            raise Refused(404, f"Vector store with id {store!r} not found.")
        return self._stores[store]

    # -- Files in stores -------------------------------------------------------------------------------------

    async def _attach(self, request: Request, logged: LoggedRequest) -> dict[str, Any]:
        """A file that is there already is left as it is."""
        store = self._known(request)
        file_id, chunking = check_attaching(logged.body)
        file = self._known_file(file_id)
        if file.id not in store.members:
            member = Member(file=file, store=store.id, chunking=chunking, number=next(self._numbers))
            store.members[file.id] = member
            work = self._pool.submit(self._indexer.entries, file.data, file.kind, chunking)
            work.add_done_callback(lambda done: self._ingested(member, done))
        return store.members[file.id].shown()

    def _ingested(self, member: Member, done: Future[list[Entry]]) -> None:
        if done.cancelled():
            return
        error = done.exception()
        with self._lock:
            if error is None:
                member.status, member.entries = "completed", done.result()
            else:
                known = isinstance(error, UnreadableError)
                words = str(error) if known else f"the emulator failed: {type(error).__name__}: {error}"
                member.error = {"code": "invalid_file" if known else "server_error", "message": words}
                member.status = "failed"
        if error is not None and not isinstance(error, UnreadableError):
            _log.error("the ingestion of %r failed", member.file.name, exc_info=error)

    async def _list_members(self, request: Request, _logged: LoggedRequest) -> dict[str, Any]:
        with self._lock:
            return page(request.query_params, self._known(request).members.values())

    async def _member(self, request: Request, _logged: LoggedRequest) -> dict[str, Any]:
        return self._known_member(request).shown()

    async def _detach(self, request: Request, _logged: LoggedRequest) -> dict[str, Any]:
        member = self._known_member(request)
        with self._lock:
            del self._stores[member.store].members[member.file.id]
        return {"id": member.file.id, "object": "vector_store.file.deleted", "deleted": True}

    def _known_member(self, request: Request) -> Member:
        store, file = self._known(request), request.path_params["file"]
        if file not in store.members:
            raise Refused(404, f"No file found with id {file!r} in vector store {store.id!r}.")
        return store.members[file]

    # -- Search ----------------------------------------------------------------------------------------------

    async def _search(self, request: Request, logged: LoggedRequest) -> dict[str, Any]:
        store = self._known(request)
        query, texts, images = check_search(logged.body)
        (vector,) = await self._work(self._indexer.vectors, [query])
        with self._lock:
            all_found = [(entry, member) for member in store.members.values() for entry in member.entries]
        scored = [(float(vector @ entry.vector), entry, member) for entry, member in all_found]
        best = sorted(scored, key=lambda found: -found[0])
        hits = [found for found in best if found[1].kind == "text"][:texts]
        hits += [found for found in best if found[1].kind == "base64"][:images]
        return {
            "object": "vector_store.search_results.page",
            "search_query": query,
            "data": [
                {
                    "filename": member.file.name,
                    "page_number": entry.page,
                    "score": score,
                    "content": [{"type": entry.kind, "text": entry.content}],
                }
                for score, entry, member in hits
            ],
            "has_more": False,
            "next_page": None,
        }
