"""Levels of a column, and their positions in another table or a model.

A model stores the levels of a column as they are in the table of its fit. `Places` matches
them with the levels of another table, which may spell them differently.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from descents.tables.spelling import (
    LARGEST,
    WORDS,
    day_of,
    number_of,
    plain,
    spelled,
    text_of,
    truth_of,
    truths_of,
)
from descents.tables.typed_columns import Column

if TYPE_CHECKING:
    import pyarrow

Key = TypeVar("Key")
MOST_DECLARED = 1000
"""Maximum number of declared levels without a cell that a model stores."""


class Places:
    """Finds the positions of values in a list of levels, with different spellings.

    A value matches a level if both are the same text. Otherwise it matches the only level
    that is the same number, the same date or time, or the same truth value: false, no and
    0, or true, yes and 1, in any case, and F and T or N and Y if both are levels. If
    several levels match, such as 1 and 01, only the text counts.

    Parameters
    ----------
    levels : sequence
        Text, numbers or booleans.
    loose : bool
        Whether case and spaces of text are ignored.

    Examples
    --------
    >>> places = Places(["01", "10", "48"])
    >>> [places.of(x) for x in ("01", 1, 10.0, "48", "2")]
    [0, 0, 1, 2, None]
    >>> Places(["no", "yes"]).of(True), Places([1, 2]).of("2"), Places([False]).of("NO")
    (1, 1, 0)
    >>> Places(["no", "yes"]).of("1.0"), Places(["F", "T"]).of(0), Places([0, 1]).of("Y")
    (1, 0, 1)
    """

    def __init__(self, levels: Sequence[object], loose: bool = False) -> None:
        self.loose = loose
        self._texts = {text_of(level): place for place, level in enumerate(levels)}
        self._numbers = _single(map(number_of, levels))
        self._days = _single(map(day_of, levels))
        self._truths = _single(truths_of(levels))
        words = {word for pair in WORDS for word in pair}
        self._words = _single(
            spelled(level) if loose or self._truths or spelled(level) in words else None
            for level in levels
        )
        self._bits = {int(truth): at for truth, at in self._truths.items()}
        self._binary = len(levels) == 2 and {0, 1} == set(self._numbers)

    def of(self, value: object, number: float | None = None) -> int | None:
        """Return the position of a value, or None if it matches no level.

        Parameters
        ----------
        value : str, number, bool or date
        number : float, optional
            The number that the value was read as.
        """
        exact = number_of(value)
        # The number of a float32 differs from its text. Long whole numbers are compared
        # as text only, because float64 is not exact.
        read = None if number is None or abs(number) > LARGEST else number_of(number)
        truth = truth_of(value)
        if isinstance(value, bool | np.bool_):
            exact = int(value) if self._bits or {0, 1} >= set(self._numbers) else None
        elif truth is not None and self._binary:
            exact = int(truth)
        ways: tuple[tuple[Mapping[Any, int], object], ...] = (
            (self._texts, text_of(value)),
            (self._words, spelled(value) if self.loose or truth is not None else None),
            (self._numbers, exact),
            (self._numbers, read),
            (self._bits, exact),
            (self._truths, truth),
            (self._days, day_of(value)),
        )
        for positions, key in ways:
            place = None if key is None else positions.get(key)
            if place is not None:
                return place
        return None


def _single(keys: Iterable[Key | None]) -> dict[Key, int]:
    """Return the position of each key that occurs once; None is not a key."""
    every = list(keys)
    counts = Counter(every)
    return {k: at for at, k in enumerate(every) if k is not None and counts[k] == 1}


# A column as levels


def own_levels(column: Column) -> tuple[np.ndarray, tuple[object, ...]]:
    """Return the codes and levels of a column, with the spelling of its source.

    Parameters
    ----------
    column : Column
        For numbers, dates and booleans, the levels are the different cells of the source,
        or the different numbers if there is no source.

    Returns
    -------
    codes : float64 ndarray of shape (rows,)
        NaN for missing cells.
    levels : tuple

    Examples
    --------
    >>> import pyarrow
    >>> from descents.tables.tables import from_frame
    >>> table = from_frame(pyarrow.table({"a": [2**60, 2**60 + 1, None]}))
    >>> own_levels(table.column("a"))
    (array([ 0.,  1., nan]), (1152921504606846976, 1152921504606846977))
    """
    values = column.values
    if column.kind in ("category", "order", "text"):
        return values, column.levels
    if column.cells is None:
        if column.levels:
            return values, column.levels
        numbers, codes = np.unique(values, return_inverse=True)
        observed = numbers[~np.isnan(numbers)].tolist()
        levels = tuple(int(x) for x in observed) if column.whole else tuple(observed)
        return np.where(np.isnan(values), np.nan, codes), levels
    places, levels = different_cells(column.cells)
    return np.where(np.isnan(values), np.nan, places), levels


def different_cells(cells: pyarrow.Array) -> tuple[np.ndarray, tuple[object, ...]]:
    """Return the codes and the distinct cells of an arrow column."""
    import pyarrow
    from pyarrow import compute, types

    if isinstance(cells, pyarrow.ChunkedArray):
        cells = cells.combine_chunks()
    if types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    if types.is_float16(cells.type) or types.is_float32(cells.type):
        # `plain` uses the short text of a float32: 0.1, not 0.10000000149.
        numbers = np.asarray(cells.to_numpy(zero_copy_only=False))
        distinct, places = np.unique(numbers, return_inverse=True)
        return places.astype(np.float64), tuple(map(plain, distinct))
    if types.is_string(cells.type) or types.is_large_string(cells.type):
        cells = compute.utf8_trim_whitespace(cells)
    encoded = cells.dictionary_encode()
    places = encoded.indices.to_numpy(zero_copy_only=False)
    return places.astype(np.float64), tuple(encoded.dictionary.to_pylist())


def levels_of(column: Column) -> tuple[object, ...]:
    """Return the levels of a column in order: numbers by size, dates by time.

    Levels of dates are their texts.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.tables.tables import from_frame
    >>> frame = pyarrow.table({"a": [10, 9, None], "b": ["x", "y", "x"]})
    >>> [levels_of(column) for column in from_frame(frame).columns]
    [(9, 10), ('x', 'y')]
    """
    if column.kind in ("boolean", "category", "order", "text"):
        return column.levels
    values = column.values[~np.isnan(column.values)]
    if column.kind == "date" and column.cells is not None:
        codes, own = own_levels(column)
        order = np.argsort(column.values, kind="stable")
        seen = dict.fromkeys(codes[order[: len(values)]].astype(int).tolist())
        return tuple(dict.fromkeys(text_of(own[code]) for code in seen))
    if len(values) and np.abs(values).max() >= LARGEST and column.cells is not None:
        exact = [number_of(level) for level in own_levels(column)[1]]
        if all(isinstance(x, int) for x in exact if x is not None):
            return tuple(sorted({x for x in exact if x is not None}))
    numbers = np.unique(values)
    narrow = {"float": np.float32, "halffloat": np.float16}
    if column.cells is not None and str(column.cells.type) in narrow:
        # With this type, `plain` returns 0.1, not 0.10000000149.
        numbers = numbers.astype(narrow[str(column.cells.type)])
    return tuple(int(x) if column.whole else plain(x) for x in numbers)


@dataclass(frozen=True)
class KnownLevels:
    """The levels of a column in a model.

    Attributes
    ----------
    levels : tuple
    loose : bool
        Whether case and spaces of text are ignored.
    stand_ins : tuple of (level, float)
        Further levels without a code of their own, and the code that each is read as: NaN
        for a missing cell.
    never : tuple
        Levels that a category declared in the table of the fit, but that no cell had. The
        model does not know them, and a message explains why.
    """

    levels: tuple[object, ...]
    loose: bool = False
    stand_ins: tuple[tuple[object, float], ...] = ()
    never: tuple[object, ...] = ()

    @property
    def all_levels(self) -> tuple[object, ...]:
        """The levels, followed by those of `stand_ins`."""
        return (*self.levels, *(level for level, _ in self.stand_ins))

    def code(self, place: int) -> float:
        """Return the code of a position in `all_levels`."""
        own = len(self.levels)
        return float(place) if place < own else self.stand_ins[place - own][1]


def never_observed(column: Column) -> tuple[object, ...]:
    """Return the declared levels of a category that no cell has, at most 1000.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.tables.tables import from_frame
    >>> cells = pyarrow.array(["a", "b", "a"]).dictionary_encode().take([0, 2])
    >>> never_observed(from_frame(pyarrow.table({"c": cells})).column("c"))
    ('b',)
    """
    declared = column.levels if column.kind == "order" else ()
    if column.kind == "category" and hasattr(column.cells, "dictionary"):
        declared = tuple(column.cells.dictionary.to_pylist())
    codes = np.unique(column.values[~np.isnan(column.values)]).astype(np.int64)
    used = {column.levels[code] for code in codes} | {None} if declared else set()
    return tuple(level for level in declared if level not in used)[:MOST_DECLARED]


def coded(column: Column, known: KnownLevels) -> tuple[np.ndarray, dict[object, int]]:
    """Return a column as codes of a model's levels, and the counts of other levels.

    Returns
    -------
    codes : float64 ndarray of shape (rows,)
        NaN for missing cells and for other levels.
    unseen : dict
        The number of cells of each other level.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.tables.tables import from_frame
    >>> column = from_frame(pyarrow.table({"a": [10, 48, None, 7]})).column("a")
    >>> coded(column, KnownLevels(("01", "10", "48")))
    (array([ 1.,  2., nan, nan]), {7: 1})
    """
    codes, own = own_levels(column)
    here = np.flatnonzero(~np.isnan(codes))
    places = codes[here].astype(np.int64)
    used, first, counts = np.unique(places, return_index=True, return_counts=True)
    search = Places(known.all_levels, known.loose)
    lookup = np.full(len(own) + 1, np.nan)
    unseen: dict[object, int] = {}
    for code, at, count in zip(used, here[first], counts, strict=True):
        number = column.values[at] if column.kind == "number" else None
        place = search.of(own[code], number)
        if place is None:
            unseen[own[code]] = unseen.get(own[code], 0) + int(count)
        else:
            lookup[code] = known.code(place)
    matched = np.full(len(codes), np.nan)
    matched[here] = lookup[places]
    return np.where(np.isnan(codes), _marks(column, known.levels), matched), unseen


def _marks(column: Column, levels: Sequence[object]) -> np.ndarray:
    """Return the codes of missing cells whose mark is one of the levels.

    The text None is usually a mark, but a level if the levels are None, mild and severe.
    """
    places: dict[object, int] = {
        level: k for k, level in enumerate(levels) if isinstance(level, str)
    }
    if column.cells is None or not places or not np.isnan(column.values).any():
        return np.full(len(column.values), np.nan)
    codes, cells = different_cells(column.cells)
    lookup = np.array([places.get(cell, np.nan) for cell in cells] + [np.nan])
    lookup[[k for k, cell in enumerate(cells) if cell == ""]] = np.nan
    return lookup[np.nan_to_num(codes, nan=-1).astype(np.int64)]


def numbers_in(column: Column) -> np.ndarray | None:
    """Return a column of text as numbers, or None if it has other cells.

    Such columns have codes with leading zeros, or are text columns of a data frame. False
    and true are 0 and 1.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.tables.tables import from_frame
    >>> numbers_in(from_frame(pyarrow.table({"a": ["01", None, "10"]})).column("a"))
    array([ 1., nan, 10.])
    """
    numbers = [number_of(level) for level in column.levels]
    if column.kind == "boolean" and list(map(spelled, column.levels)) == list(WORDS[0]):
        numbers = [0, 1]
    if None in numbers or column.kind == "date":
        return None
    lookup = np.array([*numbers, np.nan], dtype=np.float64)
    return lookup[np.nan_to_num(column.values, nan=-1).astype(np.int64)]
