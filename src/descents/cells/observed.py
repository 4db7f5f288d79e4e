"""From a table to the cells of it that are data: losses, weights, levels, holes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from descents.cells.base import Block, Cells
from descents.cells.layouts import Complete, Dense, Stored
from descents.errors import Complaints, InvalidValueError
from descents.losses import Huber, Loss, Squared, get_loss
from descents.text import counted

CODED = ("classes", "levels")
"""Kinds of losses whose columns hold codes 0, 1, 2, ... of as many levels as they have."""


def cells(
    table: Any,
    loss: Any = "squared",
    *,
    weights: Any = None,
    levels: Sequence[int] | None = None,
    scales: bool | np.ndarray = False,
    units: np.ndarray | None = None,
    sparse: str = "missing",
    blank: bool = False,
    names: Sequence[str] | None = None,
) -> Cells:
    """Return the cells of a table that are data, under their losses.

    Parameters
    ----------
    table : array-like or sparse array of shape (rows, columns)
        Numbers, 0 and 1 for losses of two values, the codes 0, 1, ... of levels for
        those of classes and of levels. NaN is a hole.
    loss : str, Loss, callable, or a sequence of one for each column
    weights : array-like or sparse array of the table's shape, optional
        At least 0; a weight of 0 makes a hole.
    levels : sequence of int, optional
        How many levels each column has, by default those up to its largest code.
    scales : bool or ndarray of shape (columns,)
        Whether columns of numbers are divided by their spread, and the weights of each
        column by its mean loss at the best constant; or what weights are multiplied by.
    units : ndarray of shape (columns,), optional
        What columns are divided by, where `scales` is an array.
    sparse : {"missing", "zero"}
        What an entry that a sparse table does not store is: a hole, or a zero.
    blank : bool
        Whether a table without any data is let through.
    names : sequence of str, optional
        What messages call the columns, by default their numbers.

    Raises
    ------
    InvalidValueError
        When a value is outside its loss's domain, or no cell is data.

    Examples
    --------
    >>> found = cells([[1.0, 0.0], [float("nan"), 1.0]], ["squared", "logistic"])
    >>> found.observed, [loss.name for loss in found.losses_of_columns]
    (3, ['squared', 'logistic'])
    """
    if hasattr(table, "tocsr"):
        each = named_all(loss, table.shape[1])
        return _sparse_cells(table, each, weights, sparse, blank)
    array = np.asarray(table)
    if array.dtype != np.float32:
        array = array.astype(np.float64)
    elif any(stride < 0 for stride in array.strides):
        array = array.copy()  # torch has no negative strides
    each = named_all(loss, array.shape[1])
    squares = scales is False and all(isinstance(one, Squared) for one in each)
    if squares and weights is None and array.size and np.isfinite(array).all():
        return Complete(array, _blocks(each, array, levels)[0])
    hole = np.isnan(array)
    mask = np.where(hole, 0.0, 1.0)
    if weights is not None:
        weights = weights.toarray() if hasattr(weights, "toarray") else weights
        given = np.asarray(weights, dtype=np.float64)
        if given.shape != array.shape:
            raise InvalidValueError(
                f"weights have shape {given.shape}; give the table's, {array.shape}"
            )
        if not (given[~hole] >= 0).all() or np.isinf(given[~hole]).any():
            raise InvalidValueError(
                "weights hold a negative, infinite or NaN value at an observed cell; "
                "give numbers of at least 0"
            )
        mask = np.where(hole, 0.0, given)
    complaints = Complaints()
    for j, one in enumerate(each):
        kept = mask[:, j] > 0
        name = f"column {j}" if names is None else f"column {names[j]!r}"
        complaints.attempt(_in_domain, name, array[kept, j], one)
    complaints.raise_any()
    if not blank and not (mask > 0).any():
        raise InvalidValueError(
            "the table has no observed cell of positive weight; give one that has some"
        )
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


def _sparse_cells(
    table: Any, each: Sequence[Loss], weights: Any, sparse: str, blank: bool
) -> Cells:
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
            "columns; give a "
            "dense table with NaN at the holes for categorical, ordinal or mixed ones"
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
        _in_domain("the table", array.data, loss)
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
        raise InvalidValueError(
            "the table has no observed cell of positive weight; give one that has some"
        )
    _in_domain("the table", array.data, loss)
    return Stored(array, heavy, block)


def _canonical(array: Any) -> Any:
    """Return a CSR array with sorted indices, each of them once.

    scipy sorts in place, and a CSR array made of another one shares its memory, which
    belongs to the caller: sort a copy.
    """
    if array.has_canonical_format:
        return array
    array = array.copy()
    array.sum_duplicates()
    return array


def _entry_weights(table: Any, weights: Any) -> np.ndarray:
    """Return the weights of the entries of a CSR array, which store the same ones."""
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


def named_all(loss: Any, columns: int) -> list[Loss]:
    """Return the loss of each column.

    Examples
    --------
    >>> [loss.name for loss in named_all("squared", 2)]
    ['squared', 'squared']
    """
    if isinstance(loss, list | tuple):
        if len(loss) != columns:
            raise InvalidValueError(
                f"{len(loss)} losses are given for {counted(columns, 'column')}; give one for each, "
                "or one for all"
            )
        return [get_loss(one) for one in loss]
    return [get_loss(loss)] * columns


def _in_domain(name: str, values: np.ndarray, loss: Loss) -> None:
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
    """Put columns of one loss, and of as many levels, side by side."""
    groups: dict[tuple[Any, int], list[int]] = {}
    for j, loss in enumerate(each):
        count = 0
        if loss.kind in CODED:
            count = int(table[:, j].max(initial=0)) + 1
            if levels is not None:
                count = max(count, levels[j])
            count = max(count, 2)
        # Huber's loss has a width for each column, and is one all the same.
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
    """Return one loss for some columns, which differ in the width of Huber's at most."""
    widths = [loss.width for loss in losses if isinstance(loss, Huber)]
    if len(set(widths)) <= 1:
        return losses[0]
    return Huber(tuple(widths))  # type: ignore[arg-type]
