"""What models are told of the tools, the same in every framework."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field

__all__ = [
    "ANY_TOOL",
    "LONGEST_NAME",
    "LONGEST_QUESTION",
    "MOST_FIELDS",
    "MOST_HITS",
    "SEARCH",
    "ToolForm",
]

LONGEST_QUESTION = 2_000
"""Characters of a question, or of a query."""
MOST_FIELDS, LONGEST_NAME = 24, 60
"""Fields that are extracted at once, and characters of a field's name."""
MOST_HITS = 10
"""Hits of one search."""

_PATH = "Which image: a path below the folder, as list_images shows it (such as 'scans/bill.png')"
_FOUND = "the name that search_images gives to the picture of a page"
_IMAGE = f"{_PATH}, or the name of a picture of this conversation, such as 'picture 1' or {_FOUND}."
_PAGE = "Which page of a document, or which frame of a video, counted from 1."


@dataclass(frozen=True, kw_only=True)
class ToolForm:
    """One tool, as a model is told of it.

    Attributes:
        name: what it is called by.
        description: what it does, when to use it, and what comes back.
        arguments: its arguments, as a pydantic model.
    """

    name: str
    description: str
    arguments: type[BaseModel]

    def schema(self, *, searched: bool) -> dict[str, Any]:
        """The arguments as JSON schema, for clients whose conversation the tools do not see.

        Args:
            searched: whether there is a search whose results have names.
        """
        schema = self.arguments.model_json_schema()
        if "image" in schema["properties"]:
            schema["properties"]["image"]["description"] = f"{_PATH}, or {_FOUND}." if searched else f"{_PATH}."
        return schema


class ListImages(BaseModel):
    """The arguments of list_images."""

    folder: str = Field("", description="A folder below the root; empty for all of it.")
    after: str = Field("", description="The last path of a list that was cut, to see what comes after it; else empty.")


class CaptionImage(BaseModel):
    """The arguments of caption_image."""

    image: str = Field(description=_IMAGE)
    page: int = Field(1, description=_PAGE, ge=1)


class ReadText(BaseModel):
    """The arguments of read_text."""

    image: str = Field(description=_IMAGE)
    page: int = Field(1, description=_PAGE, ge=1)


class AskImage(BaseModel):
    """The arguments of ask_image."""

    image: str = Field(description=_IMAGE)
    question: str = Field(
        description="What to find out, as one whole question.", min_length=1, max_length=LONGEST_QUESTION
    )
    page: int = Field(1, description=_PAGE, ge=1)


class ExtractFields(BaseModel):
    """The arguments of extract_fields."""

    image: str = Field(description=_IMAGE)
    fields: list[str] = Field(
        description=f"Names of the fields to fill, such as ['invoice number', 'total']; at most {MOST_FIELDS}.",
        min_length=1,
        max_length=MOST_FIELDS,
    )
    page: int = Field(1, description=_PAGE, ge=1)


class SearchImages(BaseModel):
    """The arguments of search_images."""

    query: str = Field(description="What to look for, in words.", min_length=1, max_length=LONGEST_QUESTION)
    k: int = Field(4, description="How many results, at most.", ge=1, le=MOST_HITS)


ANY_TOOL = (
    ToolForm(
        name="list_images",
        description="Lists the images, documents and videos that can be read, with their sizes. Begin here.",
        arguments=ListImages,
    ),
    ToolForm(
        name="caption_image",
        description="Says in a few sentences what an image shows.",
        arguments=CaptionImage,
    ),
    ToolForm(
        name="read_text",
        description="Transcribes all text in an image or on a page, literally and in reading order.",
        arguments=ReadText,
    ),
    ToolForm(
        name="ask_image",
        description="Answers a question about an image by looking at it.",
        arguments=AskImage,
    ),
    ToolForm(
        name="extract_fields",
        description="Fills named fields from an image, and returns them as JSON; null where the image does not say.",
        arguments=ExtractFields,
    ),
)
"""The tools that need nothing but a folder and a model."""
SEARCH = ToolForm(
    name="search_images",
    description=(
        "Searches the document store by meaning and looks: gives passages of text, and pictures of pages, whose names "
        "the other tools take as images."
    ),
    arguments=SearchImages,
)
"""The tool that needs a store."""
