"""LangChain's own suites for chat models, against an emulator that answers from tools and schemas."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

import httpx
import pytest
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from aifs_vision import BadRequestError
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
    def supports_video_inputs(self) -> bool:
        return True

    @property
    def supports_audio_inputs(self) -> bool:
        return True  # so that the suite asks; see there

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

    @pytest.mark.xfail(
        strict=True,
        raises=ValueError,
        reason="The suite loads what langchain-core lists by name, which holds LangChain's own packages alone; "
        "test_chat_secrets.py loads it as users can, with allowed_objects=[ChatAIFS].",
    )
    def test_serdes(self, model: BaseChatModel, snapshot: Any) -> None:
        """The suite's round trip by LangChain's `dumps` and `load`."""
        del snapshot
        super().test_serdes(model, lambda **_: ANY)  # type: ignore[arg-type]


class TestIntegration(_Flags, ChatModelIntegrationTests):
    """The integration suite, over real HTTP."""

    @property
    def enable_vcr_tests(self) -> bool:
        """What recorded answers are for others is the emulator here."""
        return True

    @pytest.fixture
    @staticmethod
    def vcr() -> Any:
        """A cassette that has been recorded."""
        return SimpleNamespace(responses=["the emulator's"])

    @pytest.mark.xfail(
        strict=True, raises=BadRequestError, reason="No chat model of the service hears: it refuses a part with sound."
    )
    def test_audio_inputs(self, model: BaseChatModel) -> None:
        """The suite's question about a sound."""
        super().test_audio_inputs(model)

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
        monkeypatch.setenv("LANGCHAIN_TESTS_USER_AGENT", "nobody is asked")
        monkeypatch.setattr("langchain_tests.integration_tests.chat_models.httpx.get", _downloaded)
        with isolated():
            yield


def test_all_flags_are_true_but_those_with_a_reason() -> None:
    """What a suite would leave out by itself is asked for; whatever is not is named here, as in `_Flags`."""
    off = {
        "supports_image_urls": "they are passed on, and the emulator has no internet to fetch them from",
        "enable_vcr_tests": "the unit suite asks nobody, so that there is nothing to be recorded",
    }
    assert TestIntegration().enable_vcr_tests
    for suite in (TestUnit(), TestIntegration()):
        flags = {name for name in dir(suite) if isinstance(getattr(type(suite), name), property)}
        values = {name: getattr(suite, name) for name in flags}
        assert {name for name, value in values.items() if value is False} <= set(off)


def _downloaded(url: str, **_: Any) -> httpx.Response:
    content = pdf("Dummy PDF file") if url.endswith(".pdf") else saved(corners())
    return httpx.Response(200, content=content)
