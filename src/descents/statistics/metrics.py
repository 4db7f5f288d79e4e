"""Whether larger or smaller values of a metric are better."""

from __future__ import annotations

from descents.errors import InvalidValueError

HIGHER_IS_BETTER = {
    "accuracy": True,
    "balanced_accuracy": True,
    "f1": True,
    "roc_auc": True,
    "r2": True,
    "loss": False,
    "log_loss": False,
    "gradient_norm": False,
    "initial_gradient_norm": False,
    "dead_units": False,
    "epochs": False,
    "best_epoch": False,
    "steps_taken": False,
    "best_step": False,
    "seconds": False,
}
"""The direction of each metric, by its name without ``training_`` or ``validation_``."""

ROWS = ("training_", "validation_")
"""The prefixes of the names of metrics for the rows that they were computed on."""


def metric_kind(metric: str) -> str:
    """Return the name of a metric without the rows that it was computed on.

    Examples
    --------
    >>> metric_kind("validation_log_loss"), metric_kind("epochs")
    ('log_loss', 'epochs')
    """
    for rows in ROWS:
        if metric.startswith(rows):
            return metric.removeprefix(rows)
    return metric


def metric_rows(metric: str) -> str | None:
    """Return "training" or "validation", or None if the name of a metric has neither.

    Examples
    --------
    >>> metric_rows("validation_log_loss"), metric_rows("epochs")
    ('validation', None)
    """
    for rows in ROWS:
        if metric.startswith(rows):
            return rows.removesuffix("_")
    return None


WORDS = {"f1": "F1 score", "roc_auc": "area under the ROC curve", "r2": "R²"}
"""How a metric is called in a sentence, unless by its name."""


def metric_words(metric: str) -> str:
    """Return what a metric is called in a sentence.

    Examples
    --------
    >>> metric_words("validation_balanced_accuracy"), metric_words("training_r2")
    ('validation balanced accuracy', 'training R²')
    """
    kind, rows = metric_kind(metric), metric_rows(metric)
    words = WORDS.get(kind, kind.replace("_", " "))
    return f"{rows} {words}" if rows else words


def has_direction(metric: str) -> bool:
    """Return whether `higher_is_better` is defined for a metric.

    Examples
    --------
    >>> has_direction("training_r2"), has_direction("my_own")
    (True, False)
    """
    return metric_kind(metric) in HIGHER_IS_BETTER


def higher_is_better(metric: str) -> bool:
    """Return whether larger values of a metric are better.

    Parameters
    ----------
    metric : str
        With or without ``training_`` or ``validation_`` before it.

    Raises
    ------
    InvalidValueError
        If the direction of the metric is unknown.

    Examples
    --------
    >>> higher_is_better("validation_loss"), higher_is_better("training_r2")
    (False, True)
    >>> higher_is_better("validation_log_loss"), higher_is_better("roc_auc")
    (False, True)
    """
    if not has_direction(metric):
        raise InvalidValueError(
            f"metric is {metric!r}, for which it is unknown whether larger values are "
            f"better; give one of {', '.join(HIGHER_IS_BETTER)}, alone or with "
            "training_ or validation_ before it"
        )
    return HIGHER_IS_BETTER[metric_kind(metric)]
