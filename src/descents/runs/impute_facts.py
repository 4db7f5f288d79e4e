"""What is said of a table whose missing cells a model fills: how well, and why."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from descents.cells.columns import ColumnModel
from descents.cells.encoding import decoded
from descents.marginal.features import NumberFeatures
from descents.marginal.held_out import ColumnScore, HeldOut
from descents.marginal.model import Fitted
from descents.marginal.tables import TableModel
from descents.optim.runs import Status
from descents.rng import stream
from descents.runs.filling import Filling, Options, level_names
from descents.runs.request import Reading
from descents.tables.dates import of_days
from descents.tables.frames import short
from descents.tables.numerals import Written
from descents.tables.spelling import text_of
from descents.tables.typed_columns import Column
from descents.text import counted

BLOCKS = 20
"""The blocks of held-out cells of the jackknife."""
ENOUGH = 10
"""A column with fewer held-out cells is not drawn."""
MOST_POINTS = 2000
"""How many held-out cells of a column are drawn at most."""
MOST_LEVELS = 12
"""A column with more levels is not drawn."""


def said_of_cells(filling: Filling) -> dict[str, Any]:
    """Return what is filled, how well, and what is left alone."""
    model, fitted, table = filling.model, filling.model.fitted, filling.table
    lacking = np.isnan(filling.codes)
    errors = _errors(fitted)
    columns = [_column(filling, k, errors) for k in range(len(model.columns))]
    passed: list[dict[str, Any]] = []
    for one in model.passed:
        own = table.column(one.name)
        missing, why = int(np.isnan(own.values).sum()), one.why
        if missing and own.kind not in ("text", "empty"):  # which say so
            why += f"; {counted(missing, 'cell')} left missing"
        passed.append({"name": one.name, "why": why, "missing": missing})
    read = {column.name for column in table.columns}
    overall = _overall(fitted, errors)
    found = said_of_intervals(filling)
    for column in columns:
        one = (found or {"columns": {}})["columns"].get(column["name"])
        column["interval"] = one and one["says"]
    by_constant = [
        c["name"] for c in columns if c["missing"] and c["filled_by"] != "model"
    ]
    result = {
        "shape": list(filling.codes.shape),
        "observed": int((~lacking).sum()),
        "filled": {
            "cells": int(lacking.sum()),
            "columns": int(lacking.any(0).sum()),
            "rows": int(lacking.any(1).sum()),
            "rows_without_cells": int(lacking.all(1).sum()),
            "left_missing": sum(int(one["missing"]) for one in passed),
            "outside_range": outside_of(filling, lacking),
            "by_constant": by_constant,
        },
        "how": how_of(filling.options),
        "added": filling.added,
        "held_out": overall,
        "columns": columns,
        "passed": passed,
        "ignored": [name for name in table.source.names if name not in read],
        "intervals": found,
    }
    return result | {"says": answer(result), "quality": quality(overall)}


def how_of(options: Options) -> dict[str, Any]:
    """Return what goes into the missing cells."""
    draws = options.imputations
    return {
        "imputations": draws,
        "range": "observed" if options.limited else "free",
        "says": "expected numbers and the most probable levels"
        if draws is None
        else f"{draws} draws from models of resampled rows",
    }


def outside_of(filling: Filling, lacking: np.ndarray) -> int:
    """Return how many single fills are outside the observed range of their column."""
    if filling.options.limited or filling.options.imputations is not None:
        return 0
    values = filling.model.fitted.predicted(filling.codes, limited=False).values
    count = 0
    for place, column in enumerate(filling.model.fitted.features.columns):
        if isinstance(column, NumberFeatures):
            part = values[lacking[:, place], place]
            count += int(((part < column.low) | (part > column.high)).sum())
    return count


def _errors(fitted: Fitted) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the errors of held-out cells as filled, and by constants."""
    if fitted.held_out is None or not len(fitted.held_out.columns):
        return None
    model, constant = fitted.held_out.errors(fitted.levels)
    here = fitted.constant[fitted.held_out.columns]
    return np.where(here, constant, model).astype(float), constant.astype(float)


def _overall(fitted: Fitted, errors: Any) -> dict[str, Any] | None:
    """Return the mean error over columns relative to constants, with its standard error.

    By the jackknife over blocks of held-out cells.
    """
    if errors is None:
        return None
    held_out: HeldOut = fitted.held_out  # type: ignore[assignment]
    columns, levels = held_out.columns, fitted.levels
    blocks = np.arange(len(columns)) % BLOCKS

    def ratio(kept: np.ndarray) -> float:
        sums = [np.bincount(columns[kept], part[kept], len(levels)) for part in errors]
        some = sums[1] > 0
        shares = sums[0][some] / sums[1][some]
        shares = np.where(levels[some] > 0, shares, np.sqrt(shares))
        return float(shares.mean()) if len(shares) else float("nan")

    each = np.array([ratio(blocks != block) for block in range(BLOCKS)])
    known = bool(np.isfinite(each).all())  # not where one block has all that vary
    spread = float(np.sqrt((BLOCKS - 1) * np.var(each))) if known else None
    found = {
        "cells": len(columns),
        "columns": int((np.bincount(columns, errors[1]) > 0).sum()),
        "relative_error": ratio(np.ones(len(columns), dtype=bool)),
        "standard_error": spread,
    }
    return found | {"says": _spread_says(found)}


def _spread_says(overall: Mapping[str, Any]) -> str:
    """Return the relative error to the digits that the cells support."""
    ratio = overall["relative_error"]
    known = np.isfinite(ratio)
    return to_precision(ratio, overall["standard_error"]) if known else "not known"


def _column(filling: Filling, place: int, errors: Any) -> dict[str, Any]:
    """Return what is said of a column."""
    fitted, model = filling.model.fitted, filling.model.columns[place]
    column, lacking = (
        filling.table.column(model.name),
        np.isnan(filling.codes[:, place]),
    )
    score, levels = fitted.scores[place], bool(model.levels)
    kind = "levels" if levels else "dates" if model.dates else "numbers"
    by = "model"
    if fitted.constant[place]:
        by = "most frequent level" if levels else "mean"
    standard = None
    if score is not None and errors is not None and score.cells > 1:
        own = fitted.held_out.errors(fitted.levels)[0]  # type: ignore[union-attr]
        part = own[fitted.held_out.columns == place]  # type: ignore[union-attr]
        standard = float(part.std(ddof=1) / np.sqrt(len(part)))
        if not levels:  # of the root of the mean
            standard /= 2 * score.error if score.error > 0 else 1.0
    found: dict[str, Any] = {
        "name": model.name,
        "kind": kind,
        "levels": len(model.levels),
        "observed": int((~lacking).sum()),
        "missing": int(lacking.sum()),
        "filled_by": by,
        "verdict": _verdict(score, by),
        "held_out": 0 if score is None else score.cells,
        "error": None if score is None else score.error,
        "standard_error": standard,
        "constant_error": None if score is None else score.constant_error,
        "measure": "share of wrong levels" if levels else "root mean squared error",
    }
    written = column.written if isinstance(column.written, Written) else Written()
    return found | {
        "error_says": _error_says(found, found["error"], written),
        "constant_says": _error_says(found, found["constant_error"], written),
        "constant": _constant(model, column, fitted.constants[place]),
    }


def _constant(model: ColumnModel, column: Column, code: float) -> Any:
    """Return the mean or the most frequent level of a column as it has it."""
    if model.dates:
        return text_of(of_days(np.array([code]), column.cells, column.values)[0])
    return _plain(decoded(model, np.array([code]))[0])


def _verdict(score: ColumnScore | None, by: str) -> str:
    """Return in words whether a column is predicted better than by a constant."""
    if score is None:
        return "not known"
    if by != "model":
        return "no"
    if score.difference == 0:
        return "the same"
    clear = score.difference < -2 * score.standard_error
    return "yes" if clear else "not clearly"


def _error_says(
    column: Mapping[str, Any], error: float | None, written: Written
) -> str:
    """Return an error in the unit of its column, to the digits that the cells support."""
    if error is None:
        return "not known"
    standard = column["standard_error"]
    if column["kind"] == "levels":
        spread = max(standard or 0.0, 1 / max(column["held_out"], 1))
        return f"{to_precision(100 * error, 100 * spread)}% wrong"
    text = to_precision(error, standard)
    if column["kind"] == "dates":
        return f"{text} days"
    form = written.positive or f"{written.before}#{written.after}"
    return form.removeprefix("+").replace("#", text.replace(".", written.decimal))


def to_precision(value: float, standard_error: float | None) -> str:
    """Return a number with the digits that its standard error leaves.

    Examples
    --------
    >>> to_precision(4.1234, 0.3), to_precision(4234.0, 180.0), to_precision(0.5, None)
    ('4.1', '4200', '0.5')
    >>> to_precision(1.23456e-7, 1e-9), to_precision(3.0, 0.0)
    ('1.23e-07', '3')
    """
    if value == 0 or not np.isfinite(value):
        return f"{value:g}"
    size = int(np.floor(np.log10(abs(value))))
    if standard_error is None or not np.isfinite(standard_error):
        digits = 1
    elif standard_error <= 0:
        digits = 3
    else:
        digits = size - int(np.floor(np.log10(standard_error))) + 1
    digits = min(max(digits, 1), 4)
    found = float(f"{value:.{digits - 1}e}")
    if not 1e-4 <= abs(found) < 1e9:
        return f"{found:.{digits - 1}e}" if standard_error else f"{found:g}"
    places = max(digits - 1 - size, 0)
    return f"{found:.{places}f}" if standard_error else f"{found:g}"


def answer(result: Mapping[str, Any]) -> str:
    """Return in a sentence what was filled."""
    filled, (rows, wide) = result["filled"], result["shape"]
    of = f"{counted(rows, 'row')} and {counted(wide, 'modeled column')}"
    if not filled["cells"]:
        return f"No cell of {of} is missing; the table is written as it was."
    draws = result["how"]["imputations"]
    times = "" if draws is None else f", each by {draws} draws"
    return (
        f"Filled {counted(filled['cells'], 'missing cell')} in "
        f"{counted(filled['columns'], 'column')}{times} (of {of})."
    )


def quality(overall: Mapping[str, Any] | None) -> str:
    """Return in a sentence how good the model is on cells that it had not seen."""
    if overall is None:
        return "How good that is, is not known: too few cells to hold some out."
    standard = overall["standard_error"]
    sure = "not known" if standard is None else f"{standard:.1g}"
    cells = counted(overall["cells"], "cell")
    if not np.isfinite(overall["relative_error"]):
        return f"All of {cells} held out from the fit are the constant of their column."
    return (
        f"On {cells} held out from the fit, the error is "
        f"{overall['says']} of that of column means and most frequent "
        f"levels (mean over {counted(overall['columns'], 'column')}, standard error "
        f"{sure})."
    )


def said_of_intervals(filling: Filling) -> dict[str, Any] | None:
    """Return the widths of intervals and the sizes of sets."""
    found = filling.intervals
    if found is None:
        return None
    lacking = np.isnan(filling.codes)
    columns = {}
    for place, model in enumerate(filling.model.columns):
        rows = lacking[:, place]
        if not rows.any():
            continue
        width = size = None
        if model.levels:
            size = float(found.sets[place][rows].sum(1).mean())
            says = f"{size:.2g} levels"
        else:
            width = float(np.median((found.upper - found.lower)[rows, place]))
            says = f"{width:.2g} days" if model.dates else f"{width:.2g}"
        columns[model.name] = {"width": width, "levels": size, "says": says}
    held_out = filling.model.fitted.held_out
    cells = 0 if held_out is None else len(held_out.columns)
    return {"coverage": found.coverage, "cells": cells, "columns": columns}


def said_of_model(model: TableModel) -> dict[str, Any]:
    """Return the facts of the model and of its descents."""
    fitted, runs = model.fitted, model.fitted.runs
    least, reference = model.reference
    loss = float(runs.losses[runs.best])
    words = [status.word for status in runs.statuses]
    finite = runs.losses[np.isfinite(runs.losses)]
    return {
        "model": {
            "features": fitted.features.width,
            "components": fitted.n_components,
            "strength": fitted.setting.strength,
            "sample": fitted.setting.sample,
        },
        "loss": loss,
        "gap": None if reference is None else loss - least,
        "reference": reference,
        "starts": {
            "count": len(runs),
            "best": int(runs.starts[runs.best]),
            "loss_max": float(finite.max()),
        },
        "statuses": {s.word: words.count(s.word) for s in Status if s.word in words},
        "iterations": int(runs.steps_taken[runs.best]),
    }


def warnings_of(result: Mapping[str, Any], fitted: Fitted) -> list[str]:
    """Return what a user has to know before the filled table is used."""
    found, filled = [], result["filled"]
    lacking = [column for column in result["columns"] if column["missing"]]
    if filled["by_constant"]:
        names = _names(filled["by_constant"])
        found.append(
            "not predicted better than by the mean or the most frequent level, and "
            f"filled by it: {names}"
        )
    unclear = [c["name"] for c in lacking if c["verdict"] == "not clearly"]
    if unclear:
        found.append(
            "predicted not clearly better than by the mean or the most frequent level "
            f"(within two standard errors): {_names(unclear)}"
        )
    unknown = [c["name"] for c in lacking if c["held_out"] == 0]
    if unknown and result["held_out"] is not None:
        found.append(
            f"no observed cell could be held out to judge by: {_names(unknown)}"
        )
    if filled["rows_without_cells"]:
        rows = counted(filled["rows_without_cells"], "row")
        verb = "has" if filled["rows_without_cells"] == 1 else "have"
        found.append(
            f"{rows} {verb} no observed cell in a modeled column; the model's means and most "
            "probable levels are filled in there"
        )
    if filled["outside_range"]:
        cells = counted(filled["outside_range"], "cell")
        found.append(
            f"{cells} filled outside the observed range of the column; --range observed "
            "keeps values within it"
        )
    ended = fitted.runs.statuses[fitted.runs.best]
    if ended is not Status.STATIONARY:
        found.append(
            f"the best start is not stationary ({ended.value}), so that a longer fit "
            "may fill other values"
        )
    return found


def _names(names: Sequence[str]) -> str:
    """Return some names, at most ten of them."""
    listed = ", ".join(short(name) for name in names[:10])
    return f"{listed} and {len(names) - 10} more" if len(names) > 10 else listed


# The pictures


def pictures_of(
    filling: Filling, columns: Sequence[Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Return the best and the worst predicted column, and their held-out cells."""
    fitted = filling.model.fitted
    found: list[dict[str, Any]] = []
    tensors: dict[str, np.ndarray] = {}
    held_out = fitted.held_out
    if held_out is None:
        return found, tensors
    ratios = {}
    for place, score in enumerate(fitted.scores):
        few = len(filling.model.columns[place].levels) <= MOST_LEVELS
        if score and score.cells >= ENOUGH and score.constant_error > 0 and few:
            ratios[place] = score.error / score.constant_error
    if not ratios:
        return found, tensors
    best, worst = (pick(ratios, key=lambda k: ratios[k]) for pick in (min, max))
    for which, place in {"best": best, "worst": worst}.items():
        if which == "worst" and worst == best:
            continue
        model, mine = filling.model.columns[place], held_out.columns == place
        picked = np.flatnonzero(mine)
        if len(picked) > MOST_POINTS and not model.levels:
            generator = stream(filling.options.seed, "split", 1)
            picked = np.sort(generator.choice(picked, MOST_POINTS, replace=False))
        found.append(
            {
                "name": model.name,
                "which": which,
                "levels": level_names(model),
                "cells": int(mine.sum()),
                "drawn": len(picked),
                "error_says": columns[place]["error_says"],
                "constant_says": columns[place]["constant_says"],
            }
        )
        tensors[f"{which}/truth"] = held_out.truth[picked]
        tensors[f"{which}/predicted"] = held_out.values[picked]
    return found, tensors


def caption_of(pictures: Sequence[Mapping[str, Any]]) -> str:
    """Return what the picture of the best and the worst column shows."""
    parts = []
    for one in pictures:
        drawn = f", of which {one['drawn']} are drawn" * (one["drawn"] < one["cells"])
        parts.append(
            f"{one['name']} ({one['which']}): error {one['error_says']}, by its mean or "
            f"mode {one['constant_says']}, on {counted(one['cells'], 'held-out cell')}"
            f"{drawn}"
        )
    return f"{'; '.join(parts)}. A perfect prediction lies on the diagonal."


def command(run: Mapping[str, Any]) -> str:
    """Return a command that makes a run again.

    Examples
    --------
    >>> reading = {"missing": ["?"], "header": True}
    >>> command({"table": "a b.csv", "options": {"seed": 1}, "reading": reading})
    "descents impute 'a b.csv' FILLED --seed 1 --missing '?'"
    """
    words = ["descents", "impute", str(run["table"]), "FILLED"]
    given = {**run["options"], **run["reading"]}
    names = {"identifier": "id", "header": "no-header"}
    default = {**vars(Options()), **vars(Reading())}
    for name, value in given.items():
        option = f"--{names.get(name, name)}"
        plain = tuple(value) if isinstance(value, list) else value
        if plain == default.get(name) or value is None:
            continue
        if isinstance(value, bool):
            words.append(option)
        elif isinstance(value, list | tuple):
            words += [word for one in value for word in (option, str(one))]
        else:
            words += [option, str(value)]
    return shlex.join(words)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
