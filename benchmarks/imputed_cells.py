"""How often intervals hold the hidden cells of real mixed tables, and how sure levels are.

Of the tables and the hidden cells of `imputation.py`, for 20 splits: how often intervals of
numbers and sets of levels hold the hidden cells, how wide they are, and how well the
probabilities of levels are calibrated.

    OMP_NUM_THREADS=1 python benchmarks/imputed_cells.py [--splits 20] [--refine]

The standard error of a coverage is that of the mean over the splits. Widths are over those
of one width for each column, which is the quantile of the distances of the same held-out
cells from their predictions; sizes of sets over those of the smallest set of levels that
have the share 0.9 of the observed cells. Log losses and Brier scores of probabilities are
given for the model, for its linear probabilities, and for the observed shares of the levels.
The calibration error is the mean distance of the share of right fills from their
probability, in 15 bins of equal size, beside what it would be by chance if probabilities
were right and hidden cells independent. Of 20 splits each cell is hidden in four, so that
chance is up to twice as large.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from imputation import FIRST_SEED, TABLES, hide, table_of
from sklearn.exceptions import ConvergenceWarning

from descents.marginal.features import LINEAR, Features, LevelFeatures, NumberFeatures
from descents.marginal.intervals import intervals
from descents.marginal.model import Fitted
from descents.marginal.refinement import RefinedModel
from descents.marginal.settings import Settings
from descents.marginal.tables import fit_table
from descents.statistics.quantiles import rank_of
from descents.tables.tables import from_frame

COVERAGE = 0.9
BINS = 15
LEAST = 1e-3
"""Logarithms are taken of no smaller probability."""


@dataclass
class Split:
    """What was measured of one split: a row a column, and a row a hidden level."""

    columns: pd.DataFrame
    levels: pd.DataFrame


def one_width(fitted: Fitted, place: int) -> float:
    """Return the width of intervals that are equally wide in all rows."""
    held_out = fitted.held_out
    off = np.abs(held_out.truth - held_out.values)
    own = off[held_out.columns == place]
    if len(own) < 30:
        spreads = [getattr(one, "spread", np.nan) for one in fitted.features.columns]
        relative = off / np.array(spreads)[held_out.columns]
        own = relative[np.isfinite(relative)] * spreads[place]
    return 2 * float(np.sort(own)[rank_of(COVERAGE, len(own)) - 1])


def one_set(shares: np.ndarray) -> int:
    """Return how many levels are needed to hold a cell."""
    return int((np.cumsum(np.sort(shares)[::-1]) < COVERAGE - 1e-9).sum()) + 1


def linear(fitted: Fitted) -> Fitted:
    """Return the model with the probabilities of the linear model."""
    columns = tuple(
        replace(one, readout=LINEAR) if isinstance(one, LevelFeatures) else one
        for one in fitted.features.columns
    )
    base = fitted.model
    base = base.model if isinstance(base, RefinedModel) else base
    return replace(fitted, model=replace(base, features=Features(columns)))


def measured(name: str, seed: int, *, refine: bool) -> Split:
    """Return what one split of a table says."""
    frame = table_of(name)
    shown, hidden = hide(frame, FIRST_SEED + seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = fit_table(from_frame(shown), Settings(refine=refine))
    fitted = model.fitted
    codes, _ = model.codes(from_frame(shown))
    whole, _ = model.codes(from_frame(frame))
    found = intervals(fitted, codes, COVERAGE)
    cells, plain = fitted.predicted(codes), linear(fitted).predicted(codes)
    columns, levels = [], []
    for place, column in enumerate(fitted.features.columns):
        rows = np.flatnonzero(hidden[:, list(frame).index(model.columns[place].name)])
        truth = whole[rows, place]
        calibrating = int((fitted.held_out.columns == place).sum())
        if isinstance(column, NumberFeatures):
            low, high = found.lower[rows, place], found.upper[rows, place]
            held = (low <= truth) & (truth <= high)
            width, one = (high - low).mean(), one_width(fitted, place)
            width, one = width / column.spread, one / column.spread
        else:
            # A level that was never observed is in no set.
            seen = np.flatnonzero(~np.isnan(truth))
            true = truth[seen].astype(np.int64)
            sets = found.sets[place][rows]
            held = np.zeros(len(rows), dtype=bool)
            held[seen] = sets[seen, true]
            width, one = sets.sum(1).mean(), one_set(column.shares)
            ways = {
                "model": cells.probabilities[place][rows][seen],
                "linear": plain.probabilities[place][rows][seen],
                "shares": np.tile(column.shares, (len(seen), 1)),
            }
            facts = {"column": place, "right": ways["model"].argmax(1) == true}
            for way, chances in ways.items():
                own = chances[np.arange(len(true)), true]
                facts[f"loss {way}"] = -np.log(np.maximum(own, LEAST))
                facts[f"brier {way}"] = np.square(chances).sum(1) - 2 * own + 1
                facts[f"error {way}"] = chances.argmax(1) != true
                facts[f"chance {way}"] = chances.max(1)
            levels.append(pd.DataFrame(facts))
        columns.append(
            {
                "column": place,
                "numbers": isinstance(column, NumberFeatures),
                "held": held.sum(),
                "cells": len(rows),
                "calibrating": calibrating,
                "width": width,
                "one": one,
            }
        )
    empty = pd.DataFrame({"column": []})
    return Split(
        pd.DataFrame(columns).assign(split=seed),
        pd.concat(levels).assign(split=seed) if levels else empty,
    )


def calibration_error(cells: pd.DataFrame, way: str) -> tuple[float, float]:
    """Return the calibration error of probabilities, and that of right ones by chance."""
    chances = cells[f"chance {way}"].to_numpy()
    right = 1 - cells[f"error {way}"].to_numpy().astype(float)
    found = luck = 0.0
    for some in np.array_split(np.argsort(chances), BINS):
        found += abs((right[some] - chances[some]).sum()) / len(chances)
        spread = np.sqrt((chances[some] * (1 - chances[some])).sum())
        luck += np.sqrt(2 / np.pi) * spread / len(chances)
    return found, luck


def print_intervals(name: str, columns: pd.DataFrame) -> None:
    """Print coverages and widths of the intervals of one table."""
    for numbers, part in columns.groupby("numbers", sort=True):
        sums = part.groupby("split")[["held", "cells", "calibrating"]].sum()
        share = sums["held"].sum() / sums["cells"].sum()
        error = (sums["held"] / sums["cells"]).std(ddof=1) / np.sqrt(len(sums))
        each = np.sqrt(0.09 * (1 / sums["cells"] + 1 / sums["calibrating"])).mean()
        means = part.groupby("column")[["width", "one"]].mean()
        ratio = (means["width"] / means["one"]).mean()
        print(
            f"{name:13} {'numbers' if numbers else 'levels':8} {share:6.3f} +- "
            f"{error:5.3f} (one split {each:5.3f}) {means['width'].mean():6.2f} "
            f"{means['one'].mean():6.2f} {ratio:6.3f}",
            flush=True,
        )


def print_probabilities(name: str, levels: pd.DataFrame) -> None:
    """Print scores of the probabilities of the levels of one table."""
    for way in ("model", "linear", "shares"):
        means = levels.groupby("column")[
            [f"{score} {way}" for score in ("loss", "brier", "error")]
        ].mean()
        found, luck = calibration_error(levels, way)
        print(
            f"{name:13} {way:8} "
            + " ".join(f"{value:7.4f}" for value in means.mean())
            + f" {found:7.4f} ({luck:6.4f} by chance)",
            flush=True,
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--refine", action="store_true")
    given = parser.parse_args()
    splits = {}
    print(
        f"{'table':13} {'cells':8} coverage         {'':20} width {'one':>5} {'ratio':>6}"
    )
    for name in given.tables:
        splits[name] = [
            measured(name, seed, refine=given.refine) for seed in range(given.splits)
        ]
        print_intervals(name, pd.concat([one.columns for one in splits[name]]))
    every = pd.concat([one.columns for some in splits.values() for one in some])
    print(f"all tables: {every['held'].sum() / every['cells'].sum():.4f}")
    print(
        f"\n{'table':13} {'probability':8} log loss, Brier score, share wrong, "
        "calibration error"
    )
    for name, some in splits.items():
        levels = pd.concat([one.levels for one in some])
        if len(levels):
            print_probabilities(name, levels)


if __name__ == "__main__":
    main()
