"""Read a model from the file that its `save` method wrote."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from descents.errors import InvalidValueError, RunFolderError
from descents.storage.damage import brief, check_facts
from descents.storage.files import read_tensors

M = TypeVar("M")


def read_model(
    path: str | Path,
    name: str,
    restored: Callable[[dict[str, np.ndarray], Any], M],
    formats: Sequence[int] = (1, 2),
    kind: object = None,
) -> M:
    """Return the model in a file.

    Parameters
    ----------
    path : path
    name : str
        The name of its class, which the file has as its ``"model"``.
    restored : callable
        Returns the model from the arrays and the other values of the file.
    formats : sequence of int
        The versions of the format, ``"format"`` in the file, that `restored` reads.
    kind : TypedDict, optional
        What the plain values of the file are.

    Raises
    ------
    RunFolderError
        If the file cannot be read, or contains no such model.
    """
    path = Path(path)
    if os.path.isdir(path):
        raise RunFolderError(
            f"{path} is a folder; give the file that {name}.save wrote, or the folder to "
            "descents.load"
        )
    arrays, facts = read_tensors(path)
    try:
        if facts["model"] != name or facts["format"] not in formats:
            raise InvalidValueError(f"it does not contain a {name}")
        if kind is not None:
            check_facts(kind, facts)
        return restored(arrays, facts)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can raise any
        own = isinstance(error, InvalidValueError)
        raise RunFolderError(
            f"{path} contains no usable model ({error if own else brief(error)}); give a "
            f"file that {name}.save wrote"
        ) from error
