"""The files of a stored run: a row for each start, and the data of the figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from descents.diagnosis.verdicts import Diagnosis
from descents.reproduction import ten_starts
from descents.reproduction.experiments import (
    SPLITS,
    FactorizationPart,
    TrainingPart,
    setting_name,
    shuffle_of,
)
from descents.reproduction.ten_starts import TenStartsPart
from descents.tables.datasets import uci_iris


@dataclass
class _Block:
    """The rows of one part and setting; columns that do not apply are left out."""

    part: str
    setting: str
    split: np.ndarray
    columns: dict[str, np.ndarray]


def rows(
    factorization: FactorizationPart,
    training: TrainingPart,
    ten: TenStartsPart,
    diagnosis: Diagnosis,
) -> dict[str, np.ndarray]:
    """Return a row per (part, setting, split, start); NaN where a column does not apply."""
    blocks = [
        *_of_factorization(factorization),
        *(
            _Block("settings", setting_name(setting), shuffle_of(runs), runs.columns())
            for setting, runs in training.settings.items()
        ),
        *_of_ten_starts(ten),
        _of_table(training, diagnosis),
    ]
    names = list(dict.fromkeys(name for block in blocks for name in block.columns))
    found: dict[str, list[np.ndarray]] = {
        "part": [np.full(len(block.split), block.part) for block in blocks],
        "setting": [np.full(len(block.split), block.setting) for block in blocks],
        "split": [block.split for block in blocks],
    }
    for name in names:
        empty = "" if name in ("status", "verdict") else np.nan
        found[name] = [
            block.columns[name]
            if name in block.columns
            else np.full(len(block.split), empty)
            for block in blocks
        ]
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _of_factorization(part: FactorizationPart) -> list[_Block]:
    return [
        _Block(
            name, "", np.full(len(runs), -1), {"gap": part.gaps(runs), **runs.columns()}
        )
        for name, runs in (
            ("factorization-report", part.report),
            ("factorization-after-24-draws", part.after_draws),
            ("factorization", part.ours),
        )
    ]


def _of_ten_starts(ten: TenStartsPart) -> list[_Block]:
    """Return the ten starts of each setting, then those on the witness."""
    blocks = []
    for setting, each in ten.settings.items():
        place, run = np.divmod(each.runs.starts, ten_starts.RUNS)
        columns = {**each.runs.columns(), "start": run}
        split = SPLITS + 1 + place
        blocks.append(_Block("ten-starts", setting_name(setting), split, columns))
    published = setting_name(ten_starts.PUBLISHED_SETTING)
    no_split = np.full(ten_starts.RUNS, -1)
    witness = _Block("ten-witness", published, no_split, ten.replayed.columns())
    return [*blocks, witness]


def _of_table(training: TrainingPart, diagnosis: Diagnosis) -> _Block:
    """Return the starts on the fixed shuffle, those that failed with their diagnosis."""
    runs = training.table
    places = dict(
        zip(diagnosis.starts.tolist(), range(len(diagnosis.starts)), strict=True)
    )
    place = np.array([places.get(int(start), -1) for start in runs.starts])
    diagnosed = {
        name: _spread(values, place)
        for name, values in diagnosis.table().items()
        if name != "start"
    }
    setting = setting_name(training.likeliest)
    columns = {**runs.columns(), **diagnosed}
    return _Block("table", setting, np.full(len(runs), SPLITS), columns)


def _spread(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return the value at each place, NaN or an empty text if the place is -1."""
    if values.dtype == object:
        texts = [str(values[p]) if p >= 0 else "" for p in place]
        return np.array(texts, dtype=str)
    padded = np.append(values.astype(np.float64), np.nan)
    spread: np.ndarray = padded[place]
    return spread


def tensors(
    factorization: FactorizationPart,
    training: TrainingPart,
    ten: TenStartsPart,
    diagnosis: Diagnosis,
) -> dict[str, np.ndarray]:
    """Return the data of the figures."""
    report, table = factorization.report.parameters, training.table
    return {
        "species": uci_iris().classes,
        "left_singular_vectors": factorization.exact.left,
        "U": report["U"][0],
        "V": report["V"][0],
        "U_aligned": factorization.onto_linear.aligned,
        "U_similar": factorization.onto_similar.aligned,
        "recorded": table.recorded,
        "history_loss": table.histories["loss"],
        "history_training_accuracy": table.histories["training_accuracy"],
        "failed": training.failed,
        "power": training.compatible.power,
        "witness_order": ten.witness.order,
        "ten_recorded": ten.replayed.recorded,
        "ten_history_loss": ten.replayed.histories["loss"],
        "ten_history_training_accuracy": ten.replayed.histories["training_accuracy"],
        "later_accuracy": diagnosis.metric,
    }
