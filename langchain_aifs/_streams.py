"""Answers that come in pieces: server-sent events -> the chunks that LangChain adds up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aifs_vision import ToolCalls
from langchain_aifs._shapes import asked, choices_of, unexpected, words

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import TracebackType

    import httpx
    from typing_extensions import Self

__all__ = ["AsyncStream", "Stream"]


class _Events:
    """Bytes of server-sent events -> chunks; knows at the end whether it was the end.

    LangChain adds up whatever chunks have, so what hosts may say more than once is given once: usage at the end, and
    why the answer ended where that is said first.
    """

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._rest = b""  # of a line whose end has not come
        self._calls: dict[Any, ToolCalls] = {}
        self._finished: set[Any] = set()
        self._usage: dict[str, Any] | None = None
        self._seen = False  # whether there was any choice
        self.done = False
        """Whether the host has said that nothing follows; some leave the connection open even so."""

    def read(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The chunks that end in these bytes."""
        # Of bytes and not of text, which has ends of lines that JSON may hold as they are, such as U+2028.
        lines = (self._rest + data).splitlines(keepends=True)
        self._rest = lines.pop() if lines and not lines[-1].endswith((b"\n", b"\r")) else b""
        for line in lines:
            chunk = self._chunk(line)
            if self.done:
                return
            if chunk is not None:
                yield chunk

    def end(self) -> Iterator[dict[str, Any]]:
        """What is left when no more bytes come.

        Raises:
            UnexpectedAnswerError: the stream ended before the answer did, or had none.
        """
        rest, self._rest = self._rest, b""
        if rest and not self.done:
            yield from self.read(rest + b"\n")
        if not self._seen or not (self.done or self._finished):
            kind = self._response.headers.get("content-type", "no content type")
            lacking = "answer" if self.done else "end"
            raise unexpected(f"A stream ({kind}) without an {lacking} from {asked(self._response)}", "")
        if self._usage is not None:
            yield self._usage

    def _chunk(self, line: bytes) -> dict[str, Any] | None:
        """The chunk that a line carries; None for the others, and for what is given at the end."""
        if not line.startswith(b"data:"):
            return None
        data = line[len(b"data:") :].decode("utf-8", "replace").strip()
        if data == "[DONE]":
            self.done = True
            return None
        try:
            chunk = json.loads(data)
        except ValueError as error:
            raise unexpected(f"A stream with a chunk that is not JSON from {asked(self._response)}", data) from error
        if not isinstance(chunk, dict):
            raise unexpected(f"A stream with a chunk that is no JSON object from {asked(self._response)}", data)
        if chunk.get("error"):
            raise unexpected(f"A stream that ends in an error from {asked(self._response)}", words(chunk["error"]))
        choices = choices_of(chunk, "delta", self._response)
        self._seen |= bool(choices)
        for choice, delta in choices:
            self._settle(choice, delta)
        if usage := chunk.pop("usage", None):
            self._usage = {**chunk, "choices": [], "usage": usage}
        return chunk if choices else None

    def _settle(self, choice: dict[str, Any], delta: dict[str, Any]) -> None:
        number = choice.get("index")
        choice["delta"] = delta
        if delta.get("tool_calls"):
            delta["tool_calls"] = self._calls.setdefault(number, ToolCalls()).add(delta["tool_calls"])
        if choice.get("finish_reason") is not None:
            if number in self._finished:
                choice["finish_reason"] = None
            self._finished.add(number)


class Stream:
    """The chunks of an answer; a context manager that closes the connection."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._response.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        events = _Events(self._response)
        for data in self._response.iter_bytes():
            yield from events.read(data)
            if events.done:
                break
        yield from events.end()


class AsyncStream:
    """The asynchronous twin of `Stream`."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._response.aclose()

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        events = _Events(self._response)
        async for data in self._response.aiter_bytes():
            for chunk in events.read(data):
                yield chunk
            if events.done:
                break
        for chunk in events.end():
            yield chunk
