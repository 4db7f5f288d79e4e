"""Whole inputs, from which damaged ones are made: small tables and stored runs."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp

from descents.cli.main import main
from descents.storage.run_folders import RunFolder

TEXTS = (
    "a,b,c\n1,x,2.5\n2,y,3\n,x,4\n5,,1e3\n",
    'name,"day",n\n"Ann, B.",2020-01-02,"1,5"\nBob,2021-03-04,2\n"say ""x""",,3\n',
    "k;v;w\n1,5;a;10%\n2,25;b;20%\n;a;\n3;b;5%\n",
    "1\t2\t3\n4\t5\t6\n7\t8\t9\n",
    "price,share,range\n$1,5%,1-2\n$3,6%,3-4\n$20,,5+\n",
    "when,ok,size\n01/02/2020,yes,small\n03/04/2020,no,large\n,yes,small\n",
    "user,item,stars\nu1,i1,4\nu1,i2,5\nu2,i1,1\nu10,i2,\n",
    "x\n1\n2\n\n3\n",
    "\ufeffä,ö\nü,1.000,5\n",
    "a,b\n" + "".join(f"{k},{k * 0.5}\n" for k in range(40)),
)
"""CSV texts."""


def texts() -> list[bytes]:
    """Return small CSV texts."""
    return [text.encode() for text in TEXTS]


def arrays() -> list[bytes]:
    """Return small .npy files."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(5, 3))
    whole = [
        table,
        np.asfortranarray(table),
        table.astype(">f4"),
        table.astype(np.float16),
        rng.integers(-9, 9, (4, 2)),
        rng.integers(0, 255, (4, 2), dtype=np.uint8),
        rng.random((6, 2)) > 0.5,
        np.where(table > 1, np.nan, table),
    ]
    contents = []
    for array in whole:
        stream = io.BytesIO()
        np.save(stream, array)
        contents.append(stream.getvalue())
    return contents


def archives() -> list[bytes]:
    """Return small .npz files, dense and sparse."""
    rng = np.random.default_rng(1)
    contents = []
    for names in (("X",), ("table", "other"), ("arr_0",)):
        stream = io.BytesIO()
        save = np.savez if len(names) > 1 else np.savez_compressed
        save(stream, **{name: rng.normal(size=(4, 3)) for name in names})
        contents.append(stream.getvalue())
    matrix = sp.random_array((6, 5), density=0.4, rng=rng)
    for kind in ("csr", "csc", "coo", "bsr", "dia"):
        stream = io.BytesIO()
        sp.save_npz(stream, matrix.asformat(kind), compressed=kind != "coo")
        contents.append(stream.getvalue())
    stream = io.BytesIO()
    sp.save_npz(stream, sp.csr_matrix(matrix.astype(np.float32)))
    return [*contents, stream.getvalue()]


def _frames() -> dict[str, pa.Table]:
    numbers = [1.5, None, 4.0, 2.25, -1.0, 7.5]
    words = ["x", "y", "x", None, "zz", "y"]
    return {
        "numbers": pa.table({"a": numbers, "b": list(range(6)), "c": numbers[::-1]}),
        "words": pa.table({"a": words, "n": numbers}),
        "levels": pa.table({"a": pa.array(words).dictionary_encode(), "n": numbers}),
        "times": pa.table(
            {
                "d": pa.array([0, 1, None, 3, 4, 5], pa.date32()),
                "t": pa.array([0, 1, None, 3, 4, 5], pa.timestamp("us", "UTC")),
                "b": [True, False, None, True, True, False],
            }
        ),
        "exact": pa.table(
            {
                "q": pa.array([None, "1.50", "2.25", "3", "4", "5"]).cast(
                    pa.decimal128(9, 2)
                ),
                "u": pa.array([1, 2, 3, None, 2**63, 6], pa.uint64()),
                "h": pa.array(numbers, pa.float32()).cast(pa.float16()),
            }
        ),
        "nested": pa.table({"n": numbers, "l": [[1], [], None, [2, 3], [4], [5]]}),
        "none": pa.table({"n": pa.nulls(6), "a": numbers}),
    }


def parquets() -> list[bytes]:
    """Return small Parquet files of many types, encodings and compressions."""
    options: list[dict[str, object]] = [
        {},
        {"compression": "zstd", "data_page_version": "2.0", "write_page_index": True},
        {"compression": "none", "use_dictionary": False, "row_group_size": 4},
        {"compression": "gzip", "write_page_checksum": True, "version": "1.0"},
        {"compression": "lz4", "row_group_size": 2, "store_schema": False},
        {"compression": "brotli", "write_statistics": False},
    ]
    contents = []
    for name, frame in _frames().items():
        for option in options:
            if option.get("version") == "1.0" and name in ("exact", "times"):
                continue
            stream = io.BytesIO()
            pq.write_table(frame, stream, **option)
            contents.append(stream.getvalue())
    codings = {"a": "BYTE_STREAM_SPLIT", "b": "DELTA_BINARY_PACKED", "c": "PLAIN"}
    stream = io.BytesIO()
    frame = _frames()["numbers"]
    pq.write_table(frame, stream, use_dictionary=False, column_encoding=codings)
    contents.append(stream.getvalue())
    for coding in ("DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"):
        stream = io.BytesIO()
        frame = pa.table({"a": ["x", "xy", "xyz", None, "x", ""]})
        pq.write_table(
            frame, stream, use_dictionary=False, column_encoding={"a": coding}
        )
        contents.append(stream.getvalue())
    return contents


def table_text(rows: int = 24) -> str:
    """Return the table that the stored runs are made from."""
    rng = np.random.default_rng(2)
    lines = ["id,a,b,c,d"]
    for k in range(rows):
        x = rng.normal(size=3)
        cells = [f"r{k}", f"{x[0]:.3f}", f"{x[0] + x[1] / 3:.3f}", "xy"[int(x[0] > 0)]]
        cells.append(str(int(5 * x[2])))
        if k % 7 == 3:
            cells[2] = ""
        if k % 11 == 5:
            cells[3] = ""
        lines.append(",".join(cells))
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def _killed_at_the_end() -> Iterator[None]:
    """End runs before their files are moved up, as if they had been interrupted there."""

    def interrupt(self: RunFolder) -> None:
        raise KeyboardInterrupt

    finish = RunFolder.finish
    RunFolder.finish = interrupt  # type: ignore[method-assign]
    try:
        yield
    finally:
        RunFolder.finish = finish  # type: ignore[method-assign]


TRAIN = ("--ignore", "id", "--target", "c", "--starts", "3", "--epochs", "3", "--quiet")


def _run(*arguments: str, code: int = 0) -> None:
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        found = main(arguments)
    if found != code:
        raise RuntimeError(f"{arguments} ended with {found}: {errors.getvalue()}")


def make_runs(folder: Path) -> None:
    """Make stored runs of every command, and saved models, in a folder."""
    from descents import LowRankImputer, LowRankRatings

    table, full = folder / "table.csv", folder / "full.csv"
    table.write_text(table_text())
    lines = [x for x in table_text().splitlines() if ",," not in x]
    full.write_text("\n".join(lines) + "\n")
    out = {name: str(folder / name) for name in _RUNS}
    common = ("--id", "id", "--quiet")
    rank = ("--rank", "1", "--starts", "3")
    _run("factorize", str(table), *rank, "--out", out["factorize"], *common)
    filled = str(folder / "filled.csv")
    _run(
        "impute",
        str(table),
        filled,
        "--imputations",
        "2",
        "--out",
        out["impute"],
        *common,
    )
    _run("train", str(full), *TRAIN, "--out", out["train"])
    _run("train", str(full), *TRAIN, "--seed", "5", "--out", out["other"])
    money = folder / "money.csv"
    rows = [line.split(",") for line in lines]
    paid = [[*row[:2], f"${row[2]}", *row[3:]] for row in rows[1:]]
    money.write_text("\n".join(map(",".join, [rows[0], *paid])) + "\n")
    numbers = [{"c": "a"}.get(one, one) for one in TRAIN]
    _run("train", str(money), *numbers, "--out", out["numbers"])
    _run("compare", out["train"], out["other"], "--quiet", "--out", out["compare"])
    _run("reproduce", "--starts", "2", "--quiet", "--out", out["reproduce"])
    with _killed_at_the_end():
        _run("train", str(full), *TRAIN, "--out", out["partial"], code=130)
    rng = np.random.default_rng(3)
    X = rng.normal(size=(20, 3))
    X[3, 1] = np.nan
    models = folder / "models"
    models.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the table is small
        imputer = LowRankImputer(random_state=0).fit(X)
    imputer.save(models / "imputer.safetensors")
    ratings = sp.random_array((12, 8), density=0.5, rng=rng).tocsr()
    LowRankRatings(random_state=0).fit(ratings).save(models / "ratings.safetensors")


_RUNS = (
    "factorize", "impute", "train", "other", "numbers", "compare", "reproduce", "partial",
)  # fmt: skip
