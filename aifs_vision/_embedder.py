"""Texts -> vectors, through the service's embedding models."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from aifs_vision._api_errors import UnexpectedAnswerError
from aifs_vision._catalogue import model_card
from aifs_vision._errors import ResidencyError, SettingsError
from aifs_vision._exchange import exchange
from aifs_vision._limits import Cost, Limits
from aifs_vision._loop import call, call_async
from aifs_vision._settings import choose_plan, resolve
from aifs_vision._tokens import text_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DEFAULT_EMBEDDING_MODEL", "TextEmbedder"]

DEFAULT_EMBEDDING_MODEL = "text-embedding-bge-m3"


class TextEmbedder:
    """An embedding model, with the settings to reach it; a value, safe to share among threads and loops.

    Args:
        model: an embedding model of the service.
        batch_size: texts a request.
        api_key, base_url, residency, plan, limits, timeout: as for `Vision`.

    Raises:
        SettingsError: no key, a model that makes no vectors, or a setting that cannot be right.
        ResidencyError: the model's region is unknown or not allowed.
    """

    def __init__(
        self,
        model: str = DEFAULT_EMBEDDING_MODEL,
        *,
        batch_size: int = 64,
        api_key: str | None = None,
        base_url: str | None = None,
        residency: str | None = None,
        plan: str = "essential",
        limits: Limits | None = None,
        timeout: float = 120.0,
    ) -> None:
        if batch_size < 1:
            raise SettingsError.bad_value("batch_size", batch_size, "it is at least 1")
        self._settings = resolve(api_key=api_key, base_url=base_url, residency=residency, timeout=timeout)
        card = model_card(model)
        if card.known and card.kind != "embedding":
            raise SettingsError.wrong_kind(model, card.kind, "embedding", DEFAULT_EMBEDDING_MODEL)
        if not card.allowed_in(self._settings.residency):
            raise ResidencyError(model, card.region, str(self._settings.residency))
        self._limits = Limits.chosen(limits, card, choose_plan(plan))
        self._model, self._batch_size, self._plan = model, batch_size, plan

    @property
    def base_url(self) -> str:
        """The address requests go to."""
        return self._settings.base_url

    @property
    def residency(self) -> str | None:
        """Where models may be, None for anywhere."""
        return self._settings.residency

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the key: whoever unpickles it takes the key from its own environment."""
        return {
            "model": self._model,
            "batch_size": self._batch_size,
            "base_url": self._settings.base_url,
            "residency": self._settings.residency,
            "plan": self._plan,
            "limits": self._limits,
            "timeout": self._settings.timeout,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __deepcopy__(self, memo: dict[int, Any]) -> TextEmbedder:
        return self

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector for each text, in order; batches are under way side by side, as limits allow.

        Raises:
            TypeError: one text instead of a list of them.
            APIError: the service did not answer, or refused, or gave other vectors than were asked for.
        """
        return call(self._embed(_listed(texts)))

    async def aembed(self, texts: Sequence[str]) -> list[list[float]]:
        """The asynchronous twin of `embed()`."""
        return await call_async(self._embed(_listed(texts)))

    async def _embed(self, texts: list[str]) -> list[list[float]]:
        size = self._batch_size
        batches = [asyncio.ensure_future(self._batch(texts[at : at + size])) for at in range(0, len(texts), size)]
        try:
            vectors = [vector for told in await asyncio.gather(*batches) for vector in told]
        finally:  # one that fails makes the others useless
            for batch in batches:
                batch.cancel()
            await asyncio.gather(*batches, return_exceptions=True)
        self._check_widths({len(vector) for vector in vectors})
        return vectors

    async def _batch(self, texts: list[str]) -> list[list[float]]:
        body = {"model": self._model, "input": texts, "encoding_format": "float"}
        answer, _ = await exchange(
            "POST",
            f"{self._settings.base_url}/embeddings",
            self._settings,
            model=self._model,
            limits=self._limits,
            cost=Cost(input_tokens=sum(map(text_tokens, texts))),
            body=json.dumps(body).encode(),
        )
        return _in_order(answer, len(texts))

    def _check_widths(self, widths: set[int]) -> None:
        """Raises UnexpectedAnswerError for vectors that no store could hold beside each other, or none at all."""
        known = model_card(self._model).dimensions
        if len(widths) > 1 or 0 in widths or (known and widths - {known}):
            came = " and ".join(map(str, sorted(widths)))
            wanted = f"those of {self._model!r} have {known}" if known else f"{self._model!r} is to have one width"
            raise UnexpectedAnswerError(f"HTTP 200 with vectors of {came} numbers; {wanted}")


def _listed(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        raise TypeError("texts is one text; give a list of texts")
    return list(texts)


def _in_order(answer: Any, count: int) -> list[list[float]]:
    """The vectors by their `index`: the service may send them in any order."""
    data = answer.get("data") if isinstance(answer, dict) else None
    try:
        entries = [(entry["index"], [float(value) for value in entry["embedding"]]) for entry in data or ()]
        if len(entries) != count:
            raise UnexpectedAnswerError(f"HTTP 200 with {len(entries)} embeddings for {count} texts")
        by_index = dict(entries)
        return [by_index[index] for index in range(count)]
    except (TypeError, LookupError, ValueError) as error:
        raise UnexpectedAnswerError(f"HTTP 200 without {count} embeddings", detail=repr(error)) from error
