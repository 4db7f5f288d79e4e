"""A fitted network: the starts of one setting, their statistics and their predictions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from descents.diagnosis.diagnosis import diagnose
from descents.diagnosis.verdicts import Diagnosis
from descents.errors import InvalidValueError
from descents.networks.constants import JUDGES, Unbeaten, best_unbeaten, unbeaten
from descents.networks.network import Network
from descents.networks.settings import Settings
from descents.networks.supervised import Supervised
from descents.optim.problem import Parameters
from descents.optim.rules import UpdateRule
from descents.optim.runs import Runs
from descents.statistics import summaries as statistics
from descents.statistics import variance
from descents.statistics.metrics import metric_kind
from descents.tables.data_frames import data_frame
from descents.text import counted
from descents.validation import one_of

if TYPE_CHECKING:
    import pandas as pd

PREDICTED_ENTRIES = 2**24
"""The largest number of values kept in memory at once while predicting."""


@dataclass(frozen=True)
class Fitted:
    """The trained starts of one setting.

    Attributes
    ----------
    settings : Settings
    problem : Network
    runs : Runs
        Losses, metrics, statuses and parameters of all starts on all splits. Number k is
        start k // splits on split k % splits.
    splits : int
        The number of splits that each start is trained on.
    steps_in_epoch : int
    classes : ndarray of shape (classes,) or None
        None if numbers are predicted.
    names : tuple of str
        The names of the features; empty if they have none.
    single : bool
        Whether one class or number is predicted for each row, in one dimension.
    rule : UpdateRule or None
        None if the model was loaded from a file, which has no training rows.
    """

    settings: Settings
    problem: Network
    runs: Runs
    splits: int
    steps_in_epoch: int
    classes: np.ndarray | None = None
    names: tuple[str, ...] = ()
    single: bool = True
    rule: UpdateRule | None = None

    def __repr__(self) -> str:
        """Return the starts, the splits and the least loss."""
        starts = counted(len(self.runs) // self.splits, "start")
        splits = counted(self.splits, "split")
        return f"Fitted({starts} on {splits}, by {self.metric}: {self.runs!r})"

    @property
    def usable(self) -> bool:
        """Whether any start did not fail."""
        return bool(np.isfinite(self.runs.losses).any())

    @property
    def best(self) -> int:
        """The position in `runs` of the best start, on its best split.

        The best start has the lowest mean loss over the splits: the validation loss if
        rows are held out, else the training loss. A start that failed on a split comes
        after all starts that failed on fewer splits.
        """
        runs = self.runs
        losses = np.asarray(
            runs.metrics.get("validation_loss", runs.losses), np.float64
        )
        defined = np.isfinite(runs.losses) & np.isfinite(losses)
        table = np.where(defined, losses, np.inf).reshape(-1, self.splits)
        finite = np.isfinite(table)
        total = np.where(finite, table, 0.0).sum(1)
        means = np.divide(
            total, finite.sum(1), out=np.full(len(table), np.inf), where=finite.any(1)
        )
        start = int(np.lexsort((means, -finite.sum(1)))[0])
        return start * self.splits + int(table[start].argmin())

    @property
    def metric(self) -> str:
        """The score by which starts are compared."""
        return self.settings.metric_names[0]

    def outputs(self, X: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Return the predictions of the starts at some positions of `runs`.

        Returns
        -------
        ndarray of shape (S, rows, outputs)
            Class probabilities, or numbers; NaN for starts that failed.
        """
        parameters = {
            name: torch.tensor(value[positions]).to(self.problem.dtype)
            for name, value in self.runs.parameters.items()
        }
        outputs = predicted(self.problem, parameters, X)
        finite = np.isfinite(self.runs.losses[positions])
        return np.where(finite[:, None, None], outputs, np.nan)

    # Statistics of the starts

    def table(self) -> pd.DataFrame | dict[str, np.ndarray]:
        """Return the results as a data frame, with a row for each start and split.

        If pandas is not installed, it is a dict of ndarray.
        """
        return data_frame(self.columns())

    def columns(self) -> dict[str, np.ndarray]:
        """Return the columns of `table` as arrays."""
        columns = dict(self.runs.columns())
        numbers = columns.pop("start")
        table = {
            "start": numbers // self.splits,
            "split": numbers % self.splits,
            **columns,
        }
        table["epochs"] = np.ceil(table.pop("steps_taken") / self.steps_in_epoch)
        if "best_step" in table:
            table["best_epoch"] = np.ceil(table.pop("best_step") / self.steps_in_epoch)
        return table

    def values(self, metric: str | None = None) -> np.ndarray:
        """Return a metric of every start, averaged over its splits; NaN if it failed."""
        return statistics.start_means(*self.of_splits(metric))[0]

    def failed(self, metric: str | None = None) -> np.ndarray:
        """Return which starts failed, bool of shape (n_starts,)."""
        return statistics.start_means(*self.of_splits(metric))[1]

    def undefined_splits(self, metric: str | None = None) -> int:
        """Return the number of splits on which a metric is undefined.

        Splits on which all starts failed do not count.
        """
        values, failed = self.of_splits(metric)
        defined = np.isfinite(values) & ~failed
        return int((~defined.any(0) & ~failed.all(0)).sum())

    def of_splits(self, metric: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return a metric and which starts failed, both of shape (n_starts, splits)."""
        table = self.columns()
        metric = self.metric if metric is None else metric
        one_of("metric", metric, self.settings.metric_names)
        values = table[metric].astype(np.float64).reshape(-1, self.splits)
        return values, ~np.isfinite(table["loss"]).reshape(-1, self.splits)

    def interval(
        self, metric: str | None = None, confidence: float = 0.95
    ) -> statistics.Summary:
        """Summarize a metric over the starts, with a confidence interval of its mean."""
        means, failed = statistics.start_means(*self.of_splits(metric))
        return statistics.summary_of_starts(means, failed, generator(), confidence)

    def variance(self, metric: str | None = None) -> dict[str, float | None]:
        """Estimate the variance of a metric between starts and between splits."""
        values, failed = self.of_splits(metric)
        return variance.crossed_variances(np.where(failed, np.nan, values))

    # Judgments, for which the training rows are needed

    def unbeaten(self, metric: str | None = None) -> Unbeaten | None:
        """Return a record that starts do not beat a constant prediction, None if they do.

        See `descents.networks.constants.unbeaten`.

        Parameters
        ----------
        metric : str, optional
            Starts are judged by its score, if that is accuracy, balanced accuracy, the
            area under the ROC curve, or R^2. By default by accuracy or R^2; by balanced
            accuracy if classes are weighted.
        """
        self._trained_by("fit it first")
        return unbeaten(self.problem, self.runs, self._judge(metric))

    def best_unbeaten(self, metric: str | None = None) -> Unbeaten | None:
        """Return a record that the best start does not beat a constant, None if it does.

        It is judged on the held-out rows of the split on which it does best, by the score
        that `unbeaten` uses.
        """
        self._trained_by("fit it first")
        return best_unbeaten(self.problem, self.runs, self.best, self._judge(metric))

    def _judge(self, metric: str | None) -> str:
        """Return the score by which starts are compared with a constant."""
        if metric is not None and metric_kind(metric) in JUDGES:
            return metric_kind(metric)
        weighted = self.settings.class_weight is not None
        return "balanced_accuracy" if weighted else self.settings.score

    def _trained_by(self, remedy: str) -> UpdateRule:
        """Return the rule; raise if the model was loaded, without its training rows."""
        if self.rule is None:
            raise InvalidValueError(
                "the model was loaded from a file, which does not contain the training "
                f"rows; {remedy}"
            )
        return self.rule

    def diagnose(
        self,
        starts: Iterable[int] | None = None,
        *,
        multiples: Sequence[int] = (10, 30),
        seconds: float | None = None,
        threads: int | None = None,
    ) -> Diagnosis:
        """Diagnose how each start ended: converged, or why it did not.

        Parameters
        ----------
        starts : iterable of int, optional
            Numbers in `runs`; by default all.
        multiples : sequence of int
            How long to continue training, in multiples of the epochs.
        seconds : float, optional
            The limit on wall time.
        threads : int, optional
            How many chunks of starts run in parallel threads.
        """
        rule = self._trained_by("fit it to diagnose it")
        return diagnose(
            self.problem,
            self.runs,
            starts,
            steps=rule,
            metric=self.problem.deciding_metric,
            multiples=multiples,
            max_seconds=seconds,
            threads=threads,
        )

    def with_verdicts(self, starts: Iterable[int], words: Sequence[str]) -> Fitted:
        """Return the same fit with the verdicts of some starts, which `table` shows."""
        return replace(self, runs=self.runs.with_verdicts(starts, words))


def unbeaten_of_all(
    fits: Sequence[Fitted], metric: str | None = None
) -> Unbeaten | None:
    """Return the best record of several fits that do not beat a constant prediction.

    None if the starts of one of them do, or if there are no fits.
    """
    records = [record for one in fits if (record := one.unbeaten(metric)) is not None]
    if not records or len(records) < len(fits):
        return None
    return max(records, key=lambda record: (record.better > 0, record.margin))


def predicted(problem: Supervised, parameters: Parameters, X: np.ndarray) -> np.ndarray:
    """Return probabilities, or numbers, for rows from each start, (S, rows, outputs).

    Rows are computed in blocks of at most `PREDICTED_ENTRIES` values.
    """
    count = len(next(iter(parameters.values())))
    widest = max([X.shape[1], *(v[0].numel() for v in parameters.values())])
    size = max(1, PREDICTED_ENTRIES // (count * min(widest, 2**12)))
    blocks = []
    with torch.no_grad():
        for first in range(0, len(X), size):
            part = np.ascontiguousarray(X[first : first + size])
            rows = torch.tensor(part, dtype=problem.dtype)
            features = rows.to(problem.device).expand(count, *rows.shape)
            on_device = {n: v.to(problem.device) for n, v in parameters.items()}
            outputs = problem.predict(on_device, features).double()
            if problem.classifies:
                outputs = outputs.softmax(-1)
            blocks.append(outputs.cpu().numpy())
    return np.concatenate(blocks, 1)


def generator() -> np.random.Generator:
    """Return a new random generator, in its initial state, for bootstrap and tests.

    Examples
    --------
    >>> generator().random() == generator().random()
    True
    """
    return np.random.Generator(np.random.Philox(0))
