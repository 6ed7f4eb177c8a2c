"""The emulator's `/responses`: wire format, strictness, conversations, faults; without this project's client."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from aifs_vision import image_tokens
from aifs_vision.emulator import Emulator
from tests.pictures import corners, saved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aifs_vision.emulator import ChatRequest

MODEL = "gpt-4.1"
URI = "data:image/png;base64," + base64.b64encode(saved(corners())).decode()
PICTURE = {"type": "input_image", "image_url": URI, "detail": "auto"}
TEXT = {"type": "input_text", "text": "What is this?"}
TOOL = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}, "strict": None}
LOOK = {"name": "look", "arguments": '{"at": "the left"}'}
CALL = {"id": "c1", "type": "function", "function": LOOK}


@pytest.fixture
def http(server: Emulator) -> Iterator[httpx.Client]:
    """A plain HTTP client with the right key."""
    with plain(server) as client:
        yield client


def plain(server: Emulator) -> httpx.Client:
    """A plain HTTP client with the right key."""
    headers = {"Authorization": f"Bearer {server.api_key}"}
    return httpx.Client(base_url=server.base_url, headers=headers, trust_env=False)


def user(*parts: Any) -> dict[str, Any]:
    """An item of the input: what a user says."""
    return {"role": "user", "content": list(parts)}


def ask(http: httpx.Client, *items: Any, model: str = MODEL, **more: Any) -> httpx.Response:
    """Sends a request."""
    return http.post("/responses", json={"model": model, "input": list(items), **more})


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    """The events of a stream, whose names say what their data says."""
    found = []
    for event in answer.text.strip().split("\n\n"):
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


# -- Wire format ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["What is this?", [{"role": "user", "content": "What is this?"}], [user(TEXT)]])
def test_a_response_has_the_services_form(http: httpx.Client, given: Any) -> None:
    """A text, or items with texts or parts, are answered by a response with its output, its status and its usage."""
    answer = http.post("/responses", json={"model": MODEL, "input": given}).json()
    assert (answer["object"], answer["status"], answer["error"]) == ("response", "completed", None)
    assert (answer["model"], answer["system_fingerprint"]) == (MODEL, "aifs-emulator")
    (message,) = answer["output"]
    assert (message["type"], message["role"], message["content"][0]["type"]) == ("message", "assistant", "output_text")
    used = answer["usage"]
    assert used["total_tokens"] == used["input_tokens"] + used["output_tokens"] > 0


def test_usage_follows_the_image_rules(http: httpx.Client) -> None:
    """Pictures count by the rule of the model; instructions count, too."""
    texts = ask(http, user(TEXT)).json()["usage"]["input_tokens"]
    assert ask(http, user(TEXT, PICTURE)).json()["usage"]["input_tokens"] == texts + image_tokens(MODEL, 60, 40)
    assert ask(http, user(TEXT), instructions="Be brief.").json()["usage"]["input_tokens"] > texts


def test_a_stream_has_the_same_answer_in_events(http: httpx.Client) -> None:
    """The events number themselves, and their pieces add up to the text of the response that the last one has."""
    told = events(ask(http, user(TEXT), stream=True))
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    assert [told[0]["type"], told[-1]["type"]] == ["response.created", "response.completed"]
    assert told[0]["response"]["status"] == "in_progress"
    whole = told[-1]["response"]
    said = "".join(event["delta"] for event in told if event["type"] == "response.output_text.delta")
    assert said == whole["output"][0]["content"][0]["text"] != ""
    assert whole["usage"]["output_tokens"] > 0


def test_thoughts_calls_and_refusals_are_items() -> None:
    """What a scripted message has beside its words is an item or part of its own, whole and in events."""
    message = {"content": None, "refusal": "No.", "reasoning_content": "Hm, well, so.", "tool_calls": [CALL]}
    with Emulator(ocr=False, reply=lambda _: message) as server, plain(server) as http:
        whole = ask(http, user(TEXT), tools=[TOOL]).json()
        told = events(ask(http, user(TEXT), tools=[TOOL], stream=True))
    thoughts, words, call = whole["output"]
    assert thoughts["summary"] == [{"type": "summary_text", "text": "Hm, well, so."}]
    assert words["content"] == [{"type": "refusal", "refusal": "No."}]
    assert {name: call[name] for name in ("type", "call_id", "name", "arguments")} == {
        "type": "function_call", "call_id": "c1", **LOOK
    }  # fmt: skip
    pieces: dict[str, str] = {}
    for event in told:
        if event["type"].endswith(".delta"):
            pieces[event["type"]] = pieces.get(event["type"], "") + event["delta"]
    assert pieces == {
        "response.reasoning_summary_text.delta": "Hm, well, so.",
        "response.refusal.delta": "No.",
        "response.function_call_arguments.delta": LOOK["arguments"],
    }


def test_an_answer_without_room_is_incomplete(http: httpx.Client, server: Emulator) -> None:
    """An answer that is cut off says so, and why; the last event of a stream as well."""
    whole = ask(http, user({"type": "input_text", "text": "word " * 50}), max_output_tokens=16).json()
    assert (whole["status"], whole["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    server.fail("length")
    last = events(ask(http, user(TEXT), stream=True))[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    server.fail("no_choices")
    assert ask(http, user(TEXT)).json()["output"] == []


# -- Scripts and conversations -------------------------------------------------------------------------------------


def test_a_reply_sees_a_chat() -> None:
    """A `reply=` for chats answers here, too: it gets items, tools and forms as a chat would have them."""
    seen: list[ChatRequest] = []
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    form = {"type": "json_schema", "name": "A", "schema": schema}
    items = [
        user(TEXT, PICTURE),
        {"role": "assistant", "content": [{"type": "output_text", "text": "Let me look.", "annotations": []}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "function_call", "call_id": "c1", **LOOK},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "A lake."}]},
        user({"type": "input_text", "text": "And now?"}),
    ]
    with Emulator(ocr=False, reply=seen.append) as server, plain(server) as http:
        answer = ask(
            http, *items, instructions="Look.", tools=[TOOL], tool_choice={"type": "function", "name": "look"},
            text={"format": form}, max_output_tokens=100,
        )  # fmt: skip
        assert answer.status_code == 200, answer.text
        assert ask(http, user(TEXT), text={"format": {"type": "json_object"}}).status_code == 200
    asked = seen[0]
    assert (asked.prompt, asked.schema, asked.max_tokens, seen[1].schema) == ("And now?", schema, 100, {})
    assert asked.images[0].picture is not None
    assert asked.images[0].picture.size == (60, 40)
    roles = [message["role"] for message in asked.body["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "user"]
    assert asked.body["messages"][2]["tool_calls"] == [CALL]
    assert asked.body["tools"][0]["function"]["name"] == "look"
    assert asked.body["tool_choice"] == {"type": "function", "function": {"name": "look"}}


def test_a_conversation_goes_on_from_a_response() -> None:
    """`previous_response_id` has what was said before it, but not its instructions; what is not stored is gone."""
    seen: list[list[str]] = []

    def reply(asked: ChatRequest) -> str:
        seen.append(list(asked.texts))
        return "Yes."

    with Emulator(ocr=False, reply=reply) as server, plain(server) as http:
        first = ask(http, user(TEXT), instructions="Be brief.").json()["id"]
        second = ask(http, user({"type": "input_text", "text": "Really?"}), previous_response_id=first)
        unstored = ask(http, user(TEXT), store=False).json()["id"]
        refused = ask(http, user(TEXT), previous_response_id=unstored)
    assert second.json()["previous_response_id"] == first
    assert seen[1] == ["What is this?", "Yes.", "Really?"]
    assert (refused.status_code, unstored in refused.text) == (400, True)


def test_a_system_message_is_part_of_the_conversation() -> None:
    """Other than instructions, a system message among the items is still there when the conversation goes on."""
    seen: list[list[str]] = []

    def reply(asked: ChatRequest) -> str:
        seen.append(list(asked.texts))
        return "Yes."

    system = {"role": "system", "content": "Be brief."}
    with Emulator(ocr=False, reply=reply) as server, plain(server) as http:
        for instructions in (None, "Be kind."):
            asked: dict[str, Any] = {"instructions": instructions} if instructions else {}
            first = ask(http, system, {"role": "user", "content": "Is it?"}, **asked).json()["id"]
            ask(http, {"role": "user", "content": "Really?"}, previous_response_id=first)
    assert seen[1] == seen[3] == ["Be brief.", "Is it?", "Yes.", "Really?"]


def test_the_queue_mirrors_but_does_not_stream(http: httpx.Client, server: Emulator) -> None:
    """/queue takes the same requests, and refuses streams."""
    queue = server.base_url.replace("/v2", "/queue/responses")
    assert http.post(queue, json={"model": MODEL, "input": "Hello"}).json()["output"]
    assert http.post(queue, json={"model": MODEL, "input": "Hello", "stream": True}).status_code == 400


def test_the_log_has_labels_and_pictures(http: httpx.Client, server: Emulator) -> None:
    """The log has a request as it came, with its pictures beside it."""
    ask(http, user(TEXT, PICTURE))
    (request,) = server.requests
    assert (request.path, request.model, request.images) == ("/v2/responses", MODEL, [("image/png", saved(corners()))])
    assert request.body["input"][0]["content"][1]["image_url"] == "data:image/png;base64,..."


# -- Strictness ----------------------------------------------------------------------------------------------------

OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "x"}
STRICT: dict[str, tuple[Any, int, str]] = {
    "no JSON object": ([], 400, "dictionary"),
    "no model": ({"input": "Hello"}, 400, "model"),
    "unknown model": ({"model": "gpt-99", "input": "Hello"}, 404, "does not exist"),
    "no input": ({"model": MODEL}, 400, "'input'"),
    "empty input": ({"model": MODEL, "input": []}, 400, "'input'"),
    "a chat's field": ({"model": MODEL, "input": "Hello", "messages": []}, 400, "'messages'"),
    "a chat's room": ({"model": MODEL, "input": "Hello", "max_tokens": 50}, 400, "'max_tokens'"),
    "little room": ({"model": MODEL, "input": "Hello", "max_output_tokens": 15}, 400, "'max_output_tokens'"),
    "a temperature": ({"model": "o3", "input": "Hello", "temperature": 0.5}, 400, "'temperature'"),
    "instructions": ({"model": MODEL, "input": "Hello", "instructions": ["x"]}, 400, "'instructions'"),
    "unknown item": ({"model": MODEL, "input": [{"type": "item_reference", "id": "x"}]}, 400, "'item_reference'"),
    "no item": ({"model": MODEL, "input": [None]}, 400, "input[0]"),
    "unknown role": ({"model": MODEL, "input": [{"role": "tool", "content": "x"}]}, 400, "input[0].role"),
    "content": ({"model": MODEL, "input": [{"role": "user", "content": 1}]}, 400, "input[0].content"),
    "a chat's part": ({"model": MODEL, "input": [user({"type": "text", "text": "x"})]}, 400, "input[0].content[0]"),
    "a text that is none": ({"model": MODEL, "input": [user({"type": "input_text"})]}, 400, "content[0].text"),
    "a chat's picture": ({"model": MODEL, "input": [user({**PICTURE, "image_url": {"url": URI}})]}, 400, "image_url"),
    "a picture elsewhere": ({"model": MODEL, "input": [{"role": "system", "content": [PICTURE]}]}, 400, "input_image"),
    "a wrong label": (
        {"model": MODEL, "input": [user({**PICTURE, "image_url": URI.replace("png", "jpeg", 1)})]}, 400, "labelled",
    ),
    "a path": ({"model": MODEL, "input": [user({**PICTURE, "image_url": "/etc/passwd"})]}, 400, "not an http(s)"),
    "a blind model": ({"model": "Llama-3.3-70B-Instruct", "input": [user(PICTURE)]}, 400, "not a multimodal model"),
    "a result without a call": ({"model": MODEL, "input": [OUTPUT]}, 400, "No tool call found"),
    "a call without a result": (
        {"model": MODEL, "input": [{"type": "function_call", "call_id": "c1", **LOOK}]}, 400, "No tool out",
    ),
    "a nameless call": ({"model": MODEL, "input": [{"type": "function_call", "call_id": "c1"}]}, 400, "input[0].name"),
    "a chat's tool": (
        {"model": MODEL, "input": "x", "tools": [{"type": "function", "function": TOOL}]}, 400, "tools[0].name",
    ),
    "another tool": ({"model": MODEL, "input": "x", "tools": [{"type": "web_search"}]}, 400, "tools[0]"),
    "tools": ({"model": MODEL, "input": "x", "tools": {"a": 1}}, 400, "tools[0]"),
    "another choice": ({"model": MODEL, "input": "x", "tool_choice": "always"}, 400, "'tool_choice'"),
    "another form": ({"model": MODEL, "input": "x", "text": {"format": {"type": "xml"}}}, 400, "xml"),
    "a form that is none": ({"model": MODEL, "input": "x", "text": "xml"}, 400, "text.format"),
}  # fmt: skip


@pytest.mark.parametrize("case", STRICT)
def test_what_the_service_would_refuse_is_refused(http: httpx.Client, case: str) -> None:
    """A request that is wrong is refused with words that say what is."""
    request, status, words = STRICT[case]
    answer = http.post("/responses", json=request)
    assert (answer.status_code, words in answer.text) == (status, True), answer.text
