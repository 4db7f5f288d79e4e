"""The biases of rows that are given by their points in the space of the components."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MATCHED = 100
"""Two points that are at most this many rounding errors apart count as one."""
Known = tuple[np.ndarray, np.ndarray]
"""Points, shape (rows, rank), and the biases of their rows."""


def biases_at(
    scores: np.ndarray, fit: Known, recent: Known | None, digits: float
) -> np.ndarray:
    """Return the row biases that go with points in the space of the components.

    Points of known rows get the biases of these rows. The same points may differ by
    rounding between machines, and after they were written to a file and read again. Other
    points get the biases that least squares on the points of the fit predict.

    Parameters
    ----------
    scores : ndarray of shape (rows, rank)
    fit : pair of ndarray
        The points of the rows of the fit, and their biases.
    recent : pair of ndarray, optional
        The same of the latest `transform`.
    digits : float
        The relative rounding error of the points.

    Returns
    -------
    ndarray of shape (rows,)
    """
    from scipy.spatial import KDTree

    known: Sequence[Known] = [fit] if recent is None else [fit, recent]
    near = MATCHED * digits
    near *= max(float(np.abs(points).max(initial=0)) for points, _ in known)
    for points, biases in reversed(known):
        alike = points.shape == scores.shape
        if alike and (np.abs(points - scores) <= near).all():
            return np.asarray(biases, dtype=np.float64)
    ones = np.ones((len(fit[0]), 1))
    line = np.linalg.lstsq(np.hstack([ones, fit[0]]), fit[1], rcond=None)[0]
    found = np.asarray(line[0] + scores @ line[1:])
    # Rows that share a point get the mean of their biases.
    places: dict[bytes, list[float]] = {}
    for points, biases in known:
        for point, bias in zip(points + 0.0, biases, strict=True):
            places.setdefault(point.tobytes(), []).append(float(bias))
    points = np.array([np.frombuffer(point) for point in places])
    means = np.array([np.mean(biases) for biases in places.values()])
    _, place = KDTree(points).query(scores, distance_upper_bound=near + 1e-300)
    return np.where(place < len(points), np.append(means, 0)[place], found)
