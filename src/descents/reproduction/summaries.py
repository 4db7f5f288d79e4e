"""The numbers of the result, from the parts of the study."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from descents.diagnosis.verdicts import (
    DEAD_SHARE,
    NEGATIVE_CURVATURE,
    Diagnosis,
    Verdict,
)
from descents.optim.runs import Runs
from descents.reproduction import claims
from descents.reproduction.experiments import (
    LEVEL,
    SPLITS,
    FactorizationPart,
    Setting,
    TrainingPart,
    accuracy_of,
    failed_of,
    pairs_of,
    shuffle_of,
)
from descents.reproduction.result import (
    AccuracyVariance,
    DiagnosisResult,
    FactorizationResult,
    FactorizationStarts,
    FailedAndOthers,
    Failures,
    FigureFit,
    FixedShuffle,
    NetworkSetting,
    Power,
    PublishedLosses,
    Reference,
    SettingResult,
    SheetLosses,
    StartAccuracies,
    SubspaceResult,
    TenStartsResult,
    TrainingResult,
)
from descents.statistics import confidence, variance

REPORTED = (
    Verdict.NONFINITE,
    Verdict.DEAD_UNITS,
    Verdict.PLATEAU,
    Verdict.SADDLE,
    Verdict.LOCAL_MINIMUM,
    Verdict.UNDECIDED,
)
"""Verdicts that the result always counts; others are included if a start has them."""


def factorization(part: FactorizationPart) -> FactorizationResult:
    """Return the numbers of the factorization."""
    gaps, reference = part.gaps(part.ours), part.exact.reference
    return FactorizationResult(
        gd_loss=float(part.report.losses[0]),
        gd_loss_after_24_draws=float(part.after_draws.losses[0]),
        truncated_svd_loss=part.exact.loss,
        gap=float(part.gaps(part.report)[0]),
        gap_after_24_draws=float(part.gaps(part.after_draws)[0]),
        eckart_young=reference.value,
        reference=Reference(kind=reference.kind, says=reference.says),
        float32_as_in_the_sheet=SheetLosses(**part.as_in_sheet),
        published=PublishedLosses(
            gd_loss=claims.GD_LOSS, truncated_svd_loss=claims.TRUNCATED_SVD_LOSS
        ),
        starts=FactorizationStarts(
            count=len(part.ours),
            gap_median=float(np.median(gaps)),
            gap_max=float(gaps.max()),
            best=int(part.ours.starts[part.ours.best]),
            statuses=statuses(part.ours),
            below_reference=int(part.below(part.ours).sum()),
        ),
    )


def subspace(part: FactorizationPart) -> SubspaceResult:
    """Return the comparison of U_t with U-hat."""
    return SubspaceResult(
        principal_angles_rad=part.angles.tolist(),
        similarity_r2=part.similarity.r_squared,
        linear_r2=part.linear.r_squared,
        linear_singular_values=part.linear.singular_values.tolist(),
        figure_1c_r2=FigureFit(
            rotation_with_one_scale=part.onto_similar.r_squared,
            linear_map=part.onto_linear.r_squared,
        ),
    )


def training(part: TrainingPart, ten_starts: TenStartsResult) -> TrainingResult:
    """Return the numbers of the network."""
    return TrainingResult(
        published=_accuracies(claims.TABLE_1),
        table=_accuracies(pairs_of(part.table)[: len(claims.TABLE_1)].tolist()),
        table_setting=named(part.likeliest),
        table_split=SPLITS,
        failures=failures(part),
        starts=len(part.table),
        splits=SPLITS,
        level=LEVEL,
        settings=_settings(part),
        chosen=[
            named(setting)
            for setting, p in zip(part.settings, part.compatible.adjusted, strict=True)
            if p >= LEVEL
        ],
        power_says=_power_sentence(part.compatible.power),
        ten_starts=ten_starts,
    )


def failures(part: TrainingPart) -> Failures:
    """Return the share of failed starts over the shuffles, and the fixed shuffle's rank."""
    likeliest = part.settings[part.likeliest]
    failed, shuffles = failed_of(likeliest), shuffle_of(likeliest)
    share, low, high = confidence.paired_difference_interval(
        failed, np.zeros(len(failed)), shuffles
    )
    by_shuffle = np.bincount(shuffles, failed) / np.bincount(shuffles)
    fixed = float(part.failed.mean())
    fixed_low, fixed_high = confidence.wilson_interval(
        int(part.failed.sum()), len(part.failed)
    )
    return Failures(
        share=share,
        low=max(0.0, low),
        high=min(1.0, high),
        by_shuffle=by_shuffle.tolist(),
        fixed=FixedShuffle(
            share=fixed,
            low=fixed_low,
            high=fixed_high,
            place=int(1 + np.sum(by_shuffle < fixed)),
            of=len(by_shuffle) + 1,
        ),
    )


def diagnosis(found: Diagnosis, part: TrainingPart) -> DiagnosisResult:
    """Return the verdicts on the failed starts, and what they have in common."""
    verdicts = _verdicts(found)
    dead_units = part.table.metrics["dead_units"]
    return DiagnosisResult(
        failed=len(found.starts),
        of=len(part.table),
        threshold=claims.FAILED_BELOW,
        epochs=list(found.steps),
        verdicts=verdicts,
        rules={v.word: v.value for v in Verdict if v.word in verdicts},
        recovered_fraction=mean(found.recovered),
        median_training_accuracy=[median(row) for row in found.metric],
        undecided_with_dead_units_later=sum(
            verdict is Verdict.UNDECIDED and dead >= DEAD_SHARE
            for verdict, dead in zip(
                found.verdicts, found.final_dead_share, strict=True
            )
        ),
        negative_curvature_fraction=mean(
            found.smallest_eigenvalue < NEGATIVE_CURVATURE * found.largest_eigenvalue
        ),
        smallest_eigenvalue_median=median(found.smallest_eigenvalue),
        layer_shares_median={
            name: median(share) for name, share in found.layer_shares.items()
        },
        median_gradient_norm=FailedAndOthers(
            failed=median(found.gradient_norm),
            others=median(part.table.gradient_norms[~part.failed]),
        ),
        mean_dead_units=FailedAndOthers(
            failed=mean(dead_units[part.failed]), others=mean(dead_units[~part.failed])
        ),
    )


def median(values: np.ndarray) -> float | None:
    """Return the median, or None if there are no values."""
    return float(np.median(values)) if len(values) else None


def mean(values: np.ndarray) -> float | None:
    """Return the mean, or None if there are no values."""
    return float(np.mean(values)) if len(values) else None


def statuses(runs: Runs) -> dict[str, int]:
    """Return how many starts ended how."""
    words, counts = np.unique([s.word for s in runs.statuses], return_counts=True)
    return {str(word): int(count) for word, count in zip(words, counts, strict=True)}


def named(setting: Setting) -> NetworkSetting:
    """Return a setting with the names of its parts."""
    loss, weights, biases = setting
    return NetworkSetting(loss=loss, weights=weights, biases=biases)


def _accuracies(pairs: Iterable[Sequence[float]]) -> list[StartAccuracies]:
    return [
        StartAccuracies(start=k, training_accuracy=a, validation_accuracy=b)
        for k, (a, b) in enumerate(pairs)
    ]


def _settings(part: TrainingPart) -> list[SettingResult]:
    """Return the fresh starts of every setting, and the test of Table 1."""
    found = []
    for row, (setting, runs) in enumerate(part.settings.items()):
        accuracy = accuracy_of(runs)
        within, between = variance.variance_components(accuracy, shuffle_of(runs))
        others = np.delete(part.compatible.power[row], row)
        found.append(
            SettingResult(
                **vars(named(setting)),
                starts=len(runs),
                training_accuracy_mean=float(accuracy.mean()),
                training_accuracy_quartiles=np.quantile(
                    accuracy, [0.25, 0.5, 0.75]
                ).tolist(),
                validation_accuracy_mean=float(
                    runs.metrics["validation_accuracy"].mean()
                ),
                failed_share=float(failed_of(runs).mean()),
                variance=AccuracyVariance(starts=within, splits=between),
                p_value=float(part.compatible.p_values[row]),
                p_adjusted=float(part.compatible.adjusted[row]),
                power=Power(mean=float(others.mean()), least=float(others.min())),
                statuses=statuses(runs),
            )
        )
    return found


def _power_sentence(power: np.ndarray) -> str:
    """Return a sentence on the power of the test of a setting."""
    off = power[~np.eye(len(power), dtype=bool)]
    return (
        f"Ten runs are few: the test distinguishes a table drawn from one setting from "
        f"another setting with a probability of {off.mean():.0%} on average (median "
        f"{np.median(off):.0%}, minimum {off.min():.0%}), so a setting that is not "
        "rejected is possible, but not proved."
    )


def _verdicts(found: Diagnosis) -> dict[str, int]:
    """Return the counts of the verdicts in `REPORTED`, and of others that occur."""
    reported = {verdict.word for verdict in REPORTED}
    return {word: n for word, n in found.counts().items() if n or word in reported}
