"""What commands print, in the width that there is."""

from __future__ import annotations

import itertools
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl
from pathlib import Path

import pytest

from conftest import MIXED, run_descents
from descents.cli import options, printing
from descents.cli.printing import Column, columns_that_fit, say, show_table, wrapped
from descents.cli.progress import Tenths, bar
from descents.runs.network_options import NetworkOptions
from descents.validation import MOST_STARTS

SENTENCE = (
    "The loss is the best of 3 starts, -0.0012 to 0.0034; no exact answer is known."
)


def on_terminal(width: int, *arguments: str) -> tuple[str, float]:
    """Run the command on a terminal; return what it prints, and when it prints first."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k != "COLUMNS"}
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "descents", *arguments],
        stdout=theirs,
        stderr=theirs,
        env=environment | {"TERM": "xterm"},
    )
    os.close(theirs)
    said, first = b"", 0.0
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the process has ended
            break
        first = first or time.monotonic() - begun
        said += part
    os.close(ours)
    assert process.wait(60) == 0, said.decode()
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", said.decode()), first


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let lines have 40 characters."""
    monkeypatch.setattr(printing, "line_width", lambda stream=None: 40)


@pytest.mark.parametrize("width", [20, 31, 40, 79, 200])
def test_sentences_are_wrapped_at_words(width: int) -> None:
    lines = wrapped(SENTENCE, width).split("\n")
    assert " ".join(lines) == SENTENCE
    assert max(map(len, lines)) <= width
    # No line could take the first word of the next one.
    for line, after in itertools.pairwise(lines):
        assert len(line) + 1 + len(after.split(" ")[0]) > width


def test_what_is_wider_than_a_line_stays_whole() -> None:
    path = "/a/rather/long/path/to/a/page/report.html"
    assert wrapped(f"The page: {path}", 20) == f"The page:\n{path}"
    assert wrapped("  an indented remark of a column", 20) == (
        "  an indented remark\n  of a column"
    )
    # A Chinese character takes two places on a terminal.
    assert (
        wrapped("一二三四五 六七八九十 一二三", 20) == "一二三四五\n六七八九十 一二三"
    )


def test_a_pipe_gets_one_line_for_each_sentence(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    say(SENTENCE)
    say("a name with\na line end")
    assert capsys.readouterr().out == f"{SENTENCE}\na name with\\na line end\n"


def test_columns_are_left_out_but_never_the_names(capsys, narrow: None) -> None:
    names = ["a setting with a long name", "gd"]
    numbers = ["0.5000", "0.2500"]
    columns = [
        Column("setting", names),
        Column("mean", numbers, 1, right=True),
        Column("95% interval", ["0.4000 to 0.6000"] * 2, 2, right=True),
        Column("median", numbers, 3, right=True),
    ]
    show_table(columns, "accuracy")
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 40
    # Words of the name stay whole, on as many lines as are needed.
    for part in ("setting", "mean", *names[0].split(), "gd", *numbers):
        assert part in said
    assert "0.4000" not in said
    assert "Left out in lines of 40 characters: 95%\ninterval, median." in said


@pytest.mark.parametrize("width", range(8, 80, 3))
def test_tables_fit_wherever_their_names_do(width: int) -> None:
    columns = [
        Column("name", ["one two", "three"]),
        Column("b", ["12345"], 1),
        Column("c", ["1234567"], 3),
        Column("d", ["123"], 2),
    ]
    kept, sizes = columns_that_fit(columns, width, 4, 3)
    assert kept[0] == 0
    assert sizes[0] >= len("three")
    least = 4 + sum(sizes) + 3 * (len(sizes) - 1)
    assert least <= width or kept == [0]
    # Those left out are the least important ones.
    order = [0, 1, 3, 2]
    assert kept == sorted(order[: len(kept)])
    if width >= 4 + 7 + 5 + 7 + 3 + 9:
        assert (kept, sizes) == ([0, 1, 2, 3], [7, 5, 7, 3])


def test_without_a_limit_nothing_is_wrapped_or_left_out(capsys) -> None:
    long = "a name of many words " * 10
    show_table([Column("name", [long]), Column("mean", ["0.5"], 1)], framed=False)
    assert long.strip() in capsys.readouterr().out.splitlines()[1]


def test_tenths_are_plain_lines_on_standard_error(capsys) -> None:
    with bar(silent=False) as progress:
        for step in range(101):
            progress("descending", step / 100)
    said = capsys.readouterr()
    assert said.out == ""
    found = re.findall(r"^(\d+)% descending, \d+:\d\d left$", said.err, re.MULTILINE)
    assert found == [str(tenth) for tenth in range(10, 100, 10)]
    assert len(said.err.splitlines()) == 9


def test_the_time_left_is_in_proportion() -> None:
    times = iter([100.0, 103.0, 112.0])
    lines: list[str] = []
    tenths = Tenths(lambda: next(times), lines.append)
    tenths("a", 0.05)
    tenths("a", 0.2)
    assert lines == ["20% a, 0:48 left"]


def test_the_limit_of_starts_is_that_of_python() -> None:
    assert options.MOST_STARTS == MOST_STARTS


def test_settings_are_named_by_the_options_that_vary() -> None:
    def names(**given) -> list[str]:
        return [one.name for one in NetworkOptions("y", **given).settings()]

    rates = (0.01, 0.1)
    assert names() == ["kaiming"]
    assert names(learning_rates=rates) == ["learning rate 0.01", "learning rate 0.1"]
    assert names(learning_rates=rates, optimizers=("gd", "adam"))[1] == (
        "gd with learning rate 0.1"
    )
    both = {"initializations": ("xavier", "zero"), "optimizers": ("gd", "adam")}
    assert names(**both)[0] == "xavier-gd"


def test_a_command_on_a_narrow_terminal(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(MIXED)
    run = ("--ignore", "name", "--out", str(tmp_path / "run"))
    said, first = on_terminal(40, "impute", str(table), str(tmp_path / "f.csv"), *run)
    begins, *lines = said.splitlines()
    assert begins.startswith("Reading")
    assert first < 3  # about .15 s on an idle machine
    shown = said[said.rindex("Filled ") if "Filled 1" in said else 0 :]
    for line in lines:
        wide = [word for word in line.split() if len(word) > 40]
        assert len(line) <= 40 or wide or "left" in line, line
    for name in ("column", "size", "weight", "color", "grade"):
        assert re.search(rf"^{name}\b", said, re.MULTILINE), name
    assert "Left out in lines of 40 characters" in shown


@pytest.mark.slow
def test_quiet_and_json_print_no_progress(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(MIXED)
    given = ("factorize", str(table), "--rank", "1", "--ignore", "name", "--out")
    quiet = run_descents(*given, str(tmp_path / "a"), "--quiet")
    assert (quiet.stdout, quiet.stderr) == ("", "")
    plain = run_descents(*given, str(tmp_path / "b"))
    assert "Reading" not in plain.stderr  # which is no terminal
    assert re.search(r"^90% \w+, 0:\d\d left$", plain.stderr, re.MULTILINE)
    assert "left" not in plain.stdout
