"""The warnings of `descents train`."""

from __future__ import annotations

from descents.networks.cautions import (
    constant_target,
    undefined_sentences,
    untested,
)
from descents.networks.constants import NOTHING_LEARNED, Unbeaten
from descents.networks.fitted import unbeaten_of_all
from descents.networks.sweep_result import SweepResult, loss_of
from descents.runs.network_options import NetworkOptions
from descents.runs.network_rows import Prepared
from descents.statistics.simultaneous import FEWEST_FLIPPED
from descents.text import counted


def warnings_of(
    given: Prepared, options: NetworkOptions, study: SweepResult
) -> list[str]:
    """Return all warnings about the rows, the options and the starts."""
    found = []
    if given.without_target:
        were = "was" if given.without_target == 1 else "were"
        found.append(
            f"{counted(given.without_target, 'row')} without a target {were} left out"
        )
    if given.single:
        count = counted(len(given.single), "class", "classes")
        found.append(
            f"{count} of one row alone ({', '.join(given.single)}): what is learned from "
            "such a row is not tested on another row"
        )
    found += _cautions(given, options, study)
    if "lbfgs" in options.optimizers:
        unused = [
            f"--{name}"
            for name, used in (
                ("batch-size", isinstance(options.batch_size, int)),
                ("dropout", options.dropout > 0),
            )
            if used
        ]
        if unused:
            found.append(
                f"lbfgs uses all rows and units at every step, so it ignored "
                f"{' and '.join(unused)}"
            )
    found += [*_undefined(study, options), *study.warnings()]
    return [*found, *_few_starts(study)]


def hopeless(options: NetworkOptions) -> str:
    """Return the message for the case that every start of every setting failed."""
    failure = "the loss of every start became infinite or NaN"
    if set(options.optimizers) == {"lbfgs"}:
        return f"{failure}; give another --init or another --optimizer"
    rates = ", ".join(f"{rate:g}" for rate in options.learning_rates)
    return f"{failure} with --learning-rate {rates}; give a smaller one"


def _undefined(study: SweepResult, options: NetworkOptions) -> list[str]:
    """Return warnings about undefined scores, and what ranks the settings instead."""
    model, warnings = study.best_model, []
    judge = loss_of(model)
    score = model.fitted_.settings.score
    names = [f"validation_{score}", f"training_{score}", options.metric]
    for name in dict.fromkeys(name for name in names if name is not None):
        if name not in model.metric_names():
            continue
        missing = model.undefined_splits(name)
        remedy = ""
        if missing == model.splits_ and name == (options.metric or model.metric_):
            remedy = (
                f"; settings are ranked by {judge} instead. Hold out more rows, or give "
                f"--metric {judge}"
            )
        sentences = undefined_sentences(name, missing, model.splits_, model.problem_)
        warnings += [sentence + remedy for sentence in sentences]
    return warnings


def _few_starts(study: SweepResult) -> list[str]:
    """Warn if settings are compared over too few starts."""
    counts = [found.first_count for _, found, _ in study.compared()]
    if not counts or min(counts) >= FEWEST_FLIPPED:
        return []
    fewest = min(counts)
    return [
        f"settings are compared over {counted(fewest, 'start')}: with fewer than "
        f"{FEWEST_FLIPPED} the intervals of their differences cover less often than 95%, "
        "about 92% if the spreads of settings differ, and no p-value can be below "
        f"{min(1.0, 2.0 ** (1 - fewest)):.2g}; give --starts {FEWEST_FLIPPED} or more"
    ]


def _cautions(
    given: Prepared, options: NetworkOptions, study: SweepResult
) -> list[str]:
    """Warn about classes that are not tested, and if no setting beats a constant."""
    fits = [model.fitted_ for model in study.models if model.fitted_.usable]
    names = [str(name) for name in given.target.classes or ()]
    first = fits[0]
    warnings = untested(first.problem, names, given.single)
    warnings += constant_target(first.problem, first.runs)

    def said(judged: Unbeaten) -> str:
        if judged.answer is None:
            return "the mean"
        return f"{names[judged.answer]!r}, the most frequent class"

    record = unbeaten_of_all(fits, options.metric)
    if record is not None:
        remedy = "give more --epochs, or another --learning-rate"
        if record.better:
            remedy = f"{NOTHING_LEARNED}fewer --epochs or {_decay(options)}"
        elif record.answer is not None and not record.balanced:
            weights = "" if options.class_weight else "--class-weight balanced and "
            remedy = (
                "give more --epochs or another --learning-rate; for rare classes, try "
                f"{weights}--metric {record.rows}_balanced_accuracy or roc_auc"
            )
        warnings.append(record.sentence(said(record), remedy))
    fitted = study.best_model.fitted_
    if fitted.usable and (record is None or record.better):
        best = fitted.best_unbeaten(options.metric)
        if best is not None:
            start = fitted.best // fitted.splits
            name = f" of {study.names[study.best]}" if len(study.names) > 1 else ""
            which = f"start {start}{name}, which 'descents apply' uses,"
            early = "" if options.early_stopping else "--early-stopping, "
            remedy = f"give {early}{_decay(options)} or more rows"
            warnings.append(f"{best.sentence_of_best(which, said(best))}; {remedy}")
    return warnings


def _decay(options: NetworkOptions) -> str:
    """Return the advice to let weights decay, or to let them decay faster."""
    return "a larger --weight-decay" if options.weight_decay else "--weight-decay"
