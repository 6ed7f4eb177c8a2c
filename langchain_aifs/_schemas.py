"""What an answer is checked by: a pydantic class, made of a TypedDict or a JSON schema where it is none already.

And whether a host can be told to keep strictly to it.
"""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Union, cast, get_args, get_origin

from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import AfterValidator, BaseModel, RootModel
from typing_extensions import NotRequired, Required, TypedDict, get_type_hints, is_typeddict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["DESCRIBES_FUNCTIONS", "answer_class", "as_langchain_reads", "fits_strictness"]

DESCRIBES_FUNCTIONS = frozenset({"function", "name", "toolSpec"})
"""Keys that descriptions of functions have, and JSON schemas do not."""

_SHOWN = 200  # characters of what does not fit

# What Azure OpenAI takes of a schema that is to be kept strictly; it refuses others.
_MOST_WORDS, _MOST_LETTERS, _DEEPEST = 100, 7_500, 5  # of fields and choices
_PLAIN_TYPES = frozenset({"string", "number", "integer", "boolean", "null"})
_OF_OBJECTS = frozenset({"type", "properties", "required", "additionalProperties"})


def answer_class(schema: Any) -> type[BaseModel] | None:
    """The pydantic class whose objects fit the schema, or hold data that does as their `root`; None for anything.

    Raises:
        ValueError: a JSON schema that is none.
    """
    if schema is None:
        return None
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        return cast("type[BaseModel]", schema)
    if is_typeddict(schema):
        return _root(_rebuilt(schema, (), _of_pydantic))  # as it takes them on every Python
    described = isinstance(schema, dict) and DESCRIBES_FUNCTIONS.isdisjoint(schema)
    rules = schema if described else convert_to_openai_tool(schema)["function"].get("parameters") or {}
    return _root(Annotated[dict[str, Any], AfterValidator(_checked_by(rules))])


def _root(kind: Any) -> type[BaseModel]:
    return cast("type[BaseModel]", RootModel[kind])


# -- TypedDict -----------------------------------------------------------------------------------------------------


def as_langchain_reads(kind: Any) -> Any:
    """The same TypedDict as LangChain makes a function's description of, which knows no `NotRequired`."""
    return _rebuilt(kind, (), _of_langchain)


class _Field(NamedTuple):
    """A field of a TypedDict: its type, whether it is needed, and what `Annotated` says besides."""

    kind: Any
    needed: bool
    default: Any = ...
    described: tuple[Any, ...] = ()


def _of_langchain(field: _Field) -> Any:
    if field.needed and not field.described:
        return field.kind
    default = ... if field.needed else None if field.default is ... else field.default
    said = (field.kind, default, *field.described)
    return cast("Any", Annotated)[said]


def _of_pydantic(field: _Field) -> Any:
    return Required[field.kind] if field.needed else NotRequired[field.kind]


def _rebuilt(kind: Any, above: tuple[Any, ...], written: Callable[[_Field], Any]) -> Any:
    """A TypedDict anew, with its fields as they are to be `written`."""
    fields: dict[str, Any] = {}
    for name, field in _fields(kind):
        fields[name] = written(field._replace(kind=_plain(field.kind, (*above, kind), written)))
    made = cast("Any", TypedDict)(kind.__name__, fields)
    made.__doc__ = kind.__doc__
    return made


def _fields(kind: Any) -> Iterator[tuple[str, _Field]]:
    """The fields by name, as LangChain reads them.

    `Annotated[int, None, "what it is"]` may be missing, and `Annotated[int, ..., "what it is"]` may not. Where
    annotations are texts, Python itself does not see their `NotRequired`.
    """
    for name, hint in get_type_hints(kind, include_extras=True).items():
        field = _Field(hint, name in kind.__required_keys__)
        while (origin := _around(field.kind)) in (Annotated, Required, NotRequired):
            inner, *said = get_args(field.kind)
            if origin is Annotated:
                default, *described = said
                field = _Field(inner, field.needed and default is ..., default, tuple(described))
            else:
                field = field._replace(kind=inner, needed=origin is Required)
        yield name, field


def _around(kind: Any) -> Any:
    return get_origin(kind)


def _plain(kind: Any, above: tuple[Any, ...], written: Callable[[_Field], Any]) -> Any:
    """A type of a field, its TypedDicts anew; one that holds itself is not looked into once more."""
    if is_typeddict(kind):
        return dict[str, Any] if kind in above else _rebuilt(kind, above, written)
    origin, inner = _around(kind), get_args(kind)
    if origin is None or not any(map(_holds_typed_dict, inner)):
        return kind
    return (Union if origin is types.UnionType else origin)[tuple(_plain(part, above, written) for part in inner)]


def _holds_typed_dict(kind: Any) -> bool:
    return is_typeddict(kind) or any(map(_holds_typed_dict, get_args(kind)))


# -- JSON schema ---------------------------------------------------------------------------------------------------


def _checked_by(schema: Mapping[str, Any]) -> Callable[[Any], Any]:
    """What gives data back that fits a JSON schema, and raises ValueError for others; it fetches no schema."""
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.exceptions import best_match
    from jsonschema.validators import validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"schema= is no JSON schema: at {error.json_path}, {error.message[:_SHOWN]}") from error
    validator = kind(schema, registry=Registry())

    def checked(data: Any) -> Any:
        try:
            fault = best_match(validator.iter_errors(data))
        except Unresolvable as error:
            raise ValueError(f"the schema refers to what is not in it: {error}") from error
        if fault is not None:
            raise ValueError(f"{fault.json_path}: {fault.message[:_SHOWN]}")
        return data

    return checked


# -- Strictness ----------------------------------------------------------------------------------------------------


def fits_strictness(schema: Mapping[str, Any]) -> bool:
    """Whether Azure OpenAI takes a schema as strict, as it means it already; `additionalProperties: false` alone lacks.

    That is: all fields are needed, nothing bounds a value, no object may have other fields. It is no for some schemas
    that are taken: with them a host does as it has done without.
    """
    words: list[str] = []
    taken = schema.get("type") == "object" and _is_strict(schema, 1, words)
    return taken and len(words) <= _MOST_WORDS and sum(map(len, words)) <= _MOST_LETTERS


def _is_strict(schema: Mapping[str, Any], depth: int, words: list[str]) -> bool:
    """Whether a part of a schema is taken; `words` gathers its fields and choices."""
    if depth > _DEEPEST or not isinstance(schema, Mapping) or not isinstance(schema.get("type", ""), str):
        return False
    kind, keys = schema.get("type"), schema.keys() - {"title", "description"}
    if keys == {"anyOf"}:
        # Of two objects whose first fields are named alike it could not tell which one is meant, and refuses them.
        choices = schema["anyOf"]
        return all(_is_strict(choice, depth, words) for choice in choices) and (
            sum(choice.get("type") not in _PLAIN_TYPES for choice in choices) <= 1
        )
    if kind == "object":
        fields: Mapping[str, Any] = schema.get("properties") or {}
        words += fields
        return (
            keys <= _OF_OBJECTS
            and schema.get("additionalProperties", False) is False
            and 0 < len(fields) == len(schema.get("required", ()))
            and all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in fields)
            and all(_is_strict(field, depth + 1, words) for field in fields.values())
        )
    if kind == "array":
        return keys == {"type", "items"} and _is_strict(schema["items"], depth + 1, words)
    if kind == "string" and keys == {"type", "enum"}:
        words += map(str, schema["enum"])
        return all(isinstance(choice, str) for choice in schema["enum"])
    return kind in _PLAIN_TYPES and keys == {"type"}
