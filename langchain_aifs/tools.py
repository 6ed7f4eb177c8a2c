"""`AIFSVisionToolkit`: tools that let an agent look at images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, BaseToolkit, StructuredTool, ToolException
from pydantic import PrivateAttr

from aifs_vision import ToolResult, VisionTools
from langchain_aifs._conversation import messages_of, pictures_by_name, takes_runtime

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from pydantic import ValidationError
    from pydantic.v1 import ValidationError as OldValidationError

    from aifs_vision import AIFSVisualRAGStore, ToolForm, Vision

__all__ = ["AIFSVisionToolkit"]


class AIFSVisionToolkit(BaseToolkit):
    """Tools for agents: list, caption, read, ask, extract and, with a store, search.

        agent = create_agent(ChatAIFS(model="gpt-4.1"), AIFSVisionToolkit("scans/").get_tools())
        agent.invoke({"messages": [HumanMessage("Which bill is the highest?")]})

    A tool is told a path below `root`, or the name of a picture that the conversation holds: "picture 1" is the first
    one that was shown in it, by whomever; pages that a search has found have the names that its result gives them.
    Nothing else is opened, see `aifs_vision.VisionTools`. The result's text is short; the message's `artifact` has
    the whole: status, text, data, cost. What goes wrong comes back as a message with the status "error" and never
    ends the run.

    Args:
        root: the folder.
        vision: who reads the images; or give its options, such as `model=...`.
        store: a Visual RAG store, for `search_images`.
        max_bytes: how large a file may be; 32 MiB.
        max_chars: how long the text of a result may be; 4,000.

    Raises:
        SettingsError: there is no such folder, no key, or a setting that cannot be right.
        TypeError: both `vision` and options of one, or an unknown option.
    """

    _tools: VisionTools = PrivateAttr()

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        vision: Vision | None = None,
        store: AIFSVisualRAGStore | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self._tools = VisionTools(root, vision=vision, store=store, **options)

    def get_tools(self) -> list[BaseTool]:
        """The tools; `search_images` is one of them where there is a store."""
        return [_tool(self._tools, form) for form in self._tools.forms]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._tools.root_name!r})"

    __str__ = __repr__


def _tool(tools: VisionTools, form: ToolForm) -> StructuredTool:
    does = _Doing(tools=tools, name=form.name)
    return StructuredTool(
        name=form.name,
        description=form.description,
        args_schema=form.arguments,
        func=does.run,
        coroutine=does.arun,
        response_format="content_and_artifact",
        handle_tool_error=True,
        handle_validation_error=_faults,
    )


@dataclass(frozen=True, kw_only=True)
class _Doing:
    """One tool at work; its methods can be pickled with it."""

    tools: VisionTools
    name: str

    @takes_runtime
    def run(self, runtime: Any = None, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        """Text and artifact."""
        return self._told(self.tools.run(self.name, arguments, pictures=_pictures(runtime, arguments)), runtime)

    @takes_runtime
    async def arun(self, runtime: Any = None, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        """The asynchronous twin of `run`."""
        return self._told(await self.tools.arun(self.name, arguments, pictures=_pictures(runtime, arguments)), runtime)

    def _told(self, result: ToolResult, runtime: Any) -> tuple[Any, dict[str, Any]]:
        if result.ok:
            return result.text, result.artifact
        call = getattr(runtime, "tool_call_id", None)
        if call is None:  # outside of an agent there is no message that could have the artifact
            raise ToolException(result.text)
        failed = ToolMessage(result.text, artifact=result.artifact, tool_call_id=call, name=self.name, status="error")
        return failed, result.artifact


def _pictures(runtime: Any, arguments: Mapping[str, Any]) -> dict[str, bytes | str]:
    return pictures_by_name(messages_of(runtime), arguments.get("image"))


def _faults(error: ValidationError | OldValidationError) -> str:
    told = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
    return f"{'; '.join(told[:5])}. Call it again with arguments that fit."
