"""AI Foundation Services for LangChain: a chat model that sees, and loaders that turn images into Documents.

    from langchain_aifs import AIFSImageLoader, ChatAIFS, image_block
    from langchain_core.messages import HumanMessage

    documents = AIFSImageLoader("examples/images", task="ocr").load()
    message = HumanMessage([{"type": "text", "text": "What is shown?"}, image_block("examples/images/chart.png")])
    print(ChatAIFS().invoke([message]).text)

Each name is imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_aifs._redaction import redacted
    from langchain_aifs.attachments import aattach_images, attach_images, image_retriever_tool
    from langchain_aifs.chat_models import ChatAIFS
    from langchain_aifs.document_loaders import AIFSImageBlobParser, AIFSImageLoader
    from langchain_aifs.embeddings import AIFSEmbeddings
    from langchain_aifs.messages import image_block, image_blocks
    from langchain_aifs.middleware import ImageBudgetMiddleware
    from langchain_aifs.retrievers import AIFSVisualRAGRetriever
    from langchain_aifs.structured_output import RefusedOutputError, StructuredOutputError
    from langchain_aifs.tools import AIFSVisionToolkit

__all__ = [
    "AIFSEmbeddings",
    "AIFSImageBlobParser",
    "AIFSImageLoader",
    "AIFSVisionToolkit",
    "AIFSVisualRAGRetriever",
    "ChatAIFS",
    "ImageBudgetMiddleware",
    "RefusedOutputError",
    "StructuredOutputError",
    "aattach_images",
    "attach_images",
    "image_block",
    "image_blocks",
    "image_retriever_tool",
    "redacted",
]

_MODULE_OF = {
    "AIFSEmbeddings": "embeddings",
    "AIFSImageBlobParser": "document_loaders",
    "AIFSImageLoader": "document_loaders",
    "AIFSVisionToolkit": "tools",
    "AIFSVisualRAGRetriever": "retrievers",
    "ChatAIFS": "chat_models",
    "ImageBudgetMiddleware": "middleware",
    "RefusedOutputError": "structured_output",
    "StructuredOutputError": "structured_output",
    "aattach_images": "attachments",
    "attach_images": "attachments",
    "image_block": "messages",
    "image_blocks": "messages",
    "image_retriever_tool": "attachments",
    "redacted": "_redaction",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
