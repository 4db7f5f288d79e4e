"""All problems of one call are reported together, in the words of its options."""

from __future__ import annotations

from pathlib import Path

import pytest

from descents.cli.main import main
from descents.errors import Complaints, InvalidValueError

TABLE = "name,a,b,y\n" + "".join(
    f"r{i},{i % 5}.5,{i % 3},{'no' if i % 2 else 'yes'}\n" for i in range(20)
)
CALLS: dict[str, tuple[str, list[str]]] = {
    "train": (
        "train T --target z --metric foo --ignore q --id w --weights v --init i "
        "--validation 3 --resume --device d --n-iter-no-change 4",
        [
            "--resume needs --out",
            "--n-iter-no-change has no effect",
            "--device is 'd'",
            "--init is 'i'",
            "--validation is '3'",
            "--metric is 'foo'",
            "'q' (--ignore)",
            "'w' (--id)",
            "'z' (--target)",
            "'v' (--weights)",
        ],
    ),
    "train, with a table": (
        "train T --target b --task regression --metric validation_f1 --class-weight x=1 "
        "--weights y",
        [
            "--metric is 'validation_f1'",
            "--class-weight needs classes",
            "'y' (--weights) is boolean",
            "column 'name' is text",
        ],
    ),
    "train, numbers": (
        "train T --target y --starts 0 --epochs x --batch-size 0",
        ["'--starts'", "'--epochs'", "'--batch-size'"],
    ),
    "factorize": (
        "factorize T --rank x --loss foo --loss-of a=bar --loss-of q=huber --constraint c "
        "--penalty foo=1 --image x --ignore u --levels a --learning-rate 1 --resume "
        "--combine mean --impute /nowhere/x.npy --device d",
        [
            "--resume needs --out",
            "no folder /nowhere",
            "give a name that ends in .csv",
            "--combine mean",
            "--device is 'd'",
            "--loss is 'foo'",
            "--loss-of is 'bar'",
            "'q' (--loss-of)",
            "--constraint is 'c'",
            "--penalty has 'foo'",
            "--levels is 'a'",
            "--image is 'x'",
            "--rank is 'x'",
            "--learning-rate is given, but --solver is auto",
            "'u' (--ignore)",
        ],
    ),
    "factorize, numbers": (
        "factorize T --starts 0 --held-out 3",
        ["'--rank'", "'--starts'", "'--held-out'"],
    ),
    "impute": (
        "impute T F.npy --refine --intervals 0.9 --imputations 3 --resume --levels a "
        "--levels y=no --id z --ignore q",
        [
            "--resume needs --out",
            "F.npy, but",
            "--refine improves",
            "--intervals gives",
            "--levels is 'a'",
            "'z' (--id)",
            "'q' (--ignore)",
        ],
    ),
    "compare": ("compare one two", ["folder one", "folder two"]),
    "reproduce": (
        "reproduce --resume --device d",
        ["--resume needs --out", "--device is 'd'"],
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_all_problems_of_a_call_are_reported_once(
    call: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("T").write_text(TABLE)
    arguments, words = CALLS[call]
    assert main(arguments.split()) == 2
    sentence = capsys.readouterr().err
    assert sentence.count("\n") == 1
    for word in words:
        assert sentence.count(word) == 1, word
    assert [path.name for path in tmp_path.iterdir()] == ["T"]


def test_joined_problems_stay_apart_in_other_complaints() -> None:
    def two() -> None:
        inner = Complaints()
        inner.require(False, "a is 1; give 2")
        inner.require(False, "b is 1; give 3")
        inner.raise_any()

    outer = Complaints()
    outer.require(False, "c is 1; give 2")
    outer.attempt(two)
    outer.attempt(two)
    with pytest.raises(InvalidValueError) as error:
        outer.raise_any()
    assert str(error.value) == "c is 1; a is 1; give 2; b is 1; give 3"


def test_problems_of_apply_and_compare_are_reported_once(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("T").write_text(TABLE)
    common = ["--id", "name", "--quiet", "--out"]
    train = ["train", "T", "--starts", "2", "--epochs", "2", "--diagnose", "0"]
    assert main([*train, "--target", "y", *common, "one"]) == 0
    assert main([*train, "--target", "a", *common, "two"]) == 0
    capsys.readouterr()
    calls = {
        "compare one two --metric foo": ["which one does not", "which two does not"],
        "apply one T --memory 3MB --impute x.npy --id z --imputations 3": [
            "--imputations is only for the model of a run of 'descents impute', and",
            "leave --memory out",
            "leave --impute and --intervals out",
            "give a name that ends in .csv",
            "'z' (--id)",
        ],
    }
    for call, words in calls.items():
        assert main(call.split()) == 2
        sentence = capsys.readouterr().err
        for word in words:
            assert sentence.count(word) == 1, (word, sentence)
