"""Write dependencies.md: the packages that descents needs at run time, and their licenses.

`make schemas` runs it. The licenses are those that the installed packages declare.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

PAGE = Path(__file__).parent / "dependencies.md"
INTRO = """# Dependencies and their licenses

descents itself has the license BSD-3-Clause (`LICENSE`). These are the packages that
`pip install descents` installs, without those of an extra. Builds of PyTorch for GPUs also install
libraries of NVIDIA, under NVIDIA's licenses. The licenses are those that the packages declare;
`make schemas` writes this page from the installed packages, and `make audit` looks for known
vulnerabilities with pip-audit.

| package | license | needed by |
| --- | --- | --- |
"""
COMMON = {
    "BSD License": "BSD",
    "MIT License": "MIT",
    "Apache Software License": "Apache-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Apache License 2.0": "Apache-2.0",
}
"""Licenses as classifiers name them, and a short name."""


def required() -> dict[str, set[str]]:
    """Return the packages that descents requires, directly or not, and who requires each."""
    found: dict[str, set[str]] = {}
    waiting = ["descents"]
    while waiting:
        parent = waiting.pop()
        for text in distribution(parent).requires or []:
            one = Requirement(text)
            if one.marker is not None and not one.marker.evaluate({"extra": ""}):
                continue
            name = re.sub(r"[-_.]+", "-", one.name).lower()
            try:
                distribution(name)
            except PackageNotFoundError:  # another platform's
                continue
            if name not in found:
                waiting.append(name)
            found.setdefault(name, set()).add(parent)
    return found


def license_of(name: str) -> str:
    """Return the license that an installed package declares."""
    facts = distribution(name).metadata
    said = [
        line.rpartition(" :: ")[2]
        for line in facts.get_all("Classifier") or []
        if line.startswith("License :: ") and not line.endswith("OSI Approved")
    ]
    text = facts.get("License-Expression") or " and ".join(said)
    text = text or (facts.get("License") or "").partition("\n")[0]
    return COMMON.get(text, text) or "see the package"


def page() -> str:
    """Return the text of the page."""
    lines = [
        f"| {name} | {license_of(name)} | {', '.join(sorted(parents))} |"
        for name, parents in sorted(required().items())
    ]
    return INTRO + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
