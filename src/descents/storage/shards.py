"""Shards of a run: one file each, with its finished chunks of starts.

A shard is a ZIP file without compression. It contains the chunks as they are in the folder
of an unfinished run, and ``shard.json`` with the identity of the run and the hashes of the
chunks.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from descents.errors import Complaints, RunFolderError
from descents.storage.files import make_folder, remedy_of, write_bytes
from descents.storage.run_folders import IDENTITY, PARTIAL, STAGES, RunFolder
from descents.storage.values import json_text, plain

FACTS = "shard.json"
MOST_FACTS = 64 * 2**20
"""The largest ``shard.json`` that is read, in bytes."""
_CHUNK = re.compile(r"[^/\\\0.][^/\\\0]*\.safetensors")
"""The name of a file with a chunk."""


@dataclass(frozen=True)
class ShardFile:
    """The file of a shard.

    Attributes
    ----------
    path : Path
    run : dict
        The identity of the run.
    number, count : int
        It is shard `number` of `count`, counted from 1.
    table : str
        The file with the table.
    version : str
        The version of descents that wrote it.
    chunks : dict of str
        The hash of each file with a chunk, by its name.
    """

    path: Path
    run: Mapping[str, object]
    number: int
    count: int
    table: str
    version: str
    chunks: Mapping[str, str]


def shard_name(number: int, count: int) -> str:
    """Return the name of the file of a shard, so that names are in order.

    Examples
    --------
    >>> shard_name(3, 10)
    'shard-03-of-10.zip'
    """
    return f"shard-{number:0{len(str(count))}d}-of-{count}.zip"


def write_shard(folder: RunFolder, path: Path, facts: Mapping[str, object]) -> None:
    """Write the chunks of an unfinished run into the file of a shard, and remove the run.

    Parameters
    ----------
    folder : RunFolder
    path : Path
    facts : mapping
        The fields of `ShardFile` besides `path` and `chunks`.

    Raises
    ------
    RunFolderError
        If the file cannot be written; the run is kept.
    """
    files = sorted((folder.work / STAGES).glob("[!.]*.safetensors"))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            hashes = {}
            for file in files:
                with file.open("rb") as content:
                    hashes[file.name] = hashlib.file_digest(
                        content, "sha256"
                    ).hexdigest()
                archive.write(file, file.name)
            archive.writestr(FACTS, json_text(plain({**facts, "chunks": hashes})))
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise RunFolderError(
            f"could not write {path}: {error.strerror}; {remedy_of(error, 'another --out')}"
        ) from None
    shutil.rmtree(folder.path, ignore_errors=True)


def read_shard(path: Path) -> ShardFile:
    """Read what the file of a shard says of itself.

    Raises
    ------
    RunFolderError
        If it is not such a file, or is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(FACTS).file_size > MOST_FACTS:
                raise ValueError(FACTS)
            facts = json.loads(archive.read(FACTS))
        found = ShardFile(path=path, **facts)
        texts = (found.table, found.version, *found.chunks, *found.chunks.values())
        known = isinstance(found.run, dict) and all(isinstance(x, str) for x in texts)
        if not known or not 1 <= found.number <= found.count:
            raise ValueError(FACTS)
    except OSError as error:
        raise RunFolderError(
            f"{path} cannot be read: {error.strerror or error}; give the file of a shard"
        ) from None
    except (zipfile.BadZipFile, LookupError, TypeError, ValueError, RecursionError,
            AttributeError, NotImplementedError, RuntimeError) as error:  # fmt: skip
        raise RunFolderError(
            f"{path} is not the file of a shard, or is damaged; give a file that --shard wrote"
        ) from error
    return found


def shard_files(places: Sequence[Path]) -> list[Path]:
    """Return the files of shards that are given, or are in folders that are given.

    Raises
    ------
    InvalidValueError
        If a place does not exist, or a folder has none. One message lists all problems.
    """
    complaints, found = Complaints(), []
    for place in places:
        inside = sorted(place.glob("shard-*-of-*.zip")) if place.is_dir() else [place]
        complaints.require(
            bool(inside),
            f"{place} has no shards; give the --out of commands with --shard",
        )
        complaints.require(
            place.exists(), f"{place} does not exist; give files or folders of shards"
        )
        found += inside
    complaints.raise_any()
    return list(dict.fromkeys(found))


def unpack(shards: Sequence[ShardFile], out: Path) -> None:
    """Put the chunks of all shards of a run into a new folder, as those of an unfinished run.

    Raises
    ------
    RunFolderError
        If a file is damaged, or the folder is not empty or cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunFolderError(f"{out} is not empty; give --out a new folder")
    stages = out / PARTIAL / STAGES
    make_folder(stages)
    try:
        for shard in shards:
            _unpack(shard, stages)
        write_bytes(out / PARTIAL / IDENTITY, json_text(shards[0].run).encode())
    except BaseException:
        shutil.rmtree(out / PARTIAL, ignore_errors=True)
        with contextlib.suppress(OSError):
            out.rmdir()
        raise


def _unpack(shard: ShardFile, stages: Path) -> None:
    try:
        with zipfile.ZipFile(shard.path) as archive:
            for name, digest in shard.chunks.items():
                # The size is that of the archive, so that nothing expands.
                info = archive.getinfo(name)
                stored = info.compress_type == zipfile.ZIP_STORED
                if not _CHUNK.fullmatch(name) or not stored:
                    raise ValueError(name)
                content = archive.read(name)
                if hashlib.sha256(content).hexdigest() != digest:
                    raise ValueError(name)
                write_bytes(stages / name, content)
    except (zipfile.BadZipFile, LookupError, ValueError, NotImplementedError,
            RuntimeError, EOFError) as error:  # fmt: skip
        raise RunFolderError(
            f"{shard.path} is damaged; remove it and run its shard again"
        ) from error
    except OSError as error:
        if isinstance(error, RunFolderError):
            raise
        raise RunFolderError(
            f"{shard.path} cannot be read: {error.strerror or error}; give the file of a shard"
        ) from None
