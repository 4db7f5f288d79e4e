"""Levels of a column: matched between tables, and their order.

A model stores the levels of a column as they are in the table of its fit. Another table
may write the same levels differently: the codes 01 and 10 as the numbers 1 and 10, yes and
no as booleans, a date as a time. `Places` matches them; `order_of` returns the order of
levels of text if it is certain.
"""

from __future__ import annotations

import datetime
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np

from descents.errors import Complaints, InvalidValueError
from descents.tables.frames import short
from descents.tables.scales import arranged
from descents.tables.tables import Column, Table, as_column
from descents.text import counted

LARGEST = 2**53
"""Up to this number, float64 represents every whole number exactly."""
MOST_DECLARED = 1000
"""Maximum number of declared levels without a cell that a model stores."""
MOST_SHOWN = 10
"""Maximum number of levels that a message lists."""

_NUMBER = re.compile(
    r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?\s*", re.ASCII | re.IGNORECASE
)
_WHOLE = re.compile(r"\s*[+-]?\d+\s*", re.ASCII)
WORDS = (("false", "true"), ("no", "yes"))
"""Words for false and true that have no other meaning."""
LETTERS = (("f", "t"), ("n", "y"))
"""Letters for false and true; one without the other may have another meaning."""

_TRUTHS = {word: bool(k) for pair in WORDS + LETTERS for k, word in enumerate(pair)}


def text_of(value: Any) -> str:
    """Return a level as text: whole floats without a point, dates without a time of 0:00.

    Examples
    --------
    >>> text_of("01"), text_of(np.float64(10.0)), text_of(datetime.datetime(2021, 3, 1))
    ('01', '10', '2021-03-01')
    """
    value = plain(value)
    if isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST:
        return str(int(value))
    if isinstance(value, datetime.datetime):
        return str(value).removesuffix(" 00:00:00")
    return str(value)


def shown(value: Any) -> str:
    """Return a level for a message: text in quotes, numbers without.

    Examples
    --------
    >>> shown("red"), shown(np.float64(10.0)), shown(True)
    ("'red'", '10', 'True')
    """
    return repr(short(value)) if isinstance(value, str) else text_of(value)


def printed(value: Any) -> str:
    r"""Return a level for a sentence, with control characters escaped.

    Examples
    --------
    >>> printed("low"), printed("\x1b[31mlow")
    ('low', '\\x1b[31mlow')
    """
    text = short(text_of(value))
    return text if text.isprintable() else repr(text)[1:-1]


def listed(levels: Iterable[Any]) -> str:
    """Return a list of levels for a message, shortened if it is long.

    Examples
    --------
    >>> listed(["a", "b"])
    "'a', 'b'"
    """
    levels = list(levels)
    more = f" and {len(levels) - MOST_SHOWN} more" if len(levels) > MOST_SHOWN else ""
    return ", ".join(map(shown, levels[:MOST_SHOWN])) + more


def plain(value: Any) -> Any:
    """Convert a numpy scalar to Python, a float32 to the shortest decimal that it prints.

    Examples
    --------
    >>> plain(np.float32(0.1)), plain(np.int64(3)), plain("x")
    (0.1, 3, 'x')
    """
    if isinstance(value, np.float32 | np.float16):
        return float(str(value))
    return value.item() if isinstance(value, np.generic) else value


def number_of(value: Any) -> int | float | None:
    """Return the number that a level represents, exactly if it is whole, or None.

    Examples
    --------
    >>> number_of("01"), number_of("1.50"), number_of(Decimal("3")), number_of("x")
    (1, 1.5, 3, None)
    """
    value = plain(value)
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        if _WHOLE.fullmatch(value):
            return int(value) if len(value) < 1000 else None
        value = float(value) if _NUMBER.fullmatch(value) else None
    if isinstance(value, Decimal):
        value = int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float) and math.isfinite(value):
        return int(value) if value.is_integer() else value
    return value if isinstance(value, int) else None


def _truth_of(value: Any) -> bool | None:
    value = plain(value)
    if isinstance(value, str):
        return _TRUTHS.get(value.strip().casefold())
    return value if isinstance(value, bool) else None


def _truths_of(levels: Sequence[Any]) -> list[bool | None]:
    """Return which of false and true each level is; all None if one of them is neither.

    Letters count only if both of a pair are levels: F and T, not F and M.
    """
    truths = list(map(_truth_of, levels))
    words = {spelled(level) for level in levels}
    letters = any(len(word) == 1 for word in words)
    certain = not letters or any(words == set(pair) for pair in LETTERS)
    alike = None not in truths and len(set(truths)) == len(truths)
    return truths if alike and certain else [None] * len(truths)


def both(seen: Sequence[str], pair: tuple[str, str]) -> tuple[str, str]:
    """Return the two words of a pair; a missing one gets the case of the other.

    Examples
    --------
    >>> both(["NO"], ("no", "yes"))
    ('NO', 'YES')
    """
    texts = {text.lower(): text for text in reversed(seen)}
    first = seen[0]
    change = (
        str.upper if first.isupper() else str.title if first.istitle() else str.lower
    )
    false, true = (texts.get(word, change(word)) for word in pair)
    return false, true


def truth_among(level: Any, others: Sequence[Any]) -> Any:
    """Return a level of false or true in the spelling of other levels: F beside T.

    Returns
    -------
    object
        None if the level is neither false nor true, or the others are not.

    Examples
    --------
    >>> truth_among("no", ["T"]), truth_among("no", [1]), truth_among("low", ["T"])
    ('F', 0, None)
    """
    truth = _truth_of(level)
    if truth is None:
        return None
    if others and all(number_of(other) in (0, 1) for other in others):
        return int(truth)
    texts = [other for other in others if isinstance(other, str)]
    for pair in WORDS + LETTERS:
        seen = [text for text in texts if spelled(text) in pair]
        if seen and len(seen) == len(others):
            return both(seen, pair)[truth]
    return None


def _day_of(value: Any) -> datetime.datetime | None:
    """Return a date, a time, or ISO text of one, as a time."""
    if isinstance(value, str):
        try:
            return datetime.datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    if isinstance(value, datetime.datetime):
        return value
    if isinstance(value, datetime.date):
        return datetime.datetime(value.year, value.month, value.day)
    return None


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

    def __init__(self, levels: Sequence[Any], loose: bool = False) -> None:
        self.loose = loose
        self._texts = {text_of(level): place for place, level in enumerate(levels)}
        self._numbers = _single(map(number_of, levels))
        self._days = _single(map(_day_of, levels))
        self._truths = _single(_truths_of(levels))
        words = {word for pair in WORDS for word in pair}
        self._words = _single(
            spelled(level) if loose or self._truths or spelled(level) in words else None
            for level in levels
        )
        self._bits = {int(truth): at for truth, at in self._truths.items()}
        self._binary = len(levels) == 2 and {0, 1} == set(self._numbers)

    def of(self, value: Any, number: float | None = None) -> int | None:
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
        truth = _truth_of(value)
        if isinstance(value, bool | np.bool_):
            exact = int(value) if self._bits or {0, 1} >= set(self._numbers) else None
        elif truth is not None and self._binary:
            exact = int(truth)
        ways: tuple[tuple[dict[Any, int], Any], ...] = (
            (self._texts, text_of(value)),
            (self._words, spelled(value) if self.loose or truth is not None else None),
            (self._numbers, exact),
            (self._numbers, read),
            (self._bits, exact),
            (self._truths, truth),
            (self._days, _day_of(value)),
        )
        for positions, key in ways:
            place = None if key is None else positions.get(key)
            if place is not None:
                return place
        return None


def spelled(value: Any) -> str:
    """Return text in a form that ignores case and spaces.

    Examples
    --------
    >>> spelled("  Strongly   Agree")
    'strongly agree'
    """
    return " ".join(text_of(value).casefold().split())


def _single(keys: Iterable[Any]) -> dict[Any, int]:
    """Return the position of each key that occurs once; None is not a key."""
    keys = list(keys)
    counts = Counter(keys)
    return {k: at for at, k in enumerate(keys) if k is not None and counts[k] == 1}


# A column as levels


def own_levels(column: Column) -> tuple[np.ndarray, tuple[Any, ...]]:
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
    places, levels = _different(column.cells)
    return np.where(np.isnan(values), np.nan, places), levels


def _different(cells: Any) -> tuple[np.ndarray, tuple[Any, ...]]:
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


def levels_of(column: Column) -> tuple[Any, ...]:
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
class Known:
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

    levels: tuple[Any, ...]
    loose: bool = False
    stand_ins: tuple[tuple[Any, float], ...] = ()
    never: tuple[Any, ...] = ()

    @property
    def all_levels(self) -> tuple[Any, ...]:
        """The levels, followed by those of `stand_ins`."""
        return (*self.levels, *(level for level, _ in self.stand_ins))

    def code(self, place: int) -> float:
        """Return the code of a position in `all_levels`."""
        own = len(self.levels)
        return float(place) if place < own else self.stand_ins[place - own][1]


def never_observed(column: Column) -> tuple[Any, ...]:
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


def coded(column: Column, known: Known) -> tuple[np.ndarray, dict[Any, int]]:
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
    >>> coded(column, Known(("01", "10", "48")))
    (array([ 1.,  2., nan, nan]), {7: 1})
    """
    codes, own = own_levels(column)
    here = np.flatnonzero(~np.isnan(codes))
    places = codes[here].astype(np.int64)
    used, first, counts = np.unique(places, return_index=True, return_counts=True)
    search = Places(known.all_levels, known.loose)
    lookup = np.full(len(own) + 1, np.nan)
    unseen: dict[Any, int] = {}
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


def _marks(column: Column, levels: Sequence[Any]) -> np.ndarray:
    """Return the codes of missing cells whose mark is one of the levels.

    The text None is usually a mark, but a level if the levels are None, mild and severe.
    """
    places = {level: k for k, level in enumerate(levels) if isinstance(level, str)}
    if column.cells is None or not places or not np.isnan(column.values).any():
        return np.full(len(column.values), np.nan)
    codes, cells = _different(column.cells)
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


# Levels that are not in a model


@dataclass(frozen=True)
class Unseen:
    """Levels of a column that a model was not fitted with.

    Attributes
    ----------
    column : str
    cells : dict
        The number of cells of each such level.
    known : tuple
        The levels of the model.
    verb : {"fitted", "trained"}
    never : tuple
        Levels that a category declared in the table of the fit, but that no cell had.
    """

    column: str
    cells: Mapping[Any, int]
    known: tuple[Any, ...]
    verb: str = "fitted"
    never: tuple[Any, ...] = ()

    @property
    def says(self) -> str:
        """A clause that names the levels and the number of their cells."""
        count = sum(self.cells.values())
        where = f" in {count} cells" if count > 1 else ""
        never = set(map(text_of, self.never))
        declared = [level for level in self.cells if text_of(level) in never]
        why = ""
        if declared:
            verb = "were" if len(declared) > 1 else "was"
            why = (
                f"; {listed(declared)} {verb} declared as a category there, but never "
                "observed"
            )
        return (
            f"column {short(self.column)!r} holds {listed(self.cells)}{where}, which the "
            f"model was not {self.verb} with (it knows {listed(self.known)}{why})"
        )

    def error(self, remedy: str) -> InvalidValueError:
        """Return the error for these levels."""
        return InvalidValueError(f"{self.says}; {remedy}")


def known_only(
    table: Table, known: Mapping[str, Known], remedy: str | None
) -> tuple[Table, tuple[Unseen, ...]]:
    """Return a table in which cells with unknown levels are missing, and these levels.

    Parameters
    ----------
    table : Table
    known : mapping from names of columns to Known
        Columns that the table lacks are ignored.
    remedy : str, optional
        Raise an error with this remedy for unknown levels. By default they become missing.

    Raises
    ------
    InvalidValueError
        If there are unknown levels and a `remedy`, with all columns in one message.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.tables.tables import from_frame
    >>> table = from_frame(pyarrow.table({"a": ["x", "y", "x", None]}))
    >>> less, unseen = known_only(table, {"a": Known(("x",))}, None)
    >>> less.column("a").values, dict(unseen[0].cells)
    (array([ 0., nan,  0., nan]), {'y': 1})
    """
    complaints, unknown, parts = Complaints(), [], []
    for column in table.columns:
        levels = known.get(column.name)
        if levels is not None and levels.levels and column.kind != "empty":
            codes, unseen = coded(column, levels)
            if unseen:
                unknown.append(
                    Unseen(column.name, unseen, levels.levels, never=levels.never)
                )
                values = np.where(np.isnan(codes), np.nan, column.values)
                parts.append(replace(column, values=values))
                continue
        parts.append(column)
    if remedy is not None:
        for levels_of_column in unknown:
            complaints.require(False, f"{levels_of_column.says}; {remedy}")
        complaints.raise_any()
    return replace(table, columns=tuple(parts)) if unknown else table, tuple(unknown)


# Orders


@dataclass(frozen=True)
class Order:
    """The levels of a column from the lowest to the highest.

    Attributes
    ----------
    levels : tuple
    says : str
        The source of the order, for messages; empty if it needs no explanation.
    mark : str
        A mark of missing cells in the column that could also be a level of its scale.
    """

    levels: tuple[Any, ...]
    says: str = ""
    mark: str = ""


def order_of(column: Column) -> Order | None:
    """Return the order of the levels of a column, or None if it is not known.

    The order is known for ordered categories, numbers, booleans and dates; for text with
    a number in each level; for well-known scales; and for two levels, because both orders
    give the same model.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.tables.tables import from_frame
    >>> frame = pyarrow.table({"a": ["low", "high", "Medium"], "b": ["x", "y", "z"]})
    >>> [order_of(column) for column in from_frame(frame).columns]
    [Order(levels=('low', 'Medium', 'high'), says='a known scale', mark=''), None]
    """
    levels = levels_of(column)
    if column.kind in ("number", "date", "order", "boolean"):
        return Order(levels)
    if not all(isinstance(level, str) for level in levels):
        return Order(levels)  # categories that are numbers
    texts = _one_of_each(column)
    numbers = [number_of(text) for text in texts]
    if None not in numbers and len(set(numbers)) == len(numbers):
        return Order(tuple(sorted(texts, key=lambda text: number_of(text) or 0)))
    arrangement = arranged(texts)
    if arrangement is not None:
        return Order(*arrangement, mark=_doubtful_mark(column, texts))
    return Order(tuple(texts)) if len(texts) <= 2 else None


def _doubtful_mark(column: Column, texts: Sequence[str]) -> str:
    """Return a mark of missing cells that could be a level of the scale: None, mild, ..."""
    if column.cells is None or not np.isnan(column.values).any():
        return ""
    levels = set(map(spelled, texts))
    for cell in _different(column.cells)[1]:
        new = isinstance(cell, str) and cell and spelled(cell) not in levels
        if new and arranged([*texts, cell]) is not None:
            return str(cell)
    return ""


def _one_of_each(column: Column) -> list[str]:
    """Return levels of text; of those that differ only in case and spaces, the commonest."""
    places = column.values[~np.isnan(column.values)].astype(np.int64)
    counts = np.bincount(places, minlength=len(column.levels))
    commonest: dict[str, int] = {}
    for place in np.argsort(-counts, kind="stable").tolist():
        commonest.setdefault(spelled(column.levels[place]), place)
    return [column.levels[place] for place in sorted(commonest.values())]


def ordered(
    table: Table, given: Mapping[str, Sequence[str]], option: str = "--levels"
) -> Table:
    """Return a table with the levels of some columns in a given order.

    Parameters
    ----------
    table : Table
    given : mapping from names of columns to levels
        All levels of the column from the lowest to the highest, and perhaps others that
        do not occur. Case and spaces are ignored.
    option : str
        How messages call this argument.

    Raises
    ------
    InvalidValueError
        If a column is absent, a level is listed twice, or a cell has an unlisted level.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.tables.tables import from_frame
    >>> table = from_frame(pyarrow.table({"a": ["no", "maybe", "yes"]}))
    >>> column = ordered(table, {"a": ["no", "maybe", "yes", "always"]}).column("a")
    >>> column.kind, column.levels, column.values
    ('order', ('no', 'maybe', 'yes', 'always'), array([0., 1., 2.]))
    """
    complaints = Complaints()
    parts = {column.name: column for column in table.columns}
    for name, levels in given.items():
        column = complaints.attempt(table.column, name)
        if column is not None:
            part = complaints.attempt(_in_order, column, tuple(levels), option)
            parts[name] = part or column
    complaints.raise_any()
    return replace(table, columns=tuple(parts.values()))


def _in_order(column: Column, levels: tuple[str, ...], option: str) -> Column:
    name = short(column.name)
    counts = Counter(map(spelled, levels))
    twice = [level for level in levels if counts[spelled(level)] > 1]
    if twice or not levels:
        raise InvalidValueError(
            f"{option} gives {listed(twice[:1]) + ' twice' if twice else 'no level'} for "
            f"column {name!r}; give each level once, from the lowest to the highest"
        )
    codes, unseen = coded(column, Known(levels, loose=True))
    if unseen:
        cells = counted(sum(unseen.values()), "cell")
        raise InvalidValueError(
            f"column {name!r} holds {listed(unseen)} in {cells}, which {option} does not "
            f"list for it ({listed(levels)}); list all levels, or give --missing for a "
            "mark of missing cells"
        )
    return replace(as_column(column.name, "order", codes, levels), cells=column.cells)
