"""ReAct agents and the pictures in the results of their tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.agent.react.formatter import ReActChatFormatter
from llama_index.core.agent.workflow import AgentWorkflow, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.memory import ChatMemoryBuffer, Memory
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.core.workflow import Context, JsonSerializer
from sqlalchemy.ext.asyncio import create_async_engine

from llama_index_aifs import ImageReActAgent, image_tool
from tests.llama_index.scripts import content, scripted
from tests.pictures import corner_names, corners, opened, saved

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

    from llama_index.core.agent.workflow.base_agent import BaseWorkflowAgent
    from llama_index.core.tools import BaseTool

    from aifs_vision.emulator import Emulator

pytestmark = pytest.mark.filterwarnings(
    "ignore::pydantic.warnings.PydanticDeprecationWarning", "ignore:is_running called:DeprecationWarning"
)

PNG = saved(corners())
CORNERS = ["red", "lime", "blue", "yellow"]


def camera() -> Any:
    """Looks out of the window."""
    return "north", ImageBlock(image=PNG)


def reader(name: str) -> str:
    """Reads a meter."""
    return f"{name}: 12"


TOOLS: list[BaseTool | Callable[..., Any]] = [image_tool(camera), image_tool(reader)]
LOOK = "Thought: I look.\nAction: camera\nAction Input: {}"
READ = 'Thought: I read.\nAction: reader\nAction Input: {"name": "gas"}'
DONE = "Thought: I know.\nAnswer: Colours."


def shown(server: Emulator, at: int = -1) -> list[int]:
    """How many pictures are in each message of a request, all of them upright and whole."""
    assert all(corner_names(opened(data)) == CORNERS for _, data in server.requests[at].images)
    messages = server.requests[at].body["messages"]
    return [sum(part["type"] == "image_url" for part in content(message)) for message in messages]


@pytest.mark.parametrize("streaming", [True, False])
async def test_the_pictures_of_tools_are_seen(*, streaming: bool) -> None:
    """A picture stands with its observation, at every step after it; a tool without one adds none."""
    with scripted(LOOK, READ, LOOK, DONE) as (llm, server):
        answer = await ImageReActAgent(tools=TOOLS, llm=llm, streaming=streaming).run("What is it like?")
    assert str(answer) == "Colours."
    assert [sum(shown(server, at)) for at in range(4)] == [0, 1, 1, 2]
    *_, look, north, read, gas, again, north_again = server.requests[-1].body["messages"]
    assert [message["role"] for message in (look, north, read, gas, again)] == ["assistant", "user"] * 2 + ["assistant"]
    assert [part["type"] for part in content(north)] == ["text", "image_url"]
    assert content(north)[0]["text"].startswith("Observation: north")
    assert content(gas) == [{"type": "text", "text": "Observation: gas: 12"}]
    assert [part["type"] for part in content(north_again)] == ["text", "image_url"]


async def test_a_picture_stands_with_its_own_observation() -> None:
    """Whatever other messages quote of its text, and also where its tool has said nothing else."""

    def mute() -> Any:
        """Looks, and says nothing."""
        return [ImageBlock(image=PNG), TextBlock(text="")]

    tools = [*TOOLS, image_tool(mute)]
    quoted = "Thought: I got north, [1 picture].\nAction: reader\nAction Input: " + '{"name": "north"}'
    silent = "Thought: Once more.\nAction: mute\nAction Input: {}"
    with scripted(LOOK, quoted, silent, READ, DONE) as (llm, server):
        await ImageReActAgent(tools=tools, llm=llm).run("What is north?")
    *_, north, _, quoting, _, nothing, _, gas = map(content, server.requests[-1].body["messages"])
    assert "Observation: north: 12" in quoting[0]["text"]
    assert "Observation: gas" in gas[0]["text"]
    kinds = [[part["type"] for part in message] for message in (north, quoting, nothing, gas)]
    assert kinds == [["text", "image_url"], ["text"], ["text", "image_url"], ["text"]]


async def test_a_formatter_that_drops_messages() -> None:
    """Where there is no message for each step, the texts tell; what was said before the run is not taken for one."""

    class Observing(ReActChatFormatter):
        """Leaves thoughts out."""

        def format(self, *args: Any, **kwargs: Any) -> list[ChatMessage]:
            """No message of the assistant's."""
            return [each for each in super().format(*args, **kwargs) if each.role != MessageRole.ASSISTANT]

    north = READ.replace("gas", "north")
    with scripted(LOOK, north, LOOK, DONE) as (llm, server):
        await ImageReActAgent(tools=TOOLS, llm=llm, formatter=Observing()).run("Observation: north?")
    assert shown(server) == [0, 0, 1, 0, 1]


async def test_the_formatter_may_be_changed() -> None:
    """One that is assigned, prompts that are updated, and the agent's copies lose no picture; it stays one's own."""
    with scripted(LOOK, DONE) as (llm, server):
        agent = ImageReActAgent(tools=TOOLS, llm=llm)
        agent.formatter = formatter = ReActChatFormatter(observation_role=MessageRole.TOOL)
        agent.update_prompts({"react_header": PromptTemplate("Be brief. {tool_desc} {tool_names}")})
        await agent.model_copy().run("What is it like?")
    assert agent.formatter is formatter
    assert type(formatter)(**formatter.model_dump()) == formatter
    assert [message["role"] for message in server.requests[-1].body["messages"]][-2:] == ["tool", "user"]
    assert server.requests[-1].body["messages"][0]["content"].startswith("Be brief. ")
    assert sum(shown(server)) == 1


async def test_the_agent_of_llama_index_says_that_there_was_one() -> None:
    """LlamaIndex's own `ReActAgent` drops it, as it takes texts alone; its model is told that there was one."""
    with scripted(LOOK, DONE) as (llm, server):
        await ReActAgent(tools=[image_tool(camera, name="camera")], llm=llm).run("What is it like?")
    assert sum(shown(server)) == 0
    assert "Observation: north" in str(server.requests[-1].body["messages"][-1])


async def test_a_system_prompt_and_a_formatter_of_ones_own() -> None:
    """They are what they are for `ReActAgent`; as tools' messages, too, which cannot hold pictures themselves."""

    class Terse(ReActChatFormatter):
        """Leaves the texts of observations out."""

        def format(self, *args: Any, **kwargs: Any) -> list[ChatMessage]:
            """One message for all of it."""
            kept = super().format(*args, **kwargs)
            return [*kept[:2], ChatMessage("Go on.")] if len(kept) > 2 else kept

    with scripted(LOOK, DONE) as (llm, server):
        agent = ImageReActAgent(tools=TOOLS, llm=llm, system_prompt="You are a guard.", formatter=Terse())
        await agent.run("What is it like?")
    assert "You are a guard." in str(server.requests[-1].body["messages"][0]["content"])
    assert shown(server) == [0, 0, 1]
    role = ReActChatFormatter.from_defaults(observation_role=MessageRole.TOOL)
    with scripted(LOOK, DONE) as (llm, server):
        await ImageReActAgent(tools=TOOLS, llm=llm, formatter=role).run("What is it like?")
    assert [message["role"] for message in server.requests[-1].body["messages"]][-2:] == ["tool", "user"]
    assert sum(shown(server)) == 1


async def test_memory_keeps_the_pictures(tmp_path: pathlib.Path) -> None:
    """The next question of the conversation shows them again, also from a database."""
    stored = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'memory.db'}")
    memories = (
        ChatMemoryBuffer.from_defaults(token_limit=100_000),
        Memory.from_defaults("s", token_limit=100_000, async_engine=stored),
    )
    for memory in memories:
        with scripted(LOOK, DONE, DONE) as (llm, server):
            agent = ImageReActAgent(tools=TOOLS, llm=llm)
            await agent.run("What is it like?", memory=memory)
            await agent.run("And now?", memory=memory)
        assert sum(shown(server)) == 1
        assert [message["role"] for message in server.requests[-1].body["messages"]] == [
            *("system", "user", "user", "assistant", "user")
        ]
    await stored.dispose()


async def test_the_steps_of_a_run_can_be_stored() -> None:
    """The steps of a run, which its context keeps, go through JSON with their pictures."""
    serializer = JsonSerializer()

    async def restart(ctx: Context) -> str:
        """Stores the steps, and takes them up again."""
        kept = serializer.serialize(await ctx.store.get("current_reasoning"))
        await ctx.store.set("current_reasoning", serializer.deserialize(kept))
        return "restarted"

    restart.__annotations__["ctx"] = Context  # the class itself, as LlamaIndex looks for it
    step = "Thought: I stop.\nAction: restart\nAction Input: {}"
    with scripted(LOOK, step, DONE) as (llm, server):
        await ImageReActAgent(tools=[*TOOLS, FunctionTool.from_defaults(restart)], llm=llm).run("What is it like?")
    assert "restarted" in str(server.requests[-1].body["messages"][-1])
    assert sum(shown(server)) == 1


async def test_the_answer_may_be_the_tools_own() -> None:
    """A tool whose result is the answer ends the run, with its text."""
    direct = image_tool(camera, return_direct=True)
    with scripted(LOOK, DONE) as (llm, server):
        answer = await ImageReActAgent(tools=[direct], llm=llm).run("What is it like?")
    assert str(answer).startswith("north")
    assert len(server.requests) == 1


async def test_a_workflow_hands_the_pictures_over() -> None:
    """An agent that takes over is shown what the one before it has observed."""
    handoff = 'Thought: Not mine.\nAction: handoff\nAction Input: {"to_agent": "seer", "reason": "sight"}'
    with scripted(LOOK, handoff, DONE) as (llm, server):
        agents: list[BaseWorkflowAgent] = [
            ImageReActAgent(name="clerk", description="Hears.", llm=llm, tools=TOOLS),
            ImageReActAgent(name="seer", description="Sees.", llm=llm, tools=TOOLS),
        ]
        user = ChatMessage(blocks=[TextBlock(text="What is it like?"), ImageBlock(image=PNG)])
        answer: Any = await AgentWorkflow(agents=agents, root_agent="clerk").run(user_msg=user)
    assert (str(answer), answer.current_agent_name) == ("Colours.", "seer")
    assert [sum(shown(server, at)) for at in range(3)] == [1, 2, 2]


def test_arguments_are_checked() -> None:
    """What an agent does not know is a TypeError; what agents and workflows know is taken."""
    with scripted(DONE) as (llm, _):
        with pytest.raises(TypeError, match="formater"):
            ImageReActAgent(tools=TOOLS, llm=llm, formater=ReActChatFormatter())
        agent = ImageReActAgent(name="a", tools=TOOLS, llm=llm, timeout=5, verbose=False, num_concurrent_runs=2)
    assert (agent.name, [tool.metadata.name for tool in agent.tools or [] if isinstance(tool, FunctionTool)]) == (
        "a",
        ["camera", "reader"],
    )
