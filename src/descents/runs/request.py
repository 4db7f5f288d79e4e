"""The options of a command: how to read its table, and which model to fit."""

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
from descents.cells.streamed import LIMITS
from descents.constraints.constraints import regularizers
from descents.errors import Complaints, InvalidValueError
from descents.losses import get_loss
from descents.lowrank.selection import AUTO, THRESHOLD
from descents.lowrank.settings import Settings
from descents.storage import folders as storage
from descents.tables import files
from descents.tables.blocks import TableOnDisk
from descents.tables.frames import short
from descents.tables.levels import ordered
from descents.tables.tables import Stored, Table, describe, remarks
from descents.text import counted
from descents.validation import real_number, whole_number

SCALES: dict[str, str | bool] = {"auto": "auto", "yes": True, "no": False}
_NO_LEVELS = (
    "--levels is for columns of text, which triples and sparse tables do not have; leave "
    "it out"
)


@dataclass(frozen=True)
class Reading:
    """The options for reading a table.

    Attributes
    ----------
    triples : bool
        Whether the first three columns are row, column and value.
    header, missing, decimal, delimiter, encoding
        See `descents.tables.files.read`. None is its default, or the value of a fit.
    ignore : tuple of str
        Columns that the model does not use.
    identifier : str or None
        The column with the names of the rows, which the model does not use.
    lenient : bool
        Whether the `identifier` column may be absent.
    levels : tuple of str
        The order of the levels of some columns, see `level_lists`.
    formats : mapping, optional
        How the numbers of a fit's table were written, see `Table.formats`.
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
        """Return the options with defaults replaced by those of a fit.

        Examples
        --------
        >>> Reading().after({"identifier": "name", "missing": ["?"]}).missing
        ('?',)
        """
        inherited: dict[str, Any] = {}
        names = ["missing", "delimiter", "encoding"]
        names += ["decimal"] if formats is None else []  # formats include the mark
        for name in names:
            default = getattr(type(self), name)
            if name in before and getattr(self, name) == default:
                value = before[name]
                inherited[name] = tuple(value) if isinstance(value, list) else value
        if self.identifier is None and before.get("identifier"):
            inherited |= {"identifier": before["identifier"], "lenient": True}
        return replace(self, formats=formats, **inherited)

    def read(self, source: str, memory: int | None = None) -> Data:
        """Read the table in a file; with a memory limit, leave its rows on disk.

        Raises
        ------
        InvalidValueError
            If the file cannot be read.
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
                    "--ignore and --id name columns of a table, but triples have only row, "
                    "column and value; leave them out"
                )
            return Data.of_stored(files.read_triples(source, **options))
        ignore = tuple(self.name_in(source, name) for name in self.ignore)
        identifier = self.identifier and self.name_in(source, self.identifier)
        if identifier is not None and identifier in ignore:
            raise InvalidValueError(
                f"{self.identifier!r} is given to --id and to --ignore; give it to only one "
                "of them"
            )
        # Row names are text and are not interpreted.
        skip = () if identifier is None else (identifier,)
        options["formats"] = self.formats
        table = files.read(source, **options, ignore=ignore, skip=skip)
        if isinstance(table, Stored):
            if self.identifier:
                raise InvalidValueError(
                    "--id names a column, but a sparse table has only numbers; leave it out"
                )
            if self.levels:
                raise InvalidValueError(_NO_LEVELS)
            return Data.of_stored(table)
        if self.levels:
            names = [column.name for column in table.columns]
            if not self.header:
                names += [str(place) for place in range(1, len(table.source.names) + 1)]
            orders = level_lists(self.levels, names)
            orders = {self.name_in(source, name): o for name, o in orders.items()}
            table = ordered(table, orders)
        absent = self.lenient and identifier not in table.source.names
        return Data.of_table(table, None if absent else identifier)

    def name_in(self, source: str, name: str) -> str:
        """Return the name of a column; in a text file without a header, of its number.

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
            "leave one of them out",
        )
        complaints.require(
            self.identifier is None or self.lenient,
            "--memory numbers the rows from 1, and does not read the names of --id; give "
            f"--ignore {self.identifier} instead",
        )
        complaints.raise_any()
        ignored = list(self.ignore)
        if source == "-":
            raise InvalidValueError(
                "--memory reads a table more than once, but standard input can be read "
                "only once; give a .npy or .parquet file"
            )
        # In float64, as tables in memory are.
        return TableOnDisk(source, memory, ignore=ignored, dtype=np.float64)


@dataclass(frozen=True)
class Data:
    """A table that was read, with the names of its rows.

    Attributes
    ----------
    values : Table, TableOnDisk or sparse array
    row_names, column_names : sequence of str
    notes : tuple of str
        One line for each remark on how the table was read.
    """

    values: Any
    row_names: Sequence[str]
    column_names: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def entries(self) -> int:
        """The number of cells, or of stored cells if the table is sparse."""
        if hasattr(self.values, "nnz"):
            return int(self.values.nnz)
        return len(self.row_names) * len(self.column_names)

    @classmethod
    def of_table(cls, table: Table, identifier: str | None) -> Data:
        """Return a table with rows named by a column of its source, or numbered from 1.

        The names are the exact text of the cells.
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
        """Return how a table writes its numbers; None for other kinds of data."""
        return self.values.formats() if isinstance(self.values, Table) else None

    @classmethod
    def of_disk(cls, table: TableOnDisk) -> Data:
        """Return a table on disk, with rows numbered from 1."""
        rows, wide = table.shape
        note = (
            f"{counted(rows, 'row')} and {counted(wide, 'column')} of numbers, read in "
            "blocks of rows"
        )
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
    """The names of rows that are numbered from 1; they are computed when requested.

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
        numbers = self._places[place]
        return [str(k) for k in numbers] if isinstance(place, slice) else str(numbers)

    def __len__(self) -> int:
        return len(self._places)


def _of_names(identifier: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return a note if rows have no name, or share one."""
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
        If a text is not such a pair, or a name is given twice.

    Examples
    --------
    >>> named_pairs("--loss-of", ["age=huber"])
    {'age': 'huber'}
    """
    pairs: dict[str, str] = {}
    for text in given:
        name, equals, value = text.rpartition("=")
        if not equals or not name or not value:
            raise InvalidValueError(f"{option} is {text!r}; give NAME=VALUE")
        if name in pairs:
            raise InvalidValueError(f"{option} names {name!r} twice; give it once")
        pairs[name] = value
    return pairs


def level_lists(
    given: Sequence[str], names: Sequence[str] | None = None
) -> dict[str, tuple[str, ...]]:
    """Return ``COLUMN=LOWEST,...,HIGHEST`` texts as the levels of each column.

    Columns with the same levels are separated by commas: ``q1,q2=low,high``. Put a name
    or level that contains a comma in double quotes.

    Parameters
    ----------
    given : sequence of str
    names : sequence of str, optional
        The columns of the table, which show where a name with an equals sign ends.

    Raises
    ------
    InvalidValueError
        If a text does not have this form, or a column is given twice.

    Examples
    --------
    >>> level_lists(["q1,q2=no,perhaps,yes"])
    {'q1': ('no', 'perhaps', 'yes'), 'q2': ('no', 'perhaps', 'yes')}
    >>> level_lists(['a=b=<5,"5, 6",>6'], ["a=b"])
    {'a=b': ('<5', '5, 6', '>6')}
    """
    orders: dict[str, tuple[str, ...]] = {}
    for text in given:
        # Each equals sign is a way to split; prefer one that leaves names of columns.
        ways = [
            ([text[:at]] if text[:at] in (names or ()) else _parts(text[:at]), at)
            for at, mark in enumerate(text)
            if mark == "="
        ]
        matching = [way for way in ways if names and set(way[0]) <= set(names)]
        columns, at = (matching or ways or [([], 0)])[0]
        levels = _parts(text[at + 1 :])
        if not columns or "" in columns or not levels or "" in levels:
            raise InvalidValueError(
                f"--levels is {text!r}; give COLUMN=LOWEST,...,HIGHEST, such as "
                "size=small,medium,large"
            )
        for column in columns:
            if column in orders:
                raise InvalidValueError(
                    f"--levels names {column!r} twice; give it once"
                )
            orders[column] = tuple(levels)
    return orders


def _parts(text: str) -> list[str]:
    """Split a text at commas outside of double quotes."""
    parts = next(csv.reader([text], skipinitialspace=True), [])
    return [part.strip() for part in parts]


def rank(text: str) -> Any:
    """Parse a rank: a number, ``auto``, ranks to choose from, or ``gavish-donoho``.

    Raises
    ------
    InvalidValueError
        If the text is none of these.

    Examples
    --------
    >>> rank("3"), rank("auto"), rank("auto:1-3"), rank("auto:2,4,8")
    (3, 'auto', [1, 2, 3], [2, 4, 8])
    """
    if text in (AUTO, THRESHOLD):
        return text
    error = InvalidValueError(
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
        raise error from None
    if begin != AUTO or not ranks or min(ranks) < 1:
        raise error
    return ranks


def _last(low: str, high: Sequence[str]) -> int:
    (last,) = high or [low]
    return int(last)


def _penalty(name: str, value: str) -> Any:
    """Parse a penalty: a number, ``auto``, or the numbers of ``auto:0.1,1,10``."""
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
    """Parse the constraint on the factors, for `LowRankModel`.

    The text is one name for both factors; ``rows=NAME,columns=NAME`` or one of these; or
    ``NAME-rows`` or ``NAME-columns``.

    Raises
    ------
    InvalidValueError
        If a name is unknown.

    Examples
    --------
    >>> constraints("nonnegative-rows"), constraints("columns=sparse:2")
    (('nonnegative', 'none'), ('none', 'sparse:2'))
    """
    sides = ("rows", "columns")
    name, dash, side = given.rpartition("-")
    parsed: str | tuple[str, str] | None = given
    if dash and side in sides:
        given = f"{side}={name}"
    if "=" in given:
        pairs = named_pairs("--constraint", given.split(","))
        unknown = [side for side in pairs if side not in sides]
        if unknown:
            raise InvalidValueError(
                f"--constraint names {unknown[0]!r}; give rows=NAME, columns=NAME, or both"
            )
        parsed = (pairs.get("rows", "none"), pairs.get("columns", "none"))
    elif given == "none":
        parsed = None
    regularizers(parsed, None)  # raises if a name is unknown
    return parsed


def image_shape(given: str | None) -> tuple[int, ...] | None:
    """Parse ``HEIGHTxWIDTH``, or ``HEIGHTxWIDTHx3`` for color.

    Raises
    ------
    InvalidValueError
        If the text does not have this form.

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
            f"--image is {given!r}, with {sizes[2]} numbers per pixel; give HEIGHTxWIDTH "
            "for gray levels, or HEIGHTxWIDTHx3 for red, green and blue"
        )
    return sizes


def check_image(sizes: Sequence[int], columns: int) -> None:
    """Raise unless the picture has as many numbers as the table has columns.

    Examples
    --------
    >>> check_image((2, 4), 6)
    Traceback (most recent call last):
    ...
    descents.errors.InvalidValueError: --image is 2x4, which is 8 numbers, but the table
    has 6 columns; give two sizes with that product, such as 2x3, or leave out columns
    that do not belong to the picture (--ignore, --id)
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
        f"table has {counted(columns, 'column')}; give {'three' if color else 'two'} "
        f"sizes with that product, such as {such}, or leave out columns that do not belong "
        "to the picture (--ignore, --id)"
    )


def penalties(given: Sequence[str]) -> dict[str, Any] | None:
    """Parse ``l2=0.1`` texts, or a bare number for l2, as a dict; None if there are none.

    With ``auto`` in place of a number, the number is chosen by cross-validation; with
    ``auto:0.1,1``, it is chosen from these numbers.

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
    """Return the identity of a run: the hash of its table, and its options."""
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
    """Return the versions of the libraries that computed a result."""
    return {
        "descents": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


@dataclass(frozen=True)
class Options:
    """The options of a model, see `LowRankModel`.

    Attributes
    ----------
    rank : int, list of int, "auto" or "gavish-donoho"
    starts, seed : int
    loss : str
        The loss of all columns of a suitable type; "auto" chooses by type.
    loss_of : dict of str
        The losses of some columns.
    constraint : str
        See `constraints`.
    penalty : dict of float or None
    scales : one of `SCALES`
    offsets, steps, sparse, initialization, combine, device : str
    learning_rate : float or None
    folds, max_iter : int
    held_out : float
    intervals : float or None
        The coverage of prediction intervals for missing cells.
    image : tuple of int or None
        The height and width, and 3 for color, if each row is a picture.
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

    def settings(self, data: Data) -> Settings:
        """Return the settings of a model with these options for a table.

        Raises
        ------
        InvalidValueError
            If options are invalid, or do not fit the table.
        """
        complaints = Complaints()
        if self.loss != "auto":
            complaints.attempt(get_loss, self.loss, "--loss")
        for value in (self.loss_of or {}).values():
            complaints.attempt(get_loss, value, "--loss-of")
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
            "--sparse zero is for triples and sparse tables, but the table is neither; "
            "leave it out",
        )
        if self.image is not None:
            complaints.attempt(check_image, self.image, len(data.column_names))
        complaints.require(
            self.intervals is None or isinstance(data.values, Table),
            "--intervals needs filled cells, but missing cells are not filled in a sparse "
            "table or in one that --memory reads; leave --intervals out",
        )
        complaints.raise_any()
        loss: Any = self.loss
        if self.loss_of:
            loss = {**_for_all(data.values, self.loss), **self.loss_of}
        penalty = None if self.penalty is None else dict(self.penalty)
        return Settings(
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
            solver=self.steps,
            learning_rate=self.learning_rate,
            cv=self.folds,
            held_out=self.held_out,
            max_iter=self.max_iter,
            random_state=self.seed,
            device=self.device,
        )


def _for_all(table: Any, loss: str) -> dict[str, str]:
    """Return a loss for each column whose type it suits."""
    if loss == "auto" or not isinstance(table, Table):
        return {}
    levels = get_loss(loss).kind != "numbers"
    return {c.name: loss for c in table.columns if levels or c.kind == "number"}
