"""Key, address, residency, plan: argument, else AIFS_* environment, else default."""

from __future__ import annotations

import copy
import pickle

import pytest

from aifs_vision import Limits, ResidencyError, SettingsError, Vision

SERVICE = "https://llm-server.llmhub.t-systems.net"


def test_a_missing_key_names_its_places() -> None:
    """Without a key the first error names the environment variable and the argument."""
    with pytest.raises(SettingsError, match=r"AIFS_API_KEY.*api_key=") as caught:
        Vision()
    assert "OPENAI_BASE_URL" in str(caught.value)


@pytest.mark.parametrize("key", ["abc\ndef", "abc\n", " abc", "abc ", "", "  ", "schlüssel", "a\tb"])
def test_a_key_no_header_can_carry_is_refused_unseen(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key with line breaks, blanks or other characters is refused at once, and not shown."""
    with pytest.raises(SettingsError, match="key") as caught:
        Vision(api_key=key)
    assert not key.strip() or key.strip() not in str(caught.value)
    monkeypatch.setenv("AIFS_API_KEY", key or " ")
    with pytest.raises(SettingsError, match="AIFS_API_KEY"):
        Vision()


def test_an_openai_key_is_used_only_where_its_address_is_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """OPENAI_API_KEY counts only while OPENAI_BASE_URL points at the service."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    for elsewhere in (None, "https://api.openai.com/v1", f"https://evil.example/{SERVICE}", "https://["):
        monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
        if elsewhere:
            monkeypatch.setenv("OPENAI_BASE_URL", elsewhere)
        with pytest.raises(SettingsError, match="No API key"):
            Vision()
    monkeypatch.setenv("OPENAI_BASE_URL", f"{SERVICE}/v2")
    assert SERVICE in repr(Vision())


@pytest.mark.parametrize(
    "url",
    [
        "llm-server.example/v2",
        "localhost:8085",
        "ftp://host/v2",
        "https://",
        "https://host:99999/v2",
        "https://h/?a=b",
        "https://h h/v2",
        "https://h\x7f/v2",
    ],
)
def test_an_address_without_scheme_or_host_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that is no http(s) URL is refused at once, with its value and where it came from."""
    with pytest.raises(SettingsError, match="base_url=") as caught:
        Vision(api_key="k", base_url=url)
    assert repr(url.replace("a=b", "***")) in str(caught.value)
    monkeypatch.setenv("AIFS_BASE_URL", url)
    with pytest.raises(SettingsError, match="AIFS_BASE_URL"):
        Vision(api_key="k")


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@host/v2",
        "user:hunter2@host/v2",
        "http://user:pa/hunter2@host/v2",
        "http://user:p@hunter2@host/v2",
        "https://host/v2?key=hunter2",
    ],
)
def test_a_password_in_an_address_is_not_shown(url: str) -> None:
    """An address with user and password, or with a query, is refused without showing them."""
    with pytest.raises(SettingsError) as caught:
        Vision(api_key="k", base_url=url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        (None, f"{SERVICE}/v2"),
        ("https://host", "https://host/v2"),
        ("https://host/v2/", "https://host/v2"),
        ("http://127.0.0.1:1/gateway", "http://127.0.0.1:1/gateway"),
    ],
)
def test_addresses_are_completed(given: str | None, used: str) -> None:
    """A bare host means its /v2, a slash at the end does not matter, any other path stays."""
    assert repr(used) in repr(Vision(api_key="k", base_url=given))


def test_the_queue_is_the_same_address_elsewhere() -> None:
    """queue=True sends to /queue instead of /v2."""
    assert f"{SERVICE}/queue" in repr(Vision(api_key="k", queue=True))


def test_residency_refuses_models_elsewhere_or_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a residency, a model whose region is not allowed or not known is refused before anything is sent."""
    assert Vision(api_key="k", residency="germany").card.region == "otc-germany"
    assert Vision("gpt-4.1", api_key="k", residency="eu").card.region == "azure-sweden-central"
    with pytest.raises(ResidencyError, match="azure-sweden-central"):
        Vision("gpt-4.1", api_key="k", residency="germany")
    with pytest.raises(ResidencyError, match="not known"):
        Vision("somebody/elses-model", api_key="k", residency="eu")
    monkeypatch.setenv("AIFS_RESIDENCY", "germany")
    with pytest.raises(ResidencyError):
        Vision("gpt-4.1", api_key="k")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", None),
        ("model", ""),
        ("image_limits", 5),
        ("residency", "mars"),
        ("plan", "gold"),
        ("timeout", 0),
        ("timeout", float("inf")),
        ("timeout", True),
    ],
)
def test_values_outside_their_choices_are_refused(name: str, value: object) -> None:
    """A setting that cannot be right is refused with its name and value."""
    options: dict[str, object] = {name: value}
    with pytest.raises(SettingsError) as caught:
        Vision(api_key="k", **options)  # type: ignore[arg-type]
    assert f"{name}={value!r}" in str(caught.value)


def test_a_model_without_eyes_is_refused() -> None:
    """A model of the catalogue that takes no images is refused at once, and others are named."""
    with pytest.raises(SettingsError, match=r"'Llama-3\.3-70B-Instruct' does not take images.*Qwen3-VL"):
        Vision("Llama-3.3-70B-Instruct", api_key="k")


def test_unknown_arguments_are_type_errors() -> None:
    """A misspelt argument is a TypeError, not silence."""
    with pytest.raises(TypeError, match="modle"):
        Vision(modle="x")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="not both"):
        Vision.of(Vision(api_key="k"), model="x")


def test_the_key_shows_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is not in repr, str, vars or a pickle; an unpickled client takes it from its own environment."""
    vision = Vision(api_key="very-secret", limits=Limits(in_flight=3))
    monkeypatch.setenv("AIFS_API_KEY", "of-the-other-process")
    pickled = pickle.dumps(vision)
    assert b"very-secret" not in pickled
    for shown in (repr(vision), str(vision), repr(vars(vision))):
        assert "very-secret" not in shown
    twin = pickle.loads(pickled)  # noqa: S301 - our own bytes
    assert repr(twin) == repr(vision)
    assert copy.deepcopy(vision) is vision


@pytest.mark.parametrize("value", [0, -1, "many"])
def test_impossible_limits_are_refused(value: object) -> None:
    """A limit that is no number above 0 is refused with its name and value."""
    for name in ("requests_per_minute", "input_tokens_per_minute", "output_tokens_per_minute", "in_flight"):
        options: dict[str, object] = {name: value}
        with pytest.raises(SettingsError, match=name):
            Limits(**options)  # type: ignore[arg-type]
