"""The numbers of the result on the ten published starts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from descents.reproduction import claims
from descents.reproduction.experiments import (
    LEVEL,
    SPLITS,
    TRAINING_ROWS,
    Setting,
    class_indices,
)
from descents.reproduction.result import (
    AccuracyVariances,
    Alignment,
    ClassOrders,
    CrossedVariance,
    NearestShuffle,
    RunOverShuffles,
    TableTests,
    TenStartsResult,
    TenStartsSetting,
    TestResult,
    VarianceShares,
    WitnessResult,
    WitnessStart,
)
from descents.reproduction.summaries import mean, named
from descents.reproduction.tables import (
    TableTest,
    alignment_test,
    monte_carlo_error,
    rejected_share,
    table_test,
)
from descents.reproduction.ten_starts import (
    PUBLISHED_SETTING,
    RUNS,
    TenStarts,
    TenStartsPart,
    distance,
)
from descents.statistics import confidence, variance

PERMUTATIONS = 9999
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SPECIES = ("setosa", "versicolor", "virginica")
UNLIT_ROWS = 20
"""A start with all hidden units off in at least this many rows has equal logits."""


def ten_starts(part: TenStartsPart, seed: int) -> TenStartsResult:
    """Return the numbers of the ten published starts; the seed draws permutations."""
    published = np.array(claims.TABLE_1)
    ours = part.published
    tests = {
        setting: table_test(published, each.accuracies, claims.FAILED_BELOW)
        for setting, each in part.settings.items()
    }
    correlation, aligned = alignment_test(
        published,
        ours.accuracies,
        np.random.Generator(np.random.Philox(seed)),
        PERMUTATIONS,
    )
    distances = distance(ours.accuracies)
    return TenStartsResult(
        shuffles=len(part.orders),
        runs=[_run(ours, k) for k in range(RUNS)],
        failed_share=float(ours.failed.mean()),
        failed_runs_quantiles=np.quantile(ours.failed.sum(1), QUANTILES).tolist(),
        published_pattern_share=_pattern_share(ours),
        published_inside=_inside(ours),
        tests=_tests(tests[PUBLISHED_SETTING]),
        alignment=Alignment(
            correlation=correlation, p_value=aligned, permutations=PERMUTATIONS
        ),
        variance=AccuracyVariances(
            training=crossed_variance(ours.accuracies[..., 0]),
            validation=crossed_variance(ours.accuracies[..., 1]),
        ),
        classes=_class_orders(part),
        settings=_settings(part, tests),
        settings_say=_settings_sentence(tests),
        nearest_shuffle=NearestShuffle(
            split=SPLITS + 1 + int(distances.argmin()), distance=float(distances.min())
        ),
        witness=_witness(part),
    )


def _run(found: TenStarts, run: int) -> RunOverShuffles:
    """Return the distribution of one run over shuffles, beside its published values."""
    training, validation = found.accuracies[:, run, 0], found.accuracies[:, run, 1]
    # The margin makes equal accuracies equal in spite of rounding.
    most = np.array(claims.TABLE_1[run]) + 1e-9
    return RunOverShuffles(
        start=run,
        failed_share=float(found.failed[:, run].mean()),
        training_accuracy_mean=float(training.mean()),
        training_accuracy_quantiles=np.quantile(training, QUANTILES).tolist(),
        training_share_at_most_published=float((training <= most[0]).mean()),
        validation_accuracy_mean=float(validation.mean()),
        validation_accuracy_quantiles=np.quantile(validation, QUANTILES).tolist(),
        validation_share_at_most_published=float((validation <= most[1]).mean()),
    )


def _pattern_share(found: TenStarts) -> float:
    """Return the share of shuffles on which exactly the published runs fail."""
    bad = np.array([pair[0] < claims.FAILED_BELOW for pair in claims.TABLE_1])
    return float((found.failed == bad).all(1).mean())


def _inside(found: TenStarts) -> int:
    """Count the published values between the 5% and 95% quantiles over shuffles."""
    low, high = np.quantile(found.accuracies, [0.05, 0.95], axis=0)
    published = np.array(claims.TABLE_1)
    return int(((published >= low - 1e-9) & (published <= high + 1e-9)).sum())


def _tests(test: TableTest) -> TableTests:
    """Return the three p-values, with Holm's adjustment and their Monte Carlo errors."""
    p_values = (test.joint, test.pattern, test.shortfall)
    joint, pattern, shortfall = (
        TestResult(
            p_value=p,
            p_adjusted=float(adjusted),
            monte_carlo_error=monte_carlo_error(p, test.simulated),
        )
        for p, adjusted in zip(p_values, confidence.holm(p_values), strict=True)
    )
    return TableTests(joint=joint, pattern=pattern, shortfall=shortfall)


def crossed_variance(accuracies: np.ndarray) -> CrossedVariance:
    """Return the variance of an accuracy by its cause, and the share of each.

    Parameters
    ----------
    accuracies : ndarray of shape (shuffles, starts)
    """
    parts = variance.crossed_variances(accuracies.T)
    starts, shuffles, both = (
        parts[name] or 0.0 for name in ("starts", "splits", "residual")
    )
    total = starts + shuffles + both
    return CrossedVariance(
        starts=starts,
        shuffles=shuffles,
        both=both,
        shares=VarianceShares(
            starts=starts / total if total else None,
            shuffles=shuffles / total if total else None,
            both=both / total if total else None,
        ),
    )


def _class_orders(part: TenStartsPart) -> ClassOrders:
    """Return how failures depend on the class that appears first, and gets index 0."""
    found = part.published
    first = np.array(
        [class_indices(order[:TRAINING_ROWS]).index(0) for order in part.orders]
    )
    unlit = found.unlit >= UNLIT_ROWS
    return ClassOrders(
        failed_share_by_first_class={
            name: mean(found.failed[first == kind].reshape(-1))
            for kind, name in enumerate(SPECIES)
        },
        rows=UNLIT_ROWS,
        failed_with_equal_logits_share=mean(unlit[found.failed]),
        others_with_equal_logits_share=mean(unlit[~found.failed]),
    )


def _settings(
    part: TenStartsPart, tests: Mapping[Setting, TableTest]
) -> list[TenStartsSetting]:
    """Return the ten starts of every setting, and the tests of Table 1."""
    adjusted = confidence.holm([test.joint for test in tests.values()])
    found = []
    for (setting, test), holm in zip(tests.items(), adjusted, strict=True):
        each = part.settings[setting]
        power = None
        if setting != PUBLISHED_SETTING:
            power = rejected_share(part.published.accuracies, each.accuracies, LEVEL)
        found.append(
            TenStartsSetting(
                **vars(named(setting)),
                shuffles=test.simulated,
                training_accuracy_mean=float(each.accuracies[..., 0].mean()),
                failed_share=float(each.failed.mean()),
                p_value=test.joint,
                monte_carlo_error=monte_carlo_error(test.joint, test.simulated),
                p_adjusted=float(holm),
                rejected=bool(holm < LEVEL),
                p_pattern=test.pattern,
                p_shortfall=test.shortfall,
                power=power,
            )
        )
    return found


def _settings_sentence(tests: Mapping[Setting, TableTest]) -> str:
    """Return a sentence on the smallest possible p-value of a setting."""
    fewest = min(test.simulated for test in tests.values())
    least = min(1.0, len(tests) / (fewest + 1))
    sentence = (
        f"With {fewest} shuffles and {len(tests)} settings, the smallest possible adjusted "
        f"p-value is {least:.3f}"
    )
    too_few = ", so no setting can be rejected; more starts give more shuffles."
    return sentence + (too_few if least >= LEVEL else ".")


def _witness(part: TenStartsPart) -> WitnessResult:
    """Return the ten starts on the witness, and whether they equal the stored ones."""
    names = ("training_accuracy", "validation_accuracy")
    accuracies = np.stack([part.replayed.metrics[name] for name in names], -1)
    return WitnessResult(
        table=[
            WitnessStart(
                start=k,
                training_accuracy=training,
                validation_accuracy=validation,
                loss=float(loss),
            )
            for k, ((training, validation), loss) in enumerate(
                zip(accuracies.tolist(), part.replayed.losses, strict=True)
            )
        ],
        distance=float(distance(accuracies).round(9)),
        equal=int(np.isclose(accuracies, claims.TABLE_1, atol=1e-9).sum()),
        replayed_as_stored=bool(
            np.allclose(accuracies, part.witness.accuracies, atol=1e-9)
        ),
        class_indices=list(class_indices(part.witness.order)),
        stored=part.witness.search,
    )
