"""Checks of a factorization before a descent: constraints, divergences, initial factors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from descents.cells.dense import Dense
from descents.cells.sparse import Sparse
from descents.cells.streamed import Streamed
from descents.constraints.constraints import (
    Regularizer,
)
from descents.constraints.sets import OneHot
from descents.errors import Complaints, InvalidValueError, name_of
from descents.factorization.initialization import (
    SPECTRAL,
)

if TYPE_CHECKING:
    from descents.factorization.factorization import Factorization

ROUNDED = 1e-5
"""How far initial factors of the user may be from their constraint set, for rounding."""


def check_sets(problem: Factorization, initialization: Any) -> None:
    """Raise an error if constraints do not suit the table or the initialization."""
    complaints = Complaints()
    for name, asked, length in (
        ("U, the factor of the rows,", problem.row_regularizer, problem.cells.shape[0]),
        (
            "V, the factor of the columns,",
            problem.column_regularizer,
            problem.cells.coordinates,
        ),
    ):
        if asked.inside is not None:
            shape = (length, problem.rank)
            complaints.attempt(asked.inside.check, name, shape)
            complaints.require(
                _solvable(problem) or not isinstance(asked.inside, OneHot),
                f"the constraint of {name} is '{asked.inside.name}', whose members "
                "have no neighbors for a gradient to lead to; use losses that have a "
                "name, and give a sparse table with kl loss of all cells as a dense one",
            )
    apart = problem.row_regularizer.entrywise and problem.column_regularizer.entrywise
    if isinstance(problem.cells, Streamed):
        complaints.require(
            initialization not in ("centers", "centers_and_normal"),
            f"{name_of('initialization')} is {initialization!r}, which compares all rows "
            f"with each other, but {problem.cells.limits}",
        )
        complaints.require(
            apart,
            "a constraint set of a factor or a smoothness penalty was given, but "
            f"{problem.cells.limits}",
        )
    by_values = isinstance(initialization, str) and initialization in SPECTRAL
    complaints.require(
        problem.rank <= min(problem.cells.whole_shape) or not by_values,
        f"{name_of('initialization')} is {initialization!r}, which has at most "
        f"{min(problem.cells.whole_shape)} components, but the rank is {problem.rank}; give "
        "'centers', 'normal' or 'uniform'",
    )
    complaints.raise_any()


def _solvable(problem: Factorization) -> bool:
    """Return whether each row can go to the minimum of a quadratic model of the loss."""
    blocks = problem.cells.blocks
    known = all(block.loss.has_quadratic for block in blocks)
    return problem.cells.majorized or (
        known and isinstance(problem.cells, Dense | Sparse)
    )


def check_divergences(problem: Factorization) -> None:
    """Raise an error if the constraints allow predictions with an infinite divergence."""
    sides = (problem.row_regularizer, problem.column_regularizer)
    within = all(side.positive for side in sides) and problem.offsets == "none"
    for block in problem.cells.blocks:
        if not block.loss.divergence:
            continue
        label, instead = block.loss.label, ""
        if block.loss.name == "kl":
            instead = ", or loss 'poisson'"
        if not within:
            raise InvalidValueError(
                f"{label} loss needs predictions of at least 0; give "
                f"constraint='nonnegative' and no offsets{instead}"
            )
        finite = getattr(block.loss, "beta", 1.0) > 1
        names = [side.inside.name for side in sides if side.inside is not None]
        if not finite and all(
            side.inside is not None and side.inside.sparse for side in sides
        ):
            raise InvalidValueError(
                f"{label} loss is infinite where a value is predicted to be 0, which "
                f"'{names[0]}' rows and '{names[1]}' columns do; set the constraint of "
                "one factor to 'nonnegative', or the loss to 'squared' or 'poisson'"
            )


def checked_factors(
    problem: Factorization, factors: tuple[Any, Any]
) -> dict[str, np.ndarray]:
    """Return the initial factors of the user as arrays, or raise an error.

    Returns
    -------
    dict of ndarray
        "U" of shape (starts, rows, rank) and "V" of shape (starts, coordinates, rank).
    """
    rows, columns = problem.cells.shape[0], problem.cells.coordinates
    given = {name: np.asarray(f) for name, f in zip("UV", factors, strict=True)}
    count = len(given["U"])
    for name, length in (("U", rows), ("V", columns)):
        expected = (count, length, problem.rank)
        if given[name].shape != expected:
            raise InvalidValueError(
                f"the initial {name} has shape {given[name].shape}; give "
                f"(starts, {length}, {problem.rank}), here {expected}"
            )
        asked = problem.row_regularizer if name == "U" else problem.column_regularizer
        if not np.isfinite(given[name]).all() or (
            asked.nonnegative and (given[name] < 0).any()
        ):
            kind = "nonnegative " if asked.nonnegative else ""
            raise InvalidValueError(
                f"the initial {name} contains entries that are not finite {kind}numbers; "
                f"give finite {kind}numbers"
            )
        if asked.inside is not None:
            away = asked.distance(torch.as_tensor(given[name]).double())
            if away > ROUNDED:
                raise InvalidValueError(
                    f"the initial {name} is up to {away:.3g} away from the nearest "
                    f"factor that meets the constraint {'+'.join(_names(asked))!r}; "
                    f"give an initial {name} that meets it"
                )
    return given


def _names(asked: Regularizer) -> list[str]:
    return [one if isinstance(one, str) else one.name for one in asked.constraint]
