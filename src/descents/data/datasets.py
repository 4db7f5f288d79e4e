"""Tables whose answer is known, and small real tables that packages ship."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Dataset:
    """A table of numbers with a class for each row.

    Attributes
    ----------
    values : float64 ndarray of shape (rows, columns)
    classes : int64 ndarray of shape (rows,)
    columns, class_names : tuple of str
    source : str
        Where the numbers come from.
    """

    values: np.ndarray
    classes: np.ndarray
    columns: tuple[str, ...]
    class_names: tuple[str, ...]
    source: str


def uci_iris() -> Dataset:
    """Return the iris table as the UCI repository has it, in centimeters.

    scikit-learn ships Fisher's own table, from which UCI's ``iris.data`` differs in two
    rows; only UCI's gives the losses that were published with it.

    Examples
    --------
    >>> iris = uci_iris()
    >>> iris.values.shape, iris.values[34], iris.class_names
    ((150, 4), array([4.9, 3.1, 1.5, 0.1]), ('setosa', 'versicolor', 'virginica'))
    """
    from sklearn.datasets import load_iris

    bundle = load_iris()
    values = np.array(bundle.data, dtype=np.float64)
    values[[34, 37]] = [4.9, 3.1, 1.5, 0.1]
    return Dataset(
        values=values,
        classes=np.asarray(bundle.target, dtype=np.int64),
        columns=tuple(name.removesuffix(" (cm)") for name in bundle.feature_names),
        class_names=tuple(str(name) for name in bundle.target_names),
        source="UCI iris.data (scikit-learn's table with rows 34 and 37 as UCI has them)",
    )


def planted_table(
    rows: int, columns: int, rank: int, *, noise: float = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return a table of known rank with noise, and the same without.

    Both factors are standard normal, divided by the fourth root of the rank, so that
    entries have variance one.

    Parameters
    ----------
    rows, columns, rank : int
    noise : float
        Standard deviation of normal noise on every entry.
    seed : int

    Returns
    -------
    noisy, clean : float64 ndarray of shape (rows, columns)

    Examples
    --------
    >>> noisy, clean = planted_table(6, 5, 2, noise=0.1)
    >>> int(np.linalg.matrix_rank(clean)), int(np.linalg.matrix_rank(noisy))
    (2, 5)
    """
    generator = np.random.Generator(np.random.Philox(seed))
    left = generator.standard_normal((rows, rank)) / rank**0.25
    right = generator.standard_normal((columns, rank)) / rank**0.25
    clean = left @ right.T
    return clean + noise * generator.standard_normal((rows, columns)), clean
