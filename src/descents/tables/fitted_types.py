"""Columns of new rows in the types that they had in the table of a fit.

New rows are often few, so that a column without observed cells has an arbitrary type: null,
floats that are all NaN, or text. A category may lack levels. Such columns are given the
type of the fit before their cells are filled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from descents.tables.frames import Source, arrow_cells
from descents.tables.pandas_values import wide_categories

if TYPE_CHECKING:
    import pyarrow

CATEGORY, IN_ORDER = "dictionary", "ordered dictionary"
"""The names of the types of categories."""


def name_of(kind: pyarrow.DataType, ordered: bool = False) -> str:
    """Return a name of an arrow type, for a file; "" if it has none.

    Examples
    --------
    >>> import pyarrow
    >>> name_of(pyarrow.float64()), name_of(pyarrow.dictionary("int8", "string"))
    ('double', 'dictionary')
    """
    from pyarrow import types

    if types.is_dictionary(kind):
        return IN_ORDER if ordered else CATEGORY
    return str(kind) if named(str(kind)) == kind else ""


def named(name: str) -> pyarrow.DataType | None:
    """Return the arrow type with a name that `name_of` returned; None if there is none.

    Examples
    --------
    >>> named("timestamp[us, tz=UTC]"), named("")
    (TimestampType(timestamp[us, tz=UTC]), None)
    """
    import pyarrow

    if name in (CATEGORY, IN_ORDER):
        ordered = name == IN_ORDER
        return pyarrow.dictionary(pyarrow.int32(), pyarrow.string(), ordered)
    unit, with_zone, zone = name.partition(", tz=")
    if with_zone:
        return pyarrow.timestamp(
            unit.removeprefix("timestamp["), zone.removesuffix("]")
        )
    try:
        return pyarrow.type_for_alias(name)
    except ValueError:
        return None


def alike(one: pyarrow.DataType, other: pyarrow.DataType) -> bool:
    """Return whether two arrow types hold the same kind of values.

    Examples
    --------
    >>> import pyarrow
    >>> alike(pyarrow.float32(), pyarrow.float64()), alike(pyarrow.null(), pyarrow.int8())
    (True, False)
    """
    return one == other or _kind(one) == _kind(other) != "other"


def _kind(one: pyarrow.DataType) -> str:
    """Return the kind of values of an arrow type, in a word."""
    from pyarrow import types

    if types.is_floating(one) or types.is_decimal(one):
        return "real"
    if str(one) in ("string", "large_string", "string_view"):
        return "text"
    for name in ("integer", "boolean", "date", "timestamp", "dictionary"):
        if getattr(types, f"is_{name}")(one):
            return name
    return "other"


def fresh(
    source: Source,
    place: int,
    fills: Sequence[Any],
    kind: pyarrow.DataType,
    levels: Sequence[object],
    ordered: bool,
) -> Any:
    """Return a column of a frame in which all cells are filled, of a given type.

    Parameters
    ----------
    source : Source
    place : int
        The place of the column that it replaces.
    fills : sequence of length rows
    kind : arrow type
    levels : sequence
        The levels of a category.
    ordered : bool
        Whether these are in order.
    """
    import pyarrow
    from pyarrow import types

    if types.is_dictionary(kind):
        code = {level: at for at, level in enumerate(levels)}
        codes = pyarrow.array([code[fill] for fill in fills], pyarrow.int32())
        cells = pyarrow.DictionaryArray.from_arrays(
            codes, pyarrow.array(list(levels)), ordered=ordered
        )
    else:
        cells = pyarrow.array(list(fills), type=kind)
    if source.library == "pyarrow":
        return cells
    if source.library == "pandas":
        former = source.frame.iloc[:, place]
        series = cells.to_pandas()
        series.index, series.name = former.index, former.name
        return series
    former = source.frame.to_series(place)
    maker = type(former)
    if not types.is_dictionary(kind):
        return maker(former.name, cells)
    import polars

    wanted = polars.Enum(list(map(str, levels))) if ordered else polars.Categorical
    return maker(former.name, list(fills), dtype=wanted)


def widened(source: Source, place: int, levels: Sequence[object]) -> Source:
    """Return a source in which a category can hold all levels of a model.

    Columns of other types are returned unchanged.

    Parameters
    ----------
    source : Source
    place : int
    levels : sequence
        The levels of the model, in order. Levels of the column that are not among them
        come behind these.
    """
    import pyarrow
    from pyarrow import types

    cells, ordered = arrow_cells(source, place)
    if not types.is_dictionary(cells.type):
        return source
    own = cells.dictionary.to_pylist()
    texts = {str(level) for level in own}
    more = [level for level in levels if str(level) not in texts]
    if not more:
        return source
    every = list(levels) if len(more) + len(own) == len(levels) else [*own, *more]
    frame = source.frame
    if source.library == "pandas":
        frame = frame.copy()
        wide = wide_categories(frame.iloc[:, place], every)
        frame.isetitem(place, wide)
    elif source.library == "pyarrow":
        at = {level: code for code, level in enumerate(every)}
        codes = [None if cell is None else at[cell] for cell in cells.to_pylist()]
        wide = pyarrow.DictionaryArray.from_arrays(
            pyarrow.array(codes, pyarrow.int32()), pyarrow.array(every), ordered=ordered
        )
        field = frame.schema.field(place).with_type(wide.type)
        frame = frame.set_column(place, field, wide)
    elif ordered:  # an Enum
        import polars

        series = frame.to_series(place).cast(polars.String)
        frame = frame.with_columns(series.cast(polars.Enum(list(map(str, every)))))
    return replace(source, frame=frame)
