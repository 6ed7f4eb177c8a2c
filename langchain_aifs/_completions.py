"""The chat endpoint as `BaseChatOpenAI` calls it, without the openai SDK: plain dicts, the project's errors.

The SDK validates what LangChain has made itself, turns the answer into pydantic objects that LangChain turns back
into dicts, and adds headers from `OPENAI_*` variables; none of that is wanted here, and it costs half of a call.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from langchain_aifs._shapes import whole_answer
from langchain_aifs._streams import AsyncStream, Stream

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["AsyncCompletions", "Completions"]

_PATH = "/chat/completions"


@dataclass(frozen=True)
class _Raw:
    """An answer with its headers."""

    headers: httpx.Headers
    _answer: Any

    def parse(self) -> Any:
        """The answer: a dict, or the stream."""
        return self._answer


class _Endpoint:
    """What every request to the endpoint has, besides its body; the client adds the headers of its own."""

    def __init__(self, client: httpx.Client | httpx.AsyncClient, query: Mapping[str, Any]) -> None:
        self._url = client.build_request("POST", _PATH, params=query or None).url  # made once: it takes its time

    def request(self, payload: dict[str, Any]) -> httpx.Request:
        """The request for a payload, which may have the options that the SDK knows beside the body."""
        asked = {name: value for name, value in payload.items() if value is not None}
        more: dict[str, Any] = asked.pop("extra_body", {})
        headers = {**asked.pop("extra_headers", {}), "content-type": "application/json"}
        query, timeout = asked.pop("extra_query", None), asked.pop("timeout", None)
        body = json.dumps({**asked, **more}, ensure_ascii=False, separators=(",", ":"))
        url = self._url.copy_merge_params(query) if query else self._url
        told: dict[str, Any] = {"aifs_own_headers": True}  # all are of the user: no SDK has added any
        if timeout is not None:
            told["timeout"] = httpx.Timeout(timeout).as_dict()
        content = body.encode("utf-8", "backslashreplace")  # half a surrogate becomes what JSON has for it
        return httpx.Request("POST", url, headers=headers, content=content, extensions=told)


class Completions:
    """The endpoint, for callers that wait."""

    def __init__(self, client: httpx.Client, query: Mapping[str, Any]) -> None:
        self._client, self._endpoint = client, _Endpoint(client, query)

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
            return _Raw(response.headers, whole_answer(response))
        if not response.is_success:
            response.read()
        response.raise_for_status()
        return _Raw(response.headers, Stream(response))


@dataclass(frozen=True)
class _WithHeaders:
    _completions: Completions

    def create(self, **payload: Any) -> _Raw:
        return self._completions.raw(payload)


class AsyncCompletions:
    """The endpoint, for callers that await."""

    def __init__(self, client: httpx.AsyncClient, query: Mapping[str, Any]) -> None:
        self._client, self._endpoint = client, _Endpoint(client, query)

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
            return _Raw(response.headers, whole_answer(response))
        if not response.is_success:
            await response.aread()
        response.raise_for_status()
        return _Raw(response.headers, AsyncStream(response))


@dataclass(frozen=True)
class _AsyncWithHeaders:
    _completions: AsyncCompletions

    async def create(self, **payload: Any) -> _Raw:
        return await self._completions.raw(payload)
