"""The columns of a user's table: which loss each gets and why, and codes for levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from descents.errors import Complaints, InvalidValueError, for_caller
from descents.losses import NAMED, CustomLoss, Loss, Periodic, get_loss
from descents.tables import levels
from descents.tables.frames import given_back, reason_of
from descents.tables.levels import (
    LARGEST,
    Known,
    Places,
    Unseen,
    listed,
    number_of,
    plain,
    printed,
    text_of,
)
from descents.tables.scales import KNOWN_SCALE, arranged
from descents.tables.tables import Column, Table
from descents.text import counted

MOST_CLASSES = 200
"""A column with more levels than this is refused under a loss of levels."""
NOISE_WIDTH = "; width"
"""How the reason begins that Huber's width was judged from the noise."""
TYPED = {"boolean", "category", "order", "text"}
"""Kinds whose values are codes of levels."""
ORDERED = "levels"
"""The kind of the losses that need an order of the levels."""
UNSEEN = (
    "give one of these, leave the cell empty, or read such cells as missing "
    "(unseen='missing')"
)


def _remedies(name: str) -> str:
    """Return what can be done with a column that has no loss of its own accord."""
    return for_caller(
        "leave the column out (--ignore COLUMN), name the rows by it (--id COLUMN), or "
        "say its loss (--loss-of COLUMN=LOSS)",
        f"leave the column out of the table, or say its loss (loss={{{name!r}: ...}})",
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
    dates : bool
        Whether its numbers are days.
    declared : tuple
        The levels of a category with those that have no code, but count as another or as
        missing: ordered ones that do not occur in the table, and classes that occur
        where the weight is 0 alone. Empty where there are none.
    never : tuple
        Other levels that a category declares, and no cell of the table has.

    Examples
    --------
    >>> ColumnModel("size", get_loss("ordinal"), ("S", "L"), "asked for").labels
    ('size',)
    """

    name: str
    loss: Loss
    levels: tuple[Any, ...]
    why: str
    whole: bool = False
    limits: tuple[float, float] | None = None
    dates: bool = False
    declared: tuple[Any, ...] = ()
    never: tuple[Any, ...] = ()

    @property
    def known(self) -> Known:
        """The levels as they are looked for in another table."""
        used = set(map(str, self.levels))
        others = [level for level in self.declared if str(level) not in used]
        stand_ins = tuple((level, self.stand_in(level)) for level in others)
        return Known(self.levels, self.loss.kind == ORDERED, stand_ins, self.never)

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
        if isinstance(self.loss, CustomLoss):
            raise InvalidValueError(
                f"column {self.name!r} has a loss of your own, which cannot be stored; "
                "store the numbers that you need instead"
            )
        given: Any = self.loss
        settings = {f.name: getattr(given, f.name) for f in fields(given)}
        levels, declared, never = (
            [x.item() if hasattr(x, "item") else x for x in some]
            for some in (self.levels, self.declared, self.never)
        )
        return {
            "name": self.name,
            "loss": self.loss.name,
            "settings": settings,
            "levels": levels,
            "why": self.why,
            "whole": self.whole,
            "limits": self.limits,
            "dates": self.dates,
            "declared": declared,
            "never": never,
        }

    @classmethod
    def restored(cls, facts: Mapping[str, Any]) -> ColumnModel:
        """Return what `described` described."""
        loss = NAMED[facts["loss"]](**facts["settings"])
        limits = None if facts["limits"] is None else tuple(facts["limits"])
        return cls(
            facts["name"],
            loss,
            tuple(facts["levels"]),
            facts["why"],
            facts["whole"],
            limits,
            facts.get("dates", False),
            tuple(facts.get("declared", ())),
            tuple(facts.get("never", ())),
        )

    def stand_in(self, level: Any) -> float:
        """Return the code of a level that did not occur in the table of the fit.

        Of an ordered one the nearest that did, as nothing tells the two apart; of a
        class, which occurred where the weight is 0 alone, NaN, a missing cell.
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
        fit, or needs an order of levels that is not known; when a column that is named
        is not there. One message has all of them.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.tables.tables import from_frame
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
                asked[column.name] = complaints.attempt(get_loss, value)
    elif isinstance(loss, list | tuple):
        complaints.require(
            len(loss) == len(table.columns),
            f"{len(loss)} losses are given for {counted(len(table.columns), 'column')}; give one "
            "for each, or one for all",
        )
        for value, column in zip(loss, table.columns, strict=False):
            asked[column.name] = complaints.attempt(get_loss, value)
    elif loss != "auto":
        general = complaints.attempt(get_loss, loss)
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


def _of_column(column: Column, asked: Any, general: Any) -> ColumnModel:
    fits = column.kind == "number" or (general and general.kind != "numbers")
    if asked is None and general is not None and fits:
        asked = general
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
            f"{asked.domain}; give it categorical or ordinal loss, or logistic where it has two values"
        )
    asked = asked.of_values(column.values)
    limits = None if isinstance(asked, Periodic) else _limits(column)
    dates = column.kind == "date"
    return ColumnModel(
        column.name, asked, (), "as asked for", column.whole, limits, dates
    )


def _in_order(column: Column, loss: Loss) -> tuple[tuple[Any, ...], str]:
    """Return the levels of a column in their order, and why it has this loss."""
    order = levels.order_of(column)
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
            f"column {column.name!r} has {counted(len(column.levels), 'level')} of text whose order "
            f"is not known ({listed(column.levels)}), but {loss.name} loss needs it; {how}"
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
    if not column.whole or column.kind != "number":
        return None
    return float(np.nanmin(column.values)), float(np.nanmax(column.values))


def _by_type(column: Column) -> tuple[Loss, str]:
    if column.kind == "boolean" or (
        column.kind in ("category", "order") and len(column.levels) <= 2
    ):
        return get_loss("logistic"), "two values"
    if column.kind == "category":
        why = f"{counted(len(column.levels), 'level')} without an order"
        texts = [level for level in column.levels if isinstance(level, str)]
        scale = arranged(texts) if len(texts) == len(column.levels) else None
        if scale is not None and scale[1] == KNOWN_SCALE:
            low, *_, high = scale[0]
            why = (
                f"{len(texts)} levels, taken without their order from {printed(low)} to {printed(high)}, "
                "which ordinal loss would use"
            )
        return get_loss("categorical"), why
    if column.kind == "order":
        return get_loss(
            "ordinal"
        ), f"{counted(len(column.levels), 'level')} with an order"
    return get_loss("squared"), "numbers"


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
    >>> of_matrix(np.array([[1.0], [-1.0]]), [get_loss("logistic")], ["x"])[0].levels
    (-1.0, 1.0)
    """
    complaints, found = Complaints(), []
    for j, loss in enumerate(losses):
        levels: tuple[Any, ...] = ()
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


def encoded(model: ColumnModel, column: Column) -> np.ndarray:
    """Return a column's numbers, or the codes of its levels as the model has them.

    Raises
    ------
    InvalidValueError
        When it holds a level that the model does not know, or is of another kind.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.tables.tables import from_frame
    >>> column = from_frame(pyarrow.table({"a": ["y", "x", "y"]})).column("a")
    >>> encoded(ColumnModel("a", get_loss("logistic"), ("x", "y"), ""), column)
    array([1., 0., 1.])
    """
    if not model.levels:
        return column.values if column.kind == "empty" else _numbers(model, column)
    codes, unseen = levels.coded(column, model.known)
    if unseen:
        raise Unseen(model.name, unseen, model.levels, never=model.never).error(UNSEEN)
    return codes


def _numbers(model: ColumnModel, column: Column) -> np.ndarray:
    """Return a column as numbers, where it holds such."""
    dates = column.kind == "date"
    if column.kind == "number" or (dates and model.dates):
        return column.values
    if model.limits == (0, 1) and not dates:
        codes, unseen = levels.coded(column, Known((0, 1)))  # no and yes
        if not unseen:
            return codes
    values = None if dates else levels.numbers_in(column)
    if values is None:
        raise InvalidValueError(
            f"column {column.name!r} must hold numbers, as the model has numbers there, "
            f"but it is {column.says}; give numbers"
        )
    return values


def coded(model: ColumnModel, values: np.ndarray) -> np.ndarray:
    """Return numbers as codes of the model's levels.

    Raises
    ------
    InvalidValueError
        When there is a level that the model does not know.
    """
    codes, unseen = looked_up(model, values)
    if unseen is not None:
        raise unseen.error(UNSEEN)
    return codes


def looked_up(
    model: ColumnModel, values: np.ndarray
) -> tuple[np.ndarray, Unseen | None]:
    """Return numbers as codes of the model's levels, NaN for others, and these.

    Examples
    --------
    >>> model = ColumnModel("a", get_loss("categorical"), ("01", "10"), "")
    >>> codes, unseen = looked_up(model, np.array([10.0, np.nan, 7.0, 1.0]))
    >>> codes, unseen.says
    (array([ 1., nan, nan,  0.]), "column 'a' holds 7, which the model was not fitted
    with (it knows '01', '10')")
    """
    known = model.known
    places = Places(known.all_levels)
    codes = np.full(values.shape, np.nan)
    unseen: dict[Any, int] = {}
    for value in np.unique(values[~np.isnan(values)]):
        here = values == value
        place = places.of(value)
        if place is None:
            unseen[plain(value)] = int(here.sum())
        else:
            codes[here] = known.code(place)
    return codes, Unseen(model.name, unseen, model.levels) if unseen else None


def decoded(model: ColumnModel, codes: np.ndarray) -> np.ndarray:
    """Return numbers, or the levels that codes stand for, as an array.

    Examples
    --------
    >>> decoded(ColumnModel("a", get_loss("logistic"), ("x", "y"), ""), np.array([1.0]))
    array(['y'], dtype=object)
    """
    if not model.levels:
        return codes
    known = model.levels
    places = np.clip(codes.astype(np.int64), 0, len(known) - 1)
    plain = all(
        isinstance(x, int | float) and not isinstance(x, bool) and abs(x) <= LARGEST
        for x in known
    )
    return np.array(known, dtype=np.float64 if plain else object)[places]


def filled(
    table: Table, models: Sequence[ColumnModel], codes: Sequence[np.ndarray]
) -> Any:
    """Return a table with its holes filled by numbers or codes of the model's.

    Of the type that it had; see `completed`.
    """
    return given_back(completed(table, models, codes).source)


def completed(
    table: Table,
    models: Sequence[ColumnModel],
    codes: Sequence[np.ndarray],
    *,
    free: bool = False,
) -> Table:
    """Return a table whose source has its holes filled by numbers or codes of a model.

    Parameters
    ----------
    table : Table
    models : sequence of ColumnModel
    codes : sequence of float64 ndarray of shape (rows,)
    free : bool
        Whether whole numbers may leave the range that the fit observed.

    Raises
    ------
    InvalidValueError
        When a column cannot hold what is to be filled in.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.tables.tables import from_frame
    >>> table = from_frame(pyarrow.table({"a": ["y", None, "y"]}))
    >>> model = ColumnModel("a", get_loss("logistic"), ("x", "y"), "")
    >>> completed(table, [model], [np.zeros(3)]).source.frame.to_pydict()
    {'a': ['y', 'x', 'y']}
    """
    dialect = table.source.dialect
    textual = dialect is not None and dialect.textual
    parts = {
        model.name: _for_filling(model, table.column(model.name), code, textual, free)
        for model, code in zip(models, codes, strict=True)
    }
    columns = tuple(
        parts[column.name][0] if column.name in parts else column
        for column in table.columns
    )
    values = {name: numbers for name, (_, numbers) in parts.items()}
    try:
        return replace(table, columns=columns).completed(values)
    except InvalidValueError:
        raise
    except (TypeError, ValueError, NotImplementedError) as error:
        raise InvalidValueError(
            f"a column cannot hold what is to be filled in ({reason_of(error)}); give "
            "the columns the types that they had in the fit"
        ) from None


def _for_filling(
    model: ColumnModel, column: Column, codes: np.ndarray, textual: bool, free: bool
) -> tuple[Column, np.ndarray]:
    """Return a column as `Table.filled` takes it, with the model's levels, and codes.

    A column without a single observed cell is of the model's kind; text that happens to
    hold whole numbers only can hold others, a type of whole numbers cannot. Text that
    holds numbers gets numbers as text.
    """
    typed = column.kind in TYPED
    if model.levels:
        places = np.clip(codes.astype(np.int64), 0, len(model.levels) - 1)
        own, index = _levels_for(model, column, textual)
        kind: Any = column.kind if typed else "category"
        values, _ = levels.coded(column, model.known)  # NaN where a cell is missing
        return replace(column, kind=kind, levels=own, values=values), index[places]
    blank = column.kind == "empty"
    if model.dates and (blank or column.kind == "date"):
        return replace(column, kind="date"), codes
    if not _is_rounded(model, column, textual):
        if typed and not textual:
            numbers, places = np.unique(codes, return_inverse=True)
            texts = tuple(map(text_of, numbers))
            return replace(column, levels=texts), places.astype(float)
        return replace(column, kind="number", whole=False), codes
    # Held to what the fit saw, not to the few numbers of this table: as levels.
    low, high = _range_of(replace(model, limits=None) if free else model, column)
    whole, places = np.unique(_whole(model, codes).clip(low, high), return_inverse=True)
    fills = tuple(str(int(x)) if typed else int(x) for x in whole)
    if typed and model.limits == (0, 1):
        words = [levels.truth_among(bool(x), column.levels) for x in whole]
        fills = fills if None in words else tuple(words)
    return replace(column, kind="category", levels=fills), places.astype(float)


def _is_rounded(model: ColumnModel, column: Column, textual: bool) -> bool:
    """Return whether the holes of a column of numbers are filled with whole ones."""
    blank, typed = column.kind == "empty", column.kind in TYPED
    rounded = model.whole if blank or textual or typed else column.whole
    return (blank or column.whole or typed) and rounded


def _whole(model: ColumnModel, codes: np.ndarray) -> np.ndarray:
    """Return the whole numbers that are nearest to numbers."""
    codes = np.rint(codes)
    if isinstance(model.loss, Periodic):  # 23.7 o'clock is nearer to 0 than to 23
        codes = model.loss.impute(codes)
    return codes


def _range_of(model: ColumnModel, column: Column) -> tuple[float, float]:
    """Return between which whole numbers fills are held.

    Those that the fit observed, or all that the column can hold, exactly as float64.
    """
    if model.limits is not None:
        return model.limits
    low, high = -(2.0**53), 2.0**53
    kind = str(getattr(column.cells, "type", ""))
    if kind.removeprefix("u").startswith("int"):
        limits = np.iinfo(kind)
        low, high = max(low, float(limits.min)), min(high, float(limits.max))
    return low, high


def held(
    table: Table, models: Sequence[ColumnModel], codes: Sequence[np.ndarray]
) -> dict[str, int]:
    """Return how many fills of each column are held to its range, where there are any.

    Parameters
    ----------
    table, models, codes
        As `filled` takes them.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.tables.tables import from_frame
    >>> table = from_frame(pyarrow.table({"a": [1, None, 3]}))
    >>> held(table, of_table(table, "auto"), [np.array([1.0, 7.4, 3.0])])
    {'a': 1}
    """
    dialect = table.source.dialect
    textual = dialect is not None and dialect.textual
    found = {}
    for model, numbers in zip(models, codes, strict=True):
        column = table.column(model.name)
        if model.levels or not _is_rounded(model, column, textual):
            continue
        low, high = _range_of(model, column)
        whole = _whole(model, numbers)
        outside = ((whole < low) | (whole > high)) & np.isnan(column.values)
        if outside.any():
            found[model.name] = int(outside.sum())
    return found


def _levels_for(
    model: ColumnModel, column: Column, textual: bool
) -> tuple[tuple[Any, ...], np.ndarray]:
    """Return levels that a column can hold, and the place of each of the model's.

    Its own levels come first, which may be spelled in another way.
    """
    if column.kind in TYPED or column.kind == "date":
        own = list(
            levels.own_levels(column)[1] if column.kind == "date" else column.levels
        )
        search = Places(model.levels, model.known.loose)
        index: dict[int, int] = {}
        for at, level in enumerate(own):
            place = search.of(level)
            if place is not None:
                index.setdefault(place, at)
        known = len(own)
        text = bool(own) and all(isinstance(level, str) for level in own)
        for place, level in enumerate(model.levels):
            if place not in index:
                index[place] = len(own)
                as_here = (
                    levels.truth_among(level, tuple(own[:known])) if text else None
                )
                own.append(as_here or (text_of(level) if text else level))
        return tuple(own), np.array([index[k] for k in range(len(index))], dtype=float)
    fills = [_as_number(level, column, textual) for level in model.levels]
    return tuple(fills), np.arange(len(fills), dtype=float)


def _as_number(level: Any, column: Column, textual: bool) -> Any:
    """Return a level as a column of numbers has it, text as it is in a text file."""
    number = number_of(level)
    truth = levels.truth_among(level, [0]) if column.kind == "number" else None
    if truth is not None:
        number = truth
    elif number is None or (textual and isinstance(level, str)):
        return level
    if column.kind == "empty":
        return level
    return int(number) if column.whole and number == int(number) else float(number)
