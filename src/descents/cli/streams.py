"""Standard input, output and error: what is printed must not end what is computed."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO

from descents.text import visible


class Lossy:
    """Wrapper of a text stream that goes on if it cannot be written to.

    A disk may be full, or the stream may be closed; the work goes on, and the command says
    at its end what was lost.

    Parameters
    ----------
    stream : text stream or None
        None is a stream that was closed when the process began.
    keeps_pipes : bool
        Whether a pipe that nobody reads any more is such a fault too. If not, it ends the
        command, as in ``descents ... | head -1``.

    Attributes
    ----------
    lost : str or None
        Why something could not be written.

    Examples
    --------
    >>> lossy = Lossy(None)
    >>> _ = lossy.write("nobody reads this")
    >>> lossy.lost
    'it is closed'
    """

    def __init__(self, stream: TextIO | None, *, keeps_pipes: bool = False) -> None:
        self.lost: str | None = None
        self._closed = stream is None
        self._keeps_pipes = keeps_pipes
        self.stream: TextIO = io.StringIO() if stream is None else stream

    def write(self, text: str) -> int:
        """Write a text, unless that is impossible."""
        if self._closed:
            self.lost = "it is closed" if text else self.lost
        elif self.lost is None:
            self._attempt(lambda: self.stream.write(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what is in the buffer, unless that is impossible."""
        if not self._closed and self.lost is None:
            self._attempt(self.stream.flush)

    def _attempt(self, action: Callable[[], object]) -> None:
        try:
            action()
        except BrokenPipeError:
            if not self._keeps_pipes:
                raise
            self._lose("nobody reads it")
        except (OSError, ValueError) as error:  # a ValueError of a closed stream
            self._lose(getattr(error, "strerror", None) or str(error))

    def _lose(self, why: str) -> None:
        self.lost = why
        # The interpreter writes what is in the buffer at its end, which would fail again.
        with contextlib.suppress(OSError, ValueError):
            discard(self.stream)

    def __getattr__(self, name: str) -> object:
        """Return an attribute of the wrapped stream."""
        return getattr(self.stream, name)


class Visible:
    """Wrapper of a text stream that escapes control characters."""

    def __init__(self, stream: TextIO | Lossy) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text with its control characters escaped."""
        self.stream.write(visible(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> object:
        """Return an attribute of the wrapped stream."""
        return getattr(self.stream, name)


def discard(stream: TextIO) -> None:
    """Send what is written to a stream from now on nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)


@contextlib.contextmanager
def standard_streams() -> Iterator[Lossy]:
    """Escape control characters in all output, and survive output that fails.

    Yields
    ------
    Lossy
        Standard output.
    """
    _open_descriptors()
    streams = sys.stdout, sys.stderr
    if isinstance(streams[0], io.TextIOWrapper):
        streams[0].reconfigure(errors="replace")  # the terminal may lack characters
    output, errors = Lossy(streams[0]), Lossy(streams[1], keeps_pipes=True)
    sys.stdout, sys.stderr = Visible(output), Visible(errors)
    try:
        yield output
    finally:
        sys.stdout, sys.stderr = streams


def _open_descriptors() -> None:
    """Open the standard streams that are closed.

    Their numbers would be given to the next files that are opened, and what a library or a
    child process prints would be written into these.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
