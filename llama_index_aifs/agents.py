"""`ImageReActAgent`: a ReAct agent that is shown the pictures in the results of its tools."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

from llama_index.core.agent.react.formatter import ReActChatFormatter
from llama_index.core.agent.react.types import BaseReasoningStep, ObservationReasoningStep, ResponseReasoningStep
from llama_index.core.agent.workflow import ReActAgent
from llama_index.core.base.llms.types import ChatMessage, ContentBlock, MessageRole, TextBlock
from llama_index.core.bridge.pydantic import Field, PrivateAttr, model_validator
from llama_index.core.workflow import Workflow

from llama_index_aifs._pictures import flattened, is_media

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llama_index.core.agent.workflow.workflow_events import AgentOutput, ToolCallResult
    from llama_index.core.memory import BaseMemory
    from llama_index.core.tools import BaseTool
    from llama_index.core.workflow import Context

__all__ = ["ImageReActAgent"]

_OBSERVED = "[Pictures of the observations that follow]"


class Observation(ObservationReasoningStep):
    """An observation with the pictures, videos and documents in it."""

    pictures: list[ContentBlock] = Field(default_factory=list)


class PictureFormatter(ReActChatFormatter):
    """Another formatter, whose messages have the pictures of the observations that they tell of."""

    _formatter: ReActChatFormatter = PrivateAttr()

    @classmethod
    def around(cls, formatter: ReActChatFormatter) -> PictureFormatter:
        """A formatter that formats like this one; its header and context may be changed, as agents do."""
        made = cls(**{name: getattr(formatter, name) for name in ReActChatFormatter.model_fields})
        made._formatter = formatter
        return made

    def format(
        self,
        tools: Sequence[BaseTool],
        chat_history: list[ChatMessage],
        current_reasoning: list[BaseReasoningStep] | None = None,
    ) -> list[ChatMessage]:
        """The messages, each picture in that of its observation."""
        steps = current_reasoning or []
        settings = {name: getattr(self, name) for name in ReActChatFormatter.model_fields}
        messages = self._formatter.model_copy(update=settings).format(tools, chat_history, steps)
        end = len(messages)
        for step in reversed(steps):
            if isinstance(step, Observation) and step.pictures:
                told = (at for at in reversed(range(end)) if step.observation in (messages[at].content or ""))
                end = next(told, len(messages) - 1)  # whoever leaves the text out sees the picture all the same
                shown = [*messages[end].blocks, *step.pictures]
                messages[end] = messages[end].model_copy(update={"blocks": shown})
        return messages


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

    @model_validator(mode="after")
    def _see(self) -> ImageReActAgent:
        if not isinstance(self.formatter, PictureFormatter):
            self.formatter = PictureFormatter.around(self.formatter)
        return self

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
