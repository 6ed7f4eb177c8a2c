"""httpx clients on the project's transport, for the SDKs inside the chat models and the embeddings."""

from __future__ import annotations

import json
import os
import weakref
from typing import TYPE_CHECKING, Any

import httpx

from aifs_vision._catalogue import model_card
from aifs_vision._errors import AIFSError, ResidencyError, SettingsError
from aifs_vision._exchange import connection_error, headers_of, refusal
from aifs_vision._limits import Cost, Limits
from aifs_vision._loop import call, call_async, home
from aifs_vision._settings import choose_plan, resolve
from aifs_vision._tokens import image_tokens, text_tokens
from aifs_vision._transport import Call, line_of, send

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from aifs_vision._catalogue import ModelCard
    from aifs_vision._loop import Home
    from aifs_vision._settings import Settings

__all__ = ["async_http_client", "error_behind", "http_client"]

_USUAL_IMAGE = (1024, 1024)  # px assumed of a picture whose size is not known before it is sent
_USUAL_OUTPUT = 500  # tokens assumed of an answer whose length is not bounded
# The SDK's own idea of the key, and what it takes from OPENAI_* variables: none of the service's business.
_NOT_SENT = frozenset({"authorization", "openai-organization", "openai-project", "content-length", "host"})
_OURS = frozenset({"content-type", "accept", "user-agent"})
_ERROR = "aifs_error"  # the extension of a response that carries the error of the tree


def http_client(
    *,
    model: str | None = None,
    api_key: str | None = None,
    base_url: str | None = None,
    residency: str | None = None,
    plan: str = "essential",
    limits: Limits | None = None,
    queue: bool = False,
    timeout: float = 120.0,
) -> httpx.Client:
    """A synchronous httpx client whose requests are paced, retried, authorised and pooled by this project.

    It sends to `base_url` alone, with the project's key, whatever key the SDK was given; the SDK's own retries
    are to be switched off (`max_retries=0`).

    Args:
        model: is checked against the residency at once; the model of each request is when it is sent.
        api_key, base_url, residency, plan, limits, queue, timeout: as for `Vision`.

    Raises:
        SettingsError: no key, or a setting that cannot be right.
        ResidencyError: the region of `model` is unknown or not allowed.
    """
    way = _way(
        model=model,
        api_key=api_key,
        base_url=base_url,
        residency=residency,
        plan=plan,
        limits=limits,
        queue=queue,
        timeout=timeout,
    )
    return httpx.Client(transport=_Sync(way), base_url=way.settings.base_url, timeout=timeout)


def async_http_client(
    *,
    model: str | None = None,
    api_key: str | None = None,
    base_url: str | None = None,
    residency: str | None = None,
    plan: str = "essential",
    limits: Limits | None = None,
    queue: bool = False,
    timeout: float = 120.0,
) -> httpx.AsyncClient:
    """The asynchronous twin of `http_client`; it may be used from any number of event loops."""
    way = _way(
        model=model,
        api_key=api_key,
        base_url=base_url,
        residency=residency,
        plan=plan,
        limits=limits,
        queue=queue,
        timeout=timeout,
    )
    return httpx.AsyncClient(transport=_Async(way), base_url=way.settings.base_url, timeout=timeout)


def _way(*, model: str | None, plan: str, limits: Limits | None, **options: Any) -> _Way:
    way = _Way(resolve(**options), choose_plan(plan), limits)
    card = model_card(model or "")
    Limits.chosen(limits, card, plan)
    if model is not None:
        way.check_residency(card)
    return way


class _Way:
    """From an SDK's request to the background loop and back."""

    def __init__(self, settings: Settings, plan: str, limits: Limits | None) -> None:
        self.settings, self._plan, self._limits = settings, plan, limits
        self._custom_headers = _custom_headers()

    def check_residency(self, card: ModelCard) -> None:
        """Raises ResidencyError for a model that the settings forbid."""
        if not card.allowed_in(self.settings.residency):
            raise ResidencyError(card.name, card.region, str(self.settings.residency))

    async def answer(self, request: httpx.Request, body: bytes) -> httpx.Response:
        """What the service answers to a request of the SDK; called on the loop."""
        self._refuse_strangers(request.url)
        asked = _asked(body)
        model = str(asked.get("model", ""))
        card = model_card(model)
        if model:
            self.check_residency(card)
        elif body and self.settings.residency is not None:
            raise ResidencyError("(not named in a way this client reads)", None, self.settings.residency)
        line = line_of(self.settings, model, Limits.chosen(self._limits, card, self._plan))
        own = httpx.Request(request.method, request.url, headers=self._headers(request, asked), content=body)
        name = f"{model!r} at {self.settings.base_url}" if model else str(request.url)
        stream, timeout = asked.get("stream") is True, self._timeout(request)
        try:
            answer = await send(own, Call(line=line, cost=_cost(asked, card), timeout=timeout, stream=stream))
        except httpx.RequestError as error:
            raise connection_error(error, name) from error.with_traceback(None)
        if answer.is_closed and not answer.is_success:
            answer.extensions[_ERROR] = refusal(answer, name, self.settings)
        return answer

    def _timeout(self, request: httpx.Request) -> float:
        """Seconds this request may take: the SDK's, which may be of one call alone, or those of the settings."""
        given = request.extensions.get("timeout") or {}
        return given.get("read") or self.settings.timeout

    def _headers(self, request: httpx.Request, asked: Mapping[str, Any]) -> list[tuple[str, str]]:
        dropped = _NOT_SENT | self._custom_headers | _custom_headers()
        if not asked:  # a GET, or an upload, whose content-type has a boundary
            own = [("authorization", f"Bearer {self.settings.api_key.reveal()}")]
        else:
            dropped |= _OURS
            own = headers_of(self.settings, "text/event-stream" if asked.get("stream") is True else "application/json")
        return [*own, *((name, value) for name, value in request.headers.items() if name not in dropped)]

    def _refuse_strangers(self, url: httpx.URL) -> None:
        """The key goes to the address of the settings and nowhere else, whatever an SDK makes of it."""
        own = httpx.URL(self.settings.base_url)
        if (url.scheme, url.host, url.port) != (own.scheme, own.host, own.port):
            raise SettingsError.bad_choice("request to", str(url.copy_with(query=None)), (str(own),))


class _Sync(httpx.BaseTransport):
    def __init__(self, way: _Way) -> None:
        self._way = way

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = call(self._way.answer(request, request.read()))
        return _handed_over(answer, _SyncBody(answer))


class _Async(httpx.AsyncBaseTransport):
    def __init__(self, way: _Way) -> None:
        self._way = way

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await call_async(self._way.answer(request, await request.aread()))
        return _handed_over(answer, _AsyncBody(answer))


def _handed_over(answer: httpx.Response, body: _SyncBody | _AsyncBody) -> httpx.Response:
    """The response as the SDK sees it: whole where it was read, else a body still to be read on the loop."""
    if answer.is_closed:
        # It was decoded on the loop already.
        headers = [pair for pair in answer.headers.items() if pair[0] not in {"content-encoding", "content-length"}]
        told = {key: error for key, error in answer.extensions.items() if key == _ERROR}
        return httpx.Response(answer.status_code, headers=headers, content=answer.content, extensions=told)
    return httpx.Response(answer.status_code, headers=answer.headers, stream=body)


class _Body:
    """A body still to be read on the loop; one that is dropped unread is closed there, whoever collects it."""

    def __init__(self, answer: httpx.Response) -> None:
        self._answer = answer
        self._abandoned = weakref.finalize(self, _abandon, home(), answer)
        self._abandoned.atexit = False

    def _chunks(self) -> AsyncIterator[bytes]:
        return self._answer.stream.__aiter__()  # type: ignore[union-attr]


class _SyncBody(_Body, httpx.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        chunks = self._chunks()
        while (chunk := call(_next(chunks))) is not None:
            yield chunk

    def close(self) -> None:
        if home().is_here():  # the garbage collector met a dropped stream there
            self._abandoned()
        elif self._abandoned.detach():
            call(self._answer.aclose())


class _AsyncBody(_Body, httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = self._chunks()
        while (chunk := await call_async(_next(chunks))) is not None:
            yield chunk

    async def aclose(self) -> None:
        if self._abandoned.detach():
            await call_async(self._answer.aclose())


def _abandon(place: Home, answer: httpx.Response) -> None:
    place.start_soon(answer.aclose())


def error_behind(error: BaseException) -> AIFSError | None:
    """The error of this project's tree behind one that an SDK raised on a client made here.

    SDKs wrap what a transport raises in a connection error of their own, and make errors of their own of the
    service's refusals; this finds what says which model, where, and what to do. None where there is nothing.
    """
    behind: BaseException | None = error
    while behind is not None:
        told = getattr(getattr(behind, "response", None), "extensions", {}).get(_ERROR, behind)
        if isinstance(told, AIFSError):
            return told
        behind = behind.__cause__
    return None


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    """The next chunk, or None at the end; StopAsyncIteration cannot cross to another thread."""
    try:
        return await chunks.__anext__()
    except StopAsyncIteration:
        return None


def _custom_headers() -> frozenset[str]:
    """The names in OPENAI_CUSTOM_HEADERS, lines of "Name: value" that OpenAI's SDK adds to every request."""
    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").splitlines()
    return frozenset(line.partition(":")[0].strip().lower() for line in lines)


# -- What a request is expected to use ----------------------------------------------------------------------


def _asked(body: bytes) -> Mapping[str, Any]:
    try:
        asked = json.loads(body) if body else {}
    except ValueError:  # a file upload, say: nothing in it to pace by
        return {}
    return asked if isinstance(asked, dict) else {}


def _cost(asked: Mapping[str, Any], card: ModelCard) -> Cost:
    """An estimate from the request alone; corrected once the service has counted."""
    texts, images = [], 0
    for part in _parts(asked):
        if isinstance(part, str):
            texts.append(part)
        elif part.get("type") == "image_url":
            images += 1
        else:
            texts.append(str(part.get("text", "")))
    each = image_tokens(card, *_USUAL_IMAGE) if card.takes_images and images else 0
    room = asked.get("max_tokens") or asked.get("max_completion_tokens") or _USUAL_OUTPUT
    writes = "messages" in asked or "prompt" in asked
    return Cost(
        input_tokens=sum(map(text_tokens, texts)) + images * each,
        output_tokens=min(room, _USUAL_OUTPUT) if writes and isinstance(room, int) else 0,
    )


def _parts(asked: Mapping[str, Any]) -> Iterator[str | dict[str, Any]]:
    """The texts and content parts of a chat or embedding request."""
    contents = [message.get("content") for message in asked.get("messages", []) if isinstance(message, dict)]
    for content in [*contents, asked.get("input"), asked.get("prompt")]:
        for part in content if isinstance(content, list) else [content]:
            if isinstance(part, (str, dict)):
                yield part
