"""`descents factorize`: fit a low-rank model to a table and judge it."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from descents.bounds import gaps
from descents.cells.distributed import Distributed, SharedTable
from descents.cells.streamed import Streamed
from descents.lowrank.descending import ShardDone
from descents.lowrank.fitted import Fitted
from descents.lowrank.fitting import calibrated, fit
from descents.lowrank.gathering import gathered
from descents.lowrank.model import LowRank
from descents.lowrank.settings import RunControl
from descents.lowrank.stored import stored
from descents.lowrank.table import CodedTable, read
from descents.optim.chunk import Watch
from descents.optim.executors import Workers
from descents.optim.spans import Shard
from descents.optim.workers import Store
from descents.runs.block_tables import Seen, look, memory_use, warmed_up
from descents.runs.factorize_facts import WORST, dominant, result_of
from descents.runs.factorize_options import Options
from descents.runs.factorize_pictures import MOST_POINTS, PATTERN, images, tensors_of
from descents.runs.factorize_result import LowRankResult
from descents.runs.identities import Identity
from descents.runs.request import Data
from descents.storage.run_folders import RESULT, ROWS, TENSORS, RunFolder
from descents.tables.blocks import TableOnDisk
from descents.tables.tables import Table

MODEL = "model.safetensors"
SCORES = "rows.parquet"
COMPONENTS = "components.parquet"
RECORDED = tuple(sorted({0, *np.geomspace(1, 2000, 40).astype(int).tolist()}))
"""The steps at which the losses of the starts are recorded."""
AT_ONCE = 2**14
"""The scores of this many rows of a table on disk are written at once."""
Progress = Callable[[str, float], None]
Columns = dict[str, Sequence[str] | np.ndarray]
"""The columns of a table that is written."""


@dataclass(frozen=True, eq=False)
class FactorizeRun:
    """A fitted model of a table, ready to be written into a run folder.

    Attributes
    ----------
    result : LowRankResult
        The result; without the use of memory for a table on disk.
    data : Data
    fitted : Fitted
    table : CodedTable
        The table as numbers and codes of levels.
    before : int or None
        For a table on disk: the peak memory before the fit.
    rows, tensors : dict of ndarray
        A row for each start; what the pictures are drawn from.
    """

    result: LowRankResult
    data: Data
    fitted: Fitted
    table: CodedTable
    before: int | None
    rows: dict[str, np.ndarray]
    tensors: dict[str, np.ndarray]

    @cached_property
    def model(self) -> LowRank:
        """The model that predicts."""
        return LowRank.of_fit(self.fitted)

    def write(self, folder: RunFolder) -> LowRankResult:
        """Write everything but the page into the work of a run folder.

        Returns
        -------
        LowRankResult
            The contents of ``result.json``.
        """
        folder.write_table(ROWS, self.rows)
        folder.write_tensors(TENSORS, self.tensors, {})
        folder.write_tensors(MODEL, *stored(self.fitted))
        folder.write_table(COMPONENTS, self._components())
        embedding, result = self.fitted.scores, self.result
        cells = self.fitted.problem.cells
        if isinstance(cells, Streamed):
            places = _places(cells.table)
            folder.write_blocks(
                SCORES, (scores(self.data, embedding[p], p) for p in places)
            )
        if isinstance(cells, Streamed) and not isinstance(cells, Distributed):
            result = replace(result, memory=memory_use(cells, self.before))
        elif not isinstance(cells, Streamed):
            folder.write_table(SCORES, scores(self.data, embedding))
        folder.write_json(RESULT, result)
        return result

    def _components(self) -> Columns:
        """Return a row for each coordinate: its name, offset and loadings."""
        found: Columns = {
            "coordinate": self.fitted.labels,
            "offset": self.fitted.offsets,
            "unit": self.fitted.problem.units,
        }
        for k, loadings in enumerate(self.fitted.components, 1):
            found[f"component_{k}"] = loadings
        return found


def scores(data: Data, embedding: np.ndarray, place: slice = slice(None)) -> Columns:
    """Return a row for each row of a table, or of some: its name and its scores."""
    found: Columns = {"row": list(data.row_names[place])}
    for k in range(embedding.shape[1]):
        found[f"component_{k + 1}"] = embedding[:, k]
    return found


def _places(table: TableOnDisk) -> list[slice]:
    """Return the places of the rows of a table, some at a time."""
    return [slice(k, k + AT_ONCE) for k in range(0, table.shape[0], AT_ONCE)]


def factorize(
    data: Data,
    options: Options,
    run: Identity,
    *,
    workers: Workers = 1,
    max_seconds: float | None = None,
    store: Store | None = None,
    progress: Progress = lambda part, share: None,
) -> FactorizeRun | None:
    """Fit a model to a table and judge it.

    Of processes that share a table, the first one returns the run, and the others None.

    Parameters
    ----------
    data : Data
    options : Options
    run : mapping
        The identity of the run.
    workers : int or Executor
        The number of parallel processes, each with a chunk of starts.
    max_seconds : float, optional
        The time limit of the descent. Starts that have not ended then are interrupted, and
        judged as they are.
    store : Store, optional
        Where the descent keeps its state.
    progress : callable, optional
        ``progress(part, share)`` is called with what is done, and the share that is done.

    Raises
    ------
    InvalidValueError
        If options are invalid, or do not fit the table. The message lists all problems.
    """
    begun = time.perf_counter()
    settings = options.settings(data)
    before = warmed_up() if _is_limited(data) else None
    progress("choosing" if settings.chooses else "descending", 0.0)
    watch = _watching(progress, options)
    control = RunControl(RECORDED, watch, max_seconds, workers, store)
    names = None if isinstance(data.values, Table) else data.column_names
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = read(
            data.values, settings, row_names=data.row_names, column_names=names
        )
        fitted = fit(table, settings, control)
        if options.intervals is not None:
            progress("calibrating", 0.9)
            calibration = calibrated(fitted, table, control=control)
            fitted = replace(fitted, calibration=calibration)
    progress("judging", 0.92)
    generator = np.random.Generator(np.random.Philox(0))
    seen, whole = _seen(fitted, generator), gathered(fitted)
    if whole is None:
        return None
    fitted = whole
    warned = _ordered(fitted, [str(warning.message) for warning in caught])
    cosines = fitted.matched() if len(fitted.runs) > 1 else None
    tensors = tensors_of(fitted, generator, seen)
    if cosines is not None:
        tensors["cosines"] = cosines
    if options.image is not None:
        tensors["images"] = images(fitted, options.image)
    distances = gaps.gap(
        fitted.runs.losses, fitted.reference, fitted.constants_loss, np.float64
    )
    result = result_of(
        run,
        data,
        fitted,
        seen,
        cosines=cosines,
        warnings=warned + dominant(fitted, seen),
        coverage=options.intervals,
        seconds=time.perf_counter() - begun,
    )
    rows = {"gap": distances, **fitted.runs.columns()}
    if cosines is not None:
        rows["least_cosine"] = np.fmin.reduce(cosines, axis=1)
    result = _with_processes(result, data)
    return FactorizeRun(result, data, fitted, table, before, rows, tensors)


def _is_limited(data: Data) -> bool:
    """Return whether a table is read in blocks, with a limit of memory."""
    shared = isinstance(data.values, SharedTable)
    return isinstance(data.values, TableOnDisk) and not shared


def _with_processes(result: LowRankResult, data: Data) -> LowRankResult:
    """Return a result with the number of the processes that shared the table."""
    if not isinstance(data.values, SharedTable) or data.values.together.size == 1:
        return result
    size = data.values.together.size
    return replace(result, environment=replace(result.environment, processes=size))


def factorize_shard(
    data: Data,
    options: Options,
    store: Store,
    shard: Shard,
    *,
    workers: Workers = 1,
    max_seconds: float | None = None,
    progress: Progress = lambda part, share: None,
) -> None:
    """Descend from the starts of a shard, and leave them in the store.

    The parameters are those of `factorize`, which needs all shards for its result.

    Raises
    ------
    InvalidValueError
        If options are invalid, or do not fit the table. The message lists all problems.
    InterruptedRunError
        If the time limit was reached, or the user interrupted; finished chunks are stored.
    """
    settings = options.settings(data)
    progress("choosing" if settings.chooses else "descending", 0.0)
    watch = _watching(progress, options)
    control = RunControl(RECORDED, watch, max_seconds, workers, store, shard)
    names = None if isinstance(data.values, Table) else data.column_names
    with warnings.catch_warnings(), contextlib.suppress(ShardDone):
        warnings.simplefilter("ignore")  # the whole fit gives them
        table = read(
            data.values, settings, row_names=data.row_names, column_names=names
        )
        fit(table, settings, control)


def _watching(progress: Progress, options: Options) -> Watch:
    """Return a function that reports how far the descent is."""
    farthest = 0.0

    def watch(starts: np.ndarray, step: int, losses: np.ndarray) -> None:
        nonlocal farthest  # chunks run in parallel, and one is ahead
        done = int(starts[0]) + len(starts) * step / options.max_iter
        farthest = max(farthest, min(done / options.starts, 1.0))
        progress("descending", 0.9 * farthest)

    return watch


def _ordered(fitted: Fitted, caught: Sequence[str]) -> list[str]:
    """Return the warnings, each once; those about filled cells come first."""
    warned = list(dict.fromkeys(caught))
    flat = None
    if fitted.judged is not None:
        cells = fitted.problem.cells
        names = [column.name for column in fitted.models]
        flat = fitted.judged.says(names, cells.column_counts < cells.shape[0])
    warned += [] if flat is None else [flat]
    return sorted(warned, key=lambda line: line not in (fitted.far, flat))


def _seen(fitted: Fitted, generator: np.random.Generator) -> Seen | None:
    """Return how the model fits a table on disk; None for other tables."""
    cells = fitted.problem.cells
    if not isinstance(cells, Streamed):
        return None
    count = min(cells.observed, MOST_POINTS)
    picked = np.sort(generator.choice(cells.observed, count, replace=False))
    return look(fitted, picked, WORST, PATTERN)
