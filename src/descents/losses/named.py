"""The losses that have a name."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from descents.errors import InvalidValueError
from descents.losses.base import Loss
from descents.losses.divergences import BetaDivergence, ItakuraSaito, KullbackLeibler
from descents.losses.levels import (
    BiggerVsSmaller,
    BiggerVsSmallerHinge,
    Categorical,
    Hinge,
    Logistic,
    OneVsAll,
    OneVsAllHinge,
    Ordinal,
    OrdinalHinge,
    Ordistic,
    Sequential,
)
from descents.losses.numbers import (
    Absolute,
    Huber,
    Own,
    Periodic,
    Poisson,
    Quantile,
    Squared,
)
from descents.validation import one_of

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
"""The losses that have a name."""


def named(value: Any, what: str = "loss") -> Loss:
    """Return a loss of a name, with a number behind a colon, of a function, or as it is.

    Parameters
    ----------
    value : str, Loss or callable
        "quantile:0.9" is ``Quantile(0.9)``.
    what : str
        What messages call it.

    Raises
    ------
    InvalidValueError
        When it is none of these, or a number is missing, wrong, or too many.

    Examples
    --------
    >>> named("huber"), named("quantile:0.9")
    (Huber(width=None), Quantile(level=0.9))
    """
    if isinstance(value, Loss):
        return value
    if callable(value) and not isinstance(value, type):
        return Own(value)
    name, colon, number = str(value).partition(":")
    if not isinstance(value, str) or name not in NAMED:
        one_of(what, value, NAMED)
    kind: Any = NAMED[name]
    if colon and not kind.parameter:
        raise InvalidValueError(
            f"{what} is {value!r}, but {name} takes no number; give {name!r}"
        )
    if not colon and any(f.default is MISSING for f in fields(kind)):
        raise InvalidValueError(
            f"{what} is {value!r}, which needs its {kind.parameter}; give it behind a "
            f"colon, such as {kind.sample!r}"
        )
    found: Loss = kind(number) if colon else kind()
    return found
