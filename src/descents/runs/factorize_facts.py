"""The result of `descents factorize`, from a fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from descents.cells import encoding
from descents.cells.columns import ColumnModel
from descents.lowrank.fitted import Fitted
from descents.lowrank.matrices import is_sparse
from descents.lowrank.prediction_intervals import Calibration
from descents.lowrank.predictor import probabilities
from descents.optim.runs import Status
from descents.runs.block_tables import Seen
from descents.runs.command_line import command_line, defaults
from descents.runs.factorize_columns import SeenCells
from descents.runs.factorize_options import Options
from descents.runs.factorize_pictures import strongest
from descents.runs.factorize_result import (
    CLOSED,
    SAME,
    ColumnOfIntervals,
    HeldOutCells,
    IntervalsOfFit,
    LowRankResult,
    ReferenceOfFit,
    SelectionOfFit,
    StartsOfFit,
    Value,
    WorstCell,
    WorstRow,
)
from descents.runs.identities import Identity
from descents.runs.low_rank_quotes import quote_of_factorization
from descents.runs.request import Data, Reading, environment, formats_of
from descents.runs.results import Run
from descents.tables.blocks import TableOnDisk
from descents.tables.tables import Table

WORST = 10
"""The number of the worst rows and cells in the result."""
USELESS = 1.0
"""A bound says nothing of a fit whose loss is above it by more than this share of it."""
DOMINANT = 0.9
"""A column with more than this share of the best constants' loss is reported."""


def result_of(
    run: Identity,
    data: Data,
    fitted: Fitted,
    seen: Seen | None,
    *,
    cosines: np.ndarray | None,
    warnings: Sequence[str],
    coverage: float | None,
    seconds: float,
) -> LowRankResult:
    """Return the result of a fit.

    Parameters
    ----------
    run : mapping
        The identity of the run.
    data : Data
    fitted : Fitted
    seen : Seen or None
        How the model fits a table on disk.
    cosines : ndarray of shape (starts, rank) or None
        How well the components of the starts match those of the best; None for one.
    warnings : sequence of str
    coverage : float or None
        The coverage of prediction intervals, if they were requested.
    seconds : float
    """
    cells = fitted.problem.cells
    selection, judged = fitted.selection, fitted.judged
    worst_rows, worst_cells = _worst(fitted, data, seen)
    parts = SeenCells(fitted, seen)
    result = LowRankResult(
        run=Run(**run),
        read=list(data.notes),
        formats=formats_of(data),
        warnings=list(warnings),
        shape=list(cells.shape),
        observed=cells.observed,
        rank=len(fitted.components),
        selection=None
        if selection is None
        else SelectionOfFit(**selection.described()),
        intervals=_intervals(fitted.calibration, coverage),
        losses={column.name: column.loss_label for column in fitted.models},
        chosen=_chosen(fitted),
        defaults=_defaults(fitted),
        offsets=fitted.problem.offsets,
        penalty=fitted.penalty,
        steps=fitted.solver,
        loss=fitted.loss,
        constants_loss=fitted.constants_loss,
        reference=ReferenceOfFit(**vars(fitted.reference)),
        gap=fitted.gap,
        gap_says=gap_sentence(fitted),
        held_out=None if judged is None else HeldOutCells(**judged.overall()),
        shares=parts.overall(),
        starts=_starts(fitted, cosines),
        statuses=_statuses(fitted),
        iterations=int(fitted.runs.steps_taken[fitted.runs.best]),
        columns=parts.columns(),
        worst_rows=worst_rows,
        worst_cells=worst_cells,
        strongest=strongest(fitted),
        stored=not isinstance(data.values, Table | TableOnDisk),
        command=rerun(run),
        environment=environment(),
        seconds=seconds,
    )
    return replace(result, quote=quote_of_factorization(result))


def rerun(run: Identity) -> str:
    """Return a command that repeats the run."""
    return command_line(
        ["descents", "factorize", run["table"]],
        {**run["options"], **run["reading"]},
        {**defaults(Options), **defaults(Reading)},
    )


def _intervals(
    calibration: Calibration | None, coverage: float | None
) -> IntervalsOfFit | None:
    if calibration is None or coverage is None:
        return None
    facts = calibration.described(coverage)
    return IntervalsOfFit(
        coverage=facts["coverage"],
        held=facts["held"],
        columns=[ColumnOfIntervals(**column) for column in facts["columns"]],
    )


def _starts(fitted: Fitted, cosines: np.ndarray | None) -> StartsOfFit:
    runs = fitted.runs
    same, medians = None, []
    if cosines is not None:
        cosines = cosines[:, np.isfinite(cosines[runs.best])]  # others are zero
        known = np.isfinite(runs.losses)
        same = int((cosines[known] >= SAME).all(1).sum()) if cosines.size else None
        known[runs.best] = False
        if known.any():
            medians = np.median(cosines[known], 0).tolist()
    finite = runs.losses[np.isfinite(runs.losses)]
    return StartsOfFit(
        count=len(runs),
        best=runs.starts[runs.best],
        loss_median=np.median(finite),
        loss_max=finite.max(),
        subspace_agreement=fitted.agreement(),
        same_components=same,
        cosines=medians,
    )


def _statuses(fitted: Fitted) -> dict[str, int]:
    """Return how many starts ended how, in the order of `Status`."""
    words = [status.word for status in fitted.runs.statuses]
    return {one.word: words.count(one.word) for one in Status if one.word in words}


def _defaults(fitted: Fitted) -> list[str]:
    """Return a line for each setting that follows from the data, and why."""
    found, settings = [], fitted.settings
    if fitted.noise is not None:
        says = fitted.noise.says
        remedy = "; give --penalty l2=0 for none" if fitted.noise.l2 else ""
        found.append(f"{says[:1].upper()}{says[1:]}{remedy}")
    elif settings.penalty is None and fitted.penalized:
        l2 = fitted.penalty["l2_rows"]
        found.append(
            f"Penalty l2={l2:.3g}, a tenth of the root of a column's mean number of cells, "
            "as log-odds and logarithms may run away; give --penalty l2=0 for none"
        )
    if settings.scales == "auto" and fitted.scales is not None:
        found.append(
            f"Each column is over its spread, as {fitted.scales}; give --scales no to "
            "leave them in their units"
        )
    return found


def dominant(fitted: Fitted, seen: Seen | None) -> list[str]:
    """Return a warning if one column of several is nearly all of the loss."""
    cells = fitted.problem.cells
    if seen is not None:
        constant = seen.constants[None]
    else:
        constant = fitted.cell_losses(constants=True)
    if cells.units is not None or constant.ndim == 1 or cells.shape[1] < 2:
        return []
    totals = np.nansum(constant, 0)
    largest = int(totals.argmax())
    share = totals[largest] / max(totals.sum(), 1e-300)
    if share <= DOMINANT:
        return []
    return [
        f"column {fitted.models[largest].name!r} alone is {100 * share:.0f}% of the "
        "loss of the best constants, so that the model is mostly about it; give "
        "--scales yes for all columns to count alike"
    ]


def gap_sentence(fitted: Fitted) -> str:
    """Return in a sentence how far the loss is from the best known answer."""
    reference, gap = fitted.reference, fitted.gap
    kind = reference.kind
    if kind == "best found":
        return f"The loss is {reference.says}."
    rounding = 1e-20 * max(fitted.problem.cells.square, 1e-300)
    if kind == "exact" and fitted.loss <= rounding:
        return "The table is fitted exactly: the loss is nothing but rounding."
    if fitted.loss > rounding >= reference.value:
        share = fitted.loss / max(fitted.constants_loss, 1e-300)
        return (
            f"The loss is {share:.2g} of that of the best constants, and what it is compared "
            f"with is nothing but rounding: {reference.says}."
        )
    if kind == "exact":
        if gap <= CLOSED:
            size = f"equals the smallest possible loss to within {max(gap, 1e-15):.1g} of it"
        else:
            size = f"is {_percent(gap)} above the smallest possible loss"
        return f"The loss {size}: {reference.says}."
    if gap <= CLOSED:
        return f"The loss equals a proven bound within {max(gap, 1e-15):.1g} of it: {reference.says}."
    size = f"The loss is at most {_percent(gap)} above a proven bound:"
    if gap > USELESS:
        size = "No useful bound is known: the loss is far above the proven one,"
    return f"{size} {reference.says}."


def _percent(share: float) -> str:
    """Return a share as a percentage, to two digits."""
    return f"{100 * share:.2g}%" if share < 1 else f"{100 * share:.0f}%"


def _chosen(fitted: Fitted) -> list[str]:
    """Return a line for each loss: which columns have it, and why."""
    groups: dict[tuple[str, str], list[str]] = {}
    for column in fitted.models:
        groups.setdefault((column.loss_label, column.reason), []).append(column.name)
    lines = []
    for (loss, why), names in groups.items():
        listed = ", ".join(names[:6])
        more = f" and {len(names) - 6} more" if len(names) > 6 else ""
        lines.append(f"{loss} loss ({why}): {listed}{more}")
    return lines


def _worst(
    fitted: Fitted, data: Data, seen: Seen | None
) -> tuple[list[WorstRow], list[WorstCell]]:
    """Return the rows and the cells that the model fits worst."""
    cells = fitted.problem.cells
    if seen is not None:
        pairs = [(i, j) for i, j, _ in seen.cells]
        observed = [value for *_, value in seen.cells]
        rows = _worst_rows(data, seen.row_losses, cells.row_counts)
        return rows, _worst_cells(fitted, data, pairs, observed)
    each = fitted.cell_losses()
    scale = np.ones(cells.shape[1]) if cells.scales is None else cells.scales
    table = cells.in_memory.table
    if is_sparse(table):
        places = np.repeat(np.arange(table.shape[0]), np.diff(table.indptr))
        weighted = each * scale[table.indices]
        count = np.bincount(places, minlength=table.shape[0])
        mean = np.bincount(places, weighted, table.shape[0]) / np.maximum(count, 1)
        order = np.argsort(-weighted, kind="stable")[:WORST]
        pairs = [(int(places[k]), int(table.indices[k])) for k in order]
    else:
        weighted = each * scale
        count = np.isfinite(each).sum(1)
        mean = np.nansum(weighted, 1) / np.maximum(count, 1)
        flat = np.where(np.isnan(weighted), -np.inf, weighted).ravel()
        order = np.argsort(-flat, kind="stable")[:WORST]
        order = order[np.isfinite(flat[order])]
        pairs = [(int(k) // each.shape[1], int(k) % each.shape[1]) for k in order]
    observed = [float(cells.in_memory.given[i, j]) for i, j in pairs]
    rows = _worst_rows(data, mean, count)
    return rows, _worst_cells(fitted, data, pairs, observed)


def _worst_rows(data: Data, mean: np.ndarray, count: np.ndarray) -> list[WorstRow]:
    """Return the worst rows.

    Parameters
    ----------
    data : Data
    mean, count : ndarray of shape (rows,)
        The mean loss of the observed cells of each row, and their number.
    """
    typical = float(np.median(mean[count > 0]))
    return [
        WorstRow(
            row=data.row_names[i],
            loss=mean[i],
            observed=int(count[i]),
            times_typical=float(mean[i] / typical) if typical > 0 else None,
        )
        for i in np.argsort(-mean, kind="stable")[:WORST].tolist()
        if count[i]
    ]


def _worst_cells(
    fitted: Fitted,
    data: Data,
    pairs: Sequence[tuple[int, int]],
    observed: Sequence[float],
) -> list[WorstCell]:
    """Return the worst cells.

    Parameters
    ----------
    fitted : Fitted
    data : Data
    pairs : sequence of (int, int)
        Their rows and columns.
    observed : sequence of float
        Their numbers, or codes of levels.
    """
    found = []
    for (i, j), number in zip(pairs, observed, strict=True):
        column = fitted.models[j]
        points = [fitted.of_rows(point, np.array([i])) for point in fitted.points]
        predictions = fitted.predictions(points)
        predicted = fitted.decoded(*predictions)[j]
        chance = None
        if column.loss.likelihood:
            chances = probabilities(fitted.problem.cells, *predictions)[j]
            chance = None if chances is None else float(chances[0, int(number)])
        found.append(
            WorstCell(
                row=data.row_names[i],
                column=column.name,
                value=_cell(column, np.array([number])),
                predicted=_cell(column, predicted),
                probability=chance,
            )
        )
    return found


def _cell(column: ColumnModel, codes: np.ndarray) -> Value:
    """Return the value of a cell, from its number or code."""
    value: Value = encoding.decoded(column, codes)[:1].tolist()[0]
    return value
