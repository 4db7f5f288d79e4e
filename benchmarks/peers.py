"""Install the peers of the benchmarks one by one; one that fails does not stop the rest.

Why it failed is kept beside the environment, for RESULTS.md to say.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib

from run import FAILED_INSTALLS, HERE

DATA = [["lda==3.0.2", "--no-deps"]]
"""Of what only the data are asked for: word counts of Reuters."""


def main() -> None:
    """Install, and write down what failed."""
    declared = tomllib.loads((HERE.parent / "pyproject.toml").read_text())
    failed = {}
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint"]
    pip.append(str(HERE.parent / "constraints.txt"))
    peers = [[peer] for peer in declared["project"]["optional-dependencies"]["peers"]]
    for peer, *options in [*peers, *DATA]:
        done = subprocess.run(
            [*pip, *options, peer],
            check=False,
            stderr=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if "ERROR" in line]
            failed[peer] = said[-1] if said else f"pip ended with {done.returncode}"
            print(f"{peer} does not install: {failed[peer]}", file=sys.stderr)
    FAILED_INSTALLS.write_text(json.dumps(failed))


if __name__ == "__main__":
    main()
