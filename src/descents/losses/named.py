"""Losses by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING

from descents.errors import InvalidValueError
from descents.losses.base import Loss
from descents.losses.binary import Hinge, Logistic
from descents.losses.counts import Poisson
from descents.losses.custom import CustomLoss
from descents.losses.divergences import BetaDivergence, ItakuraSaito, KullbackLeibler
from descents.losses.multiclass import Categorical, OneVsAll, OneVsAllHinge
from descents.losses.ordinal import (
    BiggerVsSmaller,
    BiggerVsSmallerHinge,
    Ordinal,
    OrdinalHinge,
    Ordistic,
    Sequential,
)
from descents.losses.real import Absolute, Huber, Periodic, Quantile, Squared
from descents.validation import number_in, one_of

NAMED: dict[str, type[Loss]] = {
    loss.name: loss
    for loss in (
        Squared,
        Absolute,
        Huber,
        Quantile,
        Periodic,
        Logistic,
        Hinge,
        Poisson,
        KullbackLeibler,
        ItakuraSaito,
        BetaDivergence,
        Categorical,
        OneVsAll,
        OneVsAllHinge,
        Ordinal,
        OrdinalHinge,
        BiggerVsSmaller,
        BiggerVsSmallerHinge,
        Sequential,
        Ordistic,
    )
}
"""The classes of losses by their names."""


def get_loss(value: object, what: str = "loss") -> Loss:
    """Return the loss for a name, for a name with a parameter after a colon, or a function.

    Parameters
    ----------
    value : str, Loss or callable
        "quantile:0.9" is ``Quantile(0.9)``. A `Loss` is returned as it is.
    what : str
        The name of the value in messages.

    Raises
    ------
    InvalidValueError
        If it is none of these, or its parameter is missing, invalid, or not allowed.

    Examples
    --------
    >>> get_loss("huber"), get_loss("quantile:0.9")
    (Huber(width=None), Quantile(level=0.9))
    """
    if isinstance(value, Loss):
        return value
    if callable(value) and not isinstance(value, type):
        return CustomLoss(value)
    name, colon, number = str(value).partition(":")
    if not isinstance(value, str) or name not in NAMED:
        one_of(what, value, NAMED)
    kind: type[Loss] = NAMED[name]
    if colon and not kind.parameter:
        raise InvalidValueError(
            f"{what} is {value!r}, but {name} takes no number; give {name!r}"
        )
    if not colon and MISSING in kind.defaults().values():
        raise InvalidValueError(
            f"{what} is {value!r}, which needs its {kind.parameter}; give it after a "
            f"colon, such as {kind.sample!r}"
        )
    make: Callable[..., Loss] = kind
    try:
        return make(number_in(number)) if colon else make()
    except InvalidValueError as error:
        raise InvalidValueError(f"{what} is {value!r}: {error}") from None
