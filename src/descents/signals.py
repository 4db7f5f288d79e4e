"""Signals that end a command, and how what it was doing is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

ENDING = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""The signals that end a command, besides Ctrl-C."""
GRACE = 5.0
"""How many seconds a command has to end by itself after such a signal."""
TRACKER = "resource_tracker"
"""The process that removes shared memory when all others are gone; it is left alone."""
_Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers | None


class StoppedBySignalError(BaseException):
    """A signal ended the command.

    Like `KeyboardInterrupt` it is not an `Exception`, so that nothing takes it for an
    error of the work. Unlike an interrupt it is not answered with the results so far: who
    sends such a signal does not wait for them.

    Parameters
    ----------
    number : int
        The number of the signal.

    Examples
    --------
    >>> error = StoppedBySignalError(signal.SIGTERM)
    >>> str(error), error.code
    ('stopped by SIGTERM', 143)
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.code = 128 + number


def cause_of(error: BaseException) -> BaseException:
    """Return the signal or Ctrl-C that an error was raised from, or else the error.

    Python replaces what is raised while a class is made, as by an import, by a
    RuntimeError with the original as its cause.

    Examples
    --------
    >>> error = RuntimeError("Error calling __set_name__")
    >>> error.__cause__ = KeyboardInterrupt()
    >>> cause_of(error), cause_of(ValueError("x"))
    (KeyboardInterrupt(), ValueError('x'))
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt | StoppedBySignalError):
            return cause
        cause = cause.__cause__
    return error


_hints: list[Callable[[], str]] = []


def add_hint(says: Callable[[], str]) -> None:
    """Let a command that is stopped say what it leaves behind."""
    _hints.append(says)


def remove_hint(says: Callable[[], str]) -> None:
    """Take back what `add_hint` added."""
    if says in _hints:
        _hints.remove(says)


def hints() -> str:
    """Return what a stopped command leaves behind, and forget it.

    Examples
    --------
    >>> add_hint(lambda: "give --resume")
    >>> hints(), hints()
    ('; give --resume', '')
    """
    said = [says() for says in _hints]
    _hints.clear()
    return "".join(f"; {text}" for text in said if text)


@contextlib.contextmanager
def raised(
    end: Callable[[int], None], grace: float = GRACE, *, last: bool = False
) -> Iterator[None]:
    """Raise `StoppedBySignalError` in the main thread when a signal is to end the command.

    Only the first signal raises it: a second one would break off what the first began.
    A library may run for long without returning to Python, and then nothing is raised.
    So another thread waits for the signal too, and calls `end` after `grace` seconds.
    A signal that is ignored, as by ``nohup``, remains ignored.

    Parameters
    ----------
    end : callable
        Called with the number of the signal; it ends the process.
    grace : float
        In seconds.
    last : bool
        Whether the process ends after the block. After a signal, later ones are then
        ignored: they must not change its exit code.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    if not last:  # a command within a program, whose processes are not its own
        _spared.update(_children(os.getpid()))

    def handle(number: int, _: FrameType | None) -> None:
        if not arrived:
            arrived.append(number)
            raise StoppedBySignalError(number)

    former = {number: signal.getsignal(number) for number in ENDING}
    taken = [number for number in ENDING if former[number] == signal.SIG_DFL]
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    done = threading.Event()
    watcher = threading.Thread(
        target=_watch, args=(reading, taken, done, grace, end), daemon=True
    )
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    watcher.start()
    for number in taken:
        signal.signal(number, handle)
    try:
        yield
    finally:
        _spared.clear()
        done.set()
        for number in taken:
            ends = last and arrived
            signal.signal(number, signal.SIG_IGN if ends else former[number])
        signal.set_wakeup_fd(before)
        os.close(writing)  # the watcher reads the end, and returns
        watcher.join()
        os.close(reading)


def _watch(
    reading: int,
    taken: list[int],
    done: threading.Event,
    grace: float,
    end: Callable[[int], None],
) -> None:
    """Wait for a signal, and then for the end of the command."""
    while got := os.read(reading, 1):
        if got[0] in taken and not done.wait(grace):
            end(got[0])
            return


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Hold signals back until the block ends, also Ctrl-C: it takes only a moment."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    former: dict[int, _Handler] = {}
    for number in (signal.SIGINT, *ENDING):
        if callable(found := signal.getsignal(number)):
            former[number] = found
            signal.signal(number, lambda number, _: arrived.append(number))
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        for number in dict.fromkeys(arrived):
            signal.raise_signal(number)


@contextlib.contextmanager
def unreached_by_interrupts() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: this process ends them.

    A terminal sends it to all processes of a command, and one that is about to start would
    print a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


_spared: set[int] = set()
"""The processes that a program had started before it ran a command."""


def end_children() -> None:
    """Kill all processes that this command has started, and those that they have.

    The resource tracker is left: it ends by itself, and removes shared memory before.
    """
    end_tree(os.getpid(), itself=False)


def end_tree(root: int, *, itself: bool = True) -> None:
    """Kill a process and all that it has started, and that these have started."""
    for _ in range(3):  # a process may start another one in the meantime
        found = _descendants(root) + [root] * itself
        itself = False
        for process in found:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        if not found:
            return


def _descendants(process: int) -> list[int]:
    """Return the processes below one, without the resource tracker."""
    below: dict[int, list[int]] = {}
    for child, parent in _parents():
        below.setdefault(parent, []).append(child)
    found, waiting = [], [process]
    while waiting:
        children = [
            one
            for one in below.get(waiting.pop(), [])
            if one not in _spared and not _is_tracker(one)
        ]
        found += children
        waiting += children
    return found


def _children(process: int) -> list[int]:
    """Return the processes that one has started."""
    return [child for child, parent in _parents() if parent == process]


def _parents() -> list[tuple[int, int]]:
    """Return all processes with their parents."""
    pairs = []
    if Path("/proc/self/stat").exists():
        for place in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                # The name of the program, in parentheses, may contain anything.
                words = place.read_text(errors="replace").rpartition(")")[2].split()
                if words[0] != "Z":
                    pairs.append((int(place.parent.name), int(words[1])))
        return pairs
    with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
        listed = subprocess.run(
            ["/bin/ps", "-A", "-o", "pid=,ppid="],
            capture_output=True,
            text=True,
            timeout=GRACE,
            check=True,
        ).stdout
        pairs = [(int(a), int(b)) for a, b in map(str.split, listed.splitlines())]
    return pairs


def _is_tracker(process: int) -> bool:
    try:
        return TRACKER.encode() in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def begin_tracker() -> None:
    """Start the process that removes shared memory, out of the reach of SIGHUP.

    A terminal that closes sends SIGHUP to all processes of a command. The tracker must
    outlive the others; joblib starts one that SIGTERM and Ctrl-C do not end.
    """
    from joblib.externals.loky.backend import resource_tracker

    if threading.current_thread() is not threading.main_thread():
        resource_tracker.ensure_running()
        return
    hangup = getattr(signal, "SIGHUP", None)
    former = None if hangup is None else signal.signal(hangup, signal.SIG_IGN)
    try:
        resource_tracker.ensure_running()
    finally:
        if hangup is not None:
            signal.signal(hangup, former)


def exit_with(parent: int, seconds: float = 1.0) -> None:
    """End this process within seconds after its parent has ended, however that ended.

    A child process calls it with the number of its parent. The parent may be gone already.
    """
    if os.getppid() != parent:
        os._exit(1)

    def watch() -> None:
        wait = threading.Event()
        while os.getppid() == parent:
            wait.wait(seconds)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
