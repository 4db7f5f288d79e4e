"""`descents verify`: run a stored result again, and say whether it holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np

from descents.errors import DescentsError, InvalidValueError
from descents.reproduction.report import reproduce
from descents.runs.factorize import factorize
from descents.runs.factorize_options import Options as FactorizeOptions
from descents.runs.filling import Options as ImputeOptions
from descents.runs.impute import impute
from descents.runs.network_options import NetworkOptions
from descents.runs.request import Reading
from descents.runs.results import Run
from descents.runs.train import train
from descents.storage.files import read_json, read_table
from descents.storage.results import Count, Number, Result
from descents.storage.run_folders import RESULT, ROWS
from descents.storage.values import plain
from descents.tables.sources import TableSource
from descents.text import counted, joined, shortened
from descents.validation import folder_path

TOLERANCES = {"factorize": 1e-6, "impute": 1e-6, "train": 0.02, "reproduce": 0.02}
"""The relative difference of losses that is allowed if another machine computes them.

Rounding differs there. Low-rank models end at the same minimum. Networks are trained for a
fixed number of steps, in which small differences grow.
"""
OF_TIME = ("seconds",)
"""Columns that are different in every run."""
Progress = Callable[[str, float], None]
T = TypeVar("T")


class NotVerifiableError(DescentsError):
    """A stored result cannot be verified: its table is gone, or its ends depend on time."""


@dataclass(frozen=True, kw_only=True)
class Verification(Result):
    """Whether a stored result holds."""

    run: Annotated[str, "The folder of the run."]
    command: Annotated[str, "The command of the run."]
    holds: bool
    exact: Annotated[bool, "Whether the same bits are required."]
    differs: Annotated[
        list[str], "What differs in the machine and the versions: why bits may differ."
    ]
    tolerance: Annotated[
        Number, "The relative difference that is allowed; null if bits are required."
    ]
    starts: Annotated[Count, "The number of rows of starts.parquet."]
    equal: Annotated[Count, "Rows of starts.parquet whose numbers are the same bits."]
    columns: Annotated[list[str], "Columns of starts.parquet with other values."]
    difference: Annotated[
        Number, "The relative difference of the best loss, or of the median if larger."
    ]
    seconds: float
    says: Annotated[str, "The answer in a sentence."]


def verify(
    run: str | Path,
    table: str | None = None,
    *,
    workers: int = 1,
    threads: int = 1,
    progress: Progress = lambda part, share: None,
) -> Verification:
    """Run a stored result again, and compare the losses of all starts.

    Nothing is written. On the same machine, with the same versions and the same number of
    threads, the losses must be the same bits. Otherwise the best and the median loss must
    agree to `TOLERANCES`.

    Parameters
    ----------
    run : path
        The folder of a run of ``descents factorize``, ``impute``, ``train`` or
        ``reproduce``.
    table : str, optional
        The table of the run. By default a file with its name is looked for in the current
        folder, and in the folders above that of the run. Its hash must be that of the run.
    workers, threads : int
        How many processes, or threads, share the starts; this changes no bits.
    progress : callable, optional
        ``progress(part, share)``.

    Returns
    -------
    Verification

    Raises
    ------
    NotVerifiableError
        If the table is gone or has another hash, or the run was interrupted.
    RunFolderError
        If the folder contains no complete run.
    """
    begun, folder = time.perf_counter(), folder_path(run)
    stored = read_json(folder / RESULT)
    identity = stored.get("run")
    command = identity.get("command") if isinstance(identity, dict) else None
    if not isinstance(identity, dict) or command not in TOLERANCES:
        raise NotVerifiableError(
            f"{folder} contains a run of {shortened(command)}; give the folder of a run of "
            "'descents factorize', 'impute', 'train' or 'reproduce'"
        )
    before = read_table(folder / ROWS)
    if "interrupted" in {str(one) for one in before.get("status", ())}:
        raise NotVerifiableError(
            f"the starts of {folder} were interrupted, so how far they came depends on the "
            "time; run the command again without --max-seconds"
        )
    control = _Control(workers, threads, progress)
    if command == "reproduce":
        result, after = _reproduced(identity, control)
    else:
        source = _source(folder, identity, table)
        result, after = _computed(command, identity, source, control)
        source.check_unchanged()
    fresh = plain(result)
    differs = _differences(stored.get("environment", {}), fresh["environment"])
    return _judged(folder, command, before, after, differs, time.perf_counter() - begun)


@dataclass(frozen=True)
class _Control:
    """How a result is computed again."""

    workers: int
    threads: int
    progress: Progress


Rows = Mapping[str, np.ndarray]


def _reproduced(run: Mapping[str, object], control: _Control) -> tuple[Result, Rows]:
    """Return the result and the starts of the report, run again."""
    found = reproduce(
        _whole(run["starts"]),
        _whole(run["seed"]),
        device=str(run["device"]),
        threads=control.threads,
        workers=control.workers,
        progress=control.progress,
    )
    return found.result, found.rows


def _computed(
    command: str, run: Mapping[str, object], source: TableSource, control: _Control
) -> tuple[Result, Rows]:
    """Return the result and the starts of a table, run again."""
    given, reading = (
        _mapping(run["options"]),
        _restored(Reading, _mapping(run["reading"])),
    )
    identity = Run(
        command=command,
        table=str(run["table"]),
        sha256=source.sha256,
        options=dict(given),
        reading=dict(_mapping(run["reading"])),
    )
    memory = given.get("memory")
    options: FactorizeOptions | ImputeOptions | NetworkOptions
    if command == "impute":
        options = _restored(ImputeOptions, given)
        filled = impute(reading.read(source), options, identity, control.progress)
        return filled.result, filled.rows
    if command == "train":
        options = _restored(NetworkOptions, given)
        data = reading.read(source, named=options.columns)
        trained = train(
            data,
            options,
            vars(identity),
            threads=control.threads if control.workers == 1 else 1,
            workers=control.workers,
            progress=control.progress,
        )
        return trained.result, trained.rows
    options = _restored(FactorizeOptions, given)
    data = reading.read(
        source, None if memory is None else _whole(memory), options.columns
    )
    made = factorize(
        data,
        options,
        {
            "command": command,
            "table": identity.table,
            "sha256": identity.sha256,
            "options": identity.options,
            "reading": identity.reading,
        },
        workers=control.workers,
        progress=control.progress,
    )
    assert made is not None  # noqa: S101  no other process shares the table
    return made.result, made.rows


def _source(folder: Path, run: Mapping[str, object], table: str | None) -> TableSource:
    """Return the table of a run: the one that is given, or one of its name and hash."""
    name, digest = str(run.get("table")), str(run.get("sha256"))
    if not digest:
        raise NotVerifiableError(
            f"{folder} does not say which bytes it read from standard input, as runs of "
            "earlier versions do not; run the command again"
        )
    if table is not None:
        if table != "-" and not folder_path(table).exists():
            raise NotVerifiableError(f"there is no file {table}; check its name")
        source = TableSource(table)
        if source.sha256 != digest:
            raise NotVerifiableError(
                f"{table} has the sha256 {source.sha256[:12]}..., but {folder} was "
                f"computed from {digest[:12]}...; give the table of the run"
            )
        return source
    if name == "-":
        raise NotVerifiableError(
            f"{folder} was computed from a pipe; give a table with the same bytes after it"
        )
    places = [Path(), *folder.absolute().parents]
    there = [place / name for place in places if (place / name).is_file()]
    for path in there:
        if (source := TableSource(str(path))).sha256 == digest:
            return source
    where = f"{there[0]} has another one" if there else f"no file {name} was found"
    raise NotVerifiableError(
        f"{folder} was computed from a table with the sha256 {digest[:12]}..., but {where}; "
        "give the table after the run"
    )


def _restored(kind: type[T], given: Mapping[str, object]) -> T:
    """Return options from their JSON, in which tuples are lists."""
    known = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(given) - known - {"memory"})
    if unknown:
        raise NotVerifiableError(
            f"the run has options that this version does not know ({joined(unknown)}); "
            "verify it with the version that wrote it"
        )
    try:
        return kind(**{n: _tuples(value) for n, value in given.items() if n in known})
    except TypeError as error:
        raise NotVerifiableError(
            f"the options of the run are damaged ({error})"
        ) from None


def _tuples(value: object) -> object:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise NotVerifiableError("the identity of the run is damaged")
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise NotVerifiableError("the identity of the run is damaged")
    return value


def _differences(
    before: Mapping[str, object], after: Mapping[str, object]
) -> list[str]:
    """Return what differs in what computed two results, each as a short text."""
    found = []
    for name in sorted({*before, *after} - {"seed", "device"}):
        absent = 1 if name == "processes" else None
        old, new = before.get(name, absent), after.get(name, absent)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += _differences(old, new)
        elif old != new:
            words = name.replace("_", " ")
            found.append(f"{words}: {_text(old)}, now {_text(new)}")
    return found


def _text(value: object) -> str:
    return "not known" if value is None else str(value)


def _judged(
    folder: Path,
    command: str,
    before: Rows,
    after: Rows,
    differs: Sequence[str],
    seconds: float,
) -> Verification:
    """Compare the starts of two runs."""
    names = [name for name in before if name not in OF_TIME]
    if list(before) != list(after) or len(_first(before)) != len(_first(after)):
        raise InvalidValueError(
            f"{folder} has other starts than a new run of its request; it was changed, or "
            "written by another version"
        )
    same = {name: _equal(before[name], after[name]) for name in names}
    whole = np.logical_and.reduce(list(same.values()))
    columns = [name for name in names if not same[name].all()]
    difference = _distance(before, after)
    exact = not differs
    tolerance = None if exact else TOLERANCES[command]
    holds = not columns if tolerance is None else difference <= tolerance
    return Verification(
        run=str(folder),
        command=command,
        holds=holds,
        exact=exact,
        differs=list(differs),
        tolerance=tolerance,
        starts=len(whole),
        equal=int(whole.sum()),
        columns=columns,
        difference=difference,
        seconds=seconds,
        says=_says(holds, tolerance, whole, difference, differs or columns),
    )


def _says(
    holds: bool,
    tolerance: float | None,
    whole: np.ndarray,
    difference: float,
    differs: Sequence[str],
) -> str:
    """Return the answer as a sentence.

    `differs` is what differs in the machine and the versions; if that is nothing, the
    columns that differ.
    """
    starts = counted(len(whole), "start")
    answer = "The result holds" if holds else "The result does not hold"
    if tolerance is None:
        if holds:
            return f"{answer}: computed again, all bits of {starts} are the same."
        count = int((~whole).sum())
        return (
            f"{answer}: {count} of {starts} {'differs' if count == 1 else 'differ'} in "
            f"{joined(list(differs[:3]))}, the losses by up to {difference:.3g} of them, on "
            "the same machine with the same versions."
        )
    return (
        f"{answer}: the best and the median loss of {starts} differ by {difference:.3g} of "
        f"them, and {tolerance:g} is allowed, because bits may differ ({'; '.join(differs)})."
    )


def _first(rows: Rows) -> np.ndarray:
    return next(iter(rows.values()))


def _equal(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Return where two columns are the same bits; missing values are equal."""
    one, two = np.asarray(one), np.asarray(two)
    if one.dtype.kind == "f" and two.dtype.kind == "f":
        equal: np.ndarray = (one == two) | (np.isnan(one) & np.isnan(two))
        return equal
    texts = [np.array([str(x) for x in column], dtype=object) for column in (one, two)]
    found: np.ndarray = texts[0] == texts[1]
    return found


def _distance(before: Rows, after: Rows) -> float:
    """Return the larger relative difference: of the best loss, or of the median loss."""
    name = "loss" if "loss" in before else "losses"
    found = []
    for summary in (np.min, np.median):
        values = []
        for rows in (before, after):
            losses = np.asarray(rows[name], dtype=np.float64)
            finite = losses[np.isfinite(losses)]
            values.append(float(summary(finite)) if len(finite) else np.nan)
        old, new = values
        if np.isnan(old) and np.isnan(new):
            found.append(0.0)
        else:
            scale = max(abs(old), abs(new))
            found.append(abs(old - new) / scale if scale else 0.0)
    return float(np.max(found)) if not np.isnan(found).any() else float("inf")
