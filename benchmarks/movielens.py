"""How well held-out ratings of MovieLens 100k are foretold, against peers.

Five folds, drawn at random over the ratings with one seed, the same for each contender;
every prediction is cut to the range from 1 to 5. What is printed is the root of the
mean squared error, its mean and standard deviation over the folds, and the mean seconds
of a fold. The peers' options were tuned on the first fold.

    pip install --no-deps recbole==1.2.1 && pip install pandas scikit-surprise cmfrec
    OMP_NUM_THREADS=1 python benchmarks/movielens.py [--ours-only]

Peers that are not installed are left out. What the peers reached is kept in a file
outside the repository, so that only the first run waits for them.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array, coo_matrix

import descents
from descents.tables.datasets import Ratings, movielens_100k

FOLDS = 5
THREADS = 1
CACHE = Path(tempfile.gettempdir()) / "descents-benchmarks" / "movielens.json"

Predict = Callable[..., np.ndarray]


def fold_of_each(ratings: int) -> np.ndarray:
    """Return the fold that each rating is held out in."""
    return np.random.default_rng(0).permutation(ratings) % FOLDS


def mean(train: Ratings, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Foretell the mean of all ratings."""
    return np.full(len(users), train.values.mean())


def surprise_svd(
    train: Ratings, users: np.ndarray, items: np.ndarray, **options: float
) -> np.ndarray:
    """Foretell by scikit-surprise's SVD, stochastic gradient descent with biases."""
    import pandas as pd
    from surprise import SVD, Dataset, Reader

    frame = pd.DataFrame({"u": train.users, "i": train.items, "r": train.values})
    data = Dataset.load_from_df(frame, Reader(rating_scale=(1, 5)))
    model = SVD(random_state=0, **options).fit(data.build_full_trainset())
    pairs = zip(users.tolist(), items.tolist(), strict=True)
    return np.array([model.predict(*pair).est for pair in pairs])


def cmfrec_cmf(
    train: Ratings, users: np.ndarray, items: np.ndarray, **options: Any
) -> np.ndarray:
    """Foretell by cmfrec's CMF, alternating least squares with biases."""
    from cmfrec import CMF

    table = coo_matrix((train.values, (train.users, train.items)), shape=train.shape)
    model = CMF(verbose=False, nthreads=THREADS, random_state=0, **options).fit(table)
    return model.predict(users, items)


def ours(
    train: Ratings,
    users: np.ndarray,
    items: np.ndarray,
    components: int,
    starts: int,
    **options: Any,
) -> np.ndarray:
    """Foretell by a low-rank model of the stored entries."""
    table = coo_array((train.values, (train.users, train.items)), shape=train.shape)
    model = descents.LowRankModel(
        n_components=components,
        n_starts=starts,
        random_state=0,
        **{"sparse": "missing", **options},
    ).fit(table.tocsr())
    return model.predict_cells(users, items)


def both_sides(
    train: Ratings, users: np.ndarray, items: np.ndarray, starts: int
) -> np.ndarray:
    """Predict by variational Bayes with both sides integrated out, which has no options."""
    from descents.marginal.ratings import fit_ratings

    table = coo_array((train.values, (train.users, train.items)), shape=train.shape)
    return fit_ratings(table, starts=starts).predicted(users, items).values


PEERS: dict[str, tuple[str, Predict, dict[str, Any]]] = {
    "mean": ("numpy", mean, {}),
    "surprise SVD, default": ("scikit-surprise", surprise_svd, {}),
    "surprise SVD, tuned": (
        "scikit-surprise",
        surprise_svd,
        {"n_factors": 100, "n_epochs": 100, "reg_all": 0.1, "lr_all": 0.005},
    ),
    "cmfrec CMF, default": ("cmfrec", cmfrec_cmf, {}),
    "cmfrec CMF, tuned": (
        "cmfrec",
        cmfrec_cmf,
        {"k": 40, "lambda_": [5.0, 5.0, 15.0, 15.0, 15.0, 15.0]},
    ),
}


def measure(ratings: Ratings, predict: Predict, fold: int) -> dict[str, float]:
    """Return error and seconds of one contender on one fold."""
    folds = fold_of_each(len(ratings.values))
    kept, held = folds != fold, folds == fold
    train = replace(
        ratings,
        users=ratings.users[kept],
        items=ratings.items[kept],
        values=ratings.values[kept],
    )
    start = time.perf_counter()
    guess = np.asarray(predict(train, ratings.users[held], ratings.items[held]))
    seconds = time.perf_counter() - start
    guess = np.where(np.isfinite(guess), guess, train.values.mean()).clip(1, 5)
    off = np.sqrt(np.mean((guess - ratings.values[held]) ** 2))
    return {"rmse": float(off), "seconds": seconds}


def version(package: str) -> str | None:
    """Return the version of an installed package, None where it is absent."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def cached(path: Path, key: str, run: Callable[[], dict], fresh: bool) -> dict:
    """Return what is kept under a key, or run and keep it."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    if key not in kept or fresh:
        kept[key] = run()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(kept, indent=1))
    return kept[key]


def row(contender: str, results: Iterable[dict[str, float]]) -> str:
    """Return one line of the printed table."""
    results = list(results)
    errors = [result["rmse"] for result in results]
    spread = np.std(errors, ddof=1) if len(errors) > 1 else np.nan
    seconds = np.mean([result["seconds"] for result in results])
    return f"{contender:24} {np.mean(errors):7.4f} +- {spread:6.4f} {seconds:8.2f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folds", type=int, default=FOLDS, help="how many of the five")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--components", type=int, default=6)
    parser.add_argument("--starts", type=int, default=8)
    parser.add_argument(
        "--options", type=json.loads, default={}, help="more of LowRankModel's, as JSON"
    )
    parser.add_argument(
        "--both-sides", type=int, metavar="STARTS", help="run the ratings model too"
    )
    parser.add_argument("--ours-only", action="store_true", help="run no peer")
    parser.add_argument("--fresh", action="store_true", help="run every peer again")
    parser.add_argument("--cache", type=Path, default=CACHE)
    given = parser.parse_args()
    ratings = movielens_100k()
    print(f"{'contender':24} {'RMSE':>7}    {'sd':>6} {'seconds':>8}")
    for peer in [] if given.ours_only else given.peers:
        package, predict, options = PEERS[peer]
        if version(package) is None:
            print(f"{peer:24} left out: {package} is not installed")
            continue
        results = [
            cached(
                given.cache,
                f"{peer} | {fold} | {package} {version(package)} | {options}",
                partial(measure, ratings, partial(predict, **options), fold),
                given.fresh,
            )
            for fold in range(given.folds)
        ]
        print(row(peer, results), flush=True)
    if given.both_sides:
        predict = partial(both_sides, starts=given.both_sides)
        results = [measure(ratings, predict, fold) for fold in range(given.folds)]
        print(row(f"ours, both sides, {given.both_sides}", results), flush=True)
    if not hasattr(descents, "LowRankModel"):
        print("ours left out: descents has no LowRankModel here")
        return
    predict = partial(
        ours, components=given.components, starts=given.starts, **given.options
    )
    label = f"ours, rank {given.components}"
    results = [measure(ratings, predict, fold) for fold in range(given.folds)]
    print(row(label, results), flush=True)


if __name__ == "__main__":
    main()
