"""Structured output: how it is asked for, and how an answer becomes data, or an error that keeps the answer."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Literal

from langchain_core import exceptions
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, SystemMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.utils.function_calling import convert_to_openai_function, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import RootModel
from typing_extensions import is_typeddict

from aifs_vision import AIFSError, DataMismatch, data_of
from langchain_aifs._schemas import DESCRIBES_FUNCTIONS, answer_class, as_langchain_reads, fits_strictness

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.language_models import LanguageModelInput
    from langchain_core.runnables import Runnable

    from aifs_vision import ModelCard

__all__ = [
    "Method",
    "RefusedOutputError",
    "StructuredOutputError",
    "response_format_of",
    "structured",
    "usual_method",
    "usual_strictness",
]

Method = Literal["json_schema", "function_calling", "json_mode"]

_WRAPPINGS = frozenset({"function", "json_schema", "schema", "parameters"})
_NO_PARAMETERS = frozenset({"name", "description", "strict"})  # of a function that is described without any
_SAYS_NOTHING = frozenset({"title", "description", "type", "properties", "$schema"})
_NO_OBJECTS = frozenset({"array", "string", "number", "integer", "boolean", "null"})
# How the hosts behind the service say that there was no room for more.
_CUT_OFF = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})
_IN_WORDS = "Answer with one JSON object alone, which fits this JSON schema: {}"


class StructuredOutputError(AIFSError, exceptions.OutputParserException):
    """The answer is not the data that was asked for: cut off, without a call, or not fitting.

    Attributes:
        raw: the model's message, with its text, usage and cost; `llm_output` is its text.
    """

    def __init__(self, reason: str, raw: AIMessage) -> None:
        exceptions.OutputParserException.__init__(self, reason, llm_output=raw.text)
        self.args = (reason,)
        self.raw = raw


if TYPE_CHECKING:
    _Refusal = exceptions.ModelRefusalError
else:  # older versions have none
    _Refusal = getattr(exceptions, "ModelRefusalError", exceptions.OutputParserException)


class RefusedOutputError(StructuredOutputError, _Refusal):
    """The model, or a filter before it, declines to give the data."""

    def __init__(self, reason: str, raw: AIMessage) -> None:
        StructuredOutputError.__init__(self, reason, raw)
        self.raw_message = raw


def usual_method(card: ModelCard) -> Method:
    """The method that a model is known for: a schema where it keeps to one, else a function call, else JSON mode.

    Where the service says of neither, a schema is asked for: hosts that keep to none mostly ignore it, and what
    comes is checked in any case.
    """
    if card.schema or (card.schema is None and not card.tools):
        return "json_schema"
    return "function_calling" if card.tools else "json_mode"


def usual_strictness(card: ModelCard, schema: Any, method: Method) -> bool | None:
    """True where a schema is a mere hint else, and is taken as it stands; None leaves it to the host.

    That is on Azure, for pydantic classes; hosts with guided decoding keep to every schema.
    """
    hint = method == "json_schema" and card.schema and (card.region or "").startswith("azure-")
    if not (hint and isinstance(schema, type) and is_basemodel_subclass(schema)):
        return None
    return fits_strictness(convert_to_openai_function(schema).get("parameters", {})) or None


def response_format_of(schema: Any, *, strict: bool | None = None) -> dict[str, Any]:
    """The request's `response_format` for a pydantic class, a TypedDict, or a JSON schema in any of its wrappings."""
    if isinstance(schema, dict) and str(schema.get("type")) in {"json_schema", "json_object", "text"}:
        return schema
    if isinstance(schema, dict) and "name" in schema and "schema" in schema:
        return {"type": "json_schema", "json_schema": schema}
    function = convert_to_openai_function(_named(schema)[0], strict=strict)
    function["schema"] = function.pop("parameters", {"type": "object", "properties": {}})
    return {"type": "json_schema", "json_schema": function}


def _named(schema: Any) -> tuple[Any, bool | None]:
    """A schema with a name that a function may have, out of its wrappings, and the strictness that these have."""
    if not isinstance(schema, dict):
        return as_langchain_reads(schema) if is_typeddict(schema) else schema, None
    _check_wrapping(schema)
    if schema.get("type") == "function":
        inner = schema.get("function")
        function = inner if inner is not None else {key: value for key, value in schema.items() if key != "type"}
        return _with_parameters(function), function.get("strict")
    inner = schema.get("json_schema")
    wrapped = inner if schema.get("type") == "json_schema" and isinstance(inner, dict) else schema
    _check_wrapping(wrapped)
    if isinstance(wrapped.get("schema"), dict):
        about = {"description": wrapped["description"]} if "description" in wrapped else {}
        title = wrapped.get("name") or wrapped["schema"].get("title")
        return {**about, **_whole(wrapped["schema"]), "title": _as_name(title)}, wrapped.get("strict")
    if DESCRIBES_FUNCTIONS.isdisjoint(wrapped):
        return {**_whole(wrapped), "title": _as_name(wrapped.get("title"))}, None
    return _with_parameters(wrapped), None


def _with_parameters(function: dict[str, Any]) -> dict[str, Any]:
    """A function's description, also of one that takes nothing, and where that is said by None."""
    described = {key: value for key, value in function.items() if key != "parameters" or value is not None}
    return {**described, "parameters": _whole({})} if described.keys() <= _NO_PARAMETERS else described


def _whole(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema as LangChain takes all of it, which looks for `properties`; ValueError for what is no object's."""
    kind = schema.get("type", "object")
    kinds = kind if isinstance(kind, list) else [kind]
    if "object" not in kinds and not _NO_OBJECTS.isdisjoint(map(str, kinds)):
        raise ValueError(f"schema= is of the type {kind!r}; data are an object, which may have it as a field")
    if not isinstance(schema.get("$schema", ""), str):
        raise ValueError(f"schema= is no JSON schema: $schema is {schema['$schema']!r}")  # noqa: TRY004 - as of all that is none
    return {"properties": {}, **schema, "type": "object" if "object" in kinds else kind}


def _check_wrapping(schema: dict[str, Any]) -> None:
    """Raises ValueError where a schema or function is wrapped in what is none."""
    for key in _WRAPPINGS & schema.keys() if "properties" not in schema else ():
        if not isinstance(schema[key], (dict, type(None))):
            raise ValueError(f"schema= has {schema[key]!r} under {key!r}, where an object belongs")  # noqa: TRY004 - as above


def _check_strictness(schema: Any) -> None:
    """Raises ValueError where LangChain, which closes objects for strictness, would leave no room for any data."""
    if isinstance(schema, dict) and schema.get("properties") == {} and schema.keys() - _SAYS_NOTHING:
        said = ", ".join(sorted(schema.keys() - _SAYS_NOTHING))
        raise ValueError(f"strict=True needs a schema with the properties of its object, not with {said} alone")


def _as_name(title: Any) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", str(title or "")).strip("_")[:64] or "Answer"


def structured(
    chat: Any,
    schema: Any,
    method: Method,
    *,
    include_raw: bool,
    strict: bool | None,
    in_words: bool,
    tools: list[Any] | None,
    options: dict[str, Any],
) -> Runnable[LanguageModelInput, Any]:
    """A runnable that asks `chat` for data, and gives it: see `ChatAIFS.with_structured_output`."""
    if strict is not None and method == "json_mode":
        raise ValueError("strict= says how a schema is kept to; method='json_mode' has none")
    if schema is None and method != "json_mode":
        raise ValueError(f"schema=None: method={method!r} needs a schema; only 'json_mode' does without")
    named: Any = None
    own_strict: bool | None = None
    if schema is not None:
        named, own_strict = _named(schema)
    kind = answer_class(named)  # first of all: LangChain stumbles over schemas that are none
    strict = own_strict if strict is None and method == "function_calling" else strict
    if strict:
        _check_strictness(named)
    described: Any = None if named is None else convert_to_openai_tool(named)
    told = {"kwargs": {"method": method, "strict": strict}, "schema": described}
    name: str | None = None
    if method == "function_calling":
        name = described["function"]["name"]
        wanted = {
            "tool_choice": "required" if tools else name,
            "parallel_tool_calls": False,
            "strict": strict,
            **options,
        }
        wanted = chat._filter_disabled_params(ls_structured_output_format=told, **wanted)  # noqa: SLF001 - our own
        asked = chat.bind_tools([named, *(tools or ())], **wanted)
    else:
        form = {"type": "json_object"} if method == "json_mode" else response_format_of(schema, strict=strict)
        extra = {"tools": [convert_to_openai_tool(tool, strict=strict) for tool in tools]} if tools else {}
        asked = chat.bind(response_format=form, ls_structured_output_format=told, **extra, **options)
    if in_words:
        words = _IN_WORDS.format(json.dumps(described["function"].get("parameters", {})))
        asked = RunnableLambda(lambda given: [SystemMessage(words), *chat._convert_input(given).to_messages()]) | asked  # noqa: SLF001 - as above
    parse = _parser(kind, name, may_call=bool(tools))
    if include_raw:
        return asked | RunnableLambda(_beside_raw(parse), name="StructuredOutput")  # type: ignore[no-any-return]
    parser: Runnable[Any, Any] = RunnableLambda(parse, name="StructuredOutput")
    if isinstance(schema, type):
        parser = parser.with_types(output_type=schema)
    return asked | parser  # type: ignore[no-any-return]


# -- From answer to data -------------------------------------------------------------------------------------------


def _parser(kind: Any, name: str | None, *, may_call: bool) -> Callable[[BaseMessage], Any]:
    """What makes data of an answer: objects of `kind`; `name` is that of the function whose call is the answer."""

    def parse(message: BaseMessage) -> Any:
        assert isinstance(message, AIMessage)  # noqa: S101 - a chat model answers with nothing else
        _check_whole(message)
        text: str = message.text
        if name is not None:
            if may_call and _calls_others(message, name):
                return None
            text = _arguments(message, name)
        elif may_call and not text and message.tool_calls:
            return None  # one of the other tools is called first
        try:
            return _filled(text, kind)
        except (DataMismatch, ValueError) as error:
            raise StructuredOutputError(f"The answer does not fit the schema: {error}", message) from error

    return parse


def _beside_raw(parse: Callable[[BaseMessage], Any]) -> Callable[[BaseMessage], dict[str, Any]]:
    """The same with its message, where an error is told and not raised: one dict, in streams too."""

    def parsed(message: BaseMessage) -> dict[str, Any]:
        try:
            return {"raw": message, "parsed": parse(message), "parsing_error": None}
        except StructuredOutputError as error:
            return {"raw": message, "parsed": None, "parsing_error": error}

    return parsed


def _check_whole(message: AIMessage) -> None:
    """Raises StructuredOutputError for an answer that is cut off or refused: what is there of it proves nothing."""
    told = message.response_metadata
    details = told.get("incomplete_details")
    reason = str((details.get("reason") if isinstance(details, dict) else None) or told.get("finish_reason") or "")
    refusal = message.additional_kwargs.get("refusal")
    if refusal or reason.lower() == "content_filter":
        said = f": {refusal}" if refusal else ""
        raise RefusedOutputError(f"The model, or a filter, declines to give the data{said}", message)
    if reason.lower() in _CUT_OFF or told.get("status") == "incomplete":
        shown = reason or "incomplete"
        what = f"The answer is cut off (finish_reason {shown!r}); its data is not whole. Give it more room: max_tokens."
        raise StructuredOutputError(what, message)


def _calls_others(message: AIMessage, name: str) -> bool:
    """Whether all calls are of other tools than the one whose call is the data."""
    names = {call["name"] for call in [*message.tool_calls, *message.invalid_tool_calls]}
    return bool(message.tool_calls) and name not in names


def _arguments(message: AIMessage, name: str) -> str:
    """The JSON of the call that was asked for; as it came, since LangChain mends what is cut off in streams."""
    if isinstance(message, AIMessageChunk):
        called = [chunk for chunk in message.tool_call_chunks if chunk["name"] == name]
        if called:
            return called[0]["args"] or "{}"  # as when it comes whole
    for call in message.tool_calls:
        if call["name"] == name:
            return json.dumps(call["args"])
    for invalid in message.invalid_tool_calls:
        if invalid["name"] == name:
            raise StructuredOutputError(f"The arguments of {name!r} cannot be read: {invalid['error']}", message)
    others = ", ".join(repr(call["name"]) for call in message.tool_calls) or "none"
    what = f"The model was to call {name!r}, and did not (calls: {others}). Another method= may suit it better."
    raise StructuredOutputError(what, message)


def _filled(text: str, kind: Any) -> Any:
    """The data in a text: an object of a pydantic class, or a dict."""
    if kind is not None and not hasattr(kind, "model_validate_json"):
        return kind.parse_obj(data_of(text))  # of pydantic 1
    data = data_of(text, kind)
    if isinstance(data, RootModel):
        return data.root
    if kind is None and not isinstance(data, dict):
        raise DataMismatch(f"it is a {type(data).__name__}, and no object")
    return data
