"""The page of `descents reproduce`: what it says first, its figures and its starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from descents.pages import figures, marks, report_figures
from descents.pages.answers import Alert, Answer, Tile
from descents.pages.figures import Picture, Stored, new_figure
from descents.pages.kinds import Kind
from descents.pages.starts import StartsTable
from descents.plots.axes import BLUE, RED
from descents.reproduction.claims import CheckResult
from descents.reproduction.result import NetworkSetting, ReproductionResult
from descents.runs.curves import drawn_starts
from descents.text import counted, joined

Run = Stored[ReproductionResult]

PUBLISHED_SETTING = "sum-uniform01-uniform01"
SPECIES = ("setosa", "versicolor", "virginica")


def _legend_below(figure: Figure) -> None:
    """Put the legend of the first axes below the figure, where it hides no point."""
    handles, names = figure.axes[0].get_legend_handles_labels()
    columns = 3 if len(names) == 6 else len(names)
    figure.legend(handles, names, loc="outside lower center", ncols=columns)


def _figure_1a(run: Run) -> Figure:
    figure, (ax,) = new_figure(4.8, 4.2)
    tensors = run.tensors
    report_figures.scatter_species(
        ax, tensors["left_singular_vectors"], tensors["species"], SPECIES
    )
    ax.set(xlabel="first column of U_t", ylabel="second column of U_t", aspect="equal")
    _legend_below(figure)
    return figure


def _figure_1b(run: Run) -> Figure:
    figure, (ax,) = new_figure(4.8, 4.2)
    report_figures.scatter_species(
        ax, run.tensors["U"], run.tensors["species"], SPECIES
    )
    ax.set(
        xlabel="first column of U-hat", ylabel="second column of U-hat", aspect="equal"
    )
    _legend_below(figure)
    return figure


def _figure_1c(run: Run) -> Figure:
    figure, axes = new_figure(8.6, 4.2, columns=2)
    tensors, fit = run.tensors, run.result.subspace.figure_1c_r2
    panels = (
        (
            "U_similar",
            f"by a rotation with one scale: R² {fit.rotation_with_one_scale:.3f}",
        ),
        ("U_aligned", f"by a linear map: R² {fit.linear_map:.8f}"),
    )
    for ax, (name, title) in zip(axes, panels, strict=True):
        report_figures.scatter_species(
            ax,
            tensors["left_singular_vectors"],
            tensors["species"],
            SPECIES,
            hollow=True,
            suffix=", U_t",
        )
        report_figures.scatter_species(
            ax, tensors[name], tensors["species"], SPECIES, suffix=", U-hat"
        )
        ax.set(xlabel="first column", title=title, aspect="equal")
    axes[0].set_ylabel("second column")
    _legend_below(figure)
    return figure


def _part(run: Run, part: str, column: str, setting: str = "") -> np.ndarray:
    chosen = run.rows["part"] == part
    if setting:
        chosen &= run.rows["setting"] == setting
    values: np.ndarray = run.rows[column][chosen]
    return values


def _figure_gaps(run: Run) -> Figure:
    figure, (ax,) = new_figure(5.6, 3.6)
    report_figures.gaps(
        ax, _part(run, "factorization", "gap"), run.result.factorization.gap
    )
    return figure


def _published(run: Run) -> list[float]:
    return [row.training_accuracy for row in run.result.training.published]


def _figure_ten_starts(run: Run) -> Figure:
    figure, axes = new_figure(8.6, 4.2, columns=2)
    training = run.result.training
    chosen = (run.rows["part"] == "ten-starts") & (
        run.rows["setting"] == PUBLISHED_SETTING
    )
    starts = run.rows["start"][chosen]
    for ax, kind in zip(axes, ("training", "validation"), strict=True):
        name = f"{kind}_accuracy"
        values = run.rows[name][chosen]
        by_run = np.stack([values[starts == k] for k in np.unique(starts)], 1)
        marks = [
            [getattr(row, name) for row in rows]
            for rows in (training.published, training.ten_starts.witness.table)
        ]
        report_figures.runs_over_shuffles(ax, by_run, *marks)
        ax.set(xlabel=f"{kind} accuracy")
    axes[0].set_ylabel("run")
    _legend_below(figure)
    return figure


def _figure_ten_losses(run: Run) -> Figure:
    figure, (ax,) = new_figure(6.8, 4.2)
    line = run.result.diagnosis.threshold
    report_figures.few_loss_curves(
        ax,
        run.tensors["ten_recorded"],
        run.tensors["ten_history_loss"],
        np.array(_published(run)) < line,
    )
    return figure


def _figure_shuffles(run: Run) -> Figure:
    figure, (ax,) = new_figure(5.6, 3.6)
    failures = run.result.training.failures
    report_figures.failures_by_shuffle(
        ax, failures.by_shuffle, failures.fixed.share, failures.share
    )
    return figure


def _figure_settings(run: Run) -> Figure:
    figure, (ax,) = new_figure(6.8, 5.6)
    training = run.result.training
    rows = training.settings
    names = [f"{row.loss}, {row.weights}, {row.biases}" for row in rows]
    accuracies = [
        _part(run, "settings", "training_accuracy", name.replace(", ", "-"))
        for name in names
    ]
    possible = [row.p_adjusted >= training.level for row in rows]
    report_figures.settings(ax, names, accuracies, possible, _published(run))
    ax.set_title("loss, weights, biases; blue: not rejected by Table 1")
    return figure


def _fixed(run: Run) -> np.ndarray:
    """Return the rows of the fresh starts on the fixed shuffle."""
    return np.flatnonzero(run.rows["part"] == "table")


def _figure_accuracy(run: Run) -> Figure:
    figure, (ax,) = new_figure(6.8, 3.2)
    rows, line = _fixed(run), run.result.diagnosis.threshold
    values = run.rows["training_accuracy"][rows].astype(np.float64)
    x, height = figures.stacked(values)
    for chosen, color in ((values >= line, BLUE), (values < line, RED)):
        places = np.flatnonzero(chosen)
        marks.dots(ax, x[chosen], height[chosen], places, color, 3.4, 0.7)
    report_figures.mark_published(ax, _published(run), line)
    return figure


def _figure_losses(run: Run) -> Figure:
    figure, (ax,) = new_figure(5.2, 4.2)
    tensors = run.tensors
    losses, failed = tensors["history_loss"], tensors["failed"].astype(bool)
    chosen = drawn_starts(failed)
    for members, color in ((~failed, BLUE), (failed, RED)):
        places = chosen[members[chosen]]
        marks.curves(ax, tensors["recorded"], losses[:, places], places, color, 0.25)
    figures.loss_axes(ax, losses)
    ax.set(xlabel="epoch", ylabel="training loss", xlim=tensors["recorded"][[0, -1]])
    return figure


def _figure_epochs(run: Run) -> Figure:
    figure, (ax,) = new_figure(5.2, 4.2)
    diagnosis = run.result.diagnosis
    later = run.tensors["later_accuracy"]
    places = np.flatnonzero(run.tensors["failed"].astype(bool))
    epochs = np.asarray(diagnosis.epochs, dtype=np.float64)
    marks.curves(ax, epochs, later, places[: later.shape[1]], RED, 0.2)
    report_figures.later_accuracy(ax, diagnosis.epochs, later, diagnosis.threshold)
    return figure


def _says_gaps(run: Run) -> str:
    starts = run.result.factorization.starts
    if starts.gap_median is None:
        return "The gaps of the starts are not known."
    return (
        f"Half of the {starts.count} fresh starts are within {starts.gap_median:.2g} of the "
        "exact minimum after 1000 epochs."
    )


def _says_1c(run: Run) -> str:
    fit = run.result.subspace.figure_1c_r2
    return (
        "Figure 1c: U-hat (filled) mapped onto U_t (hollow), on the left by the best "
        f"rotation with one scale (R² {fit.rotation_with_one_scale:.3f}), on the right by "
        f"the best linear map (R² {fit.linear_map:.8f})."
    )


def _says_ten(run: Run) -> str:
    ten = run.result.training.ten_starts
    return (
        f"{ten.published_inside} of the 20 published values lie between the 5% and 95% "
        f"quantiles of their run over {ten.shuffles} shuffles."
    )


def _bad(run: Run) -> list[int]:
    """Return the published runs that failed."""
    line = run.result.diagnosis.threshold
    published = run.result.training.published
    return [row.start for row in published if row.training_accuracy < line]


def _says_ten_losses(run: Run) -> str:
    training, bad = run.result.training, _bad(run)
    ends = [row.loss or np.nan for row in training.ten_starts.witness.table]
    low = [ends[k] for k in bad]
    others = [end for k, end in enumerate(ends) if k not in bad]
    return (
        "The ten loss curves that the report left out, on the witness: runs "
        f"{', '.join(map(str, bad))} end at losses of {min(low):.0f} to {max(low):.0f}, the "
        f"others at {min(others):.0f} to {max(others):.0f}."
    )


def _says_settings(run: Run) -> str:
    training = run.result.training
    return (
        f"{len(training.chosen)} of {counted(len(training.settings), 'setting')} are "
        "not rejected by Table 1 (blue). Training accuracy over starts and shuffles; the "
        "red lines are the published values; loss, weights and biases name a setting."
    )


def _says_shuffles(run: Run) -> str:
    failures = run.result.training.failures
    fixed, shares = failures.fixed, failures.by_shuffle
    return (
        f"The share of failed starts depends on the shuffle: from {min(shares):.0%} to "
        f"{max([*shares, fixed.share]):.0%}. The fixed shuffle is number {fixed.place} of "
        f"{fixed.of}, counted from the easiest."
    )


def _says_accuracy(run: Run) -> str:
    result = run.result
    failed, of = result.diagnosis.failed, result.diagnosis.of
    fixed = result.training.failures.fixed
    return (
        f"{failed} of {of} starts end below {result.diagnosis.threshold} training accuracy "
        f"(red) on the fixed shuffle, number {fixed.place} of {fixed.of} from the easiest. "
        "Equal values are stacked; the black marks are the ten published runs."
    )


def _says_losses(run: Run) -> str:
    failed = run.tensors["failed"].astype(bool)
    drawn = len(drawn_starts(failed))
    which = (
        f"All {len(failed)} curves are drawn"
        if drawn == len(failed)
        else f"{drawn} of {len(failed)} curves are drawn, with every failed one"
    )
    ends = run.tensors["history_loss"][-1]
    known = np.isfinite(ends)
    middle = [
        float(np.median(ends[part & known]))
        for part in (failed, ~failed)
        if (part & known).any()
    ]
    medians = (
        f"failed starts (red) end at a median loss of {middle[0]:.3g}, the others at "
        f"{middle[1]:.3g}"
        if len(middle) == 2
        else "failed starts are red"
    )
    return f"On the fixed shuffle {medians}. {which}."


def _says_epochs(run: Run) -> str:
    diagnosis = run.result.diagnosis
    return (
        f"{diagnosis.recovered_fraction:.0%} of the {diagnosis.failed} failed starts "
        f"recover with up to {diagnosis.epochs[-1]} epochs; those below the dashed line "
        "count as failed."
    )


PICTURES: Mapping[str, Picture[ReproductionResult]] = {
    "figure-1a": Picture(
        _figure_1a,
        "Figure 1a: the first two columns of U_t, the left singular vectors, separate the "
        "species.",
    ),
    "figure-1b": Picture(
        _figure_1b,
        "Figure 1b: the two columns of U-hat, from gradient descent, separate them as well.",
    ),
    "figure-1c": Picture(_figure_1c, _says_1c, wide=True),
    "figure-gaps": Picture(_figure_gaps, _says_gaps),
    "figure-ten-starts": Picture(_figure_ten_starts, _says_ten, wide=True),
    "figure-ten-losses": Picture(_figure_ten_losses, _says_ten_losses),
    "figure-shuffles": Picture(_figure_shuffles, _says_shuffles),
    "figure-settings": Picture(_figure_settings, _says_settings, wide=True),
    "figure-accuracy": Picture(_figure_accuracy, _says_accuracy, wide=True),
    "figure-losses": Picture(_figure_losses, _says_losses),
    "figure-epochs": Picture(_figure_epochs, _says_epochs, needs="failures"),
}


def has(run: Run, need: str) -> bool:
    """Return whether any start failed, which the only such picture needs."""
    return bool(run.result.diagnosis.failed)


# What the page says first

SECTIONS = {
    "claims": "The six claims",
    "checks": "Published and obtained figures",
    "factorization": "Factorization: gradient descent compared with the exact answer",
    "ten": "The network: the ten published starts",
    "fresh": "The network: fresh starts in every setting",
    "why": "Why starts fail",
    "starts": "All starts on the fixed shuffle",
    "assumptions": "Assumptions",
    "paper": "For your paper",
    "again": "Run it again",
}

EVIDENCE = {
    1: ("figure-gaps", "See the gaps of all starts."),
    2: ("figure-1c", "See both maps."),
    3: ("factorization", "See the factorization."),
    4: ("figure-shuffles", "See the share of failed starts by shuffle."),
    5: ("why", "See the verdicts on failed starts."),
    6: ("figure-settings", "See the settings."),
}
"""The evidence of each claim: where it stands, and the text of the link."""


def _checks(run: Run) -> tuple[list[CheckResult], list[CheckResult]]:
    """Return the published losses, and the p-values of the tests of Table 1."""
    checks = run.result.checks
    losses = [check for check in checks if check.tolerance is not None]
    return losses, [check for check in checks if check.tolerance is None]


def _both_tests(run: Run) -> str:
    """Return how the test of fresh starts and that of the ten starts go together."""
    training = run.result.training
    fresh, ten = _names(training.chosen), training.ten_starts.settings
    rejected = _names([one for one in ten if one.rejected])
    text = (
        "The test in the section above uses the ten initial points of the report, this one "
        "only their distribution, so it is the weaker one. "
    )
    both = sorted(rejected & fresh)
    if not both:
        left = len(ten) - len(rejected)
        return f"{text}There, {left} of {len(ten)} settings are not rejected."
    return (
        f"{text}{counted(len(both), 'setting')} that this test does not reject "
        f"{'is' if len(both) == 1 else 'are'} rejected there: {'; '.join(both)}."
    )


def _names(settings: Sequence[NetworkSetting]) -> set[str]:
    """Return the settings in words."""
    return {
        f"{one.loss} of the cross-entropy, weights {one.weights}, biases {one.biases}"
        for one in settings
    }


def answer(run: Run) -> Answer:
    """Return the answer: how many of the claims hold, and the figures behind it."""
    result = run.result
    words = [claim.verdict for claim in result.claims]
    counts = {word: words.count(word) for word in dict.fromkeys(words)}
    order = ("supported", "supported with a correction", "not supported", "undecided")
    said = [
        f"{counts[word]} {'is' if counts[word] == 1 else 'are'} {word}"
        for word in order
        if word in counts
    ]
    losses, tests = _checks(run)
    met = sum(check.met for check in losses)
    passed = sum(check.met for check in tests)
    failures, starts = result.training.failures, result.factorization.starts
    sentence = (
        f"Of the {len(words)} claims of the report, {joined(said)}; {met} of "
        f"{len(losses)} published losses were obtained within their tolerance, and "
        f"{passed} of {len(tests)} tests do not reject that Table 1 comes from this code. "
        f"Both parts were run again on the real data, from {starts.count} starting points "
        "instead of one or ten."
    )
    gap = "not known" if starts.gap_median is None else f"{starts.gap_median:.1g}"
    tiles = [
        Tile(
            f"{met} of {len(losses)}",
            "published losses obtained within tolerance",
        ),
        Tile(
            gap,
            f"median gap to the exact minimum, over {counted(starts.count, 'start')}",
        ),
        Tile(
            f"{failures.share:.1%}",
            f"of fresh starts of the network fail (95% interval {failures.low:.1%} to "
            f"{failures.high:.1%}), over {counted(len(failures.by_shuffle), 'shuffle')}; on "
            f"the fixed one, number {failures.fixed.place} of {failures.fixed.of} from the "
            f"easiest, {failures.fixed.share:.1%}",
        ),
    ]
    alerts = [
        Alert(
            f"{check.figure}: {check.obtained:.8g} was obtained where {check.published:.8g} "
            "was published.",
            "checks",
            SECTIONS["checks"],
        )
        for check in result.checks
        if not check.met
    ]
    command = (
        f"descents reproduce --starts {result.run.starts} --seed {result.run.seed}"
    )
    title = "The report, re-run and judged"
    return Answer(title, sentence, tiles, alerts, SECTIONS, command)


def starts(run: Run) -> StartsTable:
    """Return the table of the fresh starts on the fixed shuffle."""
    rows = _fixed(run)
    table = StartsTable(len(rows), metric="training_accuracy", higher=True)
    every = run.rows
    table.add("start", "start", every["start"][rows].astype(np.int64))
    for name in ("training_accuracy", "validation_accuracy"):
        table.add(name, name.replace("_", " "), every[name][rows], places=2)
    table.add("loss", "training loss", every["loss"][rows])
    table.add("verdict", "verdict", every["verdict"][rows], filtered=True)
    for name in ("dead_units", "gradient_norm"):
        table.add(name, name.replace("_", " "), every[name][rows])
    table.tip = ["start", "training_accuracy", "verdict"]
    return table


def facts(run: Run) -> dict[str, object]:
    """Return what the template needs besides the result."""
    losses, tests = _checks(run)
    return {
        "evidence": {
            number: {"link": link, "says": says}
            for number, (link, says) in EVIDENCE.items()
        },
        "bad": ", ".join(map(str, _bad(run))),
        "losses": losses,
        "tests": tests,
        "both_tests": _both_tests(run),
        "vanished": run.result.claims[4].evidence.get("vanished_share"),
    }


KIND = Kind(
    ReproductionResult,
    PICTURES,
    answer,
    starts,
    facts,
    has,
    files=("figure-1a", "figure-1b", "figure-1c"),
)
