"""Where compiled code is kept: a folder that nobody else can write, with checked contents.

A library that is loaded runs as the user. So the folder and its files must be the user's
own and writable by nobody else. What lies there must be what was written, because a library
that is cut off ends the process when it is used: its name contains the hash of its bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from pathlib import Path

from descents.errors import RunFolderError
from descents.storage.files import write_bytes

NAME = "descents"
PRIVATE = 0o700
WRITABLE = stat.S_IWGRP | stat.S_IWOTH
OLD = 3600
"""Files that processes left half-written are removed after this many seconds."""


def cache_folder() -> tuple[Path | None, str]:
    """Return the folder for compiled code, created if it is absent.

    It is ``$XDG_CACHE_HOME/descents`` or ``~/.cache/descents``, with the mode 0700. The
    folders above it must belong to the user or to root, and others may write them only
    where they cannot replace what is inside, as in /tmp.

    Returns
    -------
    folder : Path or None
        None if there is none that is safe to use.
    why : str
        Why there is none.
    """
    place = _place()
    if place is None:
        return None, "there is no home folder"
    try:
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
            with contextlib.suppress(FileExistsError):  # another process made it
                place.mkdir(mode=PRIVATE)
        real = place.resolve(strict=True)
        if real.stat().st_uid == os.getuid():
            real.chmod(PRIVATE)  # earlier versions made it with the usual mode
        why = _unsafe(place, real)
    except (OSError, RuntimeError) as error:  # a RuntimeError of a loop of links
        why = f"{place} cannot be used ({getattr(error, 'strerror', None) or error})"
    except AttributeError:  # not a POSIX system, so nothing can be checked
        why = "this system has no file permissions"
    return (None, why) if why else (real, "")


def _unsafe(place: Path, real: Path) -> str:
    """Return why a folder is not safe to use; empty if it is.

    Parameters
    ----------
    place, real : Path
        The folder, and where it is if links are followed.
    """
    found = real.stat()
    if not stat.S_ISDIR(found.st_mode):
        return f"{place} is not a folder"
    if found.st_uid != os.getuid():
        return f"{place} belongs to another user"
    above = [*real.parents, place.parent.resolve()]  # which has the link, if it is one
    unsafe = [str(one) for one in above if not _is_safe(one)]
    return f"other users can write into {unsafe[0]}" if unsafe else ""


def stored_library(folder: Path, name: str) -> Path | None:
    """Return the path of a library that was stored under a name, None if there is none.

    One that is damaged, belongs to somebody else or can be written by others is passed by.
    """
    with contextlib.suppress(OSError):
        for path in sorted(folder.glob(f"{name}-*.so")):
            if _is_whole(path, path.stem.rpartition("-")[2]):
                return path
    return None


def store_library(folder: Path, name: str, library: bytes) -> Path | None:
    """Store a library under a name; return its path, None if it cannot be stored.

    Several processes may do so at once: each file is renamed when it is whole.
    """
    digest = hashlib.sha256(library).hexdigest()
    path = folder / f"{name}-{digest}.so"
    try:
        _remove_damaged(folder, name)
        write_bytes(path, library)
        path.chmod(PRIVATE)
    except (OSError, RunFolderError):
        return None
    return path if _is_whole(path, digest) else None


def _place() -> Path | None:
    """Return where the folder is to be; None if there is no home."""
    given = os.environ.get("XDG_CACHE_HOME")
    try:
        base = Path(given) if given else Path.home() / ".cache"
    except RuntimeError:  # no HOME, and no entry in the list of users
        return None
    return base / NAME if base.is_absolute() else None


def _is_whole(path: Path, digest: str) -> bool:
    """Return whether a file is the user's own, and has the bytes that were stored."""
    try:
        found = path.lstat()
        mine = stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid()
        if not mine or found.st_mode & WRITABLE:
            return False
        return hashlib.sha256(path.read_bytes()).hexdigest() == digest
    except OSError:
        return False


def _is_safe(folder: Path) -> bool:
    """Return whether nobody else can replace what is in a folder."""
    found = folder.stat()
    if found.st_uid not in (0, os.getuid()):
        return False
    if found.st_mode & stat.S_ISVTX or not found.st_mode & WRITABLE:
        return True
    return not found.st_mode & stat.S_IWOTH and _is_own_group(found.st_gid)


def _is_own_group(number: int) -> bool:
    """Return whether the user is alone in a group, which some systems make for each user."""
    import grp
    import pwd

    try:
        group, user = grp.getgrgid(number), pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


def _remove_damaged(folder: Path, name: str) -> None:
    """Remove damaged libraries of a name, and what processes left half-written."""
    for path in folder.iterdir():
        left = path.name.startswith(".") and time.time() - path.lstat().st_mtime > OLD
        mine = path.name.startswith(f"{name}-") and path.suffix == ".so"
        with contextlib.suppress(OSError):
            if left or (mine and not _is_whole(path, path.stem.rpartition("-")[2])):
                path.unlink()
