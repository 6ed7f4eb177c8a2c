"""A service in memory and in virtual time: limits of many kinds, with and without headers and hints."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["Service", "answer"]


def answer(text: str = "some text", **more: Any) -> dict[str, Any]:
    """The JSON of a chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 20}, **more}


@dataclass(kw_only=True)
class Service:
    """Answers chat requests in `latency` seconds, at most `limit` in `window` seconds.

    Attributes:
        limit, window: requests let in a window; None is no limit.
        kind: "fixed" windows that begin with their first request, "sliding" ones, or a "bucket" that refills.
        rejects_count: whether requests that are refused count as well.
        headers: whether `x-ratelimit-*` are sent; a bucket's reset is the time until it is full.
        hint: what a 429 says: nothing, a `retry-after` header, or words.
        azure: whether errors have the body of Azure or that of T-Cloud.
        reply: gives the response to a request that is let in, by its number; None for a usual one.
    """

    limit: int | None = None
    window: float = 60.0
    kind: Literal["fixed", "sliding", "bucket"] = "fixed"
    rejects_count: bool = False
    headers: bool = False
    hint: Literal["none", "header", "words"] = "none"
    azure: bool = False
    latency: float = 1.0
    reply: Callable[[int], httpx.Response | Exception | None] | None = None
    statuses: Counter[int] = field(default_factory=Counter)
    arrivals: list[float] = field(default_factory=list)
    most: int = 0

    def __post_init__(self) -> None:
        self._log: deque[float] = deque()
        self._began = 0.0
        self._level, self._at = float(self.limit or 0), 0.0
        self._now = self._asked = 0

    async def __call__(self, _: httpx.Request) -> httpx.Response:
        """The response; takes its time in the loop's own clock."""
        now = asyncio.get_running_loop().time()
        self.arrivals.append(now)
        allowed, left, reset = self._admit(now)
        headers = {}
        if self.headers and self.limit:
            headers = {
                "x-ratelimit-limit-requests": str(self.limit),
                "x-ratelimit-remaining-requests": str(left),
                "x-ratelimit-reset-requests": f"{round(reset * 1000)}ms",
            }
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            if not allowed:
                await asyncio.sleep(0.05)
                return self._refused(reset, headers)
            number, self._asked = self._asked, self._asked + 1
            await asyncio.sleep(self.latency)
            made = self.reply(number) if self.reply else None
            if isinstance(made, Exception):
                raise made
            made = made or httpx.Response(200, json=answer())
            self.statuses[made.status_code] += 1
            made.headers.update(headers)
            return made
        finally:
            self._now -= 1

    def _refused(self, reset: float, headers: dict[str, str]) -> httpx.Response:
        self.statuses[429] += 1
        words = "Rate limit reached"
        if self.hint == "header":
            headers = {**headers, "retry-after": f"{reset:.3f}"}
        elif self.hint == "words":
            words = f"{words}, please try again in {round(reset * 1000)}ms."
        body: Any = {"error": {"message": words, "code": "429"}} if self.azure else {"detail": words}
        return httpx.Response(429, headers=headers, json=body)

    def _admit(self, now: float) -> tuple[bool, int, float]:
        """Whether a request is let in, what is left after it, and the seconds of the reset."""
        if self.limit is None:
            return True, 0, 0.0
        if self.kind == "bucket":
            rate = self.limit / self.window
            self._level = min(self.limit, self._level + (now - self._at) * rate)
            self._at = now
            allowed = self._level >= 1
            self._level -= allowed or self.rejects_count
            hint = (self.limit - self._level) / rate if allowed else (1 - self._level) / rate
            return allowed, max(0, int(self._level)), hint
        if self.kind == "fixed" and now - self._began >= self.window:
            self._log.clear()
        if not self._log:
            self._began = now
        while self.kind == "sliding" and self._log and now - self._log[0] >= self.window:
            self._log.popleft()
        allowed = len(self._log) < self.limit
        if allowed or self.rejects_count:
            self._log.append(now)
        begun = self._began if self.kind == "fixed" else self._log[0]
        return allowed, max(0, self.limit - len(self._log)), max(0.0, begun + self.window - now)


class Dripping(httpx.AsyncByteStream):
    """A body that comes a byte at a time, and may break off."""

    def __init__(self, data: bytes, every: float, *, breaks: bool = False) -> None:
        self._data, self._every, self._breaks = data, every, breaks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for byte in self._data:
            await asyncio.sleep(self._every)
            yield bytes([byte])
        if self._breaks:
            raise httpx.ReadError("the connection broke")


def json_bytes(value: Any) -> bytes:
    """JSON as bytes."""
    return json.dumps(value).encode()
