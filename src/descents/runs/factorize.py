"""`descents factorize` and `descents apply`: a user's table, its model, what it says."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from descents.bounds import gaps
from descents.cells import columns
from descents.cells.streamed import Streamed
from descents.errors import InvalidValueError
from descents.lowrank.fitting import calibrated, fit
from descents.lowrank.model import LowRank
from descents.lowrank.settings import RunControl
from descents.lowrank.table import CodedTable, read
from descents.optim.chunk import Watch
from descents.optim.runs import Runs, Status
from descents.runs.on_disk import Seen, look, memory_facts, tell_peak, warmed_up
from descents.runs.request import Data, Options, environment
from descents.storage.folders import RESULT, ROWS, TENSORS, RunFolder
from descents.tables.blocks import TableOnDisk
from descents.tables.tables import Table

MODEL = "model.safetensors"
SCORES = "rows.parquet"
COMPONENTS = "components.parquet"
RECORDED = tuple(sorted({0, *np.geomspace(1, 2000, 40).astype(int).tolist()}))
"""After how many steps the losses of the starts are written down."""
WORST = 10
"""How many of the worst rows and cells are told."""
AT_ONCE = 2**14
"""How many rows of a table on disk have their scores written at once."""
MOST_POINTS = 4000
"""How many rows, or cells, a picture shows at most."""
ARROWS = 16
"""How many columns have an arrow in the picture of the components."""
PATTERN = 160
"""How many squares a side of the picture of the observed cells has at most."""
MOST_IMAGES = 60
"""How many components are drawn as pictures at most."""
DOMINANT = 0.9
"""A column with more than this share of the best constants' loss is warned of."""
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Found:
    """A fitted model of a table, as a run stores it.

    Attributes
    ----------
    result : dict
        ``result.json``.
    model : LowRank
    table : CodedTable
        The table as numbers and codes of levels.
    data : Data
    rows, tensors : dict of ndarray
        A row for each start; what the pictures are drawn from.
    """

    result: dict[str, Any]
    model: LowRank
    table: CodedTable
    data: Data
    rows: dict[str, np.ndarray]
    tensors: dict[str, np.ndarray]

    def write(self, folder: RunFolder) -> None:
        """Write everything but the page into the work of a run folder."""
        folder.write_table(ROWS, self.rows)
        folder.write_tensors(TENSORS, self.tensors, {})
        folder.write_tensors(MODEL, *self.model.stored())
        folder.write_table(COMPONENTS, self._components())
        if isinstance(self.data.values, TableOnDisk):
            places = _places(self.data.values)
            found = self.model.embedding_
            folder.write_blocks(
                SCORES, (scores(self.data, found[p], p) for p in places)
            )
            tell_peak(self.result["memory"])
        else:
            folder.write_table(SCORES, scores(self.data, self.model.embedding_))
        folder.write_json(RESULT, self.result)

    def _components(self) -> dict[str, Any]:
        """Return a row for each coordinate: its name, offset and loadings."""
        found: dict[str, Any] = {
            "coordinate": self.model.fitted_.labels,
            "offset": self.model.offsets_,
            "unit": self.model.units_,
        }
        for k, loadings in enumerate(self.model.components_, 1):
            found[f"component_{k}"] = loadings
        return found


def scores(
    data: Data, embedding: np.ndarray, place: slice = slice(None)
) -> dict[str, Any]:
    """Return a row for each row of a table, or of some: its name and its scores."""
    found: dict[str, Any] = {"row": list(data.row_names[place])}
    for k in range(embedding.shape[1]):
        found[f"component_{k + 1}"] = embedding[:, k]
    return found


def _places(table: TableOnDisk) -> list[slice]:
    """Return the places of the rows of a table, some at a time."""
    return [slice(k, k + AT_ONCE) for k in range(0, table.shape[0], AT_ONCE)]


def factorize(
    data: Data,
    options: Options,
    run: Mapping[str, Any],
    *,
    workers: int = 1,
    max_seconds: float | None = None,
    progress: Progress | None = None,
) -> Found:
    """Fit a model to a table and judge it.

    Parameters
    ----------
    data : Data
    options : Options
    run : mapping
        The identity of the run.
    workers : int
        Processes that descend side by side, each with a chunk of starts.
    max_seconds : float, optional
        For the descent: starts that have not ended then are interrupted, and what they
        reached is judged.
    progress : callable, optional
        ``progress(what, share)``.

    Raises
    ------
    InvalidValueError
        With all that is wrong in one message.
    """
    begun = time.perf_counter()
    settings = options.settings(data)
    before = warmed_up() if isinstance(data.values, TableOnDisk) else None
    watch = None
    if progress is not None:
        progress("choosing" if settings.chooses else "descending", 0.0)
        watch = _watching(progress, options)
    control = RunControl(RECORDED, watch, max_seconds, workers)
    given_names = None if isinstance(data.values, Table) else data.column_names
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = read(
            data.values, settings, row_names=data.row_names, column_names=given_names
        )
        fitted = fit(table, settings, control)
        if options.intervals is not None:
            if progress is not None:
                progress("calibrating", 0.9)
            calibration = calibrated(fitted, table, control=control)
            fitted = replace(fitted, calibration=calibration)
    model = LowRank.of_fit(fitted)
    warned = list(dict.fromkeys(str(warning.message) for warning in caught))
    cells = model.fitted_.problem.cells
    flat = None
    if model.judged_ is not None:
        names = [column.name for column in model.columns_]
        flat = model.judged_.says(names, cells.column_counts < cells.shape[0])
    warned += [] if flat is None else [flat]
    warned.sort(key=lambda line: line not in (fitted.far, flat))  # they come first
    generator = np.random.Generator(np.random.Philox(0))
    if progress is not None:
        progress("judging", 0.92)
    seen = _seen(model, generator)
    warned += _dominant(model, seen)
    result = _result(model, data, run, warned, seen)
    if options.intervals is not None:
        assert model.calibration_ is not None  # noqa: S101
        result["intervals"] = model.calibration_.described(options.intervals)
    distances = gaps.gap(
        model.runs_.losses, model.reference_, model.constants_loss_, np.float64
    )
    rows = {"gap": distances, **model.runs_.table()}
    tensors = _tensors(model, result, generator, seen)
    if options.image is not None:
        tensors["images"] = _images(model, options.image)
    result["seconds"] = time.perf_counter() - begun
    if isinstance(cells, Streamed):
        result["memory"] = memory_facts(cells, before)
    return Found(result, model, table, data, rows, tensors)


def _watching(progress: Progress, options: Options) -> Watch:
    """Return a function that reports how far the descent is."""
    farthest = 0.0

    def watch(starts: np.ndarray, step: int, losses: np.ndarray) -> None:
        nonlocal farthest  # chunks run in parallel, and one is ahead
        done = int(starts[0]) + len(starts) * step / options.max_iter
        farthest = max(farthest, min(done / options.starts, 1.0))
        progress("descending", 0.9 * farthest)

    return watch


def _seen(model: LowRank, generator: np.random.Generator) -> Seen | None:
    """Return what one reading of a table on disk tells; None of another."""
    cells = model.fitted_.problem.cells
    if not isinstance(cells, Streamed):
        return None
    count = min(cells.observed, MOST_POINTS)
    picked = np.sort(generator.choice(cells.observed, count, replace=False))
    return look(model.fitted_, picked, WORST, PATTERN)


def _result(
    model: LowRank,
    data: Data,
    run: Mapping[str, Any],
    warned: Sequence[str],
    seen: Seen | None,
) -> dict[str, Any]:
    runs, cells = model.runs_, model.fitted_.problem.cells
    finite = runs.losses[np.isfinite(runs.losses)]
    shares = _explained(model, seen)
    return {
        "run": run,
        "read": list(data.notes),
        "formats": data.formats(),
        "warnings": list(warned),
        "shape": list(cells.shape),
        "observed": cells.observed,
        "rank": len(model.components_),
        "selection": model.selection_ and model.selection_.described(),
        "intervals": None,
        "losses": {column.name: column.loss_label for column in model.columns_},
        "chosen": _chosen(model),
        "defaults": _defaults(model),
        "offsets": model.fitted_.problem.offsets,
        "penalty": model.fitted_.penalty,
        "steps": model.solver_,
        "loss": model.loss_,
        "constants_loss": model.constants_loss_,
        "reference": vars(model.reference_),
        "gap": model.gap_,
        "gap_says": gap_sentence(model),
        "held_out": model.judged_ and model.judged_.overall(),
        "starts": {
            "count": len(runs),
            "best": int(runs.starts[runs.best]),
            "loss_median": float(np.median(finite)),
            "loss_max": float(finite.max()),
            "subspace_agreement": model.subspace_agreement_,
        },
        "statuses": _counts(runs),
        "iterations": model.n_iter_,
        "columns": [
            {
                "name": column.name,
                "loss": column.loss_label,
                "why": column.why,
                "observed": int(count),
                "explained": share,
                "unseen": unseen,
                "filled_by": "constant" if flat else "model",
            }
            for column, count, share, unseen, flat in zip(
                model.columns_,
                cells.column_counts,
                shares,
                *_predicted(model),
                strict=True,
            )
        ],
        **_worst(model, data, seen),
        "strongest": _strongest(model)[1],
        "stored": not isinstance(data.values, Table | TableOnDisk),
        "environment": environment(),
        "seconds": 0.0,
    }


def _defaults(model: LowRank) -> list[str]:
    """Return a line for each setting that the data chose, and why."""
    found = []
    if model.noise_ is not None:
        says = model.noise_.says
        remedy = "; give --penalty l2=0 for none" if model.noise_.l2 else ""
        found.append(f"{says[:1].upper()}{says[1:]}{remedy}")
    elif model.penalty is None and model.fitted_.penalized:
        l2 = model.fitted_.penalty["l2_rows"]
        found.append(
            f"Penalty l2={l2:.3g}, a tenth of the root of a column's mean number of cells, "
            "as log-odds and logarithms may run away; give --penalty l2=0 for none"
        )
    if model.scales == "auto" and model.scales_ is not None:
        found.append(
            f"Each column is over its spread, as {model.scales_}; give --scales no to "
            "leave them in their units"
        )
    return found


def _predicted(model: LowRank) -> tuple[list[float | None], list[bool]]:
    """Return the share of each column that is predicted, and which are constant."""
    if model.judged_ is None:
        wide = len(model.columns_)
        return [None] * wide, [False] * wide
    return model.judged_.shares(), model.judged_.constant.tolist()


def _dominant(model: LowRank, seen: Seen | None) -> list[str]:
    """Return a warning where one column of several is nearly all of the loss."""
    cells = model.fitted_.problem.cells
    if seen is not None:
        constant = seen.constants[None]
    else:
        constant = model.fitted_.cell_losses(constants=True)
    if cells.units is not None or constant.ndim == 1 or cells.shape[1] < 2:
        return []
    totals = np.nansum(constant, 0)
    largest = int(totals.argmax())
    share = totals[largest] / max(totals.sum(), 1e-300)
    if share <= DOMINANT:
        return []
    return [
        f"column {model.columns_[largest].name!r} alone is {100 * share:.0f}% of the "
        "loss of the best constants, so that the model is mostly about it; give "
        "--scales yes for all columns to count alike"
    ]


def gap_sentence(model: LowRank) -> str:
    """Return in a sentence how far the loss is from the best known answer."""
    kind, gap = model.reference_.kind, model.gap_
    if kind == "best found":
        return f"The loss is {model.reference_.says}."
    rounding = 1e-20 * max(model.fitted_.problem.cells.square, 1e-300)
    if kind == "exact" and model.loss_ <= rounding:
        return "The table is fitted exactly: the loss is nothing but rounding."
    if model.loss_ > rounding >= model.reference_.value:
        share = model.loss_ / max(model.constants_loss_, 1e-300)
        return (
            f"The loss is {share:.2g} of that of the best constants, and what it is held "
            f"against is nothing but rounding: {model.reference_.says}."
        )
    if kind == "exact":
        how = "equals" if gap <= 1e-9 else "is above"
        size = f"within {max(gap, 1e-16):.1g}" if gap <= 1e-9 else f"by {gap:.2g}"
        return (
            f"The loss {how} the best possible one {size} of it: "
            f"{model.reference_.says}."
        )
    return (
        f"The loss is at most {gap:.2g} of it above the best possible one: "
        f"{model.reference_.says}."
    )


def _counts(runs: Runs) -> dict[str, int]:
    words = [status.word for status in runs.statuses]
    return {s.word: words.count(s.word) for s in Status if s.word in words}


def _chosen(model: LowRank) -> list[str]:
    """Return a line for each loss: which columns have it, and why."""
    groups: dict[tuple[str, str], list[str]] = {}
    for column in model.columns_:
        why = column.why.split(";")[0]
        groups.setdefault((column.loss_label, why), []).append(column.name)
    lines = []
    for (loss, why), names in groups.items():
        listed = ", ".join(names[:6])
        more = f" and {len(names) - 6} more" if len(names) > 6 else ""
        lines.append(f"{loss} loss ({why}): {listed}{more}")
    return lines


def _explained(model: LowRank, seen: Seen | None) -> list[float | None]:
    """Return the share of each column's constant loss that the model takes away."""
    if seen is not None:
        return _shares(seen.losses, seen.constants)
    each, constant = (
        model.fitted_.cell_losses(),
        model.fitted_.cell_losses(constants=True),
    )
    if each.ndim == 1:
        places = model.fitted_.problem.cells.table.indices
        wide = model.fitted_.problem.cells.shape[1]
        left, whole = (np.bincount(places, part, wide) for part in (each, constant))
    else:
        left, whole = np.nansum(each, 0), np.nansum(constant, 0)
    return _shares(left, whole)


def _shares(left: np.ndarray, whole: np.ndarray) -> list[float | None]:
    return [
        float(1 - a / b) if b > 0 else None for a, b in zip(left, whole, strict=True)
    ]


def _worst(model: LowRank, data: Data, seen: Seen | None) -> dict[str, Any]:
    """Return the rows and the cells that the model fits worst."""
    if seen is not None:
        pairs = [(i, j) for i, j, _ in seen.cells]
        guesses = _said(model, pairs, [value for *_, value in seen.cells])
        counts = model.fitted_.problem.cells.row_counts
        return _named(model, data, seen.row_losses, counts, pairs, guesses)
    each, scale = model.fitted_.cell_losses(), _scales(model)
    if each.ndim == 1:
        table = model.fitted_.problem.cells.table
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
    held = [float(model.fitted_.problem.cells.given[i, j]) for i, j in pairs]
    return _named(model, data, mean, count, pairs, _said(model, pairs, held))


def _named(
    model: LowRank,
    data: Data,
    mean: np.ndarray,
    count: np.ndarray,
    pairs: Sequence[tuple[int, int]],
    guesses: Sequence[tuple[Any, Any]],
) -> dict[str, Any]:
    """Return the worst rows and cells with their names.

    Parameters
    ----------
    mean, count : ndarray of shape (rows,)
        The mean loss of a cell of each row, and how many are observed.
    pairs : sequence of (int, int)
        The cells.
    guesses : sequence of pairs
        What they hold, and what the model says of them.
    """
    typical = float(np.median(mean[count > 0]))
    worst = np.argsort(-mean, kind="stable")[:WORST]
    return {
        "worst_rows": [
            {
                "row": data.row_names[i],
                "loss": float(mean[i]),
                "observed": int(count[i]),
                "times_typical": float(mean[i] / typical) if typical > 0 else None,
            }
            for i in worst
            if count[i]
        ],
        "worst_cells": [
            {
                "row": data.row_names[i],
                "column": model.columns_[j].name,
                "value": value,
                "predicted": predicted,
            }
            for (i, j), (value, predicted) in zip(pairs, guesses, strict=True)
        ],
    }


def _scales(model: LowRank) -> np.ndarray:
    scales = model.fitted_.problem.cells.scales
    return np.ones(model.fitted_.problem.cells.shape[1]) if scales is None else scales


def _said(
    model: LowRank, pairs: Sequence[tuple[int, int]], held: Sequence[float]
) -> list[tuple[Any, Any]]:
    """Return what some cells hold, and what the model says of them."""
    found = []
    for (i, j), number in zip(pairs, held, strict=True):
        column = model.columns_[j]
        code = np.array([number])
        guess = model.fitted_.codes_of(np.array([i]))[j]
        values = [columns.decoded(column, x)[0] for x in (code, guess)]
        found.append((_plain(values[0]), _plain(values[1])))
    return found


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _tensors(
    model: LowRank,
    result: Mapping[str, Any],
    generator: np.random.Generator,
    seen: Seen | None,
) -> dict[str, np.ndarray]:
    """Return what the pictures are drawn from, thinned to what they can show."""
    cells, runs = model.fitted_.problem.cells, model.runs_
    rows = np.arange(cells.shape[0])
    if len(rows) > MOST_POINTS:
        rows = np.sort(generator.choice(len(rows), MOST_POINTS, replace=False))
    if seen is None:
        pattern = _pattern(cells)
        observed, predicted, column = _pairs(model, generator)
    else:
        assert isinstance(cells, Streamed)  # noqa: S101
        pattern, column = seen.pattern, seen.places[:, 1]
        spread = cells.deviations(cells.offsets)[column]
        spread[spread == 0] = 1
        observed, predicted = (
            (part - cells.offsets[column]) / spread
            for part in (seen.values, seen.predicted)
        )
    # Beyond the last step that any start took, the lines would only go on level.
    moving = runs.recorded <= max(2, int(1.3 * runs.steps_taken.max()))
    return {
        "pattern": pattern,
        "scores": model.embedding_[rows, :2],
        "loadings": model.components_[:2, _strongest(model)[0]].T,
        "recorded": runs.recorded[moving],
        "history_loss": runs.histories["loss"][moving],
        "losses": runs.losses,
        "best": np.array(runs.best),
        "sizes": np.linalg.norm(model.embedding_, axis=0),
        "observed": observed,
        "predicted": predicted,
        "column": column,
    }


def _images(model: LowRank, sizes: Sequence[int]) -> np.ndarray:
    """Return the components as pictures, shape (components, height, width[, 3])."""
    components = model.components_[:MOST_IMAGES]
    if components.shape[1] != len(model.columns_):
        many = next(c for c in model.columns_ if len(c.levels) > 2)
        raise InvalidValueError(
            f"--image draws one number for each column, but column {many.name!r} of "
            f"{many.loss.name} loss has several; leave --image out, or give the column "
            "another loss (--loss-of)"
        )
    return components.reshape(-1, *sizes)


def _strongest(model: LowRank) -> tuple[np.ndarray, list[str]]:
    """Return the coordinates with the largest loadings, and their names."""
    size = np.square(model.components_[:2]).sum(0)
    places = np.argsort(-size, kind="stable")[:ARROWS]
    return places, [model.fitted_.labels[place] for place in places]


def _pattern(cells: Any) -> np.ndarray:
    """Return the share of cells that are data in each square of a coarse grid."""
    m, n = cells.shape
    high, wide = min(m, PATTERN), min(n, PATTERN)
    table = cells.table
    if hasattr(table, "tocsr"):
        i = np.repeat(np.arange(m), np.diff(table.indptr))
        j = table.indices
    else:
        mask = np.ones((m, n), bool) if cells.weights is None else cells.weights > 0
        i, j = np.nonzero(mask)
    place = (i * high // m) * wide + j * wide // n
    counts = np.bincount(place, minlength=high * wide).reshape(high, wide)
    tall = np.bincount(np.arange(m) * high // m, minlength=high)
    broad = np.bincount(np.arange(n) * wide // n, minlength=wide)
    share: np.ndarray = counts / (tall[:, None] * broad)
    return share


def _pairs(
    model: LowRank, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return observed numbers and what is predicted there, over each column's spread.

    Of columns of numbers alone; both are centered at the column's mean.
    """
    cells = model.fitted_.problem.cells
    table = cells.given
    numbers = [j for j, c in enumerate(model.columns_) if not c.levels]
    if hasattr(table, "tocsr"):
        place = np.repeat(np.arange(table.shape[0]), np.diff(table.indptr))
        pick = np.arange(table.nnz)
        if len(pick) > MOST_POINTS:
            pick = np.sort(generator.choice(len(pick), MOST_POINTS, replace=False))
        x = table.data[pick].astype(np.float64)
        z = model.predict_cells(place[pick], table.indices[pick])
        return x, z, table.indices[pick].astype(np.int64)
    if not numbers:
        return np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64)
    mask = np.ones(cells.shape, bool) if cells.weights is None else cells.weights > 0
    rows, wide = np.nonzero(mask[:, numbers])
    if len(rows) > MOST_POINTS:
        pick = np.sort(generator.choice(len(rows), MOST_POINTS, replace=False))
        rows, wide = rows[pick], wide[pick]
    codes = model.fitted_.codes_of(np.arange(cells.shape[0]))
    where = np.array(numbers)[wide]
    x = table[rows, where].astype(np.float64)
    z = np.array([codes[j][i] for i, j in zip(rows, where, strict=True)])
    mean, spread = np.zeros(cells.shape[1]), np.ones(cells.shape[1])
    for j in numbers:
        values = table[mask[:, j], j].astype(np.float64)
        if len(values) and values.std() > 0:
            mean[j], spread[j] = values.mean(), values.std()
    return (x - mean[where]) / spread[where], (z - mean[where]) / spread[where], where
