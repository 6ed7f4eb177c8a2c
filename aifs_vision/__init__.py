"""Images in, text out, through AI Foundation Services (AIFS).

    from aifs_vision import Vision

    vision = Vision()                                        # the key is in AIFS_API_KEY
    page = vision.read("examples/images/receipt.jpg", task="ocr")
    print(page.status, page.text)

    for reading in vision.read_many("examples/images", task="caption", on_error="keep"):
        print(reading.source, reading.page, reading.status, reading.cost_eur)

Tasks are "caption", "ocr", "describe" (caption and all text: the default), `Task.ask("...")` and
`Task.extract(PydanticModel)`. For LangChain see `langchain_aifs`, for LlamaIndex `llama_index_aifs`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aifs_vision._api_errors import (
    AnswerError,
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    BudgetError,
    ContextLengthError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExceededError,
    RateLimitError,
    RequestTooLargeError,
    ServiceError,
    UnexpectedAnswerError,
)
from aifs_vision._errors import (
    AIFSError,
    CacheError,
    ImageAccessError,
    ImageBrokenError,
    ImageEncryptedError,
    ImageError,
    ImageFormatError,
    ImageNotFoundError,
    ImageTooLargeError,
    ImageTooSmallError,
    ResidencyError,
    SettingsError,
    SeveralPagesError,
)

if TYPE_CHECKING:
    from aifs_vision._attaching import ImageSize, check_image_options, prepare_images
    from aifs_vision._base64 import bytes_of_base64
    from aifs_vision._cache import Cache, ReadingCache
    from aifs_vision._catalogue import Allowance, ImageRule, ModelCard, model_card
    from aifs_vision._clients import async_http_client, error_behind, http_client
    from aifs_vision._embedder import TextEmbedder
    from aifs_vision._engine import Vision
    from aifs_vision._estimate import Estimate
    from aifs_vision._folders import find_images
    from aifs_vision._formats import IMAGE_SUFFIXES, READABLE_SUFFIXES, mime_type_of
    from aifs_vision._frames import Frames
    from aifs_vision._guards import ImageLimits
    from aifs_vision._images import PreparedImage
    from aifs_vision._limits import Limits
    from aifs_vision._originals import Original, Originals
    from aifs_vision._readings import ModelUse, Reading, ReadingIds, Usage
    from aifs_vision._report import Failure, RunReport
    from aifs_vision._retrieval import hit_content, visual_store
    from aifs_vision._roots import path_named
    from aifs_vision._run import Run
    from aifs_vision._sources import Source, SourcePages, is_source, name_of
    from aifs_vision._survey import survey_images
    from aifs_vision._tasks import CAPTION, DESCRIBE, OCR, Task
    from aifs_vision._tokens import image_tokens, text_tokens
    from aifs_vision._tool_calls import ToolCalls, arguments_are_whole
    from aifs_vision._tool_forms import ToolForm
    from aifs_vision._tools import ToolResult, VisionTools
    from aifs_vision._tracing import OnRequest, SentRequest
    from aifs_vision._typed import DataMismatch, data_of
    from aifs_vision._visual_hits import VisualHit
    from aifs_vision._visual_rag import AIFSVisualRAGStore
    from aifs_vision._visual_shelf import VisualFile
    from aifs_vision._work import OnError

__all__ = [
    "CAPTION",
    "DESCRIBE",
    "IMAGE_SUFFIXES",
    "OCR",
    "READABLE_SUFFIXES",
    "AIFSError",
    "AIFSVisualRAGStore",
    "APIConnectionError",
    "APIError",
    "APITimeoutError",
    "Allowance",
    "AnswerError",
    "AuthenticationError",
    "BadRequestError",
    "BudgetError",
    "Cache",
    "CacheError",
    "ContextLengthError",
    "DataMismatch",
    "Estimate",
    "Failure",
    "Frames",
    "ImageAccessError",
    "ImageBrokenError",
    "ImageEncryptedError",
    "ImageError",
    "ImageFormatError",
    "ImageLimits",
    "ImageNotFoundError",
    "ImageRule",
    "ImageSize",
    "ImageTooLargeError",
    "ImageTooSmallError",
    "Limits",
    "ModelCard",
    "ModelUse",
    "NotFoundError",
    "OnError",
    "OnRequest",
    "Original",
    "Originals",
    "PermissionDeniedError",
    "PreparedImage",
    "QuotaExceededError",
    "RateLimitError",
    "Reading",
    "ReadingCache",
    "ReadingIds",
    "RequestTooLargeError",
    "ResidencyError",
    "Run",
    "RunReport",
    "SentRequest",
    "ServiceError",
    "SettingsError",
    "SeveralPagesError",
    "Source",
    "SourcePages",
    "Task",
    "TextEmbedder",
    "ToolCalls",
    "ToolForm",
    "ToolResult",
    "UnexpectedAnswerError",
    "Usage",
    "Vision",
    "VisionTools",
    "VisualFile",
    "VisualHit",
    "arguments_are_whole",
    "async_http_client",
    "bytes_of_base64",
    "check_image_options",
    "data_of",
    "error_behind",
    "find_images",
    "hit_content",
    "http_client",
    "image_tokens",
    "is_source",
    "mime_type_of",
    "model_card",
    "name_of",
    "path_named",
    "prepare_images",
    "survey_images",
    "text_tokens",
    "visual_store",
]

# Where the other names live; loaded at their first use, so that `import aifs_vision` costs next to nothing.
_HOMES = {
    "_attaching": "ImageSize check_image_options prepare_images",
    "_base64": "bytes_of_base64",
    "_cache": "Cache ReadingCache",
    "_catalogue": "Allowance ImageRule ModelCard model_card",
    "_clients": "async_http_client error_behind http_client",
    "_embedder": "TextEmbedder",
    "_engine": "Vision",
    "_estimate": "Estimate",
    "_images": "PreparedImage",
    "_limits": "Limits",
    "_originals": "Original Originals",
    "_readings": "ModelUse Reading ReadingIds Usage",
    "_report": "Failure RunReport",
    "_retrieval": "hit_content visual_store",
    "_roots": "path_named",
    "_run": "Run",
    "_folders": "find_images",
    "_formats": "IMAGE_SUFFIXES READABLE_SUFFIXES mime_type_of",
    "_frames": "Frames",
    "_guards": "ImageLimits",
    "_sources": "Source SourcePages is_source name_of",
    "_survey": "survey_images",
    "_tasks": "CAPTION DESCRIBE OCR Task",
    "_tokens": "image_tokens text_tokens",
    "_tool_calls": "ToolCalls arguments_are_whole",
    "_tool_forms": "ToolForm",
    "_tools": "ToolResult VisionTools",
    "_tracing": "OnRequest SentRequest",
    "_typed": "DataMismatch data_of",
    "_visual_hits": "VisualHit",
    "_visual_rag": "AIFSVisualRAGStore",
    "_visual_shelf": "VisualFile",
    "_work": "OnError",
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
