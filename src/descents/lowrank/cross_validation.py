"""Choose a rank and a penalty by the loss of held-out cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from descents.cells.base import Cells
from descents.cells.dense import Dense
from descents.cells.sparse import Sparse
from descents.constraints.constraints import most_components, regularizers
from descents.errors import InvalidValueError, for_caller
from descents.factorization.candidates import Candidates, OfCandidates
from descents.factorization.factorization import Factorization
from descents.lowrank.folds import dealt, with_holes
from descents.lowrank.selection import Penalty, Search, Selection
from descents.optim.executors import Workers
from descents.optim.loop import descend
from descents.optim.rules import UpdateRule
from descents.optim.stopping import Stop
from descents.rng import stream
from descents.text import counted

if TYPE_CHECKING:
    from descents.lowrank.problems import OfFactorization

RANKS = 6
"""How many ranks "auto" tries at once, and again while the last of them is the best."""
PENALTIES, SPAN = 10, 1e-3
"""How many penalties "auto" tries, and the smallest over the one at which the factors
vanish."""
LEAST_FOLD = 2
"""The smallest number of cells in a fold."""
SETTLED = 3e-4
"""A candidate stops once its loss decreases by less than this share over ten steps: much
less than the standard error of the held-out loss."""
STEPS = 100
"""The maximum number of steps of a candidate."""
ArgumentsOf = Callable[[Penalty], "OfFactorization"]
"""Returns the arguments of `Factorization` for a penalty."""


def by_cells(
    found: Cells,
    search: Search,
    settings: ArgumentsOf,
    step: Callable[[Factorization], UpdateRule],
    *,
    folds: int = 5,
    seed: int = 0,
    stop: Stop | None = None,
    workers: Workers = 1,
    l2_of: Callable[[int], float | None] | None = None,
) -> Selection:
    r"""Choose by the loss of held-out cells, never of whole rows [1]_.

    The observed cells are split into folds (`dealt`). For every rank, penalty and
    fold, a factorization is fitted without the fold, all of them as the starts of one
    descent (`Candidates`), each from where its start 0 alone would begin; sparse tables
    too. The loss of a fold is

    .. math:: \sum_{held} w_{ij} \ell_j(z_{ij}, x_{ij}) / c_j \Big/ \sum_{held} w_{ij}

    with c the mean loss of the best constant of column j over all its cells, so that
    columns count alike; of columns with one loss that are not scaled, c is the mean
    over all, as it is in the fit. 1 is no better than constants. Then the
    one-standard-error rule chooses (`Selection.chosen`).

    Ranks of "auto" are 1 to 6, and six more as long as the last is the best: no larger
    than the table, and with no more parameters than cells. Penalties of "auto" are ten from the
    least that leaves nothing of the factors (`Factorization.vanishing_l2`) down to a
    thousandth, and five less where the last is the best. Scales, units and the widths
    of Huber's loss are those of the whole table.

    Parameters
    ----------
    found : Cells
        All observed cells.
    search : Search
    settings : callable
        Returns the arguments of `Factorization` for a penalty.
    step : callable
        Returns the update rule for a factorization.
    folds : int
        At least 2.
    seed : int
    stop : Stop, optional
        When a candidate stops.
    workers : int or Executor
        The number of parallel processes.
    l2_of : callable, optional
        Returns the l2 of a rank that follows from the noise, if no penalty is given.

    Raises
    ------
    InvalidValueError
        If a rank is too large for the table, too few cells can be held out, or no
        candidate has a finite loss.

    References
    ----------
    .. [1] Wold (1978), "Cross-validatory estimation of the number of components in
       factor and principal components models", Technometrics 20; Owen and Perry
       (2009), "Bi-cross-validation of the SVD and the nonnegative matrix
       factorization", Annals of Applied Statistics 3.

    Examples
    --------
    >>> from descents import Alternating
    >>> from descents.tables.datasets import planted_table
    >>> from descents.cells.observed import cells
    >>> known = cells(planted_table(40, 20, 2, noise=0.1)[0])
    >>> def settings(penalty):
    ...     return {"penalty": penalty, "initialization": "spectral"}
    >>> by_cells(known, Search((1, 2, 3)), settings, lambda problem: Alternating()).rank
    2
    """
    whole = with_holes(found)
    given = settings(search.penalty(1.0))
    sides = regularizers(given.get("constraint"), given.get("penalty"))[:2]
    most = most_components(whole.shape, *sides)
    _check_ranks(search, whole, most)
    fold = dealt(whole, folds, stream(seed, "split", 0))
    held = int((fold >= 0).sum())
    if held < LEAST_FOLD * folds:
        raise InvalidValueError(_too_few(held, folds))
    trials = _Trials(
        whole,
        fold,
        folds,
        search,
        settings,
        step,
        seed,
        stop or Stop(STEPS, gradient_tol=1e-6, loss_tol=SETTLED),
        workers,
        l2_of,
        # What lies in a set may not stay at zero in the components beyond its own rank.
        apart=any(side.inside is not None for side in sides),
        scorer=_Scorer(whole, fold),
    )
    ranks, widest = search.ranks, most
    if ranks is None:
        room = int(held * (folds - 1) / folds) // sum(whole.shape)
        widest = max(1, min(most, room))
        ranks = tuple(range(1, min(RANKS, widest) + 1))
    values = search.penalties or ()
    if search.name is not None and search.penalties is None:
        values = _penalties_of(Factorization(whole, ranks[0], **given))
    tried = (search.name, ranks, values, trials.losses(ranks, values), held)
    chosen = Selection("cells", 0, None, *tried, most=most)
    chosen = _extended(chosen, search, trials, widest)
    if not np.isfinite(chosen.mean).any():
        raise InvalidValueError(
            "no rank and penalty of those tried has a finite loss on held-out cells; "
            f"give another {for_caller('--solver', 'solver')}, or divide numbers that are very large"
        )
    place = chosen.chosen
    penalty = chosen.penalties[place[1]] if chosen.penalties else None
    return replace(chosen, rank=chosen.ranks[place[0]], penalty=penalty)


def _too_few(held: int, folds: int) -> str:
    """Return the error message if too few cells can be held out."""
    numbers = for_caller(
        "--rank and --penalty as numbers", "the rank and the penalty as numbers"
    )
    return (
        f"only {counted(held, 'cell')} can be held out, those whose row, column and level "
        f"have another observed cell, but {counted(folds, 'fold')} "
        f"({for_caller('--cv', 'cv')}) need {LEAST_FOLD * folds}; give fewer folds, or "
        f"{numbers}"
    )


def _check_ranks(search: Search, found: Cells, most: int) -> None:
    if search.ranks is not None and search.ranks[-1] > most:
        rows, columns = found.shape
        raise InvalidValueError(
            for_caller(
                f"--rank tries {search.ranks[-1]}, but the table has "
                f"{counted(rows, 'row')} and {counted(columns, 'column')}; give ranks "
                f"from 1 to {most}",
                f"n_components holds {search.ranks[-1]}, but the table has {rows} rows "
                f"and {counted(columns, 'column')} (n_samples and n_features); give "
                f"ranks from 1 to {most}",
            )
        )


def _extended(
    chosen: Selection, search: Search, trials: _Trials, widest: int
) -> Selection:
    """Try larger ranks and smaller penalties while the last of them is the best."""
    while search.ranks is None and chosen.ranks[-1] < widest:
        last = chosen.best[0] == len(chosen.ranks) - 1
        if not last or not np.isfinite(chosen.losses).any():
            break
        first = chosen.ranks[-1] + 1
        more = tuple(range(first, min(first + RANKS - 1, widest) + 1))
        losses = np.concatenate([chosen.losses, trials.losses(more, chosen.penalties)])
        chosen = replace(chosen, ranks=(*chosen.ranks, *more), losses=losses)
    if search.penalties is None and chosen.best[1] == len(chosen.penalties) - 1 > 0:
        lower = chosen.penalties[-1] * np.geomspace(1, SPAN, PENALTIES // 2 + 1)[1:]
        fewer = tuple(lower.tolist())
        losses = np.concatenate([chosen.losses, trials.losses(chosen.ranks, fewer)], 1)
        chosen = replace(chosen, penalties=chosen.penalties + fewer, losses=losses)
    return chosen


@dataclass(frozen=True, eq=False)
class _Trials:
    """Fits without a fold, for ranks and penalties; the attributes are of `by_cells`."""

    whole: Dense | Sparse
    fold: np.ndarray
    folds: int
    search: Search
    settings: ArgumentsOf
    step: Callable[[Factorization], UpdateRule]
    seed: int
    stop: Stop
    workers: Workers
    l2_of: Callable[[int], float | None] | None
    apart: bool
    scorer: _Scorer

    def losses(self, ranks: Sequence[int], values: Sequence[float]) -> np.ndarray:
        """Return the loss of each fold, shape (ranks, penalties or 1, folds)."""
        if self.apart and len(ranks) > 1:
            return np.concatenate([self.losses((rank,), values) for rank in ranks])
        strengths, given = self._strengths(ranks, values)
        problem = Candidates(self.whole, self.fold, ranks, strengths, **given)
        runs = descend(
            problem,
            len(problem.numbered),
            self.seed,
            steps=OfCandidates(self.step(problem.template)),
            stop=self.stop,
            width=min(problem.width, len(problem.numbered)),
            workers=self.workers,
        )
        each = [
            self.scorer.loss(
                problem.cell_losses(runs.parameters, k), problem.numbered[k][2]
            )
            for k in range(len(runs))
        ]
        return np.reshape(each, (len(ranks), max(1, len(values)), self.folds))

    def _strengths(
        self, ranks: Sequence[int], values: Sequence[float]
    ) -> tuple[list[float] | dict[int, list[float]], OfFactorization]:
        """Return the penalties relative to the largest, and the arguments with that."""
        largest = max(values, default=None)
        given = self.settings(self.search.penalty(largest))
        if self.search.name is None and self.l2_of is not None:
            implied = {rank: self.l2_of(rank) or 0.0 for rank in ranks}
            top = max(implied.values())
            if top > 0:
                rest = self.search.rest
                named = dict(rest) if isinstance(rest, Mapping) else {}
                given = {**given, "penalty": {**named, "l2": top}}
                return {rank: [l2 / top] for rank, l2 in implied.items()}, given
        return [value / largest for value in values] if largest else [1.0], given


def _penalties_of(problem: Factorization) -> tuple[float, ...]:
    """Return the l2 to choose from, falling from the one at which the factors vanish."""
    for side in (problem.row_regularizer, problem.column_regularizer):
        if side.inside is not None:
            raise InvalidValueError(
                "penalty 'l2' is 'auto', for which there is no scale where a factor has "
                "to lie in a set; give a list of numbers to choose from"
            )
    top = problem.vanishing_l2() or 1.0
    return tuple((top * np.geomspace(1, SPAN, PENALTIES)).tolist())


class _Scorer:
    """The mean loss of held-out cells, over that of the best constants."""

    def __init__(self, found: Dense | Sparse, fold: np.ndarray) -> None:
        self.fold = fold
        parts = (np.ones((found.shape[0], 1)), found.offsets[:, None], found.cuts)
        constant = found.each(*(torch.as_tensor(part) for part in parts))
        dense = isinstance(found, Dense)
        if dense:
            column = np.broadcast_to(np.arange(found.shape[1]), found.shape)
        else:
            column = found.table.indices
        weight = found.weights if dense else np.ones(len(fold))
        if not dense and found.weights is not None:
            weight = found.weights
        if found.scales is not None:
            weight = weight / found.scales
        known = weight > 0
        alike = found.scales is None and found.one_loss is not None
        group = np.zeros_like(column) if alike else column
        wide = found.shape[1]
        total = np.bincount(group[known], (weight * constant)[known], wide)
        count = np.bincount(group[known], weight[known], wide)
        mean = total / np.where(count > 0, count, 1)
        # What is left of a constant column is rounding of its own size.
        size = np.zeros(fold.shape)
        values = found.table if dense else found.table.data
        size[known] = np.square(values[known].astype(np.float64))
        square = np.bincount(group[known], (weight * size)[known], wide)
        usable = mean > 1e-20 * square / np.where(count > 0, count, 1)
        if not (usable & (mean > 0)).any():
            raise InvalidValueError(
                "every column is constant, so that no rank predicts more than another; "
                "give the rank and the penalty as numbers"
            )
        scale = np.where(usable & (mean > 0), mean, np.inf)
        self.over = (weight / scale[group]).astype(np.float64)
        self.weight = np.where(np.isfinite(scale[group]), weight, 0.0)

    def loss(self, each: np.ndarray, fold: int) -> float:
        """Return the loss of a fold, of the loss of each cell."""
        held = (self.fold == fold) & (self.weight > 0)
        total = self.weight[held].sum()
        if total == 0:
            return float("nan")
        return float((each[held] * self.over[held]).sum() / total)
