"""Which settings of a sweep matter, and how surely: arithmetic only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from descents.answers.compare import (
    holm,
    paired_difference_interval,
    residual_mean_square,
)
from descents.answers.differences import permuted_share
from descents.answers.statistics import RESAMPLES, chunk_rows, number_between
from descents.checks import Complaints, InvalidValueError, counted, whole_number


@dataclass(frozen=True)
class Effect:
    """What one parameter of a sweep does to a metric, over all values of the others.

    Attributes
    ----------
    parameter : str
    levels : tuple
        Its values.
    means : tuple of float
        The mean of the metric at each.
    differences : tuple of float
        Each of them less the mean over all levels.
    intervals : tuple of (float, float)
        Student's, of each difference, over the shared starts.
    share : float
        Of the variance over settings and starts, how much is the parameter's alone:
        omega squared, at least 0.
    count : int
        The number of starts that it was told from.
    p_value, p_adjusted : float
        Of the permutation test that its value does not matter; adjusted for the number
        of parameters by Holm's method.
    """

    parameter: str
    levels: tuple[Any, ...]
    means: tuple[float, ...]
    differences: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]
    share: float
    p_value: float
    p_adjusted: float
    count: int


def main_effects(
    values: Any,
    settings: Sequence[Mapping[str, Any]],
    *,
    generator: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> list[Effect]:
    r"""Say which parameters of a full grid matter, over shared starts.

    With v_gk the metric of start k in setting g, the mean of a level is that over all
    settings which have it, so that what the other parameters do cancels. As the starts
    are shared, what one start does to all settings cancels too: intervals and tests are
    over the differences d_kl of a start's mean at level l from its mean over the levels.

    The test permutes the levels within each start. Its statistic is the size of the mean
    of d_kl over its standard error, the greatest over the levels, so that levels which
    spread differently do not upset it. The share is omega squared [1]_, that is
    (SS - df MS_rest) / (SS_total + MS_rest), of a two-way analysis of settings by
    starts; what all parameters and the starts leave is interaction and noise.

    Parameters
    ----------
    values : array-like of shape (G, S)
        A finite number for each setting and start; at least two starts.
    settings : sequence of G mappings
        What each setting has of each parameter: every combination once.
    generator : numpy Generator
        For the test; equal states give equal p-values.
    confidence : float
    resamples : int

    Returns
    -------
    list of Effect
        One for each parameter with two levels at least, the largest share first.

    Raises
    ------
    InvalidValueError
        When the settings are no full grid, or a value is not finite.

    References
    ----------
    .. [1] Hays (1963), "Statistics for psychologists"; Olejnik and Algina (2003),
       Psychological Methods 8.

    Examples
    --------
    >>> settings = [{"rate": r, "seed": s} for r in (0.1, 0.2) for s in "ab"]
    >>> noise = np.random.default_rng(0).normal(size=(4, 30)) / 100
    >>> values = noise + np.array([0.8, 0.8, 0.9, 0.9])[:, None]
    >>> found = main_effects(values, settings, generator=np.random.default_rng(1))
    >>> [(e.parameter, round(e.share, 2), e.p_adjusted < 0.01) for e in found]
    [('rate', 0.96, True), ('seed', 0.0, False)]
    """
    complaints = Complaints()
    confidence = complaints.attempt(number_between, "confidence", confidence)
    resamples = complaints.attempt(whole_number, "resamples", resamples, 1)
    table = np.asarray(values, dtype=np.float64)
    complaints.require(
        table.ndim == 2 and len(table) == len(settings) and table.shape[1] > 1,
        f"values has shape {table.shape} for {counted(len(settings), 'setting')}; give a row for "
        "each of them, and two starts at least",
    )
    complaints.require(
        bool(np.isfinite(table).all()),
        "values holds a number that is not finite; leave out starts and settings that "
        "failed",
    )
    complaints.raise_any()
    grid = _grid(settings)
    rest = residual_mean_square(table)
    total = float(np.square(table - table.mean()).sum())
    found = []
    for name, (levels, places) in grid.items():
        means = np.stack([table[places == k].mean(0) for k in range(len(levels))], 1)
        middle = means.mean(1)
        compared = [
            paired_difference_interval(means[:, k], middle, confidence=confidence)
            for k in range(len(levels))
        ]
        each = table.size / len(levels)
        square = float(each * sum(one[0] ** 2 for one in compared))
        share = square - (len(levels) - 1) * rest
        found.append(
            Effect(
                name,
                levels,
                tuple(float(mean) for mean in means.mean(0)),
                tuple(one[0] for one in compared),
                tuple((one[1], one[2]) for one in compared),
                max(0.0, share / (total + rest)) if total > 0 else 0.0,
                _test(means - middle[:, None], generator, resamples),
                1.0,
                table.shape[1],
            )
        )
    if not found:
        return []
    adjusted = holm([effect.p_value for effect in found])
    told = [
        replace(effect, p_adjusted=float(p))
        for effect, p in zip(found, adjusted, strict=True)
    ]
    return sorted(told, key=lambda effect: -effect.share)


def same_value(one: Any, two: Any) -> bool:
    """Return whether two values of a parameter are equal; arrays as a whole.

    Examples
    --------
    >>> same_value(0.1, 0.1), same_value([0.1, 0.2], np.array([0.1, 0.2]))
    (True, True)
    >>> same_value(None, np.array([0.1])), same_value("a", ["a"])
    (False, False)
    """
    if one is None or two is None or isinstance(one, str) or isinstance(two, str):
        return bool(np.ndim(one) == np.ndim(two) and one == two)
    if isinstance(one, np.ndarray) or isinstance(two, np.ndarray):
        return np.shape(one) == np.shape(two) and bool(np.array_equal(one, two))
    return bool(one == two)


def _grid(
    settings: Sequence[Mapping[str, Any]],
) -> dict[str, tuple[tuple[Any, ...], np.ndarray]]:
    """Return the levels of each parameter that varies, and which one a setting has."""
    found = {}
    size = 1
    for name in settings[0]:
        levels: list[Any] = []
        places = []
        for setting in settings:
            value = setting.get(name)
            place = next(
                (k for k, one in enumerate(levels) if same_value(one, value)),
                len(levels),
            )
            if place == len(levels):
                levels.append(value)
            places.append(place)
        size *= len(levels)
        if len(levels) > 1:
            found[name] = (tuple(levels), np.array(places))
    rows = np.stack([p for _, p in found.values()], 1) if found else np.zeros((1, 0))
    names = {frozenset(setting) for setting in settings}
    whole = size == len(settings) == len(np.unique(rows, axis=0)) and len(names) == 1
    if not whole:
        raise InvalidValueError(
            f"the {counted(len(settings), 'setting')} are not every combination of their values "
            "once; give a full grid"
        )
    return found


def _test(
    differences: np.ndarray, generator: np.random.Generator, resamples: int
) -> float:
    """Return the p-value of the levels, (S, levels), permuted within each start."""
    scale = np.abs(differences).max()
    if scale == 0:
        return 1.0
    differences = (differences / scale).round(12)
    starts = len(differences)

    def greatest(rows: np.ndarray) -> np.ndarray:
        mean = np.abs(rows.mean(1)).round(12)
        spread = rows.std(1, ddof=1) / np.sqrt(starts)
        ratio = np.where(mean > 0, np.inf, 0.0)
        np.divide(mean, spread, out=ratio, where=spread > 1e-12)
        return np.asarray(ratio.max(1))

    def chunks() -> Iterator[np.ndarray]:
        for rows in chunk_rows(resamples, differences.size):
            drawn = np.broadcast_to(differences, (rows, *differences.shape))
            yield greatest(generator.permuted(drawn, axis=2))

    return permuted_share(float(greatest(differences[None])[0]), chunks(), exact=False)
