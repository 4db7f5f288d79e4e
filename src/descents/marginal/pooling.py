"""Rubin's rules: combine the results of an analysis of several completed tables."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from descents.errors import Complaints, InvalidValueError
from descents.text import OneLine
from descents.validation import real_number

Numbers = float | np.ndarray
"""One number, or one for each parameter."""

SYMMETRIC = 1e-8
"""A covariance matrix may differ from its transpose by this share of its size."""


@dataclass(frozen=True, eq=False)
class Pooled(OneLine):
    """Combined estimates from several completed tables.

    Each attribute is a number, or an array if there are several parameters.

    Attributes
    ----------
    estimate : float or ndarray of shape (k,)
        The mean of the estimates.
    standard_error : float or ndarray
        The square root of the total variance W + (1 + 1/m) B.
    df : float or ndarray
        The degrees of freedom of Student's t distribution.
    low, high : float or ndarray
        The limits of the confidence interval.
    p_value : float or ndarray
        The two-sided p-value of the hypothesis that the parameter is `null`.
    missing_information : float or ndarray
        The fraction of the information about the parameter that is missing, in large
        samples (Rubin 1987).
    relative_increase : float or ndarray
        The increase of the variance by the missing cells, as a share of W.
    within, between : float or ndarray
        W, the mean of the variances, and B, the variance of the estimates.
    covariance : ndarray of shape (k, k) or None
        The total covariance if covariance matrices were given.
    imputations : int
        m, the number of completed tables.
    confidence, null : float or ndarray
        The arguments of `pool`.
    """

    estimate: Numbers
    standard_error: Numbers
    df: Numbers
    low: Numbers
    high: Numbers
    p_value: Numbers
    missing_information: Numbers
    relative_increase: Numbers
    within: Numbers
    between: Numbers
    covariance: np.ndarray | None
    imputations: int
    confidence: float
    null: Numbers

    def __repr__(self) -> str:
        """Return the estimates with their intervals, in one line."""
        parts = zip(
            *(np.ravel(part) for part in (self.estimate, self.low, self.high)),
            strict=True,
        )
        shown = [f"{q:.4g} ({low:.4g} to {high:.4g})" for q, low, high in parts]
        more = ", ..." if len(shown) > 5 else ""
        return (
            f"Pooled({', '.join(shown[:5])}{more}; {self.confidence:.0%} intervals from "
            f"{self.imputations} imputations)"
        )

    def table(self) -> dict[str, np.ndarray]:
        """Return the results of each parameter as columns, such as for a data frame.

        Examples
        --------
        >>> list(pool([1.0, 1.2], [0.1, 0.1]).table())[:3]
        ['estimate', 'standard_error', 'df']
        """
        names = [field.name for field in fields(self)][:10]
        return {name: np.atleast_1d(getattr(self, name)) for name in names}


def pool(
    estimates: ArrayLike,
    variances: ArrayLike,
    *,
    complete_df: float = np.inf,
    confidence: float = 0.95,
    null: ArrayLike = 0.0,
) -> Pooled:
    r"""Combine the results of an analysis of several completed tables by Rubin's rules.

    With the estimates :math:`q_1, \dots, q_m` and their variances
    :math:`u_1, \dots, u_m`, the combined estimate is the mean of the estimates, and its
    variance is :math:`T = W + (1 + 1/m) B` [1]_, where W is the mean of the variances and
    B the variance of the estimates. Intervals and p-values are those of Student's t
    distribution with the degrees of freedom of Barnard and Rubin [2]_.

    Parameters
    ----------
    estimates : array-like of shape (m,) or (m, k)
        One parameter, or k of them, from each of m >= 2 completed tables.
    variances : array-like of shape (m,), (m, k) or (m, k, k)
        The squared standard errors, or the covariance matrices.
    complete_df : float
        The degrees of freedom that the analysis would have if no cell were missing, such
        as n - k of a regression of n rows on k coefficients. The default is for large
        samples.
    confidence : float
        The confidence of the interval, above 0 and below 1.
    null : float or array-like of shape (k,)
        The value of the parameter under the null hypothesis.

    Returns
    -------
    Pooled

    Raises
    ------
    InvalidValueError
        If there are fewer than two estimates, shapes do not match, or a variance is
        negative or not finite.

    References
    ----------
    .. [1] Rubin (1987), "Multiple imputation for nonresponse in surveys".
    .. [2] Barnard and Rubin (1999), "Small-sample degrees of freedom with multiple
       imputation", Biometrika 86(4).

    Examples
    --------
    >>> found = pool([1.0, 1.2, 1.1], [0.04, 0.05, 0.045], complete_df=96)
    >>> round(found.estimate, 3), round(found.standard_error, 3), round(found.df, 1)
    (1.1, 0.242, 25.1)
    >>> found
    Pooled(1.1 (0.6026 to 1.597); 95% intervals from 3 imputations)
    """
    found, spreads, joint = _checked(estimates, variances)
    complaints = Complaints()
    complete_df = complaints.attempt(_degrees, complete_df)
    confidence = complaints.attempt(_share, confidence)
    expected = complaints.attempt(_null, null, found.shape[1:])
    complaints.raise_any()
    count = len(found)
    estimate, within = found.mean(0), spreads.mean(0)
    between = found.var(0, ddof=1)
    more = 1 + 1 / count
    total = within + more * between
    error = np.sqrt(total)
    # If the variance is 0, no information is missing.
    share = np.divide(more * between, total, out=np.zeros_like(total), where=total > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        increase = np.where(between > 0, more * between / within, 0.0)
        # Degrees of freedom by Rubin, v = (m - 1) / share^2, and by Barnard and Rubin,
        # 1 / (1/v + 1/v_obs), v_obs = (n + 1) / (n + 3) n (1 - share) for n = complete_df.
        of_draws = (count - 1) / np.square(share)
        of_data = complete_df * np.ones_like(share)
        if np.isfinite(complete_df):
            of_data = (complete_df + 1) / (complete_df + 3) * of_data * (1 - share)
        df = 1 / (1 / of_draws + 1 / of_data)
        off = np.where(estimate == expected, 0.0, np.abs(estimate - expected) / error)
        # (r + 2 / (v + 3)) / (r + 1) with r / (r + 1) = share, of Rubin's v
        missing = share + 2 / (of_draws + 3) * (1 - share)
    half = np.where(error > 0, stats.t.ppf((1 + confidence) / 2, df) * error, 0.0)
    half = np.where((error > 0) & (df == 0), np.inf, half)
    p_value = np.where(df > 0, 2 * stats.t.sf(off, df), 1.0)
    covariance = None
    if joint is not None:
        centered = found - estimate
        covariance = joint.mean(0) + more * centered.T @ centered / (count - 1)
    return Pooled(
        _plain(estimate),
        _plain(error),
        _plain(df),
        _plain(estimate - half),
        _plain(estimate + half),
        _plain(p_value),
        _plain(missing),
        _plain(increase),
        _plain(within),
        _plain(between),
        covariance,
        count,
        confidence,
        _plain(expected),
    )


def _plain(numbers: np.ndarray) -> Numbers:
    """Return an array unchanged, and one without dimensions as a float."""
    return numbers if np.ndim(numbers) else float(numbers)


def _checked(
    estimates: ArrayLike, variances: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return estimates, their variances, and their covariances if these were given."""
    try:
        found = np.asarray(estimates, dtype=np.float64)
        given = np.asarray(variances, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidValueError(
            f"estimates or variances are not numbers ({error}); give an estimate and a "
            "variance from each completed table"
        ) from None
    if found.ndim not in (1, 2) or len(found) < 2:
        raise InvalidValueError(
            f"estimates have shape {found.shape}; give those of at least 2 completed "
            "tables, shape (m,) or (m, parameters)"
        )
    square = found.ndim == 2 and given.shape == (*found.shape, found.shape[1])
    if given.shape != found.shape and not square:
        raise InvalidValueError(
            f"variances have shape {given.shape} and estimates {found.shape}; give one "
            "variance for each estimate, or one covariance matrix for each table"
        )
    spreads = given.diagonal(axis1=1, axis2=2) if square else given
    if not (np.isfinite(found).all() and np.isfinite(given).all()):
        raise InvalidValueError(
            "estimates or variances contain NaN or infinite numbers; leave out the tables "
            "whose analysis failed, and report it"
        )
    if (spreads < 0).any():
        raise InvalidValueError(
            f"a variance is {spreads.min():g}; give squared standard errors, of at least 0"
        )
    if square:
        off = np.abs(given - given.swapaxes(1, 2)).max()
        if off > SYMMETRIC * np.abs(given).max():
            raise InvalidValueError(
                "a covariance matrix is not symmetric; give (m, k, k) covariances"
            )
    return found, spreads, given if square else None


def _degrees(given: float) -> float:
    """Return checked degrees of freedom, which may be infinite."""
    if isinstance(given, float) and given == np.inf:
        return given
    return real_number("complete_df", given, 0, strict=True)


def _share(given: float) -> float:
    """Return a checked confidence."""
    found = real_number("confidence", given, 0, strict=True)
    if found >= 1:
        raise InvalidValueError(
            f"confidence is {found:g}; give a number above 0 and below 1, such as 0.95"
        )
    return found


def _null(given: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """Return the values of the parameters under the null hypothesis."""
    try:
        return np.broadcast_to(np.asarray(given, dtype=np.float64), shape)
    except (TypeError, ValueError):
        raise InvalidValueError(
            f"null is {given!r}; give a number, or one for each parameter"
        ) from None
