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

from descents.signals import end_tree
from descents.storage.code_cache import cache_folder, store_library, stored_library

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
SECONDS, SECONDS_TO_ANSWER = 120, 10
"""The time limits for the compiler, and for its answer which version it is."""

_once = threading.Lock()
_known: dict[tuple[Path, tuple[str, ...]], ctypes.CDLL | None] = {}
"""The libraries that this process has loaded; None if one could not be compiled."""


def library(source: Path, *options: str) -> ctypes.CDLL | None:
    """Compile a C file and load it as a library, or return None if that is not possible.

    The library is cached, see `descents.storage.code_cache`, with a name that depends on
    source, options, compiler and processor. ``CC`` names another
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


def available() -> bool:
    """Return whether C code is compiled: it is not turned off, and there is a compiler.

    Results with and without it are the same up to rounding.
    """
    return os.environ.get("DESCENTS_COMPILE") != "0" and _compiler()[0] is not None


def of_precision(source: Path, dtype: torch.dtype) -> ctypes.CDLL | None:
    """Return the library of a C file for one precision, or None if there is none."""
    return library(source, *OPTIONS[dtype]) if dtype in OPTIONS else None


def address(tensor: torch.Tensor | None) -> ctypes.c_void_p:
    """Return the address of a tensor's first number as a C pointer; NULL for None."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _made(source: Path, options: tuple[str, ...]) -> ctypes.CDLL | None:
    compiler, why = _compiler()
    if compiler is None:
        _warn(why)
        return None
    try:
        version = _ran([*compiler, "--version"], SECONDS_TO_ANSWER)
        if version.returncode:
            _warn(f"the C compiler {compiler[0]} does not say its version")
            return None
        parts = [source.read_bytes(), version.stdout, _processor().encode()]
        parts += [path.read_bytes() for path in sorted(source.parent.glob("*.h"))]
        parts += [os.fsencode(" ".join([*compiler, *FLAGS, *options]))]
        key = hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]
        name, (place, why) = f"{source.stem}-{key}", cache_folder()
        found = None if place is None else stored_library(place, name)
        if found is not None:
            return ctypes.CDLL(str(found))
        library = _built(compiler, source, options, name, place)
        if library is not None and place is None:
            _warn_of_no_cache(why)
        return library
    except (OSError, subprocess.SubprocessError) as error:
        _warn(f"the C compiler {compiler[0]} could not be used ({error})")
        return None


def _built(
    compiler: list[str],
    source: Path,
    options: tuple[str, ...],
    name: str,
    place: Path | None,
) -> ctypes.CDLL | None:
    """Compile a file, store the library if there is a place for it, and load it."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / f"{name}.so"
        for machine in MACHINES:
            command = [*compiler, *FLAGS, *machine, *options, "-o", str(fresh)]
            done = _ran([*command, str(source)], SECONDS)
            if done.returncode == 0:
                break
        else:
            lines = done.stderr.decode(errors="replace").splitlines()
            first = next((line for line in lines if "error" in line), "no reason")
            _warn(f"the C compiler {compiler[0]} failed ({first.strip()})")
            return None
        stored = None
        if place is not None:
            stored = store_library(place, name, fresh.read_bytes())
        # A full disk, or no safe place: load it where it is, without a cache.
        return ctypes.CDLL(str(stored or fresh))


def _ran(command: list[str], seconds: float) -> subprocess.CompletedProcess[bytes]:
    """Run a compiler; if it takes too long, or a signal ends this, end all it started."""
    with subprocess.Popen(  # noqa: S603 - the user's own compiler
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            output, errors = process.communicate(timeout=seconds)
        except BaseException:
            end_tree(process.pid)
            process.wait()
            raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def _compiler() -> tuple[list[str] | None, str]:
    """Return the command of a compiler, or None and why there is none.

    It is that of $CC, or else the first usual name that is found.
    """
    given = os.environ.get("CC", "")
    try:
        from_user = shlex.split(given)
    except ValueError as error:  # of a quote that is not closed
        return None, f"CC is {given!r}, which is not a command ({error})"
    for command in [from_user] if from_user else [[name] for name in COMPILERS]:
        if shutil.which(command[0]):
            return command, ""
    if from_user:
        return None, f"CC is {given!r}, which was not found"
    return None, "no C compiler was found"


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


def _warn_of_no_cache(why: str) -> None:
    if not _warned:
        _warned.append(why)
        warnings.warn(
            f"compiled code cannot be kept, because {why}, so it is compiled in every run; "
            "set XDG_CACHE_HOME to a folder of your own",
            RuntimeWarning,
            stacklevel=2,
        )


_warned: list[str] = []
"""The warning that was shown, if any: it is shown once per process."""
