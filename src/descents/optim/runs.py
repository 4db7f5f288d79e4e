"""The results of a descent, as CPU arrays, so that they can be loaded anywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

import numpy as np

from descents.errors import InvalidValueError, RunFolderError
from descents.plots import axes, notebook
from descents.storage.damage import check_facts, undamaged
from descents.storage.files import read_tensors, write_tensors
from descents.tables.data_frames import data_frame
from descents.text import UNJUDGED, counted

if TYPE_CHECKING:
    import pandas as pd


class Status(Enum):
    """How a start ended; the value is a description for messages."""

    STATIONARY = "stationary: a step can gain next to nothing"
    SETTLED = "settled: the loss fell by at most loss_tol of itself"
    STOPPED = "stopped early: its metric no longer improved"
    STALLED = "stalled: the training loss no longer fell by tol"
    LIMIT = "stopped at the limit of steps"
    OVERFLOWED = "overflowed: the loss became infinite or NaN after the best epoch, which is kept"
    NONFINITE = "non-finite: the loss became infinite or NaN"
    INTERRUPTED = "interrupted before its end"
    WORSE = "worse: the loss is above that of the best constants"

    @property
    def word(self) -> str:
        """The status as one word, for tables."""
        return self.name.lower()


class RunSettings(TypedDict, total=False):
    """The settings of a descent as plain values; runs of earlier versions lack some.

    Attributes
    ----------
    seed : int
    width : int
        The maximum number of starts in a chunk.
    dtype : str
        The working precision.
    edges : list of int
        The first starts of the chunks that are narrower than `width`.
    steps, stop : dict
        The update rule and the stopping rule: the name and the settings of each.
    """

    seed: int
    width: int
    dtype: str
    edges: list[int]
    steps: dict[str, object]
    stop: StopSettings


class StopSettings(TypedDict, total=False):
    """The settings of a `Stop` that later work reads."""

    max_steps: int


class RunFacts(TypedDict, total=False):
    """What is stored beside the arrays of `Runs`."""

    format: int
    statuses: list[str]
    settings: RunSettings
    verdicts: list[str]
    order: list[str]


@dataclass(frozen=True)
class Runs:
    """Losses, statuses, histories and parameters of S starts.

    Attributes
    ----------
    starts : int64 ndarray of shape (S,)
        The numbers of the starts.
    losses : float64 ndarray of shape (S,)
        Final losses, evaluated in float64 at the final parameters.
    statuses : tuple of Status, length S
    steps_taken : int64 ndarray of shape (S,)
    gradient_norms, initial_gradient_norms : float64 ndarray of shape (S,)
        Norm of the prox-gradient mapping (without constraints, of the gradient) at
        the final and the initial point.
    parameters : dict of ndarray, each of shape (S, ...)
    metrics : dict of ndarray of shape (S,)
        The final metrics that the problem records beside the loss.
    recorded : int64 ndarray of shape (R,)
        The steps at which histories were recorded.
    histories : dict of ndarray of shape (R, S)
        ``"loss"`` and each metric at the recorded steps; NaN if a start was interrupted
        before.
    seconds : float64 ndarray of shape (S,)
        Wall time of a start's chunk, divided by the number of starts in it.
    settings : dict
        The seed, the update rule and the stopping rule, as plain values.
    verdicts : tuple of str
        The verdict of the diagnosis of each start (`with_verdicts`); empty if no start
        was diagnosed.

    Examples
    --------
    >>> from descents import Problem, descend, GradientDescent, Stop
    >>> line = Problem.from_batched_loss(
    ...     lambda parameters, starts, step: parameters["x"].square(),
    ...     lambda generator: {"x": generator.random()},
    ... )
    >>> runs = descend(line, 3, steps=GradientDescent(0.5), stop=Stop(1))
    >>> runs.best, float(runs.losses[runs.best]), runs.statuses[0].word
    (0, 0.0, 'limit')
    """

    starts: np.ndarray
    losses: np.ndarray
    statuses: tuple[Status, ...]
    steps_taken: np.ndarray
    gradient_norms: np.ndarray
    initial_gradient_norms: np.ndarray
    parameters: dict[str, np.ndarray]
    metrics: dict[str, np.ndarray]
    recorded: np.ndarray
    histories: dict[str, np.ndarray]
    seconds: np.ndarray
    settings: RunSettings = field(default_factory=RunSettings)
    verdicts: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.starts)

    def __repr__(self) -> str:
        """Return how many starts there are, how they ended, and the least loss."""
        return f"Runs({counted(len(self), 'start')}: {self._ends()})"

    def _ends(self) -> str:
        """Return how many starts ended how, and the least loss."""
        words = Counter(status.word for status in self.statuses)
        ends = ", ".join(f"{count} {word}" for word, count in words.most_common())
        if not np.isfinite(self.losses).any():
            return f"{ends}; no loss is finite"
        return f"{ends}; the least loss is {self.losses[self.best]:.6g}"

    def _repr_html_(self) -> str:
        """Return a sentence, a picture and the five best starts, for a notebook."""
        table = self.columns()
        order = np.argsort(self.losses, kind="stable")  # NaN comes last
        names = ("start", "loss", "status", "verdict", "steps_taken", "gradient_norm")
        shown = {n: table[n][order[: notebook.ROWS]] for n in names if n in table}
        return notebook.block(
            f"{counted(len(self), 'start')}: {self._ends()}. Losses are of the data that "
            "the starts have seen.",
            shown,
            lambda ax: axes.start_gaps(ax, self.losses, {}),
            rows=len(self),
        )

    @property
    def best(self) -> int:
        """The position of the start with the lowest finite loss.

        Raises
        ------
        InvalidValueError
            If no start has a finite loss.
        """
        finite = np.isfinite(self.losses)
        if not finite.any():
            raise InvalidValueError(
                f"{'the start has no' if len(self) == 1 else f'none of the {len(self)} starts has a'} "
                "finite loss; lower the learning rate"
            )
        return int(np.argmin(np.where(finite, self.losses, np.inf)))

    @property
    def interrupted(self) -> bool:
        """Whether any start was interrupted."""
        return Status.INTERRUPTED in self.statuses

    @classmethod
    def joined(cls, parts: Sequence[Runs]) -> Runs:
        """Concatenate the runs of several parts.

        Examples
        --------
        >>> from descents import Factorization, descend
        >>> table = Factorization([[1.0, 0.0], [0.0, 2.0]], rank=1)
        >>> Runs.joined([descend(table, [3]), descend(table, [1])]).starts
        array([3, 1])
        """
        per_start = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in _PER_START
        }

        def group(of: str, axis: int = 0) -> dict[str, np.ndarray]:
            groups = [getattr(part, of) for part in parts]
            return {
                name: np.concatenate([group[name] for group in groups], axis=axis)
                for name in groups[0]
            }

        statuses = tuple(status for part in parts for status in part.statuses)
        verdicts: tuple[str, ...] = ()
        if any(part.verdicts for part in parts):
            words_of_parts = (
                part.verdicts or (UNJUDGED,) * len(part) for part in parts
            )
            verdicts = tuple(word for words in words_of_parts for word in words)
        return replace(
            parts[0],
            statuses=statuses,
            verdicts=verdicts,
            parameters=group("parameters"),
            metrics=group("metrics"),
            histories=group("histories", axis=1),
            settings=parts[0].settings,
            **per_start,
        )

    def picked(self, positions: np.ndarray) -> Runs:
        """Return the runs at the given positions, in that order.

        Examples
        --------
        >>> from descents import Factorization, descend
        >>> runs = descend(Factorization([[1.0, 0.0], [0.0, 2.0]], rank=1), starts=3)
        >>> runs.picked(np.array([2, 0])).starts
        array([2, 0])
        """
        return replace(
            self,
            statuses=tuple(self.statuses[position] for position in positions),
            verdicts=self.verdicts and tuple(self.verdicts[k] for k in positions),
            parameters={n: a[positions] for n, a in self.parameters.items()},
            metrics={n: a[positions] for n, a in self.metrics.items()},
            histories={n: a[:, positions] for n, a in self.histories.items()},
            settings=self.settings,
            **{name: getattr(self, name)[positions] for name in _PER_START},
        )

    def with_verdicts(
        self, starts: Iterable[int] | np.ndarray, words: Sequence[str]
    ) -> Runs:
        """Return the runs with the verdicts of some starts, which `table` shows.

        Examples
        --------
        >>> from descents import Factorization, descend
        >>> runs = descend(Factorization([[1.0, 0.0], [0.0, 2.0]], rank=1), starts=2)
        >>> runs.with_verdicts([1], ["converged"]).table()["verdict"].tolist()
        ['not diagnosed', 'converged']
        """
        new_words = dict(zip(map(int, starts), words, strict=True))
        old = self.verdicts or (UNJUDGED,) * len(self)
        pairs = zip(self.starts.tolist(), old, strict=True)
        return replace(
            self, verdicts=tuple(new_words.get(k, word) for k, word in pairs)
        )

    def table(self) -> pd.DataFrame | dict[str, np.ndarray]:
        """Return the results as a table with one row per start.

        Returns
        -------
        DataFrame
            If pandas is not installed, a dict of ndarray of shape (S,). There is a column
            ``verdict`` if starts were diagnosed.
        """
        return data_frame(self.columns())

    def columns(self) -> dict[str, np.ndarray]:
        """Return the columns of `table` as arrays of shape (S,)."""
        judged = {"verdict": np.array(self.verdicts)} if self.verdicts else {}
        return {
            "start": self.starts,
            "loss": self.losses,
            "status": np.array([status.word for status in self.statuses]),
            **judged,
            "steps_taken": self.steps_taken,
            "gradient_norm": self.gradient_norms,
            "initial_gradient_norm": self.initial_gradient_norms,
            **self.metrics,
            "seconds": self.seconds,
        }

    def save(self, path: str | Path) -> None:
        """Write all results to one safetensors file, which loads without running code.

        Raises
        ------
        RunFolderError
            If the file cannot be written.
        """
        write_tensors(Path(path), *self.stored())

    def stored(self) -> tuple[dict[str, np.ndarray], RunFacts]:
        """Return all results as named arrays and plain values, for `save`."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        for group in _GROUPS:
            for name, array in getattr(self, group).items():
                arrays[f"{group}/{name}"] = array
        return arrays, {
            "format": 1,
            "statuses": [status.name for status in self.statuses],
            "settings": self.settings,
            "verdicts": list(self.verdicts),
            # A safetensors file does not keep the order of its arrays.
            "order": list(arrays),
        }

    @classmethod
    def load(cls, path: str | Path) -> Runs:
        """Read results that `save` wrote.

        Raises
        ------
        RunFolderError
            If the file cannot be read or was not written by `save`.
        """
        arrays, facts = read_tensors(Path(path))
        with undamaged(path):
            return cls.restored(arrays, cast("RunFacts", facts))

    @classmethod
    def if_kept(cls, path: str | Path) -> Runs | None:
        """Read results that `save` wrote, or return None if the file cannot be read.

        Examples
        --------
        >>> print(Runs.if_kept("nowhere.safetensors"))
        None
        """
        try:
            return cls.load(path)
        except RunFolderError:  # missing or damaged: the caller computes it again
            return None

    @classmethod
    def restored(cls, arrays: dict[str, np.ndarray], facts: RunFacts) -> Runs:
        """Return the runs from the result of `stored`; other arrays are ignored.

        Raises
        ------
        LookupError, TypeError or ValueError
            If arrays or facts are missing, or do not belong together.
        """
        check_facts(RunFacts, facts)
        groups: dict[str, dict[str, np.ndarray]] = {group: {} for group in _GROUPS}
        stored = [key for key in arrays if key.partition("/")[0] in groups]
        order = [key for key in facts.get("order", stored) if "/" in key]
        if sorted(order) != sorted(stored):
            raise ValueError(f"its order of arrays is {order}, but it has {stored}")
        for key in order:
            group, name = key.split("/", 1)
            groups[group][name] = arrays[key]
        per_start = {name: arrays[name] for name in _ARRAYS}
        _check_arrays(per_start, groups, len(facts["statuses"]))
        return cls(
            statuses=tuple(Status[word] for word in facts["statuses"]),
            settings=facts["settings"],
            verdicts=tuple(facts.get("verdicts", ())),
            parameters=groups["parameters"],
            metrics=groups["metrics"],
            histories=groups["histories"],
            **per_start,
        )


def _check_arrays(
    arrays: dict[str, np.ndarray],
    groups: dict[str, dict[str, np.ndarray]],
    starts: int,
) -> None:
    """Raise a ValueError if stored arrays of `starts` starts do not belong together."""
    whole = {"starts", "steps_taken", "recorded"}
    recorded = arrays["recorded"].size
    shapes = {name: (starts,) for name in _PER_START} | {"recorded": (recorded,)}
    for name, array in arrays.items():
        if array.shape != shapes[name] or array.dtype.kind not in (
            "iu" if name in whole else "f"
        ):
            raise ValueError(f"{name} is an array of {array.dtype}, {array.shape}")
    firsts: dict[str, tuple[int, ...]] = {
        "parameters": (starts,),
        "metrics": (starts,),
        "histories": (recorded, starts),
    }
    for group, first in firsts.items():
        for name, array in groups[group].items():
            kinds = "f" if group == "parameters" else "fiu"
            if array.shape[: len(first)] != first or array.dtype.kind not in kinds:
                raise ValueError(f"{name} is an array of {array.dtype}, {array.shape}")


_PER_START = (
    "starts",
    "losses",
    "steps_taken",
    "gradient_norms",
    "initial_gradient_norms",
    "seconds",
)
_ARRAYS = (*_PER_START, "recorded")
_GROUPS = ("parameters", "metrics", "histories")
