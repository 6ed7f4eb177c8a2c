"""Agents, chat engines and query engines on `AIFS`: each sees pictures, and each tool's answer arrives."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from llama_index.core import Document, Settings, SummaryIndex, VectorStoreIndex
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.chat_engine import CondensePlusContextChatEngine, SimpleChatEngine
from llama_index.core.memory import ChatMemoryBuffer, Memory
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import MediaResource, Node
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import create_async_engine

from aifs_vision import Limits
from aifs_vision.testing import virtual_time
from llama_index_aifs import AIFS, AIFSEmbedding, ImageReActAgent, image_tool
from tests.llama_index.scripts import Found, call, content, events, scripted
from tests.pictures import corner_names, corners, opened, saved

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator

    from llama_index.core.agent.workflow.base_agent import BaseWorkflowAgent
    from llama_index.core.tools import BaseTool

    from aifs_vision.emulator import ChatRequest, Emulator

# The workflows of LlamaIndex look at every attribute of an agent, of pydantic's deprecated ones, too.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pydantic.warnings.PydanticDeprecationWarning", "ignore:is_running called:DeprecationWarning"
)

PNG = saved(corners())
CORNERS = ["red", "lime", "blue", "yellow"]


def question(text: str = "What is on this?") -> ChatMessage:
    """A question with a picture."""
    return ChatMessage(blocks=[TextBlock(text=text), ImageBlock(image=PNG)])


def left() -> Any:
    """Looks to the left."""
    return "left", ImageBlock(image=PNG)


async def right() -> Any:
    """Looks to the right."""
    return [ImageBlock(image=saved(corners(), "JPEG", quality=95))]


TOOLS: list[BaseTool | Callable[..., Any]] = [image_tool(left), image_tool(right)]


def roles(server: Emulator, at: int = -1) -> list[str]:
    """The roles of the messages of a request."""
    return [message["role"] for message in server.requests[at].body["messages"]]


def assert_seen(server: Emulator, at: int, count: int) -> None:
    """So many pictures came with a request, upright and whole."""
    images = server.requests[at].images
    assert len(images) == count
    assert all(corner_names(opened(data)) == CORNERS for _, data in images)


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_function_agent_sees_what_it_is_shown(*, streaming: bool) -> None:
    """Two tools called in one streamed delta both run, and their pictures and the user's come back to the model."""
    both = {"tool_calls": [call("left", 1), call("right", 2)]}
    with scripted(both, "Colours.") as (llm, server):
        agent = FunctionAgent(tools=TOOLS, llm=llm, streaming=streaming)
        answer: Any = await agent.run(question())
    assert str(answer) == "Colours."
    assert {call.tool_name for call in answer.tool_calls} == {"left", "right"}
    assert len(server.requests) == 2
    assert_seen(server, 0, 1)
    assert_seen(server, 1, 3)
    assert roles(server) == ["user", "assistant", "tool", "tool", "user"]
    told = server.requests[1].body["messages"]
    # Which of the two is ready first is not promised.
    texts = {message["tool_call_id"]: message["content"].partition("\n") for message in told[2:4]}
    assert (texts["call_1"][0], texts["call_2"][0]) == ("left", "[1 picture]")
    shown = [part.get("text", "picture") for part in content(told[4])]
    assert shown[1::2] == ["picture", "picture"]
    number = {tool: texts[id_][2].split()[2].rstrip(":") for tool, id_ in (("left", "call_1"), ("right", "call_2"))}
    assert {*shown[::2]} == {f"Tool image {number[tool]}, from the tool {tool!r}:" for tool in number}
    assert {*number.values()} == {"1", "2"}


async def test_memory_keeps_the_pictures() -> None:
    """A second question of the same conversation shows the model the pictures of the first, still in their places."""
    memory = ChatMemoryBuffer.from_defaults(token_limit=100_000)
    with scripted({"tool_calls": [call("left")]}, "One.", "Two.") as (llm, server):
        agent = FunctionAgent(tools=TOOLS, llm=llm)
        await agent.run(question(), memory=memory)
        await agent.run("And now?", memory=memory)
    assert roles(server) == ["user", "assistant", "tool", "user", "assistant", "user"]
    assert_seen(server, -1, 2)


async def test_a_stored_memory_keeps_them_too(tmp_path: pathlib.Path) -> None:
    """The newer `Memory`, which stores messages in a database, gives back pictures of users and tools, whole."""
    stored = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'memory.db'}")
    with scripted({"tool_calls": [call("left", 1), call("right", 2)]}, "One.", "Two.") as (llm, server):
        agent = FunctionAgent(tools=TOOLS, llm=llm)
        for asked in (question(), question("And now?")):  # each as after a restart
            await agent.run(asked, memory=Memory.from_defaults("s", token_limit=100_000, async_engine=stored))
    await stored.dispose()
    assert roles(server) == ["user", "assistant", "tool", "tool", "user", "assistant", "user"]
    assert_seen(server, -1, 4)


async def test_the_right_tools_run() -> None:
    """Two streamed calls without ids, both under the number 0, run two tools, whose answers fit their calls."""
    ran: list[tuple[str, int]] = []

    def near(a: int) -> str:
        """Looks near."""
        ran.append(("near", a))
        return "n"

    def far(b: int) -> str:
        """Looks far."""
        ran.append(("far", b))
        return "f"

    def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    calls = [
        {"index": 0, "id": "", "type": "function", "function": {"name": name, "arguments": json.dumps({key: value})}}
        for name, key, value in (("near", "a", 1), ("far", "b", 2))
    ]
    streams = [
        events(*(chunk(tool_calls=[one]) for one in calls), chunk("tool_calls")),
        events(chunk(content="Done."), chunk("stop")),
    ]
    bodies: list[dict[str, Any]] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(200, content=streams[len(bodies) - 1], headers={"content-type": "text/event-stream"})

    with virtual_time(answer):
        llm = AIFS(api_key="k", base_url="http://127.0.0.1:9/v2")
        assert str(await FunctionAgent(tools=[near, far], llm=llm).run("Look.")) == "Done."
    assert sorted(ran) == [("far", 2), ("near", 1)]
    _, asked, *answers = bodies[1]["messages"]
    names = {one["id"]: one["function"]["name"][0] for one in asked["tool_calls"]}
    assert {one["tool_call_id"]: one["content"] for one in answers} == names


class Colours(BaseModel):
    """What is seen."""

    first: str


async def test_an_agent_answers_with_data() -> None:
    """With an `output_cls` the agent's answer becomes an object, fenced or not, by schema, of any kind of agent."""
    look = {"tool_calls": [call("left")]}
    step = "Thought: I look.\nAction: left\nAction Input: {}"
    for kind, first, last in (
        (FunctionAgent, look, "Red."),
        (ImageReActAgent, step, "Thought: I know.\nAnswer: Red."),
    ):
        with scripted(first, last, '```json\n{"first": "red"}\n```') as (llm, server):
            agent = kind(tools=[*TOOLS], llm=llm, output_cls=Colours)
            answer: Any = await agent.run(question())
        assert (str(answer), answer.get_pydantic_model(Colours)) == ("Red.", Colours(first="red"))
        assert server.requests[-1].body["response_format"]["type"] == "json_schema"
        assert "Red." in str(server.requests[-1].body["messages"])


async def test_an_agent_answers_with_data_of_what_it_sees() -> None:
    """LlamaIndex asks for an `output_cls` by the texts of a run; a function of one's own shows its pictures, too."""
    look = {"tool_calls": [call("left")]}
    with scripted(look, "Red.", '{"first": "red"}') as (llm, server):

        async def seen(messages: list[ChatMessage]) -> dict[str, Any]:
            response = await llm.as_structured_llm(Colours).achat(messages)
            assert response.additional_kwargs["finish_reason"] == "stop"
            return dict(response.raw)

        function: Any = seen  # awaited, though LlamaIndex names a type that is not
        answer: Any = await FunctionAgent(tools=TOOLS, llm=llm, structured_output_fn=function).run(question())
    assert answer.get_pydantic_model(Colours) == Colours(first="red")
    assert_seen(server, -1, 2)


async def test_a_react_agent_sees_the_users_picture() -> None:
    """The user's picture is sent at each step, and a tool's picture is named in its observation."""
    step = "Thought: I look.\nAction: right\nAction Input: {}"
    with scripted(step, "Thought: I know.\nAnswer: Colours.") as (llm, server):
        answer = await ReActAgent(tools=TOOLS, llm=llm).run(question())
    assert str(answer) == "Colours."
    for at in range(2):
        assert_seen(server, at, 1)
    assert "Observation: [1 picture]" in str(server.requests[1].body["messages"][-1]["content"])
    assert "base64" not in str(server.requests[1].body["messages"][-1]["content"])


async def test_a_workflow_hands_pictures_over() -> None:
    """An agent that hands over to another one hands over the user's picture as well."""
    handoff = {"tool_calls": [call("handoff", 1, to_agent="seer", reason="sight")]}
    with scripted(handoff, "Colours.") as (llm, server):
        agents: list[BaseWorkflowAgent] = [
            FunctionAgent(name="clerk", description="Hears.", llm=llm, tools=[image_tool(left)]),
            FunctionAgent(name="seer", description="Sees.", llm=llm, tools=[image_tool(right)]),
        ]
        answer: Any = await AgentWorkflow(agents=agents, root_agent="clerk").run(user_msg=question())
    assert (str(answer), answer.current_agent_name) == ("Colours.", "seer")
    assert len(server.requests) == 2
    assert_seen(server, 1, 1)


async def test_a_workflow_hands_pictures_of_tools_over() -> None:
    """What a tool of the first agent has shown is seen by the agent that it hands over to."""
    handoff = {"tool_calls": [call("handoff", 2, to_agent="seer", reason="sight")]}
    with scripted({"tool_calls": [call("left", 1)]}, handoff, "Colours.") as (llm, server):
        agents: list[BaseWorkflowAgent] = [
            FunctionAgent(name="clerk", description="Hears.", llm=llm, tools=[image_tool(left)]),
            FunctionAgent(name="seer", description="Sees.", llm=llm, tools=[image_tool(right)]),
        ]
        answer: Any = await AgentWorkflow(agents=agents, root_agent="clerk").run(user_msg=question())
    assert (str(answer), answer.current_agent_name) == ("Colours.", "seer")
    assert [len(request.images) for request in server.requests] == [1, 2, 2]
    assert_seen(server, 2, 2)


def test_a_chat_engine_with_context_sees_its_history() -> None:
    """The chat engine that condenses and retrieves shows the pictures of its history beside what it has found."""
    found = Found(Node(text_resource=MediaResource(text="The total is 12 EUR.")))
    with scripted("Colours.") as (llm, server):
        history = [question(), ChatMessage("Yes?", role="assistant")]
        memory = ChatMemoryBuffer.from_defaults(token_limit=100_000)
        engine = CondensePlusContextChatEngine.from_defaults(retriever=found, llm=llm, memory=memory)
        assert str(engine.chat("Which?", chat_history=history)) == "Colours."
        assert "".join(engine.stream_chat("And then?").response_gen) == "Colours."
    answered = [request for request in server.requests if "12 EUR" in str(request.body["messages"])]
    assert [len(request.images) for request in answered] == [1, 1]


def test_a_chat_engine_sees_its_history() -> None:
    """A chat engine on the LLM of `Settings` shows the pictures of its history, plain and streamed."""
    with scripted("Colours.") as (llm, server), settings(llm):
        history = [question(), ChatMessage("Yes?", role="assistant")]
        engine = SimpleChatEngine.from_defaults(memory=ChatMemoryBuffer.from_defaults(chat_history=history))
        assert str(engine.chat("Which?")) == "Colours."
        assert "".join(engine.stream_chat("And then?").response_gen) == "Colours."
    assert_seen(server, 0, 1)
    assert_seen(server, 1, 1)


class settings:  # noqa: N801 - a context, as in `contextlib`
    """A block in which `Settings.llm` is this one."""

    def __init__(self, llm: AIFS) -> None:
        self._llm, self._before = llm, Settings._llm  # noqa: SLF001 - the getter would make OpenAI's

    def __enter__(self) -> None:
        Settings.llm = self._llm

    def __exit__(self, *_: object) -> None:
        Settings._llm = self._before  # noqa: SLF001 - as above


def test_settings_serve_everybody() -> None:
    """`Settings.llm = AIFS()` answers the queries of an index that was not told of it."""
    with scripted("12 EUR") as (llm, server), settings(llm):
        embed = AIFSEmbedding(base_url=server.base_url, api_key=server.api_key, limits=Limits())
        index = VectorStoreIndex.from_documents([Document(text="The total is 12 EUR.")], embed_model=embed)
        assert str(index.as_query_engine().query("What is the total?")) == "12 EUR"
        assert str(SummaryIndex.from_documents([Document(text="x")]).as_query_engine().query("?")) == "12 EUR"
    assert "12 EUR" in str(server.requests[-2].body["messages"])


def nodes(folder: pathlib.Path, count: int) -> Iterator[Node]:
    """Nodes with a caption and a picture each."""
    for number in range(count):
        path = folder / f"{number}.png"
        path.write_bytes(saved(corners(60 + number, 40)))
        picture = MediaResource(path=path, mimetype="image/png")
        yield Node(text_resource=MediaResource(text=f"Picture {number}"), image_resource=picture)


@pytest.mark.parametrize(("model", "calls"), [("Qwen3-VL-30B-A3B-Instruct-FP8", 1), ("gpt-4.1", 1), ("o1", 1)])
def test_ten_pictures_fit_into_one_call(tmp_path: pathlib.Path, model: str, calls: int) -> None:
    """With the model's true window, a multimodal query over ten pictures is one call with ten pictures."""
    with scripted("Colours.", model=model) as (llm, server):
        retriever = Found(*nodes(tmp_path, 10))
        engine = RetrieverQueryEngine.from_args(retriever, llm=llm, multimodal=True)
        assert str(engine.query("What is on these?")) == "Colours."
    assert len(server.requests) == calls
    assert sum(len(request.images) for request in server.requests) == 10


def test_a_small_window_loses_no_picture(tmp_path: pathlib.Path) -> None:
    """With a window of 8,000 tokens LlamaIndex may take more calls (four, in 0.14.25); each picture is in one."""
    with scripted("Colours.", context_window=8_000) as (llm, server):
        engine = RetrieverQueryEngine.from_args(Found(*nodes(tmp_path, 10)), llm=llm, multimodal=True)
        engine.query("What is on these?")
    assert sum(len(request.images) for request in server.requests) == 10


def test_what_is_only_in_the_pixels_is_answered(tmp_path: pathlib.Path) -> None:
    """A question whose answer no text holds is answered from the picture that the query engine shows."""
    (tmp_path / "chart.png").write_bytes(saved(corners()))

    def reply(asked: ChatRequest) -> str:
        (image,) = asked.images
        assert image.picture is not None
        return corner_names(image.picture)[0]

    from aifs_vision.emulator import Emulator

    node = Node(
        text_resource=MediaResource(text="A chart."),
        image_resource=MediaResource(path=tmp_path / "chart.png", mimetype="image/png"),
    )
    with Emulator(ocr=False, reply=reply) as server:
        llm = AIFS(base_url=server.base_url, api_key=server.api_key, limits=Limits())
        engine = RetrieverQueryEngine.from_args(Found(node), llm=llm, multimodal=True)
        assert str(engine.query("Which colour is the first corner?")) == "red"
