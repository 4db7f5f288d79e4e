"""The columns of a user's table: which loss each gets and why, and codes for levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from descents.checks import Complaints, InvalidValueError
from descents.data.frames import reason_of
from descents.data.tables import Column, Table
from descents.losses import NAMED, Loss, Own, Periodic, named

MOST_CLASSES = 200
"""A column with more levels than this is refused under a loss of levels."""
NOISE_WIDTH = "; width"
"""How the reason begins that Huber's width was judged from the noise."""
TYPED = {"boolean", "category", "order", "text"}
"""Kinds whose values are codes of levels."""
REMEDIES = (
    "leave the column out (--ignore COLUMN), name the rows by it (--id COLUMN), or say "
    "its loss (--loss-of COLUMN=LOSS, loss={COLUMN: LOSS})"
)


@dataclass(frozen=True)
class ColumnModel:
    """What a column is to the model.

    Attributes
    ----------
    name : str
    loss : Loss
    levels : tuple
        What the codes 0, 1, ... stand for; empty where the column holds numbers.
    why : str
        Why it has this loss, for people.
    whole : bool
        Whether it holds whole numbers only.
    limits : tuple of float or None
        Between which whole numbers were observed, and what fills a hole is held.
    declared : tuple
        The levels of a category with those that do not occur in the table, which have no
        code; empty where all occur.

    Examples
    --------
    >>> ColumnModel("size", named("ordinal"), ("S", "L"), "asked for").labels
    ('size',)
    """

    name: str
    loss: Loss
    levels: tuple[Any, ...]
    why: str
    whole: bool = False
    limits: tuple[float, float] | None = None
    declared: tuple[Any, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of its coordinates: one, or one for each class or boundary."""
        each = self.loss.coordinates(len(self.levels))
        if each > 1 and each == len(self.levels):
            return tuple(f"{self.name}={level}" for level in self.levels)
        if each > 1:
            return tuple(f"{self.name}>{level}" for level in self.levels[:each])
        return (self.name,)

    @property
    def loss_label(self) -> str:
        """The name of its loss, with the number that was asked for, if one was."""
        found = NOISE_WIDTH in self.why
        return self.loss.name if found else self.loss.label

    def described(self) -> dict[str, Any]:
        """Return it as plain values, but for a loss of the user's.

        Raises
        ------
        InvalidValueError
            When the loss is a function, which a file that runs no code cannot hold.
        """
        if isinstance(self.loss, Own):
            raise InvalidValueError(
                f"column {self.name!r} has a loss of your own, which cannot be stored; "
                "store the numbers that you need instead"
            )
        given: Any = self.loss
        settings = {f.name: getattr(given, f.name) for f in fields(given)}
        levels, declared = (
            [x.item() if hasattr(x, "item") else x for x in some]
            for some in (self.levels, self.declared)
        )
        return {
            "name": self.name,
            "loss": self.loss.name,
            "settings": settings,
            "levels": levels,
            "why": self.why,
            "whole": self.whole,
            "limits": self.limits,
            "declared": declared,
        }

    @classmethod
    def restored(cls, facts: Mapping[str, Any]) -> ColumnModel:
        """Return what `described` described."""
        loss = NAMED[facts["loss"]](**facts["settings"])
        levels = tuple(facts["levels"])
        limits = None if facts["limits"] is None else tuple(facts["limits"])
        declared = tuple(facts.get("declared", ()))
        return cls(
            facts["name"],
            loss,
            levels,
            facts["why"],
            facts["whole"],
            limits,
            declared,
        )

    def stand_in(self, level: Any) -> float:
        """Return the code of a level that did not occur in the table of the fit.

        Of an ordered one the nearest that did, as nothing tells the two apart; of a
        class NaN, a missing cell.
        """
        if self.loss.kind != "levels":
            return np.nan
        names = [str(one) for one in self.declared]
        place = names.index(str(level))
        known = [names.index(str(one)) for one in self.levels]
        return float(np.abs(np.array(known) - place).argmin())


def of_table(table: Table, loss: Any, weights: Any = None) -> list[ColumnModel]:
    """Choose the loss of each column of a table.

    Numbers have squared loss, two values logistic, text of some levels categorical,
    ordered levels ordinal, unless something else is asked for.

    Parameters
    ----------
    table : Table
    loss : "auto", a loss for all columns it fits, or a mapping from columns to losses
    weights : ndarray of shape (rows, columns), optional
        A level that occurs where the weight is 0 alone is one that does not occur.

    Raises
    ------
    InvalidValueError
        When a column is text whose values do not repeat, or dates; when a loss does not
        fit, or a column that is named is not there. All are told together.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.data.tables import from_frame
    >>> frame = from_frame(pyarrow.table({"a": [1.5, 2.0], "b": [True, False]}))
    >>> [(c.loss.name, c.why) for c in of_table(frame, "auto")]
    [('squared', 'numbers'), ('logistic', 'two values')]
    """
    complaints = Complaints()
    asked: dict[str, Any] = {}
    general: Any = None
    if isinstance(loss, Mapping):
        for name, value in loss.items():
            column = complaints.attempt(table.column, str(name))
            if column is not None:
                asked[column.name] = complaints.attempt(named, value)
    elif isinstance(loss, list | tuple):
        complaints.require(
            len(loss) == len(table.columns),
            f"{len(loss)} losses are given for {len(table.columns)} columns; give one "
            "for each, or one for all",
        )
        for value, column in zip(loss, table.columns, strict=False):
            asked[column.name] = complaints.attempt(named, value)
    elif loss != "auto":
        general = complaints.attempt(named, loss)
    complaints.raise_any()
    found = [
        complaints.attempt(_of_column, column, asked.get(column.name), general)
        for column in table.columns
        if column.kind != "empty" or asked.get(column.name) is not None
    ]
    complaints.raise_any()
    places = {column.name: j for j, column in enumerate(table.columns)}
    fits = getattr(weights, "shape", None) == (table.rows, len(table.columns))
    return [
        _without_unused(
            model,
            table.column(model.name),
            weights[:, places[model.name]] if fits else None,
        )
        for model in found
    ]


def _without_unused(model: ColumnModel, column: Column, weights: Any) -> ColumnModel:
    """Return a column without codes for levels of a category that do not occur.

    No cut point and no natural parameter of such a level has a best value: it would run
    to infinity. Two levels are kept, so that there is something to choose between.
    """
    if len(model.levels) <= 2 or column.kind not in TYPED:
        return model
    values = column.values if weights is None else column.values[weights > 0]
    used = np.unique(values[~np.isnan(values)]).astype(np.int64).tolist()
    for place in range(len(model.levels)):
        if len(used) < 2 and place not in used:
            used = sorted([*used, place])
    if len(used) == len(model.levels):
        return model
    levels = tuple(model.levels[place] for place in used)
    return replace(model, levels=levels, declared=model.levels)


def _of_column(column: Column, asked: Any, general: Any) -> ColumnModel:
    fits = column.kind == "number" or (general and general.kind != "numbers")
    if asked is None and general is not None and fits:
        asked = general
    if asked is None and column.kind in ("text", "date"):
        raise InvalidValueError(
            f"column {column.name!r} is {column.says}, which a model cannot use; "
            f"{REMEDIES}"
        )
    if asked is None:
        loss, why = _by_type(column)
        return ColumnModel(
            column.name, loss, column.levels, why, column.whole, _limits(column)
        )
    if asked.kind != "numbers":
        levels = column.levels
        if column.kind not in TYPED:
            levels = tuple(np.unique(column.values[~np.isnan(column.values)]).tolist())
            if column.whole:
                levels = tuple(int(level) for level in levels)
        _check_levels(column.name, asked, levels)
        return ColumnModel(column.name, asked, levels, "as asked for", column.whole)
    if column.kind in TYPED:
        raise InvalidValueError(
            f"column {column.name!r} is {column.says}, but {asked.name} loss is for "
            f"{asked.domain}; give it categorical or ordinal loss, or logistic where it has two values"
        )
    asked = asked.of_values(column.values)
    limits = None if isinstance(asked, Periodic) else _limits(column)
    return ColumnModel(column.name, asked, (), "as asked for", column.whole, limits)


def _limits(column: Column) -> tuple[float, float] | None:
    if not column.whole or column.kind != "number":
        return None
    return float(np.nanmin(column.values)), float(np.nanmax(column.values))


def _by_type(column: Column) -> tuple[Loss, str]:
    if column.kind == "boolean" or (
        column.kind in ("category", "order") and len(column.levels) <= 2
    ):
        return named("logistic"), "two values"
    if column.kind == "category":
        return named("categorical"), f"{len(column.levels)} levels without an order"
    if column.kind == "order":
        return named("ordinal"), f"{len(column.levels)} levels with an order"
    return named("squared"), "numbers"


def _check_levels(name: str, loss: Loss, levels: Sequence[Any]) -> None:
    if loss.kind == "two values" and len(levels) > 2:
        raise InvalidValueError(
            f"column {name!r} holds {len(levels)} different values, but {loss.name} loss "
            "is for two values; give it categorical or ordinal loss"
        )
    if len(levels) > MOST_CLASSES:
        raise InvalidValueError(
            f"column {name!r} holds {len(levels)} different values, too many for "
            f"{loss.name} loss (at most {MOST_CLASSES}); give it another loss"
        )


def of_matrix(
    X: np.ndarray, losses: Sequence[Loss], names: Sequence[str]
) -> list[ColumnModel]:
    """Return the columns of a matrix of numbers under the given losses.

    Examples
    --------
    >>> of_matrix(np.array([[1.0], [-1.0]]), [named("logistic")], ["x"])[0].levels
    (-1.0, 1.0)
    """
    complaints, found = Complaints(), []
    for j, loss in enumerate(losses):
        levels: tuple[Any, ...] = ()
        if loss.kind != "numbers":
            values = X[:, j]
            levels = tuple(np.unique(values[~np.isnan(values)]).tolist())
            if loss.kind == "two values" and set(levels) < {0.0, 1.0}:
                levels = (0.0, 1.0)
            complaints.attempt(_check_levels, names[j], loss, levels)
        why = "numbers" if loss == named("squared") else "as asked for"
        own = loss.of_values(X[:, j])
        found.append(ColumnModel(names[j], own, levels, why))
    complaints.raise_any()
    return found


def encoded(model: ColumnModel, column: Column) -> np.ndarray:
    """Return a column's numbers, or the codes of its levels as the model has them.

    Raises
    ------
    InvalidValueError
        When it holds a level that the model does not know, or is of another kind.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.data.tables import from_frame
    >>> column = from_frame(pyarrow.table({"a": ["y", "x", "y"]})).column("a")
    >>> encoded(ColumnModel("a", named("logistic"), ("x", "y"), ""), column)
    array([1., 0., 1.])
    """
    if not model.levels:
        if column.kind in TYPED:
            raise InvalidValueError(
                f"column {column.name!r} is {column.says}, but the model has numbers "
                "there; give numbers"
            )
        return column.values
    if column.kind == "empty":
        return column.values
    return coded(model, column.values, column.levels)


def coded(
    model: ColumnModel, values: np.ndarray, levels: Sequence[Any] = ()
) -> np.ndarray:
    """Return values, which may be codes into `levels`, as codes of the model's.

    Raises
    ------
    InvalidValueError
        When there is a level that the model does not know.
    """
    places = {level: float(k) for k, level in enumerate(model.levels)}
    known = {str(level): place for level, place in places.items()}
    seen = np.unique(values[~np.isnan(values)])
    codes = np.full(values.shape, np.nan)
    for value in seen:
        level = levels[int(value)] if levels else value
        place = places.get(level, known.get(str(level)))
        if place is None and str(level) in map(str, model.declared):
            place = model.stand_in(level)
        if place is None:
            listed = ", ".join(repr(x) for x in model.levels[:10])
            raise InvalidValueError(
                f"column {model.name!r} holds {level!r}, which the model was not fitted "
                f"with; give one of {listed}, or leave the cell empty"
            )
        codes[values == value] = place
    return codes


def decoded(model: ColumnModel, codes: np.ndarray) -> np.ndarray:
    """Return numbers, or the levels that codes stand for, as an array.

    Examples
    --------
    >>> decoded(ColumnModel("a", named("logistic"), ("x", "y"), ""), np.array([1.0]))
    array(['y'], dtype=object)
    """
    if not model.levels:
        return codes
    levels = model.levels
    places = np.clip(codes.astype(np.int64), 0, len(levels) - 1)
    if all(isinstance(x, int | float) and not isinstance(x, bool) for x in levels):
        return np.asarray(levels, dtype=np.float64)[places]
    return np.array(levels, dtype=object)[places]


def filled(
    table: Table, models: Sequence[ColumnModel], codes: Sequence[np.ndarray]
) -> Any:
    """Return a table with its holes filled by numbers or codes of the model's.

    Raises
    ------
    InvalidValueError
        When a column cannot hold what is to be filled in.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.data.tables import from_frame
    >>> table = from_frame(pyarrow.table({"a": ["y", None, "y"]}))
    >>> model = ColumnModel("a", named("logistic"), ("x", "y"), "")
    >>> filled(table, [model], [np.zeros(3)]).to_pydict()
    {'a': ['y', 'x', 'y']}
    """
    dialect = table.source.dialect
    textual = dialect is not None and dialect.textual
    parts = {
        model.name: _for_filling(model, table.column(model.name), code, textual)
        for model, code in zip(models, codes, strict=True)
    }
    columns = tuple(
        parts[column.name][0] if column.name in parts else column
        for column in table.columns
    )
    values = {name: numbers for name, (_, numbers) in parts.items()}
    try:
        return replace(table, columns=columns).filled(values)
    except InvalidValueError:
        raise
    except (TypeError, ValueError, NotImplementedError) as error:
        raise InvalidValueError(
            f"a column cannot hold what is to be filled in ({reason_of(error)}); give "
            "the columns the types that they had in the fit"
        ) from None


def _for_filling(
    model: ColumnModel, column: Column, codes: np.ndarray, textual: bool
) -> tuple[Column, np.ndarray]:
    """Return a column as `Table.filled` takes it, with the model's levels, and codes.

    A column without a single observed cell is of the model's kind; text that happens to
    hold whole numbers only can hold others, a type of whole numbers cannot.
    """
    blank = column.kind == "empty"
    if not model.levels:
        rounded = model.whole if blank or textual else column.whole
        if not (blank or column.whole) or not rounded:
            return replace(column, kind="number", whole=False), codes
        # Held to what the fit saw, not to the few numbers of this table: as levels.
        low, high = model.limits or (-(2.0**53), 2.0**53)
        codes = np.rint(codes)
        if isinstance(model.loss, Periodic):  # 23.7 o'clock is nearer to 0 than to 23
            codes = model.loss.impute(codes)
        whole, places = np.unique(codes.clip(low, high), return_inverse=True)
        levels = tuple(int(number) for number in whole)
        return replace(column, kind="category", levels=levels), places.astype(float)
    if column.kind not in TYPED and not blank:
        return column, decoded(model, codes).astype(np.float64)
    places = np.clip(codes.astype(np.int64), 0, len(model.levels) - 1)
    # The column's own levels first, whose types may differ.
    own = list(column.levels)
    known = [str(level) for level in own]
    for level in model.levels:
        if str(level) not in known:
            own.append(level)
            known.append(str(level))
    table = np.array([known.index(str(level)) for level in model.levels], dtype=float)
    kind: Any = "category" if blank else column.kind
    return replace(column, kind=kind, levels=tuple(own)), table[places]
