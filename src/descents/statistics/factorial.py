"""Split the variance of a sweep among its parameters, their interactions and the starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from descents.statistics.differences import permuted_share
from descents.statistics.effects import checked_values, grid_of, largest_ratio
from descents.statistics.samples import RESAMPLES, chunk_rows
from descents.validation import whole_number

STARTS, REST = "starts", "rest"
"""The sources of variance that are not parameters."""


@dataclass(frozen=True)
class Source:
    """A source of the variance of a metric over settings and starts.

    Attributes
    ----------
    parameters : tuple of str
        One parameter, or those that interact; empty for the starts and for the rest.
    name : str
        The parameters joined by " x ", ``"starts"``, or ``"rest"``: what starts do
        differently in each setting, and noise.
    share : float
        The sum of squares of this source over the total; the shares of all sources add
        up to 1.
    degrees : int
        Degrees of freedom.
    p_value : float or None
        Of the test that an interaction is zero, by flipping signs of whole starts; None
        for other sources.
    """

    parameters: tuple[str, ...]
    name: str
    share: float
    degrees: int
    p_value: float | None = None


def variance_sources(
    values: ArrayLike,
    settings: Sequence[Mapping[str, object]],
    *,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
) -> list[Source]:
    r"""Split the sum of squares of a full grid of settings, each with the same starts.

    Let v_gk be the metric of start k in setting g, and m_A the table of means over all
    starts and all parameters that are not in the set A. The effect of A is
    e_A = m_A minus the effects of all proper subsets of A, and its sum of squares is that
    of e_A over all v. The starts have S, the sum of squares of their means, and the rest
    is what remains. Because the grid is balanced, these add up to the total [1]_.

    An interaction is tested by its effect within each start, a table d_k with mean e_A.
    If there is no interaction, d_k and -d_k are equally likely, so signs of whole starts
    are flipped. The statistic is the largest absolute mean over its standard error.

    Parameters
    ----------
    values : array-like of shape (G, S)
        A finite number for each setting and start; at least two starts.
    settings : sequence of G mappings
        The parameters of each setting; every combination must occur once.
    generator : numpy Generator
        The source of the signs.
    resamples : int

    Returns
    -------
    list of Source
        The parameters and interactions, those with the largest share first, then the
        starts and the rest; empty if all values are equal.

    Raises
    ------
    InvalidValueError
        If the settings are not a full grid, or a value is not finite.

    References
    ----------
    .. [1] Hays (1963), "Statistics for psychologists".

    Examples
    --------
    Two parameters that matter only together:

    >>> settings = [{"rate": r, "init": i} for r in (0.1, 0.2) for i in "ab"]
    >>> noise = np.random.default_rng(0).normal(size=(4, 30)) / 100
    >>> values = noise + np.array([0.8, 0.9, 0.9, 0.8])[:, None]
    >>> first = variance_sources(values, settings, generator=np.random.default_rng(1))[0]
    >>> first.name, round(first.share, 2), first.p_value < 0.01
    ('rate x init', 0.97, True)
    """
    resamples = whole_number("resamples", resamples, 1)
    table = checked_values(values, settings)
    grid = grid_of(settings)
    names = list(grid)
    shape = [len(levels) for levels, _ in grid.values()]
    cells = np.empty((*shape, table.shape[1]))
    cells[tuple(places for _, places in grid.values())] = table
    total = float(np.square(table - table.mean()).sum())
    if total <= 0:
        return []
    found = []
    for size in range(1, len(names) + 1):
        for chosen in combinations(range(len(names)), size):
            per_start = _effect(cells, chosen)
            parts = per_start.reshape(-1, table.shape[1])
            repeats = len(table) / len(parts)
            square = repeats * table.shape[1] * float(np.square(parts.mean(1)).sum())
            tested = _flipped(parts, generator, resamples) if size > 1 else None
            found.append(
                Source(
                    tuple(names[k] for k in chosen),
                    " x ".join(names[k] for k in chosen),
                    square / total,
                    int(np.prod([shape[k] - 1 for k in chosen])),
                    tested,
                )
            )
    found.sort(key=lambda source: -source.share)
    means = table.mean(0)
    starts = len(table) * float(np.square(means - means.mean()).sum()) / total
    rest = max(0.0, 1.0 - starts - sum(source.share for source in found))
    freedom = len(means) - 1
    return [
        *found,
        Source((), STARTS, starts, freedom),
        Source((), REST, rest, (len(table) - 1) * freedom),
    ]


def _effect(cells: np.ndarray, chosen: tuple[int, ...]) -> np.ndarray:
    """Return the effect of a set of parameters within each start, on the last axis."""
    parameters = cells.ndim - 1
    others = tuple(k for k in range(parameters) if k not in chosen)
    effect = cells.mean(axis=others, keepdims=True) if others else cells
    # Subtracting the means along one axis after another removes all proper subsets.
    for axis in chosen:
        effect = effect - effect.mean(axis=axis, keepdims=True)
    return np.asarray(effect)


def _flipped(
    parts: np.ndarray, generator: np.random.Generator, resamples: int
) -> float:
    """Return the p-value of per-start effects (cells, S) by flipping signs of starts."""
    scale = np.abs(parts).max()
    if scale == 0:
        return 1.0
    parts = (parts / scale).round(12)
    starts = parts.shape[1]
    size = np.square(parts).mean(1)

    def greatest(signs: np.ndarray) -> np.ndarray:
        means = (signs @ parts.T / starts).round(12)
        error = np.sqrt(np.maximum(size - means**2, 0.0) / (starts - 1))
        return largest_ratio(np.abs(means), error)

    def chunks() -> Iterator[np.ndarray]:
        for rows in chunk_rows(resamples, parts.size):
            yield greatest(generator.choice([-1.0, 1.0], (rows, starts)))

    return permuted_share(
        float(greatest(np.ones((1, starts)))[0]), chunks(), exact=False
    )
