"""The result of `descents reproduce`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from descents.reproduction.claims import (
    VERDICTS,
    CheckResult,
    Evidence,
    PublishedReport,
)
from descents.storage.results import (
    SCHEMA_VERSION,
    Count,
    Number,
    Result,
    SchemaVersion,
)

_FIVE = ("minItems", 5), ("maxItems", 5)
_TEN = ("minItems", 10), ("maxItems", 10)
Quantiles = Annotated[list[float], *_FIVE, "5, 25, 50, 75 and 95% quantiles."]


@dataclass(frozen=True, kw_only=True)
class ReproductionRun(Result):
    """The identity of a run: its command and its options."""

    command: Annotated[str, ("const", "reproduce")]
    starts: Count
    seed: Count
    device: str


def identity(starts: int, seed: int, device: str) -> ReproductionRun:
    """Return the identity of a run."""
    return ReproductionRun(command="reproduce", starts=starts, seed=seed, device=device)


@dataclass(frozen=True, kw_only=True)
class Reference(Result):
    """The best known loss of the factorization."""

    kind: Annotated[str, ("enum", ("exact", "bound", "best found"))]
    says: str


@dataclass(frozen=True, kw_only=True)
class PublishedLosses(Result):
    """The losses that the report gives."""

    gd_loss: float
    truncated_svd_loss: float


@dataclass(frozen=True, kw_only=True)
class SheetLosses(PublishedLosses):
    """The losses as the exercise sheet computes them, in float32."""

    gd_loss_after_24_draws: float


@dataclass(frozen=True, kw_only=True)
class FactorizationStarts(Result):
    """The fresh starts of the factorization."""

    count: Count
    gap_median: Number
    gap_max: Number
    best: Annotated[int, "The start with the least loss."]
    statuses: Annotated[dict[str, int], "How many starts ended how."]
    below_reference: Annotated[
        Count, "Starts below the exact minimum by more than rounding: a bug."
    ]


@dataclass(frozen=True, kw_only=True)
class FactorizationResult(Result):
    """The first half of the report: squared errors, evaluated in float64."""

    gd_loss: Annotated[float, "Of the report's run, with a fresh generator."]
    gd_loss_after_24_draws: Annotated[float, "Of the same run after 24 spent draws."]
    truncated_svd_loss: float
    gap: Annotated[Number, "(loss - reference) / reference of the report's run."]
    gap_after_24_draws: Number
    eckart_young: Annotated[
        float, "The exact minimum, from the trailing singular values."
    ]
    reference: Reference
    float32_as_in_the_sheet: SheetLosses
    published: PublishedLosses
    starts: FactorizationStarts


@dataclass(frozen=True, kw_only=True)
class FigureFit(Result):
    """R² of the two panels of figure 1c, which map U-hat onto U_t."""

    rotation_with_one_scale: float
    linear_map: float


@dataclass(frozen=True, kw_only=True)
class SubspaceResult(Result):
    """U_t, the left singular vectors, compared with U-hat of gradient descent."""

    principal_angles_rad: Annotated[list[float], "Between their column spaces."]
    similarity_r2: Annotated[float, "R² of the best rotation with one scale."]
    linear_r2: Annotated[float, "R² of the best linear map."]
    linear_singular_values: Annotated[list[float], "Of the best linear map."]
    figure_1c_r2: FigureFit


@dataclass(frozen=True, kw_only=True)
class StartAccuracies(Result):
    """The accuracies of one start."""

    start: Count
    training_accuracy: float
    validation_accuracy: float


@dataclass(frozen=True, kw_only=True)
class WitnessStart(StartAccuracies):
    """One of the ten starts on the witness shuffle."""

    loss: Number


@dataclass(frozen=True, kw_only=True)
class NetworkSetting(Result):
    """How the network is initialized and trained, as far as the report leaves it open."""

    loss: Annotated[str, ("enum", ("sum", "mean"))]
    weights: Annotated[str, ("enum", ("uniform01", "normal", "kaiming", "xavier"))]
    biases: Annotated[str, ("enum", ("zero", "uniform01"))]


@dataclass(frozen=True, kw_only=True)
class AccuracyVariance(Result):
    """The variance of the training accuracy, by its cause."""

    starts: Annotated[float, "Within a shuffle."]
    splits: Annotated[float, "Between shuffles."]


@dataclass(frozen=True, kw_only=True)
class Power(Result):
    """How often the test of a setting rejects tables of the other settings."""

    mean: float
    least: float


@dataclass(frozen=True, kw_only=True)
class SettingResult(NetworkSetting):
    """The fresh starts of one setting over the shuffles."""

    starts: Count
    training_accuracy_mean: float
    training_accuracy_quartiles: Annotated[
        list[float], ("minItems", 3), ("maxItems", 3)
    ]
    validation_accuracy_mean: float
    failed_share: float
    variance: AccuracyVariance
    p_value: Annotated[float, "Of Table 1, if it comes from this setting."]
    p_adjusted: Annotated[float, "Adjusted for the settings (Holm)."]
    power: Power
    statuses: Annotated[dict[str, int], "How many starts ended how."]


@dataclass(frozen=True, kw_only=True)
class FixedShuffle(Result):
    """The share of failed starts on the shuffle of the diagnosis."""

    share: float
    low: Annotated[float, "The lower end of Wilson's 95% interval."]
    high: Annotated[float, "The upper end of the interval."]
    place: Annotated[int, "Its rank among the shuffles, from the easiest."]
    of: int


@dataclass(frozen=True, kw_only=True)
class Failures(Result):
    """The share of failed starts of the most likely setting."""

    share: float
    low: Annotated[float, "The lower end of the 95% interval over shuffles."]
    high: Annotated[float, "The upper end of the interval."]
    by_shuffle: list[float]
    fixed: FixedShuffle


@dataclass(frozen=True, kw_only=True)
class RunOverShuffles(Result):
    """One of the ten published starts over the shuffles."""

    start: Count
    failed_share: float
    training_accuracy_mean: float
    training_accuracy_quantiles: Quantiles
    training_share_at_most_published: Annotated[
        float, "The share of shuffles on which it is at most as good as published."
    ]
    validation_accuracy_mean: float
    validation_accuracy_quantiles: Quantiles
    validation_share_at_most_published: float


@dataclass(frozen=True, kw_only=True)
class TestResult(Result):
    """One test of Table 1 given the ten starts."""

    p_value: float
    p_adjusted: Annotated[float, "Adjusted for the three tests (Holm)."]
    monte_carlo_error: float


@dataclass(frozen=True, kw_only=True)
class TableTests(Result):
    """The tests of Table 1 given the ten starts."""

    joint: Annotated[TestResult, "Of the whole table."]
    pattern: Annotated[TestResult, "Of which runs fail."]
    shortfall: Annotated[TestResult, "Of how far they fail."]


@dataclass(frozen=True, kw_only=True)
class Alignment(Result):
    """Whether the rows of Table 1 line up with the ten starts."""

    correlation: Number
    p_value: float
    permutations: Count


@dataclass(frozen=True, kw_only=True)
class VarianceShares(Result):
    """The shares of a variance; null if it is 0."""

    starts: Number
    shuffles: Number
    both: Number


@dataclass(frozen=True, kw_only=True)
class CrossedVariance(Result):
    """The variance of an accuracy over starts and shuffles, by its cause."""

    starts: float
    shuffles: float
    both: Annotated[float, "The interaction of start and shuffle."]
    shares: VarianceShares


@dataclass(frozen=True, kw_only=True)
class AccuracyVariances(Result):
    """The variance of each accuracy of the ten starts."""

    training: CrossedVariance
    validation: CrossedVariance


@dataclass(frozen=True, kw_only=True)
class ClassOrders(Result):
    """How failures depend on the class that appears first, and gets index 0."""

    failed_share_by_first_class: dict[str, Number]
    rows: Annotated[
        Count, "All units are off on at least this many rows: equal logits."
    ]
    failed_with_equal_logits_share: Number
    others_with_equal_logits_share: Number


@dataclass(frozen=True, kw_only=True)
class TenStartsSetting(NetworkSetting):
    """The ten starts of one setting over the shuffles."""

    shuffles: Count
    training_accuracy_mean: float
    failed_share: float
    p_value: Annotated[float, "Of the whole Table 1."]
    monte_carlo_error: float
    p_adjusted: Annotated[float, "Adjusted for the settings (Holm)."]
    rejected: bool
    p_pattern: float
    p_shortfall: float
    power: Annotated[
        Number, "How often the test of the published setting rejects this one."
    ]


@dataclass(frozen=True, kw_only=True)
class NearestShuffle(Result):
    """The random shuffle that comes nearest to Table 1."""

    split: Count
    distance: Annotated[float, "In percentage points, over 20 numbers."]


@dataclass(frozen=True, kw_only=True)
class WitnessSearch(Result):
    """The search that found the witness."""

    distance: float
    script: str
    seed: Count
    rounds: Count
    chains: Count
    tries: Count
    proposals: Count
    tables_trained: Count
    seconds: float


@dataclass(frozen=True, kw_only=True)
class WitnessResult(Result):
    """The ten starts on the witness, a shuffle under which they come near Table 1."""

    table: Annotated[list[WitnessStart], *_TEN]
    distance: Annotated[float, "From Table 1, in percentage points."]
    equal: Annotated[Count, "How many of the 20 numbers are those of Table 1."]
    replayed_as_stored: Annotated[
        bool, "Whether the accuracies are those that the search found."
    ]
    class_indices: Annotated[list[int], ("minItems", 3), ("maxItems", 3)]
    stored: WitnessSearch


@dataclass(frozen=True, kw_only=True)
class TenStartsResult(Result):
    """The ten published starts, trained on many shuffles."""

    shuffles: Count
    runs: Annotated[list[RunOverShuffles], *_TEN]
    failed_share: float
    failed_runs_quantiles: Quantiles
    published_pattern_share: Annotated[
        float, "The share of shuffles on which exactly the published runs fail."
    ]
    published_inside: Annotated[
        Count, "Published values between the 5% and 95% quantiles of their run."
    ]
    tests: TableTests
    alignment: Alignment
    variance: AccuracyVariances
    classes: ClassOrders
    settings: Annotated[list[TenStartsSetting], ("minItems", 8), ("maxItems", 8)]
    settings_say: str
    nearest_shuffle: NearestShuffle
    witness: WitnessResult


@dataclass(frozen=True, kw_only=True)
class TrainingResult(Result):
    """The second half of the report: the network, from fresh and from published starts."""

    published: Annotated[list[StartAccuracies], "Table 1."]
    table: Annotated[list[StartAccuracies], "Our starts 0 to 9."]
    table_setting: Annotated[NetworkSetting, "The most likely setting."]
    table_split: Annotated[Count, "The fixed shuffle."]
    failures: Failures
    starts: Annotated[Count, "Starts on the fixed shuffle."]
    splits: Count
    level: float
    settings: Annotated[list[SettingResult], ("minItems", 16), ("maxItems", 16)]
    chosen: Annotated[list[NetworkSetting], "The settings that are not rejected."]
    power_says: str
    ten_starts: TenStartsResult


@dataclass(frozen=True, kw_only=True)
class FailedAndOthers(Result):
    """A statistic of the failed starts, and of the others."""

    failed: Number
    others: Number


@dataclass(frozen=True, kw_only=True)
class DiagnosisResult(Result):
    """Why starts failed on the fixed shuffle."""

    failed: Count
    of: Count
    threshold: Annotated[float, "A start with a lower training accuracy failed."]
    epochs: list[int]
    verdicts: Annotated[dict[str, int], "Failed starts with each verdict."]
    rules: Annotated[dict[str, str], "What each verdict means."]
    recovered_fraction: Number
    median_training_accuracy: Annotated[list[Number], "After each of `epochs`."]
    undecided_with_dead_units_later: Count
    negative_curvature_fraction: Number
    smallest_eigenvalue_median: Number
    layer_shares_median: Annotated[
        dict[str, Number], "The share of each layer in the squared gradient norm."
    ]
    median_gradient_norm: FailedAndOthers
    mean_dead_units: FailedAndOthers


@dataclass(frozen=True, kw_only=True)
class ClaimResult(Result):
    """A claim of the report, judged by its rule."""

    number: int
    claim: str
    rule: str
    verdict: Annotated[str, ("enum", VERDICTS)]
    finding: str
    evidence: Evidence


@dataclass(frozen=True, kw_only=True)
class ReproductionEnvironment(Result):
    """What computed a result."""

    versions: dict[str, str]
    dtype: str
    evaluation_dtype: str
    device: str
    threads: int
    torch_threads: int
    machine: str
    seed: Count
    processor: Annotated[
        str | None, "The kind of processor; null in runs of earlier versions."
    ] = None
    compiled: Annotated[
        bool | None, "Whether code in C was used, where there is some."
    ] = None


@dataclass(frozen=True, kw_only=True)
class ReproductionResult(Result):
    """The result of `descents reproduce`."""

    run: ReproductionRun
    schema_version: SchemaVersion = SCHEMA_VERSION
    report: PublishedReport
    assumptions: list[str]
    factorization: FactorizationResult
    subspace: SubspaceResult
    training: TrainingResult
    diagnosis: DiagnosisResult
    claims: Annotated[list[ClaimResult], ("minItems", 6), ("maxItems", 6)]
    checks: list[CheckResult]
    environment: ReproductionEnvironment
    seconds: float
