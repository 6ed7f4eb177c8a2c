"""`plan=`: chat model and embeddings are paced by what the price list allows the plan, or by limits that are given."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from aifs_vision import Limits, SettingsError, model_card
from aifs_vision.testing import virtual_time
from langchain_aifs import AIFSEmbeddings, ChatAIFS

if TYPE_CHECKING:
    from collections.abc import Callable

ADDRESS = "http://127.0.0.1:9/v2"  # nobody is there: a scripted service answers in its place
CALLS = 60
QWEN, BGE = "Qwen3-VL-30B-A3B-Instruct-FP8", "text-embedding-bge-m3"


async def answered(request: httpx.Request) -> httpx.Response:
    """A service that answers at once."""
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    if request.url.path.endswith("/embeddings"):
        texts = json.loads(request.content)["input"]
        data = [{"index": at, "embedding": [0.5] * 1024} for at, _ in enumerate(texts)]
        return httpx.Response(200, json={"data": data, "usage": usage})
    choice = {"index": 0, "message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}
    return httpx.Response(200, json={"choices": [choice], "usage": usage})


def chatted(**settings: Any) -> None:
    """So many questions."""
    chat = ChatAIFS(model=QWEN, max_tokens=5, **settings)
    for _ in range(CALLS):
        chat.invoke("Yes?")


def awaited(**settings: Any) -> None:
    """So many questions at once."""
    chat = ChatAIFS(model=QWEN, max_tokens=5, **settings)
    assert len(asyncio.run(chat.abatch(["Yes?"] * CALLS))) == CALLS


def embedded(**settings: Any) -> None:
    """So many texts, each a request of its own."""
    assert len(AIFSEmbeddings(model=BGE, chunk_size=1, **settings).embed_documents(["Yes?"] * CALLS)) == CALLS


def seconds(ask: Callable[..., None], **settings: Any) -> float:
    """How long all of them take."""
    with virtual_time(answered) as clock:
        ask(api_key="k", base_url=ADDRESS, **settings)
        return clock.now


@pytest.mark.parametrize("plan", ["essential", "professional", "agentic"])
@pytest.mark.parametrize(("ask", "model"), [(chatted, QWEN), (awaited, QWEN), (embedded, BGE)])
def test_requests_are_paced_by_the_plan(ask: Callable[..., None], model: str, plan: str) -> None:
    """Requests go out at 95 % of what the plan allows a minute."""
    allowed = model_card(model).allowances[plan].requests_per_minute
    assert allowed is not None
    assert seconds(ask, plan=plan) == pytest.approx(CALLS * 60 / (0.95 * allowed), rel=0.15)


@pytest.mark.parametrize("ask", [chatted, awaited, embedded])
def test_limits_take_the_place_of_the_plan(ask: Callable[..., None]) -> None:
    """Limits that are given hold, whatever the plan allows."""
    given = Limits(requests_per_minute=1200)
    assert seconds(ask, plan="essential", limits=given) == pytest.approx(CALLS * 60 / (0.95 * 1200), rel=0.15)


@pytest.mark.parametrize("kind", [ChatAIFS, AIFSEmbeddings])
def test_an_unknown_plan_is_an_error(kind: Callable[..., Any]) -> None:
    """A plan that the service does not have is refused at once, with those it has."""
    with pytest.raises(SettingsError, match=r"golden.*essential.*professional.*agentic"):
        kind(api_key="k", plan="golden")
