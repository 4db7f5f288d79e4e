"""Reads damaged inputs as a user would, and compares what is read with other libraries."""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp

import descents
from descents.cli.main import main
from descents.errors import DescentsError
from descents.pages.page import draw, read_run
from descents.pages.tables import formatted, main_table
from descents.runs.compare import compare
from descents.storage.damage import undamaged
from descents.tables.arrays import array_name
from descents.tables.blocks import TableOnDisk
from descents.tables.files import read, read_triples
from descents.tables.tables import Table
from descents.tables.triples import Triples
from faults import mutations, wholes

ON_DISK = 0.3
"""The share of Parquet files that are read in blocks."""


DRAWN = 0.04
"""The share of stored runs whose page is drawn."""


class WrongValueError(AssertionError):
    """Values were read that another library reads differently."""


class WrongMessageError(AssertionError):
    """A refusal is not one sentence of printable characters."""


@dataclass(frozen=True)
class Case:
    """A damaged input.

    Attributes
    ----------
    kind : str
    name : str
        The name of the file that is damaged; in a stored run, its path in the folder of
        runs.
    content : bytes
    """

    kind: str
    name: str
    content: bytes


def refused_well(error: DescentsError) -> None:
    """Raise an error unless a refusal is one line of printable characters."""
    text = str(error)
    strange = any(x not in " \xa0\u3000" and not x.isprintable() for x in text)
    if not text or strange or len(text) > 1500:
        raise WrongMessageError(repr(text[:1500]))


# Tables


def _options(rng: Random) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if rng.random() < 0.3:
        options["header"] = False
    if rng.random() < 0.2:
        options["decimal"] = rng.choice((",", "."))
    if rng.random() < 0.2:
        options["delimiter"] = rng.choice((",", ";", "\t", " ", "|"))
        if options["delimiter"] == options.get("decimal"):
            del options["decimal"]
    if rng.random() < 0.2:
        options["encoding"] = rng.choice(("latin-1", "utf-16", "cp1252", "utf-8-sig"))
    if rng.random() < 0.1:
        options["missing"] = ["?", "x"]
    return options


def read_text(rng: Random, path: Path) -> None:
    """Read a text file as a table or as triples, and write it back."""
    options = _options(rng)
    if rng.random() < 0.2:
        read_triples(path, **options)
        return
    table = read(path, **options)
    assert isinstance(table, Table)
    _check_columns(table)
    if table.rows < 10**5:
        table.encoded(table.filled({}))


def _check_columns(table: Table) -> None:
    for column in table.columns:
        if len(column.values) != table.rows:
            raise WrongValueError(
                f"{column.name!r}: {len(column.values)} of {table.rows}"
            )
        if np.isinf(column.values).any():
            raise WrongValueError(f"{column.name!r} has infinite values")


def read_array(rng: Random, path: Path) -> None:
    """Read an array whole and in blocks, and compare with numpy."""
    if path.suffix == ".npy" and rng.random() < 0.5:
        on_disk = TableOnDisk(path, "10MB")
        found = np.concatenate([block for _, block in on_disk.blocks(2)])
        _compare(found, np.load(path, allow_pickle=False), on_disk.dtype)
        return
    table = read(path)
    if isinstance(table, Triples):
        _compare_sparse(table, path)
        return
    found = np.column_stack([column.values for column in table.columns])
    loaded = np.load(path, allow_pickle=False)
    if not isinstance(loaded, np.ndarray):
        loaded = loaded[array_name("", loaded.files)]
    _compare(found, loaded, np.dtype(np.float64))


def _compare(found: np.ndarray, other: np.ndarray, dtype: np.dtype) -> None:
    with np.errstate(all="ignore"):
        other = other.astype(np.float32) if other.dtype.itemsize <= 4 else other
        expected = other.astype(dtype)
    if not np.array_equal(found, expected, equal_nan=True):
        raise WrongValueError(f"read {found!r}, numpy has {other!r}")


def _compare_sparse(found: Triples, path: Path) -> None:
    try:
        other = sp.load_npz(path).tocoo()
    except ValueError:  # types that scipy does not support, such as >f8
        return
    if math.prod(found.shape) > 10**6:
        return
    dense, expected = (np.zeros(found.shape) for _ in range(2))
    dense[found.rows, found.columns] = found.values
    expected[other.row, other.col] = other.data
    if found.shape != other.shape or not np.array_equal(dense, expected):
        raise WrongValueError(f"read {dense!r}, scipy has {expected!r}")


def read_parquet(rng: Random, path: Path) -> None:
    """Read a Parquet file whole and in blocks, and compare with pyarrow."""
    if rng.random() < ON_DISK:
        on_disk = TableOnDisk(path, "10MB")
        blocks = [block for _, block in on_disk.blocks(2)]
        found = dict(zip(on_disk.names, np.concatenate(blocks).T, strict=True))
    else:
        table = read(path)
        assert isinstance(table, Table)
        _check_columns(table)
        found = {x.name: x.values for x in table.columns if x.kind == "number"}
    with pq.ParquetFile(path) as file:
        other = file.read(use_threads=False)
    for name, values in found.items():
        with np.errstate(all="ignore"):
            cells = other.column(name)
            if pa.types.is_dictionary(cells.type):
                cells = cells.cast(cells.type.value_type)
            expected = cells.to_pandas().to_numpy(np.float64, na_value=np.nan)
        if not np.array_equal(values, expected, equal_nan=True):
            raise WrongValueError(f"{name!r}: read {values!r}, pandas has {expected!r}")


# Stored runs


def _frame(names: tuple[str, ...]) -> pa.Table:
    lines = wholes.table_text(6).splitlines()
    cells = list(zip(*(line.split(",") for line in lines[1:]), strict=True))
    kept = {}
    for name, column in zip(lines[0].split(","), cells, strict=True):
        if name in names:
            is_text = name in ("id", "c")
            kept[name] = [
                x or None if is_text else float(x) if x else None for x in column
            ]
    return pa.table(kept)


@contextmanager
def _other_features() -> Iterator[None]:
    """Let scikit-learn refuse a table whose columns are not those of a changed model."""
    try:
        yield
    except ValueError as error:
        if "feature" not in str(error) or isinstance(error, DescentsError):
            raise


def _page(rng: Random, run: Path, often: float) -> None:
    with undamaged(run):  # as `descents report` does
        stored = read_run(run)
        formatted(main_table(stored.result), rng.choice(("csv", "latex", "markdown")))
    if rng.random() < often:
        draw(run.parent / "drawn", (stored.result, stored.rows, stored.tensors))


def _command(*arguments: str) -> None:
    """Run a command, which ends with 0 or 2; other errors leave it as they are."""
    code = main(arguments)
    if code not in (0, 2):
        raise WrongMessageError(f"exit code {code}")


def _apply(run: Path, table: str, *more: str) -> None:
    out = run.parent / "applied"
    shutil.rmtree(out, ignore_errors=True)
    place = run.parent / table
    _command("apply", str(run), str(place), *more, "--out", str(out), "--quiet")


def read_factorize(rng: Random, run: Path) -> None:
    """Open a run of factorize in one of the ways in which it is used."""
    way = rng.random()
    if way < 0.4:
        _page(rng, run, DRAWN)
    elif way < 0.95:
        model = descents.load(run)
        with _other_features():
            model.transform(_frame(("a", "b", "c", "d")))
    else:
        _apply(run, "table.csv", "--id", "id")


def read_impute(rng: Random, run: Path) -> None:
    """Open a run of impute in one of the ways in which it is used."""
    way = rng.random()
    if way < 0.4:
        _page(rng, run, DRAWN)
    elif way < 0.95:
        descents.load(run).impute(_frame(("a", "b", "c", "d")))
    else:
        filled = str(run.parent / "new.csv")
        _apply(run, "table.csv", filled, "--id", "id", "--imputations", "2")


def read_train(rng: Random, run: Path) -> None:
    """Open a run of train in one of the ways in which it is used."""
    way = rng.random()
    if way < 0.3:
        _page(rng, run, DRAWN)
    elif way < 0.6:
        model = descents.load(run)
        with _other_features():
            model.predict(_frame(("a", "b", "c", "d")))
    elif way < 0.95:
        compare([run, run.parent / "other"])
    else:
        _apply(run, "money.csv" if run.name == "numbers" else "full.csv")


def read_compare(rng: Random, run: Path) -> None:
    """Open a run of compare."""
    _page(rng, run, DRAWN)


def read_reproduce(rng: Random, run: Path) -> None:
    """Open a run of reproduce."""
    if rng.random() < 0.5:
        _page(rng, run, DRAWN / 4)
    else:
        descents.load(run)


def read_partial(rng: Random, run: Path) -> None:
    """Continue a run of train that was interrupted."""
    full = str(run.parent / "full.csv")
    _command("train", full, *wholes.TRAIN, "--out", str(run), "--resume")


def read_models(rng: Random, folder: Path) -> None:
    """Load the models that were saved, and use them."""
    with warnings.catch_warnings():
        # Levels that a changed model does not know; those of numpy remain errors.
        warnings.simplefilter("ignore", UserWarning)
        rng.choice((_imputer, _ratings))(folder)


def _imputer(folder: Path) -> None:
    model = descents.load(folder / "imputer.safetensors")
    model.transform(np.array([[0.5, np.nan, 1.0], [0.0, 1.0, np.nan]]))


def _ratings(folder: Path) -> None:
    descents.load(folder / "ratings.safetensors").predict_cells([0, 1], [2, 3])


# Cases

Maker = Callable[[Random], Case]


class Cases:
    """Makes the damaged input of each number, and reads it.

    Parameters
    ----------
    folder : Path
        A folder for its files.
    runs : Path or None
        A folder that `wholes.make_runs` filled; without it there are no stored runs.
    """

    def __init__(self, folder: Path, runs: Path | None) -> None:
        self.folder, self.runs = folder, runs
        self.texts, self.arrays = wholes.texts(), wholes.arrays()
        self.archives, self.parquets = wholes.archives(), wholes.parquets()
        self.kinds: dict[str, float] = {
            "csv": 25, "tsv": 4, "csv.gz": 6, "npy": 18, "npz": 18, "parquet": 20,
        }  # fmt: skip
        self.files: dict[str, list[str]] = {}
        if runs is not None:
            self.kinds |= {
                "factorize": 2, "impute": 2, "train": 2, "numbers": 0.5, "compare": 1,
                "reproduce": 0.1, "partial": 0.1, "models": 1,
            }  # fmt: skip
            shutil.copytree(runs / "partial", runs / "begun", dirs_exist_ok=True)
            for kind in RUNS:
                files = sorted(p for p in (runs / kind).rglob("*") if p.is_file())
                kept = (".json", ".parquet", ".safetensors")
                self.files[kind] = [
                    str(p.relative_to(runs)) for p in files if p.suffix in kept
                ]
        self.contents = {
            name: (Path(runs or ".") / name).read_bytes()
            for names in self.files.values()
            for name in names
        }

    def case(self, rng: Random) -> Case:
        """Return the next damaged input."""
        kind = rng.choices(list(self.kinds), list(self.kinds.values()))[0]
        if kind in ("csv", "tsv", "csv.gz"):
            content = rng.choice(self.texts)
            if kind == "tsv":
                content = content.replace(b",", b"\t")
            content = mutations.of_text(rng, content)
            if kind == "csv.gz":
                content = mutations.packed(rng, content)
        elif kind == "npy":
            content = mutations.of_array(rng, rng.choice(self.arrays))
        elif kind == "npz":
            content = mutations.of_archive(rng, rng.choice(self.archives))
        elif kind == "parquet":
            content = mutations.of_parquet(rng, rng.choice(self.parquets))
        else:
            return self._of_run(rng, kind)
        return Case(kind, f"t.{kind}", content)

    def _of_run(self, rng: Random, kind: str) -> Case:
        name = rng.choice(self.files[kind])
        change = {
            ".json": mutations.of_json,
            ".parquet": mutations.of_parquet,
            ".safetensors": mutations.of_tensors,
        }[Path(name).suffix]
        return Case(kind, name, change(rng, self.contents[name]))

    def read(self, case: Case, rng: Random) -> None:
        """Read an input; a refusal is raised as `DescentsError`."""
        if case.kind in TABLES:
            path = self.folder / case.name
            path.write_bytes(case.content)
            TABLES[case.kind](rng, path)
            return
        assert self.runs is not None
        if case.kind == "partial":  # which reading changes
            shutil.rmtree(self.folder / "partial", ignore_errors=True)
            shutil.copytree(self.runs / "begun", self.folder / "partial")
        path = self.folder / case.name
        path.write_bytes(case.content)
        try:
            RUNS[case.kind](rng, self.folder / case.kind)
        finally:
            if case.kind != "partial":
                path.write_bytes(self.contents[case.name])


TABLES: Mapping[str, Callable[[Random, Path], None]] = {
    "csv": read_text,
    "tsv": read_text,
    "csv.gz": read_text,
    "npy": read_array,
    "npz": read_array,
    "parquet": read_parquet,
}
RUNS: Mapping[str, Callable[[Random, Path], None]] = {
    "factorize": read_factorize,
    "impute": read_impute,
    "train": read_train,
    "numbers": read_train,
    "compare": read_compare,
    "reproduce": read_reproduce,
    "partial": read_partial,
    "models": read_models,
}
