"""Networks: one multilayer perceptron from many initial points."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from descents.errors import Complaints, InvalidValueError
from descents.networks.bound_supervised import BoundSupervised
from descents.networks.fused import Shape, compiled, losses_and_gradients, plain_steps
from descents.networks.labeled import of_settings
from descents.networks.supervised import Supervised
from descents.optim.problem import Bound, Parameters, sent, stacked_points
from descents.rng import streams
from descents.validation import finite_matrix, one_of, real_number, whole_number

Initialization = Callable[[np.random.Generator, int, int], np.ndarray]


def _orthogonal(generator: np.random.Generator, inputs: int, outputs: int) -> Any:
    """Draw a matrix with orthonormal rows or columns, uniformly (Haar)."""
    tall = generator.standard_normal((max(inputs, outputs), min(inputs, outputs)))
    basis, upper = np.linalg.qr(tall)
    basis = basis * np.sign(np.diag(upper))
    return basis if inputs >= outputs else basis.T


Draw = Callable[[np.random.Generator, Any], Any]
Scale = Callable[[int, int], float]
SCALED: dict[str, tuple[Draw, Scale]] = {
    "uniform01": (
        lambda generator, shape: generator.random(shape),
        lambda inputs, outputs: 1.0,
    ),
    "normal": (
        lambda generator, shape: generator.standard_normal(shape),
        lambda inputs, outputs: 1.0,
    ),
    "kaiming": (
        lambda generator, shape: generator.standard_normal(shape),
        lambda inputs, outputs: np.sqrt(2 / inputs),
    ),
    "xavier": (
        lambda generator, shape: generator.uniform(-1, 1, shape),
        lambda inputs, outputs: np.sqrt(6 / (inputs + outputs)),
    ),
}
"""Weights that are drawn one by one, and what those of a layer are multiplied by."""


def _scaled(draw: Draw, scale: Scale) -> Initialization:
    def weights(
        generator: np.random.Generator, inputs: int, outputs: int
    ) -> np.ndarray:
        drawn: np.ndarray = draw(generator, (inputs, outputs))
        return drawn * scale(inputs, outputs)

    return weights


WEIGHTS: dict[str, Initialization] = {
    **{name: _scaled(*rule) for name, rule in SCALED.items()},
    "orthogonal": _orthogonal,
    "zero": lambda generator, inputs, outputs: np.zeros((inputs, outputs)),
}
"""How the weights of a layer are drawn: uniform on [0, 1); standard normal; normal of
variance 2 / inputs (He et al., 2015, ICCV); uniform of variance 2 / (inputs + outputs)
(Glorot and Bengio, 2010, AISTATS); orthonormal rows or columns (Saxe et al., 2014,
ICLR); all zero."""

BIASES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "zero": lambda generator, outputs: np.zeros((1, outputs)),
    "uniform01": lambda generator, outputs: generator.random((1, outputs)),
}
"""How the biases of a layer are drawn: all zero, or uniform on [0, 1)."""


@dataclass(frozen=True)
class Activation:
    """What a hidden unit makes of its sum z, and when it is off or flat.

    Attributes
    ----------
    name : str
    function : callable
    off, flat : callable
        Which z the unit gives nothing at, with no gradient; which it is saturated at:
        the slope is below a hundredth of the largest.
    """

    name: str
    function: Callable[[torch.Tensor], torch.Tensor]
    off: Callable[[torch.Tensor], torch.Tensor]
    flat: Callable[[torch.Tensor], torch.Tensor]


def _never(values: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(values, dtype=torch.bool)


def _negative(values: torch.Tensor) -> torch.Tensor:
    return values <= 0


def _far_below(values: torch.Tensor) -> torch.Tensor:
    # The slope of z Phi(z) is within 0.01 of nothing below -3.0674.
    return values < -3.0674


def _tanh_flat(values: torch.Tensor) -> torch.Tensor:
    # tanh' = 1 - tanh^2 is 0.01 at z = 2.993; the logistic's slope at twice that.
    return values.abs() > TANH_FLAT


def _logistic_flat(values: torch.Tensor) -> torch.Tensor:
    return values.abs() > 2 * TANH_FLAT


TANH_FLAT = 2.9932
ACTIVATIONS = {
    found.name: found
    for found in (
        Activation("relu", torch.relu, _negative, _never),
        Activation("tanh", torch.tanh, _never, _tanh_flat),
        Activation("logistic", torch.sigmoid, _never, _logistic_flat),
        Activation("gelu", torch.nn.functional.gelu, _far_below, _never),
    )
}


def _initialization(name: str, value: Any) -> Any:
    return value if callable(value) else one_of(name, value, WEIGHTS)


def probability(name: str, value: Any) -> float:
    """Return a probability below 1.

    Examples
    --------
    >>> probability("dropout", 0)
    0.0
    """
    fraction = real_number(name, value, 0)
    if fraction >= 1:
        raise InvalidValueError(
            f"{name} is {value}; give a probability from 0 to below 1"
        )
    return fraction


class Network(Supervised):
    """Cross-entropy, or squared error, of a multilayer perceptron.

    One layer after the other computes ``x @ weight + bias``, with the activation
    between them; the last gives a logit for each class, or the numbers foretold.
    Minimises the sum or mean over the training rows of log(sum_c exp(z_c)) - z_label,
    or of (z - y)^2, plus weight_decay / 2 times the squared weights (not biases).

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
        How many classes there are, where y may lack the last of them.
    activation : {"relu", "tanh", "logistic", "gelu"}
    weights : {"uniform01", "normal", "kaiming", "xavier", "orthogonal", "zero"} or callable
        ``weights(generator, inputs, outputs)`` returns an array of that shape. A
        sequence has one for each of several settings, which `batches` explains; the
        same may be given of `dropout` and `weight_decay`.
    biases : {"zero", "uniform01"}
    loss : {"mean", "sum"}
        Whether losses are summed or averaged over the training rows.
    scalar_biases : bool
        One bias for each layer in place of one for each unit.
    splits : sequence of array-like of int, optional
        The training rows of each division; with the default `crossed` start k trains
        on number k modulo their count and is validated on the other rows. By default
        all rows train.
    crossed : bool
        Whether every initial point is tried on every split: number k then begins where
        start k // splits does.
    row_weights : array-like of shape (rows,), optional
        The weight of each row, at least 0, as if the row were repeated so often: in the
        losses and in all metrics.
    class_weights : array-like of shape (classes,), optional
        The weight of the rows of each class in the losses, multiplied by `row_weights`.
    batch_size : int, optional
        How many rows a step looks at, in an order that each start draws anew for every
        epoch; by default all.
    dropout : float or sequence of float
        The probability, from 0 to below 1, with which a step leaves a hidden unit out
        of a row; the others count 1 / (1 - dropout) times.
    weight_decay : float or sequence of float
    settings : int
        How many settings every start is tried in; more than one need `crossed`.
    seed : int
        Of the order of rows and of dropout, each a function of (seed, start, step).
    dtype : torch.dtype, optional
        float32 or float64, by default that of X.
    device : str or torch.device

    Raises
    ------
    InvalidValueError
        With all that is wrong in one message.

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
        X: Any,
        y: Any,
        hidden: int | Sequence[int] = (12,),
        *,
        task: str = "classification",
        outputs: int | None = None,
        activation: str = "relu",
        weights: str | Initialization | Sequence[Any] = "kaiming",
        biases: str = "zero",
        loss: str = "mean",
        scalar_biases: bool = False,
        splits: Any = None,
        crossed: bool = False,
        row_weights: Any = None,
        class_weights: Any = None,
        batch_size: int | None = None,
        dropout: float | Sequence[float] = 0.0,
        weight_decay: float | Sequence[float] = 0.0,
        settings: int = 1,
        seed: int = 0,
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        complaints = Complaints()
        hidden = list(hidden) if isinstance(hidden, Iterable) else [hidden]
        widths = [
            complaints.attempt(whole_number, "a hidden width", width, 1)
            for width in hidden
        ]
        complaints.require(bool(widths), "hidden is empty; give one width at least")
        complaints.attempt(one_of, "activation", activation, ACTIVATIONS)
        rule = complaints.attempt(
            of_settings, "weights", weights, settings, _initialization
        )
        complaints.attempt(one_of, "biases", biases, BIASES)
        fraction = complaints.attempt(
            of_settings, "dropout", dropout, settings, probability
        )
        complaints.require(
            settings == 1 or crossed,
            f"there are {settings} settings, but starts are not crossed with them; give "
            "crossed=True",
        )
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
        self.weights: Any = rule
        self.biases = biases
        self.scalar_biases, self.crossed = scalar_biases, crossed
        self.dropouts = np.broadcast_to(np.asarray(fraction, np.float64), settings)
        self.dropout, self.seed = float(self.dropouts.max()), seed
        self.widths: list[int] = [self.X.shape[1], *widths, self.outputs]
        self._has_layers_of(max(self.widths))
        shape = Shape(tuple(self.widths), activation, scalar_biases, self.classifies)
        self._whole_shape = shape if shape.applies else None

    def origins(self, starts: Sequence[int] | np.ndarray) -> list[int]:
        """Return the numbers of the starts whose initial points these are."""
        tries = 1
        if self.crossed:
            tries = len(self.batches.splits) * self.batches.settings
        return [int(start) // tries for start in starts]

    def of_setting(self, number: int) -> Network:
        """Return the problem of one of the settings, with no other beside it."""
        alone = copy.copy(self)
        alone.batches = copy.copy(self.batches)
        alone.batches.settings = 1
        alone.dropouts = self.dropouts[number : number + 1]
        alone.dropout = float(alone.dropouts[0])
        if isinstance(self.weights, tuple):
            alone.weights = self.weights[number]
        if isinstance(self.weight_decay, tuple):
            alone.weight_decay = self.weight_decay[number]
        return alone

    def point(
        self, generator: np.random.Generator, start: int
    ) -> Mapping[str, np.ndarray]:
        """Draw the weights of all layers, then the biases of all layers.

        In this order, the same start has the same weights whatever its biases are.
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

        Where weights are drawn one by one, those of all layers come at once.
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
        """Return what every layer, or hidden layer, computes before its activation."""
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
        """What compiled code needs to know; None where torch operations are for it."""
        # A kind derived from this one may have other losses.
        if type(self) is not Network or self.device.type != "cpu" or self.dropout:
            return None
        return self._whole_shape

    @property
    def side_by_side(self) -> bool:
        """Whether chunks may go side by side: not those of a kind derived from this."""
        return type(self) is Network

    @property
    def one_threaded(self) -> bool:
        """Whether compiled code is there, which keeps to one thread."""
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
        """Return which hidden units give nothing on some rows, (S, rows, units)."""
        hidden = self.forward(parameters, features, hidden=True)
        return torch.cat([self.activation.off(z) for z in hidden], -1)

    def flat(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return which hidden units are saturated on some rows, (S, rows, units)."""
        hidden = self.forward(parameters, features, hidden=True)
        return torch.cat([self.activation.flat(z) for z in hidden], -1)


class BoundNetwork(BoundSupervised):
    """A network bound to starts: masks of dropout, and compiled code."""

    problem: Network

    def predict_in_training(
        self, parameters: Parameters, features: torch.Tensor, step: int
    ) -> torch.Tensor:
        """Return predictions without the units that dropout leaves out."""
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
        """Return losses and gradients by compiled code, None where it is not for this."""
        if self.shape is None:
            return None
        rows = self.compiled_rows(step, parameters["weight1"].dtype)
        return losses_and_gradients(self.shape, rows, parameters)

    def plain_steps(
        self, parameters: Parameters, step: int, rates: torch.Tensor, count: int
    ) -> tuple[int, Parameters, Parameters] | None:
        """Take some steps of gradient descent on all rows by compiled code."""
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
        # A kind derived from this one may have other losses.
        if type(self.problem) is not Network:
            return None
        inputs = self.graph_rows(step) if self.stochastic else {}
        if self.problem.dropout:
            inputs["masks"] = self.masks(step, inputs["rows"].shape[1])
        return inputs

    def with_inputs(self, inputs: Parameters) -> Bound:
        """Return the network whose steps read these rows, weights and masks."""
        return BoundNetwork(self.problem, self.starts, inputs)
