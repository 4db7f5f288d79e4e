"""`descents reproduce`: re-run the published report on its data, and judge its claims."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from descents.bounds import subspaces
from descents.bounds.references import principal_components
from descents.devices import torch_device
from descents.diagnosis.diagnosis import diagnose
from descents.diagnosis.verdicts import (
    DEAD_SHARE,
    NEGATIVE_CURVATURE,
    VANISHED_RATIO,
    Diagnosis,
    Verdict,
)
from descents.errors import Complaints
from descents.optim.first_order import GradientDescent
from descents.optim.runs import Runs
from descents.reproduction import claims, ten_starts
from descents.reproduction.experiments import (
    LEARNING_RATE,
    LEVEL,
    RANK,
    SPLITS,
    WEIGHT_RULES,
    FactorizationPart,
    Parts,
    Progress,
    Setting,
    TrainingPart,
    accuracy_of,
    factorization_part,
    failed_of,
    pairs_of,
    setting_name,
    shuffle_of,
    training_part,
)
from descents.reproduction.ten_starts import TenStartsPart, ten_starts_part
from descents.statistics import confidence, variance
from descents.storage.folders import RESULT, ROWS, TENSORS, RunFolder
from descents.tables.datasets import uci_iris
from descents.validation import real_number, seed_number, whole_number

REPORTED = (
    Verdict.NONFINITE,
    Verdict.DEAD_UNITS,
    Verdict.PLATEAU,
    Verdict.SADDLE,
    Verdict.LOCAL_MINIMUM,
    Verdict.UNDECIDED,
)
"""Verdicts that the result always counts; others are included if a start has them."""


@dataclass
class Reproduction:
    """The result of a re-run of the report.

    Attributes
    ----------
    result : dict
        The contents of ``result.json``.
    rows : dict of ndarray
        The columns of ``starts.parquet``: one row per (part, setting, split, start).
    tensors : dict of ndarray
        The data of the figures.
    """

    result: dict[str, Any]
    rows: dict[str, np.ndarray]
    tensors: dict[str, np.ndarray] = field(repr=False)

    def write(self, folder: RunFolder) -> None:
        """Write the stored run: the result, a row per start, the tensors."""
        folder.write_table(ROWS, self.rows)
        folder.write_tensors(TENSORS, self.tensors, {"command": "reproduce"})
        folder.write_json(RESULT, self.result)


def reproduce(
    starts: int = 1000,
    seed: int = 0,
    *,
    device: str = "cpu",
    threads: int = 1,
    workers: int = 1,
    max_seconds: float | None = None,
    folder: RunFolder | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Re-run the published report on its data and judge its claims.

    Parameters
    ----------
    starts : int
        The number of starts of the factorization, of each network setting (at least 5 on
        each of 20 shuffles) and of the most likely setting.
    seed : int
        The seed of our own streams; the report's two runs use torch's, seeded 0.
    device : str
        The device of our starts; the report's two runs use the CPU.
    threads, workers : int
        How many chunks of starts run in parallel, in threads or in processes; the result
        is the same. The diagnosis stays in this process.
    max_seconds : float, optional
        A limit of wall time.
    folder : RunFolder, optional
        Stores finished parts, which a resumed run does not compute again.
    progress : callable, optional
        ``progress(part, share)``: the current part, and the finished share of the work.

    Returns
    -------
    Reproduction

    Raises
    ------
    InvalidValueError
        If an argument is invalid.
    InterruptedRunError
        If the time limit was reached, or the user interrupted; finished parts are stored.
    LostProcessError
        If a worker process was killed; finished parts are stored.

    Examples
    --------
    >>> reproduction = reproduce(starts=5)
    >>> claim = reproduction.result["claims"][1]  # is U-hat U_t, rotated and scaled?
    >>> claim["verdict"]
    'supported with a correction'
    """
    complaints = Complaints()
    starts = complaints.attempt(whole_number, "starts", starts, 1)
    seed = complaints.attempt(seed_number, seed)
    complaints.attempt(torch_device, device)
    complaints.attempt(whole_number, "threads", threads, 1)
    complaints.attempt(whole_number, "workers", workers, 1)
    if max_seconds is not None:
        complaints.attempt(real_number, "max_seconds", max_seconds, 0)
    complaints.raise_any()
    begun = time.perf_counter()
    parts = Parts(folder, max_seconds, progress, threads, workers)
    factorization = factorization_part(parts, starts, seed, device)
    training = training_part(parts, starts, seed, device)
    ten = ten_starts_part(parts, starts, seed)
    diagnosis = _diagnosis(parts, training, seed)
    facts = _facts(factorization, training, diagnosis)
    facts["training"]["ten_starts"] = ten_starts.facts(ten, seed)
    judged = _judged(factorization, training, diagnosis, facts)
    result = {
        "run": claims.identity(starts, seed, device),
        "report": claims.REPORT,
        "assumptions": claims.ASSUMPTIONS,
        **facts,
        "claims": judged,
        "checks": _checks(factorization, training, facts),
        "environment": _environment(seed, device, threads),
        "seconds": time.perf_counter() - begun,
    }
    return Reproduction(
        result,
        _rows(factorization, training, ten, diagnosis),
        _tensors(factorization, training, ten, diagnosis),
    )


def _diagnosis(parts: Parts, training: TrainingPart, seed: int) -> Diagnosis:
    parts.tell("diagnosis")
    return diagnose(
        training.problem,
        training.table,
        training.table.starts[training.failed],
        steps=GradientDescent(LEARNING_RATE),
        threshold=claims.FAILED_BELOW,
        max_seconds=parts.seconds_left(),
        threads=parts.threads,
    )


def _facts(f: FactorizationPart, t: TrainingPart, d: Diagnosis) -> dict[str, Any]:
    """Return the numbers of `result.json`, as in its documented schema."""
    gaps = f.gaps(f.ours)
    return {
        "factorization": {
            "gd_loss": f.report.losses[0],
            "gd_loss_after_24_draws": f.after_draws.losses[0],
            "truncated_svd_loss": f.exact.loss,
            "gap": f.gaps(f.report)[0],
            "gap_after_24_draws": f.gaps(f.after_draws)[0],
            "eckart_young": f.exact.reference.value,
            "reference": {
                "kind": f.exact.reference.kind,
                "says": f.exact.reference.says,
            },
            "float32_as_in_the_sheet": f.as_in_sheet,
            "published": {
                "gd_loss": claims.GD_LOSS,
                "truncated_svd_loss": claims.TRUNCATED_SVD_LOSS,
            },
            "starts": {
                "count": len(f.ours),
                "gap_median": np.median(gaps),
                "gap_max": gaps.max(),
                "best": int(f.ours.starts[f.ours.best]),
                "statuses": _counts(f.ours),
                "below_reference": int(f.below(f.ours).sum()),
            },
        },
        "subspace": {
            "principal_angles_rad": f.angles,
            "similarity_r2": f.similarity.r_squared,
            "linear_r2": f.linear.r_squared,
            "linear_singular_values": f.linear.singular_values,
            "figure_1c_r2": {
                "rotation_with_one_scale": f.onto_similar.r_squared,
                "linear_map": f.onto_linear.r_squared,
            },
        },
        "training": {
            "published": [
                {"start": k, "training_accuracy": a, "validation_accuracy": b}
                for k, (a, b) in enumerate(claims.TABLE_1)
            ],
            "table": [
                {"start": k, "training_accuracy": a, "validation_accuracy": b}
                for k, (a, b) in enumerate(pairs_of(t.table)[: len(claims.TABLE_1)])
            ],
            "table_setting": _named(t.likeliest),
            "table_split": SPLITS,
            "failures": _failures(t),
            "starts": len(t.table),
            "splits": SPLITS,
            "level": LEVEL,
            "settings": _settings(t),
            "chosen": [
                _named(setting)
                for setting, p in zip(t.settings, t.compatible.adjusted, strict=True)
                if p >= LEVEL
            ],
            "power_says": _power_sentence(t),
        },
        "diagnosis": {
            "failed": len(d.starts),
            "of": len(t.table),
            "threshold": claims.FAILED_BELOW,
            "epochs": d.steps,
            "verdicts": _verdicts(d),
            "rules": {v.word: v.value for v in Verdict if v.word in _verdicts(d)},
            "recovered_fraction": _mean(d.recovered),
            "median_training_accuracy": [_median(row) for row in d.metric],
            "undecided_with_dead_units_later": sum(
                verdict is Verdict.UNDECIDED and dead >= DEAD_SHARE
                for verdict, dead in zip(d.verdicts, d.final_dead_share, strict=True)
            ),
            "negative_curvature_fraction": _mean(
                d.smallest_eigenvalue < NEGATIVE_CURVATURE * d.largest_eigenvalue
            ),
            "smallest_eigenvalue_median": _median(d.smallest_eigenvalue),
            "layer_shares_median": {
                name: _median(share) for name, share in d.layer_shares.items()
            },
            "median_gradient_norm": {
                "failed": _median(d.gradient_norm),
                "others": _median(t.table.gradient_norms[~t.failed]),
            },
            "mean_dead_units": {
                "failed": _mean(t.table.metrics["dead_units"][t.failed]),
                "others": _mean(t.table.metrics["dead_units"][~t.failed]),
            },
        },
    }


def _failures(t: TrainingPart) -> dict[str, Any]:
    """Return the share of failed starts over the shuffles, and the fixed shuffle's rank."""
    likeliest = t.settings[t.likeliest]
    failed, shuffles = failed_of(likeliest), shuffle_of(likeliest)
    share, low, high = confidence.paired_difference_interval(
        failed, np.zeros(len(failed)), shuffles
    )
    by_shuffle = np.bincount(shuffles, failed) / np.bincount(shuffles)
    fixed = t.failed.mean()
    fixed_low, fixed_high = confidence.wilson_interval(
        int(t.failed.sum()), len(t.failed)
    )
    return {
        "share": share,
        "low": max(0.0, low),
        "high": min(1.0, high),
        "by_shuffle": by_shuffle,
        "fixed": {
            "share": fixed,
            "low": fixed_low,
            "high": fixed_high,
            "place": int(1 + np.sum(by_shuffle < fixed)),
            "of": len(by_shuffle) + 1,
        },
    }


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if len(values) else None


def _mean(values: np.ndarray) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _counts(runs: Runs) -> dict[str, int]:
    words, counts = np.unique([s.word for s in runs.statuses], return_counts=True)
    return {str(word): int(count) for word, count in zip(words, counts, strict=True)}


def _named(setting: Setting) -> dict[str, str]:
    return dict(zip(("loss", "weights", "biases"), setting, strict=True))


def _settings(t: TrainingPart) -> list[dict[str, Any]]:
    found = []
    for row, (setting, runs) in enumerate(t.settings.items()):
        accuracy = accuracy_of(runs)
        within, between = variance.variance_components(accuracy, shuffle_of(runs))
        others = np.delete(t.compatible.power[row], row)
        found.append(
            {
                **_named(setting),
                "starts": len(runs),
                "training_accuracy_mean": accuracy.mean(),
                "training_accuracy_quartiles": np.quantile(accuracy, [0.25, 0.5, 0.75]),
                "validation_accuracy_mean": runs.metrics["validation_accuracy"].mean(),
                "failed_share": failed_of(runs).mean(),
                "variance": {"starts": within, "splits": between},
                "p_value": t.compatible.p_values[row],
                "p_adjusted": t.compatible.adjusted[row],
                "power": {"mean": others.mean(), "least": others.min()},
                "statuses": _counts(runs),
            }
        )
    return found


def _power_sentence(t: TrainingPart) -> str:
    power = t.compatible.power
    off = power[~np.eye(len(power), dtype=bool)]
    return (
        f"Ten runs are few: the test distinguishes a table drawn from one setting from "
        f"another setting with a probability of {off.mean():.0%} on average (median "
        f"{np.median(off):.0%}, minimum {off.min():.0%}), so a setting that is not "
        "rejected is possible, but not proved."
    )


def _verdicts(d: Diagnosis) -> dict[str, int]:
    """Return the counts of the verdicts in `REPORTED`, and of others that occur."""
    named = {verdict.word for verdict in REPORTED}
    return {word: n for word, n in d.counts().items() if n or word in named}


def _evidence(
    f: FactorizationPart, t: TrainingPart, d: Diagnosis, facts: dict[str, Any]
) -> dict[int, dict[str, Any]]:
    """Return the evidence of each claim."""
    failed = len(d.starts)
    counts = d.counts()
    vanished = d.gradient_ratio <= VANISHED_RATIO
    minimum = np.array([v is Verdict.LOCAL_MINIMUM for v in d.verdicts], dtype=bool)
    share = {name: count / failed if failed else None for name, count in counts.items()}
    gaps = f.gaps(f.ours)
    return {
        1: {
            "gap": f.gaps(f.report)[0],
            "below_exact": int(f.below(f.ours).sum() + f.below(f.report).sum()),
            "share_of_starts_within": (gaps <= 1e-3).mean(),
            "gap_median": np.median(gaps),
            "gap_max": gaps.max(),
        },
        2: {
            "similarity_r2": f.similarity.r_squared,
            "linear_r2": f.linear.r_squared,
            "linear_scales_ratio": f.linear.singular_values[0]
            / f.linear.singular_values[-1],
            "largest_angle_rad": f.angles.max(),
        },
        3: _variance_evidence(f),
        4: _start_evidence(t, facts["training"]),
        5: {
            "failed": failed,
            "plateau_share": share["plateau"],
            "local_minimum_share": share["local minimum"],
            "dead_units_share": share["dead units"],
            "undecided_share": share["undecided"],
            "vanished_share": _mean(vanished),
            "minimum_or_vanished_share": _mean(vanished | minimum),
            "gradient_left_median": _median(d.gradient_ratio),
            "recovered_fraction": _mean(d.recovered),
        },
        6: _weights_evidence(t),
    }


def _start_evidence(t: TrainingPart, facts: dict[str, Any]) -> dict[str, Any]:
    failures, ten = facts["failures"], facts["ten_starts"]
    shares = ten["variance"]["training"]["shares"]
    return {
        "starts": len(t.settings[t.likeliest]),
        "shuffles": len(failures["by_shuffle"]),
        "failed_share": failures["share"],
        "failed_share_low": failures["low"],
        "failed_share_high": failures["high"],
        "least_failed_share": failures["by_shuffle"].min(),
        "most_failed_share": failures["by_shuffle"].max(),
        "fixed_failed_share": failures["fixed"]["share"],
        "fixed_place": failures["fixed"]["place"],
        "fixed_of": failures["fixed"]["of"],
        "ten_starts_shuffles": ten["shuffles"],
        "ten_starts_failed_share": ten["failed_share"],
        "variance_share_of_starts": shares["starts"],
        "variance_share_of_shuffles": shares["shuffles"],
        "variance_share_of_both": shares["both"],
        "least_training_accuracy": accuracy_of(t.table).min(),
        "most_training_accuracy": accuracy_of(t.table).max(),
    }


def _variance_evidence(f: FactorizationPart) -> dict[str, Any]:
    table = f.table.astype(np.float64)
    table -= table.mean(0)
    components, variances = principal_components(table, RANK)
    total = np.square(table).sum()
    error = np.square(table - table @ components @ components.T).sum()
    captured = variances.sum() * (len(table) - 1)
    found, _ = np.linalg.qr(f.report.parameters["V"][0].astype(np.float64))
    return {
        "identity_error": (captured + error - total) / total,
        "variance_share_of_maximum": np.square(table @ found).sum() / captured,
        "largest_angle_rad": subspaces.principal_angles(components, found).max(),
        "reconstruction_error_of_components": error,
    }


def _weights_evidence(t: TrainingPart) -> dict[str, Any]:
    loss, _, biases = t.likeliest
    unit = t.settings[loss, "uniform01", biases]
    bad = failed_of(unit)
    excess = {
        weights: confidence.paired_difference_interval(
            bad, failed_of(t.settings[loss, weights, biases]), shuffle_of(unit)
        )
        for weights in WEIGHT_RULES
        if weights != "uniform01"
    }
    least = min(excess, key=lambda weights: excess[weights][0])
    ratios = unit.gradient_norms[bad] / unit.initial_gradient_norms[bad]
    return {
        "failed_share_uniform01": bad.mean(),
        "rival_with_least_excess": least,
        "excess_failure": excess[least][0],
        "excess_failure_low": min(low for _, low, _ in excess.values()),
        "excess_failure_high": min(high for *_, high in excess.values()),
        "vanished_share": _mean(ratios <= VANISHED_RATIO),
        "gradient_left_median": _median(ratios),
    }


def _judged(
    f: FactorizationPart, t: TrainingPart, d: Diagnosis, facts: dict[str, Any]
) -> list[dict[str, Any]]:
    evidence = _evidence(f, t, d, facts)
    return [
        {
            "number": claim.number,
            "claim": claim.claim,
            "rule": claim.rule,
            "verdict": claim.verdict(evidence[claim.number]),
            "finding": claim.found(evidence[claim.number]),
            "evidence": evidence[claim.number],
        }
        for claim in claims.CLAIMS
    ]


def _checks(
    f: FactorizationPart, t: TrainingPart, facts: dict[str, Any]
) -> list[dict[str, Any]]:
    obtained = {
        "gd_loss": f.report.losses[0],
        "gd_loss_after_24_draws": f.after_draws.losses[0],
        "truncated_svd_loss": f.exact.loss,
    }
    found = [check.judge(float(obtained[n])) for n, check in claims.CHECKS.items()]
    p_values = {
        "Table 1, p-value of the most likely setting (at least the level)": float(
            t.compatible.adjusted.max()
        ),
        "Table 1, p-value given the ten starts (at least the level)": facts["training"][
            "ten_starts"
        ]["tests"]["joint"]["p_value"],
    }
    return found + [
        {
            "figure": figure,
            "published": LEVEL,
            "obtained": p_value,
            "tolerance": None,
            "met": p_value >= LEVEL,
        }
        for figure, p_value in p_values.items()
    ]


def _environment(seed: int, device: str, threads: int) -> dict[str, Any]:
    import scipy
    import sklearn

    from descents import __version__

    return {
        "versions": {
            "descents": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "scikit-learn": sklearn.__version__,
        },
        "dtype": "float32",
        "evaluation_dtype": "float64",
        "device": device,
        "threads": threads,
        "torch_threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "seed": seed,
    }


def _rows(
    f: FactorizationPart, t: TrainingPart, ten: TenStartsPart, d: Diagnosis
) -> dict[str, np.ndarray]:
    """Return a row per (part, setting, split, start); NaN where a column does not apply."""
    blocks = []
    for part, runs in (
        ("factorization-report", f.report),
        ("factorization-after-24-draws", f.after_draws),
        ("factorization", f.ours),
    ):
        columns = {"gap": f.gaps(runs), **runs.table()}
        blocks.append((part, "", np.full(len(runs), -1), columns))
    for setting, runs in t.settings.items():
        blocks.append(
            ("settings", setting_name(setting), shuffle_of(runs), runs.table())
        )
    for setting, each in ten.settings.items():
        place, run = np.divmod(each.runs.starts, ten_starts.RUNS)
        columns = {**each.runs.table(), "start": run}
        blocks.append(
            ("ten-starts", setting_name(setting), SPLITS + 1 + place, columns)
        )
    witness = setting_name(ten_starts.PUBLISHED_SETTING)
    replayed = ten.replayed.table()
    blocks.append(("ten-witness", witness, np.full(ten_starts.RUNS, -1), replayed))
    verdicts = dict(zip(d.starts.tolist(), range(len(d.starts)), strict=True))
    place = np.array([verdicts.get(int(start), -1) for start in t.table.starts])
    diagnosed = {
        name: _spread(values, place)
        for name, values in d.table().items()
        if name != "start"
    }
    blocks.append(
        (
            "table",
            setting_name(t.likeliest),
            np.full(len(t.table), SPLITS),
            {**t.table.table(), **diagnosed},
        )
    )
    names = list(dict.fromkeys(name for *_, columns in blocks for name in columns))
    rows: dict[str, list[np.ndarray]] = {
        "part": [np.full(len(split), part) for part, _, split, _ in blocks],
        "setting": [np.full(len(split), setting) for _, setting, split, _ in blocks],
        "split": [split for *_, split, _ in blocks],
    }
    for name in names:
        text = name in ("status", "verdict")
        rows[name] = [
            columns[name]
            if name in columns
            else np.full(len(split), "" if text else np.nan)
            for *_, split, columns in blocks
        ]
    return {name: np.concatenate(parts) for name, parts in rows.items()}


def _spread(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return the value at each place, NaN or an empty text if the place is -1."""
    if values.dtype == object:
        texts = [str(values[p]) if p >= 0 else "" for p in place]
        return np.array(texts, dtype=str)
    padded = np.append(values.astype(np.float64), np.nan)
    spread: np.ndarray = padded[place]
    return spread


def _tensors(
    f: FactorizationPart, t: TrainingPart, ten: TenStartsPart, d: Diagnosis
) -> dict[str, np.ndarray]:
    report = f.report.parameters
    return {
        "species": uci_iris().classes,
        "left_singular_vectors": f.exact.left,
        "U": report["U"][0],
        "V": report["V"][0],
        "U_aligned": f.onto_linear.aligned,
        "U_similar": f.onto_similar.aligned,
        "recorded": t.table.recorded,
        "history_loss": t.table.histories["loss"],
        "history_training_accuracy": t.table.histories["training_accuracy"],
        "failed": t.failed,
        "power": t.compatible.power,
        "witness_order": ten.witness.order,
        "ten_recorded": ten.replayed.recorded,
        "ten_history_loss": ten.replayed.histories["loss"],
        "ten_history_training_accuracy": ten.replayed.histories["training_accuracy"],
        "later_accuracy": d.metric,
    }
