"""Words that hosts have for a context window without room, and those that only look like them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from aifs_vision import (
    APIError,
    BadRequestError,
    ContextLengthError,
    Limits,
    RateLimitError,
    TextEmbedder,
    UnexpectedAnswerError,
)
from aifs_vision.testing import isolated, virtual_time

OPENAI = (
    "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens. "
    "Please reduce the length of the messages."
)
TOO_LONG = {
    "a prompt that speaks of rates": "This model's maximum context length is 8192 tokens. Text: rate limit",
    "OpenAI": OPENAI,
    "OpenAI, in brief": OPENAI.partition(". ")[0],
    "OpenAI, older": "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000.",
    "OpenAI, /responses": "Your input exceeds the context window of this model. Please adjust your input.",
    "litellm, Azure": f"litellm.BadRequestError: AzureException BadRequestError - {OPENAI}",
    "litellm": "litellm.ContextWindowExceededError: litellm.BadRequestError: VertexAIException - too large",
    "litellm, as a code": "context_window_exceeded",
    "vLLM": "The decoder prompt (length 50000) is longer than the maximum model length of 32768. Make sure that "
    "`max_model_len` is no smaller than the number of text tokens plus multimodal tokens.",
    "vLLM, prompt": "Prompt length of 40000 is longer than the maximum model length of 32768.",
    "SGLang": "The input (40000 tokens) is longer than the model's context length (32768 tokens).",
    "TGI": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 and 20",
    "TGI, inputs": "Input validation error: `inputs` must have less than 1024 tokens. Given: 2000",
    "llama.cpp": "the request exceeds the available context size, try increasing it",
    "Anthropic": "prompt is too long: 213462 tokens > 200000 maximum",
    "Anthropic, with its room": "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, "
    "decrease input length or `max_tokens` and try again",
    "Bedrock": "Input is too long for requested model.",
    "Google": "The input token count (1196265) exceeds the maximum number of tokens allowed (1048576).",
    "Google, Vertex": "Unable to submit request because the input token count is 1251952 but model only supports up to "
    "1048576. Reduce the input token count and try again.",
    "vLLM, a picture": "The decoder prompt contains a(n) image item with length 6132, which exceeds the pre-allocated "
    "encoder cache size 6084. Please reduce the input size or increase the encoder cache size.",
    "both together": "the request exceeds the maximum number of input and output tokens",
    "Mistral": "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
    "xAI": "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
    "Groq": "Please reduce the length of the messages or completion.",
    "Moonshot": "Invalid request: Your request exceeded model token limit: 131072",
}
OTHERS = {
    "a rate": "Request too large: limit of 30000 tokens per min. Please reduce the length of the messages.",
    "a rate, with a limit": "Input tokens exceed the configured limit of 272000 tokens per minute",
    "a rate, TPM": "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 40000. The input or "
    "output tokens must be reduced in order to run successfully.",
    "a rate, as a name": "input tokens exceed tokens_per_minute=30000",
    "a rate, of Bedrock": "Too many tokens, please wait before trying again.",
    "a rate, of a day": "Too many tokens per day, please wait before trying again.",
    "a rate, litellm": "litellm.RateLimitError: too many tokens",
    "the room alone": "max_tokens: 100000 > 64000, which is the maximum allowed number of output tokens",
    "the room for answers": "max_tokens (100000) exceeds the maximum number of output tokens (8192)",
    "the name of a tool": "Invalid schema for function 'set_context_length': 'width' is required",
    "an argument of that name": "Unrecognized request argument supplied: context_length",
    "a parameter of that name": "Unknown parameter: 'context_length'.",
    "an input of that name": "body.context_length: Extra inputs are not permitted",
    "a tool of that name": "Invalid 'tools[0].function.name': does not match '^[a-z]+$': 'get context window'",
    "a parameter": "Invalid value: 'huge'. Supported values of search_context_size are 'low', 'medium' and 'high'.",
    "another unknown parameter": "Unrecognized request argument supplied: context_window",
    "a bound of answers": "`max_new_tokens` must be strictly positive",
    "another bound of answers": "`max_new_tokens` must be <= 512. Given: 1000",
    "an unknown parameter": "Unrecognized request argument supplied: max_model_len",
    "another length": "Invalid 'messages[0].name': string too long. Expected a string with maximum length 64.",
}
SHAPES: dict[str, Any] = {
    "as detail": lambda words: {"detail": words},
    "with a code that is a number": lambda words: {"error": {"message": words, "code": 400}},
    "with a code that is a text": lambda words: {"error": {"message": words, "type": None, "code": "400"}},
    "of vLLM": lambda words: {"object": "error", "message": words, "type": "BadRequestError", "code": 400},
}


def refused(status: int, body: Any) -> APIError:
    """The error for such an answer."""

    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, json=body, request=request)

    embedder = TextEmbedder(base_url="https://overflow.test/v2", api_key="key", limits=Limits(patience=0))
    with isolated(), virtual_time(answer), pytest.raises(APIError) as raised:
        embedder.embed(["Hello"])
    return raised.value


@pytest.mark.parametrize("words", TOO_LONG.values(), ids=TOO_LONG)
def test_hosts_have_many_words_for_a_full_context(words: str) -> None:
    """A 400 with any of these words, in any shape, says that the context has no room, and how to make some."""
    for shape in SHAPES.values():
        error = refused(400, shape(words))
        assert type(error) is ContextLengthError
        assert "max_tokens" in str(error)
    assert type(refused(422, {"detail": words})) is ContextLengthError
    assert type(refused(200, {"error": {"message": words}})) is ContextLengthError
    assert type(refused(429, {"detail": words})) is RateLimitError


@pytest.mark.parametrize("words", OTHERS.values(), ids=OTHERS)
def test_words_that_look_like_it(words: str) -> None:
    """Tokens in a time, the room for answers, and parameters are no full context, whatever the status."""
    for shape in SHAPES.values():
        assert type(refused(400, shape(words))) is BadRequestError
    assert type(refused(200, {"error": {"message": words}})) is UnexpectedAnswerError
    assert type(refused(429, {"detail": words})) is RateLimitError
