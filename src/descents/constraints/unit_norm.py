"""The set of factors whose columns have Euclidean norm 1."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch

from descents.constraints.quadratics import (
    differences,
)
from descents.constraints.sets import PASSES, FactorSet
from descents.devices import remote
from descents.errors import InvalidValueError

NORM_ROUNDED = 1e-5
"""The largest error of a squared norm of 1 by rounding."""

SECULAR_STEPS = 12
"""The largest number of Newton steps for the multiplier of a norm."""


@dataclass(frozen=True)
class UnitNorm(FactorSet):
    """Columns of Euclidean norm 1.

    The projection of a column of zeros, or with nonnegativity of a column without
    positive entries, is 1 at its largest entry (the first of equals) and 0 elsewhere.

    Examples
    --------
    >>> UnitNorm().prox(torch.tensor([[3.0], [-4.0]]), 1.0, 0.0, nonnegative=False)
    tensor([[ 0.6000],
            [-0.8000]])
    """

    name: str = field(default="unit_norm", init=False)
    sized: ClassVar[bool] = True
    couples: ClassVar[bool] = True

    def prox(
        self,
        point: torch.Tensor,
        rate: torch.Tensor | float,
        thresholds: torch.Tensor | float,
        *,
        nonnegative: bool,
    ) -> torch.Tensor:
        """Return the soft-thresholded column over its norm, which maximizes x'p - t |x|.

        Raises
        ------
        InvalidValueError
            If rates differ within a column, for which there is no closed form.
        """
        if isinstance(rate, torch.Tensor) and rate.ndim > 1 and rate.shape[-2] > 1:
            raise InvalidValueError(
                "columns of norm one have no prox for rates that differ between entries, "
                "as Adam's do; give steps with one rate ('gd' or 'alternating')"
            )
        sign = torch.where(point < 0, -1.0, 1.0).to(point)
        if nonnegative:
            sign = torch.ones_like(sign)
        size = point * sign - thresholds
        above = size.clamp_min(0)
        norm = torch.linalg.vector_norm(above, dim=-2, keepdim=True)
        peak = size.argmax(-2, keepdim=True)
        lone = torch.zeros_like(point).scatter(-2, peak, 1.0)
        empty = norm == 0
        return sign * torch.where(empty, lone, above / torch.where(empty, 1.0, norm))

    def over_columns(
        self,
        gram: torch.Tensor,
        right: torch.Tensor,
        point: torch.Tensor,
        l2: torch.Tensor,
        l1: torch.Tensor,
        smoothness: float,
        *,
        nonnegative: bool,
    ) -> torch.Tensor:
        """Lower the quadratics of all rows together, column by column.

        Each column goes to its minimum (`_on_sphere`). With smoothness, which couples the
        rows, it takes a prox-gradient step at one over the largest curvature instead.
        """
        own = gram.diagonal(dim1=-2, dim2=-1) + l2
        factor = point.clone()
        for _ in range(PASSES):
            for c in range(point.shape[-1]):
                previous = factor[..., c]
                slope = (factor * gram[..., c, :]).sum(-1) + l2[..., c] * previous
                slope = slope - right[..., c]
                if not smoothness:
                    factor[..., c] = self._on_sphere(
                        own[..., c].expand_as(previous),
                        slope,
                        previous,
                        l1[..., c] / 2,
                        nonnegative=nonnegative,
                    )
                    continue
                slope = slope + smoothness * differences(previous[..., None])[..., 0]
                # The matrix of the squared differences has eigenvalues of at most 4.
                size = own[..., c].amax(-1, keepdim=True) + 4 * smoothness
                size = size.clamp_min(1e-30)
                column = self.prox(
                    (previous - slope / size)[..., None],
                    0.5,
                    (l1[..., c] / 2 / size)[..., None],
                    nonnegative=nonnegative,
                )
                factor[..., c] = column[..., 0]
        return factor

    def _on_sphere(
        self,
        curvature: torch.Tensor,
        slope: torch.Tensor,
        here: torch.Tensor,
        half: torch.Tensor,
        *,
        nonnegative: bool,
    ) -> torch.Tensor:
        """Minimize sum_i a_i x_i^2 - 2 b_i x_i + 2 h_i |x_i| over columns of norm 1.

        Here b = a x - slope. With the multiplier m of the norm, |x_i| = s_i / (a_i + m)
        with s_i = max(|b_i| - h_i, 0). The norm decreases in m and 1 / norm is concave in
        m, so Newton's steps from below increase to the root m of 1 / norm = 1 and never
        pass it. A column whose value was lower before stays as it was; this happens if
        entries that are now 0 had been useful.
        """
        wanted = curvature * here - slope
        sign = torch.ones_like(wanted) if nonnegative else wanted.sign()
        size = wanted * sign - half
        used = size > 0
        size = size.clamp_min(0)
        least = (size - curvature).masked_fill(~used, -torch.inf)
        # Two lower bounds of the root: from one entry alone, s_i / (a_i + m) <= 1, and
        # from all entries at the largest curvature, ||s|| / (max a + m) <= 1.
        m = least.amax(-1, keepdim=True)
        length = torch.linalg.vector_norm(size, dim=-1, keepdim=True)
        m = m.maximum(length - curvature.amax(-1, keepdim=True))
        empty = ~used.any(-1, keepdim=True)
        m = m.masked_fill(empty, 0.0)
        rounded = 1 + 16 * torch.finfo(m.dtype).eps
        away = remote(m.device)  # do not wait there to check whether all converged
        for _ in range(SECULAR_STEPS):
            bottom = (curvature + m).clamp_min(1e-30)
            x = size / bottom
            squares = x.square()
            square = squares.sum(-1, keepdim=True)
            norm = square.sqrt()
            ahead = norm > rounded
            if not (away or bool(ahead.any())):
                break
            steep = (squares / bottom).sum(-1, keepdim=True).clamp_min(1e-30)
            # Newton on 1 / norm - 1, whose derivative is steep / norm^3.
            m = torch.where(ahead, m + square * (norm - 1) / steep, m)
        x = sign * size / (curvature + m).clamp_min(1e-30)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        # If every s_i is 0, the minimum has one nonzero entry, of size 1.
        lone = (curvature - 2 * (wanted * sign - half)).argmin(-1, keepdim=True)
        alone = torch.zeros_like(x).scatter(-1, lone, sign.gather(-1, lone))
        x = torch.where(empty | ~(norm > 0), alone, x / norm)

        def value(at: torch.Tensor) -> torch.Tensor:
            terms = at * (curvature * at - 2 * wanted) + 2 * half * at.abs()
            return terms.sum(-1, keepdim=True)

        inside = (here.square().sum(-1, keepdim=True) - 1).abs() < NORM_ROUNDED
        if nonnegative:
            inside = inside & (here >= 0).all(-1, keepdim=True)
        return torch.where(inside & (value(here) < value(x)), here, x)

    def of_other_rows(self, rows: int) -> FactorSet | None:
        """Return None: the norm is over the fitted rows only."""
        return None
