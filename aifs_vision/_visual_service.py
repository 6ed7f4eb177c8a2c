"""The service's Visual RAG (`/v1`) over HTTP: JSON and uploads out, JSON back, through the project's transport.

All that is needed of the transport is in `_ask`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from aifs_vision._api_errors import BadRequestError, NotFoundError, UnexpectedAnswerError
from aifs_vision._exchange import bare, connection_error, headers_of, refusal
from aifs_vision._limits import Cost
from aifs_vision._transport import Call, line_of, send

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aifs_vision._limits import Limits
    from aifs_vision._settings import Settings

__all__ = ["VisualService", "quoted", "visual_rag_of"]

_LISTED = 100  # entries of a list that are asked for at once
_BEGINNINGS = 5  # of a list whose entries others delete while it is read
_SHOWN = 200  # characters of an answer that is not what was promised


def visual_rag_of(settings: Settings) -> Settings:
    """The same service, at the address of its Visual RAG: `/v1` beside `/v2`; another address is taken as it is."""
    url = settings.api_url
    return replace(settings, base_url=f"{url.removesuffix('/v2')}/v1" if url.endswith("/v2") else url)


def quoted(identifier: str) -> str:
    """An id as a part of a path."""
    return quote(identifier, safe="")


@dataclass(frozen=True, kw_only=True)
class VisualService:
    """Where the Visual RAG is, with what key, and how many requests may be under way; called on the loop.

    Every call raises APIError: no answer, a refusal, or an answer that is not what was promised.
    """

    settings: Settings
    limits: Limits

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a question in JSON."""
        answer, _ = await self._ask("POST", path, json.dumps(body).encode())
        return _checked(answer, path)

    async def upload(self, name: str, data: bytes, mime_type: str) -> tuple[str, int]:
        """The id of a file that is uploaded, and how many requests were sent for it."""
        form = httpx.Request(
            "POST", "http://form", data={"purpose": "visual-rag"}, files={"file": (name, data, mime_type)}
        )
        answer, attempts = await self._ask("POST", "/files", form.read(), form.headers["content-type"])
        return str(_checked(answer, "/files", "id")["id"]), attempts

    async def delete(self, path: str) -> None:
        """Deletes what is there; what is gone already is just as well."""
        try:
            await self._ask("DELETE", path)
        except NotFoundError:
            return

    async def listed(self, path: str) -> list[dict[str, Any]]:
        """All entries of a list, page by page, each with an `id`."""
        entries: dict[str, dict[str, Any]] = {}
        after, left = "", _BEGINNINGS
        while True:
            try:
                answer, _ = await self._ask("GET", f"{path}?limit={_LISTED}{after}")
            except (BadRequestError, NotFoundError):
                left -= 1
                if not after or not left:
                    raise
                entries, after = {}, ""  # the entry to go on after is gone meanwhile
                continue
            found = _checked(answer, path, "data")["data"]
            if not isinstance(found, list):
                raise _unexpected(answer, path)
            new = {str(_checked(entry, path, "id")["id"]): entry for entry in found}
            more = answer.get("has_more") is True and not new.keys() <= entries.keys()
            entries.update(new)
            if not more:
                return list(entries.values())
            after = f"&after={quoted(next(reversed(new)))}"

    async def _ask(
        self, method: str, path: str, content: bytes | None = None, content_type: str = "application/json"
    ) -> tuple[Any, int]:
        """The JSON of the answer, and how many requests were sent for it."""
        url = f"{self.settings.base_url}{path}"
        asked = url.partition("?")[0]
        request = httpx.Request(method, url, headers=headers_of(self.settings), content=content)
        request.headers["content-type"] = content_type
        line = line_of(self.settings, "")
        call = Call(line=line, limits=self.limits, cost=Cost(), timeout=self.settings.timeout)
        try:
            response = await send(request, call)
        except httpx.RequestError as error:
            raise connection_error(error, asked, self.settings) from bare(error, request)
        if not response.is_success:
            raise refusal(response, asked, self.settings)
        try:
            return json.loads(response.content or b"null"), request.extensions["attempts"]
        except ValueError as error:  # of a success that is no 200, which the transport has not looked into
            raise _unexpected(response.text, path) from error


def _checked(answer: Any, path: str, *fields: str) -> dict[str, Any]:
    if not isinstance(answer, dict) or not all(answer.get(field) is not None for field in fields):
        raise _unexpected(answer, path)
    return answer


def _unexpected(answer: Any, path: str) -> UnexpectedAnswerError:
    return UnexpectedAnswerError(f"Unexpected answer from {path}", detail=json.dumps(answer)[:_SHOWN])
