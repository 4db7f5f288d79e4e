"""Levels of a column: found again in another table, and the order that they have.

A model keeps the levels of a column as the table of its fit had them. Another table may
spell the same levels in another way: the codes 01 and 10 as the numbers 1 and 10, yes
and no as booleans, a day as a time. `Places` finds them; `order_of` says in which order
levels of text come, where that is certain.
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

from descents.checks import Complaints, InvalidValueError, counted
from descents.data.frames import short
from descents.data.scales import arranged
from descents.data.tables import Column, Table, as_column

LARGEST = 2**53
"""Up to here every whole number is a float64 of its own."""
MOST_DECLARED = 1000
"""Of no more levels that never occur it is remembered that a category declared them."""
MOST_SHOWN = 10
"""A message lists no more levels than this."""

_NUMBER = re.compile(
    r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?\s*", re.ASCII | re.IGNORECASE
)
_WHOLE = re.compile(r"\s*[+-]?\d+\s*", re.ASCII)
WORDS = (("false", "true"), ("no", "yes"))
"""Words for false and true, which mean nothing else."""
LETTERS = (("f", "t"), ("n", "y"))
"""Letters for them, which may mean something else where one stands without the other."""

_TRUTHS = {word: bool(k) for pair in WORDS + LETTERS for k, word in enumerate(pair)}


def text_of(value: Any) -> str:
    """Return how a level is written: whole floats without a point, days without a time.

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
    """Return a level as a message shows it: text in quotes, numbers as they are.

    Examples
    --------
    >>> shown("red"), shown(np.float64(10.0)), shown(True)
    ("'red'", '10', 'True')
    """
    return repr(short(value)) if isinstance(value, str) else text_of(value)


def printed(value: Any) -> str:
    r"""Return a level as a sentence has it, without characters that a terminal obeys.

    Examples
    --------
    >>> printed("low"), printed("\x1b[31mlow")
    ('low', '\\x1b[31mlow')
    """
    text = short(text_of(value))
    return text if text.isprintable() else repr(text)[1:-1]


def listed(levels: Iterable[Any]) -> str:
    """Return levels as a message lists them.

    Examples
    --------
    >>> listed(["a", "b"])
    "'a', 'b'"
    """
    levels = list(levels)
    more = f" and {len(levels) - MOST_SHOWN} more" if len(levels) > MOST_SHOWN else ""
    return ", ".join(map(shown, levels[:MOST_SHOWN])) + more


def plain(value: Any) -> Any:
    """Return a number of numpy as Python's, a float32 as the shortest that it prints.

    Examples
    --------
    >>> plain(np.float32(0.1)), plain(np.int64(3)), plain("x")
    (0.1, 3, 'x')
    """
    if isinstance(value, np.float32 | np.float16):
        return float(str(value))
    return value.item() if isinstance(value, np.generic) else value


def number_of(value: Any) -> int | float | None:
    """Return the number that a level is, whole ones exactly; None of another.

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
    """Return which of false and true each level is, None of every one if one is neither.

    Letters are only so where both of a pair are levels: F and T, not F and M.
    """
    truths = list(map(_truth_of, levels))
    words = {spelled(level) for level in levels}
    letters = any(len(word) == 1 for word in words)
    certain = not letters or any(words == set(pair) for pair in LETTERS)
    alike = None not in truths and len(set(truths)) == len(truths)
    return truths if alike and certain else [None] * len(truths)


def both(seen: Sequence[str], pair: tuple[str, str]) -> tuple[str, str]:
    """Return the two words of a pair, one that is not seen in the case of the other.

    Examples
    --------
    >>> both(["NO"], ("no", "yes"))
    ('NO', 'YES')
    """
    texts = {text.lower(): text for text in reversed(seen)}
    one = seen[0]
    change = str.upper if one.isupper() else str.title if one.istitle() else str.lower
    false, true = (texts.get(word, change(word)) for word in pair)
    return false, true


def truth_among(level: Any, others: Sequence[Any]) -> Any:
    """Return a level as others have it that are written in another way: F beside T.

    Returns
    -------
    object
        None where it is not of true and false, or none of the others is.

    Examples
    --------
    >>> truth_among("no", ["T"]), truth_among("no", [1]), truth_among("low", ["T"])
    ('F', 0, None)
    """
    truth = _truth_of(level)
    if truth is None:
        return None
    if others and all(number_of(one) in (0, 1) for one in others):
        return int(truth)
    texts = [one for one in others if isinstance(one, str)]
    for pair in WORDS + LETTERS:
        seen = [text for text in texts if spelled(text) in pair]
        if seen and len(seen) == len(others):
            return both(seen, pair)[truth]
    return None


def _day_of(value: Any) -> datetime.datetime | None:
    """Return the time that a date, a time or such text stands for."""
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
    """Finds the places of values among known levels, however a table spells them.

    A value is a level if both are the same text. Otherwise it is the one level that is
    the same number, the same date or time, or the same of true and false: false, no, 0
    and true, yes, 1, in any case, and F and T or N and Y where both are levels. Where
    several levels are, as with 1 and 01, the text alone decides.

    Parameters
    ----------
    levels : sequence
        Text, numbers or booleans.
    loose : bool
        Whether case and spaces of text do not count.

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
        """Return the place of a value, None where it is no known level.

        Parameters
        ----------
        value : str, number, bool or date
        number : float, optional
                What the value was read as.
        """
        exact = number_of(value)
        # A float32 is not the number of its text; a long whole number is its text alone.
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
        for known, key in ways:
            place = None if key is None else known.get(key)
            if place is not None:
                return place
        return None


def spelled(value: Any) -> str:
    """Return text without regard to case and spaces.

    Examples
    --------
    >>> spelled("  Strongly   Agree")
    'strongly agree'
    """
    return " ".join(text_of(value).casefold().split())


def _single(keys: Iterable[Any]) -> dict[Any, int]:
    """Return the place of each key that comes once; None is no key."""
    keys = list(keys)
    counts = Counter(keys)
    return {k: at for at, k in enumerate(keys) if k is not None and counts[k] == 1}


# A column as levels


def own_levels(column: Column) -> tuple[np.ndarray, tuple[Any, ...]]:
    """Return the codes and levels of a column, as its source spells them.

    Parameters
    ----------
    column : Column
        One of numbers, dates or booleans has the different cells of its source as
        levels, or without a source its numbers.

    Returns
    -------
    codes : float64 ndarray of shape (rows,)
        NaN where a cell is missing.
    levels : tuple

    Examples
    --------
    >>> import pyarrow
    >>> from descents.data.tables import from_frame
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
        kept = numbers[~np.isnan(numbers)].tolist()
        levels = tuple(int(x) for x in kept) if column.whole else tuple(kept)
        return np.where(np.isnan(values), np.nan, codes), levels
    places, found = _different(column.cells)
    return np.where(np.isnan(values), np.nan, places), found


def _different(cells: Any) -> tuple[np.ndarray, tuple[Any, ...]]:
    """Return codes into the different cells of an arrow column, and these."""
    import pyarrow
    from pyarrow import compute, types

    if isinstance(cells, pyarrow.ChunkedArray):
        cells = cells.combine_chunks()
    if types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    if types.is_float16(cells.type) or types.is_float32(cells.type):
        # By their own short text: 0.1 is not to become 0.10000000149.
        numbers = np.asarray(cells.to_numpy(zero_copy_only=False))
        found, places = np.unique(numbers, return_inverse=True)
        return places.astype(np.float64), tuple(map(plain, found))
    if types.is_string(cells.type) or types.is_large_string(cells.type):
        cells = compute.utf8_trim_whitespace(cells)
    encoded = cells.dictionary_encode()
    places = encoded.indices.to_numpy(zero_copy_only=False)
    return places.astype(np.float64), tuple(encoded.dictionary.to_pylist())


def levels_of(column: Column) -> tuple[Any, ...]:
    """Return the levels of a column in their order: numbers by size, dates by time.

    Dates are levels by their text.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.data.tables import from_frame
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
        numbers = numbers.astype(
            narrow[str(column.cells.type)]
        )  # for .1, not .10000000149
    return tuple(int(x) if column.whole else plain(x) for x in numbers)


@dataclass(frozen=True)
class Known:
    """The levels that a model knows a column by.

    Attributes
    ----------
    levels : tuple
    loose : bool
        Whether case and spaces of text do not count.
    stand_ins : tuple of (level, float)
        Further levels, which have no code of their own, and the code that each is read
        as: NaN for a missing cell.
    never : tuple
        Levels that a category declared in the table of the fit, and no cell had. They
        are not known, and a message says why.
    """

    levels: tuple[Any, ...]
    loose: bool = False
    stand_ins: tuple[tuple[Any, float], ...] = ()
    never: tuple[Any, ...] = ()

    @property
    def all_levels(self) -> tuple[Any, ...]:
        """The levels and, after them, those that others stand in for."""
        return (*self.levels, *(level for level, _ in self.stand_ins))

    def code(self, place: int) -> float:
        """Return the code of a place among all levels."""
        own = len(self.levels)
        return float(place) if place < own else self.stand_ins[place - own][1]


def never_observed(column: Column) -> tuple[Any, ...]:
    """Return the levels that a category declares and no cell has, at most 1000.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.data.tables import from_frame
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
    """Return a column as codes of known levels, and how often others occur.

    Returns
    -------
    codes : float64 ndarray of shape (rows,)
        NaN where a cell is missing, or of no known level.
    unseen : dict
        The number of cells of each other level.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.data.tables import from_frame
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
    found = np.full(len(codes), np.nan)
    found[here] = lookup[places]
    return np.where(np.isnan(codes), _marks(column, known.levels), found), unseen


def _marks(column: Column, levels: Sequence[Any]) -> np.ndarray:
    """Return the places of known levels that the table has as marks of missing cells.

    None, mild and severe are levels where they are listed so, but None alone is a mark.
    """
    found = np.full(len(column.values), np.nan)
    places = {level: k for k, level in enumerate(levels) if isinstance(level, str)}
    if column.cells is None or not places or not np.isnan(column.values).any():
        return found
    codes, cells = _different(column.cells)
    lookup = np.array([places.get(cell, np.nan) for cell in cells] + [np.nan])
    lookup[[k for k, cell in enumerate(cells) if cell == ""]] = np.nan
    return lookup[np.nan_to_num(codes, nan=-1).astype(np.int64)]


def numbers_in(column: Column) -> np.ndarray | None:
    """Return a column of text as numbers, None where it holds anything else.

    Codes with leading zeros are read as text, and so are a data frame's numbers in text.
    False and true are 0 and 1.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.data.tables import from_frame
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


# Levels that a model does not know


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
        Levels that a category declared in the table of the model, and no cell had.
    """

    column: str
    cells: Mapping[Any, int]
    known: tuple[Any, ...]
    verb: str = "fitted"
    never: tuple[Any, ...] = ()

    @property
    def says(self) -> str:
        """Return which levels there are, and in how many cells, for people."""
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
        """Return the error that refuses them."""
        return InvalidValueError(f"{self.says}; {remedy}")


def known_only(
    table: Table, known: Mapping[str, Known], remedy: str | None
) -> tuple[Table, tuple[Unseen, ...]]:
    """Return a table in which cells of unknown levels are missing, and what they held.

    Parameters
    ----------
    table : Table
    known : mapping from names of columns to Known
        A column that the table lacks is passed over.
    remedy : str, optional
        Refuse unknown levels with this remedy. By default they become missing.

    Raises
    ------
    InvalidValueError
        When `remedy` is given and there are any, with all columns in one message.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.data.tables import from_frame
    >>> table = from_frame(pyarrow.table({"a": ["x", "y", "x", None]}))
    >>> less, unseen = known_only(table, {"a": Known(("x",))}, None)
    >>> less.column("a").values, dict(unseen[0].cells)
    (array([ 0., nan,  0., nan]), {'y': 1})
    """
    complaints, found, parts = Complaints(), [], []
    for column in table.columns:
        levels = known.get(column.name)
        if levels is not None and levels.levels and column.kind != "empty":
            codes, unseen = coded(column, levels)
            if unseen:
                found.append(
                    Unseen(column.name, unseen, levels.levels, never=levels.never)
                )
                values = np.where(np.isnan(codes), np.nan, column.values)
                parts.append(replace(column, values=values))
                continue
        parts.append(column)
    if remedy is not None:
        for one in found:
            complaints.require(False, f"{one.says}; {remedy}")
        complaints.raise_any()
    return replace(table, columns=tuple(parts)) if found else table, tuple(found)


# Orders


@dataclass(frozen=True)
class Order:
    """The levels of a column from the lowest to the highest.

    Attributes
    ----------
    levels : tuple
    says : str
        What gives the order, for people; empty where nothing need be said.
    mark : str
        A mark of missing cells in the column that could be a level of its scale.
    """

    levels: tuple[Any, ...]
    says: str = ""
    mark: str = ""


def order_of(column: Column) -> Order | None:
    """Return the order of the levels of a column, None where it is not known.

    Known are the orders of ordered categories, numbers, booleans and dates; of text
    with a number in each level; of well-known scales; and of two levels, where either
    order says the same.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.data.tables import from_frame
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
    found = arranged(texts)
    if found is not None:
        return Order(*found, mark=_doubtful_mark(column, texts))
    return Order(tuple(texts)) if len(texts) <= 2 else None


def _doubtful_mark(column: Column, texts: Sequence[str]) -> str:
    """Return a mark of missing cells that is at home in a scale: None, mild, severe."""
    if column.cells is None or not np.isnan(column.values).any():
        return ""
    known = set(map(spelled, texts))
    for cell in _different(column.cells)[1]:
        new = isinstance(cell, str) and cell and spelled(cell) not in known
        if new and arranged([*texts, cell]) is not None:
            return str(cell)
    return ""


def _one_of_each(column: Column) -> list[str]:
    """Return levels of text, the commonest of those that differ in case and spaces."""
    places = column.values[~np.isnan(column.values)].astype(np.int64)
    counts = np.bincount(places, minlength=len(column.levels))
    found: dict[str, int] = {}
    for place in np.argsort(-counts, kind="stable").tolist():
        found.setdefault(spelled(column.levels[place]), place)
    return [column.levels[place] for place in sorted(found.values())]


def ordered(
    table: Table, given: Mapping[str, Sequence[str]], option: str = "--levels"
) -> Table:
    """Return a table with the levels of some columns in a given order.

    Parameters
    ----------
    table : Table
    given : mapping from names of columns to levels
        All levels of the column from the lowest to the highest; more may be given than
        occur. Case and spaces do not count.
    option : str
        What messages call it.

    Raises
    ------
    InvalidValueError
        When a column is not there, a level is given twice, or a cell holds another.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.data.tables import from_frame
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
            f"list for it ({listed(levels)}); list every level, or name a mark of "
            "missing cells by --missing"
        )
    found = as_column(column.name, "order", codes, levels)
    return replace(found, cells=column.cells)
