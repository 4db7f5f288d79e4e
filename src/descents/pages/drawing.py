"""Draws pages in a separate process, which loads its libraries in advance.

matplotlib takes a second to load and to draw its first picture. A command that draws at
its end starts this process at its beginning, so that matplotlib loads while torch does.
Two copies of the process then share the pictures.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from descents.devices import processors
from descents.signals import exit_with

if TYPE_CHECKING:
    from descents.pages.page import Contents

DONE = "done"
"""The answer when a page was drawn; otherwise the caller draws it and gets the error."""
AT_ONCE = 2
"""Number of processes that share the pictures of a page."""


@contextlib.contextmanager
def drawing(command: str, *, ahead: bool = True) -> Iterator[Callable[..., None]]:
    """Prepare to draw; yield a function with the first two arguments of `page.draw`.

    No process is started if `ahead` is False, or if it would save no time: if torch is
    already loaded, or if there is only one processor.

    Examples
    --------
    >>> with drawing("train") as draw:
    ...     callable(draw)
    True
    """
    if not ahead or "torch" in sys.modules or processors() < AT_ONCE:
        yield _draw_here
        return
    # The process must import the same modules as this one.
    source = f"import sys; sys.path[:] = {sys.path!r}; import {__name__} as here; here.serve({command!r}, {os.getpid()})"
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", source],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )

    def draw(folder: Path, contents: Contents | None = None) -> None:
        answer = b""
        with contextlib.suppress(OSError):  # the process has died
            if process.stdin and process.stdout:
                pickle.dump((folder.absolute(), contents), process.stdin)
                process.stdin.flush()
                answer = process.stdout.readline()
        if answer.decode().strip() != DONE:
            _draw_here(folder, contents)

    try:
        yield draw
    finally:
        process.kill()
        process.communicate()


def _draw_here(folder: Path, contents: Contents | None = None) -> None:
    from descents.pages.page import draw

    draw(folder, contents)


def serve(command: str, parent: int) -> None:
    """Draw the pages of the pickled runs of a command on standard input, until it ends.

    If the parent process has ended, this one ends within seconds, whatever it does.
    """
    import gc
    import multiprocessing
    import signal

    exit_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process ends this one
    from descents.pages import page

    page.warm(command)
    gc.disable()  # the process is short, so there is little garbage
    fork = "fork" in multiprocessing.get_all_start_methods()
    with contextlib.ExitStack() as stack:
        mapping = None
        if fork:  # copies of this process have the libraries loaded
            pool = multiprocessing.get_context("fork").Pool(
                AT_ONCE, exit_with, (os.getpid(),)
            )
            mapping = stack.enter_context(pool).imap
        stack.enter_context(contextlib.suppress(EOFError))
        while True:
            # The parent process wrote it.
            folder, contents = pickle.load(sys.stdin.buffer)  # noqa: S301
            page.draw(folder, contents, mapping)  # an error ends this process
            print(DONE, flush=True)  # noqa: T201
