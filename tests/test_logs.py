"""What is logged, and what errors say: never the key, a prompt, a picture or a text."""

from __future__ import annotations

import json
import logging
from base64 import b64encode
from contextlib import suppress
from typing import Any

import pytest

from aifs_vision import OCR, Limits, PermissionDeniedError, Task, Vision
from aifs_vision.emulator import Emulator
from aifs_vision.testing import virtual_time
from tests.pictures import corners, saved

KEY = "sk-very-secret-0815-4711"
PNG = saved(corners())
PICTURE = b64encode(PNG).decode()
ANSWER = "A private letter."


def _answer(**choice: Any) -> str:
    return json.dumps({"choices": [{"message": {"content": ANSWER}, "finish_reason": "stop", **choice}]})


FAULTS: list[tuple[int, str]] = [
    *((status, json.dumps({"detail": f"bad {KEY} in {OCR.prompt} with {PICTURE}"})) for status in (400, 403, 413, 503)),
    (400, json.dumps({"detail": "x" * 495 + KEY})),
    (422, json.dumps({"detail": [{"loc": ["body"], "msg": f"not data:image/png;base64,{PICTURE}"}]})),
    (200, json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}})),
    (200, json.dumps({"choices": [], "said": ANSWER})),
    (200, _answer(finish_reason="odd")),
    (200, _answer(finish_reason=["stop"])),
    (200, _answer(message={"refusal": ANSWER})),
    (200, _answer(message={"content": f"I'm sorry, I can't help with that: {ANSWER}"})),
    (200, _answer(finish_reason="length")),
    (200, _answer()[:-9]),
]


@pytest.mark.parametrize(("status", "body"), FAULTS)
def test_logs_and_errors_keep_it_to_themselves(caplog: pytest.LogCaptureFixture, status: int, body: str) -> None:
    """However a fault repeats what was sent, no log has it, at any level, and no error has the key or the picture."""
    with Emulator(ocr=False, api_key=KEY, reply=lambda _: ANSWER) as server:
        server.fail(status, body=body, times=99)
        vision = Vision(base_url=server.base_url, api_key=KEY, limits=Limits(), fallback_model="gpt-4o")
        with virtual_time(), caplog.at_level(logging.DEBUG):
            readings = list(vision.read_many([PNG], "ocr", on_error="keep"))
            run = vision.read_many([PNG, PNG], Task.ask("What?"), on_error="skip")
            with suppress(PermissionDeniedError):  # ends a run
                assert not list(run)
    told = f"{[(reading.error, repr(reading)) for reading in readings]} {run.report}"
    assert readings[0].status != "ok"
    ours = [record.getMessage() for record in caplog.records if record.name.startswith(("aifs", "httpx", "httpcore"))]
    assert "skipped" in str(ours) or status == 403
    for private in (KEY, KEY[:8], PICTURE[:60]):
        assert private not in f"{ours} {told}"
    for private in (OCR.prompt[:40], ANSWER):
        assert private not in str(ours)


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 10**400, "completion_tokens": 0},
        {"prompt_tokens": -5, "completion_tokens": True},
        {"prompt_tokens": "many"},
        [1, 2],
    ],
)
def test_a_count_that_is_none_counts_nothing(usage: Any) -> None:
    """Whatever a host puts into `usage`, the answer is delivered, and numbers that cannot be right are left out."""
    with Emulator(ocr=False) as server:
        server.fail(200, body=json.dumps({**json.loads(_answer()), "usage": usage}))
        reading = Vision(base_url=server.base_url, api_key=server.api_key, limits=Limits()).read(PNG)
    assert (reading.text, reading.usage.input_tokens, reading.usage.output_tokens) == (ANSWER, 0, 0)


def test_counts_may_come_as_floats() -> None:
    """A host that counts in floats is understood."""
    with Emulator(ocr=False) as server:
        usage = {"prompt_tokens": 100.0, "completion_tokens": 7.0}
        server.fail(200, body=json.dumps({**json.loads(_answer()), "usage": usage}))
        reading = Vision(base_url=server.base_url, api_key=server.api_key, limits=Limits()).read(PNG)
    assert (reading.usage.input_tokens, reading.usage.output_tokens) == (100, 7)
