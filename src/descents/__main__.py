"""The command, and ``python -m descents``."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command; an interrupt while it is loaded ends as any later one does."""
    try:
        from descents.cli import main as run

        return run()
    except KeyboardInterrupt:
        print("descents: interrupted.", file=sys.stderr)  # noqa: T201
        return 130


if __name__ == "__main__":
    sys.exit(main())
