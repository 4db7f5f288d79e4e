"""Finds the observed cells of a table, and puts columns with one loss into blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from descents.cells.base import Block
from descents.cells.complete import Complete
from descents.cells.dense import Dense
from descents.cells.in_memory import CellsInMemory
from descents.cells.sparse import Sparse
from descents.errors import Complaints, InvalidValueError
from descents.losses import Huber, Loss, Squared, get_loss
from descents.text import counted

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from scipy.sparse import csr_array, sparray

LossLike = str | Loss | Callable[..., object]
"""A loss, its name, or a function of predictions and targets."""
CODED = ("classes", "levels")
"""Kinds of losses whose columns have codes 0, 1, 2, ... of their levels."""
NO_CELLS = "the table has no observed cell of positive weight; give one that has some"


def cells(
    table: ArrayLike | sparray,
    loss: LossLike | Sequence[LossLike] = "squared",
    *,
    weights: ArrayLike | sparray | None = None,
    levels: Sequence[int] | None = None,
    scales: bool | np.ndarray = False,
    units: np.ndarray | None = None,
    sparse: str = "missing",
    blank: bool = False,
    names: Sequence[str] | None = None,
) -> CellsInMemory:
    """Return the observed cells of a table under their losses.

    Parameters
    ----------
    table : array-like or sparse array of shape (rows, columns)
        Numbers; 0 and 1 for losses of two values; codes 0, 1, ... of levels for losses of
        classes and of levels. NaN is a missing cell.
    loss : str, Loss, callable, or a sequence with one for each column
    weights : array-like or sparse array of the table's shape, optional
        At least 0; cells with weight 0 count as missing.
    levels : sequence of int, optional
        The number of levels of each column; by default its largest code plus 1.
    scales : bool or ndarray of shape (columns,)
        Whether to divide columns of numbers by their spread, and the weights of each
        column by its mean loss at the best constant; or factors for the weights.
    units : ndarray of shape (columns,), optional
        What to divide columns by, if `scales` is an array.
    sparse : {"missing", "zero"}
        Whether entries that a sparse table does not store are missing or zero.
    blank : bool
        Whether a table without observed cells is accepted.
    names : sequence of str, optional
        Names of the columns for messages; by default their numbers.

    Raises
    ------
    InvalidValueError
        If a value is outside the domain of its loss, or no cell is observed.

    Examples
    --------
    >>> table = cells([[1.0, 0.0], [float("nan"), 1.0]], ["squared", "logistic"])
    >>> table.observed, [loss.name for loss in table.losses_of_columns]
    (3, ['squared', 'logistic'])
    """
    if hasattr(table, "tocsr"):
        stored: sparray = table
        each = named_all(loss, stored.shape[1])
        return _sparse_cells(stored, each, weights, sparse, blank)
    array = np.asarray(table)
    if array.dtype != np.float32:
        array = array.astype(np.float64)
    elif any(stride < 0 for stride in array.strides):
        array = array.copy()  # torch has no negative strides
    each = named_all(loss, array.shape[1])
    squares = scales is False and all(isinstance(one, Squared) for one in each)
    if squares and weights is None and array.size and np.isfinite(array).all():
        return Complete(array, _blocks(each, array, levels)[0])
    mask = _dense_weights(array, weights)
    _check_domains(array, mask, each, names)
    if not blank and not (mask > 0).any():
        raise InvalidValueError(NO_CELLS)
    filled = np.where(mask > 0, array, 0).astype(array.dtype)
    blocks = _blocks(each, filled, levels)
    if squares and (mask == 1).all():
        return Complete(array, blocks[0])
    dense = Dense(filled.astype(np.float64), mask, blocks)
    if scales is False:
        return dense
    if scales is True:
        return dense.standardized()
    ones = np.ones(array.shape[1])
    return dense.standardized(
        np.asarray(scales), ones if units is None else np.asarray(units)
    )


def _dense_weights(
    array: np.ndarray, weights: ArrayLike | sparray | None
) -> np.ndarray:
    """Return the weight of each cell of a dense table, zero for missing cells."""
    missing = np.isnan(array)
    if weights is None:
        return np.where(missing, 0.0, 1.0)
    weights = weights.toarray() if hasattr(weights, "toarray") else weights
    given = np.asarray(weights, dtype=np.float64)
    if given.shape != array.shape:
        raise InvalidValueError(
            f"weights have shape {given.shape}; give the table's, {array.shape}"
        )
    if not (given[~missing] >= 0).all() or np.isinf(given[~missing]).any():
        raise InvalidValueError(
            "weights hold a negative, infinite or NaN value at an observed cell; "
            "give numbers of at least 0"
        )
    return np.where(missing, 0.0, given)


def _check_domains(
    array: np.ndarray,
    mask: np.ndarray,
    each: Sequence[Loss],
    names: Sequence[str] | None,
) -> None:
    """Raise one error for all columns with values outside the domain of their loss."""
    complaints = Complaints()
    for j, one in enumerate(each):
        name = f"column {j}" if names is None else f"column {names[j]!r}"
        complaints.attempt(_check_domain, name, array[mask[:, j] > 0, j], one)
    complaints.raise_any()


def _sparse_cells(
    table: sparray,
    each: Sequence[Loss],
    weights: ArrayLike | sparray | None,
    sparse: str,
    blank: bool,
) -> Complete | Sparse:
    import scipy.sparse

    if table.dtype == object:
        raise InvalidValueError(
            "the sparse table holds Python objects; give one of numbers, such as "
            "table.astype(float)"
        )
    array = scipy.sparse.csr_array(table)
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    array = _canonical(array)
    loss = each[0]
    if (
        any(other != loss for other in each)
        or loss.kind in CODED
        or (isinstance(loss, Huber) and isinstance(loss.width, tuple))
    ):
        raise InvalidValueError(
            "a sparse table takes one loss of single numbers, of one width, for all "
            "columns; give a dense table with NaN for missing cells for categorical, "
            "ordinal or mixed ones"
        )
    block = Block(loss, np.arange(array.shape[1]), 0, 0, 0)
    if sparse == "zero":
        if weights is not None or loss.name not in ("squared", "kl"):
            raise InvalidValueError(
                f"sparse='zero' counts every cell, which for {loss.name} loss"
                f"{' with weights' if weights is not None else ''} would need the dense "
                "table; give squared or kl loss without weights, or sparse='missing'"
            )
        if np.isnan(array.data).any():
            raise InvalidValueError(
                "the sparse table stores NaN, but with sparse='zero' every cell is a "
                "number; give sparse='missing', or numbers"
            )
        _check_domain("the table", array.data, loss)
        return Complete(array, block)
    heavy = None if weights is None else _entry_weights(array, weights)
    kept = ~np.isnan(array.data)
    if heavy is not None:
        kept &= heavy > 0
    if not kept.all():
        rows = np.repeat(np.arange(array.shape[0]), np.diff(array.indptr))[kept]
        places = (rows, array.indices[kept])
        if heavy is not None:
            heavy = heavy[kept]
        array = scipy.sparse.csr_array((array.data[kept], places), shape=array.shape)
    if not array.nnz and not blank:
        raise InvalidValueError(NO_CELLS)
    _check_domain("the table", array.data, loss)
    return Sparse(array, heavy, block)


def _canonical(array: csr_array) -> csr_array:
    """Return a CSR array with sorted indices and without duplicates.

    scipy sorts in place, and the array may share its memory with the caller's: sort a
    copy.
    """
    if array.has_canonical_format:
        return array
    array = array.copy()
    array.sum_duplicates()
    return array


def _entry_weights(table: csr_array, weights: ArrayLike | sparray) -> np.ndarray:
    """Return the weight of each entry of a CSR array; the weights store the same ones."""
    import scipy.sparse

    given = scipy.sparse.csr_array(weights)
    if given.shape != table.shape:
        raise InvalidValueError(
            f"weights have shape {given.shape}; give the table's, {table.shape}"
        )
    given = _canonical(given)
    same = given.nnz == table.nnz and (given.indices == table.indices).all()
    if not same or (given.indptr != table.indptr).any():
        raise InvalidValueError(
            "weights store other entries than the table; store the same ones"
        )
    values = given.data.astype(np.float64)
    if not (np.isfinite(values) & (values >= 0)).all():
        raise InvalidValueError(
            "weights hold a negative, infinite or NaN value; give numbers of at least 0"
        )
    return values


def named_all(loss: LossLike | Sequence[LossLike], columns: int) -> list[Loss]:
    """Return the loss of each column.

    Examples
    --------
    >>> [loss.name for loss in named_all("squared", 2)]
    ['squared', 'squared']
    """
    if isinstance(loss, list | tuple):
        if len(loss) != columns:
            raise InvalidValueError(
                f"{len(loss)} losses are given for {counted(columns, 'column')}; give one "
                "for each, or one for all"
            )
        return [get_loss(one) for one in loss]
    return [get_loss(loss)] * columns


def _check_domain(name: str, values: np.ndarray, loss: Loss) -> None:
    """Raise an error if a value is outside the domain of a loss."""
    bad = values[~loss.allows(values)]
    if len(bad):
        raise InvalidValueError(
            f"{name} holds {bad[0]:g}, but {loss.label} loss is for {loss.domain}; give "
            "another loss, or other values"
        )
    if loss.kind in CODED:
        wrong = values[(values < 0) | (values != np.floor(values))]
        if len(wrong):
            raise InvalidValueError(
                f"{name} holds {wrong[0]:g}, but {loss.name} loss takes the codes "
                "0, 1, 2, ... of levels; give those"
            )


def _blocks(
    each: Sequence[Loss], table: np.ndarray, levels: Sequence[int] | None
) -> tuple[Block, ...]:
    """Put columns with one loss and one number of levels into one block."""
    groups: dict[tuple[object, int], list[int]] = {}
    for j, loss in enumerate(each):
        count = 0
        if loss.kind in CODED:
            count = int(table[:, j].max(initial=0)) + 1
            if levels is not None:
                count = max(count, levels[j])
            count = max(count, 2)
        # Huber losses share a block, which has a width for each column.
        kind = type(loss) if isinstance(loss, Huber) else loss
        groups.setdefault((kind, count), []).append(j)
    blocks: list[Block] = []
    first = first_cut = 0
    for (_, count), columns in groups.items():
        loss = _joined([each[j] for j in columns]).of_levels(count)
        block = Block(loss, np.array(columns), count, first, first_cut)
        blocks.append(block)
        first, first_cut = block.place.stop, block.cut_place.stop
    return tuple(blocks)


def _joined(losses: Sequence[Loss]) -> Loss:
    """Return one loss for columns whose losses differ at most in the width of Huber's."""
    widths = [loss.width for loss in losses if isinstance(loss, Huber)]
    if len(set(widths)) <= 1:
        return losses[0]
    return Huber(tuple(widths))  # type: ignore[arg-type]
