"""Encode a table as features and a target for a network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NotRequired, TypedDict

import numpy as np

from descents.cells.columns import MOST_CLASSES, TYPED
from descents.errors import Complaints, InvalidValueError, for_caller
from descents.storage.damage import check_facts
from descents.storage.values import plain
from descents.tables import levels
from descents.tables.absent import check_columns
from descents.tables.levels import KnownLevels
from descents.tables.tables import Table
from descents.tables.typed_columns import Column
from descents.tables.unseen import Unseen
from descents.text import counted

_COMMA = re.compile(r"\s*[-+]?\d+(,\d+)?([eE][-+]?\d+)?\s*")
_COMMAS = "give the option that fits"
"""The remedy for decimal commas; the description of the column names the options."""
Level = object
"""A level of a column, or a class: text, a number or a boolean."""
MOST_NUMERIC_CLASSES = 20
"""A target of whole numbers has classes if it has at most this many different values."""


@dataclass(frozen=True)
class Feature:
    """The encoding of one column.

    Attributes
    ----------
    name : str
    levels : tuple
        Each level becomes a column of zeros and ones. Empty for a column of numbers.
    fill : float
        The replacement of missing cells: the median, or the code of the most frequent
        level.
    center, spread : float
        The mean and the standard deviation, by which numbers are standardized.
    binary : bool
        Whether all numbers are 0 or 1, which may also be written as no and yes.
    never : tuple
        Levels that a category declares but no cell has.
    """

    name: str
    levels: tuple[Level, ...]
    fill: float
    center: float = 0.0
    spread: float = 1.0
    never: tuple[Level, ...] = ()
    binary: bool = False

    @property
    def known(self) -> KnownLevels:
        """The levels that are recognized in another table."""
        return KnownLevels(self.levels, never=self.never)

    @property
    def labels(self) -> list[str]:
        """The names of the feature, or of the features of its levels."""
        return [f"{self.name}={x}" for x in self.levels] if self.levels else [self.name]

    def encoded(self, column: Column) -> np.ndarray:
        """Return the numbers of a column, shape (rows, len(labels)).

        Raises
        ------
        InvalidValueError
            If the column has text instead of numbers, or an unknown level.
        """
        if not self.levels:
            values = self._numbers(column)
            values = np.where(np.isnan(values), self.fill, values)
            return ((values - self.center) / self.spread)[:, None]
        codes, unseen = levels.coded(column, self.known)
        if unseen:
            found = Unseen(self.name, unseen, self.levels, "trained", self.never)
            more = for_caller(", or give --unseen missing", "")
            raise found.error(f"give one of these or leave the cell empty{more}")
        codes = np.where(np.isnan(codes), self.fill, codes)
        return (codes[:, None] == np.arange(len(self.levels))).astype(np.float64)

    def _numbers(self, column: Column) -> np.ndarray:
        if column.kind in ("number", "empty"):
            return column.values
        if self.binary and column.kind != "date":
            codes, unseen = levels.coded(column, KnownLevels((0, 1)))
            if not unseen:
                return codes
        values = None if column.kind == "date" else levels.numbers_in(column)
        if values is None:
            raise InvalidValueError(
                f"column {self.name!r} must contain numbers, because the model was trained "
                f"with numbers there, but it is {column.says}"
            )
        return values


class FeatureFacts(TypedDict):
    """A `Feature` as plain values."""

    name: str
    levels: list[str | float | bool]
    fill: float
    center: float
    spread: float
    never: NotRequired[list[str | float | bool]]
    binary: NotRequired[bool]


@dataclass(frozen=True)
class Features:
    """The encoding of a table as a matrix of features.

    Attributes
    ----------
    features : tuple of Feature
    notes : tuple of str
        Which columns were filled, left out or encoded as several features, a line each.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.tables.tables import from_frame
    >>> table = from_frame(pyarrow.table({"a": [1.0, None, 3.0], "b": ["x", "y", "x"]}))
    >>> Features.of_table(table).encoded(table)
    array([[-1.2247...,  1.        ,  0.        ],
           [ 0.        ,  0.        ,  1.        ],
           [ 1.2247...,  1.        ,  0.        ]])
    """

    features: tuple[Feature, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def of_table(cls, table: Table, target: str | None = None) -> Features:
        """Choose the encoding of each column of a table, except the target.

        Raises
        ------
        InvalidValueError
            If columns are dates, or text whose values do not repeat (one message lists
            them all), or if no column is left.
        """
        complaints, found, notes = Complaints(), [], []
        filled = []
        for column in table.columns:
            if column.name == target:
                continue
            if column.kind in ("text", "date"):
                remedy = (
                    _COMMAS
                    if _has_decimal_commas(column)
                    else "leave the column out (--ignore COLUMN), or name the rows by it "
                    "(--id COLUMN)"
                )
                complaints.require(
                    False,
                    f"column {column.name!r} is {column.says}, which a network cannot "
                    f"use; {remedy}",
                )
                continue
            seen = column.values[~np.isnan(column.values)]
            if len(np.unique(seen)) < 2:
                what = "is empty" if not len(seen) else "is constant"
                notes.append(f"{column.name} {what}: left out")
                continue
            if len(seen) < len(column.values):
                filled.append(column.name)
            found.append(_feature(column, seen))
        complaints.raise_any()
        if not found:
            raise InvalidValueError(
                "no column is left to learn from; give a table with at least one column that "
                "varies"
            )
        wide = [f"{f.name} ({len(f.levels)})" for f in found if f.levels]
        if wide:
            notes.append(f"one feature of zeros and ones for each level: {_list(wide)}")
        if filled:
            notes.append(
                "missing cells filled, numbers by the median, levels by the most frequent one: "
                f"{_list(filled)}"
            )
        if any(not f.levels for f in found):
            notes.append("numbers standardized to mean 0 and standard deviation 1")
        return cls(tuple(found), tuple(notes))

    @property
    def labels(self) -> list[str]:
        """The names of the features."""
        return [label for feature in self.features for label in feature.labels]

    def encoded(self, table: Table) -> np.ndarray:
        """Return the matrix of features, float64 of shape (rows, len(labels)).

        Raises
        ------
        InvalidValueError
            If the table lacks a column, or a column has other values than in training.
        """
        names = [feature.name for feature in self.features]
        check_columns(names, {column.name for column in table.columns}, "trained")
        if not self.features:
            raise InvalidValueError(
                "the model has no columns, so its file is damaged; train it again"
            )
        complaints = Complaints()
        parts = [
            complaints.attempt(feature.encoded, table.column(feature.name))
            for feature in self.features
        ]
        complaints.raise_any()
        return np.column_stack(parts)

    @property
    def known(self) -> dict[str, KnownLevels]:
        """The levels of each column that has levels."""
        return {f.name: f.known for f in self.features if f.levels}

    def described(self) -> list[dict[str, Any]]:
        """Return the encoding as plain values."""
        return [asdict(feature) for feature in self.features]

    @classmethod
    def restored(cls, facts: Sequence[Mapping[str, Any]]) -> Features:
        """Return the encoding that `described` returned as plain values."""
        check_facts(list[FeatureFacts], facts, "the encoding")
        sets = ("levels", "never")
        return cls(
            tuple(
                Feature(**{**f, **{name: tuple(f.get(name, ())) for name in sets}})
                for f in facts
            )
        )


def _feature(column: Column, seen: np.ndarray) -> Feature:
    if column.kind not in TYPED:
        fill = float(np.median(seen))
        values = np.where(np.isnan(column.values), fill, column.values)
        center, spread = mean_and_deviation(values)
        spread = spread or mean_and_deviation(seen)[1]
        binary = {0, 1} >= set(np.unique(seen).tolist())
        return Feature(column.name, (), fill, center, spread, binary=binary)
    codes, counts = np.unique(seen.astype(int), return_counts=True)
    known = tuple(plain(column.levels[code]) for code in codes)
    never = tuple(map(plain, levels.never_observed(column)))
    return Feature(column.name, known, float(counts.argmax()), never=never)


def mean_and_deviation(values: np.ndarray) -> tuple[float, float]:
    """Return the mean and the standard deviation of values in any unit.

    Values are first divided by a power of two near the largest one, so that squares neither
    overflow nor vanish. If they would do neither, the results have the same bits.

    Examples
    --------
    >>> mean_and_deviation(np.array([1e-200, 3e-200]))
    (2e-200, 1e-200)
    """
    exponent = int(np.frexp(np.abs(values).max())[1])
    scaled = np.ldexp(values, -exponent)
    mean, spread = np.ldexp([scaled.mean(), scaled.std()], exponent)
    return float(mean), float(spread)


@dataclass(frozen=True)
class Target:
    """The target: the column to predict.

    Attributes
    ----------
    name : str
    classes : tuple
        Empty if numbers are predicted.
    center, spread : float
        The mean and the standard deviation, by which numbers are standardized in training.
    why : str
        Why the target has classes, or numbers.
    """

    name: str
    classes: tuple[Level, ...]
    center: float
    spread: float
    why: str

    @property
    def task(self) -> str:
        """Return "classification" or "regression"."""
        return "classification" if self.classes else "regression"

    @classmethod
    def of_column(cls, column: Column, task: str) -> tuple[Target, np.ndarray]:
        """Return the target of a column, and its values, NaN for missing cells.

        Parameters
        ----------
        column : Column
        task : {"auto", "classification", "regression"}
            "auto": levels, booleans and at most 20 different whole numbers are
            classes.

        Raises
        ------
        InvalidValueError
            If the column cannot be predicted in this way.
        """
        seen = column.values[~np.isnan(column.values)]
        distinct = np.unique(seen)
        found = levels.levels_of(column)  # whole numbers, however large, are distinct
        if column.kind == "number" and len(found) > len(distinct):
            distinct = np.arange(len(found))
        _check_target(column, distinct)
        typed = column.kind in TYPED  # text of many levels is among them
        few = column.whole and len(distinct) <= MOST_NUMERIC_CLASSES
        if task == "regression" or (task == "auto" and not typed and not few):
            if typed:
                raise InvalidValueError(
                    f"the target {column.name!r} is {column.says}, but regression is for "
                    "numbers; give --task classification"
                )
            why = "as requested" if task == "regression" else "numbers"
            center, spread = mean_and_deviation(seen)
            return cls(column.name, (), center, spread, why), column.values
        _check_classes(column, len(distinct), len(seen), typed)
        why = "as requested" if task == "classification" else "levels"
        if not typed and task == "auto":
            why = (
                f"{len(distinct)} different whole numbers; --task regression predicts "
                "numbers"
            )
        if typed:
            classes = tuple(plain(column.levels[int(x)]) for x in distinct)
            codes = np.searchsorted(distinct, column.values).astype(np.float64)
            codes[np.isnan(column.values)] = np.nan
        else:
            classes = found
            codes, _ = levels.coded(column, KnownLevels(classes))
        return cls(column.name, classes, 0.0, 1.0, why), codes


def _check_target(column: Column, distinct: np.ndarray) -> None:
    """Raise if a column cannot be a target, whatever the task."""
    if len(distinct) < 2:
        what = "no value"
        if len(distinct) and column.levels:
            what = f"only one class, {column.levels[int(distinct[0])]!r}"
        elif len(distinct):
            what = f"only one value, {distinct[0]:g}"
        raise InvalidValueError(
            f"the target {column.name!r} has {what}; give one with at least two"
        )
    if column.kind == "date":
        raise InvalidValueError(
            f"the target {column.name!r} is {column.says}, which cannot be predicted; "
            "give another target, or a column of days since some day as numbers"
        )
    if _has_decimal_commas(column):
        raise InvalidValueError(
            f"the target {column.name!r} is {column.says}; {_COMMAS}"
        )


def _check_classes(column: Column, distinct: int, rows: int, typed: bool) -> None:
    """Raise if the values of a column cannot be classes."""
    if distinct <= MOST_CLASSES and distinct < rows:
        return
    why = f"there can be at most {MOST_CLASSES} classes"
    if distinct == rows:
        why = "no value occurs twice"
    remedy = "give another target"
    if not typed:
        remedy = "give --task regression for numbers, or another target"
    raise InvalidValueError(
        f"the target {column.name!r} is {column.says}, with {distinct} different values "
        f"in {counted(rows, 'row')}, but {why}; {remedy}"
    )


def _has_decimal_commas(column: Column) -> bool:
    """Return whether all texts of a column are numbers, some with a decimal comma."""
    texts = [str(level) for level in column.levels]
    return any("," in text for text in texts) and all(map(_COMMA.fullmatch, texts))


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more
