"""Code in C that the machine's own compiler makes fast, at first use, once for all runs."""

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
from typing import Any

import torch

from descents.errors import RunFolderError
from descents.storage.folders import write_new

COMPILERS = ("cc", "gcc", "clang")
# Aliasing: what is a vector in one place is its numbers in another.
FLAGS = ("-O3", "-fno-strict-aliasing", "-shared", "-fPIC")
MACHINES = (("-march=native",), ("-mcpu=native",), ())
"""How compilers are told to use all that this processor can do; what none knows is left
out."""
NUMBERS: dict[torch.dtype, Any] = {
    torch.float32: ctypes.c_float,
    torch.float64: ctypes.c_double,
}
"""The precisions that there is code for, as C has them."""
OPTIONS = {
    torch.float32: ("-DREAL=float", "-DINTEGER=int32_t"),
    torch.float64: ("-DREAL=double", "-DINTEGER=int64_t"),
}
SECONDS = 120
"""How long a compiler may take."""

_once = threading.Lock()
_known: dict[tuple[Path, tuple[str, ...]], ctypes.CDLL | None] = {}


def library(source: Path, *options: str) -> ctypes.CDLL | None:
    """Return a C file as a library, None where it cannot be had.

    It is kept in ``$XDG_CACHE_HOME/descents`` or ``~/.cache/descents`` under a name that
    tells source, options, compiler and processor. ``CC`` names another compiler, and
    ``DESCENTS_COMPILE=0`` turns compilation off. Where there is no compiler, a warning
    says so once.

    Parameters
    ----------
    source : Path
    *options : str
        For the compiler, such as ``-DREAL=float``.

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
    """Return a C file for one precision as a library, None where it cannot be had."""
    return library(source, *OPTIONS[dtype]) if dtype in OPTIONS else None


def address(tensor: torch.Tensor | None) -> ctypes.c_void_p:
    """Return where a tensor begins, as C takes it; NULL for none."""
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
        told = [source.read_bytes(), version, _processor().encode()]
        told += [path.read_bytes() for path in sorted(source.parent.glob("*.h"))]
        told += [" ".join([*compiler, *FLAGS, *options]).encode()]
        key = hashlib.sha256(b"\0".join(told)).hexdigest()[:24]
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
            except RunFolderError:  # a full or read-only home: for this process only
                return ctypes.CDLL(str(fresh))
        return ctypes.CDLL(str(place))
    except (OSError, subprocess.SubprocessError) as error:
        _warn(f"the C compiler {compiler[0]} could not be used ({error})")
        return None


def _compiler() -> list[str] | None:
    """Return the command of a compiler, by $CC or the first of the usual names."""
    asked = shlex.split(os.environ.get("CC", ""))
    for command in [asked] if asked else [[name] for name in COMPILERS]:
        if shutil.which(command[0]):
            return command
    return None


def _folder() -> Path:
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "descents"


def _processor() -> str:
    """Return what tells processors apart: code for one may not run on another."""
    told = [platform.system(), platform.machine(), platform.processor()]
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        lines = facts.read_text(errors="replace").splitlines()
        kinds = ("model name", "flags", "Features", "CPU part")
        told += sorted({line for line in lines if line.startswith(kinds)})
    return "\n".join(told)


def _warn(what: str) -> None:
    if not _told:
        _told.append(what)
        warnings.warn(
            f"{what}: the slower way is taken, with the same results to rounding; "
            "install one, or set DESCENTS_COMPILE=0 to be told no more",
            RuntimeWarning,
            stacklevel=2,
        )


_told: list[str] = []
