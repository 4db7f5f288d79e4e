"""How the starts of a setting ended, and why they did not reach the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

import numpy as np

from descents.diagnosis.diagnosis import reached_by_the_best
from descents.diagnosis.verdicts import Diagnosis
from descents.errors import RunFolderError
from descents.networks.fitted import Fitted
from descents.runs.train_result import (
    Ends,
    Example,
    SettingResult,
)
from descents.storage.damage import check_facts
from descents.storage.files import read_json, write_bytes
from descents.storage.results import of_json
from descents.storage.values import json_text

WORTH_A_VERDICT = 0.1
"""Verdicts mean little if the best start gains less than this share of what can be gained
over no learning."""


class StageFacts(TypedDict):
    """The verdicts of a setting, as a run that is not finished stores them."""

    starts: list[int]
    words: list[str]
    facts: dict[str, object]


LONGER = 10
"""Diagnosed starts are trained for this many times the epochs."""


def diagnosed(
    fitted: Fitted,
    most: int,
    seconds: float | None = None,
    threads: int | None = None,
    stage: Path | None = None,
) -> tuple[Fitted, Ends]:
    """Return a fit with its verdicts, how many starts have each, and an example of each.

    A start on several splits counts once per split. Of the starts below the threshold,
    the first `most` are diagnosed; each is trained for ten times its epochs.

    Parameters
    ----------
    fitted : Fitted
    most : int
    seconds : float, optional
        The limit on wall time.
    threads : int, optional
        How many chunks of starts run in parallel threads.
    stage : Path, optional
        The file where the verdicts are stored, and are read from if it exists.
    """
    if stage is not None and stage.exists():
        try:
            stored = read_json(stage)
            check_facts(StageFacts, stored)
            judged = fitted.with_verdicts(stored["starts"], stored["words"])
            return judged, of_json(Ends, stored["facts"])
        except (RunFolderError, LookupError, ValueError, TypeError):
            pass  # the file is damaged: diagnose again
    metric = fitted.problem.deciding_metric
    ends, short = _below(fitted, metric, most)
    if not most:
        return fitted, ends
    chosen = ~short
    chosen[np.flatnonzero(short)[:most]] = True
    diagnosis = fitted.diagnose(
        fitted.runs.starts[chosen].tolist(),
        multiples=[LONGER],
        seconds=seconds,
        threads=threads,
    )
    words = [verdict.word for verdict in diagnosis.verdicts]
    verdicts = {word: count for word, count in diagnosis.counts().items() if count}
    examples = _examples(diagnosis, fitted.splits)
    ends = replace(ends, verdicts=verdicts, examples=examples)
    if stage is not None:
        facts = {"starts": diagnosis.starts, "words": words, "facts": ends}
        write_bytes(stage, json_text(facts).encode())
    return fitted.with_verdicts(diagnosis.starts, words), ends


def _below(fitted: Fitted, metric: str, most: int) -> tuple[Ends, np.ndarray]:
    """Return the ends without verdicts, and which starts are below the threshold."""
    runs = fitted.runs
    threshold = reached_by_the_best(fitted.problem, runs, metric)
    finite = np.isfinite(runs.losses)
    short = (runs.metrics[metric] < threshold) | ~finite
    ends = Ends(
        verdicts={},
        short=int(short.sum()),
        diagnosed=int(min(short.sum(), most)),
        # The threshold is lowered by rounding to count starts; show ten digits of it.
        reached=float(f"{threshold:.10g}"),
        baseline=float(fitted.problem.baseline(metric)),
        most=float(np.max(runs.metrics[metric][finite])) if finite.any() else None,
        examples={},
    )
    return ends, short


def _examples(diagnosis: Diagnosis, splits: int) -> dict[str, Example]:
    """Return the first start with each verdict."""
    examples: dict[str, Example] = {}
    for row, verdict in enumerate(diagnosis.verdicts):
        if verdict.word not in examples:
            examples[verdict.word] = Example(
                start=int(diagnosis.starts[row]) // splits,
                split=int(diagnosis.starts[row]) % splits,
                says=verdict.value,
                training=float(diagnosis.metric[0, row]),
                gradient_ratio=float(diagnosis.gradient_ratio[row]),
                dead_share=float(diagnosis.dead_share[row]),
            )
    return examples


def weak_verdicts(settings: Sequence[SettingResult]) -> list[str]:
    """Warn if the best start learned too little for the verdicts to mean much."""
    return [
        f"the best start of {s.name} has a training score of {s.most:.3f}, and a "
        f"constant prediction has {s.baseline:.3f}: "
        + ("with so little between them, " * (s.most >= s.baseline))
        + "the verdicts mean little"
        for s in settings
        if s.verdicts
        and s.most is not None
        and s.most - s.baseline < WORTH_A_VERDICT * (1 - s.baseline)
    ]
