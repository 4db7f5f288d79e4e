"""The uses of a fitted low-rank model: new rows, filled tables, files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from descents.bounds.gaps import Reference
from descents.cells import filling
from descents.cells.base import Cells
from descents.cells.intake import plain_array, result_type
from descents.cells.streamed import Streamed, block_bytes, rows_at_once
from descents.errors import InvalidValueError
from descents.lowrank import prediction_intervals
from descents.lowrank.fitted import Fitted
from descents.lowrank.judged import Judged
from descents.lowrank.matrices import Matrix, is_sparse
from descents.lowrank.noise import Noise
from descents.lowrank.notices import warn, warn_of_far
from descents.lowrank.prediction_intervals import Calibration
from descents.lowrank.row_biases import biases_at
from descents.lowrank.selection import Selection
from descents.lowrank.stored import Arrays, FitFacts, restored, stored
from descents.lowrank.table import CodesTables
from descents.marginal.held_out import ColumnScore
from descents.optim.runs import Runs
from descents.statistics import quantiles
from descents.storage.files import write_tensors
from descents.storage.models import read_model
from descents.tables.blocks import TableOnDisk
from descents.tables.spelling import listed
from descents.tables.tables import Table
from descents.text import counted


class UsesFitted(CodesTables):
    """The methods of a model that is fitted, or read from a file.

    The attributes are those of `descents.LowRankModel`.
    """

    sparse: str
    fitted_: Fitted
    runs_: Runs
    reference_: Reference
    gap_: float
    constants_loss_: float
    solver_: str
    selection_: Selection | None
    calibration_: Calibration | None
    noise_: Noise | None
    scales_: str | None
    judged_: Judged | None
    _recent: tuple[np.ndarray, np.ndarray] | None = None
    """The points and the row biases of the latest `transform`."""

    @classmethod
    def of_fit(cls, fitted: Fitted) -> Self:
        """Return the model of a fit that `descents.lowrank.fit` returned."""
        model = cls(**fitted.settings.parameters())
        model._take_header(fitted.header)
        model._keep(fitted)
        return model

    def _keep(self, fitted: Fitted) -> None:
        """Set the attributes of a fit."""
        self.fitted_, self.runs_ = fitted, fitted.runs
        self.columns_ = fitted.models
        self.loss_ = fitted.loss
        self.n_iter_ = int(fitted.runs.steps_taken[fitted.runs.best])
        self.subspace_agreement_ = fitted.agreement()
        self.embedding_, self.components_ = fitted.scores, fitted.components
        self.offsets_, self.units_ = fitted.offsets, fitted.problem.units
        vars(self).pop("row_biases_", None)
        if fitted.problem.has_row_biases:
            self.row_biases_ = np.asarray(fitted.points[0]["row_biases"])
        vars(self).pop("_recent", None)
        self._n_features_out = self.n_components_ = len(fitted.components)
        self.solver_, self.scales_ = fitted.solver, fitted.scales
        self.reference_, self.gap_ = fitted.reference, fitted.gap
        self.constants_loss_ = fitted.constants_loss
        self.selection_, self.noise_ = fitted.selection, fitted.noise
        self.judged_, self.calibration_ = fitted.judged, fitted.calibration

    @property
    def scores_(self) -> dict[str, ColumnScore | None]:
        """How well held-out cells of each column are predicted."""
        scores = () if self.judged_ is None else self.judged_.scores
        names = [column.name for column in self.columns_]
        return dict(zip(names, scores, strict=False))

    @property
    def constant_columns_(self) -> list[str]:
        """The columns that `impute` fills with their best constant."""
        if self.judged_ is None:
            return []
        flat = np.flatnonzero(self.judged_.constant)
        return [self.columns_[j].name for j in flat]

    def transform(self, X: object) -> np.ndarray:
        """Return new rows in the space of the components: `LowRankModel.transform`."""
        self._check_fitted()
        if isinstance(X, TableOnDisk):
            _, values = self._read(X, reset=False)
            scores = np.empty((values.shape[0], len(self.components_)), values.dtype)
            biases = np.zeros(len(scores))
            for place, block in values.blocks(self._rows_at_once(values)):
                scores[place], biases[place] = self._solved(block)
                del block
        else:
            table, values = self._read(X, reset=False)
            scores, biases = self._solved(values)
            scores = scores.astype(result_type(values, table), copy=False)
        if self.fitted_.problem.has_row_biases:
            self._recent = np.array(scores, dtype=np.float64), biases
        return scores

    def transformed_blocks(self, X: TableOnDisk) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield the places of some rows of a table on disk, and what `transform` returns.

        Parameters
        ----------
        X : TableOnDisk
        """
        self._check_fitted()
        _, table = self._read(X, reset=False)
        for place, block in table.blocks(self._rows_at_once(table)):
            yield place, self._solved(block)[0].astype(block.dtype, copy=False)
            del block

    def _solved(self, values: Matrix) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores of new rows, and their biases (0 if there are no biases)."""
        found = self.fitted_.cells_of(values, self.sparse)
        solved = self.fitted_.solved(found, self.fitted_.points[0])
        biases = solved.get("row_biases", np.zeros(len(solved["U"])))
        return self.fitted_.embedded(solved["U"]), biases

    def _rows_at_once(self, table: TableOnDisk) -> int:
        """Return how many new rows fit into the memory for a table on disk."""
        rank = len(self.components_)
        return rows_at_once(
            table,
            2 * table.shape[0] * rank * table.dtype.itemsize,
            lambda rows: block_bytes(table, rows, rank, 1, complete=False),
            f"the scores of {counted(table.shape[0], 'row')} at rank {rank}",
        )

    def inverse_transform(self, X: object, *, row_biases: object = None) -> np.ndarray:
        """Return the table of which some points are the embedding.

        ``inverse_transform(transform(X))`` is the prediction of the rows of X, and
        ``inverse_transform(embedding_)`` that of the rows of the fit. With ``offsets``
        "rows" or "both", a row also has a bias, which is not part of its point. The model
        has the biases of the rows of the fit and of the latest `transform`, also when it is
        saved, and uses them for the points of these rows. Any other point gets the bias in
        `row_biases`, or the one that least squares on the points of the fit predict.

        Parameters
        ----------
        X : array-like of shape (rows, n_components)
        row_biases : array-like of shape (rows,), optional
            The bias of each row; with ``offsets`` "rows" or "both" only.

        Returns
        -------
        ndarray of shape (rows, columns)
            Numbers, in float32 if X is; objects if a column has levels that are not
            numbers. A column without observed cells in the fit is NaN.

        Raises
        ------
        InvalidValueError
            If X has another number of columns or has NaN, or if `row_biases` have another
            length or the model has no row biases.
        """
        self._check_fitted()
        given = plain_array(X)
        kind = result_type(given)
        scores = np.asarray(given, dtype=np.float64)
        if scores.ndim != 2 or scores.shape[1] != len(self.components_):
            raise InvalidValueError(
                f"X has shape {scores.shape}; give (rows, {len(self.components_)}), as "
                "transform returns it"
            )
        if not np.isfinite(scores).all():
            raise InvalidValueError(
                "X holds NaN or infinite numbers; give finite ones, as transform "
                "returns them"
            )
        biases = self._biases(scores, row_biases, kind)
        natural = self.fitted_.natural(scores, biases[:, None])
        cuts = np.asarray(self.fitted_.points[0].get("cuts", np.zeros(0)))
        found = self.fitted_.stacked(self.fitted_.decoded(natural, cuts))
        if found.dtype != object:
            found = found.astype(kind, copy=False)
        return self._of_fit(found)

    def _biases(
        self, scores: np.ndarray, given: object, kind: type[np.floating]
    ) -> np.ndarray:
        """Return the row biases that go with points in the space of the components.

        See `biases_at`.
        """
        zero = np.zeros(len(scores))
        if not self.fitted_.problem.has_row_biases:
            if given is not None:
                raise InvalidValueError(
                    "row_biases are given, but the model has none; leave them out, or "
                    "fit it with offsets='both'"
                )
            return zero
        if given is not None:
            biases = np.asarray(given, dtype=np.float64)
            if biases.shape != zero.shape or not np.isfinite(biases).all():
                raise InvalidValueError(
                    f"row_biases have shape {biases.shape}, or hold NaN or infinite "
                    f"numbers; give {len(scores)} finite numbers, one for each row of X"
                )
            return biases
        points = np.asarray(self.embedding_, dtype=np.float64)
        digits = float(max(np.finfo(kind).eps, np.finfo(points.dtype).eps))
        return biases_at(scores, (points, self.row_biases_), self._recent, digits)

    def predict_cells(self, rows: object, columns: object) -> np.ndarray:
        """Return the predictions of some cells of the table of the fit.

        Parameters
        ----------
        rows, columns : array-like of int, shape (cells,)
            Places in the table, from 0. The columns have one coordinate each.

        Returns
        -------
        ndarray of shape (cells,)
            Numbers, or codes of levels.
        """
        self._check_fitted()
        found = self.fitted_.problem.cells
        block = found.blocks[0]
        if len(found.blocks) > 1 or block.each > 1 or found.cut_count:
            raise InvalidValueError(
                "predict_cells is for tables of one loss of single numbers; give the "
                "table to impute"
            )
        i, j = (np.asarray(places) for places in (rows, columns))
        for name, places, end in (
            ("rows", i, len(self.embedding_)),
            ("columns", j, found.shape[1]),
        ):
            whole = places.dtype.kind in "iu" or not places.size
            inside = (
                whole and places.ndim == 1 and ((places >= 0) & (places < end)).all()
            )
            if not inside or len(i) != len(j):
                raise InvalidValueError(
                    f"{name} are not places in the table; give whole numbers from 0 to "
                    f"{end - 1}, as many rows as columns"
                )
        return self.fitted_.cells_at(i.astype(np.int64), j.astype(np.int64))

    def impute(
        self, X: object, *, return_interval: bool = False, coverage: float = 0.9
    ) -> Any:
        """Return the table with its missing cells filled, and nothing else changed.

        Parameters
        ----------
        X : array-like, masked array or data frame of shape (rows, columns)
            The table of the fit, or new rows. A sparse table cannot be filled: see
            `predict_cells`. With ``unseen="missing"``, cells with levels that the model was
            not fitted with are filled like missing cells.
        return_interval : bool
            Whether to return prediction intervals too, by split conformal prediction [1]_
            [2]_ [3]_; call `calibrate` before. The filled values are the same. The width
            of an interval is a quantile of the residuals of the twin on held-out cells. The
            column parameters of the twin were fitted without these cells, and the twin
            predicts each of them from all others of its row, like a missing cell. The
            coverage is proved for the twin, if cells are missing at random: over all cells,
            not for each row or column. It applies to this model, whose columns were fitted
            to a fourth more cells, if that makes its predictions no worse. A row without
            observed cells has no intervals.
        coverage : float
            Above 0 and below 1.

        Returns
        -------
        filled : ndarray or data frame
            A table of the same library and types. Observed cells are the same to the bit.
            In a data frame, a column of whole numbers is filled with whole numbers, clipped
            to the range that was observed in the fit; a warning counts the clipped cells.
        intervals : Intervals
            With `return_interval`: `lower` and `upper` for numbers and counts, `sets` of
            labels for levels.

        References
        ----------
        .. [1] Vovk, Gammerman and Shafer (2005), "Algorithmic learning in a random
           world".
        .. [2] Lei, G'Sell, Rinaldo, Tibshirani and Wasserman (2018), "Distribution-free
           predictive inference for regression", Journal of the American Statistical
           Association 113.
        .. [3] Angelopoulos and Bates (2023), "Conformal prediction: a gentle
           introduction", Foundations and Trends in Machine Learning 16.
        """
        self._check_fitted()
        X = plain_array(X)
        if isinstance(X, TableOnDisk):
            raise InvalidValueError(
                "X is a table on disk, and filling its missing cells would make a table in "
                "memory; give some of its rows at a time"
            )
        if is_sparse(X):
            raise InvalidValueError(
                "X is sparse, and filling what it does not store would make it dense; "
                "ask predict_cells for the cells that you need, or give a dense table"
            )
        if return_interval:
            quantiles.coverage_checked(coverage)
            prediction_intervals.check_scored(self.columns_)
            if self.calibration_ is None:
                raise InvalidValueError(
                    "intervals ask for residuals of cells that were held out; call "
                    "calibrate with the table of the fit first"
                )
        table, values = self._read(X, reset=False)
        fitted = self.fitted_
        found = fitted.cells_of(values)
        predicted = fitted.predictions(
            [fitted.solved(found, point) for point in fitted.points]
        )
        codes = fitted.filled(fitted.decoded(*predicted))
        if self.judged_ is not None:
            names = [column.name for column in self.columns_]
            says = self.judged_.says(names, np.isnan(values).any(0))
            if says is not None:
                warn(says)
        warn_of_far(fitted, codes, np.isnan(values))
        if table is not None:
            self._warn_of_held(filling.clipped(table, self.columns_, codes))
        filled = self._filled(X, table, values, codes)
        if not return_interval:
            return filled
        assert self.calibration_ is not None  # noqa: S101
        # Rows without observed cells are not among those that the residuals are of.
        holes = np.isnan(values)
        holes &= ~holes.all(1, keepdims=True)
        return filled, self.calibration_.intervals(
            fitted, predicted, codes, holes, coverage
        )

    @staticmethod
    def _warn_of_held(held: Mapping[str, int]) -> None:
        """Warn of filled whole numbers that are clipped to the observed range."""
        if not held:
            return
        count = sum(held.values())
        are, their = ("is", "its") if count == 1 else ("are", "their")
        warn(
            f"{counted(count, 'filled cell')} of whole numbers {are} predicted outside "
            f"what {their} column holds, and {are} held to the nearest observed number "
            f"({listed(held)})"
        )

    def _filled(
        self,
        X: object,
        table: Table | None,
        values: np.ndarray,
        codes: list[np.ndarray],
    ) -> Any:
        """Return a table with its missing cells filled by numbers and codes.

        Missing cells are those in which `values`, the table as the model reads it, has NaN.
        """
        if table is not None:
            return filling.filled(table, self.columns_, codes)
        filled = self._of_fit(self.fitted_.stacked(codes))
        # A column without observed cells in the fit is not filled.
        missing = np.isnan(self._of_fit(values)) & self._modeled
        if np.ma.isMaskedArray(X):
            fill = _of_type(filled, X.dtype)
            return np.where(np.ma.getmaskarray(X) | missing, fill, X.data)
        given = np.asarray(X)
        if given.dtype.kind != "f":
            given = given.astype(np.float64)
        return np.where(missing, filled.astype(given.dtype), given)

    def score(self, X: object, y: object = None) -> float:
        """Return the share of the best constants' loss that the model explains.

        It is 1 - loss / loss of the best constant of each column, over the observed cells
        of X and without penalties: R^2 for squared loss.

        Parameters
        ----------
        X : as `transform` takes it
        y : ignored
        """
        self._check_fitted()
        _, values = self._read(X, reset=False)
        if isinstance(values, TableOnDisk):
            found: Cells = Streamed(values, len(self.components_))
            loss, rows = 0.0, self._rows_at_once(values)
            for _, block in values.blocks(rows):
                loss += self.fitted_.loss_of(self.fitted_.cells_of(block))
                del block
        else:
            found = self.fitted_.cells_of(values, self.sparse)
            loss = self.fitted_.loss_of(found)
        constants = found.constants_loss()
        return 1.0 - loss / constants if constants > 0 else float(loss == 0)

    # Storing

    def save(self, path: str | Path) -> None:
        """Write the fitted model to a safetensors file, which is loaded without running code.

        Raises
        ------
        InvalidValueError
            If a loss is a custom function, which cannot be stored.
        RunFolderError
            If the file cannot be written.
        """
        self._check_fitted()
        arrays, facts = self.stored()
        write_tensors(Path(path), arrays, facts)

    def stored(self) -> tuple[Arrays, FitFacts]:
        """Return the fitted model as arrays and plain values, which `save` writes."""
        arrays, facts = stored(self.fitted_)
        if self._recent is not None:
            arrays["recent/points"], arrays["recent/biases"] = self._recent
        return arrays, facts

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load a model that `save` wrote.

        Raises
        ------
        RunFolderError
            If the file cannot be read, or contains no such model.
        """
        return read_model(path, "LowRankModel", cls.restored, kind=FitFacts)

    @classmethod
    def restored(cls, arrays: Arrays, facts: FitFacts) -> Self:
        """Return the model from what `stored` returned."""
        model = cls.of_fit(restored(arrays, facts))
        if "recent/points" in arrays:
            model._recent = arrays["recent/points"], arrays["recent/biases"]
        return model


def _of_type(numbers: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return numbers in a type: for whole numbers, rounded and clipped to its range."""
    if dtype.kind not in "biu":
        return numbers.astype(dtype)
    if dtype.kind == "b":
        return np.rint(numbers) > 0
    limits = np.iinfo(dtype)
    low, high = float(limits.min), float(limits.max)
    high = high if int(high) <= limits.max else np.nextafter(high, 0)
    return np.clip(np.rint(numbers), low, high).astype(dtype)
