"""`image_retriever_tool`: an agent looks at the pictures that its search finds."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import ToolException
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests
from langgraph.errors import GraphInterrupt

from aifs_vision import AIFSVisualRAGStore, Limits, SettingsError
from aifs_vision.emulator import Emulator
from langchain_aifs import AIFSEmbeddings, AIFSImageLoader, AIFSVisualRAGRetriever, ChatAIFS, image_retriever_tool
from tests.langchain.scripted import called
from tests.media import pdf
from tests.pictures import corner_names, corners, saved

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from langchain_core.tools import BaseTool

    from aifs_vision.emulator import ChatRequest

RED, BLUE = "1 0 0 rg 0 60 80 40 re f", "0 0 1 rg 0 60 80 40 re f"


def looks_and_tells(asked: ChatRequest) -> str | dict[str, Any] | None:
    """A model that searches twice at once, and then says what it has been shown."""
    if "transcribe" in asked.prompt.lower():
        return None
    results = [message for message in asked.body["messages"] if message["role"] == "tool"]
    if not results:
        calls = [called("search", {"query": f"a picture, mainly {colour}"}) for colour in ("red", "blue")]
        return {"tool_calls": calls}
    pictures = [corner_names(image.picture)[0] for image in asked.images if image.picture is not None]
    return f"{len(results)} results with {len(pictures)} pictures: {', '.join(pictures)}"


@pytest.fixture(scope="module")
def looking() -> Iterator[Emulator]:
    """A service with that model."""
    with Emulator(ocr=False, reply=looks_and_tells) as server:
        yield server


@pytest.fixture
def service(looking: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """The same, with its key and address in the environment."""
    looking.clear()
    monkeypatch.setenv("AIFS_BASE_URL", looking.base_url)
    monkeypatch.setenv("AIFS_API_KEY", looking.api_key)
    return looking


@pytest.fixture
def flags(service: Emulator) -> Iterator[BaseTool]:
    """A tool that searches a Visual RAG store with a red and a blue page, one picture at a time."""
    store = AIFSVisualRAGStore("flags")
    store.add([("red.pdf", pdf(RED)), ("blue.pdf", pdf(BLUE))])
    service.clear()
    yield image_retriever_tool(AIFSVisualRAGRetriever(store, k=0, k_images=1), "search", "Searches the flags.")
    store.drop()


@pytest.fixture
def scans(service: Emulator, tmp_path: Path) -> Path:
    """A folder with two pictures."""
    assert service.base_url
    for name, width in (("a.png", 60), ("b.png", 90)):
        (tmp_path / name).write_bytes(saved(corners(width, 60)))
    return tmp_path


@pytest.fixture
def local(scans: Path) -> BaseTool:
    """A tool that searches an index of one's own over that folder."""
    vectors = InMemoryVectorStore(AIFSEmbeddings(limits=Limits()))
    vectors.add_documents(AIFSImageLoader(scans, task="ocr", limits=Limits()).load())
    return image_retriever_tool(vectors.as_retriever(), "search", "Searches the scans.", roots=[scans])


class Standard:
    """What LangChain's own tests of tools are told."""

    @pytest.fixture(autouse=True)
    def _tool(self, local: BaseTool) -> None:
        self.local = local

    @property
    def tool_constructor(self) -> BaseTool:
        """What LangChain's own tests try."""
        return self.local

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        """What an agent would ask."""
        return {"query": "a picture"}


class TestToolCalls(Standard, ToolsIntegrationTests):
    pass


class TestToolForm(Standard, ToolsUnitTests):
    pass


def call(query: str, identifier: str = "1") -> dict[str, Any]:
    """A call as an agent makes it."""
    return {"name": "search", "args": {"query": query}, "id": identifier, "type": "tool_call"}


def test_texts_and_pictures_as_content_and_documents_as_artifact(local: BaseTool, scans: Path) -> None:
    """The result has numbered texts and pictures for the model, and the Documents for the program."""
    for message in (local.invoke(call("a picture")), asyncio.run(local.ainvoke(call("a picture")))):
        assert isinstance(message, ToolMessage)
        assert [block["type"] for block in message.content] == ["text", "image"] * 2  # type: ignore[index]
        assert message.content[0]["text"].startswith(f"[1] {scans}")  # type: ignore[index]
        assert all(isinstance(document, Document) for document in message.artifact)
        assert {document.metadata["source"] for document in message.artifact} == {str(p) for p in scans.iterdir()}


def test_an_agent_sees_what_two_searches_at_once_find(flags: BaseTool, service: Emulator) -> None:
    """`create_agent` runs parallel calls; the model is shown the page that each has found."""
    agent: Any = create_agent(ChatAIFS(model="gpt-4.1", limits=Limits()), [flags])
    asked = {"messages": [HumanMessage("Compare the flags.")]}
    for state in (agent.invoke(asked), asyncio.run(agent.ainvoke(asked))):
        assert isinstance(state["messages"][-1], AIMessage)
        assert state["messages"][-1].text == "2 results with 2 pictures: red, blue"
        results = [message for message in state["messages"] if isinstance(message, ToolMessage)]
        assert [message.artifact[0].metadata["filename"] for message in results] == ["red.pdf", "blue.pdf"]
    chats = [request for request in service.requests if request.path.endswith("/chat/completions")]
    assert len(chats) == 4
    assert "base64" not in str(chats[-1].body).replace("base64,...", "")  # pictures are not written out as text


def test_an_agent_over_an_index_of_ones_own(local: BaseTool, scans: Path) -> None:
    """Pictures are found again from the metadata of whatever retriever, below the roots."""
    agent: Any = create_agent(ChatAIFS(model="gpt-4.1", limits=Limits()), [local])
    state = agent.invoke({"messages": [HumanMessage("Compare.")]})
    assert state["messages"][-1].text == "2 results with 4 pictures: red, red, red, red"
    (scans / "a.png").unlink()
    state = agent.invoke({"messages": [HumanMessage("Compare.")]})
    assert state["messages"][-1].text == "2 results with 2 pictures: red, red"


def test_errors_are_told_to_the_agent(flags: BaseTool, service: Emulator) -> None:
    """What the service or the store refuses is a result of status "error", and does not end the run."""
    service.fail(400, times=2, body='{"detail": "no such luck"}')
    for query, words in (("a flag", "no such luck"), (" ", "query")):
        for message in (flags.invoke(call(query)), asyncio.run(flags.ainvoke(call(query)))):
            assert message.status == "error"
            assert words in message.content
    service.clear()
    agent: Any = create_agent(ChatAIFS(model="gpt-4.1", limits=Limits()), [flags])
    AIFSVisualRAGStore("flags").drop()
    state = agent.invoke({"messages": [HumanMessage("Compare the flags.")]})
    assert state["messages"][-1].text == "2 results with 0 pictures: "
    assert all("no store 'flags'" in message.content for message in state["messages"] if message.type == "tool")


class Failing(BaseRetriever):
    """A retriever of somebody else's, which fails."""

    error: Any

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        del query, run_manager
        raise self.error


@pytest.mark.usefixtures("service")
def test_errors_of_other_retrievers_are_told_as_well(caplog: pytest.LogCaptureFixture) -> None:
    """What any retriever raises does not end the run; the agent gets its class, and the log what it says."""
    error = ConnectionError("postgres://me:swordfish@db is down")
    tool = image_retriever_tool(Failing(error=error), "search", "Searches.", roots=["."])
    with caplog.at_level(logging.WARNING, "langchain_aifs"):
        state = create_agent(ChatAIFS(model="gpt-4.1", limits=Limits()), [tool]).invoke(
            {"messages": [HumanMessage("Compare the flags.")]}
        )
    assert state["messages"][-1].text == "2 results with 0 pictures: "
    told = [message for message in state["messages"] if isinstance(message, ToolMessage)]
    assert [message.status for message in told] == ["error"] * 2
    assert all("(ConnectionError)" in message.content and "swordfish" not in message.content for message in told)
    assert "swordfish" in caplog.text
    assert "ConnectionError" in asyncio.run(tool.ainvoke(call("a"))).content


def test_errors_that_are_not_for_the_agent() -> None:
    """Which errors are told can be said; what LangGraph raises to stop a run stops it, and own words are kept."""
    chosen = image_retriever_tool(Failing(error=ValueError("x")), "search", "Searches.", roots=["."], errors=OSError)
    with pytest.raises(ValueError, match="x"):
        chosen.invoke(call("a"))
    stopped = image_retriever_tool(Failing(error=GraphInterrupt()), "search", "Searches.", roots=["."])
    with pytest.raises(GraphInterrupt):
        stopped.invoke(call("a"))
    own = image_retriever_tool(Failing(error=ToolException("Ask the desk.")), "search", "Searches.", roots=["."])
    assert own.invoke(call("a")).content == "Ask the desk."


def test_no_two_sources_of_a_run_have_one_number(local: BaseTool, service: Emulator) -> None:
    """Searches at once, and those of later turns, each count their own; models do not see how that is known."""
    agent: Any = create_agent(ChatAIFS(model="gpt-4.1", limits=Limits()), [local])
    state = agent.invoke({"messages": [HumanMessage("Compare.")]})
    again = AIMessage("", tool_calls=[call("more", "later")])
    runtime = SimpleNamespace(state={"messages": [*state["messages"], again]}, tool_call_id="later")
    later = local.invoke({**call("more", "later"), "args": {"query": "more", "runtime": runtime}})
    results = [*(message for message in state["messages"] if isinstance(message, ToolMessage)), later]
    texts = [block["text"] for message in results for block in message.content if "text" in block]
    numbers = [text[1 : text.index("]")] for text in texts]
    assert numbers == ["1.1", "1.2", "2.1", "2.2", "3.1", "3.2"]
    ((told,),) = [request.body["tools"] for request in service.requests if "tools" in request.body][:1]
    assert [*told["function"]["parameters"]["properties"]] == ["query"]


def test_ids_that_come_again_are_those_of_the_last_message(local: BaseTool) -> None:
    """Some services number the calls of each turn from the same id on: the last turn's are meant."""
    first, second = (
        AIMessage("", tool_calls=[call("a", "0")]),
        AIMessage("", tool_calls=[call("b", "1"), call("c", "0")]),
    )
    messages: list[Any] = [HumanMessage("Compare."), first]
    numbers = []
    for turn in (first, second, second):
        found = []
        for each in turn.tool_calls:
            runtime = SimpleNamespace(state={"messages": list(messages)}, tool_call_id=each["id"])
            found.append(local.invoke({**each, "type": "tool_call", "args": {**each["args"], "runtime": runtime}}))
        numbers.append([message.content[0]["text"].partition("]")[0] for message in found])
        messages += [*found, second]
    assert numbers == [["[1.1"], ["[2.1", "[3.1"], ["[4.1", "[5.1"]]


def test_nothing_is_found(local: BaseTool, service: Emulator) -> None:
    """A search without hits says so in words."""
    assert service.base_url
    assert local.name == "search"
    empty = InMemoryVectorStore(AIFSEmbeddings(limits=Limits())).as_retriever()
    tool = image_retriever_tool(empty, "search", "Searches nothing.", roots=["."])
    message = tool.invoke(call("a picture"))
    assert message.content == [{"type": "text", "text": "Nothing was found."}]
    assert message.artifact == []


def test_budget_and_roots(scans: Path) -> None:
    """Each call keeps to the budget; settings that cannot be right show when the tool is made."""
    vectors = InMemoryVectorStore(AIFSEmbeddings(limits=Limits()))
    vectors.add_documents(AIFSImageLoader(scans, task="ocr", limits=Limits()).load())
    retriever = vectors.as_retriever()
    one = image_retriever_tool(retriever, "search", "Searches.", roots=scans, max_images=1)
    for _ in range(2):
        assert [block["type"] for block in one.invoke(call("a")).content] == ["text", "image", "text"]
    with pytest.raises(SettingsError, match="roots"):
        image_retriever_tool(retriever, "search", "Searches.")
    with pytest.raises(SettingsError, match="max_images"):
        image_retriever_tool(retriever, "search", "Searches.", roots=scans, max_images=0)


def test_searches_are_traced_as_part_of_the_call(local: BaseTool) -> None:
    """The retriever's run is a child of the tool's, in both ways of calling."""
    seen: list[Any] = []

    class Watching(BaseCallbackHandler):
        def on_retriever_start(self, *_: Any, parent_run_id: Any = None, **__: Any) -> None:
            seen.append(parent_run_id)

    local.invoke(call("a"), {"callbacks": [Watching()]})
    asyncio.run(local.ainvoke(call("a"), {"callbacks": [Watching()]}))
    assert len(seen) == 2
    assert None not in seen
