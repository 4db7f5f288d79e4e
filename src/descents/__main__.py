"""Entry point of the command ``descents`` and of ``python -m descents``."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command; an interrupt while modules are loaded is handled as a later one."""
    left = "; nothing was kept yet, and the same command starts again"
    try:
        from descents.cli.main import main as run

        left = ""
        return run()
    except KeyboardInterrupt:
        print(f"descents: interrupted{left}.", file=sys.stderr)  # noqa: T201
        return 130
    except Exception:  # a bug: print the traceback, with control characters escaped
        import traceback

        from descents.text import visible

        sys.stderr.write(visible(traceback.format_exc()))
        return 1


if __name__ == "__main__":
    sys.exit(main())
