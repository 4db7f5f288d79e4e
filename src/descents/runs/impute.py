"""`descents impute`: a user's table, its missing cells filled, and how well."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from descents.errors import InvalidValueError
from descents.marginal.draws import bootstrapped
from descents.marginal.posterior import Gaussian
from descents.marginal.refinement import RefinedModel
from descents.marginal.stored import restored, stored
from descents.marginal.tables import TableModel, fit_table, modeled
from descents.runs.apply import of_model, without_unseen
from descents.runs.filling import Filling, Options, added_names
from descents.runs.impute_facts import (
    answer,
    caption_of,
    command,
    how_of,
    outside_of,
    pictures_of,
    said_of_cells,
    said_of_intervals,
    said_of_model,
    warnings_of,
)
from descents.runs.request import Data, environment
from descents.storage import folders as storage
from descents.storage.folders import RESULT, ROWS, TENSORS, RunFolder
from descents.tables.frames import given_back
from descents.tables.tables import Table, from_frame
from descents.tables.written import content

MODEL = "model.safetensors"


@dataclass(frozen=True, eq=False)
class Imputed(Filling):
    """A table that a model was fitted to, as a run stores it.

    Attributes
    ----------
    result : dict
        ``result.json``.
    tensors : dict of ndarray
        What the pictures are drawn from.
    """

    result: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, np.ndarray] = field(default_factory=dict)

    def write(self, folder: RunFolder) -> None:
        """Write everything but the page into the work of a run folder."""
        folder.write_table(ROWS, self.model.fitted.runs.table())
        folder.write_tensors(TENSORS, self.tensors, {})
        folder.write_tensors(MODEL, *stored(self.model, self.resampled))
        folder.write_json(RESULT, self.result)


def impute(
    data: Data,
    options: Options,
    run: Mapping[str, Any],
    progress: Any = None,
) -> Imputed:
    """Fit a model to a table, judge it, and make ready to fill the missing cells.

    Parameters
    ----------
    data : Data
    options : Options
    run : mapping
        The identity of the run.
    progress : callable, optional
        ``progress(what, share)``.

    Raises
    ------
    InvalidValueError
        With all that is wrong in one message.
    """
    begun = time.perf_counter()
    tell = progress or (lambda what, share: None)
    table = data.values
    if not isinstance(table, Table):
        raise InvalidValueError(
            "the table is sparse, and what it does not store is not filled; give a "
            "table of rows and columns"
        )
    added_names(modeled(table)[0], table, options)  # refused before the fit
    tell("fitting", 0.0)
    model = fit_table(
        table,
        options.settings,
        watch=lambda done, count: tell("refining", 0.3 + 0.3 * done / count),
    )
    fitting = Filling(model, (), table, options)
    resampled: list[Gaussian] = []
    for one in bootstrapped(
        model.fitted, fitting.codes, options.imputations or 1, options.seed
    ):
        if options.imputations is None:
            break
        resampled.append(one.model.gaussian)
        tell("resampling", 0.6 + 0.3 * len(resampled) / options.imputations)
    cells = said_of_cells(fitting)
    pictures, tensors = pictures_of(fitting, cells["columns"])
    result = {
        "run": run,
        "read": list(data.notes),
        "formats": data.formats(),
        "warnings": [],
        **cells,
        "pictures": pictures,
        "caption": caption_of(pictures),
        "command": command(run),
        **said_of_model(model),
        "environment": environment(),
        "seconds": 0.0,
    }
    result["warnings"] = warnings_of(result, model.fitted)
    result["seconds"] = time.perf_counter() - begun
    return Imputed(model, tuple(resampled), table, options, result, tensors)


def write(filling: Filling, source: str, target: Path) -> None:
    """Write the filled table in the format of the table that was read.

    Raises
    ------
    InvalidValueError
        When the format has no place for a column.
    RunFolderError
        When the file cannot be written.
    """
    place = target.expanduser()
    storage.write_bytes(place, content(filling.filled(), source, place))


@dataclass(frozen=True, eq=False)
class StoredImputer:
    """The model of a stored run of ``descents impute``.

    Attributes
    ----------
    result : dict
        What is in ``result.json``.
    model : TableModel
    resampled : tuple of Gaussian
        Models of resampled rows; empty where the run was made without imputations.
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
            When the folder holds no such run.
        """
        result = storage.read_json(folder / RESULT)
        model, resampled = restored(*storage.read_tensors(folder / MODEL))
        return cls(result, model, tuple(resampled))

    def impute(self, frame: Any) -> Any:
        """Return a data frame with its missing cells filled.

        Levels that the model does not know are filled as missing cells are. Columns that
        are not modeled are returned as they are.

        Parameters
        ----------
        frame : pandas or polars DataFrame, or pyarrow Table
            With the modeled columns of the table of the run.
        """
        known = {column.name for column in self.model.columns}
        names = [str(name) for name in getattr(frame, "column_names", frame.columns)]
        others = [name for name in names if name not in known]
        table = self.filling(from_frame(frame, ignore=others), Options()).filled()
        return given_back(table.source)

    def filling(self, table: Table, options: Options) -> Filling:
        """Return the model with new rows.

        Raises
        ------
        InvalidValueError
            When modeled columns are not there or are of another kind, or when the run
            has fewer imputations than are requested.
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
        return Filling(self.model, self.resampled[:count], table, options)


def apply(
    model: StoredImputer,
    run: Mapping[str, Any],
    data: Data,
    options: Options,
    unseen: str = "missing",
) -> tuple[dict[str, Any], Filling]:
    """Return what a stored model fills into new rows.

    Parameters
    ----------
    model : StoredImputer
    run : mapping
        The identity of the run.
    data : Data
    options : Options
    unseen : {"error", "missing"}
        Whether cells of levels that the model was not fitted with are refused, or read
        as missing, and filled as such.

    Raises
    ------
    InvalidValueError
        When columns are missing, or hold what the model does not know.
    """
    table = data.values
    if not isinstance(table, Table):
        raise InvalidValueError(
            "the table is sparse, and what it does not store is not filled; give a "
            "table of rows and columns"
        )
    known = {column.name: column.known for column in model.model.columns}
    kept, extra = of_model(table, list(known))
    kept, strange = without_unseen(kept, known, unseen)
    filling = model.filling(kept, options)
    lacking = np.isnan(filling.codes)
    filled = {
        "cells": int(lacking.sum()),
        "columns": int(lacking.any(0).sum()),
        "rows": int(lacking.any(1).sum()),
        "rows_without_cells": int(lacking.all(1).sum()),
        "outside_range": outside_of(filling, lacking),
    }
    result = {
        "run": dict(run),
        "read": list(data.notes),
        "not_used": extra,
        "unseen": strange,
        "rows": len(lacking),
        "shape": list(lacking.shape),
        "filled": filled,
        "how": how_of(options),
        "added": filling.added,
        "intervals": said_of_intervals(filling),
        "environment": environment(),
    }
    return result | {"says": answer(result)}, filling
