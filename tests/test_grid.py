"""Every loss under every constraint, compared with an independent solver.

The peer writes each set as a smooth function of free numbers (squares, softmax, a column
over its norm, supports that are chosen in turn) and gives the whole of it to scipy's
L-BFGS-B, from several starts. Ours takes plain defaults and the best of 5 starts.
"""

from __future__ import annotations

import itertools
import math
import warnings
import zlib

import numpy as np
import pytest
import scipy.sparse
import scipy.special
import torch
from scipy.optimize import minimize

from conftest import slow
from descents import Alternating, Factorization, LowRankModel, Stop, descend
from descents.cells.observed import cells
from descents.errors import InvalidValueError
from descents.factorization.guarded import Guarded
from descents.losses import get_loss
from descents.losses.base import slope, still_rounded
from descents.lowrank.update_rules import step_named

ROWS, COLUMNS, LEVELS = 14, 7, 3
RANK = 3
LOSSES = (
    "squared",
    "absolute",
    "huber:0.5",
    "quantile:0.8",
    "periodic:6",
    "logistic",
    "hinge",
    "poisson",
    "kl",
    "itakura_saito",
    "beta:0.5",
    "beta:1.5",
    "beta:3",
    "categorical",
    "one_vs_all",
    "one_vs_all_hinge",
    "ordinal",
    "ordinal_hinge",
    "bigger_vs_smaller",
    "bigger_vs_smaller_hinge",
    "sequential",
    "ordistic",
)
DIVERGENCES = ("kl", "itakura_saito", "beta:0.5", "beta:1.5", "beta:3")
ALONE = (
    "nonnegative",
    "simplex",
    "unit_norm",
    "sparse:2",
    "one_sparse",
    "one_hot",
)
ROUGH = (
    "absolute",
    "quantile",
    "hinge",
    "one_vs_all_hinge",
    "ordinal_hinge",
    "bigger_vs_smaller_hinge",
)
CORNERS = (0.3, 0.1, 0.03, 0.003, 1e-4)
"""How far the peer rounds corners, one descent after the other."""
PAIRS = (
    (None, None),
    *((one, None) for one in ALONE),
    *((None, one) for one in ALONE),
    *((one, "nonnegative") for one in ALONE),
    *(("nonnegative", one) for one in ALONE if one != "nonnegative"),
    ("simplex", "simplex"),
    ("unit_norm+nonnegative", "nonnegative"),
    ("nonnegative", "unit_norm+nonnegative"),
    ("simplex", "unit_norm"),
    ("sparse:2", "unit_norm"),
    ("sparse:2+nonnegative", "nonnegative"),
    ("one_sparse+nonnegative", "nonnegative"),
    ("one_hot", "simplex"),
)


def seed_of(*parts: object) -> int:
    return zlib.crc32(repr(parts).encode())


def table_of(loss: str, seed: int) -> np.ndarray:
    """Return a small table with two holes, of a planted rank of two and noise."""
    draw, name = np.random.default_rng(seed), loss.partition(":")[0]
    table = drawn_table(name, draw)
    while get_loss(loss).kind in ("classes", "levels") and any(
        len(np.unique(column[~np.isnan(column)])) < LEVELS for column in table.T
    ):
        table = drawn_table(name, draw)  # the peer expects each level in each column
    return table


def drawn_table(name: str, draw: np.random.Generator) -> np.ndarray:
    latent = draw.normal(size=(ROWS, 2)) @ draw.normal(size=(2, COLUMNS))
    latent = latent + 0.5 * draw.normal(size=(ROWS, COLUMNS))
    if name in ("squared", "absolute", "huber", "quantile"):
        table = latent + 1
    elif name == "periodic":
        table = (latent + 1) % 6
    elif name in ("logistic", "hinge"):
        table = (latent > 0) * 1.0
    elif name in ("poisson", "kl"):
        table = draw.poisson(np.exp(latent)) * 1.0
    elif name in ("itakura_saito", "beta"):
        table = np.exp(latent) * draw.gamma(4, 0.25, latent.shape)
    elif name in ("categorical", "one_vs_all", "one_vs_all_hinge"):
        table = (latent + 0.7 * draw.normal(size=latent.shape) > 0) * 1.0
        table += (latent > 1.2) * 1.0
        table = (table + 1) % 3  # no order
    else:
        table = (latent > -0.7) * 1.0 + (latent > 0.7)
    table[draw.integers(ROWS), draw.integers(COLUMNS)] = np.nan
    table[draw.integers(ROWS), draw.integers(COLUMNS)] = np.nan
    return table


class Peer:
    """One problem, solved by L-BFGS-B in free numbers.

    Parameters
    ----------
    table : ndarray
    loss : str
    pair : tuple
        The constraints of rows and of columns.
    offsets : bool
        Whether columns have offsets.
    l2 : float
        The penalty on both factors.
    l2_biases : float
        The penalty on the distance of the offsets from `base`.
    base : ndarray, optional
    """

    def __init__(self, table, loss, pair, offsets, l2, l2_biases=0.0, base=0.0):
        self.name, _, number = loss.partition(":")
        self.number = float(number) if number else None
        if self.name in ("kl", "itakura_saito"):
            self.number = {"kl": 1.0, "itakura_saito": 0.0}[self.name]
        self.mask = torch.tensor(~np.isnan(table))
        self.x = torch.tensor(np.nan_to_num(table, nan=1.0))
        self.sets = [set((one or "").split("+")) - {""} for one in pair]
        self.offsets, self.l2, self.l2_biases = offsets, l2, l2_biases
        self.base = torch.as_tensor(base)
        self.each = {
            "categorical": LEVELS,
            "one_vs_all": LEVELS,
            "one_vs_all_hinge": LEVELS,
            "ordistic": LEVELS,
            "bigger_vs_smaller": LEVELS - 1,
            "bigger_vs_smaller_hinge": LEVELS - 1,
            "sequential": LEVELS - 1,
        }.get(self.name, 1)
        self.cuts = (LEVELS - 1) * COLUMNS if self.name == "ordinal" else 0
        self.shapes = [(ROWS, RANK), (COLUMNS * self.each, RANK)]
        self.wide = COLUMNS * self.each

    def factor(self, free, which, support):
        """Return a member of a set for free numbers."""
        asked = self.sets[which]
        if "one_hot" in asked:
            return support * 1.0
        if "simplex" in asked:
            return free.softmax(-1)
        if "nonnegative" in asked:
            free = free.square()
        if "unit_norm" in asked:
            free = free / free.norm(dim=0)
        return free if support is None else free * support

    def split(self, free):
        sizes = [math.prod(shape) for shape in self.shapes]
        sizes += [self.wide * self.offsets, self.cuts]
        parts = torch.split(free, sizes)
        return [p.reshape(s) for p, s in zip(parts, self.shapes, strict=False)] + [
            parts[2],
            parts[3],
        ]

    def cells(self, z, cuts, smooth):  # noqa: PLR0911
        """Return the loss of each cell of a table of natural parameters."""
        x, name, number = self.x, self.name, self.number
        soft = torch.nn.functional.softplus

        def corner(r):  # max(r, 0)
            return (r + (r.square() + smooth**2).sqrt()) / 2

        def hinge(y, z):
            return corner(1 - y * z)

        if self.each > 1:
            z = z.reshape(ROWS, COLUMNS, self.each)
            hot = x[..., None] == torch.arange(self.each)
            above = x[..., None] > torch.arange(self.each)
        r = x - z if self.each == 1 else None
        if name == "squared":
            return r.square()
        if name == "absolute":
            return corner(r) + corner(-r)
        if name == "huber":
            size = r.abs()
            return torch.where(size <= number, r.square(), number * (2 * size - number))
        if name == "quantile":
            return number * corner(r) + (1 - number) * corner(-r)
        if name == "periodic":
            return 1 - torch.cos(2 * math.pi * r / number)
        if name == "logistic":
            return soft(z) - x * z
        if name == "hinge":
            return hinge(2 * x - 1, z)
        if name == "poisson":
            return z.exp() - x * z + torch.special.xlogy(x, x) - x
        if name in ("kl", "itakura_saito", "beta"):
            z, b = z + 1e-300, number
            if b == 1:
                return torch.special.xlogy(x, x) - torch.special.xlogy(x, z) - x + z
            if b == 0:
                return x / z - (x / z).log() - 1
            return (x**b + (b - 1) * z**b - b * x * z ** (b - 1)) / (b * (b - 1))
        if name == "categorical":
            return z.logsumexp(-1) - (z * hot).sum(-1)
        if name == "one_vs_all":
            return (soft(z) - z * hot).sum(-1)
        if name == "one_vs_all_hinge":
            return hinge(2.0 * hot - 1, z).sum(-1)
        if name == "ordistic":
            return (-z.square()).logsumexp(-1) + (z.square() * hot).sum(-1)
        if name == "bigger_vs_smaller":
            return (soft(z) - z * above).sum(-1)
        if name == "bigger_vs_smaller_hinge":
            return hinge(2.0 * above - 1, z).sum(-1)
        if name == "sequential":
            asked = x[..., None] >= torch.arange(self.each)
            return ((soft(z) - z * above) * asked).sum(-1)
        if name == "ordinal_hinge":
            middles = torch.arange(LEVELS - 1) + 0.5
            side = 2.0 * (x[..., None] > torch.arange(LEVELS - 1)) - 1
            return corner(0.5 - side * (z[..., None] - middles)).sum(-1)
        assert name == "ordinal"
        cuts = cuts.reshape(COLUMNS, LEVELS - 1)
        cuts = torch.cat([cuts[:, :1], cuts[:, :1] + cuts[:, 1:].exp().cumsum(-1)], -1)
        below = torch.sigmoid(cuts - z[..., None])
        end = torch.ones_like(below[..., :1])
        chances = torch.cat([below, end], -1) - torch.cat([0 * end, below], -1)
        return -(chances.gather(-1, x.long()[..., None])[..., 0] + 1e-300).log()

    def total(self, free, supports, smooth):
        U, V, offsets, cuts = self.split(free)
        U, V = self.factor(U, 0, supports[0]), self.factor(V, 1, supports[1])
        z = U @ V.T
        if self.offsets:
            z = z + offsets
        loss = torch.where(self.mask, self.cells(z, cuts, smooth), 0.0).sum()
        if self.offsets and self.l2_biases:
            loss = loss + self.l2_biases * (offsets - self.base).square().sum()
        return loss + self.l2 * (U.square().sum() + V.square().sum())

    def descended(self, free, supports, corners=CORNERS, most=600):
        rough = self.name in ROUGH

        def value(flat, smooth):
            leaf = torch.tensor(flat, requires_grad=True)
            total = self.total(leaf, supports, smooth)
            (slope,) = torch.autograd.grad(total, leaf)
            return float(total.detach()), slope.nan_to_num(0, 0, 0).numpy()

        for smooth in corners if rough else (0.0,):
            free = minimize(
                value,
                free,
                (smooth,),
                jac=True,
                method="L-BFGS-B",
                options={"maxiter": most, "ftol": 1e-8, "maxfun": 4 * most // 3},
            ).x
        with torch.no_grad():
            return free, float(self.total(torch.tensor(free), supports, 0.0))

    def counts(self, which):
        """Return how many entries of a row may be other than 0, or None."""
        for one in self.sets[which]:
            if one.startswith("sparse:"):
                return int(one[7:])
            if one in ("one_sparse", "one_hot"):
                return 1
        return None

    def rechosen(self, free, supports, which, loss):
        """Return supports of which each row's is the best in its turn, or those given."""
        count = self.counts(which)
        best = supports[which].clone()
        for row in range(len(best)):
            for places in itertools.combinations(range(RANK), count):
                tried = best.clone()
                tried[row] = 0
                tried[row, list(places)] = 1
                both = [tried if w == which else supports[w] for w in (0, 1)]
                with torch.no_grad():
                    total = float(self.total(torch.tensor(free), both, 0.0))
                if total < loss - 1e-12:
                    best, loss = tried, total
        return best

    def best(self, starts, seed):
        draw = np.random.default_rng(seed)
        size = sum(map(math.prod, self.shapes)) + self.wide * self.offsets + self.cuts
        found = []
        for _ in range(starts):
            supports = [None, None]
            for which in (0, 1):
                count = self.counts(which)
                if count is not None:
                    rows = self.shapes[which][0]
                    places = draw.random((rows, RANK)).argsort(1) < count
                    supports[which] = torch.tensor(places * 1.0)
            free, loss = self.descended(draw.normal(size=size) * 0.7, supports)
            chosen = any(s is not None for s in supports)
            for _ in range(12 if chosen else 0):
                before = loss
                for which in (0, 1):
                    if supports[which] is not None:
                        supports[which] = self.rechosen(free, supports, which, loss)
                # Near the end already: of corners, the sharp ones are enough.
                free, loss = self.descended(free, supports, CORNERS[-2:-1], 200)
                if loss > before - 1e-6 * abs(before):
                    break
            if chosen:
                free, loss = self.descended(free, supports, CORNERS[-2:])
            found.append(loss)
        return min(found)


def refused(loss: str, pair: tuple) -> bool:
    """Return whether predictions of a divergence could be 0 or less."""
    if loss not in DIVERGENCES:
        return False
    positive = {"nonnegative", "simplex", "one_hot"}
    parts = [set((one or "").split("+")) for one in pair]
    return not all(part & positive for part in parts)


def compared(loss: str, pair: tuple, starts: int = 4) -> tuple[LowRankModel, float]:
    """Return our fit, and the loss of the peer."""
    seed = seed_of(loss, pair, "auto")
    table = table_of(loss, seed)
    clusters = any(
        name in (one or "") for one in pair for name in ("one_sparse", "one_hot")
    )
    model = LowRankModel(
        RANK,
        loss=loss,
        constraint=pair,
        scales=False,  # the peer knows the loss of the table as it is
        # To which cluster rows belong is a search among finitely many, of which every
        # start finds one that no single row can improve.
        n_starts=20 if clusters else 5,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(table)
    penalty = model.fitted_.penalty
    assert penalty["l2_rows"] == penalty["l2_columns"]
    offsets = "offsets" in model.runs_.parameters
    biases = penalty["l2_biases"]
    peer = Peer(
        table,
        loss,
        pair,
        offsets,
        penalty["l2_rows"],
        biases,
        model.fitted_.problem.base,
    )
    return model, peer.best(starts, seed)


SAMPLE = [
    ("kl", ("simplex", "nonnegative")),
    ("beta:0.5", ("simplex", "simplex")),
    ("poisson", ("simplex", None)),
    ("squared", ("simplex", "nonnegative")),
    ("periodic:6", ("one_hot", None)),
    ("ordinal_hinge", ("simplex", "nonnegative")),
]
GRID = [slow((loss, pair)) for loss in LOSSES for pair in PAIRS]


ABOVE = {
    ("periodic:6", ("simplex", None)): 1.19,
    ("periodic:6", (None, "unit_norm")): 1.22,
    ("periodic:6", ("unit_norm", None)): 1.07,
    ("periodic:6", ("unit_norm", "nonnegative")): 1.10,
    ("periodic:6", ("nonnegative", "simplex")): 1.19,
    ("periodic:6", ("one_hot", "nonnegative")): 1.02,
    ("ordistic", (None, "simplex")): 1.04,
    ("ordistic", (None, "nonnegative")): 1.03,
    ("ordistic", ("nonnegative", None)): 1.03,
    ("ordinal_hinge", ("unit_norm+nonnegative", "nonnegative")): 1.10,
    ("quantile:0.8", ("unit_norm", "nonnegative")): 1.03,
    ("quantile:0.8", ("one_hot", "nonnegative")): 1.03,
    ("absolute", ("one_hot", None)): 1.02,
    ("huber:0.5", ("one_hot", None)): 1.03,
    ("huber:0.5", ("nonnegative", "one_hot")): 1.03,
    ("huber:0.5", ("nonnegative", "sparse:2")): 1.06,
    ("one_vs_all", ("sparse:2+nonnegative", "nonnegative")): 1.02,
}
"""How far five starts, 20 of clusters, end above the lowest of four starts of the peer, in
the pairs where it is more than 1%. These losses are not convex, or the clusters are a search
among many: starts of both end in several minima."""


@pytest.mark.parametrize("asked", [*SAMPLE, *GRID], ids=str)
def test_five_starts_are_as_low_as_an_independent_solver(asked) -> None:
    loss, pair = asked
    if refused(loss, pair):
        with pytest.raises(InvalidValueError, match="give constraint='nonnegative'"):
            compared(loss, pair)
        return
    model, peer = compared(loss, pair, 2 if asked in SAMPLE else 4)
    most = 1.01 if asked in SAMPLE else ABOVE.get(asked, 1.01)
    assert model.loss_ <= most * peer + 1e-6


@pytest.mark.parametrize(
    ("loss", "pair"),
    [
        ("periodic:6", ("one_hot", None)),
        ("hinge", ("one_hot", None)),
        pytest.param("categorical", (None, "one_hot"), marks=pytest.mark.slow),
        pytest.param("ordistic", (None, "one_hot"), marks=pytest.mark.slow),
    ],
)
def test_no_other_cluster_of_one_row_has_a_lower_loss(loss, pair) -> None:
    problem = Factorization(
        cells(table_of(loss, 4), loss), 3, constraint=pair, offsets="columns",
        initialization="normal", penalty=0.01,
    )  # fmt: skip
    steps = step_named("auto", problem)
    runs = descend(problem, 2, steps=steps, stop=Stop(500, gradient_tol=1e-8))
    name = "U" if pair[0] else "V"
    point = {n: torch.as_tensor(v).double() for n, v in runs.parameters.items()}
    ended = problem.losses(point, torch.arange(2), 0)
    for row in range(point[name].shape[1]):
        for member in range(3):
            other = point[name].clone()
            other[:, row] = torch.eye(3)[member]
            losses = problem.losses({**point, name: other}, torch.arange(2), 0)
            assert (losses >= ended * (1 - 1e-6)).all()


def test_clusters_of_columns_are_found_as_those_of_rows_are() -> None:
    """Centers are distant columns: from normal starts, the best of 20 had 66.6."""
    pair = ("nonnegative", "one_hot")
    table = table_of("kl", seed_of("kl", pair, "auto"))
    both = []
    for given, constraint in ((table, pair), (table.T, pair[::-1])):
        model = LowRankModel(
            3,
            loss="kl",
            constraint=constraint,
            n_starts=20,
            random_state=0,
            scales=False,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            both.append(model.fit(given).loss_)
    assert both[0] == pytest.approx(both[1], rel=0.01)
    # The best of all partitions of the seven columns into three clusters. That of a row
    # and a cluster has the mean of the cells as its minimum.
    seen, x = ~np.isnan(table), np.nan_to_num(table)
    best = math.inf
    for of in itertools.product(range(RANK), repeat=COLUMNS - 1):
        hot = np.eye(RANK)[[0, *of]]
        mean = (x @ hot) / np.maximum(seen @ hot, 1) @ hot.T
        parts = scipy.special.xlogy(x, x / np.where(mean > 0, mean, 1)) - x + mean
        best = min(best, float(parts[seen].sum()))
    assert both[0] == pytest.approx(best, rel=1e-6)


def test_no_start_settles_while_corners_are_rounded() -> None:
    found = cells(table_of("ordinal_hinge", 2), "ordinal_hinge")
    problem = Factorization(found, 2, constraint="nonnegative")
    stop = Stop(600, loss_tol=1e-2)
    runs = descend(problem, 3, steps=Alternating(), stop=stop)
    assert not still_rounded(min(runs.steps_taken))
    assert max(runs.steps_taken) < 600


def test_later_nonnegative_starts_of_a_table_with_holes_differ() -> None:
    pair = ("nonnegative", "nonnegative")
    table = table_of("quantile:0.8", seed_of("quantile:0.8", pair, "auto"))
    model = LowRankModel(
        3,
        loss="quantile:0.8",
        constraint=pair,
        penalty=0,  # that of this noise leaves nothing of any start
        n_starts=5,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        losses = model.fit(table).runs_.losses
    assert len(set(losses.round(2))) >= 4


@pytest.mark.parametrize("loss", ["kl", "poisson"])
def test_sparse_tables_give_what_dense_ones_give(loss) -> None:
    table = table_of("kl", 3)
    rows, columns = np.nonzero(~np.isnan(table))
    stored = scipy.sparse.csr_array(
        (table[rows, columns], (rows, columns)), table.shape
    )
    losses = []
    for given in (table, stored):
        model = LowRankModel(
            2, loss=loss, constraint=("simplex", "nonnegative"), n_starts=3,
            random_state=0, initialization="uniform", max_iter=100, scales=False,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            losses.append(model.fit(given).runs_.losses)
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


@pytest.mark.parametrize(
    ("loss", "constraint"),
    [
        ("kl", ("simplex", "nonnegative")),
        ("poisson", ("unit_norm", "nonnegative")),
        ("ordistic", ("simplex", None)),
        ("ordinal", ("nonnegative", None)),
    ],
)
def test_no_checked_step_raises_the_loss(loss, constraint) -> None:
    found = cells(table_of(loss, 5), loss)
    problem = Factorization(
        found, 2, constraint=constraint, initialization="normal",
        offsets="none" if loss == "kl" else "columns", penalty=0.01,
    )  # fmt: skip
    runs = descend(
        problem, 3, steps=Guarded(), stop=Stop(40), record=range(41), width=3
    )
    history = runs.histories["loss"]
    assert (np.diff(history, axis=0) <= 1e-9 * np.abs(history[:-1])).all()
    assert (history[-1] < history[0]).all()


@pytest.mark.parametrize("name", ["kl", "itakura_saito", "beta:1.5", "poisson", "ordistic", "ordinal"])  # fmt: skip
def test_quadratics_touch_the_loss_with_its_slope(name) -> None:
    loss, draw = get_loss(name), torch.Generator().manual_seed(0)
    shape = (6, 3) if name == "ordistic" else (6,)
    z = torch.rand(shape, generator=draw, dtype=torch.float64) * 2 + 0.1
    x = torch.tensor([0.0, 1.0, 2.0, 1.0, 2.0, 1.0], dtype=torch.float64)
    if name == "itakura_saito":
        x = x + 0.5
    cuts = {}
    if name == "ordinal":
        z, x = z[:, None], x[:, None]
        cuts = {"cuts": torch.tensor([[0.3, 0.1]], dtype=torch.float64)}
    weight, target = loss.approximate(z, x, 0, **cuts)
    assert (weight > 0).all()
    assert 2 * weight * (z - target) == pytest.approx(slope(loss, z, x, **cuts))
