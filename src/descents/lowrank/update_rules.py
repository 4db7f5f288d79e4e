"""The update rules for low-rank models, and which one suits a problem."""

from __future__ import annotations

import numpy as np

from descents.cells.units import FLAT
from descents.constraints.sets import OneHot
from descents.factorization import alternating, guarded
from descents.factorization.alternating import Alternating
from descents.factorization.factorization import Factorization
from descents.factorization.guarded import Guarded
from descents.optim.first_order import Adam, GradientDescent
from descents.optim.lbfgs import LBFGS, LineDescent
from descents.optim.rules import UpdateRule

STEPS = ("auto", "alternating", "lbfgs", "gd", "adam")

ADAM_RATE = 0.05
"""The default learning rate of Adam, which is used if no other rule applies."""


FAR_FROM_ZERO = 100.0
"""The mean of squared means of columns over their variances from which divergences are
minimized by guarded steps. Multiplicative steps change the size of an entry of a factor:
where the mean of a column is ten times its spread, they hardly move what it varies by."""


def automatic_steps(problem: Factorization) -> str:
    """Return the name of the update rule that suits a problem.

    It is alternating if every loss is squared, if all losses have a quadratic above them
    and one is robust or there is a constraint, and for one divergence. It is L-BFGS for
    other smooth losses without constraint. Else it is gradient descent with its own step
    sizes, or Adam for custom losses and losses with corners, unless columns have norm 1.

    Examples
    --------
    >>> automatic_steps(Factorization([[1.0, 1.0], [0.0, 1.0]], 1, loss="logistic"))
    'lbfgs'
    """
    found = problem.cells
    quadratic = all(block.loss.quadratic for block in found.blocks)
    robust = any(block.loss.robust for block in found.blocks)
    wanted = quadratic or robust or problem.constrained
    applies = alternating.applies(problem) or guarded.applies(problem)
    if applies and wanted:
        return "alternating"
    if found.smooth and not problem.constrained:
        return "lbfgs"
    own = any(block.loss.name == "own" for block in found.blocks)
    coupled = any(
        side.inside is not None and side.inside.couples
        for side in (problem.row_regularizer, problem.column_regularizer)
    )  # which needs one rate
    return "adam" if not coupled and (own or not found.smooth) else "gd"


def step_named(
    name: str,
    problem: Factorization,
    rate: float | None = None,
    *,
    fitted: Factorization | None = None,
) -> UpdateRule:
    """Return the update rule with a name; "auto" is the one that suits the problem.

    Parameters
    ----------
    name : str
    problem : Factorization
    rate : float, optional
        The learning rate.
    fitted : Factorization, optional
        The problem of the fit, where `problem` is that of a few new rows.

    Examples
    --------
    >>> step_named("gd", Factorization([[1.0]], 1))
    LineDescent()
    """
    name = automatic_steps(problem) if name == "auto" else name
    if name == "alternating":
        checked = guarded.applies(problem) and (
            not alternating.applies(problem)
            or _clusters_by_losses(problem)
            or _is_far(problem if fitted is None else fitted)
        )
        return Guarded() if checked else Alternating()
    if name == "lbfgs":
        return LBFGS()
    if name == "gd":
        return LineDescent() if rate is None else GradientDescent(rate)
    return Adam(ADAM_RATE if rate is None else rate)


def _clusters_by_losses(problem: Factorization) -> bool:
    """Return whether rows are assigned to clusters under losses that are not quadratic.

    A quadratic above such a loss is steepest at the current cluster, so that a row would
    never change its cluster.
    """
    sides = (problem.row_regularizer, problem.column_regularizer)
    clusters = any(isinstance(side.inside, OneHot) for side in sides)
    return clusters and not all(block.loss.quadratic for block in problem.cells.blocks)


def _is_far(problem: Factorization) -> bool:
    """Return whether divergences have columns that vary little about a mean far from 0.

    Examples
    --------
    >>> table, kl = np.array([[9.0, 1.0], [10.0, 3.0], [11.0, 2.0]]), "kl"
    >>> [_is_far(Factorization(table + add, 1, loss=kl, constraint="nonnegative"))
    ...  for add in (0.0, 20.0)]
    [False, True]
    """
    found = problem.cells
    if not all(block.loss.divergence for block in found.blocks):
        return False
    middle = np.abs(found.offsets)
    spread = found.root_mean_squares(found.offsets)
    varies = spread > FLAT * middle
    ratios = np.square(middle[varies] / spread[varies])
    return bool(len(ratios)) and float(ratios.mean()) >= FAR_FROM_ZERO


def name_of(step: UpdateRule) -> str:
    """Return the name of an update rule, in the form that `step_named` takes if it has one.

    Examples
    --------
    >>> name_of(LBFGS())
    'lbfgs'
    """
    names = {"LineDescent": "gd", "GradientDescent": "gd", "Guarded": "alternating"}
    kind = type(step).__name__
    return names.get(kind, kind.lower())
