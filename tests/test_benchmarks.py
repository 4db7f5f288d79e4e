"""The harness of the benchmarks, on a trivial case."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import run  # noqa: E402
import suite  # noqa: E402
from suite import Case, Contender, Curve, Result  # noqa: E402

CASE_MODULE = """
from pathlib import Path
from suite import Outcome

def says(name, seconds, log, quality=1.0):
    counted = iter(seconds)
    def run():
        with Path(log).open("a") as lines:
            lines.write(name + " ")
        print("noise on standard output")
        return Outcome(quality, next(counted), "a detail")
    return run

def needs_what_is_missing():
    import no_such_package

def fails():
    raise ValueError("no good")

def ends(log):
    def run():
        raise SystemExit(3)
    return run

def sleeps():
    import time
    time.sleep(60)

def keeps(size):
    held = []
    def run():
        held.append(b"x" * size)
        return Outcome(0.0)
    return run
"""


@pytest.fixture
def trivial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "trivial.py").write_text(CASE_MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def contender(name: str, seconds: list[float], log: Path, **more: Any) -> Contender:
    options = {"name": name, "seconds": seconds, "log": str(log)}
    if "quality" in more:
        options["quality"] = more.pop("quality")
    return Contender(name, "trivial:says", options, **more)


def test_contenders_take_turns_and_ratios_are_of_one_turn(trivial: Path) -> None:
    log = trivial / "log"
    case = Case(
        "trivial",
        "Trivial",
        (
            contender("a", [9, 1, 2, 4], log),
            contender("b", [9, 10, 40, 20], log, asked=10),
            contender("c", [3, 1], log, turns=2, warms=False, scale=2),
        ),
        "quality",
    )
    a, b, c = suite.compete(case, turns=3)
    # First runs, then turns, each of which begins one later; c sits the third out.
    assert log.read_text().split() == list("ab") + list("abc") + list("bca") + list(
        "ab"
    )
    assert a.first == 9
    assert c.first is None
    assert a.seconds == {0: 1, 1: 2, 2: 4}
    assert b.against(a) == (10, 5, 20)  # of 10/1, 40/2 and 20/4
    assert c.against(a) == (3.5, 1, 6)  # of 2 * 3/1 and 2 * 1/2
    assert a.detail == "a detail"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            "needs_what_is_missing",
            "cannot be imported: No module named 'no_such_package'",
        ),
        ("fails", "ValueError: no good"),
    ],
)
def test_a_peer_that_is_missing_or_fails_is_said(
    trivial: Path, make: str, reason: str
) -> None:
    ours = contender("a", [1, 1], trivial / "log")
    case = Case("t", "T", (ours, Contender("b", f"trivial:{make}", asked=2)), "quality")
    results = suite.compete(case, turns=1)
    assert results[0].seconds == {0: 1}
    assert (results[1].left_out, results[1].seconds) == (reason, {})
    text = run.page([(case, results)], [], FACTS, "")
    assert (
        text.count(reason) == 3
    )  # where it is asked for, where it is left out, the case
    assert "| T | b | 2x | " + reason + " | not measured |" in text


def test_a_peer_that_ends_or_takes_too_long_is_left_out(trivial: Path) -> None:
    ends = Contender("ends", "trivial:ends", {"log": ""})
    sleeps = Contender("sleeps", "trivial:sleeps", limit=0.5)
    results = suite.compete(Case("t", "T", (ends, sleeps), "quality"), turns=1)
    assert results[0].left_out.startswith("its process ended")
    assert results[1].left_out == "stopped after 0.5 s"


FACTS = {
    "date": "2026-01-01",
    "commit": "abc",
    "python": "3.12",
    "machine": "2 cores",
    "turns": 3,
    "peers": {"jax": "1.0", "h2o": "not installed"},
}


def results_of(case: Case, *seconds: list[float], quality: float = 1.0) -> list[Result]:
    return [
        Result(one, dict(enumerate(taken)), quality, 0.5, 1.0, 2**20)
        for one, taken in zip(case.contenders, seconds, strict=True)
    ]


@pytest.mark.parametrize(
    ("asked", "quality", "said"),
    [
        (2.0, 1.0, "| 2x | 3x (2 to 4) | yes |"),
        (3.5, 1.0, "| 3.5x | 3x (2 to 4) | no |"),
        (2.0, 0.5, "| 2x | 3x (2 to 4) | no: quality |"),
    ],
)
def test_the_table_of_what_is_asked(asked: float, quality: float, said: str) -> None:
    pair = (Contender("a", ""), Contender("b", "", asked=asked))
    case = Case("t", "Title", pair, "share right", least=0.9)
    results = results_of(case, [1, 1, 1], [2, 3, 4], quality=quality)
    text = run.page([(case, results)], [], FACTS, "")
    assert "| Title | b " + said in text
    assert "h2o not installed" in text
    entry = json.loads(json.dumps(run.line([(case, results)], [], FACTS)))
    assert entry["cases"][1]["against_ours"] == [3, 2, 4]


def test_seconds_beyond_another_command(tmp_path: Path) -> None:
    case = Case("t", "T", (Contender("a", ""), Contender("b", "")), "q", excess=1.0)
    results = results_of(case, [3, 4, 5], [2.5, 2, 3])
    text = run.page([(case, results)], [], FACTS, "")
    assert "| T | b | at most 1 s | 2 s (0.5 to 2) | no |" in text


def test_a_curve_has_the_peak_of_each_size(trivial: Path) -> None:
    keeper = Contender("descents", "trivial:keeps", warms=False)
    sizes = (2**25, 2**27)
    curve = Curve("observed", "Title", "size", (keeper,), sizes)
    small, large = suite.trace(curve)
    for point in (small, large):
        assert point.peak == pytest.approx(point.size, rel=0.2)
    text = run.page([], [(curve, [small, large])], FACTS, "")
    assert "| Memory of completion | 4 times the entries | grows along |" in text
    run.draw([(curve, [small, large])], trivial / "plot.png")
    assert (trivial / "plot.png").stat().st_size > 1000


def test_earlier_runs_are_told_side_by_side(tmp_path: Path) -> None:
    case = Case("t", "T", (Contender("a", ""), Contender("b", "")), "q")
    path = tmp_path / "history.jsonl"
    runs = [results_of(case, [1], [2]), results_of(case, [1], [3])]
    entries = [run.line([(case, results)], [], FACTS) for results in runs]
    path.write_text("\n".join(json.dumps(entry) for entry in entries))
    assert "| t | b | 2 | 3 |" in run.history(path)


def test_the_fewest_steps() -> None:
    assert suite.fewest(lambda steps: steps >= 1) == 1
    assert suite.fewest(lambda steps: steps >= 100, most=100) == 100
    with pytest.raises(suite.LeftOut, match="in 99 steps"):
        suite.fewest(lambda steps: steps >= 100, most=99)


@pytest.mark.parametrize("quick", [False, True])
def test_cases_name_functions_that_exist(quick: bool) -> None:
    cases = [case for subject in run.SUBJECTS for case in subject.cases(quick)]
    cases += run.startup.cases(quick, "HEAD")
    assert len({case.name for case in cases}) == len(cases)
    for contender in (one for case in cases for one in case.contenders):
        module, function = contender.make.split(":")
        assert callable(getattr(sys.modules[module], function))
