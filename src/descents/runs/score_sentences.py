"""The sentence on the scores of predictions on new rows."""

from __future__ import annotations

from descents.runs.apply_result import PredictedRows, PredictionScore
from descents.statistics.metrics import metric_words
from descents.text import counted, decimals_of, rounded, small

WORDS = {"rmse": "RMSE"}
"""How a metric is called in a sentence, besides the words of other results."""


def sentence_of(result: PredictedRows) -> str:
    """Return the sentence on the scores of new rows; empty without scores."""
    if not result.scores:
        return ""
    own = " and ".join(
        f"{words_of(one)} {_figure(one, result)}" for one in result.scores
    )
    text = (
        f"On {counted(result.scored_rows, 'row')} with a known {result.target}, the "
        f"predictions have {own}"
    )
    constants = [
        f"{words_of(one)} {rounded(one.constant, _places(one, result))}"
        for one in result.scores
        if one.constant is not None
    ]
    if constants:
        answer = result.constant
        what = (
            "the mean of the fit"
            if answer is None
            else f"{answer}, the most frequent class of the fit,"
        )
        text += f"; always predicting {what} has {' and '.join(constants)}"
    return f"{text}."


def words_of(score: PredictionScore) -> str:
    """Return what the metric of a score is called in a sentence."""
    return WORDS.get(score.metric, metric_words(score.metric))


def shown(score: PredictionScore, result: PredictedRows) -> str:
    """Return a score as text, with the decimals that its interval supports."""
    return rounded(score.value, _places(score, result))


def _figure(score: PredictionScore, result: PredictedRows) -> str:
    text = shown(score, result)
    if score.interval is None:
        return text
    low, high = (small(end, _places(score, result)) for end in score.interval)
    return f"{text} (95% CI {low} to {high})"


def _places(score: PredictionScore, result: PredictedRows) -> int | None:
    return decimals_of(
        score.interval, 1 / result.scored_rows if score.interval else None
    )
