"""A table with its missing cells filled by the predictions of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from descents.cells.columns import TYPED, ColumnModel
from descents.errors import InvalidValueError
from descents.losses import Periodic
from descents.tables import levels
from descents.tables.fitted_types import CATEGORY, IN_ORDER, alike, named, widened
from descents.tables.frames import Frame, given_back, reason_of
from descents.tables.levels import Places
from descents.tables.numerals import Written
from descents.tables.spelling import number_of, text_of, truth_among
from descents.tables.tables import Table
from descents.tables.typed_columns import Column, Kind


def filled(
    table: Table, models: Sequence[ColumnModel], codes: Sequence[np.ndarray]
) -> Frame | str:
    """Return a table with its missing cells filled by numbers or codes of a model.

    It has the type of the source, or is CSV text; see `completed`.
    """
    return given_back(completed(table, models, codes).source)


def completed(
    table: Table,
    models: Sequence[ColumnModel],
    codes: Sequence[np.ndarray],
    *,
    free: bool = False,
) -> Table:
    """Return a table whose source has its missing cells filled by a model.

    Parameters
    ----------
    table : Table
    models : sequence of ColumnModel
    codes : sequence of float64 ndarray of shape (rows,)
        Numbers, or codes of levels, of each column.
    free : bool
        Whether whole numbers may leave the range that the fit observed.

    Raises
    ------
    InvalidValueError
        If the type of a column cannot represent the values to fill in.

    Examples
    --------
    >>> from descents.losses import get_loss
    >>> import pyarrow
    >>> from descents.tables.tables import from_frame
    >>> table = from_frame(pyarrow.table({"a": ["y", None, "y"]}))
    >>> model = ColumnModel("a", get_loss("logistic"), ("x", "y"), "")
    >>> completed(table, [model], [np.zeros(3)]).source.frame.to_pydict()
    {'a': ['y', 'x', 'y']}
    """
    textual = table.textual
    table = table if textual else _as_fitted(table, models)
    parts = {
        model.name: _for_filling(model, table.column(model.name), code, textual, free)
        for model, code in zip(models, codes, strict=True)
    }
    columns = tuple(
        parts[column.name][0] if column.name in parts else column
        for column in table.columns
    )
    by_name = {model.name: model for model in models}
    if textual:
        columns = tuple(
            _with_places(column, by_name.get(column.name), table.decimal)
            for column in columns
        )
    values = {name: numbers for name, (_, numbers) in parts.items()}
    try:
        return replace(table, columns=columns).completed(values)
    except InvalidValueError:
        raise
    except (TypeError, ValueError, NotImplementedError) as error:
        raise InvalidValueError(
            f"a column cannot hold what is to be filled in ({reason_of(error)}); give "
            "the columns the types that they had in the fit"
        ) from None


def _with_places(column: Column, model: ColumnModel | None, decimal: str) -> Column:
    """Return a column that is filled with as many decimals as it had in the fit."""
    if model is None or model.places is None or column.kind != "number" or column.whole:
        return column
    written = column.written or Written(decimal)
    if not isinstance(written, Written) or written.places is not None:
        return column
    return replace(column, written=replace(written, places=model.places))


def _as_fitted(table: Table, models: Sequence[ColumnModel]) -> Table:
    """Return a table whose columns have types that can hold the values of a model.

    A column without observed cells gets the type of the fit when it is filled, unless its
    own holds the same kind of values. A category gets the levels that it lacks.
    """
    import pyarrow

    source, columns = table.source, []
    by_name = {model.name: model for model in models}
    for column in table.columns:
        model = by_name.get(column.name)
        if model is not None and model.levels and column.kind != "empty":
            every = model.declared or model.levels
            place = source.names.index(column.name)
            source = widened(source, place, [*every, *model.never])
        own = getattr(column.cells, "type", None)
        kind = None if model is None or own is None else named(model.cell_type)
        if kind is None or column.kind != "empty":
            columns.append(column)
            continue
        other = pyarrow.types.is_dictionary(kind) or not alike(own, kind)
        cells = pyarrow.nulls(len(column.values), kind)
        columns.append(replace(column, cells=cells, fitted=kind) if other else column)
    return replace(table, source=source, columns=tuple(columns))


def _for_filling(
    model: ColumnModel, column: Column, codes: np.ndarray, textual: bool, free: bool
) -> tuple[Column, np.ndarray]:
    """Return a column with the model's levels, and codes of it, for `Table.filled`.

    A column without observed cells has the model's kind. Text that happens to contain
    only whole numbers can be filled with other numbers, but an integer type cannot. Text
    that contains numbers is filled with numbers as text.
    """
    typed = column.kind in TYPED
    if model.levels:
        places = np.clip(codes.astype(np.int64), 0, len(model.levels) - 1)
        own, index = _levels_for(model, column, textual)
        kind: Kind = column.kind if typed else "category"
        in_order = model.cell_type == IN_ORDER
        if column.fitted is not None and (in_order or model.cell_type == CATEGORY):
            every = list(dict.fromkeys([*(model.declared or own), *own, *model.never]))
            index = np.array([every.index(own[int(at)]) for at in index], dtype=float)
            own, kind = tuple(every), "order" if in_order else "category"
        values, _ = levels.coded(column, model.known)  # NaN where a cell is missing
        return replace(column, kind=kind, levels=own, values=values), index[places]
    blank = column.kind == "empty"
    if model.dates and (blank or column.kind == "date"):
        return replace(column, kind="date"), codes
    if not is_rounded(model, column, textual):
        if typed and not textual:
            numbers, places = np.unique(codes, return_inverse=True)
            texts = tuple(map(text_of, numbers))
            return replace(column, levels=texts), places.astype(float)
        return replace(column, kind="number", whole=False), codes
    # As levels, because `Table.filled` would clip them to the range of this table. The
    # limit is the range that the fit observed.
    low, high = _range_of(replace(model, limits=None) if free else model, column)
    whole, places = np.unique(_whole(model, codes).clip(low, high), return_inverse=True)
    fills: tuple[object, ...] = tuple(str(int(x)) if typed else int(x) for x in whole)
    if typed and model.limits == (0, 1):
        words = [truth_among(bool(x), column.levels) for x in whole]
        fills = fills if None in words else tuple(words)
    return replace(column, kind="category", levels=fills), places.astype(float)


def is_rounded(model: ColumnModel, column: Column, textual: bool) -> bool:
    """Return whether a column of numbers is filled with whole numbers."""
    blank, typed = column.kind == "empty", column.kind in TYPED
    rounded = model.whole if blank or textual or typed else column.whole
    return (blank or column.whole or typed) and rounded


def _whole(model: ColumnModel, codes: np.ndarray) -> np.ndarray:
    """Return numbers rounded to whole numbers."""
    codes = np.rint(codes)
    if isinstance(model.loss, Periodic):  # 23.7 o'clock is nearer to 0 than to 23
        codes = model.loss.impute(codes)
    return codes


def _range_of(model: ColumnModel, column: Column) -> tuple[float, float]:
    """Return the range to which imputed whole numbers are clipped.

    It is the range that the fit observed, or that of the type of the column, as far as
    float64 is exact.
    """
    if model.limits is not None:
        return model.limits
    low, high = -(2.0**53), 2.0**53
    kind = str(getattr(column.cells, "type", ""))
    if kind.removeprefix("u").startswith("int"):
        limits = np.iinfo(kind)
        low, high = max(low, float(limits.min)), min(high, float(limits.max))
    return low, high


def clipped(
    table: Table, models: Sequence[ColumnModel], codes: Sequence[np.ndarray]
) -> dict[str, int]:
    """Return how many imputed numbers `completed` clips, for columns with any.

    Parameters
    ----------
    table, models, codes
        As for `completed`.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.cells.columns import of_table
    >>> from descents.tables.tables import from_frame
    >>> table = from_frame(pyarrow.table({"a": [1, None, 3]}))
    >>> clipped(table, of_table(table, "auto"), [np.array([1.0, 7.4, 3.0])])
    {'a': 1}
    """
    textual = table.textual
    counts = {}
    for model, numbers in zip(models, codes, strict=True):
        column = table.column(model.name)
        if model.levels or not is_rounded(model, column, textual):
            continue
        low, high = _range_of(model, column)
        whole = _whole(model, numbers)
        outside = ((whole < low) | (whole > high)) & np.isnan(column.values)
        if outside.any():
            counts[model.name] = int(outside.sum())
    return counts


def _levels_for(
    model: ColumnModel, column: Column, textual: bool
) -> tuple[tuple[object, ...], np.ndarray]:
    """Return levels of the type of a column, and the position of each level of the model.

    The column's own levels come first. They may be spelled differently.
    """
    if column.kind in TYPED or column.kind == "date":
        own = list(
            levels.own_levels(column)[1] if column.kind == "date" else column.levels
        )
        search = Places(model.levels, model.known.loose)
        index: dict[int, int] = {}
        for at, level in enumerate(own):
            place = search.of(level)
            if place is not None:
                index.setdefault(place, at)
        known = len(own)
        text = bool(own) and all(isinstance(level, str) for level in own)
        for place, level in enumerate(model.levels):
            if place not in index:
                index[place] = len(own)
                as_here = truth_among(level, tuple(own[:known])) if text else None
                own.append(as_here or (text_of(level) if text else level))
        return tuple(own), np.array([index[k] for k in range(len(index))], dtype=float)
    fills = [_as_number(level, column, textual) for level in model.levels]
    return tuple(fills), np.arange(len(fills), dtype=float)


def _as_number(level: object, column: Column, textual: bool) -> object:
    """Return a level as a number of a column's type; text of a text file is unchanged."""
    number = number_of(level)
    truth = truth_among(level, [0]) if column.kind == "number" else None
    if isinstance(truth, int):
        number = truth
    elif number is None or (textual and isinstance(level, str)):
        return level
    if column.kind == "empty":
        return level
    return int(number) if column.whole and number == int(number) else float(number)
