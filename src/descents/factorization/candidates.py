"""Factorizations of one table that differ in rank, penalty and held-out cells.

They are the starts of one problem and are fitted together. A rank below the largest
needs no mask: a component that is zero in both factors has a gradient of zero, and every
update rule leaves it at zero.
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
    r"""Losses of several factorizations of one table, each without one fold of cells.

    Start k has a rank r, a strength s and a fold f. It minimizes the loss of
    `Factorization` over the cells outside the fold, with the penalties of the factors
    multiplied by s. It has the initial point of start 0 of that factorization alone and
    takes the same steps, so its fit does not depend on the other candidates.

    Parameters
    ----------
    cells : Cells
        All observed cells, in the dense or the sparse layout with missing cells.
    folds : int64 ndarray
        The fold of each cell of the table, or of each stored entry. Cells with a
        negative number are never held out.
    ranks : sequence of int
    strengths : sequence of float, or mapping from rank to sequence of float
        Multiply the penalties of the factors.
    **settings
        Passed to `Factorization`.

    Attributes
    ----------
    numbered : list of tuple of (rank, strength, fold)
        The candidate of each start. They are sorted by rank, so that the starts of a
        chunk have similar ranks.
    template : Factorization
        The factorization of the largest rank on all cells.

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
    >>> bool(held.max() < 1e-9)  # cells that were not fitted
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
        """Return the leading singular triples of a fold, as many as the largest rank."""
        if fold not in self._spectra:
            most = self.template.rank
            whole = Factorization(self.parts[fold], most, **self._settings)
            self._spectra[fold] = whole.spectrum()
        return self._spectra[fold]

    def points(self, starts: Sequence[int] | np.ndarray, seed: int) -> Parameters:
        """Return initial points: of each candidate, start 0 of its factorization."""
        numbers = [int(start) for start in starts]
        return stacked_points(self, numbers, streams(seed, "start", [0] * len(numbers)))

    def point(
        self, generator: np.random.Generator, start: int
    ) -> Mapping[str, np.ndarray]:
        """Return the initial point of one candidate, padded with components of zero."""
        rank, _, fold = self.numbered[start]
        point = dict(self.alone(rank, fold).point(generator, 0))
        wider = [(0, 0), (0, self.template.rank - rank)]
        return {n: np.pad(p, wider) if n in ("U", "V") else p for n, p in point.items()}

    @property
    def loss_scale(self) -> float | None:
        """The loss scale of all cells."""
        return self.template.loss_scale

    @property
    def side_by_side(self) -> bool:
        """True, because each chunk has a factorization of its own."""
        return True

    @property
    def one_threaded(self) -> bool:
        """False, because torch computes the steps with its own threads."""
        return False

    def bind(self, starts: torch.Tensor, seed: int = 0) -> Bound:
        """Return the candidates of a chunk, bound as starts of one factorization."""
        return BoundCandidates(self, starts)

    def at(self, starts: torch.Tensor) -> Factorization:
        """Return the factorization with these candidates as starts.

        It has their largest rank, and masks, counts and strengths per start.
        """
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
        """Return the loss of the fitted cells with penalties of each start, (S,)."""
        return self.at(starts).losses(parameters, starts, step)

    def cell_losses(
        self, parameters: Mapping[str, np.ndarray], start: int
    ) -> np.ndarray:
        """Return the loss of each cell under one start, including held-out cells.

        Parameters
        ----------
        parameters : dict of ndarray
            The parameters of all starts.

        Returns
        -------
        ndarray of the shape of the folds
            NaN at missing cells.
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
    """Candidates of a chunk, bound as the starts of one factorization.

    Attributes
    ----------
    joined : Bound
        The factorization of their largest rank, bound to the same starts.
    unused : int
        The number of trailing components that are zero in every start of the chunk.
    """

    def __init__(self, problem: Candidates, starts: torch.Tensor) -> None:
        super().__init__(problem, starts)
        factorization = problem.at(starts)
        self.joined = factorization.bind(starts)
        self.unused = problem.template.rank - factorization.rank

    def losses(self, parameters: Parameters, step: int) -> torch.Tensor:
        """Return the loss of the fitted cells with penalties of each start, (S,)."""
        return self.joined.losses(parameters, step)

    def cut(self, parameters: Parameters) -> Parameters:
        """Return the parameters without the unused components."""
        return {
            name: value[..., : value.shape[-1] - self.unused].contiguous()
            if name in ("U", "V")
            else value
            for name, value in parameters.items()
        }


@dataclass(frozen=True)
class OfCandidates(UpdateRule):
    """Steps of another rule, without the components that a chunk does not use.

    Parameters
    ----------
    rule : UpdateRule
        An update rule for factorizations.

    Examples
    --------
    >>> from descents import Alternating
    >>> OfCandidates(Alternating())
    OfCandidates(rule=Alternating())
    """

    rule: UpdateRule

    @property
    def kind(self) -> str:
        """The names of both rules."""
        return f"{type(self).__name__}({self.rule.kind})"

    def init(self, bound: Bound, parameters: Parameters) -> State:
        """Return the state of the wrapped rule for the components in use."""
        assert isinstance(bound, BoundCandidates)  # noqa: S101
        return self.rule.init(bound.joined, bound.cut(parameters))

    def unsettled(self, bound: Bound, step: int) -> bool:
        """Return whether the wrapped rule still changes its loss at this step."""
        assert isinstance(bound, BoundCandidates)  # noqa: S101
        return self.rule.unsettled(bound.joined, step)

    def update(
        self,
        bound: Bound,
        parameters: Parameters,
        state: State,
        step: int,
    ) -> Update:
        """Take one step of the wrapped rule, and pad its result with zeros."""
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
