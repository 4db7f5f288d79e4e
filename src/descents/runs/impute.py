"""`descents impute`: fill the missing cells of a table, and test how well it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from descents.errors import InvalidValueError
from descents.marginal.draws import bootstrapped
from descents.marginal.posterior import Gaussian
from descents.marginal.refinement import RefinedModel
from descents.marginal.stored import restored, stored
from descents.marginal.tables import TableModel, fit_table, modeled
from descents.optim.collective import ALONE, Collective
from descents.optim.runs import Status
from descents.runs.apply import of_model, without_unseen
from descents.runs.apply_facts import NOT_SAID, Arguments
from descents.runs.apply_result import AppliedRun, FilledRows, UnseenLevel
from descents.runs.command_line import command_line, defaults
from descents.runs.distributions import hidden_cells
from descents.runs.filling import Filling, Options, added_names
from descents.runs.impute_facts import (
    Errors,
    columns_of,
    columns_of_rows,
    constant_columns,
    filled_cells,
    filled_table,
    fills_of,
    ignored_columns,
    intervals_of,
    overall_error,
    passed_columns,
    pictures_of,
    refinement_of,
)
from descents.runs.impute_result import (
    ImputationModel,
    ImputationResult,
    ImputationStarts,
)
from descents.runs.impute_sentences import (
    answer,
    caption_of,
    quality,
    warnings_of,
)
from descents.runs.low_rank_quotes import quote_of_imputation
from descents.runs.request import Data, Reading, environment, formats_of
from descents.runs.results import Run
from descents.storage.damage import check_facts, undamaged
from descents.storage.files import read_json, read_tensors, write_bytes
from descents.storage.run_folders import RESULT, ROWS, TENSORS, RunFolder
from descents.tables.calendar import with_dates
from descents.tables.frames import given_back
from descents.tables.tables import Table, from_frame
from descents.tables.written import content

MODEL = "model.safetensors"


@dataclass(frozen=True, eq=False)
class Imputed:
    """A table that a model was fitted to, as a run stores it.

    Attributes
    ----------
    filling : Filling
        The model, and the table whose missing cells it fills.
    result : ImputationResult
        The contents of ``result.json``.
    tensors : dict of ndarray
        The data of the pictures.
    """

    filling: Filling
    result: ImputationResult
    tensors: dict[str, np.ndarray]

    @property
    def rows(self) -> dict[str, np.ndarray]:
        """The columns of ``starts.parquet``."""
        return self.filling.model.fitted.runs.columns()

    def write(self, folder: RunFolder) -> None:
        """Write everything but the page into the work of a run folder."""
        filling = self.filling
        folder.write_table(ROWS, self.rows)
        folder.write_tensors(TENSORS, self.tensors, {})
        folder.write_tensors(MODEL, *stored(filling.model, filling.resampled))
        folder.write_json(RESULT, self.result)


def _command(run: Run) -> str:
    """Return a command that repeats the run."""
    return command_line(
        ["descents", "impute", run.table, "FILLED"],
        {**run.options, **run.reading},
        {**defaults(Options), **defaults(Reading)},
    )


def impute(
    data: Data,
    options: Options,
    run: Run,
    progress: Callable[[str, float], None] | None = None,
    together: Collective = ALONE,
) -> Imputed:
    """Fit a model to a table, test it on held-out cells, and prepare to fill the table.

    Parameters
    ----------
    data : Data
    options : Options
    run : Run
        The identity of the run.
    progress : callable, optional
        ``progress(part, share)``: the current part, and the finished share of the work.
    together : Collective
        Processes that share the table. Each has some rows, and fills these; the result is
        that of the whole table.

    Raises
    ------
    InvalidValueError
        If something is wrong; one message lists all problems.
    """
    begun = time.perf_counter()
    tell = progress or (lambda part, share: None)
    # A table that processes share has none: `read_rows` refuses them.
    table = table_of(data) if together.size > 1 else with_dates(table_of(data))
    dates = table.notes[len(table_of(data).notes) :]
    filling = _fitted(table, options, tell, together)
    errors, intervals = Errors.of(filling.model.fitted), intervals_of(filling)
    columns, passed = columns_of(filling, errors, intervals), passed_columns(filling)
    filled, how = filled_table(filling, columns, passed), fills_of(options)
    held_out = overall_error(filling.model.fitted, errors)
    refinement = refinement_of(filling.model.fitted)
    pictures, tensors = pictures_of(filling, columns)
    tensors |= hidden_cells(filling.model.fitted.held_out, options.seed)
    (rows, missing), runs = filling.counts, filling.model.fitted.runs
    shape = (rows, len(missing))
    result = ImputationResult(
        run=run,
        read=[*data.notes, *dates],
        formats=formats_of(data),
        warnings=[
            *dates,
            *warnings_of(
                filled,
                how,
                columns,
                held_out,
                runs.statuses[runs.best],
                refinement,
                passed,
            ),
        ],
        shape=list(shape),
        observed=rows * len(missing) - int(missing.sum()),
        filled=filled,
        how=how,
        added=filling.added,
        held_out=held_out,
        refinement=refinement,
        columns=columns,
        passed=passed,
        ignored=ignored_columns(filling),
        intervals=intervals,
        says=answer(filled, how, shape),
        quality=quality(held_out, filled, how),
        pictures=pictures,
        caption=caption_of(pictures),
        command=_command(run),
        **_of_fit(filling.model),
        environment=environment(together.size),
        seconds=time.perf_counter() - begun,
    )
    quoted = replace(result, quote=quote_of_imputation(result))
    return Imputed(filling, quoted, tensors)


def table_of(data: Data) -> Table:
    """Return the table that is to be filled.

    Raises
    ------
    InvalidValueError
        If the data are sparse.
    """
    if not isinstance(data.values, Table):
        raise InvalidValueError(
            "the table is sparse, and the cells that it does not store are not filled; "
            "give a table of rows and columns"
        )
    return data.values


def _fitted(
    table: Table,
    options: Options,
    tell: Callable[[str, float], None],
    together: Collective,
) -> Filling:
    """Fit a model to a table, and models to its resampled rows if imputations need them."""
    models, _ = modeled(table, together)
    added_names(models, table, options)  # report errors before the fit
    tell("fitting", 0.0)
    model = fit_table(
        table,
        options.settings,
        together=together,
        watch=lambda done, count: tell("refining", 0.3 + 0.3 * done / count),
    )
    filling = Filling(model, (), table, options)
    count = options.imputations
    if count is None:
        return filling
    resampled: list[Gaussian] = []
    for one in bootstrapped(model.fitted, filling.codes, count, options.seed):
        resampled.append(one.model.gaussian)
        tell("resampling", 0.6 + 0.3 * len(resampled) / count)
    return replace(filling, resampled=tuple(resampled))


class _Fit(TypedDict):
    """The part of the result on the model and its starts."""

    model: ImputationModel
    loss: float
    gap: float | None
    reference: str | None
    starts: ImputationStarts
    statuses: dict[str, int]
    iterations: int


def _of_fit(model: TableModel) -> _Fit:
    """Return the part of the result on the model and its starts."""
    fitted, runs = model.fitted, model.fitted.runs
    least, reference = model.reference
    loss = float(runs.losses[runs.best])
    words = [status.word for status in runs.statuses]
    finite = runs.losses[np.isfinite(runs.losses)]
    return {
        "model": ImputationModel(
            features=fitted.features.width,
            components=fitted.n_components,
            strength=fitted.setting.strength,
            sample=fitted.setting.sample,
        ),
        "loss": loss,
        "gap": None if reference is None else loss - least,
        "reference": reference,
        "starts": ImputationStarts(
            count=len(runs),
            best=int(runs.starts[runs.best]),
            loss_max=float(finite.max()),
        ),
        "statuses": {s.word: words.count(s.word) for s in Status if s.word in words},
        "iterations": int(runs.steps_taken[runs.best]),
    }


def write(filling: Filling, source: str, target: Path) -> None:
    """Write the filled table in the format of the table that was read.

    Raises
    ------
    InvalidValueError
        If the format cannot hold a column.
    RunFolderError
        If the file cannot be written.
    """
    place = target.expanduser()
    write_bytes(place, content(filling.filled(), source, place), alone=True)


@dataclass(frozen=True, eq=False)
class StoredImputer:
    """The model of a stored run of ``descents impute``.

    Attributes
    ----------
    result : dict
        The contents of ``result.json``.
    model : TableModel
    resampled : tuple of Gaussian
        Models of resampled rows; empty if the run has no imputations.
    """

    result: Mapping[str, Any]
    model: TableModel
    resampled: tuple[Gaussian, ...]

    @classmethod
    def load(cls, folder: Path) -> StoredImputer:
        """Open the model of a run folder.

        Raises
        ------
        RunFolderError
            If the folder does not contain such a run.
        """
        with undamaged(folder):
            result = read_json(folder / RESULT)
            check_facts(dict[str, object], result["run"]["options"], "its options")
            model, resampled = restored(*read_tensors(folder / MODEL))
        return cls(result, model, tuple(resampled))

    def impute(self, frame: Any) -> Any:
        """Return a data frame with its missing cells filled.

        Levels that the model does not know count as missing cells. Columns that are not
        modeled are returned unchanged.

        Parameters
        ----------
        frame : pandas or polars DataFrame, or pyarrow Table
            Has the modeled columns of the run's table.

        Returns
        -------
        DataFrame or Table
            Of the same type.
        """
        known = {column.name for column in self.model.columns}
        names = [str(name) for name in getattr(frame, "column_names", frame.columns)]
        others = [name for name in names if name not in known]
        table = self.filling(from_frame(frame, ignore=others), Options()).filled()
        return given_back(table.source)

    def filling(self, table: Table, options: Options) -> Filling:
        """Return the model with new rows, whose missing cells it fills.

        Raises
        ------
        InvalidValueError
            If modeled columns are missing or of another kind, or if the run has fewer
            imputations than requested.
        """
        options.check()
        refine = self.result["run"]["options"].get("refine")
        if refine and not isinstance(self.model.fitted.model, RefinedModel):
            raise InvalidValueError(
                "the run was made with --refine by a version of descents that did not "
                "store its forests; run 'descents impute --refine' again"
            )
        count = options.imputations or 0
        if count > len(self.resampled):
            had = f"has {len(self.resampled)}" if self.resampled else "has none"
            raise InvalidValueError(
                f"--imputations is {count}, but the run {had}; give --imputations to "
                "'descents impute' too"
            )
        table, _ = of_model(table, [column.name for column in self.model.columns])
        dates = [column.name for column in self.model.columns if column.dates]
        table = with_dates(table, dates)
        return Filling(self.model, self.resampled[:count], table, options)


def apply(
    model: StoredImputer,
    run: AppliedRun,
    data: Data,
    options: Options,
    unseen: str = "missing",
    said: Arguments = NOT_SAID,
) -> tuple[FilledRows, Filling]:
    """Fill the missing cells of new rows with a stored model.

    Parameters
    ----------
    model : StoredImputer
    run : AppliedRun
        The identity of the run.
    data : Data
    options : Options
    unseen : {"error", "missing"}
        Whether levels that the model was not fitted with are an error, or missing cells,
        which are filled.
    said : Arguments, optional
        What `descents.runs.apply_facts.arguments` returned.

    Raises
    ------
    InvalidValueError
        If columns are missing, or have levels that the model does not know.
    """
    known = {column.name: column.known for column in model.model.columns}
    kept, extra = of_model(table_of(data), list(known))
    kept, strange = without_unseen(kept, known, unseen)
    filling = model.filling(kept, options)
    filled, how, shape = filled_cells(filling), fills_of(options), filling.codes.shape
    result = FilledRows(
        run=run,
        read=list(data.notes),
        not_used=extra,
        unseen=[UnseenLevel(**one) for one in strange],
        rows=len(filling.codes),
        shape=list(shape),
        filled=filled,
        how=how,
        by_constant=constant_columns(filling),
        added=filling.added,
        intervals=intervals_of(filling),
        says=answer(filled, how, shape),
        table_columns=columns_of_rows(filling),
        environment=environment(),
        **said,
    )
    return result, filling
