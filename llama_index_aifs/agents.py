"""`ImageReActAgent`: a ReAct agent that is shown the pictures in the results of its tools."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

from llama_index.core.agent.react.types import BaseReasoningStep, ObservationReasoningStep, ResponseReasoningStep
from llama_index.core.agent.workflow import ReActAgent
from llama_index.core.base.llms.types import ChatMessage, ContentBlock, MessageRole, TextBlock
from llama_index.core.bridge.pydantic import Field
from llama_index.core.workflow import Workflow

from llama_index_aifs._pictures import flattened, is_media

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llama_index.core.agent.react.formatter import ReActChatFormatter
    from llama_index.core.agent.workflow.agent_context import AgentContext
    from llama_index.core.agent.workflow.workflow_events import AgentOutput, ToolCallResult
    from llama_index.core.memory import BaseMemory
    from llama_index.core.tools import AsyncBaseTool, BaseTool
    from llama_index.core.workflow import Context

__all__ = ["ImageReActAgent"]

_OBSERVED = "[Pictures of the observations that follow]"


class Observation(ObservationReasoningStep):
    """An observation with the pictures, videos and documents in it."""

    pictures: list[ContentBlock] = Field(default_factory=list)


class _Showing:
    """A formatter whose messages have the pictures of the observations that they tell of."""

    def __init__(self, formatter: ReActChatFormatter) -> None:
        self._formatter = formatter

    def format(
        self,
        tools: Sequence[BaseTool],
        chat_history: list[ChatMessage],
        current_reasoning: list[BaseReasoningStep] | None = None,
    ) -> list[ChatMessage]:
        """The messages of the formatter, each picture in that of its observation."""
        steps = current_reasoning or []
        messages = list(self._formatter.format(tools, chat_history, steps))
        for step, place in zip(steps, _places(messages, chat_history, steps), strict=True):
            if isinstance(step, Observation) and step.pictures:
                shown = [*messages[place].blocks, *step.pictures]
                messages[place] = messages[place].model_copy(update={"blocks": shown})
        return messages


def _places(
    messages: Sequence[ChatMessage], history: Sequence[ChatMessage], steps: Sequence[BaseReasoningStep]
) -> Sequence[int]:
    """Of each step the position of the message that tells of it, or else of one at which it is seen all the same.

    LlamaIndex's own formatter ends with a message for each step. Of another one the texts tell, as far as it has kept
    them: looked for from the end, as a later one may quote them, and not in what was said before.
    """
    own = range(len(messages) - len(steps), len(messages))
    if own.start >= 0 and all(_tells(messages[at], step) for at, step in zip(own, steps, strict=True)):
        return own
    left = [at for at, message in enumerate(messages) if not any(message is said for said in history)]
    places: list[int] = []
    for step in reversed(steps):
        place = next((at for at in reversed(left) if _text_of(step) and _tells(messages[at], step)), None)
        if place is not None:
            left = [at for at in left if at < place] or [place]  # steps may share a message
        places.append(len(messages) - 1 if place is None else place)
    return places[::-1]


def _tells(message: ChatMessage, step: BaseReasoningStep) -> bool:
    return _text_of(step) in (message.content or "")


def _text_of(step: BaseReasoningStep) -> str:
    """What a message of an observation has in it; thoughts may be worded anyhow."""
    return step.observation.strip() if isinstance(step, ObservationReasoningStep) else ""


class ImageReActAgent(ReActAgent):
    """LlamaIndex's `ReActAgent`, and its model sees the pictures that its tools give back.

        agent = ImageReActAgent(tools=[image_tool(camera)], llm=AIFS())
        await agent.run("Is the gate open?")

    `ReActAgent` itself takes the text of a tool's result and nothing else. Here the pictures, videos and documents
    in it stand with the observation in the messages to the model, for the rest of the run and, in the agent's memory,
    after it. It is for models without function calling; others are better served by `FunctionAgent`.

    Args:
        tools: as for `ReActAgent`; in `image_tool(...)`, where they return more than blocks or lists of blocks.
        llm, formatter, ...: as for `ReActAgent`; what is not known is a TypeError.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        made_by = (signature(made.__init__).parameters.values() for made in (ReActAgent, Workflow))
        named = {each.name for parameters in made_by for each in parameters if each.kind is not each.VAR_KEYWORD}
        if unknown := sorted(kwargs.keys() - named - type(self).model_fields.keys()):
            raise TypeError(f"ImageReActAgent() got unexpected keyword arguments: {', '.join(unknown)}")
        super().__init__(*args, **kwargs)

    async def take_step(
        self, ctx: AgentContext, llm_input: list[ChatMessage], tools: Sequence[AsyncBaseTool], memory: BaseMemory
    ) -> AgentOutput:
        """One step; whichever formatter the agent has by now, the model is shown the pictures."""
        seeing = self.model_copy(update={"formatter": _Showing(self.formatter)})
        return await super(ImageReActAgent, seeing).take_step(ctx, llm_input, tools, memory)

    async def handle_tool_call_results(self, ctx: Context, results: list[ToolCallResult], memory: BaseMemory) -> None:
        """Adds the results to what the model is told, with their pictures."""
        known = len(await self._steps(ctx))
        await super().handle_tool_call_results(ctx, results, memory)
        steps = await self._steps(ctx)
        places = [at for at in range(known, len(steps)) if isinstance(steps[at], ObservationReasoningStep)]
        for at, result in zip(places, results, strict=False):  # the rest is not told where one is the answer itself
            pictures = [block for block in flattened(result.tool_output.blocks) if is_media(block)]
            if pictures:
                steps[at] = Observation(**steps[at].model_dump(), pictures=pictures)
        await ctx.store.set(self.reasoning_key, steps)

    async def finalize(self, ctx: Context, output: AgentOutput, memory: BaseMemory) -> AgentOutput:
        """Ends the run; the memory keeps the pictures before the text of the steps, of which they are part."""
        steps = await self._steps(ctx)
        pictures = [picture for step in steps if isinstance(step, Observation) for picture in step.pictures]
        if pictures and isinstance(steps[-1], ResponseReasoningStep):
            told = TextBlock(text=_OBSERVED)
            await memory.aput(ChatMessage(role=MessageRole.USER, blocks=[told, *pictures]))
        return await super().finalize(ctx, output, memory)

    async def _steps(self, ctx: Context) -> list[Any]:
        return list(await ctx.store.get(self.reasoning_key, default=[]))
