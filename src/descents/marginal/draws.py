"""Multiple imputation: the model is fitted to resampled rows, then cells are drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch

from descents.marginal.em import EM
from descents.marginal.gaussian import Marginal
from descents.marginal.model import Fitted
from descents.marginal.posterior import Gaussian
from descents.marginal.refinement import RefinedModel
from descents.marginal.wide import sample_of
from descents.optim.loop import descend
from descents.optim.stopping import Stop
from descents.rng import stream
from descents.validation import whole_number

MOST_STEPS = 20
"""Most steps of EM in a fit to resampled rows."""
TOLERANCE = 3e-3
"""It stops earlier if EM can lower its loss by at most the square of this."""


def bootstrapped(
    fitted: Fitted,
    codes: np.ndarray,
    count: int,
    seed: int,
    weights: np.ndarray | None = None,
) -> Iterator[Fitted]:
    """Yield models that are fitted to bootstrap samples of the rows of a table [1]_.

    Their differences reflect the uncertainty of the parameters. The features of the
    columns, the number of components and the strength are those of the fit.

    Parameters
    ----------
    fitted : Fitted
        The model of the table; EM starts at its parameters.
    codes : float64 ndarray of shape (n, p)
        The table of the fit, NaN where missing.
    count : int
        How many models.
    seed : int
        Model k depends on the seed and on k alone.
    weights : ndarray of shape (n,), optional
        Of the rows; a resampled row keeps its weight.

    References
    ----------
    .. [1] Honaker, King and Blackwell (2011), "Amelia II: a program for missing data",
       Journal of Statistical Software 45(7).
    """
    whole_number("count", count, 1)
    runs = fitted.runs
    point = {n: torch.as_tensor(p[runs.best]) for n, p in runs.parameters.items()}
    members, ridge = sample_of(fitted.setting.sample, fitted.features, codes)
    seen = ~np.isnan(members).all(1)
    size = torch.tensor((~np.isnan(codes)).sum(0).mean(), dtype=torch.float64)
    for number in range(count):
        generator = stream(seed, "order", number, 0)
        drawn = generator.integers(0, len(members), len(members))
        sample = np.bincount(drawn, minlength=len(members)).astype(np.float64)
        if weights is not None:
            sample *= weights
        if not ((sample > 0) & seen).any():
            yield fitted  # the sample has no row with an observed cell
            continue
        problem = Marginal(
            members,
            point["loadings"].shape[1],
            ridge=ridge,
            strength=fitted.setting.strength,
            weights=sample,
        )
        problem.begin_at(point)
        stop = Stop(MOST_STEPS, gradient_tol=TOLERANCE)
        found = descend(problem, 1, seed, steps=EM(), stop=stop)
        if found.interrupted:
            raise KeyboardInterrupt
        moved = {n: torch.as_tensor(p[0]) for n, p in found.parameters.items()}
        gaussian = Gaussian.of(problem, moved)
        if fitted.setting.sample == "rows":
            gaussian = replace(gaussian, size=size)
        yield with_gaussian(fitted, gaussian)


def with_gaussian(fitted: Fitted, gaussian: Gaussian) -> Fitted:
    """Return the model with another Gaussian, such as that of resampled rows."""
    model = fitted.model
    if isinstance(model, RefinedModel):  # it draws from its Gaussian model
        inner = replace(model.model, gaussian=gaussian)
        return replace(fitted, model=replace(model, model=inner))
    return replace(fitted, model=replace(model, gaussian=gaussian))


def bootstrap_draws(
    fitted: Fitted,
    codes: np.ndarray,
    count: int,
    seed: int,
    weights: np.ndarray | None = None,
    *,
    limited: bool = False,
) -> Iterator[np.ndarray]:
    """Yield completed tables, with missing cells drawn from models of resampled rows.

    Imputations then vary because the observed cells do not determine the missing ones, and
    because the parameters are uncertain. Rubin's rules for pooling require both.

    Parameters
    ----------
    fitted, codes, count, seed, weights
        As for `bootstrapped`.
    limited : bool
        Whether drawn numbers are kept within the observed range of their column.

    Examples
    --------
    >>> from descents.marginal.model import fit
    >>> from descents.marginal.settings import Settings
    >>> rng = np.random.default_rng(0)
    >>> table = rng.normal(size=(100, 1)) + 0.1 * rng.normal(size=(100, 2))
    >>> table[0, 1] = np.nan
    >>> found = fit(table, np.zeros(2, int), Settings(held_out=0))
    >>> draws = np.array([x[0, 1] for x in bootstrap_draws(found, table, 50, seed=0)])
    >>> bool(abs(draws.mean() - table[0, 0]) < 0.1), bool(0.1 < draws.std() < 0.3)
    (True, True)
    """
    models = bootstrapped(fitted, codes, count, seed, weights)
    return draws_of(models, codes, seed, limited=limited)


def draws_of(
    models: Iterable[Fitted], codes: np.ndarray, seed: int, *, limited: bool
) -> Iterator[np.ndarray]:
    """Yield a table drawn from each of some models of resampled rows.

    Parameters
    ----------
    models : iterable of Fitted
    codes : float64 ndarray of shape (n, p)
        NaN where missing.
    seed : int
        Draw k depends on model k, the seed and k alone.
    limited : bool
        Whether drawn numbers are kept within the observed range of their column.
    """
    for number, model in enumerate(models):
        generator = stream(seed, "order", number, 1)
        yield model.drawn(codes, generator, limited=limited)
