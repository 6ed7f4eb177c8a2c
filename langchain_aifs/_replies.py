"""What the base class leaves out of an answer: thoughts, refusals, calls that are none, cost, what was paid before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage
from langchain_core.messages.tool import invalid_tool_call
from langchain_core.outputs import ChatGeneration

from aifs_vision import model_card
from langchain_aifs._shapes import INVALID_CALLS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_core.messages import BaseMessage, InvalidToolCall

__all__ = ["cost_eur", "keep_asides", "paid_before", "price"]


def cost_eur(answer: Mapping[str, Any], model: str) -> float | None:
    """What an answer of this model costs, in EUR; None where its usage or the price is not known."""
    usage = answer.get("usage") or {}
    if usage.get("prompt_tokens") is None:
        return None
    return price(answer.get("model"), model, usage["prompt_tokens"], usage.get("completion_tokens") or 0)


def price(told: Any, model: str, read: int, written: int) -> float | None:
    """What these tokens cost, in EUR, of the model that an answer tells; of `model` where nobody knows that one."""
    card = model_card(str(told or model))
    card = card if card.known else model_card(model)
    return card.cost_eur(read, written)


def keep_asides(message: BaseMessage, said: Mapping[str, Any]) -> None:
    """Puts what LangChain leaves where its partners have it: thoughts, of either name, refusals, and invalid calls."""
    asides = {
        "reasoning_content": said.get("reasoning_content") or said.get("reasoning"),
        "refusal": said.get("refusal"),
    }
    message.additional_kwargs.update(
        {name: words for name, words in asides.items() if words and isinstance(words, str)}
    )
    if isinstance(message, AIMessage):
        message.invalid_tool_calls += [_invalid(call) for call in said.get(INVALID_CALLS) or ()]


def _invalid(call: Mapping[str, Any]) -> InvalidToolCall:
    function, error = call["function"], "the arguments are no JSON object"
    return invalid_tool_call(id=call["id"], name=function["name"], args=function["arguments"], error=error)


def paid_before(generation: ChatGeneration) -> ChatGeneration:
    """The same answer without its tokens and costs; the one in the cache is left as it is."""
    message = generation.message
    told = {name: value for name, value in message.response_metadata.items() if name != "token_usage"}
    used = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "total_cost": 0}
    changed = message.model_copy(update={"response_metadata": {**told, "cost_eur": 0.0}, "usage_metadata": used})
    return ChatGeneration(message=changed, generation_info=generation.generation_info)
