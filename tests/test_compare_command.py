"""`descents compare`: which sides are compared, how, and what is said of them."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from conftest import made_once
from descents.cli.main import main
from descents.networks.fitted import generator
from descents.pages.drawing import drawing
from descents.pages.page import draw, read_run
from descents.runs.comparison_words import Judged
from descents.runs.train_result import Difference, EquivalenceOfSides
from descents.statistics import simultaneous_differences
from descents.storage.files import read_table, write_table

SCHEMA = json.loads(
    (Path(__file__).parents[1] / "docs" / "compare.schema.json").read_text()
)
STARTS = 12
RNG = np.random.default_rng


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Return a folder with a run of one setting, and one of two settings."""

    def make(folder: Path) -> None:
        rng = RNG(0)
        frame = pd.DataFrame(rng.normal(size=(40, 2)), columns=["a", "b"])
        frame["y"] = np.where(frame["a"] > 0, "p", "q")
        frame.to_csv(folder / "t.csv", index=False)
        common = ["train", str(folder / "t.csv"), "--target", "y", "--epochs", "1"]
        common += ["--starts", str(STARTS), "--hidden", "2", "--diagnose", "0"]
        rates = ["--learning-rate", "0.01", "--learning-rate", "0.1"]
        assert main([*common, "--quiet", "--out", str(folder / "one")]) == 0
        assert main([*common, *rates, "--quiet", "--out", str(folder / "two")]) == 0

    return made_once(tmp_path_factory, "to_compare", make)


Write = Callable[..., str]


@pytest.fixture
def written(trained: Path, tmp_path: Path, monkeypatch) -> Write:
    """Return a function that writes a run with given values of its starts.

    Comparisons draw no page, which would take most of the time.
    """
    monkeypatch.chdir(tmp_path)
    nothing = contextlib.nullcontext(lambda *_: None)
    monkeypatch.setattr("descents.cli.compare.drawing", lambda _command: nothing)

    def write(name: str, *values: Any, seed: int = 0, **changes: object) -> str:
        """Write a run with a row of values for each setting; a NaN is a failed start."""
        source = trained / ("one" if len(values) == 1 else "two")
        shutil.copytree(source, tmp_path / name)
        rows = read_table(source / "starts.parquet")
        numbers = np.concatenate([np.asarray(row, float) for row in values])
        rows["validation_accuracy"] = numbers
        rows["loss"] = np.where(np.isnan(numbers), np.nan, rows["loss"])
        write_table(tmp_path / name / "starts.parquet", rows)
        path = tmp_path / name / "result.json"
        result = json.loads(path.read_text())
        result["run"]["options"] |= {"seed": seed, **changes}
        path.write_text(json.dumps(result))
        return name

    return write


def compared(*arguments: str) -> dict[str, Any]:
    """Return the result of a comparison, which fits its schema."""
    number = len(list(Path().glob("result-*")))
    out = f"result-{number}"
    assert main(["compare", *arguments, "--out", out, "--quiet"]) == 0
    found = json.loads((Path(out) / "result.json").read_text())
    jsonschema.validate(found, SCHEMA)
    return found


def refused(capsys, *arguments: str) -> str:
    """Return the sentence with which a comparison is refused."""
    capsys.readouterr()
    before = sorted(path.name for path in Path().iterdir())
    assert main(["compare", *arguments]) == 2
    assert sorted(path.name for path in Path().iterdir()) == before
    sentence = capsys.readouterr().err
    assert sentence.count("\n") == 1
    return str(sentence)


def test_the_better_side_is_named_whichever_comes_first(written: Write) -> None:
    low, high = RNG(1).normal(0.8, 0.01, STARTS), RNG(2).normal(0.9, 0.01, STARTS)
    runs = written("low", low), written("high", high)
    gap = high - low
    ends = stats.ttest_1samp(gap, 0).confidence_interval(0.95)
    for order, sign in ((runs, -1), (runs[::-1], 1)):
        found = compared(*order)
        (one,) = found["differences"]
        assert one["verdict"] == ("better" if sign > 0 else "worse")
        assert one["difference"] == found["difference"]
        assert one["difference"] == pytest.approx(sign * gap.mean())
        expected = sorted(sign * end for end in ends)
        assert one["interval"] == pytest.approx(expected, rel=1e-9)
        assert found["answer"] == (
            f"high is better than low by {gap.mean():.3f} validation accuracy (95% interval "
            f"{ends[0]:.3f} to {ends[1]:.3f}; p < 0.001)."
        )
        assert one["equivalence"] is None
        assert "equivalent" not in found["answer"]
        assert (found["reference"], found["reference_is"]) == (order[1], "the second")


def test_a_loss_is_better_where_it_is_lower(written: Write) -> None:
    base = RNG(1).normal(0.5, 0.01, STARTS)
    runs = written("small", base - 0.1), written("large", base)
    for run, shift in zip(runs, (0.0, 0.2), strict=True):
        rows = read_table(Path(run) / "starts.parquet")
        rows["validation_loss"] = base + shift
        write_table(Path(run) / "starts.parquet", rows)
    found = compared(*runs, "--metric", "validation_loss")
    assert found["answer"].startswith(
        "small is better than large by 0.2 validation loss, "
    )
    assert "where lower is better" in found["answer"]
    assert found["differences"][0]["verdict"] == "better"
    assert found["differences"][0]["difference"] < 0


def test_equivalence_is_claimed_with_a_margin_only(written: Write) -> None:
    values = RNG(3).normal(0.9, 0.005, (2, STARTS))
    runs = written("a", values[0]), written("b", values[1])
    found = compared(*runs)["differences"][0]
    assert found["verdict"] == "not distinguished"
    assert found["equivalence"] is None
    assert "a and b cannot be distinguished in validation accuracy" in found["says"]
    gap = values[0] - values[1]
    for margin, verdict in ((0.02, "equivalent"), (0.001, "not distinguished")):
        found = compared(*runs, "--margin", str(margin))["differences"][0]
        assert found["verdict"] == verdict
        test = found["equivalence"]
        low = stats.ttest_1samp(gap, -margin, alternative="greater").pvalue
        high = stats.ttest_1samp(gap, margin, alternative="less").pvalue
        assert [test["p_low"], test["p_high"]] == pytest.approx([low, high], rel=1e-9)
        ends = stats.ttest_1samp(gap, 0).confidence_interval(0.9)
        assert test["interval"] == pytest.approx(list(ends), rel=1e-9)
        assert test["confidence"] == pytest.approx(0.9)
        assert ("are equivalent within 0.02" in found["says"]) is test["equivalent"]
        assert ("not shown to be equivalent" in found["says"]) is not test["equivalent"]


def judged(
    low: float | None, high: float | None, p: float, test: list[float] | None = None
) -> Judged:
    gap = None if low is None or high is None else (low + high) / 2
    found = Difference(
        difference=gap, interval=[low, high], probability_of_improvement=0.5,
        improvement_interval=[0.1, 0.9], p_value=p, paired=True, counts=[9, 9],
        failed=[0, 0],
    )  # fmt: skip
    equivalence = None
    if test is not None:
        inside = max(map(abs, test)) < 0.1
        equivalence = EquivalenceOfSides(
            margin=0.1, confidence=0.9, interval=test, p_low=0.01, p_high=0.02,
            equivalent=inside,
        )  # fmt: skip
    return Judged("a", "b", "validation_accuracy", True, found, p, equivalence)


@pytest.mark.parametrize(
    ("case", "verdict", "words"),
    [
        (judged(0.1, 0.3, 0.01), "better", "a is better than b by 0.20 "),
        (judged(-0.3, -0.1, 0.01), "worse", "b is better than a by 0.20 "),
        (judged(0.1, 0.3, 0.2), "not distinguished", "the mean of a is 0.20 higher"),
        (judged(-0.3, 0.1, 0.3), "not distinguished", "is 0.1 lower (95% interval 0.3 lower to 0.1 higher"),
        (judged(None, None, 1.0), "not compared", "cannot be compared"),
        (judged(0.01, 0.05, 0.01, [0.02, 0.04]), "equivalent", "a is better by this small difference"),
        (judged(-0.05, -0.01, 0.01, [-0.04, -0.02]), "equivalent", "b is better by this small difference"),
        (judged(-0.05, 0.05, 0.5, [-0.04, 0.04]), "equivalent", "their means are equal"),
        (judged(0.22, 0.38, 0.01, [0.23, 0.37]), "better", "0.23 to 0.37, is beyond the margin of 0.1"),
        (judged(-0.6, -0.05, 0.01, [-0.5, -0.08]), "worse", "whether by more than the margin of 0.1 is open"),
    ],
)  # fmt: skip
def test_verdicts_in_words(case: Judged, verdict: str, words: str) -> None:
    assert case.verdict == verdict
    assert words in case.says


def test_several_paired_sides_have_simultaneous_intervals(written: Write) -> None:
    shared = RNG(4).normal(0.8, 0.05, STARTS)
    rows = [shared + RNG(k).normal(0.01 * k, 0.01, STARTS) for k in range(4)]
    names = [written(f"r{k}", row) for k, row in enumerate(rows)]
    found = compared(*names)
    best = int(np.argmax([row.mean() for row in rows]))
    assert (found["reference"], found["reference_is"]) == (f"r{best}", "the best")
    joint = simultaneous_differences(rows, generator=generator())
    others = [k for k in range(4) if k != best]
    for k, one in zip(others, found["differences"], strict=True):
        assert one["side"] == f"r{k}"
        expected = [joint.low[k, best], joint.high[k, best]]
        assert one["interval"] == pytest.approx(expected)
        assert one["p_adjusted"] == max(joint.p_value[k, best], one["p_value"])
    assert "Tukey" in found["how"]
    assert f"Of 4 sides, r{best} has the best mean" in found["answer"]
    against = compared(*names, "--against", "r0")
    assert (against["reference"], against["reference_is"]) == ("r0", "given")
    assert [one["side"] for one in against["differences"]] == ["r1", "r2", "r3"]


def test_sides_that_share_no_starts_use_bonferronis_rule(written: Write) -> None:
    rows = [RNG(k).normal(0.9 - 0.02 * k, 0.02, STARTS) for k in range(3)]
    names = [written(f"r{k}", row, seed=min(k, 1)) for k, row in enumerate(rows)]
    found = compared(*names, "--margin", "0.03")
    assert (found["reference"], found["reference_is"]) == ("r0", "the best")
    assert "Bonferroni's rule for 3 comparisons" in found["how"]
    for k, one in enumerate(found["differences"], 1):
        test = stats.ttest_ind(rows[k], rows[0], equal_var=False)
        ends = test.confidence_interval(1 - 0.05 / 3)
        assert one["interval"] == pytest.approx(list(ends), rel=1e-6)
        expected = min(1.0, 3 * max(test.pvalue, one["p_value"]))
        assert one["p_adjusted"] == pytest.approx(expected)
        assert one["equivalence"]["confidence"] == pytest.approx(1 - 0.1 / 3)
        assert not one["paired"]
    found = compared(*names, "--against", "r2")
    assert "for 2 comparisons" in found["how"]
    assert [one["paired"] for one in found["differences"]] == [False, True]


@pytest.mark.slow
def test_no_equal_side_is_called_better_more_often_than_it_may(written: Write) -> None:
    """Verdicts over simulated starts of three equal sides, two samples or paired."""
    from descents.runs.compare import ComparisonOptions, compare

    wrong = dict.fromkeys((0, 1), 0)
    trials = 60
    names = [written(f"r{k}", np.zeros(STARTS)) for k in range(3)]
    apart = [written(f"s{k}", np.zeros(STARTS), seed=k) for k in range(3)]
    for trial in range(trials):
        values = RNG(trial).normal(0.8, 0.02, (3, STARTS))
        for kind, runs in enumerate((names, apart)):
            for run, row in zip(runs, values, strict=True):
                rows = read_table(Path(run) / "starts.parquet")
                rows["validation_accuracy"] = row
                write_table(Path(run) / "starts.parquet", rows)
            found = compare(runs, ComparisonOptions()).result
            words = {one.verdict for one in found.differences}
            wrong[kind] += bool(words - {"not distinguished"})
    for count in wrong.values():
        assert stats.binomtest(count, trials, 0.05, alternative="greater").pvalue > 0.01


def test_settings_are_chosen_by_name(written: Write, capsys) -> None:
    first, second = RNG(5).normal([[0.7], [0.9]], 0.01, (2, STARTS))
    one, two = written("one", first), written("two", first, second)
    best = json.loads(Path("two/result.json").read_text())["best"]["setting"]
    found = compared(one, two)
    assert found["settings"] == ["kaiming", best]
    assert [side["name"] for side in found["sides"]] == ["one", f"two:{best}"]
    assert any("is the best of 2 settings" in note for note in found["notes"])
    found = compared(one, two, "--setting", "two:learning rate 0.1")
    assert found["settings"] == ["kaiming", "learning rate 0.1"]
    assert found["means"] == pytest.approx([first.mean(), second.mean()])
    assert found["notes"] == []
    found = compared(
        two, "--setting", "learning rate 0.01", "--setting", "two:learning rate 0.1"
    )
    assert found["answer"].startswith(
        "two:learning rate 0.1 is better than two:learning rate 0.01 by 0.19"
    )
    (option,) = found["options"]
    assert option == {"option": "learning rate", "values": ["0.01", "0.1"]}
    found = compared(
        one,
        two,
        "--setting",
        "two:learning rate 0.1",
        "--setting",
        "two:learning rate 0.01",
    )
    assert len(found["sides"]) == 3
    found = compared(
        two,
        one,
        "--setting",
        "two:learning rate 0.1",
        "--against",
        "two:learning rate 0.1",
    )
    assert found["reference"] == "two:learning rate 0.1"
    for wrong, words in (
        ((two,), "two alone is one side of a comparison, and it has the settings learning rate 0.01 and learning rate 0.1"),
        ((one,), "one alone is one side of a comparison, and it has one setting, kaiming"),
        ((one, two, "--setting", "two:x"), "two has no setting 'x'; give one of 'learning rate 0.01', 'learning rate 0.1'"),
        ((one, two, "--setting", "0.1"), "one has no setting '0.1'; give one of 'kaiming'"),
        ((one, two, "--against", "three"), "--against is 'three', which is no side"),
        ((one, two, "--margin", "0"), "--margin"),
    ):  # fmt: skip
        assert words in refused(capsys, *wrong)
    said = refused(capsys, one, two, "--setting", "x", "--metric", "foo")
    assert "has no setting 'x'" in said
    assert "--metric is 'foo'" in said
    (Path("other")).mkdir()
    (Path("other") / "result.json").write_text('{"run": {"command": "impute"}}')
    assert "no run of 'descents train'" in refused(capsys, one, "other")
    assert "nowhere does not exist" in refused(capsys, one, "nowhere")


def test_failed_starts_count_as_the_worse(written: Write) -> None:
    values = RNG(6).normal([[0.9], [0.8]], 0.01, (2, STARTS))
    values[0, :5] = np.nan
    found = compared(written("a", values[0]), written("b", values[1]))
    (one,) = found["differences"]
    assert one["counts"] == [7, 7]
    assert one["failed"] == [5, 0]
    assert one["verdict"] == "better"
    assert one["probability_of_improvement"] == pytest.approx(7 / STARTS)
    assert any("5 of 12 starts of a (kaiming) failed" in w for w in found["warnings"])
    assert [side["count"] for side in found["sides"]] == [7, 12]
    assert "5 failed" in found["quote"]
    values[0, :7] = np.nan  # more than half: the other is the best of three
    rows = [written(f"r{k}", row) for k, row in enumerate([*values, values[1] - 0.1])]
    assert compared(*rows)["reference"] == "r1"


def test_a_side_without_values_is_not_compared(written: Write) -> None:
    nothing = np.full(STARTS, np.nan)
    names = written("a", nothing), written("b", np.full(STARTS, 0.5))
    found = compared(*names, "--margin", "0.1")
    (one,) = found["differences"]
    assert (one["verdict"], one["difference"]) == ("not compared", None)
    draw(Path("result-0"))
    three = compared(*names, written("c", np.full(STARTS, 0.5)))
    assert [one["verdict"] for one in three["differences"]] == [
        "not compared",
        "not distinguished",
    ]


def test_the_run_folder_is_that_of_other_commands(
    written: Write, monkeypatch, capsys
) -> None:
    monkeypatch.setattr("descents.cli.compare.drawing", drawing)
    values = RNG(7).normal(0.8, 0.01, (2, STARTS))
    values[1, 3] = np.nan
    names = written("a", values[0]), written("b", values[1], hidden=[3])
    assert main(["compare", *names]) == 0
    assert main(["compare", *names, "--json"]) == 0
    text = capsys.readouterr().out
    answer, rest = text.split("\n", 1)
    printed = json.loads(rest[rest.index("{\n") :])
    assert answer == printed["answer"]
    folders = sorted(Path("runs").iterdir())
    assert len(folders) == 2
    assert all(folder.name.startswith("compare-") for folder in folders)
    found = read_run(folders[0])
    assert found.result.run.command == "compare"
    assert printed["options"] == [{"option": "hidden", "values": ["2", "3"]}]
    rows = pd.read_parquet(folders[0] / "starts.parquet")
    assert list(rows) == ["side", "run", "setting", "start", "value", "failed"]
    np.testing.assert_array_equal(rows["value"], values.ravel())
    assert rows["failed"].sum() == 1
    assert rows["side"].tolist() == ["a"] * STARTS + ["b"] * STARTS
    page = (folders[0] / "report.html").read_text()
    for name in ("figure-sides", "figure-differences", "figure-pairs"):
        assert f'id="{name}"' in page
    assert printed["answer"] in page
    assert printed["quote"] in page
    before = (folders[0] / "report.html").read_bytes()
    assert main(["report", str(folders[0]), "--quiet"]) == 0
    assert (folders[0] / "report.html").read_bytes() == before
    capsys.readouterr()
    assert main(["compare", *names, "--out", str(folders[0])]) == 2
    assert "is not empty" in capsys.readouterr().err
    unpaired = written("c", values[0], seed=3)
    compared(names[0], unpaired)
    assert "figure-pairs" not in (Path("result-0") / "report.html").read_text()


def test_a_later_schema_version_is_refused(written: Write, capsys) -> None:
    names = written("a", np.zeros(STARTS)), written("b", np.zeros(STARTS))
    path = Path("b/result.json")
    result = json.loads(path.read_text())
    assert result["schema_version"] == 1
    for version in (99, "new"):
        path.write_text(json.dumps({**result, "schema_version": version}))
        sentence = refused(capsys, *names)
        assert f"has the schema version {version!r}" in sentence
    del result["schema_version"], result["quote"], result["held_out_rows"]
    path.write_text(json.dumps(result))
    assert compared(*names)["answer"]
