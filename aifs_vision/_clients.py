"""httpx clients on the project's transport, for the SDKs inside the chat models and the embeddings."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, cast

import httpx

from aifs_vision._asked import asked_by, cost_of
from aifs_vision._catalogue import model_card
from aifs_vision._errors import AIFSError, ResidencyError, SettingsError
from aifs_vision._exchange import Heeded, bare, connection_error, headers_of, refusal, told_error
from aifs_vision._interview import Way
from aifs_vision._limits import Limits
from aifs_vision._loop import call, call_async
from aifs_vision._settings import choose_plan, resolve
from aifs_vision._streams import AsyncBody, SyncBody
from aifs_vision._transport import Call, line_of, send
from aifs_vision._ways import UNAVAILABLE, open_ways, succeeded, unavailable, with_queue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aifs_vision._catalogue import ModelCard
    from aifs_vision._settings import Settings

__all__ = ["async_http_client", "error_behind", "http_client"]

# The SDK's own idea of the key, and what it takes from OPENAI_* variables: none of the service's business.
_NOT_SENT = frozenset({"authorization", "openai-organization", "openai-project", "content-length", "host"})
_OURS = frozenset({"content-type", "accept", "user-agent"})
_DECODED = frozenset({b"content-encoding", b"content-length"})
_OWN_HEADERS = "aifs_own_headers"  # the extension of a request that has none of the SDK's headers
_ERROR = "aifs_error"  # the extension of a response that carries the error of the tree


def http_client(
    *,
    model: str | None = None,
    api_key: str | None = None,
    base_url: str | None = None,
    residency: str | None = None,
    plan: str = "essential",
    limits: Limits | None = None,
    queue: bool | Literal["auto"] = False,
    timeout: float = 120.0,
    headers: Mapping[str, str] | None = None,
) -> httpx.Client:
    """A synchronous httpx client whose requests are paced, retried, authorised and pooled by this project.

    It sends to `base_url` alone, with the project's key, whatever key the SDK was given; the SDK's own retries
    are to be switched off (`max_retries=0`).

    Args:
        model: is checked against the residency at once; the model of each request is when it is sent.
        api_key, base_url, residency, plan, limits, queue, timeout: as for `Vision`.
        headers: are sent with every request that has none of these names itself, but for an Authorization. OpenAI's SDK
            adds those of OPENAI_CUSTOM_HEADERS to its requests, which are taken out again by name and value, and one
            that its user gave it with both the same would be lost; so give it here too. Nothing is taken out of
            requests whose extension `aifs_own_headers` is True, which no SDK has made.

    Raises:
        SettingsError: no key, or a setting that cannot be right.
        ResidencyError: the region of `model` is unknown or not allowed.
    """
    bridge = _bridge(
        model=model,
        api_key=api_key,
        base_url=base_url,
        residency=residency,
        plan=plan,
        limits=limits,
        queue=queue,
        timeout=timeout,
        headers=headers,
    )
    return httpx.Client(transport=_Sync(bridge), base_url=bridge.settings.base_url, timeout=timeout)


def async_http_client(
    *,
    model: str | None = None,
    api_key: str | None = None,
    base_url: str | None = None,
    residency: str | None = None,
    plan: str = "essential",
    limits: Limits | None = None,
    queue: bool | Literal["auto"] = False,
    timeout: float = 120.0,
    headers: Mapping[str, str] | None = None,
) -> httpx.AsyncClient:
    """The asynchronous twin of `http_client`; it may be used from any number of event loops."""
    bridge = _bridge(
        model=model,
        api_key=api_key,
        base_url=base_url,
        residency=residency,
        plan=plan,
        limits=limits,
        queue=queue,
        timeout=timeout,
        headers=headers,
    )
    return httpx.AsyncClient(transport=_Async(bridge), base_url=bridge.settings.base_url, timeout=timeout)


def _bridge(
    *, model: str | None, plan: str, limits: Limits | None, headers: Mapping[str, str] | None, **options: Any
) -> _Bridge:
    moves_over = options["queue"] == "auto"
    bridge = _Bridge(resolve(**options), choose_plan(plan), limits, headers or {}, moves_over=moves_over)
    card = model_card(model or "")
    Limits.chosen(limits, card, plan)
    if model is not None:
        bridge.check_residency(card)
    return bridge


class _Bridge:
    """From an SDK's request to the background loop and back."""

    def __init__(
        self,
        settings: Settings,
        plan: str,
        limits: Limits | None,
        headers: Mapping[str, str],
        *,
        moves_over: bool,
    ) -> None:
        self.settings, self._plan, self._limits, self._moves_over = settings, plan, limits, moves_over
        self._custom_headers, self._own = _custom_headers(), httpx.URL(settings.base_url)
        self._given_headers = {name.lower(): value for name, value in headers.items()}

    def check_residency(self, card: ModelCard) -> None:
        """Raises ResidencyError for a model that the settings forbid."""
        if not card.allowed_in(self.settings.residency):
            raise ResidencyError(card.name, card.region, str(self.settings.residency))

    async def answer(self, request: httpx.Request, body: bytes) -> httpx.Response:
        """What the service answers to a request of the SDK; called on the loop."""
        self._refuse_strangers(request.url)
        asked = asked_by(body)
        model = str(asked.get("model", ""))
        card = model_card(model)
        if model:
            self.check_residency(card)
        elif body and self.settings.residency is not None:
            raise ResidencyError("(not named in a way this client reads)", None, self.settings.residency)
        limits = Limits.chosen(self._limits, card, self._plan)
        direct = Way(settings=self.settings, model=model, card=card, limits=limits)
        # The queue does not stream, and works off nothing but questions.
        questions = "messages" in asked or request.url.path.endswith("/responses")
        queues = self._moves_over and questions and asked.get("stream") is not True
        *others, last = open_ways(with_queue(direct) if queues else [direct])
        for way in others:
            try:
                answer = await self._sent(request, body, asked, way)
            except UNAVAILABLE as error:
                unavailable(way, error)
                continue
            if not isinstance(answer.extensions.get(_ERROR), UNAVAILABLE):
                succeeded(way)
                return answer
            unavailable(way, answer.extensions[_ERROR])
        return await self._sent(request, body, asked, last)

    async def _sent(self, request: httpx.Request, body: bytes, asked: Mapping[str, Any], way: Way) -> httpx.Response:
        """The answer of one way; of the refusals that are known, with the error of the tree."""
        url = request.url
        if way.settings is not self.settings:
            url = httpx.URL(str(url).replace(self.settings.base_url, way.settings.base_url, 1))
        name = f"{way.model!r} at {way.settings.base_url}" if way.model else str(url)
        own = httpx.Request(request.method, url, headers=self._headers(request, asked), content=body)
        call = Call(
            line=line_of(way.settings, way.model),
            limits=way.limits,
            cost=cost_of(asked, way.card, embeds=url.path.endswith("/embeddings")),
            timeout=self._timeout(request),
            stream=asked.get("stream") is True,
            patience=way.patience,
        )
        try:
            answer = await send(own, call)
        except httpx.RequestError as error:
            raise connection_error(error, name, way.settings) from bare(error, own)
        if not answer.is_closed:
            answer.stream = Heeded(cast(httpx.AsyncByteStream, answer.stream), name, way.settings)
        elif not answer.is_success:
            answer.extensions[_ERROR] = refusal(answer, name, way.settings)
        elif asked:
            told = answer.extensions.get("json")
            if (failure := told_error(told, f"HTTP 200 with an error from {name}", way.settings)) is not None:
                raise failure
        return answer

    def _timeout(self, request: httpx.Request) -> float:
        """Seconds this request may take: the SDK's, which may be of one call alone, or those of the settings."""
        given = request.extensions.get("timeout") or {}
        return given.get("read") or self.settings.timeout

    def _headers(self, request: httpx.Request, asked: Mapping[str, Any]) -> list[tuple[str, str]]:
        dropped = _NOT_SENT
        is_own = request.extensions.get(_OWN_HEADERS) is True
        strange = frozenset() if is_own else self._custom_headers | _custom_headers()
        if not asked:  # a GET, or an upload, whose content-type has a boundary
            own = [("authorization", f"Bearer {self.settings.api_key.reveal()}")]
        else:
            dropped |= _OURS
            own = headers_of(self.settings, "text/event-stream" if asked.get("stream") is True else "application/json")
        given = request.headers.multi_items()
        kept = [header for header in given if header[0] not in dropped and header not in strange]
        names = dropped | {name for name, _ in kept}
        return [*own, *kept, *(header for header in self._given_headers.items() if header[0] not in names)]

    def _refuse_strangers(self, url: httpx.URL) -> None:
        """The key goes to the address of the settings and nowhere else, whatever an SDK makes of it."""
        own = self._own
        if (url.scheme, url.host, url.port) != (own.scheme, own.host, own.port):
            raise SettingsError.bad_choice("request to", str(url.copy_with(query=None)), (str(own),))


class _Sync(httpx.BaseTransport):
    def __init__(self, bridge: _Bridge) -> None:
        self._bridge = bridge

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = call(self._bridge.answer(request, request.read()))
        return _handed_over(answer, SyncBody)


class _Async(httpx.AsyncBaseTransport):
    def __init__(self, bridge: _Bridge) -> None:
        self._bridge = bridge

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await call_async(self._bridge.answer(request, await request.aread()))
        return _handed_over(answer, AsyncBody)


def _handed_over(answer: httpx.Response, body: type[SyncBody | AsyncBody]) -> httpx.Response:
    """The response as the SDK sees it: whole where it was read, else a body still to be read on the loop."""
    if answer.is_closed:
        # It was decoded on the loop already.
        headers = [pair for pair in answer.headers.raw if pair[0].lower() not in _DECODED]
        told = {key: error for key, error in answer.extensions.items() if key == _ERROR}
        return httpx.Response(answer.status_code, headers=headers, content=answer.content, extensions=told)
    return httpx.Response(answer.status_code, headers=answer.headers, stream=body(answer))


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


def _custom_headers() -> frozenset[tuple[str, str]]:
    """What is in OPENAI_CUSTOM_HEADERS, lines of "Name: value" that OpenAI's SDK adds to every request.

    By name and value, for a header that somebody has given stands in the place of one of that name from there.
    """
    lines = (line.partition(":") for line in os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n"))
    return frozenset((name.strip().lower(), value.strip()) for name, colon, value in lines if colon)
