"""Look for known vulnerabilities of the installed packages, where that can be done.

``python tests/audit.py`` runs pip-audit. Without a connection to a service that knows
vulnerabilities, pip-audit finds no package there; this is said, and is no failure. The exit
code is 1 if a package has a known vulnerability.
"""

from __future__ import annotations

import json
import subprocess
import sys


def judged(text: str) -> tuple[int, str]:
    """Return the exit code and a sentence for the output of pip-audit.

    Examples
    --------
    >>> judged('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}')
    (0, '1 package audited, no known vulnerability.')
    >>> judged("")
    (0, 'Not audited: pip-audit could not reach a service that knows vulnerabilities.')
    """
    try:
        found = json.loads(text)["dependencies"]
    except (ValueError, LookupError, TypeError):
        found = []
    audited = [one for one in found if "vulns" in one]
    if not audited:
        return 0, (
            "Not audited: pip-audit could not reach a service that knows vulnerabilities."
        )
    bad = [
        f"{one['name']} {one['version']}: {', '.join(v['id'] for v in one['vulns'])}"
        for one in audited
        if one["vulns"]
    ]
    packages = f"{len(audited)} package{'s' if len(audited) > 1 else ''} audited"
    if bad:
        return 1, f"{packages}, known vulnerabilities in {'; '.join(bad)}."
    skipped = len(found) - len(audited)
    rest = f" ({skipped} not known to the service)" if skipped else ""
    return 0, f"{packages}, no known vulnerability{rest}."


def main() -> int:
    """Run pip-audit and say what it found."""
    command = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable"]
    done = subprocess.run(
        [*command, "--format", "json", "--progress-spinner", "off"],
        capture_output=True,
        text=True,
        check=False,
    )
    code, says = judged(done.stdout)
    sys.stdout.write(f"{says}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
