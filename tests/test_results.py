"""Results are dataclasses: page, terminal, JSON and its schema read the same object."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jsonschema
import numpy as np
import pytest

from conftest import run_python
from descents.cli.main import main
from descents.errors import RunFolderError
from descents.pages.page import read_run
from descents.reproduction import report
from descents.reproduction.report import Reproduction
from descents.reproduction.result import ReproductionResult
from descents.runs.train_result import NetworkResult
from descents.storage.files import read_table, read_tensors
from descents.storage.results import (
    Count,
    Interval,
    Number,
    Result,
    json_schema,
    of_json,
    read_result,
)
from descents.storage.values import json_text, plain

DOCS = Path(__file__).parents[1] / "docs"


@dataclass(frozen=True, kw_only=True)
class Part(Result):
    """A part."""

    word: Annotated[str, ("enum", ("low", "high"))]
    ends: Annotated[Interval | None, "An interval."] = None


@dataclass(frozen=True, kw_only=True)
class Whole(Result):
    """A whole.

    With more to say.
    """

    count: Annotated[Count, "A count."]
    value: Number
    level: str | float
    parts: list[Part]
    named: dict[str, Part]
    one: Part | None
    anything: Any
    open: dict[str, Any]
    flag: bool = True
    side: Annotated[str, ("enum", ("left", "right"))] | None = None


def whole(**changes: Any) -> Whole:
    part = Part(word="low", ends=(0.5, float("inf")))
    values: dict[str, Any] = {
        "count": np.int64(3),
        "value": np.float32(0.5),
        "level": "a",
        "parts": (part, Part(word="high")),
        "named": {"b": part},
        "one": None,
        "anything": np.arange(2),
        "open": {1: (np.nan, "x")},
    }
    return Whole(**{**values, **changes})


def test_a_result_has_the_values_of_its_json() -> None:
    found = whole()
    assert (found.count, type(found.count)) == (3, int)
    assert type(found.value) is float
    assert found.parts[0].ends == [0.5, None]
    assert found.anything == [0, 1]
    assert found.open == {"1": [None, "x"]}
    text = json_text(found)
    again = of_json(Whole, json.loads(text))
    assert again == found
    assert isinstance(again.named["b"], Part)
    assert of_json(Whole, json.loads(json_text(whole(one=Part(word="low"))))).one
    assert of_json(Whole, {**json.loads(text), "later": 1}) == found


def test_the_schema_accepts_results_and_nothing_else() -> None:
    schema = json_schema(Whole, "a whole")
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["description"] == "A whole."
    assert schema["required"] == [
        *("count", "value", "level", "parts", "named", "one", "anything", "open")
    ]
    assert schema["properties"]["count"] == {
        "type": "integer",
        "minimum": 0,
        "description": "A count.",
    }
    good = plain(whole())
    jsonschema.validate(good, schema)
    jsonschema.validate({**good, "value": None, "level": 1.5}, schema)
    jsonschema.validate({**good, "side": "left"}, schema)
    jsonschema.validate({**good, "one": {"word": "high"}, "flag": False}, schema)
    for name, wrong in (
        ("count", -1),
        ("count", None),
        ("value", "1"),
        ("level", None),
        ("parts", [{"word": "between"}]),
        ("parts", [{"ends": [0, 1]}]),
        ("named", {"b": {"word": "low", "ends": [0]}}),
        ("one", 3),
        ("open", []),
        ("flag", 1),
        ("side", "middle"),
        ("unknown", 1),
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**good, name: wrong}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({n: v for n, v in good.items() if n != "open"}, schema)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "is damaged, or was written by another version"),
        ('{"count": 1', "cannot be read"),
        (None, "is damaged, or was written by another version"),
    ],
)
def test_a_damaged_result_is_refused(tmp_path: Path, text: str, words: str) -> None:
    if text is None:
        text = json.dumps({**plain(whole()), "parts": [{}]})
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(RunFolderError, match=words) as caught:
        read_result(Whole, path)
    if "damaged" in words:  # what is lacking is in the traceback, not in the sentence
        assert "lacks" in str(caught.value.__cause__)


def test_the_schemas_in_docs_are_generated() -> None:
    """`make schemas` writes them."""
    script = run_python(
        "import runpy, json\n"
        f"print(json.dumps(runpy.run_path({str(DOCS / 'schemas.py')!r})['texts']()))"
    )
    assert script.returncode == 0, script.stderr
    for name, text in json.loads(script.stdout).items():
        assert (DOCS / name).read_text() == text, f"run make schemas: {name} is old"


@pytest.fixture(scope="module")
def table(tmp_path_factory: Any) -> Path:
    path = tmp_path_factory.mktemp("results") / "t.csv"
    rows = [f"{k % 7},{k % 5 / 2},{'no' if k % 7 < 3 else 'yes'}" for k in range(40)]
    path.write_text("\n".join(["a,b,c", *rows, ""]))
    return path


TRAIN = ["--target", "c", "--starts", "4", "--epochs", "4", "--hidden", "3"]


@pytest.fixture(scope="module")
def trained(table: Path) -> Path:
    out = table.parent / "trained"
    assert main(["train", str(table), *TRAIN, "--out", str(out), "--quiet"]) == 0
    return out


def forbidden(*_: Any, **__: Any) -> None:
    raise AssertionError("a result was read back")


def nothing_is_read(monkeypatch: Any) -> None:
    """Make every function that reads a stored run fail."""
    # A module that is imported meanwhile would keep the replaced functions.
    importlib.import_module("descents.runs.stored")
    readers = ("read_json", "read_table", "read_result", "read_run")
    for module in [m for n, m in sys.modules.items() if n.startswith("descents.")]:
        for name in readers:
            if name in vars(module):
                monkeypatch.setattr(module, name, forbidden)


def test_nothing_is_read_back_to_be_printed(
    table: Path, trained: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    nothing_is_read(monkeypatch)
    out = tmp_path / "run"
    assert main(["train", str(table), *TRAIN, "--out", str(out), "--json"]) == 0
    monkeypatch.undo()
    assert capsys.readouterr().out == (out / "result.json").read_text()
    pages = [
        re.sub(r"[\d.]+ s</dd>", "", (folder / "report.html").read_text())
        for folder in (out, trained)
    ]
    assert pages[0] == pages[1]


def test_nothing_of_impute_is_read_back(
    table: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    command = ["impute", str(table), str(tmp_path / "f.csv"), "--json"]
    out = tmp_path / "run"
    nothing_is_read(monkeypatch)
    assert main([*command, "--out", str(out)]) == 0
    new = capsys.readouterr().out
    target, other = str(tmp_path / "g.csv"), str(tmp_path / "other")
    monkeypatch.undo()  # the model is read
    assert main(["apply", str(out), str(table), target, "--json", "--out", other]) == 0
    applied = capsys.readouterr().out
    assert applied == (tmp_path / "other" / "result.json").read_text()
    assert new == (out / "result.json").read_text()
    page = (out / "report.html").read_bytes()
    assert main([*command, "--out", str(out), "--resume"]) == 0
    assert capsys.readouterr().out == new
    assert main(["report", str(out)]) == 0
    assert (out / "report.html").read_bytes() == page


def test_nothing_of_reproduce_is_read_back(
    whole: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    """The study itself is replaced by its stored result."""
    found = Reproduction(
        read_result(ReproductionResult, whole / "result.json"),
        read_table(whole / "starts.parquet"),
        read_tensors(whole / "tensors.safetensors")[0],
    )
    monkeypatch.setattr(report, "reproduce", lambda *_, **__: found)
    nothing_is_read(monkeypatch)
    out = tmp_path / "run"
    assert main(["reproduce", "--out", str(out)]) == 0
    monkeypatch.undo()
    printed = capsys.readouterr().out
    text = (whole / "printed.txt").read_text()
    assert printed.replace(str(out), "") == text.replace(str(whole), "")
    names = {path.name for path in whole.iterdir()} - {"printed.txt"}
    assert names == {path.name for path in out.iterdir()}
    for name in names - {"starts.parquet"}:
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    assert main(["reproduce", "--out", str(out), "--resume"]) == 0
    assert capsys.readouterr().out == printed


def test_a_stored_run_is_printed_and_drawn_like_a_new_one(
    table: Path, trained: Path, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "run"
    command = ["train", str(table), *TRAIN, "--out", str(out)]
    assert main(command) == 0
    new = capsys.readouterr().out
    assert main([*command, "--resume"]) == 0
    stored = capsys.readouterr().out
    assert "95% interval" in stored
    assert new.endswith(stored)  # it begins with the notes of the reader
    drawn = {path.name: path.read_bytes() for path in out.glob("*.*")}
    assert main(["report", str(out)]) == 0
    assert {path.name: path.read_bytes() for path in out.glob("*.*")} == drawn


BESIDE = """
import sys
from pathlib import Path
from descents.pages import drawing
from descents.storage import run_folders as storage
from descents.storage.files import read_table, read_tensors
from descents.storage.values import json_text, plain
from descents.storage.results import read_result
from descents.runs.train_result import NetworkResult
folder, other = map(Path, sys.argv[1:])
drawing.AT_ONCE = 1
drawing._draw_here = None  # the other process has to do it
tensors, _ = read_tensors(folder / storage.TENSORS)
result = read_result(NetworkResult, folder / storage.RESULT)
with drawing.drawing("train") as draw:
    draw(other, (result, read_table(folder / storage.ROWS), tensors))
assert "torch" not in sys.modules
"""


def test_another_process_draws_the_result_that_it_is_given(
    trained: Path, tmp_path: Path
) -> None:
    script = tmp_path / "beside.py"
    script.write_text(BESIDE)
    other = tmp_path / "other"
    other.mkdir()
    call = f"import runpy, sys; sys.argv = ['', {str(trained)!r}, {str(other)!r}]"
    done = run_python(f"{call}; runpy.run_path({str(script)!r})")
    assert done.returncode == 0, done.stderr
    pages = sorted(path.name for path in other.iterdir())
    assert "report.html" in pages
    for name in pages:
        assert (other / name).read_bytes() == (trained / name).read_bytes()


def test_a_stored_run_without_what_was_added_later_opens(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "run"
    shutil.copytree(trained, out)
    result = json.loads((out / "result.json").read_text())
    del result["formats"], result["encoding"][0]["never"]
    (out / "result.json").write_text(json.dumps(result))
    found = read_run(out).result
    assert isinstance(found, NetworkResult)
    assert found.formats is None
    assert main(["compare", str(out), str(trained), "--quiet"]) == 0
    del result["best"]
    (out / "result.json").write_text(json.dumps(result))
    with pytest.raises(
        RunFolderError, match="result.json is damaged, or was written by another"
    ):
        read_run(out)
