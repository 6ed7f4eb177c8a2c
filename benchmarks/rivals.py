"""What else people take, and what the benchmarks share; imported by the other scripts, measures nothing itself.

The rivals: a loop written by hand with httpx and a semaphore, the openai SDK with its own retries, the openai SDK
under tenacity as OpenAI's cookbook has it, and LangChain's `LLMImageBlobParser`. Each asks for what it is given, as it
is given, of the emulator whose address and key the environment has.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import subprocess
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from unittest.mock import patch

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager

    from openai.types.chat import ChatCompletionMessageParam

MODEL = "Qwen3-VL-30B-A3B-Instruct-FP8"
PROMPT = "Describe this image for a search index, in two to four plain sentences. Then transcribe all text in it."
ROOT = Path(__file__).parent.parent
TIMEOUT = 60.0  # seconds


@dataclass(frozen=True)
class Answer:
    """What came back for a picture: the text, and the input tokens the service has counted."""

    text: str
    input_tokens: int


if TYPE_CHECKING:
    Ask = Callable[[bytes], Awaitable[Answer]]
    Client = AbstractAsyncContextManager[Ask]
    Rival = Callable[[int], Client]


# -- The rivals --------------------------------------------------------------------------------------------------


def messages(data: bytes) -> list[ChatCompletionMessageParam]:
    """The question about a picture, as everybody writes it."""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    url = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return [
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": PROMPT}],
        }
    ]


@asynccontextmanager
async def by_httpx(in_flight: int) -> AsyncIterator[Ask]:
    """By hand: httpx, and no retries."""
    import httpx

    async def ask(data: bytes) -> Answer:
        answer = await client.post("/chat/completions", json={"model": MODEL, "messages": messages(data)})
        found = answer.raise_for_status().json()
        return Answer(found["choices"][0]["message"]["content"], found["usage"]["prompt_tokens"])

    headers = {"Authorization": "Bearer " + os.environ["AIFS_API_KEY"]}
    limits = httpx.Limits(max_connections=in_flight)
    base_url = os.environ["AIFS_BASE_URL"]
    async with httpx.AsyncClient(base_url=base_url, headers=headers, timeout=TIMEOUT, limits=limits) as client:
        yield ask


@asynccontextmanager
async def by_openai(_in_flight: int, *, retries: int = 2, faster: float = 1.0) -> AsyncIterator[Ask]:
    """The openai SDK with its own retries, whose waits are so many times shorter than they are."""
    from openai import AsyncOpenAI
    from openai import _constants as usual

    async def ask(data: bytes) -> Answer:
        found = await client.chat.completions.create(model=MODEL, messages=messages(data))
        return Answer(found.choices[0].message.content or "", found.usage.prompt_tokens if found.usage else 0)

    shorter = patch.multiple(
        "openai._base_client",
        INITIAL_RETRY_DELAY=usual.INITIAL_RETRY_DELAY / faster,
        MAX_RETRY_DELAY=usual.MAX_RETRY_DELAY / faster,
    )
    key, base_url = os.environ["AIFS_API_KEY"], os.environ["AIFS_BASE_URL"]
    with shorter:
        async with AsyncOpenAI(api_key=key, base_url=base_url, timeout=TIMEOUT, max_retries=retries) as client:
            yield ask


@asynccontextmanager
async def by_tenacity(in_flight: int, *, faster: float = 1.0) -> AsyncIterator[Ask]:
    """The openai SDK under tenacity: random waits of up to 1, 2, 4, ... 60 s (so many times shorter), six attempts."""
    from tenacity import retry, stop_after_attempt, wait_random_exponential

    async with by_openai(in_flight, retries=0) as once:
        waits = wait_random_exponential(multiplier=1 / faster, min=1 / faster, max=60 / faster)
        yield retry(wait=waits, stop=stop_after_attempt(6))(once)


def read_all(
    client: Rival, pictures: Iterable[bytes | Path], in_flight: int, warm_up: bytes | None = None
) -> dict[str, Any]:
    """Reads all pictures; what was read (None is lost), and the seconds and CPU seconds it took.

    `warm_up` is a picture that is asked before, so that no import or first connection counts.
    """
    return asyncio.run(_read_all(client(in_flight), pictures, in_flight, warm_up))


async def _read_all(
    client: Client, pictures: Iterable[bytes | Path], in_flight: int, warm_up: bytes | None
) -> dict[str, Any]:
    lost = _ways_to_lose()
    slots = asyncio.Semaphore(in_flight)

    async def one(picture: bytes | Path) -> Answer | None:
        async with slots:
            try:
                return await ask(picture.read_bytes() if isinstance(picture, Path) else picture)  # noqa: ASYNC240
            except lost:
                return None

    async with AsyncExitStack() as stack:
        ask = await stack.enter_async_context(client)
        if warm_up is not None:
            await ask(warm_up)
        watch = Stopwatch()
        answers = await asyncio.gather(*(one(picture) for picture in pictures))
        return {
            **watch.stopped(),
            "read": sum(answer is not None for answer in answers),
            "input_tokens": [answer and answer.input_tokens for answer in answers],
        }


def _ways_to_lose() -> tuple[type[Exception], ...]:
    from httpx import HTTPError
    from openai import OpenAIError
    from tenacity import RetryError

    return HTTPError, OpenAIError, RetryError


def by_langchain(paths: Sequence[Path]) -> dict[str, Any] | None:
    """Reads files one after the other, as `lazy_parse` does; None where langchain-community is not installed.

    It saves every picture as PNG and labels that image/jpeg, which the emulator refuses: the label is put right.
    """
    try:
        parsers = import_module("langchain_community.document_loaders.parsers.images")
    except ImportError:
        return None
    from langchain_core.documents.base import Blob
    from langchain_openai import ChatOpenAI

    class Relabelled(ChatOpenAI):
        def invoke(self, input: Any, *more: Any, **options: Any) -> Any:  # noqa: A002 - LangChain's name
            given = input[0].content[1]["image_url"]
            given["url"] = given["url"].replace("data:image/jpeg", "data:image/png", 1)
            return super().invoke(input, *more, **options)

    options: dict[str, Any] = {"base_url": os.environ["AIFS_BASE_URL"], "api_key": os.environ["AIFS_API_KEY"]}
    parser = parsers.LLMImageBlobParser(model=Relabelled(model=MODEL, **options))
    watch = Stopwatch()
    documents = [document for path in paths for document in parser.lazy_parse(Blob.from_path(path))]
    return {**watch.stopped(), "read": len(documents)}


# -- What the benchmarks share -----------------------------------------------------------------------------------


class Stopwatch:
    """Wall and CPU seconds of this process since it was made."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def stopped(self) -> dict[str, float]:
        """The seconds so far."""
        return {"seconds": time.perf_counter() - self._wall, "cpu": time.process_time() - self._cpu}


class Server(Protocol):
    """What a side is told of a server."""

    @property
    def base_url(self) -> str:
        """Its address."""
        ...

    @property
    def api_key(self) -> str:
        """The key it accepts."""
        ...


def aside(script: str, *arguments: object, server: Server | None = None) -> Any:
    """What a script prints as JSON when it is given these arguments, in a process of its own."""
    done = subprocess.run(command(script, *arguments), env=environment(server), stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def command(script: str, *arguments: object) -> list[str]:
    """The command that runs a script with these arguments."""
    return [sys.executable, script, *map(str, arguments)]


def environment(server: Server | None = None) -> dict[str, str]:
    """The environment of a side: this one's, without proxies, with the address and the key of a server."""
    usual = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    address = {} if server is None else {"AIFS_BASE_URL": server.base_url, "AIFS_API_KEY": server.api_key}
    return {**usual, "PYTHONPATH": str(ROOT), **address}


def goal(what: str, figure: str, wanted: str, *, met: bool) -> None:
    """Prints a figure beside its goal."""
    print(f"{what}: {figure} (goal: {wanted}): {'reached' if met else 'missed'}")


def small_png(number: int) -> bytes:
    """A small picture, each number another one."""
    buffer = io.BytesIO()
    Image.new("RGB", (64 + number % 50, 64), (number % 256, 90 + number // 256, 120)).save(buffer, "PNG")
    return buffer.getvalue()


def noise_jpeg(number: int, side: int, quality: int) -> bytes:
    """Noise, each number another one, that can be sent as it is and does not compress."""
    random = np.random.default_rng(number)
    buffer = io.BytesIO()
    noise = Image.fromarray(random.integers(0, 256, (side, side, 3), np.uint8))
    noise.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


if __name__ == "__main__":
    print("The rivals of the other benchmarks; nothing to measure here.")
