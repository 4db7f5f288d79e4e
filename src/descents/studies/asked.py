"""What is asked of a model: which table, read how, and which model."""

from __future__ import annotations

import csv
import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch

from descents import __version__
from descents.answers.selection import AUTO, THRESHOLD
from descents.checks import (
    Complaints,
    InvalidValueError,
    counted,
    real_number,
    whole_number,
)
from descents.data import files, storage
from descents.data.blocks import TableOnDisk
from descents.data.frames import short
from descents.data.levels import ordered
from descents.data.tables import Stored, Table, describe, remarks
from descents.estimators.lowrank import LowRank
from descents.losses import named
from descents.problems.constraints import regularizers
from descents.problems.streamed import LIMITS

SCALES = {"auto": "auto", "yes": True, "no": False}
_NO_LEVELS = "--levels is for columns of a table, not for triples; leave it out"


@dataclass(frozen=True)
class Reading:
    """How a table is read.

    Attributes
    ----------
    triples : bool
        Whether its first three columns are row, column and value.
    header, missing, decimal, delimiter, encoding
        As `descents.data.files.read` takes them; None is its default, or what a fit has.
    ignore : tuple of str
        Columns that have no part in the model.
    identifier : str or None
        The column that names the rows, without a part in the model.
    lenient : bool
        Whether there may be no such column.
    levels : tuple of str
        The order of the levels of some columns, as `level_lists` takes it.
    formats : mapping, optional
        How the numbers of a fit's table were written, as `Table.formats` has it.
    """

    triples: bool = False
    header: bool = True
    missing: tuple[str, ...] = ()
    decimal: str | None = None
    delimiter: str | None = None
    encoding: str | None = None
    ignore: tuple[str, ...] = ()
    identifier: str | None = None
    lenient: bool = False
    levels: tuple[str, ...] = ()
    formats: Mapping[str, Any] | None = None

    def after(
        self, before: Mapping[str, Any], formats: Mapping[str, Any] | None = None
    ) -> Reading:
        """Return it with what it leaves open, as the table of a fit was read.

        Examples
        --------
        >>> Reading().after({"identifier": "name", "missing": ["?"]}).missing
        ('?',)
        """
        kept: dict[str, Any] = {}
        names = ["missing", "delimiter", "encoding"]
        names += ["decimal"] if formats is None else []  # which have it, too
        for name in names:
            default = getattr(type(self), name)
            if name in before and getattr(self, name) == default:
                value = before[name]
                kept[name] = tuple(value) if isinstance(value, list) else value
        if self.identifier is None and before.get("identifier"):
            kept |= {"identifier": before["identifier"], "lenient": True}
        return replace(self, formats=formats, **kept)

    def read(self, source: str, memory: int | None = None) -> Data:
        """Return the table in a file, or with a limit of memory where its rows are.

        Raises
        ------
        InvalidValueError
            When it cannot be read.
        """
        if memory is not None:
            return Data.of_disk(self._on_disk(source, memory))
        if self.triples and self.levels:
            raise InvalidValueError(_NO_LEVELS)
        options: dict[str, Any] = {
            "header": self.header,
            "missing": self.missing,
            "decimal": self.decimal,
            "delimiter": self.delimiter,
            "encoding": self.encoding or "utf-8",
        }
        if self.triples:
            if self.ignore or self.identifier:
                raise InvalidValueError(
                    "--ignore and --id name columns of a table, but triples have row, "
                    "column and value alone; leave them out"
                )
            return Data.of_stored(files.read_triples(source, **options))
        ignore = tuple(self.name_in(source, name) for name in self.ignore)
        identifier = self.identifier and self.name_in(source, self.identifier)
        if identifier is not None and identifier in ignore:
            raise InvalidValueError(
                f"{self.identifier!r} is given to --id and to --ignore; give it to one"
            )
        # What names the rows is text, whatever it looks like, and is not interpreted.
        skip = () if identifier is None else (identifier,)
        options["formats"] = self.formats
        found = files.read(source, **options, ignore=ignore, skip=skip)
        if isinstance(found, Stored):
            if self.identifier:
                raise InvalidValueError(
                    "--id names a column, but a sparse table has numbers alone; leave "
                    "it out"
                )
            if self.levels:
                raise InvalidValueError(_NO_LEVELS)
            return Data.of_stored(found)
        if self.levels:
            names = [column.name for column in found.columns]
            if not self.header:
                names += [str(place) for place in range(1, len(found.source.names) + 1)]
            given = level_lists(self.levels, names)
            named = {self.name_in(source, name): order for name, order in given.items()}
            found = ordered(found, named)
        absent = self.lenient and identifier not in found.source.names
        return Data.of_table(found, None if absent else identifier)

    def name_in(self, source: str, name: str) -> str:
        """Return the name of a column, which may be its number in text without names.

        Examples
        --------
        >>> Reading(header=False).name_in("a.csv", "2"), Reading().name_in("a.csv", "2")
        ('column2', '2')
        """
        text = Path(source).suffix.lower() not in (".parquet", ".npy", ".npz")
        number = name.isascii() and name.isdigit()
        return name if self.header or not (text and number) else f"column{int(name)}"

    def _on_disk(self, source: str, memory: int) -> TableOnDisk:
        complaints = Complaints()
        complaints.require(
            not self.levels,
            "--levels is for columns of text, but --memory reads columns of numbers; "
            "leave it out",
        )
        complaints.require(
            not self.triples,
            "--memory is for a table of rows and columns, but --triples lists cells; "
            "leave one out",
        )
        complaints.require(
            self.identifier is None or self.lenient,
            "--memory counts the rows from 1, and has no room for the names of --id; "
            f"give --ignore {self.identifier} for it",
        )
        complaints.raise_any()
        ignored = list(self.ignore)
        if source == "-":
            raise InvalidValueError(
                "--memory reads a table more than once, but standard input can be read "
                "once; give a .npy or .parquet file"
            )
        # In float64, as tables in memory are.
        return TableOnDisk(source, memory, ignore=ignored, dtype=np.float64)


@dataclass(frozen=True)
class Data:
    """A table as it was read, with the names of its rows.

    Attributes
    ----------
    values : Table, TableOnDisk or sparse array
    row_names, column_names : sequence of str
    notes : tuple of str
        What was read as what, a line each.
    """

    values: Any
    row_names: Sequence[str]
    column_names: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def entries(self) -> int:
        """How many cells there are, or are stored."""
        if hasattr(self.values, "nnz"):
            return int(self.values.nnz)
        return len(self.row_names) * len(self.column_names)

    @classmethod
    def of_table(cls, table: Table, identifier: str | None) -> Data:
        """Return a table, its rows named by a column of its source or from 1.

        The names are the text of the cells, to the letter.
        """
        names = tuple(str(i + 1) for i in range(table.rows))
        notes = (*table.notes,)
        if identifier is not None:
            names = table.texts(identifier)
            notes += _of_names(identifier, names)
            if identifier in {column.name for column in table.columns}:
                table = table.without([identifier])
        if not table.columns:
            raise InvalidValueError(
                "no column is left to model; ignore fewer, or give a table with more"
            )
        said = remarks(table.columns), describe(table.columns)
        notes += (*chain(*said),)
        return cls(table, names, tuple(c.name for c in table.columns), notes)

    def formats(self) -> dict[str, Any] | None:
        """Return how the numbers of a table are written, for new rows; else None."""
        return self.values.formats() if isinstance(self.values, Table) else None

    @classmethod
    def of_disk(cls, table: TableOnDisk) -> Data:
        """Return a table on disk, its rows named from 1."""
        rows, wide = table.shape
        note = f"{counted(rows, 'row')} and {counted(wide, 'column')} of numbers, read by blocks of rows"
        return cls(table, Numbered(rows), table.names, (note,))

    @classmethod
    def of_stored(cls, stored: Stored) -> Data:
        """Return a sparse table."""
        rows, wide = stored.shape
        share = len(stored.values) / (rows * wide)
        note = (
            f"{len(stored.values)} stored cells of {counted(rows, 'row')} and {counted(wide, 'column')} "
            f"({100 * share:.3g}%)"
        )
        return cls(stored.to_sparse(), stored.row_names, stored.column_names, (note,))


class Numbered(Sequence[str]):
    """The names of rows that are counted from 1, none of which is kept.

    Examples
    --------
    >>> names = Numbered(1000)
    >>> len(names), names[0], list(names[998:])
    (1000, '1', ['999', '1000'])
    """

    def __init__(self, rows: int) -> None:
        self._places = range(1, rows + 1)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: Any) -> Any:
        found = self._places[place]
        return [str(k) for k in found] if isinstance(place, slice) else str(found)

    def __len__(self) -> int:
        return len(self._places)


def _of_names(identifier: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return a note where rows have no name, or share one."""
    counts = Counter(names)
    blank = counts.pop("", 0)
    shared = sum(count > 1 for count in counts.values())
    says = [f"{counted(blank, 'row')} without a name"] if blank else []
    if shared:
        says.append(f"{counted(shared, 'name')} of several rows each")
    return (f"{short(identifier)} (--id): {', '.join(says)}",) if says else ()


def named_pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """Return ``NAME=VALUE`` texts as a dict.

    Raises
    ------
    InvalidValueError
        When one is no such pair, or a name comes twice.

    Examples
    --------
    >>> named_pairs("--loss-of", ["age=huber"])
    {'age': 'huber'}
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.rpartition("=")
        if not equals or not name or not value:
            raise InvalidValueError(f"{option} is {text!r}; give NAME=VALUE")
        if name in found:
            raise InvalidValueError(f"{option} names {name!r} twice; give it once")
        found[name] = value
    return found


def level_lists(
    given: Sequence[str], names: Sequence[str] | None = None
) -> dict[str, tuple[str, ...]]:
    """Return ``COLUMN=LOWEST,...,HIGHEST`` texts as the levels of each column.

    Several columns with the same levels are parted by commas: ``q1,q2=low,high``. A
    name or level with a comma in it stands in double quotes.

    Parameters
    ----------
    given : sequence of str
    names : sequence of str, optional
        The columns of the table, which tell where a name with an equals sign ends.

    Raises
    ------
    InvalidValueError
        When one is no such text, or a column comes twice.

    Examples
    --------
    >>> level_lists(["q1,q2=no,perhaps,yes"])
    {'q1': ('no', 'perhaps', 'yes'), 'q2': ('no', 'perhaps', 'yes')}
    >>> level_lists(['a=b=<5,"5, 6",>6'], ["a=b"])
    {'a=b': ('<5', '5, 6', '>6')}
    """
    found: dict[str, tuple[str, ...]] = {}
    for text in given:
        ways = [
            ([text[:at]] if text[:at] in (names or ()) else _parted(text[:at]), at)
            for at, mark in enumerate(text)
            if mark == "="
        ]
        known = [way for way in ways if names and set(way[0]) <= set(names)]
        columns, at = (known or ways or [([], 0)])[0]
        levels = _parted(text[at + 1 :])
        if not columns or "" in columns or not levels or "" in levels:
            raise InvalidValueError(
                f"--levels is {text!r}; give COLUMN=LOWEST,...,HIGHEST, such as "
                "size=small,medium,large"
            )
        for column in columns:
            if column in found:
                raise InvalidValueError(
                    f"--levels names {column!r} twice; give it once"
                )
            found[column] = tuple(levels)
    return found


def _parted(text: str) -> list[str]:
    """Return what commas part, which may stand in double quotes."""
    parts = next(csv.reader([text], skipinitialspace=True), [])
    return [part.strip() for part in parts]


def rank(text: str) -> Any:
    """Return a rank, ``auto``, ranks to choose from, or ``gavish-donoho``.

    Raises
    ------
    InvalidValueError
        When it is none of these.

    Examples
    --------
    >>> rank("3"), rank("auto"), rank("auto:1-3"), rank("auto:2,4,8")
    (3, 'auto', [1, 2, 3], [2, 4, 8])
    """
    if text in (AUTO, THRESHOLD):
        return text
    wanted = InvalidValueError(
        f"--rank is {text!r}; give a whole number of at least 1, auto, auto:1-12, "
        f"auto:1,2,4 or {THRESHOLD}"
    )
    begin, colon, grid = text.partition(":")
    try:
        if not colon:
            return whole_number("--rank", int(text), 1)
        ends = [part.split("-") for part in grid.split(",")]
        ranks = [
            k for low, *high in ends for k in range(int(low), _last(low, high) + 1)
        ]
    except ValueError:
        raise wanted from None
    if begin != AUTO or not ranks or min(ranks) < 1:
        raise wanted
    return ranks


def _last(low: str, high: Sequence[str]) -> int:
    (last,) = high or [low]
    return int(last)


def _penalty(name: str, value: str) -> Any:
    """Return a number, ``auto``, or the numbers of ``auto:0.1,1,10``."""
    if value == AUTO:
        return AUTO
    if value.startswith(f"{AUTO}:"):
        grid = value.removeprefix(f"{AUTO}:").split(",")
        return [real_number(name, part, 0) for part in grid]
    try:
        return real_number(name, value, 0)
    except InvalidValueError as error:
        raise InvalidValueError(f"{error}, auto, or auto:0.1,1,10") from None


def constraints(given: str) -> str | tuple[str, str] | None:
    """Return what is asked of the factors as `LowRankModel` takes it.

    One text for both factors, ``rows=NAME,columns=NAME`` or one of these, or
    ``NAME-rows`` and ``NAME-columns``.

    Raises
    ------
    InvalidValueError
        When a name is unknown.

    Examples
    --------
    >>> constraints("nonnegative-rows"), constraints("columns=sparse:2")
    (('nonnegative', 'none'), ('none', 'sparse:2'))
    """
    sides = ("rows", "columns")
    name, dash, side = given.rpartition("-")
    found: str | tuple[str, str] | None = given
    if dash and side in sides:
        given = f"{side}={name}"
    if "=" in given:
        pairs = named_pairs("--constraint", given.split(","))
        unknown = [side for side in pairs if side not in sides]
        if unknown:
            raise InvalidValueError(
                f"--constraint names {unknown[0]!r}; give rows=NAME, columns=NAME, or both"
            )
        found = (pairs.get("rows", "none"), pairs.get("columns", "none"))
    elif given == "none":
        found = None
    regularizers(found, None)
    return found


def image_shape(given: str | None) -> tuple[int, ...] | None:
    """Return ``HEIGHTxWIDTH``, or ``HEIGHTxWIDTHx3`` for color, as numbers.

    Raises
    ------
    InvalidValueError
        When it is no such text.

    Examples
    --------
    >>> image_shape("25x20"), image_shape("8x8x3"), image_shape(None)
    ((25, 20), (8, 8, 3), None)
    """
    if given is None:
        return None
    parts = given.lower().split("x")
    sizes = tuple(int(part) for part in parts if part.isascii() and part.isdigit())
    if len(sizes) != len(parts) or len(sizes) not in (2, 3) or min(sizes) < 1:
        raise InvalidValueError(
            f"--image is {given!r}; give HEIGHTxWIDTH, such as 25x20, or HEIGHTxWIDTHx3 "
            "for color"
        )
    if len(sizes) == 3 and sizes[2] != 3:
        raise InvalidValueError(
            f"--image is {given!r}, of {sizes[2]} numbers a point; give HEIGHTxWIDTH for "
            "shades, or HEIGHTxWIDTHx3 for red, green and blue"
        )
    return sizes


def check_image(sizes: Sequence[int], columns: int) -> None:
    """Refuse a picture of other than as many numbers as there are columns.

    Examples
    --------
    >>> check_image((2, 4), 6)
    Traceback (most recent call last):
    ...
    descents.checks.InvalidValueError: --image is 2x4, which is 8 numbers, but the table
    has 6 columns; give two sizes of that product, such as 2x3, or leave out columns
    that are no part of the picture (--ignore, --id)
    """
    count = math.prod(sizes)
    if count == columns:
        return
    color = len(sizes) == 3 and columns % 3 == 0
    points = columns // 3 if color else columns
    side = max(n for n in range(1, math.isqrt(points) + 1) if points % n == 0)
    such = f"{side}x{points // side}" + "x3" * color
    raise InvalidValueError(
        f"--image is {'x'.join(map(str, sizes))}, which is {count} numbers, but the "
        f"table has {counted(columns, 'column')}; give {'three' if color else 'two'} sizes of that "
        f"product, such as {such}, or leave out columns that are no part of the picture "
        "(--ignore, --id)"
    )


def penalties(given: Sequence[str]) -> dict[str, Any] | None:
    """Return ``l2=0.1`` texts, or a bare number for l2, as a dict; None for none.

    ``auto`` in the place of a number asks for it to be chosen, ``auto:0.1,1`` of some.

    Examples
    --------
    >>> penalties(["0.5"]), penalties(["l1_rows=1", "l2=2"]), penalties([])
    ({'l2': 0.5}, {'l1_rows': 1.0, 'l2': 2.0}, None)
    >>> penalties(["auto"]), penalties(["l2=auto:0.1,1"])
    ({'l2': 'auto'}, {'l2': [0.1, 1.0]})
    """
    if not given:
        return None
    pairs = named_pairs("--penalty", [x if "=" in x else f"l2={x}" for x in given])
    return {name: _penalty(name, value) for name, value in pairs.items()}


def identity(
    table: str, options: Mapping[str, Any], command: str = "factorize"
) -> dict[str, Any]:
    """Return what makes one run the same as another: the table's bytes and options."""
    digest = ""
    path = Path(table).expanduser()
    if table != "-" and path.is_file():
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "command": command,
        "table": Path(table).name if table != "-" else table,
        "sha256": digest,
        **storage.plain(dict(options)),
    }


def environment() -> dict[str, str]:
    """Return the versions that a result came from."""
    return {
        "descents": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


@dataclass(frozen=True)
class Options:
    """What is asked of a model, as `LowRankModel` has it.

    Attributes
    ----------
    rank : int, list of int, "auto" or "gavish-donoho"
    starts, seed : int
    loss : str
        For all columns that it fits; "auto" chooses by type.
    loss_of : dict of str
        Losses of some columns.
    constraint : str
        As `constraints` takes it.
    penalty : dict of float or None
    scales : one of `SCALES`
    offsets, steps, sparse, initialization, combine, device : str
    learning_rate : float or None
    folds, max_iter : int
    held_out : float
    intervals : float or None
        With which coverage hidden cells are to be held.
    image : tuple of int or None
        Height and width, and 3 in color, of the picture that a row is.
    """

    rank: Any
    loss: str = "auto"
    loss_of: Mapping[str, str] | None = None
    constraint: str = "none"
    penalty: Mapping[str, Any] | None = None
    offsets: str = "auto"
    scales: str = "auto"
    starts: int = 1
    steps: str = "auto"
    learning_rate: float | None = None
    sparse: str = "missing"
    initialization: str = "auto"
    combine: str = "best"
    folds: int = 5
    held_out: float = 0.1
    max_iter: int = 2000
    intervals: float | None = None
    seed: int = 0
    device: str = "cpu"
    image: tuple[int, ...] | None = None

    def model(self, data: Data) -> LowRank:
        """Return the model that is asked for, of these data."""
        complaints = Complaints()
        if self.loss != "auto":
            complaints.attempt(named, self.loss, "--loss")
        for value in (self.loss_of or {}).values():
            complaints.attempt(named, value, "--loss-of")
        for name in self.loss_of or {}:
            if isinstance(data.values, Table):
                complaints.attempt(data.values.column, name)
            elif isinstance(data.values, TableOnDisk):
                complaints.require(False, f"--loss-of is given, but {LIMITS}")
            else:
                complaints.require(False, "--loss-of is for tables, not for triples")
        complaints.require(
            self.sparse == "missing"
            or not isinstance(data.values, Table | TableOnDisk),
            "--sparse zero says what triples or a sparse table do not hold, but the "
            "table is neither; leave it out",
        )
        if self.image is not None:
            complaints.attempt(check_image, self.image, len(data.column_names))
        complaints.require(
            self.intervals is None or isinstance(data.values, Table),
            "--intervals is for cells that are filled in, but neither a sparse table nor "
            "one that is read by blocks of rows has a place for them; leave it out",
        )
        complaints.raise_any()
        loss: Any = self.loss
        if self.loss_of:
            loss = {**_for_all(data.values, self.loss), **self.loss_of}
        penalty = None if self.penalty is None else dict(self.penalty)
        return LowRank(
            self.rank,
            loss=loss,
            offsets=self.offsets,
            scales=SCALES[self.scales],
            constraint=constraints(self.constraint),
            penalty=penalty,
            sparse=self.sparse,
            initialization=self.initialization,
            n_starts=self.starts,
            combine=self.combine,
            steps=self.steps,
            learning_rate=self.learning_rate,
            folds=self.folds,
            held_out=self.held_out,
            max_iter=self.max_iter,
            random_state=self.seed,
            device=self.device,
        )


def _for_all(table: Any, loss: str) -> dict[str, str]:
    """Return the loss for all as one for each column that it fits."""
    if loss == "auto" or not isinstance(table, Table):
        return {}
    levels = named(loss).kind != "numbers"
    return {c.name: loss for c in table.columns if levels or c.kind == "number"}
