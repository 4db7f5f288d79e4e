"""The main table of a stored run, to be written as LaTeX, Markdown or CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from descents.errors import RunFolderError
from descents.pages.table_formats import FORMATS
from descents.reproduction.result import ReproductionResult
from descents.runs.apply_result import PredictedRows, UseOfModel
from descents.runs.factorize_result import LowRankResult
from descents.runs.impute_result import ImputationResult
from descents.runs.train_result import ComparisonResult, NetworkResult
from descents.statistics.metrics import metric_words
from descents.storage.results import Interval, Number
from descents.text import counted, decimals, decimals_of, p_text, percent, rounded


@dataclass(frozen=True)
class Cell:
    """A text, a number or an interval, with the decimals that its data support."""

    value: str | int | Number | Interval
    places: int | None = None
    says: str | None = None
    """What a reader sees, if it is not the value with its decimals."""

    @property
    def known(self) -> bool:
        """Whether there is something to write."""
        if isinstance(self.value, list):
            return None not in self.value
        return self.value is not None

    @property
    def text(self) -> str:
        """The cell for a reader; empty if its value is not known."""
        if not self.known:
            return ""
        if self.says is not None:
            return self.says
        if isinstance(self.value, list):
            return " to ".join(rounded(end, self.places) for end in self.value)
        if isinstance(self.value, float):
            return rounded(self.value, self.places)
        return str(self.value)


@dataclass(frozen=True)
class PaperTable:
    """A table: its caption, the names of its columns, and rows of cells.

    Attributes
    ----------
    caption : str
        What is shown, over what.
    header : list of str
    rows : list of list of Cell
    """

    caption: str
    header: list[str]
    rows: list[list[Cell]] = field(default_factory=list)

    @property
    def intervals(self) -> list[bool]:
        """Which columns are intervals."""
        return [
            any(isinstance(row[k].value, list) for row in self.rows)
            for k in range(len(self.header))
        ]

    @property
    def numbers(self) -> list[bool]:
        """Which columns have only numbers and intervals."""
        return [
            not any(isinstance(row[k].value, str) for row in self.rows)
            for k in range(len(self.header))
        ]


def main_table(result: object) -> PaperTable:
    """Return the main table of a run.

    Raises
    ------
    RunFolderError
        If there is no table for the command of the run.
    """
    if isinstance(result, NetworkResult):
        return _of_network(result)
    if isinstance(result, ComparisonResult):
        return _of_comparison(result)
    if isinstance(result, LowRankResult):
        return _of_factorization(result)
    if isinstance(result, ImputationResult):
        return _of_imputation(result)
    if isinstance(result, ReproductionResult):
        return _of_report(result)
    if isinstance(result, UseOfModel):
        return _of_new_rows(result)
    raise RunFolderError(
        "a run of this command has no table; give the folder of another run"
    )


def _of_network(result: NetworkResult) -> PaperTable:
    """Return the settings, with the metric of their starts."""
    rows = []
    for setting in result.settings:
        found = setting.metric
        places = decimals_of(found.interval, result.resolution)
        values = [found.mean, found.interval or [None, None], found.standard_deviation]
        middle = found.quartiles[1] if found.quartiles else None
        rows.append(
            [
                Cell(result.called(setting.name)),
                *(Cell(value, places) for value in [*values, middle]),
                Cell(found.count),
                Cell(found.failed),
            ]
        )
    if result.constant is not None:
        what = "the most frequent class" if result.classes else "the mean"
        blank = Cell(None)
        places = rows[0][1].places
        constant = Cell(result.constant, places)
        interval = Cell([None, None])
        rows.append(
            [Cell(f"always {what}"), constant, interval, blank, blank, blank, blank]
        )
    held_out = sorted(set(result.held_out_rows))
    where = f" of {' to '.join(map(str, held_out))} held-out rows" if held_out else ""
    splits = f", each on {result.splits} splits" if result.splits > 1 else ""
    return PaperTable(
        f"{metric_words(result.metric)}{where} of {result.target.name} "
        f"({result.run.table}, {counted(result.rows, 'row')}), over "
        f"{counted(result.starts, 'start')}{splits}; SD is between starts, n is the number "
        "of starts that did not fail",
        ["setting", "mean", "95% interval", "SD", "median", "n", "failed"],
        rows,
    )


def _of_comparison(result: ComparisonResult) -> PaperTable:
    """Return the sides, with their differences from the reference."""
    several = "simultaneous " if len(result.sides) > 2 else ""
    margin = result.margin is not None
    header = ["side", "mean", "95% interval", "SD", "n", "failed", "difference"]
    header += [f"{several}95% interval of the difference", "p", "verdict"]
    tests = [one.equivalence for one in result.differences if one.equivalence]
    if margin:
        confidence = percent(tests[0].confidence) if tests else ""
        header += [
            f"{confidence} interval of the difference".strip(),
            "p of equivalence",
        ]
    compared = {one.side: one for one in result.differences}
    rows = []
    for side in result.sides:
        places = decimals_of(side.interval, result.resolution)
        row = [
            Cell(side.name),
            Cell(side.mean, places),
            Cell(side.interval, places),
            Cell(side.standard_deviation, places),
            Cell(side.count),
            Cell(side.failed),
        ]
        one = compared.get(side.name)
        if one is None:
            row += [Cell(None), Cell([None, None]), Cell(None), Cell("reference")]
            row += [Cell([None, None]), Cell(None)] * margin
            rows.append(row)
            continue
        places = decimals_of(one.interval, result.resolution)
        row += [Cell(one.difference, places), Cell(one.interval, places)]
        row += [_p_cell(one.p_adjusted), Cell(one.verdict)]
        if margin:
            test = one.equivalence
            ends: Interval = [None, None] if test is None else test.interval
            known = [] if test is None else [test.p_low, test.p_high]
            ps = [p for p in known if p is not None]
            row += [Cell(ends, places), _p_cell(max(ps, default=None))]
        rows.append(row)
    within = f"; equivalence within {result.margin:g}" if margin else ""
    better = "higher" if result.higher_is_better else "lower"
    return PaperTable(
        f"{metric_words(result.metric)} over starts ({better} is better); differences are "
        f"those from {result.reference}{within}",
        header,
        rows,
    )


def _p_cell(value: Number) -> Cell:
    """Return a p-value, as in a sentence."""
    return Cell(value, None, p_text(value).removeprefix("p "))


def _of_factorization(result: LowRankResult) -> PaperTable:
    """Return the columns, with what is predicted of them in seen and in held-out cells."""
    rows = [
        [
            Cell(one.name),
            Cell(one.loss),
            Cell(one.observed),
            Cell(one.explained, 2),
            Cell(one.unseen, 2),
            Cell(one.filled_by),
        ]
        for one in result.columns
    ]
    held_out = "" if result.held_out is None else f" {result.held_out.says}"
    return PaperTable(
        f"Rank {result.rank} of {result.run.table} ({result.shape[0]} x {result.shape[1]}): "
        "the share of the loss of the best constant that is explained, of seen and of "
        f"held-out cells; n is the number of observed cells.{held_out}",
        ["column", "loss", "n", "seen cells", "held-out cells", "filled by"],
        rows,
    )


def _of_imputation(result: ImputationResult) -> PaperTable:
    """Return the columns, with the errors of their held-out cells."""
    rows = []
    for one in result.columns:
        places = decimals(one.standard_error)
        ends: Interval = [None, None]
        if one.error is not None and one.standard_error is not None:
            half = 1.96 * one.standard_error
            ends = [one.error - half, one.error + half]
        rows.append(
            [
                Cell(one.name),
                Cell(one.kind),
                Cell(one.missing),
                Cell(one.held_out),
                Cell(one.error, places),
                Cell(ends, places),
                Cell(one.constant_error, places),
                Cell(one.measure),
                Cell(one.filled_by),
            ]
        )
    header = ["column", "type", "missing", "n", "error", "95% interval"]
    return PaperTable(
        f"Errors of held-out cells of {result.run.table}, beside those of means and most "
        "frequent levels; n is the number of held-out cells",
        [*header, "error of the constant", "measure", "filled by"],
        rows,
    )


def _of_report(result: ReproductionResult) -> PaperTable:
    """Return the claims of the report with their verdicts."""
    return PaperTable(
        f"The claims of the report, run again with {counted(result.run.starts, 'start')}",
        ["claim", "what it says", "verdict", "finding"],
        [
            [Cell(one.number), Cell(one.claim), Cell(one.verdict), Cell(one.finding)]
            for one in result.claims
        ],
    )


def _of_new_rows(result: UseOfModel) -> PaperTable:
    """Return how often each class is predicted, or the columns of the new rows."""
    model = f"by the model of {result.run.model}"
    if (
        isinstance(result, PredictedRows)
        and result.predicted
        and result.predicted.levels
    ):
        counts = result.predicted.observed
        return PaperTable(
            f"{result.target} of {counted(result.rows, 'row')}, predicted {model}",
            [result.target, "rows", "share of rows"],
            [
                [Cell(level), Cell(count), Cell(count / result.rows, 3)]
                for level, count in zip(result.predicted.levels, counts, strict=True)
            ],
        )
    return PaperTable(
        f"Columns of {counted(result.rows, 'row')}, used {model}",
        ["column", "missing cells", "cells outside the range of the fit"],
        [
            [Cell(one.name), Cell(one.missing), Cell(one.outside)]
            for one in result.table_columns
        ],
    )


def formatted(table: PaperTable, form: str) -> str:
    """Return a table as text in one of `FORMATS`."""
    return FORMATS[form](table.caption, *_columns(table, split=form.endswith("csv")))


def _columns(
    table: PaperTable, split: bool
) -> tuple[list[str], list[list[str]], list[bool]]:
    """Return header and rows as texts, and which columns are numbers.

    For a program (`split`), numbers have all digits, and an interval is two columns.
    """
    if not split:
        return table.header, _texts(table.rows), table.numbers
    header: list[str] = []
    for name, interval in zip(table.header, table.intervals, strict=True):
        header += [f"{name}: low", f"{name}: high"] if interval else [name]
    rows = []
    for row in table.rows:
        line: list[str] = []
        for cell, interval in zip(row, table.intervals, strict=True):
            ends = cell.value if isinstance(cell.value, list) else [None, None]
            values = ends if interval else [cell.value]
            line += ["" if value is None else str(value) for value in values]
        rows.append(line)
    return header, rows, [False] * len(header)


def _texts(rows: Sequence[Sequence[Cell]]) -> list[list[str]]:
    return [[cell.text for cell in row] for row in rows]
