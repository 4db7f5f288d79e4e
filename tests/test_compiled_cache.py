"""The cache of compiled code: what lies there is loaded only if it is the user's own."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from descents.kernels import compiled
from descents.networks import fused
from descents.storage import code_cache
from descents.storage.code_cache import cache_folder, store_library, stored_library

pytestmark = pytest.mark.skipif(os.name != "posix", reason="file permissions of POSIX")
LIBRARY = b"\x7fELF" + bytes(1000)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Return the path of a cache that is not there yet; nothing is loaded from another."""
    monkeypatch.setattr(compiled, "_known", {})
    monkeypatch.setattr(compiled, "_warned", [])
    monkeypatch.delenv("DESCENTS_COMPILE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    former = os.umask(0)  # so that every permission here is set on purpose
    yield tmp_path / "cache" / "descents"
    os.umask(former)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def loaded() -> bool:
    """Return whether there is compiled code, as in a process that begins."""
    compiled._known.clear()
    return fused.compiled(torch.float64) is not None


def test_folder_and_files_are_private(cache: Path) -> None:
    assert loaded()
    assert mode_of(cache) == 0o700
    assert [mode_of(path) for path in cache.iterdir()] == [0o700]


def test_the_folder_of_an_earlier_version_is_made_private(cache: Path) -> None:
    cache.mkdir(parents=True)
    cache.parent.chmod(0o755)
    cache.chmod(0o777)
    assert cache_folder() == (cache, "")
    assert mode_of(cache) == 0o700


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:2000]),  # ends by SIGBUS
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"),
        lambda path: path.chmod(0o722),
        lambda path: path.chmod(0o770),
    ],
    ids=["cut off", "empty", "one byte", "writable by all", "writable by a group"],
)
def test_what_cannot_be_trusted_is_built_again(cache: Path, damage) -> None:
    assert loaded()
    (path,) = cache.iterdir()
    before = path.read_bytes()
    damage(path)
    assert stored_library(cache, path.stem.rpartition("-")[0]) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # silently
        assert loaded()
    (path,) = cache.iterdir()
    assert path.read_bytes() == before
    assert mode_of(path) == 0o700


def test_a_truncated_library_ends_no_process(cache: Path) -> None:
    """In a process that has not loaded it, the library would end it by SIGBUS."""
    assert loaded()
    (path,) = cache.iterdir()
    path.write_bytes(path.read_bytes()[:5000])
    code = (
        "import torch; from descents.networks import fused; "
        "print(fused.compiled(torch.float64) is not None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_a_library_of_the_right_name_and_other_content_is_not_loaded(
    cache: Path,
) -> None:
    assert loaded()
    (path,) = cache.iterdir()
    name = path.stem.rpartition("-")[0]
    other = cache / f"{name}-{'0' * 64}.so"
    other.write_bytes(LIBRARY)
    other.chmod(0o700)
    assert stored_library(cache, name) == path


def test_a_link_to_a_library_is_not_followed(cache: Path, tmp_path: Path) -> None:
    assert loaded()
    (path,) = cache.iterdir()
    path.rename(tmp_path / "elsewhere.so")
    path.symlink_to(tmp_path / "elsewhere.so")
    assert stored_library(cache, path.stem.rpartition("-")[0]) is None
    assert loaded()
    assert not next(cache.iterdir()).is_symlink()


def other_owner(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Let a file or folder belong to another user."""
    real, lreal = Path.stat, Path.lstat

    def changed(found: os.stat_result) -> os.stat_result:
        values = list(found)
        values[stat.ST_UID] = os.getuid() + 1
        return os.stat_result(values)

    def stat_of(self: Path, **options: bool) -> os.stat_result:
        found = real(self, **options)
        return changed(found) if self == path else found

    def lstat_of(self: Path) -> os.stat_result:
        found = lreal(self)
        return changed(found) if self == path else found

    monkeypatch.setattr(Path, "stat", stat_of)
    monkeypatch.setattr(Path, "lstat", lstat_of)


def test_a_folder_of_another_user_is_not_used(cache: Path, monkeypatch) -> None:
    cache.mkdir(parents=True, mode=0o755)
    cache.parent.chmod(0o755)
    other_owner(monkeypatch, cache)
    assert cache_folder() == (None, f"{cache} belongs to another user")
    with pytest.warns(
        RuntimeWarning, match="belongs to another user, so it is compiled"
    ):
        assert loaded()
    assert not list(cache.iterdir())


def test_a_library_of_another_user_is_not_loaded(cache: Path, monkeypatch) -> None:
    assert loaded()
    (path,) = cache.iterdir()
    other_owner(monkeypatch, path)
    assert stored_library(cache, path.stem.rpartition("-")[0]) is None


@pytest.mark.parametrize(
    ("mode", "safe"), [(0o777, False), (0o1777, True), (0o770, False), (0o755, True)]
)
def test_nobody_else_may_replace_the_folder(
    mode: int, safe: bool, cache: Path, monkeypatch
) -> None:
    cache.mkdir(parents=True, mode=0o700)
    cache.parent.chmod(mode)
    monkeypatch.setattr(code_cache, "_is_own_group", lambda _: False)
    folder, why = cache_folder()
    assert (folder is not None) == safe
    assert safe or why == f"other users can write into {cache.parent}"


def test_a_link_is_followed_if_only_the_user_can_change_it(
    cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir(mode=0o755)
    cache.parent.mkdir(mode=0o755)
    cache.symlink_to(tmp_path / "real")
    assert cache_folder() == (tmp_path / "real", "")
    cache.parent.chmod(0o777)  # now somebody else could put another link there
    assert cache_folder()[0] is None
    cache.unlink()
    cache.symlink_to(cache)
    assert cache_folder()[0] is None


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({"XDG_CACHE_HOME": "", "HOME": ""}, "there is no home folder"),
        ({"XDG_CACHE_HOME": "relative"}, "there is no home folder"),
        ({"XDG_CACHE_HOME": "/proc/nowhere"}, "cannot be used"),
        ({"XDG_CACHE_HOME": "/dev/null"}, "cannot be used"),
    ],
)
def test_without_a_place_code_is_compiled_for_each_run(
    environment: dict[str, str], why: str, cache: Path, monkeypatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if (
        environment.get("HOME") == ""
    ):  # no entry of the user, as for a number without one
        monkeypatch.delenv("HOME")
        monkeypatch.setattr("pwd.getpwuid", lambda _: {}["no such user"])
    with pytest.warns(RuntimeWarning, match=f"{why}.*, so it is compiled in every run"):
        assert loaded()


@pytest.mark.parametrize(
    ("compiler", "says"),
    [
        ("'cc", 'CC is "\'cc", which is not a command'),
        ("no-such-cc -O2", "CC is 'no-such-cc -O2', which was not found"),
        ("{folder}/hangs", "could not be used"),
        ("{folder}/dies", "does not say its version"),
        ("{folder}/empty", "could not be used"),
        ("{folder}", "which was not found"),
    ],
)
def test_a_compiler_that_does_not_work_is_one_sentence(
    compiler: str, says: str, cache: Path, tmp_path: Path, monkeypatch
) -> None:
    for name, does in (("hangs", "sleep 60"), ("dies", "exit 3")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "empty").write_bytes(b"\x7fELF")
    (tmp_path / "empty").chmod(0o755)
    monkeypatch.setattr(compiled, "SECONDS_TO_ANSWER", 0.2)
    monkeypatch.setenv("CC", compiler.format(folder=tmp_path))
    with pytest.warns(RuntimeWarning, match=says) as told:
        assert not loaded()
    assert len(told) == 1


def test_a_folder_that_is_full_is_no_fault(cache: Path, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert loaded()
    assert not list(cache.iterdir())


def test_what_a_killed_process_left_is_removed(cache: Path) -> None:
    cache.mkdir(parents=True)
    cache.parent.chmod(0o755)
    old, new = cache / ".network-1.so.99", cache / ".network-1.so.98"
    for path in (old, new):
        path.touch()
    os.utime(old, (1, 1))
    assert store_library(cache, "network", LIBRARY) is not None
    assert not old.exists()
    assert new.exists()  # its process may still write it
    assert stored_library(cache, "network") is not None


@pytest.mark.slow
def test_many_processes_build_at_once(cache: Path) -> None:
    code = (
        "import torch; from descents.networks import fused; "
        "print(fused.compiled(torch.float64) is not None)"
    )
    several = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    assert [one.communicate(timeout=200)[0].strip() for one in several] == ["True"] * 4
    assert len(list(cache.iterdir())) == 1
