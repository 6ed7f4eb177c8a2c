"""The JSON of an answer -> validated data: fences and chatter are let through, what is cut off is not."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

    M = TypeVar("M", bound=BaseModel)

__all__ = ["DataMismatch", "data_of", "without_thoughts"]

_FENCED = re.compile(r"```[\w-]*[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)
_OPENING = re.compile(r"\{|\[(?![A-Za-z])")  # "[see page 2]" is prose
_FAULTS_TOLD = 3

# What a validator written for other values raises; pydantic itself turns
# ValueError and AssertionError into faults of the data.
_VALIDATORS_RAISE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
)


class DataMismatch(ValueError):  # noqa: N818 - not an error of the project: it becomes a status
    """A text that does not fit the schema; says where."""


@overload
def data_of(text: str, schema: type[M]) -> M: ...
@overload
def data_of(text: str, schema: None = None) -> Any: ...
def data_of(text: str, schema: type[BaseModel] | None = None) -> Any:
    """The validated object in an answer that is JSON, fenced JSON, or JSON with some words around it.

    Only values that are whole are looked at, and nothing inside of one that is cut off, as an inner object may look
    whole and fit by chance. Where several fit, nobody knows which one was meant.

    Args:
        text: the answer.
        schema: the pydantic model to fill; None for the JSON as plain objects and lists.

    Raises:
        DataMismatch: there is no whole JSON value, or none fits, or several do.
    """
    faults, fitting = list[DataMismatch](), list[Any]()
    for value in _values_in(without_thoughts(text)):
        try:
            data = _DECODER.decode(value.strip()) if schema is None else _validated(value, schema)
        except DataMismatch as fault:
            faults.append(fault)
        else:
            if data not in fitting:
                fitting.append(data)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise DataMismatch(f"there are {len(fitting)} JSON values in it that fit; one is wanted")
    raise faults[0] if faults else DataMismatch("there is no JSON in it")


def without_thoughts(text: str) -> str:
    """The text without the thoughts that some hosts leave at its beginning."""
    bare = text.lstrip()
    return bare.partition("</think>")[2] if bare.startswith("<think>") and "</think>" in bare else text


def _validated(value: str, schema: type[BaseModel]) -> BaseModel:
    """A JSON text as data."""
    from pydantic import ValidationError

    try:
        data = schema.model_validate_json(value)
    except ValidationError as error:
        raise DataMismatch(
            "; ".join(
                f"{'.'.join(map(str, fault['loc'])) or 'the whole'}: {fault['msg']}"
                for fault in error.errors()[:_FAULTS_TOLD]
            )
        ) from error
    except _VALIDATORS_RAISE as error:
        raise DataMismatch(f"a validator of {schema.__name__} failed: {type(error).__name__}: {error}") from error
    if not data.model_fields_set and not data.model_extra and value.strip("{}[] \r\n\t"):
        # All fields may be missing, and none was found: it would say that there was nothing on the picture.
        raise DataMismatch("it has none of the fields")
    return data


def _values_in(text: str) -> Iterator[str]:
    """The whole JSON values of an answer: the answer itself, those in fences, or those among its words."""
    fenced = [match[1] for match in _FENCED.finditer(text)]
    for part in [text, *fenced]:
        if _is_json(part):
            yield part
            if part is text:
                return
    if not any(map(_is_json, fenced)):
        for part in fenced or [text]:
            yield from _among_words(part)


def _is_json(text: str) -> bool:
    try:
        _DECODER.decode(text.strip())
    except (ValueError, RecursionError):
        return False
    return True


def _among_words(text: str) -> Iterator[str]:
    end = 0
    while (start := _OPENING.search(text, end)) is not None:
        try:
            _, after = _DECODER.raw_decode(text, start.start())
        except (ValueError, RecursionError) as error:
            if end:  # a brace among the words behind it
                return
            raise DataMismatch(f"its JSON is cut off or damaged: {error}") from error
        end = after
        yield text[start.start() : end]


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        _no_number(digits)
    return number


_DECODER = json.JSONDecoder(parse_constant=_no_number, parse_float=_finite)
