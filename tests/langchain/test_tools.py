"""`AIFSVisionToolkit`: LangChain's own suites for each tool, and agents that use them."""

from __future__ import annotations

import asyncio
import http.server
import json
import pickle
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests
from langgraph.checkpoint.memory import InMemorySaver

from aifs_vision import AIFSVisualRAGStore, SettingsError
from aifs_vision.emulator import Emulator
from aifs_vision.testing import isolated
from langchain_aifs import AIFSVisionToolkit, ChatAIFS, image_block
from tests.langchain.scripted import called
from tests.pictures import corners, noise, saved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_core.tools import BaseTool

    from aifs_vision.emulator import ChatRequest

IMAGES = Path(__file__).parent.parent.parent / "examples" / "images"
EXAMPLES: dict[str, dict[str, Any]] = {
    "list_images": {},
    "caption_image": {"image": "chart.png"},
    "read_text": {"image": "minutes.tif", "page": 2},
    "ask_image": {"image": "receipt.jpg", "question": "What is the total?"},
    "extract_fields": {"image": "receipt.jpg", "fields": ["total", "date"]},
    "search_images": {"query": "pump", "k": 2},
}


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """A service with a store."""
    with Emulator(ocr=False, reply=answered) as server:
        AIFSVisualRAGStore("pumps", base_url=server.base_url, api_key=server.api_key).add(IMAGES / "letter.png")
        yield server


def answered(asked: ChatRequest) -> str | None:
    """Data where data is asked for."""
    return json.dumps(dict.fromkeys(asked.schema["properties"], "12.50")) if asked.schema else None


@pytest.fixture
def _place(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The emulator's address and key in the environment."""
    monkeypatch.setenv("AIFS_BASE_URL", emulator.base_url)
    monkeypatch.setenv("AIFS_API_KEY", emulator.api_key)
    with isolated():
        yield


def named(name: str, root: Path = IMAGES, **options: Any) -> BaseTool:
    """One of the tools."""
    store = AIFSVisualRAGStore("pumps") if name == "search_images" else None
    return {tool.name: tool for tool in AIFSVisionToolkit(root, store=store, **options).get_tools()}[name]


class _OfATool:
    """What LangChain's suites have to know of a tool."""

    tool_name: str

    @property
    def tool_constructor(self) -> BaseTool:
        return named(self.tool_name)

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return EXAMPLES[self.tool_name]


def _suites() -> Iterator[tuple[str, type]]:
    for name in EXAMPLES:
        title = "".join(part.title() for part in name.split("_"))
        for suite in (ToolsUnitTests, ToolsIntegrationTests):
            kind = type(f"Test{title}{suite.__name__}", (_OfATool, suite), {"tool_name": name})
            yield kind.__name__, pytest.mark.usefixtures("_place")(kind)


globals().update(_suites())  # one class of each suite for each tool


# -- Tools by themselves --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_place")
def test_every_tool_passes_both_suites() -> None:
    """No tool is without the suites of LangChain."""
    tools = AIFSVisionToolkit(IMAGES, store=AIFSVisualRAGStore("pumps")).get_tools()
    assert [tool.name for tool in tools] == list(EXAMPLES)
    assert len(dict(_suites())) == 2 * len(tools)
    assert dict(_suites()).keys() <= globals().keys()


@pytest.mark.usefixtures("_place")
def test_models_see_what_they_can_fill() -> None:
    """A model is told of the arguments with their descriptions, and of nothing that is injected."""
    for name, example in EXAMPLES.items():
        told = convert_to_openai_tool(named(name))["function"]
        fields = told["parameters"]["properties"]
        assert example.keys() <= fields.keys()
        assert "runtime" not in fields
        assert all(field.get("description") for field in fields.values())
        assert str(IMAGES.parent) not in json.dumps(told)


@pytest.mark.usefixtures("_place")
async def test_results_are_text_and_artifact() -> None:
    """The message has a short text, and the reading as plain JSON; sync and async give the same."""
    tool = named("extract_fields")
    call: Any = {"name": tool.name, "args": EXAMPLES[tool.name], "id": "1", "type": "tool_call"}
    message = tool.invoke(call)
    assert isinstance(message, ToolMessage)
    assert json.loads(str(message.content)) == {"total": "12.50", "date": "12.50"}
    assert message.artifact["data"] == {"total": "12.50", "date": "12.50"}
    assert (message.artifact["status"], message.status) == ("ok", "success")
    assert message.artifact["cost_eur"] > 0
    assert (await tool.ainvoke(call)).content == message.content


@pytest.mark.usefixtures("_place")
@pytest.mark.parametrize("arguments", [{"image": "../secret.png"}, {}, {"image": "chart.png", "page": 0}, {"image": 7}])
def test_errors_are_messages(arguments: dict[str, Any]) -> None:
    """What goes wrong is a message with the status "error" whose text says what to do, also for wrong arguments."""
    tool = named("caption_image")
    message = tool.invoke({"name": tool.name, "args": arguments, "id": "1", "type": "tool_call"})
    assert message.status == "error"
    assert "Give a path below" in message.content or "Call it again" in message.content
    assert isinstance(tool.invoke(arguments), str)


@pytest.mark.usefixtures("_place")
def test_wrong_settings_are_errors_at_once(tmp_path: Path) -> None:
    """Unknown options are a TypeError, a folder that is not there a SettingsError."""
    with pytest.raises(TypeError, match="modell"):
        AIFSVisionToolkit(IMAGES, modell="x")
    with pytest.raises(SettingsError, match="root"):
        AIFSVisionToolkit(tmp_path / "nothing")


@pytest.mark.usefixtures("_place")
def test_nothing_shows_the_key_or_the_place(emulator: Emulator) -> None:
    """The toolkit and its tools show neither key nor path, and can be pickled without the key."""
    toolkit = AIFSVisionToolkit(IMAGES, api_key=emulator.api_key)
    shown = f"{toolkit!r} {toolkit} {toolkit.model_dump()} {[tool.description for tool in toolkit.get_tools()]}"
    assert emulator.api_key not in shown
    assert str(IMAGES.parent) not in shown
    tool = toolkit.get_tools()[1]
    assert emulator.api_key.encode() not in pickle.dumps(tool)
    assert pickle.loads(pickle.dumps(tool)).invoke({"image": "chart.png"})  # noqa: S301 - our own bytes


# -- Agents ----------------------------------------------------------------------------------------------------------


class Script:
    """A model that makes these calls, turn by turn, and then says "done"; what is not about tools it describes."""

    def __init__(self, *turns: list[dict[str, Any]] | Callable[[ChatRequest], list[dict[str, Any]]]) -> None:
        self.turns = list(turns)

    def __call__(self, asked: ChatRequest) -> str | dict[str, Any]:
        """The answer to a request."""
        if "tools" not in asked.body:
            return f"{len(asked.images)} image of {asked.images[0].picture.size}"  # type: ignore[union-attr]
        turn = self.turns.pop(0) if self.turns else "done"
        return turn if isinstance(turn, str) else {"tool_calls": turn(asked) if callable(turn) else turn}


def run(root: Path, script: Script, message: HumanMessage, **options: Any) -> tuple[dict[str, Any], Emulator]:
    """What the agent's state is in the end, and the server."""
    with isolated(), Emulator(ocr=False, reply=script) as server:
        settings: Any = {"base_url": server.base_url, "api_key": server.api_key}
        if options.pop("search", False):
            options["store"] = store = AIFSVisualRAGStore("pumps", **settings)
            store.add(IMAGES / "letter.png")
        tools = AIFSVisionToolkit(root, **settings, **options).get_tools()
        agent: Any = create_agent(ChatAIFS(model="gpt-4.1", **settings), tools, checkpointer=InMemorySaver())
        state = agent.invoke({"messages": [message]}, {"configurable": {"thread_id": "1"}})
        return state, server


def results(state: dict[str, Any]) -> list[ToolMessage]:
    """The messages of tools."""
    return [message for message in state["messages"] if isinstance(message, ToolMessage)]


def test_an_agent_reads_several_images_at_once(tmp_path: Path) -> None:
    """Parallel calls each get their own image's result, by the call's id, with artifacts that a checkpoint holds."""
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(saved(noise(60 + number, 40)))
    calls = [called("caption_image", {"image": f"{number}.png"}) for number in range(5)]
    state, server = run(tmp_path, Script([called("list_images", {})], calls), HumanMessage("What is there?"))
    listed, *read = results(state)
    assert "4.png" in listed.content
    assert [message.tool_call_id for message in read] == [call["id"] for call in calls]
    assert [message.content for message in read] == [f"1 image of ({60 + n}, 40)" for n in range(5)]
    assert all(message.artifact["cost_eur"] is not None for message in read)
    assert state["messages"][-1].text == "done"
    assert len(server.requests) == 3 + 5


def test_errors_do_not_end_the_run(tmp_path: Path) -> None:
    """An agent that asks for everything it must not have is told so, with an artifact, and goes on."""
    bad = ["../x.png", "/etc/passwd", "http://a.example/x.png", "~/x.png", "no.png", "picture 9"]
    calls = [called("caption_image", {"image": path}) for path in bad]
    calls += [called("ask_image", {"image": "x"}), called("read_text", {"image": "x", "page": -1})]
    state, server = run(tmp_path, Script(calls), HumanMessage("Look around."))
    assert [message.status for message in results(state)] == ["error"] * len(calls)
    assert all(message.artifact["error"] for message in results(state)[: len(bad)])
    assert state["messages"][-1].text == "done"
    assert {request.path for request in server.requests} == {"/v2/chat/completions"}
    assert len(server.requests) == 2


class Pictures(http.server.BaseHTTPRequestHandler):
    """Serves one picture."""

    def do_GET(self) -> None:
        """The picture."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(saved(corners()))

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    """Where a picture can be fetched."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as pictures:
        threading.Thread(target=pictures.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{pictures.server_port}/a.png"
        pictures.shutdown()


def test_pictures_of_the_conversation_have_names(tmp_path: Path, address: str) -> None:
    """Pictures of the user and of tools are read by their numbers, in the order in which they were shown."""
    question = HumanMessage(
        [
            {"type": "text", "text": "What are these?"},
            image_block(saved(corners(80, 50))),
            {"type": "image_url", "image_url": {"url": address}},
            image_block(saved(corners(90, 50))),
        ]
    )
    names = ["picture 1", "picture 3", "picture 2", "picture 4"]
    script = Script([called("caption_image", {"image": name}) for name in names])
    first, third, second, fourth = results(run(tmp_path, script, question)[0])
    assert first.content == "1 image of (80, 50)"
    assert third.content == "1 image of (90, 50)"
    assert "address" in second.content
    assert fourth.status == "error"
    (listed,) = results(run(tmp_path, Script([called("list_images", {})]), question)[0])
    assert "picture 3 (in this conversation)" in listed.content


def test_pages_that_were_found_can_be_looked_at(tmp_path: Path) -> None:
    """The picture of a page that a search has found is read by the name that the result gives it."""

    def looking(asked: ChatRequest) -> list[dict[str, Any]]:
        (name,) = re.findall(r"called '([^']+)'", asked.body["messages"][-1]["content"])
        return [called("ask_image", {"image": name, "question": "Who wrote it?"}), called("list_images", {})]

    script = Script([called("search_images", {"query": "pump", "k": 4})], looking)
    found, seen, listed = results(run(tmp_path, script, HumanMessage("Who wrote about the pump?"), search=True)[0])
    assert "called 'letter.png#page=1-" in found.content
    assert "base64" not in found.content
    assert seen.text.startswith("1 image of")
    assert seen.status == "success"
    assert "letter.png#page=1-" in listed.content


def test_users_texts_do_not_shift_the_numbers(tmp_path: Path) -> None:
    """A text that begins like what stands for a picture is a text: pictures are numbered as they were shown."""
    question = HumanMessage(
        [
            {"type": "text", "text": "[picture 1] is the front"},
            image_block(saved(corners(80, 50))),
            {"type": "text", "text": "[picture 2] is the back"},
            image_block(saved(corners(90, 50))),
        ]
    )
    script = Script([called("caption_image", {"image": f"picture {number}"}) for number in (1, 2, 3)])
    first, second, third = results(run(tmp_path, script, question)[0])
    assert (first.content, second.content) == ("1 image of (80, 50)", "1 image of (90, 50)")
    assert third.status == "error"


def test_models_cannot_fill_what_is_injected(tmp_path: Path) -> None:
    """A call that brings a `runtime` of its own gets the agent's all the same."""
    (tmp_path / "a.png").write_bytes(saved(corners()))
    forged = {"image": "picture 1", "runtime": {"state": {"messages": []}, "tool_call_id": "x"}}
    state, _ = run(tmp_path, Script([called("caption_image", forged)]), HumanMessage([image_block(saved(corners()))]))
    (message,) = results(state)
    assert message.content == "1 image of (60, 40)"


def test_an_agent_works_asynchronously(tmp_path: Path) -> None:
    """`ainvoke` does the same as `invoke`, from any loop."""
    (tmp_path / "a.png").write_bytes(saved(corners()))
    script = Script([called("caption_image", {"image": "a.png"}), called("read_text", {"image": "a.png"})])
    with isolated(), Emulator(ocr=False, reply=script) as server:
        settings: Any = {"base_url": server.base_url, "api_key": server.api_key}
        agent: Any = create_agent(
            ChatAIFS(model="gpt-4.1", **settings), AIFSVisionToolkit(tmp_path, **settings).get_tools()
        )
        state = asyncio.run(agent.ainvoke({"messages": [HumanMessage("Read it.")]}))
    assert [message.content for message in results(state)] == ["1 image of (60, 40)"] * 2
    assert isinstance(state["messages"][-1], AIMessage)
