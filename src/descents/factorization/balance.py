"""Changes of both factors that keep their product and minimize the l2 penalties."""

from __future__ import annotations

from typing import NamedTuple

import torch

from descents.factorization.factorization import Factorization
from descents.factorization.half_steps import Half, turn_of
from descents.optim.problem import Parameters


class Balance(NamedTuple):
    """A change of factors that keeps the predictions and minimizes the penalties.

    Attributes
    ----------
    turn, back : Tensor of shape (S, rank, rank)
        T and T^-T, by which U and V are multiplied from the right.
    shifts : pair of Tensor of shape (S, 1, rank)
        Subtracted before that from the rows of U, which changes the offsets, and from
        the rows of V, which changes the row biases.
    seen : pair of Tensor, of shapes (rows, 1) and (coordinates, 1)
        1 for rows and coordinates with observed cells. The others are not shifted.
    """

    turn: torch.Tensor
    back: torch.Tensor
    shifts: tuple[torch.Tensor, torch.Tensor]
    seen: tuple[torch.Tensor, torch.Tensor]

    def of(self, parameters: Parameters) -> Parameters:
        """Return the parameters with the factors changed."""
        # With U = U' + 1 s' and V = V' + 1 t':
        # U V' + a 1' + 1 b' = U' V'' + (a + U t) 1' + 1 (b + V' s)'.
        U, V, (of_rows, of_columns) = parameters["U"], parameters["V"], self.shifts
        found = dict(parameters)
        if "row_biases" in parameters:
            gained = (U @ of_columns.mT)[..., 0]
            found["row_biases"] = parameters["row_biases"] + gained
            V = V - of_columns * self.seen[1]
        if "offsets" in parameters:
            found["offsets"] = parameters["offsets"] + (V @ of_rows.mT)[..., 0]
        found["U"] = (U - of_rows * self.seen[0]) @ self.turn
        found["V"] = V @ self.back
        return found

    def of_equations(self, equations: Parameters) -> Parameters:
        """Return the normal equations of the columns for the changed rows.

        The rows [U, a, 1] become [U, a, 1] M, so that G becomes M' G M and w becomes
        w M.
        """
        gram, wanted, rank = equations["gram"], equations["wanted"], len(self.turn[0])
        size = gram.shape[-1]
        M = torch.eye(size, dtype=gram.dtype, device=gram.device)
        M = M.repeat(len(gram), 1, 1)
        M[:, :rank, :rank] = self.turn
        of_rows, of_columns = self.shifts
        if size > rank:  # the last column is the ones, the one before the row biases
            M[:, -1:, :rank] = -of_rows @ self.turn
        if size > rank + 1:
            M[:, :rank, rank : rank + 1] = of_columns.mT
        return {"gram": M[:, None].mT @ gram @ M[:, None], "wanted": wanted @ M}


def balanced(problem: Factorization, half: Half) -> tuple[Parameters, Parameters]:
    """Return parameters with minimal penalties, and the equations of their columns."""
    turn = balance(problem, half.parameters)
    if turn is None:
        return half.parameters, half.equations
    return turn.of(half.parameters), turn.of_equations(half.equations)


def with_least_penalties(problem: Factorization, parameters: Parameters) -> Parameters:
    """Return parameters with the same predictions and minimal penalties."""
    turn = balance(problem, parameters)
    return parameters if turn is None else turn.of(parameters)


def balance(problem: Factorization, parameters: Parameters) -> Balance | None:
    r"""Return the change of factors that keeps U V^T and minimizes the l2 penalties.

    Free offsets take up the mean of the rows of U, weighted by the l2 penalties of these
    rows. Free row biases take up the mean of the rows of V.

    Then let A = U' C_U U and B = V' C_V V, with the diagonal matrices of the penalties
    of the rows, plus the smoothness penalties. The penalties of U T and V T^-T are tr(T'
    A T) and tr(T^-1 B T^-T). Their minimal sum 2 tr((A^(1/2) B A^(1/2))^(1/2)) is
    attained at T = A^(-1/2) Q D^(1/4), where Q D Q' = A^(1/2) B A^(1/2). Each component
    then has the same penalty in both factors. With l2 penalties alone, U T and V T^-T
    are the singular vectors of U V^T times the roots of the singular values.

    Nonnegative factors stay so under a diagonal T alone, which is (B_kk / A_kk)^(1/4).
    Nothing then moves to the offsets.

    None if a factor has no l2 penalty, or a constraint to a set or an l1 penalty, which
    such a change would not preserve.
    """
    asked = problem.row_regularizer, problem.column_regularizer
    preserved = all(side.l2 and not side.l1 and side.inside is None for side in asked)
    if not preserved or "V" not in parameters:
        return None
    scaled = any(side.nonnegative for side in asked)
    like, together = parameters["U"], problem.together
    factors = [like, parameters["V"]]
    seen = problem.seen_rows(like)[:, None], problem.seen_coordinates(like)[:, None]
    charges = [turn_of(problem, side, like).l2[..., :1] for side in ("rows", "columns")]
    shifts = [like.new_zeros(len(like), 1, problem.rank) for _ in charges]
    free = (
        problem.has_offsets and not problem.l2_biases and not scaled,
        problem.has_row_biases and not problem.l2_biases and not scaled,
    )
    # The weighted means go to free offsets and biases.
    for k in (side for side in (0, 1) if free[side]):
        heavy = charges[k] * seen[k]
        summed = {
            "total": heavy.sum(-2, keepdim=True),
            "shift": (heavy * factors[k]).sum(1, keepdim=True),
        }
        summed = together.sums(summed) if k == 0 else summed
        total = torch.where(summed["total"] > 0, summed["total"], 1.0)
        shifts[k] = summed["shift"] / total
        factors[k] = factors[k] - shifts[k] * seen[k]
    # A and B of the docstring, in float64.
    A, B = (
        (factor.mT @ (charge * factor)).double()
        for factor, charge in zip(factors, charges, strict=True)
    )
    A = together.sum(A)  # each process has some of the rows of U
    for k, gram in enumerate((A, B)):
        if asked[k].smoothness:
            apart = factors[k].diff(dim=-2)
            gram.add_((apart.mT @ apart).double(), alpha=asked[k].smoothness)
    of_rows, of_columns = shifts
    if scaled:
        turn, back = (part.to(like) for part in _scales(A, B))
        return Balance(turn, back, (of_rows, of_columns), seen)
    # Starts without a penalty, or that have diverged, keep T = 1.
    usable = torch.stack([_size(gram) for gram in (A, B)]).prod(0)
    usable = (usable > 0) & usable.isfinite()
    usable = usable[:, None, None]
    same = torch.eye(problem.rank, dtype=A.dtype, device=A.device).expand_as(A)
    A, B = torch.where(usable, A, same), torch.where(usable, B, same)
    root, over = _roots(A)  # A^(1/2) and A^(-1/2)
    values, Q = torch.linalg.eigh(root @ B @ root)
    least = torch.finfo(like.dtype).eps ** 2 * values[:, -1:]
    kept = values > least.clamp_min(torch.finfo(torch.float64).tiny)
    # T = A^(-1/2) Q D^(1/4) and T^-T = A^(1/2) Q D^(-1/4); vanishing values give zeros.
    fourth = torch.where(kept, values, 1.0) ** 0.25
    T = torch.where(usable, over @ Q * (fourth * kept)[:, None], same).to(like)
    back = torch.where(usable, root @ Q * (kept / fourth)[:, None], same).to(like)
    of_rows, of_columns = (torch.where(usable, shift, 0.0) for shift in shifts)
    return Balance(T, back, (of_rows, of_columns), seen)


def _scales(A: torch.Tensor, B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the diagonal T with the least penalties, and T^-T.

    A component that is zero in a factor, or infinite, keeps its size.
    """
    a, b = (part.diagonal(dim1=-2, dim2=-1) for part in (A, B))
    ratio = b / torch.where(a > 0, a, 1.0)
    usable = (a > 0) & (b > 0) & ratio.isfinite() & (ratio > 0)
    each = torch.where(usable, ratio, 1.0) ** 0.25
    return torch.diag_embed(each), torch.diag_embed(1 / each)


def _size(gram: torch.Tensor) -> torch.Tensor:
    """Return the trace of each matrix."""
    return gram.diagonal(dim1=-2, dim2=-1).sum(-1)


def _roots(gram: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the symmetric square roots of matrices, and their pseudoinverses."""
    values, turn = torch.linalg.eigh(gram)
    kept = values > torch.finfo(gram.dtype).eps * values[:, -1:]
    root = torch.where(kept, values, 0.0).sqrt()
    over = kept / torch.where(kept, root, 1.0)
    return turn * root[:, None] @ turn.mT, turn * over[:, None] @ turn.mT
