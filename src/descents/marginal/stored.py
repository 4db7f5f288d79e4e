"""A model of a table as named arrays and plain values, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, TypeVar

import numpy as np
import torch

from descents.cells.columns import ColumnModel
from descents.errors import RunFolderError
from descents.marginal.draws import with_gaussian
from descents.marginal.features import (
    Features,
    LevelFeatures,
    NumberFeatures,
    levels_of,
)
from descents.marginal.forests import Forest
from descents.marginal.held_out import ColumnScore, HeldOut
from descents.marginal.model import Fitted
from descents.marginal.posterior import Gaussian, RowsModel
from descents.marginal.refinement import Readout, RefinedModel
from descents.marginal.settings import Setting
from descents.marginal.tables import PassedColumn, TableModel
from descents.marginal.wide import ColumnsModel
from descents.optim.runs import RunFacts, Runs
from descents.storage.damage import check_distinct, check_facts

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FORMAT = 1
KINDS: dict[str, type[NumberFeatures | LevelFeatures]] = {
    "numbers": NumberFeatures,
    "levels": LevelFeatures,
}

Arrays = dict[str, np.ndarray]
T = TypeVar("T", bound="DataclassInstance")


class SettingFacts(TypedDict):
    """A `Setting` as plain values."""

    sample: str
    strength: float


class PassedFacts(TypedDict):
    """A `PassedColumn` as plain values."""

    name: str
    why: str


class ReadoutFacts(TypedDict):
    """The plain values of a `Readout`, and which column it predicts."""

    place: int
    share: float
    left: float


class TableFacts(TypedDict):
    """What a file of a `TableModel` contains beside arrays."""

    format: int
    model: str
    columns: list[dict[str, object]]
    passed: list[PassedFacts]
    features: list[dict[str, object]]
    runs: RunFacts
    resampled: int
    setting: SettingFacts
    readouts: NotRequired[list[ReadoutFacts] | None]
    n_components: int
    scores: list[dict[str, float] | None]


def stored(
    model: TableModel, resampled: Sequence[Gaussian] = ()
) -> tuple[Arrays, TableFacts]:
    """Return a model as arrays and plain values, as a safetensors file has them.

    Parameters
    ----------
    model : TableModel
    resampled : sequence of Gaussian
        The models of resampled rows, for imputations of new rows.
    """
    fitted = model.fitted
    arrays, runs = fitted.runs.stored()
    arrays = {f"runs/{name}": array for name, array in arrays.items()}
    features = []
    for place, column in enumerate(fitted.features.columns):
        kind = next(name for name, one in KINDS.items() if isinstance(column, one))
        features.append({"kind": kind, **put(arrays, f"features/{place}", column)})
    for place, gaussian in enumerate([fitted.model.gaussian, *resampled]):
        put(arrays, f"gaussian/{place}", gaussian)
    base, readouts = fitted.model, None
    if isinstance(base, RefinedModel):
        readouts = [_put_readout(arrays, *one) for one in base.readouts.items()]
        base = base.model
    if isinstance(base, ColumnsModel):
        arrays["codes"] = base.codes
    if fitted.held_out is not None:
        put(arrays, "held_out", fitted.held_out)
    arrays |= {"levels": fitted.levels, "constant": fitted.constant.astype(np.int8)}
    return arrays, {
        "format": FORMAT,
        "model": "TableModel",
        "columns": [column.described() for column in model.columns],
        "passed": [{"name": one.name, "why": one.why} for one in model.passed],
        "features": features,
        "runs": runs,
        "resampled": len(resampled),
        "setting": {
            "sample": fitted.setting.sample,
            "strength": fitted.setting.strength,
        },
        "readouts": readouts,
        "n_components": fitted.n_components,
        "scores": [None if one is None else vars(one) for one in fitted.scores],
    }


def restored(
    arrays: Mapping[str, np.ndarray], facts: Any
) -> tuple[TableModel, list[Gaussian]]:
    """Return the model and the Gaussians of resampled rows from the result of `stored`.

    Raises
    ------
    RunFolderError
        If the file contains another kind of model.
    """
    if facts.get("model") != "TableModel" or facts.get("format") != FORMAT:
        raise RunFolderError(
            "the file contains no model of 'descents impute'; give the folder of such a run"
        )
    check_facts(TableFacts, facts)
    runs = of_prefix(arrays, "runs/")
    gaussians = [
        taken(Gaussian, arrays, f"gaussian/{place}", {})
        for place in range(1 + facts["resampled"])
    ]
    held_out = None
    if "held_out/columns" in arrays:
        held_out = taken(HeldOut, arrays, "held_out", {})
    columns = tuple(
        taken(KINDS[one["kind"]], arrays, f"features/{place}", one)
        for place, one in enumerate(facts["features"])
    )
    scores = [None if one is None else ColumnScore(**one) for one in facts["scores"]]
    features = Features(columns)
    base: RowsModel | ColumnsModel = RowsModel(gaussians[0], features)
    if "codes" in arrays:
        base = ColumnsModel(gaussians[0], features, arrays["codes"])
    model: RowsModel | ColumnsModel | RefinedModel = base
    if facts.get("readouts") is not None:
        readouts = dict(_taken_readout(arrays, one) for one in facts["readouts"])
        model = RefinedModel(base, readouts)
    fitted = Fitted(
        features,
        arrays["levels"],
        model,
        Runs.restored(runs, facts["runs"]),
        Setting(**facts["setting"]),
        facts["n_components"],
        held_out,
        tuple(scores),
        arrays["constant"].astype(bool),
    )
    models = tuple(ColumnModel.restored(one) for one in facts["columns"])
    check_distinct(model.name for model in models)
    counts = levels_of(features).tolist()
    named = [len(model.levels) for model in models] or counts  # a model of an array
    if not named == counts == fitted.levels.tolist():
        raise ValueError("columns have other levels than their features")
    passed = tuple(PassedColumn(**one) for one in facts["passed"])
    for gaussian in gaussians:  # fails here if arrays do not belong together
        with_gaussian(fitted, gaussian).predicted(np.full((1, len(columns)), np.nan))
    return TableModel(models, passed, fitted), gaussians[1:]


def _put_readout(arrays: Arrays, place: int, readout: Readout) -> ReadoutFacts:
    """Put the forest of a column among arrays, and return its plain values."""
    put(arrays, f"forests/{place}", readout.forest)
    return {"place": place, "share": readout.share, "left": readout.left}


def _taken_readout(
    arrays: Mapping[str, np.ndarray], facts: ReadoutFacts
) -> tuple[int, Readout]:
    """Return the position and the readout of a column, which `_put_readout` stored."""
    forest = taken(Forest, arrays, f"forests/{facts['place']}", {})
    return facts["place"], Readout(forest, facts["share"], facts["left"])


def of_prefix(arrays: Mapping[str, np.ndarray], prefix: str) -> Arrays:
    """Return the arrays whose names begin with a prefix, by the rest of their names.

    Examples
    --------
    >>> of_prefix({"runs/losses": np.ones(1), "levels": np.ones(2)}, "runs/")
    {'losses': array([1.])}
    """
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def put(arrays: Arrays, place: str, value: DataclassInstance) -> dict[str, object]:
    """Put the arrays of a dataclass among others, and return its plain values."""
    facts: dict[str, object] = {}
    for field in fields(value):
        part = getattr(value, field.name)
        if isinstance(part, torch.Tensor):
            part = part.numpy()
        if isinstance(part, np.ndarray):
            arrays[f"{place}/{field.name}"] = part
        else:
            facts[field.name] = part
    return facts


def taken(
    kind: type[T],
    arrays: Mapping[str, np.ndarray],
    place: str,
    facts: Mapping[str, object],
) -> T:
    """Return the dataclass whose arrays and plain values `put` returned.

    Parameters
    ----------
    kind : type
        Its class.
    arrays : mapping
    place : str
        The prefix of the names of its arrays.
    facts : mapping
        Its plain values.
    """
    parts: dict[str, object] = {}
    for field in fields(kind):
        key = f"{place}/{field.name}"
        if key in arrays:
            array = arrays[key]
            is_tensor = field.type == "torch.Tensor"  # annotations are text
            parts[field.name] = torch.from_numpy(array.copy()) if is_tensor else array
        elif field.name in facts or field.default is field.default_factory is MISSING:
            part = facts[field.name]
            parts[field.name] = tuple(part) if isinstance(part, list) else part
    return kind(**parts)
