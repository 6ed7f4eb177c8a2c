"""The chat endpoint as `BaseChatOpenAI` calls it, without the openai SDK: plain dicts, the project's errors.

The SDK validates what LangChain has made itself, turns the answer into pydantic objects that LangChain turns back
into dicts, and adds headers from `OPENAI_*` variables; none of that is wanted here, and it costs half of a call.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from aifs_vision import UnexpectedAnswerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["AsyncCompletions", "Completions"]

_PATH = "/chat/completions"
_SHOWN = 200  # characters of what is no answer


@dataclass(frozen=True)
class _Raw:
    """An answer with its headers."""

    headers: httpx.Headers
    _answer: Any

    def parse(self) -> Any:
        """The answer: a dict, or the stream."""
        return self._answer


class _Endpoint:
    """What every request to the endpoint has, besides its body."""

    def __init__(
        self, client: httpx.Client | httpx.AsyncClient, headers: Mapping[str, str], query: Mapping[str, Any]
    ) -> None:
        self._headers = headers
        self._url = client.build_request("POST", _PATH, params=query or None).url  # made once: it takes its time

    def request(self, payload: dict[str, Any]) -> httpx.Request:
        """The request for a payload, which may have the options that the SDK knows beside the body."""
        asked = {name: value for name, value in payload.items() if value is not None}
        more: dict[str, Any] = asked.pop("extra_body", {})
        headers = {**self._headers, **asked.pop("extra_headers", {}), "content-type": "application/json"}
        query, timeout = asked.pop("extra_query", None), asked.pop("timeout", None)
        body = json.dumps({**asked, **more}, ensure_ascii=False, separators=(",", ":"))
        url = self._url.copy_merge_params(query) if query else self._url
        bound = {} if timeout is None else {"timeout": httpx.Timeout(timeout).as_dict()}
        content = body.encode("utf-8", "surrogatepass")
        return httpx.Request("POST", url, headers=headers, content=content, extensions=bound)


def _whole(response: httpx.Response) -> dict[str, Any]:
    """The JSON object that an answer is.

    Raises:
        UnexpectedAnswerError: a success that is something else, or says that there was an error.
    """
    response.raise_for_status()
    try:
        answer = response.json()
    except ValueError as error:
        raise UnexpectedAnswerError(f"No JSON from {_asked(response)}", detail=response.text[:_SHOWN]) from error
    if not isinstance(answer, dict):
        raise UnexpectedAnswerError(f"No JSON object from {_asked(response)}", detail=response.text[:_SHOWN])
    if answer.get("error"):
        raise UnexpectedAnswerError(f"HTTP 200 with an error from {_asked(response)}", detail=_words(answer["error"]))
    return answer


def _asked(response: httpx.Response) -> str:
    return str(response.request.url.copy_with(query=None, userinfo=b""))


def _words(error: Any) -> str:
    said = error.get("message") if isinstance(error, dict) else error
    return str(said or error)[:_SHOWN]


class Completions:
    """The endpoint, for callers that wait."""

    def __init__(self, client: httpx.Client, headers: Mapping[str, str], query: Mapping[str, Any]) -> None:
        self._client, self._endpoint = client, _Endpoint(client, headers, query)

    @property
    def with_raw_response(self) -> _WithHeaders:
        """The same endpoint, whose answers come with their headers."""
        return _WithHeaders(self)

    def create(self, **payload: Any) -> Any:
        """The answer as a dict, or as a stream of such."""
        return self.raw(payload).parse()

    def raw(self, payload: dict[str, Any]) -> _Raw:
        """The answer with its headers."""
        request = self._endpoint.request(payload)
        response = self._client.send(request, stream=payload.get("stream") is True)
        if payload.get("stream") is not True:
            return _Raw(response.headers, _whole(response))
        if not response.is_success:
            response.read()
        response.raise_for_status()
        return _Raw(response.headers, _Stream(response))


@dataclass(frozen=True)
class _WithHeaders:
    _completions: Completions

    def create(self, **payload: Any) -> _Raw:
        return self._completions.raw(payload)


class AsyncCompletions:
    """The endpoint, for callers that await."""

    def __init__(self, client: httpx.AsyncClient, headers: Mapping[str, str], query: Mapping[str, Any]) -> None:
        self._client, self._endpoint = client, _Endpoint(client, headers, query)

    @property
    def with_raw_response(self) -> _AsyncWithHeaders:
        """The same endpoint, whose answers come with their headers."""
        return _AsyncWithHeaders(self)

    async def create(self, **payload: Any) -> Any:
        """The answer as a dict, or as a stream of such."""
        return (await self.raw(payload)).parse()

    async def raw(self, payload: dict[str, Any]) -> _Raw:
        """The answer with its headers."""
        request = self._endpoint.request(payload)
        response = await self._client.send(request, stream=payload.get("stream") is True)
        if payload.get("stream") is not True:
            return _Raw(response.headers, _whole(response))
        if not response.is_success:
            await response.aread()
        response.raise_for_status()
        return _Raw(response.headers, _AsyncStream(response))


@dataclass(frozen=True)
class _AsyncWithHeaders:
    _completions: AsyncCompletions

    async def create(self, **payload: Any) -> _Raw:
        return await self._completions.raw(payload)


# -- Streams -------------------------------------------------------------------------------------------------------


class _Events:
    """Lines of server-sent events -> chunks; knows at the end whether it was the end."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._ended = False
        self._calls: list[str] = []  # ids of the tool calls so far

    def chunk(self, line: str) -> dict[str, Any] | None:
        """The chunk that a line carries; None for the others."""
        if not line.startswith("data:"):
            return None
        data = line[len("data:") :].strip()
        if data == "[DONE]":
            self._ended = True
            return None
        try:
            chunk = json.loads(data)
        except ValueError as error:
            what = f"A stream with a chunk that is not JSON from {_asked(self._response)}"
            raise UnexpectedAnswerError(what, detail=data[:_SHOWN]) from error
        if chunk.get("error"):
            what = f"A stream that ends in an error from {_asked(self._response)}"
            raise UnexpectedAnswerError(what, detail=_words(chunk["error"]))
        for choice in chunk.get("choices") or ():
            self._ended |= choice.get("finish_reason") is not None
            self._number((choice.get("delta") or {}).get("tool_calls") or ())
        return dict(chunk)

    def _number(self, calls: Any) -> None:
        """Gives tool calls the index that some hosts leave out; LangChain would drop such calls."""
        for call in calls:
            call.setdefault("function", {})
            if call.get("id") and call["id"] not in self._calls:
                self._calls.append(call["id"])
            if call.get("index") is None:
                known = call.get("id") in self._calls
                call["index"] = self._calls.index(call["id"]) if known else max(0, len(self._calls) - 1)

    def finish(self) -> None:
        """Raises UnexpectedAnswerError where the stream ended before the answer did."""
        if not self._ended:
            kind = self._response.headers.get("content-type", "no content type")
            raise UnexpectedAnswerError(f"A stream ({kind}) without an end from {_asked(self._response)}")


class _Stream:
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
        for line in self._response.iter_lines():
            if (chunk := events.chunk(line)) is not None:
                yield chunk
        events.finish()


class _AsyncStream:
    """The asynchronous twin of `_Stream`."""

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
        async for line in self._response.aiter_lines():
            if (chunk := events.chunk(line)) is not None:
                yield chunk
        events.finish()
