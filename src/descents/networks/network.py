"""Networks: one multilayer perceptron from many initial points."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch

from descents.errors import Complaints, InvalidValueError, name_of
from descents.networks.activations import ACTIVATIONS
from descents.networks.bound_supervised import BoundSupervised
from descents.networks.fused import Shape, compiled, losses_and_gradients, plain_steps
from descents.networks.initialization import (
    BIASES,
    SCALED,
    WEIGHTS,
    Initialization,
    initialization_named,
)
from descents.networks.labeled import of_settings
from descents.networks.splits import Splits
from descents.networks.supervised import Supervised
from descents.optim.problem import Bound, Parameters, sent, stacked_points
from descents.rng import streams
from descents.tables.memory import memory_of_machine
from descents.validation import finite_matrix, one_of, real_number, whole_number


def probability(name: str, value: object) -> float:
    """Return a probability below 1.

    Examples
    --------
    >>> probability("dropout", 0)
    0.0
    """
    fraction = real_number(name, value, 0)
    if fraction >= 1:
        raise InvalidValueError(
            f"{name_of(name)} is {value}; give a probability from 0 to below 1"
        )
    return fraction


BYTES_OF_WEIGHT = 28
"""A weight is drawn in 8 bytes; then it, its gradient and what Adam keeps take 4 each, and
8 more while one is computed from the others."""


def _check_size(widths: Sequence[int]) -> None:
    """Raise an error for a network of which not even one start fits into memory."""
    count = sum((one + 1) * two for one, two in itertools.pairwise(widths))
    needed, there = count * BYTES_OF_WEIGHT, memory_of_machine()
    if needed > there:
        hidden = ",".join(map(str, widths[1:-1]))
        raise InvalidValueError(
            f"{name_of('hidden_layer_sizes')} is {hidden}, which makes {count} weights; one "
            f"start takes about {needed / 2**30:.1f} GiB, and there are "
            f"{there / 2**30:.1f} GiB of memory; give fewer or smaller layers"
        )


def _hidden_widths(hidden: int | Sequence[int]) -> list[int]:
    """Return the widths of the hidden layers, checked."""
    complaints = Complaints()
    hidden = list(hidden) if isinstance(hidden, Iterable) else [hidden]
    widths = [
        complaints.attempt(whole_number, "a hidden width", width, 1) for width in hidden
    ]
    complaints.require(bool(widths), "hidden is empty; give at least one width")
    complaints.raise_any()
    return widths


def _check_crossed(settings: int, crossed: bool) -> None:
    """Raise if there are several settings that starts are not crossed with."""
    if settings > 1 and not crossed:
        raise InvalidValueError(
            f"there are {settings} settings, but starts are not crossed with them; give "
            "crossed=True"
        )


class Network(Supervised):
    """A multilayer perceptron with cross-entropy or squared error.

    Each layer computes ``x @ weight + bias``, with the activation between the layers; the
    last layer returns a logit for each class, or the predicted numbers. From every start,
    the sum or mean over the training rows of log(sum_c exp(z_c)) - z_label, or of
    (z - y)^2, plus weight_decay / 2 times the squared weights (not biases) is minimized.

    Parameters
    ----------
    X : array-like of shape (rows, features)
    y : array-like
        Classes 0, 1, ..., C - 1, shape (rows,); for regression numbers, shape (rows,)
        or (rows, outputs).
    hidden : int or sequence of int
        The width of each hidden layer, at least one.
    task : {"classification", "regression"}
    outputs : int, optional
        The number of classes, if the last ones may not occur in y.
    activation : {"relu", "tanh", "logistic", "gelu"}
    weights : {"uniform01", "normal", "kaiming", "xavier", "orthogonal", "zero"} or callable
        The distribution of the initial weights. A callable ``weights(generator, inputs,
        outputs)`` returns an array of shape (inputs, outputs). A sequence has one for
        each of several settings (see `Batches`), as for `dropout` and `weight_decay`.
    biases : {"zero", "uniform01"}
    loss : {"mean", "sum"}
        How the losses of the training rows are reduced.
    scalar_biases : bool
        Use one bias per layer instead of one per unit.
    splits : sequence of array-like of int, optional
        The training rows of each split. Unless `crossed`, start k is trained on split k
        modulo their number, and validated on the other rows. By default all rows are
        training rows.
    crossed : bool
        Whether every initial point is used on every split: number k then has the initial
        point k // splits.
    row_weights : array-like of shape (rows,), optional
        The weight of each row, at least 0, in the losses and in all metrics. A row of
        weight w counts like w copies of the row.
    class_weights : array-like of shape (classes,), optional
        The weight of the rows of each class in the losses, multiplied by `row_weights`.
    batch_size : int, optional
        The number of rows of a step. Each start has its own order of the rows, a new one
        in every epoch. By default all rows.
    dropout : float or sequence of float
        The probability, from 0 to below 1, that a hidden unit is dropped for a row in a
        step; the others are multiplied by 1 / (1 - dropout).
    weight_decay : float or sequence of float
    settings : int
        The number of settings that every start is trained in. More than one needs
        `crossed`.
    seed : int
        The seed of the orders of rows and of dropout, which depend on (seed, start, step)
        alone.
    dtype : torch.dtype, optional
        float32 or float64, by default that of X.
    device : str or torch.device

    Raises
    ------
    InvalidValueError
        If arguments are invalid; one message lists all problems.

    Examples
    --------
    >>> from descents import descend, GradientDescent, Stop
    >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]
    >>> network = Network(X, y, hidden=[8])
    >>> runs = descend(network, starts=5, steps=GradientDescent(0.3), stop=Stop(300))
    >>> runs.metrics["training_accuracy"]
    array([1., 1., 1., 1., 1.])
    """

    def __init__(  # noqa: PLR0913
        self,
        X: object,
        y: object,
        hidden: int | Sequence[int] = (12,),
        *,
        task: str = "classification",
        outputs: int | None = None,
        activation: str = "relu",
        weights: str | Initialization | Sequence[str | Initialization] = "kaiming",
        biases: str = "zero",
        loss: str = "mean",
        scalar_biases: bool = False,
        splits: Splits | None = None,
        crossed: bool = False,
        row_weights: object = None,
        class_weights: object = None,
        batch_size: int | None = None,
        dropout: float | Sequence[float] = 0.0,
        weight_decay: float | Sequence[float] = 0.0,
        settings: int = 1,
        seed: int = 0,
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        complaints = Complaints()
        widths = complaints.attempt(_hidden_widths, hidden)
        complaints.attempt(one_of, "activation", activation, ACTIVATIONS)
        rule = complaints.attempt(
            of_settings, "weights", weights, settings, initialization_named
        )
        complaints.attempt(one_of, "biases", biases, BIASES)
        rates = complaints.attempt(
            of_settings, "dropout", dropout, settings, probability
        )
        complaints.attempt(_check_crossed, settings, crossed)
        complaints.attempt(
            super().__init__,
            X,
            y,
            task=task,
            outputs=outputs,
            loss=loss,
            splits=splits,
            row_weights=row_weights,
            class_weights=class_weights,
            batch_size=batch_size,
            weight_decay=weight_decay,
            settings=settings,
            seed=seed,
            dtype=dtype,
            device=device,
        )
        complaints.raise_any()
        self.activation = ACTIVATIONS[activation]
        self.weights: str | Initialization | tuple[str | Initialization, ...] = rule
        self.biases, self.scalar_biases = biases, scalar_biases
        self.crossed, self.seed = crossed, seed
        self._set_dropouts(np.broadcast_to(np.asarray(rates, np.float64), settings))
        self._set_widths([self.X.shape[1], *widths, self.outputs])

    def _set_dropouts(self, dropouts: np.ndarray) -> None:
        """Set the dropout of each setting."""
        self.dropouts, self.dropout = dropouts, float(dropouts.max())

    def _set_widths(self, widths: list[int]) -> None:
        """Set the widths of all layers, and what follows from them."""
        _check_size(widths)
        self.widths = widths
        self._has_layers_of(max(widths))
        shape = Shape(
            tuple(widths), self.activation.name, self.scalar_biases, self.classifies
        )
        self._whole_shape = shape if shape.applies else None

    def origins(self, starts: Sequence[int] | np.ndarray) -> list[int]:
        """Return the number of the initial point of each start."""
        tries = 1
        if self.crossed:
            tries = len(self.batches.splits) * self.batches.settings
        return [int(start) // tries for start in starts]

    def of_setting(self, number: int) -> Network:
        """Return the problem of one of the settings alone."""
        alone = copy.copy(self)
        alone.batches = copy.copy(self.batches)
        alone.batches.settings = 1
        alone._set_dropouts(self.dropouts[number : number + 1])
        if isinstance(self.weights, tuple):
            alone.weights = self.weights[number]
        if isinstance(self.weight_decay, tuple):
            alone.weight_decay = self.weight_decay[number]
        return alone

    def point(
        self, generator: np.random.Generator, start: int
    ) -> Mapping[str, np.ndarray]:
        """Draw the weights of all layers, then the biases of all layers.

        In this order, the weights of a start do not depend on how biases are drawn.
        """
        pairs = list(zip(self.widths[:-1], self.widths[1:], strict=True))
        point: dict[str, np.ndarray] = {}
        rule = self.weights
        if isinstance(rule, tuple):
            rule = rule[self.batches.setting_of(start)]
        draw = rule if callable(rule) else WEIGHTS[rule]
        for layer, shape in enumerate(pairs, 1):
            drawn = draw(generator, *shape)
            if callable(rule):
                drawn = finite_matrix("what weights returned", drawn)
            if drawn.shape != shape:
                raise InvalidValueError(
                    f"weights returned shape {drawn.shape} for layer {layer}; return "
                    f"an array of shape {shape}, (inputs, outputs)"
                )
            point[f"weight{layer}"] = drawn
        for layer, (_, outputs) in enumerate(pairs, 1):
            width = 1 if self.scalar_biases else outputs
            point[f"bias{layer}"] = BIASES[self.biases](generator, width)
        return point

    def points(self, starts: Sequence[int] | np.ndarray, seed: int) -> Parameters:
        """Return the initial points of the given starts, stacked.

        If weights are drawn one by one, those of all layers are drawn at once.
        """
        rule = self.weights if isinstance(self.weights, str) else ""
        if rule not in SCALED or type(self).point is not Network.point:
            generators = streams(seed, "start", self.origins(starts))
            return stacked_points(self, [int(k) for k in starts], generators)
        draw, scale = SCALED[rule]
        shapes = list(zip(self.widths[:-1], self.widths[1:], strict=True))
        sizes = [inputs * outputs for inputs, outputs in shapes]
        widths = [1 if self.scalar_biases else outputs for _, outputs in shapes]
        weights = np.empty((len(starts), sum(sizes)))
        biases = np.empty((len(starts), sum(widths)))
        generators = streams(seed, "start", self.origins(starts))
        for place, generator in enumerate(generators):
            weights[place] = draw(generator, sum(sizes))
            biases[place] = BIASES[self.biases](generator, sum(widths))[0]
        points = {
            f"weight{layer}": part.reshape(-1, *shape) * scale(*shape)
            for layer, (part, shape) in enumerate(
                zip(np.split(weights, np.cumsum(sizes)[:-1], 1), shapes, strict=True), 1
            )
        }
        for layer, part in enumerate(np.split(biases, np.cumsum(widths)[:-1], 1), 1):
            points[f"bias{layer}"] = part[:, None]
        return {
            name: torch.tensor(value, dtype=self.dtype, device=self.device)
            for name, value in points.items()
        }

    def predict(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return logits or numbers, shape (S, rows, outputs), of features (S, rows, d)."""
        return self.forward(parameters, features)[-1]

    def bind(self, starts: torch.Tensor, seed: int = 0) -> Bound:
        """Return this network bound to the starts of a chunk."""
        return BoundNetwork(self, starts)

    def view(self, starts: torch.Tensor) -> BoundNetwork:
        """Return this network bound to starts for one evaluation."""
        return BoundNetwork(self, starts)

    def forward(
        self,
        parameters: Parameters,
        features: torch.Tensor,
        masks: torch.Tensor | None = None,
        hidden: bool = False,
    ) -> list[torch.Tensor]:
        """Return the outputs of every layer, or hidden layer, before its activation."""
        outputs: list[torch.Tensor] = []
        inputs, first = features, 0
        for layer in range(1, len(self.widths) - hidden):
            outputs.append(
                torch.baddbmm(
                    parameters[f"bias{layer}"], inputs, parameters[f"weight{layer}"]
                )
            )
            inputs = self.activation.function(outputs[-1])
            if masks is not None and layer < len(self.widths) - 1:
                inputs = inputs * masks[..., first : first + self.widths[layer]]
                first += self.widths[layer]
        return outputs

    # The faster way to losses and gradients

    @property
    def shape(self) -> Shape | None:
        """The shape for compiled code; None if torch operations compute this network."""
        # A derived class may have other losses.
        if type(self) is not Network or self.device.type != "cpu" or self.dropout:
            return None
        return self._whole_shape

    @property
    def side_by_side(self) -> bool:
        """Whether chunks may run in parallel; not those of a derived class."""
        return type(self) is Network

    @property
    def one_threaded(self) -> bool:
        """Whether a step is computed by compiled code, which uses one thread."""
        return self.shape is not None and compiled(self.dtype) is not None

    def decays(self, name: str) -> bool:
        """Return whether a parameter is a weight, not a bias."""
        return name.startswith("weight")

    def layers(self, parameters: Parameters) -> dict[str, tuple[str, ...]]:
        """Return the weight and bias of each layer."""
        return {
            f"layer{layer}": (f"weight{layer}", f"bias{layer}")
            for layer in range(1, len(self.widths))
        }

    def off(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return which hidden units are off on each row, bool (S, rows, units)."""
        hidden = self.forward(parameters, features, hidden=True)
        return torch.cat([self.activation.off(z) for z in hidden], -1)

    def flat(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return which hidden units are saturated on each row, bool (S, rows, units)."""
        hidden = self.forward(parameters, features, hidden=True)
        return torch.cat([self.activation.flat(z) for z in hidden], -1)


class BoundNetwork(BoundSupervised):
    """A network bound to starts: masks of dropout, and compiled code."""

    problem: Network

    def predict_in_training(
        self, parameters: Parameters, features: torch.Tensor, step: int
    ) -> torch.Tensor:
        """Return predictions without the units that dropout drops."""
        if not self.problem.dropout:
            return self.predict(parameters, features)
        if self.inputs is None:
            masks = self.masks(step, features.shape[1])
        else:
            masks = self.inputs["masks"]
        return self.problem.forward(parameters, features, masks.to(features.dtype))[-1]

    def masks(self, step: int, rows: int) -> torch.Tensor:
        """Return the factor of each hidden unit on each row: 0, or 1 / (1 - dropout)."""
        problem = self.problem
        numbers, places = self.batches.numbers
        shape = (rows, sum(problem.widths[1:-1]))
        rates = problem.dropouts[problem.batches.setting_of(numbers)]
        alone = problem.batches.alone(numbers)
        drawn = [
            (generator.random(shape, dtype=np.float32) >= rate) / (1 - rate)
            for rate, generator in zip(
                rates, streams(problem.seed, "dropout", alone, step), strict=True
            )
        ]
        return sent(np.stack(drawn)[places], self.device)

    def compiled(
        self, parameters: Parameters, step: int
    ) -> tuple[torch.Tensor, Parameters] | None:
        """Return losses and gradients by compiled code, or None if autograd is faster."""
        if self.shape is None:
            return None
        rows = self.compiled_rows(step, parameters["weight1"].dtype)
        return losses_and_gradients(self.shape, rows, parameters)

    def plain_steps(
        self, parameters: Parameters, step: int, rates: torch.Tensor, count: int
    ) -> tuple[int, Parameters, Parameters] | None:
        """Take several steps of gradient descent on all rows by compiled code."""
        shape = self.shape
        if shape is None or self.stochastic:
            return None
        longest = self.problem.batches.longest
        count = min(count, shape.steps_at_once(longest, len(self.starts)))
        rows = self.compiled_rows(step, parameters["weight1"].dtype)
        found = plain_steps(shape, rows, parameters, rates, count)
        return None if found is None else (count, found[2], found[1])

    def graph_inputs(self, step: int) -> Parameters | None:
        """Return the rows of a mini-batch, their weights, and the masks of dropout."""
        # A derived class may have other losses.
        if type(self.problem) is not Network:
            return None
        inputs = self.graph_rows(step) if self.stochastic else {}
        if self.problem.dropout:
            inputs["masks"] = self.masks(step, inputs["rows"].shape[1])
        return inputs

    def with_inputs(self, inputs: Parameters) -> Bound:
        """Return the network with these rows, weights and masks at every step."""
        return BoundNetwork(self.problem, self.starts, inputs)
