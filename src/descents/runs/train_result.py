"""The results of `descents train` and `descents compare`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from descents.runs.results import Environment, Formats, Run
from descents.statistics.differences import Comparison
from descents.storage.results import (
    SCHEMA_VERSION,
    Count,
    Interval,
    Number,
    Result,
    SchemaVersion,
)


@dataclass(frozen=True, kw_only=True)
class TargetColumn(Result):
    """The column that is predicted."""

    name: str
    center: Annotated[Number, "What is subtracted from numbers; 0 for classes."]
    spread: Annotated[Number, "What numbers are divided by; 1 for classes."]
    majority: Annotated[
        Count | None,
        "The position in `classes` of the most frequent one, by the weights of the rows; "
        "null for numbers.",
    ] = None


@dataclass(frozen=True, kw_only=True)
class Encoding(Result):
    """How one column of the table becomes features."""

    name: str
    levels: Annotated[list[Any], "Levels with a feature each; empty for numbers."]
    fill: Annotated[Number, "Replaces missing cells: the median, or a level's code."]
    center: Annotated[Number, "What is subtracted from numbers."]
    spread: Annotated[Number, "What numbers are divided by."]
    never: Annotated[list[Any] | None, "Declared levels that no cell has."] = None
    binary: Annotated[bool | None, "Whether all numbers are 0 and 1."] = None


@dataclass(frozen=True, kw_only=True)
class Success(Result):
    """The share of the starts that are near the best."""

    share: Number
    interval: Annotated[Interval, "Wilson's 95% interval of the share."]


@dataclass(frozen=True, kw_only=True)
class MetricOfStarts(Result):
    """The metric of the starts of a setting, each a mean over the splits."""

    count: Annotated[Count, "Starts with a value, which the statistics use."]
    failed: Annotated[Count, "Starts whose loss became infinite or NaN."]
    mean: Number = None
    interval: Annotated[Interval | None, "The 95% interval of the mean."] = None
    standard_deviation: Number = None
    minimum: Number = None
    quartiles: Annotated[
        list[Number] | None, "Lower quartile, median, upper quartile."
    ] = None
    quartile_intervals: Annotated[
        list[Interval] | None, "The 95% intervals of the quartiles."
    ] = None
    maximum: Number = None
    mean_with_failures: Annotated[
        Number, "The mean over all starts, with failed ones as the worst."
    ]
    success: Success


@dataclass(frozen=True, kw_only=True)
class StartsOfSetting(Result):
    """A setting, and the statistics of its starts."""

    name: Annotated[str, "Made of the options in which settings differ."]
    initialization: str
    optimizer: str
    learning_rate: float
    metric: MetricOfStarts
    statuses: Annotated[dict[str, int], "How many starts on splits ended how."]


@dataclass(frozen=True, kw_only=True)
class Example(Result):
    """A start with a verdict."""

    start: Count
    split: Count
    says: Annotated[str, "The meaning of the verdict."]
    training: Annotated[Number, "The training score."]
    gradient_ratio: Annotated[Number, "The gradient's norm over its initial norm."]
    dead_share: Annotated[Number, "The share of dead units."]


@dataclass(frozen=True, kw_only=True)
class Ends(Result):
    """How the starts of a setting ended. A start counts once on each split."""

    verdicts: Annotated[dict[str, int], "Diagnosed starts with each verdict."]
    short: Annotated[Count, "Starts below `reached`."]
    diagnosed: Annotated[Count, "Starts below `reached` that were diagnosed."]
    reached: Annotated[
        float,
        "The training score from which on a start is not short, to ten digits; starts "
        "are counted by a limit that is 1e-12 of it lower.",
    ]
    baseline: Annotated[
        float,
        "The training score without learning; balanced accuracy if classes are weighted.",
    ]
    most: Annotated[Number, "The best training score of a start."]
    examples: Annotated[dict[str, Example], "The first start with each verdict."]


@dataclass(frozen=True, kw_only=True)
class SettingResult(Ends, StartsOfSetting):
    """One of the settings that are compared."""


@dataclass(frozen=True, kw_only=True)
class Difference(Result):
    """The comparison of two sets of starts."""

    difference: Annotated[Number, "The mean of the first minus that of the second."]
    interval: Annotated[Interval, "The 95% interval of the difference."]
    probability_of_improvement: Annotated[
        Number, "The probability that a start of the first is better."
    ]
    improvement_interval: Annotated[Interval, "The 95% interval of the probability."]
    p_value: Annotated[Number, "Of the permutation test of no difference."]
    paired: Annotated[bool, "Whether they are compared start by start."]
    counts: Annotated[list[int], "The starts of each that the difference uses."]
    failed: Annotated[list[int], "The failed starts of each."]


def facts_of(comparison: Comparison) -> dict[str, Any]:
    """Return the fields of a `Difference`."""
    return {
        "difference": comparison.difference,
        "interval": [comparison.low, comparison.high],
        "probability_of_improvement": comparison.probability_of_improvement,
        "improvement_interval": [
            comparison.improvement_low,
            comparison.improvement_high,
        ],
        "p_value": comparison.p_value,
        "paired": comparison.paired,
        "counts": [comparison.first_count, comparison.second_count],
        "failed": [comparison.first_failed, comparison.second_failed],
    }


@dataclass(frozen=True, kw_only=True)
class ComparedSettings(Difference):
    """The best setting compared with another one; the intervals are simultaneous."""

    setting: Annotated[str, "The best setting."]
    against: Annotated[str, "The other setting."]
    p_adjusted: Annotated[Number, "The p-value, adjusted for all pairs of settings."]


@dataclass(frozen=True, kw_only=True)
class LevelOfOption(Result):
    """One value of an option, averaged over all settings with this value."""

    value: str | float
    mean: Number
    difference: Annotated[Number, "The mean minus that over all values."]
    interval: Annotated[Interval, "The 95% interval of the difference."]


@dataclass(frozen=True, kw_only=True)
class OptionEffect(Result):
    """The main effect of an option on the metric."""

    parameter: str
    share: Annotated[float, "The share of the variance due to the option alone."]
    p_value: Annotated[float, "Of the permutation test of no effect."]
    p_adjusted: Annotated[float, "The p-value, adjusted for the options (Holm)."]
    count: Annotated[Count, "Starts that failed in no setting, which are used."]
    levels: list[LevelOfOption]


@dataclass(frozen=True, kw_only=True)
class CellMean(Result):
    """The mean of the metric where several options have given values."""

    values: Annotated[list[str | float], "A value of each of the options."]
    mean: Number


@dataclass(frozen=True, kw_only=True)
class VarianceSource(Result):
    """A source of the variance over settings and starts."""

    source: Annotated[str, "An option, options joined by x, starts, or rest."]
    parameters: Annotated[list[str], "The options; empty for starts and rest."]
    share: Annotated[Number, "Its share of the sum of squares; all add up to 1."]
    p_value: Annotated[Number, "Of no interaction; null for other sources."] = None
    means: Annotated[list[CellMean], "For two options, the mean of each cell."]


@dataclass(frozen=True, kw_only=True)
class Curve(Result):
    """The share of the starts of a setting that reach each threshold."""

    shares: list[float]
    low: Annotated[list[float], "The lower ends of the 95% intervals."]
    high: Annotated[list[float], "The upper ends of the 95% intervals."]


@dataclass(frozen=True, kw_only=True)
class Profile(Result):
    """The performance profile of each setting."""

    thresholds: list[float]
    settings: dict[str, Curve]


@dataclass(frozen=True, kw_only=True)
class Variance(Result):
    """The variance of the metric in the best setting, by its cause."""

    starts: Annotated[Number, "Between starts; null with fewer than two."]
    splits: Annotated[Number, "Between splits of the rows; null with one."]
    residual: Annotated[Number, "The rest; null with one split."]


@dataclass(frozen=True, kw_only=True)
class ExpectedBest(Result):
    """The expected best of a number of starts, with its 95% interval."""

    draws: Annotated[list[int], "The numbers of starts."]
    best: list[Number]
    low: list[Number]
    high: list[Number]


@dataclass(frozen=True, kw_only=True)
class StartsNeeded(Result):
    """How many starts a mean of a given precision needs."""

    precision: Annotated[float, "The half width of the mean's interval."]
    count: Annotated[int | None, "With the starts that fail; null if not known."]


@dataclass(frozen=True, kw_only=True)
class BestStart(Result):
    """The best start of the best setting, which `descents apply` uses."""

    setting: Annotated[str, "The best setting."]
    count: Annotated[Count, "Starts of the setting with a value of the metric."]
    failed: Annotated[Count, "Failed starts of the setting."]
    start: Annotated[Count, "The start with the least loss."]
    split: Annotated[Count, "The split on which it does best."]
    mean: Annotated[Number, "Its metric, the mean over the splits."]
    loss: Annotated[Number, "Its training loss on this split."]
    training: Annotated[Number, "Its training score on this split."]
    validation: Annotated[Number, "Its score on the held-out rows; null without any."]
    constant: Annotated[
        Number, "The score of the best constant prediction on the same held-out rows."
    ] = None
    epochs: Count


@dataclass(frozen=True, kw_only=True)
class NetworkResult(Result):
    """The result of `descents train`."""

    run: Run
    schema_version: SchemaVersion = SCHEMA_VERSION
    read: Annotated[list[str], "How the columns were read."]
    formats: Annotated[
        Formats | None, "How a text file writes numbers; null for other files."
    ] = None
    warnings: list[str]
    task: Annotated[str, ("enum", ("classification", "regression"))]
    why: Annotated[str, "Why it is this task."]
    target: TargetColumn
    rows: Annotated[Count, "Rows with a target."]
    rows_without_target: Count
    classes: Annotated[list[Any] | None, "The classes; null for regression."]
    features: Annotated[list[str], "The names of the features."]
    encoding: list[Encoding]
    hidden: Annotated[list[int], "The numbers of units of the hidden layers."]
    starts: Annotated[Count, "The number of starts of each setting."]
    splits: Annotated[Count, "The number of splits into training and held-out rows."]
    held_out_rows: Annotated[
        list[int], "The held-out rows of each split; empty if no rows are held out."
    ] = field(default_factory=list)
    quote: Annotated[
        str | None, "A sentence for a paper; null in runs of earlier versions."
    ] = None
    command: Annotated[str, "A command that repeats the run."] = ""
    epochs: Count
    batch_size: Annotated[int | None, "The rows of a step; null for all rows."]
    metric: Annotated[str, "The metric that compares starts and settings."]
    higher_is_better: bool
    success_threshold: Annotated[Number, "The value that counts as near the best."]
    resolution: Annotated[
        Number,
        "The smallest difference that the metric of a start can have: one row, over the "
        "splits; null if it has none.",
    ] = None
    constant: Annotated[
        Number,
        "The metric of the best constant prediction, the most frequent class or the mean "
        "of the training rows, as a mean over the splits; null if it has none.",
    ] = None
    settings: list[SettingResult]
    compared: Annotated[
        list[ComparedSettings], "The best setting compared with each other one."
    ]
    effects: Annotated[list[OptionEffect], "Which option matters."]
    sources: Annotated[
        list[VarianceSource],
        "How the options share the variance, interactions included.",
    ] = field(default_factory=list)
    profile: Profile
    variance: Variance
    expected_best: ExpectedBest
    starts_needed: StartsNeeded
    best: BestStart
    environment: Environment
    seconds: Number

    def called(self, setting: str) -> str:
        """Return what a setting is called in words: a lone one differs from no other."""
        return setting if len(self.settings) > 1 else "the network"


@dataclass(frozen=True, kw_only=True)
class EquivalenceOfSides(Result):
    """Whether two sides differ by less than a margin: two one-sided tests at level .05."""

    margin: float
    confidence: Annotated[
        float, "Of `interval`: 0.9, or more if there are more than two sides."
    ]
    interval: Annotated[
        Interval, "Of the difference; inside of the margin if the sides are equivalent."
    ]
    p_low: Annotated[Number, "One-sided, of a difference of -margin or less; adjusted."]
    p_high: Annotated[Number, "One-sided, of a difference of margin or more; adjusted."]
    equivalent: Annotated[bool, "Whether both p-values are below .05."]


@dataclass(frozen=True, kw_only=True)
class ComparedSides(Difference):
    """A side compared with the reference; the difference is its mean minus that of it.

    With more than two sides, the interval and `p_adjusted` are simultaneous.
    """

    side: Annotated[str, "The name of the side."]
    reference: Annotated[str, "The name of the side that it is compared with."]
    p_adjusted: Annotated[Number, "The p-value, adjusted for the comparisons made."]
    equivalence: Annotated[EquivalenceOfSides | None, "Null without a margin."] = None
    verdict: Annotated[
        str,
        (
            "enum",
            ("better", "worse", "equivalent", "not distinguished", "not compared"),
        ),
        "Of the side. Better or worse: the interval excludes 0 and `p_adjusted` is below "
        ".05. Equivalent, which comes first: within the margin. Not compared: a side has "
        "no value.",
    ]
    says: Annotated[str, "The comparison in a sentence."]


@dataclass(frozen=True, kw_only=True)
class SideOfComparison(Result):
    """The starts of a setting of a run, one of the sides that are compared."""

    name: Annotated[str, "The folder; with the setting, if the run has several."]
    run: Annotated[str, "The folder, as it was given."]
    setting: str
    mean: Annotated[Number, "The mean of the starts that did not fail."]
    interval: Annotated[Interval, "The 95% interval of the mean."]
    standard_deviation: Number
    starts: Count
    count: Annotated[Count, "Starts with a value."]
    failed: Count
    constant: Annotated[
        Number, "The metric of the best constant prediction; null if not known."
    ]


@dataclass(frozen=True, kw_only=True)
class OptionOfSides(Result):
    """An option in which the sides differ."""

    option: str
    values: Annotated[list[str], "The value of each side, in their order."]


@dataclass(frozen=True, kw_only=True)
class ComparisonResult(Difference):
    """The result of `descents compare`: settings of runs of `descents train`.

    The fields of a difference are those of the first of `differences`.
    """

    run: Run
    schema_version: SchemaVersion = SCHEMA_VERSION
    answer: Annotated[str, "The result in a sentence."]
    quote: Annotated[str, "A sentence for a paper."]
    runs: Annotated[list[str], "The folder of each side."]
    settings: Annotated[list[str], "The setting of each side."]
    metric: str
    higher_is_better: bool
    means: Annotated[list[Number], "The mean of each over starts that did not fail."]
    starts: Annotated[list[int], "The number of starts of each."]
    constants: Annotated[
        list[Number], "The metric of the best constant prediction; null if not known."
    ]
    sides: Annotated[list[SideOfComparison], "What is compared, in the given order."]
    reference: Annotated[str, "The side with which the others are compared."]
    reference_is: Annotated[
        str,
        ("enum", ("given", "the best", "the second")),
        "Why it is the reference: --against, or the best of more than two sides.",
    ]
    margin: Annotated[Number, "The margin of equivalence; null without one."]
    how: Annotated[str, "Which intervals and tests were used, and why."]
    differences: Annotated[
        list[ComparedSides], "Each other side compared with the reference."
    ]
    resolution: Annotated[
        Number, "The smallest difference that the metric of a start can have, or null."
    ] = None
    options: Annotated[
        list[OptionOfSides], "The options in which the sides differ, and their tables."
    ]
    warnings: list[str]
    notes: list[str]
    environment: Environment
    seconds: Number

    @property
    def paired_side(self) -> str | None:
        """The first side that is compared start by start; None if there is none."""
        return next((one.side for one in self.differences if one.paired), None)
