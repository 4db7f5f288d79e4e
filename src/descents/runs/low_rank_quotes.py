"""Sentences to quote in a paper, of `descents factorize` and `descents impute`."""

from __future__ import annotations

from descents.runs.factorize_result import HeldOutCells, LowRankResult
from descents.runs.impute_result import HeldOutError, ImputationResult
from descents.text import counted, decimals, in_rounds, rounded


def quote_of_factorization(result: LowRankResult) -> str:
    """Return how well a model predicts held-out cells, else how well it fits seen ones."""
    rows, columns = result.shape
    starts = result.starts.count
    best = f" (the best of {starts} random initializations)" if starts > 1 else ""
    model = (
        f"A model of rank {result.rank}{best} of a table of {counted(rows, 'row')} and "
        f"{counted(columns, 'column')} with {counted(result.observed, 'observed cell')}"
    )
    if result.held_out is not None:
        constants = "the best constant of each column"
        return f"{model} predicts {_held_out(result.held_out, constants)}."
    share = "not known"
    if result.loss is not None and result.constants_loss:
        share = f"{result.loss / result.constants_loss:.2g}"
    penalty = ", with its penalty," if any(result.penalty.values()) else ""
    return (
        f"{model} has {share} of the loss{penalty} of the best constant of each column, on "
        f"the cells that it was fitted to; no cells were held out. {result.gap_says}"
    )


def quote_of_imputation(result: ImputationResult) -> str:
    """Return how many cells were filled, and how well held-out cells are predicted."""
    filled, (rows, columns) = result.filled, result.shape
    tables = result.how.imputations
    times = f" {tables} times (multiple imputation)" if tables else ""
    text = (
        f"{counted(filled.cells, 'missing cell')} in {counted(filled.columns, 'column')} of a "
        f"table of {counted(rows, 'row')} and {counted(columns, 'modeled column')} "
        f"{'was' if filled.cells == 1 else 'were'} imputed{times} by a low-rank model"
    )
    if result.held_out is None:
        return f"{text}; there are too few observed cells to hold some out."
    constants = "column means and most frequent levels"
    return f"{text}. It predicts {_held_out(result.held_out, constants)}."


def _held_out(found: HeldOutCells | HeldOutError, constants: str) -> str:
    """Return the error of held-out cells, with the decimals of its standard error."""
    places = decimals(found.standard_error)
    columns = ""
    if isinstance(found, HeldOutError):
        columns = f"mean over {counted(found.columns, 'column')}; "
    error = "not known"
    if found.standard_error is not None:
        error = f"{found.standard_error:.2g}"
    rounds = in_rounds(found.rounds)
    return (
        f"{counted(found.cells, 'observed cell')} that it had not seen"
        f"{rounds and f' (hidden{rounds})'} with "
        f"{rounded(found.relative_error, places)} of the error of {constants} "
        f"({columns}standard error {error})"
    )
