"""AI Foundation Services for LlamaIndex: an LLM that sees, and readers that turn images into Documents.

    from llama_index_aifs import AIFS, AIFSImageReader

    documents = AIFSImageReader(task="ocr").load_data("examples/images")
    answer = AIFS().complete(f"Which of these is a receipt? {[d.text for d in documents]}")

Each name is imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llama_index_aifs._own_errors import StructuredAnswerError
    from llama_index_aifs.agents import ImageReActAgent
    from llama_index_aifs.embeddings import AIFSEmbedding
    from llama_index_aifs.llms import AIFS
    from llama_index_aifs.postprocessors import AttachImages
    from llama_index_aifs.readers import AIFSImageReader
    from llama_index_aifs.retrievers import AIFSVisualRAGRetriever
    from llama_index_aifs.tool_outputs import blocks_of_mcp, image_tool
    from llama_index_aifs.tools import AIFSVisionToolSpec
    from llama_index_aifs.transformations import ImageToText

__all__ = [
    "AIFS",
    "AIFSEmbedding",
    "AIFSImageReader",
    "AIFSVisionToolSpec",
    "AIFSVisualRAGRetriever",
    "AttachImages",
    "ImageReActAgent",
    "ImageToText",
    "StructuredAnswerError",
    "blocks_of_mcp",
    "image_tool",
]

_MODULE_OF = {
    "AIFS": "llms",
    "AIFSEmbedding": "embeddings",
    "AIFSImageReader": "readers",
    "AIFSVisionToolSpec": "tools",
    "AIFSVisualRAGRetriever": "retrievers",
    "AttachImages": "postprocessors",
    "ImageReActAgent": "agents",
    "ImageToText": "transformations",
    "StructuredAnswerError": "_own_errors",
    "blocks_of_mcp": "tool_outputs",
    "image_tool": "tool_outputs",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
