"""The page of `descents apply`: what a stored model did with new rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from descents.pages import small
from descents.pages.answers import Alert, Answer, Tile
from descents.pages.figures import Picture, Stored
from descents.pages.kinds import Kind
from descents.pages.numbers import number
from descents.runs.apply_result import (
    ROWS_OF_THE_FIT,
    AppliedResult,
    FilledRows,
    PredictedRows,
    PredictionScore,
    UseOfModel,
)
from descents.runs.score_sentences import sentence_of, shown, words_of
from descents.storage.results import Result
from descents.tables.spelling import listed
from descents.text import counted, percent

Run = Stored[UseOfModel]
PICTURES: Mapping[str, Picture[UseOfModel]] = {}
SHOWN = 500
"""The number of columns in the table of columns."""


def result_type(stored: Mapping[str, object]) -> type[Result]:
    """Return the class of a stored result, which depends on the kind of its model."""
    if "target" in stored:
        return PredictedRows
    return FilledRows if "filled" in stored else AppliedResult


def answer(run: Run) -> Answer:
    """Return the answer of the page: what was done with how many rows."""
    result = run.result
    sections = {"done": _heading(result)}
    if result.model_quote:
        sections["quality"] = "How good is the model?"
    sections |= {"read": "What was read", "again": "Run it again"}
    table = "Standard input" if result.run.table == "-" else result.run.table
    done = {
        PredictedRows: "predicted",
        FilledRows: "missing cells filled",
        AppliedResult: "rows transformed",
    }[type(result)]
    return Answer(
        f"{table}: {done}",
        _sentence(result),
        _tiles(result),
        [
            Alert(f"{says}.", section, sections[section])
            for says, section in _alerts(result)
        ],
        sections,
        result.command,
    )


def _heading(result: UseOfModel) -> str:
    if isinstance(result, PredictedRows):
        return "What was predicted"
    return f"The columns of the {_rows_word(result)}"


def _rows_word(result: UseOfModel) -> str:
    """Return what the rows are: new ones, or those of the fit."""
    return "rows of the fit" if result.fitted_rows else "new rows"


def _sentence(result: UseOfModel) -> str:
    """Return what was done, with which model, and on which rows."""
    text = _done(result)
    return f"{text} {ROWS_OF_THE_FIT}" if result.fitted_rows else text


def _done(result: UseOfModel) -> str:
    """Return what was done, with which model."""
    rows = counted(result.rows, "row")
    if isinstance(result, PredictedRows):
        text = f"{result.target} of {rows} was predicted by the network of {result.run.model}."
        if result.fitted_rows:
            return text
        scores = sentence_of(result)
        return (
            f"{text} {scores or 'How often these predictions are right is not known.'}"
        )
    if isinstance(result, FilledRows):
        text = f"{result.says} The model is that of {result.run.model}."
        if result.filled.cells:
            text += " How far the filled values are from the true ones is not known."
        return text
    text = f"{rows} transformed by the model of {result.run.model}."
    if isinstance(result, AppliedResult):
        if result.dimensions is not None:
            size = counted(result.dimensions, "dimension")
            text = f"{rows} transformed to {size} by the model of {result.run.model}."
        if result.holes:
            text += f" {counted(result.holes, 'missing cell')} filled."
    return text


def _tiles(result: UseOfModel) -> list[Tile]:
    tiles = [Tile(str(result.rows), _rows_word(result))]
    if isinstance(result, PredictedRows):
        tiles += [
            Tile(shown(one, result), f"{words_of(one)} on them{_against(one, result)}")
            for one in result.scores[:1]
        ]
        found = result.predicted
        if found is not None and found.levels:
            top = max(range(len(found.levels)), key=lambda k: found.observed[k])
            share = percent(found.observed[top] / max(sum(found.observed), 1))
            tiles.append(
                Tile(
                    share,
                    f"of them predicted as {found.levels[top]}, the most frequent",
                )
            )
        elif found is not None:
            tiles.append(
                Tile(
                    f"{number(found.low)} to {number(found.high)}",
                    f"range of the predicted {result.target}",
                )
            )
    elif isinstance(result, FilledRows):
        columns = counted(result.filled.columns, "column")
        tiles.append(Tile(str(result.filled.cells), f"cells filled in {columns}"))
    elif isinstance(result, AppliedResult) and result.holes:
        tiles.append(Tile(str(result.holes), "missing cells filled"))
    outside = [one.outside for one in result.table_columns if one.outside is not None]
    if outside:
        tiles.append(
            Tile(
                str(sum(outside)),
                "cells outside the range of the rows of the fit, where the model extrapolates",
            )
        )
    return tiles


def _against(score: PredictionScore, result: PredictedRows) -> str:
    """Return the score of the constant prediction, in a clause."""
    if score.constant is None:
        return ""
    constant = shown(replace(score, value=score.constant), result)
    return f", against {constant} of a constant prediction"


def _alerts(result: UseOfModel) -> list[tuple[str, str]]:
    """Return each warning with its section."""
    found = []
    if isinstance(result, AppliedResult):
        found += [(says.rstrip("."), "done") for says in result.warnings]
    by_column: dict[str, int] = {}
    for one in result.unseen:
        by_column[one.column] = by_column.get(one.column, 0) + one.cells
    for name, cells in by_column.items():
        levels = listed(one.level for one in result.unseen if one.column == name)
        found.append(
            (
                f"{counted(cells, 'cell')} of {name} read as missing, of levels that the "
                f"model was not fitted with: {levels}",
                "read",
            )
        )
    if isinstance(result, FilledRows):
        without = result.filled.rows_without_cells
        if without:
            found.append(
                (
                    f"{counted(without, 'row')} without an observed cell in a modeled column, "
                    "filled by the means and the most probable levels of the model",
                    "done",
                )
            )
        if result.by_constant:
            found.append(
                (
                    "Filled with the mean or the most frequent level, as in the run of the "
                    f"model: {listed(result.by_constant)}",
                    "done",
                )
            )
    empty = [
        c.name for c in result.table_columns if c.missing == result.rows and c.missing
    ]
    if empty:
        found.append(
            (
                f"Columns of the model without an observed cell in these rows: {listed(empty)}",
                "done",
            )
        )
    return found


def facts(run: Run) -> dict[str, object]:
    """Return what the template needs besides the result."""
    result = run.result
    files = {
        PredictedRows: "result.json, predictions.parquet",
        FilledRows: "result.json; the filled table is where the command says",
        AppliedResult: "result.json, rows.parquet (the rows in the space of the model), "
        "imputed.csv (the table with its missing cells filled, if it has column names)",
    }[type(result)]
    columns = result.table_columns
    return {
        "files": files,
        "rows_word": _rows_word(result),
        "scores": sentence_of(result) if isinstance(result, PredictedRows) else "",
        "columns": columns[:SHOWN],
        "left_out": len(columns) - SHOWN,
        "outside": any(column.outside is not None for column in columns),
        "distributions": any(column.distribution is not None for column in columns),
        "filled_shown": any(
            column.distribution is not None and column.distribution.filled
            for column in columns
        ),
        "score": result.score if isinstance(result, AppliedResult) else None,
        "imputations": isinstance(result, FilledRows) and result.how.imputations,
        "predicted": getattr(result, "predicted", None),
        "unseen_cells": sum(one.cells for one in result.unseen),
        "percent": percent,
        "histogram": small.histogram,
        "both_histograms": small.both_histograms,
        "says_of": small.says_of,
    }


KIND: Kind[UseOfModel] = Kind(
    UseOfModel, PICTURES, answer, facts=facts, result_type=result_type
)
