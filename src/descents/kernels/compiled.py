"""Build C code with the compiler of the machine at first use, and cache it for later runs."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import threading
import warnings
from pathlib import Path

import torch

from descents.errors import RunFolderError
from descents.storage.files import write_new

COMPILERS = ("cc", "gcc", "clang")
# The code reads vectors also through pointers to their numbers, so it aliases.
FLAGS = ("-O3", "-fno-strict-aliasing", "-shared", "-fPIC")
MACHINES = (("-march=native",), ("-mcpu=native",), ())
"""Options for the instruction set of this processor; the first that the compiler accepts is
used."""
NUMBERS: dict[torch.dtype, type[ctypes.c_float] | type[ctypes.c_double]] = {
    torch.float32: ctypes.c_float,
    torch.float64: ctypes.c_double,
}
"""The supported precisions and their C types."""
OPTIONS = {
    torch.float32: ("-DREAL=float", "-DINTEGER=int32_t"),
    torch.float64: ("-DREAL=double", "-DINTEGER=int64_t"),
}
SECONDS = 120
"""The time limit for the compiler, in seconds."""

_once = threading.Lock()
_known: dict[tuple[Path, tuple[str, ...]], ctypes.CDLL | None] = {}
"""The libraries that this process has loaded; None if one could not be compiled."""


def library(source: Path, *options: str) -> ctypes.CDLL | None:
    """Compile a C file and load it as a library, or return None if that is not possible.

    The library is cached in ``$XDG_CACHE_HOME/descents`` or ``~/.cache/descents``, with a
    name that depends on source, options, compiler and processor. ``CC`` names another
    compiler, and ``DESCENTS_COMPILE=0`` turns compilation off. If there is no compiler, a
    warning says so once.

    Parameters
    ----------
    source : Path
    *options : str
        Options for the compiler, such as ``-DREAL=float``.

    Examples
    --------
    >>> import os
    >>> os.environ["DESCENTS_COMPILE"] = "0"
    >>> library(Path("network.c"), "-DREAL=float") is None
    True
    >>> del os.environ["DESCENTS_COMPILE"]
    """
    if os.environ.get("DESCENTS_COMPILE") == "0":
        return None
    if (source, options) not in _known:
        with _once:
            if (source, options) not in _known:
                _known[source, options] = _made(source, options)
    return _known[source, options]


def of_precision(source: Path, dtype: torch.dtype) -> ctypes.CDLL | None:
    """Return the library of a C file for one precision, or None if there is none."""
    return library(source, *OPTIONS[dtype]) if dtype in OPTIONS else None


def address(tensor: torch.Tensor | None) -> ctypes.c_void_p:
    """Return the address of a tensor's first number as a C pointer; NULL for None."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _made(source: Path, options: tuple[str, ...]) -> ctypes.CDLL | None:
    compiler = _compiler()
    if compiler is None:
        _warn("no C compiler was found")
        return None
    try:
        version = subprocess.run(  # noqa: S603 - the user's own compiler
            [*compiler, "--version"], capture_output=True, timeout=SECONDS, check=True
        ).stdout
        parts = [source.read_bytes(), version, _processor().encode()]
        parts += [path.read_bytes() for path in sorted(source.parent.glob("*.h"))]
        parts += [" ".join([*compiler, *FLAGS, *options]).encode()]
        key = hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]
        place = _folder() / f"{source.stem}-{key}.so"
        if place.is_file():
            return ctypes.CDLL(str(place))
        with tempfile.TemporaryDirectory() as folder:
            fresh = Path(folder) / place.name
            for machine in MACHINES:
                command = [*compiler, *FLAGS, *machine, *options, "-o", str(fresh)]
                done = subprocess.run(  # noqa: S603
                    [*command, str(source)],
                    capture_output=True,
                    timeout=SECONDS,
                    check=False,
                )
                if done.returncode == 0:
                    break
            else:
                lines = done.stderr.decode(errors="replace").splitlines()
                first = next((line for line in lines if "error" in line), "no reason")
                _warn(f"the C compiler {compiler[0]} failed ({first.strip()})")
                return None
            try:
                write_new(place, fresh.read_bytes())
            except RunFolderError:  # a full or read-only home: load it without a cache
                return ctypes.CDLL(str(fresh))
        return ctypes.CDLL(str(place))
    except (OSError, subprocess.SubprocessError) as error:
        _warn(f"the C compiler {compiler[0]} could not be used ({error})")
        return None


def _compiler() -> list[str] | None:
    """Return the command of a compiler, from $CC or else the first usual name found."""
    from_user = shlex.split(os.environ.get("CC", ""))
    for command in [from_user] if from_user else [[name] for name in COMPILERS]:
        if shutil.which(command[0]):
            return command
    return None


def _folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "descents"


def _processor() -> str:
    """Return a description of the processor: code for one may not run on another."""
    facts = [platform.system(), platform.machine(), platform.processor()]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(errors="replace").splitlines()
        kinds = ("model name", "flags", "Features", "CPU part")
        facts += sorted({line for line in lines if line.startswith(kinds)})
    return "\n".join(facts)


def _warn(what: str) -> None:
    if not _warned:
        _warned.append(what)
        warnings.warn(
            f"{what}; slower code is used, with the same results up to rounding; "
            "install a C compiler, or set DESCENTS_COMPILE=0 to hide this warning",
            RuntimeWarning,
            stacklevel=2,
        )


_warned: list[str] = []
"""The warning that was shown, if any: it is shown once per process."""
