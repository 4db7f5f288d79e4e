"""Where things stand: rooms, what they import, their sizes, and what documents say of them.

The sizes that are too large are listed with the size that they have. To raise a number or
to add an entry is to loosen the rule: split the file or the function instead.
"""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "descents"
CONTRACT = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
LAYERS = CONTRACT["contracts"][0]["layers"]
ROOMS = [room for layer in LAYERS for room in layer.split(" | ")]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


def modules() -> dict[str, Path]:
    """Return every module of the package by its dotted name."""
    return {
        ".".join(("descents", *path.relative_to(PACKAGE).with_suffix("").parts)): path
        for path in PACKAGE.rglob("*.py")
    }


def test_every_room_is_a_layer() -> None:
    there = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    there |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert there == set(ROOMS)


@pytest.mark.parametrize("name", sorted(modules()))
def test_modules_import_from_where_a_name_is_defined(name: str) -> None:
    # The lazy names of a room would hide from the contract what is imported.
    for node in ast.walk(ast.parse(modules()[name].read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            base = node.module or ""
            if base.split(".")[0] != "descents" or base == "descents.losses":
                continue
            for alias in node.names:
                full = f"{base}.{alias.name}"
                is_module = full in modules() or f"{full}.__init__" in modules()
                in_module = base in modules()
                assert is_module or in_module or alias.name == "__version__", full


@pytest.mark.parametrize("room", [room for room in ROOMS if (PACKAGE / room).is_dir()])
def test_rooms_export_names_that_exist(room: str) -> None:
    package = importlib.import_module(f"descents.{room}")
    assert package.__doc__
    for name in getattr(package, "__all__", ()):
        assert getattr(package, name) is not None
        assert not (PACKAGE / room / f"{name}.py").exists(), name


def test_only_storage_writes_files() -> None:
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and name != "descents.storage.folders":
                called = ast.unparse(node.func)
                assert called != "open", name
                assert not called.endswith((".write_text", ".mkdir", ".rename")), name


def test_documents_import_from_rooms_only() -> None:
    deeper = re.compile(r"(?:from|import) descents\.\w+\.\w+")
    for path in [
        *ROOT.glob("docs/*.md"),
        ROOT / "README.md",
        *ROOT.glob("examples/*.py"),
    ]:
        found = deeper.findall(path.read_text())
        assert not found, f"{path.name}: {found}"


def test_the_picture_of_the_rooms_is_the_contract() -> None:
    picture = ARCHITECTURE.split("```text")[1].split("```")[0]
    named = re.findall(r"^(\w+(?: \| \w+)*) ", picture, re.MULTILINE)
    assert named == [layer for layer in LAYERS if layer != "__main__"]


def test_what_the_walks_name_exists() -> None:
    """Every `descents.room.module.name` of the walks is there, and in that order."""
    walked = re.findall(r"`descents\.([\w.]+)`", ARCHITECTURE)
    assert len(walked) > 15
    for dotted in walked:
        parts = dotted.split(".")
        found = None
        for cut in range(len(parts), 0, -1):
            if ".".join(("descents", *parts[:cut])) in modules():
                found = importlib.import_module(".".join(("descents", *parts[:cut])))
                break
        assert found is not None, dotted
        for name in parts[cut:]:
            found = getattr(found, name)


FILE_LINES, TEST_LINES, FUNCTION_LINES = 500, 800, 60
ARGUMENTS, CONSTRUCTOR_ARGUMENTS = 10, 20
ANY = 975
"""How often the package may say `Any`. It should fall to 250."""

LARGE_FILES = {
    "cells/columns.py": 703,
    "cells/layouts.py": 944,
    "cli/factorize.py": 697,
    "cli/train.py": 537,
    "factorization/alternating.py": 770,
    "factorization/factorization.py": 1118,
    "losses/levels.py": 708,
    "losses/numbers.py": 585,
    "lowrank/fitted.py": 629,
    "lowrank/model.py": 1112,
    "lowrank/noise.py": 515,
    "lowrank/prediction.py": 599,
    "lowrank/selection.py": 696,
    "marginal/imputer.py": 832,
    "networks/batches.py": 542,
    "networks/estimators.py": 1005,
    "networks/modules.py": 611,
    "networks/network.py": 566,
    "networks/sweep.py": 637,
    "networks/training.py": 516,
    "pages/figures.py": 662,
    "reproduction/report.py": 633,
    "reproduction/ten_starts.py": 509,
    "runs/factorize.py": 603,
    "runs/request.py": 680,
    "runs/train.py": 983,
    "storage/folders.py": 550,
    "tables/blocks.py": 528,
    "tables/files.py": 664,
    "tables/levels.py": 747,
    "tables/numerals.py": 598,
    "tables/tables.py": 700,
}
"""Files with more lines than the rule, and how many they may have."""

LONG_FUNCTIONS = {
    "cells: cells": 62,
    "cli: apply": 62,
    "cli: factorize": 80,
    "cli: train": 74,
    "factorization: _streamed": 64,
    "lowrank: LowRank.fit": 61,
    "lowrank: by_cells": 87,
    "marginal: fit": 80,
    "networks: Labeled.__init__": 83,
    "networks: Network.__init__": 73,
    "networks: Target.of_column": 62,
    "networks: train_module": 61,
    "reproduction: _facts": 91,
    "runs: _result": 65,
    "runs: factorize": 65,
}
"""Functions with more lines than the rule, docstrings not counted, by room and name."""

MANY_ARGUMENTS = {
    "lowrank: LowRank.__init__": 21,
    "networks: Network.__init__": 21,
    "networks: descend_network": 14,
    "networks: train_module": 17,
    "optim: descend": 11,
}
"""Functions with more arguments than the rule, by room and name."""


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield the functions of a file with their names: those in a class after its name."""

    def within(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, ast.FunctionDef | ast.ClassDef)
            name = f"{prefix}{child.name}" if named else prefix
            if isinstance(child, ast.FunctionDef):
                yield name, child
            yield from within(child, f"{name}." if named else prefix)

    room = path.relative_to(PACKAGE).parts[0]
    for name, function in within(ast.parse(path.read_text()), ""):
        yield f"{room}: {name}", function


def test_files_are_short() -> None:
    for path in [*PACKAGE.rglob("*.py"), *ROOT.glob("tests/*.py")]:
        name = str(path.relative_to(PACKAGE if PACKAGE in path.parents else ROOT))
        most = TEST_LINES if name.startswith("tests/") else FILE_LINES
        lines = path.read_text().count("\n")
        assert lines <= LARGE_FILES.get(name, most), f"{name} has {lines} lines"


def test_functions_are_short() -> None:
    for path in modules().values():
        for name, function in functions(path):
            lines = (function.end_lineno or 0) - function.lineno + 1
            if ast.get_docstring(function) is not None:
                documentation = function.body[0]
                lines -= (documentation.end_lineno or 0) - documentation.lineno + 1
            most = LONG_FUNCTIONS.get(name, FUNCTION_LINES)
            assert lines <= most, f"{name} in {path.name} has {lines} lines"


def test_functions_have_few_arguments() -> None:
    for path in modules().values():
        for name, function in functions(path):
            given = function.args
            names = [a.arg for a in given.posonlyargs + given.args + given.kwonlyargs]
            count = len(names) - (names[:1] in (["self"], ["cls"]))
            constructs = name.endswith(".__init__")
            most = CONSTRUCTOR_ARGUMENTS if constructs else ARGUMENTS
            most = MANY_ARGUMENTS.get(name, most)
            assert count <= most, f"{name} in {path.name} has {count} arguments"


def test_types_are_named() -> None:
    """`Any` switches the type checker off, so its number may only fall."""
    count = 0
    for path in modules().values():
        for node in ast.walk(ast.parse(path.read_text())):
            count += isinstance(node, ast.Name) and node.id == "Any"
            count += isinstance(node, ast.Constant) and node.value == "Any"
    assert count <= ANY
