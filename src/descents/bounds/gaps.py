"""The best known loss, and how far another loss is from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

ROUNDING = 1e-12
"""How far below an exact reference a float64 loss may be by rounding, relative to the
loss of the best constant."""


Kind = Literal["exact", "bound", "best found"]


@dataclass(frozen=True)
class Reference:
    """A loss with which results are compared.

    Attributes
    ----------
    value : float
    kind : {"exact", "bound", "best found"}
        The exact minimum, a lower bound on every loss, or only the best loss found.
    says : str
        A phrase on where the value comes from.
    """

    value: float
    kind: Kind
    says: str


def gap(
    losses: ArrayLike, reference: Reference, best_constant_loss: float, dtype: DTypeLike
) -> np.ndarray:
    """Return (loss - reference) / max(abs(reference), eps x loss of the best constant).

    Parameters
    ----------
    losses : array-like of shape (S,)
    reference : Reference
    best_constant_loss : float
        The loss of the best constant, which keeps the gap finite if the reference is
        zero.
    dtype : numpy dtype
        The precision of the descent; eps is its spacing at 1.

    Examples
    --------
    >>> exact = Reference(2.0, "exact", "known")
    >>> gap([2.0, 3.0], exact, 10.0, np.float64)
    array([0. , 0.5])
    """
    floor = float(np.finfo(dtype).eps) * best_constant_loss
    scale = max(abs(reference.value), floor, np.finfo(np.float64).tiny)
    return (np.asarray(losses, dtype=np.float64) - reference.value) / scale


def below_reference(
    losses: ArrayLike, reference: Reference, best_constant_loss: float
) -> np.ndarray:
    """Return which losses are below an exact reference or a bound by more than rounding.

    Such a loss is a bug of the program.

    Examples
    --------
    >>> exact = Reference(2.0, "exact", "known")
    >>> below_reference([2.0 - 1e-15, 1.9], exact, 10.0)
    array([False,  True])
    """
    losses = np.asarray(losses, dtype=np.float64)
    if reference.kind == "best found":
        return np.zeros(losses.shape, dtype=bool)
    below: np.ndarray = losses < reference.value - ROUNDING * best_constant_loss
    return below
