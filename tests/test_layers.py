"""The import order of the house, read from the code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "descents"
ORDER = [
    "checks",
    "data.storage",
    "data.dates",
    "data.frames",
    "data.arrays",
    "data.numerals",
    "data.tables",
    "data.scales",
    "data.levels",
    "data.conventions",
    "data.text_columns",
    "data.files",
    "data.written",
    "data.blocks",
    "data.datasets",
    "losses.base",
    "losses.numbers",
    "losses.divergences",
    "losses.levels",
    "losses.named",
    "losses",
    "problems.compiled",
    "problems.metrics",
    "problems.sets",
    "problems.constraints",
    "problems.columns",
    "problems.cells",
    "problems.entries",
    "problems.layouts",
    "problems.streamed",
    "problems.observed",
    "problems.problem",
    "problems.rules",
    "problems.spectra",
    "problems.factorization",
    "problems.alternating",
    "problems.guarded",
    "problems.candidates",
    "problems.rescaled",
    "problems.features",
    "problems.batches",
    "problems.scores",
    "problems.fused",
    "problems.labeled",
    "problems.bound_supervised",
    "problems.supervised",
    "problems.network",
    "problems.modules",
    "descent.runs",
    "descent.steps",
    "descent.recording",
    "descent.pace",
    "descent.stopping",
    "descent.chunk",
    "descent.workers",
    "descent.loop",
    "answers.references",
    "answers.curvature",
    "answers.evidence",
    "answers.diagnosis",
    "answers.compare",
    "answers.statistics",
    "answers.tables",
    "answers.planning",
    "answers.differences",
    "answers.simultaneous",
    "answers.effects",
    "answers.blanks",
    "answers.fills",
    "answers.fitted",
    "answers.folds",
    "answers.selection",
    "answers.intervals",
    "marginal.features",
    "marginal.patterns",
    "marginal.gaussian",
    "marginal.maximization",
    "marginal.posterior",
    "marginal.wide",
    "marginal.held_out",
    "marginal.calibration",
    "marginal.refinement",
    "marginal.model",
    "marginal.draws",
    "marginal.intervals",
    "marginal.tables",
    "marginal.pooling",
    "marginal.stored",
    "marginal.sightings",
    "marginal.both_parameters",
    "marginal.both_rows",
    "marginal.both_sides",
    "marginal.both_turns",
    "marginal.both_steps",
    "marginal.ratings",
    "estimators.intake",
    "estimators.saved",
    "estimators.using",
    "estimators.lowrank",
    "estimators.transformer",
    "estimators.imputer",
    "estimators.ratings",
    "estimators.training",
    "estimators.networks",
    "studies.claims",
    "studies.experiments",
    "studies.ten_starts",
    "studies.reproduce",
    "studies.asked",
    "studies.streamed",
    "studies.factorize",
    "studies.applied",
    "studies.filling",
    "studies.filled_facts",
    "studies.impute",
    "studies.sweep",
    "studies.train",
    "studies.trained",
    "studies.stored",
    "report.figures",
    "report.reproduced",
    "report.factorized",
    "report.imputed",
    "report.trained",
    "report.page",
    "report.drawing",
    "commands.shared",
    "commands.reproduce",
    "commands.impute",
    "commands.factorize",
    "commands.train",
    "cli",
]
KINDS = {"problems.factorization", "problems.alternating", "problems.network"}
FOLDERS = {name.split(".")[0] for name in ORDER}
UNORDERED = {"__init__", "__main__"}


def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        gathered = name.removesuffix(".__init__")
        if gathered in ORDER or name.rsplit(".")[-1] not in UNORDERED:
            found[gathered] = path
    return found


def imports(path: Path) -> set[str]:
    """Return the modules of the package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            base = node.module or ""
            if base == "descents":  # the lazy names would hide where they come from
                assert {alias.name for alias in node.names} <= {"__version__", *FOLDERS}
            found |= {f"{base}.{alias.name}" for alias in node.names} | {base}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    inside = {name.removeprefix("descents.") for name in found if "descents." in name}
    return inside & set(ORDER)


def test_every_module_has_its_place() -> None:
    assert sorted(modules()) == sorted(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_imports_come_from_above(name: str) -> None:
    allowed = set(ORDER[: ORDER.index(name)])
    wrong = imports(modules()[name]) - allowed
    assert not wrong, f"{name} imports {sorted(wrong)}, which is not above it"


def test_the_loop_names_no_kind_and_kinds_name_no_loop() -> None:
    found = modules()
    for name in ORDER:
        if name.startswith("descent."):
            assert not imports(found[name]) & KINDS
        if name.startswith("problems."):
            assert not any(used.startswith("descent.") for used in imports(found[name]))


def test_the_test_sees_a_wrong_import(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text("def f():\n    from descents.descent import loop\n")
    assert imports(wrong) == {"descent.loop"}
    wrong.write_text("from descents import descend\n")
    with pytest.raises(AssertionError):
        imports(wrong)


def test_only_storage_writes_files() -> None:
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and name != "data.storage":
                called = ast.unparse(node.func)
                assert called != "open", name
                assert not called.endswith((".write_text", ".mkdir", ".rename")), name
