"""The settings of a low-rank model, checked and parsed once, and what controls a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from descents.cells.distributed import SHARED_LIMITS
from descents.cells.intake import seed_of
from descents.cells.streamed import LIMITS
from descents.constraints.constraints import Regularizer, regularizers
from descents.constraints.sets import Fixed, OneHot, Simplex
from descents.errors import Complaints, InvalidValueError, for_caller, name_of
from descents.factorization.alternating import Alternating
from descents.factorization.factorization import OFFSETS, Factorization
from descents.factorization.initialization import INITIALIZATIONS
from descents.losses import get_loss
from descents.lowrank.selection import AUTO, THRESHOLD, Penalty, Search, asked
from descents.lowrank.update_rules import STEPS, step_named
from descents.optim.chunk import Watch
from descents.optim.executors import Workers
from descents.optim.rules import UpdateRule
from descents.optim.spans import Shard
from descents.optim.workers import Store
from descents.validation import one_of, real_number, whole_number

SCALES = ("auto", True, False)
Initialization = str | tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class RunControl:
    """What watches and limits a fit; it does not change what is minimized.

    Attributes
    ----------
    record : sequence of int
        The steps at which the losses of the starts are recorded.
    watch : callable, optional
        Called during the descent, see `descents.descend`.
    seconds : float, optional
        The time limit. Starts that have not ended then are interrupted.
    workers : int or Executor
        The number of parallel processes, or the executor of chunks of starts.
    store : Store, optional
        Where the descent keeps its state, see `descents.descend`.
    shard : Shard, optional
        The share of the starts that descends. They are left in the store, and
        `descents.lowrank.fitting.fit` raises `ShardDone`.
    """

    record: Sequence[int] = ()
    watch: Watch | None = None
    seconds: float | None = None
    workers: Workers = 1
    store: Store | None = None
    shard: Shard | None = None


@dataclass(frozen=True, eq=False)
class Settings:
    """The settings of a low-rank model. They are checked when the object is made.

    Parameters
    ----------
    n_components, loss, offsets, ..., device
        The parameters of `descents.LowRankModel`.

    Attributes
    ----------
    search : Search or None
        The ranks and penalties to choose from; None if both are given.
    sides : pair of Regularizer
        The constraints on the factors of the rows and of the columns, without penalties.
    seed : int
        The seed from `random_state`.

    Raises
    ------
    InvalidValueError
        If settings are invalid. The message lists all problems.

    Examples
    --------
    >>> settings = Settings(n_components="auto", constraint="nonnegative")
    >>> settings.offsets_used, settings.chooses
    ('none', True)
    """

    n_components: int | str | Sequence[int] = 2
    loss: object = "auto"
    offsets: str = "auto"
    scales: str | bool = "auto"
    constraint: object = None
    penalty: Penalty = None
    sparse: str = "missing"
    unseen: str = "error"
    initialization: Initialization = "auto"
    n_starts: int = 1
    combine: str = "best"
    solver: str | UpdateRule = "auto"
    learning_rate: float | None = None
    cv: int = 5
    held_out: float = 0.1
    max_iter: int = 2000
    tol: float = 1e-7
    random_state: int | np.random.RandomState | None = None
    device: str = "cpu"
    search: Search | None = field(init=False)
    sides: tuple[Regularizer, Regularizer] = field(init=False)
    seed: int = field(init=False)

    def __post_init__(self) -> None:
        """Check and parse the settings."""
        complaints = Complaints()
        search = complaints.attempt(asked, *self._open())
        self._check_numbers_and_names(complaints)
        # What `asked` refuses is not refused twice.
        penalty = _given(self.penalty) if search is None else search.penalty(1.0)
        complaints.attempt(regularizers, self.constraint, penalty)
        self._check_solver(complaints)
        self._check_initialization(complaints, search)
        complaints.raise_any()
        sides = regularizers(self.constraint, None)[:2]
        for name, value in (
            ("search", search),
            ("sides", sides),
            ("seed", seed_of(self.random_state)),
        ):
            object.__setattr__(self, name, value)

    def _check_numbers_and_names(self, complaints: Complaints) -> None:
        complaints.attempt(whole_number, "cv", self.cv, 2)
        share = complaints.attempt(real_number, "held_out", self.held_out, 0)
        complaints.require(
            share is None or share <= 0.5,
            f"held_out is {self.held_out}; give a number from 0 to 0.5",
        )
        complaints.attempt(whole_number, "n_starts", self.n_starts, 1)
        complaints.attempt(whole_number, "max_iter", self.max_iter, 1)
        complaints.attempt(real_number, "tol", self.tol, 0)
        complaints.attempt(one_of, "combine", self.combine, ("best", "mean"))
        complaints.attempt(one_of, "sparse", self.sparse, ("missing", "zero"))
        complaints.attempt(one_of, "unseen", self.unseen, ("error", "missing"))
        complaints.attempt(one_of, "offsets", self.offsets, ("auto", *OFFSETS))
        complaints.require(
            isinstance(self.scales, bool | np.bool_)
            or (isinstance(self.scales, str) and self.scales == SCALES[0]),
            f"scales is {self.scales!r}; give one of {', '.join(map(repr, SCALES))}",
        )

    def _check_solver(self, complaints: Complaints) -> None:
        if not isinstance(self.solver, UpdateRule):
            complaints.attempt(one_of, "solver", self.solver, STEPS)
        if self.learning_rate is None:
            return
        name = for_caller("--learning-rate", "learning_rate")
        complaints.attempt(real_number, name, self.learning_rate, 0, strict=True)
        complaints.require(
            self.solver in ("gd", "adam"),
            for_caller(
                f"--learning-rate is given, but --solver is {self.solver}, which has none; "
                "give --solver gd or --solver adam with it",
                f"learning_rate is given, but solver is {self.solver!r}, which has none; "
                "give solver='gd' or solver='adam' with it",
            ),
        )

    def _check_initialization(
        self, complaints: Complaints, search: Search | None
    ) -> None:
        if isinstance(self.initialization, str):
            names = ("auto", *INITIALIZATIONS)
            complaints.attempt(one_of, "initialization", self.initialization, names)
            return
        complaints.attempt(_check_pair, self.initialization)
        complaints.require(
            search is None,
            "initialization is two arrays, which have one rank, but a rank or a "
            "penalty is to be chosen; give the name of an initialization",
        )

    def check_on_disk(self, weighted: bool, *, shared: bool = False) -> None:
        """Raise unless the settings suit a table on disk.

        Parameters
        ----------
        weighted : bool
            Whether there are weights.
        shared : bool
            Whether several processes share the table.
        """
        complaints = Complaints()
        limits = SHARED_LIMITS if shared else LIMITS
        solvers: tuple[object, ...] = ("auto", "alternating", Alternating())
        devices: tuple[object, ...] = ("cpu",)
        if shared:
            own = isinstance(self.solver, UpdateRule) and self.solver.distributed
            solvers = (*solvers, *STEPS, self.solver if own else "auto")
            devices = (self.device,)
        for name, value, allowed in (
            ("loss", self.loss, ("auto", "squared", get_loss("squared"))),
            ("solver", self.solver, solvers),
            ("scales", self.scales, ("auto", False)),
            ("device", self.device, devices),
        ):
            complaints.require(
                any(value is one or value == one for one in allowed),
                f"{name_of(name)} is {value!r}, but {limits}",
            )
        complaints.require(not weighted, f"weights are given, but {limits}")
        complaints.require(
            not self.chooses,
            "a rank or a penalty is to be chosen, but a table that "
            + ("several processes share" if shared else "is read in blocks of rows")
            + " has no cells to hold out; give both as numbers"
            + (", or start one process" if shared else ""),
        )
        complaints.raise_any()

    @property
    def chooses(self) -> bool:
        """Whether the rank or the penalty is chosen."""
        return self.by_threshold or self.search is not None

    @property
    def by_threshold(self) -> bool:
        """Whether the rank is chosen by the singular values."""
        rank = self.n_components
        return isinstance(rank, str) and rank == THRESHOLD

    def _open(self) -> tuple[object, Penalty]:
        """Return the rank and the penalty as `asked` takes them."""
        return (1 if self.by_threshold else self.n_components), self.penalty

    @property
    def offsets_used(self) -> str:
        """The offsets of the model, with "auto" resolved."""
        if self.offsets != "auto":
            return self.offsets
        return "none" if any(side.positive for side in self.sides) else "columns"

    @property
    def has_units(self) -> bool:
        """Whether the constraint relates the units of columns to each other.

        Fixed values do, and rows of V that are shares or clusters: the columns of the
        table are then mixtures of the columns of U, or copies of them.
        """
        fixed = any(isinstance(side.inside, Fixed) for side in self.sides)
        return fixed or isinstance(self.sides[1].inside, Simplex | OneHot)

    def step(self, problem: Factorization) -> UpdateRule:
        """Return the update rule for a problem."""
        if isinstance(self.solver, str):
            return step_named(self.solver, problem, self.learning_rate)
        return self.solver

    def tolerance(self, dtype: np.dtype) -> float:
        """Return `tol`, or 100 rounding errors if that is larger."""
        return max(self.tol, 100 * float(np.finfo(dtype).eps))

    def parameters(self) -> dict[str, object]:
        """Return the settings as they were given, by name."""
        return {name: getattr(self, name) for name in PARAMETERS}


PARAMETERS = tuple(one.name for one in fields(Settings) if one.init)
"""The names of the parameters of a model that are settings of a fit."""


def _check_pair(factors: object) -> None:
    pair = factors if isinstance(factors, tuple | list) else ()
    if len(pair) != 2 or any(
        np.ndim(f) != 3 or np.asarray(f).dtype.kind not in "biuf" for f in pair
    ):
        raise InvalidValueError(
            "initialization is neither a name nor two arrays of numbers; give one of "
            f"{', '.join(map(repr, ('auto', *INITIALIZATIONS)))}, or U of shape "
            "(n_starts, rows, n_components) and V of shape (n_starts, coordinates, "
            "n_components)"
        )


def _given(penalty: object) -> object:
    """Return a penalty without those that are to be chosen.

    Examples
    --------
    >>> _given({"l2": "auto", "l1": 0.1}), _given(0.5)
    ({'l1': 0.1}, 0.5)
    """
    if not isinstance(penalty, Mapping):
        return penalty
    return {
        name: value
        for name, value in penalty.items()
        if value != AUTO and not isinstance(value, list | tuple)
    }
