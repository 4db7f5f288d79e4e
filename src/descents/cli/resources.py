"""What a command says when the machine has no more memory, space, files or processes."""

from __future__ import annotations

import errno

from descents.cli.options import BAD_INPUT, LOST_PROCESS
from descents.storage.files import remedy_of

MEMORY = (
    "cannot allocate memory",
    "can't allocate memory",
    "can't start new thread",
    "failed to map segment",
    "malloc of size",
    "not enough memory",
    "out of memory",
    "resource temporarily unavailable",
)
"""What libraries write in errors of other types when they get no memory, or no thread."""
_FILES = {errno.EMFILE, errno.ENFILE}
_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


def shortage(error: BaseException) -> tuple[str, int] | None:
    """Return what an error says of the machine, and the exit code; None for other errors.

    Examples
    --------
    >>> shortage(RuntimeError("can't start new thread"))[1]
    4
    >>> shortage(ValueError("a bug")) is None
    True
    """
    number = getattr(error, "errno", None)
    text = str(error).casefold()
    general = isinstance(error, RuntimeError | ImportError | OSError | SystemError)
    if (
        isinstance(error, MemoryError)
        or number == errno.ENOMEM
        or (general and any(words in text for words in MEMORY))
    ):
        return (
            "memory ran out; give fewer --starts, fewer --workers or a smaller model, or "
            "let the process have more (ulimit -v)",
            LOST_PROCESS,
        )
    if number in _FILES:
        return "there are too many open files; raise the limit (ulimit -n)", BAD_INPUT
    if isinstance(error, OSError) and number in _SPACE:
        where = error.filename or "a file"
        return (
            f"could not write {where}: {error.strerror}; {remedy_of(error)}",
            BAD_INPUT,
        )
    return None
