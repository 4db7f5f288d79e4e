"""`descents apply` for low-rank models, and tables with their missing cells filled."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from descents.cells.intake import convergence_warning
from descents.cells.streamed import Streamed
from descents.errors import InvalidValueError
from descents.lowrank.model import LowRank
from descents.lowrank.prediction_intervals import Intervals
from descents.runs.apply_facts import NOT_SAID, Arguments, new_columns
from descents.runs.apply_result import (
    AppliedResult,
    AppliedRun,
    NewColumn,
    UnseenLevel,
)
from descents.runs.block_tables import memory_use, warmed_up
from descents.runs.factorize import MODEL, SCORES, FactorizeRun, scores
from descents.runs.request import Data, environment
from descents.storage.damage import undamaged
from descents.storage.files import read_json, write_bytes
from descents.storage.run_folders import RESULT, RunFolder
from descents.tables.absent import check_columns
from descents.tables.levels import KnownLevels, coded
from descents.tables.limits import outward
from descents.tables.spelling import text_of
from descents.tables.tables import Table
from descents.tables.unseen import known_only
from descents.text import OneLine, counted
from descents.validation import folder_path

M = TypeVar("M", bound=LowRank)
IMPUTED = "imputed.csv"
SPARSE = (
    "--impute writes a table with its missing cells filled, but missing cells of a sparse "
    "table are not filled; leave --impute out"
)
"""The error for --impute with a sparse table."""


def imputed(
    model: LowRank, table: Table, coverage: float | None
) -> tuple[str, list[str]]:
    """Return the table of a file as text with its missing cells filled, and warnings.

    The warnings say that filled values are far outside the range of their column, or
    were clipped to it.

    With `coverage`, prediction intervals follow after all columns: for each column with
    missing cells NAME_low and NAME_high, or NAME_set with labels separated by bars. They
    are blank for observed cells.

    Parameters
    ----------
    coverage : float, optional
        The coverage probability of the prediction intervals.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if coverage is not None:
            _, intervals = model.impute(table, return_interval=True, coverage=coverage)
            table = table.beside(_texts_of(intervals))
        filled: str = model.impute(table)
    # For the table of the fit, `fit` has already warned about fills far outside.
    warned = model.fitted_.far is not None
    messages = [
        str(warning.message)
        for warning in caught
        if not (warned and issubclass(warning.category, convergence_warning()))
    ]
    return filled, list(dict.fromkeys(messages))


def _texts_of(intervals: Intervals) -> dict[str, list[object]]:
    """Return the columns of intervals and sets of labels."""
    texts: dict[str, list[object]] = {}
    for j, name in enumerate(intervals.names):
        lower, upper = intervals.lower[:, j], intervals.upper[:, j]
        rows = np.flatnonzero(np.isfinite(lower))
        if len(rows):
            both = outward(lower[rows], upper[rows])
            for end, ends in zip(("low", "high"), both, strict=True):
                cells: list[object] = [None] * len(lower)
                for row, value in zip(rows, ends, strict=True):
                    cells[row] = value
                texts[f"{name}_{end}"] = cells
        sets = intervals.sets[:, j]
        if any(labels is not None for labels in sets):
            texts[f"{name}_set"] = [
                None if labels is None else "|".join(map(str, labels))
                for labels in sets
            ]
    return texts


@dataclass(frozen=True, eq=False)
class Applied(OneLine):
    """The rows of a table, transformed and imputed by a low-rank model.

    Attributes
    ----------
    result : AppliedResult
    data : Data
    embedding : ndarray of shape (rows, rank)
    filled : str or None
        The text of the table with its missing cells filled; None for a sparse table.
    """

    result: AppliedResult
    data: Data
    embedding: np.ndarray
    filled: str | None

    def write(self, folder: RunFolder, impute: Path | None) -> None:
        """Write the results into a run folder, and the filled table to a file.

        Raises
        ------
        InvalidValueError
            If the file is requested for a sparse table.
        """
        if impute is not None and self.filled is None:
            raise InvalidValueError(SPARSE)
        folder.write_table(SCORES, scores(self.data, self.embedding))
        if self.filled is not None:
            content = self.data.values.encoded(self.filled)
            write_bytes(folder.work / IMPUTED, content)
            if impute is not None:
                write_bytes(impute, content, alone=True)
        folder.write_json(RESULT, self.result)


def apply(
    model: LowRank,
    run: AppliedRun,
    data: Data,
    coverage: float | None = None,
    unseen: str = "error",
    said: Arguments = NOT_SAID,
) -> Applied:
    """Apply a stored model to new rows.

    Parameters
    ----------
    model : LowRank
    run : AppliedRun
        The identity of the run.
    data : Data
    coverage : float, optional
        The coverage probability of prediction intervals for filled cells.
    unseen : {"error", "missing"}
        Whether levels that the model was not fitted with are an error, or are read as
        missing cells and filled.
    said : Arguments, optional
        What `descents.runs.apply_facts.arguments` returned.

    Raises
    ------
    InvalidValueError
        If columns are missing or contain unseen levels; if intervals are requested for a
        sparse table, or from a model that was not calibrated.
    """
    values = data.values
    extra: list[str] = []
    unseen_levels: list[dict[str, Any]] = []
    if isinstance(values, Table):
        values, extra = of_model(values, [c.name for c in model.columns_])
        levels = {column.name: column.known for column in model.columns_}
        values, unseen_levels = without_unseen(values, levels, unseen)
    elif values.shape[1] != model.n_features_in_:
        raise InvalidValueError(
            f"the table has {counted(values.shape[1], 'column')}, but the model was "
            f"fitted with {model.n_features_in_}; give a table of the same columns"
        )
    if coverage is not None:
        _check_intervals(model, values)
    embedding = model.transform(values)
    filled: str | None = None
    messages: list[str] = []
    if isinstance(values, Table):
        filled, messages = imputed(model, values, coverage)
    columns: list[NewColumn] = []
    if isinstance(values, Table):
        codes = _codes(model, values)
        observed = sum(int((~np.isnan(each)).sum()) for each in codes)
        columns = new_columns(model.columns_, codes, model.fitted_.limits)
    else:
        observed = int((~np.isnan(values.data)).sum())
    rows = len(data.row_names)
    result = AppliedResult(
        run=run,
        read=list(data.notes),
        warnings=messages,
        not_used=extra,
        unseen=[UnseenLevel(**one) for one in unseen_levels],
        rows=rows,
        observed=observed,
        holes=0 if filled is None else rows * len(model.columns_) - observed,
        dimensions=len(model.components_),
        score=model.score(values) if observed else None,
        table_columns=columns,
        environment=environment(),
        **said,
    )
    return Applied(result, data, embedding, filled)


def _check_intervals(model: LowRank, values: object) -> None:
    """Raise unless there are prediction intervals for filled cells of a table."""
    if not isinstance(values, Table):
        raise InvalidValueError(
            "--intervals needs filled cells, but missing cells of a sparse table are not "
            "filled; leave --intervals out"
        )
    if model.calibration_ is None:
        raise InvalidValueError(
            "the model was stored without residuals of held-out cells, which --intervals "
            "needs; also give --intervals to 'descents factorize'"
        )


def of_model(table: Table, names: Sequence[str]) -> tuple[Table, list[str]]:
    """Return a table without the columns that a model does not use, and their names.

    Raises
    ------
    InvalidValueError
        If the table lacks columns of the model.
    """
    used = set(names)
    check_columns(names, {column.name for column in table.columns})
    extra = [column.name for column in table.columns if column.name not in used]
    return table.without(extra), extra


def without_unseen(
    table: Table, known: Mapping[str, KnownLevels], unseen: str
) -> tuple[Table, list[dict[str, Any]]]:
    """Return a table without levels that a model was not fitted with, and a list of them.

    Parameters
    ----------
    table : Table
    known : mapping from names of columns to KnownLevels
    unseen : {"error", "missing"}
        Whether such levels are an error, or their cells become missing.

    Returns
    -------
    table : Table
    levels : list of dict
        The column, the level and the number of cells of each unseen level.

    Raises
    ------
    InvalidValueError
        If there are unseen levels and `unseen` is "error".
    """
    remedy = "leave the cells empty, or give --unseen missing to read them as missing"
    table, columns = known_only(table, known, remedy if unseen == "error" else None)
    return table, [
        {"column": column.column, "level": text_of(level), "cells": count}
        for column in columns
        for level, count in column.cells.items()
    ]


def apply_by_blocks(
    folder: RunFolder,
    model: LowRank,
    run: AppliedRun,
    data: Data,
    said: Arguments = NOT_SAID,
) -> AppliedResult:
    """Apply a stored model to a table on disk, and write its scores block by block."""
    used = [column.name for column in model.columns_]
    table = data.values.of_columns(used)
    before = warmed_up()
    folder.write_blocks(
        SCORES,
        (
            scores(data, embedding, place)
            for place, embedding in model.transformed_blocks(table)
        ),
    )
    cells = Streamed(table)
    result = AppliedResult(
        run=run,
        read=list(data.notes),
        warnings=[],
        not_used=[name for name in data.values.names if name not in used],
        unseen=[],
        rows=table.shape[0],
        observed=cells.observed,
        holes=0,
        dimensions=len(model.components_),
        score=model.score(table),
        memory=memory_use(cells, before),
        environment=environment(),
        **said,
    )
    folder.write_json(RESULT, result)
    return result


def write_imputed(
    found: FactorizeRun, path: Path, coverage: float | None = None
) -> list[str]:
    """Write the table of a fit with its missing cells filled, optionally with intervals.

    Returns
    -------
    list of str
        Warnings about the filled values that the fit has not given already.

    Raises
    ------
    InvalidValueError
        If the table is sparse.
    RunFolderError
        If the file cannot be written.
    """
    messages = _write(found.model, found.data, path, coverage)
    unseen, codes = found.fitted.unseen, found.table.values
    if unseen is not None and isinstance(codes, np.ndarray):
        codes = codes.astype(np.float64)
        better = unseen.better_by_imputer(codes, found.fitted.seed)
        messages += [] if better is None else [better]
    return [says for says in messages if says not in found.result.warnings]


def write_filled(
    folder: Path, data: Data, path: Path, coverage: float | None = None
) -> list[str]:
    """Write the table of a stored run with its missing cells filled by the run's model.

    Returns
    -------
    list of str
        Warnings about the filled values that the result does not contain.

    Raises
    ------
    InvalidValueError
        If the table is sparse.
    RunFolderError
        If the file cannot be written.
    """
    messages = _write(load_as(folder, LowRank), data, path, coverage)
    warned = read_json(folder / RESULT)["warnings"]
    return [says for says in messages if says not in warned]


def _write(model: LowRank, data: Data, path: Path, coverage: float | None) -> list[str]:
    """Write a table with its missing cells filled by a model; return the warnings."""
    if not isinstance(data.values, Table):
        raise InvalidValueError(SPARSE)
    filled, messages = imputed(model, data.values, coverage)
    write_bytes(path, data.values.encoded(filled), alone=True)
    return messages


def _codes(model: LowRank, table: Table) -> list[np.ndarray]:
    """Return the numbers of each column, or codes of its levels; NaN for unseen ones."""
    found = []
    for column in model.columns_:
        part = table.column(column.name)
        codes = coded(part, column.known)[0] if column.levels else part.values
        found.append(np.asarray(codes, np.float64))
    return found


def load_as(folder: str | Path, kind: type[M]) -> M:
    """Load the model of a stored run of factorize, or of a file, as a given class.

    `LowRank` does not import scikit-learn, `LowRankModel` does.

    Raises
    ------
    RunFolderError
        If the folder contains no complete run.
    InvalidValueError
        If it is a run of another command.
    """
    folder = folder_path(folder)
    if os.path.isfile(folder):
        return kind.load(folder)
    with undamaged(folder):
        return _loaded(folder, kind)


def _loaded(folder: Path, kind: type[M]) -> M:
    """Load the model of a stored run of factorize as a given class."""
    result = read_json(folder / RESULT)
    run = result.get("run")
    if not isinstance(run, dict) or run.get("command") != "factorize":
        raise InvalidValueError(
            f"{folder} contains no run of 'descents factorize'; give the folder of one"
        )
    return kind.load(folder / MODEL)
