"""Results as dataclasses: their JSON, the way back, and their JSON Schema.

A result is a subclass of `Result`. Its fields are plain values, lists and dictionaries of
these, or other results. In ``Annotated[type, ...]`` a text describes the field, and a pair
of a keyword and its value is added to the field's JSON Schema.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

from descents.errors import RunFolderError
from descents.storage.files import read_json
from descents.storage.values import plain
from descents.text import OneLine, shortened

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TYPES: dict[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    types.NoneType: "null",
}

Count = Annotated[int, ("minimum", 0)]
Number = float | None
"""A number, or None if it is not defined."""
SCHEMA_VERSION = 1
"""The version of the results that this program writes. It grows when a field changes its
meaning; fields that are added do not change it. A result without a version is of version 1."""
OMITTED = {"omitted": True}
"""The metadata of a field that is left out of the JSON if it is None."""
SchemaVersion = Annotated[int, "The version of this schema.", ("minimum", 1)]
Interval = Annotated[list[Number], ("minItems", 2), ("maxItems", 2)]


@dataclass(frozen=True, kw_only=True)
class Result(OneLine):
    """Base class of results: when constructed, its values are those of its JSON.

    Numbers and arrays of numpy become plain ones, tuples become lists, and NaN and
    infinity become None.

    Examples
    --------
    >>> from descents.storage.values import json_text
    >>> @dataclass(frozen=True, kw_only=True)
    ... class Answer(Result):
    ...     numbers: list[float | None]
    >>> Answer(numbers=(1.5, float("nan")))
    Answer(numbers=[1.5, None])
    >>> of_json(Answer, plain(Answer(numbers=[2]))) == Answer(numbers=[2])
    True
    """

    def __post_init__(self) -> None:
        """Replace the values by plain ones."""
        for one in fields(self):
            object.__setattr__(self, one.name, _value(getattr(self, one.name)))


R = TypeVar("R", bound=Result)
T = TypeVar("T")


def _value(value: object) -> object:
    """Return a value as in JSON, except that results remain results."""
    if isinstance(value, Result):
        return value
    if isinstance(value, Mapping):
        return {str(name): _value(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_value(item) for item in value]
    return plain(value)


def read_result(kind: type[R], path: Path) -> R:
    """Return the result in a JSON file.

    Raises
    ------
    RunFolderError
        If the file is absent, is not a JSON object, lacks a field of the result, or is of
        a later version than this program knows.
    """
    value = read_json(path)
    version = value.get("schema_version", 1)
    if version not in range(1, SCHEMA_VERSION + 1):
        raise RunFolderError(
            f"{path} has the schema version {shortened(version)}, and this version of descents reads "
            f"those up to {SCHEMA_VERSION}; open it with the version that wrote it"
        )
    try:
        return of_json(kind, value)
    except (LookupError, TypeError, AttributeError) as error:
        raise RunFolderError(
            f"{path} is damaged, or was written by another version of descents; run the "
            "command again, with a new folder"
        ) from error


def of_json(kind: type[R], value: Mapping[str, object]) -> R:
    """Return the result whose JSON is `value`; fields that it does not have are ignored.

    Raises
    ------
    KeyError
        If a field without a default is missing.
    """
    hints = typing.get_type_hints(kind)
    missing = [n for n in _required(kind) if n not in value]
    if missing:
        raise KeyError(f"{kind.__name__} lacks {', '.join(missing)}")
    return kind(**{n: _restored(h, value[n]) for n, h in hints.items() if n in value})


_SCALARS: Mapping[object, type | tuple[type, ...]] = {
    str: str,
    int: int,
    float: (int, float),
}
"""The types in JSON of texts and numbers. A number that is not finite is null there."""


def _restored(hint: object, value: object) -> object:
    """Return a value from JSON as its type hint says."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint in _SCALARS:
        return value if value is None else _of_type(_SCALARS[hint], value)
    if isinstance(hint, type) and issubclass(hint, Result):
        return of_json(hint, _of_type(dict, value))
    if types.NoneType in inner:  # the type of a value that may be null
        only = inner[inner[0] is types.NoneType] if len(inner) == 2 else object
        return None if value is None else _restored(only, value)
    if origin is list:
        return [_restored(inner[0], item) for item in _of_type(list, value)]
    if origin is dict:
        items = _of_type(dict, value).items()
        return {name: _restored(inner[1], item) for name, item in items}
    return value


def _of_type(kind: type[T] | tuple[type[T], ...], value: object) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is not of the type {kind}")
    return value


def _required(kind: type[Result]) -> list[str]:
    """Return the names of the fields without a default."""
    return [
        one.name
        for one in fields(kind)
        if one.default is MISSING and one.default_factory is MISSING
    ]


def json_schema(kind: type[Result], title: str) -> dict[str, object]:
    """Return the JSON Schema of a result, with a definition for each result inside it.

    Examples
    --------
    >>> @dataclass(frozen=True, kw_only=True)
    ... class Answer(Result):
    ...     text: Annotated[str | None, "A sentence."] = None
    >>> json_schema(Answer, "an answer")["properties"]
    {'text': {'type': ['string', 'null'], 'description': 'A sentence.'}}
    """
    definitions: dict[str, object] = {}
    schema = {"$schema": DIALECT, "title": title, **_object(kind, definitions)}
    found: dict[str, object] = plain(schema | {"$defs": definitions})
    return found


def _object(kind: type[Result], definitions: dict[str, object]) -> dict[str, object]:
    """Return the schema of a result, and add those of its parts to `definitions`."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {
        "description": (kind.__doc__ or "").partition("\n")[0],
        "type": "object",
        "required": _required(kind),
        "properties": {n: _schema(hint, definitions) for n, hint in hints.items()},
        "additionalProperties": False,
    }


def _schema(hint: object, definitions: dict[str, object]) -> dict[str, object]:
    """Return the schema of a type hint."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        schema = _schema(inner[0], definitions)
        for said in inner[1:]:
            schema |= dict([("description", said) if isinstance(said, str) else said])
        return schema
    if hint in (Any, object):
        return {}
    if isinstance(hint, type) and hint in _TYPES:
        return {"type": _TYPES[hint]}
    if origin in (types.UnionType, typing.Union):
        return _either([_schema(one, definitions) for one in inner])
    if origin in (list, dict):
        kind, items = {
            list: ("array", "items"),
            dict: ("object", "additionalProperties"),
        }[origin]
        values = _schema(inner[-1], definitions)
        return {"type": kind} | ({items: values} if values else {})
    if not isinstance(hint, type) or not issubclass(hint, Result):
        raise TypeError(f"a field of a result cannot be {hint!r}")
    if hint.__name__ not in definitions:
        definitions[hint.__name__] = {}  # keeps the order of the fields
        definitions[hint.__name__] = _object(hint, definitions)
    return {"$ref": f"#/$defs/{hint.__name__}"}


def _either(schemas: list[dict[str, object]]) -> dict[str, object]:
    """Return the schema of a union."""
    *others, last = schemas
    nullable = len(others) == 1 and last == {"type": "null"}
    if nullable and "type" in others[0] and "enum" not in others[0]:
        return {**others[0], "type": [others[0]["type"], "null"]}
    if all(schema.keys() == {"type"} for schema in schemas):
        return {"type": [schema["type"] for schema in schemas]}
    return {"anyOf": schemas}
