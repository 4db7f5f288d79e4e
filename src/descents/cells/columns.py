"""The columns of a user's table in a model: the loss of each column, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from descents.cells.observed import LossLike
from descents.errors import Complaints, InvalidValueError, for_caller
from descents.losses import NAMED, CustomLoss, Huber, Loss, Periodic, get_loss
from descents.tables import levels, orders
from descents.tables.levels import KnownLevels
from descents.tables.scales import KNOWN_SCALE, arranged
from descents.tables.spelling import listed, plain, printed
from descents.tables.tables import Table
from descents.tables.typed_columns import Column
from descents.text import counted

MOST_CLASSES = 200
"""Maximum number of levels of a column under a loss of levels."""
TYPED = {"boolean", "category", "order", "text"}
"""Kinds of columns whose values are codes of levels."""
ORDERED = "levels"
"""The kind of losses that need an order of the levels."""


def _remedies(name: str) -> str:
    """Return what to do with a column that has no loss by default."""
    return for_caller(
        "leave the column out (--ignore COLUMN), name the rows by it (--id COLUMN), or "
        "say its loss (--loss-of COLUMN=LOSS)",
        f"leave the column out of the table, or say its loss (loss={{{name!r}: ...}})",
    )


@dataclass(frozen=True)
class ColumnModel:
    """A column in a model.

    Attributes
    ----------
    name : str
    loss : Loss
    levels : tuple
        The levels that the codes 0, 1, ... represent; empty for a column of numbers.
    reason : str
        Why it has this loss, for people.
    whole : bool
        Whether it has only whole numbers.
    limits : tuple of float or None
        The smallest and the largest observed whole number; imputed numbers are clipped to
        this range.
    dates : bool
        Whether its numbers are days.
    declared : tuple
        The levels of a category, including those without a code of their own: ordered
        levels that do not occur in the table, which are read as the nearest that does,
        and classes that occur only where the weight is 0, which are read as missing.
        Empty if there are none of these.
    never : tuple
        Other levels that a category declares, but no cell of the table has.
    width_from_noise : bool
        Whether the width of its Huber loss was estimated from the noise of the column.
    cell_type : str
        The arrow type of its cells in the table of the fit; "" if that is not known.
    places : int or None
        The number of decimals of its plain numbers in a text file, if all had the same.

    Examples
    --------
    >>> ColumnModel("size", get_loss("ordinal"), ("S", "L"), "as asked for").labels
    ('size',)
    """

    name: str
    loss: Loss
    levels: tuple[object, ...]
    reason: str
    whole: bool = False
    limits: tuple[float, float] | None = None
    dates: bool = False
    declared: tuple[object, ...] = ()
    never: tuple[object, ...] = ()
    width_from_noise: bool = False
    cell_type: str = ""
    places: int | None = None

    @property
    def why(self) -> str:
        """Why it has this loss, and its width if that was estimated, for people.

        Examples
        --------
        >>> ColumnModel("x", Huber(0.5), (), "numbers", width_from_noise=True).why
        'numbers; width 0.5 from the noise'
        """
        if not self.width_from_noise or not isinstance(self.loss, Huber):
            return self.reason
        return f"{self.reason}; width {self.loss.width:.3g} from the noise"

    @property
    def known(self) -> KnownLevels:
        """The levels, for matching with those of another table."""
        used = set(map(str, self.levels))
        others = [level for level in self.declared if str(level) not in used]
        stand_ins = tuple((level, self.stand_in(level)) for level in others)
        return KnownLevels(
            self.levels, self.loss.kind == ORDERED, stand_ins, self.never
        )

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
        """The name of its loss, with its number if the user gave one."""
        return self.loss.name if self.width_from_noise else self.loss.label

    def described(self) -> dict[str, object]:
        """Return it as plain values, for a file.

        Raises
        ------
        InvalidValueError
            If the loss is the user's function, which a file without code cannot contain.
        """
        if isinstance(self.loss, CustomLoss):
            raise InvalidValueError(
                f"column {self.name!r} has a loss of your own, which cannot be stored; "
                "store the numbers that you need instead"
            )
        settings = {f.name: getattr(self.loss, f.name) for f in fields(self.loss)}  # type: ignore[arg-type]
        levels, declared, never = (
            [x.item() if hasattr(x, "item") else x for x in some]
            for some in (self.levels, self.declared, self.never)
        )
        return {
            "name": self.name,
            "loss": self.loss.name,
            "settings": settings,
            "levels": levels,
            "why": self.reason,
            "whole": self.whole,
            "limits": self.limits,
            "dates": self.dates,
            "declared": declared,
            "never": never,
            "width_from_noise": self.width_from_noise,
            "cell_type": self.cell_type,
            "places": self.places,
        }

    @classmethod
    def restored(cls, facts: Mapping[str, Any]) -> ColumnModel:
        """Return the column that `described` was called on."""
        # Files of earlier versions have the estimated width at the end of the reason.
        reason, earlier, _ = facts["why"].partition("; width ")
        limits = None if facts["limits"] is None else tuple(facts["limits"])
        return cls(
            facts["name"],
            NAMED[facts["loss"]](**facts["settings"]),
            tuple(facts["levels"]),
            reason,
            facts["whole"],
            limits,
            facts.get("dates", False),
            tuple(facts.get("declared", ())),
            tuple(facts.get("never", ())),
            facts.get("width_from_noise", bool(earlier)),
            facts.get("cell_type", ""),
            facts.get("places"),
        )

    def stand_in(self, level: object) -> float:
        """Return the code of a declared level that did not occur in the table of the fit.

        For an ordered level it is the nearest level that did occur, because no cell
        distinguishes the two. A class, which occurred only where the weight is 0, is a
        missing cell: NaN.
        """
        if self.loss.kind != "levels":
            return np.nan
        names = [str(one) for one in self.declared]
        place = names.index(str(level))
        known = [names.index(str(one)) for one in self.levels]
        return float(np.abs(np.array(known) - place).argmin())


def of_table(
    table: Table,
    loss: LossLike | Sequence[LossLike] | Mapping[str, LossLike],
    weights: np.ndarray | None = None,
) -> list[ColumnModel]:
    """Choose the loss of each column of a table.

    By default numbers have squared loss, two values logistic loss, text with a few levels
    categorical loss, and ordered levels ordinal loss.

    Parameters
    ----------
    table : Table
    loss : "auto", a loss, a sequence of losses, or a mapping from names to losses
        A single loss is used for all columns that it fits.
    weights : ndarray of shape (rows, columns), optional
        A level that occurs only where the weight is 0 counts as one that does not occur.

    Raises
    ------
    InvalidValueError
        If a column is text whose values do not repeat, or dates; if a loss does not fit,
        or needs an unknown order of levels; if a named column is absent. One message
        reports all of them.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.tables.tables import from_frame
    >>> frame = from_frame(pyarrow.table({"a": [1.5, 2.0], "b": [True, False]}))
    >>> [(c.loss.name, c.why) for c in of_table(frame, "auto")]
    [('squared', 'numbers'), ('logistic', 'two values')]
    """
    general, chosen = _requested(table, loss)
    complaints = Complaints()
    models = [
        complaints.attempt(_of_column, column, chosen.get(column.name), general)
        for column in table.columns
        if column.kind != "empty" or chosen.get(column.name) is not None
    ]
    complaints.raise_any()
    if table.textual:
        models = [
            replace(model, places=table.places(model.name))
            if not model.levels
            else model
            for model in models
        ]
    if weights is not None and weights.shape != (table.rows, len(table.columns)):
        weights = None  # refused where all weights are checked
    places = {column.name: j for j, column in enumerate(table.columns)}
    return [
        _without_unused(
            model,
            table.column(model.name),
            None if weights is None else weights[:, places[model.name]],
        )
        for model in models
    ]


def _requested(
    table: Table, loss: LossLike | Sequence[LossLike] | Mapping[str, LossLike]
) -> tuple[Loss | None, dict[str, Loss]]:
    """Return the loss for all columns, if one is given, and those of single columns."""
    complaints = Complaints()
    chosen: dict[str, Loss] = {}
    general: Loss | None = None
    if isinstance(loss, Mapping):
        for name, value in loss.items():
            column = complaints.attempt(table.column, str(name))
            if column is not None:
                chosen[column.name] = complaints.attempt(get_loss, value)
    elif isinstance(loss, list | tuple):
        complaints.require(
            len(loss) == len(table.columns),
            f"{len(loss)} losses are given for "
            f"{counted(len(table.columns), 'column')}; give one for each, or one for all",
        )
        for value, column in zip(loss, table.columns, strict=False):
            chosen[column.name] = complaints.attempt(get_loss, value)
    elif loss != "auto":
        general = complaints.attempt(get_loss, loss)
    complaints.raise_any()
    return general, chosen


def _without_unused(
    model: ColumnModel, column: Column, weights: np.ndarray | None
) -> ColumnModel:
    """Return a column without codes for levels of a category that do not occur.

    The cut points and natural parameters of such a level have no best value; they would
    diverge. At least two levels keep a code, because a loss of levels needs two.
    """
    if column.kind not in TYPED or not model.levels:
        return model
    ordered = model.loss.kind == ORDERED
    absent = () if ordered else levels.never_observed(column)
    if len(model.levels) <= 2:
        return replace(model, never=tuple(x for x in absent if x not in model.levels))
    values, _ = levels.coded(column, model.known)
    values = values if weights is None else values[weights > 0]
    used = np.unique(values[~np.isnan(values)]).astype(np.int64).tolist()
    for place in range(len(model.levels)):
        if len(used) < 2 and place not in used:
            used = sorted([*used, place])
    kept = tuple(model.levels[place] for place in used)
    never = tuple(level for level in absent if level not in kept)
    declared = tuple(level for level in model.levels if level not in never)
    if len(kept) == len(declared):
        return replace(model, levels=kept, never=never)
    return replace(model, levels=kept, declared=declared, never=never)


def _of_column(column: Column, asked: Loss | None, general: Loss | None) -> ColumnModel:
    """Return a column with the loss for it, the loss for all, or that of its type."""
    if asked is None and general is not None:
        fits = column.kind == "number" or general.kind != "numbers"
        asked = general if fits else None
    if asked is None and column.kind in ("text", "date"):
        raise InvalidValueError(
            f"column {column.name!r} is {column.says}, which a model cannot use; "
            f"{_remedies(column.name)}"
        )
    if asked is None:
        loss, why = _by_type(column)
        return ColumnModel(
            column.name, loss, column.levels, why, column.whole, _limits(column)
        )
    if asked.kind != "numbers":
        found, why = levels.levels_of(column), "as asked for"
        _check_levels(column.name, asked, found)
        if asked.kind == ORDERED:
            found, why = _in_order(column, asked)
        return ColumnModel(column.name, asked, found, why, column.whole)
    if column.kind in TYPED:
        raise InvalidValueError(
            f"column {column.name!r} is {column.says}, but {asked.name} loss is for "
            f"{asked.domain}; give it categorical or ordinal loss, or logistic where it "
            "has two values"
        )
    asked = asked.of_values(column.values)
    limits = None if isinstance(asked, Periodic) else _limits(column)
    dates = column.kind == "date"
    return ColumnModel(
        column.name, asked, (), "as asked for", column.whole, limits, dates
    )


def _in_order(column: Column, loss: Loss) -> tuple[tuple[object, ...], str]:
    """Return the levels of a column in their order, and why it has this loss."""
    order = orders.order_of(column)
    if order is None:
        how = for_caller(
            "give the levels from the lowest to the highest (--levels "
            "COLUMN=LOWEST,...,HIGHEST), or categorical loss (--loss-of "
            "COLUMN=categorical)",
            "make it an ordered category of the data frame, with its levels from the "
            "lowest to the highest, or give it categorical loss "
            f"(loss={{{column.name!r}: 'categorical'}})",
        )
        raise InvalidValueError(
            f"column {column.name!r} has {counted(len(column.levels), 'level')} of text "
            f"whose order is not known ({listed(column.levels)}), but {loss.name} loss "
            f"needs it; {how}"
        )
    why = "as asked for"
    if order.says:
        why += (
            f", in the order of {order.says}: {' < '.join(map(printed, order.levels))}"
        )
    if order.mark:
        why += f", with {order.mark!r} read as missing (--levels can make it a level)"
    return order.levels, why


def _limits(column: Column) -> tuple[float, float] | None:
    """Return the range of a column of whole numbers, None for other columns."""
    if not column.whole or column.kind != "number":
        return None
    return column.extent.low, column.extent.high


def _by_type(column: Column) -> tuple[Loss, str]:
    """Return the loss for the type of a column, and why."""
    if column.kind == "boolean" or (
        column.kind in ("category", "order") and len(column.levels) <= 2
    ):
        return get_loss("logistic"), "two values"
    if column.kind == "category":
        why = f"{counted(len(column.levels), 'level')} without an order"
        texts = [level for level in column.levels if isinstance(level, str)]
        scale = (
            arranged(texts, column.decimal)
            if len(texts) == len(column.levels)
            else None
        )
        if scale is not None and scale[1] == KNOWN_SCALE:
            low, *_, high = scale[0]
            why = (
                f"{len(texts)} levels, taken without their order from {printed(low)} to "
                f"{printed(high)}, which ordinal loss would use"
            )
        return get_loss("categorical"), why
    if column.kind == "order":
        why = f"{counted(len(column.levels), 'level')} with an order"
        return get_loss("ordinal"), why
    return get_loss("squared"), "numbers"


def _check_levels(name: str, loss: Loss, levels: Sequence[object]) -> None:
    """Raise an error if a column has too many levels for a loss."""
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
    """Return the columns of a matrix of numbers under given losses.

    Examples
    --------
    >>> of_matrix(np.array([[1.0], [-1.0]]), [get_loss("logistic")], ["x"])[0].levels
    (-1.0, 1.0)
    """
    complaints, found = Complaints(), []
    for j, loss in enumerate(losses):
        levels: tuple[object, ...] = ()
        if loss.kind != "numbers":
            values = X[:, j]
            levels = tuple(map(plain, np.unique(values[~np.isnan(values)])))
            if loss.kind == "two values" and set(levels) < {0.0, 1.0}:
                levels = (0.0, 1.0)
            complaints.attempt(_check_levels, names[j], loss, levels)
        why = "numbers" if loss == get_loss("squared") else "as asked for"
        own = loss.of_values(X[:, j])
        found.append(ColumnModel(names[j], own, levels, why))
    complaints.raise_any()
    return found
