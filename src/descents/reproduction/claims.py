"""The published report as data: its figures, its claims, and the rule for each claim.

A rule turns evidence, which is a few numbers, into a verdict; it computes no statistics.
Every threshold is defined here once, in its rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

from descents.storage.results import Number, Result

SUPPORTED = "supported"
CORRECTED = "supported with a correction"
NOT_SUPPORTED = "not supported"
UNDECIDED = "undecided"
VERDICTS = (SUPPORTED, CORRECTED, NOT_SUPPORTED, UNDECIDED)


@dataclass(frozen=True, kw_only=True)
class PublishedReport(Result):
    """The report that is reproduced."""

    title: str
    where: str
    date: str
    note: str


REPORT = PublishedReport(
    title="Lab 2 Exercise - PyTorch Autograd",
    where="University of Southampton, COMP6248",
    date="29 April 2021",
    note="The exercise sheet is by Jonathon Hare.",
)
GD_LOSS = 15.228897094726562
TRUNCATED_SVD_LOSS = 15.22883415222168
TABLE_1 = (
    (0.92, 0.88),
    (0.66, 0.66),
    (0.92, 0.88),
    (0.71, 0.70),
    (0.92, 0.88),
    (0.92, 0.88),
    (0.88, 0.82),
    (0.95, 0.88),
    (0.85, 0.90),
    (0.77, 0.72),
)
"""Training and validation accuracy of runs 0 to 9, as published."""

FAILED_BELOW = 0.8
"""A start fails if its training accuracy is below this. The threshold separates the runs
that the report calls bad (1, 3 and 9) from the others."""

ASSUMPTIONS = (
    "The table is UCI's iris.data in float32, its columns centered by their float32 "
    "means.",
    "U, then V, is drawn uniformly from [0, 1) with torch's generator seeded 0. The report "
    "does not say whether numbers were drawn from it before. Therefore both a fresh "
    "generator and one after the 24 draws of the previous exercise's test are used.",
    "The features of the network are centered and divided by their variance (divisor "
    "n - 1, torch's default), over all 150 rows; the first 100 rows of a shuffle train "
    "and the other 50 validate.",
    "The shuffle is not seeded, so it is unknown. Fresh starts are trained on 20 shuffles, "
    "the ten published starts on many more.",
    "Classes are numbered in the order in which they first appear in the shuffled table. "
    "This matters: if all hidden units are off, the three logits are equal, and the class "
    "with index 0 is predicted.",
    "The ten starts of Table 1 are those of the author's notebook: torch.manual_seed(0) "
    "is called once, then each run in turn draws W1 (4 x 12), W2 (12 x 3), b1 and b2 with "
    "torch.rand in float32; the cross-entropy is summed.",
    "The report and the sheet alone leave open whether the cross-entropy is summed or "
    "averaged, and how weights and biases are drawn. Every combination is also run from "
    "fresh starts.",
    "Each layer has one bias for all its units, as in the sheet.",
    "The published accuracies are rounded to two decimals.",
    "A rotation may include a reflection, because the signs of singular vectors are "
    "arbitrary.",
)

Evidence = dict[str, float | str | None]
"""The numbers and words that decide a claim; None if a number is not known."""
Numbers = Mapping[str, float]
"""The evidence that is known and is a number."""


@dataclass(frozen=True, kw_only=True)
class CheckResult(Result):
    """A published figure beside the one obtained."""

    figure: str
    published: float
    obtained: Number
    tolerance: Annotated[Number, "Null if `published` is a lower bound."]
    met: bool


@dataclass(frozen=True)
class Check:
    """One published figure, and the tolerance for a re-run.

    Attributes
    ----------
    figure : str
    published : float
    tolerance : float
        Relative to the published figure if `relative`, else absolute.
    relative : bool
    """

    figure: str
    published: float
    tolerance: float
    relative: bool = False

    def judge(self, obtained: float) -> CheckResult:
        """Return the figures side by side, and whether the tolerance is met."""
        allowed = self.tolerance * (abs(self.published) if self.relative else 1.0)
        return CheckResult(
            figure=self.figure,
            published=self.published,
            obtained=obtained,
            tolerance=allowed,
            met=bool(abs(obtained - self.published) <= allowed),
        )


CHECKS = {
    "gd_loss": Check(
        "gradient descent, fresh generator", GD_LOSS, tolerance=1e-5, relative=True
    ),
    "gd_loss_after_24_draws": Check(
        "gradient descent, after 24 draws", GD_LOSS, tolerance=5e-6
    ),
    "truncated_svd_loss": Check("truncated SVD", TRUNCATED_SVD_LOSS, tolerance=2e-6),
}


class _Unknown:
    """Placeholder in a finding for missing evidence."""

    def __format__(self, form: str) -> str:
        return "not known"


@dataclass(frozen=True)
class Claim:
    """One claim of the report, and the rule that decides it.

    Attributes
    ----------
    number : int
    claim : str
        The claim in the words of the report.
    rule : str
        The decision rule in words.
    judge : callable
        Maps evidence to a verdict.
    finding : str
        The result, a format string with the names of the evidence.
    needs : tuple of str
        The evidence that the rule uses; if any is missing or not finite, the claim is
        undecided.
    """

    number: int
    claim: str
    rule: str
    judge: Callable[[Numbers], str]
    finding: str
    needs: tuple[str, ...]

    def missing(self, evidence: Evidence) -> list[str]:
        """Return which needed numbers are absent or not finite."""
        numbers = _numbers(evidence)
        return [
            name
            for name in self.needs
            if name not in numbers or not math.isfinite(numbers[name])
        ]

    def verdict(self, evidence: Evidence) -> str:
        """Return one of `VERDICTS`."""
        return UNDECIDED if self.missing(evidence) else self.judge(_numbers(evidence))

    def found(self, evidence: Evidence) -> str:
        """Return the result as a sentence."""
        missing = self.missing(evidence)
        if missing:
            return f"No evidence: {', '.join(missing).replace('_', ' ')}."
        return self.finding.format_map(
            {name: _Unknown() if v is None else v for name, v in evidence.items()}
        )


def _numbers(evidence: Evidence) -> Numbers:
    return {name: v for name, v in evidence.items() if isinstance(v, int | float)}


def _almost_identical(evidence: Numbers) -> str:
    if evidence["below_exact"] > 0:
        return UNDECIDED  # a bug of this program: its numbers prove nothing
    if abs(evidence["gap"]) > 1e-3:
        return NOT_SUPPORTED
    return SUPPORTED if evidence["share_of_starts_within"] >= 0.95 else CORRECTED


def _rotated_and_scaled(evidence: Numbers) -> str:
    if evidence["similarity_r2"] >= 0.999:
        return SUPPORTED
    if evidence["linear_r2"] >= 0.999:
        return CORRECTED
    return NOT_SUPPORTED if evidence["linear_r2"] < 0.99 else UNDECIDED


def _variance_is_reconstruction(evidence: Numbers) -> str:
    if abs(evidence["identity_error"]) > 1e-9:
        return UNDECIDED
    angle, share = evidence["largest_angle_rad"], evidence["variance_share_of_maximum"]
    if angle <= 0.01 and share >= 0.9999:
        return SUPPORTED
    return CORRECTED if angle <= 0.1 and share >= 0.99 else NOT_SUPPORTED


def _start_matters(evidence: Numbers) -> str:
    if evidence["failed_share_high"] < 0.01:
        return NOT_SUPPORTED
    if evidence["variance_share_of_shuffles"] > 0.95:
        return NOT_SUPPORTED
    if evidence["failed_share_low"] <= 0.01 or evidence["failed_share_high"] >= 0.99:
        return UNDECIDED
    alone = evidence["variance_share_of_starts"] >= 0.5
    return SUPPORTED if alone else CORRECTED


def _minimum_or_vanishing(evidence: Numbers) -> str:
    if evidence["failed"] < 20 or evidence["undecided_share"] >= 0.25:
        return UNDECIDED
    named = evidence["minimum_or_vanished_share"]
    if named >= 0.5:
        return SUPPORTED
    return CORRECTED if named >= 0.05 else NOT_SUPPORTED


def _unit_interval_weights(evidence: Numbers) -> str:
    if evidence["excess_failure_high"] <= 0:
        return NOT_SUPPORTED
    if evidence["excess_failure_low"] <= 0:
        return UNDECIDED
    vanished = evidence.get("vanished_share", 0.0)  # not known if no start failed
    if vanished < 0.05:
        return NOT_SUPPORTED
    return SUPPORTED if vanished >= 0.5 else CORRECTED


CLAIMS = (
    Claim(
        1,
        "The losses of gradient descent and truncated SVD are almost identical.",
        "The gap of the report's own run to the exact minimum is at most 1e-3. At least "
        "95% of our starts have such a gap: supported; fewer: supported with a correction. "
        "The report's run has a larger gap: not supported. A loss is below the exact "
        "minimum, which is a bug: undecided.",
        _almost_identical,
        "The report's run ends with a gap of {gap:.2g}; {share_of_starts_within:.1%} of our "
        "starts are within 1e-3 of the minimum after the same epochs.",
        ("gap", "share_of_starts_within", "below_exact"),
    ),
    Claim(
        2,
        "U-hat is a rotated and scaled version of U_t.",
        "A rotation with one scale maps U_t to U-hat with R^2 of at least 0.999: "
        "supported. Only a general linear map does: supported with a correction. A linear "
        "map does not reach 0.99: not supported. Otherwise: undecided.",
        _rotated_and_scaled,
        "A rotation with one scale reaches R^2 {similarity_r2:.4f}. A linear map reaches "
        "{linear_r2:.7f}; the ratio of its scales is {linear_scales_ratio:.2f}.",
        ("similarity_r2", "linear_r2"),
    ),
    Claim(
        3,
        "Maximizing variance is analogous to minimizing the reconstruction error.",
        "Captured variance and squared error of the principal subspace add up to the "
        "total (to within 1e-9; otherwise undecided). The row space that gradient descent "
        "reached by minimizing the error is within 0.01 rad of the principal components, "
        "and captures at least 0.9999 of the maximal variance: supported. Within 0.1 rad "
        "and at least 0.99: supported with a correction. Otherwise: not supported.",
        _variance_is_reconstruction,
        "The subspace that minimizes the error is within {largest_angle_rad:.2g} rad of the "
        "one that maximizes the variance, and captures {variance_share_of_maximum:.9f} of "
        "the maximal variance.",
        ("identity_error", "largest_angle_rad", "variance_share_of_maximum"),
    ),
    Claim(
        4,
        "Bad random initialization of weights and biases may majorly impact the "
        "accuracy.",
        "Over the shuffles, the 95% interval of the share of fresh starts below a training "
        f"accuracy of {FAILED_BELOW} lies above 1%. The variance of the ten published "
        "starts over many shuffles is split into that of the starts alone, of the shuffles "
        "alone, and of both together. The starts alone have at least half: supported. "
        "Less: supported with a correction, because whether a start is bad depends on the "
        "shuffle. The shuffles alone have over 95%, or the interval lies below 1%: not "
        "supported. The interval contains 1%, or reaches 99%: undecided.",
        _start_matters,
        "Over {shuffles} shuffles, {failed_share:.1%} of fresh starts fail (95% interval "
        "{failed_share_low:.1%} to {failed_share_high:.1%}); the share ranges from "
        "{least_failed_share:.0%} to {most_failed_share:.0%} by shuffle. On the fixed "
        "shuffle of the diagnosis it is {fixed_failed_share:.1%}, rank {fixed_place} of "
        "{fixed_of} from the easiest. Of the variance of training accuracy among the ten "
        "published starts over "
        "{ten_starts_shuffles} shuffles, {variance_share_of_starts:.0%} is due to the "
        "start alone, {variance_share_of_shuffles:.0%} to the shuffle alone and "
        "{variance_share_of_both:.0%} to the two together.",
        (
            "failed_share_low",
            "failed_share_high",
            "variance_share_of_starts",
            "variance_share_of_shuffles",
        ),
    ),
    Claim(
        5,
        "The cause may be a bad local minimum, or the vanishing gradient.",
        "The share of failed starts at a local minimum or with a vanished gradient (a norm "
        "of at most 1e-3 of that at the initial point) is at least 50%: supported; 5% to "
        "50%: supported with a correction; below 5%: not supported. Fewer than 20 starts "
        "failed, or at least a quarter of them have no verdict: undecided.",
        _minimum_or_vanishing,
        "Of {failed} failed starts, {local_minimum_share:.1%} are at a local minimum and "
        "{vanished_share:.1%} have a vanished gradient; {plateau_share:.1%} were on a plateau "
        "that they leave with more epochs, {dead_units_share:.1%} had lost half of their "
        "units, and {undecided_share:.1%} have no verdict.",
        ("failed", "undecided_share", "minimum_or_vanished_share"),
    ),
    Claim(
        6,
        "The vanishing gradient might be due to weights initialized between 0 and 1.",
        "Over the same starts, the share of failures with weights on [0, 1) minus that with "
        "each other distribution has a 95% interval over the shuffles. All intervals are "
        "above 0: supported if at least half of the failures have a vanished gradient, "
        "supported with a correction if 5% to 50% have one, and not supported if fewer have "
        "one: the weights may then make starts fail, but not by a vanishing gradient. One "
        "interval is entirely at or below 0: not supported. Otherwise: undecided. Loss and "
        "biases are those of the most likely setting.",
        _unit_interval_weights,
        "With weights on [0, 1), {failed_share_uniform01:.1%} of starts fail: "
        "{excess_failure:.1%} more than with {rival_with_least_excess} weights, the "
        "distribution with the smallest difference (95% interval of this difference "
        "{least_excess_low:.1%} to {least_excess_high:.1%}). Of the intervals for all "
        "other distributions, the smallest lower end is {excess_failure_low:.1%} and the "
        "smallest upper end {excess_failure_high:.1%}. {vanished_share:.1%} of these "
        "failures have a vanished gradient.",
        ("excess_failure_low", "excess_failure_high"),
    ),
)
