"""A supervised problem bound to the starts of one chunk: rows, losses and metrics."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator

import torch
from torch.utils.checkpoint import checkpoint

from descents import losses
from descents.devices import constant
from descents.networks.fused import Rows
from descents.networks.labeled import Labeled
from descents.networks.scores import SCORES, Determination, class_scores
from descents.optim.problem import Bound, Parameters

LOOK_ENTRIES = 2**24
"""The largest number of values kept in memory at once when all rows are evaluated."""
Key = tuple[int, torch.dtype]
"""A step (0 if all steps use the same rows), and a dtype."""
Counts = Callable[[torch.Tensor], torch.Tensor | None]
"""Returns 1 for the rows of some starts and 0 for padding, None without padding."""


class BoundSupervised(Bound):
    """The rows, losses and metrics of the starts of one chunk.

    The rows and weights of the starts are looked up once; with mini-batches, orders of
    the rows are drawn once per epoch.

    Parameters
    ----------
    problem : Labeled
    starts : int64 Tensor of shape (S,)
    inputs : dict of Tensor, optional
        The ``"rows"`` of a step, their ``"weights"`` and other inputs, at the addresses
        that a CUDA graph reads. By default they are looked up for each step.
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
        # A CUDA graph, which reads inputs, consists of torch operations.
        shape = problem.shape if inputs is None else None
        if shape and not shape.worthwhile(problem.rows_at_once, len(starts)):
            shape = None
        self.shape = shape
        self._mini = problem.batches.batch_size is not None
        self._gathered: tuple[Key, tuple[torch.Tensor, torch.Tensor]] | None = None
        self._compiled: tuple[Key, Rows] | None = None
        self._overrides = {
            name
            for name in ("fused", "losses", "metrics", "final_metrics")
            if problem.overrides(name)
        }

    @property
    def whole(self) -> Bound:
        """The same starts with all rows and all units at every step."""
        return self.problem.whole.bind(self.starts) if self.stochastic else self

    def decays(self, name: str) -> bool:
        """Return whether a parameter is a weight, which decays."""
        return self.problem.decays(name)

    # The model, which a derived class may call in another way

    def predict(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return predictions, shape (S, rows, outputs)."""
        return self.problem.predict(parameters, features)

    def predict_in_training(
        self, parameters: Parameters, features: torch.Tensor, step: int
    ) -> torch.Tensor:
        """Return predictions in training; a derived class may drop some units."""
        return self.predict(parameters, features)

    def off(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return which hidden units are off on each row, bool (S, rows, units)."""
        return self.problem.off(parameters, features)

    def flat(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return which hidden units are saturated on each row, bool (S, rows, units)."""
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
        """Return the losses that this class defines, even if the problem has its own."""
        problem = self.problem
        rows, weights = self.rows_at(step)
        dtype = next(iter(parameters.values())).dtype
        evaluation = False
        if not problem.rows_apart and weights is not None and len(self.starts) == 1:
            # Padding and rows of weight 0 must not affect other rows.
            kept = weights[0] > 0
            if bool(kept.any()):
                rows, weights = rows[:, kept], weights[:, kept]
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

        The loss of a step is the sum over its rows of the factor times the loss. Without
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
        """Return the rows of a step in the form that compiled code reads."""
        key = (step if self._mini else 0, dtype)
        if self._compiled is None or self._compiled[0] != key:
            self._compiled = key, self._made_rows(step, dtype)
        return self._compiled[1]

    def _made_rows(self, step: int, dtype: torch.dtype) -> Rows:
        problem = self.problem
        rows, weights = self.rows_at(step)
        if not self._mini and len(problem.batches.splits) == 1:  # the same for all
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
        """Return the loss over many rows, with only some of them in memory at once."""
        dtype = next(iter(parameters.values())).dtype

        # It has no free variables of the loop below, because it runs again when the
        # gradient is computed, after the loop.
        def part(
            chosen: torch.Tensor, counts: torch.Tensor | None, *tensors: torch.Tensor
        ) -> torch.Tensor:
            given = dict(zip(parameters, tensors, strict=True))
            features, target = self._rows(chosen, dtype)
            each = self._each(self.predict(given, features), target)
            return (each if counts is None else each * counts.to(dtype)).sum(1)

        totals = []
        for first in range(0, rows.shape[1], size):
            place = slice(first, first + size)
            counts = None if weights is None else weights[:, place]
            tensors = tuple(parameters.values())
            if torch.is_grad_enabled():
                sums: torch.Tensor = checkpoint(
                    part,
                    rows[:, place],
                    counts,
                    *tensors,
                    use_reentrant=False,
                    preserve_rng_state=False,
                )
                totals.append(sums)
            else:
                totals.append(part(rows[:, place], counts, *tensors))
        total = functools.reduce(operator.add, totals)
        if self.problem.loss == "mean" and weights is None:
            return total / rows.shape[1]
        return total

    def _decay(self, parameters: Parameters) -> torch.Tensor:
        """Return weight_decay / 2 times the squared weights of each start, shape (S,)."""
        squares = [
            value.square().flatten(1).sum(1)
            for name, value in parameters.items()
            if self.decays(name)
        ]
        if not squares:
            return next(iter(parameters.values())).new_zeros(len(self.starts))
        total = functools.reduce(operator.add, squares)
        rate = self.problem.weight_decay
        if isinstance(rate, tuple):
            setting = self.problem.batches.setting_of(self.starts)
            return constant(rate, total.dtype, total.device)[setting] / 2 * total
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
        if self.inputs is not None:  # their rows change between calls
            return self._rows(rows, dtype)
        key = (step if self._mini else 0, dtype)
        if self._gathered is None or self._gathered[0] != key:
            self._gathered = key, self._rows(rows, dtype)
        return self._gathered[1]

    def _slice(self, count: int) -> int:
        """Return how many rows of each start are kept in memory at once."""
        return max(1, LOOK_ENTRIES // (count * self.problem.widest))

    def _slices(
        self, rows: torch.Tensor, dtype: torch.dtype
    ) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
        """Yield all rows of each start in slices: the place, the features, the target."""
        size = self._slice(len(rows))
        for first in range(0, rows.shape[1], size):
            place = slice(first, first + size)
            yield place, *self._rows(rows[:, place], dtype)

    # Metrics

    def metrics(self, parameters: Parameters) -> dict[str, torch.Tensor]:
        """Return the metrics of each start: `Supervised.metrics`."""
        if "metrics" in self._overrides:
            return super().metrics(parameters)
        return self.own_metrics(parameters)

    def own_metrics(self, parameters: Parameters) -> dict[str, torch.Tensor]:
        """Return the metrics that this class defines."""
        batches, starts = self.problem.batches, self.starts
        rows = self.batches.training[0]
        counted = batches.counted(starts)
        name = "accuracy" if self.problem.classifies else "r2"
        found = {f"training_{name}": self._judged(parameters, rows, counted)[1]}
        if self.problem.weighs_classes:
            found["training_balanced_accuracy"] = self._recall(
                parameters, rows, counted
            )
        if batches.any_held_out:
            loss, score = self._judged(parameters, *batches.held_out(starts))
            found[f"validation_{name}"] = score
            found["validation_loss"] = loss
        dead = self.dead_units(parameters)
        if dead.shape[1]:
            found["dead_units"] = dead.sum(1)
        return found

    def _recall(
        self,
        parameters: Parameters,
        rows: torch.Tensor,
        counted: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return the mean recall of the classes of some rows, in float64."""
        dtype = next(iter(parameters.values())).dtype
        shape = len(rows), self.problem.outputs
        right = torch.zeros(shape, dtype=torch.float64, device=rows.device)
        every = torch.zeros_like(right)
        for place, features, target in self._slices(rows, dtype):
            real = None if counted is None else counted[:, place]
            kept = self._weights_of(self.problem.weights_of_rows, rows[:, place], real)
            hit = self.predict(parameters, features).argmax(-1) == target
            every.scatter_add_(1, target, kept)
            right.scatter_add_(1, target, kept * hit)
        return (right / every).nanmean(1)

    def final_metrics(self, parameters: Parameters) -> dict[str, torch.Tensor]:
        """Return the metrics computed only at the end: `Supervised.final_metrics`."""
        if "final_metrics" in self._overrides:
            return super().final_metrics(parameters)
        return self.own_final_metrics(parameters)

    def own_final_metrics(self, parameters: Parameters) -> dict[str, torch.Tensor]:
        """Return the final metrics that this class defines."""
        batches, starts = self.problem.batches, self.starts
        if not self.problem.classifies:
            return {}
        parts: dict[str, tuple[torch.Tensor, Counts]] = {
            "training": (self.batches.training[0], batches.counted)
        }
        if batches.any_held_out:
            rows = batches.held_out(starts)[0]
            parts["validation"] = (rows, lambda some: batches.held_out(some)[1])
        found: dict[str, torch.Tensor] = {}
        for part, (rows, count_of) in parts.items():
            # Some starts at a time, with all rows, because ranks are over all rows.
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
        problem, dtype = self.problem, next(iter(parameters.values())).dtype
        loss = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        weight = count = right = loss
        determination = Determination(loss)
        for place, features, target in self._slices(rows, dtype):
            predictions = self.predict(parameters, features)
            real = None if counted is None else counted[:, place]
            kept = self._weights_of(problem.weights_of_rows, rows[:, place], real)
            weighed = kept
            if problem.weights_of_losses is not problem.weights_of_rows:
                weighed = self._weights_of(
                    problem.weights_of_losses, rows[:, place], real
                )
            each = self._each(predictions, target).double()
            loss = loss + (each * weighed).sum(1)
            weight = weight + weighed.sum(1)
            count = count + kept.sum(1)
            if problem.classifies:
                right = right + ((predictions.argmax(-1) == target) * kept).sum(1)
            else:
                determination.add(predictions, target, kept)
        if problem.classifies:
            return loss / weight, right / count
        return loss / weight, determination.score(count, torch.finfo(dtype).eps)

    def _weights_of(
        self,
        weights: torch.Tensor | None,
        rows: torch.Tensor,
        counted: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return the weights of some rows in float64, 0 for padding."""
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
        """Return which hidden units are saturated on every training row, (S, units)."""
        return self._all_rows(parameters, self.flat)

    def _all_rows(
        self,
        parameters: Parameters,
        look: Callable[[Parameters, torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        """Return for which units `look` returns True on all training rows, (S, units)."""
        rows = self.batches.training[0]
        counted = self.problem.batches.counted(self.starts)
        dtype = next(iter(parameters.values())).dtype
        found: torch.Tensor | None = None
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
