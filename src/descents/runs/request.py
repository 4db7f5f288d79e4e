"""The options of a command: how to read its table, and which model to fit."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from descents import __version__
from descents.cells.distributed import SharedTable
from descents.cells.shared_rows import read_rows
from descents.devices import processor
from descents.errors import Complaints, InvalidValueError, called
from descents.kernels.compiled import available
from descents.optim.collective import ALONE, Collective
from descents.runs.results import Environment, Formats
from descents.runs.row_names import Numbered, notes_on
from descents.runs.stored_reading import check_reading
from descents.tables import files
from descents.tables.blocks import TableOnDisk
from descents.tables.csv_text import checked_delimiter, checked_encoding
from descents.tables.orders import ordered
from descents.tables.sources import TableSource
from descents.tables.tables import Table, check_name
from descents.tables.triples import Triples
from descents.tables.typed_columns import describe, remarks
from descents.tables.written import without_formulas
from descents.text import counted

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
        check_reading(before, formats)
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

    def read(
        self,
        source: str | TableSource,
        memory: int | None = None,
        named: Mapping[str, Iterable[str]] | None = None,
        together: Collective = ALONE,
        safe: bool = False,
    ) -> Data:
        """Read the table in a file; with a memory limit, leave its rows on disk.

        Parameters
        ----------
        source : str or TableSource
        memory : int, optional
            In bytes.
        together : Collective
            Processes that share the table: each reads its own rows.
        safe : bool
            Whether CSV text that is written of it must have no formulas.
        named : mapping of iterables of str, optional
            Columns that other options name, by option, which the table must have.

        Raises
        ------
        InvalidValueError
            If the file cannot be read, or if options do not fit it. The message lists all
            problems.
        """
        given = source if isinstance(source, TableSource) else TableSource(source)
        if memory is not None or together.size > 1:
            return Data.of_disk(self._on_disk(given, memory, together))
        data = self._in_memory(given, named or {})
        given.check_unchanged()
        return data.safe() if safe else data

    def _in_memory(
        self, given: TableSource, named: Mapping[str, Iterable[str]]
    ) -> Data:
        source = given.given
        complaints = Complaints()
        self._check_text_options(complaints)
        options: dict[str, Any] = {
            "header": self.header,
            "missing": self.missing,
            "decimal": self.decimal,
            "delimiter": self.delimiter,
            "encoding": self.encoding or "utf-8",
            "content": given.content(),
        }
        if self.triples:
            complaints.require(not self.levels, _NO_LEVELS)
            complaints.require(
                not self.ignore and not self.identifier,
                "--ignore and --id name columns of a table, but triples have only row, "
                "column and value; leave them out",
            )
            triples = complaints.attempt(files.read_triples, source, **options)
            complaints.raise_any()
            return Data.of_stored(triples)
        ignore = tuple(self.name_in(source, name) for name in self.ignore)
        identifier = self.identifier and self.name_in(source, self.identifier)
        complaints.require(
            identifier is None or identifier not in ignore,
            f"{self.identifier!r} is given to --id and to --ignore; give it to only one "
            "of them",
        )
        # Row names are text and are not interpreted.
        skip = () if identifier is None else (identifier,)
        options |= {"formats": self.formats, "skip": (*ignore, *skip)}
        table = complaints.attempt(files.read, source, **options)
        if isinstance(table, Triples):
            self._check_sparse(complaints)
            complaints.raise_any()
            return Data.of_stored(table)
        if table is not None:
            uses = {"--ignore": ignore, "--id": () if self.lenient else skip}
            for option, names in (uses | dict(named)).items():
                for name in names:
                    complaints.attempt(check_name, name, table.source.names, option)
            table = complaints.attempt(self._with_levels, source, table)
        complaints.raise_any()
        absent = self.lenient and identifier not in table.source.names
        return Data.of_table(table, None if absent else identifier)

    def _check_text_options(self, complaints: Complaints) -> None:
        """Report --delimiter and --encoding together if neither can be used."""
        complaints.attempt(
            checked_delimiter, self.delimiter, self.decimal, "--delimiter"
        )
        complaints.attempt(checked_encoding, self.encoding or "utf-8", "--encoding")
        complaints.raise_any()

    def _check_sparse(self, complaints: Complaints) -> None:
        """Report options that a sparse table does not have."""
        complaints.require(
            not self.ignore,
            "--ignore names a column, but all columns of a sparse table are read; leave "
            "it out",
        )
        complaints.require(
            not self.identifier,
            "--id names a column, but a sparse table has only numbers; leave it out",
        )
        complaints.require(not self.levels, _NO_LEVELS)

    def _with_levels(self, source: str, table: Table) -> Table:
        """Return a table with the levels of columns in the order of `levels`."""
        if not self.levels:
            return table
        names = [column.name for column in table.columns]
        if not self.header:
            names += [str(place) for place in range(1, len(table.source.names) + 1)]
        orders = level_lists(self.levels, names)
        return ordered(
            table, {self.name_in(source, name): o for name, o in orders.items()}
        )

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

    def read_rows(self, source: str | TableSource, together: Collective) -> Data:
        """Read the rows that this process has of a table that several processes share.

        Raises
        ------
        InvalidValueError
            If the file cannot be read, or if options do not fit it. The message lists all
            problems.
        """
        given = source if isinstance(source, TableSource) else TableSource(source)
        complaints = self._of_blocks(given, "torchrun")
        with called(memory="torchrun"):
            table = complaints.attempt(
                read_rows, given.given, together, ignore=self.ignore
            )
        complaints.raise_any()
        names, notes = tuple(c.name for c in table.columns), describe(table.columns)
        how = f"rows are shared by {together.size} processes"
        return Data(table, Numbered(table.rows), names, (how, *notes))

    def _of_blocks(self, given: TableSource, by: str) -> Complaints:
        """Report options that do not fit a table that is read in blocks of rows.

        `by` is the option, or the program, that requires this.
        """
        complaints = Complaints()
        complaints.require(
            not self.levels,
            f"--levels is for columns of text, but {by} reads columns of numbers; "
            "leave it out",
        )
        complaints.require(
            not self.triples,
            f"{by} is for a table of rows and columns, but --triples lists cells; "
            "leave one of them out",
        )
        complaints.require(
            self.identifier is None or self.lenient,
            f"{by} numbers the rows from 1, and does not read the names of --id; give "
            f"--ignore {self.identifier} instead",
        )
        complaints.require(
            not given.piped,
            f"{by} reads a table more than once, but "
            f"{'standard input' if given.given == '-' else given.given} can be read only "
            "once; give a .npy or .parquet file",
        )
        if given.piped:
            complaints.raise_any()
        return complaints

    def _on_disk(
        self, given: TableSource, memory: int | None, together: Collective
    ) -> TableOnDisk:
        by = "--memory" if memory is not None else "torchrun"
        complaints = self._of_blocks(given, by)

        def opened() -> TableOnDisk:
            if memory is None:
                with called(memory="torchrun"):
                    return SharedTable(given.given, together, ignore=self.ignore)
            # In float64, as tables in memory are.
            return TableOnDisk(
                given.given, memory, ignore=self.ignore, dtype=np.float64
            )

        table = complaints.attempt(opened)
        complaints.raise_any()
        return table


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
            notes += notes_on(identifier, names)
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

    def safe(self) -> Data:
        """Return the data with CSV text that no spreadsheet computes."""
        if not isinstance(self.values, Table):
            return self
        return replace(self, values=without_formulas(self.values))

    @classmethod
    def of_disk(cls, table: TableOnDisk) -> Data:
        """Return a table on disk, with rows numbered from 1."""
        rows, wide = table.shape
        how = "read in blocks of rows"
        if isinstance(table, SharedTable):
            rows = table.all_rows
            how = f"shared by {table.together.size} processes"
        note = f"{counted(rows, 'row')} and {counted(wide, 'column')} of numbers, {how}"
        return cls(table, Numbered(rows), table.names, (note,))

    @classmethod
    def of_stored(cls, stored: Triples) -> Data:
        """Return a sparse table."""
        rows, wide = stored.shape
        share = len(stored.values) / (rows * wide)
        note = (
            f"{len(stored.values)} stored cells of {counted(rows, 'row')} and {counted(wide, 'column')} "
            f"({100 * share:.3g}%)"
        )
        return cls(stored.to_sparse(), stored.row_names, stored.column_names, (note,))


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


def formats_of(data: Data) -> Formats | None:
    """Return how a text file writes numbers; None for other files."""
    formats = data.formats()
    return None if formats is None else Formats(**formats)


def environment(processes: int = 1) -> Environment:
    """Return what computed a result: the versions of the libraries, and the machine.

    `processes` is how many shared the table.
    """
    return Environment(
        descents=__version__,
        torch=torch.__version__,
        numpy=np.__version__,
        processor=processor(),
        threads=torch.get_num_threads(),
        compiled=available(),
        processes=processes if processes > 1 else None,
    )
