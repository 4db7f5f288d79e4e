"""`descents compare`: compare the starts of two stored runs of `descents train`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from descents.errors import Complaints, InvalidValueError
from descents.networks.cautions import many_failed
from descents.networks.sweep_result import compared_starts
from descents.runs.train_result import ComparisonResult, NetworkResult, facts_of
from descents.statistics.differences import Comparison
from descents.statistics.metrics import higher_is_better, metric_kind
from descents.statistics.summaries import start_means
from descents.storage.files import read_json, read_table
from descents.storage.results import read_result
from descents.storage.run_folders import RESULT, ROWS
from descents.text import counted
from descents.validation import folder_path

NO_METRIC = ("start", "split")
"""Numeric columns that identify the start of a row, and are not metrics."""


@dataclass(frozen=True)
class Side:
    """One of two runs that are compared, with the starts of its best setting.

    Attributes
    ----------
    run : str
        The folder, as it was given.
    result : NetworkResult
    setting : str
        The best setting.
    values : ndarray of shape (starts,)
        The metric of each start, the mean over its splits; NaN if it has none.
    failed : bool ndarray of shape (starts,)
    """

    run: str
    result: NetworkResult
    setting: str
    values: np.ndarray
    failed: np.ndarray

    @classmethod
    def of(cls, run: str | Path, metric: str | None) -> Side:
        """Read a stored run; `metric` is by default that of the run."""
        folder = folder_path(run)
        stored = read_json(folder / RESULT).get("run")
        if not isinstance(stored, dict) or stored.get("command") != "train":
            raise InvalidValueError(
                f"{folder} contains no run of 'descents train'; give the folder of one"
            )
        result = read_result(NetworkResult, folder / RESULT)
        rows = read_table(folder / ROWS)
        name = metric or result.metric
        metrics = [
            n
            for n, v in rows.items()
            if v.dtype.kind in "iuf"
            and n not in NO_METRIC
            and not n.startswith("seconds")
        ]
        if name not in metrics:
            raise InvalidValueError(
                f"--metric is {name!r}, which {folder} does not have; give one of "
                f"{', '.join(map(repr, metrics))}"
            )
        setting = result.best.setting
        chosen = rows["setting"] == setting
        table, lost = (
            column[chosen].reshape(-1, result.splits)
            for column in (rows[name].astype(np.float64), ~np.isfinite(rows["loss"]))
        )
        return cls(str(run), result, setting, *start_means(table, lost))

    @property
    def mean(self) -> float:
        """The mean of the starts that have a value; NaN if there is none."""
        finite = self.values[np.isfinite(self.values)]
        return float(finite.mean()) if len(finite) else np.nan

    @property
    def design(self) -> tuple[object, ...]:
        """What two runs have in common if they are compared start by start."""
        result, options = self.result, self.result.run.options
        facts = (result.starts, result.splits, result.rows, result.target)
        return (*facts, options["seed"], options["validation"], result.run.sha256)


def compare_runs(
    first: str | Path, second: str | Path, metric: str | None = None
) -> ComparisonResult:
    """Compare the best settings of two stored runs.

    Starts are compared in pairs if both runs have the same table, target, number of
    starts, seed and validation.

    Raises
    ------
    RunFolderError
        If a folder contains no complete run of train.
    InvalidValueError
        If the metric is not in both runs.
    """
    complaints = Complaints()
    one, two = sides = tuple(
        complaints.attempt(Side.of, run, metric) for run in (first, second)
    )
    complaints.raise_any()
    if one.result.metric != two.result.metric and metric is None:
        raise InvalidValueError(
            f"the runs have the metrics {one.result.metric} and {two.result.metric}; give "
            "--metric with one that both have"
        )
    name = metric or one.result.metric
    comparison = compared_starts(
        one.values,
        two.values,
        paired=one.design == two.design,
        higher_is_better=higher_is_better(name),
        failed=(one.failed, two.failed),
    )
    return ComparisonResult(
        runs=[side.run for side in sides],
        settings=[side.setting for side in sides],
        metric=name,
        higher_is_better=higher_is_better(name),
        means=[side.mean for side in sides],
        starts=[len(side.values) for side in sides],
        constants=[
            side.result.constant if name == side.result.metric else None
            for side in sides
        ],
        **facts_of(comparison),
        warnings=[
            *_same_run(sides),
            *_differing(one.result, two.result),
            *_weighted_apart(one.result, two.result, name),
            *_undefined(name, sides),
            *_failing(sides),
            *_too_few(comparison),
        ],
        notes=_chosen(sides),
    )


def _same_run(sides: Sequence[Side]) -> list[str]:
    """Warn if a run is compared with itself, or with a repetition of itself."""
    one, two = (side.result.run for side in sides)
    if folder_path(sides[0].run).resolve() == folder_path(sides[1].run).resolve():
        return [
            "both are the same run, so there is nothing to compare; give another run"
        ]
    if (
        one.sha256
        and one == two
        and np.array_equal(sides[0].values, sides[1].values, equal_nan=True)
    ):
        return [
            "both runs have the same table, options and seed, so their starts are the "
            "same; give a run with other options"
        ]
    return []


def _too_few(comparison: Comparison) -> list[str]:
    """Warn if there are too few starts for an interval."""
    fewest = min(comparison.first_count, comparison.second_count)
    if fewest > 1 or np.isfinite(comparison.low):
        return []
    return [
        f"the difference is of {counted(fewest, 'start')}, which says nothing about other "
        "starts, so that there is no interval; give more --starts"
    ]


def _differing(one: NetworkResult, two: NetworkResult) -> list[str]:
    """Warn about differences between the runs that affect the comparison."""
    warnings = []
    if one.run.sha256 != two.run.sha256 or one.target != two.target:
        warnings.append(
            "they learned from different tables or targets "
            f"({_learned(one)} and {_learned(two)}), so the difference is not only that of "
            "their options; train both on the same table"
        )
    first, second = (result.run.options["validation"] for result in (one, two))
    if first != second:
        warnings.append(
            f"they hold out different rows (--validation {first} and {second}), which "
            "contributes to the difference"
        )
    seeds = [result.run.options["seed"] for result in (one, two)]
    if not warnings and seeds[0] != seeds[1]:
        warnings.append(
            f"their seeds ({seeds[0]} and {seeds[1]}) draw different starts and held-out "
            "rows; with the same seed they are compared start by start"
        )
    return warnings


def _learned(result: NetworkResult) -> str:
    """Return which target of which table a run learned."""
    rows = counted(result.rows, "row")
    return f"{result.target.name} of {result.run.table}, {rows}"


def _weighted_apart(one: NetworkResult, two: NetworkResult, metric: str) -> list[str]:
    """Warn if the metric weights rows or classes differently in the two runs."""
    one_options, two_options = one.run.options, two.run.options
    warnings = []
    rows = [one_options.get("weights"), two_options.get("weights")]
    if rows[0] != rows[1]:
        names = " and ".join(f"--weights {name}" if name else "none" for name in rows)
        warnings.append(
            f"they weight rows differently ({names}), and {metric} uses these weights, "
            "which contributes to the difference"
        )
    classes = [
        list(options.get("class_weight") or ())
        for options in (one_options, two_options)
    ]
    if metric_kind(metric) == "loss" and classes[0] != classes[1]:
        warnings.append(
            f"their --class-weight differ, and {metric} uses these weights, which "
            "contributes to the difference; validation_log_loss does not use them"
        )
    return warnings


def _undefined(metric: str, sides: Sequence[Side]) -> list[str]:
    """Warn about runs in which no start has a value."""
    return [
        f"{metric} is not defined for any start of {side.run}; give --metric "
        "validation_loss, or another that is defined"
        for side in sides
        if not np.isfinite(side.values).any() and not side.failed.all()
    ]


def _failing(sides: Sequence[Side]) -> list[str]:
    """Warn about runs in which many starts failed."""
    sentences = [
        many_failed(side.failed, f"of {side.run} ({side.setting}) ") for side in sides
    ]
    return [sentence for sentence in sentences if sentence]


def _chosen(sides: Sequence[Side]) -> list[str]:
    """Return notes on settings that were chosen by the starts that are compared."""
    notes = [
        f"{side.setting} is the best of {len(side.result.settings)} settings of "
        f"{side.run} by these starts, so its values are somewhat too good; to compare it "
        "without this bias, train it alone with another --seed"
        for side in sides
        if len(side.result.settings) > 1
    ]
    return list(dict.fromkeys(notes))
