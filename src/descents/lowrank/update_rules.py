"""TODO."""

from __future__ import annotations

from descents.constraints.sets import OneHot
from descents.factorization import alternating, guarded
from descents.factorization.alternating import Alternating
from descents.factorization.factorization import Factorization
from descents.factorization.guarded import Guarded
from descents.optim.first_order import Adam, GradientDescent
from descents.optim.line_search import LBFGS, LineDescent
from descents.optim.rules import UpdateRule

STEPS = ("auto", "alternating", "lbfgs", "gd", "adam")

ADAM_RATE = 0.05
"""The rate of Adam where none is given: it is only taken where nothing else applies."""


def automatic_steps(problem: Factorization) -> str:
    """Return the name of the steps that fit a problem.

    Alternating where every loss is squared, where one is robust or there is a
    constraint and all have a quadratic above them, and for one divergence; L-BFGS for
    other smooth losses; under constraints gradient descent that finds its own rate, or
    Adam for a function of the user's, of which nothing is known, and which has no
    columns of norm one.

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
    )  # which asks for one rate
    return "adam" if not coupled and (own or not found.smooth) else "gd"


def step_named(
    name: str, problem: Factorization, rate: float | None = None
) -> UpdateRule:
    """Return the update rule of a name; "auto" is the one that fits.

    Examples
    --------
    >>> step_named("gd", Factorization([[1.0]], 1))
    LineDescent()
    """
    name = automatic_steps(problem) if name == "auto" else name
    if name == "alternating":
        checked = guarded.applies(problem) and (
            not alternating.applies(problem) or _clusters_by_losses(problem)
        )
        return Guarded() if checked else Alternating()
    if name == "lbfgs":
        return LBFGS()
    if name == "gd":
        return LineDescent() if rate is None else GradientDescent(rate)
    return Adam(ADAM_RATE if rate is None else rate)


def _clusters_by_losses(problem: Factorization) -> bool:
    """Return whether rows choose among clusters under losses that are not quadratic.

    A quadratic above such a loss is steepest where a row is, and would hold it there.
    """
    sides = (problem.row_regularizer, problem.column_regularizer)
    clusters = any(isinstance(side.inside, OneHot) for side in sides)
    return clusters and not all(block.loss.quadratic for block in problem.cells.blocks)


def name_of(step: UpdateRule) -> str:
    """Return the name of an update rule, as `step_named` takes it where it can.

    Examples
    --------
    >>> name_of(LBFGS())
    'lbfgs'
    """
    names = {"LineDescent": "gd", "GradientDescent": "gd", "Guarded": "alternating"}
    kind = type(step).__name__
    return names.get(kind, kind.lower())
