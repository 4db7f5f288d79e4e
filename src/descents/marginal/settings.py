"""How a table is modeled, and which kind of model is fitted."""

from __future__ import annotations

from dataclasses import dataclass

from descents.errors import Complaints
from descents.validation import real_number, whole_number


@dataclass(frozen=True)
class Settings:
    """How a table is modeled.

    Parameters
    ----------
    n_components : int, optional
        The rank of the loadings; by default every covariance is possible.
    strength : float or "auto"
        How much the covariance is shrunk (`Marginal`). "auto" takes 0 if there are at
        least ten rows for each feature, and otherwise 1 unless 0 or 4 predicts held-out
        cells clearly better.
    n_starts : int
    seed : int
    tol : float
        A start is stationary when EM can lower its loss by at most ``tol**2`` of it.
    max_steps : int
    held_out : float
        The share of the observed cells that are held out to judge the model.
    refine : bool
        Whether a forest for each column improves on the Gaussian model
        (`descents.marginal.refinement`), which takes several times as long.
    """

    n_components: int | None = None
    strength: float | str = "auto"
    n_starts: int = 1
    seed: int = 0
    tol: float = 1e-3
    max_steps: int = 300
    held_out: float = 0.1
    refine: bool = False

    def __post_init__(self) -> None:
        complaints = Complaints()
        if self.n_components is not None:
            complaints.attempt(whole_number, "n_components", self.n_components, 0)
        if not isinstance(self.strength, str) or self.strength != "auto":
            complaints.attempt(real_number, "strength", self.strength, 0)
        complaints.attempt(whole_number, "n_starts", self.n_starts, 1)
        complaints.attempt(whole_number, "max_steps", self.max_steps, 0)
        complaints.attempt(real_number, "tol", self.tol, 0)
        complaints.attempt(real_number, "held_out", self.held_out, 0)
        complaints.raise_any()


@dataclass(frozen=True)
class Setting:
    """The kind of model that is fitted.

    Attributes
    ----------
    sample : {"rows", "columns"}
        The side whose factors are integrated out.
    strength : float
        How much the covariance is shrunk (`Marginal`).
    """

    sample: str
    strength: float
