"""The service's wire format: completions, chunks, embeddings, models and both shapes of an error."""

from __future__ import annotations

import base64
import itertools
import json
import re
import struct
import time
from typing import TYPE_CHECKING, Any

from aifs_vision._catalogue import catalogue
from aifs_vision.emulator._usage import cut_to_tokens, tokens_of_image, tokens_of_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aifs_vision._catalogue import ModelCard
    from aifs_vision.emulator._checks import ChatRequest
    from aifs_vision.emulator._quota import Standing

__all__ = [
    "FINGERPRINT",
    "completion",
    "embeddings",
    "error_body",
    "events",
    "input_tokens",
    "model_entries",
    "model_entry",
    "pieces",
    "rate_headers",
    "tokens_of_text",
]

FINGERPRINT = "aifs-emulator"
_KINDS = {"chat": "LLM", "embedding": "EMBEDDING", "speech": "STT"}
_numbers = itertools.count(1)
_SOME_WORDS = re.compile(r"\s*\S+(?:\s+\S+){0,2}\s*")


def pieces(text: str) -> list[str]:
    """A text as a stream brings it, three words at a time."""
    return _SOME_WORDS.findall(text)


def input_tokens(request: ChatRequest) -> int:
    """The prompt's tokens: its texts, and its pictures by the rule of the model's family."""
    rule = request.card.image_rule
    pictures = [(image.picture.size, image.detail) for image in request.images if image.picture is not None]
    seen = sum(tokens_of_image(rule, *size, detail) for size, detail in pictures if rule)
    return tokens_of_text(*request.texts) + seen


def completion(request: ChatRequest, message: dict[str, Any], *, cut: bool = False) -> dict[str, Any]:
    """A chat completion; the content is cut to the request's room, and `finish_reason` says so."""
    message = {"role": "assistant", "content": None, **message}
    finish = message.pop("finish_reason", None)
    content = message["content"]
    written, shortened = 0, False
    if isinstance(content, str):
        whole = tokens_of_text(content)
        room = min(request.max_tokens or whole, whole // 2 if cut else whole)
        message["content"], written, shortened = cut_to_tokens(content, room)
    if finish is None:
        finish = "length" if shortened or cut else "tool_calls" if message.get("tool_calls") else "stop"
    read = input_tokens(request)
    return {
        "id": f"chatcmpl-emulator-{next(_numbers)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.model,
        "system_fingerprint": FINGERPRINT,
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
        "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
    }


def events(whole: dict[str, Any], *, usage: bool) -> Iterator[bytes]:
    """The same completion as server-sent events, a few words each."""
    for chunk in _chunks(whole, usage=usage):
        yield b"data: %s\n\n" % json.dumps(chunk, ensure_ascii=False).encode()
    yield b"data: [DONE]\n\n"


def _chunks(whole: dict[str, Any], *, usage: bool) -> Iterator[dict[str, Any]]:
    head = {key: whole[key] for key in ("id", "created", "model", "system_fingerprint")}
    head["object"] = "chat.completion.chunk"
    deltas: list[tuple[dict[str, Any], str | None]] = []
    for choice in whole["choices"]:
        message = choice["message"]
        deltas.append(({"role": "assistant", "content": ""}, None))
        deltas += [({"content": piece}, None) for piece in pieces(message["content"] or "")]
        if calls := message.get("tool_calls"):
            deltas.append(({"tool_calls": [{"index": at, **call} for at, call in enumerate(calls)]}, None))
        deltas.append(({}, choice["finish_reason"]))
    for delta, finish in deltas:
        yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    if usage:
        yield {**head, "choices": [], "usage": whole["usage"]}


def embeddings(model: str, texts: Sequence[str], vectors: Sequence[Sequence[float]], encoding: str) -> dict[str, Any]:
    """An answer of the embeddings endpoint."""
    read = tokens_of_text(*texts)

    def encoded(vector: Sequence[float]) -> Any:
        if encoding == "base64":
            return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        return list(vector)

    return {
        "object": "list",
        "model": model,
        "data": [
            {"object": "embedding", "index": index, "embedding": encoded(vector)}
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": read, "total_tokens": read},
    }


def model_entries() -> list[dict[str, Any]]:
    """Every model that one can ask something of."""
    return [model_entry(card) for card in catalogue().values() if card.kind in _KINDS]


def model_entry(card: ModelCard) -> dict[str, Any]:
    """A model, as the list of models describes it."""
    country = {"germany": "Germany, EU", "eu": "EU"}.get(card.residency or "", "")
    return {
        "id": card.name,
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": FINGERPRINT,
        "meta_data": {
            "model_type": _KINDS.get(card.kind, card.kind),
            "max_sequence_length": card.context_window,
            "max_output_length": card.max_output_tokens,
            "hidden_size": card.dimensions,
            "deployment_region": card.region,
            "deployment_country": country,
            "input_modalities": ["text", "image"] if card.takes_images else ["text"],
            "output_modalities": ["text"],
            "display_name": card.display_name,
            "model_lifecycle_stage": "productive",
            "is_externally_hosted": card.residency != "germany",
            "license": None,
        },
    }


def error_body(status: int, words: str, card: ModelCard | None) -> str:
    """An error as the model's host shapes it: `{"error": ...}` on Azure, `{"detail": ...}` elsewhere."""
    if card is not None and (card.region or "").startswith("azure"):
        code = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}.get(status)
        kind = "server_error" if status >= 500 else "invalid_request_error"  # noqa: PLR2004
        kind = "rate_limit_error" if code == "rate_limit_exceeded" else kind
        return json.dumps({"error": {"message": words, "type": kind, "param": None, "code": code}})
    return json.dumps({"detail": words})


def rate_headers(standing: Standing) -> dict[str, str]:
    """The `x-ratelimit-*` headers that models on Azure send."""
    headers = {}
    for name, limit, left in (
        ("requests", standing.limit_requests, standing.remaining_requests),
        ("tokens", standing.limit_tokens, standing.remaining_tokens),
    ):
        if limit is not None:
            headers[f"x-ratelimit-limit-{name}"] = str(limit)
            headers[f"x-ratelimit-remaining-{name}"] = str(left)
            headers[f"x-ratelimit-reset-{name}"] = _duration(standing.reset)
    return headers


def _duration(seconds: float) -> str:
    """A span as the service writes it: "1m2.5s", "3s" or "120ms"."""
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}m{rest:g}s" if minutes else f"{rest:.3g}s"
