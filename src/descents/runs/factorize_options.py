"""The options of `descents factorize`, parsed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from descents.cells.distributed import SHARED_LIMITS, SharedTable
from descents.cells.streamed import LIMITS
from descents.constraints.constraints import regularizers
from descents.errors import Complaints, InvalidValueError
from descents.losses import get_loss
from descents.lowrank.selection import AUTO, THRESHOLD
from descents.lowrank.settings import Settings
from descents.runs.request import Data, named_pairs
from descents.tables.blocks import TableOnDisk
from descents.tables.tables import Table
from descents.text import counted
from descents.validation import number_in, real_number, whole_number

SCALES: dict[str, str | bool] = {"auto": "auto", "yes": True, "no": False}
Rank = int | str | list[int]
"""A rank, ranks to choose from, or the name of a way to choose it."""
Strength = float | str | list[float]
"""A penalty, penalties to choose from, or "auto"."""


def rank(text: str) -> Rank:
    """Parse a rank: a number, ``auto``, ranks to choose from, or ``gavish-donoho``.

    Raises
    ------
    InvalidValueError
        If the text is none of these.

    Examples
    --------
    >>> rank("3"), rank("auto"), rank("auto:1-3"), rank("auto:2,4,8")
    (3, 'auto', [1, 2, 3], [2, 4, 8])
    """
    if text in (AUTO, THRESHOLD):
        return text
    error = InvalidValueError(
        f"--rank is {text!r}; give a whole number of at least 1, auto, auto:1-12, "
        f"auto:1,2,4 or {THRESHOLD}"
    )
    begin, colon, grid = text.partition(":")
    try:
        if not colon:
            return whole_number("--rank", int(text), 1)
        ends = [part.split("-") for part in grid.split(",")]
        ranks = [
            k for low, *high in ends for k in range(int(low), _last(low, high) + 1)
        ]
    except ValueError:
        raise error from None
    if begin != AUTO or not ranks or min(ranks) < 1:
        raise error
    return ranks


def _last(low: str, high: Sequence[str]) -> int:
    (last,) = high or [low]
    return int(last)


def _penalty(name: str, value: str) -> Strength:
    """Parse a penalty: a number, ``auto``, or the numbers of ``auto:0.1,1,10``."""
    if value == AUTO:
        return AUTO
    try:
        if value.startswith(f"{AUTO}:"):
            grid = value.removeprefix(f"{AUTO}:").split(",")
            return [real_number(name, number_in(part), 0) for part in grid]
        return real_number(name, number_in(value), 0)
    except InvalidValueError:
        raise InvalidValueError(
            f"--penalty {name}={value} is refused; give a number of at least 0, auto, or "
            "auto:0.1,1,10"
        ) from None


def constraints(given: str) -> str | tuple[str, str] | None:
    """Parse the constraint on the factors, for `LowRankModel`.

    The text is one name for both factors; ``rows=NAME,columns=NAME`` or one of these; or
    ``NAME-rows`` or ``NAME-columns``.

    Raises
    ------
    InvalidValueError
        If a name is unknown.

    Examples
    --------
    >>> constraints("nonnegative-rows"), constraints("columns=sparse:2")
    (('nonnegative', 'none'), ('none', 'sparse:2'))
    """
    sides = ("rows", "columns")
    name, dash, side = given.rpartition("-")
    parsed: str | tuple[str, str] | None = given
    if dash and side in sides:
        given = f"{side}={name}"
    if "=" in given:
        pairs = named_pairs("--constraint", given.split(","))
        unknown = [side for side in pairs if side not in sides]
        if unknown:
            raise InvalidValueError(
                f"--constraint names {unknown[0]!r}; give rows=NAME, columns=NAME, or both"
            )
        parsed = (pairs.get("rows", "none"), pairs.get("columns", "none"))
    elif given == "none":
        parsed = None
    regularizers(parsed, None)  # raises if a name is unknown
    return parsed


def image_shape(given: str | None) -> tuple[int, ...] | None:
    """Parse ``HEIGHTxWIDTH``, or ``HEIGHTxWIDTHx3`` for color.

    Raises
    ------
    InvalidValueError
        If the text does not have this form.

    Examples
    --------
    >>> image_shape("25x20"), image_shape("8x8x3"), image_shape(None)
    ((25, 20), (8, 8, 3), None)
    """
    if given is None:
        return None
    parts = given.lower().split("x")
    sizes = tuple(int(part) for part in parts if part.isascii() and part.isdigit())
    if len(sizes) != len(parts) or len(sizes) not in (2, 3) or min(sizes) < 1:
        raise InvalidValueError(
            f"--image is {given!r}; give HEIGHTxWIDTH, such as 25x20, or HEIGHTxWIDTHx3 "
            "for color"
        )
    if len(sizes) == 3 and sizes[2] != 3:
        raise InvalidValueError(
            f"--image is {given!r}, with {sizes[2]} numbers per pixel; give HEIGHTxWIDTH "
            "for gray levels, or HEIGHTxWIDTHx3 for red, green and blue"
        )
    return sizes


def check_image(sizes: Sequence[int], columns: int) -> None:
    """Raise unless the picture has as many numbers as the table has columns.

    Examples
    --------
    >>> check_image((2, 4), 6)
    Traceback (most recent call last):
    ...
    descents.errors.InvalidValueError: --image is 2x4, which is 8 numbers, but the table
    has 6 columns; give two sizes with that product, such as 2x3, or leave out columns
    that do not belong to the picture (--ignore, --id)
    """
    count = math.prod(sizes)
    if count == columns:
        return
    color = len(sizes) == 3 and columns % 3 == 0
    points = columns // 3 if color else columns
    side = max(n for n in range(1, math.isqrt(points) + 1) if points % n == 0)
    such = f"{side}x{points // side}" + "x3" * color
    raise InvalidValueError(
        f"--image is {'x'.join(map(str, sizes))}, which is {count} numbers, but the "
        f"table has {counted(columns, 'column')}; give {'three' if color else 'two'} "
        f"sizes with that product, such as {such}, or leave out columns that do not belong "
        "to the picture (--ignore, --id)"
    )


def penalties(given: Sequence[str]) -> dict[str, Strength] | None:
    """Parse ``l2=0.1`` texts, or a bare number for l2, as a dict; None if there are none.

    With ``auto`` in place of a number, the number is chosen by cross-validation; with
    ``auto:0.1,1``, it is chosen from these numbers.

    Examples
    --------
    >>> penalties(["0.5"]), penalties(["l1_rows=1", "l2=2"]), penalties([])
    ({'l2': 0.5}, {'l1_rows': 1.0, 'l2': 2.0}, None)
    >>> penalties(["auto"]), penalties(["l2=auto:0.1,1"])
    ({'l2': 'auto'}, {'l2': [0.1, 1.0]})
    """
    if not given:
        return None
    pairs = named_pairs("--penalty", [x if "=" in x else f"l2={x}" for x in given])
    return {name: _penalty(name, value) for name, value in pairs.items()}


@dataclass(frozen=True)
class Options:
    """The options of a model, see `LowRankModel`.

    Attributes
    ----------
    rank : int, list of int, "auto" or "gavish-donoho"
    starts, seed : int
    loss : str
        The loss of all columns of a suitable type; "auto" chooses by type.
    loss_of : dict of str
        The losses of some columns.
    constraint : str
        See `constraints`.
    penalty : dict of float or None
    scales : one of `SCALES`
    offsets, steps, sparse, initialization, combine, device : str
    learning_rate : float or None
    folds, max_iter : int
    held_out : float
    intervals : float or None
        The coverage of prediction intervals for missing cells.
    image : tuple of int or None
        The height and width, and 3 for color, if each row is a picture.
    """

    rank: Rank
    loss: str = "auto"
    loss_of: Mapping[str, str] | None = None
    constraint: str = "none"
    penalty: Mapping[str, Strength] | None = None
    offsets: str = "auto"
    scales: str = "auto"
    starts: int = 1
    steps: str = "auto"
    learning_rate: float | None = None
    sparse: str = "missing"
    initialization: str = "auto"
    combine: str = "best"
    folds: int = 5
    held_out: float = 0.1
    max_iter: int = 2000
    intervals: float | None = None
    seed: int = 0
    device: str = "cpu"
    image: tuple[int, ...] | None = None

    @property
    def columns(self) -> dict[str, list[str]]:
        """The columns that the table must have, by option."""
        return {"--loss-of": list(self.loss_of or {})}

    def settings(self, data: Data) -> Settings:
        """Return the settings of a model with these options for a table.

        Raises
        ------
        InvalidValueError
            If options are invalid, or do not fit the table.
        """
        complaints = Complaints()
        for name in self.loss_of or {}:
            if isinstance(data.values, Table):
                complaints.attempt(data.values.column, name)
            elif isinstance(data.values, TableOnDisk):
                shared = isinstance(data.values, SharedTable)
                limits = SHARED_LIMITS if shared else LIMITS
                complaints.require(False, f"--loss-of is given, but {limits}")
            else:
                complaints.require(False, "--loss-of is for tables, not for triples")
        complaints.require(
            self.sparse == "missing"
            or not isinstance(data.values, Table | TableOnDisk),
            "--sparse zero is for triples and sparse tables, but the table is neither; "
            "leave it out",
        )
        if self.image is not None:
            complaints.attempt(check_image, self.image, len(data.column_names))
        complaints.require(
            self.intervals is None or isinstance(data.values, Table),
            "--intervals needs filled cells, but missing cells are not filled in a sparse "
            "table or in one that --memory reads; leave --intervals out",
        )
        complaints.attempt(self.model)
        complaints.raise_any()
        loss: str | dict[str, str] = self.loss
        if self.loss_of:
            loss = {**_for_all(data.values, self.loss), **self.loss_of}
        return self.model(loss)

    def model(self, loss: str | dict[str, str] = "auto") -> Settings:
        """Return the settings of a model with these losses of its columns.

        Raises
        ------
        InvalidValueError
            If options are invalid, whatever the table. The message lists all problems.
        """
        complaints = Complaints()
        if self.loss != "auto":
            complaints.attempt(get_loss, self.loss, "--loss")
        for value in (self.loss_of or {}).values():
            complaints.attempt(get_loss, value, "--loss-of")
        constraint = complaints.attempt(constraints, self.constraint)
        settings = complaints.attempt(self._model, loss, constraint)
        complaints.raise_any()
        return settings

    def _model(
        self, loss: str | dict[str, str], constraint: str | tuple[str, str] | None
    ) -> Settings:
        penalty = None if self.penalty is None else dict(self.penalty)
        return Settings(
            self.rank,
            loss=loss,
            offsets=self.offsets,
            scales=SCALES[self.scales],
            constraint=constraint,
            penalty=penalty,
            sparse=self.sparse,
            initialization=self.initialization,
            n_starts=self.starts,
            combine=self.combine,
            solver=self.steps,
            learning_rate=self.learning_rate,
            cv=self.folds,
            held_out=self.held_out,
            max_iter=self.max_iter,
            random_state=self.seed,
            device=self.device,
        )


def _for_all(table: object, loss: str) -> dict[str, str]:
    """Return a loss for each column whose type it suits."""
    if loss == "auto" or not isinstance(table, Table):
        return {}
    levels = get_loss(loss).kind != "numbers"
    return {c.name: loss for c in table.columns if levels or c.kind == "number"}
