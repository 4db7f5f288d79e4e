"""The names of constraints, former ones included, and what they stand for."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar, cast

from descents.constraints.sets import FactorSet, OneHot, Simplex, Sparse
from descents.constraints.unit_norm import UnitNorm
from descents.errors import InvalidValueError, for_caller

T = TypeVar("T")
NAMES = ("simplex", "unit_norm", "sparse:K", "one_sparse", "one_hot")

FORMER_NAMES = {"unit_one_sparse": "one_hot"}
"""Former names of sets, and what they are called now."""


def renamed_sets(constraint: T) -> T:
    """Return a constraint, or a sequence of them, with former names replaced.

    Examples
    --------
    >>> renamed_sets((None, "nonnegative+unit_one_sparse"))
    (None, 'nonnegative+one_hot')
    """
    if isinstance(constraint, str):
        parts = [FORMER_NAMES.get(part, part) for part in constraint.split("+")]
        return cast("T", "+".join(parts))
    if isinstance(constraint, list | tuple):
        return cast("T", type(constraint)(map(renamed_sets, constraint)))
    return constraint


def named_set(name: str) -> FactorSet | None:
    """Return the set with a name, or None if there is no such set.

    Raises
    ------
    InvalidValueError
        If K of ``sparse:K`` is not a whole number of at least 1.

    Examples
    --------
    >>> named_set("sparse:2")
    Sparse(count=2)
    """
    if name in FORMER_NAMES:
        warnings.warn(
            f"the constraint {name!r} is now called {FORMER_NAMES[name]!r}, and the former "
            "name will be removed in version 0.4; give the new one",
            FutureWarning,
            stacklevel=2,
        )
        name = FORMER_NAMES[name]
    kind, colon, count = name.partition(":")
    if kind == "sparse" and colon:
        try:
            return Sparse(int(count))
        except ValueError:  # also InvalidValueError, which derives from it
            raise InvalidValueError(
                f"{for_caller('--constraint', 'constraint')} is {name!r}; give sparse:K "
                "with a whole number K from 1 to the rank"
            ) from None
    named: dict[str, Callable[[], FactorSet]] = {
        "simplex": Simplex,
        "unit_norm": UnitNorm,
        "one_sparse": lambda: Sparse(1),
        "one_hot": OneHot,
    }
    return named[name]() if name in named else None
