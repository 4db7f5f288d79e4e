"""The page of `descents impute`: what it says, its columns and its starts."""

from __future__ import annotations

from collections.abc import Mapping

from descents.pages import small
from descents.pages.answers import Alert, Answer, Tile
from descents.pages.columns import MANY, Detail, detail, points_of_column
from descents.pages.factorize_figures import percent
from descents.pages.impute_figures import (
    PICTURES,
    Run,
    above_best,
    by_error,
    has,
    ratio,
)
from descents.pages.kinds import Kind
from descents.pages.numbers import settings_of
from descents.pages.starts import StartsTable
from descents.runs.impute_result import HeldOutError, ImputationResult, ImputedColumn
from descents.text import counted, in_rounds


def starts(run: Run) -> StartsTable | None:
    """Return the table of all starts; None if there is one."""
    rows = run.rows
    if len(rows["start"]) < 2:
        return None
    table = StartsTable.of_losses(rows, above_best(run), "above the best")
    table.tip = ["start", "loss", "status"]
    return table


def answer(run: Run) -> Answer:
    """Return the answer of the page: how much was filled, and how well."""
    result = run.result
    table = "Standard input" if result.run.table == "-" else result.run.table
    sections = {"trust": "Can the filled cells be trusted?"}
    if has(run, "best/truth"):
        sections["pictures"] = "Best and worst predicted column"
    sections["model"] = "The model"
    if result.starts.count > 1:
        sections["starts"] = "Do the starts agree?"
    sections |= {
        "read": "What was read",
        "paper": "For your paper",
        "again": "Run it again",
    }
    says = [result.says]
    if result.filled.cells:
        says.append(result.quality)
        if result.refinement is not None:
            says.append(result.refinement.says)
    return Answer(
        f"{table}: missing cells filled",
        " ".join(says),
        _tiles(result),
        [_alert(line, sections) for line in result.warnings],
        sections,
        result.command,
    )


def _tiles(result: ImputationResult) -> list[Tile]:
    filled = result.filled
    tiles = [
        Tile(str(filled.cells), f"cells filled in {counted(filled.columns, 'column')}"),
        _tile_of_error(result),
    ]
    few = len(filled.not_judged)
    judged = filled.columns - few
    if few and not judged:
        tiles.append(
            Tile(
                "0",
                "of these columns could be judged one by one: fewer than 20 of their "
                "cells were held out",
            )
        )
        return tiles
    flat = [name for name in filled.by_constant if name not in filled.not_judged]
    how = "filled with their mean or most frequent level"
    if result.how.imputations:
        flat = [c.name for c in result.columns if c.missing and c.verdict == "no"]
        how = "drawn from the model all the same"
    says = f"{'judged ' if few else ''}columns are not predicted better than that, and are {how}"
    unclear = [
        c.name for c in result.columns if c.missing and c.verdict == "not clearly"
    ]
    if unclear:
        says += f"; {len(unclear)} more not clearly better"
    if few:
        says += (
            f"; {counted(few, 'column')} with fewer than 20 held-out cells "
            f"{'is' if few == 1 else 'are'} not judged"
        )
    tiles.append(Tile(f"{len(flat)} of {judged}", says))
    return tiles


def _tile_of_error(result: ImputationResult) -> Tile:
    filled, held_out = result.filled, result.held_out
    if filled.columns and len(filled.by_constant) == filled.columns:
        why = "because no cell could be held out to judge it"
        if held_out is not None:
            why = (
                "which is not clearly better than column means and most frequent levels on "
                f"{_cells_of(held_out)}"
            )
        return Tile("0", f"of these columns are filled by the model, {why}")
    cells = "0 held-out cells" if held_out is None else _cells_of(held_out)
    return Tile(
        "not known" if held_out is None else held_out.says,
        f"of the error of column means and most frequent levels, on {cells}",
    )


def _cells_of(held_out: HeldOutError) -> str:
    """Return how many cells were held out, and in how many rounds."""
    return f"{counted(held_out.cells, 'held-out cell')}{in_rounds(held_out.rounds)}"


def _alert(line: str, sections: Mapping[str, str]) -> Alert:
    """Return a warning with a link to the section that explains it."""
    words = {"not modeled": "read", "stationary": "model", "day": "read"}
    section = next((s for word, s in words.items() if word in line), "trust")
    return Alert(f"{line}.", section, sections[section])


def _details(run: Run) -> list[Detail]:
    """Return all columns, by how well they are predicted."""
    result = run.result
    places = {id(column): k for k, column in enumerate(result.columns)}
    most = points_of_column(len(result.columns))
    return [
        detail(
            column.name,
            places[id(column)],
            _summary(column),
            column.distribution,
            run.tensors,
            column.held_out,
            most,
            column.calibration,
        )
        for column in by_error(result)
    ]


def _summary(column: ImputedColumn) -> str:
    """Return in a few words how well a column is predicted."""
    if column.error is None:
        return "no cell could be held out"
    return (
        f"error {column.error_says}, by its mean or mode {column.constant_says}, on "
        f"{counted(column.held_out, 'held-out cell')}"
    )


def extra(run: Run) -> dict[str, object]:
    """Return what the template needs besides the result."""
    details = _details(run)
    return {
        "columns": by_error(run.result),
        "details": details,
        "folded": len(details) > MANY,
        "ratio": ratio,
        "percent": percent,
        "histogram": small.histogram,
        "says_of": small.says_of,
        "settings": settings_of({**run.result.run.options, **run.result.run.reading}),
    }


KIND = Kind(ImputationResult, PICTURES, answer, starts, extra, has)
