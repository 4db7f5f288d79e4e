"""The constant prediction: its scores, and whether the starts are better than it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from descents.optim.runs import Runs

if TYPE_CHECKING:
    from descents.networks.labeled import Labeled

JUDGES = ("accuracy", "balanced_accuracy", "roc_auc", "r2")
"""The scores by which starts can be compared with a constant prediction."""

NOTHING_LEARNED = (
    "the features may say nothing about the target. If they should, train for longer if "
    "the training scores are low too, else give more rows or "
)
"""The advice if starts are above the constant by chance; what limits a fit follows."""

LIMIT_THE_FIT = NOTHING_LEARNED + "a smaller max_epochs, weight_decay or early_stopping"
"""The same, with the parameters of estimators and `train_module`."""


def constant_score(  # noqa: PLR0911
    kind: str,
    y: np.ndarray,
    weights: np.ndarray,
    training: np.ndarray,
    rows: np.ndarray,
    *,
    classes: bool,
) -> float:
    """Return a score or loss of the best constant prediction of the training rows.

    Parameters
    ----------
    kind : str
        The name of a metric without its rows.
    y : ndarray
        Classes of shape (rows,), or numbers of shape (rows, outputs).
    weights : ndarray of shape (rows,)
    training, rows : int ndarray
        The rows that the constant is of, and those on which it is scored.
    classes : bool
        Whether `y` holds classes.

    Returns
    -------
    float
        NaN for metrics that do not judge predictions.

    Examples
    --------
    >>> y, weights = np.array([0, 0, 0, 1, 1, 0]), np.ones(6)
    >>> training, rows = np.arange(4), np.array([4, 5])
    >>> constant_score("accuracy", y, weights, training, rows, classes=True)
    0.5
    >>> round(constant_score("log_loss", y, weights, training, rows, classes=True), 3)
    0.837
    """
    own, inside = y[rows], weights[rows]
    if not classes:
        if kind != "loss":
            return float("nan")
        mean = np.average(y[training], axis=0, weights=weights[training])
        return float(np.average(np.square(own - mean).mean(1), weights=inside))
    totals = np.bincount(y[training], weights[training], minlength=int(y.max()) + 1)
    answer = int(totals.argmax())
    if kind == "accuracy":
        return float(np.average(own == answer, weights=inside))
    seen = np.unique(own[inside > 0])
    if kind == "balanced_accuracy":
        return float(answer in seen) / len(seen)
    if kind == "roc_auc":
        return 0.5
    if kind == "f1":
        # Of the class that is always predicted; it is 0 for every other class.
        share = float(np.average(own == answer, weights=inside))
        f1 = 2 * share / (1 + share)
        two = len(totals) == 2
        return f1 * (answer == 1) if two else f1 / len({answer, *seen.tolist()})
    if kind in ("loss", "log_loss"):
        with np.errstate(divide="ignore"):
            costs = -np.log(totals / totals.sum())[own]
        return float(np.average(costs[inside > 0], weights=inside[inside > 0]))
    return float("nan")


@dataclass(frozen=True)
class Unbeaten:
    """A record that starts do not beat a constant prediction.

    Attributes
    ----------
    rows : {"training", "validation"}
        The rows on which starts are judged.
    score : one of `JUDGES`
    best, median : float
        The best and the median score of the starts.
    constant : float
        The score of the constant prediction.
    answer : int or None
        The index of the most frequent class; None for numbers, which use the mean.
    starts, better : int
        The number of starts that have a score, and of those that are above the constant.
    tested : int or None
        The number of held-out rows; None if the rows are those of training.
    """

    rows: str
    score: str
    best: float
    median: float
    constant: float
    answer: int | None
    starts: int
    better: int
    tested: int | None = None

    @property
    def metric(self) -> str:
        """The metric by which starts are judged."""
        return f"{self.rows}_{self.score}"

    @property
    def balanced(self) -> bool:
        """Whether the score counts all classes alike."""
        return self.score in ("balanced_accuracy", "roc_auc")

    @property
    def margin(self) -> float:
        """How far the median start is above the constant prediction."""
        return self.median - self.constant

    def sentence(self, answer: str, remedy: str) -> str:
        """Return the warning, with the prediction and the advice in the caller's words."""
        name = self.metric.replace("_", " ")
        if not self.better:
            return (
                f"no start of {self.starts} is better than always predicting {answer}: "
                f"the best {name} is {_shown(self.best)}, that of the constant "
                f"prediction {self.constant:.4f}; {remedy}"
            )
        constant = f"that of always predicting {answer} is {self.constant:.4f}"
        if self.starts == 1:
            return (
                f"the start is not clearly better than a constant prediction: its {name} "
                f"is {_shown(self.best)}, and {constant}, a difference that chance alone "
                f"makes on {self.tested} held-out rows; {remedy}"
            )
        return (
            f"the starts are not clearly better than a constant prediction: their median "
            f"{name} is {_shown(self.median)}, and {constant}. {self.better} of "
            f"{self.starts} starts are above it, the best with {_shown(self.best)}, as "
            f"chance alone makes some on {self.tested} held-out rows; {remedy}"
        )

    def sentence_of_best(self, which: str, answer: str) -> str:
        """Return the warning of `best_unbeaten`; `which` names the start."""
        return (
            f"{which} predicts the held-out rows no better than a constant does: its "
            f"{self.metric.replace('_', ' ')} is {_shown(self.best)}, that of always "
            f"predicting {answer} {self.constant:.4f}"
        )


def _shown(value: float) -> str:
    return format(value, ".4f" if abs(value) < 1e4 else ".4g")


def unbeaten(
    problem: Labeled, runs: Runs, score: str, *, crossed: bool = True
) -> Unbeaten | None:
    """Return a record that the starts do not beat a constant prediction, None if they do.

    Starts are judged on the held-out rows if there are any. The best of many starts is
    above a constant by chance. Therefore either the median start has to be better than the
    constant by more than the standard error of the difference, or the best start by more
    than this error explains, as it grows with the number of starts. Without held-out rows,
    one start that is better is enough.

    Parameters
    ----------
    problem, runs
    score : one of `JUDGES`
    crossed : bool
        Whether every start was trained on every split; if so, starts are judged by the
        mean over the splits.
    """
    rows = "validation" if problem.batches.any_held_out else "training"
    metric = f"{rows}_{score}"
    if metric not in runs.metrics:
        return None
    count = len(problem.batches.splits)
    values = np.where(np.isfinite(runs.losses), runs.metrics[metric], np.nan)
    constants = problem.constant_scores(metric)[runs.starts % count]
    groups = np.stack([values, constants]).reshape(2, -1, count if crossed else 1)
    defined = np.isfinite(groups).all(0)
    if not defined.any():
        return None
    total = np.where(defined, groups, 0.0).sum(2)[:, defined.any(1)]
    values, constants = total / defined.sum(1)[defined.any(1)]
    tested, error = None, 0.0
    if rows == "validation":
        tested, error = _error(problem, score, float(constants.mean()), crossed)
    typical = _beats(values, constants, score, error).mean() > 0.5
    if typical or _beats(values, constants, score, error, len(values)).any():
        return None
    best = int(np.argmax(values - constants))
    middle = float(constants[best] + np.median(values - constants))
    return Unbeaten(
        rows,
        score,
        best=float(values[best]),
        median=middle,
        constant=float(constants[best]),
        answer=problem.majority() if problem.classifies else None,
        starts=len(values),
        better=int((values > constants + 1e-9).sum()),
        tested=tested,
    )


def best_unbeaten(
    problem: Labeled, runs: Runs, place: int, score: str
) -> Unbeaten | None:
    """Return a record that one start does not beat the constant on its held-out rows.

    Parameters
    ----------
    problem, runs
    place : int
        The position of the start in `runs`.
    score : one of `JUDGES`
    """
    metric = f"validation_{score}"
    if metric not in runs.metrics:
        return None
    split = int(runs.starts[place]) % len(problem.batches.splits)
    value = float(runs.metrics[metric][place])
    constant = float(problem.constant_scores(metric)[split])
    # NaN beats nothing, but there is nothing to compare either.
    if not value <= min(constant + 1e-9, 1 - 1e-9):
        return None
    answer = problem.majority(split) if problem.classifies else None
    return Unbeaten(
        "validation", score, value, value, constant, answer, starts=1, better=0
    )


def _beats(
    values: np.ndarray,
    constants: np.ndarray,
    score: str,
    error: float,
    starts: int = 1,
) -> np.ndarray:
    """Return which starts are better than the constant by more than chance explains.

    The best of n standard normal numbers is below sqrt(2 ln n) in the mean. R^2 of a
    model that learned nothing is at most the square of such a number, over n rows.
    """
    chance = 1 + np.sqrt(2 * np.log(starts))
    margin = error * (chance**2 if score == "r2" else chance)
    # No start can beat a constant that scores 1, as it does if all rows have one class.
    beaten: np.ndarray = values > np.minimum(constants + margin + 1e-9, 1 - 1e-9)
    return beaten


def _error(
    problem: Labeled, score: str, constant: float, crossed: bool
) -> tuple[int, float]:
    """Return the number of held-out rows, and the standard error of a difference on them.

    The difference is that of the scores of a start and of the constant. Of accuracy, it is
    that of the rows where the two differ, about as many as the constant is wrong on:
    sqrt((1 - constant) / n). Recalls have at most the standard error 1 / (2 sqrt(n_k)), and
    ranks the one of Mann and Whitney's statistic. Predictions that have the share m of the
    variance and learned nothing have the R^2 -m on average, with the standard deviation
    2 sqrt(m / n). At z times that above the mean, R^2 is 2 z sqrt(m / n) - m, at most
    z^2 / n: for R^2, 1 / n is returned.
    """
    every = np.arange(len(problem.y))
    held_out = [np.setdiff1d(every, rows) for rows in problem.batches.splits]
    rows = np.unique(np.concatenate(held_out)) if crossed else min(held_out, key=len)
    weights = (
        np.ones(len(every)) if problem.row_weights is None else problem.row_weights
    )
    rows = rows[weights[rows] > 0]
    inside = weights[rows]
    # Rows of unequal weight count as fewer rows of equal weight.
    size = float(inside.sum() ** 2 / np.square(inside).sum()) if len(rows) else 1.0
    if score == "r2":
        return len(rows), 1 / size
    if score == "accuracy":
        return len(rows), float(np.sqrt(max(0.0, 1 - constant) / size))
    counts = np.unique(problem.y[rows], return_counts=True)[1]
    if score == "balanced_accuracy":
        return len(rows), float(np.sqrt((1 / (4 * counts)).sum()) / len(counts))
    others = len(rows) - counts
    pairs = (len(rows) + 1) / (12 * counts * np.maximum(others, 1))
    return len(rows), float(np.sqrt(pairs.mean()))
