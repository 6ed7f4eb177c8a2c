"""`AIFSVisionToolSpec`: tools that let an agent look at images."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage, DocumentBlock, ImageBlock, VideoBlock
from llama_index.core.tools import FunctionTool, ToolMetadata, ToolOutput
from llama_index.core.tools.tool_spec.base import BaseToolSpec
from llama_index.core.utils import resolve_binary

from aifs_vision import ImageError, ImageFormatError, Vision, VisionTools
from llama_index_aifs._pictures import Picture, Sight, flattened
from llama_index_aifs.agents import Observation

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from llama_index.core.tools.tool_spec.base import SPEC_FUNCTION_TYPE

    from aifs_vision import AIFSVisualRAGStore, ToolResult

__all__ = ["AIFSVisionToolSpec"]

_HELD = {ImageBlock: "image", VideoBlock: "video", DocumentBlock: "data"}


class AIFSVisionToolSpec(BaseToolSpec):
    """Tools for agents: list, caption, read, ask, extract and, with a store, search.

        tools = AIFSVisionToolSpec("scans/").to_tool_list()
        await FunctionAgent(tools=tools, llm=AIFS(model="gpt-4.1")).run("Which bill is the highest?")

    A tool is told a path below `root`, or the name of a picture that the agent's conversation holds: "picture 1" is
    the first one that was shown in it, by whomever. The agents of LlamaIndex give their tools the conversation, also
    in an `AgentWorkflow`; of `ReActAgent` it has no pictures of tools, those of `ImageReActAgent` it has. A tool that
    is called by itself knows files alone, and all of them the pages that a search has found, by the names that its
    result gives them. Nothing else is opened, see `aifs_vision.VisionTools`.

    The output's content is short; its `raw_output` has the whole, as plain JSON: status, text, data, cost. What goes
    wrong comes back as an output with `is_error` and never ends the run.

    Args:
        root: the folder.
        vision: who reads the images; or give its options, such as `model=...`.
        store: a Visual RAG store, for `search_images`.
        max_bytes: how large a file may be; 32 MiB.
        max_chars: how long the content of an output may be; 4,000.

    Raises:
        SettingsError: there is no such folder, no key, or a setting that cannot be right.
        TypeError: both `vision` and options of one, or an unknown option.
    """

    spec_functions: list[SPEC_FUNCTION_TYPE]

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        vision: Vision | None = None,
        store: AIFSVisualRAGStore | None = None,
        max_bytes: int | None = None,
        max_chars: int | None = None,
        **vision_options: Any,
    ) -> None:
        sizes = {name: size for name, size in (("max_bytes", max_bytes), ("max_chars", max_chars)) if size is not None}
        seeing = Vision.of(vision, **vision_options)
        self._tools = VisionTools(root, vision=seeing, store=store, **sizes)
        self._sight = Sight(card=seeing.card, size="auto", frames="auto")
        self.spec_functions = [form.name for form in self._tools.forms]

    def list_images(self, folder: str = "", after: str = "") -> str:
        """The images, documents and videos that can be read, with their sizes; where a list was cut, after its last."""
        return str(self._tools.run("list_images", {"folder": folder, "after": after}))

    def caption_image(self, image: str, page: int = 1) -> str:
        """What an image shows, in a few sentences."""
        return str(self._tools.run("caption_image", {"image": image, "page": page}))

    def read_text(self, image: str, page: int = 1) -> str:
        """All text in an image or on a page."""
        return str(self._tools.run("read_text", {"image": image, "page": page}))

    def ask_image(self, image: str, question: str, page: int = 1) -> str:
        """The answer to a question about an image."""
        return str(self._tools.run("ask_image", {"image": image, "question": question, "page": page}))

    def extract_fields(self, image: str, fields: list[str], page: int = 1) -> str:
        """Named fields of an image, as JSON."""
        return str(self._tools.run("extract_fields", {"image": image, "fields": fields, "page": page}))

    def search_images(self, query: str, k: int = 4) -> str:
        """Passages and pictures of pages in the store."""
        return str(self._tools.run("search_images", {"query": query, "k": k}))

    def get_metadata_from_fn_name(
        self, fn_name: str, spec_functions: list[SPEC_FUNCTION_TYPE] | None = None
    ) -> ToolMetadata | None:
        """What a model is told of a tool; the same in every framework."""
        del spec_functions
        form = next((form for form in self._tools.forms if form.name == fn_name), None)
        if form is None:
            return None
        return ToolMetadata(name=form.name, description=form.description, fn_schema=form.arguments)

    def to_tool_list(
        self,
        spec_functions: list[SPEC_FUNCTION_TYPE] | None = None,
        func_to_metadata_mapping: dict[str, ToolMetadata] | None = None,
    ) -> list[FunctionTool]:
        """The tools; `search_images` is one of them where there is a store."""
        chosen = spec_functions or self.spec_functions
        made = super().to_tool_list(chosen, func_to_metadata_mapping)
        names = [entry if isinstance(entry, str) else entry[0] for entry in chosen]
        return [_VisionTool(tool, self._tools, name, self._sight) for tool, name in zip(made, names, strict=True)]


class _VisionTool(FunctionTool):
    """One tool, which is given the agent's context where there is one."""

    def __init__(self, tool: FunctionTool, tools: VisionTools, name: str, sight: Sight) -> None:
        super().__init__(fn=tool.fn, async_fn=tool.async_fn, metadata=tool.metadata)
        self._tools, self._name, self._sight = tools, name, sight
        self.requires_context, self.ctx_param_name = True, "ctx"

    def call(self, *args: Any, ctx: Any = None, **kwargs: Any) -> ToolOutput:
        """The output; without an agent there is no conversation."""
        del args, ctx
        return self._told(self._tools.run(self._name, kwargs), kwargs)

    async def acall(self, *args: Any, ctx: Any = None, **kwargs: Any) -> ToolOutput:
        """The output, also of pictures in the agent's conversation."""
        del args
        messages = [] if ctx is None else await _conversation(ctx)
        pictures = dict(_pictures(messages, kwargs.get("image"), self._sight))
        return self._told(await self._tools.arun(self._name, kwargs, pictures=pictures), kwargs)

    def _told(self, result: ToolResult, given: dict[str, Any]) -> ToolOutput:
        return ToolOutput(
            tool_name=self.metadata.get_name(),
            content=result.text,
            raw_input={"args": (), "kwargs": given},
            raw_output=result.artifact,
            is_error=not result.ok,
        )


async def _conversation(ctx: Any) -> list[ChatMessage]:
    """The messages of an agent's memory, and those of the run so far, under whatever keys its agents keep them."""
    memory = await ctx.store.get("memory", default=None)
    state = await ctx.store.get_state()
    values = state.values() if hasattr(state, "values") else vars(state).values()  # of a model of somebody's own
    lists = [value for value in values if isinstance(value, list)]
    said = [step for steps in lists for step in steps if isinstance(step, ChatMessage)]
    observed = [step.pictures for steps in lists for step in steps if isinstance(step, Observation)]
    kept = [] if memory is None else await memory.aget_all()
    return [*kept, *said, *(ChatMessage(blocks=pictures) for pictures in observed)]


def _pictures(messages: Sequence[ChatMessage], wanted: object, sight: Sight) -> Iterator[tuple[str, bytes | str]]:
    """The names of the pictures that were shown, and the data of the one that is wanted."""
    shown = [block for message in messages for block in flattened(message.blocks) if isinstance(block, tuple(_HELD))]
    for number, block in enumerate(shown, 1):
        name = f"picture {number}"
        with suppress(ImageError):  # what nobody can read has its number all the same
            yield name, _data(block, sight) if name == wanted else b""


def _data(block: Any, sight: Sight) -> bytes | str:
    """The bytes of a block; where it has a path or an address, what the model itself would be sent."""
    held = getattr(block, next(name for kind, name in _HELD.items() if isinstance(block, kind)))
    if isinstance(held, bytes):
        return resolve_binary(held).read()
    for seen in sight.blocks(block):
        if isinstance(seen, Picture):
            return str(seen.part()["image_url"]["url"])
    raise ImageFormatError(type(block).__name__, "a block without a picture")
