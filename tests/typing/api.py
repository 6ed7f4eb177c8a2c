"""What type checkers see of the public names; mypy checks it with the rest, and nothing of it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document as LangChainDocument
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import BaseTool, StructuredTool
from llama_index.core.llms import ChatResponse
from llama_index.core.schema import Document as LlamaIndexDocument
from llama_index.core.schema import NodeWithScore
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel
from typing_extensions import assert_type

from aifs_vision import (
    OCR,
    AIFSVisualRAGStore,
    Limits,
    ModelCard,
    Original,
    Originals,
    Reading,
    Run,
    RunReport,
    Task,
    TextEmbedder,
    ToolForm,
    ToolResult,
    Usage,
    Vision,
    VisionTools,
    VisualFile,
    VisualHit,
    find_images,
)
from langchain_aifs import (
    AIFSEmbeddings,
    AIFSImageLoader,
    AIFSVisionToolkit,
    AIFSVisualRAGRetriever,
    ChatAIFS,
    ImageBudgetMiddleware,
    aattach_images,
    attach_images,
    image_retriever_tool,
)
from llama_index_aifs import AIFS, AIFSEmbedding, AIFSImageReader, AIFSVisionToolSpec, AttachImages
from llama_index_aifs import AIFSVisualRAGRetriever as LlamaIndexRetriever

if TYPE_CHECKING:
    from PIL import Image


class Invoice(BaseModel):
    """A schema."""

    total: float | None = None


def reading(vision: Vision, picture: Image.Image, path: Path) -> None:
    """Any source is taken; what comes back is known."""
    for source in (picture, path, "scan.png", b"...", ("scan.png", b"...")):
        assert_type(vision.read(source, OCR), Reading)
    read = vision.read(path, task=Task.extract(Invoice))
    assert_type(read.text, str)
    assert_type(read.usage, Usage)
    assert_type(read.data, Any)
    assert_type(read.metadata(), dict[str, str | int | float])
    assert_type(vision.models(), list[ModelCard])


def running(vision: Vision, paths: list[Path]) -> None:
    """A run gives readings and a report."""
    run = vision.read_many(paths, task="caption", on_error="keep")
    assert_type(run, Run)
    for each in run:
        assert_type(each, Reading)
    assert_type(run.report, RunReport)
    assert_type([run.ids.of(each) for each in run], list[str])
    assert_type(find_images(paths[0]), list[Path])


async def asynchronously(vision: Vision) -> None:
    """The asynchronous twins give the same."""
    assert_type(await vision.aread("scan.png"), Reading)
    async with vision.read_many("photos") as run:
        async for each in run:
            assert_type(each, Reading)
    assert_type(await TextEmbedder().aembed(["text"]), list[list[float]])


async def tools_and_stores(store: AIFSVisualRAGStore, found: list[LangChainDocument]) -> None:
    """What agents use, and what leads back to pictures."""
    tools = VisionTools("scans", store=store, model="gpt-4.1")
    assert_type(tools.run("read_text", {"image": "a.png"}, pictures={"picture 1": b"..."}), ToolResult)
    assert_type(await tools.arun("list_images", {}), ToolResult)
    assert_type(tools.forms, tuple[ToolForm, ...])
    assert_type(store.add("scans"), list[VisualFile])
    assert_type(await store.asearch("pump", k=2, k_images=2), list[VisualHit])
    assert_type(Originals(["scans"]).of(document.metadata for document in found), list[Original | None])
    assert_type(attach_images(found, "What?", roots=["scans"], max_images=2), HumanMessage)
    assert_type(await aattach_images(found, "What?", roots="scans", size=800), HumanMessage)
    assert_type(AIFSVisionToolkit("scans", store=store).get_tools(), list[BaseTool])
    retriever = AIFSVisualRAGRetriever(store, k=2, k_images=1)
    assert_type(image_retriever_tool(retriever, "manuals", "Searches.", errors=(OSError, ValueError)), StructuredTool)
    assert_type(ImageBudgetMiddleware(max_images=2), ImageBudgetMiddleware)


def llama_index_tools(store: AIFSVisualRAGStore, nodes: list[NodeWithScore]) -> None:
    """The same in the other framework."""
    assert_type(AIFSVisionToolSpec("scans", store=store).to_tool_list(), list[FunctionTool])
    assert_type(AttachImages("scans", max_tokens=4_000).postprocess_nodes(nodes), list[NodeWithScore])
    assert_type(LlamaIndexRetriever(store).retrieve("pump"), list[NodeWithScore])


def in_langchain() -> None:
    """The classes of the plugin are what LangChain expects."""
    loader = AIFSImageLoader("photos", task="ocr", limits=Limits(in_flight=4))
    assert_type(loader.load(), list[LangChainDocument])
    assert_type(ChatAIFS().invoke("Hello"), AIMessage)
    assert_type(AIFSEmbeddings().embed_query("text"), list[float])


def in_llama_index() -> None:
    """The classes of the plugin are what LlamaIndex expects."""
    assert_type(AIFSImageReader(task="ocr").load_data("photos"), list[LlamaIndexDocument])
    assert_type(AIFS().chat([]), ChatResponse)
    assert_type(AIFSEmbedding().get_query_embedding("text"), list[float])
