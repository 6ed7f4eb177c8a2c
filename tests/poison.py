"""An environment full of other services' keys, addresses and headers, and the check that none of it is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aifs_vision.emulator import Emulator

__all__ = ["POISON", "assert_nothing_leaked"]

POISON = {
    "OPENAI_API_KEY": "sk-poison",
    "OPENAI_ADMIN_KEY": "sk-poison",
    "OPENAI_ORG_ID": "poison-org",
    "OPENAI_ORGANIZATION": "poison-org",
    "OPENAI_PROJECT_ID": "poison-project",
    "OPENAI_CUSTOM_HEADERS": "X-Poison: yes",
    "OPENAI_BASE_URL": "http://poison.example/v1",
    "OPENAI_API_BASE": "http://poison.example/v1",
    "OPENAI_PROXY": "http://poison.example",
    "OPENAI_API_TYPE": "azure",
    "OPENAI_API_VERSION": "poison",
    "LANGSMITH_GATEWAY": "http://poison.example",
    "LANGSMITH_GATEWAY_API_KEY": "poison",
    "LC_OUTPUT_VERSION": "responses/v1",
}


def assert_nothing_leaked(server: Emulator, *paths: str) -> None:
    """Every request came to the service's own paths, with its key and nothing poisoned in its headers."""
    wanted = set(paths) or {"/v2/chat/completions", "/v2/embeddings"}
    assert {request.path for request in server.requests} == wanted
    for request in server.requests:
        assert request.headers["authorization"] == f"Bearer {server.api_key}"
        assert "poison" not in str({**request.headers, "host": ""}).lower()
        assert not {"openai-organization", "openai-project", "x-poison"} & set(request.headers)
