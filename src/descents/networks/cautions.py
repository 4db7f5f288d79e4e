"""Warnings after training: failed starts, undefined metrics, and untested classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from descents.networks.features import mean_and_deviation
from descents.networks.supervised import Supervised
from descents.optim.runs import Runs
from descents.statistics.metrics import metric_kind, metric_rows

MOST_FAILED = 0.1
"""A warning is shown if more than this share of the starts failed."""
FARTHEST = 10.0
"""Targets are learned badly if their root mean square is above this or below 1 / this."""

FAINTEST = 1e-150
"""The squares of smaller numbers vanish in float64."""


def hopeless(
    optimizer: str,
    learning_rate: float | Sequence[float],
    problem: Supervised | None = None,
) -> str:
    """Return the message for the case that every start failed."""
    scaled = unscaled_target(problem)
    if scaled is not None:
        return f"the loss of every start became infinite or NaN: {scaled}"
    if optimizer == "lbfgs":
        return "the loss of every start became infinite or NaN; scale the features"
    highest = float(np.max(learning_rate))
    return (
        f"the loss of every start became infinite or NaN with learning_rate {highest:g}; "
        "give a smaller one, or scale the features"
    )


def unscaled_target(problem: Supervised | None) -> str | None:
    """Return that a target of numbers is to be scaled, None if its size is near 1."""
    if problem is None or problem.classifies or not problem.y.any():
        return None
    y = np.asarray(problem.y, np.float64)
    each = [mean_and_deviation(column) for column in y.T if column.any()]
    size = max(float(np.hypot(*one)) for one in each)
    if 1 / FARTHEST <= size <= FARTHEST:
        return None
    mean, spread = (float(np.mean(part)) for part in zip(*each, strict=True))
    return (
        f"y has mean {mean:.3g} and standard deviation {spread:.3g}, so scale it to 0 "
        "and 1 first, as sklearn.compose.TransformedTargetRegressor does"
    )


def many_failed(
    failed: np.ndarray, which: str = "", problem: Supervised | None = None
) -> str | None:
    """Return a warning if more than a tenth of the starts failed, else None.

    Parameters
    ----------
    failed : bool ndarray of shape (S,)
    which : str
        A phrase that says which starts, with a space at its end.
    problem : Supervised, optional
        Where the target of numbers may be the reason.

    Examples
    --------
    >>> many_failed(np.array([True] * 4 + [False] * 6))
    '4 of 10 starts failed, because their loss became infinite or NaN; means and intervals are of the other 6. Give a smaller learning rate, or scale the features'
    >>> many_failed(np.array([True] + [False] * 9)) is None
    True
    """
    total, lost = len(failed), int(failed.sum())
    if lost <= MOST_FAILED * total:
        return None
    remedy = "Give a smaller learning rate, or scale the features"
    scaled = unscaled_target(problem)
    if scaled is not None:
        remedy = f"The target {scaled}"
    if lost == total:
        return f"every start {which}failed: its loss became infinite or NaN. {remedy}"
    return (
        f"{lost} of {total} starts {which}failed, because their loss became infinite or "
        f"NaN; means and intervals are of the other {total - lost}. {remedy}"
    )


def undefined_sentences(
    metric: str, missing: int, splits: int, problem: Supervised | None = None
) -> list[str]:
    """Return the warning that a metric is undefined on some splits of the rows.

    Parameters
    ----------
    metric : str
    missing, splits : int
        The number of splits on which it is undefined, and of all splits.
    problem : Supervised, optional
        Where the target of numbers may be the reason.

    Examples
    --------
    >>> undefined_sentences("validation_r2", 2, 5)
    ['validation_r2 is not defined on 2 of 5 splits of the rows, because the target does not vary in the held-out rows; its values are means over the other 3']
    """
    if not missing:
        return []
    rows = "held-out" if metric_rows(metric) == "validation" else "training"
    why = {
        "r2": f"the target does not vary in the {rows} rows",
        "roc_auc": f"a class does not occur in the {rows} rows",
    }.get(metric_kind(metric), f"all {rows} rows have weight 0")
    if problem is not None and metric_kind(metric) == "r2":
        spread = float(np.ptp(problem.y, axis=0).max())
        if 0 < spread < FAINTEST:
            why = (
                f"the squares of a target that varies by {spread:.3g} vanish; scale it"
            )
    if missing == splits:
        return [f"{metric} is not defined for any start, because {why}"]
    return [
        f"{metric} is not defined on {missing} of {splits} splits of the rows, because {why}; "
        f"its values are means over the other {splits - missing}"
    ]


def advice(
    problem: Supervised,
    *,
    weighted: bool = False,
    weight_classes: str = "weight the classes",
) -> str:
    """Return what to do if no start beats a constant prediction.

    If the size of the targets is far from 1, scaling them comes first.

    Parameters
    ----------
    problem : Supervised
    weighted : bool
        Whether classes are weighted already.
    weight_classes : str
        How to weight them.
    """
    usual = "train for longer, try another learning rate, or scale the features"
    if problem.classifies:
        rare = (
            "; for rare classes compare balanced_accuracy or roc_auc, and "
            f"{weight_classes}"
        )
        return usual if weighted else usual + rare
    scaled = unscaled_target(problem)
    return usual if scaled is None else f"{scaled}; or {usual}"


def lone_classes(problem: Supervised) -> list[int]:
    """Return the classes whose rows are all on one side of every split.

    If all rows of a class are training rows, predictions of this class are not tested. If
    it has no training row with a positive weight, it is never predicted.
    """
    if not (problem.classifies and problem.batches.any_held_out):
        return []
    positive = np.ones(len(problem.y), dtype=bool)
    if problem.row_weights is not None:
        positive = problem.row_weights > 0
    classes = np.unique(problem.y)
    crossed = np.zeros(len(classes), dtype=bool)
    for rows in problem.batches.splits:
        training = np.zeros(len(problem.y), dtype=bool)
        training[rows] = True
        crossed |= np.isin(classes, problem.y[training & positive]) & np.isin(
            classes, problem.y[~training & positive]
        )
    return [int(label) for label in classes[~crossed]]


def untested(
    problem: Supervised, names: Sequence[str], known: Sequence[str] = ()
) -> list[str]:
    """Return warnings about classes without weight, and those that are not tested.

    Parameters
    ----------
    problem : Supervised
    names : sequence of str
        The names of the classes.
    known : sequence of str
        Classes that were warned of already.
    """
    if not problem.classifies:
        return []
    sentences, empty = [], _weightless(problem)
    if empty:
        many = len(empty) > 1
        sentences = [
            f"{_named([names[code] for code in empty])} {'have' if many else 'has'} weight "
            f"0 in all rows: nothing is learned about {'them' if many else 'it'}; give a "
            "row a weight above 0, or leave these rows out"
        ]
    lone = [names[code] for code in lone_classes(problem) if code not in empty]
    if set(lone) - set(known):
        sentences.append(lone_sentence(lone))
    return sentences


def _weightless(problem: Supervised) -> list[int]:
    """Return the classes all of whose rows have weight 0, if rows are held out.

    Without held-out rows, such weights are a way to leave a class out.
    """
    if problem.row_weights is None or not problem.batches.any_held_out:
        return []
    seen = problem.y[problem.row_weights > 0]
    return [int(label) for label in np.setdiff1d(problem.y, seen)]


def _named(names: Sequence[str]) -> str:
    return f"{len(names)} class{'es' if len(names) > 1 else ''} ({', '.join(names)})"


def constant_target(problem: Supervised, runs: Runs) -> list[str]:
    """Return the warning that a target of numbers does not vary.

    R^2, by which starts are compared with a constant prediction, is then not defined.
    """
    finite = runs.losses[np.isfinite(runs.losses)]
    if problem.classifies or not len(finite):
        return []
    y = problem.y
    if problem.row_weights is not None:
        y = y[problem.row_weights > 0]
    if np.ptp(y, axis=0).any() or finite.min() == 0:
        return []
    value = ", ".join(f"{x:.6g}" for x in y[0])
    return [
        f"y is {value} in all rows, so there is nothing to learn: no start of "
        f"{len(runs.losses)} is better than always predicting it, with a loss of 0; the "
        f"smallest loss of a start is {finite.min():.4g}"
    ]


def lone_sentence(names: Sequence[str]) -> str:
    """Return the warning about the classes that `lone_classes` returns."""
    many = len(names) > 1
    them = "them" if many else "it"
    return (
        f"{_named(names)} {'have' if many else 'has'} rows only for training or only for validation, as "
        f"classes of one row do: what is learned about {them} is not tested; give more "
        f"rows of {them}, or leave {them} out"
    )
