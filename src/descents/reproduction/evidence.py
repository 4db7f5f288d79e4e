"""The evidence for each claim of the report, the verdicts, and the checks of its figures."""

from __future__ import annotations

import numpy as np

from descents.bounds import subspaces
from descents.bounds.references import principal_components
from descents.diagnosis.verdicts import VANISHED_RATIO, Diagnosis, Verdict
from descents.reproduction import claims
from descents.reproduction.claims import CheckResult, Evidence
from descents.reproduction.experiments import (
    LEVEL,
    RANK,
    WEIGHT_RULES,
    FactorizationPart,
    TrainingPart,
    accuracy_of,
    failed_of,
    shuffle_of,
)
from descents.reproduction.result import ClaimResult, TrainingResult
from descents.reproduction.summaries import mean, median
from descents.statistics import confidence


def judged(
    factorization: FactorizationPart,
    training: TrainingPart,
    diagnosis: Diagnosis,
    facts: TrainingResult,
) -> list[ClaimResult]:
    """Return each claim with its evidence and its verdict."""
    evidence = {
        1: _losses(factorization),
        2: _subspace(factorization),
        3: _variance(factorization),
        4: _starts(training, facts),
        5: _failures(diagnosis),
        6: _weights(training),
    }
    return [
        ClaimResult(
            number=claim.number,
            claim=claim.claim,
            rule=claim.rule,
            verdict=claim.verdict(evidence[claim.number]),
            finding=claim.found(evidence[claim.number]),
            evidence=evidence[claim.number],
        )
        for claim in claims.CLAIMS
    ]


def checks(
    factorization: FactorizationPart, training: TrainingPart, facts: TrainingResult
) -> list[CheckResult]:
    """Return the published figures beside those obtained."""
    obtained = {
        "gd_loss": factorization.report.losses[0],
        "gd_loss_after_24_draws": factorization.after_draws.losses[0],
        "truncated_svd_loss": factorization.exact.loss,
    }
    p_values = {
        "Table 1, p-value of the most likely setting (at least the level)": float(
            training.compatible.adjusted.max()
        ),
        "Table 1, p-value given the ten starts (at least the level)": (
            facts.ten_starts.tests.joint.p_value
        ),
    }
    return [
        *(check.judge(float(obtained[n])) for n, check in claims.CHECKS.items()),
        *(
            CheckResult(
                figure=figure,
                published=LEVEL,
                obtained=p_value,
                tolerance=None,
                met=p_value >= LEVEL,
            )
            for figure, p_value in p_values.items()
        ),
    ]


def _losses(part: FactorizationPart) -> Evidence:
    gaps = part.gaps(part.ours)
    return {
        "gap": float(part.gaps(part.report)[0]),
        "below_exact": int(part.below(part.ours).sum() + part.below(part.report).sum()),
        "share_of_starts_within": float((gaps <= 1e-3).mean()),
        "gap_median": float(np.median(gaps)),
        "gap_max": float(gaps.max()),
    }


def _subspace(part: FactorizationPart) -> Evidence:
    scales = part.linear.singular_values
    return {
        "similarity_r2": part.similarity.r_squared,
        "linear_r2": part.linear.r_squared,
        "linear_scales_ratio": float(scales[0] / scales[-1]),
        "largest_angle_rad": float(part.angles.max()),
    }


def _variance(part: FactorizationPart) -> Evidence:
    """Compare the variance that components capture with the error that they leave."""
    table = part.table.astype(np.float64)
    table -= table.mean(0)
    components, variances = principal_components(table, RANK)
    total = np.square(table).sum()
    error = np.square(table - table @ components @ components.T).sum()
    captured = variances.sum() * (len(table) - 1)
    found, _ = np.linalg.qr(part.report.parameters["V"][0].astype(np.float64))
    angles = subspaces.principal_angles(components, found)
    return {
        "identity_error": float((captured + error - total) / total),
        "variance_share_of_maximum": float(np.square(table @ found).sum() / captured),
        "largest_angle_rad": float(angles.max()),
        "reconstruction_error_of_components": float(error),
    }


def _starts(part: TrainingPart, facts: TrainingResult) -> Evidence:
    failures, ten = facts.failures, facts.ten_starts
    shares = ten.variance.training.shares
    accuracies = accuracy_of(part.table)
    return {
        "starts": len(part.settings[part.likeliest]),
        "shuffles": len(failures.by_shuffle),
        "failed_share": failures.share,
        "failed_share_low": failures.low,
        "failed_share_high": failures.high,
        "least_failed_share": min(failures.by_shuffle),
        "most_failed_share": max(failures.by_shuffle),
        "fixed_failed_share": failures.fixed.share,
        "fixed_place": failures.fixed.place,
        "fixed_of": failures.fixed.of,
        "ten_starts_shuffles": ten.shuffles,
        "ten_starts_failed_share": ten.failed_share,
        "variance_share_of_starts": shares.starts,
        "variance_share_of_shuffles": shares.shuffles,
        "variance_share_of_both": shares.both,
        "least_training_accuracy": float(accuracies.min()),
        "most_training_accuracy": float(accuracies.max()),
    }


def _failures(diagnosis: Diagnosis) -> Evidence:
    failed = len(diagnosis.starts)
    vanished = diagnosis.gradient_ratio <= VANISHED_RATIO
    minimum = np.array(
        [v is Verdict.LOCAL_MINIMUM for v in diagnosis.verdicts], dtype=bool
    )
    share = {
        name: count / failed if failed else None
        for name, count in diagnosis.counts().items()
    }
    return {
        "failed": failed,
        "plateau_share": share["plateau"],
        "local_minimum_share": share["local minimum"],
        "dead_units_share": share["dead units"],
        "undecided_share": share["undecided"],
        "vanished_share": mean(vanished),
        "minimum_or_vanished_share": mean(vanished | minimum),
        "gradient_left_median": median(diagnosis.gradient_ratio),
        "recovered_fraction": mean(diagnosis.recovered),
    }


def _weights(part: TrainingPart) -> Evidence:
    """Compare weights on [0, 1) with each other distribution, over the same starts."""
    loss, _, biases = part.likeliest
    unit = part.settings[loss, "uniform01", biases]
    bad = failed_of(unit)
    excess = {
        weights: confidence.paired_difference_interval(
            bad, failed_of(part.settings[loss, weights, biases]), shuffle_of(unit)
        )
        for weights in WEIGHT_RULES
        if weights != "uniform01"
    }
    rival = min(excess, key=lambda weights: excess[weights][0])
    least, low, high = excess[rival]
    ratios = unit.gradient_norms[bad] / unit.initial_gradient_norms[bad]
    return {
        "failed_share_uniform01": float(bad.mean()),
        "rival_with_least_excess": rival,
        "excess_failure": least,
        "least_excess_low": low,
        "least_excess_high": high,
        # The rule needs all intervals: their smallest lower and smallest upper end.
        "excess_failure_low": min(low for _, low, _ in excess.values()),
        "excess_failure_high": min(high for *_, high in excess.values()),
        "vanished_share": mean(ratios <= VANISHED_RATIO),
        "gradient_left_median": median(ratios),
    }
