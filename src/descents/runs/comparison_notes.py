"""Warnings and notes about the sides of a comparison."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from descents.networks.cautions import many_failed
from descents.runs.compared_sides import Side
from descents.runs.train_result import ComparedSides, NetworkResult
from descents.statistics.metrics import metric_kind
from descents.text import counted, joined
from descents.validation import folder_path


def warnings_of(
    sides: Sequence[Side], metric: str, differences: Sequence[ComparedSides]
) -> list[str]:
    """Return what makes the comparison less than one of the options alone."""
    results = list({id(side.result): side.result for side in sides}.values())
    return [
        *_same_run(sides),
        *_differing(results),
        *_weighted_apart(results, metric),
        *_undefined(metric, sides),
        *_failing(sides),
        *_too_few(differences),
    ]


def _same_run(sides: Sequence[Side]) -> list[str]:
    """Warn if a side is compared with itself, or with a repetition of itself."""
    for one, two in itertools.combinations(sides, 2):
        if one.setting != two.setting:
            continue
        both = "both" if len(sides) == 2 else f"{one.name} and {two.name}"
        if folder_path(one.run).resolve() == folder_path(two.run).resolve():
            return [
                f"{both} are the same run, so there is nothing to compare; give another "
                "run"
            ]
        first, second = one.result.run, two.result.run
        same = np.array_equal(one.values, two.values, equal_nan=True)
        if first.sha256 and replace(first, table=second.table) == second and same:
            runs = "both runs" if len(sides) == 2 else both
            return [
                f"{runs} have the same table, options and seed, so their starts are the "
                "same; give a run with other options"
            ]
    return []


def _too_few(differences: Sequence[ComparedSides]) -> list[str]:
    """Warn if there are too few starts for an interval."""
    fewest = min(min(one.counts) for one in differences)
    known = all(one.interval[0] is not None for one in differences)
    if fewest > 1 or known:
        return []
    return [
        f"the difference is of {counted(fewest, 'start')}, which says nothing about other "
        "starts, so that there is no interval; give more --starts"
    ]


def _differing(results: Sequence[NetworkResult]) -> list[str]:
    """Warn about differences between the runs that affect the comparison."""
    warnings = []
    both = "both" if len(results) == 2 else "all"
    unknown = [one.run.table for one in results if not one.run.sha256]
    if unknown and len(results) > 1:
        warnings.append(
            "a run of an earlier version does not say which bytes it read from standard "
            "input, so it is not known whether the tables are the same; train it again"
        )
    elif len({(one.run.sha256, str(one.target)) for one in results}) > 1:
        learned = joined(list(dict.fromkeys(map(_learned, results))))
        warnings.append(
            f"they learned from different tables or targets ({learned}), so the difference "
            f"is not only that of their options; train {both} on the same table"
        )
    held = dict.fromkeys(one.run.options["validation"] for one in results)
    if len(held) > 1:
        warnings.append(
            f"they hold out different rows (--validation {joined(list(held))}), which "
            "contributes to the difference"
        )
    seeds = dict.fromkeys(one.run.options["seed"] for one in results)
    if not warnings and len(seeds) > 1:
        warnings.append(
            f"their seeds ({joined(list(map(str, seeds)))}) draw different starts and "
            "held-out rows; with the same seed they are compared start by start"
        )
    return warnings


def _learned(result: NetworkResult) -> str:
    """Return which target of which table a run learned."""
    rows = counted(result.rows, "row")
    return f"{result.target.name} of {result.run.table}, {rows}"


def _weighted_apart(results: Sequence[NetworkResult], metric: str) -> list[str]:
    """Warn if the metric weights rows or classes differently in the runs."""
    options = [one.run.options for one in results]
    warnings = []
    rows = dict.fromkeys(one.get("weights") for one in options)
    if len(rows) > 1:
        names = joined([f"--weights {name}" if name else "none" for name in rows])
        warnings.append(
            f"they weight rows differently ({names}), and {metric} uses these weights, "
            "which contributes to the difference"
        )
    classes = {tuple(one.get("class_weight") or ()) for one in options}
    if metric_kind(metric) == "loss" and len(classes) > 1:
        warnings.append(
            f"their --class-weight differ, and {metric} uses these weights, which "
            "contributes to the difference; validation_log_loss does not use them"
        )
    return warnings


def _undefined(metric: str, sides: Sequence[Side]) -> list[str]:
    """Warn about sides of which no start has a value."""
    return [
        f"{metric} is not defined for any start of {side.run}; give --metric "
        "validation_loss, or another that is defined"
        for side in sides
        if not len(side.finite) and not side.failed.all()
    ]


def _failing(sides: Sequence[Side]) -> list[str]:
    """Warn about sides of which many starts failed."""
    sentences = [
        many_failed(side.failed, f"of {side.run} ({side.setting}) ") for side in sides
    ]
    return [sentence for sentence in sentences if sentence]


def notes_of(sides: Sequence[Side]) -> list[str]:
    """Return notes on settings that were chosen by the starts that are compared."""
    notes = [
        f"{side.setting} is the best of {len(side.result.settings)} settings of "
        f"{side.run} by these starts, so its values are somewhat too good; to compare it "
        "without this bias, train it alone with another --seed"
        for side in sides
        if side.chosen
    ]
    return list(dict.fromkeys(notes))
