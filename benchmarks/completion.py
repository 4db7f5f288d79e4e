"""Tables with holes, to one held-out error: a large sparse, a small dense, a tall one.

Planted rank 10, factors normal, each entry of variance 1, noise of standard deviation
0.1. Quality is the root mean square error on what was held out, which noise keeps above
0.1. Each contender takes the fewest sweeps that reach the error asked for.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from suite import Case, Contender, Curve, LeftOut, Outcome, Run, fewest, own_threads

ROWS, COLUMNS, RANK, OBSERVED = 20_000, 5_000, 10, 2_000_000
RATINGS = 4_530_000
"""Draws with repeats, which leave 4 million cells to fit and a tenth more held out."""
NOISE = 0.1
LARGE_ERROR, SMALL_ERROR, TALL_ERROR = 0.1080, 0.1022, 0.64


class Planted:
    """Observed and held-out entries of a planted table, in float32."""

    def __init__(
        self, rows: int = ROWS, columns: int = COLUMNS, observed: int = OBSERVED
    ) -> None:
        generator = np.random.default_rng(0)
        U = generator.normal(size=(rows, RANK)).astype(np.float32)
        V = generator.normal(size=(columns, RANK)).astype(np.float32)
        U /= np.float32(np.sqrt(RANK))
        cells = np.unique(generator.integers(0, rows * columns, observed))
        i, j = np.divmod(cells, columns)
        noise = generator.normal(scale=NOISE, size=len(cells))
        x = (_products(U, V, i, j) + noise).astype(np.float32)
        held = generator.random(len(cells)) < 0.1
        self.shape = (rows, columns)
        self.i, self.j, self.x = (part[~held] for part in (i, j, x))
        self.held_i, self.held_j, self.held_x = (part[held] for part in (i, j, x))

    def error(self, U: Any, V: Any) -> float:
        """Return the root mean square error of factors on what was held out."""
        guess = _products(np.asarray(U), np.asarray(V), self.held_i, self.held_j)
        return float(np.sqrt(np.mean((guess - self.held_x) ** 2, dtype=np.float64)))

    @property
    def dense(self) -> np.ndarray:
        """The table with NaN at its holes."""
        table = np.full(self.shape, np.nan, np.float32)
        table[self.i, self.j] = self.x
        return table


def _products(U: Any, V: Any, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    pieces = [slice(k, k + 2**16) for k in range(0, len(i), 2**16)]
    return np.concatenate([(U[i[p]] * V[j[p]]).sum(1) for p in pieces])


def _fewest_then(fit: Any, planted: Planted, most: float, steps: int | None) -> Run:
    """Find the fewest steps that reach an error; time the fit, its data made ready too."""
    count = steps or fewest(lambda count: planted.error(*fit(count)) <= most, 200)

    def run() -> Outcome:
        begun = time.perf_counter()
        U, V = fit(count)
        seconds = time.perf_counter() - begun
        return Outcome(planted.error(U, V), seconds, f"{count} sweeps")

    return run


def ours(
    most: float = LARGE_ERROR,
    small: bool = False,
    steps: int | None = None,
    observed: int = OBSERVED,
    cells: int = ROWS * COLUMNS,
    penalty: float = 0.1,
) -> Run:
    """Alternate from a normal start, the problem built within the time."""
    import torch
    from scipy.sparse import csr_array

    from descents import Alternating, Factorization, Stop, descend
    from descents.cells.observed import cells as observed_cells

    planted = _small() if small else _large(observed, cells)
    if small:
        table: Any = planted.dense
    else:
        table = csr_array((planted.x, (planted.i, planted.j)), shape=planted.shape)

    def fit(count: int) -> Any:
        problem = Factorization(
            observed_cells(table),
            RANK,
            initialization="normal",
            penalty=penalty,
            dtype=torch.float32,
        )
        runs = descend(problem, 1, steps=Alternating(), stop=Stop(count), width=1)
        return runs.parameters["U"][0], runs.parameters["V"][0]

    return _fewest_then(fit, planted, most, steps)


def cmfrec(
    cg: bool = False,
    steps: int | None = None,
    observed: int = OBSERVED,
    cells: int = ROWS * COLUMNS,
) -> Run:
    """Take cmfrec's CMF without biases, by Cholesky or conjugate gradients."""
    from cmfrec import CMF
    from scipy.sparse import coo_array, coo_matrix

    planted = _large(observed, cells)
    places = (planted.i.astype(np.int32), planted.j.astype(np.int32))
    table = coo_matrix(coo_array((planted.x, places), shape=planted.shape))

    def fit(count: int) -> Any:
        model = CMF(
            k=RANK,
            lambda_=0.1,
            method="als",
            use_cg=cg,
            finalize_chol=False,
            user_bias=False,
            item_bias=False,
            center=False,
            use_float=True,
            niter=count,
            nthreads=own_threads(),
            precompute_for_predictions=False,
            verbose=False,
            random_state=0,
        ).fit(table)
        return model.A_, model.B_

    return _fewest_then(fit, planted, LARGE_ERROR, steps)


def ratings(observed: int = RATINGS) -> Run:
    """Integrate the factors of both sides out; told the rank, and nothing else."""
    from scipy.sparse import coo_array

    from descents import LowRankRatings

    planted = _large(observed, ROWS * COLUMNS)
    table = coo_array((planted.x, (planted.i, planted.j)), shape=planted.shape)

    def run() -> Outcome:
        begun = time.perf_counter()
        model = LowRankRatings(RANK, random_state=0).fit(table)
        seconds = time.perf_counter() - begun
        guess = model.predict_cells(planted.held_i, planted.held_j)
        return Outcome(_rmse(guess, planted), seconds, f"{model.n_iter_} steps")

    return run


def cmfrec_shipped(observed: int = RATINGS, **options: Any) -> Run:
    """Take cmfrec's CMF as it comes, told the rank, or more options."""
    from cmfrec import CMF
    from scipy.sparse import coo_array, coo_matrix

    planted = _large(observed, ROWS * COLUMNS)
    places = (planted.i.astype(np.int32), planted.j.astype(np.int32))
    table = coo_matrix(coo_array((planted.x, places), shape=planted.shape))

    def run() -> Outcome:
        begun = time.perf_counter()
        model = CMF(
            k=RANK,
            nthreads=own_threads(),
            precompute_for_predictions=False,
            verbose=False,
            random_state=0,
            **options,
        ).fit(table)
        seconds = time.perf_counter() - begun
        guess = model.predict(planted.held_i, planted.held_j)
        return Outcome(_rmse(guess, planted), seconds)

    return run


def _rmse(guess: np.ndarray, planted: Planted) -> float:
    return float(np.sqrt(np.mean((guess - planted.held_x) ** 2, dtype=np.float64)))


def soft_impute() -> Run:
    """Take fancyimpute's SoftImpute; it centres nothing and needs a rank and a shrinkage."""
    from fancyimpute import SoftImpute

    planted = _small()
    table = planted.dense

    def run() -> Outcome:
        begun = time.perf_counter()
        filled = SoftImpute(
            max_rank=RANK,
            shrinkage_value=4.0,
            max_iters=100,
            init_fill_method="zero",
            verbose=False,
        ).fit_transform(table)
        seconds = time.perf_counter() - begun
        guess = filled[planted.held_i, planted.held_j]
        return Outcome(float(np.sqrt(np.mean((guess - planted.held_x) ** 2))), seconds)

    return run


def qolmat_soft() -> Run:
    """Take qolmat's SoftImpute, of the rank that is planted."""
    from qolmat.imputations.softimpute import SoftImpute

    planted = _small()
    table = planted.dense.astype(np.float64)
    seen = ~np.isnan(table)

    def run() -> Outcome:
        begun = time.perf_counter()
        model = SoftImpute(tau=0.1, rank=RANK, max_iterations=100, tolerance=1e-6)
        filled = model.decompose(table.copy(), seen)[0]
        seconds = time.perf_counter() - begun
        guess = filled[planted.held_i, planted.held_j]
        return Outcome(float(np.sqrt(np.mean((guess - planted.held_x) ** 2))), seconds)

    return run


def _tall() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a tall table of rank two with noise, complete and with missing cells."""
    generator = np.random.default_rng(0)
    table = generator.normal(size=(ROWS, 2)) @ generator.normal(size=(2, 8))
    table += 0.5 * generator.normal(size=table.shape)
    hidden = generator.random(table.shape) < 0.2
    return table, np.where(hidden, np.nan, table), hidden


def _filled(fill: Any) -> Run:
    """Time a function that fills the tall table, by processor seconds."""
    table, given, hidden = _tall()

    def run() -> Outcome:
        begun = time.process_time()
        filled = fill(given)
        seconds = time.process_time() - begun
        return Outcome(
            float(np.sqrt(np.square((filled - table)[hidden]).mean())), seconds
        )

    return run


def tall(held_out: float = 0.0) -> Run:
    """Fit with an l2, and impute; with `held_out` the fit is judged too."""
    from descents import LowRankModel

    def fill(given: np.ndarray) -> Any:
        model = LowRankModel(2, penalty=20.0, held_out=held_out, random_state=0)
        return model.fit(given).impute(given)

    return _filled(fill)


def iterative() -> Run:
    """Take scikit-learn's IterativeImputer as it comes."""
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    return _filled(IterativeImputer(random_state=0).fit_transform)


def h2o_glrm() -> Run:
    """Take H2O's GLRM: its training alone, without its server's start and the upload."""
    import logging

    import h2o
    from h2o.estimators import H2OGeneralizedLowRankEstimator

    logging.disable(logging.WARNING)
    h2o.init(nthreads=own_threads(), max_mem_size="3g", log_level="ERRR")
    h2o.no_progress()
    planted = _small()
    frame = h2o.H2OFrame(planted.dense)

    def run() -> Outcome:
        model = H2OGeneralizedLowRankEstimator(
            k=RANK,
            loss="Quadratic",
            gamma_x=0.1,
            gamma_y=0.1,
            regularization_x="Quadratic",
            regularization_y="Quadratic",
            init="SVD",
            max_iterations=100,
            seed=0,
        )
        begun = time.perf_counter()
        model.train(training_frame=frame)
        seconds = time.perf_counter() - begun
        V = np.array(model.archetypes(), np.float64)
        name = model._model_json["output"]["representation_name"]
        U = h2o.get_frame(name).as_data_frame(use_multi_thread=False).to_numpy()
        if len(U) != planted.shape[0]:
            raise LeftOut("its factors have another shape than the table")
        return Outcome(planted.error(U, V.T), seconds)

    return run


def _large(observed: int, cells: int) -> Planted:
    """Return a table of so many entries, four times as many rows as columns."""
    columns = round((cells / 4) ** 0.5)
    return Planted(4 * columns, columns, observed)


def _small() -> Planted:
    """Return the small table, with 70% of its cells and a tenth of those held out."""
    return Planted(2000, 500, 1_204_000)  # draws with repeats leave 70% of a million


def cases(quick: bool) -> list[Case]:
    """Return the cases of this subject."""
    h2o = Contender(
        "H2O GLRM, training alone",
        "completion:h2o_glrm",
        asked=40,
        turns=1,
        threads=2,
        limit=300,
    )
    small = Case(
        "completion-small",
        "A small table with holes to one held-out error",
        (
            Contender(
                "descents, alternating",
                "completion:ours",
                {"small": True, "most": SMALL_ERROR},
                threads=2,
            ),
            *([] if quick else [h2o]),
            Contender(
                "fancyimpute SoftImpute", "completion:soft_impute", threads=2, turns=1
            ),
            Contender(
                "qolmat SoftImpute", "completion:qolmat_soft", threads=2, turns=1
            ),
        ),
        "held-out RMSE",
        most=SMALL_ERROR,
        note="2,000 x 500, rank 10, 30% missing and 7% held out, noise 0.1, float32. "
        "H2O's time is that of its training, of 100 iterations as it is not told a target, "
        "without its server's start and the upload.",
    )
    upright = Case(
        "completion-tall",
        "A tall table filled under an l2",
        (
            Contender("descents, fit with l2 and impute", "completion:tall"),
            Contender(
                "descents, judged by held-out cells too",
                "completion:tall",
                {"held_out": 0.1},
            ),
            Contender(
                "scikit-learn's IterativeImputer", "completion:iterative", asked=1
            ),
        ),
        "hidden RMSE",
        most=TALL_ERROR,
        note="20,000 x 8, rank 2, noise 0.5, 20% missing; processor seconds. To be judged, "
        "as is the default, takes a further fit without a tenth of the cells.",
    )
    if quick:
        return [small, upright]
    large = Case(
        "completion",
        "A sparse table to one held-out error",
        (
            Contender("descents, alternating", "completion:ours", threads=2),
            Contender("cmfrec, exact", "completion:cmfrec", asked=1.3, threads=2),
            Contender(
                "cmfrec, conjugate gradients",
                "completion:cmfrec",
                {"cg": True},
                asked=1.3,
                threads=2,
            ),
        ),
        "held-out RMSE",
        most=LARGE_ERROR,
        note="20,000 x 5,000, rank 10, 2 million entries of which 10% held out, noise "
        "0.1, float32; what each contender does with the entries before it sweeps "
        "counts. cmfrec without biases and centering, as the data have none.",
    )
    untuned = Case(
        "ratings",
        "Four million ratings, with nothing tuned",
        (
            Contender("descents, both sides integrated out", "completion:ratings"),
            Contender("cmfrec, as it comes", "completion:cmfrec_shipped", asked=1.0),
            Contender(
                "cmfrec, told the penalty",
                "completion:cmfrec_shipped",
                {"lambda_": 0.1, "use_cg": False, "niter": 5},
            ),
        ),
        "held-out RMSE",
        most=0.14,
        note="20,000 x 5,000, rank 10, 4 million entries and 440,000 held out, noise 0.1. "
        "All are told the rank. One thread each; the time is that of the fit.",
    )
    return [large, small, upright, untuned]


def curves(quick: bool) -> list[Curve]:
    """Return what a run costs, in time and memory, against entries and cells."""
    both = (
        Contender("descents", "completion:ours", {"steps": 5}, threads=2),
        Contender("cmfrec", "completion:cmfrec", {"steps": 5}, threads=2),
    )
    million = 10**6
    return [
        Curve(
            "observed",
            "Completion, 20,000 x 5,000, 5 sweeps",
            "observed",
            both,
            (million // 4, million // 2)
            if quick
            else (million // 2, million, 2 * million, 4 * million),
        ),
        Curve(
            "cells",
            "Completion, 500,000 entries, 5 sweeps",
            "cells",
            both,
            (4 * million, 16 * million)
            if quick
            else (4 * million, 16 * million, 64 * million, 256 * million),
        ),
    ]
