"""Sizes of memory: as text, of this machine, and of this process."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path

from descents.errors import InvalidValueError, name_of

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)", re.ASCII)


def size_in_bytes(given: str | int) -> int:
    """Return a size of memory in bytes.

    Raises
    ------
    InvalidValueError
        If it is not a size, or not above 0.

    Examples
    --------
    >>> size_in_bytes("1.5GB"), size_in_bytes("2 MiB"), size_in_bytes(4096)
    (1500000000, 2097152, 4096)
    """
    match = _SIZE.fullmatch(str(given).strip())
    size = 0
    if match and not isinstance(given, bool) and match[2].upper() in UNITS:
        size = int(float(match[1]) * UNITS[match[2].upper()])
    if size <= 0:
        raise InvalidValueError(
            f"{name_of('memory')} is {given!r}; give a size above 0, such as 500MB, 2GB or 1.5GiB"
        )
    return size


def said(size: float) -> str:
    """Return a size of memory as text, rounded up.

    Examples
    --------
    >>> said(1_234_000_000), said(5_600_001), said(999)
    ('1.3 GB', '6 MB', '1 KB')
    """
    for unit, places in (("GB", 1), ("MB", 0)):
        if size >= UNITS[unit]:
            step = 10**places
            return f"{-(-size * step // UNITS[unit]) / step:.{places}f} {unit}"
    return f"{-(-size // 1000):.0f} KB"


def peak_memory() -> int | None:
    """Return the largest resident size that this process has had, in bytes.

    None if the system does not report it.

    Examples
    --------
    >>> peak_memory() is None or peak_memory() > 10**6
    True
    """
    try:
        # getrusage would include the peak of the process that started this one.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    except (OSError, IndexError, ValueError):
        pass
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory_of_machine() -> int:
    """Return the maximum amount of memory that this process may use, in bytes.

    This is the memory of the machine, or of the container, or what is left of a limit on
    this process (``ulimit -v``). It is 2**40 if the system does not report it.

    Examples
    --------
    >>> memory_of_machine() > 10**6
    True
    """
    limits = [2**40]
    with contextlib.suppress(AttributeError, OSError, ValueError):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
        text = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        limits.append(int(text))
    limits.append(left_of_limit())
    return min(limit for limit in limits if limit > 0)


def left_of_limit() -> int:
    """Return how much of a limit on the addresses of this process is left, in bytes.

    It is 2**40 without a limit.
    """
    try:
        import resource
    except ImportError:
        return 2**40
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return 2**40
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (OSError, IndexError, ValueError):
        pages = 0
    return max(1, int(limit) - pages * resource.getpagesize())
