"""Pages drawn by a process that makes ready while others are at work.

The drawing library takes a second to load and to draw its first picture. A command that
draws at its end starts this process at its beginning, so that this second passes beside
the loading of torch; two of its copies then share the pictures.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from descents.checks import processors

DONE = "done"
"""What is answered when a page is drawn; else who asked draws it, and meets the error."""
AT_ONCE = 2
"""How many processes share the pictures of a page."""


@contextlib.contextmanager
def drawing(*, ahead: bool = True) -> Iterator[Callable[[Path], None]]:
    """Make ready to draw; what is returned draws the page of a stored run.

    Where torch is loaded already, or there is one processor alone, nothing is started:
    there is no time to be won. Nor is it where it is not to be made ready ahead.

    Examples
    --------
    >>> with drawing() as draw:
    ...     callable(draw)
    True
    """
    if not ahead or "torch" in sys.modules or processors() < AT_ONCE:
        yield _draw_here
        return
    # The same modules as here, wherever they came from.
    source = f"import sys; sys.path[:] = {sys.path!r}; import {__name__} as here; here.serve()"
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", source],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def draw(folder: Path) -> None:
        answer = ""
        with contextlib.suppress(OSError):  # it has died
            print(folder.absolute(), file=process.stdin, flush=True)
            answer = process.stdout.readline() if process.stdout else ""
        if answer.strip() != DONE:
            _draw_here(folder)

    try:
        yield draw
    finally:
        process.kill()
        process.communicate()


def _draw_here(folder: Path) -> None:
    from descents.report.page import draw

    draw(folder)


def serve() -> None:
    """Draw the pages that standard input names, a line each, until it ends."""
    import gc
    import multiprocessing
    import signal

    from descents.report import page

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it ends it
    page.warm()
    gc.disable()  # it draws a few pictures and ends: what is to be found again is little
    fork = "fork" in multiprocessing.get_all_start_methods()
    with contextlib.ExitStack() as stack:
        each = None
        if fork:  # copies that are as ready as this one
            pool = multiprocessing.get_context("fork").Pool(AT_ONCE)
            each = stack.enter_context(pool).imap
        for line in sys.stdin:
            page.draw(Path(line.rstrip("\n")), each)  # an error ends it
            print(DONE, flush=True)  # noqa: T201
