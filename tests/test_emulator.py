"""The emulator as a server: wire format, strictness, faults, limits, log. What it reads is tested in emulator/."""

from __future__ import annotations

import base64
import json
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from PIL import Image

from aifs_vision import image_tokens, model_card
from aifs_vision.emulator import Emulator
from tests.pictures import corners, saved, tiff
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aifs_vision.emulator import ChatRequest

QWEN = "Qwen3-VL-30B-A3B-Instruct-FP8"
PNG = saved(corners())


@pytest.fixture
def http(server: Emulator) -> Iterator[httpx.Client]:
    """A plain HTTP client with the right key: the emulator must hold without this project's client."""
    headers = {"Authorization": f"Bearer {server.api_key}"}
    with httpx.Client(base_url=server.base_url, headers=headers, trust_env=False) as client:
        yield client


def image_part(data: bytes = PNG, label: str = "image/png") -> dict[str, Any]:
    """A content part with a picture."""
    return {"type": "image_url", "image_url": {"url": f"data:{label};base64,{base64.b64encode(data).decode()}"}}


def body(*parts: dict[str, Any], model: str = QWEN, role: str = "user", **more: Any) -> dict[str, Any]:
    """A chat request of one message."""
    content = [*parts, {"type": "text", "text": "What is this?"}]
    return {"model": model, "messages": [{"role": role, "content": content}], **more}


def ask(http: httpx.Client, request: Any) -> httpx.Response:
    """Sends a chat request."""
    return http.post("/chat/completions", json=request)


# -- Wire format -------------------------------------------------------------------------------------------


def test_a_completion_has_the_services_form(http: httpx.Client) -> None:
    """An answer has choice, finish_reason, usage and the emulator's mark, for the model that was asked."""
    answer = ask(http, body(image_part())).json()
    assert answer["object"] == "chat.completion"
    assert answer["model"] == QWEN
    assert answer["system_fingerprint"] == "aifs-emulator"
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["role"] == "assistant"
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_stream_has_the_same_answer_in_events(http: httpx.Client) -> None:
    """A stream's chunks make up the same text; usage comes where it is asked for, and [DONE] at the end."""
    whole = ask(http, body(image_part())).json()
    answer = ask(http, body(image_part(), stream=True, stream_options={"include_usage": True}))
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["usage"] == whole["usage"]
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    silent = ask(http, body(image_part(), stream=True)).text
    assert '"usage"' not in silent


@pytest.mark.parametrize("model", [QWEN, "gpt-4.1", "gpt-4.1-mini", "gpt-5", "gemini-2.5-flash", "claude-sonnet-4"])
@pytest.mark.parametrize("size", [(64, 64), (1000, 700), (1800, 2400), (300, 3000)])
def test_usage_follows_the_image_rules(http: httpx.Client, model: str, size: tuple[int, int]) -> None:
    """The prompt's tokens grow by what the client's own arithmetic says of the picture: two witnesses agree."""
    data = saved(Image.new("L", size, 200))
    without = ask(http, body(model=model)).json()["usage"]["prompt_tokens"]
    with_picture = ask(http, body(image_part(data), model=model)).json()["usage"]["prompt_tokens"]
    assert with_picture - without == image_tokens(model, *size)


def test_an_answer_is_cut_to_its_room(http: httpx.Client) -> None:
    """max_tokens bounds the answer, and finish_reason says that it did."""
    answer = ask(http, body(max_tokens=3)).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 3


def test_models_are_listed_with_their_data(http: httpx.Client) -> None:
    """/v2/models lists the real models with meta_data; one model can be asked for, an unknown one is 404."""
    listed = {entry["id"]: entry["meta_data"] for entry in http.get("/models").json()["data"]}
    assert listed[QWEN]["input_modalities"] == ["text", "image"]
    assert listed[QWEN]["deployment_country"] == "Germany, EU"
    assert listed["jina-embeddings-v2-base-de"]["hidden_size"] == 768
    assert http.get(f"/models/{QWEN}").json()["meta_data"] == listed[QWEN]
    assert http.get("/models/none").status_code == 404


def test_embeddings_are_as_wide_as_the_model(http: httpx.Client) -> None:
    """Embeddings come for each text, as floats or base64, in the model's width; token ids are refused."""
    answer = http.post("/embeddings", json={"model": "jina-embeddings-v2-base-de", "input": ["eins", "zwei"]}).json()
    assert [entry["index"] for entry in answer["data"]] == [0, 1]
    assert {len(entry["embedding"]) for entry in answer["data"]} == {768}
    packed = http.post(
        "/embeddings", json={"model": "jina-embeddings-v2-base-de", "input": "eins", "encoding_format": "base64"}
    ).json()["data"][0]["embedding"]
    vector = struct.unpack("<768f", base64.b64decode(packed))
    assert vector == pytest.approx(answer["data"][0]["embedding"], abs=1e-6)
    refused = http.post("/embeddings", json={"model": "jina-embeddings-v2-base-de", "input": [[1, 2, 3]]})
    assert refused.status_code == 400


def test_the_queue_mirrors_but_does_not_stream(http: httpx.Client, server: Emulator) -> None:
    """/queue takes the same bodies as /v2, and refuses streams."""
    queue = server.base_url.replace("/v2", "/queue/chat/completions")
    assert http.post(queue, json=body(image_part())).json()["choices"]
    assert http.post(queue, json=body(stream=True)).status_code == 400


# -- Strictness --------------------------------------------------------------------------------------------


def bomb() -> bytes:
    """A PNG whose header claims 60,000 x 60,000 pixels."""
    head = PNG[12:16] + struct.pack(">II", 60_000, 60_000) + PNG[24:29]
    return PNG[:12] + head + struct.pack(">I", zlib.crc32(head)) + PNG[33:]


BROKEN = saved(corners(200, 200), "JPEG")[:-200]
STRICT: dict[str, tuple[Any, int, str]] = {
    "no JSON object": ([], 400, "dictionary"),
    "no model": ({"messages": []}, 400, "model"),
    "unknown model": (body(model="gpt-99"), 404, "does not exist"),
    "an embedding model": (body(model="text-embedding-bge-m3"), 404, "does not exist"),
    "no messages": ({"model": QWEN, "messages": []}, 400, "messages"),
    "unknown role": (body(role="robot"), 400, "role"),
    "role as list": (body(role=["user"]), 400, "role"),  # type: ignore[arg-type]
    "detail as list": (
        body({"type": "image_url", "image_url": {**image_part()["image_url"], "detail": ["low"]}}),
        400,
        "detail",
    ),
    "too many pixels": (body(image_part(bomb())), 400, "pixels"),
    "unknown part": (body({"type": "input_image"}), 400, "unknown part type 'input_image'"),
    "image_url as text": (body({"type": "image_url", "image_url": "https://x/a.png"}), 400, "dictionary"),
    "unknown field": (body(temprature=1), 400, "temprature"),
    "wrong label": (body(image_part(label="image/jpeg")), 400, "labelled image/jpeg but is PNG"),
    "unknown label": (body(image_part(label="image/tiff")), 400, "unsupported image type"),
    "label None": (body(image_part(label="None")), 400, "not an http(s) address or data URI"),
    "no base64": (body({"type": "image_url", "image_url": {"url": "data:image/png;base64,?"}}), 400, "base64"),
    "a path": (body({"type": "image_url", "image_url": {"url": "/etc/passwd"}}), 400, "not an http(s) address"),
    "cut off": (body(image_part(BROKEN, "image/jpeg")), 400, "decode"),
    "no picture": (body(image_part(b"hello")), 400, "decode"),
    "in a system message": (body(image_part(), role="system"), 400, "role 'user'"),
    "in a tool message": (body(image_part(), role="tool"), 400, "role 'user'"),
    "blind model": (body(image_part(), model="Llama-3.3-70B-Instruct"), 400, "not a multimodal model"),
    "both rooms": (body(max_tokens=5, max_completion_tokens=5), 400, "both"),
    "wrong room": (body(model="gpt-5", max_tokens=5), 400, "max_completion_tokens"),
    "no room": (body(max_tokens=0), 400, "max_tokens"),
    "other address": (
        body({"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}),
        400,
        "fetches",
    ),
}


@pytest.mark.parametrize("case", STRICT)
def test_what_the_service_would_refuse_is_refused(http: httpx.Client, case: str) -> None:
    """A request that is wrong is refused with words that say what is, in the shape of the model's host."""
    request, status, words = STRICT[case]
    answer = ask(http, request)
    assert answer.status_code == status
    said = answer.json()
    azure = isinstance(request, dict) and (model_card(request.get("model", "")).region or "").startswith("azure")
    assert words in (said["error"]["message"] if azure else said["detail"])


@pytest.mark.parametrize("key", [None, "Bearer wrong", "Basic abc"])
def test_another_key_is_refused(server: Emulator, key: str | None) -> None:
    """Without the right key everything is 401, in the service's words."""
    headers = {} if key is None else {"Authorization": key}
    for path in ("/models", "/chat/completions", "/embeddings"):
        method = "GET" if path == "/models" else "POST"
        answer = httpx.request(method, server.base_url + path, headers=headers, trust_env=False)
        assert (answer.status_code, answer.json()) == (401, {"detail": "Incorrect API key provided"})


def test_pictures_of_this_machine_are_fetched(http: httpx.Client) -> None:
    """An address on loopback is fetched as the service would fetch any, and counts as a picture."""
    import http.server as servers

    class Pictures(servers.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PNG)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    with servers.HTTPServer(("127.0.0.1", 0), Pictures) as pictures:
        threading.Thread(target=pictures.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{pictures.server_port}/a.png"
        answer = ask(http, body({"type": "image_url", "image_url": {"url": url}}))
    assert answer.json()["usage"]["prompt_tokens"] > image_tokens(QWEN, 60, 40)


# -- Scripts, faults, limits, log --------------------------------------------------------------------------


def test_replies_can_be_scripted() -> None:
    """reply= gives the text, or a whole message with tool calls, or leaves it to the emulator with None."""
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    script: list[Any] = ["said", {"content": None, "tool_calls": [call]}, None]

    def reply(asked: ChatRequest) -> Any:
        assert asked.prompt == "What is this?"
        assert asked.images[0].picture is not None
        return script.pop(0)

    with Emulator(ocr=False, reply=reply) as server:
        headers = {"Authorization": f"Bearer {server.api_key}"}
        with httpx.Client(base_url=server.base_url, headers=headers, trust_env=False) as http:
            choices = [ask(http, body(image_part())).json()["choices"][0] for _ in range(3)]
    assert choices[0]["message"]["content"] == "said"
    assert choices[1]["message"]["tool_calls"] == [call]
    assert choices[1]["finish_reason"] == "tool_calls"
    assert "emulator" in choices[2]["message"]["content"]


def test_statuses_are_scripted_with_headers_and_body(http: httpx.Client, server: Emulator) -> None:
    """A scripted status comes as often as asked, with its headers and body, on its path alone."""
    server.fail(429, times=2, retry_after=0.5, headers={"x-why": "test"}, path="/chat/completions")
    assert http.get("/models").status_code == 200
    for _ in range(2):
        answer = ask(http, body())
        assert (answer.status_code, answer.headers["retry-after-ms"], answer.headers["x-why"]) == (
            429,
            "500",
            "test",
        )
        assert answer.json() == {"detail": "scripted fault 429"}
    assert ask(http, body()).status_code == 200


@pytest.mark.parametrize("kind", ["reset", "reset_body"])
def test_connections_break_as_scripted(http: httpx.Client, server: Emulator, kind: Any) -> None:
    """A reset breaks the connection before or in the middle of the answer."""
    server.fail(kind)
    with pytest.raises(httpx.TransportError):
        ask(http, body())
    assert ask(http, body()).status_code == 200


def test_answers_break_as_scripted(http: httpx.Client, server: Emulator) -> None:
    """HTML with 200, JSON and streams cut short, no choices, and a cut answer come as scripted."""
    server.fail("html")
    assert ask(http, body()).headers["content-type"].startswith("text/html")
    server.fail("cut_json")
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        ask(http, body()).json()
    server.fail("cut_stream")
    assert "[DONE]" not in ask(http, body(stream=True)).text
    server.fail("no_choices")
    assert ask(http, body()).json()["choices"] == []
    server.fail("length")
    assert ask(http, body()).json()["choices"][0]["finish_reason"] == "length"


def test_slowness_is_scripted(http: httpx.Client, server: Emulator) -> None:
    """A slow answer takes at least as long as scripted, as do the pieces of a drip; a stall outlasts the client."""
    server.fail("slow", seconds=0.2)
    assert ask(http, body()).elapsed.total_seconds() >= 0.2
    server.fail("drip", seconds=0.02)
    begun = time.monotonic()
    pieces = ask(http, body(stream=True)).text.count("data: ")
    assert time.monotonic() - begun >= 0.02 * pieces
    server.fail("stall")
    with pytest.raises(httpx.ReadTimeout):
        http.post("/chat/completions", json=body(), timeout=0.2)


def test_limits_are_strict_and_told_to_azure_models_alone() -> None:
    """Over the limit comes 429 with a hint in words; the headers go with models on Azure only."""
    with Emulator(ocr=False, requests_per_minute=1) as server:
        headers = {"Authorization": f"Bearer {server.api_key}"}
        with httpx.Client(base_url=server.base_url, headers=headers, trust_env=False) as http:
            told = ask(http, body(model="gpt-4.1"))
            assert told.headers["x-ratelimit-limit-requests"] == "1"
            assert told.headers["x-ratelimit-remaining-requests"] == "0"
            assert told.headers["x-ratelimit-reset-requests"].endswith("s")
            assert not any(name.startswith("x-ratelimit") for name in ask(http, body()).headers)
            refused = ask(http, body())
            assert refused.status_code == 429
            assert "please try again in" in refused.json()["detail"]
            over = ask(http, body(model="gpt-4.1"))
            assert over.json()["error"]["type"] == "rate_limit_error"
            assert over.headers["x-ratelimit-remaining-requests"] == "0"


def test_the_log_knows_what_was_asked(http: httpx.Client, server: Emulator) -> None:
    """The log has each request with its headers, its JSON without the pictures, and their bytes beside it."""
    ask(http, body(image_part()))
    (request,) = server.requests
    assert (request.method, request.path, request.status, request.model) == (
        "POST",
        "/v2/chat/completions",
        200,
        QWEN,
    )
    assert request.images == [("image/png", PNG)]
    assert request.body["messages"][0]["content"][0]["image_url"]["url"] == "data:image/png;base64,..."
    until(lambda: request.finished is not None)  # it is noted when the answer has left
    assert request.finished is not None
    assert request.finished >= request.started
    server.clear()
    assert not server.requests


@pytest.mark.parametrize(("method", "path"), [("POST", "/moderations"), ("GET", "/embeddings"), ("PUT", "/files")])
def test_requests_that_stray_are_logged_and_refused(
    http: httpx.Client, server: Emulator, method: str, path: str
) -> None:
    """What is asked of a place the service does not have is in the log, and is refused in the service's form."""
    answer = http.request(method, path)
    assert (answer.status_code, "detail" in answer.json()) == (404, True)
    assert [(request.method, request.path) for request in server.requests] == [(method, f"/v2{path}")]
    assert http.request(method, path, headers={"Authorization": "Bearer x"}).status_code == 401


def test_a_reply_that_fails_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """A `reply=` that raises is answered with 500 in the service's form, and logged with its traceback."""

    def reply(_: ChatRequest) -> str:
        raise KeyError("no such picture")

    with Emulator(ocr=False, reply=reply) as server:
        headers = {"Authorization": f"Bearer {server.api_key}"}
        with httpx.Client(base_url=server.base_url, headers=headers, trust_env=False) as http:
            answer = ask(http, body())
    assert answer.status_code == 500
    assert "no such picture" in answer.json()["detail"]
    assert "no such picture" in caplog.text


def test_it_breaks_and_stops_without_noise(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """Scripted breaks, and a stop while an answer stalls, print and log nothing."""
    with Emulator(ocr=False) as server:
        headers = {"Authorization": f"Bearer {server.api_key}"}
        with httpx.Client(base_url=server.base_url, headers=headers, trust_env=False) as http:
            for kind in ("reset", "reset_body"):
                server.fail(kind)
                with pytest.raises(httpx.TransportError):
                    ask(http, body())
            server.fail("stall")
            with pytest.raises(httpx.ReadTimeout):
                http.post("/chat/completions", json=body(), timeout=0.2)
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.name.startswith(("uvicorn", "aifs_vision.emulator"))]


def test_faults_that_do_not_exist_are_refused(server: Emulator) -> None:
    """A misspelt fault is an error, and no test that passes without its fault."""
    kinds: tuple[Any, ...] = ("slo", 999, True)
    for kind in kinds:
        with pytest.raises(ValueError, match="is no fault"):
            server.fail(kind)
    with pytest.raises(ValueError, match="at least once"):
        server.fail("slow", times=0)


def test_what_is_on_its_way_is_forgotten_too(server: Emulator, http: httpx.Client) -> None:
    """`clear()` forgets requests that have come and are not logged yet, so that no test sees those of another."""
    address = ("127.0.0.1", int(server.base_url.rsplit(":", 1)[1].split("/")[0]))
    for _ in range(20):
        with socket.create_connection(address) as left:
            left.sendall(b"GET /v2/models HTTP/1.1\r\nhost: a.example\r\n\r\n")
            server.clear()
            assert http.get("/models").is_success
            assert len(server.requests) == 1


def test_a_body_that_is_no_utf8_is_refused(http: httpx.Client) -> None:
    """JSON is UTF-8, and half a surrogate pair is none."""
    body = json.dumps({"model": "gpt-4.1", "messages": [{"role": "user", "content": "?"}]}).encode()
    headers = {"content-type": "application/json"}
    assert http.post("/chat/completions", content=body, headers=headers).is_success
    refused = http.post("/chat/completions", content=body.replace(b"?", b"\xed\xa0\xbd"), headers=headers)
    assert refused.status_code == 400


def test_it_starts_once(server: Emulator) -> None:
    """A second start is an error, and leaves no second server."""
    with pytest.raises(RuntimeError, match="runs already"):
        server.start()


def test_it_must_run_to_have_an_address() -> None:
    """Asked for its address before it runs, it says how to start it."""
    with pytest.raises(RuntimeError, match="with block"):
        _ = Emulator().base_url


def test_it_runs_as_a_program() -> None:
    """`python -m aifs_vision.emulator` says how to reach it, answers, and ends when it is told to."""
    command = [sys.executable, "-m", "aifs_vision.emulator", "--port", "0", "--no-ocr", "--api-key", "k"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        lines = [program.stdout.readline() for _ in range(3)]
        url = lines[1].strip().removeprefix("export AIFS_BASE_URL=")
        answer = httpx.get(f"{url}/models", headers={"Authorization": "Bearer k"}, trust_env=False)
        assert answer.status_code == 200
        program.terminate()
        assert program.wait(timeout=30) == 0


def test_pages_are_asked_one_by_one(http: httpx.Client) -> None:
    """The service takes no TIFF: the emulator refuses it, whatever it is called."""
    for label in ("image/tiff", "image/png"):
        assert ask(http, body(image_part(tiff([corners()]), label))).status_code == 400


def test_a_client_that_leaves_in_mid_upload_is_no_error(server: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    """A connection that breaks while its request arrives is in the log of requests, and in no traceback."""
    port = int(server.base_url.rsplit(":", 1)[1].split("/")[0])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"POST /v2/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 999\r\n\r\n{")
        until(lambda: server.requests)
    until(lambda: server.requests[0].finished is not None)
    assert server.requests[0].status is None
    assert not caplog.records
