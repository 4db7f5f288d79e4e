"""A supervised problem bound to the starts of one chunk: rows, losses and metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from descents import losses
from descents.devices import constant
from descents.networks.fused import Rows
from descents.networks.labeled import Labeled
from descents.networks.scores import SCORES, class_scores
from descents.optim.problem import Bound, Parameters

LOOK_ENTRIES = 2**24
"""How many numbers are kept at once where all rows are looked at."""


class BoundSupervised(Bound):
    """The rows, losses and metrics of the starts of one chunk.

    Rows and weights of the starts are looked up once; with mini-batches, an order of
    rows is drawn once an epoch.

    Parameters
    ----------
    problem : Labeled
    starts : int64 Tensor of shape (S,)
    inputs : dict of Tensor, optional
        The rows of a step, their ``"weights"`` and other inputs, where a CUDA graph
        reads them. By default they are looked up for each step.
    """

    problem: Labeled

    def __init__(
        self,
        problem: Labeled,
        starts: torch.Tensor,
        inputs: Parameters | None = None,
    ) -> None:
        super().__init__(problem, starts)
        self.batches = problem.batches.bind(starts)
        self.stochastic = problem.stochastic
        self.inputs = inputs
        # With given inputs the steps have to be torch operations.
        shape = problem.shape if inputs is None else None
        if shape and not shape.worthwhile(problem.rows_at_once, len(starts)):
            shape = None
        self.shape = shape
        self._mini = problem.batches.batch_size is not None
        self._gathered: tuple[Any, ...] = (None, None)
        self._compiled: tuple[Any, Any] = (None, None)
        self._overrides = {
            name
            for name in ("fused", "losses", "metrics", "final_metrics")
            if problem.overrides(name)
        }

    @property
    def whole(self) -> Bound:
        """The same starts with every row and every unit at every step."""
        return self.problem.whole.bind(self.starts) if self.stochastic else self

    def decays(self, name: str) -> bool:
        """Return whether a parameter is a weight, which decays."""
        return self.problem.decays(name)

    # The model, which a kind may call in another way

    def predict(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return predictions, shape (S, rows, outputs)."""
        return self.problem.predict(parameters, features)

    def predict_in_training(
        self, parameters: Parameters, features: torch.Tensor, step: int
    ) -> torch.Tensor:
        """Return predictions as training sees them; a kind may drop some units."""
        return self.predict(parameters, features)

    def off(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return which hidden units give nothing on some rows, (S, rows, units)."""
        return self.problem.off(parameters, features)

    def flat(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return which hidden units are saturated on some rows, (S, rows, units)."""
        return self.problem.flat(parameters, features)

    # Losses

    def fused(
        self, parameters: Parameters, step: int
    ) -> tuple[torch.Tensor, Parameters] | None:
        """Return losses and gradients without autograd, or None if autograd is faster."""
        if "fused" in self._overrides:
            return super().fused(parameters, step)
        return self.compiled(parameters, step)

    def compiled(
        self, parameters: Parameters, step: int
    ) -> tuple[torch.Tensor, Parameters] | None:
        """Return losses and gradients by compiled code; None if a kind has no such code."""
        return None

    def losses(self, parameters: Parameters, step: int) -> torch.Tensor:
        """Return the loss of each start on the rows of a step, shape (S,)."""
        if "losses" in self._overrides:
            return super().losses(parameters, step)
        return self.own_losses(parameters, step)

    def own_losses(self, parameters: Parameters, step: int) -> torch.Tensor:
        """Return the losses that the library defines, also where a kind has its own."""
        problem = self.problem
        rows, weights = self.rows_at(step)
        dtype = next(iter(parameters.values())).dtype
        evaluation = False
        if not problem.rows_apart and weights is not None and len(self.starts) == 1:
            # What only fills up, or counts nothing, is not to be seen by the others.
            seen = weights[0] > 0
            if bool(seen.any()):
                rows, weights = rows[:, seen], weights[:, seen]
            else:
                evaluation = True
        together = self.stochastic or not problem.rows_apart
        size = rows.shape[1] if together else self._slice(len(rows))
        if rows.shape[1] <= size:
            features, target = self._gather(rows, step, dtype)
            if evaluation:
                predicted = self.predict(parameters, features)
            else:
                predicted = self.predict_in_training(parameters, features, step)
            total = self._reduced(self._each(predicted, target), weights)
        else:
            total = self._in_slices(parameters, rows, weights, size)
        return total + self._decay(parameters) if problem.weight_decay else total

    def rows_at(self, step: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the rows of each start at a step, and the factor of each row's loss.

        The loss of a step is the sum of factor times loss over its rows; without
        factors it is the plain sum or mean.
        """
        if self.inputs is not None:
            return self.inputs["rows"], self.inputs.get("weights")
        if self.problem.loss == "sum":
            return self.batches.at(step)
        return self.batches.shares(step)

    def graph_rows(self, step: int) -> Parameters:
        """Return the rows of a step and their weights, as inputs of a CUDA graph."""
        rows, weights = self.rows_at(step)
        return {"rows": rows} if weights is None else {"rows": rows, "weights": weights}

    def compiled_rows(self, step: int, dtype: torch.dtype) -> Rows:
        """Return the rows of a step as compiled code takes them."""
        key = (step if self._mini else 0, dtype)
        if self._compiled[0] != key:
            self._compiled = key, self._made_rows(step, dtype)
        rows: Rows = self._compiled[1]
        return rows

    def _made_rows(self, step: int, dtype: torch.dtype) -> Rows:
        problem = self.problem
        rows, weights = self.rows_at(step)
        if not self._mini and len(problem.batches.splits) == 1:  # all have the same
            rows, weights = rows[:1], None if weights is None else weights[:1]
        scale = 1.0
        if weights is not None:
            weights = weights.to(dtype)
        if problem.loss == "mean" and weights is None:
            scale = 1 / rows.shape[1]
        features, target = problem.table(dtype)
        decay = None
        if problem.weight_decay:
            rates = torch.tensor(problem.weight_decay, dtype=dtype).reshape(-1)
            decay = rates[problem.batches.setting_of(self.starts) % len(rates)]
        return Rows(
            features,
            target,
            rows.contiguous(),
            None if weights is None else weights.contiguous(),
            scale,
            decay,
        )

    def _reduced(
        self, each: torch.Tensor, weights: torch.Tensor | None
    ) -> torch.Tensor:
        if weights is None:
            return each.sum(1) if self.problem.loss == "sum" else each.mean(1)
        return (each * weights.to(each.dtype)).sum(1)

    def _in_slices(
        self,
        parameters: Parameters,
        rows: torch.Tensor,
        weights: torch.Tensor | None,
        size: int,
    ) -> torch.Tensor:
        """Return the loss over many rows, of which few are kept in memory at once."""
        dtype = next(iter(parameters.values())).dtype

        # All that a part needs comes in as arguments: it runs again while the gradient
        # is taken, when the names of the loop below stand for its last slice.
        def part(
            chosen: torch.Tensor, counts: torch.Tensor | None, *tensors: torch.Tensor
        ) -> torch.Tensor:
            given = dict(zip(parameters, tensors, strict=True))
            features, target = self._rows(chosen, dtype)
            each = self._each(self.predict(given, features), target)
            return (each if counts is None else each * counts.to(dtype)).sum(1)

        total: Any = 0.0
        for first in range(0, rows.shape[1], size):
            place = slice(first, first + size)
            counts = None if weights is None else weights[:, place]
            tensors = tuple(parameters.values())
            if torch.is_grad_enabled():
                total = total + checkpoint(
                    part,
                    rows[:, place],
                    counts,
                    *tensors,
                    use_reentrant=False,
                    preserve_rng_state=False,
                )
            else:
                total = total + part(rows[:, place], counts, *tensors)
        if self.problem.loss == "mean" and weights is None:
            return total / rows.shape[1]
        return total

    def _decay(self, parameters: Parameters) -> torch.Tensor:
        total: Any = 0.0
        for name, value in parameters.items():
            if self.decays(name):
                total = total + value.square().flatten(1).sum(1)
        rate: Any = self.problem.weight_decay
        if isinstance(rate, tuple):
            setting = self.problem.batches.setting_of(self.starts)
            rate = constant(rate, total.dtype, total.device)[setting]
        return rate / 2 * total

    def _each(self, predictions: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of each row, (S, rows)."""
        if self.problem.classifies:
            return losses.cross_entropy(predictions, target)
        return (predictions - target).square().mean(-1)

    # Rows

    def _rows(
        self, rows: torch.Tensor, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor]:
        features, target = self.problem.table(dtype)
        return features[rows], target[rows]

    def _gather(
        self, rows: torch.Tensor, step: int, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.inputs is not None:  # other rows may be there the next time
            return self._rows(rows, dtype)
        key = (step if self._mini else 0, dtype)
        if self._gathered[0] != key:
            self._gathered = key, self._rows(rows, dtype)
        found: tuple[torch.Tensor, torch.Tensor] = self._gathered[1]
        return found

    def _slice(self, count: int) -> int:
        """Return how many rows of each of some starts are looked at at once."""
        return max(1, LOOK_ENTRIES // (count * self.problem.widest))

    def _slices(
        self, rows: torch.Tensor, dtype: torch.dtype
    ) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
        """Give all rows of each start, some at a time."""
        size = self._slice(len(rows))
        for first in range(0, rows.shape[1], size):
            place = slice(first, first + size)
            yield place, *self._rows(rows[:, place], dtype)

    # Metrics

    def metrics(self, parameters: Parameters) -> dict[str, torch.Tensor]:
        """Return how well each start does, as `Supervised.metrics`."""
        if "metrics" in self._overrides:
            return super().metrics(parameters)
        return self.own_metrics(parameters)

    def own_metrics(self, parameters: Parameters) -> dict[str, torch.Tensor]:
        """Return the metrics that the library defines."""
        batches, starts = self.problem.batches, self.starts
        rows = self.batches.training[0]
        counted = batches.counted(starts)
        name = "accuracy" if self.problem.classifies else "r2"
        found = {f"training_{name}": self._judged(parameters, rows, counted)[1]}
        if batches.any_held_out:
            loss, score = self._judged(parameters, *batches.held_out(starts))
            found[f"validation_{name}"] = score
            found["validation_loss"] = loss
        dead = self.dead_units(parameters)
        if dead.shape[1]:
            found["dead_units"] = dead.sum(1)
        return found

    def final_metrics(self, parameters: Parameters) -> dict[str, torch.Tensor]:
        """Return what is computed at the end alone, as `Supervised.final_metrics`."""
        if "final_metrics" in self._overrides:
            return super().final_metrics(parameters)
        return self.own_final_metrics(parameters)

    def own_final_metrics(self, parameters: Parameters) -> dict[str, torch.Tensor]:
        """Return the final metrics that the library defines."""
        batches, starts = self.problem.batches, self.starts
        if not self.problem.classifies:
            return {}
        parts: dict[str, tuple[torch.Tensor, Any]] = {
            "training": (self.batches.training[0], batches.counted)
        }
        if batches.any_held_out:
            rows = batches.held_out(starts)[0]
            parts["validation"] = (rows, lambda some: batches.held_out(some)[1])
        found: dict[str, torch.Tensor] = {}
        for part, (rows, count_of) in parts.items():
            # All rows of few starts: ranks are over all rows.
            size = max(1, LOOK_ENTRIES // (rows.shape[1] * self.problem.outputs))
            size = len(starts) if not self.problem.rows_apart else size
            each = [
                self._scored(
                    {n: p[first : first + size] for n, p in parameters.items()},
                    rows[first : first + size],
                    count_of(starts[first : first + size]),
                )
                for first in range(0, len(starts), size)
            ]
            for name in SCORES:
                found[f"{part}_{name}"] = torch.cat([one[name] for one in each])
        return found

    def _scored(
        self,
        parameters: Parameters,
        rows: torch.Tensor,
        counted: torch.Tensor | None,
    ) -> dict[str, torch.Tensor]:
        """Return the scores of some starts on some rows."""
        dtype = next(iter(parameters.values())).dtype
        predictions = torch.cat(
            [
                self.predict(parameters, features)
                for _, features, _ in self._slices(rows, dtype)
            ],
            1,
        )
        target = self.problem.table(dtype)[1][rows]
        weights = self._weights_of(self.problem.weights_of_rows, rows, counted)
        return class_scores(predictions, target, weights)

    def _judged(
        self,
        parameters: Parameters,
        rows: torch.Tensor,
        counted: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the weighted mean loss of some rows, and accuracy or R^2, in float64."""
        dtype = next(iter(parameters.values())).dtype
        loss: Any = 0.0
        weight: Any = 0.0
        squares: Any = 0.0
        good: Any = 0.0
        count: Any = 0.0
        first: Any = 0.0
        second: Any = 0.0
        largest: Any = 0.0
        origin: Any = None
        for place, features, target in self._slices(rows, dtype):
            predictions = self.predict(parameters, features)
            real = None if counted is None else counted[:, place]
            kept = self._weights_of(self.problem.weights_of_rows, rows[:, place], real)
            weighed = kept
            if self.problem.weights_of_losses is not self.problem.weights_of_rows:
                weighed = self._weights_of(
                    self.problem.weights_of_losses, rows[:, place], real
                )
            each = self._each(predictions, target).double()
            loss = loss + (each * weighed).sum(1)
            weight = weight + weighed.sum(1)
            count = count + kept.sum(1)
            if self.problem.classifies:
                good = good + ((predictions.argmax(-1) == target) * kept).sum(1)
            else:
                off = (predictions - target).square().double()
                squares = squares + (off * kept[..., None]).sum(1)
                exact = target.double()
                seen = (kept > 0)[..., None]
                largest = (exact.abs() * seen).amax(1).clamp_min(largest)
                # From one of these rows: squares of large numbers would cancel.
                origin = exact[:, :1] if origin is None else origin
                exact = exact - origin
                first = first + (exact * kept[..., None]).sum(1)
                second = second + (exact.square() * kept[..., None]).sum(1)
        if self.problem.classifies:
            return loss / weight, good / count
        spread = second - first.square() / count[:, None]
        rounding = count[:, None] * (torch.finfo(dtype).eps * largest).square()
        varies = spread > rounding
        # What is constant is predicted exactly or not at all, as in scikit-learn.
        each = torch.where(varies, 1 - squares / spread, (squares == 0).double())
        score = torch.where(varies.any(-1), each.mean(-1), torch.nan)
        return loss / weight, score

    def _weights_of(
        self,
        weights: torch.Tensor | None,
        rows: torch.Tensor,
        counted: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return the weights of some rows, 0 for what only fills up, in float64."""
        if weights is None:
            if counted is not None:
                return counted
            return torch.ones(rows.shape, dtype=torch.float64, device=rows.device)
        chosen = weights[rows]
        return chosen if counted is None else chosen * counted

    def dead_units(self, parameters: Parameters) -> torch.Tensor:
        """Return which hidden units are off on every training row, (S, units)."""
        return self._all_rows(parameters, self.off)

    def saturated_units(self, parameters: Parameters) -> torch.Tensor:
        """Return which hidden units are flat on every training row, (S, units)."""
        return self._all_rows(parameters, self.flat)

    def _all_rows(
        self,
        parameters: Parameters,
        look: Callable[[Parameters, torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        """Return which units something holds of on all training rows."""
        rows = self.batches.training[0]
        counted = self.problem.batches.counted(self.starts)
        dtype = next(iter(parameters.values())).dtype
        found: Any = None
        for place, features, _ in self._slices(rows, dtype):
            holds = look(parameters, features)
            if counted is not None or self.problem.weights_of_rows is not None:
                real = None if counted is None else counted[:, place]
                kept = self._weights_of(
                    self.problem.weights_of_rows, rows[:, place], real
                )
                holds = holds | (kept == 0)[..., None]
            holds = holds.sum(1) == holds.shape[1]  # several times faster than `all`
            found = holds if found is None else found & holds
        return torch.as_tensor(found)
