"""`descents compare`: compare the starts of stored runs of `descents train`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from descents.errors import Complaints
from descents.networks.fitted import generator
from descents.networks.sweep_result import compared_starts
from descents.runs.compared_sides import (
    Side,
    option_differences,
    reference_of,
    sides_of,
    starts_in_words,
)
from descents.runs.comparison_notes import notes_of, warnings_of
from descents.runs.comparison_words import Judged, answer_of
from descents.runs.quotes import quote_of_comparison
from descents.runs.request import environment
from descents.runs.results import Run
from descents.runs.train_result import (
    ComparedSides,
    ComparisonResult,
    Difference,
    EquivalenceOfSides,
    SideOfComparison,
    facts_of,
)
from descents.statistics.confidence import bonferroni_difference
from descents.statistics.differences import Comparison
from descents.statistics.margins import equivalence
from descents.statistics.metrics import higher_is_better
from descents.statistics.simultaneous import simultaneous_differences
from descents.statistics.summaries import summary_of_starts
from descents.storage.run_folders import RESULT, ROWS, RunFolder
from descents.text import decimals_of, rounded
from descents.validation import real_number


@dataclass(frozen=True)
class ComparisonOptions:
    """The options of `descents compare`.

    Attributes
    ----------
    metric : str or None
        By default that of the runs.
    settings : tuple of str
        SETTING or RUN:SETTING; by default the best setting of each run.
    against : str or None
        The side with which the others are compared; by default the second of two sides,
        and the best of several.
    margin : float or None
        The margin of equivalence; without one it is not tested.
    """

    metric: str | None = None
    settings: tuple[str, ...] = ()
    against: str | None = None
    margin: float | None = None


@dataclass(frozen=True)
class ComparedRuns:
    """What `compare` returns: the result, and the rows that are stored beside it."""

    result: ComparisonResult
    rows: dict[str, np.ndarray]

    def write(self, folder: RunFolder) -> None:
        """Write everything but the page into a run folder."""
        folder.write_table(ROWS, self.rows)
        folder.write_json(RESULT, self.result)


def compare_runs(
    first: str | Path, second: str | Path, metric: str | None = None
) -> ComparisonResult:
    """Compare the best settings of two stored runs; see `compare`."""
    return compare([first, second], ComparisonOptions(metric)).result


def compare(
    runs: Sequence[str | Path], options: ComparisonOptions | None = None
) -> ComparedRuns:
    """Compare settings of stored runs of `descents train`.

    Sides are compared start by start if their runs have the same table, target, number of
    starts, seed and validation.

    Parameters
    ----------
    runs : sequence of paths
        The folders of the runs.
    options : ComparisonOptions, optional

    Raises
    ------
    RunFolderError
        If a folder contains no complete run of train.
    InvalidValueError
        If a setting, the metric or the reference is unknown, or there is one side only.
    """
    begun = time.perf_counter()
    options = options or ComparisonOptions()
    complaints = Complaints()
    found = complaints.attempt(sides_of, runs, options.settings, options.metric)
    margin = options.margin
    if margin is not None:
        margin = complaints.attempt(
            lambda: real_number("--margin", margin, 0, strict=True)
        )
    higher = place = None
    if found is not None:
        higher = complaints.attempt(higher_is_better, found[1])
        place = complaints.attempt(
            reference_of, found[0], options.against, bool(higher)
        )
    complaints.raise_any()
    sides, metric = found
    assert higher is not None and place is not None  # noqa: S101, PT018  see raise_any
    comparing = _Comparing(sides, metric, higher, place, options.against, margin)
    tables = dict.fromkeys(side.result.run.table for side in sides)
    hashes = {side.result.run.sha256 for side in sides}
    run = Run(
        command="compare",
        table=", ".join(tables),
        sha256=hashes.pop() if len(hashes) == 1 else "",
        options={"runs": [str(run) for run in runs], **vars(options)},
        reading={},
    )
    return ComparedRuns(comparing.result(run, begun), _rows(sides))


def _rows(sides: Sequence[Side]) -> dict[str, np.ndarray]:
    """Return a row for each side and start."""
    sizes = [len(side.values) for side in sides]

    def repeated(texts: Sequence[str]) -> np.ndarray:
        return np.repeat(np.array(texts, dtype=object), sizes)

    return {
        "side": repeated([side.name for side in sides]),
        "run": repeated([side.run for side in sides]),
        "setting": repeated([side.setting for side in sides]),
        "start": np.concatenate([np.arange(size) for size in sizes]),
        "value": np.concatenate([side.values for side in sides]),
        "failed": np.concatenate([side.failed for side in sides]),
    }


@dataclass(frozen=True)
class _Comparing:
    """Sides, and how they are compared with one of them."""

    sides: Sequence[Side]
    metric: str
    higher: bool
    reference: int
    against: str | None
    margin: float | None

    @property
    def others(self) -> list[int]:
        """The positions of the sides that are compared with the reference."""
        return [k for k in range(len(self.sides)) if k != self.reference]

    @property
    def tests(self) -> int:
        """The number of comparisons: with a reference chosen by its values, all pairs."""
        count = len(self.sides)
        return count - 1 if self.against or count == 2 else count * (count - 1) // 2

    @property
    def resolution(self) -> float | None:
        """The smallest difference that the metric of a start can have, if it is known."""
        steps = [
            side.result.resolution if self.metric == side.result.metric else None
            for side in self.sides
        ]
        known = [step for step in steps if step is not None]
        return min(known) if len(known) == len(steps) else None

    @property
    def paired(self) -> bool:
        """Whether all sides are compared start by start."""
        return len({side.design for side in self.sides}) == 1

    @property
    def reference_is(self) -> str:
        """Why the reference is one."""
        if self.against is not None:
            return "given"
        return "the second" if len(self.sides) == 2 else "the best"

    def result(self, run: Run, begun: float) -> ComparisonResult:
        """Return the result of the comparison."""
        described = [self._described(side) for side in self.sides]
        differences = self._differences()
        reference = described[self.reference]
        kept = {
            one.name: getattr(differences[0], one.name) for one in fields(Difference)
        }
        result = ComparisonResult(
            run=run,
            answer=answer_of(
                differences,
                reference.name,
                rounded(
                    reference.mean, decimals_of(reference.interval, self.resolution)
                ),
                self.reference_is,
                self.metric,
                self.margin,
            ),
            quote="",
            **kept,
            runs=[side.run for side in self.sides],
            settings=[side.setting for side in self.sides],
            metric=self.metric,
            higher_is_better=self.higher,
            means=[one.mean for one in described],
            starts=[one.starts for one in described],
            constants=[one.constant for one in described],
            sides=described,
            reference=reference.name,
            reference_is=self.reference_is,
            margin=self.margin,
            how=self._how(differences),
            differences=differences,
            resolution=self.resolution,
            options=option_differences(self.sides),
            warnings=warnings_of(self.sides, self.metric, differences),
            notes=notes_of(self.sides),
            environment=environment(),
            seconds=time.perf_counter() - begun,
        )
        return replace(result, quote=quote_of_comparison(result))

    def _described(self, side: Side) -> SideOfComparison:
        """Return a side with the statistics of its starts."""
        found = summary_of_starts(side.values, side.failed, generator())
        same = self.metric == side.result.metric
        return SideOfComparison(
            name=side.name,
            run=side.run,
            setting=side.setting,
            mean=side.mean,
            interval=[found.low, found.high],
            standard_deviation=found.standard_deviation,
            starts=len(side.values),
            count=found.count,
            failed=found.failed,
            constant=side.result.constant if same else None,
        )

    def _differences(self) -> list[ComparedSides]:
        """Compare each other side with the reference."""
        joint = None
        if len(self.sides) > 2 and self.paired:
            values = np.stack([side.values for side in self.sides])
            joint = simultaneous_differences(values, generator=generator())
        differences = []
        for place in self.others:
            comparison, pair = self._pair(place)
            p_adjusted = comparison.p_value
            if joint is not None:
                low, high, p_value = (
                    float(table[place, self.reference])
                    for table in (joint.low, joint.high, joint.p_value)
                )
                p_adjusted = float(np.fmax(p_value, p_adjusted))
                comparison = replace(comparison, low=low, high=high)
            elif len(self.sides) > 2 and np.isfinite(comparison.low):
                low, high, p_value = bonferroni_difference(
                    *pair, paired=comparison.paired, tests=self.tests
                )
                p_adjusted = min(1.0, max(p_value, self.tests * p_adjusted))
                comparison = replace(comparison, low=low, high=high)
            differences.append(self._judged(place, comparison, p_adjusted, pair))
        return differences

    def _pair(self, place: int) -> tuple[Comparison, tuple[np.ndarray, np.ndarray]]:
        """Compare a side with the reference; also return the values that are used."""
        one, two = self.sides[place], self.sides[self.reference]
        paired = one.design == two.design
        comparison = compared_starts(
            one.values,
            two.values,
            paired=paired,
            higher_is_better=self.higher,
            failed=(one.failed, two.failed),
        )
        if not paired:
            return comparison, (one.finite, two.finite)
        both = np.isfinite(one.values) & np.isfinite(two.values)
        return comparison, (one.values[both], two.values[both])

    def _judged(
        self,
        place: int,
        comparison: Comparison,
        p_adjusted: float,
        values: tuple[np.ndarray, np.ndarray],
    ) -> ComparedSides:
        """Return a comparison with its verdict, and the test of equivalence."""
        found = Difference(**facts_of(comparison))
        test = None
        if self.margin is not None and comparison.first_count:
            told = equivalence(
                *values, self.margin, paired=comparison.paired, tests=self.tests
            )
            test = EquivalenceOfSides(
                margin=self.margin,
                confidence=1 - 2 * told.level / told.tests,
                interval=[told.low, told.high],
                p_low=told.p_low,
                p_high=told.p_high,
                equivalent=told.equivalent,
            )
        p_value = p_adjusted if np.isfinite(p_adjusted) else None
        names = self.sides[place].name, self.sides[self.reference].name
        judged = Judged(
            *names, self.metric, self.higher, found, p_value, test, self.resolution
        )
        return ComparedSides(
            **vars(found),
            side=names[0],
            reference=names[1],
            p_adjusted=p_value,
            equivalence=test,
            verdict=judged.verdict,
            says=judged.says,
        )

    def _how(self, differences: Sequence[ComparedSides]) -> str:
        """Return which intervals and tests were used, and why."""
        if len(self.sides) == 2:
            (one,) = differences
            starts = starts_in_words(one.counts)
            how = (
                f"The sides share table, seed and held-out rows, so they are compared "
                f"start by start, over the {starts} that failed in neither: Student's "
                "interval of the mean difference, and a permutation test that flips the "
                "signs of differences"
                if one.paired
                else f"The sides do not share table, seed, held-out rows and number of "
                f"starts, so they are compared as two samples, over the {starts} that did "
                "not fail: Welch's interval, and a permutation test"
            )
        elif self.paired:
            how = (
                "All sides share table, seed and held-out rows, so they are compared start "
                "by start. The intervals are simultaneous: those of all pairs of sides "
                "cover at once with a probability of 95% (Tukey's procedure, by "
                "resampling), and p-values are adjusted in the same way"
            )
        else:
            how = (
                "Not all sides share table, seed, held-out rows and number of starts: those "
                "that do are compared start by start, others as two samples. The intervals "
                "are Student's and Welch's, so wide that all cover at once with a "
                f"probability of at least 95% (Bonferroni's rule for {self.tests} "
                "comparisons), and p-values are multiplied by this number"
            )
        if self.margin is not None:
            rule = ""
            if self.tests > 1:
                rule = f", adjusted by Bonferroni's rule for {self.tests} comparisons"
            how += (
                f". Equivalence within {self.margin:g} is shown if two one-sided tests "
                f"reject differences of that size at level .05{rule} (Schuirmann 1987)"
            )
        return f"{how}."
