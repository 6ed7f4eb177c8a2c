"""Answers that are data: found in fences and chatter, never mended at their end, and told with their usage."""

from __future__ import annotations

import asyncio
import json
import pickle
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate
from llama_index.core.types import PydanticProgramMode
from pydantic import BaseModel, RootModel

from aifs_vision import AIFSError, AnswerError, BadRequestError, Limits
from aifs_vision.testing import virtual_time
from llama_index_aifs import AIFS, StructuredAnswerError
from tests.llama_index.scripts import call, content, events, scripted, served
from tests.pictures import corners, saved
from tests.service import answer

if TYPE_CHECKING:
    from collections.abc import Callable


class Receipt(BaseModel):
    """What a receipt says."""

    shop: str
    total: float


WHOLE = '{"shop": "Kiosk {24}", "total": 12.5}'
RECEIPT = Receipt(shop="Kiosk {24}", total=12.5)
PROMPT = PromptTemplate("What does the receipt of {shop} say?")
ASKED = [
    ChatMessage(
        blocks=[TextBlock(text="Fill {this} in."), ImageBlock(image=saved(corners()), image_mimetype="image/png")]
    )
]
WRAPPED = {
    "bare": WHOLE,
    "fenced": f"```json\n{WHOLE}\n```",
    "chatter": f"Here is what I see:\n```\n{WHOLE}\n```\nAnything else?",
    "prefix": f"Sure! {WHOLE}",
    "thoughts": f'<think>{{"shop": "no"}}</think>{WHOLE}',
}


def predicted(llm: AIFS) -> Any:
    """By `structured_predict`."""
    return llm.structured_predict(Receipt, PROMPT, shop="Kiosk")


def apredicted(llm: AIFS) -> Any:
    """By `astructured_predict`."""
    return asyncio.run(llm.astructured_predict(Receipt, PROMPT, shop="Kiosk"))


def streamed(llm: AIFS) -> Any:
    """The last of `stream_structured_predict`."""
    return list(llm.stream_structured_predict(Receipt, PROMPT, shop="Kiosk"))[-1]


def astreamed(llm: AIFS) -> Any:
    """The last of `astream_structured_predict`."""

    async def last() -> Any:
        return [part async for part in await llm.astream_structured_predict(Receipt, PROMPT, shop="Kiosk")][-1]

    return asyncio.run(last())


def chatted(llm: AIFS) -> Any:
    """By the chat of a structured LLM."""
    return llm.as_structured_llm(Receipt).chat(ASKED).raw


def achatted(llm: AIFS) -> Any:
    """By the asynchronous chat of a structured LLM."""
    return asyncio.run(llm.as_structured_llm(Receipt).achat(ASKED)).raw


def chat_streamed(llm: AIFS) -> Any:
    """The last of the stream of a structured LLM."""
    return list(llm.as_structured_llm(Receipt).stream_chat(ASKED))[-1].raw


def achat_streamed(llm: AIFS) -> Any:
    """The last of the asynchronous stream of a structured LLM."""

    async def last() -> Any:
        return [part async for part in await llm.as_structured_llm(Receipt).astream_chat(ASKED)][-1].raw

    return asyncio.run(last())


WAYS = [predicted, apredicted, streamed, astreamed, chatted, achatted, chat_streamed, achat_streamed]


@pytest.mark.parametrize("way", WAYS)
def test_data_are_found_in_their_wrapping(way: Callable[[AIFS], Any]) -> None:
    """Fences, words around it and thoughts before it do not matter, however one asks."""
    with scripted(*WRAPPED.values()) as (llm, server):
        assert [way(llm) for _ in WRAPPED] == [RECEIPT] * len(WRAPPED)
    assert len(server.requests) == len(WRAPPED)


@pytest.mark.parametrize("way", WAYS)
def test_data_that_are_cut_off_are_an_error(way: Callable[[AIFS], Any]) -> None:
    """A cut is an error that keeps text and usage, also where what is there would fit; so are data that do not."""
    cases: list[tuple[str | dict[str, Any], str, str]] = [
        ({"content": '{"shop": "Kiosk", "total": 12', "finish_reason": "length"}, "truncated", "max_tokens"),
        ({"content": WHOLE, "finish_reason": "length"}, "truncated", "cut off"),
        ({"content": WHOLE, "finish_reason": "content_filter"}, "filtered", "content_filter"),
        ('{"shop": "Kiosk", "total": 12', "failed", "cut off or damaged"),
        ('{"shop": "Kiosk"}', "failed", "total: Field required"),
        ("I cannot read it.", "failed", "no JSON"),
    ]
    with scripted(*(answer for answer, _, _ in cases)) as (llm, _):
        for answer, status, words in cases:
            with pytest.raises(StructuredAnswerError, match=words) as caught:
                way(llm)
            reading = caught.value.reading
            text = answer if isinstance(answer, str) else answer["content"]
            assert (reading.text, reading.status) == (text, status)
            assert reading.usage.input_tokens > 0
            assert reading.usage.output_tokens > 0


def test_the_error_is_of_both_families() -> None:
    """It is an AnswerError of the tree, and a ValueError as pydantic's is; it can be pickled, and is brief for logs."""
    with scripted("No.") as (llm, _), pytest.raises(ValueError, match="is no Receipt") as caught:
        predicted(llm)
    assert isinstance(caught.value, AnswerError)
    twin = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes
    assert (str(twin), twin.reading) == (str(caught.value), caught.value.reading)
    assert caught.value.brief == f"The answer of {llm.model!r} is no Receipt"


def test_structured_answers_tell_their_usage() -> None:
    """A structured LLM's responses have tokens and reason, whole and streamed, sync and async; its content is JSON."""

    async def both(typed: Any) -> tuple[Any, list[Any]]:
        return await typed.achat(ASKED), [part async for part in await typed.astream_chat(ASKED)]

    with scripted(f"```json\n{WHOLE}\n```") as (llm, server):
        typed = llm.as_structured_llm(Receipt)
        whole, parts = typed.chat(ASKED), list(typed.stream_chat(ASKED))
        completion = typed.complete("What?")
        awhole, aparts = asyncio.run(both(typed))
    for response in (whole, parts[-1], awhole, aparts[-1]):
        assert response.additional_kwargs["finish_reason"] == "stop"
        assert response.additional_kwargs["total_tokens"] > 0
        assert Receipt.model_validate_json(response.message.content or "") == RECEIPT
    assert completion.additional_kwargs["total_tokens"] > 0
    assert [len(request.images) for request in server.requests] == [1, 1, 0, 1, 1]
    # No template is made of messages: what has braces in it stays as it is.
    assert content(server.requests[0].body["messages"][0])[0]["text"] == "Fill {this} in."


def test_a_structured_llm_keeps_secrets() -> None:
    """What is stored of a structured LLM has the settings of the LLM inside, and neither its key nor its headers."""
    with scripted(WHOLE, default_headers={"X-Secret": "swordfish"}, image_size=700) as (llm, server):
        stored = json.dumps(llm.as_structured_llm(Receipt).to_dict())
        assert not [secret for secret in ("swordfish", server.api_key) if secret in stored]
    assert json.loads(stored)["llm"]["image_size"] == 700


def test_objects_are_seen_while_they_grow() -> None:
    """A stream shows the object's fields as they come, through fences too, and each state once."""
    text = '```json\n{"shop": "a b c d e f", "total": 1.5}\n```'
    with scripted(text) as (llm, _):
        parts = list[Any](llm.stream_structured_predict(Receipt, PROMPT, shop="x"))
    shops = [part.shop for part in parts if part.shop]
    assert len(shops) > 2
    assert all(part != after for part, after in pairwise(parts[:-1]))
    assert shops == sorted(shops, key=len)
    assert all("a b c d e f".startswith(shop.strip()) for shop in shops)
    assert parts[-1] == Receipt(shop="a b c d e f", total=1.5)


@pytest.mark.parametrize("way", WAYS)
def test_the_form_is_what_the_host_understands(way: Callable[[AIFS], Any]) -> None:
    """A schema is sent; a host that does not know it is asked in JSON mode, then in words, and remembered."""
    with scripted(WHOLE) as (llm, server):
        for form in ("json_schema", "json_object"):
            server.fail(400, body=json.dumps({"detail": f"response_format {form} is not supported"}))
        assert way(llm) == RECEIPT
        assert way(llm) == RECEIPT
    asked = [request.body.get("response_format") for request in server.requests]
    assert [form and form["type"] for form in asked] == ["json_schema", "json_object", None, None]
    assert asked[0]["json_schema"] == {"name": "Receipt", "schema": Receipt.model_json_schema()}
    texts = [part["text"] for part in content(server.requests[-1].body["messages"][-1]) if part["type"] == "text"]
    assert '"total"' in texts[-1]


class Shops(RootModel[list[Receipt]]):
    """The receipts of a day."""


class Either(RootModel[Receipt | Shops]):
    """One receipt or many."""


def wrapped(shops: Shops) -> str:
    """A list as the host is asked for it."""
    return f'{{"value": {shops.model_dump_json()}}}'


DAY = Shops([RECEIPT, Receipt(shop="Café", total=3)])
LISTED: dict[str, str] = {
    "as asked": wrapped(DAY),
    "in a fence": f"```json\n{wrapped(DAY)}\n```",
    "the list itself": DAY.model_dump_json(),
}


@pytest.mark.parametrize("kind", LISTED)
@pytest.mark.parametrize("form", ["schema", "object"])
def test_lists_are_asked_for_as_objects(kind: str, form: str) -> None:
    """What is no object at its root is asked for as `{"value": ...}`, which hosts want, and comes back as itself."""
    with scripted(LISTED[kind], model="o1-mini" if form == "object" else "gpt-4.1") as (llm, server):
        typed = llm.as_structured_llm(Shops)
        assert llm.structured_predict(Shops, PROMPT, shop="x") == DAY
        assert list[Any](llm.stream_structured_predict(Shops, PROMPT, shop="x"))[-1] == DAY
        assert typed.chat([ChatMessage("x")]).raw == DAY
        assert llm.structured_predict(Either, PROMPT, shop="x").root == DAY
    if form == "schema":
        asked = server.requests[0].body["response_format"]["json_schema"]
        assert (asked["name"], asked["schema"]["type"], [*asked["schema"]["properties"]]) == (
            "Shops",
            "object",
            ["value"],
        )
    else:
        assert "one JSON value" in str(server.requests[0].body["messages"][-1]["content"])
        assert '"value"' in str(server.requests[0].body["messages"][-1]["content"])


def test_lists_are_seen_while_they_grow() -> None:
    """Previews of a list are lists of the class, each longer than the one before."""
    many = Shops([Receipt(shop=f"shop {number}", total=number) for number in range(30)])
    with scripted(wrapped(many)) as (llm, _):
        parts = list[Any](llm.stream_structured_predict(Shops, PROMPT, shop="x"))
    assert all(isinstance(part, Shops) for part in parts)
    lengths = [len(part.root) for part in parts]
    assert lengths == sorted(lengths)
    assert len({*lengths}) > 5
    assert parts[-1] == many


def test_a_list_that_does_not_fit_says_where() -> None:
    """The error of a wrapped schema names the place in the value."""
    with scripted('{"value": [{"shop": "a"}]}', '[{"shop": "a"}]') as (llm, _):
        for place in ("value.*0.*total: Field required", "0.total: Field required"):
            with pytest.raises(StructuredAnswerError, match=f"no Shops.*{place}"):
                llm.structured_predict(Shops, PROMPT, shop="x")


def test_a_schema_that_is_refused_is_one_schema() -> None:
    """A host that refuses one schema is asked in JSON mode for that one, from then on; others are still sent."""
    refusal = "Invalid schema for response_format 'Receipt': In context=(), 'total' is not permitted."
    with scripted('{"shop": "Kiosk {24}", "total": 12.5, "first": "a"}') as (llm, server):
        server.fail(400, body=json.dumps({"error": {"message": refusal}}))
        for _ in range(2):
            assert predicted(llm) == RECEIPT
        assert llm.structured_predict(Other, PROMPT, shop="x") == Other(first="a")
    forms = [request.body["response_format"]["type"] for request in server.requests]
    assert forms == ["json_schema", "json_object", "json_object", "json_schema"]


class Other(BaseModel):
    """Something else."""

    first: str


def test_previews_do_not_cost_the_square() -> None:
    """A long object is parsed anew only when a part of it is new: previews grow far slower than pieces do."""
    counts = []
    for shops in (40, 160):
        text = Day(shops=[f"shop {number}" for number in range(shops)]).model_dump_json()
        pieces = [{"choices": [{"index": 0, "delta": {"content": letter}, "finish_reason": None}]} for letter in text]
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        with virtual_time(served(events(*pieces, end))):
            llm = AIFS(api_key="k", base_url="http://127.0.0.1:9/v2")
            parts = list[Any](llm.stream_structured_predict(Day, PROMPT, shop="x"))
        assert len(parts[-1].shops) == shops
        counts.append(len(parts))
    assert 40 < counts[0] < counts[1] < 2 * counts[0]


class Day(BaseModel):
    """What was open on a day."""

    shops: list[str]


def test_questions_at_once_find_out_once() -> None:
    """Five questions that are refused at once go one step down together, and no further."""
    asked = list[str]()

    async def refusing(request: httpx.Request) -> httpx.Response:
        form = json.loads(request.content)["response_format"]["type"]
        asked.append(form)
        await asyncio.sleep(1)  # all five are under way by then
        if form == "json_schema":
            return httpx.Response(400, json={"detail": "response_format json_schema is not supported"})
        return httpx.Response(200, json=answer(WHOLE))

    async def five(llm: AIFS) -> list[Any]:
        return await asyncio.gather(*(llm.astructured_predict(Receipt, PROMPT, shop="x") for _ in range(5)))

    with virtual_time(refusing):
        llm = AIFS(api_key="k", base_url="http://127.0.0.1:9/v2", limits=Limits())
        assert asyncio.run(five(llm)) == [RECEIPT] * 5
    assert llm.data_form == "object"
    assert asked == ["json_schema"] * 5 + ["json_object"] * 5


def test_models_without_schemas_are_told_in_words() -> None:
    """Where the catalogue says that a model knows no schema, JSON mode is used at once."""
    with scripted(WHOLE, model="o1-mini") as (llm, server):
        assert predicted(llm) == RECEIPT
        messages = [ChatMessage("x"), ChatMessage(role="assistant", content="y")]
        assert llm.as_structured_llm(Receipt).chat(messages).raw == RECEIPT
    assert server.requests[0].body["response_format"] == {"type": "json_object"}
    assert [message["role"] for message in server.requests[1].body["messages"]] == ["user", "assistant", "user"]


def test_other_refusals_are_not_tried_again() -> None:
    """A refusal that does not speak of the form is an error at once; the service's own words are in it."""
    with scripted(WHOLE) as (llm, server):
        server.fail(400, times=2)
        for way in (predicted, streamed):
            with pytest.raises(BadRequestError, match="scripted fault"):
                way(llm)
    assert len(server.requests) == 2


def test_prompts_and_options_are_heeded() -> None:
    """System prompt, pictures of a template, and options of the call arrive; the caller's options stay as they were."""
    options = {"max_tokens": 77, "tool_choice": "required"}
    prompt: Any = ChatPromptTemplate(message_templates=ASKED)
    with scripted(WHOLE, system_prompt="Be exact.") as (llm, server):
        llm.structured_predict(Receipt, prompt, llm_kwargs=options)
    (request,) = server.requests
    assert (request.body["max_tokens"], "tool_choice" in request.body, len(request.images)) == (77, False, 1)
    assert request.body["messages"][0] == {"role": "system", "content": "Be exact."}
    assert options == {"max_tokens": 77, "tool_choice": "required"}


def test_other_program_modes_are_llamaindexs_own() -> None:
    """Data by a tool call, or by text, are asked for where `pydantic_program_mode` says so, as the framework does."""
    filled = {"tool_calls": [call("Receipt", shop="Kiosk {24}", total=12.5)]}
    with scripted(filled, pydantic_program_mode=PydanticProgramMode.FUNCTION) as (llm, server):
        assert predicted(llm) == apredicted(llm) == RECEIPT
        assert llm.as_structured_llm(Receipt).chat([ChatMessage("What?")]).raw == RECEIPT
        assert streamed(llm) == astreamed(llm) == RECEIPT
    assert all(request.body["tools"] for request in server.requests)
    with scripted(WHOLE, pydantic_program_mode=PydanticProgramMode.LLM) as (llm, server):
        assert predicted(llm) == RECEIPT
    assert "tool_choice" not in server.requests[0].body


def test_nothing_is_no_receipt() -> None:
    """An answer without text is an error of the tree before anything is read from it."""
    with scripted({"content": None, "finish_reason": "stop"}) as (llm, _), pytest.raises(AIFSError, match="No text"):
        predicted(llm)
