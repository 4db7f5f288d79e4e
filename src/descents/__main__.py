"""Entry point of the command ``descents`` and of ``python -m descents``."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command; an interrupt while modules are loaded is handled as a later one."""
    try:
        from descents.cli.main import main as run

        return run()
    except KeyboardInterrupt:
        print("descents: interrupted.", file=sys.stderr)  # noqa: T201
        return 130
    except Exception:  # a bug: print the traceback, with control characters escaped
        import traceback

        from descents.text import visible

        sys.stderr.write(visible(traceback.format_exc()))
        return 1


if __name__ == "__main__":
    sys.exit(main())
