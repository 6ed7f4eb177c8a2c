"""Emulators that follow a script, streams of other shapes than theirs, and what the tests start from."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeWithScore

from aifs_vision import Limits
from aifs_vision.emulator import Emulator
from aifs_vision.testing import isolated
from llama_index_aifs import AIFS, AIFSImageReader

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from llama_index.core import Document

__all__ = ["Found", "call", "content", "events", "listed", "questions", "scored", "scripted", "served"]


def call(name: str, number: int = 1, **arguments: Any) -> dict[str, Any]:
    """A tool call, as a model's message has it."""
    return {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


@contextmanager
def scripted(*answers: str | dict[str, Any] | None, **options: Any) -> Iterator[tuple[AIFS, Emulator]]:
    """A model that gives these answers, one after the other and the last one for ever, and the server it is on."""
    left = list(answers)

    def reply(_: object) -> str | dict[str, Any] | None:
        return left.pop(0) if len(left) > 1 else left[0]

    with isolated(), Emulator(ocr=False, reply=reply) as server:
        yield AIFS(base_url=server.base_url, api_key=server.api_key, limits=Limits(), **options), server


def questions(server: Emulator) -> int:
    """How often the model was asked."""
    return sum(request.path.endswith("/chat/completions") for request in server.requests)


def content(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts of a message that was sent; a text is one part."""
    given = message["content"]
    return [{"type": "text", "text": given}] if isinstance(given, str) else given


def events(*chunks: dict[str, Any], done: bool = True) -> bytes:
    """A stream of chunks with these choices and usages."""
    head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    told = b"".join(b"data: %s\n\n" % json.dumps({**head, "choices": [], **chunk}).encode() for chunk in chunks)
    return told + (b"data: [DONE]\n\n" if done else b"")


def served(
    body: bytes | dict[str, Any], kind: str = "text/event-stream"
) -> Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]:
    """A service that answers with this; for `virtual_time`."""

    async def answer(_: httpx.Request) -> httpx.Response:
        if isinstance(body, dict):
            return httpx.Response(200, json=body)
        return httpx.Response(200, content=body, headers={"content-type": kind})

    return answer


def listed(*sources: Any, **options: Any) -> list[Document]:
    """The Documents of pictures that nobody has read yet."""
    return AIFSImageReader(task=None, **options).load_data(sources)


def scored(*nodes: Any) -> list[NodeWithScore]:
    """Nodes as a retriever gives them."""
    return [NodeWithScore(node=node, score=1.0) for node in nodes]


class Found(BaseRetriever):
    """A retriever that finds the same nodes whatever is asked."""

    def __init__(self, *nodes: Any) -> None:
        super().__init__()
        self._nodes = nodes

    def _retrieve(self, query_bundle: Any) -> list[NodeWithScore]:
        del query_bundle
        return scored(*self._nodes)
