"""`descents apply` of a low-rank model, and tables with their holes filled."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from descents.checks import InvalidValueError, counted, folder_path
from descents.data import storage
from descents.data.levels import Known, coded, known_only, text_of
from descents.data.storage import RESULT, RunFolder
from descents.data.tables import Table
from descents.estimators.intake import convergence_warning
from descents.estimators.lowrank import LowRank
from descents.problems.streamed import Streamed
from descents.studies.asked import Data
from descents.studies.factorize import MODEL, SCORES, Found, scores
from descents.studies.streamed import memory_facts, tell_peak, warmed_up

IMPUTED = "imputed.csv"


def imputed(
    model: LowRank, table: Table, coverage: float | None
) -> tuple[Any, list[str]]:
    """Return the table of a file as text, its holes filled, with intervals if asked for.

    Second comes what is to be said of the fills: that some are far outside what their
    column holds, or were held to it.

    A column with holes is followed, after all columns, by NAME_low and NAME_high, or
    NAME_set, in which labels are parted by bars; observed cells have blanks there.

    Parameters
    ----------
    coverage : float, optional
        With which probability filled cells are held.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        filled = _imputed(model, table, coverage)
    # Of the table of a fit it was said there that fills are far outside.
    said = [
        str(one.message)
        for one in caught
        if model._far is None or not issubclass(one.category, convergence_warning())
    ]
    return filled, list(dict.fromkeys(said))


def _imputed(model: LowRank, table: Table, coverage: float | None) -> Any:
    if coverage is None:
        return model.impute(table)
    _, found = model.impute(table, return_interval=True, coverage=coverage)
    texts: dict[str, Any] = {}
    for j, name in enumerate(found.names):
        for end, values in (("low", found.lower[:, j]), ("high", found.upper[:, j])):
            if np.isfinite(values).any():
                texts[f"{name}_{end}"] = [
                    float(f"{x:.6g}") if np.isfinite(x) else None for x in values
                ]
        sets = found.sets[:, j]
        if any(labels is not None for labels in sets):
            texts[f"{name}_set"] = [
                None if labels is None else "|".join(map(str, labels))
                for labels in sets
            ]
    return model.impute(table.beside(texts))


def apply(
    model: LowRank,
    run: Mapping[str, Any],
    data: Data,
    coverage: float | None = None,
    unseen: str = "error",
) -> tuple[dict[str, Any], np.ndarray, Any]:
    """Return what a stored model says of new rows.

    Parameters
    ----------
    unseen : {"error", "missing"}
        Whether cells of levels that the model was not fitted with are refused, or read
        as missing, and filled as such.
    coverage : float, optional
        With which probability filled cells are to be held.

    Returns
    -------
    result : dict
    embedding : ndarray of shape (rows, rank)
    imputed : str or None
        The table as CSV with its holes filled; None of a sparse one.

    Raises
    ------
    InvalidValueError
        When columns are missing, or hold what the model does not know; when intervals
        are asked of a sparse table, or of a model that was not calibrated.
    """
    values = data.values
    if isinstance(values, Table):
        values, extra = of_model(values, [c.name for c in model.columns_])
        levels = {column.name: column.known for column in model.columns_}
        values, strange = without_unseen(values, levels, unseen)
    else:
        strange = []
        extra = []
        if values.shape[1] != model.n_features_in_:
            raise InvalidValueError(
                f"the table has {counted(values.shape[1], 'column')}, but the model was fitted "
                f"with {model.n_features_in_}; give a table of the same columns"
            )
    if coverage is not None and not isinstance(values, Table):
        raise InvalidValueError(
            "--intervals is for cells that are filled in, but a sparse table has no "
            "place for them; leave it out"
        )
    if coverage is not None and model.calibration_ is None:
        raise InvalidValueError(
            "the model was stored without residuals of cells that were held out; give "
            "--intervals to 'descents factorize' too"
        )
    embedding = model.transform(values)
    filled: Any = None
    said: list[str] = []
    if isinstance(values, Table):
        filled, said = imputed(model, values, coverage)
    rows, observed = len(data.row_names), _observed(model, values)
    result = {
        "run": dict(run),
        "read": list(data.notes),
        "warnings": said,
        "not_used": extra,
        "unseen": strange,
        "rows": rows,
        "observed": observed,
        "holes": rows * len(model.columns_) - observed if filled is not None else 0,
        "score": model.score(values) if observed else None,
    }
    return result, embedding, filled


def of_model(table: Table, names: Sequence[str]) -> tuple[Table, list[str]]:
    """Return a table without columns that a model does not have, and their names.

    Raises
    ------
    InvalidValueError
        When the table lacks columns of the model.
    """
    present, known = {column.name for column in table.columns}, set(names)
    absent = [name for name in names if name not in present]
    if absent:
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        raise InvalidValueError(
            f"the table lacks {len(absent)} of the {counted(len(names), 'column')} that the model "
            f"was fitted with: {', '.join(map(repr, absent[:5]))}{more}; give them, "
            "empty where nothing is known"
        )
    extra = [column.name for column in table.columns if column.name not in known]
    return table.without(extra), extra


def without_unseen(
    table: Table, known: Mapping[str, Known], unseen: str
) -> tuple[Table, list[dict[str, Any]]]:
    """Return a table without levels that a model does not know, and what they were.

    Parameters
    ----------
    table : Table
    known : mapping from names of columns to Known
    unseen : {"error", "missing"}
        Whether they are refused, or their cells become missing.

    Returns
    -------
    table : Table
    strange : list of dict
        The column, the level and the number of cells of each such level.

    Raises
    ------
    InvalidValueError
        When there are any and `unseen` is "error".
    """
    remedy = "leave the cells empty, or give --unseen missing to read them as missing"
    table, found = known_only(table, known, remedy if unseen == "error" else None)
    return table, [
        {"column": one.column, "level": text_of(level), "cells": count}
        for one in found
        for level, count in one.cells.items()
    ]


def apply_by_blocks(
    folder: RunFolder, model: LowRank, run: Mapping[str, Any], data: Data
) -> dict[str, Any]:
    """Write what a stored model says of the rows of a table on disk, some at a time.

    Returns
    -------
    dict
        What `apply` returns first, with what memory it took.
    """
    known = [column.name for column in model.columns_]
    table = data.values.of_columns(known)  # by their names, as in memory
    before = warmed_up()
    folder.write_blocks(
        SCORES,
        (
            scores(data, found, place)
            for place, found in model.transformed_blocks(table)
        ),
    )
    cells = Streamed(table)
    result = {
        "run": dict(run),
        "read": list(data.notes),
        "warnings": [],
        "not_used": [name for name in data.values.names if name not in known],
        "unseen": [],
        "rows": table.shape[0],
        "observed": cells.observed,
        "holes": 0,
        "score": model.score(table),
        "memory": memory_facts(cells, before),
    }
    tell_peak(result["memory"])
    folder.write_json(RESULT, result)
    return result


def write_applied(
    folder: RunFolder,
    data: Data,
    applied: tuple[dict[str, Any], np.ndarray, Any],
    impute: Path | None,
) -> None:
    """Write what `apply` returned into the work of a run folder, and the table aside."""
    result, embedding, filled = applied
    if impute is not None and filled is None:
        raise InvalidValueError(
            "--impute writes a table with its holes filled, but a sparse table has no "
            "place for them; leave it out"
        )
    folder.write_table(SCORES, scores(data, embedding))
    if filled is not None:
        content = data.values.encoded(filled)
        storage.write_bytes(folder.work / IMPUTED, content)
        if impute is not None:
            storage.write_bytes(impute, content)
    folder.write_json(RESULT, result)


def write_imputed(found: Found, path: Path, coverage: float | None = None) -> list[str]:
    """Write the table of a fit with its holes filled, with intervals if asked for.

    Returns
    -------
    list of str
        What is to be said of the fills, and has not been said of the fit.

    Raises
    ------
    InvalidValueError
        Of a sparse table.
    RunFolderError
        When the file cannot be written.
    """
    table = found.data.values
    if not isinstance(table, Table):
        raise InvalidValueError(
            "--impute writes a table with its holes filled, but a sparse table has no "
            "place for them; leave it out"
        )
    filled, said = imputed(found.model, table, coverage)
    storage.write_bytes(path, table.encoded(filled))
    judged = found.model.judged_
    if judged is not None:
        codes = found.model._read(table, reset=False)[1].astype(np.float64)
        better = judged.better_by_imputer(codes, found.model._seed or 0)
        said += [] if better is None else [better]
    return [says for says in said if says not in found.result["warnings"]]


def _observed(model: LowRank, values: Any) -> int:
    """Return how many cells are observed: for a level, as the model knows it."""
    if not isinstance(values, Table):
        return int((~np.isnan(values.data)).sum())
    total = 0
    for column in model.columns_:
        part = values.column(column.name)
        codes = coded(part, column.known)[0] if column.levels else part.values
        total += int((~np.isnan(codes)).sum())
    return total


def load_as(folder: str | Path, kind: type[LowRank] = LowRank) -> Any:
    """Return the model of a stored run of factorize, or of a file: of a class that is
    given, by default the one without scikit-learn.

    Raises
    ------
    RunFolderError
        When the folder holds no complete run.
    InvalidValueError
        When it is a run of another command.
    """
    folder = folder_path(folder)
    if folder.is_file():
        return kind.load(folder)
    result = storage.read_json(folder / RESULT)
    run = result.get("run")
    if not isinstance(run, dict) or run.get("command") != "factorize":
        raise InvalidValueError(
            f"{folder} holds no run of 'descents factorize'; give the folder of one"
        )
    return kind.load(folder / MODEL)
