"""Ranks and penalties to choose from, and how they were chosen.

`cross_validation` chooses by held-out cells, `singular_values` by a threshold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict, TypeGuard

import numpy as np

from descents.errors import Complaints, InvalidValueError, for_caller
from descents.storage.values import plain
from descents.text import OneLine, counted
from descents.validation import real_number, whole_number

Several = list[object] | tuple[object, ...] | range | np.ndarray
AUTO, THRESHOLD = "auto", "gavish-donoho"
Penalty = float | str | Mapping[str, object] | None
"""A penalty as it is given: l2, "auto", or several by name."""


@dataclass(frozen=True)
class Search:
    """The ranks and penalties to choose from.

    Attributes
    ----------
    ranks : tuple of int, or None
        The ranks in increasing order; None is "auto".
    name : {"l2", "l1"} or None
        Which penalty is chosen, if one is.
    penalties : tuple of float, or None
        The penalties in decreasing order; None is "auto" if there is a name.
    rest : dict or float or None
        The penalties that are given; with a name, a dict.
    """

    ranks: tuple[int, ...] | None
    name: str | None = None
    penalties: tuple[float, ...] | None = None
    rest: Penalty = None

    def penalty(self, value: float | None) -> Penalty:
        """Return all penalties, with a value for the one that is chosen."""
        if self.name is None:
            return self.rest
        rest = dict(self.rest) if isinstance(self.rest, Mapping) else {}
        return {**rest, self.name: value}


def asked(rank: object, penalty: Penalty) -> Search | None:
    """Return the ranks and penalties to choose from; None if one of each is given.

    Parameters
    ----------
    rank : int, "auto", or a sequence of int
    penalty : None, float, "auto", or a mapping in which l2 or l1 may be "auto" (l2
        alone) or a sequence of numbers

    Raises
    ------
    InvalidValueError
        If an argument is invalid. The message lists all problems.

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
            f"{for_caller('--penalty', 'penalty')} {name!r} is to be chosen{given}; let "
            "'l2' or 'l1' alone be chosen, beside l2_biases, count_power, smooth_rows and "
            "smooth_columns",
        )
        complaints.require(
            name != "l1" or not _is_auto(named[name]),
            f"{for_caller('--penalty', 'penalty')} {name!r} is 'auto', for which there is no scale; give a list of "
            "numbers to choose from",
        )
        grid, values = None, named[name]
        if _several(values):
            grid = complaints.attempt(_penalties, name, values)
        rest = {n: v for n, v in named.items() if n != name}
        search = Search(ranks, name, grid, rest)
    complaints.raise_any()
    several = search.ranks is None or len(search.ranks) > 1
    return search if several or open_ones or _several(rank) else None


def _is_auto(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value == AUTO


def _several(value: object) -> TypeGuard[Several]:
    return isinstance(value, list | tuple | range | np.ndarray)


def _ranks(value: object) -> tuple[int, ...] | None:
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


def _penalties(name: str, values: Several) -> tuple[float, ...]:
    found = {real_number(f"a number in penalty {name!r}", x, 0) for x in values}
    if not found or max(found) == 0:
        raise InvalidValueError(
            f"{for_caller('--penalty', 'penalty')} {name!r} has nothing above 0 to choose "
            "from; give numbers, some above 0"
        )
    return tuple(sorted(found, reverse=True))


class SelectionFacts(TypedDict):
    """A `Selection` as plain values."""

    how: str
    rank: int
    penalty: float | None
    name: str | None
    ranks: list[int]
    penalties: list[float]
    losses: list[list[list[float | None]]]
    mean: list[list[float | None]]
    error: list[list[float | None]]
    held: int
    values: list[float | None]
    threshold: float | None
    most: int | None
    says: str


@dataclass(frozen=True)
class Selection(OneLine):
    """How a rank and a penalty were chosen.

    Attributes
    ----------
    how : {"cells", "singular values"}
    rank : int
        The chosen rank.
    penalty : float or None
        The chosen penalty; None if it was given.
    name : str or None
        Which penalty was chosen.
    ranks : tuple of int
        The ranks that were tried, in increasing order.
    penalties : tuple of float
        The penalties that were tried, in decreasing order.
    losses : float64 ndarray of shape (ranks, penalties or 1, folds)
        The mean loss of the cells of each fold under a fit without them, over that of
        the best constants.
    held : int
        The number of cells that were held out, each of them once.
    values : float64 ndarray
        The singular values, if they were used.
    threshold : float or None
        Singular values above it are counted.
    most : int or None
        The largest rank that the table allows; None if it is not known.

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
    most: int | None = None

    @property
    def mean(self) -> np.ndarray:
        """The mean over the folds, shape (ranks, penalties or 1)."""
        found: np.ndarray = self.losses.mean(-1)
        return found

    @property
    def error(self) -> np.ndarray:
        """The standard error of the mean: the spread of the folds over the root of their number."""
        with np.errstate(invalid="ignore"):
            spread = self.losses.std(-1, ddof=1)
        found: np.ndarray = spread / np.sqrt(self.losses.shape[-1])
        return found

    @property
    def best(self) -> tuple[int, int]:
        """The rank and the penalty with the smallest mean, as places in `mean`."""
        mean = np.where(np.isfinite(self.mean), self.mean, np.inf)
        rank, penalty = np.unravel_index(int(mean.argmin()), mean.shape)
        return int(rank), int(penalty)

    @property
    def chosen(self) -> tuple[int, int]:
        """The chosen rank and penalty, as places in `mean`: the one-standard-error rule [1]_.

        They are the smallest rank, and for this rank the largest penalty, whose mean is
        within one standard error of the smallest.

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
        """The choice and its reason in a sentence."""
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
            f"out in {counted(self.losses.shape[-1], 'fold')}).{self._at_the_end()}"
        )

    def _at_the_end(self) -> str:
        """Return a sentence if the largest rank that was tried is chosen, else nothing."""
        tried = self.ranks[-1]
        if len(self.ranks) < 2 or self.rank < tried or tried >= (self.most or 0):
            return ""
        more = min(2 * tried, self.most or 0)
        option = for_caller(
            f"--rank auto:1-{more}", f"n_components=range(1, {more + 1})"
        )
        return (
            f" This is the largest rank that was tried, and a larger one may be better: "
            f"{option} tries more."
        )

    def described(self) -> SelectionFacts:
        """Return the selection as plain values."""
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
            "most": self.most,
            "says": self.says,
        }

    @classmethod
    def restored(cls, facts: SelectionFacts) -> Selection:
        """Return the selection from what `described` returned."""
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
            facts.get("most"),  # version 0.1 has none
        )


def _listed(ranks: Sequence[int]) -> str:
    whole = list(ranks) == list(range(ranks[0], ranks[-1] + 1))
    return f"{ranks[0]} to {ranks[-1]}" if whole else ", ".join(map(str, ranks))
