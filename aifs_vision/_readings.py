"""What came back for one image: `Reading`, and what it used."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, field, fields
from decimal import Decimal
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aifs_vision._errors import AIFSError

    _Path = tuple[str, ...]

__all__ = ["RESULTS", "STATUSES", "ModelUse", "Reading", "ReadingIds", "Status", "Usage", "reading_id"]

Status = Literal["ok", "empty", "truncated", "refused", "filtered", "looped", "invented", "failed", "pending"]
STATUSES: tuple[Status, ...] = (
    "ok", "empty", "truncated", "refused", "filtered", "looped", "invented", "failed", "pending",
)  # fmt: skip
RESULTS: frozenset[Status] = frozenset({"ok", "empty"})
"""The statuses that are results; a blank page is a fact. Every other one is a failure."""

_MOST_TOKENS = 10_000_000  # that one answer can have used; a host that says more has not counted
# What hosts call the tokens read, written and both: for chats and embeddings, and for /responses.
_COUNTS = (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"), ("total_tokens",))
_NAMESPACE = uuid.UUID("a1f5b151-0000-5000-8000-000000000001")  # fixed for ever: ids depend on it


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens counted by the service, summed over all requests that were made for one reading."""

    input_tokens: int = 0
    output_tokens: int = 0

    @classmethod
    def of(cls, answer: Any) -> Usage:
        """What the JSON of an answer says that it used; nothing where it does not say, or what cannot be.

        Some hosts leave a model's thoughts out of `completion_tokens`, but neither out of `total_tokens` nor of a bill.
        """
        usage = answer.get("usage") if isinstance(answer, dict) else None
        if not isinstance(usage, dict):
            return cls()
        read, written, both = (
            _count(next((usage[name] for name in names if usage.get(name) is not None), None)) for names in _COUNTS
        )
        return cls(input_tokens=read, output_tokens=max(written, both - read if read else 0))

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
        )


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0
    return int(value) if 0 <= value <= _MOST_TOKENS else 0


@dataclass(frozen=True, kw_only=True)
class ModelUse:
    """What one model was asked, and what that cost.

    Attributes:
        requests: questions put to it; more than images, where a page was cut into bands or an answer tried again.
        attempts: HTTP requests sent for them, those that were refused or failed included.
        usage: tokens, as counted by the service.
        cost_eur: EUR for them; None where the catalogue has no price for the model.
    """

    requests: int = 0
    attempts: int = 0
    usage: Usage = field(default_factory=Usage)
    cost_eur: float | None = 0.0

    def __add__(self, other: ModelUse) -> ModelUse:
        known = self.cost_eur is not None and other.cost_eur is not None
        return ModelUse(
            requests=self.requests + other.requests,
            attempts=self.attempts + other.attempts,
            usage=self.usage + other.usage,
            cost_eur=(self.cost_eur or 0.0) + (other.cost_eur or 0.0) if known else None,
        )


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What came back for one page or frame of one source; always with a status, never just an empty text.

    Attributes:
        text: what the model said; "" for an empty page and for failures without usable text.
        data: the validated object of `Task.extract()`, else None.
        status: "ok" and "empty" are results; every other one is a failure, and `error` says why.
        error: the failure, or None.
        source: what the user gave: the path or URL as given, or a name made of the bytes' digest.
        page, total_pages: which page or frame of the source this is, counted from 1, also where not all frames
            of a video are read.
        width, height: px of the page or frame as it is to be looked at; None where the picture was not
            opened (URLs, unreadable files).
        time: seconds from the start of a video to this frame; None for everything else.
        mime_type: the type of the source's bytes, by their first bytes; None where they were not read.
        image_sha256: digest of the source's bytes, in hex; None where they were not read.
        model, task, prompt_version: who was asked what.
        usage: tokens, over all attempts.
        cost_eur: EUR for `usage`; None where the catalogue has no price for the model.
        models: what each model was asked for this reading, by its name; more than one where another one stood in.
        requests: questions put to the models: one, or more for bands, more room and repairs.
        attempts: HTTP requests sent for them, those that failed included.
        waited: seconds that limits have held them up.
        cached: whether the text was paid before: it came from the cache, or from an equal image that was on its
            way; usage and cost are 0 then.
        id: a UUID made of source, page and task: an edited picture keeps it, another task has another.
    """

    text: str = ""
    data: Any = None
    status: Status
    error: AIFSError | None = None
    source: str
    page: int = 1
    total_pages: int = 1
    width: int | None = None
    height: int | None = None
    time: float | None = None
    mime_type: str | None = None
    image_sha256: str | None = None
    model: str
    task: str
    prompt_version: str
    usage: Usage = field(default_factory=Usage)
    cost_eur: float | None = 0.0
    models: Mapping[str, ModelUse] = field(default_factory=dict)
    requests: int = 0
    attempts: int = 0
    waited: float = 0.0
    cached: bool = False

    @property
    def id(self) -> str:
        """A UUID made of source, page and task."""
        return reading_id(self.source, self.page, self.task)

    @property
    def twin_id(self) -> str:
        """The id where another picture has the name of this one: a UUID made of its digest, too."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.id}\n{self.image_sha256}"))

    @property
    def ok(self) -> bool:
        """Whether this is a result: status "ok" or "empty"."""
        return self.status in RESULTS

    @property
    def content(self) -> str:
        """What belongs into an index: the validated data as JSON, else the text."""
        return self.text if self.data is None else str(self.data.model_dump_json())

    def fields(self) -> dict[str, str | int | float | bool]:
        """The scalars of the data, flat, for the metadata of an index; {} without data.

        Fields of a model inside are named "<field>_<field>"; lists, dicts, None and fields the schema does not have
        are left to `content`, and so are numbers that no JSON has, such as NaN. They are as the data serialises itself,
        but a Decimal is a number, so that a store can compare it; one that is too large for a float is left out, too.

        No name is used twice, and none depends on what the other fields hold. The attributes of `Reading` keep their
        names: a field `status` is found as "data_status". Of two fields with one name, such as `seller.city` and
        `seller_city`, the one that is less deep keeps it (of equal ones the first in the alphabet), and the other one
        gets "data_" before it, once more where that is taken, too. In a schema that is part of itself many paths may
        spell one name: those are named by their path, such as "parent.parent_name".
        """
        data: Any = _bare(self.data)
        if not hasattr(data, "model_dump"):  # none, or a list at the top
            return {}
        found: dict[str, str | int | float | bool] = {}
        names = _Names(type(data))
        for path, value in _scalars(data, data.model_dump(mode="json", by_alias=False)):
            name = names.of(path)
            while name in found:  # of a class that the schema does not name
                name = _PREFIX + name
            found[name] = value
        return found

    def metadata(self) -> dict[str, str | int | float]:
        """What belongs beside the text in an index: scalars only, the same on every run over the same image.

        The keys are source, page, total_pages, width, height, mime_type, image_sha256, model, task,
        prompt_version and status; `time` is added to frames of videos and `error` to failures. What is not known
        is left out.
        """
        known: dict[str, str | int | float | None] = {
            "source": self.source,
            "page": self.page,
            "total_pages": self.total_pages,
            "width": self.width,
            "height": self.height,
            "time": self.time,
            "mime_type": self.mime_type,
            "image_sha256": self.image_sha256,
            "model": self.model,
            "task": self.task,
            "prompt_version": self.prompt_version,
            "status": self.status,
            "error": None if self.error is None else str(self.error),
        }
        return {key: value for key, value in known.items() if value is not None}


# More than the keys of `metadata()`, which are not all there for every picture: a field is to have the same name in all
# entries of an index.
_TAKEN = frozenset(field.name for field in fields(Reading))

_PREFIX = "data_"
_MOST_SPELLINGS = 32  # paths that may share a name and be told apart by "data_"


def _scalars(data: Any, dumped: Mapping[str, Any]) -> Iterator[tuple[_Path, str | int | float | bool]]:
    for name, shown in dumped.items():
        value = None if name in (data.model_extra or ()) else _bare(getattr(data, name, None))
        if hasattr(value, "model_dump") and isinstance(shown, dict):
            yield from (((name, *inner), scalar) for inner, scalar in _scalars(value, shown))
            continue
        scalar = float(value) if isinstance(value, Decimal) and shown == str(value) else shown
        known = value is not None and isinstance(scalar, (str, int, float, bool))
        if known and not (isinstance(scalar, float) and not math.isfinite(scalar)):
            yield (name,), scalar


def _bare(data: Any) -> Any:
    """What a model that is nothing but a type, such as RootModel[list[int]], is of."""
    while getattr(data, "__pydantic_root_model__", False):
        data = data.root
    return data


class _Names:
    """The names of a schema's fields: each of them its own, whichever of them there are in one reading."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._names: dict[_Path, str] = {}
        self._kinds: dict[Any, dict[str, list[Any]]] = {}
        self._spelled: dict[tuple[Any, str], list[_Path] | None] = {}

    def of(self, path: _Path) -> str:
        """The name of the field at a path."""
        if path not in self._names:
            self._names[path] = self._free(path)
        return self._names[path]

    def _free(self, path: _Path) -> str:
        name = "_".join(path)
        while (rivals := self._rivals(name, path)) is not None:
            if name not in _TAKEN and all(self.of(other) != name for other in rivals):
                return name
            name = _PREFIX + name
        return ".".join(path)

    def _rivals(self, name: str, path: _Path) -> list[_Path] | None:
        """The fields that may have a name, and come before one in the choice of it; None for too many."""
        found: list[_Path] = []
        while True:
            spelled = self._spelling(self._schema, name)
            if spelled is None:
                return None
            found += [other for other in spelled if _rank(other) < _rank(path)]
            if not name.startswith(_PREFIX):
                return found
            name = name.removeprefix(_PREFIX)

    def _spelling(self, schema: Any, name: str) -> list[_Path] | None:
        """The fields of a schema whose path spells a name; None for too many."""
        if (schema, name) not in self._spelled:
            self._spelled[schema, name] = self._spell(schema, name)
        return self._spelled[schema, name]

    def _spell(self, schema: Any, name: str) -> list[_Path] | None:
        found: list[_Path] = []
        for own, models in self._fields(schema).items():
            if own == name:
                found.append((own,))
            elif name.startswith(f"{own}_"):
                for model in models:
                    inner = self._spelling(model, name[len(own) + 1 :])
                    if inner is None:
                        return None
                    found += [(own, *path) for path in inner]
        return found if len(found) <= _MOST_SPELLINGS else None

    def _fields(self, schema: Any) -> dict[str, list[Any]]:
        """The fields of a schema, each with the models that it may be."""
        if schema not in self._kinds:
            kinds = {own: info.annotation for own, info in schema.model_fields.items()}
            kinds |= {own: info.return_type for own, info in schema.model_computed_fields.items()}
            self._kinds[schema] = {own: list(_models(kind)) for own, kind in kinds.items()}
        return self._kinds[schema]


def _rank(path: _Path) -> tuple[int, int, _Path]:
    """Less deep ones come first, and before `status` a field that is called `data_status` anyway."""
    return len(path), -sum(map(len, path)), path


def _models(kind: Any) -> Iterator[Any]:
    """The models in the type of a field; those in lists and dicts are none of its own."""
    if getattr(kind, "__pydantic_root_model__", False):
        yield from _models(kind.model_fields["root"].annotation)
    elif hasattr(kind, "model_fields"):
        yield kind
    elif get_origin(kind) in {Annotated, Union, UnionType}:
        for part in get_args(kind):
            yield from _models(part)


class ReadingIds:
    """The ids of the readings of one run, in their order, for an index in which none is to replace another.

    A run has its own, `Run.ids`, which knows of the readings that it has skipped.

    Pictures may share a name, as uploads often do: the first one of a name has `Reading.id`, and others, which are
    told by their digests, have `Reading.twin_id`. Copies of a picture, and pages of one file, are no others.
    """

    def __init__(self) -> None:
        self._first: dict[str, str | None] = {}

    def of(self, reading: Reading) -> str:
        """The id of the next reading."""
        first = self._first.setdefault(reading.source, reading.image_sha256)
        return reading.id if first == reading.image_sha256 else reading.twin_id


def reading_id(source: str, page: int, task: str) -> str:
    """The id of a reading, equal in every process and framework: a UUID, as vector stores want it."""
    return str(uuid.uuid5(_NAMESPACE, f"{source}\n{page}\n{task}"))
