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
    except Exception:  # a defect, shown as Python shows it, but for control characters
        import traceback

        from descents.checks import visible

        sys.stderr.write(visible(traceback.format_exc()))
        return 1


if __name__ == "__main__":
    sys.exit(main())
