"""A fit as arrays and plain values for a file, and back."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

import numpy as np

from descents.bounds.gaps import Reference
from descents.cells.columns import ColumnModel
from descents.cells.observed import cells
from descents.constraints.names import renamed_sets
from descents.constraints.sets import FactorSet, Fixed
from descents.errors import InvalidValueError
from descents.factorization.factorization import Factorization
from descents.lowrank.blanks import Known
from descents.lowrank.fitted import Fitted
from descents.lowrank.judged import Judged
from descents.lowrank.noise import Noise
from descents.lowrank.prediction_intervals import Calibration
from descents.lowrank.selection import Selection, SelectionFacts
from descents.lowrank.settings import Settings
from descents.lowrank.table import Header
from descents.optim.runs import RunFacts, Runs
from descents.storage.damage import check_distinct
from descents.storage.values import of_typed, typed

FORMER = {"steps": "solver", "folds": "cv"}
"""Former names of parameters, and what they are called now."""
Arrays = dict[str, np.ndarray]
Constraint = list[str | FactorSet]


class NoiseFacts(TypedDict):
    """A `Noise` as plain values."""

    share: float
    l2: float


class ReferenceFacts(TypedDict):
    """A `Reference` as plain values."""

    value: float
    kind: Literal["exact", "bound", "best found"]
    says: str


class FitFacts(TypedDict):
    """What a file of a model has beside arrays."""

    format: int
    model: str
    settings: dict[str, Any]
    names: list[str]
    features: int
    columns: list[dict[str, Any]]
    offsets: str
    constraint: list[Constraint]
    penalty: dict[str, float]
    runs: RunFacts
    reference: ReferenceFacts
    gap: float | None
    constants_loss: float
    steps: str
    # Models of earlier versions lack some of these.
    places: NotRequired[list[int] | None]
    seed: NotRequired[int | None]
    selection: NotRequired[SelectionFacts | None]
    noise: NotRequired[NoiseFacts | None]
    scales: NotRequired[str | None]
    mean_weight: NotRequired[float]


def absent(value: object) -> bool:
    """Return whether a former name of a parameter was left at its default."""
    return isinstance(value, str) and value == "deprecated"


def stored(fit: Fitted) -> tuple[Arrays, FitFacts]:
    """Return a fit as arrays and plain values.

    Raises
    ------
    InvalidValueError
        If a loss is a custom function.
    """
    problem, chosen, noise = fit.problem, fit.selection, fit.noise
    arrays, runs = fit.runs.stored()
    arrays["base"] = np.asarray(problem.base)
    if problem.cells.scales is not None:
        arrays["scales"] = problem.cells.scales
    if problem.cells.units is not None:
        arrays["column_units"] = problem.cells.units
    arrays |= fit.known.stored()
    arrays["limits"] = fit.limits
    named: list[Constraint] = []
    for of, sets in zip(("rows", "columns"), fit.constraint, strict=True):
        fixed = [one for one in sets if isinstance(one, Fixed)]
        if fixed:
            arrays[f"fixed_{of}"] = fixed[0].values
        named.append([one for one in sets if one not in fixed])
    facts: FitFacts = {
        "columns": [model.described() for model in fit.models],
        "offsets": problem.offsets,
        "constraint": named,
        "penalty": fit.penalty,
        "runs": runs,
        "format": 2,
        "model": "LowRankModel",
        "settings": _plain_settings(fit),
        "names": fit.header.names or [],
        "features": fit.header.features,
        "places": fit.header.places,
        "reference": {
            "value": fit.reference.value,
            "kind": fit.reference.kind,
            "says": fit.reference.says,
        },
        "gap": fit.gap,
        "constants_loss": fit.constants_loss,
        "steps": fit.solver,
        "seed": fit.seed,
        "selection": None if chosen is None else chosen.described(),
        "noise": None if noise is None else {"share": noise.share, "l2": noise.l2},
        "scales": fit.scales,
        "mean_weight": problem.cells.mean_weight,
    }
    if fit.calibration is not None:
        arrays |= fit.calibration.stored()
    if fit.judged is not None:
        arrays |= fit.judged.stored()
    return arrays, facts


def _plain_settings(fit: Fitted) -> dict[str, Any]:
    """Return the settings of a fit; what is not a plain value is replaced by its default."""
    settings = fit.settings.parameters()
    plain = str | int | float | np.number | np.bool_ | None
    for name in ("loss", "initialization", "solver"):
        if not isinstance(settings[name], plain):
            settings[name] = "auto"
    if not isinstance(settings["random_state"], plain):
        settings["random_state"] = None
    if any(not isinstance(one, str) for side in fit.constraint for one in side):
        settings["constraint"] = None  # fixed values are among the arrays
    ranks = fit.settings.n_components
    if not isinstance(ranks, str) and np.ndim(ranks):
        settings["n_components"] = [int(rank) for rank in np.asarray(ranks)]
    if isinstance(fit.settings.penalty, dict):
        settings["penalty"] = {
            name: list(map(float, value)) if np.ndim(value) else value
            for name, value in fit.settings.penalty.items()
        }
    return {name: typed(value) for name, value in settings.items()}


def restored(arrays: Arrays, facts: FitFacts) -> Fitted:
    """Return the fit that `stored` gave; it knows the columns, but not the table."""
    models = [ColumnModel.restored(column) for column in facts["columns"]]
    check_distinct(model.name for model in models)
    if "units" in arrays:
        arrays = _standardized(arrays, models)
    runs = Runs.restored(arrays, facts["runs"])
    known = cells(
        np.ones((1, len(models))),  # a value that every loss is for
        [model.loss for model in models],
        levels=[len(model.levels) for model in models],
        scales=arrays.get("scales", False),
        units=arrays.get("column_units"),
        weights=np.full((1, len(models)), facts.get("mean_weight", 1.0)),
    )
    problem = Factorization.of_columns(
        known,
        {name: value[runs.best] for name, value in runs.parameters.items()},
        offsets=facts["offsets"],
        constraint=_restored_constraint(arrays, facts["constraint"]),
        penalty=facts["penalty"],
        base=arrays["base"],
    )
    if len(runs.parameters["V"][0]) != known.coordinates:
        raise InvalidValueError(
            f"it has {known.coordinates} coordinates, but factors of "
            f"{len(runs.parameters['V'][0])}"
        )
    offsets = arrays["base"]
    if "offsets" in runs.parameters:
        offsets = offsets + runs.parameters["offsets"][runs.best]
    settings = _restored_settings(problem, facts)
    seed, gap = facts.get("seed"), facts["gap"]
    chosen, noise = facts.get("selection"), facts.get("noise")
    return Fitted(
        models,
        problem,
        runs,
        settings.combine,
        Known.restored(arrays, offsets),
        arrays.get("limits", np.full((2, len(models)), np.nan)),
        settings=settings,
        header=Header(facts["features"], facts["names"] or None, facts.get("places")),
        seed=settings.seed if seed is None else seed,
        solver=facts["steps"],
        reference=Reference(**facts["reference"]),
        gap=np.nan if gap is None else gap,
        constants_loss=facts["constants_loss"],
        selection=None if chosen is None else Selection.restored(chosen),
        noise=None if noise is None else Noise(**noise),
        scales=facts.get("scales"),
        judged=Judged.restored(arrays),
        calibration=Calibration.restored(models, arrays),
    )


def _restored_settings(problem: Factorization, facts: FitFacts) -> Settings:
    settings = facts["settings"]
    if facts["format"] > 1:
        settings = {n: of_typed(value) for n, value in settings.items()}
    # Former names come last: one that was given replaces the default of the present name.
    renamed = {
        FORMER.get(name, name): value
        for name, value in settings.items()
        if name not in FORMER or not absent(value)
    }
    constraint = renamed_sets(renamed.get("constraint"))
    fixed = (
        problem.row_regularizer.constraint,
        problem.column_regularizer.constraint,
    )
    if constraint is None and any(fixed):
        constraint = fixed
    return Settings(**{**renamed, "constraint": constraint})


def _standardized(
    arrays: dict[str, np.ndarray], models: list[ColumnModel]
) -> dict[str, np.ndarray]:
    """Return the arrays of a model that an earlier version stored, in today's units.

    There, V and offsets were in the units of their coordinates, as they are here, but
    the weights of columns, what penalized offsets deviate from, and row biases were in
    those of the data.

    Raises
    ------
    InvalidValueError
        When it has scaled columns and row biases, which have no counterpart.
    """
    arrays = dict(arrays)
    old = arrays.pop("units")
    if "scales" not in arrays:
        return arrays
    if "parameters/row_biases" in arrays:
        raise InvalidValueError(
            "it was stored by an earlier version with scaled columns and row biases, "
            "which this version cannot apply; fit it again"
        )
    known = cells(
        np.ones((1, len(models))),
        [model.loss for model in models],
        levels=[len(model.levels) for model in models],
    )
    places, units, ratios = known.coordinate_columns, *np.ones((2, len(models)))
    for unit, column in zip(old, places, strict=True):
        loss = models[column].loss
        if loss.has_units:
            units[column] = loss.unit(float(unit))
            ratios[column] = loss.size_in(units[column])
    factor = old / units[places]
    arrays["base"] = arrays["base"] / units[places]
    arrays["scales"] = arrays["scales"] * ratios
    arrays["column_units"] = units
    arrays["parameters/V"] = arrays["parameters/V"] * factor[:, None]
    if "parameters/offsets" in arrays:
        arrays["parameters/offsets"] = arrays["parameters/offsets"] * factor
    return arrays


def _restored_constraint(arrays: Arrays, named: list[Constraint]) -> list[Constraint]:
    """Return the constraints of both factors, with fixed values that lie apart."""
    found = []
    for of, names in zip(("rows", "columns"), renamed_sets(named), strict=True):
        asked = list(names) if isinstance(names, list) else [names]
        if f"fixed_{of}" in arrays:
            asked.append(Fixed(arrays[f"fixed_{of}"]))
        found.append(asked)
    return found
