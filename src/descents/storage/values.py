"""Values as JSON: plain ones, and ones that keep their types."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np


def plain(value: object) -> Any:
    """Convert `value` for JSON: numpy types to Python's, NaN and infinity to null.

    Dataclasses become objects. Fields with ``metadata={"omitted": True}`` are left out if
    they are None.

    Examples
    --------
    >>> plain({"a": np.float32(0.5), "b": np.array([1, 2]), "c": float("nan")})
    {'a': 0.5, 'b': [1, 2], 'c': None}
    """
    if is_dataclass(value) and not isinstance(value, type):
        value = {
            field.name: getattr(value, field.name)
            for field in fields(value)
            if not field.metadata.get("omitted")
            or getattr(value, field.name) is not None
        }
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def typed(value: object) -> object:
    """Convert `value` for JSON, so that `of_typed` can restore its types.

    Numbers, text, booleans, None and lists stay as they are. Tuples, mappings (with keys
    of any of these types), arrays, and numbers of numpy become an object with their
    ``kind``.

    Raises
    ------
    TypeError
        If the value is of another type.

    Examples
    --------
    >>> typed({0: 1.5, True: None})
    {'kind': 'mapping', 'items': [[0, 1.5], [True, None]]}
    >>> of_typed(typed({0: (np.int64(3), "a")}))
    {0: (np.int64(3), 'a')}
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"kind": "float", "value": str(value)}
    if isinstance(value, list):
        return [typed(item) for item in value]
    if isinstance(value, tuple):
        return {"kind": "tuple", "items": [typed(item) for item in value]}
    if isinstance(value, Mapping):
        pairs = [[typed(key), typed(item)] for key, item in value.items()]
        return {"kind": "mapping", "items": pairs}
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.kind in "mM":
            items = array.astype(np.int64).tolist()
        elif array.dtype.kind in "biufUO":
            items = typed(array.tolist())
        else:
            raise TypeError(f"an array of {array.dtype} cannot be stored")
        kind = "array" if isinstance(value, np.ndarray) else "scalar"
        return {"kind": kind, "dtype": array.dtype.str, "items": items}
    raise TypeError(f"{type(value).__name__} cannot be stored")


def of_typed(value: object) -> Any:
    """Restore a value that `typed` converted.

    Examples
    --------
    >>> of_typed(typed(np.array([True, False])))
    array([ True, False])
    """
    if isinstance(value, list):
        return [of_typed(item) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value["kind"]
    if kind == "float":
        return float(value["value"])
    if kind == "tuple":
        return tuple(of_typed(item) for item in value["items"])
    if kind == "mapping":
        return {of_typed(key): of_typed(item) for key, item in value["items"]}
    if kind not in ("array", "scalar"):
        raise ValueError(f"a value has the unknown kind {kind!r}")
    dtype, items = np.dtype(value["dtype"]), of_typed(value["items"])
    if dtype.kind in "mM":
        array = np.array(items, dtype=np.int64).astype(dtype)
    elif dtype.kind == "O":
        array = np.empty(len(items), dtype=object)
        array[:] = items
    else:
        array = np.array(items, dtype=dtype)
    return array if kind == "array" else array[()]


def json_text(value: object) -> str:
    """Return `value` as indented JSON text that ends in a newline."""
    return json.dumps(plain(value), indent=2, allow_nan=False) + "\n"
