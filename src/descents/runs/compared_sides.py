"""The sides of a comparison: settings of stored runs of `descents train`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from descents.errors import Complaints, InvalidValueError
from descents.runs.train_result import NetworkResult, OptionOfSides
from descents.statistics.summaries import start_means
from descents.storage.damage import undamaged
from descents.storage.files import read_json, read_table
from descents.storage.results import read_result
from descents.storage.run_folders import RESULT, ROWS
from descents.text import counted, joined
from descents.validation import folder_path

NO_METRIC = ("start", "split")
"""Numeric columns that identify the start of a row, and are not metrics."""
VARIED = {
    "initializations": "initialization",
    "optimizers": "optimizer",
    "learning_rates": "learning_rate",
}
"""Options that list what settings differ in, and the field of a setting with its value."""


@dataclass(frozen=True)
class Side:
    """The starts of a setting of a stored run.

    Attributes
    ----------
    run : str
        The folder, as it was given.
    result : NetworkResult
    setting : str
    values : ndarray of shape (starts,)
        The metric of each start, the mean over its splits; NaN if it has none.
    failed : bool ndarray of shape (starts,)
    chosen : bool
        Whether it is the best setting of several, chosen by these starts.
    name : str
        Its name in the result, which differs from those of the other sides.
    """

    run: str
    result: NetworkResult
    setting: str
    values: np.ndarray
    failed: np.ndarray
    chosen: bool
    name: str = ""

    @property
    def finite(self) -> np.ndarray:
        """The values of the starts that have one."""
        found: np.ndarray = self.values[np.isfinite(self.values)]
        return found

    @property
    def mean(self) -> float:
        """The mean of the starts that have a value; NaN if there is none."""
        return float(self.finite.mean()) if len(self.finite) else np.nan

    @property
    def design(self) -> tuple[object, ...]:
        """What two runs have in common if they are compared start by start."""
        result, options = self.result, self.result.run.options
        facts = (result.starts, result.splits, result.rows, result.target)
        # Earlier versions stored no hash of what they read from standard input.
        table = result.run.sha256 or str(folder_path(self.run).resolve())
        return (*facts, options["seed"], options["validation"], table)


@dataclass(frozen=True)
class StoredStarts:
    """A stored run of `descents train`: its result, and the rows of its starts."""

    run: str
    result: NetworkResult
    rows: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, run: str | Path) -> StoredStarts:
        """Read a stored run.

        Raises
        ------
        RunFolderError
            If the folder contains no complete run.
        InvalidValueError
            If it contains a run of another command.
        """
        folder = folder_path(run)
        with undamaged(folder):
            return cls._of_folder(run, folder)

    @classmethod
    def _of_folder(cls, run: str | Path, folder: Path) -> StoredStarts:
        stored = read_json(folder / RESULT).get("run")
        if not isinstance(stored, dict) or stored.get("command") != "train":
            raise InvalidValueError(
                f"{folder} contains no run of 'descents train'; give the folder of one"
            )
        result = read_result(NetworkResult, folder / RESULT)
        return cls(str(run), result, read_table(folder / ROWS))

    @property
    def settings(self) -> list[str]:
        """The names of the settings."""
        return [setting.name for setting in self.result.settings]

    def metric(self, given: str | None) -> str:
        """Return the metric, by default that of the run.

        Raises
        ------
        InvalidValueError
            If the run does not have it.
        """
        name = self.result.metric if given is None else given
        metrics = [
            n
            for n, v in self.rows.items()
            if v.dtype.kind in "iuf"
            and n not in NO_METRIC
            and not n.startswith("seconds")
        ]
        if given is None and name not in metrics:
            with undamaged(folder_path(self.run)):
                raise ValueError("starts.parquet lacks the metric of the run")
        if name not in metrics:
            raise InvalidValueError(
                f"--metric is {name!r}, which {folder_path(self.run)} does not have; give "
                f"one of {', '.join(map(repr, metrics))}"
            )
        return name

    def side(self, setting: str | None, metric: str) -> Side:
        """Return the starts of a setting, by default of the best one."""
        with undamaged(folder_path(self.run)):
            return self._side(setting, metric)

    def _side(self, setting: str | None, metric: str) -> Side:
        name = self.result.best.setting if setting is None else setting
        rows = self.rows["setting"] == name
        table, lost = (
            column[rows].reshape(-1, self.result.splits)
            for column in (
                self.rows[metric].astype(np.float64),
                ~np.isfinite(self.rows["loss"]),
            )
        )
        chosen = setting is None and len(self.result.settings) > 1
        return Side(self.run, self.result, name, *start_means(table, lost), chosen)


def sides_of(
    runs: Sequence[str | Path], settings: Sequence[str], metric: str | None
) -> tuple[list[Side], str]:
    """Return the sides of a comparison, and the metric that compares them.

    Parameters
    ----------
    runs : sequence of paths
        Folders of runs.
    settings : sequence of str
        SETTING, of every run; or RUN:SETTING, of one run. A run to which no name applies
        is represented by its best setting.
    metric : str or None
        By default that of the runs.

    Raises
    ------
    RunFolderError
        If a folder contains no complete run.
    InvalidValueError
        If a run is one of another command, lacks a setting or the metric, or if there are
        fewer than two sides.
    """
    complaints = Complaints()
    read = [complaints.attempt(StoredStarts.of, run) for run in runs]
    stored = [one for one in read if one is not None]
    for one in stored:
        complaints.attempt(one.metric, metric)
    chosen = _chosen(stored, settings, complaints)
    complaints.raise_any()
    names = list(dict.fromkeys(one.result.metric for one in stored))
    if len(names) > 1 and metric is None:
        raise InvalidValueError(
            f"the runs have the metrics {joined(names)}; give --metric with one that "
            f"{'both' if len(stored) == 2 else 'all'} have"
        )
    name = metric or names[0]
    sides = [
        one.side(setting, name)
        for one, each in zip(stored, chosen, strict=True)
        for setting in each
    ]
    if len(sides) < 2:
        (one,) = stored
        several = "one setting, " if len(one.settings) == 1 else "the settings "
        remedy = "" if len(one.settings) == 1 else ", or two of these as --setting"
        raise InvalidValueError(
            f"{one.run} alone is one side of a comparison, and it has {several}"
            f"{joined(one.settings)}; give another run{remedy}"
        )
    return _named(sides), name


def _chosen(
    stored: Sequence[StoredStarts], settings: Sequence[str], complaints: Complaints
) -> list[list[str | None]]:
    """Return the settings of each run, None for the best one."""
    chosen: list[list[str | None]] = [[] for _ in stored]
    for text in settings:
        one_run = [
            (place, text[len(name) + 1 :])
            for place, one in enumerate(stored)
            for name in dict.fromkeys((one.run, folder_path(one.run).resolve().name))
            if text.startswith(f"{name}:")
        ]
        for place, setting in one_run or [(k, text) for k in range(len(stored))]:
            if setting in stored[place].settings:
                chosen[place].append(setting)
                continue
            complaints.require(
                False,
                f"--setting is {text!r}, but {stored[place].run} has no setting "
                f"{setting!r}; give one of {', '.join(map(repr, stored[place].settings))}"
                f"{'' if len(stored) == 1 else ', as RUN:SETTING if only one run has it'}",
            )
    return [list(dict.fromkeys(each)) or [None] for each in chosen]


def _named(sides: Sequence[Side]) -> list[Side]:
    """Return the sides with names: the folder, and the setting if the run has several."""
    short = [folder_path(side.run).resolve().name for side in sides]
    runs = list(dict.fromkeys(side.run for side in sides))
    unique = len(set(short)) == len(runs) and all(short)
    names: list[str] = []
    for side, folder in zip(sides, short, strict=True):
        name = folder if unique else side.run
        if len(side.result.settings) > 1:
            name = f"{name}:{side.setting}"
        again = sum(other == name or other.startswith(f"{name} (") for other in names)
        names.append(f"{name} ({again + 1})" if again else name)
    return [replace(side, name=name) for side, name in zip(sides, names, strict=True)]


def reference_of(sides: Sequence[Side], against: str | None, higher: bool) -> int:
    """Return the position of the side with which the others are compared.

    It is `against`, the name of a side, its run or RUN:SETTING; else the second of two
    sides, or the best of several.

    Raises
    ------
    InvalidValueError
        If `against` names no side, or several.
    """
    if against is None:
        return 1 if len(sides) == 2 else best_of(sides, higher)
    found = [
        place
        for place, side in enumerate(sides)
        if against in (side.name, side.run, side.setting, f"{side.run}:{side.setting}")
    ]
    exact = [place for place in found if sides[place].name == against]
    found = exact or found
    if len(found) != 1:
        what = "is no side" if not found else f"is the name of {len(found)} sides"
        raise InvalidValueError(
            f"--against is {against!r}, which {what} of the comparison; give one of "
            f"{', '.join(repr(side.name) for side in sides)}"
        )
    return found[0]


def best_of(sides: Sequence[Side], higher: bool) -> int:
    """Return the position of the best side.

    A failed start counts as the worst value of any start. Sides of which more than half
    of the starts failed come after all others, and those without any value last.
    """
    sign = 1.0 if higher else -1.0
    worst = min(
        (float((sign * s.finite).min()) for s in sides if len(s.finite)), default=0
    )
    ranks = []
    for side in sides:
        counted_values = np.where(side.failed, worst, sign * side.values)
        known = len(side.finite) > 0
        mean = float(np.nanmean(counted_values)) if known else -np.inf
        ranks.append((known, float(side.failed.mean()) <= 0.5, mean))
    return max(range(len(sides)), key=lambda place: ranks[place])


def option_differences(sides: Sequence[Side]) -> list[OptionOfSides]:
    """Return the options, tables and versions in which the sides differ."""
    each = [_facts(side) for side in sides]
    names = dict.fromkeys(name for facts in each for name in facts)
    found = []
    for name in names:
        values = [facts.get(name, "not given") for facts in each]
        if len(set(values)) > 1:
            found.append(OptionOfSides(option=name, values=values))
    return found


def _facts(side: Side) -> dict[str, str]:
    """Return the options of a side as texts, with those of its setting."""
    result = side.result
    setting = next(one for one in result.settings if one.name == side.setting)
    facts: dict[str, object] = {
        "table": result.run.table,
        "sha256 of the table": result.run.sha256[:12],
        "rows": result.rows,
    }
    for name, value in result.run.options.items():
        varied = VARIED.get(name)
        facts[varied or name] = getattr(setting, varied) if varied else value
    facts |= {name: value for name, value in result.run.reading.items() if value}
    facts |= {f"version of {n}": v for n, v in result.environment.versions.items()}
    return {name.replace("_", " "): _text(value) for name, value in facts.items()}


def _text(value: object) -> str:
    """Return the value of an option as a text."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if value is None or value == "":
        return "none"
    return str(value)


def starts_in_words(counts: Sequence[int]) -> str:
    """Return the numbers of starts of the sides.

    Examples
    --------
    >>> starts_in_words([5, 5]), starts_in_words([5, 3])
    ('5 starts', '5 and 3 starts')
    """
    one = len(set(counts)) == 1
    return (
        counted(counts[0], "start")
        if one
        else f"{joined(list(map(str, counts)))} starts"
    )
