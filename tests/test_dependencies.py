"""What is said of dependencies: their licenses, and known vulnerabilities."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

import audit

ROOT = Path(__file__).parents[1]


def rows() -> dict[str, str]:
    text = (ROOT / "docs" / "dependencies.md").read_text()
    found = re.findall(r"^\| ([a-z0-9-]+) \| ([^|]+) \| ", text, flags=re.MULTILINE)
    return {name: kind for name, kind in found if name != "package"}


def test_every_dependency_has_its_license_on_the_page() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = {re.match(r"[a-z0-9-]+", one)[0] for one in project["dependencies"]}
    assert direct <= set(rows())
    assert "see the package" not in rows().values()


def test_no_license_obliges_who_uses_descents_to_share_code() -> None:
    strict = re.compile(r"\b(A?GPL|SSPL)", re.IGNORECASE)
    assert not [name for name, kind in rows().items() if strict.search(kind)]


@pytest.mark.parametrize(
    ("found", "code", "words"),
    [
        ("no json", 0, "Not audited"),
        ({"dependencies": [{"name": "a", "skip_reason": "not found"}]}, 0, "Not audited"),
        ({"dependencies": [{"name": "a", "version": "1", "vulns": []},
                           {"name": "b", "skip_reason": "not found"}]},
         0, "1 package audited, no known vulnerability (1 not known"),
        ({"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "X-1"}]}]},
         1, "known vulnerabilities in a 1: X-1"),
    ],
)  # fmt: skip
def test_what_an_audit_says(found, code, words) -> None:
    text = found if isinstance(found, str) else json.dumps(found)
    assert audit.judged(text)[0] == code
    assert words in audit.judged(text)[1]
