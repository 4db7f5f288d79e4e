"""A command that refuses an option names it as it was given, not as Python calls it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from conftest import MIXED, error_of
from descents.cli.main import main
from descents.cli.options import OPTIONS
from descents.errors import InvalidValueError, by_command, called
from descents.losses import get_loss
from descents.networks.splits import Folds, HoldOut
from descents.validation import one_of, real_number, true_or_false, whole_number

PYTHON = re.compile(r"(?<![\w-])(\w+_\w+|penalty|solver|cv|tol|l1|l2|memory)(?![\w-])")
"""Words that are names of parameters, unless they stand in the text of an option."""

FACTORIZE = [
    (
        "--penalty l2=-1",
        "--penalty l2=-1 is refused; give a number of at least 0, auto, ",
    ),
    ("--penalty -1", "--penalty l2=-1 is refused"),
    ("--penalty l2=x", "--penalty l2=x is refused"),
    ("--penalty l2=auto:-1,2", "--penalty l2=auto:-1,2 is refused"),
    ("--penalty l2=auto:", "--penalty l2=auto: is refused"),
    ("--penalty count_power=nan", "--penalty count_power=nan is refused"),
    ("--penalty l2=auto:0", "--penalty 'l2' has nothing above 0 to choose from"),
    ("--loss huber:-1", "--loss is 'huber:-1': the width of huber is -1"),
    ("--loss-of size=quantile:2", "--loss-of is 'quantile:2': the level of quantile"),
    ("--solver gd --learning-rate -1", "--learning-rate is -1.0; give"),
    ("--solver gd --learning-rate nan", "--learning-rate is nan; give"),
    ("--learning-rate 1", "--learning-rate is given, but --solver is auto"),
    ("--solver lbfgs --constraint nonnegative", "give another --solver, or leave"),
    ("--rank auto --cv 1000", "1000 folds (--cv) need"),
    ("--memory 5MB", "or leave --memory out to read it whole"),
    ("--memory x", "'--memory': --memory is 'x'; give a size"),
    ("--rank auto:1-90", "--rank tries 90"),
    ("--combine mean", "--starts is 1; give more"),
]
TRAIN = [
    ("--learning-rate nan", "--learning-rate is nan; give a finite number above 0"),
    ("--learning-rate inf", "--learning-rate is inf"),
    ("--weight-decay nan", "--weight-decay is nan; give"),
    ("--dropout nan", "--dropout is nan; give"),
    ("--tol nan", "--tol is nan; give"),
    ("--validation x", "--validation is 'x'; give none, a share such as 0.33"),
    ("--validation folds=x", "--validation is 'folds=x'; give none"),
    ("--validation folds=1", "--validation is 'folds=1': the number of folds is 1"),
    ("--validation folds=99", "--validation has 99 folds, but there are 6 rows"),
    ("--validation 0.001", "--validation is 0.001, and this share of 6 rows is no row"),
    ("--validation nan", "--validation is 'nan': the share held out is nan"),
]


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the error message of a command that refuses its options."""
    assert main(arguments) == 2
    said = capsys.readouterr()
    (message,) = said.err.splitlines()
    assert message.startswith("descents: ")
    return message


def python_names(message: str, given: str) -> set[str]:
    """Return the words of a message that only a user of Python knows."""
    return set(
        PYTHON.findall(re.sub(r"/\S+|'[^']*'|\([^)]*\)|--\w+ \S+", "", message))
    ) - set(PYTHON.findall(given))


@pytest.mark.parametrize(("given", "says"), FACTORIZE)
def test_factorize_names_its_options(given, says, tmp_path: Path, capsys) -> None:
    table = tmp_path / "t.csv"
    table.write_text(MIXED)
    rank = () if "--rank" in given else ("--rank", "1")
    run = ("--ignore", "name", "--out", str(tmp_path / "run"))
    message = refusal(capsys, "factorize", str(table), *rank, *run, *shlex.split(given))
    assert says in message
    assert not python_names(message, given)


@pytest.mark.parametrize(("given", "says"), TRAIN)
def test_train_names_its_options(given, says, tmp_path: Path, capsys) -> None:
    table = tmp_path / "t.csv"
    table.write_text(MIXED)
    run = ("--target", "grade", "--ignore", "name", "--out", str(tmp_path / "run"))
    few = ("--starts", "2", "--epochs", "2")
    message = refusal(capsys, "train", str(table), *few, *run, *shlex.split(given))
    assert says in message
    assert not python_names(message, given)


def test_what_has_no_finite_loss_names_the_options(tmp_path: Path, capsys) -> None:
    table = tmp_path / "t.csv"
    table.write_text("a,b,c\n" + "\n".join(f"{k},{k * k},{5 - k}" for k in range(9)))
    given = ("--solver", "gd", "--learning-rate", "1e30", "--out", str(tmp_path / "r"))
    message = refusal(capsys, "factorize", str(table), "--rank", "1", *given)
    assert "give another --solver" in message
    assert "a --learning-rate below 1e+30" in message


def test_two_open_penalties_are_reported_once(tmp_path: Path, capsys) -> None:
    table = tmp_path / "t.csv"
    table.write_text(MIXED)
    given = (
        "--penalty",
        "l2=auto",
        "--penalty",
        "l1=auto",
        "--out",
        str(tmp_path / "r"),
    )
    message = refusal(capsys, "factorize", str(table), "--rank", "1", *given)
    assert "--penalty 'l2' is to be chosen, with 'l1' given" in message
    assert "l2 is 'auto'" not in message


def test_python_keeps_the_names_of_its_parameters() -> None:
    checks = (
        lambda: whole_number("n_starts", 0, 1),
        lambda: real_number("learning_rate", -1, 0),
        lambda: one_of("solver", "x", ["gd"]),
        lambda: true_or_false("scales", 1),
    )
    for check in checks:
        with pytest.raises(InvalidValueError) as python:
            check()
        with pytest.raises(InvalidValueError) as command, called(**OPTIONS):
            check()
        name = str(python.value).split(" ")[0]
        assert str(command.value) == str(python.value).replace(name, OPTIONS[name], 1)


def test_splits_name_the_parameter_or_the_option() -> None:
    groups = np.zeros(4, dtype=int)
    for scheme in (Folds(9), HoldOut(0.01)):
        with pytest.raises(InvalidValueError, match=r"^validation "):
            scheme.splits(groups, 0)
        with (
            by_command(),
            called(**OPTIONS),
            pytest.raises(InvalidValueError, match=r"^--validation "),
        ):
            scheme.splits(groups, 0)


def test_the_name_of_a_loss_is_said_before_what_is_wrong_with_its_number() -> None:
    with pytest.raises(InvalidValueError, match=r"^loss is 'huber:0': the width of"):
        get_loss("huber:0")


@pytest.mark.parametrize("command", ["report", "verify", "apply", "compare"])
def test_a_file_in_place_of_a_run_is_called_a_file(
    command: str, tmp_path: Path, capsys
) -> None:
    table, page = tmp_path / "t.csv", tmp_path / "run" / "report.html"
    page.parent.mkdir()
    page.with_name("result.json").write_text("{}")
    for path in (table, page):
        path.write_text("a,b\n1,2\n")
    more = [str(table)] if command in ("apply", "compare") else []
    assert main([command, str(table), *more]) == 2
    says = error_of(capsys.readouterr().err)
    assert (
        f"{table} is a file, not the folder that a command wrote; give the folder"
        in says
    )
    assert main([command, str(page), *more]) == 2
    says = error_of(capsys.readouterr().err)
    assert f"{page} is a file in the folder of a run, which is {page.parent};" in says
