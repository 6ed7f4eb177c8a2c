"""`AIFSVisionToolSpec`: its tools by themselves, and in the agents of LlamaIndex."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.agent.workflow.agent_context import SimpleAgentContext
from llama_index.core.base.llms.types import ChatMessage, DocumentBlock, ImageBlock, TextBlock
from llama_index.core.tools import FunctionTool, ToolMetadata
from llama_index.core.tools.tool_spec.base import BaseToolSpec
from pydantic import BaseModel
from workflows.context.state_store import InMemoryStateStore

from aifs_vision import AIFSVisualRAGStore, SettingsError
from aifs_vision.emulator import Emulator
from aifs_vision.testing import isolated
from llama_index_aifs import AIFS, AIFSVisionToolSpec, ImageReActAgent, image_tool
from tests.llama_index.scripts import call
from tests.media import pdf
from tests.pictures import corners, noise, saved

if TYPE_CHECKING:
    from typing_extensions import Self

    from aifs_vision.emulator import ChatRequest

# The workflows of LlamaIndex look at every attribute of an agent, of pydantic's deprecated ones, too.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pydantic.warnings.PydanticDeprecationWarning", "ignore:is_running called:DeprecationWarning"
)

IMAGES = Path(__file__).parent.parent.parent / "examples" / "images"
NAMES = ["list_images", "caption_image", "read_text", "ask_image", "extract_fields"]


class Script:
    """A model that makes these calls, turn by turn, and then says "done"; what is not about tools it describes."""

    def __init__(self, *turns: Any) -> None:
        self.turns = list(turns)

    def __call__(self, asked: ChatRequest) -> str | dict[str, Any]:
        """The answer to a request."""
        if asked.schema:
            return json.dumps(dict.fromkeys(asked.schema["properties"], "12.50"))
        if "tools" in asked.body or "Thought:" in str(asked.texts):
            turn = self.turns.pop(0) if self.turns else "done"
            turn = turn(asked) if callable(turn) else turn
            return {"tool_calls": turn} if isinstance(turn, list) else turn
        (image,) = asked.images
        assert image.picture is not None
        return f"1 image of {image.picture.size}"


class Place:
    """A service that follows a script, and what is on it."""

    def __init__(self, *turns: Any) -> None:
        self.server = Emulator(ocr=False, reply=Script(*turns))
        self._apart = isolated()

    def __enter__(self) -> Self:
        self._apart.__enter__()
        self.server.start()
        self.settings: dict[str, Any] = {"base_url": self.server.base_url, "api_key": self.server.api_key}
        self.llm = AIFS(model="gpt-4.1", **self.settings)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()
        self._apart.__exit__(None, None, None)

    def spec(self, root: Path = IMAGES, **options: Any) -> AIFSVisionToolSpec:
        """The tools of a folder."""
        return AIFSVisionToolSpec(root, **self.settings, **options)

    def agent(self, root: Path = IMAGES, **options: Any) -> FunctionAgent:
        """An agent with them."""
        tools: list[Any] = [*self.spec(root).to_tool_list()]
        return FunctionAgent(tools=tools, llm=self.llm, **options)


def outputs(answer: Any) -> list[Any]:
    """What the tools have given back, in the order of the calls."""
    return [made.tool_output for made in sorted(answer.tool_calls, key=lambda made: int(made.tool_id.split("_")[1]))]


# -- Tools by themselves --------------------------------------------------------------------------------------------


def test_it_is_a_tool_spec() -> None:
    """Names, descriptions and arguments are the same as in every framework, with no place of this machine in them."""
    with Place() as place:
        spec = place.spec()
        tools = spec.to_tool_list()
    assert isinstance(spec, BaseToolSpec)
    assert spec.spec_functions == [tool.metadata.name for tool in tools] == NAMES
    for tool in tools:
        assert isinstance(tool, FunctionTool)
        told = json.dumps(tool.metadata.to_openai_tool())
        assert "ctx" not in told
        assert str(IMAGES.parent) not in told
        assert all("description" in field for field in tool.metadata.get_parameters_dict()["properties"].values())


def test_some_tools_can_be_chosen() -> None:
    """`to_tool_list` takes names, and metadata of one's own, as every tool spec does."""
    own = ToolMetadata(name="see", description="Sees.")
    with Place() as place:
        (tool,) = place.spec().to_tool_list(["caption_image"], {"caption_image": own})
        assert tool.metadata is own
        assert tool.call(image="receipt.jpg").content.startswith("1 image of")
        assert place.spec().get_metadata_from_fn_name("delete_image") is None


async def test_outputs_are_text_and_data() -> None:
    """The content is short; the raw output is the reading as plain JSON; call and acall give the same."""
    with Place() as place:
        tools = {tool.metadata.name: tool for tool in place.spec().to_tool_list()}
        given: dict[str, Any] = {"image": "receipt.jpg", "fields": ["total"]}
        output = tools["extract_fields"].call(**given)
        assert (await tools["extract_fields"].acall(**given)).raw_output == output.raw_output
        seen = await tools["ask_image"].acall(image="receipt.jpg", question="What?")
    assert json.loads(output.content) == {"total": "12.50"} == output.raw_output["data"]
    assert json.loads(json.dumps(output.raw_output))["cost_eur"] > 0
    assert (output.is_error, output.tool_name) == (False, "extract_fields")
    assert seen.content.startswith("1 image of")


def test_methods_are_the_tools() -> None:
    """Each function of the spec can be called by itself, and gives the text."""
    with Place() as place:
        store = AIFSVisualRAGStore("letters", **place.settings)
        store.add(IMAGES / "letter.png")
        spec = place.spec(store=store)
        assert "receipt.jpg" in spec.list_images()
        assert "receipt.jpg" not in spec.list_images(after="receipt.jpg")
        assert "receipt.jpg" not in spec.list_images("", "receipt.jpg")
        for text in (
            spec.caption_image("chart.png"),
            spec.read_text("minutes.tif", page=2),
            spec.ask_image("chart.png", "?"),
        ):
            assert "1 image of" in text
        assert spec.extract_fields("receipt.jpg", ["total"]) == '{"total": "12.50"}'
        assert "letter.png" in spec.search_images("pump", k=2)
        assert [tool.metadata.name for tool in spec.to_tool_list()] == [*NAMES, "search_images"]


@pytest.mark.parametrize("given", [{"image": "../secret.png"}, {}, {"image": 7}, {"image": "chart.png", "page": 0}])
async def test_errors_are_outputs(given: dict[str, Any]) -> None:
    """What goes wrong is an output with `is_error`, whose text says what to do; nothing is raised."""
    with Place() as place:
        (tool,) = place.spec().to_tool_list(["caption_image"])
        for output in (tool.call(**given), await tool.acall(**given)):
            assert output.is_error
            assert "Give a path below" in output.content or "Call it again" in output.content
        assert not place.server.requests


def test_wrong_settings_are_errors_at_once(tmp_path: Path) -> None:
    """Unknown options are a TypeError, a folder that is not there a SettingsError; the key does not show."""
    with Place() as place:
        with pytest.raises(TypeError, match="modell"):
            place.spec(modell="x")
        with pytest.raises(SettingsError, match="root"):
            place.spec(tmp_path / "nothing")
        with pytest.raises(SettingsError, match="max_chars"):
            place.spec(max_chars=1)
        spec = place.spec(max_bytes=10)
        assert "at most 10" in spec.caption_image("chart.png")
        assert place.server.api_key not in f"{spec!r} {spec.to_tool_list()[0].metadata}"


# -- Agents ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_function_agent_reads_several_images_at_once(tmp_path: Path, *, streaming: bool) -> None:
    """Parallel calls each get their own image's result."""
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(saved(noise(60 + number, 40)))
    calls = [call("caption_image", number, image=f"{number}.png") for number in range(5)]
    with Place([call("list_images", 9)], calls) as place:
        answer: Any = await place.agent(tmp_path, streaming=streaming).run("What is there?")
        assert len(place.server.requests) == 3 + 5
    *read, listed = outputs(answer)
    assert str(answer) == "done"
    assert [output.content for output in read] == [f"1 image of ({60 + number}, 40)" for number in range(5)]
    assert all(output.raw_output["status"] == "ok" for output in read)
    assert "4.png" in listed.content


async def test_errors_do_not_end_the_run(tmp_path: Path) -> None:
    """An agent that asks for what it must not have is told so, and goes on."""
    bad = ["../x.png", "/etc/passwd", "http://a.example/x.png", "~/x.png", "no.png", "picture 9"]
    calls = [call("caption_image", number, image=path) for number, path in enumerate(bad)]
    calls += [call("ask_image", 7, image="x"), call("read_text", 8, image="x", page=-1)]
    with Place(calls) as place:
        answer: Any = await place.agent(tmp_path).run("Look around.")
        assert len(place.server.requests) == 2
    assert str(answer) == "done"
    assert all(output.is_error and output.exception is None for output in outputs(answer))


async def test_pictures_of_the_conversation_have_names(tmp_path: Path) -> None:
    """Pictures of the user are read by their numbers, pages of a document included."""
    (tmp_path / "c.png").write_bytes(saved(corners(100, 50)))
    question = ChatMessage(
        blocks=[
            TextBlock(text="What are these?"),
            ImageBlock(image=saved(corners(80, 50))),
            DocumentBlock(data=pdf("", ""), document_mimetype="application/pdf"),
            ImageBlock(path=tmp_path / "c.png"),
        ]
    )
    names = ["picture 1", "picture 3", "picture 4"]
    calls = [call("caption_image", number, image=name) for number, name in enumerate(names)]
    with Place([call("list_images", 7), call("caption_image", 8, image="picture 2", page=2), *calls]) as place:
        agent = place.agent(tmp_path)
        answer: Any = await agent.run(question)
    first, third, fourth, listed, second = outputs(answer)
    assert first.content == "1 image of (80, 50)"
    assert third.content == "1 image of (100, 50)"
    assert second.content.startswith("[page 2 of 2]")
    assert fourth.is_error
    named = [line for line in listed.content.splitlines() if line.startswith("picture")]
    assert named == [f"picture {number} (in this conversation)" for number in (1, 2, 3)]


def looking(asked: ChatRequest) -> list[dict[str, Any]]:
    """Calls that look at what the last result has named."""
    names = re.findall(r"called '([^']+)'", str(asked.texts))
    return [call("ask_image", number, image=name, question="Who wrote it?") for number, name in enumerate(names, 1)]


async def test_pages_that_were_found_can_be_looked_at(tmp_path: Path) -> None:
    """What a search has found is read by the name that its result gives it, by agents and by tools by themselves."""
    with Place([call("search_images", 9, query="pump", k=4)], looking) as place:
        store = AIFSVisualRAGStore("letters", **place.settings)
        await store.aadd([IMAGES / "letter.png", ("b/letter.png", saved(noise(90, 70)))])
        tools: list[Any] = place.spec(tmp_path, store=store).to_tool_list()
        answer: Any = await FunctionAgent(tools=tools, llm=place.llm).run("Who wrote about the pump?")
        *seen, found = outputs(answer)
        by_name = {tool.metadata.name: tool for tool in tools}
        names = [hit["name"] for hit in found.raw_output["hits"] if "name" in hit]
        alone = [by_name["ask_image"].call(image=name, question="Who wrote it?").content for name in names]
    assert str(answer) == "done"
    assert len(seen) == len({*names}) == 2
    assert sorted(output.content for output in seen) == sorted(alone)
    assert "1 image of (90, 70)" in alone
    assert [output.raw_output["source"] for output in seen] == names
    assert "base64" not in found.content


async def test_a_workflow_of_agents_uses_them(tmp_path: Path) -> None:
    """In an AgentWorkflow each agent has the tools, and the pictures that were shown to another one."""
    (tmp_path / "a.png").write_bytes(saved(corners(70, 50)))
    turns = [
        [call("handoff", 1, to_agent="seer", reason="sight")],
        [call("caption_image", 2, image="picture 1"), call("read_text", 3, image="a.png")],
    ]
    with Place(*turns) as place:
        clerk = place.agent(tmp_path, name="clerk", description="Hears.")
        seer = place.agent(tmp_path, name="seer", description="Sees.")
        question = ChatMessage(blocks=[TextBlock(text="What?"), ImageBlock(image=saved(corners(80, 50)))])
        answer: Any = await AgentWorkflow(agents=[clerk, seer], root_agent="clerk").run(user_msg=question)
    assert (str(answer), answer.current_agent_name) == ("done", "seer")
    told = {made.tool_name: made.tool_output.content for made in answer.tool_calls}
    assert told["caption_image"] == "1 image of (80, 50)"
    assert told["read_text"] == "1 image of (70, 50)"


async def test_a_react_agent_uses_them(tmp_path: Path) -> None:
    """Agents that speak in texts have the tools for files."""
    (tmp_path / "a.png").write_bytes(saved(corners(70, 50)))
    step = 'Thought: I look.\nAction: caption_image\nAction Input: {"image": "a.png"}'
    with Place(step, "Thought: I know.\nAnswer: Colours.") as place:
        agent = ReActAgent(tools=[*place.spec(tmp_path).to_tool_list()], llm=place.llm)
        answer: Any = await agent.run("What is it?")
    assert str(answer) == "Colours."
    assert "1 image of (70, 50)" in str([made.tool_output for made in answer.tool_calls])


@pytest.mark.parametrize("key", ["current_reasoning", "mine"])
async def test_a_react_agent_names_pictures(key: str, tmp_path: Path) -> None:
    """The user's pictures, and those that another tool has shown, are read by their numbers."""

    def camera() -> Any:
        """Looks out of the window."""
        return ImageBlock(image=saved(corners(90, 50)))

    look = "Thought: I look.\nAction: camera\nAction Input: {}"
    steps = [
        f'Thought: And?\nAction: caption_image\nAction Input: {{"image": "picture {number}"}}' for number in (1, 2)
    ]
    question = ChatMessage(blocks=[TextBlock(text="What?"), ImageBlock(image=saved(corners(80, 50)))])
    with Place(look, *steps, "Thought: I know.\nAnswer: Colours.") as place:
        tools = [image_tool(camera), *place.spec(tmp_path).to_tool_list()]
        agent = ImageReActAgent(tools=tools, llm=place.llm, reasoning_key=key)
        answer: Any = await agent.run(question)
    told = [made.tool_output.content for made in answer.tool_calls]
    assert [text for text in told if "image of" in text] == ["1 image of (80, 50)", "1 image of (90, 50)"]


async def test_an_agent_may_keep_its_steps_elsewhere(tmp_path: Path) -> None:
    """A picture that a tool has shown has its number whatever the agent calls its scratchpad."""

    def camera() -> Any:
        """Looks out of the window."""
        return ImageBlock(image=saved(corners(90, 50)))

    with Place([call("camera")], [call("caption_image", 2, image="picture 1")]) as place:
        tools: list[Any] = [image_tool(camera), *place.spec(tmp_path).to_tool_list()]
        answer: Any = await FunctionAgent(tools=tools, llm=place.llm, scratchpad_key="notes").run("What?")
    assert [made.tool_output.content for made in answer.tool_calls][-1] == "1 image of (90, 50)"


async def test_a_state_of_ones_own(tmp_path: Path) -> None:
    """A tool takes a context with whatever state, and the messages in it."""

    class Said(BaseModel):
        """A conversation, and what else there is to know."""

        messages: list[ChatMessage]
        topic: str = "pictures"

    said: Any = Said(messages=[ChatMessage(blocks=[ImageBlock(image=saved(corners(80, 50)))])])
    with Place() as place:
        (tool,) = place.spec(tmp_path).to_tool_list(["caption_image"])
        output = await tool.acall(ctx=SimpleAgentContext(store=InMemoryStateStore(said)), image="picture 1")
    assert output.content == "1 image of (80, 50)"
