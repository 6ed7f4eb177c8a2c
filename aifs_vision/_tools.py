"""`VisionTools`: what agents do with images below one folder; the tools of both frameworks and of MCP are these."""

from __future__ import annotations

import asyncio
import json
import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, Field, ValidationError, create_model

from aifs_vision._api_errors import (
    AnswerError,
    AuthenticationError,
    BudgetError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExceededError,
)
from aifs_vision._engine import Vision
from aifs_vision._errors import AIFSError, ImageError, ImageNotFoundError, SettingsError
from aifs_vision._given_paths import shown_path
from aifs_vision._jail import Jail
from aifs_vision._loop import call, call_async
from aifs_vision._retrieval import FoundPages, is_page_name, page_name
from aifs_vision._sources import SourcePages
from aifs_vision._tasks import Task
from aifs_vision._tool_forms import ANY_TOOL, LONGEST_NAME, SEARCH, ToolForm
from aifs_vision._visual_rag import AIFSVisualRAGStore

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from aifs_vision._readings import Reading
    from aifs_vision._sources import Source
    from aifs_vision._visual_hits import VisualHit

__all__ = ["ToolResult", "VisionTools"]

_MAX_BYTES = 32 * 2**20
_MAX_CHARS = 4_000  # of a result: about a thousand tokens
_LISTED = 100  # files
_PASSAGE = 600  # characters of a hit
# What no model can help: the key, the plan, the contract, the budget, and a name that is not there.
_HOPELESS = (AuthenticationError, PermissionDeniedError, QuotaExceededError, BudgetError, NotFoundError, SettingsError)


@dataclass(frozen=True, kw_only=True)
class ToolResult:
    """What a tool gives back: a short text for the model, and the facts for the program around it.

    Attributes:
        text: the result, or what went wrong and what to do about it; of bounded length.
        ok: whether it is a result.
        artifact: plain JSON. Of a reading: source, page, total_pages, status, text, data, model, cost_eur, usage; of a
            search: hits; of a listing: the files that are listed, and in `more` how many are not; of a failure: error.
    """

    text: str
    ok: bool = True
    artifact: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.text


class VisionTools:
    """Tools for agents: list, caption, read, ask, extract and, with a store, search.

        tools = VisionTools("scans/")
        result = tools.run("ask_image", {"image": "bill.png", "question": "What is the total?"})
        print(result.text, result.artifact["cost_eur"])

    Whatever a model asks for, nothing but regular files below `root` is opened: no links, no hidden files, no files of
    other users, no addresses. A hard link below `root` is a file there, so nobody else may write into the folder.
    Pictures of pages that a search has found can be looked at by the names that its result gives them, the last 64 MB
    of them by whoever calls. Every failure is a result whose text says what to do; `run` raises for nothing that a
    model can do.

    Args:
        root: the folder.
        vision: who reads the images; or give its options, such as `model=...`.
        store: a Visual RAG store, for `search_images`; without one there is no such tool.
        max_bytes: how large a file may be.
        max_chars: how long the text of a result may be; the artifact of a reading or search has the whole.

    Raises:
        SettingsError: there is no such folder, no key, or a setting that cannot be right.
        TypeError: both `vision` and options of one, or an unknown option.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        vision: Vision | None = None,
        store: AIFSVisualRAGStore | None = None,
        max_bytes: int = _MAX_BYTES,
        max_chars: int = _MAX_CHARS,
        **vision_options: Any,
    ) -> None:
        for name, value, least in (("max_bytes", max_bytes, 1), ("max_chars", max_chars, 200)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise SettingsError.bad_value(name, value, f"it is a whole number, {least} or more")
        if store is not None and not isinstance(store, AIFSVisualRAGStore):
            raise TypeError(f"store={store!r} is not an AIFSVisualRAGStore")
        self._jail = Jail(root, max_bytes=max_bytes)
        self._vision, self._store, self._max_chars = Vision.of(vision, **vision_options), store, max_chars
        self._pages = FoundPages()

    @property
    def root_name(self) -> str:
        """The name of the folder, without where it is."""
        return self._jail.name

    @property
    def searches(self) -> bool:
        """Whether there is a store to search."""
        return self._store is not None

    @property
    def forms(self) -> tuple[ToolForm, ...]:
        """The tools: their names, descriptions and arguments."""
        return ANY_TOOL if self._store is None else (*ANY_TOOL, SEARCH)

    def run(
        self, name: str, arguments: Mapping[str, Any], *, pictures: Mapping[str, bytes | str] | None = None
    ) -> ToolResult:
        """Does what a model has asked for.

        Args:
            name: of the tool.
            arguments: as the model gave them; what is wrong with them is told to it.
            pictures: those that the conversation holds, by name: bytes or data URIs.
        """
        return call(self._run(name, arguments, pictures or {}))

    async def arun(
        self, name: str, arguments: Mapping[str, Any], *, pictures: Mapping[str, bytes | str] | None = None
    ) -> ToolResult:
        """The asynchronous twin of `run()`."""
        return await call_async(self._run(name, arguments, pictures or {}))

    def __repr__(self) -> str:
        return f"VisionTools({self.root_name!r}, vision={self._vision!r})"

    async def _run(self, name: str, arguments: Mapping[str, Any], pictures: Mapping[str, bytes | str]) -> ToolResult:
        form = next((form for form in self.forms if form.name == name), None)
        if form is None:
            return _failed(f"There is no tool {shown_path(name)!r}; there are {', '.join(f.name for f in self.forms)}.")
        try:
            given = form.arguments.model_validate(dict(arguments))
        except (ValidationError, TypeError, ValueError) as error:
            return _failed(f"{name}: {_faults(error)} Call it again with arguments that fit.")
        try:
            done = await getattr(self, f"_{name}")(given, pictures)
        except AnswerError as error:
            done = _of_failed_reading(error.reading, str(error))
        except AIFSError as error:
            done = _failed(_advice(error), kind=type(error).__name__)
        return ToolResult(text=_cut(done.text, self._max_chars), ok=done.ok, artifact=done.artifact)

    # -- The tools -----------------------------------------------------------------------------------------------

    async def _list_images(self, given: Any, pictures: Mapping[str, bytes | str]) -> ToolResult:
        files, whole = await asyncio.to_thread(self._jail.files, given.folder)
        last = _from_root(given.after, given.folder)
        left = [file for file in files if file.path > last]
        shown = [] if given.after else _shown_names(list(pictures), self._max_chars // 2)
        for count in range(min(_LISTED, len(left)), min(len(left), 1) - 1, -1):
            lines = [*shown, *(file.line for file in left[:count])]
            if more := len(left) - count:
                least = "" if whole else " at least"
                lines.append(f"... and {more}{least} more. Call list_images again with the last path above as after.")
            elif not whole:
                lines.append(
                    "... and perhaps more: not all folders were looked at. Name a folder to see what is in it."
                )
            if not left:
                place = shown_path(given.folder or self.root_name)
                lines.append(f"No {'more ' if given.after else ''}images in {place!r}.")
            if len(text := "\n".join(lines)) <= self._max_chars:
                break
        told = [{"path": file.path, "bytes": file.size} for file in left[:count]]
        return ToolResult(text=text, artifact={"files": told, "more": more})

    async def _caption_image(self, given: Any, pictures: Mapping[str, bytes | str]) -> ToolResult:
        return await self._read(given, "caption", pictures)

    async def _read_text(self, given: Any, pictures: Mapping[str, bytes | str]) -> ToolResult:
        return await self._read(given, "ocr", pictures)

    async def _ask_image(self, given: Any, pictures: Mapping[str, bytes | str]) -> ToolResult:
        if not given.question.strip():
            return _failed("ask_image: the question is empty. Ask one.")
        return await self._read(given, Task.ask(given.question), pictures)

    async def _extract_fields(self, given: Any, pictures: Mapping[str, bytes | str]) -> ToolResult:
        names = list(dict.fromkeys(name.strip() for name in given.fields))
        if bad := [name for name in names if not name or len(name) > LONGEST_NAME or not name.isprintable()]:
            shown = shown_path(bad[0])
            return _failed(f"extract_fields: {shown!r} names no field. Give names of 1 to {LONGEST_NAME} characters.")
        return await self._read(given, Task.extract(_schema(tuple(names))), pictures)

    async def _search_images(self, given: Any, _: Mapping[str, bytes | str]) -> ToolResult:
        if not given.query.strip():
            return _failed("search_images: the query is empty. Say what to look for.")
        store = cast("AIFSVisualRAGStore", self._store)  # without one there is no such form
        pages = given.k // 2
        hits = await store.asearch(given.query, k=given.k - pages, k_images=pages)
        self._pages.remember(hits)
        lines = [f"{number}. {_hit_line(hit)}" for number, hit in enumerate(hits, 1)]
        text = "\n".join(lines) or "Nothing was found. Try other words."
        return ToolResult(text=text, artifact={"hits": [_hit(hit) for hit in hits]})

    async def _read(self, given: Any, task: str | Task, pictures: Mapping[str, bytes | str]) -> ToolResult:
        """One page of an image, read; the picture of a page has no other pages."""
        found = is_page_name(given.image)
        held = pictures.get(given.image) or (self._pages.get(given.image) if found else None)
        if held is None:
            try:
                name, content = await asyncio.to_thread(self._jail.read, given.image)
            except ImageNotFoundError as error:
                if not (found and self.searches):
                    raise
                what = "is not known any more. Search again, and take its name there."
                raise ImageError(shown_path(given.image), what) from error
            source: Source = (name, content)
        elif isinstance(held, str) and held[:5].lower() != "data:":
            what = "is at an address, and these tools open none. Look at it in the conversation itself."
            raise ImageError(shown_path(given.image), what)
        else:
            name, source = given.image, (given.image, held) if isinstance(held, bytes) else held
        page = 1 if held is not None and found else given.page
        return _of_reading(await self._vision.aread(SourcePages(source=source, pages=(page,)), task), name)


# -- Results -------------------------------------------------------------------------------------------------------


def _of_reading(reading: Reading, name: str) -> ToolResult:
    page = f"[page {reading.page} of {reading.total_pages}]\n" if reading.total_pages > 1 else ""
    data = _data(reading)
    text = json.dumps(data, ensure_ascii=False) if data is not None else reading.text
    if reading.status == "empty":
        text = "There is no text in this image." if reading.task == "ocr" else "The image shows nothing."
    return ToolResult(text=f"{page}{text}", artifact={**_facts(reading), "source": name})


def _of_failed_reading(reading: Reading, why: str) -> ToolResult:
    text = f"{why.rstrip('.')}. Ask for less, look at another page, or go on without."
    if reading.status == "truncated" and reading.text:
        text = f"The answer was too long and is cut off:\n{reading.text}"
    return ToolResult(text=text, ok=False, artifact={**_facts(reading), "error": "AnswerError"})


def _failed(text: str, *, kind: str = "ValueError") -> ToolResult:
    return ToolResult(text=text, ok=False, artifact={"error": kind})


def _facts(reading: Reading) -> dict[str, Any]:
    """The reading as plain JSON."""
    return {
        "source": reading.source,
        "page": reading.page,
        "total_pages": reading.total_pages,
        "image_sha256": reading.image_sha256,
        "status": reading.status,
        "text": reading.text,
        "data": _data(reading),
        "model": reading.model,
        "task": reading.task,
        "cost_eur": reading.cost_eur,
        "usage": {"input_tokens": reading.usage.input_tokens, "output_tokens": reading.usage.output_tokens},
        "cached": reading.cached,
    }


def _data(reading: Reading) -> Any:
    return None if reading.data is None else reading.data.model_dump(mode="json", by_alias=True)


def _schema(names: tuple[str, ...]) -> type[BaseModel]:
    """A model with these fields, each of any plain kind or unknown; aliases, as a field may be called anything."""
    kind: Any = str | int | float | bool | list[str] | None
    fields: dict[str, Any] = {
        f"field_{number}": (kind, Field(None, alias=name)) for number, name in enumerate(names, 1)
    }
    return create_model("Fields", **fields)


def _hit_line(hit: VisualHit) -> str:
    where = shown_path(hit.filename) if hit.page is None else f"{shown_path(hit.filename)}, page {hit.page}"
    if hit.modality == "image":
        return f"{where}: a picture of the page (score {hit.score:.2f}), called {page_name(hit)!r}"
    return f"{where} (score {hit.score:.2f}): {_cut(' '.join(hit.text.split()), _PASSAGE)}"


def _hit(hit: VisualHit) -> dict[str, Any]:
    told: dict[str, Any] = {"id": hit.id, **hit.metadata()}
    if hit.modality == "text":
        return {**told, "text": hit.text}
    return {**told, "name": page_name(hit), "image_url": hit.image_url}


def _from_root(after: str, folder: str) -> str:
    """Where a list goes on; models shorten the last path of a folder's list to what is in the folder."""
    inside = f"{posixpath.normpath(folder)}/"  # "./" for the root
    return after if not after or inside == "./" or after.startswith(inside) else inside + after


def _shown_names(names: list[str], most: int) -> list[str]:
    """The pictures of a conversation, of many the last ones, in no more than so many characters."""
    for count in range(min(_LISTED, len(names)), 0, -1):
        lines = [f"{name} (in this conversation)" for name in names[-count:]]
        if earlier := len(names) - count:
            lines.insert(0, f"... {earlier} earlier pictures of this conversation, by their numbers")
        if sum(map(len, lines)) + count < most:
            return lines
    return []


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    note = f" [... cut: {len(text):,} characters in all. Ask for less, such as one question.]"
    return text[: max(0, most - len(note))] + note


# -- Failures ------------------------------------------------------------------------------------------------------


def _faults(error: Exception) -> str:
    """What is wrong with arguments, without repeating them."""
    if not isinstance(error, ValidationError):
        return "its arguments are no JSON object."
    told = [f"{'.'.join(map(str, fault['loc'])) or 'arguments'}: {fault['msg']}" for fault in error.errors()]
    return f"{'; '.join(told[:5])}."


def _advice(error: AIFSError) -> str:
    """What went wrong, and what a model can do about it."""
    if isinstance(error, ImageError):
        return str(error)
    what = error.brief.rstrip(".")
    if isinstance(error, _HOPELESS):
        return f"This tool cannot be used now: {what}. Do not try again: go on without it, and say so."
    return f"{what}. Try once more, later, or go on without it."
