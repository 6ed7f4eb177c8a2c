"""What an answer is checked by: a pydantic class, made of a TypedDict or a JSON schema where it is none already."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Annotated, Any, Union, cast, get_args, get_origin

from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import AfterValidator, BaseModel, RootModel
from typing_extensions import NotRequired, Required, TypedDict, get_type_hints, is_typeddict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["DESCRIBES_FUNCTIONS", "answer_class"]

DESCRIBES_FUNCTIONS = frozenset({"function", "name", "toolSpec"})
"""Keys that descriptions of functions have, and JSON schemas do not."""

_SHOWN = 200  # characters of what does not fit


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
        return _root(_of_typed_dict(schema, ()))
    described = isinstance(schema, dict) and DESCRIBES_FUNCTIONS.isdisjoint(schema)
    rules = schema if described else convert_to_openai_tool(schema)["function"].get("parameters") or {}
    return _root(Annotated[dict[str, Any], AfterValidator(_checked_by(rules))])


def _root(kind: Any) -> type[BaseModel]:
    return cast("type[BaseModel]", RootModel[kind])


# -- TypedDict -----------------------------------------------------------------------------------------------------


def _of_typed_dict(kind: Any, above: tuple[Any, ...]) -> Any:
    """The same TypedDict as pydantic takes it on every Python, with what LangChain reads out of `Annotated`.

    There, `Annotated[int, None, "what it is"]` is a field that may be missing, and `Annotated[int, ..., "what it is"]`
    one that may not.
    """
    fields: dict[str, Any] = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        inner, needed = hint, name in kind.__required_keys__
        if _around(hint) is Annotated:
            inner, default, *_ = get_args(hint)
            needed = needed and default is ...
        inner = _plain(inner, (*above, kind))
        fields[name] = Required[inner] if needed else NotRequired[inner]
    return TypedDict(kind.__name__, fields)  # type: ignore[operator]  # made as the program runs


def _around(kind: Any) -> Any:
    return get_origin(kind)


def _plain(kind: Any, above: tuple[Any, ...]) -> Any:
    """A type of a field, whose TypedDicts pydantic takes; one that holds itself is not looked into once more."""
    if is_typeddict(kind):
        return dict[str, Any] if kind in above else _of_typed_dict(kind, above)
    origin, inner = _around(kind), get_args(kind)
    if origin is None or not any(map(_holds_typed_dict, inner)):
        return kind
    return (Union if origin is types.UnionType else origin)[tuple(_plain(part, above) for part in inner)]


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
