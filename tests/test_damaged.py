"""Files that are damaged, or say of themselves what is not so: one sentence, at once."""

from __future__ import annotations

import base64
import io
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from descents import TableOnDisk
from descents.cli.main import main
from descents.errors import InvalidValueError
from descents.tables.files import read
from test_tables import refused

PARQUET = base64.b64decode(
    "UEFSMRUAFYACFYACLBUoFQAVBhUGHBgIAAAAAAAAEEAYCAAAAAAAAPg/FgooCAAAAAAAABBAGAgAAAAA"
    "AAD4PxERAAAABAAAAAfd3Q0AAAAAAAD4PwAAAAAAAAhAAAAAAAAAEEAAAAAAAAD4PwAAAAAAAAhAAAAA"
    "AAAAEEAAAAAAAAD4PwAAAAAAAAhAAAAAAAAAEEAAAAAAAAD4PwAAAAAAAAhAAAAAAAAAEEAAAAAAAAD4"
    "PwAAAAAAAAhAAAAAAAAAEEAVABXMAhXMAiwVKBUAFQYVBhwYCAQAAAAAAAAAGAgBAAAAAAAAABYAKAgE"
    "AAAAAAAAABgIAQAAAAAAAAAREQAAAAIAAAAoAQEAAAAAAAAAAgAAAAAAAAADAAAAAAAAAAQAAAAAAAAA"
    "AQAAAAAAAAACAAAAAAAAAAMAAAAAAAAABAAAAAAAAAABAAAAAAAAAAIAAAAAAAAAAwAAAAAAAAAEAAAA"
    "AAAAAAEAAAAAAAAAAgAAAAAAAAADAAAAAAAAAAQAAAAAAAAAAQAAAAAAAAACAAAAAAAAAAMAAAAAAAAA"
    "BAAAAAAAAAAVBBk8NQAYBnNjaGVtYRUEABUKJQIYAWEAFQQlChgBYgAWKBkcGSwmABwVChklBgAZGAFh"
    "FQAWKBaCAxaCAyYIPBgIAAAAAAAAEEAYCAAAAAAAAPg/FgooCAAAAAAAABBAGAgAAAAAAAD4PxERABkc"
    "FQAVABUCADwpBhkmCh4AAAAmABwVBBklBgAZGAFiFQAWKBbOAxbOAyaKAzwYCAQAAAAAAAAAGAgBAAAA"
    "AAAAABYAKAgEAAAAAAAAABgIAQAAAAAAAAAREQAZHBUAFQAVAgA8KQYZJgAoAAAAFtAGFigmCBbQBgAZ"
    "HBgMQVJST1c6c2NoZW1hGOwBLy8vLy82Z0FBQUFRQUFBQUFBQUtBQXdBQmdBRkFBZ0FDZ0FBQUFBQkJB"
    "QU1BQUFBQ0FBSUFBQUFCQUFJQUFBQUJBQUFBQUlBQUFCTUFBQUFCQUFBQU16Ly8vOEFBQUVDRUFBQUFC"
    "d0FBQUFFQUFBQUFBQUFBQUVBQUFCaUFBQUFDQUFNQUFnQUJ3QUlBQUFBQUFBQUFVQUFBQUFRQUJRQUNB"
    "QUdBQWNBREFBQUFCQUFFQUFBQUFBQUFRTVFBQUFBR0FBQUFBUUFBQUFBQUFBQUFRQUFBR0VBQmdBSUFB"
    "WUFCZ0FBQUFBQUFnQT0AGCBwYXJxdWV0LWNwcC1hcnJvdyB2ZXJzaW9uIDI2LjAuMRksHAAAHAAAABIC"
    "AABQQVIx"
)
"""A column chunk with a histogram of levels of the wrong size, which aborts pyarrow."""


def head(shape: str, kind: str = "<f8", data: bytes = bytes(48)) -> bytes:
    """Return a .npy file that says it has a shape, and holds some bytes."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(117) + "\n"
    size = len(text).to_bytes(2, "little")
    return b"\x93NUMPY\x01\x00" + size + text.encode() + data


def packed(**members: Any) -> bytes:
    """Return a .npz file of arrays, or of bytes as they are."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, member in members.items():
            content = io.BytesIO()
            if not isinstance(member, bytes):
                np.save(content, member)
            file.writestr(
                f"{name}.npy",
                member if isinstance(member, bytes) else content.getvalue(),
            )
    return stream.getvalue()


HEADS = [
    ("(1000000000000, 3)", "takes 24000000000000 bytes, but 48 follow"),
    ("(4611686018427387904, 4)", "but 48 follow"),
    ("(100, 3)", "takes 2400 bytes, but 48 follow"),
    ("(-1, 3)", "a size below 0"),
    ("(-1, 1)", "a size below 0"),
    ("(True, 3)", "a size below 0"),
    ("(2.0, 3)", "shape is not valid"),
    ("(2, 3", "numpy file"),
]


@pytest.mark.parametrize(("shape", "words"), HEADS)
def test_a_head_that_lies_is_seen_before_memory_is_taken(
    tmp_path: Path, shape: str, words: str
) -> None:
    path = tmp_path / "t.npy"
    path.write_bytes(head(shape))
    refused(lambda: read(path), words, "t.npy")
    refused(lambda: TableOnDisk(path, "1MB"), "t.npy")
    path = tmp_path / "t.npz"
    path.write_bytes(packed(X=head(shape)))
    refused(lambda: read(path), words, "t.npz")


def test_python_objects_are_never_loaded(tmp_path: Path) -> None:
    danger = head("(2, 3)", "|O", b"cos\nsystem\n(S'exit 1'\ntR.")
    for name, content in (("t.npy", danger), ("t.npz", packed(X=danger))):
        path = tmp_path / name
        path.write_bytes(content)
        refused(lambda path=path: read(path), "Python objects, or is damaged")
    path = tmp_path / "two.npz"
    path.write_bytes(packed(X=np.ones((2, 3)), names=danger))
    assert read(path).rows == 2  # what is not read does no harm


def test_a_member_that_is_no_array(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    path.write_bytes(packed(X=b"hello"))
    refused(lambda: read(path), "'X.npy'")
    path.write_bytes(packed(X=np.ones((2, 2)))[:-30])
    refused(lambda: read(path), "numpy file")


def test_more_than_the_memory_of_the_machine(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "t.npz"
    path.write_bytes(packed(X=np.zeros((1000, 100))))
    assert path.stat().st_size < 2000
    assert read(path).rows == 1000
    monkeypatch.setattr("descents.tables.sizes.memory_of_machine", lambda: 10**5)
    refused(lambda: read(path), "more than the memory of this machine")
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "1,2\n" * 10**5)
    monkeypatch.setattr("descents.tables.csv_text.memory_of_machine", lambda: 10**5)
    refused(lambda: read(path), "MiB of text")


SPARSE: dict[str, Any] = {
    "format": np.array(b"csr"),
    "data": np.ones(3),
    "indices": np.arange(3),
    "indptr": np.arange(4),
    "shape": np.array([3, 3]),
}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"shape": np.array([10**12, 3])}, "1000000000000 rows with 3 stored cells"),
        ({"shape": np.array([3, 10**9])}, "1000000000 columns with 3 stored cells"),
        ({"shape": np.array([-3, 3])}, "'shape' is [-3, 3]"),
        ({"shape": np.array([3.0, 3.0])}, "'shape' is"),
        ({"shape": np.array([3, 3, 3])}, "'shape' is"),
        ({"shape": np.array([3, 2])}, "indices must be < 2"),
        ({"shape": b"hello"}, "'shape.npy'"),
        ({"indptr": np.array([0, 2, 1, 3])}, "does not divide"),
        ({"indices": np.array([0, -1, 2])}, "numpy file"),
        ({"format": np.array(b"xyz")}, "numpy file"),
        ({"data": np.ones(3) * 1j}, "real numbers"),
        (
            {
                "format": np.array(b"coo"),
                "row": np.array([0, 1, 2]),
                "col": np.array([0, 1, 9]),
            },
            "numpy file",
        ),
    ],
)
def test_sparse_matrices_that_cannot_be(
    tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    path = tmp_path / "t.npz"
    path.write_bytes(packed(**SPARSE))
    assert read(path).shape == (3, 3)
    path.write_bytes(packed(**{**SPARSE, **changed}))
    refused(lambda: read(path), words, "t.npz")


# Parquet


def test_parquet_that_would_end_the_process(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(PARQUET)
    refused(lambda: read(path), "cannot be read as Parquet")
    on_disk = TableOnDisk(path, "10MB")
    refused(lambda: list(on_disk.blocks(2)), "Definition level histogram size")


def test_damaged_bytes_never_end_the_process(tmp_path: Path) -> None:
    stream = io.BytesIO()
    table = pyarrow.table({"a": [1.5, None, 4.0] * 7, "b": list(range(21))})
    pyarrow.parquet.write_table(table, stream, row_group_size=8)
    whole, generator = stream.getvalue(), np.random.default_rng(0)
    path = tmp_path / "t.parquet"
    for _ in range(60):
        damaged = bytearray(whole)
        for place in generator.integers(len(whole) // 2, len(whole) - 8, 2):
            damaged[place] = generator.integers(256)
        path.write_bytes(damaged)
        try:
            read(path)
        except InvalidValueError as error:
            assert "\n" not in str(error)  # noqa: PT017
    path.write_bytes(whole[:-9])
    refused(lambda: read(path), "Parquet")
    refused(lambda: TableOnDisk(path, "10MB"), "Parquet")


# Text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('a,b\n1,"x\n2,y\n3,z\n', "opens in line 2 and is never closed"),
        ('a,b\n1,x\n2,"y\n3,"z"\n', "opens in line 3 and is closed in line 4"),
        ('"a,b\n1,x\n2,y\n', "opens in line 1 and is never closed"),
        ('a,b\r\n1,x\r\n2,"y\r\n3,z', "opens in line 3 and is never closed"),
        ('a,b\r1,x\r2,"y\r3,z\r', "opens in line 3 and is never closed"),
        ('a;b\n1;"x, y"\n2;"y\n3;z\n', "opens in line 3 and is never closed"),
        ('a,b\n1,"two\nlines"\n2,"y\n3,z\n', "opens in line 4 and is never closed"),
        ('a,b\n1,"say ""x"\n2,"y""\n3,z\n', "opens in line 3 and is never closed"),
        ('a,b\n5" pipe,1\n"6,2\n7,3\n', "opens in line 3 and is never closed"),
    ],
)
def test_a_quote_that_swallows_lines_is_named(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode())
    refused(lambda: read(path), words)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_quoted_cells_of_several_lines_are_read(tmp_path: Path, end: str) -> None:
    path = tmp_path / "t.csv"
    rows = ["a,b", f'1,"two{end}lines"', '2,"say ""x, y"""', '3,5" pipe', '"4",""', ""]
    path.write_bytes(end.join(rows).encode())
    table = read(path)
    assert table.column("a").values.tolist() == [1, 2, 3, 4]
    assert set(table.column("b").levels) == {f"two{end}lines", 'say "x, y"', '5" pipe'}


def test_old_line_ends_of_a_long_file(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    lines = [f"{k},{k / 4}" for k in range(60_000)]
    path.write_bytes("\r".join(["a,b", *lines, ""]).encode())
    table = read(path)
    assert table.rows == 60_000
    assert table.filled({}) == path.read_bytes().decode()
    path.write_bytes(b"a,b\r\n1,2\n3,4\r5,6\n")
    assert read(path).column("b").values.tolist() == [2, 4, 6]
    path.write_bytes(b"a,b\r1,2\r3,4,5\r")
    refused(lambda: read(path), "line 3 has 3 cells")


# What is printed


NASTY = "a\x1b]0;OWNED\x07\x1b[2J\x9b31m\u202eb"


@pytest.mark.parametrize(
    "command", ["factorize", pytest.param("train", marks=pytest.mark.slow)]
)
def test_no_control_character_reaches_the_terminal(
    tmp_path: Path, capsys: Any, command: str
) -> None:
    path = tmp_path / "t\x1b[2J.csv"
    rows = [f"{k},{k % 3},u\x1b[31m{k % 2}" for k in range(20)]
    path.write_text("\n".join([f"{NASTY},b,c", *rows, ""]), encoding="utf-8")
    out, other = tmp_path / "o\x1b[2J", tmp_path / "other"
    works = [command, str(path), "--out", str(out)]
    if command == "train":
        works += ["--target", "c", "--starts", "2", "--epochs", "1"]
        wrong = ["train", str(path), "--out", str(other), "--target", f"{NASTY}x"]
    else:
        works += ["--rank", "1", "--loss-of", "c=categorical"]
        wrong = ["factorize", str(path), "--out", str(other), "--rank", "1"]
        wrong += ["--loss-of", f"{NASTY}x=huber"]
    for arguments, code in (
        (works, 0),
        (wrong, 2),
        (["apply", str(out), str(path), "--out", str(tmp_path / "applied")], 0),
        (["apply", str(out), f"{path}x", "--out", str(other)], 2),
        (["apply", str(out), str(path), "--out", str(tmp_path / "third"), "--json"], 0),
        (["apply", f"{out}x", str(path), "--out", str(other)], 2),
    ):
        assert main(arguments) == code
        printed, errors = capsys.readouterr()
        assert (printed + errors).replace("\n", "").isprintable()
        assert "\\x1b" in printed + errors or "\\u001b" in printed
    for page in (out / "report.html", *out.glob("*.svg")):
        text = page.read_text(encoding="utf-8")
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(text)


def test_colors_reach_the_terminal_and_control_characters_do_not(capsys) -> None:
    from descents.cli.printing import terminal
    from descents.cli.streams import standard_streams

    with standard_streams():
        print(NASTY)  # noqa: T201
        sys.stderr.write(f"{NASTY}\n")
        console = terminal(force_terminal=True, color_system="standard", width=200)
        console.print(NASTY, style="yellow")
    printed, errors = capsys.readouterr()
    plain, colored = printed.splitlines()
    shown = "a\\x1b]0;OWNED\\x07\\x1b[2J\\x9b31m\\u202eb"
    assert plain == shown
    assert errors == f"{shown}\n"
    assert colored.startswith("\x1b[33m")
    assert colored.endswith("\x1b[0m")
    inside = colored.removeprefix("\x1b[33m").removesuffix("\x1b[0m")
    assert inside.isprintable()
    assert str(InvalidValueError(NASTY)) == shown
