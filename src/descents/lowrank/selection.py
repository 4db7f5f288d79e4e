"""Which rank, and which penalty: by cells that are held out, or by singular values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from descents.cells.base import Cells
from descents.cells.complete import Complete
from descents.cells.dense import Dense
from descents.cells.sparse import Sparse
from descents.constraints.constraints import most_components, regularizers
from descents.errors import Complaints, InvalidValueError
from descents.factorization.candidates import Candidates, OfCandidates
from descents.factorization.factorization import Factorization
from descents.lowrank.folds import dealt, with_holes
from descents.optim.loop import descend
from descents.optim.rules import UpdateRule
from descents.optim.stopping import Stop
from descents.rng import stream
from descents.storage.folders import plain
from descents.text import counted
from descents.validation import real_number, whole_number

AUTO, THRESHOLD = "auto", "gavish-donoho"
RANKS = 6
"""How many ranks "auto" tries at once, and again while the last of them is the best."""
PENALTIES, SPAN = 10, 1e-3
"""How many penalties "auto" tries, and the least over the one that leaves nothing."""
LEAST_FOLD = 2
"""How many cells a fold holds out at least."""
SETTLED = 3e-4
"""A candidate rests once its loss falls by less than this share over ten steps: far
less than the standard error of what is held out."""
ROUNDINGS = 4
"""By how many units of its last place a number of a table may be off."""
STEPS = 100
"""The limit of steps of a candidate."""


@dataclass(frozen=True)
class Search:
    """What is to be chosen.

    Attributes
    ----------
    ranks : tuple of int, or None
        To choose from, rising; None is "auto".
    name : {"l2", "l1"} or None
        Which penalty is chosen.
    penalties : tuple of float, or None
        To choose from, falling; None is "auto", where there is a name.
    rest : dict or float or None
        The penalties that are given; with a name, a dict.
    """

    ranks: tuple[int, ...] | None
    name: str | None = None
    penalties: tuple[float, ...] | None = None
    rest: Any = None

    def penalty(self, value: float | None) -> Any:
        """Return the penalty with a value in the place of what is chosen."""
        return self.rest if self.name is None else {**self.rest, self.name: value}


def asked(rank: Any, penalty: Any) -> Search | None:
    """Return what is to be chosen of a rank and a penalty; None where both are given.

    Parameters
    ----------
    rank : int, "auto", or a sequence of int
    penalty : None, float, "auto", or a mapping in which l2 or l1 may be "auto" (l2
        alone) or a sequence of numbers

    Raises
    ------
    InvalidValueError
        With all that is wrong in one message.

    Examples
    --------
    >>> asked([4, 2], {"l2": "auto", "count_power": 0.5})
    Search(ranks=(2, 4), name='l2', penalties=None, rest={'count_power': 0.5})
    >>> print(asked(2, 0.5))
    None
    """
    complaints = Complaints()
    ranks = complaints.attempt(_ranks, rank)
    penalty = {"l2": AUTO} if _is_auto(penalty) else penalty
    named = penalty if isinstance(penalty, Mapping) else {}
    open_ones = [n for n, v in named.items() if _is_auto(v) or _several(v)]
    search = Search(ranks, rest=penalty)
    if open_ones:
        name = open_ones[0]
        others = [n for n in named if n.startswith(("l1", "l2")) and n != "l2_biases"]
        beside = [n for n in others if n != name]
        given = f", with {', '.join(map(repr, beside))} given" if beside else ""
        complaints.require(
            name in ("l1", "l2") and not beside,
            f"penalty {name!r} is to be chosen{given}; let 'l2' or 'l1' alone be chosen, "
            "beside l2_biases, count_power, smooth_rows and smooth_columns",
        )
        complaints.require(
            name != "l1" or not _is_auto(named[name]),
            f"penalty {name!r} is 'auto', for which there is no scale; give a list of "
            "numbers to choose from",
        )
        grid = None
        if _several(named[name]):
            grid = complaints.attempt(_penalties, name, named[name])
        rest = {n: v for n, v in named.items() if n != name}
        search = Search(ranks, name, grid, rest)
    complaints.raise_any()
    several = search.ranks is None or len(search.ranks) > 1
    return search if several or open_ones or _several(rank) else None


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value == AUTO


def _several(value: Any) -> bool:
    return isinstance(value, list | tuple | range | np.ndarray)


def _ranks(value: Any) -> tuple[int, ...] | None:
    if _is_auto(value):
        return None
    if not _several(value):
        wanted = f", {AUTO!r}, {THRESHOLD!r}" if isinstance(value, str) else ""
        try:
            return (whole_number("n_components", value, 1),)
        except InvalidValueError as error:
            raise InvalidValueError(f"{error}{wanted}") from None
    found = {whole_number("a rank in n_components", rank, 1) for rank in value}
    if not found:
        raise InvalidValueError("n_components holds no rank; give some, or 'auto'")
    return tuple(sorted(found))


def _penalties(name: str, values: Any) -> tuple[float, ...]:
    found = {real_number(f"a number in penalty {name!r}", x, 0) for x in values}
    if not found or max(found) == 0:
        raise InvalidValueError(
            f"penalty {name!r} has nothing above 0 to choose from; give numbers, some "
            "above 0"
        )
    return tuple(sorted(found, reverse=True))


@dataclass(frozen=True)
class Selection:
    """How a rank, and a penalty, were chosen.

    Attributes
    ----------
    how : {"cells", "singular values"}
    rank : int
        The chosen one.
    penalty : float or None
        The chosen one, where it was looked for.
    name : str or None
        Which penalty it is.
    ranks : tuple of int
        Tried, rising.
    penalties : tuple of float
        Tried, falling; empty where the penalty was given.
    losses : float64 ndarray of shape (ranks, penalties or 1, folds)
        The mean loss of the cells of each fold under a fit without them, over that of
        the best constants.
    held : int
        How many cells were held out, once each.
    values : float64 ndarray
        Singular values, where these chose.
    threshold : float or None
        Above which they are counted.

    Examples
    --------
    >>> losses = np.array([[[0.5, 0.6]], [[0.2, 0.3]], [[0.21, 0.27]]])
    >>> found = Selection("cells", 2, None, None, (1, 2, 3), (), losses, 40)
    >>> found.mean[:, 0].round(3), found.error[:, 0].round(3), found.best
    (array([0.55, 0.25, 0.24]), array([0.05, 0.05, 0.03]), (2, 0))
    >>> found.chosen
    (1, 0)
    """

    how: str
    rank: int
    penalty: float | None
    name: str | None
    ranks: tuple[int, ...]
    penalties: tuple[float, ...]
    losses: np.ndarray
    held: int
    values: np.ndarray = field(default_factory=lambda: np.zeros(0))
    threshold: float | None = None

    @property
    def mean(self) -> np.ndarray:
        """The mean over the folds, shape (ranks, penalties or 1)."""
        found: np.ndarray = self.losses.mean(-1)
        return found

    @property
    def error(self) -> np.ndarray:
        """Its standard error: the spread of the folds over the root of their number."""
        with np.errstate(invalid="ignore"):
            spread = self.losses.std(-1, ddof=1)
        found: np.ndarray = spread / np.sqrt(self.losses.shape[-1])
        return found

    @property
    def best(self) -> tuple[int, int]:
        """The place of the least mean."""
        mean = np.where(np.isfinite(self.mean), self.mean, np.inf)
        rank, penalty = np.unravel_index(int(mean.argmin()), mean.shape)
        return int(rank), int(penalty)

    @property
    def chosen(self) -> tuple[int, int]:
        """The place of the chosen one, by the one-standard-error rule [1]_.

        The smallest rank, and of that the largest penalty, whose mean is within one
        standard error of the least.

        References
        ----------
        .. [1] Breiman, Friedman, Olshen and Stone (1984), "Classification and
           regression trees", section 3.4.3.
        """
        most = self.mean[self.best] + self.error[self.best]
        rank, penalty = np.unravel_index(
            int((self.mean <= most).argmax()), self.mean.shape
        )
        return int(rank), int(penalty)

    @property
    def says(self) -> str:
        """What was chosen and why, in a sentence."""
        if self.how != "cells":
            return (
                f"Rank {self.rank} is chosen: so many of {len(self.values)} singular "
                f"values are above {self.threshold:.4g}, the larger of the optimal hard "
                "threshold (Gavish and Donoho, 2014) and of what rounding leaves."
            )
        what, tried, wanted, best = [], [], [], []
        if len(self.ranks) > 1:
            what.append(f"rank {self.rank}")
            tried.append(f"ranks {_listed(self.ranks)}")
            wanted.append("the smallest rank")
            best.append(f"rank {self.ranks[self.best[0]]}")
        if self.penalties:
            what.append(f"{self.name} {self.penalty:.4g}")
            ends = f"{self.penalties[0]:.3g} to {self.penalties[-1]:.3g}"
            tried.append(f"{len(self.penalties)} penalties from {ends}")
            wanted.append("the largest penalty")
            best.append(f"{self.name} {self.penalties[self.best[1]]:.4g}")
        text = " and ".join(what) or f"rank {self.rank}"
        return (
            f"{text[:1].upper()}{text[1:]} chosen from {' and '.join(tried)}: "
            f"{' with '.join(wanted)} whose held-out loss, "
            f"{self.mean[self.chosen]:.4g} of the constants', is within one standard "
            f"error of the least, {self.mean[self.best]:.4g} +- "
            f"{self.error[self.best]:.2g} ({' and '.join(best)}; {counted(self.held, 'cell')} held "
            f"out in {counted(self.losses.shape[-1], 'fold')})."
        )

    def described(self) -> dict[str, Any]:
        """Return it as plain values."""
        cells = self.how == "cells"
        return {
            "how": self.how,
            "rank": self.rank,
            "penalty": self.penalty,
            "name": self.name,
            "ranks": list(self.ranks),
            "penalties": list(self.penalties),
            "losses": plain(self.losses),
            "mean": plain(self.mean) if cells else [],
            "error": plain(self.error) if cells else [],
            "held": self.held,
            "values": plain(self.values),
            "threshold": self.threshold,
            "says": self.says,
        }

    @classmethod
    def restored(cls, facts: Mapping[str, Any]) -> Selection:
        """Return what `described` described."""
        losses = np.array(facts["losses"], dtype=np.float64)
        return cls(
            facts["how"],
            facts["rank"],
            facts["penalty"],
            facts["name"],
            tuple(facts["ranks"]),
            tuple(facts["penalties"]),
            losses,
            facts["held"],
            np.array(facts["values"], dtype=np.float64),
            facts["threshold"],
        )


def _listed(ranks: Sequence[int]) -> str:
    whole = list(ranks) == list(range(ranks[0], ranks[-1] + 1))
    return f"{ranks[0]} to {ranks[-1]}" if whole else ", ".join(map(str, ranks))


def by_cells(
    found: Cells,
    search: Search,
    settings: Callable[[Any], Mapping[str, Any]],
    step: Callable[[Factorization], UpdateRule],
    *,
    folds: int = 5,
    seed: int = 0,
    stop: Stop | None = None,
    workers: int = 1,
    l2_of: Callable[[int], float | None] | None = None,
) -> Selection:
    r"""Choose by the loss of cells that are held out, never of whole rows [1]_.

    The observed cells are dealt out to folds (`dealt`). For every rank, penalty and
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
        All that is known.
    search : Search
    settings : callable
        Returns the settings of `Factorization` for a penalty.
    step : callable
        Returns the update rule for a factorization.
    folds : int
        At least 2.
    seed : int
    stop : Stop, optional
        When a candidate rests.
    workers : int
        Processes that descend side by side.
    l2_of : callable, optional
        Returns the l2 of a rank that the noise implies, where no penalty is given.

    Raises
    ------
    InvalidValueError
        When a rank is beyond the table, too few cells can be held out, or no candidate
        has a finite loss.

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
    if search.ranks is not None and search.ranks[-1] > most:
        raise InvalidValueError(
            f"n_components holds {search.ranks[-1]}, but the table has {whole.shape[0]} "
            f"rows and {counted(whole.shape[1], 'column')} (n_samples and n_features); give ranks "
            f"from 1 to {most}"
        )
    fold = dealt(whole, folds, stream(seed, "split", 0))
    held = int((fold >= 0).sum())
    if held < LEAST_FOLD * folds:
        raise InvalidValueError(
            f"only {counted(held, 'cell')} can be held out, those whose row, column and level have "
            f"another observed cell, but {counted(folds, 'fold')} need {LEAST_FOLD * folds}; give "
            "the rank and the penalty as numbers"
        )
    stop = stop or Stop(STEPS, gradient_tol=1e-6, loss_tol=SETTLED)
    scorer = _Scorer(whole, fold)
    ranks, values = search.ranks, search.penalties
    widest = most
    if ranks is None:
        room = int(held * (folds - 1) / folds) // sum(whole.shape)
        widest = max(1, min(most, room))
        ranks = tuple(range(1, min(RANKS, widest) + 1))
    if search.name is not None and values is None:
        values = _penalties_of(Factorization(whole, ranks[0], **given))

    # What lies in a set may not stay at zero in the components beyond its own rank.
    apart = any(side.inside is not None for side in sides)

    def tried(ranks: tuple[int, ...], values: tuple[float, ...]) -> np.ndarray:
        """Return the loss of each fold, shape (ranks, penalties, folds)."""
        if apart and len(ranks) > 1:
            return np.concatenate([tried((rank,), values) for rank in ranks])
        strengths, given = _strengths(search, settings, ranks, values, l2_of)
        problem = Candidates(whole, fold, ranks, strengths, **given)
        runs = descend(
            problem,
            len(problem.numbered),
            seed,
            steps=OfCandidates(step(problem.template)),
            stop=stop,
            width=min(problem.width, len(problem.numbered)),
            workers=workers,
        )
        each = [
            scorer.loss(problem.cell_losses(runs.parameters, k), problem.numbered[k][2])
            for k in range(len(runs))
        ]
        return np.reshape(each, (len(ranks), max(1, len(values)), folds))

    losses = tried(ranks, values or ())
    chosen = Selection("cells", 0, None, search.name, ranks, values or (), losses, held)
    while search.ranks is None and chosen.ranks[-1] < widest:
        if chosen.best[0] < len(chosen.ranks) - 1 or not np.isfinite(losses).any():
            break
        last = chosen.ranks[-1]
        more = tuple(range(last + 1, min(last + RANKS, widest) + 1))
        losses = np.concatenate([losses, tried(more, values or ())])
        chosen = replace(chosen, ranks=(*chosen.ranks, *more), losses=losses)
    if search.penalties is None and chosen.best[1] == len(chosen.penalties) - 1 > 0:
        lower = chosen.penalties[-1] * np.geomspace(1, SPAN, PENALTIES // 2 + 1)[1:]
        fewer = tuple(lower.tolist())
        losses = np.concatenate([losses, tried(chosen.ranks, fewer)], 1)
        chosen = replace(chosen, penalties=chosen.penalties + fewer, losses=losses)
    if not np.isfinite(chosen.mean).any():
        raise InvalidValueError(
            "no rank and penalty of those tried has a finite loss on what was held out; "
            "give other steps, or divide numbers that are very large"
        )
    place = chosen.chosen
    penalty = chosen.penalties[place[1]] if chosen.penalties else None
    return replace(chosen, rank=chosen.ranks[place[0]], penalty=penalty)


def _strengths(
    search: Search,
    settings: Callable[[Any], Mapping[str, Any]],
    ranks: Sequence[int],
    values: Sequence[float],
    l2_of: Callable[[int], float | None] | None,
) -> tuple[Any, Mapping[str, Any]]:
    """Return the settings with the largest penalty, and the others over that."""
    largest = max(values, default=None)
    given = settings(search.penalty(largest))
    if search.name is None and l2_of is not None:
        implied = {rank: l2_of(rank) or 0.0 for rank in ranks}
        top = max(implied.values())
        if top > 0:
            given = {**given, "penalty": {**(search.rest or {}), "l2": top}}
            return {rank: [l2 / top] for rank, l2 in implied.items()}, given
    return [value / largest for value in values] if largest else [1.0], given


def _penalties_of(problem: Factorization) -> tuple[float, ...]:
    """Return the l2 to choose from, from the least that leaves nothing, falling."""
    for asked_of in (problem.row_regularizer, problem.column_regularizer):
        if asked_of.inside is not None:
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


def optimal_threshold(ratio: float) -> float:
    r"""Return the optimal hard threshold over the median singular value.

    :math:`\omega(\beta) = \lambda_*(\beta) / \sqrt{\mu_\beta}`, for a table with noise
    of one, unknown size on every cell and the ratio beta of its sides [1]_, where

    .. math:: \lambda_*(\beta)^2 = 2(\beta + 1) + \frac{8 \beta}
              {\beta + 1 + \sqrt{\beta^2 + 14 \beta + 1}}

    and mu is the median of the distribution of Marchenko and Pastur: 2.858 at 1.

    Parameters
    ----------
    ratio : float
        The shorter side over the longer, above 0 and at most 1.

    References
    ----------
    .. [1] Gavish and Donoho (2014), "The optimal hard threshold for singular values is
       4 / sqrt(3)", IEEE Transactions on Information Theory 60.

    Examples
    --------
    >>> round(optimal_threshold(1.0), 3), round(optimal_threshold(0.5), 3)
    (2.858, 2.171)
    """
    from scipy.integrate import quad
    from scipy.optimize import brentq

    beta = real_number("ratio", ratio, 0, strict=True)
    if beta > 1:
        raise InvalidValueError(f"ratio is {ratio!r}; give the shorter over the longer")
    low, high = (1 - beta**0.5) ** 2, (1 + beta**0.5) ** 2
    half = (high - low) / 2

    def density(angle: float) -> float:
        """Return it by the angle of a point of the support, where it has no corner."""
        sine, cosine = np.sin(angle / 2), np.cos(angle / 2)
        point = low + 2 * half * sine**2
        return float(2 * (half * sine * cosine) ** 2 / (np.pi * beta * point))

    def below(angle: float) -> float:
        return float(quad(density, 0, angle, epsabs=1e-12)[0]) - 0.5

    angle = brentq(below, 1e-9, np.pi, xtol=1e-13)
    median = low + 2 * half * np.sin(angle / 2) ** 2
    root = np.sqrt(beta**2 + 14 * beta + 1)
    threshold = np.sqrt(2 * (beta + 1) + 8 * beta / (beta + 1 + root))
    return float(threshold / np.sqrt(median))


def by_singular_values(found: Cells, offsets: str) -> Selection:
    """Count the singular values above the optimal hard threshold.

    The threshold is `optimal_threshold` times the median of the singular values of the
    table, less its means where columns have offsets or rows biases: then a side counts
    one less. It asks for noise of one size on all cells. Rows and columns of which
    nothing is left, such as constant columns, have no noise and are not counted.
    Singular values no larger than those of rounding errors are not counted either, so
    that the rank of a table without noise is its numerical rank.

    Parameters
    ----------
    found : Cells
        A complete dense table under squared loss.
    offsets : {"none", "columns", "rows", "both"}

    Returns
    -------
    Selection
        Its rank may be 0: nothing stands out of the noise.

    Raises
    ------
    InvalidValueError
        When the table is no such one.

    Examples
    --------
    >>> from descents.tables.datasets import planted_table
    >>> from descents.cells.observed import cells
    >>> known = cells(planted_table(60, 30, 3, noise=0.2)[0])
    >>> by_singular_values(known, "columns").rank
    3
    """
    if not isinstance(found, Complete) or not isinstance(found.table, np.ndarray):
        raise InvalidValueError(
            f"n_components is {THRESHOLD!r}, which is for a dense table without holes, "
            "weights or scales, and squared loss; give 'auto', or a number"
        )
    table = found.table.astype(np.float64)
    rows, wide = table.shape
    if offsets in ("columns", "both"):
        table, rows = table - table.mean(0), rows - 1
    if offsets in ("rows", "both"):
        table, wide = table - table.mean(1, keepdims=True), wide - 1
    if min(rows, wide) < 1:
        raise InvalidValueError(
            f"a table of {found.shape[0]} x {found.shape[1]} cells, less its means, has "
            "no singular values to judge; give the rank as a number"
        )
    noisy, rounding = _noisy_part(table, found.table)
    rows, wide = rows - len(table), wide - table.shape[1]  # what the means take
    values = np.linalg.svd(table, compute_uv=False)[
        : min(found.shape[0] + rows, found.shape[1] + wide)
    ]
    threshold = rounding
    sides = sorted((noisy.shape[0] + rows, noisy.shape[1] + wide))
    if sides[0] >= 1:
        noise = np.linalg.svd(noisy, compute_uv=False)[: sides[0]]
        typical = optimal_threshold(sides[0] / sides[1]) * float(np.median(noise))
        threshold = max(typical, rounding)
    rank = int((values > threshold).sum())
    return Selection(
        "singular values",
        rank,
        None,
        None,
        (),
        (),
        np.zeros((0, 0, 0)),
        0,
        values,
        threshold,
    )


def _noisy_part(centered: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the rows and columns that vary, and the singular value of rounding errors.

    Each number of a table was rounded once at least, and the sums that made it, and its
    mean, a few times more: by some units of its last place. Such errors as noise of
    rows and columns have a largest singular value of about its size times the sum of
    the roots of the sides; those of the decomposition itself are added.

    Parameters
    ----------
    centered : float64 ndarray
        The table less its means.
    given : ndarray
        The table in the precision that it came in.
    """
    numbers = given.astype(np.float64)
    error = ROUNDINGS * float(np.finfo(given.dtype).eps) * np.abs(numbers)
    columns, rows = (
        (np.ptp(numbers, axis=side) > error.max(side))
        & (np.abs(centered).max(side) > error.max(side))
        for side in (0, 1)
    )
    spread = float(error.max(initial=0.0)) * float(np.sqrt(given.shape).sum())
    own = max(given.shape) * np.finfo(np.float64).eps * np.linalg.norm(numbers)
    return centered[rows][:, columns], spread + float(own)
