"""What a command says when the machine has no more memory, space, files or processes."""

from __future__ import annotations

import errno

from descents.cli.options import BAD_INPUT, LOST_PROCESS
from descents.errors import ran_out
from descents.storage.files import remedy_of

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
    if ran_out(error):
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
