"""Factorizations of one table that differ in rank, penalty and held-out cells.

They are the starts of one problem, and descended together. A rank below the largest
needs no mask: a component that is zero in both factors has a gradient of zero, and
every rule leaves it where it is.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from descents.cells.base import ONCE, Cells
from descents.factorization.factorization import Factorization
from descents.factorization.initialization import SPECTRAL
from descents.optim.problem import Bound, Parameters, Problem, stacked_points
from descents.optim.rules import State, Update, UpdateRule
from descents.rng import streams


class Candidates(Problem):
    r"""Losses of one table's factorizations, each without the cells of one fold.

    Start k is a rank r, a strength s and a fold f, and minimises the loss of
    `Factorization` over the cells that are not in the fold, the penalties of the factors
    multiplied by s. It begins where start 0 of such a factorization alone would, and
    takes the same steps: what is found does not depend on the other candidates.

    Parameters
    ----------
    cells : Cells
        All that is known, of the dense or the sparse layout with holes.
    folds : int64 ndarray
        Of each cell of the table, or of each stored entry; below 0 where a cell is never
        held out.
    ranks : sequence of int
    strengths : sequence of float, or mapping of ranks to such
        What the penalties of the factors are multiplied by.
    **settings
        As `Factorization` takes them.

    Attributes
    ----------
    numbered : list of tuple of (rank, strength, fold)
        What each start is, the smallest rank first, so that chunks are of like ranks.
    template : Factorization
        Of the largest rank and all cells.

    Examples
    --------
    >>> from descents import Alternating, Stop, descend
    >>> from descents.cells.observed import cells
    >>> table = np.outer(np.arange(1.0, 9.0), np.arange(1.0, 6.0))  # of rank one
    >>> known = cells(np.where(np.eye(8, 5) > 0, np.nan, table))
    >>> folds = np.where(known.weights > 0, np.arange(40).reshape(8, 5) % 3, -1)
    >>> problem = Candidates(known, folds, [1], [1.0], initialization="normal")
    >>> runs = descend(problem, 3, steps=OfCandidates(Alternating()), stop=Stop(200))
    >>> fold = problem.numbered[0][2]
    >>> held = problem.cell_losses(runs.parameters, 0)[folds == fold]
    >>> bool(held.max() < 1e-9)  # cells that it has not seen
    True
    """

    def __init__(
        self,
        cells: Cells,
        folds: np.ndarray,
        ranks: Sequence[int],
        strengths: Sequence[float] | Mapping[int, Sequence[float]],
        **settings: Any,
    ) -> None:
        self.folds, self._settings = folds, settings
        self.template = Factorization(cells, max(ranks), **settings)
        count = int(folds.max()) + 1
        self.numbered = [
            (rank, strength, fold)
            for rank in sorted(ranks)
            for strength in (
                strengths[rank] if isinstance(strengths, Mapping) else strengths
            )
            for fold in range(count)
        ]
        self.parts: list[Any] = [
            cells.part(folds != fold)  # type: ignore[attr-defined]
            for fold in range(count)
        ]
        self.available = len(self.numbered)
        self.dtype, self.device = self.template.dtype, self.template.device
        self.size, self.constrained = self.template.size, self.template.constrained
        self._alone: dict[tuple[int, int], Factorization] = {}
        self._spectra: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def alone(self, rank: int, fold: int) -> Factorization:
        """Return the factorization of one rank without the cells of a fold."""
        with ONCE:
            return self._made(rank, fold)

    def _made(self, rank: int, fold: int) -> Factorization:
        key = (rank, fold)
        if key not in self._alone:
            found = Factorization(self.parts[fold], rank, **self._settings)
            if self.template.initialization in SPECTRAL:
                found.take_spectrum(self._spectrum(fold))
            self._alone[key] = found
        return self._alone[key]

    def _spectrum(self, fold: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the singular triples that a fold's ranks have the first of."""
        if fold not in self._spectra:
            most = self.template.rank
            whole = Factorization(self.parts[fold], most, **self._settings)
            self._spectra[fold] = whole.spectrum()
        return self._spectra[fold]

    def points(self, starts: Sequence[int] | np.ndarray, seed: int) -> Parameters:
        """Return the initial points: each that of start 0 of its own factorization."""
        numbers = [int(start) for start in starts]
        return stacked_points(self, numbers, streams(seed, "start", [0] * len(numbers)))

    def point(
        self, generator: np.random.Generator, start: int
    ) -> Mapping[str, np.ndarray]:
        """Return where the factorization alone would begin, further components zero."""
        rank, _, fold = self.numbered[start]
        point = dict(self.alone(rank, fold).point(generator, 0))
        wider = [(0, 0), (0, self.template.rank - rank)]
        return {n: np.pad(p, wider) if n in ("U", "V") else p for n, p in point.items()}

    @property
    def loss_scale(self) -> float | None:
        """That of all cells."""
        return self.template.loss_scale

    @property
    def side_by_side(self) -> bool:
        """True: each chunk has a factorization of its own; what they share is made once."""
        return True

    @property
    def one_threaded(self) -> bool:
        """False: torch computes the steps."""
        return False

    def bind(self, starts: torch.Tensor, seed: int = 0) -> Bound:
        """Return the starts of a chunk as those of one factorization."""
        return BoundCandidates(self, starts)

    def at(self, starts: torch.Tensor) -> Factorization:
        """Return the factorization whose starts are these, of their largest rank."""
        chosen = [self.numbered[k] for k in starts.tolist()]
        found = copy.copy(self.template)
        found.rank = max(rank for rank, _, _ in chosen)
        masks = np.stack([self.folds != fold for _, _, fold in chosen])
        found.cells = self.template.cells.of_starts(masks)  # type: ignore[attr-defined]
        each = [self.alone(rank, fold) for rank, _, fold in chosen]
        found.row_penalties = np.stack([one.row_penalties for one in each])
        found.coordinate_counts = np.stack([one.coordinate_counts for one in each])
        found._base = np.stack([one.base for one in each])
        found.strength = np.array([[strength] for _, strength, _ in chosen])
        found.turns = {}
        return found

    def losses(
        self, parameters: Parameters, starts: torch.Tensor, step: int
    ) -> torch.Tensor:
        """Return the loss of the cells each start is fitted to, with its penalties."""
        return self.at(starts).losses(parameters, starts, step)

    def cell_losses(
        self, parameters: Mapping[str, np.ndarray], start: int
    ) -> np.ndarray:
        """Return the loss of each cell under one start, of those held out too.

        Parameters
        ----------
        parameters : dict of ndarray
            Of all starts.

        Returns
        -------
        ndarray shaped as the folds, NaN at holes
        """
        rank, _, fold = self.numbered[start]
        tensors = {
            name: torch.as_tensor(value[start])[None].double()
            for name, value in parameters.items()
        }
        alone = self.alone(rank, fold)
        left, right = alone.extended(tensors)
        cuts = alone.cut_parameters(tensors)
        found = self.template.cells.in_memory.each(left[0], right[0], cuts[0])
        return np.asarray(found)


class BoundCandidates(Bound):
    """Some candidates, as the starts of one factorization of their largest rank.

    Attributes
    ----------
    joined : Bound
        That factorization, bound to the same starts.
    unused : int
        How many of the components of the parameters no start of the chunk has.
    """

    def __init__(self, problem: Candidates, starts: torch.Tensor) -> None:
        super().__init__(problem, starts)
        factorization = problem.at(starts)
        self.joined = factorization.bind(starts)
        self.unused = problem.template.rank - factorization.rank

    def losses(self, parameters: Parameters, step: int) -> torch.Tensor:
        """Return the loss of the cells each start is fitted to, with its penalties."""
        return self.joined.losses(parameters, step)

    def cut(self, parameters: Parameters) -> Parameters:
        """Return the parameters without the components that no start has."""
        return {
            name: value[..., : value.shape[-1] - self.unused].contiguous()
            if name in ("U", "V")
            else value
            for name, value in parameters.items()
        }


@dataclass(frozen=True)
class OfCandidates(UpdateRule):
    """Another rule's steps, on no more components than the largest of a chunk has.

    Parameters
    ----------
    rule : UpdateRule
        Of a factorization.

    Examples
    --------
    >>> from descents import Alternating
    >>> OfCandidates(Alternating())
    OfCandidates(rule=Alternating())
    """

    rule: UpdateRule

    @property
    def kind(self) -> str:
        """The name of both rules."""
        return f"{type(self).__name__}({self.rule.kind})"

    def init(self, bound: Bound, parameters: Parameters) -> State:
        """Return the state of the rule, for the components that are in use."""
        assert isinstance(bound, BoundCandidates)  # noqa: S101
        return self.rule.init(bound.joined, bound.cut(parameters))

    def unsettled(self, bound: Bound, step: int) -> bool:
        """Return what the rule says of the factorization."""
        assert isinstance(bound, BoundCandidates)  # noqa: S101
        return self.rule.unsettled(bound.joined, step)

    def update(
        self,
        bound: Bound,
        parameters: Parameters,
        state: State,
        step: int,
    ) -> Update:
        """Take one step of the rule."""
        assert isinstance(bound, BoundCandidates)  # noqa: S101
        cut = bound.cut(parameters)
        found = self.rule.update(bound.joined, cut, state, step)
        rest = bound.unused
        if not rest:
            return found
        wider = {
            name: torch.nn.functional.pad(value, (0, rest)) if name in "UV" else value
            for name, value in found.parameters.items()
        }
        return found._replace(parameters=wider)
