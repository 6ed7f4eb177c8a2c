"""From retrieved Documents to a question that shows their pictures: `attach_images`, and a tool for agents."""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import Callbacks  # noqa: TC002 - LangChain reads the tool's annotations
from langchain_core.documents import Document  # noqa: TC002 - the same
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import StructuredTool, ToolException
from pydantic import BaseModel, Field

from aifs_vision import AIFSError, Originals
from langchain_aifs._conversation import messages_of, takes_runtime
from langchain_aifs.messages import DEFAULT_MODEL, image_block
from langchain_aifs.retrievers import AIFSVisualRAGRetriever

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

    from langchain_core.retrievers import BaseRetriever

    from aifs_vision import Frames, ImageLimits, ImageSize, Original, PreparedImage

    Roots = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]

__all__ = ["aattach_images", "attach_images", "image_retriever_tool"]

logger = logging.getLogger("langchain_aifs")

_NUMBER = re.compile(r"\[(\d{1,6})\.\d+\]")  # of a source that an agent's search has found
_RULE = "Answer from these sources, and cite those you use by their numbers, such as [1]."


def attach_images(
    docs: Sequence[Document],
    question: str,
    *,
    max_images: int = 8,
    max_pixels: int | None = None,
    roots: Roots | None = None,
    model: str = DEFAULT_MODEL,
    size: ImageSize = "auto",
    frames: Frames = "auto",
    image_limits: ImageLimits | None = None,
) -> HumanMessage:
    """A question with the texts that were found and the pictures they were read from, for a model to look at.

        documents = vector_store.similarity_search(question)
        answer = ChatAIFS().invoke([attach_images(documents, question, roots=["scans/"])])

    Each text is numbered and named by its source and page, so that the answer can cite it, and followed by its
    picture: of a PDF, TIFF or video the page or frame that was read. The first documents get theirs first, a picture
    is shown once, and texts that share it say with which it stands. Documents of `AIFSImageLoader` are known by their
    metadata, wherever they have been stored; those of `AIFSVisualRAGRetriever` have their pictures with them; others
    are texts alone.

    Only files below `roots` are opened, whatever the metadata say; symbolic links are followed before that is
    decided. A picture that is outside, missing, changed since it was read, unreadable, or more than the budget allows
    is not sent: the text about it, and the log, say why. Blocks while it decodes: asynchronous code awaits
    `aattach_images`.

    Args:
        docs: what was found, the best first.
        question: what is asked about it.
        max_images: pictures in the message.
        max_pixels: of all of them, as they are sent; None for no such bound.
        roots: the folders below which files may be opened; needed as soon as a picture is a file.
        model: the model for whose eyes they are prepared; others see them as well.
        size: "auto", "original" (as large as the model sees), or px of the longer side; never enlarged.
        frames: the setting that videos and animations were read with.
        image_limits: how large files may be that are opened.

    Raises:
        SettingsError: no roots where a file is to be opened, a root that is no folder, a model that takes no images,
            or a bound below 1.
    """
    originals = Originals(
        roots,
        model=model,
        max_images=max_images,
        max_pixels=max_pixels,
        size=size,
        frames=frames,
        image_limits=image_limits,
    )
    blocks = _sources(docs, originals)
    asked = f"{_RULE}\n\nQuestion: {question}" if blocks else question
    return HumanMessage([*blocks, {"type": "text", "text": asked}])


async def aattach_images(
    docs: Sequence[Document],
    question: str,
    *,
    max_images: int = 8,
    max_pixels: int | None = None,
    roots: Roots | None = None,
    model: str = DEFAULT_MODEL,
    size: ImageSize = "auto",
    frames: Frames = "auto",
    image_limits: ImageLimits | None = None,
) -> HumanMessage:
    """The asynchronous twin of `attach_images`: the same, while files are read and decoded beside the event loop."""
    return await asyncio.to_thread(
        attach_images,
        docs,
        question,
        max_images=max_images,
        max_pixels=max_pixels,
        roots=roots,
        model=model,
        size=size,
        frames=frames,
        image_limits=image_limits,
    )


class _Asked(BaseModel):
    query: str = Field(description="what to look for, in words")


def image_retriever_tool(
    retriever: BaseRetriever,
    name: str,
    description: str,
    *,
    max_images: int = 4,
    max_pixels: int | None = None,
    roots: Roots | None = None,
    model: str = DEFAULT_MODEL,
    size: ImageSize = "auto",
    frames: Frames = "auto",
    image_limits: ImageLimits | None = None,
    errors: type[Exception] | tuple[type[Exception], ...] = Exception,
) -> StructuredTool:
    """A retriever as a tool that hands an agent the pictures that are found, and not only texts.

        tool = image_retriever_tool(
            AIFSVisualRAGRetriever("manuals", k_images=2), "manuals", "Searches the manuals; shows pages of them."
        )
        agent = create_agent(ChatAIFS(model="gpt-4.1"), [tool])

    The result has the numbered texts and pictures of `attach_images`, as content blocks; `ChatAIFS` shows them to
    the model. The Documents are its artifact. In an agent's run no two sources have one number, whichever searches
    found them and however many ran at once: "[2.1]" is the first source of the second call.

    What goes wrong does not end the agent's run. Where the service or the store refuses, the agent is told why. Of
    errors of other retrievers it is told the class alone, as their messages may hold addresses and passwords; the log
    has the rest.

    Args:
        retriever: any retriever of LangChain.
        name: of the tool, for the agent.
        description: what it searches, and when to use it, for the agent.
        roots, max_images, max_pixels, model, size, frames, image_limits: as for `attach_images`, for each call.
        errors: those of the retriever that the agent is told of, beside this project's own; others end the run. ()
            for none.

    Raises:
        SettingsError: as for `attach_images`; roots are needed for every retriever but an `AIFSVisualRAGRetriever`.
    """
    if not isinstance(retriever, AIFSVisualRAGRetriever):
        roots = () if roots is None else roots  # which says what is missing now, and not when an agent has called
    originals = Originals(
        roots,
        model=model,
        max_images=max_images,
        max_pixels=max_pixels,
        size=size,
        frames=frames,
        image_limits=image_limits,
    )

    def found(documents: list[Document], runtime: Any) -> tuple[list[dict[str, Any]], list[Document]]:
        blocks = _sources(documents, originals, _call_number(runtime))
        return blocks or [{"type": "text", "text": "Nothing was found."}], documents

    @takes_runtime
    def search(
        query: str, callbacks: Callbacks = None, runtime: Any = None
    ) -> tuple[list[dict[str, Any]], list[Document]]:
        with _told_to_the_agent(errors):
            return found(retriever.invoke(query, {"callbacks": callbacks}), runtime)

    @takes_runtime
    async def asearch(
        query: str, callbacks: Callbacks = None, runtime: Any = None
    ) -> tuple[list[dict[str, Any]], list[Document]]:
        with _told_to_the_agent(errors):
            return await asyncio.to_thread(found, await retriever.ainvoke(query, {"callbacks": callbacks}), runtime)

    return StructuredTool(
        name=name,
        description=description,
        func=search,
        coroutine=asearch,
        args_schema=_Asked,
        response_format="content_and_artifact",
        handle_tool_error=True,
    )


@contextmanager
def _told_to_the_agent(errors: type[Exception] | tuple[type[Exception], ...]) -> Iterator[None]:
    """Errors as those that LangChain gives to the model; others would end its run."""
    try:
        yield
    except AIFSError as error:
        raise ToolException(str(error)) from error
    except _passed_on():
        raise
    except errors as error:
        logger.warning("a search has failed", exc_info=error)
        what = f"The search has failed ({type(error).__name__}). Try once more, later, or go on without it."
        raise ToolException(what) from error


def _passed_on() -> tuple[type[Exception], ...]:
    """What says its own words to the agent, or stops the run for a human, or lets it go on elsewhere."""
    try:
        from langgraph.errors import GraphBubbleUp
    except ImportError:  # then nobody raises it
        return (ToolException,)
    return (ToolException, GraphBubbleUp)


def _call_number(runtime: Any) -> int | None:
    """The number of a call in an agent's run, another one than those of its searches before and beside it."""
    messages, call = messages_of(runtime), getattr(runtime, "tool_call_id", None)
    said = (message for message in reversed(messages) if isinstance(message, AIMessage))
    turns = ([each["id"] for each in message.tool_calls] for message in said)
    place = next((ids.index(call) for ids in turns if call in ids), None)  # of the last one, as ids may come again
    if place is None:
        return None
    blocks = (block for message in messages if isinstance(message, ToolMessage) for block in message.content)
    texts = (block["text"] for block in blocks if isinstance(block, dict) and isinstance(block.get("text"), str))
    return max((int(found[1]) for text in texts if (found := _NUMBER.match(text))), default=0) + place + 1


# -- The texts and their pictures ----------------------------------------------------------------------------------


def _sources(documents: Sequence[Document], originals: Originals, call: int | None = None) -> list[dict[str, Any]]:
    """The content blocks of what was found: of each Document its name, its text, and its picture."""
    blocks: list[dict[str, Any]] = []
    found = originals.of(document.metadata for document in documents)
    for position, (document, original) in enumerate(zip(documents, found, strict=True)):
        blocks.append({"type": "text", "text": _told(position, document, original, "" if call is None else f"{call}.")})
        if original is not None and original.image is not None:
            blocks.append(_block(original.image))
    return blocks


def _told(position: int, document: Document, original: Original | None, prefix: str) -> str:
    """The text before a picture: its number, where it is from, and what it says."""
    lines = [f"[{prefix}{position + 1}] {_name(document)}".rstrip()]
    if original is not None and original.shown_with is not None:
        lines.append(f"(Its picture is that of [{prefix}{original.shown_with + 1}].)")
    if original is not None and original.skipped is not None:
        logger.warning("no picture is shown: %s", original.skipped)
        lines.append(f"(Its picture is not shown: {original.skipped})")
    if document.metadata.get("modality") != "image":
        lines.append(document.page_content)
    return "\n".join(line for line in lines if line)


def _name(document: Document) -> str:
    """Where a text is from; pages as people count them, which the `page` of LangChain's PDF loaders does not.

    It is one line, whatever the metadata hold: else a name could pass for another source.
    """
    metadata = document.metadata
    name = metadata.get("source") or metadata.get("filename") or document.id or ""
    ours = "status" in metadata or "modality" in metadata
    page = metadata.get("page" if ours else "page_label")
    told = str(name)
    if page is not None and metadata.get("total_pages") != 1:
        told = f"{name}, page {page:g}" if isinstance(page, float) else f"{name}, page {page}"
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in told)


def _block(image: PreparedImage) -> dict[str, Any]:
    """A prepared picture as a block; nothing of it is to be changed any more."""
    return image_block(image.url if image.url is not None else image.data, size="original")
