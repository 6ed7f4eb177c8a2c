"""LangChain's own suites for chat models, against an emulator that answers from tools and schemas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from aifs_vision.emulator import Emulator
from aifs_vision.testing import isolated
from langchain_aifs import ChatAIFS
from tests.langchain.scripted import answer_from_tools_and_schema
from tests.media import pdf
from tests.pictures import corners, saved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.language_models import BaseChatModel

MODEL = "gpt-4.1"


class _Flags:
    """What the models of the service can do, as far as the emulator has it; see the reason of each False."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatAIFS

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": MODEL}

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_urls(self) -> bool:
        return False  # they are passed on, and the emulator has no internet to fetch them from

    @property
    def supports_image_tool_message(self) -> bool:
        return True

    @property
    def supports_pdf_inputs(self) -> bool:
        return True

    @property
    def supports_pdf_tool_message(self) -> bool:
        return True

    @property
    def supports_audio_inputs(self) -> bool:
        return False  # no model of the service hears in chats

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return "gpt-4o-mini"


class TestUnit(_Flags, ChatModelUnitTests):
    """The unit suite; it needs neither service nor emulator."""

    @property
    def chat_model_params(self) -> dict[str, Any]:
        """Here, nothing has a key but this."""
        return {"model": MODEL, "api_key": "test"}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        """The key comes from the environment."""
        return {"AIFS_API_KEY": "key"}, {"model": MODEL}, {"model_name": MODEL}


class TestIntegration(_Flags, ChatModelIntegrationTests):
    """The integration suite, over real HTTP."""

    @pytest.fixture(autouse=True, scope="class")
    @staticmethod
    def emulator() -> Iterator[Emulator]:
        """A service whose model calls tools and fills schemas."""
        with Emulator(ocr=False, reply=answer_from_tools_and_schema) as server:
            yield server

    @pytest.fixture(autouse=True)
    def _settings(self, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Its address and key; and what the suite downloads, without an internet."""
        monkeypatch.setenv("AIFS_BASE_URL", emulator.base_url)
        monkeypatch.setenv("AIFS_API_KEY", emulator.api_key)
        monkeypatch.setattr("langchain_tests.integration_tests.chat_models.httpx.get", _downloaded)
        with isolated():
            yield


def _downloaded(url: str, **_: Any) -> httpx.Response:
    content = pdf("Dummy PDF file") if url.endswith(".pdf") else saved(corners())
    return httpx.Response(200, content=content)
