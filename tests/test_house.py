"""Where things stand: rooms, what they import, and what the documentation says of them."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
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
            if isinstance(node, ast.Call) and not name.startswith("descents.storage."):
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
