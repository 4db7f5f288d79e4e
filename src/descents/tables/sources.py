"""Where a table comes from: a file or a pipe, and the hash of the bytes that are read."""

from __future__ import annotations

import hashlib
import re
import sys

from descents.errors import InvalidValueError
from descents.tables.csv_text import bytes_in_lines
from descents.validation import folder_path, is_special

_DESCRIPTOR = re.compile(r"/(?:dev|proc/(?:self|[0-9]+))/fd/[0-9]+")
"""The path of an open file of a process, as shells write it for ``<(...)``."""
BINARY = (".parquet", ".npy", ".npz")
"""Files that are not read from their beginning to their end."""


class TableSource:
    """A table that is read once, with the hash of the bytes that are read.

    A pipe can be read only once, so its bytes are read when this object is made, and
    `content` hands them to the reader. A file is hashed when its hash is requested, and
    `check_unchanged` finds out whether it changed while it was read.

    Parameters
    ----------
    given : str
        The path of a file or of a pipe; ``-`` is standard input.

    Attributes
    ----------
    given : str
    piped : bool
        Whether the bytes come from standard input or from another pipe.

    Raises
    ------
    InvalidValueError
        If it is a pipe that cannot be read, or that has no text.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "table.csv"
    >>> _ = path.write_bytes(b"a,b")
    >>> source = TableSource(str(path))
    >>> source.piped, source.sha256[:8]
    (False, '1eb7c54d')
    """

    def __init__(self, given: str) -> None:
        self.given = given
        self._path = None if given == "-" else folder_path(given)
        self._content: bytes | None = None
        self._sha256: str | None = None
        self._state: tuple[int, ...] | None = None
        self.piped = self._path is None or is_special(self._path)
        if self.piped:
            self._content = self._read_pipe()
            self._sha256 = hashlib.sha256(self._content).hexdigest()

    @property
    def name(self) -> str:
        """The name of the file; ``-`` for standard input and for pipes without a name."""
        unnamed = self._path is None or self.given == "/dev/stdin"
        if unnamed or _DESCRIPTOR.fullmatch(self.given):
            return "-"
        assert self._path is not None  # noqa: S101
        return self._path.name

    @property
    def sha256(self) -> str:
        """The hash of the bytes; empty if there is no such file, which reading reports."""
        if self._sha256 is None:
            self._sha256 = self._hash_of_file()
        return self._sha256

    def content(self) -> bytes | None:
        """Return the bytes of a pipe, once, so that they need not stay in memory.

        For a file it is None: the reader opens it.
        """
        content, self._content = self._content, None
        return content

    def check_unchanged(self) -> None:
        """Raise an error if the file is not the one that was hashed."""
        if self._state is not None and self._state != self._state_of_file():
            raise InvalidValueError(
                f"{self.given} changed while it was read; wait until it is complete, and "
                "run the command again"
            )

    def _hash_of_file(self) -> str:
        assert self._path is not None  # noqa: S101
        try:
            self._state = self._state_of_file()
            if not self._path.is_file():
                return ""
            with self._path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, ValueError):  # reading the table reports it
            return ""

    def _state_of_file(self) -> tuple[int, ...] | None:
        """Return what changes when a file is written or replaced."""
        assert self._path is not None  # noqa: S101
        try:
            found = self._path.stat()
        except (OSError, ValueError):
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def _read_pipe(self) -> bytes:
        where = "standard input" if self.given == "-" else self.given
        if self._path is not None and self._path.suffix.lower() in BINARY:
            raise InvalidValueError(
                f"{where} is a pipe, but a {self._path.suffix.lower()} file is not read "
                "from its beginning to its end; give a file"
            )
        if self._path is None and getattr(sys.stdin, "buffer", None) is None:
            raise InvalidValueError("standard input is closed; give a file")
        try:
            if self._path is None:
                return bytes_in_lines(where, sys.stdin.buffer)
            with self._path.open("rb") as stream:
                return bytes_in_lines(where, stream)
        except InvalidValueError:
            raise
        except OSError as error:
            raise InvalidValueError(
                f"{where} cannot be read ({error.strerror or error}); give a file that can"
            ) from None
        except ValueError:  # of a stream that is closed
            raise InvalidValueError(f"{where} is closed; give a file") from None
