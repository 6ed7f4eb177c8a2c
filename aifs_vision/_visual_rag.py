"""The service's Visual RAG: stores of documents that are found by their text and by the looks of their pages."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, Literal, get_args

from aifs_vision._api_errors import NotFoundError
from aifs_vision._catalogue import model_card
from aifs_vision._errors import ResidencyError, SettingsError
from aifs_vision._guards import ImageLimits
from aifs_vision._limits import Limits
from aifs_vision._loop import call, call_async
from aifs_vision._settings import resolve
from aifs_vision._visual_adding import Adding
from aifs_vision._visual_files import spread
from aifs_vision._visual_hits import VisualHit, hits_of
from aifs_vision._visual_service import VisualService, quoted, visual_rag_of
from aifs_vision._visual_shelf import Shelf, VisualFile, listed, made, meant, not_there, oldest, removed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aifs_vision._sources import Source

__all__ = ["AIFSVisualRAGStore"]

_TEXT_MODEL, _VISION_MODEL = "text-embedding-bge-m3", "tsi-embedding-colqwen2-2b-v1"
_GERMAN = frozenset({_VISION_MODEL})  # T-Systems' own, on T-Cloud in Germany; the price list does not have it
OnError = Literal["raise", "skip", "keep"]


class AIFSVisualRAGStore:
    """A store of the service's Visual RAG, by its name; a value, safe to share among threads and loops.

        store = AIFSVisualRAGStore("manuals")
        store.add("manuals/")                                 # what is in it already is not uploaded again
        for hit in store.search("How is the float changed?", k=4, k_images=2):
            print(hit.filename, hit.page, hit.modality, hit.text)

    PDF, PPTX, DOCX, HTML and PNG files are taken, told by their bytes; pictures of other formats are turned into PNG,
    and those with several pages into PDF. Pictures lose their metadata before they are sent; documents are sent as
    they are. A key needs the Visual RAG, which is in beta, enabled.

    Args:
        name: of the store. It is made by the first `add()`; stores of one name are one, and the oldest counts.
        api_key, base_url, residency, timeout: as for `Vision`; requests go to the `/v1` beside the `/v2` of
            `base_url`. `timeout` is for one request.
        limits: how many requests may be sent a minute and be under way at once; None for eight under way.
        text_embedding_model, vision_embedding_model: what a store is indexed with when it is made.
        chunk_size, chunk_overlap: tokens of a passage, and how many of them the next one repeats.
        image_limits: how large files may be that are opened.

    Raises:
        SettingsError: no key, or a setting that cannot be right.
        ResidencyError: a region of one of the models is unknown or not allowed.
    """

    def __init__(
        self,
        name: str,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        residency: str | None = None,
        limits: Limits | None = None,
        timeout: float = 120.0,
        text_embedding_model: str = _TEXT_MODEL,
        vision_embedding_model: str = _VISION_MODEL,
        chunk_size: int = 1024,
        chunk_overlap: int = 100,
        image_limits: ImageLimits | None = None,
    ) -> None:
        if not _is_text(name):
            raise SettingsError.bad_value("name", name, "it is a text that names the store")
        if not _is_count(chunk_size, 1):
            raise SettingsError.bad_value("chunk_size", chunk_size, "it is a number of tokens, 1 or more")
        if not _is_count(chunk_overlap, 0) or chunk_overlap >= chunk_size:
            raise SettingsError.bad_value("chunk_overlap", chunk_overlap, "it is at least 0 and below chunk_size")
        settings = resolve(api_key=api_key, base_url=base_url, residency=residency, timeout=timeout)
        for model in (text_embedding_model, vision_embedding_model):
            card = model_card(model)
            if not card.allowed_in(settings.residency) and model not in _GERMAN:
                raise ResidencyError(model, card.region, str(settings.residency))
        self._state: dict[str, Any] = {
            "name": name,
            "base_url": settings.base_url,
            "residency": settings.residency,
            "limits": Limits.chosen(limits or Limits(in_flight=8), model_card(text_embedding_model), "essential"),
            "timeout": settings.timeout,
            "text_embedding_model": text_embedding_model,
            "vision_embedding_model": vision_embedding_model,
            "chunk_size": chunk_size,
            "chunk_overlap": chunk_overlap,
            "image_limits": image_limits or ImageLimits(),
        }
        self._service = VisualService(settings=visual_rag_of(settings), limits=self._state["limits"])
        self._id: str | None = None  # once it is known

    @property
    def name(self) -> str:
        """The name of the store."""
        return str(self._state["name"])

    @property
    def base_url(self) -> str:
        """The address requests go to, which ends in `/v1`."""
        return self._service.settings.base_url

    @property
    def residency(self) -> str | None:
        """Where models may be, None for anywhere."""
        return self._service.settings.residency

    def __repr__(self) -> str:
        return f"AIFSVisualRAGStore({self.name!r}, base_url={self._state['base_url']!r})"

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the key: whoever unpickles it takes the key from its own environment."""
        return dict(self._state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __deepcopy__(self, memo: dict[int, Any]) -> AIFSVisualRAGStore:
        return self

    # -- Files -----------------------------------------------------------------------------------------------

    def add(
        self,
        sources: Source | Iterable[Source],
        *,
        on_error: OnError = "raise",
        progress: bool = False,
        timeout: float = 600.0,
    ) -> list[VisualFile]:
        """Uploads what is new, and waits until the service has ingested it.

        A content that the store has is not uploaded again, under whatever name; an edited file replaces the version
        that was added from the same source (the path, or name, as given), once the new one is ingested. Any number
        of processes may add to one store at the same time; of versions of one source that they add, one stays.

        Of two sources with the same content the store has the first one's file alone: when that is edited and added
        alone, the second one's is lost until it is added again. Nothing is lost where each `add()` gets them all.

        Args:
            sources: one source, or several: paths, bytes, file objects, PIL images, `(name, bytes)`; a folder is all
                files below it that can be added.
            on_error: for files that cannot be read, or that the service does not take: "raise" the first one's
                error, "skip" them with a line in the log, or "keep" them in the list, with their `error`.
            progress: lines on stderr that tell how many files are done.
            timeout: seconds to wait for the ingestion, counted anew whenever a file is done.

        Returns:
            The files, in the order of their sources; their `change` says what was done.

        Raises:
            ImageError: a source that cannot be read, or that Visual RAG does not take.
            SettingsError: `(name, bytes)` of one name with different contents; nothing was sent.
            NotFoundError: somebody has deleted a file while it was waited for.
            APITimeoutError: the ingestion takes longer; it goes on, and another `add()` waits for the rest.
            APIError: the service did not answer, or refused; 401 and 403 are raised whatever `on_error` says.
        """
        return call(self._add(sources, on_error, timeout, progress=progress))

    async def aadd(
        self,
        sources: Source | Iterable[Source],
        *,
        on_error: OnError = "raise",
        progress: bool = False,
        timeout: float = 600.0,
    ) -> list[VisualFile]:
        """The asynchronous twin of `add()`."""
        return await call_async(self._add(sources, on_error, timeout, progress=progress))

    async def _add(
        self, sources: Source | Iterable[Source], on_error: OnError, timeout: float, *, progress: bool
    ) -> list[VisualFile]:
        if on_error not in get_args(OnError):
            raise SettingsError.bad_choice("on_error", on_error, get_args(OnError))
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < float("inf"):
            raise SettingsError.bad_value("timeout", timeout, "it is a number of seconds above 0")
        given = await asyncio.to_thread(spread, sources)
        adding = Adding(
            self._shelf(await self._made()),
            chunking={name: self._state[name] for name in ("chunk_size", "chunk_overlap")},
            timeout=timeout,
            image_limits=self._state["image_limits"],
            progress=progress,
        )
        return await adding.run(given, on_error)

    def files(self) -> list[VisualFile]:
        """The files in the store, also those that others have put there; none where there is no such store yet.

        Raises:
            APIError: the service did not answer, or refused.
        """
        return call(self._files())

    async def afiles(self) -> list[VisualFile]:
        """The asynchronous twin of `files()`."""
        return await call_async(self._files())

    async def _files(self) -> list[VisualFile]:
        identifier = await self._found()
        if identifier is None:
            return []
        inside, _ = await listed(self._shelf(identifier))
        return [entry.shown() for entry in inside]

    def delete(self, *files: str | os.PathLike[str] | VisualFile) -> list[VisualFile]:
        """Takes files out of the store, and deletes those that it has uploaded.

        Args:
            files: as `files()` lists them, or by id, by source as given to `add()`, or, where there is no such
                source, by the file name without its folder.

        Returns:
            The files that were deleted.

        Raises:
            NotFoundError: one of them is not in the store; then none was deleted.
            SettingsError: files of several sources have the name, and none has it as its source; none was deleted.
            APIError: the service did not answer, or refused.
        """
        return call(self._delete(files))

    async def adelete(self, *files: str | os.PathLike[str] | VisualFile) -> list[VisualFile]:
        """The asynchronous twin of `delete()`."""
        return await call_async(self._delete(files))

    async def _delete(self, files: tuple[str | os.PathLike[str] | VisualFile, ...]) -> list[VisualFile]:
        shelf = self._shelf(await self._there())
        inside, _ = await listed(shelf)
        chosen = []
        for file in files:
            asked = file.id if isinstance(file, VisualFile) else os.fspath(file)
            found = meant(inside, asked)
            if not found:
                raise not_there(f"There is no file {asked!r} in the store {self.name!r}; files() lists them")
            chosen += [entry for entry in found if entry not in chosen]
        await removed(shelf, *chosen)
        return [entry.shown() for entry in chosen]

    def drop(self) -> None:
        """Deletes the store, and the files that it has uploaded; nothing happens where there is none.

        Raises:
            APIError: the service did not answer, or refused.
        """
        call(self._drop())

    async def adrop(self) -> None:
        """The asynchronous twin of `drop()`."""
        await call_async(self._drop())

    async def _drop(self) -> None:
        identifier = await self._found()
        if identifier is None:
            return
        inside, outside = await listed(self._shelf(identifier))
        await self._service.delete(f"/vector_stores/{quoted(identifier)}")
        self._id = None
        for entry in [*inside, *outside]:
            entry.status = None  # it is in no store any more
        await removed(self._shelf(identifier), *inside, *outside)

    # -- Search ----------------------------------------------------------------------------------------------

    def search(self, query: str, *, k: int = 4, k_images: int = 0) -> list[VisualHit]:
        """The passages and page pictures nearest to a question: first the texts, then the pictures, best first.

        What is found twice, such as a line that a page repeats, is given once; then there are fewer hits than asked
        for.

        Args:
            query: the question.
            k: how many passages of text, at most.
            k_images: how many pictures of pages, at most.

        Raises:
            SettingsError: an empty question, or numbers that ask for nothing.
            NotFoundError: there is no such store; `add()` makes it.
            APIError: the service did not answer, or refused.
        """
        return call(self._search(query, k, k_images))

    async def asearch(self, query: str, *, k: int = 4, k_images: int = 0) -> list[VisualHit]:
        """The asynchronous twin of `search()`."""
        return await call_async(self._search(query, k, k_images))

    async def _search(self, query: str, k: int, k_images: int) -> list[VisualHit]:
        if not _is_text(query):
            raise SettingsError.bad_value("query", query, "it is a question in words")
        for name, value in (("k", k), ("k_images", k_images)):
            if not _is_count(value, 0):
                raise SettingsError.bad_value(name, value, "it is a whole number, 0 or more")
        if not k + k_images:
            raise SettingsError.bad_value("k", k, "one of k and k_images is at least 1")
        asked: dict[str, Any] = {"query": query}
        asked |= {field: value for field, value in (("top_k_texts", k), ("top_k_images", k_images)) if value}
        known = self._id is not None
        try:
            answer = await self._ask(asked)
        except NotFoundError:
            if not known:
                raise
            self._id = None  # somebody has dropped it, and perhaps made it anew
            answer = await self._ask(asked)
        return hits_of(answer, self.name, k, k_images)

    async def _ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        return await self._service.post(f"/vector_stores/{quoted(await self._there())}/search", asked)

    # -- The store by its name -------------------------------------------------------------------------------

    def _shelf(self, identifier: str) -> Shelf:
        return Shelf(service=self._service, name=self.name, id=identifier)

    async def _found(self) -> str | None:
        """The id of the store, asked for anew; None where there is none."""
        self._id = await oldest(self._service, self.name)
        return self._id

    async def _there(self) -> str:
        """The id of the store; it is not asked for again once it is known."""
        identifier = self._id or await self._found()
        if identifier is None:
            raise not_there(f"There is no store {self.name!r} at {self.base_url}; add() makes it")
        return identifier

    async def _made(self) -> str:
        """The id of the store, which is made where there is none."""
        names = ("text_embedding_model", "vision_embedding_model")
        found = await self._found()
        self._id = found or await made(self._service, self.name, {name: self._state[name] for name in names})
        return self._id


def _is_text(value: object) -> bool:
    """Whether there is something in a text, and nothing that UTF-8 has not, such as half of a character."""
    return isinstance(value, str) and bool(value.strip()) and value.encode(errors="replace").decode() == value


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
