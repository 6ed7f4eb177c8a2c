"""The endpoints, as a Starlette application."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from aifs_vision._catalogue import model_card
from aifs_vision.emulator import _wire as wire
from aifs_vision.emulator._checks import (
    ChatRequest,
    Refused,
    check_chat,
    check_embeddings,
    decode_images,
    shortened,
)
from aifs_vision.emulator._embeddings import Embedder
from aifs_vision.emulator._log import LoggedRequest
from aifs_vision.emulator._response_checks import check_responses
from aifs_vision.emulator._response_objects import events_of, response_of
from aifs_vision.emulator._store_checks import check_text
from aifs_vision.emulator._stores import Stores

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from starlette.requests import Request

    from aifs_vision._catalogue import ModelCard
    from aifs_vision.emulator._brain import Brain
    from aifs_vision.emulator._faults import Fault, Faults
    from aifs_vision.emulator._log import RequestLog
    from aifs_vision.emulator._quota import Quota

    Reply = Callable[[ChatRequest], "str | dict[str, Any] | None"]

__all__ = ["Answer", "Service"]

_log = logging.getLogger("aifs_vision.emulator")

_THREADS = 2  # recognising the text of a page keeps a core busy for seconds
_GATEWAY_PAGE = b"<!doctype html><html><head><title>Gateway</title></head><body>Please sign in.</body></html>"
_GONE = 499  # nginx's status for a client that has left
_FOREVER = 3600.0
_CHUNKS_BEFORE_CUT = 2
_REMEMBERED = 64  # conversations that a `previous_response_id` may name


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is to be sent: a JSON text, or the chunks of a stream."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    media_type: str = "application/json"
    chunks: list[bytes]
    stream: bool = False

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
        """A value as JSON; a text is taken to be JSON already."""
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return cls(status=status, headers=headers or {}, chunks=[text.encode()])


@dataclass(kw_only=True)
class Service:
    """What answers the requests; one for each emulator.

    `abort` breaks the connection to a client, by its address; `rate_limit_headers` None sends them for the
    models on Azure alone, as the service does.
    """

    api_key: str
    log: RequestLog
    faults: Faults
    quota: Quota
    brain: Brain
    reply: Reply | None
    latency: float
    jitter: float
    rate_limit_headers: bool | None
    abort: Callable[[Any], None]
    ocr: bool

    def __post_init__(self) -> None:
        self._embedder = Embedder()
        self._said: dict[str, list[dict[str, Any]]] = {}  # conversations, by the response that each ends with
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="aifs-emulator")
        self._stores = Stores(ocr=self.ocr, embedder=self._embedder, work=self._work)
        visual_rag = [
            self._route("/v1" + path, method, _in_json(endpoint)) for path, method, endpoint in self._stores.endpoints()
        ]
        routes = [*self._routes("/v2"), *self._routes("/queue"), *visual_rag, *self._routes_elsewhere()]
        self.app = Starlette(routes=routes, exception_handlers={Exception: _failed})

    def close(self) -> None:
        """Ends the worker threads."""
        self._stores.close()
        self._pool.shutdown(cancel_futures=True)

    def _routes(self, prefix: str) -> list[Route]:
        return [
            self._route(f"{prefix}/models", "GET", self._models),
            self._route(f"{prefix}/models/{{name:path}}", "GET", self._model),
            self._route(f"{prefix}/chat/completions", "POST", self._chat),
            self._route(f"{prefix}/responses", "POST", self._respond),
            self._route(f"{prefix}/embeddings", "POST", self._embed),
        ]

    def _route(self, path: str, method: str, endpoint: Callable[..., Awaitable[Answer]]) -> Route:
        async def answered(request: Request) -> Response:
            return await self._answer(request, endpoint)

        return Route(path, answered, methods=[method])

    def _routes_elsewhere(self) -> list[Route]:
        """Everything else is logged and refused in the service's form, too: a client that strays is to be seen."""

        async def strayed(request: Request) -> Response:
            return await self._answer(request, self._nothing_here)

        return [Route("/{path:path}", strayed, methods=["DELETE", "GET", "PATCH", "POST", "PUT"])]

    async def _answer(
        self, request: Request, endpoint: Callable[[Request, LoggedRequest, Fault | None], Awaitable[Answer]]
    ) -> Response:
        """One request from its arrival to its answer: logged, its key checked, met by its fault."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        logged = LoggedRequest(method=request.method, path=request.url.path, headers=headers)
        self.log.add(logged)
        try:
            logged.body = _parsed(await request.body())
        except ClientDisconnect:  # nobody is there any more to hear an answer
            logged.finished = time.monotonic()
            return Response(status_code=_GONE)
        card = model_card(logged.model) if isinstance(logged.model, str) else None
        fault = None
        try:
            if headers.get("authorization") != f"Bearer {self.api_key}":
                card = None  # whose key it is comes before whose model it is
                raise Refused(401, "Incorrect API key provided")  # noqa: TRY301 - answered like all refusals
            fault = self.faults.next(request.url.path)
            answer = _instead(fault, card) or await endpoint(request, logged, fault)
        except Refused as refused:
            answer = Answer.json(wire.error_body(refused.status, refused.words, card), refused.status, refused.headers)
        if _is(fault, "reset"):
            self.abort(request.client)
            await asyncio.sleep(0)  # the server notices, and sends nothing of what follows
        else:
            logged.status = answer.status
        return StreamingResponse(
            self._body(answer, logged, fault, request),
            status_code=answer.status,
            headers={**answer.headers, **_length(answer, fault), "x-request-id": uuid4().hex},
            media_type=answer.media_type,
        )

    async def _body(
        self, answer: Answer, logged: LoggedRequest, fault: Fault | None, request: Request
    ) -> AsyncIterator[bytes]:
        """The bytes of an answer, late or broken as the fault has it."""
        kind = fault.kind if fault else None
        try:
            if fault is not None and kind in {"slow", "stall"}:
                await asyncio.sleep(_FOREVER if kind == "stall" else fault.seconds)
            for chunk in _cut(answer, kind):
                yield chunk
                await asyncio.sleep(fault.seconds if fault is not None and kind == "drip" else 0)
            if kind == "reset_body":
                self.abort(request.client)
                await asyncio.sleep(0)  # as above
        finally:
            logged.finished = time.monotonic()

    async def _nothing_here(self, request: Request, _logged: LoggedRequest, _fault: Fault | None) -> Answer:
        raise Refused(404, f"There is no {request.method} {request.url.path}.")

    # -- Endpoints -------------------------------------------------------------------------------------------

    async def _models(self, _request: Request, _logged: LoggedRequest, _fault: Fault | None) -> Answer:
        return Answer.json({"object": "list", "data": wire.model_entries()})

    async def _model(self, request: Request, _logged: LoggedRequest, _fault: Fault | None) -> Answer:
        card = model_card(request.path_params["name"])
        if not card.known:
            raise Refused(404, f"The model `{card.name}` does not exist.")
        return Answer.json(wire.model_entry(card))

    async def _embed(self, _request: Request, logged: LoggedRequest, _fault: Fault | None) -> Answer:
        card, texts = check_embeddings(logged.body)
        headers = self._admit(card, wire.tokens_of_text(*texts))
        vectors = await self._work(self._embedder.embed, texts, card.dimensions)
        encoding = logged.body.get("encoding_format", "float")
        return Answer.json(wire.embeddings(logged.body["model"], texts, vectors, encoding), headers=headers)

    async def _chat(self, request: Request, logged: LoggedRequest, fault: Fault | None) -> Answer:
        asked = check_chat(logged.body)
        whole, headers = await self._completion(asked, request, logged, fault)
        usage = bool((asked.body.get("stream_options") or {}).get("include_usage"))
        return _told(whole, wire.events(whole, usage=usage) if asked.stream else None, headers)

    async def _respond(self, request: Request, logged: LoggedRequest, fault: Fault | None) -> Answer:
        body = logged.body if isinstance(logged.body, dict) else {}
        asked = check_responses(logged.body, self._said_before(body.get("previous_response_id")))
        completion, headers = await self._completion(asked, request, logged, fault)
        whole = response_of(completion, body)
        if body.get("store") is not False and completion["choices"]:
            said = asked.body["messages"][bool(body.get("instructions")) :]  # these hold for once alone
            self._said[whole["id"]] = [*said, completion["choices"][0]["message"]]
            while len(self._said) > _REMEMBERED:
                del self._said[next(iter(self._said))]
        return _told(whole, events_of(whole) if asked.stream else None, headers)

    def _said_before(self, name: Any) -> list[dict[str, Any]]:
        """The conversation that ends with the response of this name.

        Raises:
            Refused: there was none, or it was not to be stored, or long ago.
        """
        if name is None:
            return []
        if name not in self._said:
            raise Refused(400, f"Previous response with id '{name}' not found.")
        return self._said[name]

    async def _completion(
        self, asked: ChatRequest, request: Request, logged: LoggedRequest, fault: Fault | None
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """The chat completion for a request, and the headers of its answer."""
        if asked.stream and request.url.path.startswith("/queue"):
            raise Refused(400, "The queue does not stream.")
        logged.body = shortened(logged.body)
        self.log.keep_images(logged, [(image.label or "", image.data) for image in asked.images])
        if asked.images:
            await self._work(decode_images, asked)
        headers = self._admit(asked.card, wire.input_tokens(asked))
        if self.latency or self.jitter:
            await asyncio.sleep(self.latency + random.uniform(0, self.jitter))  # noqa: S311 - no secret
        whole = wire.completion(asked, await self._message(asked), cut=_is(fault, "length"))
        if _is(fault, "no_choices"):
            whole["choices"] = []
        return whole, headers

    async def _message(self, asked: ChatRequest) -> dict[str, Any]:
        said = await self._work(self.reply, asked) if self.reply is not None else None
        if said is None:
            said = await self._work(self.brain.answer, asked)
        return {"content": said} if isinstance(said, str) else dict(said)

    def _admit(self, card: ModelCard, tokens: int) -> dict[str, str]:
        """The rate-limit headers of a request that is let in.

        Raises:
            Refused: it is over the limit.
        """
        standing = self.quota.take(card.name, tokens)
        wanted = self.rate_limit_headers
        if wanted is None:
            wanted = (card.region or "").startswith("azure")
        headers = wire.rate_headers(standing) if wanted else {}
        if not standing.allowed:
            words = f"Rate limit reached, please try again in {round(standing.reset * 1000)}ms."
            raise Refused(429, words, headers=headers)
        return headers

    async def _work(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)


def _told(whole: dict[str, Any], events: Iterable[bytes] | None, headers: dict[str, str]) -> Answer:
    """An answer in one piece, or as the events of a stream."""
    if events is None:
        return Answer.json(whole, headers=headers)
    return Answer(headers=headers, media_type="text/event-stream", chunks=list(events), stream=True)


def _in_json(endpoint: Callable[[Request, LoggedRequest], Awaitable[Any]]) -> Callable[..., Awaitable[Answer]]:
    async def answered(request: Request, logged: LoggedRequest, _fault: Fault | None) -> Answer:
        check_text(logged.body)
        return Answer.json(await endpoint(request, logged))

    return answered


async def _failed(request: Request, error: Exception) -> Response:
    """A mistake of the emulator, or of a `reply=`, answered as the service answers its own; the log has the rest."""
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    words = f"the emulator failed: {type(error).__name__}: {error}"
    return Response(wire.error_body(500, words, None), 500, media_type="application/json")


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body.decode()) if body else None  # strictly: Python would take half surrogates
    except ValueError:
        return None


def _is(fault: Fault | None, kind: str) -> bool:
    return fault is not None and fault.kind == kind


def _instead(fault: Fault | None, card: ModelCard | None) -> Answer | None:
    """The answer of a fault that needs no model, or None where the model is to answer."""
    if fault is None:
        return None
    if fault.kind == "status":
        words = f"scripted fault {fault.status}"
        body = fault.body if fault.body is not None else wire.error_body(fault.status, words, card)
        return Answer.json(body, fault.status, dict(fault.headers))
    if fault.kind == "html":
        return Answer(media_type="text/html", chunks=[_GATEWAY_PAGE])
    return Answer(chunks=[]) if fault.kind == "reset" else None


def _cut(answer: Answer, kind: str | None) -> list[bytes]:
    """The chunks to be sent of an answer that ends too early."""
    if kind not in {"cut_json", "cut_stream", "reset_body"}:
        return answer.chunks
    if answer.stream:
        return answer.chunks[:_CHUNKS_BEFORE_CUT]
    whole = b"".join(answer.chunks)
    return [whole[: len(whole) // 2]]


def _length(answer: Answer, fault: Fault | None) -> dict[str, str]:
    """The content-length of a JSON answer: of what is sent, or of what ought to have been."""
    if answer.stream:
        return {}
    sent = answer.chunks if _is(fault, "reset_body") else _cut(answer, fault.kind if fault else None)
    return {"content-length": str(sum(map(len, sent)))}
