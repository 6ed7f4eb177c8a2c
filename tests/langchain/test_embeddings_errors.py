"""Errors of the embeddings: this project's and LangChain's at once, as those of the chat model."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from aifs_vision import AIFSError, APIConnectionError, Limits, UnexpectedAnswerError
from aifs_vision.testing import virtual_time
from langchain_aifs import AIFSEmbeddings
from tests.langchain.refusals import REFUSALS, Refusal, assert_langchain_knows, assert_refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from aifs_vision.emulator import Emulator

pytestmark = pytest.mark.usefixtures("environment")


def four_ways(embeddings: AIFSEmbeddings) -> list[Callable[[], Any]]:
    """The calls that embeddings have."""
    return [
        lambda: embeddings.embed_query("Rechnung"),
        lambda: embeddings.embed_documents(["Rechnung", "Katze"]),
        lambda: asyncio.run(embeddings.aembed_query("Rechnung")),
        lambda: asyncio.run(embeddings.aembed_documents(["Rechnung", "Katze"])),
    ]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_refusals_are_errors_of_both_trees(server: Emulator, refusal: Refusal) -> None:
    """A refusal is this project's error and LangChain's, which says rightly whether to ask again; it can be pickled."""
    assert_refused(server, four_ways(AIFSEmbeddings(limits=Limits(patience=0.0))), refusal)


@pytest.mark.parametrize(
    ("fault", "kind", "name"),
    [
        ("html", UnexpectedAnswerError, "ModelAPIError"),
        ("cut_json", UnexpectedAnswerError, "ModelAPIError"),
        ("reset", APIConnectionError, "ModelConnectionError"),
    ],
)
def test_answers_that_are_none_are_errors_of_both_trees(
    server: Emulator, fault: Any, kind: type[AIFSError], name: str
) -> None:
    """HTML or half a JSON with status 200, and a broken connection, are errors of both trees."""
    for way in four_ways(AIFSEmbeddings()):
        server.fail(fault, times=4)
        with virtual_time(), pytest.raises(kind) as raised:
            way()
        server.clear()
        assert_langchain_knows(raised.value, name, again=True)
